"""Reading a table to predict for it: columns and kinds are those of the training."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from automl_cli.errors import BadData, SchemaMismatch
from automl_cli.table.columns import Table, coded, count, to_numbers, to_times
from automl_cli.table.fitting import AS_TEXT, near_names, short_name
from automl_cli.table.layout import Layout
from automl_cli.table.reading import layout_of, read_cells
from automl_cli.table.schema import CODED, UNUSED, Column, Kind, Notice, Remark, Schema, gather
from automl_cli.table.source import open_content


def read_with_schema(
    source: Path | str,
    schema: Schema,
    *,
    optional: Sequence[str] = (),
    verbatim: Sequence[str] = (),
    fill: bool = False,
) -> Table:
    """Read a table whose columns must be those of a training.

    Parameters
    ----------
    schema : Schema
        Of the training; ids and constants in it are not asked for.
    optional : sequence of str
        Columns that may be missing, such as the target.
    verbatim : sequence of str
        Columns to be read as text, exactly as in the file, whether the schema knows them or not; they come last.
    fill : bool
        Whether columns that are missing are taken for empty ones, with a notice.

    Returns
    -------
    Table
        Its schema is the training's, restricted to the columns that are used and present, then the verbatim ones;
        it has as many rows as the file, in the same order.

    Raises
    ------
    SchemaMismatch
        Columns are missing.
    BadData
        The table cannot be read, or has no rows.
    """
    content = open_content(source)
    layout = layout_of(content)
    present = set(layout.names)
    kept = dict.fromkeys(verbatim)
    used = [column for column in schema.columns if column.kind not in UNUSED and column.name not in kept]
    known = set(schema.names)
    absent = [c for c in used if c.name not in present and c.name not in optional] if fill else []
    _check_complete([column.name for column in used if column not in absent], optional, layout, known, content.name)
    for name in kept:
        if name not in present and name not in optional:
            raise SchemaMismatch(f"{content.name} has no column {name!r}", hint=near_names(name, layout.names))
    used = [column for column in used if column.name in present]
    carried = [name for name in kept if name in present]
    names = [*(column.name for column in used), *carried]
    as_text = {*carried, *(column.name for column in used if column.kind in AS_TEXT)}
    wanted = names or [layout.names[0]]  # one column tells how many rows there are
    cells = read_cells(content, _with_decimal(layout, used), wanted, as_text)
    if cells.num_rows == 0:
        raise BadData(f"{content.name} has a header but no rows", hint="add rows to predict for")
    arrays, n_rows = cells.columns, cells.num_rows
    del cells
    remarks: list[Remark] = []
    for i, column in enumerate(used):
        arrays[i], odd = _as_trained(column, arrays[i])
        remarks += odd
    for column in absent:
        arrays.append(_as_trained(column, pa.chunked_array([pa.nulls(n_rows, pa.string())]))[0])
    columns = (*used, *(_carried(name, schema) for name in carried), *absent)
    odd_columns = (*_extra(layout, known, kept), *_absent([column.name for column in absent]))
    notices = (*content.notices, *layout.notices, *odd_columns, *gather(remarks))
    data = pa.table(arrays, names=[*wanted, *(column.name for column in absent)])
    return Table(Schema(columns), data, notices, content.fingerprint, content.name, content.n_bytes)


def _check_complete(
    required: Sequence[str], optional: Sequence[str], layout: Layout, known: set[str], file: str
) -> None:
    present, may_lack = set(layout.names), set(optional)
    missing = [name for name in required if name not in present and name not in may_lack]
    if not missing:
        return
    extra = [name for name in layout.names if name not in known]
    shown = ", ".join(map(short_name, missing[:10])) + (f" and {len(missing) - 10:,} more" if len(missing) > 10 else "")
    what = "column" if len(missing) == 1 else f"{len(missing):,} columns:"
    guesses = [near_names(name, extra) for name in missing[:3]] if extra else []
    near = [f"for {name!r}, {guess}" for name, guess in zip(missing, guesses, strict=False) if guess.startswith("did")]
    hint = "; ".join(near) or f"the model was trained with it; {file} has {_listed(layout.names)}"
    if len(missing) > 1 and not near:
        hint = hint.replace("with it", "with them")
    raise SchemaMismatch(f"{file} lacks the {what} {shown}", hint=hint)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(short_name, names[:8])) + (f" and {len(names) - 8:,} more" if len(names) > 8 else "")


def _with_decimal(layout: Layout, used: Sequence[Column]) -> Layout:
    """Where a short file does not tell its decimal mark, it is the training's."""
    if layout.decimal or not any(column.decimal == "," for column in used):
        return layout
    return Layout(layout.names, layout.separator, layout.offset, layout.lines, ",", layout.notices)


def _extra(layout: Layout, known: set[str], kept: Iterable[str]) -> list[Notice]:
    extra = [name for name in layout.names if name not in known and name not in kept]
    if not extra:
        return []
    what = "1 column is" if len(extra) == 1 else f"{len(extra):,} columns are"
    return [Notice("extra_columns", f"{what} unknown to the model and not used: {_listed(extra)}")]


def _absent(names: Sequence[str]) -> list[Notice]:
    if not names:
        return []
    what = (
        "1 column that the model was trained with is missing"
        if len(names) == 1
        else (f"{len(names):,} columns that the model was trained with are missing")
    )
    return [Notice("missing_columns", f"{what}, and taken for empty: {_listed(names)}")]


def _carried(name: str, schema: Schema) -> Column:
    return schema.column(name) if name in schema else Column(name, Kind.TEXT, "carried along")


def _as_trained(column: Column, cells: pa.ChunkedArray) -> tuple[pa.ChunkedArray, list[Remark]]:
    if column.kind in CODED:
        return _as_codes(column, cells)
    if column.kind is Kind.NUMERIC:
        return to_numbers(column.name, cells, column.decimal)
    if column.kind is Kind.DATETIME:
        return to_times(column.name, cells, column.datetime_format)
    return cells, []


def _as_codes(column: Column, cells: pa.ChunkedArray) -> tuple[pa.ChunkedArray, list[Remark]]:
    values = pa.array(column.categories, pa.string())
    codes = (
        pc.index_in(cells, value_set=values) if len(values) else pa.chunked_array([pa.nulls(len(cells), pa.int32())])
    )
    # index_in looks up null as well; only values count as unseen
    n_unseen = codes.null_count - cells.null_count
    if n_unseen <= 0:
        return coded(np.asarray(codes.fill_null(-1).to_numpy(), dtype=np.int32), column.categories), []
    unknown = pc.and_(pc.is_null(codes), pc.is_valid(cells))
    marked = pc.if_else(unknown, pa.scalar(len(values), pa.int32()), codes).fill_null(-1)
    stored = coded(np.asarray(marked.to_numpy(), dtype=np.int32), [*column.categories, None])
    example = cells.filter(unknown)[0].as_py()
    message = f"column {column.name!r} has {count(n_unseen, 'cell')} with a value the model never saw"
    return stored, [Remark("unseen_categories", column.name, f"{message}, such as {example[:40]!r}; taken for unknown")]
