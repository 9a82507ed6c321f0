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
    """Shares networks to begin with among strategies by what these gained per second; which go on is halving's.

    A network begins at the lowest fidelity, whoever suggests it, and goes on where it is among the best of those; see
    `Rungs`. What is known to be good is trained in whole at once. Strategies learn from whole trainings alone: losses
    of shares are not comparable with theirs.

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
        self._pending: set[tuple[Candidate, float]] = set()
        self._begun: dict[Candidate, str] = {}  # by which arm; empty where it was another search's
        self._losses: list[float] = []

    def ask(self) -> Suggestion:
        """Let the best go on; else ask the arm with the largest index, leaving out those that have nothing new."""
        promoted = self._rungs.next(self._fits)
        if promoted is not None:
            candidate, fidelity = promoted
            return self._asked(Suggestion(candidate, fidelity, parent=candidate), self._begun.get(candidate, ""))
        while arms := {name: arm for name, arm in self._arms.items() if not arm.exhausted}:
            scores = self._scores(list(arms.values()))
            name = list(arms)[max(range(len(arms)), key=scores.__getitem__)]
            try:
                suggestion = self._new(arms[name])
            except SpaceExhausted:
                arms[name].exhausted = True
                continue
            self._begun[suggestion.candidate] = name
            first = 1.0 if suggestion.candidate in self._known else self._rungs.fidelities[0]
            return self._asked(replace(suggestion, fidelity=first), name)
        raise SpaceExhausted("no strategy has a network left")

    def tell(self, suggestion: Suggestion, loss: float | None, cost: float) -> None:
        """Credit the arm that began, in an earlier run as well, and let all learn what a whole training lost."""
        candidate, asked = suggestion.candidate, (suggestion.candidate, suggestion.fidelity)
        name = self._begun.setdefault(candidate, suggestion.origin if suggestion.origin in self._arms else "")
        for other in self._arms.values():
            other.gain *= _FORGET
            other.cost *= _FORGET
        if arm := self._arms.get(name):
            arm.n_pending -= asked in self._pending
            arm.n_told += 1
            arm.cost += cost
            arm.total += cost
            arm.gain += self._gain(loss) if suggestion.fidelity == 1.0 else 0.0
        self._pending.discard(asked)
        self._rungs.tell(candidate, suggestion.fidelity, loss)
        if suggestion.fidelity < 1.0:
            return
        if loss is not None:
            self._losses.append(loss)
        for other in self._arms.values():
            other.strategy.tell(replace(suggestion, origin=name), loss, cost)

    def shares(self) -> dict[str, int]:
        """Return how many results each arm has had."""
        return {name: arm.n_told for name, arm in self._arms.items()}

    def _asked(self, suggestion: Suggestion, name: str) -> Suggestion:
        """Note what is in training now."""
        self._pending.add((suggestion.candidate, suggestion.fidelity))
        if arm := self._arms.get(name):
            arm.n_pending += 1
        return replace(suggestion, origin=name or "earlier")

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
