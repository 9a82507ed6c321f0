"""Kernel machines that learn their distance: recursive feature machines (Radhakrishnan et al., Science 2024).

A kernel ridge regression is solved, the mean outer product of its gradients says along which directions it changes, and
these become the metric of the next one (xRFM, Beaglehole et al. 2025, for tables). The strength of the ridge, how often
the metric is learned and the scale of the probabilities are chosen by leave-one-out predictions in closed form, so that
validation rows play no part.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from automl_cli.calibration import softmax
from automl_cli.clock import Deadline
from automl_cli.families.family import (
    Family,
    FoldData,
    Hyperparameters,
    Limits,
    Shape,
    present_classes,
)
from automl_cli.families.kernel_model import KernelModel, load, save, transformed
from automl_cli.families.kernel_ridge import (
    Kernel,
    Ridge,
    distances_within,
    gradients,
    solve,
    solve_with_centres,
)
from automl_cli.families.network import bounded
from automl_cli.families.rows import RARE, sampled_rows
from automl_cli.families.target_scale import standardised
from automl_cli.features.matrix import Array

_LEARNING, _LOOKING = 1_000, 400
"""Rows that the metric is learned from, and that tell how long this takes."""
_EXACT, _CENTRES = 4_000, 1_000
"""Rows up to which all of them are centres, and centres of more."""
_STEPS = 5
_EXPONENTS = (1.0, 1.5, 2.0)
_WIDEST = 400
"""Features up to which their directions are learned; of more, a scale for each."""
_RIDGES = (-8, -2, 3)
"""The least, first and largest strength of the ridge that is tried, in half powers of ten."""
_PAIRS = 100_000


def space(shape: Shape) -> tuple[list[Any], list[Any]]:
    """Return the form of the kernel and what of the distance is learned."""
    from ConfigSpace import Categorical, Float  # noqa: PLC0415

    return [
        Categorical("exponent", list(_EXPONENTS), default=1.5, ordered=True),
        Float("bandwidth", (0.3, 10.0), log=True, default=2.0),
        Categorical("directions", [True, False], default=True),
        Float("sharpness", (0.1, 1.0), default=0.5),
    ], []


def defaults(shape: Shape) -> tuple[Hyperparameters, ...]:
    """Return a kernel between Laplace's and the Gaussian one, then the Gaussian one, then learned scales."""
    first: Hyperparameters = {"exponent": 1.5, "bandwidth": 2.0, "directions": True, "sharpness": 0.5}
    return (
        first,
        {**first, "exponent": 2.0, "bandwidth": 1.5},
        {**first, "bandwidth": 1.5, "directions": False},
    )


@dataclass(frozen=True)
class _Rows:
    """Training rows: centred targets of shape (n_rows, n_columns), and weights of mean 1."""

    X: Array
    Y: Array
    weight: Array
    labels: Array
    """Positions of classes; empty for a regression."""

    def some(self, rows: Array) -> "_Rows":
        """Return a part of the rows."""
        labels = self.labels[rows] if len(self.labels) else self.labels
        weight = self.weight[rows]
        return _Rows(self.X[rows], self.Y[rows], weight / weight.mean(), labels)

    def loss(self, left_out: Array) -> float:
        """Return the squared error of leave-one-out predictions, or the log loss of what they are worth."""
        if not len(self.labels):
            return float(np.average((self.Y - left_out)[:, 0] ** 2, weights=self.weight))
        return calibrated(left_out, self.labels, self.weight)[2]


@dataclass(frozen=True)
class _Learned:
    """A metric, its kernel and ridge (in half powers of ten), and what they lose without each row."""

    transform: Array
    kernel: Kernel
    power: int
    loss: float


@dataclass(frozen=True)
class _Pace:
    """Seconds of learning a metric, and of each of the systems over the third power of its rows."""

    whole: float
    of_one: float


