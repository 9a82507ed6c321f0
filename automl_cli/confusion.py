"""Metrics of labels as functions of confusion tables, of many tables at once: what a search for thresholds needs."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def _share(part: Array, whole: Array) -> Array:
    """Divide; 0 where there is nothing to divide by."""
    return np.divide(part, whole, out=np.zeros(np.shape(part)), where=whole > 0)


def _hits(tables: Array) -> Array:
    return np.diagonal(tables, axis1=-2, axis2=-1)


def balanced_accuracy_of_tables(tables: Array) -> Array:
    """Losses of confusion tables of shape (..., n_classes, n_classes), as `metrics.balanced_accuracy_loss`."""
    rows = tables.sum(axis=-1)
    n_present = (rows > 0).sum(axis=-1)
    return np.where(n_present > 0, 1.0 - _share(_share(_hits(tables), rows).sum(axis=-1), n_present), 0.5)


def _f1(tables: Array) -> tuple[Array, Array]:
    """Return F1 by class, and which classes occur among truths or predictions."""
    both = tables.sum(axis=-2) + tables.sum(axis=-1)
    return _share(2.0 * _hits(tables), both), both > 0


def f1_of_tables(tables: Array) -> Array:
    """Losses of confusion tables of shape (..., 2, 2), as `metrics.f1_loss`."""
    return 1.0 - _f1(tables)[0][..., 1]


def f1_macro_of_tables(tables: Array) -> Array:
    """Losses of confusion tables of shape (..., n_classes, n_classes), as `metrics.f1_macro_loss`."""
    scores, occur = _f1(tables)
    return np.asarray(1.0 - _share(scores.sum(axis=-1), occur.sum(axis=-1)))


def mcc_of_tables(tables: Array) -> Array:
    """Losses of confusion tables of shape (..., n_classes, n_classes), as `metrics.mcc_loss`."""
    true, said, total = tables.sum(axis=-1), tables.sum(axis=-2), tables.sum(axis=(-2, -1))
    spread = (total**2 - (true**2).sum(axis=-1)) * (total**2 - (said**2).sum(axis=-1))
    known = spread > 1e-12 * total**4
    covariance = _hits(tables).sum(axis=-1) * total - (true * said).sum(axis=-1)
    return np.maximum(0.0, 1.0 - np.where(known, covariance / np.sqrt(np.where(known, spread, 1.0)), 0.0))
