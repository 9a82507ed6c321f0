"""A table piece by piece, for tables that need not be in memory as a whole."""

import io
from collections import deque
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from automl_cli.errors import BadData
from automl_cli.table.layout import Layout
from automl_cli.table.reading import (
    BLANK,
    CONVERSION_ERROR,
    LARGEST_BLOCK,
    Ragged,
    blank_rows_at_end,
    conversion,
    diagnosed,
    parse_csv,
    parsing,
    plain_types,
    read_raw,
    refuse_open_quote,
)
from automl_cli.table.source import Content

PARQUET_ROWS = 1 << 16
LEAST_PARQUET_ROWS = 100


def read_blocks(
    content: Content,
    layout: Layout,
    columns: Sequence[str],
    n_bytes: int,
    *,
    text: Collection[str],
    numbers: Collection[str] = (),
) -> Iterator[pa.Table]:
    """Read columns as `read_raw` does, about ``n_bytes`` of the file at a time, in order.

    The type of a column may differ between blocks: each is guessed from its own cells.

    Parameters
    ----------
    numbers : collection of str
        Columns that are read as doubles where all of their cells are numbers, even where others are left texts.

    Raises
    ------
    BadData
        A malformed line, after the blocks before it.
    """
    if content.parquet:
        yield from _of_parquet(content, layout, columns, text, n_bytes)
    elif content.n_bytes <= n_bytes:
        yield read_raw(content, layout, columns, text)
    elif content.n_quotes:
        if content.n_quotes % 2:
            refuse_open_quote(content, layout)
        blocks = _of_quoted(content, layout, columns, numbers, n_bytes)
        yield from _without_last(blocks, blank_rows_at_end(content, layout))
    else:
        blocks = _of_lines(content, layout, columns, text, n_bytes)
        yield from _without_last(blocks, blank_rows_at_end(content, layout))


def _without_last(blocks: Iterator[pa.Table], n_rows: int) -> Iterator[pa.Table]:
    """Leave out the last rows, in however many blocks they are."""
    held: deque[pa.Table] = deque()
    n_held = 0
    for block in blocks:
        held.append(block)
        n_held += block.num_rows
        while held and n_held - held[0].num_rows >= n_rows:
            n_held -= held[0].num_rows
            yield held.popleft()
    for block in held:
        yield block.slice(0, max(0, n_held - n_rows))
        n_held -= block.num_rows


def _of_lines(
    content: Content, layout: Layout, columns: Sequence[str], text: Collection[str], n_bytes: int
) -> Iterator[pa.Table]:
    """Cut a text without quotes at line ends."""
    blank = BLANK
    inside = replace(layout, offset=0)
    for lines in _whole_lines(content, layout, n_bytes):
        part = replace(content, n_bytes=len(lines), opener=partial(io.BytesIO, lines))
        table = None
        while table is None:  # what `diagnosed` returns it does not return again
            try:
                table = parse_csv(part, inside, columns, text, blank, raw=True)
            except Ragged as error:
                blank = diagnosed(content, layout, error)
        yield table


def _whole_lines(content: Content, layout: Layout, n_bytes: int) -> Iterator[bytes]:
    with content.open(layout.offset) as stream:
        rest = b""
        while chunk := stream.read(n_bytes):
            rest += chunk
            end = rest.rfind(b"\n") + 1 or rest.rfind(b"\r", 0, -1) + 1  # the last byte may be half of a line end
            if end:
                yield rest[:end]
                rest = rest[end:]
        if rest:
            yield rest


def _of_quoted(
    content: Content, layout: Layout, columns: Sequence[str], numbers: Collection[str], n_bytes: int
) -> Iterator[pa.Table]:
    """Leave it to arrow where a row ends: a quoted cell may hold line ends, and a quote may be an inch sign.

    Arrow would decide on a column's type by the first block, so all but numbers are read as texts; and these too from
    the first cell on that is none.
    """
    blank, n_given = BLANK, 0
    types = {name: pa.float64() if name in numbers and layout.decimal != "," else pa.string() for name in columns}
    while True:
        try:
            convert = conversion(layout, columns, types, raw=True)
            for batch in _batches(content, layout, convert, blank, n_bytes, skip=n_given):
                n_given += batch.num_rows
                yield pa.Table.from_batches([batch])
            return
        except pa.ArrowInvalid as error:
            if "straddl" in str(error) and n_bytes < LARGEST_BLOCK:
                n_bytes *= 8
            elif "Empty CSV file" in str(error):
                return
            elif CONVERSION_ERROR.search(str(error)) and pa.float64() in types.values():
                types = dict.fromkeys(columns, pa.string())
            else:
                blank = diagnosed(content, layout, Ragged(blank))


def _batches(
    content: Content, layout: Layout, convert: pyarrow.csv.ConvertOptions, blank: str, n_bytes: int, *, skip: int
) -> Iterator[pa.RecordBatch]:
    options = pyarrow.csv.ReadOptions(column_names=layout.names, block_size=n_bytes)
    with content.open(layout.offset) as stream:
        for batch in pyarrow.csv.open_csv(stream, options, parsing(content, layout, blank), convert):
            if batch.num_rows > skip:
                _refuse_not_numbers(batch)
                yield batch.slice(skip)
            skip = max(0, skip - batch.num_rows)


def _refuse_not_numbers(batch: pa.RecordBatch) -> None:
    """Raise what arrow raises for other texts: it reads some spellings of NaN, which are no sign for a missing cell."""
    for position, column in enumerate(batch.columns):
        if pa.types.is_floating(column.type) and pc.any(pc.is_nan(column)).as_py():
            raise pa.ArrowInvalid(f"In CSV column #{position}: not a number")


def _of_parquet(
    content: Content, layout: Layout, columns: Sequence[str], text: Collection[str], n_bytes: int
) -> Iterator[pa.Table]:
    for table in _parquet_as_stored(content, layout, columns, n_bytes):
        yield plain_types(table, text, content.name, raw=True)


def _parquet_as_stored(content: Content, layout: Layout, columns: Sequence[str], n_bytes: int) -> Iterator[pa.Table]:
    from pyarrow import parquet  # noqa: PLC0415  (loads slowly, and few tables are of it)

    try:
        with content.open() as stream:
            file = parquet.ParquetFile(stream)
            if tuple(file.schema_arrow.names) != layout.names:  # names that occur twice cannot be asked for
                yield file.read().rename_columns(list(layout.names)).select(list(columns))
                return
            for batch in file.iter_batches(_rows_at_once(file.metadata, len(columns), n_bytes), columns=list(columns)):
                yield pa.Table.from_batches([batch]).select(list(columns))
    except (pa.ArrowException, OSError) as error:
        raise BadData(f"{content.name} is a damaged Parquet file", hint="get the file again") from error


def _rows_at_once(metadata: Any, n_columns: int, n_bytes: int) -> int:
    """Return how many rows take about ``n_bytes``, in the file and as numbers of eight bytes each."""
    stored = sum(int(metadata.row_group(k).total_byte_size) for k in range(metadata.num_row_groups))
    by_size = n_bytes * int(metadata.num_rows) // max(1, stored)
    return max(LEAST_PARQUET_ROWS, min(PARQUET_ROWS, by_size, n_bytes // (8 * max(1, n_columns))))
