"""Looking up values by category code, for all columns at once.

All columns share one table: column ``j`` owns ``n_categories[j] + 2`` consecutive places, the first for values that
nobody knows, the second for a missing value, then one per code. A known value without a row in training (it occurs in
other rows of the training file) is to have the same in its place as the unknown ones: a fold is judged on such values
as a new file will be.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from automl_cli.features.matrix import Array

# cells handled at a time: bounds what a lookup holds beside its result
BLOCK_CELLS = 2**20
N_OTHERS = 2
"""Places of a column before that of its first code."""


def n_places(n_categories: Sequence[int]) -> int:
    """Length of the shared table.

    >>> n_places((2, 3))
    9
    """
    return sum(n_categories) + N_OTHERS * len(n_categories)


def starts(n_categories: Sequence[int]) -> Array:
    """Return each column's first place, int64.

    >>> starts((2, 3))
    array([0, 4])
    """
    sizes = np.asarray(n_categories, dtype=np.int64) + N_OTHERS
    first: Array = np.cumsum(sizes) - sizes
    return first


def codes_of_places(n_categories: Sequence[int]) -> Array:
    """Return the code each place stands for.

    >>> codes_of_places((2, 1))
    array([-2, -1,  0,  1, -2, -1,  0])
    """
    sizes = np.asarray(n_categories, dtype=np.int64) + N_OTHERS
    codes: Array = np.arange(sizes.sum()) - np.repeat(starts(n_categories), sizes) - N_OTHERS
    return codes


def places(codes: Array, n_categories: Sequence[int]) -> Array:
    """Return the place of each code, int64 of the same shape; -1 is missing, what is no code at all is unknown.

    >>> places(np.array([[0, -1], [7, 0], [-2, -2]]), (2, 1))
    array([[2, 5],
           [0, 6],
           [0, 4]])
    """
    known = (codes >= -1) & (codes < np.asarray(n_categories, dtype=np.int64))
    first = starts(n_categories)
    return np.where(known, first + codes + N_OTHERS, first)


def count(codes: Array, n_categories: Sequence[int]) -> Array:
    """Count rows per place, int64 of shape (n_places,)."""
    counts = [
        np.bincount(places(codes[:, [j]], (n_categories[j],))[:, 0], minlength=n_categories[j] + N_OTHERS)
        for j in range(len(n_categories))
    ]
    return np.concatenate([np.empty(0, dtype=np.int64), *counts])


def look_up(table: Array, codes: Array, n_categories: Sequence[int], out: Array) -> None:
    """Fill ``out`` of shape (n_rows, n_columns) with the table's values."""
    for rows in row_blocks(*codes.shape):
        out[rows] = table[places(codes[rows], n_categories)]


def row_blocks(n_rows: int, n_columns: int) -> Iterator[slice]:
    """Cut rows into slices of about `BLOCK_CELLS` cells.

    >>> list(row_blocks(3, 2**20))
    [slice(0, 1, None), slice(1, 2, None), slice(2, 3, None)]
    """
    step = max(1, BLOCK_CELLS // max(1, n_columns))
    return (slice(first, min(first + step, n_rows)) for first in range(0, n_rows, step))
