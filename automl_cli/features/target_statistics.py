"""Target statistics: a category is replaced by what the target was for its training rows.

Micci-Barreca, A preprocessing scheme for high-cardinality categorical attributes, SIGKDD Explorations 2001; training
rows get statistics of the other folds only, as in AutoGluon's OOFTargetEncoding (5 folds, alpha 10).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from automl_cli.features import levels
from automl_cli.features.frame import Frame
from automl_cli.features.matrix import Array, Source
from automl_cli.features.store import Stored
from automl_cli.task import TaskKind

N_FOLDS = 5
ALPHA = 10.0
"""Rows of prior that each category's mean is mixed with."""
MAX_CLASSES = 10
# a mean of standardised values cannot be larger than this with fewer rows than its square
LARGEST_MEAN = 1e6


@dataclass(frozen=True, eq=False)
class TargetStatistics:
    """Smoothed means of the target per category, and how frequent the category is.

    Attributes
    ----------
    columns : ndarray of shape (n_columns,), int32, increasing
        Which of the frame's categorical columns are encoded.
    n_categories : tuple of int
        Theirs.
    table : ndarray of shape (n_places, n_targets + 1), float32
        Means per target, then the share of training rows. A category without training rows has the overall mean.
    """

    columns: Array
    n_categories: tuple[int, ...]
    table: Array

    @property
    def width(self) -> int:
        """Number of features: all of the first column, then of the second, ..."""
        return len(self.columns) * int(self.table.shape[1])

    def transform(self, codes: Array) -> Array:
        """Return float32 of shape (n_rows, width) for codes of all the frame's categorical columns."""
        out = np.empty((len(codes), self.width), dtype=np.float32)
        chosen = codes[:, self.columns]
        for rows in levels.row_blocks(len(codes), self.width):
            block = self.table[levels.places(chosen[rows], self.n_categories)]
            out[rows] = block.reshape(len(block), self.width)
        return out

    def sources(self, columns: Sequence[Source]) -> tuple[Source, ...]:
        """Return the source of each feature, for categorical columns of these sources."""
        return tuple(columns[j] for j in self.columns for _ in range(self.table.shape[1]))

    def arrays(self) -> Mapping[str, Array]:
        """Return what `read` needs."""
        return {"statistics.columns": self.columns, "statistics.table": self.table}

    @classmethod
    def read(cls, stored: Stored) -> "TargetStatistics":
        """Read and check what `arrays` gave; raises `BadArtifact`."""
        all_categories = stored.schema.n_categories
        columns = stored.array("statistics.columns", np.int32, (None,), low=0, high=len(all_categories) - 1)
        n_categories = tuple(all_categories[j] for j in columns)
        shape = (levels.n_places(n_categories), None)
        table = stored.array("statistics.table", np.float32, shape, low=-LARGEST_MEAN, high=LARGEST_MEAN)
        return cls(columns, n_categories, table)


def learning_targets(y: Array, kind: TaskKind, n_outputs: int) -> Array:
    """Return the target as float64 columns of shape (n_rows, n_targets) whose means are the statistics.

    Standardised values for a regression; for classes their indicators, of the positive class alone if there are two,
    of the most frequent ten if there are more.
    """
    if kind == TaskKind.REGRESSION:
        # by the largest first: squares of large values overflow
        scaled = y / max(float(np.abs(y).max(initial=0.0)), np.finfo(float).tiny)
        centred = scaled - (scaled.mean() if len(y) else 0.0)
        return np.asarray(centred / (np.sqrt(np.mean(centred**2)) if np.any(centred) else 1.0))[:, None]
    if kind == TaskKind.BINARY:
        return np.asarray(y == 1, dtype=np.float64)[:, None]
    frequency = np.bincount(y.astype(np.int64), minlength=n_outputs)
    chosen = np.sort(np.argsort(-frequency, kind="stable")[:MAX_CLASSES])
    return np.asarray(y[:, None] == chosen, dtype=np.float64)


def fit_statistics(frame: Frame, columns: Array, targets: Array, seed: int) -> tuple[TargetStatistics, Array]:
    """Learn statistics of some categorical columns.

    Parameters
    ----------
    columns : ndarray of shape (n_columns,), int32
        Positions among the frame's categorical columns.
    targets : ndarray of shape (n_rows, n_targets), float64
        From `learning_targets`.

    Returns
    -------
    TargetStatistics
        For rows that were not trained on.
    ndarray of shape (n_rows, width), float32
        For the training rows: each row's means come from the folds it is not in, nor any row of its group.
    """
    n_rows, n_targets = targets.shape
    n_categories = tuple(frame.schema.n_categories[j] for j in columns)
    folds = _folds(frame.groups, n_rows, seed)
    prior = targets.mean(axis=0) if n_rows else np.zeros(n_targets)
    tables = [np.empty((0, n_targets + 1), dtype=np.float32)]
    oof = np.empty((n_rows, len(columns), n_targets + 1), dtype=np.float32)
    for i, j in enumerate(columns):
        place = levels.places(frame.codes[:, [j]], (n_categories[i],))[:, 0]
        table, oof[:, i] = _fit_column(place, n_categories[i] + levels.N_OTHERS, folds, targets, prior)
        tables.append(table)
    statistics = TargetStatistics(columns.astype(np.int32), n_categories, np.concatenate(tables))
    return statistics, oof.reshape(n_rows, statistics.width)


def _folds(groups: Array | None, n_rows: int, seed: int) -> Array:
    """Return each row's fold; a group is in one, as new rows are of groups that nothing is known of."""
    rng = np.random.default_rng(seed)
    if groups is None:
        return rng.permutation(n_rows) % N_FOLDS
    kinds, group = np.unique(groups, return_inverse=True)
    return (rng.permutation(len(kinds)) % N_FOLDS)[group]


def _fit_column(place: Array, n_levels: int, folds: Array, targets: Array, prior: Array) -> tuple[Array, Array]:
    """Return the column's table and its out-of-fold rows, both with means per target and then the share."""
    cell = folds * n_levels + place
    counts = np.bincount(cell, minlength=N_FOLDS * n_levels)
    count = counts.reshape(N_FOLDS, n_levels).sum(axis=0)
    table = np.empty((n_levels, targets.shape[1] + 1), dtype=np.float32)
    oof = np.empty((len(place), table.shape[1]), dtype=np.float32)
    table[:, -1] = count / max(1, len(place))
    oof[:, -1] = table[place, -1]
    count_elsewhere = (np.tile(count, N_FOLDS) - counts)[cell]
    for k, share in enumerate(prior):
        sums = np.bincount(cell, weights=targets[:, k], minlength=N_FOLDS * n_levels)
        total = sums.reshape(N_FOLDS, n_levels).sum(axis=0)
        table[:, k] = (total + ALPHA * share) / (count + ALPHA)
        sum_elsewhere = (np.tile(total, N_FOLDS) - sums)[cell]
        oof[:, k] = (sum_elsewhere + ALPHA * share) / (count_elsewhere + ALPHA)
    return table, oof
