"""Landmarkers: how far simple learners come on a few rows (Pfahringer, Bensusan and Giraud-Carrier, ICML 2000).

Each learns from half of at most 2,000 sampled rows and is judged on the other half, both ways. What is returned is the
share of a guess's error that it takes away: 1 is perfect, 0 no better than one class for all rows or the mean. Errors
are squared ones of values; of classes they are mistakes, each class as heavy as the others (balanced accuracy).
"""

import math
from collections.abc import Callable

import numpy as np

from automl_cli.features.matrix import Array
from automl_cli.metafeatures.view import View

SOURCE = "Pfahringer, Bensusan and Giraud-Carrier, ICML 2000"

Learner = Callable[[Array, Array, Array], Array]
"""``learner(X_train, y_train, X_test)``: y is a column of values or indicators of classes, the answer too."""


def stump(view: View) -> float:
    """Return what the best single split of a column takes away."""
    return _gained(view, _stump)


def nearest_neighbour(view: View) -> float:
    """Return what the nearest of the other rows takes away."""
    return _gained(view, _nearest)


def naive_bayes(view: View) -> float:
    """Return what normal densities of independent columns take away; of a regression over ten classes of values."""
    return _gained(view, _bayes, classes=True)


def linear(view: View) -> float:
    """Return what a ridge regression takes away, on indicators of the classes where there are any."""
    return _gained(view, _ridge)


def linear_over_stump(view: View) -> float:
    """Return by how much the linear model is better than the stump: smooth or not."""
    return linear(view) - stump(view)


def neighbour_over_linear(view: View) -> float:
    """Return by how much the nearest neighbour is better than the linear model: local or not."""
    return nearest_neighbour(view) - linear(view)


def _gained(view: View, learner: Learner, *, classes: bool = False) -> float:
    name = learner.__name__
    if name not in view.gained:
        view.gained[name] = _measured(view, learner, classes=classes)
    return view.gained[name]


def _measured(view: View, learner: Learner, *, classes: bool) -> float:
    rows = view.landmark_rows
    X, of_classes = view.encoded, classes or not view.is_regression
    target = view.landmark_classes if of_classes else view.y[rows].astype(np.float64)
    y = (target[:, None] == np.unique(target)[None, :]).astype(np.float64) if of_classes else target[:, None]
    if len(X) < 8 or not X.shape[1] or not y.std(axis=0).any():
        return math.nan
    half = np.arange(len(X)) % 2 == 0
    errors = np.zeros(2)
    for train in (half, ~half):
        guess = np.tile(y[train].mean(axis=0), ((~train).sum(), 1))
        for i, answer in enumerate((learner(X[train], y[train], X[~train]), guess)):
            if of_classes:
                wrong = answer.argmax(axis=1) != y[~train].argmax(axis=1)
                errors[i] += float((wrong @ y[~train] / np.maximum(y[~train].sum(axis=0), 1)).sum())
            else:
                errors[i] += float(((answer - y[~train]) ** 2).sum())
    return float(np.clip(1.0 - errors[0] / errors[1], -1.0, 1.0)) if errors[1] > 0 else math.nan


def _stump(X: Array, y: Array, new: Array) -> Array:
    """Split where the squared error falls the most (of indicators that is Gini's impurity)."""
    n = len(X)
    order = np.argsort(X, axis=0, kind="stable")
    best = (-math.inf, 0, 0.0, y.mean(axis=0), y.mean(axis=0))
    counts = np.arange(1, n)[:, None]
    total = y.sum(axis=0)
    for column in range(X.shape[1]):
        values = X[order[:, column], column]
        left = np.cumsum(y[order[:, column]], axis=0)[:-1]
        gain = (left**2 / counts + (total - left) ** 2 / (n - counts)).sum(axis=1)
        gain[values[1:] == values[:-1]] = -math.inf
        cut = int(gain.argmax())
        if gain[cut] > best[0]:
            middle = (values[cut] + values[cut + 1]) / 2
            best = (float(gain[cut]), column, middle, left[cut] / (cut + 1), (total - left[cut]) / (n - cut - 1))
    _, column, middle, below, above = best
    return np.asarray(np.where(new[:, column, None] <= middle, below, above))


def _nearest(X: Array, y: Array, new: Array) -> Array:
    distances = (X**2).sum(axis=1)[None, :] - 2.0 * (new @ X.T)
    return np.asarray(y[distances.argmin(axis=1)])


def _bayes(X: Array, y: Array, new: Array) -> Array:
    shares = y.mean(axis=0)
    floor = 1e-3 * max(1e-9, float(X.var(axis=0).max()))
    scores = np.full((len(new), y.shape[1]), -math.inf)
    for k in np.flatnonzero(y.sum(axis=0) > 0):
        own = X[y[:, k] > 0]
        variance = own.var(axis=0) + floor
        distances = (new - own.mean(axis=0)) ** 2 / variance
        scores[:, k] = math.log(shares[k]) - 0.5 * (distances + np.log(variance)).sum(axis=1)
    return scores


def _ridge(X: Array, y: Array, new: Array) -> Array:
    middle, mean = X.mean(axis=0), y.mean(axis=0)
    A = X - middle
    strength = 1e-2 * len(X)
    if len(A) >= A.shape[1]:
        weights = np.linalg.solve(A.T @ A + strength * np.eye(A.shape[1]), A.T @ (y - mean))
    else:
        weights = A.T @ np.linalg.solve(A @ A.T + strength * np.eye(len(A)), y - mean)
    return np.asarray(mean + (new - middle) @ weights)
