"""Which trials become the model: out-of-fold predictions side by side, weighed greedily."""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from automl_cli.calibration import PLAIN, Decision, Learned
from automl_cli.ensemble import Gain, Lent, combine, complete_models
from automl_cli.families import find_families
from automl_cli.features.matrix import Array
from automl_cli.lending import read_lent
from automl_cli.rundata import RunData
from automl_cli.stacking import MEAN, Greedy, Mixing, Rows, Stacked, stack
from automl_cli.trial import Success, Trial
from automl_cli.trialfiles import read_oof, trial_folder
from automl_cli.weighing import BY_FOLD, Known, crossed_mix, decided_loss, mix

MOST_CANDIDATES = 40  # published ensembles look at 25 to 50; more overfits the validation rows
PARTIAL_SHARE = 0.25  # of the candidates may be trials that have not finished all folds
LEAST_FINISHED = 0.5  # of the folds: fewer are chosen by chance, see docs/ensemble.md
MOST_MODEL_BYTES = 300 * 10**6  # of one trial: a forest of many classes takes gigabytes, and seconds to save
MOST_BYTES = 192 * 2**20  # of out-of-fold predictions held at once
MOST_SAID = 10**6  # values that are kept of what a mix says of validated rows
WORTH = 0.003  # of the loss, that members which are slow to predict must gain
FEWEST_PARTS = 5  # of the rows, where one fold has to be divided to judge what is learned on its predictions


@dataclass(frozen=True)
class Chosen:
    """The trials in the model and what they reach together on rows none of them was trained on.

    Attributes
    ----------
    members : tuple of (Success, weight)
        In trial order; weights of a mean are positive and sum to one, that of a trial with unfinished folds multiplied
        by its share of finished ones; weights of stacking have either sign.
    loss : float
        Of the weighted predictions as they are decided, over all rows that have out-of-fold predictions.
    fold_losses : tuple of float
        Fold by fold, each decided by what was learned on the other folds.
    crossed : tuple of float
        The same, mixed by weights that were chosen on other rows as well; empty where that is not known, or is so
        already.
    decision : Decision
        How the weighted predictions become probabilities and labels.
    gain : Gain or None
        What the greedy weights gain over the best trial alone, where that can be measured.
    mixing : Mixing
        How the weighted members become one prediction.
    said : ndarray of shape (n_valid, n_outputs) or None
        What the mix says of validated rows, by weights that have not seen them as far as that is known, before it is
        decided; NaN for rows that no member has predicted. None where that is large: then the rows are many, and
        weights flatter little.
    """

    members: tuple[tuple[Success, float], ...]
    loss: float
    fold_losses: tuple[float, ...]
    decision: Decision = PLAIN
    gain: Gain | None = None
    mixing: Mixing = MEAN
    crossed: tuple[float, ...] = ()
    said: Array | None = field(default=None, compare=False, repr=False)

    @property
    def shown_losses(self) -> tuple[float, ...]:
        """Fold by fold, on rows that no part of the model has seen, as far as that is known: what a user is told."""
        return self.crossed or self.fold_losses

    @property
    def shown_loss(self) -> float:
        """Mean over the folds of `shown_losses`."""
        return sum(self.shown_losses) / len(self.shown_losses)

    @property
    def mean_loss(self) -> float:
        """Mean over the folds: the models of two folds need not be on one scale, which a pooled AUC would punish."""
        return sum(self.fold_losses) / len(self.fold_losses)

    @property
    def best(self) -> Success:
        """The member with the largest weight, the better one where they are equal."""
        return max(self.members, key=lambda member: (member[1], -member[0].loss))[0]


