"""A small classification tree on binned columns, grown for its shape."""

import math
from dataclasses import dataclass

import numpy as np

from automl_cli.features.matrix import Array

DEEPEST = 6
FEWEST_ROWS = 10  # of a leaf


@dataclass(frozen=True, eq=False)
class Tree:
    """Depth and rows of each leaf, and the fall of impurity that each column brought, shape (n_columns,)."""

    depths: tuple[int, ...]
    rows: tuple[int, ...]
    gains: Array


def grow(levels: Array, classes: Array) -> Tree:
    """Grow a tree on binned columns: cuts between bins, by the fall of Gini's impurity, at most `DEEPEST` deep."""
    gains = np.zeros(levels.shape[1])
    k = int(classes.max(initial=0)) + 1
    leaves: list[tuple[int, int]] = []
    open_nodes = [(np.arange(len(classes)), 0)]
    while open_nodes:
        rows, depth = open_nodes.pop()
        cut = _best_cut(levels[rows], classes[rows], k) if depth < DEEPEST and len(rows) >= 2 * FEWEST_ROWS else None
        if cut is None:
            leaves.append((depth, len(rows)))
            continue
        column, level, gain = cut
        gains[column] += gain
        below = levels[rows, column] <= level
        open_nodes += [(rows[below], depth + 1), (rows[~below], depth + 1)]
    return Tree(tuple(depth for depth, _ in leaves), tuple(n for _, n in leaves), gains)


def _best_cut(levels: Array, classes: Array, k: int) -> tuple[int, int, float] | None:
    n, p = levels.shape
    m = int(levels.max(initial=0)) + 1
    if not p or m < 2:
        return None
    cells = (np.arange(p)[None, :] * m + levels) * k + classes[:, None]
    table = np.bincount(cells.ravel(), minlength=p * m * k).reshape(p, m, k)
    left = table.cumsum(axis=1)[:, :-1]
    right = left[:, -1:] + table[:, -1:] - left
    n_left, n_right = left.sum(axis=2), right.sum(axis=2)
    allowed = (n_left >= FEWEST_ROWS) & (n_right >= FEWEST_ROWS)
    before = float((np.bincount(classes, minlength=k) ** 2).sum() / n)
    after = (left**2).sum(axis=2) / np.maximum(n_left, 1) + (right**2).sum(axis=2) / np.maximum(n_right, 1)
    gain = np.where(allowed, after - before, -math.inf)
    column, level = np.unravel_index(int(gain.argmax()), gain.shape)
    best = float(gain[column, level])
    return (int(column), int(level), best) if best > 1e-9 * n else None
