"""Models under limits: how large the file may be, how long a row may take, and whether there is one model only.

Two things make a model smaller. A member's bag of k fold models can be replaced by a single model, fitted on all rows
at the end: a k-th of its size and time, at no loss that out-of-fold predictions could tell, since each of those is of a
single model. And members can be left out, at a loss that can be told. So bags become single models first; members are
left out while even single models are too many, always the one that costs the least loss for what it frees; and what
room is left goes back to bags, for the mean of k models errs a little less on new rows. A search over subsets would
find little more: members are few, and the next ones are near substitutes.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from automl_cli.artifact import packed_bytes
from automl_cli.calibration import Decision, spread_rows
from automl_cli.ensemble import combine
from automl_cli.features.matrix import Array
from automl_cli.members import Chosen, OofCache, choose_members
from automl_cli.metrics import Metric
from automl_cli.stacking import MEAN, Rows
from automl_cli.trial import Success, Trial
from automl_cli.trialfiles import fold_folders, part_bytes

__all__ = ["NO_CEILING", "Ceiling", "Cost", "Costs", "Footprint", "Small", "Unlimited", "choose_small"]

SHARES = (1.0, 0.5, 0.25)  # of the limits, that a member may take
MOST_ROWS = 20_000  # are looked at to find which member can be left out
MOST_PACKED = 10  # times: no model gets smaller than this part of it in a file
REST = "all_rows"  # stands for the fold of a single model

Part = tuple[str, str, str]
"""``encoder`` or ``model``, whose, and of which fold: what two members share is in the file once and runs once."""


@dataclass(frozen=True)
class Cost:
    """Bytes in the file, and seconds a row on one thread."""

    n_bytes: float = 0.0
    row_seconds: float = 0.0


@dataclass(frozen=True)
class Ceiling:
    """The limits on a model; None: no limit.

    Attributes
    ----------
    one_model : bool
        One pipeline and one fitted model of it.
    """

    n_bytes: int | None = None
    row_seconds: float | None = None
    one_model: bool = False

    @property
    def given(self) -> bool:
        """Whether there is any limit."""
        return self.one_model or self.n_bytes is not None or self.row_seconds is not None

    def used(self, cost: Cost) -> tuple[float, ...]:
        """Return which part of each limit is used; more than 1 is too much.

        >>> Ceiling(n_bytes=1000).used(Cost(n_bytes=250.0))
        (0.25,)
        """
        known = ((cost.n_bytes, self.n_bytes), (cost.row_seconds, self.row_seconds))
        return tuple(value / limit for value, limit in known if limit is not None)

    def fits(self, cost: Cost) -> bool:
        """Whether all limits are kept."""
        return max(self.used(cost), default=0.0) <= 1.0


NO_CEILING = Ceiling()


@dataclass(frozen=True)
class Small:
    """The members under limits.

    Attributes
    ----------
    singles : frozenset of int
        Numbers of the trials that are in it with one model in place of their bag.
    cost : Cost
        As far as it is known before the file is written.
    """

    chosen: Chosen
    singles: frozenset[int]
    cost: Cost


@dataclass(frozen=True)
class Unlimited:
    """What the model would have been without limits; its file was never written, so that its size is an estimate."""

    n_members: int
    n_models: int
    n_bytes: int
    row_seconds: float | None
    score: float


@dataclass(frozen=True)
class Footprint:
    """How large and how fast a model is.

    Attributes
    ----------
    row_seconds : float or None
        Mean of a row on one thread; None where nobody knows.
    measured : bool
        Whether that was measured on the file, in place of summed up from trials.
    ceiling : Ceiling
        What was asked for.
    """

    n_models: int
    row_seconds: float | None
    measured: bool = False
    ceiling: Ceiling = NO_CEILING
    unlimited: Unlimited | None = None

    def to_json(self) -> dict[str, Any]:
        """Return JSON values."""
        return asdict(self)


@dataclass
class Costs:
    """What members cost, as far as it is known by now.

    Attributes
    ----------
    base : Cost
        Of a file without members.
    refitted : dict of int to Path
        Trials that were fitted on all rows, and the folders with their models.
    by_fold : set of int
        Trials whose single model is that of a fold: no other could be had, or it was too large.
    slower, larger : dict of int to float
        By how much a member is slower or larger than was thought, once it has been measured.
    caution : float
        By how much all members are taken to be, once several in a row were.
    """

    cache: OofCache
    ceiling: Ceiling
    base: Cost = Cost()
    refitted: dict[int, Path] = field(default_factory=dict)
    by_fold: set[int] = field(default_factory=set)
    slower: dict[int, float] = field(default_factory=dict)
    larger: dict[int, float] = field(default_factory=dict)
    caution: float = 1.0
    packed: dict[Path, tuple[float, float]] = field(default_factory=dict)
    unpacked: dict[Path, dict[str, int]] = field(default_factory=dict)

    def alone(self, trial: Success) -> Cost:
        """Return what a model of one trial costs that is a single fitted model."""
        return self.of({trial.proposal.number: trial}.values(), {trial.proposal.number})

    def fits(self, trial: Success) -> bool:
        """Whether a trial keeps the limits where it is the only member."""
        if self.ceiling.n_bytes is not None and min(trial.n_bytes, default=0) > MOST_PACKED * self.ceiling.n_bytes:
            return False
        return self.ceiling.fits(self.alone(trial))

    def surely_fits(self, trial: Success) -> bool:
        """Whether it does by what its journal says, so that a run which is resumed answers the same."""
        encoding, predicting = trial.row_seconds or (0.0, 0.0)
        unpacked = self._growth * sum(trial.n_bytes) / max(1, len(trial.n_bytes))
        return self.ceiling.fits(Cost(self.base.n_bytes + unpacked, encoding + predicting))

    def of(self, trials: Iterable[Success], singles: Iterable[int]) -> Cost:
        """Return what a file with these members costs."""
        single = frozenset(singles)
        parts: dict[Part, Cost] = {}
        for trial in trials:
            for part, cost in self._parts(trial, single=trial.proposal.number in single).items():
                known = parts.get(part, Cost())
                parts[part] = Cost(max(known.n_bytes, cost.n_bytes), max(known.row_seconds, cost.row_seconds))
        n_bytes = sum(cost.n_bytes for cost in parts.values())
        row_seconds = sum(cost.row_seconds for cost in parts.values())
        return Cost(self.base.n_bytes + n_bytes, self.base.row_seconds + row_seconds)

    def small(self, chosen: Chosen) -> Small:
        """Let the heaviest members have their bags, as far as there is room."""
        trials = [trial for trial, _ in chosen.members]
        singles = {trial.proposal.number for trial in trials}
        # Under a time order all members are fitted on all rows, limits or not.
        if not (self.ceiling.one_model or self.cache.data.plan.refit):
            for trial, _ in sorted(chosen.members, key=lambda member: -abs(member[1])):
                if self.ceiling.fits(self.of(trials, singles - {trial.proposal.number})):
                    singles.discard(trial.proposal.number)
        return Small(chosen, frozenset(singles), self.of(trials, singles))

    def single_folders(self, small: Small) -> dict[int, Path]:
        """Return where the single models lie by now: those fitted on all rows, else those of the best folds."""
        singles = {trial.proposal.number: trial for trial, _ in small.chosen.members}
        return {
            number: self.refitted.get(number) or self.best_fold(singles[number]) for number in sorted(small.singles)
        }

    def best_fold(self, trial: Success) -> Path:
        """Return the folder of the fold whose model did best on its validation rows."""
        folds = fold_folders(self.cache.run_folder, trial)
        return folds[min(range(len(folds)), key=lambda k: (trial.losses[k], k))]

    @property
    def _growth(self) -> float:
        """How much larger a model may be that is fitted on all rows: forests and neighbours grow with them."""
        data = self.cache.data
        return data.n_rows / max(len(train) for train, _ in data.folds)

    def _parts(self, trial: Success, *, single: bool) -> Mapping[Part, Cost]:
        number = trial.proposal.number
        if not single:
            parts: dict[Part, Cost] = {}
            for folder in fold_folders(self.cache.run_folder, trial):
                parts |= self._of_folder(trial, folder, folder.name)
            return parts
        if number in self.refitted:
            return self._of_folder(trial, self.refitted[number], REST)
        if number in self.by_fold:
            best = self.best_fold(trial)
            return self._of_folder(trial, best, best.name)
        # It will have the mean number of rounds: about as large as the folds' models are in the mean.
        folders = fold_folders(self.cache.run_folder, trial)
        every = [self._of_folder(trial, folder, REST, growth=self._growth) for folder in folders]
        return {
            part: Cost(sum(one[part].n_bytes for one in every) / len(every), cost.row_seconds)
            for part, cost in every[0].items()
        }

    def _of_folder(self, trial: Success, folder: Path, fold: str, growth: float = 1.0) -> Mapping[Part, Cost]:
        """Return the two parts of one fitted model; the first folder of a trial tells how well the others pack."""
        number = trial.proposal.number
        encoding, predicting = trial.row_seconds or (0.0, 0.0)
        larger = self.caution * growth * self.larger.get(number, 1.0)
        slower = self.caution * self.slower.get(number, 1.0)
        encoder, model = self._packed(trial, folder)
        return {
            ("encoder", trial.proposal.pipeline.encoding, fold): Cost(larger * encoder, slower * encoding),
            ("model", str(number), fold): Cost(larger * model, slower * predicting),
        }

    def _packed(self, trial: Success, folder: Path) -> tuple[float, float]:
        """Return the sizes of encoder and model in a file."""
        if folder not in self.packed:
            first = fold_folders(self.cache.run_folder, trial)[0]
            if folder.name == REST or folder == first:
                self.packed[folder] = (packed_bytes(folder / "encoder"), packed_bytes(folder / "model"))
            else:
                own, known, packed = self._unpacked(folder), self._unpacked(first), self._packed(trial, first)
                encoder = packed[0] * own["encoder"] / max(1, known["encoder"])
                self.packed[folder] = (encoder, packed[1] * own["model"] / max(1, known["model"]))
        return self.packed[folder]

    def _unpacked(self, folder: Path) -> dict[str, int]:
        if folder not in self.unpacked:
            self.unpacked[folder] = part_bytes(folder)
        return self.unpacked[folder]


def choose_small(
    trials: Sequence[Trial], costs: Costs, *, calibrate: bool = True, stacking: bool = True
) -> Small | None:
    """Choose the members under limits; None while no fold of any trial is finished.

    Trials that alone exceed a limit are out. Of the others the best alone is the model where one is asked for; else
    they are weighed as without limits, and members are left out until single models of them fit. Where that is needed
    it is tried as well with those that alone take at most a half, or a quarter: one large member may leave no room for
    several small ones. The best of these is the model, or the best trial alone where that is better. Where none fits,
    the one that comes nearest is returned, so that it can be measured.
    """
    cache, ceiling = costs.cache, costs.ceiling
    there = [trial for trial in trials if isinstance(trial, Success) and cache.has_models(trial)]
    pool = [trial for trial in there if trial.complete] or there
    if not pool:
        return None

    def weighed(some: Sequence[Success], *, stack: bool = False) -> Chosen:
        found = choose_members(some, cache, calibrate=calibrate, stacking=stack)
        if found is None:
            raise ValueError("trials with models are members")
        return found

    fitting = [trial for trial in pool if costs.fits(trial)]
    if not fitting:
        nearest = min(pool, key=lambda trial: (max(ceiling.used(costs.alone(trial)), default=0.0), trial.loss))
        return costs.small(weighed([nearest]))
    best = min(fitting, key=lambda trial: (-len(trial.losses), trial.loss, trial.proposal.number))
    alone = weighed([best])
    if ceiling.one_model or len(fitting) == 1:
        return costs.small(alone)
    found = [alone]
    for share in SHARES:
        light = [trial for trial in fitting if max(ceiling.used(costs.alone(trial)), default=0.0) <= share]
        if not light:
            break
        together = weighed(light, stack=stacking)
        if _fit(together, costs):
            found.append(together)
            break
        by_mean = together if together.mixing == MEAN else weighed(light)
        found.append(weighed(_without_the_least(by_mean, costs), stack=stacking))
    return costs.small(min(reversed(found), key=lambda chosen: chosen.mean_loss))


def _fit(chosen: Chosen, costs: Costs) -> bool:
    """Whether single models of all members fit."""
    trials = [trial for trial, _ in chosen.members]
    return costs.ceiling.fits(costs.of(trials, (trial.proposal.number for trial in trials)))


def _without_the_least(chosen: Chosen, costs: Costs) -> list[Success]:
    """Leave members out, one by one, until single models of the others fit: the least added loss for what is freed."""
    oof = costs.cache.stack([trial for trial, _ in chosen.members])
    judge = _Judge.of(costs.cache, oof, chosen.decision)
    weights = np.array([weight for _, weight in chosen.members])
    numbered = [trial for trial, _ in chosen.members]
    left = list(range(len(numbered)))

    def burden(some: Sequence[int]) -> float:
        trials = [numbered[k] for k in some]
        return sum(costs.ceiling.used(costs.of(trials, (trial.proposal.number for trial in trials))))

    def fits(some: Sequence[int]) -> bool:
        trials = [numbered[k] for k in some]
        return costs.ceiling.fits(costs.of(trials, (trial.proposal.number for trial in trials)))

    while len(left) > 1 and not fits(left):
        now, whole = judge.loss(oof, weights, left), burden(left)

        def price(k: int, left: list[int] = left, now: float = now, whole: float = whole) -> float:
            others = [other for other in left if other != k]
            return (judge.loss(oof, weights, others) - now) / max(whole - burden(others), 1e-12)

        left = [k for k in left if k != min(left, key=price)]
    return [numbered[k] for k in left]


@dataclass(frozen=True)
class _Judge:
    """Some rows with out-of-fold predictions, their targets by fold, and how the mix is decided."""

    at: Array
    rows: Rows
    metric: Metric
    decision: Decision

    @classmethod
    def of(cls, cache: OofCache, oof: Array, decision: Decision) -> "_Judge":
        y, weight = cache.data.validated()
        folds = np.repeat(np.arange(len(cache.data.folds)), [len(valid) for _, valid in cache.data.folds])
        known = np.flatnonzero(np.isfinite(oof).all(axis=(0, 2)))
        at = known[spread_rows(y[known], MOST_ROWS)]
        _, parts = np.unique(folds[at], return_inverse=True)
        return cls(at, Rows(y[at], None if weight is None else weight[at], parts), cache.data.metric, decision)

    def loss(self, oof: Array, weights: Array, some: Sequence[int]) -> float:
        """Return the mean loss over folds of some members, their weights as they are to one another."""
        own = np.asarray(some)
        mix = combine(oof[np.ix_(own, self.at)], weights[own] / weights[own].sum())
        judged = self.decision.judged(self.decision.calibrated(mix), self.metric)
        return float(np.mean(self.rows.part_losses(judged, self.metric)))