@dataclass(frozen=True)
class OofCache:
    """Out-of-fold predictions already read, by trial number; bounded by dropping what is no candidate any more.

    Attributes
    ----------
    fits : callable or None
        Whether a trial alone keeps the limits on the model, where there are any: the best of those keep theirs too.
    """

    run_folder: Path
    data: RunData
    read: dict[int, Array] = field(default_factory=dict)
    sizes: dict[int, int] = field(default_factory=dict)
    pruned: set[int] = field(default_factory=set)
    fits: Callable[[Success], bool] | None = None

    def stack(self, trials: Sequence[Success]) -> Array:
        """Return the predictions of ``trials``, shape (n_trials, n_rows, n_outputs)."""
        wanted = {trial.proposal.number for trial in trials}
        for number in set(self.read) - wanted:
            del self.read[number]
        for trial in trials:
            if trial.proposal.number not in self.read:
                self.read[trial.proposal.number] = read_oof(self.run_folder, self.data, trial)
        return np.stack([self.read[trial.proposal.number] for trial in trials])

    def lent(self, trials: Sequence[Success], oof: Array) -> Lent | None:
        """Return the rows of a source that help to weigh these trials, whose predictions `stack` gave."""
        return read_lent(self.run_folder, self.data, trials, oof)

    def has_models(self, trial: Success) -> bool:
        """Whether a trial's models are still there."""
        return trial.proposal.number not in self.pruned and self.model_bytes(trial) > 0

    def model_bytes(self, trial: Trial) -> int:
        """Return the size of a trial's models on disk."""
        folder = trial_folder(self.run_folder, trial.proposal.number)
        if trial.proposal.number not in self.sizes:
            folds = [folder / f"fold_{fold}" for fold in range(len(self.data.folds))]
            sizes = [file.stat().st_size for fold in folds if fold.exists() for file in fold.glob("*/*")]
            self.sizes[trial.proposal.number] = sum(sizes)
        return self.sizes[trial.proposal.number]

    def prune(self, trials: Sequence[Trial]) -> None:
        """Delete the models of trials that cannot become members any more; their figures stay.

        A trial that is no candidate now never will be: a complete one is only ever pushed out by better trials, or by
        partial ones that take a place for good. Partial ones are compared through the best complete trial, which
        changes; so that none comes back without its models, `candidates` passes over what was deleted.
        """
        kept = {trial.proposal.number for trial in candidates(trials, self)}
        if self.fits is not None:
            fitting = [trial for trial in trials if isinstance(trial, Success) and self.fits(trial)]
            kept |= {trial.proposal.number for trial in candidates(fitting, self)}
        if not any(isinstance(trial, Success) and trial.complete for trial in trials):
            return
        for trial in trials:
            number = trial.proposal.number
            if number not in kept and number not in self.pruned:
                self.pruned.add(number)
                for folder in trial_folder(self.run_folder, number).glob("fold_*/*/"):
                    shutil.rmtree(folder, ignore_errors=True)


def choose_members(
    trials: Sequence[Trial], cache: OofCache, *, calibrate: bool = True, stacking: bool = True
) -> Chosen | None:
    """Weigh the best trials by greedy selection; None while no fold of any trial is finished.

    A partial trial counts on the rows of its finished folds, where the weights are taken over those that have a
    prediction. At prediction it has one for every row; there its weight is multiplied by its share of finished folds,
    so that it contributes as much as it did on the rows that were weighed. Where no trial is complete, the one with the
    most folds is the model.

    Members of a family that is slow to predict must be worth it: without them the loss would have to be larger by
    `WORTH`.

    Parameters
    ----------
    calibrate : bool
        Whether a temperature or multipliers of the classes may follow.
    stacking : bool
        Whether a regression on the members' predictions may take the place of their mean.
    """
    members_to_be = candidates(trials, cache)
    if not members_to_be:
        return None
    oof = cache.stack(members_to_be)
    lent = cache.lent(members_to_be, oof)
    chosen = chosen_among(members_to_be, oof, cache.data, lent, calibrate=calibrate, stacking=stacking)
    families = find_families(include_missing=True)
    slow = {name for name, family in families.items() if family.slow_to_predict}
    quick = [k for k, trial in enumerate(members_to_be) if trial.proposal.pipeline.family not in slow]
    used = {trial.proposal.pipeline.family for trial, _ in chosen.members}
    if not used & slow or not any(members_to_be[k].complete for k in quick):
        return chosen
    others = [members_to_be[k] for k in quick]
    lent = None if lent is None else replace(lent, oof=lent.oof[quick])
    without = chosen_among(others, oof[quick], cache.data, lent, calibrate=calibrate, stacking=stacking)
    return chosen if chosen.mean_loss < (1 - WORTH) * without.mean_loss else without


