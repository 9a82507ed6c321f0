"""Reading a table to predict for it: columns and kinds are those of the training."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from automl_cli.errors import BadData, SchemaMismatch
from automl_cli.table.blocks import read_blocks
from automl_cli.table.columns import Table, coded, to_numbers, to_times
from automl_cli.table.fitting import AS_TEXT, near_names, short_name
from automl_cli.table.layout import Layout
from automl_cli.table.markers import meant_markers, without_markers
from automl_cli.table.reading import layout_of, read_raw
from automl_cli.table.schema import CODED, UNUSED, Column, Kind, Notice, Remark, Schema, gather
from automl_cli.table.source import Content, open_content

TRUTH = {"true", "false"}


@dataclass(frozen=True)
class Block:
    """Some rows of a table that is read piece by piece.

    Attributes
    ----------
    table : Table
        Of the columns that the training used; it has no notices and no fingerprint of its own.
    carried : mapping of name to strings
        Columns as they are written in the file.
    """

    table: Table
    carried: Mapping[str, pa.ChunkedArray]
    remarks: tuple[Remark, ...]


@dataclass(frozen=True)
class Aligned:
    """A table whose columns have been found, and none of its rows read.

    Attributes
    ----------
    used : tuple of Column
        Of the training, present here.
    absent : tuple of Column
        Of the training, missing here and taken for empty.
    carried : tuple of str
        Wanted as they are written.
    notices : tuple of Notice
        What is odd about the file and its columns.
    """

    content: Content
    layout: Layout
    used: tuple[Column, ...]
    absent: tuple[Column, ...]
    carried: tuple[str, ...]
    notices: tuple[Notice, ...]

    @property
    def wanted(self) -> list[str]:
        """The columns to read, at least one: it tells how many rows there are."""
        names = dict.fromkeys((*(column.name for column in self.used), *self.carried))
        return list(names) or [self.layout.names[0]]

    @property
    def as_text(self) -> frozenset[str]:
        """The columns to read as texts."""
        texts = (column.name for column in self.used if column.kind in AS_TEXT or self._is_grouped(column))
        return frozenset((*self.carried, *texts))

    @property
    def as_numbers(self) -> frozenset[str]:
        """The columns of which nothing but numbers is wanted."""
        numeric = (column.name for column in self.used if column.kind is Kind.NUMERIC)
        return frozenset(numeric).difference(self.as_text)

    def _is_grouped(self, column: Column) -> bool:
        """Whether arrow might take 1,036 for a number with a decimal comma; numbers of a Parquet file are none."""
        return column.kind is Kind.NUMERIC and bool(column.grouping) and not self.content.parquet

    def aligned(self, cells: pa.Table) -> tuple[list[pa.ChunkedArray], list[Remark]]:
        """Bring raw cells to the kinds of the training: the used columns, then the absent ones."""
        remarks: list[Remark] = []
        arrays = []
        by_name = dict(zip(cells.column_names, cells.columns, strict=True))  # looking each up takes long in wide tables
        for column in self.used:
            raw = by_name[column.name]
            if pa.types.is_string(raw.type) and column.kind not in CODED:
                raw = without_markers(raw, column.categories)
            array, odd = _as_trained(column, raw, self.layout.decimal)
            arrays.append(array)
            remarks += odd
        for column in self.absent:
            nothing = pa.chunked_array([pa.nulls(cells.num_rows, pa.string())])
            arrays.append(_as_trained(column, nothing)[0])
        return arrays, remarks

    def blocks(self, n_bytes: int) -> Iterator[Block]:
        """Read the rows in order, about ``n_bytes`` of the file at a time.

        Raises
        ------
        BadData
            The table cannot be read, or has no rows.
        """
        schema = Schema((*self.used, *self.absent))
        n_rows = 0
        for cells in read_blocks(
            self.content, self.layout, self.wanted, n_bytes, text=self.as_text, numbers=self.as_numbers
        ):
            if cells.num_rows == 0:
                continue
            n_rows += cells.num_rows
            arrays, remarks = self.aligned(cells)
            data = pa.table(arrays, names=list(schema.names)) if arrays else cells
            table = Table(schema, data, (), "", self.content.name, self.content.n_bytes)
            yield Block(table, {name: _written(cells.column(name)) for name in self.carried}, tuple(remarks))
        if n_rows == 0:
            raise _no_rows(self.content)


def align(
    source: Path | str,
    schema: Schema,
    *,
    optional: Sequence[str] = (),
    verbatim: Sequence[str] = (),
    fill: bool = False,
) -> Aligned:
    """Find the columns of a training in a table; parameters and errors as for `read_with_schema`."""
    content = open_content(source)
    layout = layout_of(content)
    present, known, kept = set(layout.names), set(schema.names), dict.fromkeys(verbatim)
    used = [column for column in schema.columns if column.kind not in UNUSED]
    absent = [c for c in used if c.name not in present and c.name not in optional] if fill else []
    _check_complete([column.name for column in used if column not in absent], optional, layout, known, content.name)
    for name in kept:
        if name not in present and name not in optional:
            raise SchemaMismatch(f"{content.name} has no column {name!r}", hint=near_names(name, layout.names))
    used = [column for column in used if column.name in present]
    odd_columns = (*_extra(layout, known, kept), *_absent([column.name for column in absent]))
    return Aligned(
        content,
        _with_decimal(layout, used),
        tuple(used),
        tuple(absent),
        tuple(name for name in kept if name in present),
        (*content.notices, *layout.notices, *odd_columns),
    )


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
        Its schema is the training's, restricted to the columns that are used and present, or filled; then the
        verbatim ones. It has as many rows as the file, in the same order.

    Raises
    ------
    SchemaMismatch
        Columns are missing.
    BadData
        The table cannot be read, or has no rows.
    """
    only = Schema(tuple(column for column in schema.columns if column.name not in verbatim))
    found = align(source, only, optional=optional, verbatim=verbatim, fill=fill)
    content = found.content
    content.start_hashing()
    cells = read_raw(content, found.layout, found.wanted, found.as_text)
    if cells.num_rows == 0:
        raise _no_rows(content)
    arrays, remarks = found.aligned(cells)
    for name in found.carried:
        raw, known = cells.column(name), _carried(name, schema)
        arrays.append(without_markers(raw, meant_markers(pc.unique(raw)).union(known.categories)))
    columns = (*found.used, *found.absent, *(_carried(name, schema) for name in found.carried))
    names = [column.name for column in columns]
    data = pa.table(arrays, names=names) if arrays else cells
    return Table(
        Schema(columns), data, (*found.notices, *gather(remarks)), content.fingerprint, content.name, content.n_bytes
    )


