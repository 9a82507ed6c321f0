"""From bytes to arrow columns: CSV by `Layout`, or Parquet; a malformed line is named by its number."""

import csv
import io
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from automl_cli.errors import BadData
from automl_cli.table.layout import Layout, sniff, unique_names
from automl_cli.table.markers import MISSING, meant_labels, meant_markers, without_markers
from automl_cli.table.source import Content

BLANK = " \r\n"
BLOCK_BYTES = 4 << 20
LARGEST_BLOCK = 1 << 30
LONG_TABLE = 8 << 20
GUESS_BYTES = 1 << 18
PER_SECOND = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}
CONVERSION_ERROR = re.compile(r"In CSV column #(\d+): ")


@dataclass(frozen=True)
class Skipper:
    """Decides about rows with a wrong number of cells: blank ones are left out, any other ends the reading."""

    blank_cells: str

    def __call__(self, row: pyarrow.csv.InvalidRow) -> str:
        """Answer arrow: ``skip`` or ``error``."""
        # cells that are known to be blank may hold any white space; before that a tab may be the separator
        text = row.text if self.blank_cells == BLANK else "".join(row.text.split())
        return "error" if text.strip(self.blank_cells) else "skip"


def layout_of(content: Content) -> Layout:
    """Find the columns of a table without reading its rows.

    Raises
    ------
    BadData
        A Parquet file that is damaged or holds no columns.
    """
    if not content.parquet:
        return sniff(content)
    from pyarrow import parquet  # noqa: PLC0415  (loads slowly, and few tables are of it)

    with content.open() as stream:
        try:
            schema = parquet.read_schema(stream)
        except (pa.ArrowException, OSError) as error:
            raise BadData(f"{content.name} is a damaged Parquet file", hint="get the file again") from error
    names, notices = unique_names(schema.names)
    return Layout(names, notices=tuple(notices), unnamed=bool(names) and not schema.names[0].strip())


def read_cells(
    content: Content, layout: Layout, columns: Sequence[str], text: Collection[str], *, target: str | None = None
) -> pa.Table:
    """Read columns; those in ``text`` exactly as they are written, others as arrow takes them for.

    Parameters
    ----------
    columns : sequence of str
        The columns to read, in the order in which they are wanted.
    target : str or None
        The one of them that holds labels, of which ``None`` may be one; see `meant_labels`.

    Returns
    -------
    pyarrow.Table with one row per row of the file

    Raises
    ------
    BadData
        A malformed line, which is named by its number, or an open quote at the end.
    """
    if content.parquet:
        return _read_parquet(content, layout, columns, text)
    if content.n_quotes % 2:
        refuse_open_quote(content, layout)
    if not columns:
        return pa.table({})
    table = read_csv(content, layout, columns, text)
    return _with_meant_markers(content, layout, table, text, target)


def read_raw(content: Content, layout: Layout, columns: Sequence[str], text: Collection[str]) -> pa.Table:
    """Read columns as `read_cells` does, but those in ``text`` as they are: what means missing is for the caller.

    Raises
    ------
    BadData
    """
    if content.parquet:
        return _read_parquet(content, layout, columns, text, raw=True)
    if content.n_quotes % 2:
        refuse_open_quote(content, layout)
    return read_csv(content, layout, columns, text, raw=True)


def _with_meant_markers(
    content: Content, layout: Layout, table: pa.Table, text: Collection[str], target: str | None
) -> pa.Table:
    """Give verbatim columns back the cells that look missing but are labels, such as ``-`` beside ``+``."""
    for i, name in enumerate(table.column_names):
        if name not in text or not table.column(i).null_count:
            continue
        raw = read_csv(content, layout, [name], [name], raw=True)
        cells = raw.column(0).slice(0, table.num_rows)
        meant = meant_labels(cells) if name == target else meant_markers(pc.unique(cells))
        if meant:
            table = table.set_column(i, name, without_markers(cells, meant))
    return table


