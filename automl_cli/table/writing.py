"""Columns -> CSV."""

import csv
import io
from collections.abc import Mapping
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

BATCH_ROWS = 1 << 16
SPECIAL = '[",\r\n]'


def write_csv(columns: Mapping[str, Any], file: BinaryIO, *, header: bool = True) -> None:
    """Write columns of equal length as CSV.

    Parameters
    ----------
    columns : mapping of name to a sequence, ndarray or pyarrow array
        Cells of text are written as they are, in quotes where a comma, quote or line break asks for it.
    file : binary file open for writing
    """
    arrays = [
        column if isinstance(column, pa.Array | pa.ChunkedArray) else pa.array(column) for column in columns.values()
    ]
    table = pa.Table.from_arrays(arrays, names=list(columns))
    if header:
        # arrow would quote every name
        names = io.StringIO()
        csv.writer(names, lineterminator="\n").writerow(columns)
        file.write(names.getvalue().encode())
    quoting = "needed" if any(map(_needs_quotes, arrays)) else "none"
    pa_csv.write_csv(
        table, file, pa_csv.WriteOptions(include_header=False, quoting_style=quoting, batch_size=BATCH_ROWS)
    )


def _needs_quotes(array: Any) -> bool:
    if pa.types.is_dictionary(array.type):
        return any(map(_needs_quotes, [chunk.dictionary for chunk in _chunks(array)]))
    if not (pa.types.is_string(array.type) or pa.types.is_large_string(array.type)):
        return False
    # An empty text is quoted, so that it differs from a missing one.
    special = pc.or_kleene(pc.match_substring_regex(array, SPECIAL), pc.equal(array, ""))
    return bool(pc.any(special).as_py())


def _chunks(array: Any) -> list[Any]:
    return array.chunks if isinstance(array, pa.ChunkedArray) else [array]
