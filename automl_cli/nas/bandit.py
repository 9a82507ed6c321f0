"""Strategies shared out by a bandit: who gained most per second goes on, and the others are not forgotten."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from statistics import median

import numpy as np

from automl_cli.nas.strategy import Strategy, Suggestion
from automl_cli.optimizer.asktell import SpaceExhausted
from automl_cli.optimizer.bandit import EXPLORATION, MOST_RATIO

_FORGET = 0.9  # of gains and costs, per result of any arm: a strategy that was good at the start may not be now
_GOOD = 0.25  # a result gains by how far it is below the best quarter of what was known before


@dataclass
class _Arm:
    strategy: Strategy
    gain: float = 0.0
    cost: float = 0.0
    total: float = 0.0
    """Costs, none forgotten."""
    n_told: int = 0
    n_pending: int = 0
    exhausted: bool = False


class Auto:
    """Shares evaluations among strategies by what they gained per second.

    A strategy's rate is what its results gained over the best quarter of all losses before, divided by what they cost;
    older results count less. The arm with the largest ``rate / best rate + (alpha ln t / n)^2 / price`` is asked: the
    bonus of MaxUCB [1]_, cheap arms explored more, as in the search over families. There the reward is an arm's best
    loss; here all arms look for the same networks in the same space and learn from each other's results, so that their
    best losses say nothing about who found them. Every arm has a turn first, in the order given. Nothing here is drawn
    at random.

    Parameters
    ----------
    arms : mapping of str to Strategy
        In the order in which they are first asked.

    References
    ----------
    .. [1] Balef, Vernade and Eggensperger, Put CASH on bandits, NeurIPS 2025.
    """

    def __init__(self, arms: Mapping[str, Strategy]) -> None:
        self._arms = {name: _Arm(strategy) for name, strategy in arms.items()}
        self._asked: dict[tuple[str, float], str] = {}  # candidate and fidelity -> arm
        self._losses: list[float] = []

    def ask(self) -> Suggestion:
        """Return what the arm with the largest index suggests; one that has nothing new is left out from then on."""
        while arms := {name: arm for name, arm in self._arms.items() if not arm.exhausted}:
            scores = self._scores(list(arms.values()))
            name = list(arms)[max(range(len(arms)), key=scores.__getitem__)]
            try:
                suggestion = self._new(arms[name])
            except SpaceExhausted:
                arms[name].exhausted = True
                continue
            arms[name].n_pending += 1
            self._asked[_key(suggestion)] = name
            return replace(suggestion, origin=name)
        raise SpaceExhausted("no strategy has a network left")

    def tell(self, suggestion: Suggestion, loss: float | None, cost: float) -> None:
        """Credit the arm that asked, in an earlier run as well, and let all learn what a whole training lost."""
        asked = self._asked.pop(_key(suggestion), None)
        name = asked or (suggestion.origin if suggestion.origin in self._arms else None)
        for other in self._arms.values():
            other.gain *= _FORGET
            other.cost *= _FORGET
        if name is not None:
            arm = self._arms[name]
            arm.n_pending -= asked is not None
            arm.n_told += 1
            arm.cost += cost
            arm.total += cost
            arm.gain += self._gain(loss) if suggestion.fidelity == 1.0 else 0.0
        if loss is not None and suggestion.fidelity == 1.0:
            self._losses.append(loss)
        for other_name, other in self._arms.items():
            if other_name == name or suggestion.fidelity == 1.0:
                other.strategy.tell(suggestion, loss, cost)

    def shares(self) -> dict[str, int]:
        """Return how many results each arm has had."""
        return {name: arm.n_told for name, arm in self._arms.items()}

    def _new(self, arm: _Arm) -> Suggestion:
        """Ask until the arm suggests what no other has in training now."""
        for _ in range(20):
            suggestion = arm.strategy.ask()
            if _key(suggestion) not in self._asked:
                return suggestion
        raise SpaceExhausted("all that this strategy suggests is in training")

    def _gain(self, loss: float | None) -> float:
        """Return how far a loss is below the best quarter, in units of the distance from there to the median."""
        if loss is None or len(self._losses) < 2:
            return 0.0
        good, middle = np.quantile(self._losses, [_GOOD, 0.5])
        return float(np.clip((good - loss) / (middle - good), 0.0, 1.0)) if middle > good else float(loss < good)

    def _scores(self, arms: list[_Arm]) -> list[float]:
        n_all = sum(arm.n_told + arm.n_pending for arm in arms)
        rates = [arm.gain / arm.cost if arm.cost > 0 else 0.0 for arm in arms]
        best = max(rates) or 1.0
        return [
            rate / best + (EXPLORATION * math.log(n_all) / n) ** 2 / price
            if (n := arm.n_told + arm.n_pending)
            else math.inf
            for arm, rate, price in zip(arms, rates, _prices(arms), strict=True)
        ]


def _prices(arms: list[_Arm]) -> list[float]:
    """Return what a result of each arm costs, in units of the median."""
    means = [arm.total / arm.n_told if arm.n_told else None for arm in arms]
    usual = median([mean for mean in means if mean is not None] or [1.0]) or 1.0
    most = math.sqrt(MOST_RATIO)
    return [1.0 if mean is None else min(max(mean / usual, 1 / most), most) for mean in means]


def _key(suggestion: Suggestion) -> tuple[str, float]:
    return str(suggestion.candidate), suggestion.fidelity
