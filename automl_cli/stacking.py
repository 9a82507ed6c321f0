"""One level of stacking: weights of either sign, shrunk towards those of the greedy selection.

A mean of members cannot be surer than its members, nor make up for what several of them get wrong alike. A regression
on their out-of-fold predictions can (Wolpert 1992, Breiman 1996), and it can fit chance. So it has one weight per
member, is pulled towards the greedy weights, and is judged fold by fold on rows that it was not learned from.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from automl_cli.calibration import gains_surely, spread_rows
from automl_cli.ensemble import combine
from automl_cli.metrics import Array, Metric

__all__ = ["MEAN", "Greedy", "Mixing", "Rows", "Stacked", "stack"]

STRENGTHS = (1.0, 0.1, 0.01)  # of the pull; the strongest first, so that each fit begins near its end
FLOOR = 1e-6  # what a probability counts as at least: its logarithm must not decide alone
LEAST_WEIGHT = 0.02  # a member with less is not worth its place in the file
FEWEST_PARTS = 3  # two say too little of how sure a gain is
_MOST_CLASSES = 60  # with more, a fit takes longer than it is worth
_MOST_ITERATIONS = 40


@dataclass(frozen=True)
class Mixing:
    """How the weighted answers of members become one.

    Attributes
    ----------
    logarithms : bool
        Weights act on the logarithms of probabilities (a log-linear pool [1]_), and on those of each fold model.
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
        return _softmax(total) if self.logarithms else total

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
        Predictions, each row mixed by what was learned without its part.
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
        None where the mean gain over the parts is not larger than its standard error, there are fewer than three parts,
        or the metric looks at labels.

    References
    ----------
    .. [1] Wolpert, Stacked generalization, Neural Networks 5, 1992.
    .. [2] Breiman, Stacked regressions, Machine Learning 24, 1996.
    """
    n_outputs = oof.shape[2]
    if metric.needs == "labels" or n_outputs > _MOST_CLASSES or len(greedy.by_part) < FEWEST_PARTS:
        return None
    support = _support([greedy.weights, *greedy.by_part], spare)
    form = Mixing(logarithms=n_outputs > 1)
    terms = form.terms(_filled(oof, support, greedy.weights))
    best: tuple[float, float, Array, tuple[float, ...]] | None = None
    tried = _cross_fitted(terms, rows, greedy, support, spare, form)
    for strength, judged in tried.items():
        losses = tuple(
            rows.loss(held_out, judged[held_out], metric)
            for held_out in (rows.part(part)[1] for part in range(len(greedy.by_part)))
        )
        if best is None or float(np.mean(losses)) < best[0]:
            best = float(np.mean(losses)), strength, judged, losses
    if best is None or not gains_surely(greedy.losses, best[3]):
        return None
    own = np.isin(support, _support([greedy.weights], spare))
    start = np.where(own, greedy.weights[support], 0.0)
    fitted, _ = _fit(terms[own], rows, np.arange(len(rows.y)), start[own], best[1])
    own[own] = np.abs(fitted) >= LEAST_WEIGHT
    fitted, offsets = _fit(terms[own], rows, np.arange(len(rows.y)), start[own], best[1])
    weights = np.zeros(len(oof))
    weights[support[own]] = fitted
    return Stacked(weights, Mixing(form.logarithms, tuple(float(value) for value in offsets)), best[2])


def _support(weights: Sequence[Array], spare: Sequence[int]) -> Array:
    """Return the models that have a weight somewhere or are spare, ascending."""
    return np.unique(np.concatenate([*(np.flatnonzero(w) for w in weights), np.asarray(spare, dtype=np.int64)]))


def _filled(oof: Array, support: Array, weights: Array) -> Array:
    """Return the predictions of some models; where one has none, the mix stands in: that says nothing of the model."""
    own = oof[support].astype(np.float64)
    absent = np.isnan(own)
    return np.where(absent, combine(oof, weights), own) if absent.any() else own


def _cross_fitted(
    terms: Array, rows: Rows, greedy: Greedy, support: Array, spare: Sequence[int], form: Mixing
) -> dict[float, Array]:
    """Return predictions at each strength of the pull, each part's learned on the others."""
    judged = {strength: np.empty(terms.shape[1:]) for strength in STRENGTHS}
    for part, weights in enumerate(greedy.by_part):
        seen, held_out = rows.part(part)
        own = np.isin(support, _support([weights], spare))
        start = weights[support[own]]
        begin = None
        for strength in STRENGTHS:
            begin = _fit(terms[own], rows, seen, start, strength, begin)
            mixed = np.tensordot(begin[0], terms[own][:, held_out], 1)
            judged[strength][held_out] = Mixing(form.logarithms, tuple(begin[1])).joined(mixed)
    return judged


Fitted = tuple[Array, Array]


def _fit(terms: Array, rows: Rows, seen: Array, start: Array, strength: float, begin: Fitted | None = None) -> Fitted:
    """Return weights of shape (n_models,) and offsets of shape (n_outputs,) learned on the rows ``seen``."""
    if terms.shape[2] > 1:
        seen = seen[spread_rows(rows.y[seen], _rows_of_a_fit(terms.shape[2]))]
    y = rows.y[seen]
    weight = None if rows.weight is None else rows.weight[seen]
    share = np.full(len(y), 1 / len(y)) if weight is None or not weight.sum() > 0 else weight / weight.sum()
    if terms.shape[2] == 1:
        return _ridge(terms[:, seen, 0], y, share, start, strength)
    return _logistic(terms[:, seen], y, share, (start, np.zeros(terms.shape[2])), strength, begin)


def _rows_of_a_fit(n_classes: int) -> int:
    """Return how many rows a logistic fit sees at most: some hundred for each weight, within a second for all fits."""
    return min(max(4_000, 20_000 // n_classes), 60_000 // n_classes)


def _ridge(X: Array, y: Array, share: Array, start: Array, strength: float) -> Fitted:
    """Minimise mean squared error in units of the target's variance plus ``strength`` times the squared change."""
    centre = float(share @ y)
    spread = float(np.sqrt(share @ (y - centre) ** 2)) or 1.0
    A = (X - centre) / spread
    rest = (y - centre) / spread - start @ A
    weights = start + np.linalg.solve((A * share) @ A.T + strength * np.eye(len(A)), A @ (share * rest))
    return weights, np.array([centre * (1.0 - weights.sum())])


def _logistic(L: Array, y: Array, share: Array, start: Fitted, strength: float, begin: Fitted | None) -> Fitted:
    """Minimise log loss plus ``strength`` times the squared change of the weights, and a trace of the offsets'."""
    from scipy.optimize import minimize  # noqa: PLC0415

    n_models, every = len(L), np.arange(len(y))
    L = L - L.mean(axis=2, keepdims=True)  # the same probabilities, and better conditioned

    def objective(flat: Array) -> tuple[float, Array]:
        weights, offsets = flat[:n_models], flat[n_models:]
        p = _softmax(np.tensordot(weights, L, 1) + offsets)
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


def _softmax(scores: Array) -> Array:
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))
