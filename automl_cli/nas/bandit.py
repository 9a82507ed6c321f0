"""Strategies shared out by a bandit: who gained most per second begins more, and the best of all goes on."""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from statistics import median

import numpy as np

from automl_cli.nas.decisions import Candidate, Fits, anything
from automl_cli.nas.rungs import Rungs
from automl_cli.nas.strategy import Strategy, Suggestion
from automl_cli.optimizer.asktell import SpaceExhausted
from automl_cli.optimizer.bandit import MOST_RATIO

_FORGET = 0.9  # of gains and costs, per whole training of any arm: a strategy that was good at first may not be now
_GOOD = 0.25  # a result gains by how far it is below the best quarter of what was known before
_EXPLORATION = 2.0  # four times what the families have: few are trained in whole, so that gains are few as well


@dataclass
class _Arm:
    strategy: Strategy
    gain: float = 0.0
    cost: float = 0.0
    whole: float = 0.0
    """Of all its results what a whole training would have cost, none forgotten."""
    n_told: int = 0
    n_begun: int = 0


class Auto:
    """Shares networks to begin with among strategies by what these gained per second; which go on is halving's.

    A network begins at the lowest fidelity, whoever suggests it, and goes on where it is among the best of those; see
    `Rungs`. What is known to be good is trained in whole at once. Losses of shares are not comparable with those of
    whole trainings, so that strategies learn from these, and from failures. With one fidelity all is trained in whole.

    A strategy's rate is what its whole trainings gained over the best quarter of all losses before, divided by what all
    its trainings cost; older results count less. The arm with the largest ``rate / best rate + (alpha ln t / n)^2 /
    price`` is asked: the bonus of MaxUCB [1]_, cheap arms explored more, as in the search over families. There the
    reward is an arm's best loss; here all arms look for the same networks in the same space and learn from each other's
    results, so that their best losses say nothing about who found them. Every arm has a turn first, in the order given.
    Nothing here is drawn at random.

    Parameters
    ----------
    arms : mapping of str to Strategy
        In the order in which they are first asked; they suggest whole trainings.
    fidelities : tuple of float
        Ascending shares of a whole training; the last is 1.
    known : collection of Candidate
        Which need no look at a share of their training.
    fits : callable
        Limits, asked again before a candidate goes on.

    References
    ----------
    .. [1] Balef, Vernade and Eggensperger, Put CASH on bandits, NeurIPS 2025.
    """

    def __init__(
        self,
        arms: Mapping[str, Strategy],
        *,
        fidelities: tuple[float, ...] = (1.0,),
        known: Collection[Candidate] = (),
        fits: Fits = anything,
    ) -> None:
        self._arms = {name: _Arm(strategy) for name, strategy in arms.items()}
        self._rungs: Rungs[Candidate] = Rungs(fidelities)
        self._known = frozenset(known)
        self._fits = fits
        self._begun: dict[Candidate, str] = {}  # by which arm; empty where it was another search's
        self._losses: list[float] = []

    def ask(self) -> Suggestion:
        """Let the best go on; else ask the arm with the largest index, or the next where it has nothing new."""
        if promoted := self._promoted():
            return promoted
        for name, arm in self._by_index():
            try:
                suggestion = self._new(arm)
            except SpaceExhausted:
                continue
            arm.n_begun += 1
            self._begun[suggestion.candidate] = name
            first = 1.0 if suggestion.candidate in self._known else self._rungs.fidelities[0]
            return replace(suggestion, fidelity=first, origin=name)
        if promoted := self._promoted(anybody=True):
            return promoted
        raise SpaceExhausted("no strategy has a network left")

    def tell(self, suggestion: Suggestion, loss: float | None, cost: float) -> None:
        """Credit the arm that began, and let all learn."""
        candidate, fidelity = suggestion.candidate, suggestion.fidelity
        name = self._begun.setdefault(candidate, suggestion.origin if suggestion.origin in self._arms else "")
        for other in self._arms.values():
            other.gain *= _FORGET**fidelity
            other.cost *= _FORGET**fidelity
        if arm := self._arms.get(name):
            arm.n_told += 1
            arm.cost += cost
            arm.whole += cost / fidelity
            arm.gain += self._gain(loss) if fidelity == 1.0 else 0.0
        self._rungs.tell(candidate, fidelity, loss)
        if loss is not None and fidelity == 1.0:
            self._losses.append(loss)
        for other in self._arms.values():
            other.strategy.tell(replace(suggestion, origin=name), loss, cost)

    def shares(self) -> dict[str, int]:
        """Return how many results each arm has had."""
        return {name: arm.n_told for name, arm in self._arms.items()}

    def _promoted(self, *, anybody: bool = False) -> Suggestion | None:
        found = self._rungs.next(self._fits, anybody=anybody)
        if found is None:
            return None
        candidate, fidelity = found
        return Suggestion(candidate, fidelity, parent=candidate, origin=self._begun.get(candidate) or "earlier")

    def _new(self, arm: _Arm) -> Suggestion:
        """Ask until the arm suggests what nobody has begun."""
        for _ in range(20):
            suggestion = arm.strategy.ask()
            if suggestion.candidate not in self._begun:
                return suggestion
        raise SpaceExhausted("all that this strategy suggests has begun")

    def _gain(self, loss: float | None) -> float:
        """Return how far a loss is below the best quarter, in units of the distance from there to the median."""
        if loss is None or len(self._losses) < 2:
            return 0.0
        good, middle = np.quantile(self._losses, [_GOOD, 0.5])
        return float(np.clip((good - loss) / (middle - good), 0.0, 1.0)) if middle > good else float(loss < good)

    def _by_index(self) -> list[tuple[str, _Arm]]:
        """Return the arms, that with the largest index first; of equal ones the order stays."""
        arms = list(self._arms.values())
        n_all = sum(arm.n_begun for arm in arms)
        rates = [arm.gain / arm.cost if arm.cost > 0 else 0.0 for arm in arms]
        best = max(rates) or 1.0
        indices = [
            rate / best + (_EXPLORATION * math.log(n_all) / arm.n_begun) ** 2 / price if arm.n_begun else math.inf
            for arm, rate, price in zip(arms, rates, _prices(arms), strict=True)
        ]
        order = sorted(range(len(arms)), key=lambda place: -indices[place])
        names = list(self._arms)
        return [(names[place], arms[place]) for place in order]


def _prices(arms: list[_Arm]) -> list[float]:
    """Return what a whole training of each arm costs, in units of the median: looks at a share say that as well."""
    means = [arm.whole / arm.n_told if arm.n_told else None for arm in arms]
    usual = median([mean for mean in means if mean is not None] or [1.0]) or 1.0
    most = math.sqrt(MOST_RATIO)
    return [1.0 if mean is None else min(max(mean / usual, 1 / most), most) for mean in means]
