"""What meta-features are computed from: a bounded sample of a table, the same whatever its rows' and columns' order."""

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from automl_cli.features.frame import Frame
from automl_cli.features.matrix import Array
from automl_cli.features.rowhash import name_hash, quick_hashes
from automl_cli.metafeatures.tree import Tree, grow
from automl_cli.task import Task, TaskKind

MOST_ROWS = 10_000  # of the sample
MOST_COLUMNS = 200  # of each kind
MOST_LANDMARK_ROWS = 2_000
MOST_CLASSES = 64  # that the tree and landmarkers tell apart; the rarer ones are one
MOST_LEVELS = 32  # of a category that are told apart; the others are one
N_BINS = 10  # of a number where it stands in for a category


@dataclass(frozen=True, eq=False)
class View:
    """A table and its target as meta-features see them.

    Attributes
    ----------
    frame : Frame
        All rows: what can be counted is counted on them.
    task : Task
    rows : ndarray of shape (n_sampled,)
        Those of the sample, in an order that follows from their content.
    gained : dict of str to float
        What each landmarker's learner takes away, once it was asked: several meta-features ask the same.
    """

    frame: Frame
    task: Task
    rows: Array
    gained: dict[str, float] = field(default_factory=dict)

    @property
    def n_rows(self) -> int:
        """Labelled rows."""
        return self.frame.n_rows

    @property
    def n_columns(self) -> int:
        """Columns that a model may see."""
        return len(self.frame.schema.names)

    @property
    def is_regression(self) -> bool:
        """Whether values are predicted."""
        return self.task.kind is TaskKind.REGRESSION

    @cached_property
    def numbers(self) -> Array:
        """Numeric columns of the sample, float64 with NaN; infinite values count as missing."""
        columns = _chosen(self.frame.schema.numeric)
        X = np.asarray(self.frame.numbers[np.ix_(self.rows, columns)], dtype=np.float64)
        return np.where(np.isfinite(X), X, np.nan)

    @cached_property
    def codes(self) -> Array:
        """Categories of the sample by frequency, from 0 on; the rare ones are one, and so are missing and unknown."""
        columns = _chosen(self.frame.schema.categorical)
        codes = np.asarray(self.frame.codes[np.ix_(self.rows, columns)], dtype=np.int64)
        return np.where(codes < 0, MOST_LEVELS, np.minimum(codes, MOST_LEVELS - 1))

    @cached_property
    def y(self) -> Array:
        """Target of the sample."""
        return np.asarray(self.task.y)[self.rows]

    @cached_property
    def classes(self) -> Array:
        """Classes of the sample; of a regression ten classes of about equal size."""
        return _binned(self.y[:, None].astype(np.float64))[:, 0] if self.is_regression else self.y

    @cached_property
    def levels(self) -> Array:
        """All columns of the sample as categories: numbers in ten bins of about equal size, missing ones apart."""
        return np.column_stack([_binned(self.numbers), self.codes]).astype(np.int64)

    @cached_property
    def filled(self) -> Array:
        """Numbers of the sample, standardised, with the median where they are missing, shape (n_sampled, n_numeric)."""
        X = self.numbers
        with np.errstate(all="ignore"):
            middle = np.array([np.median(x[np.isfinite(x)]) if np.isfinite(x).any() else 0.0 for x in X.T])
            X = np.where(np.isnan(X), middle, X)
            spread = X.std(axis=0) if X.size else np.ones(X.shape[1])
            scaled = (X - X.mean(axis=0)) / np.where(spread > 0, spread, 1.0) if X.size else X
        return np.asarray(np.clip(np.nan_to_num(scaled), -10.0, 10.0))

    @cached_property
    def landmark_rows(self) -> Array:
        """Positions in the sample that landmarkers look at."""
        return np.arange(min(len(self.rows), MOST_LANDMARK_ROWS))

    @cached_property
    def landmark_classes(self) -> Array:
        """Classes of the landmarkers' rows from 0 on, the frequent ones by their order; the rarest are one."""
        codes, counts = np.unique(self.classes[self.landmark_rows], return_inverse=True, return_counts=True)[1:]
        if len(counts) <= MOST_CLASSES:
            return np.asarray(codes)
        number = np.full(len(counts), MOST_CLASSES - 1)
        frequent = np.sort(np.argsort(-counts, kind="stable")[: MOST_CLASSES - 1])
        number[frequent] = np.arange(MOST_CLASSES - 1)
        return np.asarray(number[codes])

    @cached_property
    def tree(self) -> Tree:
        """A small tree on the landmarkers' rows; a regression is one of ten classes of values."""
        return grow(self.levels[self.landmark_rows], self.landmark_classes)

    @cached_property
    def encoded(self) -> Array:
        """What landmarkers learn from: standardised numbers and the indicators of the most frequent categories."""
        rows = self.landmark_rows
        blocks = [self.filled[rows]]
        for column in self.codes[rows].T:
            levels, counts = np.unique(column, return_counts=True)
            frequent = np.sort(levels[np.argsort(-counts, kind="stable")][:10])
            blocks.append((column[:, None] == frequent[None, :]).astype(np.float64))
        return np.concatenate(blocks, axis=1)[:, :500]


def view_of(frame: Frame, task: Task) -> View:
    """Choose the sample by a hash of each row's content: permuted tables give the same rows, in the same order."""
    hashes = quick_hashes(frame, np.asarray(task.y))
    n = min(len(hashes), MOST_ROWS)
    smallest = np.argpartition(hashes, n - 1)[:n] if n < len(hashes) else np.arange(n)
    return View(frame, task, smallest[np.argsort(hashes[smallest], kind="stable")])


def _chosen(names: tuple[str, ...]) -> Array:
    """Return the columns that are looked at, ordered by name: all, or those whose names hash lowest."""
    order = sorted(range(len(names)), key=lambda i: name_hash(names[i]))
    return np.array(sorted(order[:MOST_COLUMNS], key=lambda i: names[i]), dtype=np.int64)


def _binned(X: Array) -> Array:
    """Return bins of about equal size by column, int64; missing values are the bin after the last."""
    bins = np.full(X.shape, N_BINS, dtype=np.int64)
    for column, values in enumerate(X.T):
        known = np.isfinite(values)
        if known.any():
            edges = np.unique(np.quantile(values[known], np.linspace(0, 1, N_BINS + 1)[1:-1]))
            bins[known, column] = np.searchsorted(edges, values[known], side="right")
    return bins
