"""One level of stacking: weights of either sign, shrunk towards those of the greedy selection.

A mean of members cannot be surer than its members, nor make up for what several of them get wrong alike. A regression
on their out-of-fold predictions can (Wolpert 1992, Breiman 1996), and it can fit chance. So it has one weight per
member, is pulled towards the greedy weights, and is judged fold by fold on rows that it was not learned from.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from automl_cli.calibration import gains_surely, shares_of, softmax, spread_rows
from automl_cli.ensemble import combine
from automl_cli.metrics import Array, Metric

__all__ = ["MEAN", "Greedy", "Mixing", "Rows", "Stacked", "stack"]

STRENGTHS = (1.0, 0.1, 0.01)  # of the pull; the strongest first, so that each fit begins near its end
FLOOR = 1e-6  # what a probability counts as at least: its logarithm must not decide alone
LEAST_WEIGHT = 0.02  # a member with less is not worth its place in the file
LEAST_OF_CLASS = 20  # rows of the rarer class of two, or of each class in the mean: with fewer it fits chance
LEAST_ROWS = 200  # of classes, for the same reason
PARTS_TO_JUDGE = 3  # two say too little of how sure a gain is
_MOST_VALUES = 20_000  # rows of a ridge regression
_FURTHEST = 1e3  # spreads of the target: a spare that predicts beyond has blown up somewhere
_MOST_CELLS = 40_000_000  # members times rows times classes, held as float64
_MOST_CLASSES = 60  # with more, a fit takes longer than it is worth
_MOST_ITERATIONS = 40


@dataclass(frozen=True)
class Mixing:
    """How the weighted answers of members become one.

    Attributes
    ----------
    logarithms : bool
        Weights act on the logarithms of the members' probabilities, a log-linear pool [1]_.
    offsets : tuple of float
        Added to the sum, one for each output; none where empty.

    References
    ----------
    .. [1] Genest, Zidek, Combining probability distributions, Statistical Science 1, 1986.

    Examples
    --------
    >>> pool = Mixing(logarithms=True)
    >>> pool.joined(2.0 * pool.terms(np.array([[0.75, 0.25]])))
    array([[0.9, 0.1]])
    """

    logarithms: bool = False
    offsets: tuple[float, ...] = ()

    def terms(self, outputs: Array) -> Array:
        """Return what the weights act on, of the shape of ``outputs``."""
        return np.asarray(np.log(np.maximum(outputs, FLOOR))) if self.logarithms else outputs

    def joined(self, total: Array) -> Array:
        """Turn the weighted sum of `terms` into probabilities or values, shape (n_rows, n_outputs)."""
        if self.offsets:
            total = total + np.asarray(self.offsets)
        return softmax(total) if self.logarithms else total

    def to_json(self) -> dict[str, Any]:
        """Return JSON values."""
        return {"logarithms": self.logarithms, "offsets": list(self.offsets)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Mixing":
        """Return what `to_json` was given."""
        return cls(bool(data["logarithms"]), tuple(float(value) for value in data["offsets"]))


MEAN = Mixing()
"""The weighted mean, as greedy weights want it."""


@dataclass(frozen=True)
class Rows:
    """Targets of the rows with out-of-fold predictions.

    Attributes
    ----------
    y : ndarray of shape (n_rows,)
        Values, or class indices.
    weight : ndarray of shape (n_rows,) or None
    parts : ndarray of shape (n_rows,)
        Each is judged by what is learned on the others; from 0 on without a gap.
    """

    y: Array
    weight: Array | None
    parts: Array

    def part(self, part: int) -> tuple[Array, Array]:
        """Return the other rows, and those of the part."""
        inside = self.parts == part
        return np.flatnonzero(~inside), np.flatnonzero(inside)

    def loss(self, rows: Array, predictions: Array, metric: Metric) -> float:
        """Score predictions of some rows."""
        return float(metric.loss(self.y[rows], predictions, None if self.weight is None else self.weight[rows]))

    def part_losses(self, predictions: Array, metric: Metric) -> tuple[float, ...]:
        """Score predictions of all rows part by part."""
        parts = (self.part(part)[1] for part in range(int(self.parts.max()) + 1))
        return tuple(self.loss(rows, predictions[rows], metric) for rows in parts)


@dataclass(frozen=True)
class Greedy:
    """What stacking starts from and has to beat.

    Attributes
    ----------
    weights : ndarray of shape (n_models,)
    by_part : sequence of such
        Chosen without each part of the rows.
    losses : tuple of float
        Of each part, mixed and decided by what was learned on the others.
    """

    weights: Array
    by_part: Sequence[Array]
    losses: tuple[float, ...]


@dataclass(frozen=True)
class Stacked:
    """Weights that gain.

    Attributes
    ----------
    weights : ndarray of shape (n_models,)
        Of either sign; they need not sum to one.
    judged : ndarray of shape (n_rows, n_outputs)
        Predictions, each row mixed by what was learned without its part. Which strength of the pull is best was
        chosen on these rows, and so was which models are spare.
    """

    weights: Array
    mixing: Mixing
    judged: Array


def stack(oof: Array, rows: Rows, metric: Metric, greedy: Greedy, *, spare: Sequence[int] = ()) -> Stacked | None:
    """Learn weights of members by a ridge or logistic regression that is pulled towards the greedy ones.

    Parameters
    ----------
    oof : ndarray of shape (n_models, n_rows, n_outputs)
        Out-of-fold predictions; NaN where a model has none.
    spare : sequence of int
        Models that may have a weight though the greedy selection passes them over.

    Returns
    -------
    Stacked or None
        None where the mean gain over the parts is not larger than its standard error, there are fewer than three parts
        or 20 rows of a class or 200 of classes, the metric looks at labels, or the predictions take too much memory.

    References
    ----------
    .. [1] Wolpert, Stacked generalization, Neural Networks 5, 1992.
    .. [2] Breiman, Stacked regressions, Machine Learning 24, 1996.
    """
    n_outputs = oof.shape[2]
    if metric.needs == "labels" or n_outputs > _MOST_CLASSES or len(greedy.by_part) < PARTS_TO_JUDGE:
        return None
    of_class = np.inf if n_outputs == 1 else len(rows.y) / n_outputs
    if n_outputs == 2:
        of_class = np.bincount(rows.y, minlength=2).min()
    if of_class < LEAST_OF_CLASS or (n_outputs > 1 and len(rows.y) < LEAST_ROWS):
        return None
    spare = _sane(oof, rows.y, spare) if n_outputs == 1 else spare
    support = _support([greedy.weights, *greedy.by_part], spare)
    if len(support) * oof.shape[1] * n_outputs > _MOST_CELLS:
        return None
    problem = _Problem(_terms(oof, support, greedy.weights), support, rows, spare)
    judged = problem.cross_fitted(greedy.by_part, STRENGTHS)
    losses = {strength: float(np.mean(rows.part_losses(p, metric))) for strength, p in judged.items()}
    strength = min(losses, key=losses.__getitem__)
    trimmed = problem.cross_fitted(greedy.by_part, (strength,), trim=True)[strength]
    if not gains_surely(greedy.losses, rows.part_losses(trimmed, metric)):
        return None
    weights, offsets = problem.fitted(greedy.weights, np.arange(len(rows.y)), strength, trim=True)
    if not weights.any():  # nothing but the offsets is left
        return None
    return Stacked(weights, Mixing(n_outputs > 1, tuple(float(value) for value in offsets)), trimmed)


def _support(weights: Sequence[Array], spare: Sequence[int]) -> Array:
    """Return the models that have a weight somewhere or are spare, ascending."""
    return np.unique(np.concatenate([*(np.flatnonzero(w) for w in weights), np.asarray(spare, dtype=np.int64)]))


def _sane(oof: Array, y: Array, spare: Sequence[int]) -> tuple[int, ...]:
    """Return the models whose values lie near those of the target."""
    centre, spread = float(y.mean()), float(y.max() - y.min())
    return tuple(k for k in spare if np.nanmax(np.abs(oof[k] - centre), initial=0.0) <= _FURTHEST * spread)


def _terms(oof: Array, support: Array, weights: Array) -> Array:
    """Return what the weights of some models act on, float64.

    Where a model has no prediction the greedy mix stands in: that says nothing of the model.
    """
    mixing, terms = Mixing(logarithms=oof.shape[2] > 1), np.empty((len(support), *oof.shape[1:]))
    together: Array | None = None
    for own, model in zip(terms, support, strict=True):
        absent = np.isnan(oof[model])
        own[:] = oof[model]
        if absent.any():
            together = combine(oof, weights) if together is None else together
            own[absent] = together[absent]
        own[:] = mixing.terms(own)
    return terms


Fitted = tuple[Array, Array]


@dataclass(frozen=True)
class _Problem:
    """What a regression learns from: terms of the models of ``support``, shape (n_support, n_rows, n_outputs)."""

    terms: Array
    support: Array
    rows: Rows
    spare: Sequence[int]

    def cross_fitted(
        self, by_part: Sequence[Array], strengths: Sequence[float], *, trim: bool = False
    ) -> dict[float, Array]:
        """Return predictions at each strength of the pull, each part's learned on the others."""
        judged = {strength: np.empty(self.terms.shape[1:]) for strength in strengths}
        for part, weights in enumerate(by_part):
            seen, held_out = self.rows.part(part)
            judged_on = self.terms[:, held_out]
            begin = None
            for strength in strengths:
                begin = self.fitted(weights, seen, strength, begin=begin, trim=trim)
                mixing = Mixing(self.terms.shape[2] > 1, tuple(begin[1]))
                judged[strength][held_out] = mixing.joined(np.tensordot(begin[0][self.support], judged_on, 1))
        return judged

    def fitted(
        self, greedy: Array, seen: Array, strength: float, *, begin: Fitted | None = None, trim: bool = False
    ) -> Fitted:
        """Return weights of shape (n_models,) and offsets of shape (n_outputs,) learned on the rows ``seen``.

        With ``trim`` what hardly counts is left out, and the others are fitted again.
        """
        rows = seen[spread_rows(self.rows.y[seen], _most_rows(self.terms.shape[2]))]
        own = np.flatnonzero(np.isin(self.support, _support([greedy], self.spare)))
        start = greedy[self.support[own]]
        before = None if begin is None else (begin[0][self.support[own]], begin[1])
        weights, offsets = self._fit(own, rows, start, strength, before)
        if trim and (kept := np.abs(weights) >= LEAST_WEIGHT).any() and not kept.all():
            own, left = own[kept], float(start[kept].sum())
            # the pull is towards weights of the same sum: with another one probabilities would be less sure
            start = start[kept] * (float(start.sum()) / left) if left > 0 else start[kept]
            weights, offsets = self._fit(own, rows, start, strength, (weights[kept], offsets))
        whole = np.zeros(len(greedy))
        whole[self.support[own]] = weights
        return whole, offsets

    def _fit(self, own: Array, seen: Array, start: Array, strength: float, begin: Fitted | None) -> Fitted:
        terms, y = self.terms[np.ix_(own, seen)], self.rows.y[seen]
        share = shares_of(None if self.rows.weight is None else self.rows.weight[seen], len(y))
        if terms.shape[2] == 1:
            return _ridge(terms[:, :, 0], y, share, start, strength)
        return _logistic(terms, y, share, (start, np.zeros(terms.shape[2])), strength, begin)