def read_csv(
    content: Content, layout: Layout, columns: Sequence[str], text: Collection[str], *, raw: bool = False
) -> pa.Table:
    """Read columns of a text; ``raw`` leaves those in ``text`` as they are.

    Raises
    ------
    BadData
    """
    blank = BLANK
    while True:  # what `diagnosed` returns it does not return again
        try:
            table = parse_csv(content, layout, columns, text, blank, raw=raw)
            return table.slice(0, max(0, table.num_rows - blank_rows_at_end(content, layout)))
        except Ragged as error:
            blank = diagnosed(content, layout, error)


def parse_csv(
    content: Content, layout: Layout, columns: Sequence[str], text: Collection[str], blank_cells: str, *, raw: bool
) -> pa.Table:
    """Read columns of a text, leaving out rows with a wrong number of cells that hold ``blank_cells`` alone.

    Raises
    ------
    Ragged
    """
    parse = parsing(content, layout, blank_cells)
    types = {name: pa.string() for name in columns if name in text}
    guessed = _guessed_types(content, layout, parse, columns, types)
    block = BLOCK_BYTES
    n_wrong = 0
    while True:
        options = pyarrow.csv.ReadOptions(column_names=layout.names, block_size=block)
        try:
            with content.open(layout.offset) as stream:
                convert = conversion(layout, columns, {**guessed, **types}, raw=raw)
                return pyarrow.csv.read_csv(stream, options, parse, convert)
        except pa.ArrowInvalid as error:
            wrong = CONVERSION_ERROR.search(str(error))
            if "straddl" in str(error) and block < LARGEST_BLOCK:
                block *= 8
            elif wrong and guessed:
                n_wrong += 1
                # Arrow may count the columns of the file or those that it was asked for: without luck, guess none.
                dropped = guessed.pop(columns[int(wrong[1])], None) if int(wrong[1]) < len(columns) else None
                if dropped is None or n_wrong == 2:
                    guessed = {}
            elif "Empty CSV file" in str(error):
                return pa.table({name: pa.nulls(0) for name in columns})
            else:
                raise Ragged(blank_cells) from error


class Ragged(Exception):  # noqa: N818  (what a text is, not what a user is told)
    """Arrow cannot make rows of a text; its argument: the characters that blank cells were made of."""


def parsing(content: Content, layout: Layout, blank_cells: str) -> pyarrow.csv.ParseOptions:
    """Return how arrow is to find the cells of a text."""
    return pyarrow.csv.ParseOptions(
        delimiter=layout.separator,
        quote_char='"' if content.n_quotes else False,
        newlines_in_values=content.n_quotes > 0,
        # In a table of one column an empty line is a row whose only cell is missing.
        ignore_empty_lines=len(layout.names) > 1,
        invalid_row_handler=Skipper(blank_cells),
    )


def conversion(
    layout: Layout, columns: Sequence[str], types: Mapping[str, pa.DataType], *, raw: bool = False
) -> pyarrow.csv.ConvertOptions:
    """Return how arrow is to read cells; ``raw`` leaves texts as they are."""
    return pyarrow.csv.ConvertOptions(
        column_types=types,
        null_values=MISSING,
        strings_can_be_null=not raw,
        # True and False stay text: they are categories, and must look at prediction as they look here.
        true_values=[],
        false_values=[],
        decimal_point=layout.decimal or ".",
        # None named means all, in the order of the file, which is quicker for a hundred thousand.
        include_columns=[] if tuple(columns) == layout.names else list(columns),
    )


