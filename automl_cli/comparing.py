"""Columns of two tables side by side, as far as they can be compared."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from automl_cli.features.frame import Frame
from automl_cli.features.matrix import Array

LEAST_ROWS_PER_VALUE = 4  # of a number that says when rather than how much


@dataclass(frozen=True)
class Compared:
    """Columns of both tables side by side: float64 of shape (n_rows, n_compared), NaN missing, codes by number.

    Attributes
    ----------
    kept : tuple of int
        Which of the columns of `plain_rows` these are.
    apart : tuple of str
        Columns that are left out because the two have no value of them in common.
    """

    source: Array
    target: Array
    names: tuple[str, ...]
    categorical: tuple[int, ...]
    kept: tuple[int, ...]
    apart: tuple[str, ...] = ()


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
    So do a year or another number of the calendar, and a category, of which no value is in both; they stay where
    nothing else can be compared.
    """
    schema, there = source.schema, shared_columns(source, target)
    names = (*schema.numeric, *schema.categorical, *schema.datetime, *schema.text)
    (X, categorical), (Z, _) = plain_rows(source), plain_rows(target)
    left_out = {*schema.datetime, *unlike}
    kept = [j for j, name in enumerate(names) if name in there and name not in left_out]
    apart = [j for j in kept if _apart(X[:, j], Z[:, j], coded=j in categorical)]
    apart = apart if len(apart) < len(kept) else []
    kept = [j for j in kept if j not in apart]
    coded = tuple(i for i, j in enumerate(kept) if j in categorical)
    if len(kept) < len(names):
        X, Z = X[:, kept], Z[:, kept]
    return Compared(X, Z, tuple(names[j] for j in kept), coded, tuple(kept), tuple(names[j] for j in apart))


def not_compared(names: Sequence[str]) -> list[str]:
    """Say which columns were left out because two tables have no value of them in common; nothing where none was.

    >>> not_compared(["year", "week"])
    ["Not compared: 'year', 'week', of which no value is in both tables."]
    """
    return [f"Not compared: {', '.join(map(repr, names))}, of which no value is in both tables."] if names else []


def _apart(old: Array, new: Array, *, coded: bool) -> bool:
    """Whether two columns have no value in common; of numbers only where many rows share each, as those of a week.

    Measurements that lie apart are of another unit or another world, and that is to be seen.
    """
    if coded:
        found = [np.bincount(values[values >= 0].astype(np.int64)) > 0 for values in (old, new)]
        n = min(map(len, found))
        return not (found[0][:n] & found[1][:n]).any()
    old, new = (values[~np.isnan(values)] for values in (old, new))
    if not len(old) or not len(new) or (old.max() >= new.min() and new.max() >= old.min()):
        return False
    return all(len(np.unique(values)) <= len(values) / LEAST_ROWS_PER_VALUE for values in (old, new))


def shared_columns(source: Frame, target: Frame) -> frozenset[str]:
    """Return the columns that have a value in both frames of one schema."""
    return frozenset(_with_values(source) & _with_values(target))


def _with_values(frame: Frame) -> set[str]:
    schema = frame.schema
    there = {name for k, name in enumerate(schema.numeric) if not np.isnan(frame.numbers[:, k]).all()}
    there |= {name for k, name in enumerate(schema.categorical) if (frame.codes[:, k] != -1).any()}
    there |= {name for k, name in enumerate(schema.datetime) if not np.isnan(frame.days[:, k]).all()}
    return there | {name for k, name in enumerate(schema.text) if (frame.text_lengths(k) >= 0).any()}
