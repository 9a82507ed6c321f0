"""One row per metric: a loss that is 0 at best inside, the natural number outside."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import wraps
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from automl_cli.confusion import (
    balanced_accuracy_of_tables,
    f1_macro_of_tables,
    f1_of_tables,
    mcc_of_tables,
)
from automl_cli.errors import UsageError

__all__ = ["DEFAULT_METRIC", "METRICS", "Array", "Loss", "Metric", "Needs", "TaskKind", "metric_for", "naive"]

Array = NDArray[Any]
Loss = Callable[[Array, Array, Array | None], float]
Needs = Literal["probabilities", "labels", "values"]


class TaskKind(StrEnum):
    """The three tasks of a table."""

    BINARY = "binary"
    MULTICLASS = "multiclass"
    REGRESSION = "regression"


@dataclass(frozen=True)
class Metric:
    """How predictions are scored.

    Attributes
    ----------
    name : str
        As on the command line.
    title : str
        As in a sentence.
    kinds : frozenset of TaskKind
        The tasks it fits.
    loss : callable
        ``loss(y, predictions, weight)``: 0 at best, larger is worse, NaN where a prediction is not finite.
        ``y`` is int64 class indices or float64 values of shape (n_rows,); ``predictions`` is float64 of shape
        (n_rows, n_outputs): probabilities that sum to 1 (two columns for a binary task, the positive class is
        index 1), or values (one column); ``weight`` is float64 (n_rows,) or None. It is finite for every non-empty
        set of rows, also where the rows hold one class only.
    natural : callable
        The shown number of a loss, and the loss of a shown number: it is its own inverse.
    needs : str
        What of the predictions it looks at: ``probabilities``, ``labels`` (the likeliest class) or ``values``.
    lowest : float
        The smallest target it is defined for.
    of_tables : callable or None
        For a metric of labels that the likeliest class need not serve best: the losses of many confusion tables at
        once, of shape (..., n_classes, n_classes) with the true classes as rows; thresholds are tuned with it.
    of_many : callable or None
        For a metric of two classes: ``of_many(y, scores)`` gives the losses of many predictions at once, without
        weights; ``scores`` of shape (n_models, n_rows) are probabilities of the positive class. The same numbers as
        ``loss`` to the last bit.
    """

    name: str
    title: str
    kinds: frozenset[TaskKind]
    loss: Loss
    natural: Callable[[float], float]
    needs: Needs
    lowest: float = -np.inf
    of_tables: Callable[[Array], Array] | None = None
    of_many: Callable[[Array, Array], Array] | None = None

    @property
    def greater_is_better(self) -> bool:
        """Whether the natural number grows as predictions get better."""
        return self.natural(0.0) > self.natural(1.0)

    def __reduce__(self) -> tuple[Any, ...]:
        return _by_name, (self.name,)


def _guarded(loss: Loss) -> Loss:
    """Answer NaN for predictions that are not finite, which sorting and argmax would hide."""

    @wraps(loss)
    def guarded(y: Array, predictions: Array, weight: Array | None = None) -> float:
        with np.errstate(over="ignore", invalid="ignore"):
            # a sum is finite only where all its terms are; only one that overflowed needs the second look
            finite = np.isfinite(predictions.sum()) or np.isfinite(predictions).all()
            return float(loss(y, predictions, weight)) if finite else float("nan")

    return guarded


def _mean(x: Array, weight: Array | None) -> float:
    if weight is None:
        return float(x.mean())
    total = float(weight.sum())
    return float(x @ weight) / total if total > 0 else float(x.mean())


def _median(x: Array, weight: Array | None) -> float:
    """Return the median; with weights the middle of the values at which half of the weight is reached."""
    if weight is None or not weight.sum() > 0:
        return float(np.median(x))
    x, weight = x[weight > 0], weight[weight > 0]
    order = np.argsort(x, kind="stable")
    reached = np.cumsum(weight[order])
    half = reached[-1] / 2
    low = int(np.searchsorted(reached, half, side="left"))
    high = min(int(np.searchsorted(reached, half, side="right")), len(x) - 1)
    return float(x[order[low]] + x[order[high]]) / 2


def _ranked(positive: Array, score: Array, weight: Array | None) -> tuple[Array, Array]:
    """Return the weight of true and of false positives at each distinct threshold, from the highest down."""
    order = np.argsort(-score, kind="quicksort" if weight is None else "stable")
    last_of_tie = np.append(np.flatnonzero(np.diff(score[order])), len(order) - 1)
    hits = positive[order].astype(np.float64)
    w = np.ones(len(order)) if weight is None else weight[order]
    return np.cumsum(hits * w)[last_of_tie], np.cumsum((1.0 - hits) * w)[last_of_tie]


def _area(positive: Array, score: Array, weight: Array | None) -> float:
    """Area under the ROC curve; 0.5 where one of the two classes is absent."""
    tp, fp = _ranked(positive, score, weight)
    if not (tp[-1] > 0 and fp[-1] > 0):
        return 0.5
    area = float(np.sum(np.diff(fp, prepend=0.0) * (tp + np.concatenate(([0.0], tp[:-1])))) / 2)
    return min(1.0, area / float(tp[-1] * fp[-1]))


def roc_auc_losses(y: Array, scores: Array) -> Array:
    """1 - area under the ROC curve of many predictions of two classes, shape (n_models,); NaN where one is not finite.

    Mann and Whitney's statistic: the share of pairs in which the positive row scores higher, ties count half. Small
    tables would otherwise spend their time between calls.
    """
    n_models, n_rows = scores.shape
    positive = y == 1
    n_pairs = float(positive.sum()) * float(n_rows - positive.sum())
    if not n_pairs > 0:
        losses = np.full(n_models, 0.5)
    else:
        order = np.argsort(scores, axis=1)
        ordered, hits = np.take_along_axis(scores, order, axis=1), positive[order]
        misses = np.cumsum(~hits, axis=1)
        differs = ordered[:, 1:] != ordered[:, :-1]
        twice = 2 * misses if differs.all() else _through_ties(misses, hits, differs)
        losses = 1.0 - (twice * hits).sum(axis=1) / 2 / n_pairs
    return np.where(np.isfinite(scores).all(axis=1), losses, np.nan)


def _through_ties(misses: Array, hits: Array, differs: Array) -> Array:
    """Return the misses before the tie that a row is in, and through it, added up."""
    places = np.arange(hits.shape[1])
    edge = np.ones((len(hits), 1), dtype=bool)
    first = np.maximum.accumulate(np.where(np.hstack([edge, differs]), places, 0), axis=1)
    last = np.where(np.hstack([differs, edge]), places, places[-1])
    last = np.minimum.accumulate(last[:, ::-1], axis=1)[:, ::-1]
    before = np.take_along_axis(misses - ~hits, first, axis=1)
    return np.asarray(before + np.take_along_axis(misses, last, axis=1))


@_guarded
def roc_auc_loss(y: Array, predictions: Array, weight: Array | None = None) -> float:
    """1 - area under the ROC curve; of more than two classes the plain mean over one class against the rest.

    Classes that are absent (or alone) among the rows say nothing and are left out of the mean.
    """
    if predictions.shape[1] == 2:
        return 1.0 - _area(y == 1, predictions[:, 1], weight)
    seen = np.unique(y if weight is None else y[weight > 0])
    if len(seen) < 2:
        return 0.5
    return 1.0 - float(np.mean([_area(y == c, predictions[:, c], weight) for c in seen]))


@_guarded
def log_loss(y: Array, predictions: Array, weight: Array | None = None) -> float:
    """Mean of -log(probability of the true class), probabilities kept at 1e-15 or more."""
    p = predictions[np.arange(len(y)), y]
    return _mean(-np.log(np.clip(p, 1e-15, 1.0)), weight)


@_guarded
def brier_loss(y: Array, predictions: Array, weight: Array | None = None) -> float:
    """Mean squared error of the probabilities: of the positive class (0 to 1), else summed over classes (0 to 2)."""
    if predictions.shape[1] == 2:
        return _mean((predictions[:, 1] - y) ** 2, weight)
    true = predictions[np.arange(len(y)), y]
    return _mean(np.einsum("ij,ij->i", predictions, predictions) + 1.0 - 2.0 * true, weight)


@_guarded
def average_precision_loss(y: Array, predictions: Array, weight: Array | None = None) -> float:
    """1 - average precision of the positive class (a step sum, no interpolation); 1 where no row is positive."""
    tp, fp = _ranked(y == 1, predictions[:, 1], weight)
    if not tp[-1] > 0:
        return 1.0
    chosen = np.maximum(tp + fp, np.finfo(float).tiny)
    return max(0.0, 1.0 - float(np.sum(np.diff(tp, prepend=0.0) * tp / chosen)) / float(tp[-1]))


def _confusion(y: Array, predictions: Array, weight: Array | None) -> Array:
    """Return the weight of rows by true class (rows) and likeliest class (columns), shape (n_classes, n_classes)."""
    k = predictions.shape[1]
    counts = np.bincount(y * k + predictions.argmax(axis=1), weights=weight, minlength=k * k)
    return counts.reshape(k, k).astype(np.float64)


@_guarded
def accuracy_loss(y: Array, predictions: Array, weight: Array | None = None) -> float:
    """Share of rows whose likeliest class is wrong."""
    return _mean((predictions.argmax(axis=1) != y).astype(np.float64), weight)


@_guarded
def balanced_accuracy_loss(y: Array, predictions: Array, weight: Array | None = None) -> float:
    """1 - the mean share of rows that are found, over the classes among the rows."""
    return float(balanced_accuracy_of_tables(_confusion(y, predictions, weight)))


@_guarded
def f1_loss(y: Array, predictions: Array, weight: Array | None = None) -> float:
    """1 - F1 of the positive class; 1 where no row is positive nor predicted so."""
    return float(f1_of_tables(_confusion(y, predictions, weight)))


@_guarded
def f1_macro_loss(y: Array, predictions: Array, weight: Array | None = None) -> float:
    """1 - the plain mean of F1 over the classes that occur among truths or predictions."""
    return float(f1_macro_of_tables(_confusion(y, predictions, weight)))


@_guarded
def mcc_loss(y: Array, predictions: Array, weight: Array | None = None) -> float:
    """1 - Matthews' correlation (R_K of Gorodkin 2004 for more classes): 0 to 2; 1 where one side holds one class."""
    return float(mcc_of_tables(_confusion(y, predictions, weight)))


