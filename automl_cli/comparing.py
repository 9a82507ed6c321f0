"""Columns of two tables side by side, as far as they can be compared."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from automl_cli.features.frame import Frame
from automl_cli.features.matrix import Array


@dataclass(frozen=True)
class Compared:
    """Columns of both tables side by side: float64 of shape (n_rows, n_compared), NaN missing, codes by number.

    Attributes
    ----------
    kept : tuple of int
        Which of the columns of `plain_rows` these are.
    """

    source: Array
    target: Array
    names: tuple[str, ...]
    categorical: tuple[int, ...]
    kept: tuple[int, ...]


def plain_rows(frame: Frame) -> tuple[Array, tuple[int, ...]]:
    """Return numbers, codes and days side by side, float64 of shape (n_rows, n_features), and which are codes.

    Of a text its length is looked at.
    """
    n_numeric, n_coded = len(frame.schema.numeric), len(frame.schema.categorical)
    lengths = [frame.text_lengths(k).astype(np.float64)[:, None] for k in range(len(frame.texts))]
    X = np.hstack([frame.numbers, frame.codes.astype(np.float64), frame.days, *lengths])
    return X, tuple(range(n_numeric, n_numeric + n_coded))


def compared_columns(source: Frame, target: Frame, unlike: Sequence[str] = ()) -> Compared:
    """Lay the columns of two frames of one schema out as numbers.

    Dates are left out, since time goes on, and columns that one of the two lacks: they tell all and say nothing.
    """
    schema = source.schema
    names = (*schema.numeric, *schema.categorical, *schema.datetime, *schema.text)
    (X, categorical), (Z, _) = plain_rows(source), plain_rows(target)
    empty = [
        {j for j, name in enumerate(names) if not _present(table[:, j], name in schema.categorical).any()}
        for table in (X, Z)
    ]
    kept = [
        j
        for j, name in enumerate(names)
        if name not in schema.datetime and name not in unlike and j not in empty[0] | empty[1]
    ]
    coded = tuple(i for i, j in enumerate(kept) if j in categorical)
    return Compared(X[:, kept], Z[:, kept], tuple(names[j] for j in kept), coded, tuple(kept))


def _present(column: Array, is_code: bool) -> Array:
    return column != -1 if is_code else ~np.isnan(column)
