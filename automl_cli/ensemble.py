"""Greedy weights over out-of-fold predictions."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from automl_cli.errors import NoModel
from automl_cli.metrics import Array, Metric

# a search looks at no more rows and cells per model than this: 50 models and 20 picks then take about a second
_MAX_ROWS = 20_000
_MAX_CELLS = 100_000
_MOST_PICKS = 50
# only the best models on their own are candidates (auto-sklearn's nbest)
_MAX_CANDIDATES = 50
# picks without a better prefix after which no more are tried
_PATIENCE = 5
# the best complete models that have a part of the weight in equal shares
_EQUALS = 10
# losses closer than this share of the best single loss are one: then a member already in is preferred
_TIE = 1e-6


@dataclass(frozen=True)
class Lent:
    """Rows of another table that help to weigh models, where there are few of one's own; see `automl_cli.lending`.

    Attributes
    ----------
    oof : ndarray of shape (n_models, n_rows, n_outputs)
        As for `greedy_weights`.
    y, folds, weight
        Of these rows; the folds ascend and are those of one's own rows.
    share : float
        Of the loss that is theirs; the rest is that of one's own rows.
    """

    oof: Array
    y: Array
    folds: Array
    weight: Array | None
    share: float

    def take(self, rows: Array) -> "Lent":
        """Return some of the rows, ascending."""
        weight = None if self.weight is None else self.weight[rows]
        return Lent(self.oof[:, rows], self.y[rows], self.folds[rows], weight, self.share)


# how often each row was added to a sum: a number for all rows, or a column where some models lack rows
Times = float | Array


def greedy_weights(
    oof: Array,
    y: Array,
    metric: Metric,
    weight: Array | None = None,
    *,
    n_picks: int = _MOST_PICKS,
    folds: Array | None = None,
    lent: Lent | None = None,
) -> Array:
    """Weigh models by greedy forward selection with replacement [1]_.

    The selection starts from the best complete model, is cut to its best prefix, and prefers members already chosen on
    ties, so it stays small. A model that lacks rows is added where it has them, and counts only there. Above 20,000
    rows (or 100,000 cells) it searches on a sample that is stratified by the target; the answer is checked on all rows,
    and there it is never worse than the best complete model.

    Parameters
    ----------
    oof : ndarray of shape (n_models, n_rows, n_outputs)
        Out-of-fold predictions, float64 or float32: each row was predicted by a model that had not seen it. NaN in
        all outputs: this model has no prediction for the row. Rows without any are left out by the caller.
    y : ndarray of shape (n_rows,)
    weight : ndarray of shape (n_rows,) or None
        Weights of the rows.
    n_picks : int
        Picks at most; weights are multiples of one over the picks made.
    folds : ndarray of shape (n_rows,), ascending, or None
        The fold of each row, where the loss is to be the mean over folds in place of that of all rows.
    lent : Lent or None
        Rows of another table that have a say.

    Returns
    -------
    ndarray of shape (n_models,), summing to 1

    Raises
    ------
    NoModel
        Where no model has finite predictions for all rows.

    References
    ----------
    .. [1] Caruana et al., Ensemble selection from libraries of models, ICML 2004.

    Examples
    --------
    >>> from automl_cli.metrics import METRICS
    >>> oof = np.array([[[1.0], [4.0]], [[3.0], [2.0]]])
    >>> greedy_weights(oof, np.array([2.0, 3.0]), METRICS["rmse"])
    array([0.5, 0.5])
    """
    truth, oof = with_lent(Truth(y, weight, folds, metric), oof, lent)
    among = _candidates(oof, truth, complete_models(oof))
    rows = _sample_of_both(truth, np.arange(len(truth.y)), oof.shape[2])
    picks, length = _pick(oof[np.ix_(among.models, rows)], truth.take(rows), start=among.start, n_picks=n_picks)
    weights = np.bincount(among.models[picks[:length]], minlength=len(oof)) / length
    if truth.loss(combine(oof, weights)) <= among.least_loss:
        return weights
    weights = np.zeros(len(oof))
    weights[among.ranked[0]] = 1.0
    return weights


@dataclass(frozen=True)
class Gain:
    """What an ensemble gains over the best model alone, in units of the metric's loss.

    Attributes
    ----------
    in_sample : float
        On the rows that its weights were chosen on.
    cross_fitted : float
        Mean over the parts of the rows, with weights, and the best model, chosen on the other parts.
    n_picks : int
        The picks with the largest cross-fitted gain; 1 is the best model alone.
    picks_by_part : tuple of tuples of int
        The models that were chosen without each part, as often as they were picked.
    sampled : bool
        Whether these choices saw a sample of the other parts only.
    best_by_part : tuple of tuples of int
        The best complete models without each part, ten at most.
    equal_share : float
        Of the weight that these have in equal parts, see `automl_cli.weighing.steadied`.
    """

    in_sample: float
    cross_fitted: float
    n_picks: int
    picks_by_part: tuple[tuple[int, ...], ...] = ()
    sampled: bool = False
    best_by_part: tuple[tuple[int, ...], ...] = ()
    equal_share: float = 0.0

    def weights_by_part(self, n_models: int) -> list[Array]:
        """Return the weights that were chosen without each part, each of shape (n_models,)."""
        chosen, equal = (
            [shares_of_picks(models, n_models) for models in parts] for parts in (self.picks_by_part, self.best_by_part)
        )
        return [mixed_shares(own, same, self.equal_share) for own, same in zip(chosen, equal, strict=True)]


def shares_of_picks(models: Sequence[int], n_models: int) -> Array:
    """Return the weight of each model, in proportion to how often it is named."""
    return np.asarray(np.bincount(models, minlength=n_models) / len(models))


def mixed_shares(chosen: Array, equal: Array, equal_share: float) -> Array:
    """Return ``chosen`` to the last bit where the other weights have no share, else the mean of both by it."""
    return np.asarray((1 - equal_share) * chosen + equal_share * equal) if equal_share else chosen


def measure_gain(
    oof: Array,
    y: Array,
    metric: Metric,
    weight: Array | None = None,
    *,
    parts: Array,
    folds: Array | None = None,
    lent: Lent | None = None,
) -> Gain | None:
    """Measure how much of the ensemble's gain is the choice's own: it is made without a part and judged on that part.

    Parameters are those of `greedy_weights`; ``parts`` is the part of each row, from 0 on without a gap. Lent rows help
    to choose and never judge. It takes no longer than `greedy_weights` on many rows, of which it sees a sample.

    Returns
    -------
    Gain or None
        None where there are fewer than two parts or models.
    """
    n_parts = int(parts.max()) + 1
    if n_parts < 2 or len(oof) < 2:
        return None
    n_own = len(y)
    truth, oof = with_lent(Truth(y, weight, folds, metric), oof, lent)
    parts = parts if lent is None else np.concatenate([parts, lent.folds % n_parts])
    complete = complete_models(oof)  # also on the rows of the part: one that lacks only these could not begin
    seen_gains, curves, picked, ranked, sampled = [], [], [], [], False
    for part in range(n_parts):
        others, held_out = np.flatnonzero(parts != part), np.flatnonzero(parts[:n_own] == part)
        seen = _sample_of_both(truth, others, oof.shape[2], share=1.0 / n_parts)
        sampled = sampled or (seen < n_own).sum() < (others < n_own).sum()
        held_out = held_out[_sample(y[held_out], oof.shape[2], metric, share=1.0 / n_parts)]
        inside, outside = truth.take(seen), truth.take(held_out)
        chosen_on, judged_on = oof[:, seen], oof[:, held_out]
        among = _candidates(chosen_on, inside, complete)
        picks, length = _pick(chosen_on[among.models], inside, start=among.start, n_picks=_MOST_PICKS)
        chosen = among.models[picks[:length]]
        picked.append(tuple(int(model) for model in chosen))
        ranked.append(tuple(int(model) for model in among.ranked[:_EQUALS]))
        seen_gains.append(_prefix_gains(chosen_on, inside, chosen)[-1])
        curve = _prefix_gains(judged_on, outside, chosen)
        curves.append(np.pad(curve, (0, _MOST_PICKS - len(curve)), mode="edge"))
    curve = np.mean(curves, axis=0)
    return Gain(
        in_sample=float(np.mean(seen_gains)),
        cross_fitted=float(curve[-1]),
        n_picks=int(np.argmax(curve)) + 1,
        picks_by_part=tuple(picked),
        sampled=sampled,
        best_by_part=tuple(ranked),
    )


def _prefix_gains(oof: Array, truth: "Truth", picks: Array) -> Array:
    """Return by how much each prefix of the picks is better than the first pick alone, shape (n_picks,)."""
    times: Times = 0.0
    total = np.zeros(oof.shape[1:])
    losses = []
    for member in picks:
        values, counted = _counted(oof[member])
        total += values
        times = times + counted
        losses.append(truth.loss(total / times))
    return losses[0] - np.array(losses)


@dataclass(frozen=True)
class Truth:
    """The targets of some rows, and what predictions of them are worth.

    Attributes
    ----------
    lent : ndarray of shape (n_rows,), bool, or None
        Which rows are another table's: the last ones.
    share : float
        Of the loss that is theirs, where there are any.
    """

    y: Array
    weight: Array | None
    folds: Array | None
    metric: Metric
    lent: Array | None = None
    share: float = 0.0

    def take(self, rows: Array) -> "Truth":
        """Return some of the rows, in this order."""
        return Truth(
            self.y[rows],
            None if self.weight is None else self.weight[rows],
            None if self.folds is None else self.folds[rows],
            self.metric,
            None if self.lent is None else self.lent[rows],
            self.share,
        )

    def loss(self, predictions: Array) -> float:
        """Return the loss of all rows, or the mean over folds: not all folds' scores need be on one scale."""
        parts = self.parts()
        of_weight = [None if self.weight is None else self.weight[part] for part in parts]
        losses = [self.metric.loss(self.y[p], predictions[p], w) for p, w in zip(parts, of_weight, strict=True)]
        return losses[0] if len(losses) == 1 else float(self._mean(np.array(losses)))

    def losses(self, scores: Array) -> Array:
        """Return what `loss` gives for many predictions of two classes, shape (n_models,), where the metric has a way.

        ``scores``, shape (n_models, n_rows), are the probabilities of the positive class.
        """
        if self.metric.of_many is None:
            raise ValueError(f"{self.metric.name} is computed one by one")
        return np.asarray(self._mean(np.array([self.metric.of_many(self.y[p], scores[:, p]) for p in self.parts()])))

    def _mean(self, losses: Array) -> Array:
        """Return the mean of what `parts` lose; of those of both tables by the share of each."""
        if self.lent is None or self.lent.all() or not self.lent.any():
            return np.asarray(losses.mean(axis=0))
        lent = np.array([bool(self.lent[part.start]) for part in self.parts()])
        return np.asarray((1 - self.share) * losses[~lent].mean(axis=0) + self.share * losses[lent].mean(axis=0))

    def parts(self) -> list[slice]:
        """Return the folds' rows, or all in one, and those of two tables apart."""
        if self.folds is None and self.lent is None:
            return [slice(0, len(self.y))]
        changes = np.diff(self.folds, prepend=-1) != 0 if self.folds is not None else np.arange(len(self.y)) == 0
        if self.lent is not None:
            changes = changes | np.diff(self.lent, prepend=self.lent[0])
        return [slice(start, end) for start, end in pairwise([*np.flatnonzero(changes), len(self.y)])]