@_guarded
def rmse_loss(y: Array, predictions: Array, weight: Array | None = None) -> float:
    """Root of the mean squared error, in units of the target."""
    return float(np.sqrt(_mean((predictions[:, 0] - y) ** 2, weight)))


@_guarded
def mae_loss(y: Array, predictions: Array, weight: Array | None = None) -> float:
    """Mean absolute error, in units of the target."""
    return _mean(np.abs(predictions[:, 0] - y), weight)


@_guarded
def median_ae_loss(y: Array, predictions: Array, weight: Array | None = None) -> float:
    """Median absolute error, in units of the target."""
    return _median(np.abs(predictions[:, 0] - y), weight)


@_guarded
def r2_loss(y: Array, predictions: Array, weight: Array | None = None) -> float:
    """Squared error as a share of the target's variance; of a constant target 0 where it is hit, 1 where not."""
    error = _mean((predictions[:, 0] - y) ** 2, weight)
    variance = _mean((y - _mean(y, weight)) ** 2, weight)
    if variance <= (1e-15 * np.abs(y).max(initial=0.0)) ** 2:
        return float(error > 0)
    return error / variance


@_guarded
def rmsle_loss(y: Array, predictions: Array, weight: Array | None = None) -> float:
    """Root of the mean squared error of log(1 + value); predictions below 0 count as 0."""
    return float(np.sqrt(_mean((np.log1p(np.maximum(predictions[:, 0], 0.0)) - np.log1p(y)) ** 2, weight)))


