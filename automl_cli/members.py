"""Which trials become the model: out-of-fold predictions side by side, weighed greedily."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from automl_cli.ensemble import combine, greedy_weights
from automl_cli.evaluate import read_oof
from automl_cli.features.matrix import Array
from automl_cli.rundata import RunData
from automl_cli.trial import Success, Trial

MOST_CANDIDATES = 40  # published ensembles look at 25 to 50; more overfits the validation rows
MOST_BYTES = 192 * 2**20  # of out-of-fold predictions held at once


@dataclass(frozen=True)
class Chosen:
    """The trials in the model and what they reach together on rows none of them was trained on.

    Attributes
    ----------
    members : tuple of (Success, weight)
        In trial order; weights are positive and sum to one.
    loss : float
        Of the weighted predictions, over all rows that have out-of-fold predictions.
    fold_losses : tuple of float
        The same, fold by fold.
    """

    members: tuple[tuple[Success, float], ...]
    loss: float
    fold_losses: tuple[float, ...]

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
    """Out-of-fold predictions already read, by trial number; bounded by dropping what is no candidate any more."""

    run_folder: Path
    data: RunData
    read: dict[int, Array] = field(default_factory=dict)

    def stack(self, trials: Sequence[Success]) -> Array:
        """Return the predictions of ``trials``, shape (n_trials, n_rows, n_outputs)."""
        wanted = {trial.proposal.number for trial in trials}
        for number in set(self.read) - wanted:
            del self.read[number]
        for trial in trials:
            if trial.proposal.number not in self.read:
                self.read[trial.proposal.number] = read_oof(self.run_folder, self.data, trial)
        return np.stack([self.read[trial.proposal.number] for trial in trials])


def choose_members(trials: Sequence[Trial], cache: OofCache) -> Chosen | None:
    """Weigh the best trials by greedy selection; None while no fold of any trial is finished.

    Complete trials only, since partial ones leave rows without a prediction; where not one is complete, the
    partial trial with the most folds is the model.
    """
    candidates = _candidates(trials, cache.data)
    if not candidates:
        return None
    data = cache.data
    oof = cache.stack(candidates)
    rows = np.flatnonzero(np.isfinite(oof).all(axis=2).any(axis=0))
    y = np.asarray(data.y)[rows]
    weight = None if data.weight is None else np.asarray(data.weight)[rows]
    everywhere = len(rows) == data.n_rows
    weights = greedy_weights(oof if everywhere else oof[:, rows], y, data.metric, weight)
    members = [(trial, float(w)) for trial, w in zip(candidates, weights, strict=True) if w > 0]
    chosen = weights > 0
    together = combine(oof[chosen], weights[chosen])
    return Chosen(
        members=tuple(sorted(members, key=lambda member: member[0].proposal.number)),
        loss=float(data.metric.loss(y, together[rows], weight)),
        fold_losses=_fold_losses(data, together),
    )


def _candidates(trials: Sequence[Trial], data: RunData) -> list[Success]:
    """Return the best complete trials and the best of each family, in trial order."""
    successes = [trial for trial in trials if isinstance(trial, Success)]
    complete = sorted((t for t in successes if t.complete), key=lambda t: (t.loss, t.proposal.number))
    if not complete:
        return sorted(successes, key=lambda t: (-len(t.losses), t.loss))[:1]
    bytes_each = 4 * data.n_rows * data.n_outputs
    most = max(4, min(MOST_CANDIDATES, MOST_BYTES // bytes_each))
    best_of_family = {t.proposal.pipeline.family: t for t in reversed(complete)}
    kept = {t.proposal.number: t for t in [*complete[:most], *best_of_family.values()]}
    return [kept[number] for number in sorted(kept)]


def _fold_losses(data: RunData, predictions: Array) -> tuple[float, ...]:
    losses = []
    for _, valid in data.folds:
        rows = np.asarray(valid)
        rows = rows[np.isfinite(predictions[rows]).all(axis=1)]
        if len(rows):
            weight = None if data.weight is None else np.asarray(data.weight)[rows]
            losses.append(float(data.metric.loss(np.asarray(data.y)[rows], predictions[rows], weight)))
    return tuple(losses)