def with_lent(truth: Truth, oof: Array, lent: Lent | None) -> tuple[Truth, Array]:
    """Return what is judged, and predictions of it, with another table's rows behind one's own."""
    if lent is None:
        return truth, oof
    n, m = len(truth.y), len(lent.y)
    weight = None
    if truth.weight is not None or lent.weight is not None:
        weight = np.concatenate([np.ones(k) if w is None else w for k, w in ((n, truth.weight), (m, lent.weight))])
    folds = None if truth.folds is None else np.concatenate([truth.folds, lent.folds])
    both = Truth(
        np.concatenate([truth.y, lent.y]), weight, folds, truth.metric, np.repeat([False, True], [n, m]), lent.share
    )
    return both, np.concatenate([oof, lent.oof], axis=1)


def complete_models(oof: Array) -> Array:
    """Return which models have a prediction for every row, shape (n_models,), bool."""
    return np.array([not _absent(member).any() for member in oof])


def _absent(member: Array) -> Array:
    """Return the rows that a model has no prediction for: NaN in all outputs, not in some, which is a mistake."""
    absent: Array = np.isnan(member[:, 0])
    if absent.any():
        absent = np.asarray(np.isnan(member).all(axis=1))
    return absent


def _counted(member: Array) -> tuple[Array, Times]:
    """Return predictions, 0 where there is none, and how often they count: 1.0, or a column of 0 and 1."""
    absent = _absent(member)[:, None]
    return (np.where(absent, 0, member), 1.0 - absent) if absent.any() else (member, 1.0)