@_guarded
def mape_loss(y: Array, predictions: Array, weight: Array | None = None) -> float:
    """Mean absolute error as a share of the target (1 is 100 %); targets of 0 weigh beyond measure, as everywhere."""
    return _mean(np.abs(predictions[:, 0] - y) / np.maximum(np.abs(y), np.finfo(float).eps), weight)


def _complement(x: float) -> float:
    return 1.0 - x


def _same(x: float) -> float:
    return x


_CLASSES = frozenset({TaskKind.BINARY, TaskKind.MULTICLASS})
_BINARY = frozenset({TaskKind.BINARY})
_VALUES = frozenset({TaskKind.REGRESSION})

METRICS: Mapping[str, Metric] = MappingProxyType(
    {
        row.name: row
        for row in (
            Metric("roc_auc", "ROC AUC", _CLASSES, roc_auc_loss, _complement, "probabilities", of_many=roc_auc_losses),
            Metric("log_loss", "log loss", _CLASSES, log_loss, _same, "probabilities"),
            Metric(
                "balanced_accuracy",
                "balanced accuracy",
                _CLASSES,
                balanced_accuracy_loss,
                _complement,
                "labels",
                of_tables=balanced_accuracy_of_tables,
            ),
            Metric("accuracy", "accuracy", _CLASSES, accuracy_loss, _complement, "labels"),
            Metric("f1", "F1 of the positive class", _BINARY, f1_loss, _complement, "labels", of_tables=f1_of_tables),
            Metric(
                "f1_macro",
                "mean F1 over classes",
                _CLASSES,
                f1_macro_loss,
                _complement,
                "labels",
                of_tables=f1_macro_of_tables,
            ),
            Metric(
                "average_precision",
                "average precision",
                _BINARY,
                average_precision_loss,
                _complement,
                "probabilities",
            ),
            Metric("mcc", "Matthews correlation", _CLASSES, mcc_loss, _complement, "labels", of_tables=mcc_of_tables),
            Metric("brier", "Brier score", _CLASSES, brier_loss, _same, "probabilities"),
            Metric("rmse", "root mean squared error", _VALUES, rmse_loss, _same, "values"),
            Metric("mae", "mean absolute error", _VALUES, mae_loss, _same, "values"),
            Metric("r2", "R²", _VALUES, r2_loss, _complement, "values"),
            Metric("rmsle", "root mean squared log error", _VALUES, rmsle_loss, _same, "values", lowest=0.0),
            Metric("mape", "mean absolute percentage error", _VALUES, mape_loss, _same, "values"),
            Metric("median_ae", "median absolute error", _VALUES, median_ae_loss, _same, "values"),
        )
    }
)

