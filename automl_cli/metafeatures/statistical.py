"""Moments and correlations of the numeric columns of the sample."""

import math

import numpy as np

from automl_cli.features.matrix import Array
from automl_cli.metafeatures.view import View

SOURCE = "Michie, Spiegelhalter and Taylor 1994, ch. 7; Vanschoren, Meta-Learning, 2018, table 1"


def mean_skewness(view: View) -> float:
    """Return the mean over columns of |mean(z^3)|."""
    return _mean(np.abs(_moments(view, 3)))


def sd_skewness(view: View) -> float:
    """Return the standard deviation over columns of mean(z^3)."""
    return _sd(_moments(view, 3))


def log_mean_kurtosis(view: View) -> float:
    """Return log10 of the mean over columns of mean(z^4)."""
    value = _mean(_moments(view, 4))
    return math.log10(value) if value > 0 else math.nan


def share_outlying_columns(view: View) -> float:
    """Return the share of columns with values beyond 1.5 interquartile ranges from the quartiles (Tukey 1977)."""
    return _mean((_outliers(view) > 0).astype(np.float64))


def share_outliers(view: View) -> float:
    """Return the mean over columns of the share of such values."""
    return _mean(_outliers(view))


def share_integer_columns(view: View) -> float:
    """Return the share of numeric columns that hold integers only."""
    return _mean(np.array([float((x == np.round(x)).all()) for x in _known(view)]))


def share_zeros(view: View) -> float:
    """Return the mean over columns of the share of zeros."""
    return _mean(np.array([float((x == 0).mean()) for x in _known(view)]))


def mean_distinct(view: View) -> float:
    """Return the mean over columns of distinct values / known values."""
    return _mean(np.array([len(np.unique(x)) / len(x) for x in _known(view)]))


def mean_correlation(view: View) -> float:
    """Return the mean absolute Pearson correlation of two columns, within ten standard deviations of their means."""
    return _mean(_correlations(view))


def largest_correlation(view: View) -> float:
    """Return the largest absolute Pearson correlation of two columns, within ten standard deviations."""
    found = _correlations(view)
    return float(found.max()) if len(found) else math.nan


def mean_target_correlation(view: View) -> float:
    """Return the mean absolute correlation of a column with the target, of the best class where there are several."""
    return _mean(_with_target(view))


def largest_target_correlation(view: View) -> float:
    """Return the largest of these."""
    found = _with_target(view)
    return float(found.max()) if len(found) else math.nan


def effective_dimension(view: View) -> float:
    """Return the participation ratio of the correlation matrix's eigenvalues over p: (sum l)^2 / sum l^2 / p."""
    X = view.filled
    if X.shape[1] < 2 or len(X) < 2:
        return math.nan
    values = np.linalg.svd(X - X.mean(axis=0), compute_uv=False) ** 2
    squares = float((values**2).sum())
    return float(values.sum() ** 2 / squares / X.shape[1]) if squares > 0 else math.nan


def first_component(view: View) -> float:
    """Return the share of variance of the first principal component of standardised columns."""
    X = view.filled
    if X.shape[1] < 2 or len(X) < 2:
        return math.nan
    values = np.linalg.svd(X - X.mean(axis=0), compute_uv=False) ** 2
    return float(values[0] / values.sum()) if values.sum() > 0 else math.nan


def _known(view: View) -> list[Array]:
    """Return each numeric column's known values, sorted; none of columns without any."""
    columns = (np.sort(x[np.isfinite(x)]) for x in view.numbers.T)
    return [x for x in columns if len(x)]


def _moments(view: View, power: int) -> Array:
    found = []
    for x in _known(view):
        spread = x.std()
        if np.isfinite(spread) and spread > 0:
            found.append(float((((x - x.mean()) / spread) ** power).mean()))
    return np.array(found)


def _outliers(view: View) -> Array:
    found = []
    for x in _known(view):
        low, high = np.quantile(x, [0.25, 0.75])
        reach = 1.5 * (high - low)
        found.append(float(((x < low - reach) | (x > high + reach)).mean()))
    return np.array(found)


def _correlations(view: View) -> Array:
    X = view.filled
    X = X[:, X.std(axis=0) > 0] if X.size else X
    if X.shape[1] < 2:
        return np.zeros(0)
    return np.asarray(np.abs(np.corrcoef(X, rowvar=False)[np.triu_indices(X.shape[1], 1)]))


def _with_target(view: View) -> Array:
    X = view.filled
    X = X[:, X.std(axis=0) > 0] if X.size else X
    y = view.y.astype(np.float64) if view.is_regression else np.unique(view.y, return_inverse=True)[1]
    if not X.shape[1] or not y.std():
        return np.zeros(0)
    Z = (X - X.mean(axis=0)) / X.std(axis=0)
    if view.is_regression:
        return np.asarray(np.abs(((y - y.mean()) / y.std()) @ Z) / len(Z))
    # with the indicator of a class of share q: mean of its rows' z times sqrt(q / (1 - q))
    counts = np.bincount(y)
    sums = np.array([np.bincount(y, weights=z) for z in Z.T])
    return np.asarray(np.abs(sums / np.sqrt(counts * (len(Z) - counts.astype(np.float64)))).max(axis=1))


def _mean(values: Array) -> float:
    return float(np.mean(values)) if len(values) else math.nan


def _sd(values: Array) -> float:
    return float(np.std(values)) if len(values) else math.nan