def _no_rows(content: Content) -> BadData:
    return BadData(f"{content.name} has a header but no rows", hint="add rows to predict for")


def _written(cells: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return texts as they will be written: an empty cell stays one."""
    return pc.if_else(pc.equal(cells, ""), None, cells)


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
    return replace(layout, decimal=",")


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


def _as_trained(column: Column, cells: pa.ChunkedArray, decimal: str = "") -> tuple[pa.ChunkedArray, list[Remark]]:
    if column.kind in CODED:
        return _as_codes(column, cells)
    if column.kind is Kind.NUMERIC:
        known = column.notation
        if not pa.types.is_string(cells.type) or known.grouping:
            return to_numbers(column.name, cells, known)
        # Texts by the file's decimal mark or by the training's, whichever reads more of them.
        ways = dict.fromkeys((replace(known, decimal=decimal or known.decimal), known))
        return min((to_numbers(column.name, cells, way) for way in ways), key=lambda found: found[0].null_count)
    if column.kind is Kind.DATETIME:
        return to_times(column.name, cells, column.datetime_format)
    return cells, []


def _as_codes(column: Column, cells: pa.ChunkedArray) -> tuple[pa.ChunkedArray, list[Remark]]:
    values, present = pa.array(column.categories, pa.string()), cells
    if {category.lower() for category in column.categories} == TRUTH:  # each format writes them its own way
        values, cells = pc.utf8_lower(values), pc.utf8_lower(cells)
    codes = (
        pc.index_in(cells, value_set=values) if len(values) else pa.chunked_array([pa.nulls(len(cells), pa.int32())])
    )
    if codes.null_count and pa.types.is_string(present.type):  # else none of the signs for a missing cell is there
        present = without_markers(present, column.categories)
    # index_in looks up null as well; only values count as unseen
    n_unseen = codes.null_count - present.null_count
    if n_unseen <= 0:
        return coded(np.asarray(codes.fill_null(-1).to_numpy(), dtype=np.int32), column.categories), []
    unknown = pc.and_(pc.is_null(codes), pc.is_valid(present))
    marked = pc.if_else(unknown, pa.scalar(len(values), pa.int32()), codes).fill_null(-1)
    stored = coded(np.asarray(marked.to_numpy(), dtype=np.int32), [*column.categories, None])
    example = cells.filter(unknown)[0].as_py()
    text = f" with a value the model never saw, such as {example[:40]!r}; taken for unknown"
    return stored, [Remark("unseen_categories", column.name, text, n_unseen)]
