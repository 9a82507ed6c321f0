"""Which training rows a family that keeps them keeps."""

import numpy as np

from automl_cli.features.matrix import Array

RARE = 50


def sampled_rows(y: Array, most: int, regression: bool, seed: int, *, rare: int = RARE) -> Array:
    """Return rows, ascending: all of them, or a random part in which no class is lost.

    Parameters
    ----------
    y : ndarray of shape (n_rows,)
        Values, or class indices.
    most : int
        So many at most, and rows of rare classes beyond it.
    rare : int
        Rows that each class keeps, as far as it has them.
    """
    if len(y) <= most:
        return np.arange(len(y))
    order = np.random.default_rng(seed).permutation(len(y))
    if regression:
        return np.sort(order[:most])
    kept: list[Array] = [order[:most]]
    for label, count in zip(*np.unique(y, return_counts=True), strict=True):
        of_class = order[y[order] == label]
        kept.append(of_class[: min(int(count), rare)])
    return np.unique(np.concatenate(kept))
