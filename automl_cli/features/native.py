"""Encodings "native" and "ordinal": values as they are, categories as codes.

Codes are positions among the column's values, most frequent first, so an order by code is an order by frequency.
Values of fewer than two training rows share a code, missing ones have one, and values without training rows are told
apart from both: a library may treat a code it never saw as one it knows, and LightGBM puts NaN and the rarest values
into one bin, where neither can be learned.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from automl_cli.errors import SchemaMismatch
from automl_cli.features import levels
from automl_cli.features.dates import DateParts
from automl_cli.features.frame import Frame, FrameSchema
from automl_cli.features.matrix import Array, Matrix, Source, as_matrix, as_sources
from automl_cli.features.numeric import Numbers
from automl_cli.features.store import Stored, read_arrays, write_arrays
from automl_cli.features.text import TextParts, fit_text, text_features
from automl_cli.task import TaskKind

# all rarer values share one code: boosters sort categories by gradient, which is learning by heart beyond this
MAX_NATIVE_LEVELS = 1_000
MIN_ROWS = 2
"""Training rows of a value with a code of its own; minimum_cat_count of AutoGluon's CategoryFeatureGenerator."""
ORDINAL_MISSING = -1.0
LARGEST_CODE = 2**24  # the last integer float32 counts


@dataclass(frozen=True, eq=False)
class CodeEncoder:
    """Numbers, category codes, date parts, text parts, in this order.

    Attributes
    ----------
    table : ndarray of shape (n_places,), float32
        What each category code becomes, see `automl_cli.features.levels`.
    declared : bool
        Whether the model is told which features are categories.
    """

    schema: FrameSchema
    numbers: Numbers
    table: Array
    dates: DateParts
    text: TextParts
    declared: bool

    def transform(self, frame: Frame) -> Matrix:
        """Encode rows of a frame with the training frame's schema; raises `SchemaMismatch` for another."""
        check_schema(frame, self.schema)
        n_numeric, n_categorical = len(self.schema.numeric), len(self.schema.categorical)
        categorical = slice(n_numeric, n_numeric + n_categorical)
        dated = slice(categorical.stop, categorical.stop + self.dates.width)
        X = np.empty((frame.n_rows, dated.stop + self.text.width), dtype=np.float32)
        self.numbers.write(X[:, :n_numeric], frame.numbers)
        levels.look_up(self.table, frame.codes, self.schema.n_categories, X[:, categorical])
        X[:, dated] = self.dates.transform(frame.days)
        X[:, dated.stop :] = text_features(self.text, frame)
        return as_matrix(X, tuple(range(categorical.start, categorical.stop)) if self.declared else ())

    def sources(self) -> tuple[Source, ...]:
        """Return the source of each feature."""
        schema = self.schema
        own = ((name,) for name in (*schema.numeric, *schema.categorical))
        return as_sources((*own, *self.dates.sources(schema.datetime), *self.text.sources(schema.text)))


def check_schema(frame: Frame, schema: FrameSchema) -> None:
    """Raise `SchemaMismatch` unless the frame's columns are those of training."""
    if frame.schema != schema:
        hint = "read the data with the schema of the model"
        raise SchemaMismatch("the columns are not those the encoding was fitted on", hint=hint)


def fit_native(frame: Frame, y: Array, kind: TaskKind, n_outputs: int, seed: int) -> tuple[CodeEncoder, Matrix]:
    """Fit "native": codes are declared categories; what is not in the training rows is NaN.

    The rarest values share the code after the last, missing ones have the one after that.
    """
    del y, kind, n_outputs
    places = _places(frame, MAX_NATIVE_LEVELS)
    table = np.where(places.codes == -1, places.rare + 1, places.shared)
    return _fit(frame, seed, np.where(places.seen, table, np.nan), declared=True)


def fit_ordinal(frame: Frame, y: Array, kind: TaskKind, n_outputs: int, seed: int) -> tuple[CodeEncoder, Matrix]:
    """Fit "ordinal": codes are plain numbers, missing is -1.

    The rarest values share the number after the last; what is not in the training rows comes behind them, where a
    threshold takes it for a rare value and never for a missing one.
    """
    del y, kind, n_outputs
    places = _places(frame, LARGEST_CODE - 1)
    table = np.where(places.seen, places.shared, places.rare + 1)
    return _fit(frame, seed, np.where(places.codes == -1, ORDINAL_MISSING, table), declared=False)


@dataclass(frozen=True, eq=False)
class _Places:
    """All columns' places, see `automl_cli.features.levels`, as arrays of shape (n_places,).

    Attributes
    ----------
    codes : int64
    seen : bool
        Whether a training row has the code.
    rare : int64
        The code that the rarest values of the place's column share: the one after the last.
    shared : int64
        The place's own code, or that of the rare.
    """

    codes: Array
    seen: Array
    rare: Array
    shared: Array


def _places(frame: Frame, most: int) -> _Places:
    n_categories = frame.schema.n_categories
    codes, rows = levels.codes_of_places(n_categories), levels.count(frame.codes, n_categories)
    sizes = np.asarray(n_categories, dtype=np.int64)
    rare = np.repeat(np.minimum(sizes, most), sizes + levels.N_OTHERS)
    own = (codes >= 0) & (codes < rare) & (rows >= MIN_ROWS)
    return _Places(codes, rows > 0, rare, np.where(own, codes, rare))


def _fit(frame: Frame, seed: int, table: Array, *, declared: bool) -> tuple[CodeEncoder, Matrix]:
    encoder = CodeEncoder(
        schema=frame.schema,
        numbers=Numbers.fit(frame.numbers),
        table=table.astype(np.float32),
        dates=DateParts.fit(frame.days),
        text=fit_text(frame, seed),
        declared=declared,
    )
    return encoder, encoder.transform(frame)


def save_native(encoder: CodeEncoder, folder: Path) -> None:
    """Write a "native" encoder into an existing folder."""
    _save(encoder, folder, "native")


def save_ordinal(encoder: CodeEncoder, folder: Path) -> None:
    """Write an "ordinal" encoder into an existing folder."""
    _save(encoder, folder, "ordinal")


def load_native(folder: Path) -> CodeEncoder:
    """Read what `save_native` wrote; raises `BadArtifact` for anything malformed."""
    return _load(folder, "native")


def load_ordinal(folder: Path) -> CodeEncoder:
    """Read what `save_ordinal` wrote; raises `BadArtifact` for anything malformed."""
    return _load(folder, "ordinal")


def code_arrays(encoder: CodeEncoder) -> dict[str, Array]:
    """Return what `read_codes` needs."""
    arrays = {"table": encoder.table}
    for part in (encoder.numbers, encoder.dates, encoder.text):
        arrays |= part.arrays()
    return arrays


def read_codes(stored: Stored, *, declared: bool) -> CodeEncoder:
    """Read and check what `code_arrays` gave; raises `BadArtifact`."""
    low, high = (0.0, MAX_NATIVE_LEVELS + 1) if declared else (ORDINAL_MISSING, LARGEST_CODE)
    n_places = levels.n_places(stored.schema.n_categories)
    return CodeEncoder(
        schema=stored.schema,
        numbers=Numbers.read(stored),
        table=stored.array("table", np.float32, (n_places,), low=low, high=high, missing=declared),
        dates=DateParts.read(stored),
        text=TextParts.read(stored),
        declared=declared,
    )


def _save(encoder: CodeEncoder, folder: Path, name: str) -> None:
    write_arrays(folder, name, encoder.schema, code_arrays(encoder))


def _load(folder: Path, name: str) -> CodeEncoder:
    return read_codes(read_arrays(folder, name), declared=name == "native")
