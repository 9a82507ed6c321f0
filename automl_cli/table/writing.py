"""Columns -> CSV."""

import csv
import io
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

BATCH_ROWS = 1 << 16
SPECIAL = '[",\r\n]'
PLAIN = pa_csv.WriteOptions(include_header=False, quoting_style="none", batch_size=BATCH_ROWS)


def csv_writer(file: BinaryIO) -> Callable[[Mapping[str, Any]], None]:
    """Return a function that writes blocks of the same columns one below the other, names first.

    Parameters
    ----------
    file : binary file open for writing
    """
    named = False

    def write(columns: Mapping[str, Any]) -> None:
        nonlocal named
        write_csv(columns, file, header=not named)
        named = True

    return write


def write_csv(columns: Mapping[str, Any], file: BinaryIO, *, header: bool = True) -> None:
    """Write columns of equal length as CSV.

    Parameters
    ----------
    columns : mapping of name to a sequence, ndarray or pyarrow array
        Cells of text are written as they are, in quotes where a comma, quote or line break asks for it, or where a
        text is empty: so it differs from a missing one.
    file : binary file open for writing
    """
    if header:
        # arrow would quote every name
        names = io.StringIO()
        csv.writer(names, lineterminator="\n").writerow(columns)
        file.write(names.getvalue().encode())
    arrays = [_array(column) for column in columns.values()]
    table = pa.Table.from_arrays([array for array, _ in arrays], names=list(columns))
    if any(quoted for _, quoted in arrays):
        _write_lines(table, file)
    else:
        pa_csv.write_csv(table, file, PLAIN)


def _array(column: Any) -> tuple[Any, bool]:
    """Return a column for arrow, texts with their quotes, and whether there are any."""
    array = column if isinstance(column, pa.Array | pa.ChunkedArray) else pa.array(column)
    if pa.types.is_dictionary(array.type):
        array = array.cast(array.type.value_type)
    if not (pa.types.is_string(array.type) or pa.types.is_large_string(array.type)):
        return array, False
    special = pc.or_kleene(pc.match_substring_regex(array, SPECIAL), pc.equal(array, ""))
    if not pc.any(special).as_py():
        return array, False
    quoted = pc.binary_join_element_wise('"', pc.replace_substring(array, '"', '""'), '"', "")
    return pc.if_else(special, quoted, array), True


def _write_lines(table: pa.Table, file: BinaryIO) -> None:
    """Write cells as they are: arrow refuses quotes within them, or puts them around every text."""
    for batch in table.to_batches(BATCH_ROWS):
        cells = [column.cast(pa.large_string()) for column in batch.columns]
        comma = pa.scalar(",", pa.large_string())
        lines = pc.binary_join_element_wise(*cells, comma, null_handling="replace", null_replacement="")
        file.write("".join(f"{line}\n" for line in lines.to_pylist()).encode())
