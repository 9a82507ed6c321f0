"""What a worker keeps because making it again costs more than the memory it takes."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

T = TypeVar("T")


class Keep(Protocol):
    """Looks up what was made under a key before, or makes it."""

    def __call__(self, key: Hashable, make: Callable[[], tuple[T, int]]) -> T:
        """Return what ``make`` gives, or gave; it gives the thing and the bytes that it holds."""
        ...


def keep_nothing(key: Hashable, make: Callable[[], tuple[T, int]]) -> T:
    """Make it anew.

    >>> keep_nothing("four", lambda: (2 + 2, 28))
    4
    """
    del key
    return make()[0]


@dataclass(frozen=True)
class Kept:
    """Things by key; the least recently used go first once all together hold more than they may.

    Attributes
    ----------
    most_bytes : int
        What is larger than this alone is not kept at all.

    Examples
    --------
    >>> kept = Kept(most_bytes=10)
    >>> [kept.get(key, lambda: (key.upper(), 4)) for key in "abac"]
    ['A', 'B', 'A', 'C']
    >>> list(kept.held)
    ['a', 'c']
    """

    most_bytes: int
    held: OrderedDict[Hashable, tuple[Any, int]] = field(default_factory=OrderedDict)
    lock: threading.Lock = field(default_factory=threading.Lock)  # a cluster's workers are threads

    def get(self, key: Hashable, make: Callable[[], tuple[T, int]]) -> T:
        """Return what is kept under ``key``; else make it, which happens outside of the lock."""
        with self.lock:
            if key in self.held:
                self.held.move_to_end(key)
                found: T = self.held[key][0]
                return found
        thing, n_bytes = make()
        with self.lock:
            if n_bytes <= self.most_bytes:
                self.held[key] = (thing, n_bytes)
            while sum(held for _, held in self.held.values()) > self.most_bytes:
                self.held.popitem(last=False)
        return thing

    def under(self, *scope: Hashable) -> Keep:
        """Return a `Keep` whose keys are told apart from those of other scopes."""

        def keep(key: Hashable, make: Callable[[], tuple[T, int]]) -> T:
            return self.get((*scope, key), make)

        return keep
