"""A source model's outputs as a column, as an offset, and recalibrated on the target: its rows are not needed."""

from dataclasses import dataclass

import numpy as np

from automl_cli.features.matrix import Array
from automl_cli.metrics import TaskKind
from automl_cli.transfer.learner import Fit
from automl_cli.transfer.probabilities import from_raw

FOLDS = 5
ROUNDS = 50


def cross_fitted(fit: Fit, rows: Array, weights: Array | None = None, *, folds: int = FOLDS, seed: int = 0) -> Array:
    """Predict rows each by a model that has not seen it, so that a column of predictions is as good as on new rows.

    Needed for source rows in a table that holds both domains.

    Parameters
    ----------
    rows : ndarray of int64
        Positions of the source rows in the table.
    weights : ndarray of shape (len(rows),) or None

    Returns
    -------
    ndarray of shape (len(rows), n_outputs)
    """
    return cross_fitted_with(fit, rows, rows[:0], weights, folds=folds, seed=seed)[0]


def cross_fitted_with(
    fit: Fit,
    rows: Array,
    others: Array,
    weights: Array | None = None,
    *,
    groups: Array | None = None,
    folds: int = FOLDS,
    seed: int = 0,
) -> tuple[Array, Array]:
    """Predict rows as `cross_fitted` does, and each of the others by one of the same models.

    Where two tables' predictions are compared they must come from the same models: their mean, or a model of all rows,
    is surer of itself, which looks like a shift.

    Parameters
    ----------
    others : ndarray of int64
        Positions of rows that none of the models sees: the target's.
    groups : ndarray of shape (len(rows),) or None
        Rows of one group are predicted by the same model.

    Returns
    -------
    ndarray of shape (len(rows), n_outputs), ndarray of shape (len(others), n_outputs)
    """
    weights = np.ones(len(rows)) if weights is None else weights
    folds = min(folds, len(rows))
    if folds < 2:
        raise ValueError("one row cannot be predicted from the others")
    rng = np.random.default_rng(seed)
    part, dealt = (rng.permutation(np.arange(len(of)) % folds) for of in (rows, others))
    if groups is not None:
        places = np.unique(groups, return_inverse=True)[1]
        part = rng.permutation(np.arange(int(places.max()) + 1) % folds)[places]
    found: list[Array] = []
    for k in range(folds):
        seen = part != k
        if not seen.any():
            raise ValueError("all rows are of one group")
        outputs = fit(rows[seen], weights[seen])(np.concatenate([rows[~seen], others[dealt == k]]))
        if not found:
            found = [np.empty((len(of), outputs.shape[1])) for of in (rows, others)]
        n_own = len(rows) - int(seen.sum())
        found[0][~seen], found[1][dealt == k] = outputs[:n_own], outputs[n_own:]
    return found[0], found[1]


@dataclass(frozen=True, eq=False)
class Recalibration:
    """A source model's raw outputs, scaled and moved to fit the target.

    Attributes
    ----------
    slope : float
    base : ndarray of shape (n_raw,)
    kind : TaskKind
    """

    slope: float
    base: Array
    kind: TaskKind

    def offsets(self, raw: Array) -> Array:
        """Return where a model of the target begins: a booster's ``init_score``, or what a regression starts from."""
        return np.asarray(self.slope * raw + self.base)

    def predict(self, raw: Array) -> Array:
        """Return probabilities or values, shape (n_rows, n_outputs): a candidate of few parameters by itself."""
        return from_raw(self.offsets(raw), self.kind)

    def residuals(self, y: Array, raw: Array) -> Array:
        """Return y - offset, shape (n_rows,): what any family can learn of a regression in place of y."""
        return np.asarray(y - self.offsets(raw)[:, 0])

    def restored(self, predictions: Array, raw: Array) -> Array:
        """Return predictions of residuals with their offsets, shape (n_rows, 1)."""
        return predictions + self.offsets(raw)


def fit_recalibration(
    raw: Array, y: Array, kind: TaskKind, weight: Array | None = None, *, pull: float = 1.0
) -> Recalibration:
    """Fit slope and base on target rows, pulled towards "as it is" as if by ``pull`` rows.

    Least squares for values, log loss for classes (Cox 1958). With few labels it stays near the source model, with many
    it is unbiased.

    Parameters
    ----------
    raw : ndarray of shape (n_rows, n_raw)
        Of rows that the source model has not seen.
    weight : ndarray of shape (n_rows,) or None
        One row of weight one pulls as much as ``pull = 1``.
    """
    n, n_raw = raw.shape
    w = np.ones(n) if weight is None or not weight.sum() > 0 else weight
    if kind is TaskKind.REGRESSION:
        centre = float(np.average(raw[:, 0], weights=w))
        spread = max(float(np.sqrt(np.average((raw[:, 0] - centre) ** 2, weights=w))), 1e-300)
        z = (raw[:, 0] - centre) / spread  # the pull is then on one scale, whatever the unit
        gap = y - raw[:, 0]
        slope = float((w * z) @ gap) / (float((w * z) @ z) + pull) / spread
        base = float(w @ gap) / (float(w.sum()) + pull) - slope * centre
        return Recalibration(1.0 + slope, np.array([base]), kind)
    at = np.concatenate([[1.0], np.zeros(n_raw)])
    start = at
    for _ in range(ROUNDS):
        slope_at, curve = _derivatives(raw, y, at, kind, w)
        step = np.linalg.solve(curve + pull * np.eye(len(at)), slope_at + pull * (at - start))
        step /= max(1.0, float(np.abs(step).max()))  # Newton's steps overshoot far from the end
        at = at - step
        if np.abs(step).max() < 1e-9:
            break
    return Recalibration(float(at[0]), at[1:], kind)


def _derivatives(raw: Array, y: Array, at: Array, kind: TaskKind, weight: Array) -> tuple[Array, Array]:
    """Return slope and curvature of the summed log loss in (slope, base)."""
    binary = kind is TaskKind.BINARY
    p = from_raw(at[0] * raw + at[1:], kind)
    p, truth = (p[:, 1:], (y == 1)[:, None]) if binary else (p, np.eye(raw.shape[1])[y])
    each = weight[:, None]
    off = each * (p - truth)
    curve = np.zeros((len(at), len(at)))
    mean = 0.0 if binary else (p * raw).sum(axis=1, keepdims=True)
    spread = each * (p * (1 - p) if binary else p)
    curve[0, 0] = (spread * (raw - mean) ** 2).sum()
    curve[0, 1:] = curve[1:, 0] = (spread * (raw - mean)).sum(axis=0)
    curve[1:, 1:] = spread.sum() if binary else np.diag(spread.sum(axis=0)) - spread.T @ p
    return np.concatenate([[(off * raw).sum()], off.sum(axis=0)]), curve
