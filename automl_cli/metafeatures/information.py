"""Entropy and mutual information; numbers are cut into ten bins of about equal size (Michie et al. 1994, ch. 7)."""

import math

import numpy as np

from automl_cli.features.matrix import Array
from automl_cli.metafeatures.view import View

SOURCE = "Michie, Spiegelhalter and Taylor 1994, ch. 7"


def mean_attribute_entropy(view: View) -> float:
    """Return the mean over columns of H(x) / log(levels)."""
    found = [_entropy(np.bincount(x)) / math.log(n) for x in view.levels.T if (n := len(np.unique(x))) > 1]
    return float(np.mean(found)) if found else math.nan


def mean_mutual_information(view: View) -> float:
    """Return the mean over columns of I(x; y) / H(y), without the bias (levels - 1)(classes - 1) / 2n (Miller 1955)."""
    found = _information(view)
    return float(np.mean(found)) if len(found) else math.nan


def largest_mutual_information(view: View) -> float:
    """Return the largest of these."""
    found = _information(view)
    return float(found.max()) if len(found) else math.nan


def log_equivalent_columns(view: View) -> float:
    """Return log10(H(y) / mean I(x; y)): how many columns like the mean one would tell the class (Michie et al.)."""
    mean = mean_mutual_information(view)
    return math.log10(min(1e4, 1.0 / mean)) if mean > 0 else math.nan if math.isnan(mean) else 4.0


def concentration(view: View) -> float:
    """Return the share of all columns' information that the best tenth of them holds, at least one column."""
    found = np.sort(_information(view))[::-1]
    total = found.sum()
    return float(found[: max(1, len(found) // 10)].sum() / total) if total > 0 else math.nan


def _information(view: View) -> Array:
    classes = np.unique(view.classes, return_inverse=True)[1]
    k, n = int(classes.max(initial=0)) + 1, len(classes)
    of_target = _entropy(np.bincount(classes)) if n else 0.0
    if k < 2 or of_target <= 0:
        return np.zeros(0)
    found = []
    for column in view.levels.T:
        levels = np.unique(column, return_inverse=True)[1]
        m = int(levels.max(initial=0)) + 1
        table = np.bincount(levels * k + classes, minlength=m * k)
        shared = _entropy(np.bincount(levels)) + of_target - _entropy(table)
        found.append(max(0.0, shared - (m - 1) * (k - 1) / (2 * n)) / of_target)
    return np.array(found)


def _entropy(counts: Array) -> float:
    """Return the entropy of counts, in nats."""
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log(shares)).sum())