class _Candidates(NamedTuple):
    """Models to choose from.

    Attributes
    ----------
    models : ndarray of int
        In ascending order, so that sums run in member order: the best complete ones, and as far as there is room those
        with predictions for a part of the rows.
    start : int
        Which of them is the best complete one.
    ranked : ndarray of int
        The complete models whose loss is finite, the best one first.
    least_loss : float
        What that one loses.
    """

    models: Array
    start: int
    ranked: Array
    least_loss: float


def _candidates(oof: Array, truth: "Truth", complete: Array) -> _Candidates:
    """Return the models to choose from."""
    singles = np.full(len(oof), np.inf)
    for model in np.flatnonzero(complete):
        singles[model] = truth.loss(oof[model].astype(np.float64))
    finite = np.isfinite(singles)
    if not finite.any():
        raise NoModel("no trial gave finite predictions", hint="see the reasons with `automl inspect`")
    ranked = np.argsort(np.where(finite, singles, np.inf), kind="stable")[: int(finite.sum())]
    partial = [model for model in np.flatnonzero(~complete) if not _absent(oof[model]).all()]
    models = np.sort([*ranked, *partial][:_MAX_CANDIDATES])
    return _Candidates(models, int(np.flatnonzero(models == ranked[0])[0]), ranked, float(singles[ranked[0]]))