def _most_rows(n_outputs: int) -> int:
    """Return how many rows a fit sees at most: all fits together take about a second."""
    return _MOST_VALUES if n_outputs == 1 else min(max(4_000, 20_000 // n_outputs), 60_000 // n_outputs)


def _ridge(X: Array, y: Array, share: Array, start: Array, strength: float) -> Fitted:
    """Minimise mean squared error in units of the target's variance plus ``strength`` times the squared change."""
    largest = float(np.abs(y).max(initial=0.0)) or 1.0
    centre = float(share @ (y / largest)) * largest  # in a scale whose squares are finite
    spread = float(np.sqrt(share @ ((y - centre) / largest) ** 2)) * largest
    if spread <= 1e-12 * largest:
        return start, np.zeros(1)
    A = (X - centre) / spread
    rest = (y - centre) / spread - start @ A
    try:
        weights = start + np.linalg.solve((A * share) @ A.T + strength * np.eye(len(A)), A @ (share * rest))
    except np.linalg.LinAlgError:  # members that are the same to the last bit
        return start, np.zeros(1)
    return weights, np.array([centre * (1.0 - weights.sum())])


def _logistic(L: Array, y: Array, share: Array, start: Fitted, strength: float, begin: Fitted | None) -> Fitted:
    """Minimise log loss plus ``strength`` times the squared change of the weights, and a trace of the offsets'."""
    from scipy.optimize import minimize  # noqa: PLC0415

    n_models, every = len(L), np.arange(len(y))
    # centred: the same probabilities, and better conditioned
    L = L - np.einsum("ijk->ij", L)[:, :, None] / L.shape[2]

    def objective(flat: Array) -> tuple[float, Array]:
        weights, offsets = flat[:n_models], flat[n_models:]
        p = softmax(np.tensordot(weights, L, 1) + offsets)
        change = weights - start[0]
        value = -float(share @ np.log(np.maximum(p[every, y], np.finfo(float).tiny)))
        value += strength * float(change @ change) + 1e-3 * float(offsets @ offsets)
        p[every, y] -= 1.0
        p *= share[:, None]
        slope = np.tensordot(L, p, 2) + 2 * strength * change
        return value, np.concatenate([slope, p.sum(axis=0) + 2e-3 * offsets])

    found = minimize(
        objective, np.concatenate(begin or start), jac=True, method="L-BFGS-B", options={"maxiter": _MOST_ITERATIONS}
    )
    return found.x[:n_models], found.x[n_models:]
