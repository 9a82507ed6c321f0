"""How the target is spread."""

import math

import numpy as np

from automl_cli.features.matrix import Array
from automl_cli.metafeatures.view import View

SOURCE = "Feurer et al., NeurIPS 2015, supplement; of values: Tukey, Exploratory Data Analysis, 1977"


def class_entropy(view: View) -> float:
    """Return the entropy of the classes in bits over that of equal shares: -sum(q log q) / log k."""
    shares = _shares(view)
    if len(shares) < 2:
        return math.nan
    known = shares[shares > 0]
    return float(-(known * np.log(known)).sum() / math.log(len(shares)))


def smallest_class(view: View) -> float:
    """Return the share of the rarest class."""
    shares = _shares(view)
    return float(shares.min()) if len(shares) else math.nan


def largest_class(view: View) -> float:
    """Return the share of the most frequent class."""
    shares = _shares(view)
    return float(shares.max()) if len(shares) else math.nan


def log_rows_of_smallest_class(view: View) -> float:
    """Return log10(1 + rows of the rarest class)."""
    shares = _shares(view)
    return math.log10(1 + float(shares.min()) * view.n_rows) if len(shares) else math.nan


def target_skewness(view: View) -> float:
    """Return the third standardised moment of values: mean(z^3)."""
    return _moment(view, 3)


def target_kurtosis(view: View) -> float:
    """Return the excess of the fourth standardised moment of values: mean(z^4) - 3."""
    return _moment(view, 4) - 3.0


def target_distinct(view: View) -> float:
    """Return distinct values / n."""
    return len(np.unique(view.task.y)) / max(1, view.n_rows) if view.is_regression else math.nan


def target_mode(view: View) -> float:
    """Return the share of the most frequent value."""
    if not view.is_regression:
        return math.nan
    return float(np.unique(view.task.y, return_counts=True)[1].max()) / max(1, view.n_rows)


def target_outliers(view: View) -> float:
    """Return the share of values beyond 1.5 interquartile ranges from the quartiles (Tukey 1977)."""
    if not view.is_regression:
        return math.nan
    low, high = np.quantile(view.task.y, [0.25, 0.75])
    reach = 1.5 * (high - low)
    return float(((view.task.y < low - reach) | (view.task.y > high + reach)).mean())


def target_positive(view: View) -> float:
    """Return 1 where all values are above 0, 0.5 where they are at least 0, else 0."""
    if not view.is_regression:
        return math.nan
    least = float(np.min(view.task.y))
    return 1.0 if least > 0 else 0.5 if least == 0 else 0.0


def _shares(view: View) -> Array:
    if view.is_regression:
        return np.zeros(0)
    counts = np.bincount(view.task.y, minlength=len(view.task.classes))
    return np.asarray(counts[counts > 0] / max(1, counts.sum()))


def _moment(view: View, power: int) -> float:
    if not view.is_regression:
        return math.nan
    y = np.sort(np.asarray(view.task.y, dtype=np.float64))  # sorted: the same sum whatever the order of the rows
    spread = y.std()
    return float((((y - y.mean()) / spread) ** power).mean()) if spread > 0 else math.nan