def _sample(y: Array, n_outputs: int, metric: Metric, share: float = 1.0) -> Array:
    """Return rows for the search, ascending: all, or as many as its time allows, spread over the sorted target."""
    n_kept = max(1, int(share * min(_MAX_ROWS, max(1, _MAX_CELLS // n_outputs))))
    if metric.name == "roc_auc" and n_outputs > 2:
        n_kept = max(1, n_kept // 4)  # one sort per class and candidate
    if len(y) <= n_kept:
        return np.arange(len(y))
    order = np.lexsort((np.random.default_rng(0).random(len(y)), y))
    return np.sort(order[np.arange(n_kept) * len(y) // n_kept])


def _sample_of_both(truth: Truth, rows: Array, n_outputs: int, share: float = 1.0) -> Array:
    """Return those of some rows that a search looks at, ascending: lent rows leave no less of one's own."""
    of_each = [rows] if truth.lent is None else [rows[~truth.lent[rows]], rows[truth.lent[rows]]]
    return np.concatenate([own[_sample(truth.y[own], n_outputs, truth.metric, share)] for own in of_each])


def _pick(oof: Array, truth: Truth, *, start: int, n_picks: int) -> tuple[list[int], int]:
    """Pick one by one from ``start`` on; return the picks and the length of their best prefix, the shortest one."""
    members, counted = zip(*map(_counted, oof), strict=True)
    picks = [start]
    total, times = oof[start].astype(np.float64), counted[start]
    best_loss = truth.loss(total)
    tie, best_length = _TIE * abs(best_loss), 1
    while len(picks) < n_picks and len(picks) - best_length < _PATIENCE and best_loss > 0:
        losses = _losses_with_one_more(truth, total, times, members, counted)
        close = np.flatnonzero(losses <= np.nanmin(losses) + tie)
        known = close[np.isin(close, picks)]
        among = known if len(known) else close
        chosen = int(among[np.argmin(losses[among])])
        picks = [*picks, chosen]
        total += members[chosen]
        times = times + counted[chosen]
        if losses[chosen] < best_loss:
            best_loss, best_length = float(losses[chosen]), len(picks)
    return picks, best_length


def _losses_with_one_more(
    truth: Truth, total: Array, times: Times, members: Sequence[Array], counted: Sequence[Times]
) -> Array:
    """Return the loss of the mean with each of the members added, shape (n_members,)."""
    if truth.metric.of_many is not None and truth.weight is None and total.shape[1] == 2:
        scores = [
            (total[:, 1] + member[:, 1]) / np.ravel(times + n) for member, n in zip(members, counted, strict=True)
        ]
        return truth.losses(np.stack(scores))
    losses, scratch = np.empty(len(members)), np.empty_like(total)
    for i, member in enumerate(members):
        np.add(total, member, out=scratch)
        np.divide(scratch, times + counted[i], out=scratch)
        losses[i] = truth.loss(scratch)
    return losses


def combine(predictions: Array, weights: Array) -> Array:
    """Mix predictions of shape (n_models, n_rows, n_outputs) by ``weights`` (n_models,), summed in member order.

    Members without weight are not looked at. On rows that some members have no prediction for (NaN in all outputs) the
    weights are taken over the others.

    >>> combine(np.array([[[1.0]], [[3.0]]]), np.array([0.25, 0.75]))
    array([[2.5]])
    >>> combine(np.array([[[1.0], [1.0]], [[3.0], [np.nan]]]), np.array([0.25, 0.75]))
    array([[2.5],
           [1. ]])
    """
    shares: Times = 0.0
    total = np.zeros(predictions.shape[1:], dtype=np.float64)
    for member in np.flatnonzero(weights):
        values, counted = _counted(predictions[member])
        total += weights[member] * values
        shares = shares + weights[member] * counted
    return total if np.ndim(shares) == 0 else total / shares
