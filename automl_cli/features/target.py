"""Encoding "target": categories by what the target was for them; everything else as it is."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from automl_cli.features import levels
from automl_cli.features.dates import DateParts
from automl_cli.features.frame import Frame, FrameSchema
from automl_cli.features.matrix import Array, Matrix, Source, as_matrix, as_sources
from automl_cli.features.native import check_schema
from automl_cli.features.numeric import Numbers
from automl_cli.features.store import read_arrays, write_arrays
from automl_cli.features.target_statistics import TargetStatistics, fit_statistics, learning_targets
from automl_cli.features.text import TextParts, fit_text, text_features
from automl_cli.task import TaskKind

# with two values a code says the same as a statistic, without the noise of the folds
MAX_PLAIN_LEVELS = 2


@dataclass(frozen=True, eq=False)
class TargetEncoder:
    """Numbers, codes of two-valued columns, target statistics of the others, date parts, text parts, in this order.

    Attributes
    ----------
    plain : ndarray of shape (n_places,), float32
        What each code of the two-valued columns becomes, see `automl_cli.features.levels`: itself, or NaN where it is
        missing or not in the training rows.
    """

    schema: FrameSchema
    numbers: Numbers
    plain: Array
    statistics: TargetStatistics
    dates: DateParts
    text: TextParts

    def transform(self, frame: Frame) -> Matrix:
        """Encode rows that were not trained on; raises `SchemaMismatch` for another frame's columns."""
        check_schema(frame, self.schema)
        return self._assemble(frame, self.statistics.transform(frame.codes))

    def sources(self) -> tuple[Source, ...]:
        """Return the source of each feature."""
        schema = self.schema
        numbers, categories = ([(name,) for name in names] for names in (schema.numeric, schema.categorical))
        plain = [categories[j] for j in _plain_columns(schema)]
        derived = (*self.dates.sources(schema.datetime), *self.text.sources(schema.text))
        return as_sources((*numbers, *plain, *self.statistics.sources(categories), *derived))

    def _assemble(self, frame: Frame, statistics: Array) -> Matrix:
        plain = _plain_columns(self.schema)
        n_numeric = len(self.schema.numeric)
        blocks = (statistics, self.dates.transform(frame.days), text_features(self.text, frame))
        n_plain = n_numeric + len(plain)
        X = np.empty((frame.n_rows, n_plain + sum(block.shape[1] for block in blocks)), dtype=np.float32)
        self.numbers.write(X[:, :n_numeric], frame.numbers)
        levels.look_up(self.plain, frame.codes[:, plain], _sizes(self.schema, plain), X[:, n_numeric:n_plain])
        first = n_plain
        for block in blocks:
            X[:, first : first + block.shape[1]] = block
            first += block.shape[1]
        return as_matrix(X)


def _plain_columns(schema: FrameSchema) -> Array:
    return np.flatnonzero(np.asarray(schema.n_categories, dtype=np.int64) <= MAX_PLAIN_LEVELS)


def _sizes(schema: FrameSchema, columns: Array) -> tuple[int, ...]:
    return tuple(schema.n_categories[j] for j in columns)


def _fit_plain(codes: Array, n_categories: tuple[int, ...]) -> Array:
    own = levels.codes_of_places(n_categories)
    seen = levels.count(codes, n_categories) > 0
    return np.where((own >= 0) & seen, own, np.nan).astype(np.float32)


def fit_target(frame: Frame, y: Array, kind: TaskKind, n_outputs: int, seed: int) -> tuple[TargetEncoder, Matrix]:
    """Fit "target"; the training rows' matrix holds out-of-fold statistics, so a model cannot read its target there."""
    plain = _plain_columns(frame.schema)
    columns = np.setdiff1d(np.arange(len(frame.schema.categorical)), plain)
    statistics, oof = fit_statistics(frame, columns, learning_targets(y, kind, n_outputs), seed)
    encoder = TargetEncoder(
        schema=frame.schema,
        numbers=Numbers.fit(frame.numbers),
        plain=_fit_plain(frame.codes[:, plain], _sizes(frame.schema, plain)),
        statistics=statistics,
        dates=DateParts.fit(frame.days),
        text=fit_text(frame, seed),
    )
    return encoder, encoder._assemble(frame, oof)


def save_target(encoder: TargetEncoder, folder: Path) -> None:
    """Write a "target" encoder into an existing folder."""
    arrays = {"plain": encoder.plain}
    for part in (encoder.numbers, encoder.statistics, encoder.dates, encoder.text):
        arrays |= part.arrays()
    write_arrays(folder, "target", encoder.schema, arrays)


def load_target(folder: Path) -> TargetEncoder:
    """Read what `save_target` wrote; raises `BadArtifact` for anything malformed."""
    stored = read_arrays(folder, "target")
    n_plain = levels.n_places(_sizes(stored.schema, _plain_columns(stored.schema)))
    return TargetEncoder(
        schema=stored.schema,
        numbers=Numbers.read(stored),
        plain=stored.array("plain", np.float32, (n_plain,), low=0, high=MAX_PLAIN_LEVELS - 1, missing=True),
        statistics=TargetStatistics.read(stored),
        dates=DateParts.read(stored),
        text=TextParts.read(stored),
    )