def fit(data: FoldData, hyperparameters: Hyperparameters, limits: Limits) -> KernelModel:
    """Learn the metric from a sample, then solve for all rows; where seconds are few, for fewer."""
    import scipy.linalg  # noqa: F401, PLC0415 - its library has to be there before its threads can be limited
    from threadpoolctl import threadpool_limits  # noqa: PLC0415

    deadline = Deadline.after(limits.seconds)
    classes, labels = present_classes(data)
    rows, offset = _rows(data, labels, len(classes))
    seed = limits.seed

    def sample(n: int) -> _Rows:
        return rows.some(_drawn(rows, n, seed)) if len(rows.X) > n else rows

    with threadpool_limits(limits.threads):
        n_learning, cut = min(len(rows.X), _LEARNING), False
        first = min(n_learning, _LOOKING) if deadline.limited else n_learning
        learned, pace = _learn(sample(first), hyperparameters, deadline)
        if first < n_learning:
            affordable = _LOOKING * (0.4 * max(deadline.seconds_left(), 0.0) / pace.whole) ** (1 / 3)
            n_learning, cut = int(max(first, min(affordable, n_learning))), affordable < n_learning
        if first < n_learning:
            learned, pace = _learn(sample(n_learning), hyperparameters, deadline)
        n_rows = (
            len(rows.X) if not deadline.limited else max(n_learning, _affordable(deadline, pace.of_one, len(rows.X)))
        )
        some = sample(n_rows)
        ridge, centres, kernel = _solved(some, learned, seed)
    offset, steepness = _scaled(ridge, some, offset)
    low, high = (0.0, 0.0) if len(classes) else (float(data.y.min()), float(data.y.max()))
    return KernelModel(
        learned.transform.astype(np.float32), centres, ridge.coefficients, kernel, offset, steepness, classes,
        data.n_outputs, 2 * low - high, 2 * high - low, 1 / (len(some.X) + 1), cut=cut or n_rows < len(rows.X),
    )  # fmt: skip