DEFAULT_METRIC: Mapping[TaskKind, Metric] = MappingProxyType(
    {
        TaskKind.BINARY: METRICS["roc_auc"],
        TaskKind.MULTICLASS: METRICS["log_loss"],
        TaskKind.REGRESSION: METRICS["rmse"],
    }
)


def _by_name(name: str) -> Metric:
    return METRICS[name]


def metric_for(name: str | None, kind: TaskKind) -> Metric:
    """Return the metric of this name, or the default of the task where ``name`` is None.

    Raises
    ------
    UsageError
        Where no metric has that name, or it does not fit the task; the hint lists those that do.
    """
    if name is None:
        return DEFAULT_METRIC[kind]
    fitting = [metric.name for metric in METRICS.values() if kind in metric.kinds]
    if name in fitting:
        return METRICS[name]
    problem = f"metric {name!r} does not fit a {kind} task" if name in METRICS else f"no metric is called {name!r}"
    raise UsageError(problem, hint=f"use one of {', '.join(fitting)}")


def _mean_log(y: Array, weight: Array | None) -> float:
    return float(np.expm1(_mean(np.log1p(y), weight)))


# the constant that is best, or near it, for the metrics that the mean does not serve
_CENTRES: Mapping[str, Callable[[Array, Array | None], float]] = MappingProxyType(
    {"mae": _median, "median_ae": _median, "mape": _median, "rmsle": _mean_log}
)


def naive(
    y: Array, weight: Array | None, kind: TaskKind, n_outputs: int, n: int, *, metric: Metric | None = None
) -> Array:
    """Predict without looking at the features: what any model has to beat.

    Parameters
    ----------
    y : ndarray of shape (n_train,)
        Targets to learn from: class indices, or values.
    weight : ndarray of shape (n_train,) or None
    n : int
        Rows to predict.
    metric : Metric or None
        Chooses the constant of a regression: the median for absolute errors, else the mean.

    Returns
    -------
    ndarray of shape (n, n_outputs), float64
        The classes' shares of the weight in every row, or the mean or median.

    >>> naive(np.array([0, 1, 1, 1]), None, TaskKind.BINARY, 2, 1)
    array([[0.25, 0.75]])
    """
    if kind is TaskKind.REGRESSION:
        centre = _CENTRES.get(metric.name, _mean) if metric is not None else _mean
        return np.full((n, 1), centre(y, weight))
    counted = weight if weight is not None and weight.sum() > 0 else None
    totals = np.bincount(y, weights=counted, minlength=n_outputs).astype(np.float64)
    return np.tile(totals / totals.sum(), (n, 1))
