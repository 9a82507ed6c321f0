"""Which of many made columns are worth keeping: those that explain what single columns do not.

Boosted trees learn what a single column says by themselves. So an additive model of the single columns is fitted first,
and a candidate is worth what it explains of the residual: the screen for pairs of GA2M (Lou et al., Accurate
intelligible models with pairwise interactions, KDD 2013), here for any column. What half of the rows say is judged on
the other half, so that a random target leaves next to nothing.
"""

from dataclasses import dataclass, replace

import numpy as np

from automl_cli.features.matrix import Array
from automl_cli.task import TaskKind

SAMPLE_ROWS = 8_000
MOST_BINS = 16
ROWS_PER_BIN = 40
EDGE_ROWS = 2_000
MOST_TARGETS = 4
LARGEST_TARGET = 3.0
"""Standardised values beyond are pulled in: a few outliers of the target would decide alone."""
SWEEPS = 6
RATE = 0.5
SHRINK = 5.0
"""Rows of zero residual that each bin's mean is mixed with."""
MOST_SHARE = 0.9
"""A column with more of its rows in one bin, or missing, is next to constant."""
NOISE = 12.0
"""A gain below so many rows' worth of the residual's variance is what chance gives to the best of some hundred.

Asked of crosses, whose statistics are made from the target. A formula or group is a column like any other, which a
model can leave alone: there any gain is enough, which measured better.
"""


@dataclass(frozen=True, eq=False)
class Screen:
    """Some training rows, and what is left to explain of their target.

    Attributes
    ----------
    rows : ndarray of shape (n,), int64
        Positions among the training rows, increasing.
    residual : ndarray of shape (n_targets, n), float64
    half : ndarray of shape (n,), int64
        0 or 1.
    n_bins : int
        Bins of a numeric column; missing values have one more.
    """

    rows: Array
    residual: Array
    half: Array
    n_bins: int

    @property
    def least_gain(self) -> float:
        """What a cross must reach."""
        return NOISE / max(1, len(self.rows))

    def gain(self, code: Array, n_levels: int) -> float:
        """Return the share of the residual's variance that the means per level explain, each half by the other.

        Parameters
        ----------
        code : ndarray of shape (n,), int64
            From 0 to ``n_levels - 1``.
        """
        cell = code + n_levels * self.half
        counts = np.bincount(cell, minlength=2 * n_levels).reshape(2, n_levels)
        if counts.sum(axis=0).max(initial=0) > MOST_SHARE * len(code):
            return 0.0
        explained = 0.0
        for residual in self.residual:
            sums = np.bincount(cell, weights=residual, minlength=2 * n_levels).reshape(2, n_levels)
            means = (sums / (counts + SHRINK))[::-1]
            explained += float((2 * means * sums - counts * means**2).sum())
        return explained / max(float((self.residual**2).sum()), np.finfo(float).tiny)

    def means_elsewhere(self, code: Array, n_levels: int) -> Array:
        """Return what each half's rows get from the other half's means per level, float64 of shape (n_targets, n)."""
        cell = code + n_levels * self.half
        count = np.bincount(cell, minlength=2 * n_levels) + SHRINK
        other = code + n_levels * (1 - self.half)
        return np.array([(np.bincount(cell, weights=r, minlength=2 * n_levels) / count)[other] for r in self.residual])

    def gain_of(self, column: Array) -> float:
        """Return the share of the residual's variance that a multiple of ``column``, shape (n_targets, n), explains."""
        product = max(float((self.residual * column).sum()), 0.0)
        tiny = np.finfo(float).tiny
        return product**2 / max(float((self.residual**2).sum()) * float((column**2).sum()), tiny)

    def gains(self, bins: Array) -> Array:
        """Return the gain of each column of ``bins``, shape (n, n_columns), from `binned`."""
        return np.array([self.gain(column, self.n_bins + 1) for column in np.ascontiguousarray(bins.T, dtype=np.int64)])

    def without_main_effects(self, columns: list[Array]) -> "Screen":
        """Return a screen whose residual is free of what the coded columns say one by one.

        Parameters
        ----------
        columns : list of ndarray of shape (n,), int64
            Codes from 0 on.
        """
        counts = [np.bincount(column) + SHRINK for column in columns]
        residual = self.residual.copy()
        for _ in range(SWEEPS):
            for column, count in zip(columns, counts, strict=True):
                for k in range(len(residual)):
                    residual[k] -= (RATE * np.bincount(column, weights=residual[k]) / count)[column]
        return replace(self, residual=residual)