def _drawn(rows: _Rows, n: int, seed: int) -> Array:
    """Return ``n`` rows, and a few more of rare classes: none of these takes half of what all of them get."""
    n_classes = rows.Y.shape[1]
    labels = rows.labels if len(rows.labels) else rows.Y[:, 0]
    return sampled_rows(labels, n, not len(rows.labels), seed, rare=min(RARE, max(1, n // (2 * n_classes))))


def _rows(data: FoldData, labels: Array, n_classes: int) -> tuple[_Rows, Array]:
    """Return the rows that count, and what their targets were centred by."""
    weight = np.ones(len(data.y)) if data.weight is None or not data.weight.sum() > 0 else data.weight
    kept = np.flatnonzero(weight > 0)
    weight = weight[kept] / weight[kept].mean()
    Y = np.eye(n_classes)[labels[kept]] if n_classes else data.y[kept, None].astype(np.float64)
    offset = np.average(Y, axis=0, weights=weight)
    X = bounded(data.train.X[kept]).astype(np.float64)
    return _Rows(X, Y - offset, weight, labels[kept] if n_classes else labels[:0]), offset


def _affordable(deadline: Deadline, pace: float, n_rows: int) -> int:
    """Return how many rows can be solved for in four fifths of the seconds that are left.

    Parameters
    ----------
    pace : float
        Seconds that one system takes, over the third power of its rows.
    """
    left = 0.8 * max(deadline.seconds_left(), 0.0) / pace
    if n_rows <= _EXACT:
        return min(n_rows, int(left ** (1 / 3)))
    with_centres = int(left / (3 * _CENTRES**2))
    return min(n_rows, with_centres if with_centres > _EXACT else min(_EXACT, int(left ** (1 / 3))))


def _learn(rows: _Rows, hyperparameters: Hyperparameters, deadline: Deadline) -> tuple[_Learned, _Pace]:
    """Return the metric of least loss among those of all steps, and what it took.

    Where the deadline has passed no further step is made.
    """
    full = bool(hyperparameters["directions"]) and rows.X.shape[1] <= _WIDEST
    transform = np.eye(rows.X.shape[1]) if full else np.ones((1, rows.X.shape[1]))
    power, best, n_solved, began = _RIDGES[1], None, 0, deadline.elapsed()
    for step in range(_STEPS + 1):
        Z = transformed(rows.X, transform)
        squares = distances_within(Z)
        kernel = Kernel(float(hyperparameters["bandwidth"]) * _median(squares), float(hyperparameters["exponent"]))
        found = _best_ridge(kernel, squares, rows, power)
        n_solved += found.n_solved
        if best is None or found.loss < best.loss:
            best = _Learned(transform, kernel, found.power, found.loss)
        if deadline.passed():
            break
        if step < _STEPS:
            power = found.power
            slopes = gradients(kernel, Z, squares, found.ridge.coefficients)
            transform = _sharpened(transform, slopes, rows.weight, float(hyperparameters["sharpness"]))
    assert best is not None
    taken = max(deadline.elapsed() - began, 1e-9)
    return best, _Pace(taken, taken / (n_solved * len(rows.X) ** 3))


def _median(squares: Array) -> float:
    """Return the median distance of pairs of rows that are apart; 1 where there are none."""
    step = max(1, int(np.sqrt(squares.size / _PAIRS)))
    pairs = squares[::step, ::step]
    apart = pairs[pairs > 0]
    return float(np.sqrt(np.median(apart))) if len(apart) else 1.0


@dataclass(frozen=True)
class _Found:
    power: int
    loss: float
    ridge: Ridge
    n_solved: int


def _best_ridge(kernel: Kernel, squares: Array, rows: _Rows, power: int) -> _Found:
    """Climb to the ridge of least loss, from one to its neighbours."""
    values = kernel.of(squares.copy())
    tried: dict[int, tuple[float, Ridge | None]] = {}

    def loss(at: int) -> float:
        if at not in tried:
            ridge = solve(values.copy(), rows.Y, ridge_of(at), rows.weight) if _RIDGES[0] <= at <= _RIDGES[2] else None
            tried[at] = (rows.loss(ridge.left_out) if ridge is not None else np.inf, ridge)
        return tried[at][0]

    while not np.isfinite(loss(power)) and power < _RIDGES[2]:
        power += 1
    while min(loss(power - 1), loss(power + 1)) < loss(power):
        power += 1 if loss(power + 1) < loss(power - 1) else -1
    ridge = tried[power][1]
    assert ridge is not None  # with the largest one the matrix is never singular
    return _Found(power, loss(power), ridge, len(tried))


def ridge_of(power: int) -> float:
    """Return the strength for half powers of ten.

    >>> ridge_of(-2)
    0.1
    """
    return float(10.0 ** (power / 2))


def _sharpened(transform: Array, slopes: Iterable[Array], weight: Array, sharpness: float) -> Array:
    """Return the root of the mean outer product of gradients in the features, to a power, as the next transform."""
    if len(transform) == 1:
        squares = sum((np.einsum("ij,ij,i->j", slope, slope, weight) for slope in slopes), np.zeros(transform.shape[1]))
        squares = squares * transform[0] ** 2
        return np.asarray((squares / max(squares.max(), 1e-300))[None] ** (0.5 * sharpness))
    n = transform.shape[1]
    product = sum((slope.T @ (slope * weight[:, None]) for slope in slopes), np.zeros((n, n)))
    values, directions = np.linalg.eigh(transform @ product @ transform.T)
    values = np.maximum(values, 0.0) / max(values.max(), 1e-300)
    kept = values > 1e-12
    kept[-1] = True
    return np.asarray(directions[:, kept] * values[kept] ** (0.5 * sharpness))


def _solved(rows: _Rows, learned: _Learned, seed: int) -> tuple[Ridge, Array, Kernel]:
    """Solve for all rows, with all of them or a sample as centres; return the centres too."""
    # rounded as they are kept, so that the model predicts what was solved for
    transform = learned.transform.astype(np.float32).astype(np.float64)
    Z = transformed(rows.X, transform).astype(np.float32)
    exact = Z.astype(np.float64)
    centres = Z if len(Z) <= _EXACT else Z[_drawn(rows, _CENTRES, seed)]
    for power in range(learned.power, 20):
        if centres is Z:
            ridge = solve(learned.kernel.of(distances_within(exact)), rows.Y, ridge_of(power), rows.weight)
        else:
            at = centres.astype(np.float64)
            ridge = solve_with_centres(learned.kernel, exact, at, rows.Y, ridge_of(power), rows.weight)
        if ridge is not None:
            return ridge, centres, learned.kernel
    raise ValueError("the kernel's matrix is singular")


def _scaled(ridge: Ridge, rows: _Rows, offset: Array) -> tuple[Array, Array]:
    """Return what scores are shifted and multiplied by: for classes such that their softmax suits the rows left out."""
    if not len(rows.labels):
        return offset, np.ones(1)
    steepness, shift, _ = calibrated(ridge.left_out, rows.labels, rows.weight)
    return shift, np.full(len(shift), steepness)


def calibrated(scores: Array, labels: Array, weight: Array) -> tuple[float, Array, float]:
    """Find the steepness and the shifts whose softmax has the least log loss: Platt's scaling for any classes.

    Parameters
    ----------
    scores : ndarray of shape (n_rows, n_classes)
    labels : ndarray of shape (n_rows,), int64

    Returns
    -------
    steepness : float
    shifts : ndarray of shape (n_classes,)
    loss : float
    """
    from scipy.optimize import minimize  # noqa: PLC0415

    rows, shares = np.arange(len(labels)), weight / weight.sum()
    start = np.log(np.bincount(labels, weights=shares, minlength=scores.shape[1]) + 1e-6)

    def objective(at: Array) -> tuple[float, Array]:
        steepness = np.exp(at[0])
        p = softmax(steepness * scores + at[1:])
        value = -float(shares @ np.log(np.maximum(p[rows, labels], np.finfo(float).tiny)))
        p[rows, labels] -= 1.0
        p *= shares[:, None]
        apart = at[1:] - start
        slope = np.concatenate([[steepness * float((p * scores).sum())], p.sum(axis=0) + 2e-4 * apart])
        return value + 1e-4 * float(apart @ apart), slope

    bounds = [(-3.0, 6.0), *[(None, None)] * scores.shape[1]]
    found = minimize(objective, np.concatenate([[1.5], start]), jac=True, method="L-BFGS-B", bounds=bounds)
    return float(np.exp(found.x[0])), found.x[1:], float(found.fun)


def offered(shape: Shape) -> bool:
    """Return whether distances say something: not in very wide tables, and not of rows by the hundred thousand."""
    return shape.n_rows <= 50_000 and shape.n_columns <= 2_000


def seconds(shape: Shape, hyperparameters: Hyperparameters) -> float:
    """Guess one fit's seconds on one core."""
    columns = shape.n_columns + 8 * shape.n_categorical
    learning = min(shape.n_rows, _LEARNING)
    classes = max(shape.n_outputs, 1)
    step = 3 * 4e-11 * learning**3 + 1e-8 * learning**2 * (3 + classes * (0.5 + 0.01 * columns))
    whole = 4e-11 * (shape.n_rows**3 if shape.n_rows <= _EXACT else 4 * shape.n_rows * _CENTRES**2)
    return 0.02 + (_STEPS + 1) * step + whole


FAMILY = standardised(
    Family(
        name="kernel",
        package="scipy",
        encodings=("one_hot",),
        space=space,
        defaults=defaults,
        fit=fit,
        save=save,
        load=load,
        seconds=seconds,
        offered=offered,
        slow_to_predict=True,
        adapts=False,  # beside a source it cost more than it gained, see docs/transfer.md
        modules=("scipy.linalg", "scipy.optimize"),
    )
)
