"""Linear models: logistic regression, ridge and elastic net, solved by one bounded quasi-Newton method."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from automl_cli.calibration import softmax
from automl_cli.clock import Deadline
from automl_cli.families.arrays import Expected, bad_model, load_arrays, save_arrays
from automl_cli.families.family import (
    Family,
    FoldData,
    Hyperparameters,
    Limits,
    Shape,
    is_absolute,
    present_classes,
    spread,
    without_infinities,
)
from automl_cli.families.target_scale import BEND, middle_and_width, standardised
from automl_cli.features.matrix import Array, Matrix
from automl_cli.task import TaskKind

_MOST_ITERATIONS = 300
_FILE = "linear.npz"
_ROWS_AT_ONCE = 256  # as float64 they stay in a processor's cache


@dataclass(frozen=True)
class LinearModel:
    """Coefficients.

    Attributes
    ----------
    coefficients : float64 (n_features + 1, n_columns)
        One column per present class, or one for a regression; the last row is the intercept.
    classes : int64 (n_present,)
        Classes that occurred in training; empty for a regression.
    low, high : float
        Predictions of a regression are kept between these: the training values and once their range beyond.
    """

    coefficients: Array
    classes: Array
    n_outputs: int
    low: float
    high: float
    rounds: int = 0
    cut: bool = False

    def predict(self, data: Matrix, threads: int) -> Array:
        """Return float64 of shape (n_rows, n_outputs)."""
        if data.X.shape[1] != len(self.coefficients) - 1:
            raise bad_model(Path(_FILE), "it was fitted on another number of features")
        scores = _scores(data.X, self.coefficients)
        if not len(self.classes):
            return np.clip(scores, self.low, self.high)
        return spread(softmax(scores), self.classes, self.n_outputs)


def _scores(X: Array, coefficients: Array) -> Array:
    """Multiply row block by row block; einsum sums in one order, however many rows and threads there are."""
    finite, by_output = without_infinities(X), np.ascontiguousarray(coefficients[:-1].T, dtype=np.float64)
    scores = np.empty((len(X), coefficients.shape[1]))
    for start in range(0, len(X), _ROWS_AT_ONCE):
        rows = slice(start, start + _ROWS_AT_ONCE)
        np.einsum("ij,kj->ik", finite[rows].astype(np.float64), by_output, out=scores[rows])
    scores += coefficients[-1]
    return scores


def space(shape: Shape) -> tuple[list[Any], list[Any]]:
    """Return the strength of the penalty and its kind."""
    from ConfigSpace import Categorical, EqualsCondition, Float  # noqa: PLC0415

    elastic_net = Categorical("elastic_net", [False, True], default=False)
    l1_ratio = Float("l1_ratio", (0.05, 1.0), default=0.5)
    return (
        [Float("C", (1e-4, 1e3), log=True, default=1.0), elastic_net, l1_ratio],
        [EqualsCondition(l1_ratio, elastic_net, True)],
    )


def defaults(shape: Shape) -> tuple[Hyperparameters, ...]:
    """Return scikit-learn's default, then a stronger penalty and a sparse one."""
    return (
        {"C": 1.0, "elastic_net": False},
        {"C": 0.02, "elastic_net": False},
        {"C": 0.1, "elastic_net": True, "l1_ratio": 0.5},
    )


@dataclass(frozen=True)
class _Problem:
    """Mean loss plus penalty, over standardised features.

    The objective is scikit-learn's divided by ``C * n_rows``: mean loss + (l2/2 ||w||^2 + l1 ||w||_1) / (C n).

    Attributes
    ----------
    bend : float
        Errors of a regression beyond this count by their size, smaller ones by half their square (Huber's loss).
    """

    X: Array
    y: Array
    weight: Array
    l1: float
    l2: float
    n_columns: int
    classify: bool
    bend: float

    def value(self, coefficients: Array) -> tuple[float, Array]:
        """Return the smooth part of the objective and its gradient, of shape (n_features + 1, n_columns)."""
        scores = self.X @ coefficients[:-1].astype(np.float32) + coefficients[-1].astype(np.float32)
        if self.classify:
            p = softmax(scores.astype(np.float64))
            rows = np.arange(len(p))
            loss = -float(self.weight @ np.log(np.maximum(p[rows, self.y], np.finfo(float).tiny)))
            p[rows, self.y] -= 1.0
            residual = p * self.weight[:, None]
        else:
            difference = scores.astype(np.float64)[:, 0] - self.y
            bent = np.clip(difference, -self.bend, self.bend)
            loss = float(self.weight @ (bent * (difference - 0.5 * bent)))
            residual = (bent * self.weight)[:, None]
        slope = np.vstack([self.X.T @ residual.astype(np.float32), residual.sum(axis=0)[None, :]]).astype(np.float64)
        slope[:-1] += self.l2 * coefficients[:-1]
        return loss + 0.5 * self.l2 * float((coefficients[:-1] ** 2).sum()), slope


class _Late(Exception):  # noqa: N818
    """Ends the solver when its seconds are used up; carries nothing."""


