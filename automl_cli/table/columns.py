"""The table as read, and how its cells are stored: one arrow column per column, cheap to turn into numbers or codes."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from hashlib import sha256

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from automl_cli.table.facts import Facts
from automl_cli.table.kinds import Verdict
from automl_cli.table.notation import PLAIN, Notation, limits_of, numbers_of
from automl_cli.table.schema import CODED, Column, Kind, Notice, Remark, Schema
from automl_cli.table.values import (
    CLOCKS,
    Array,
    days_of,
    each_distinct,
    epoch_times,
    floats_of,
    times_of,
)

MISSING, UNKNOWN = -1, -2
"""What stands in a column of codes where there is no value, and where the training did not know the value."""


@dataclass(frozen=True)
class Table:
    """A table as it was read.

    Attributes
    ----------
    data : pyarrow.Table
        Integers or doubles for numbers, dictionary-encoded strings for booleans and categories (codes are positions
        in ``Column.categories``), dates or timestamps for points in time, strings for everything that was asked for
        as text, whatever its kind.
    fingerprint : str
        SHA-256 of the decompressed bytes, in hex.
    source : str
        What the user knows the table by: a file's name or ``stdin``.
    n_bytes : int
        Decompressed size.
    """

    schema: Schema
    data: pa.Table
    notices: tuple[Notice, ...]
    fingerprint: str
    source: str
    n_bytes: int

    @property
    def n_rows(self) -> int:
        """Rows."""
        return int(self.data.num_rows)

    def numbers(self, name: str) -> Array:
        """Return a column as float64 of shape (n_rows,); NaN where missing, infinite or no number.

        Booleans are 0 and 1 in the order of ``categories``; points in time are days since 1970-01-01.
        """
        column = self.data.column(name)
        known = self.schema.column(name)
        kind = column.type
        if known.kind is Kind.BOOLEAN and (pa.types.is_dictionary(kind) or pa.types.is_string(kind)):
            codes = self.codes(name).astype(np.float64)
            return np.where(codes < 0, np.nan, codes)
        if pa.types.is_dictionary(kind):
            column = column.cast(pa.string())
        if pa.types.is_string(column.type):
            return floats_of(each_distinct(column, lambda texts: numbers_of(texts, known.notation)))
        if pa.types.is_null(kind):
            return np.full(self.n_rows, np.nan)
        if pa.types.is_temporal(kind):
            return days_of(column)
        return floats_of(column)

    def codes(self, name: str) -> Array:
        """Return a boolean or category as int32 of shape (n_rows,): positions in ``categories``.

        A missing cell is `MISSING`, a value that is not in ``categories`` is `UNKNOWN`.
        """
        column = self.data.column(name)
        categories = self.schema.column(name).categories
        if not pa.types.is_dictionary(column.type):
            texts = column.cast(pa.string())
            found = pc.index_in(texts, value_set=pa.array(categories, pa.string())).fill_null(UNKNOWN)
            return np.asarray(pc.if_else(pc.is_null(texts), MISSING, found).to_numpy(), dtype=np.int32)
        chunks = [np.asarray(chunk.indices.fill_null(MISSING), dtype=np.int32) for chunk in column.chunks]
        codes = np.concatenate(chunks) if chunks else np.empty(0, dtype=np.int32)
        return np.where(codes < len(categories), codes, np.int32(UNKNOWN))

    def days(self, name: str) -> Array:
        """Return points in time as float64 days since 1970-01-01 of shape (n_rows,), NaN where missing."""
        column = self.data.column(name)
        if pa.types.is_string(column.type):
            form = self.schema.column(name).datetime_format
            column = each_distinct(column, lambda texts: times_of(texts, form))
        return days_of(column)

    def texts(self, name: str) -> list[str | None]:
        """Return a column as texts of length n_rows, None where missing; as in the file where it was read as text."""
        column = self.data.column(name)
        texts: list[str | None] = column.cast(pa.string()).to_pylist()
        return texts

    def strings(self, name: str) -> pa.ChunkedArray:
        """Return the same as `texts`, as an arrow column of strings."""
        return self.data.column(name).cast(pa.string())

    def take(self, rows: Array) -> "Table":
        """Return the table of some rows, int64 positions of shape (n,), in that order."""
        return self._with(self.data.take(pa.array(rows, pa.int64())))

    def without(self, rows: Array) -> "Table":
        """Return the table without some rows, which makes another table of it: its fingerprint tells so."""
        kept = np.setdiff1d(np.arange(self.n_rows), rows)
        digest = sha256(f"{self.fingerprint} without ".encode() + np.sort(rows).astype("<i8").tobytes())
        return replace(self.take(kept), fingerprint=digest.hexdigest())

    def select(self, names: Sequence[str]) -> "Table":
        """Return the table of some columns, in that order."""
        columns = tuple(self.schema.column(name) for name in names)
        return self._with(self.data.select(list(names)), Schema(columns))

    def with_texts(self, name: str, texts: Sequence[str | None]) -> "Table":
        """Return the table with other texts in a column that is kept as text."""
        column = pa.array(texts, pa.string()).cast(self.data.column(name).type)
        return self._with(self.data.set_column(self.data.column_names.index(name), name, column))

    def _with(self, data: pa.Table, schema: Schema | None = None) -> "Table":
        return Table(schema or self.schema, data, self.notices, self.fingerprint, self.source, self.n_bytes)


def settle(
    name: str, verdict: Verdict, facts: Facts, *, keep_text: bool
) -> tuple[Column, pa.ChunkedArray, list[Remark]]:
    """Store a column as its kind wants it.

    Parameters
    ----------
    keep_text : bool
        Whether the cells stay the texts that they are in the file.

    Returns
    -------
    column, its cells, and what was odd about them
    """
    column, notation = facts.column, verdict.notation
    if keep_text and facts.is_text and verdict.kind is not Kind.NUMERIC:
        notation = facts.notation or PLAIN  # a target may be amounts, whatever its column would be
    categories: tuple[str, ...] = ()
    remarks: list[Remark] = []
    stored = column
    if verdict.kind in CODED:
        stored = by_frequency(
            facts.encoded if facts.is_text else column.cast(pa.string()).dictionary_encode(), verdict.kind
        )
        categories = tuple(stored.chunk(0).dictionary.to_pylist()) if stored.num_chunks else ()
    elif verdict.kind is Kind.NUMERIC and not (facts.is_number and facts.is_finite):
        stored, remarks = to_numbers(name, column, verdict.notation)
    elif verdict.kind is Kind.DATETIME:
        stored, remarks = to_times(name, column, verdict.datetime_format)
    elif verdict.kind is Kind.TEXT:
        stored = column.cast(pa.string())
    known = Column(
        name, verdict.kind, verdict.reason, categories, datetime_format=verdict.datetime_format, **asdict(notation)
    )
    return known, column if keep_text else stored, remarks


def by_frequency(encoded: pa.ChunkedArray, kind: Kind) -> pa.ChunkedArray:
    """Renumber a dictionary-encoded column: most frequent first, ties by the text; booleans by the text alone."""
    if not encoded.num_chunks:
        return encoded
    values: list[str] = encoded.chunk(0).dictionary.to_pylist()
    # All chunks of one encoding share its dictionary.
    codes = np.concatenate([np.asarray(chunk.indices.fill_null(-1), dtype=np.int32) for chunk in encoded.chunks])
    counts = np.bincount(codes[codes >= 0], minlength=len(values))
    if kind is Kind.BOOLEAN:
        order = sorted(range(len(values)), key=values.__getitem__)
    else:
        order = sorted(range(len(values)), key=lambda i: (-counts[i], values[i]))
    position = np.full(len(values) + 1, -1, dtype=np.int32)  # the last entry is where -1 points to
    position[np.asarray(order, dtype=np.int64)] = np.arange(len(values), dtype=np.int32)
    return coded(position[codes], [values[i] for i in order])


def coded(codes: Array, categories: Sequence[str | None]) -> pa.ChunkedArray:
    """Store codes, -1 where missing, beside their categories; None among these stands for all unknown values."""
    indices = pa.array(codes, pa.int32(), mask=codes < 0)
    return pa.chunked_array([pa.DictionaryArray.from_arrays(indices, pa.array(categories, pa.string()))])


def to_numbers(name: str, column: pa.ChunkedArray, notation: Notation) -> tuple[pa.ChunkedArray, list[Remark]]:
    """Store numbers; texts that are none and infinities become missing, with a remark."""
    remarks: list[Remark] = []
    if pa.types.is_null(column.type):
        return column.cast(pa.float64()), remarks
    if pa.types.is_temporal(column.type) or pa.types.is_dictionary(column.type):
        column = column.cast(pa.string())
    if pa.types.is_string(column.type):
        read = _plain_numbers(column) if notation == PLAIN else None
        if read is None:
            read = each_distinct(column, lambda texts: numbers_of(texts, notation))
            read, remarks = _with_limits(name, column, read, notation)
        remarks += _unread(name, column, read, "a number")
        column = read
    if pa.types.is_floating(column.type):
        bounds = pc.min_max(column)
        if not all(np.isfinite(bounds[end].as_py() or 0.0) for end in ("min", "max")):
            finite = pc.is_finite(column)
            n_infinite = pc.sum(pc.invert(finite)).as_py()
            column = pc.if_else(finite, column, None)
            remarks.append(Remark("infinities", name, ", taken for missing", n_infinite, "infinite number"))
    return column, remarks


def _with_limits(
    name: str, column: pa.ChunkedArray, read: pa.ChunkedArray, notation: Notation
) -> tuple[pa.ChunkedArray, list[Remark]]:
    """Read what says that a number is below or above another, such as ``<0.01``, as this one, with a remark."""
    if read.null_count == column.null_count:
        return read, []
    more = pc.coalesce(read, each_distinct(column, lambda texts: limits_of(texts, notation)))
    n_limits = read.null_count - more.null_count
    if not n_limits:
        return read, []
    example = column.filter(pc.and_(pc.is_null(read), pc.is_valid(more)))[0].as_py()
    text = f" with a limit in place of a number, such as {example[:40]!r}; read as that number"
    return more, [Remark("limits", name, text, n_limits)]


def _plain_numbers(texts: pa.ChunkedArray) -> pa.ChunkedArray | None:
    """Read texts as float64 where all of them are written as arrow reads them, which is ten times as fast."""
    try:
        read = texts.cast(pa.float64())
    except pa.ArrowInvalid:
        return None
    return None if pc.any(pc.is_nan(read)).as_py() else read


def to_times(name: str, column: pa.ChunkedArray, form: str) -> tuple[pa.ChunkedArray, list[Remark]]:
    """Store points in time; what is none becomes missing, with a remark."""
    kind = column.type
    if pa.types.is_null(kind):
        return column.cast(pa.timestamp("us")), []
    if pa.types.is_temporal(kind):
        return column, []
    if pa.types.is_floating(kind) or pa.types.is_integer(kind):
        if form.startswith("epoch"):
            return pa.chunked_array([epoch_times(chunk, form) for chunk in column.chunks], pa.timestamp("us")), []
        column = (column.cast(pa.int64(), safe=False) if pa.types.is_floating(kind) else column).cast(pa.string())
    read = each_distinct(column, lambda texts: times_of(texts, form))
    # The same dates in the unmistakable format are as good, and so are times of day in another one.
    others = ("", *CLOCKS) if form in CLOCKS else ("",) if form else ()
    for other in (*others, *([form.replace("%y", "%Y")] if "%y" in form else ())):
        if read.null_count > column.null_count:
            read = pc.coalesce(read, each_distinct(column, partial(times_of, form=other)))
    return read, _unread(name, column, read, "a point in time")


def _unread(name: str, column: pa.ChunkedArray, read: pa.ChunkedArray, what: str) -> list[Remark]:
    n_lost = read.null_count - column.null_count
    if n_lost <= 0:
        return []
    lost = pc.and_(pc.is_null(read), pc.is_valid(column))
    example = column.filter(lost)[0].as_py()
    text = f" that cannot be read as {what}, such as {example[:40]!r}; taken for missing"
    return [Remark("unreadable_cells", name, text, n_lost)]