def open_screen(y: Array, kind: TaskKind, n_outputs: int, seed: int, *, most: int = SAMPLE_ROWS) -> Screen:
    """Pick at most so many rows at random and centre their target."""
    rng = np.random.default_rng(seed)
    rows = np.sort(rng.permutation(len(y))[:most])
    targets = _targets(y[rows], kind, n_outputs, rng)
    n_bins = int(np.clip(len(rows) // ROWS_PER_BIN, 4, MOST_BINS))
    return Screen(rows, targets - targets.mean(axis=1, keepdims=True), rng.permutation(len(rows)) % 2, n_bins)


def _targets(y: Array, kind: TaskKind, n_outputs: int, rng: np.random.Generator) -> Array:
    """Return float64 of shape (n_targets, n): standardised values, indicators, or random halves of many classes.

    A random division of the classes in two asks about all of them at the price of one (Dietterich and Bakiri, Solving
    multiclass learning problems via error-correcting output codes, JAIR 1995).
    """
    if kind == TaskKind.REGRESSION:
        # by the largest first: squares of large values overflow
        scaled = y / max(float(np.abs(y).max(initial=0.0)), np.finfo(float).tiny)
        centred = scaled - np.median(scaled)
        spread = float(np.sqrt(np.mean(centred**2))) or 1.0
        return np.asarray(np.clip(centred / spread, -LARGEST_TARGET, LARGEST_TARGET))[None]
    if n_outputs <= MOST_TARGETS:
        classes = [1] if n_outputs == 2 else list(range(n_outputs))
        return np.array([y == k for k in classes], dtype=np.float64)
    sides = np.array([rng.permutation(n_outputs) % 2 for _ in range(MOST_TARGETS)], dtype=np.float64)
    return np.asarray(sides[:, y.astype(np.int64)])


def binned(values: Array, n_bins: int) -> Array:
    """Cut each column into bins of about equal rows; missing values have the last bin of their own.

    Parameters
    ----------
    values : ndarray of shape (n, n_columns)

    Returns
    -------
    ndarray of shape (n, n_columns), uint8, 0 to ``n_bins``

    >>> binned(np.array([[1.0], [2.0], [3.0], [4.0], [np.nan]]), 2).ravel()
    array([0, 0, 1, 1, 2], dtype=uint8)
    """
    step = max(1, len(values) // EDGE_ROWS)
    ordered = np.sort(values[::step], axis=0)  # NaN last
    missing = np.isnan(values)
    n_known = len(ordered) - np.isnan(ordered).sum(axis=0)
    bins = np.zeros(values.shape, dtype=np.uint8)
    for k in range(1, n_bins):
        at = np.maximum(n_known * k // n_bins - 1, 0)
        bins += values > np.take_along_axis(ordered, at[None], axis=0)
    bins[missing] = n_bins
    return bins


def ranks(values: Array) -> Array:
    """Return ranks of the rows in each column, centred and of unit length: products are rank correlations."""
    order = np.argsort(np.argsort(values, axis=0, kind="stable"), axis=0, kind="stable").astype(np.float64)
    order -= (len(values) - 1) / 2
    return order / max(float(np.sqrt((order[:, :1] ** 2).sum())), np.finfo(float).tiny) if values.size else order
