"""What every strategy is: something to ask for a candidate and to tell its loss."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from automl_cli.nas.decisions import Candidate, Fits, Indices, Space
from automl_cli.optimizer.asktell import SpaceExhausted

_TRIES = 200


@dataclass(frozen=True)
class Suggestion:
    """A candidate that is to be trained.

    Attributes
    ----------
    fidelity : float
        Share of a whole training, of its rows or epochs, above 0 and at most 1.
    parent : Candidate or None
        One that was trained before and whose weights, where shapes agree, are a start for this one's; the candidate
        itself where its training goes on at a higher fidelity.
    origin : str
        The strategy that asked.
    """

    candidate: Candidate
    fidelity: float = 1.0
    parent: Candidate | None = None
    origin: str = ""


Earlier = Sequence[tuple[Candidate, float]]
"""Candidates and what they lost, best or not, on other tables: where a strategy starts, not what it believes."""


class Strategy(Protocol):
    """Suggests candidates and learns from their losses. Not for use from two threads at once.

    Strategies are deterministic: the same seed and the same calls give the same suggestions, in any process.
    """

    def ask(self) -> Suggestion:
        """Return a candidate that fits and was not suggested before at this fidelity; others may still be in training.

        Raises
        ------
        SpaceExhausted
            Nothing new that fits could be found.
        """
        ...

    def tell(self, suggestion: Suggestion, loss: float | None, cost: float) -> None:
        """Learn what a suggestion lost (0 is best; None: it failed) and what it cost, in seconds or what else counts.

        It need not have been asked for, but its candidate must be of the strategy's space: that is how a resumed run
        begins, and how strategies learn from each other.
        """
        ...


def new_one(draw: Callable[[int], Indices], space: Space, fits: Fits, seen: set[Indices]) -> Indices:
    """Draw until a candidate fits and was not seen; it counts as seen from then on.

    Parameters
    ----------
    draw : callable
        ``draw(attempt)``, so that it may look further away the more often it fails.
    """
    for attempt in range(_TRIES):
        indices = draw(attempt)
        if indices not in seen and fits(space.decode(indices)):
            seen.add(indices)
            return indices
    raise SpaceExhausted("no new network that fits was found")


def best_first(earlier: Earlier, space: Space, fits: Fits, most: int) -> list[Indices]:
    """Return distinct earlier candidates of this space that fit, the best first."""
    ordered = [candidate for candidate, _ in sorted(earlier, key=lambda known: known[1])]
    known = dict.fromkeys(space.encode(c) for c in ordered if space.holds(c) and fits(c))
    return list(known)[:most]


def pop_new(starts: list[Indices], space: Space, fits: Fits, seen: set[Indices]) -> Indices | None:
    """Take the first start that was not seen and fits now; None where there is none left."""
    while starts:
        indices = starts.pop(0)
        if indices not in seen and fits(space.decode(indices)):
            seen.add(indices)
            return indices
    return None
