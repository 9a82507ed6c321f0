"""The columns a model may see, as plain arrays that lie on disk and are mapped, not copied, by every worker."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from automl_cli.errors import BadArtifact
from automl_cli.features.matrix import Array
from automl_cli.table import Kind, Schema, Table

if TYPE_CHECKING:
    from automl_cli.features.text import KnownText

CODED = (Kind.BOOLEAN, Kind.CATEGORY, Kind.HIGH_CARDINALITY)


@dataclass(frozen=True)
class FrameSchema:
    """Names of the usable columns by how they are held.

    Attributes
    ----------
    n_categories : tuple of int
        For each categorical column the number of its known values: codes are below it.
    """

    numeric: tuple[str, ...] = ()
    categorical: tuple[str, ...] = ()
    n_categories: tuple[int, ...] = ()
    datetime: tuple[str, ...] = ()
    text: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len(self.n_categories) != len(self.categorical):
            raise ValueError("n_categories needs one number per categorical column")

    @property
    def names(self) -> tuple[str, ...]:
        """All of them."""
        return (*self.numeric, *self.categorical, *self.datetime, *self.text)

    def to_json(self) -> dict[str, Any]:
        """Return the schema as JSON values."""
        return {key: list(value) for key, value in asdict(self).items()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "FrameSchema":
        """Read what `to_json` wrote; raises `BadArtifact` where it is anything else."""
        parts = {key: data.get(key) if isinstance(data, Mapping) else None for key in cls.__dataclass_fields__}
        for key, value in parts.items():
            of = int if key == "n_categories" else str
            if not isinstance(value, list) or any(type(item) is not of for item in value):
                raise BadArtifact(f"the frame's schema has no list of {of.__name__} called {key!r}")
        counts = parts["n_categories"] or []
        if len(counts) != len(parts["categorical"] or []) or any(not 0 <= count < 2**31 for count in counts):
            raise BadArtifact("the frame's schema counts categories that its columns do not have")
        return cls(**{key: tuple(value or ()) for key, value in parts.items()})


@dataclass(frozen=True, eq=False)
class Frame:
    """Usable columns of some rows.

    Attributes
    ----------
    numbers : ndarray of shape (n_rows, n_numeric), float64
        NaN is missing; column-major where it was read from a table.
    codes : ndarray of shape (n_rows, n_categorical), int32
        Position among the column's known values, most frequent first; -1 is missing, -2 a value that is not known.
    days : ndarray of shape (n_rows, n_datetime), float64
        Days since 1970-01-01, time of day as a fraction; NaN is missing.
    texts : tuple of pyarrow.LargeStringArray, one per text column
        Null is missing.
    known_text : KnownText or None
        Text features of these rows that were computed before; not saved, and not taken along by `take`.
    groups : ndarray of shape (n_rows,) or None
        Which training rows belong together, for what an encoding learns of their targets; not saved, and not taken
        along by `take`.
    """

    schema: FrameSchema
    numbers: Array
    codes: Array
    days: Array
    texts: tuple[Any, ...] = ()
    known_text: "KnownText | None" = None
    groups: Array | None = None

    def __post_init__(self) -> None:
        n_rows, schema = len(self.numbers), self.schema
        blocks = ((self.numbers, schema.numeric), (self.codes, schema.categorical), (self.days, schema.datetime))
        fits = all(block.shape == (n_rows, len(names)) for block, names in blocks)
        if not fits or [len(text) for text in self.texts] != [n_rows] * len(schema.text):
            raise ValueError("arrays do not fit the frame's schema")

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return len(self.numbers)

    def take(self, rows: Array) -> "Frame":
        """Return the given rows (int64 positions), copied."""
        numbers, codes, days = (_take(block, rows) for block in (self.numbers, self.codes, self.days))
        return Frame(self.schema, numbers, codes, days, tuple(text.take(pa.array(rows)) for text in self.texts))

    def text_lengths(self, column: int) -> Array:
        """Return the number of bytes of each text of a text column, int64; -1 where it is missing."""
        lengths = pc.fill_null(pc.binary_length(self.texts[column]), -1)
        return np.asarray(lengths.to_numpy(zero_copy_only=False), dtype=np.int64)

    def save(self, folder: Path) -> None:
        """Write the frame into an existing folder, in the form that `open_frame` maps."""
        for name in ("numbers", "codes", "days"):
            np.save(folder / f"{name}.npy", getattr(self, name), allow_pickle=False)
        if self.texts:
            batch = pa.record_batch(list(self.texts), names=[str(i) for i in range(len(self.texts))])
            with pa.OSFile(str(folder / "texts.arrow"), "wb") as file, pa.ipc.new_file(file, batch.schema) as writer:
                writer.write_batch(batch)
        # written last: a folder with it is complete
        (folder / "frame.json").write_text(json.dumps({"n_rows": self.n_rows, "schema": self.schema.to_json()}))


def open_frame(folder: Path) -> Frame:
    """Map a saved frame into memory, read-only: pages are loaded when touched and shared by all processes.

    Raises
    ------
    BadArtifact
        The folder holds no complete frame.
    """
    try:
        header = json.loads((folder / "frame.json").read_text())
        schema = FrameSchema.from_json(header["schema"])
        numbers, codes, days = (_open_array(folder / f"{name}.npy") for name in ("numbers", "codes", "days"))
        return Frame(schema, numbers, codes, days, _open_texts(folder / "texts.arrow", len(schema.text)))
    except (OSError, ValueError, KeyError, TypeError, EOFError, pa.ArrowException) as error:
        hint = "start the run anew in another folder"
        raise BadArtifact(f"the run's data in {folder} is incomplete or damaged", hint=hint) from error


def frame_schema(schema: Schema, exclude: Sequence[str] = ()) -> FrameSchema:
    """Pick the columns a model may use: no ids, no constants, none of ``exclude`` (target, weight, group, ignored)."""
    left_out = frozenset(exclude)
    columns = [column for column in schema.columns if column.name not in left_out]
    coded = [column for column in columns if column.kind in CODED]
    return FrameSchema(
        numeric=tuple(column.name for column in columns if column.kind == Kind.NUMERIC),
        categorical=tuple(column.name for column in coded),
        n_categories=tuple(len(column.categories) for column in coded),
        datetime=tuple(column.name for column in columns if column.kind == Kind.DATETIME),
        text=tuple(column.name for column in columns if column.kind == Kind.TEXT),
    )


def frame_from_table(table: Table, schema: FrameSchema) -> Frame:
    """Read the schema's columns out of a table."""
    return Frame(
        schema,
        numbers=_stack(table.numbers, schema.numeric, table.n_rows, np.float64),
        codes=_stack(table.codes, schema.categorical, table.n_rows, np.int32),
        days=_stack(table.days, schema.datetime, table.n_rows, np.float64),
        texts=tuple(_as_text(table.strings(name)) for name in schema.text),
    )


