"""Families shared out by a bandit: which one to try next is decided before its hyperparameters are."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean, median

from automl_cli.optimizer.asktell import Optimizer, SpaceExhausted
from automl_cli.trial import Pipeline

EXPLORATION = 0.5  # alpha of MaxUCB, the authors' value for all their benchmarks
LEAST_REWARD, MOST_REWARD = 0.01, 0.99
MOST_SHARE = 0.6  # of all that was spent, for one family: an ensemble wants more than the best one
MOST_RATIO = 10.0  # between the costs of two families, as the bonus sees it: a slow one is not given up


@dataclass
class _Arm:
    """What is known of one family."""

    optimizer: Optimizer
    losses: list[float | None] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    pending: set[Pipeline] = field(default_factory=set)
    exhausted: bool = False

    @property
    def pulls(self) -> int:
        return len(self.losses) + len(self.pending)

    def mean_seconds(self) -> float | None:
        """Return the mean of all pulls, or of those that did not fail where that is more: to fail is not cheap."""
        good = [seconds for seconds, loss in zip(self.seconds, self.losses, strict=True) if loss is not None]
        return max(fmean(self.seconds), fmean(good)) if good else None

    def finite(self) -> list[float]:
        return [loss for loss in self.losses if loss is not None]


class Bandit:
    """Pulls the arm (family) with the largest ``reward + (alpha ln t / n)^2``: MaxUCB [1]_, with a price.

    The reward of an arm is its best loss, scaled so that 1 is the best of all and 0 the median over the arms of their
    median loss; failures earn nothing, and they count as pulls. A pull that is still running counts as one too, so that
    64 workers do not all turn to the same family. Where a clock decides when the search ends, the bonus of an arm is
    divided by its mean seconds in units of the median over the arms, at most `MOST_RATIO` either way: what is cheap is
    explored more. An arm that was never pulled comes first, in the order given. Nothing here is drawn at random.

    MaxUCB looks for one best model, and gives nearly all to the family that has it, long after that has stopped to
    gain; an ensemble is made of several. So an arm that has had more than `MOST_SHARE` of all seconds (of all pulls,
    where these are counted) is passed over while there are others.

    Parameters
    ----------
    arms : mapping of str to Optimizer
        By the name of the family; each proposes pipelines of its own family only.
    arm_of : callable
        Which arm a pipeline belongs to: its family.
    timed : bool
        Whether ``seconds`` matter. Where trials are counted they must not: every trial costs one.

    References
    ----------
    .. [1] Balef, Vernade, Eggensperger, Put CASH on bandits: a max k-armed problem for automated machine learning,
       NeurIPS 2025.

    Examples
    --------
    >>> class Steps:
    ...     def __init__(self, family): self.family, self.n = family, 0
    ...     def ask(self):
    ...         self.n += 1
    ...         return Pipeline(self.family, "codes", {"n": self.n}), "random"
    ...     def tell(self, pipeline, loss, seconds): pass
    >>> bandit, asked = Bandit({"good": Steps("good"), "bad": Steps("bad")}), []
    >>> for _ in range(20):
    ...     pipeline, _ = bandit.ask()
    ...     bandit.tell(pipeline, {"good": 0.1, "bad": 0.5}[pipeline.family], 1.0)
    ...     asked.append(pipeline.family)
    >>> asked[:2], asked.count("good") > asked.count("bad")
    (['good', 'bad'], True)
    """

    def __init__(
        self,
        arms: Mapping[str, Optimizer],
        *,
        timed: bool = False,
        arm_of: Callable[[Pipeline], str] = lambda pipeline: pipeline.family,
    ) -> None:
        self._arm_of = arm_of
        self._arms = {name: _Arm(optimizer) for name, optimizer in arms.items()}
        self._timed = timed

    def ask(self) -> tuple[Pipeline, str]:
        """Return what the arm with the highest score proposes; one that has nothing new is left out from then on."""
        while arms := [arm for arm in self._arms.values() if not arm.exhausted]:
            scores = _scores(arms, self._prices(arms))
            spent = self._spent(arms)
            within = [place for place in range(len(arms)) if spent[place] <= MOST_SHARE * sum(spent)]
            arm = arms[max(within or range(len(arms)), key=scores.__getitem__)]
            try:
                pipeline, origin = arm.optimizer.ask()
            except SpaceExhausted:
                arm.exhausted = True
                continue
            arm.pending.add(pipeline)
            return pipeline, origin
        raise SpaceExhausted("no family has a configuration left")

    def tell(self, pipeline: Pipeline, loss: float | None, seconds: float) -> None:
        """Credit the pipeline's family, and teach that family's optimizer; other families hear nothing."""
        arm = self._arms.get(self._arm_of(pipeline))
        if arm is None:  # of an interrupted run that had another family
            return
        arm.pending.discard(pipeline)
        arm.losses.append(loss if loss is not None and math.isfinite(loss) else None)
        arm.seconds.append(seconds)
        arm.optimizer.tell(pipeline, loss, seconds)

    def _spent(self, arms: "Sequence[_Arm]") -> list[float]:
        """Return what each arm has taken so far; a pull that is still running takes as long as others did."""
        if not self._timed:
            return [float(arm.pulls) for arm in arms]
        usual = fmean([second for arm in arms for second in arm.seconds] or [1.0])
        return [(fmean(arm.seconds) if arm.seconds else usual) * arm.pulls for arm in arms]

    def _prices(self, arms: "Sequence[_Arm]") -> list[float]:
        """Return what a pull of each arm costs, in units of the median."""
        if not self._timed:
            return [1.0] * len(arms)
        means = [arm.mean_seconds() for arm in arms]
        usual = median([mean for mean in means if mean is not None] or [1.0]) or 1.0
        # of nothing but failures: as dear as they were, and no cheaper than the others
        failed = [max(usual, fmean(arm.seconds)) if arm.seconds else usual for arm in arms]
        ratios = [(dear if mean is None else mean) / usual for mean, dear in zip(means, failed, strict=True)]
        return [min(max(ratio, 1 / math.sqrt(MOST_RATIO)), math.sqrt(MOST_RATIO)) for ratio in ratios]


def _scores(arms: Sequence[_Arm], prices: Sequence[float]) -> list[float]:
    """Return MaxUCB's index of each arm: its largest reward and a bonus that falls with the square of its pulls."""
    n_pulls = sum(arm.pulls for arm in arms)
    return [
        reward + (EXPLORATION * math.log(n_pulls) / arm.pulls) ** 2 / price if arm.pulls else math.inf
        for arm, reward, price in zip(arms, _rewards(arms), prices, strict=True)
    ]


def _rewards(arms: Sequence[_Arm]) -> list[float]:
    """Scale each arm's best loss; an arm whose pulls are all still running earns the middle."""
    known = [losses for arm in arms if (losses := arm.finite())]
    low = min((min(losses) for losses in known), default=0.0)
    # not the worst loss, as the authors do: one disaster would make all families look alike
    width = median([median(losses) for losses in known] or [0.0]) - low
    return [_reward(arm, low, width) for arm in arms]


def _reward(arm: _Arm, low: float, width: float) -> float:
    losses = arm.finite()
    if not losses:
        return LEAST_REWARD if arm.losses else 0.5
    if width <= 0.0:
        return MOST_REWARD
    return min(max(1.0 - (min(losses) - low) / width, LEAST_REWARD), MOST_REWARD)