def fit(data: FoldData, hyperparameters: Hyperparameters, limits: Limits) -> LinearModel:
    """Minimise the penalised loss; where seconds or iterations run out, keep the best point so far."""
    from threadpoolctl import threadpool_limits  # noqa: PLC0415

    deadline = Deadline.after(limits.seconds)
    classes, y = present_classes(data)
    X = without_infinities(data.train.X)
    weight = np.ones(len(y)) if data.weight is None else data.weight
    weight = weight / max(float(weight.sum()), np.finfo(float).tiny)
    absolute = is_absolute(data)
    measure = middle_and_width if absolute else _mean_and_deviation
    centre, scale = (0.0, 1.0) if len(classes) else measure(y, weight)
    scale = scale if scale > 0 else 1.0
    strength = 1.0 / (float(hyperparameters["C"]) * len(y))
    ratio = float(hyperparameters["l1_ratio"]) if hyperparameters["elastic_net"] else 0.0
    problem = _Problem(
        X=X,
        y=y if len(classes) else (y - centre) / scale,
        weight=weight,
        l1=strength * ratio,
        l2=strength * (1 - ratio),
        n_columns=max(len(classes), 1),
        classify=bool(len(classes)),
        bend=BEND if absolute else np.inf,
    )
    with threadpool_limits(limits.threads):
        coefficients, cut = _solve(problem, deadline)
    coefficients = coefficients * scale
    coefficients[-1] += centre
    low, high = (float(y.min()), float(y.max())) if not len(classes) else (0.0, 0.0)
    return LinearModel(coefficients, classes, data.n_outputs, 2 * low - high, 2 * high - low, cut=cut)


def _mean_and_deviation(y: Array, weight: Array) -> tuple[float, float]:
    mean = float(weight @ y)
    return mean, float(np.sqrt(weight @ (y - mean) ** 2))


def _solve(problem: _Problem, deadline: Deadline) -> tuple[Array, bool]:
    """Run L-BFGS-B; an L1 penalty splits each coefficient into a positive and a negative part, both bounded by 0."""
    from scipy.optimize import minimize  # noqa: PLC0415

    shape = (problem.X.shape[1] + 1, problem.n_columns)
    n_weights = problem.X.shape[1] * problem.n_columns
    sparse = problem.l1 > 0
    best: tuple[float, Array] = (np.inf, np.zeros(shape))

    def joined(flat: Array) -> Array:
        weights = flat[:n_weights] - flat[shape[0] * shape[1] :] if sparse else flat[:n_weights]
        return np.concatenate([weights, flat[n_weights : shape[0] * shape[1]]]).reshape(shape)

    def objective(flat: Array) -> tuple[float, Array]:
        nonlocal best
        coefficients = joined(flat)
        value, slope = problem.value(coefficients)
        gradient = slope.ravel()
        if sparse:
            value += problem.l1 * float(flat[:n_weights].sum() + flat[shape[0] * shape[1] :].sum())
            gradient = np.concatenate([gradient, -gradient[:n_weights]])
            gradient[:n_weights] += problem.l1
            gradient[shape[0] * shape[1] :] += problem.l1
        if value < best[0]:
            best = (value, coefficients)
        if deadline.limited and deadline.passed():
            raise _Late
        return value, gradient

    start = np.zeros(shape[0] * shape[1] + (n_weights if sparse else 0))
    bounds = None
    if sparse:
        free = [(None, None)] * problem.n_columns
        bounds = [*([(0.0, None)] * n_weights), *free, *([(0.0, None)] * n_weights)]
    options = {"maxiter": _MOST_ITERATIONS, "maxcor": 20, "ftol": 1e-9, "gtol": 1e-7}
    try:
        minimize(objective, start, jac=True, method="L-BFGS-B", bounds=bounds, options=options)
    except _Late:
        return best[1], True
    return best[1], False


def save(model: LinearModel, folder: Path) -> None:
    """Write the coefficients."""
    save_arrays(
        folder / _FILE,
        {
            "coefficients": model.coefficients,
            "classes": model.classes,
            "n_outputs": np.array(model.n_outputs),
            "bounds": np.array([model.low, model.high]),
        },
    )


def load(folder: Path) -> LinearModel:
    """Read what `save` wrote; raises `BadArtifact` where that is not what the file holds."""
    path = folder / _FILE
    arrays = load_arrays(
        path,
        {
            "coefficients": Expected("f", 2),
            "classes": Expected("i", 1),
            "n_outputs": Expected("i", 0),
            "bounds": Expected("f", 1),
        },
    )
    coefficients, classes, bounds = arrays["coefficients"], arrays["classes"], arrays["bounds"]
    n_outputs = int(arrays["n_outputs"])
    if coefficients.shape[0] < 1 or coefficients.shape[1] != max(len(classes), 1) or len(bounds) != 2:
        raise bad_model(path, "coefficients do not add up")
    if not 1 <= n_outputs <= 10**6 or (len(classes) and (classes.min() < 0 or classes.max() >= n_outputs)):
        raise bad_model(path, "a class is out of range")
    return LinearModel(coefficients, classes, n_outputs, float(bounds[0]), float(bounds[1]))


def seconds(shape: Shape, hyperparameters: Hyperparameters) -> float:
    """Guess one fit's seconds on one core; one-hot columns come on top, so it is a low guess for categories."""
    columns = shape.n_columns + 8 * shape.n_categorical
    classes = 1 if shape.kind is TaskKind.REGRESSION else shape.n_outputs
    per_iteration = 5e-5 + shape.n_rows * classes * (5e-8 + 4e-10 * columns)
    iterations = 150 if hyperparameters["elastic_net"] else 80
    return 0.05 + per_iteration * iterations


FAMILY = standardised(
    Family(
        name="linear",
        package="scipy",
        encodings=("one_hot",),
        space=space,
        defaults=defaults,
        fit=fit,
        save=save,
        load=load,
        seconds=seconds,
    )
)