def joined(frames: Sequence[Frame]) -> Frame:
    """Put the rows of frames of one schema under each other, copied."""
    schema = frames[0].schema
    if any(frame.schema != schema for frame in frames):
        raise ValueError("frames of different columns")
    blocks = [np.concatenate([getattr(frame, name) for frame in frames]) for name in ("numbers", "codes", "days")]
    texts = (pa.concat_arrays([frame.texts[k] for frame in frames]) for k in range(len(schema.text)))
    return Frame(schema, blocks[0], blocks[1], blocks[2], tuple(texts))


def no_texts(n_rows: int) -> Any:
    """Return a text column in which every cell is missing."""
    return pa.nulls(n_rows, pa.large_string())


def _stack(read: Callable[[str], Array], names: Sequence[str], n_rows: int, dtype: type) -> Array:
    block: Array = np.empty((n_rows, len(names)), dtype=dtype, order="F")
    for i, name in enumerate(names):
        block[:, i] = read(name)
    return block


def _as_text(values: Any) -> Any:
    """Return one large-string array, whichever of a list, an array or a chunked array came."""
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    return values.cast(pa.large_string()) if isinstance(values, pa.Array) else pa.array(values, pa.large_string())


def _take(block: Array, rows: Array) -> Array:
    # np.take copies a column-major array as a whole before it picks: pick along its contiguous axis instead
    if block.flags.f_contiguous and not block.flags.c_contiguous:
        return np.take(block.T, rows, axis=1).T
    return np.take(block, rows, axis=0)


def _open_array(path: Path) -> Array:
    try:
        array: Array = np.load(path, mmap_mode="r", allow_pickle=False)
    except ValueError:  # nothing to map where there are no rows or no columns
        array = np.load(path, allow_pickle=False)
    return array.view(np.ndarray)


def _open_texts(path: Path, n_columns: int) -> tuple[Any, ...]:
    if not n_columns:
        return ()
    table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
    return tuple(_as_text(column) for column in table.columns)
