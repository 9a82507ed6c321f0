"""Encoding "one_hot": everything complete, of one scale and in columns, for linear models and neighbours."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from automl_cli.features import levels
from automl_cli.features.dates import DateParts
from automl_cli.features.frame import Frame, FrameSchema
from automl_cli.features.indicators import MAX_LEVELS, Indicators, n_levels_seen
from automl_cli.features.matrix import Array, Matrix, Source, as_matrix, as_sources
from automl_cli.features.native import check_schema
from automl_cli.features.scaling import Scaling
from automl_cli.features.store import read_arrays, write_arrays
from automl_cli.features.target_statistics import TargetStatistics, fit_statistics, learning_targets
from automl_cli.features.text import TextParts, fit_text, text_features
from automl_cli.task import TaskKind

MAX_WIDTH = 5_000
"""Features at most; of more, those are kept that correlate most with the target in the training rows."""
SAMPLE_CELLS = 10_000_000
"""Cells of the training rows that scales are learned from: bounds the memory of a wide table."""
SAMPLE_ROWS = 20_000


@dataclass(frozen=True, eq=False)
class OneHotEncoder:
    """Scaled numbers, date parts, text parts and target statistics with their indicators of missing; then categories.

    Attributes
    ----------
    kept : ndarray of shape (n_features,), int32, increasing
        Which of the built features are used.
    """

    schema: FrameSchema
    dates: DateParts
    text: TextParts
    statistics: TargetStatistics
    scaling: Scaling
    indicators: Indicators
    kept: Array

    def transform(self, frame: Frame) -> Matrix:
        """Encode rows that were not trained on; raises `SchemaMismatch` for another frame's columns."""
        check_schema(frame, self.schema)
        return self._assemble(frame, _derived(frame, self.dates, self.text, self.statistics.transform(frame.codes)))

    def sources(self) -> tuple[Source, ...]:
        """Return the source of each feature."""
        schema = self.schema
        numbers, categories = ([(name,) for name in names] for names in (schema.numeric, schema.categorical))
        derived = (*self.dates.sources(schema.datetime), *self.text.sources(schema.text))
        scaled = self.scaling.sources((*numbers, *derived, *self.statistics.sources(categories)))
        built = (*scaled, *self.indicators.sources(schema.categorical))
        return as_sources(built[k] for k in self.kept)

    def _assemble(self, frame: Frame, derived: Array) -> Matrix:
        built = self.scaling.width + self.indicators.width
        X = np.empty((frame.n_rows, len(self.kept)), dtype=np.float32)
        all_kept = len(self.kept) == built
        for rows in levels.row_blocks(frame.n_rows, built):
            block = np.zeros((rows.stop - rows.start, built), dtype=np.float32)
            block[:, : self.scaling.width] = self.scaling.transform(np.hstack([frame.numbers[rows], derived[rows]]))
            self.indicators.write(block[:, self.scaling.width :], frame.codes[rows])
            X[rows] = block if all_kept else block[:, self.kept]
        self._write_skewed(X, frame.numbers, derived)
        return as_matrix(X)

    def _write_skewed(self, X: Array, numbers: Array, derived: Array) -> None:
        """Fill in skewed columns one after the other: in the row blocks of a wide table they would be very short."""
        n_numeric = numbers.shape[1]
        places = np.searchsorted(self.kept, self.scaling.skewed)
        for i, (place, column) in enumerate(zip(places, self.scaling.skewed, strict=True)):
            if place < len(self.kept) and self.kept[place] == column:
                values = numbers[:, column] if column < n_numeric else derived[:, column - n_numeric]
                X[:, place] = self.scaling.normal_scores(i, values)


def fit_one_hot(frame: Frame, y: Array, kind: TaskKind, n_outputs: int, seed: int) -> tuple[OneHotEncoder, Matrix]:
    """Fit "one_hot"; the training rows' matrix holds out-of-fold statistics of high-cardinality categories."""
    targets = learning_targets(y, kind, n_outputs)
    n_categories = frame.schema.n_categories
    many = np.flatnonzero(n_levels_seen(frame.codes, n_categories) > MAX_LEVELS) if n_categories else np.arange(0)
    statistics, oof = fit_statistics(frame, many, targets, seed)
    indicators = Indicators.fit(frame.codes, n_categories)
    dates, text = DateParts.fit(frame.days), fit_text(frame, seed)
    derived = _derived(frame, dates, text, oof)
    rows = _sample(frame.n_rows, len(frame.schema.numeric) + derived.shape[1], seed)
    scaling = Scaling.fit(np.hstack([frame.numbers[rows], derived[rows]]))
    varying = np.concatenate([scaling.scale > 0, np.ones(len(scaling.flagged) + indicators.width, dtype=bool)])
    kept = np.flatnonzero(varying).astype(np.int32)
    encoder = OneHotEncoder(frame.schema, dates, text, statistics, scaling, indicators, kept)
    if len(kept) > MAX_WIDTH:
        rows = _sample(frame.n_rows, len(kept), seed)
        related = _strongest(encoder._assemble(frame.take(rows), derived[rows]).X, targets[rows])
        encoder = replace(encoder, kept=kept[related], scaling=scaling.limited_to(kept[related]))
    return encoder, encoder._assemble(frame, derived)


def save_one_hot(encoder: OneHotEncoder, folder: Path) -> None:
    """Write a "one_hot" encoder into an existing folder."""
    arrays = {"kept": encoder.kept}
    for part in (encoder.dates, encoder.text, encoder.statistics, encoder.scaling, encoder.indicators):
        arrays |= part.arrays()
    write_arrays(folder, "one_hot", encoder.schema, arrays)


def load_one_hot(folder: Path) -> OneHotEncoder:
    """Read what `save_one_hot` wrote; raises `BadArtifact` for anything malformed."""
    stored = read_arrays(folder, "one_hot")
    dates, text, statistics = DateParts.read(stored), TextParts.read(stored), TargetStatistics.read(stored)
    n_continuous = len(stored.schema.numeric) + dates.width + text.width + statistics.width
    scaling, indicators = Scaling.read(stored, n_continuous), Indicators.read(stored)
    built = scaling.width + indicators.width
    kept = stored.array("kept", np.int32, (None,), low=0, high=built - 1)
    return OneHotEncoder(stored.schema, dates, text, statistics, scaling, indicators, kept)


def _derived(frame: Frame, dates: DateParts, text: TextParts, statistics: Array) -> Array:
    """Everything continuous but the numbers, float32."""
    return np.hstack([dates.transform(frame.days), text_features(text, frame), statistics])


def _sample(n_rows: int, n_columns: int, seed: int) -> Array:
    """Rows to learn scales from: all of them, or a random part, in their order."""
    n_picked = max(1_000, min(SAMPLE_ROWS, SAMPLE_CELLS // max(1, n_columns)))
    if n_rows <= n_picked:
        return np.arange(n_rows)
    return np.sort(np.random.default_rng(seed).choice(n_rows, n_picked, replace=False))


def _strongest(X: Array, targets: Array) -> Array:
    """Return the `MAX_WIDTH` features with the largest correlation to any target, in their order."""
    centred = X - X.mean(axis=0)
    norm = np.sqrt(np.einsum("ij,ij->j", centred, centred))
    covariance = np.abs((targets - targets.mean(axis=0)).T @ centred).max(axis=0, initial=0.0)
    strength = covariance / np.maximum(norm, 1e-12)
    return np.sort(np.argsort(-strength, kind="stable")[:MAX_WIDTH])