def _guessed_types(
    content: Content,
    layout: Layout,
    parse: pyarrow.csv.ParseOptions,
    columns: Sequence[str],
    types: Mapping[str, pa.DataType],
) -> dict[str, pa.DataType]:
    """Guess the types of a long table from samples: with known types arrow need not keep what it parsed."""
    if content.n_bytes < LONG_TABLE:
        return {}
    with content.open(layout.offset) as stream:
        parts = [stream.read(GUESS_BYTES).rpartition(b"\n")[0]]
        if not content.n_quotes:  # without quotes every line break ends a row
            for share in (0.25, 0.5, 0.75):
                stream.seek(int(share * content.n_bytes))
                parts.append(stream.read(GUESS_BYTES).partition(b"\n")[2].rpartition(b"\n")[0])
    options = pyarrow.csv.ReadOptions(column_names=layout.names, block_size=len(parts) * GUESS_BYTES)
    try:
        stream_of_parts = io.BytesIO(b"\n".join(parts))
        sample = pyarrow.csv.read_csv(stream_of_parts, options, parse, conversion(layout, columns, types))
    except pa.ArrowInvalid:
        return {}  # whatever is wrong will be found again, with its line
    return {field.name: field.type for field in sample.schema if not pa.types.is_null(field.type)}


def blank_rows_at_end(content: Content, layout: Layout) -> int:
    """Return how many rows are no more than blank lines at the end; none where lines that are empty make no row."""
    if len(layout.names) > 1:
        return 0
    with content.open() as stream:
        end = stream.seek(0, io.SEEK_END)
        stream.seek(max(0, end - (1 << 16)))
        tail = stream.read()
    blank = tail[len(tail.rstrip(b"\r\n ")) :].replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    after = blank.partition(b"\n")[2]
    return after.count(b"\n") + (after.rpartition(b"\n")[2] != b"")


def diagnosed(content: Content, layout: Layout, error: Ragged) -> str:
    """Name the first ragged line, unless all of them are blank ones at the end: return what their cells are made of.

    Raises
    ------
    BadData
    """
    blank_cells = str(error)
    ragged, last = _ragged_lines(content, layout)
    if not ragged:
        raise BadData(f"{content.name} cannot be read as a table", hint="check its quotes and separators")
    line, n_cells, blank = ragged[0]
    if blank and not blank_cells.startswith(layout.separator):
        return f'{layout.separator}" \r\n'
    cells = "1 cell" if n_cells == 1 else f"{n_cells} cells"
    hint = "correct the line; a cell that holds the separator must stand in double quotes"
    if line == last:
        hint = "it is the last line: the file may be cut short"
    raise BadData(f"{content.name} line {line} has {cells} instead of {len(layout.names)}", hint=hint)


def _ragged_lines(content: Content, layout: Layout) -> tuple[list[tuple[int, int, bool]], int]:
    """Return (line, cells, blank at the end) of the first ragged row, and the last line's number."""
    end_of_data = 0
    ragged: list[tuple[int, int, bool]] = []
    for line, row in _readable_rows(content, layout, ragged):
        if any(cell.strip() for cell in row):
            end_of_data = line
            if ragged and ragged[0][2]:
                ragged[0] = (*ragged[0][:2], False)
        if len(row) not in (0, len(layout.names)) and not ragged:
            blank = not any(cell.strip() for cell in row)
            if blank and len(row) == 1:
                continue
            ragged.append((line, len(row), blank))
    return ragged, end_of_data


def _readable_rows(content: Content, layout: Layout, ragged: Sequence[object]) -> Iterator[tuple[int, list[str]]]:
    """Give rows as long as their quotes can be made out; refuse the first that cannot, unless one was ragged before."""
    after = layout.lines
    try:
        for line, row in _numbered_rows(content, layout):
            after = line
            yield line, row
    except csv.Error as error:
        if not ragged:
            problem = f"{content.name} cannot be read after line {after} ({error})"
            raise BadData(
                problem, hint='a " within a quoted cell must be doubled, and the cell end with one'
            ) from error


