"""Asynchronous successive halving: who goes on at the next share of a training."""

import math
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

FIDELITIES = (1 / 16, 1 / 4, 1.0)
ETA = 4

K = TypeVar("K", bound=Hashable)


class Rungs(Generic[K]):
    """What was lost at each fidelity, and who of each has gone on [1]_.

    As soon as one is among the best ``1 / eta`` of what its fidelity has seen it may go on at the next, the highest
    first.

    Parameters
    ----------
    fidelities : tuple of float
        Ascending shares of a whole training; the last is 1.
    eta : int
        One of so many goes on.

    References
    ----------
    .. [1] Li et al., A system for massively parallel hyperparameter tuning, MLSys 2020.

    Examples
    --------
    >>> rungs = Rungs((0.25, 1.0), eta=2)
    >>> for name, loss in (("a", 0.3), ("b", 0.1), ("c", 0.2), ("d", None)):
    ...     rungs.tell(name, 0.25, loss)
    >>> [rungs.next() for _ in range(3)]
    [('b', 1.0), ('c', 1.0), None]
    """

    def __init__(self, fidelities: tuple[float, ...] = FIDELITIES, eta: int = ETA) -> None:
        self.fidelities = fidelities
        self._eta = eta
        # per fidelity: what was lost (infinity: it failed), and who has gone on or was seen higher up
        self._losses: list[dict[K, float]] = [{} for _ in fidelities]
        self._promoted: list[set[K]] = [set() for _ in fidelities]

    def next(self, fits: Callable[[K], bool] = lambda key: True, *, anybody: bool = False) -> tuple[K, float] | None:
        """Return who goes on, and at which fidelity; None where nobody is good enough and fits.

        Parameters
        ----------
        anybody : bool
            Whether everybody who has not failed is good enough, the best first: where nobody new can begin.
        """
        for rung in reversed(range(len(self.fidelities) - 1)):
            for key in self._promotable(rung, 1 if anybody else self._eta):
                if fits(key):
                    self._promoted[rung].add(key)
                    return key, self.fidelities[rung + 1]
        return None

    def tell(self, key: K, fidelity: float, loss: float | None) -> None:
        """Put a result on its rung; None is a failure. One at a fidelity that is none of these changes nothing."""
        if fidelity not in self.fidelities:
            return
        rung = self.fidelities.index(fidelity)
        self._losses[rung][key] = math.inf if loss is None else loss
        for below in range(rung):
            self._promoted[below].add(key)

    def _promotable(self, rung: int, eta: int) -> list[K]:
        """Return who is among the best share of a rung, has not failed and not gone on, the best first."""
        losses = self._losses[rung]
        best = sorted(losses, key=losses.__getitem__)[: len(losses) // eta]
        return [key for key in best if key not in self._promoted[rung] and losses[key] < math.inf]
