"""Which training rows a family that keeps them keeps, and how others are compared with them."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

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


def by_chunks(predict: Callable[[Array], Array], X: Array, size: int, threads: int) -> Array:
    """Return what a function says of rows, ``size`` of them at a time and several chunks side by side.

    Native libraries get one thread for each chunk: the product of two matrices then has the same last bits on any
    machine's cores.
    """
    from threadpoolctl import threadpool_limits  # noqa: PLC0415

    chunks = [X[start : start + size] for start in range(0, max(len(X), 1), size)]
    with threadpool_limits(1), ThreadPoolExecutor(max(threads, 1)) as pool:
        # One thread is the caller's own: what it takes is measured there.
        in_order: Callable[..., Iterable[Array]] = pool.map if threads > 1 else map
        return np.concatenate(list(in_order(predict, chunks)))