def _numbered_rows(content: Content, layout: Layout) -> Iterator[tuple[int, list[str]]]:
    with content.open(layout.offset) as stream:
        lines = io.TextIOWrapper(io.BufferedReader(cast(io.RawIOBase, stream)), encoding="utf-8", newline="")
        reader = csv.reader(lines, delimiter=layout.separator, strict=True)
        start = layout.lines + 1
        for row in reader:
            yield start, row
            start = layout.lines + reader.line_num + 1


def refuse_open_quote(content: Content, layout: Layout) -> None:
    """Refuse a file that ends within a quoted cell; an odd number of quotes alone may be an inch sign.

    Raises
    ------
    BadData
    """
    start = layout.lines + 1
    try:
        for line, _ in _numbered_rows(content, layout):
            start = line + 1
    except csv.Error as error:
        if "unexpected end of data" not in str(error) and "field larger" not in str(error):
            return
        raise BadData(
            f"{content.name} ends within a quoted cell that opens at or after line {start}",
            hint='the file may be cut short, or a " is missing',
        ) from error


def _read_parquet(
    content: Content, layout: Layout, columns: Sequence[str], text: Collection[str], *, raw: bool = False
) -> pa.Table:
    from pyarrow import parquet  # noqa: PLC0415

    try:
        with content.open() as stream:
            table = parquet.ParquetFile(stream).read().rename_columns(list(layout.names)).select(list(columns))
    except (pa.ArrowException, OSError) as error:
        raise BadData(f"{content.name} is a damaged Parquet file", hint="get the file again") from error
    return plain_types(table, text, content.name, raw=raw)


def plain_types(table: pa.Table, text: Collection[str], file: str, *, raw: bool) -> pa.Table:
    """Bring the columns of a Parquet table to the types that a CSV has: integers, doubles, strings, dates.

    Raises
    ------
    BadData
    """
    names = table.column_names
    arrays = [_plain(table.column(name), name in text, file, name, raw=raw and name in text) for name in names]
    return pa.table(arrays, names=names)


def _plain(column: pa.ChunkedArray, as_text: bool, file: str, name: str, *, raw: bool) -> pa.ChunkedArray:
    if isinstance(column.type, pa.BaseExtensionType):  # UUIDs, JSON: bytes and texts by another name
        column = column.cast(column.type.storage_type)
    kind = column.type
    if pa.types.is_dictionary(kind):
        column = column.cast(kind.value_type)
        kind = column.type
    if pa.types.is_duration(kind):
        # Not safe: arrow refuses integers beyond 2**53, which are 104 days in nanoseconds.
        column = pc.divide(column.cast(pa.int64()).cast(pa.float64(), safe=False), PER_SECOND[kind.unit])
    if pa.types.is_fixed_size_binary(kind):
        column = _of_fixed_size(column)
    elif pa.types.is_binary_view(kind) or pa.types.is_large_binary(kind):
        column = column.cast(pa.binary())
    kind = column.type
    if pa.types.is_nested(kind):
        raise BadData(
            f"column {name!r} of {file} holds {kind} in a cell",
            hint="write it as text or as numbers, or leave the column out",
        )
    texts = pa.types.is_large_string(kind) or pa.types.is_string(kind) or pa.types.is_string_view(kind)
    if texts or pa.types.is_boolean(kind) or as_text or pa.types.is_binary(kind):
        try:
            column = column.cast(pa.string())
        except pa.ArrowException as error:
            raise BadData(
                f"column {name!r} of {file} cannot be read as text",
                hint="write it as text or as numbers, or leave the column out",
            ) from error
        return column if raw else without_markers(column)
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return pc.if_else(pc.is_nan(column.cast(pa.float64())), None, column.cast(pa.float64()))
    return column


def _of_fixed_size(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return bytes as text; such as UUIDs, which are none, in hexadecimal digits."""
    try:
        return column.cast(pa.binary()).cast(pa.string())
    except pa.ArrowException:
        cells = [None if cell is None else cell.hex() for cell in column.to_pylist()]
        return pa.chunked_array([pa.array(cells, pa.string())])