def chosen_among(
    members_to_be: Sequence[Success],
    oof: Array,
    data: RunData,
    lent: Lent | None = None,
    *,
    calibrate: bool,
    stacking: bool,
) -> Chosen:
    """Weigh these trials by their out-of-fold predictions, shape (n_trials, n_rows, n_outputs).

    Rows of a source help with the weights alone; everything that is said of the model is of the run's own rows.
    """
    y, weight = data.validated()
    folds = folds_of(data)
    rows = np.flatnonzero(np.isfinite(oof).all(axis=2).any(axis=0))
    if len(rows) < len(y):
        oof, y, folds = oof[:, rows], y[rows], folds[rows]
        weight = None if weight is None else weight[rows]
    if lent is not None and (finished := np.isfinite(lent.oof).all(axis=2).any(axis=0)).sum() < len(lent.y):
        lent = lent.take(np.flatnonzero(finished))
    rows_known = Known(y, weight, folds, parts_of(y, folds), data.metric, lent)
    weights, learned, gain = mix(oof, rows_known, calibrate=calibrate)
    together = combine(oof[weights > 0], weights[weights > 0])

    def judged(said: Array) -> tuple[float, ...]:
        return fold_losses(data, y, learned.judged(said, data.metric, rows_known.parts), weight)

    loss = decided_loss(together, rows_known, learned.decision)
    # chosen on many rows, weights do not flatter
    crossed = None if gain is None or gain.sampled else crossed_mix(oof, rows_known, gain)
    by_mean = Chosen(
        members=_served(members_to_be, weights),
        loss=loss,
        fold_losses=judged(together),
        decision=learned.decision,
        gain=gain,
        crossed=() if crossed is None else judged(crossed),
        said=_spread(together if crossed is None else crossed, rows, data.n_valid),
    )
    # Under a time order the members are fitted again on all rows: weights learned on what they got wrong before would
    # correct what is no longer wrong. Where a source has more of a say than the run's own rows, these are too few.
    if gain is None or not stacking or data.plan.refit or (lent is not None and lent.share > 0.5):
        return by_mean
    stacked = _stacked(members_to_be, oof, rows_known, weights, learned, gain)
    if stacked is None:
        return by_mean
    by_stacking = replace(
        _chosen_by_stacking(members_to_be, rows_known, stacked, data, gain),
        said=_spread(stacked.judged, rows, data.n_valid),
    )
    # On rows that it has not seen it has to be better than the mean is on those that it was chosen on.
    pooled = data.metric.name in BY_FOLD or by_stacking.loss < by_mean.loss  # ranks of several folds are not compared
    better = pooled and by_stacking.mean_loss < by_mean.mean_loss
    return by_stacking if better else by_mean


def _stacked(
    trials: Sequence[Success], oof: Array, known: Known, weights: Array, learned: Learned, gain: Gain
) -> Stacked | None:
    """Stack the members, and the best trial of each family, where that gains over the weighted mean."""
    by_part = gain.weights_by_part(len(oof))
    rows = Rows(known.y, known.weight, known.parts)
    losses = []
    for part, own in enumerate(by_part):
        held_out = rows.part(part)[1]
        decision = learned.by_part[part] if learned.decision != PLAIN else PLAIN
        losses.append(rows.loss(held_out, decision.calibrated(combine(oof[:, held_out], own)), known.metric))
    complete = complete_models(oof)
    best_last = sorted(range(len(trials)), key=lambda k: (trials[k].loss, k), reverse=True)
    best_of_family = {trials[k].proposal.pipeline.family: k for k in best_last if complete[k]}
    greedy = Greedy(weights, by_part, tuple(losses))
    return stack(oof, rows, known.metric, greedy, spare=tuple(best_of_family.values()))


def _chosen_by_stacking(trials: Sequence[Success], known: Known, stacked: Stacked, data: RunData, gain: Gain) -> Chosen:
    members = [(trial, float(w)) for trial, w in zip(trials, stacked.weights, strict=True) if w]
    rows = Rows(known.y, known.weight, known.parts)
    return Chosen(
        members=tuple(sorted(members, key=lambda member: member[0].proposal.number)),
        loss=rows.loss(np.arange(len(known.y)), stacked.judged, known.metric),
        fold_losses=fold_losses(data, known.y, stacked.judged, known.weight),
        gain=gain,
        mixing=stacked.mixing,
    )


