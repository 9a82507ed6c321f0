"""Encoded rows, as every model sees them."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

Source = tuple[str, ...]
"""Names of the columns that a feature is made of."""


@dataclass(frozen=True)
class Matrix:
    """Encoded rows.

    Attributes
    ----------
    X : ndarray of shape (n_rows, n_features), float32, C-contiguous
        NaN is missing, where the encoding leaves missing values in.
    categorical : tuple of int
        Features that hold codes 0, 1, ... of a category (NaN where the training rows did not have the value).
    names : tuple of str
        One ASCII name per feature, safe for every library (``f0``, ``f1``, ...).
    """

    X: Array
    categorical: tuple[int, ...]
    names: tuple[str, ...]


def as_sources(sources: Iterable[Source]) -> tuple[Source, ...]:
    """Return the sources of a matrix that `as_matrix` made: the constant of an empty one comes from no column.

    >>> as_sources([])
    ((),)
    """
    return tuple(sources) or ((),)


def as_matrix(X: Array, categorical: tuple[int, ...] = ()) -> Matrix:
    """Name the features; no features at all become one constant, because libraries refuse empty matrices.

    >>> as_matrix(np.empty((2, 0), dtype=np.float32))
    Matrix(X=array([[0.],
           [0.]], dtype=float32), categorical=(), names=('f0',))
    """
    if not X.shape[1]:
        X = np.zeros((len(X), 1), dtype=np.float32)
    X = np.ascontiguousarray(X, dtype=np.float32)
    return Matrix(X, categorical, tuple(f"f{i}" for i in range(X.shape[1])))