def _served(trials: Sequence[Success], weights: Array) -> tuple[tuple[Success, float], ...]:
    """Return the trials with weight, in trial order, and the weights that their bags have at prediction."""
    members = [(trial, float(w)) for trial, w in zip(trials, weights, strict=True) if w > 0]
    members.sort(key=lambda member: member[0].proposal.number)
    most = max(len(trial.losses) for trial, _ in members)
    scaled = [w if len(trial.losses) == most else w * len(trial.losses) / most for trial, w in members]
    total = sum(scaled) if any(len(trial.losses) < most for trial, _ in members) else 1.0
    return tuple((trial, w / total) for (trial, _), w in zip(members, scaled, strict=True))


def _spread(known: Array, rows: Array, n_rows: int) -> Array | None:
    if known.shape[1] * n_rows > MOST_SAID:
        return None
    said = np.full((n_rows, known.shape[1]), np.nan)
    said[rows] = known
    return said


def folds_of(data: RunData) -> Array:
    """Return whose models predicted each validated row, shape (n_valid,)."""
    return np.repeat(np.arange(len(data.folds)), [len(valid) for _, valid in data.folds])


def parts_of(y: Array, folds: Array) -> Array:
    """Return parts of the rows that are judged by what is learned on the others: folds, or parts of a single one."""
    if folds[-1] > 0:
        return folds
    n_parts = min(FEWEST_PARTS, len(y))
    parts = np.empty(len(y), dtype=np.int64)
    parts[np.lexsort((np.random.default_rng(0).random(len(y)), y))] = np.arange(len(y)) % n_parts
    return parts


def candidates(trials: Sequence[Trial], cache: OofCache) -> list[Success]:
    """Return the trials that may become members, in trial order: the best ones, and the best of each family.

    Up to a quarter of them are partial trials, see `_partial`. Their number is bounded by the memory that their
    predictions take, and each by the size of its models.
    """
    data = cache.data
    successes = [trial for trial in trials if isinstance(trial, Success)]
    complete = sorted((t for t in successes if t.complete), key=lambda t: (t.loss, t.proposal.number))
    if not complete:
        return sorted(successes, key=lambda t: (-len(t.losses), t.loss))[:1]
    # A run that is resumed meets trials whose models were deleted before.
    there = [t for t in complete if cache.has_models(t)]
    light = [t for t in there if cache.model_bytes(t) <= MOST_MODEL_BYTES] or there[:1]
    most = max(4, min(MOST_CANDIDATES, MOST_BYTES // (4 * data.n_valid * data.n_outputs)))
    partial = _partial(successes, light[0], cache)[: int(PARTIAL_SHARE * most)] if light else []
    most -= len(partial)
    best_of_family = {t.proposal.pipeline.family: t for t in reversed(light)}
    # A family's best errs differently from the others and stays, as far as there is room.
    ranked = [*light[: max(1, most - len(best_of_family))], *best_of_family.values(), *light]
    return sorted([*list(dict.fromkeys(ranked))[:most], *partial], key=lambda t: t.proposal.number)


def _partial(successes: Sequence[Success], best: Success, cache: OofCache) -> list[Success]:
    """Return the trials that ran out of time after at least half of their folds, the best ones first.

    Trials that racing gave up are not among them: on test rows they gained nothing in the mean, see docs/ensemble.md.
    Losses are compared with those of the best complete trial on the same folds: some folds are harder than others.
    """

    def behind(trial: Success) -> float:
        return trial.loss - sum(best.losses[: len(trial.losses)]) / len(trial.losses)

    least = LEAST_FINISHED * len(cache.data.folds)
    cut = [t for t in successes if not t.complete and not t.given_up and len(t.losses) >= least]
    there = [t for t in cut if cache.has_models(t) and cache.model_bytes(t) <= MOST_MODEL_BYTES]
    return sorted(there, key=lambda t: (behind(t), t.proposal.number))


def fold_losses(data: RunData, y: Array, predictions: Array, weight: Array | None) -> tuple[float, ...]:
    """Score fold by fold; the rows come fold after fold, and end with the last fold that was finished."""
    losses = []
    end = 0
    for _, valid in data.folds:
        start, end = end, end + len(valid)
        if end > len(y):
            break
        part = slice(start, end)
        losses.append(float(data.metric.loss(y[part], predictions[part], None if weight is None else weight[part])))
    return tuple(losses)
