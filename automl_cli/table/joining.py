"""Two or more tables of one kind, read side by side: a column means the same in all of them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pyarrow as pa

from automl_cli.errors import BadData, TargetNotFound
from automl_cli.table.columns import Table
from automl_cli.table.fitting import AS_TEXT, NO_KINDS, check_names, check_rows, decide_kinds, near_names
from automl_cli.table.layout import Layout
from automl_cli.table.reading import layout_of, read_cells
from automl_cli.table.schema import Kind, Notice, gather
from automl_cli.table.source import Content, open_content

MOST_NAMED = 5


def read_tables(
    first: Path | str,
    others: Sequence[Path | str],
    *,
    target: str,
    kinds: Mapping[str, Kind] = NO_KINDS,
    ignore: Sequence[str] = (),
    verbatim: Sequence[str] = (),
    labelled: bool = True,
) -> tuple[Table, ...]:
    """Read tables whose columns are those of the first; kinds and categories are decided on the rows of all.

    Columns that another table lacks are empty there, and those that only it has are not read.

    Parameters
    ----------
    target, kinds, ignore, verbatim
        As for `read_table`, of the first table; the target is not ignored.
    labelled : bool
        Whether the others must have the target as well; else it is empty there, whatever they hold.

    Returns
    -------
    tuple of Table
        One schema for all, in the order in which they were given.

    Raises
    ------
    BadData, TargetNotFound, UsageError
        See `read_table`; or a table shares no column with the first.
    """
    contents = [open_content(source) for source in (first, *others)]
    layouts = [layout_of(content) for content in contents]
    check_names(layouts[0], contents[0].name, target, ignore, [*kinds, *ignore, *verbatim])
    left_out = set(ignore)
    names = [name for name in layouts[0].names if name not in left_out]
    kept = {*verbatim, target}
    as_text = kept | {name for name, kind in kinds.items() if kind in AS_TEXT}
    notices: list[list[Notice]] = [
        [*content.notices, *of.notices] for content, of in zip(contents, layouts, strict=True)
    ]
    shared = [names]
    for content, layout, odd in zip(contents[1:], layouts[1:], notices[1:], strict=True):
        if labelled and target not in layout.names:
            raise TargetNotFound(f"{content.name} has no column {target!r}", hint=near_names(target, layout.names))
        unread = set() if labelled else {target}
        shared.append([name for name in names if name in set(layout.names) - unread])
        if not set(shared[-1]) - kept:
            hint = f"its columns are {_listed(layout.names)}; rename those that are meant to be the same"
            raise BadData(f"{content.name} shares no column with {contents[0].name}", hint=hint)
        asked = [name for name in names if name not in unread]
        odd.extend(_differences(content.name, contents[0].name, asked, layout.names, left_out | unread))
        if unread & set(layout.names):
            text = f"{content.name} has a column {target!r}, which is not looked at"
            odd.append(Notice("unlabelled", text))
    parts = [
        dict(zip(own, read_cells(content, layout, own, as_text & set(own), target=target).columns, strict=True))
        for content, layout, own in zip(contents, layouts, shared, strict=True)
    ]
    for content, part in zip(contents, parts, strict=True):
        check_rows(len(next(iter(part.values()))), content.name)
    _reread_as_text(contents, layouts, parts, names)
    arrays = [_joined([part.get(name) for part in parts], parts) for name in names]
    lengths = [len(next(iter(part.values()))) for part in parts]
    del parts
    schema, remarks = decide_kinds(names, arrays, layouts[0], kinds, kept)
    data = pa.table(arrays, names=names)
    starts = [sum(lengths[:k]) for k in range(len(lengths))]
    tables = [
        Table(schema, data.slice(start, n), tuple(odd), content.fingerprint, content.name, content.n_bytes)
        for content, start, n, odd in zip(contents, starts, lengths, notices, strict=True)
    ]
    return (replace(tables[0], notices=(*tables[0].notices, *gather(remarks))), *tables[1:])


def under(tables: Sequence[Table]) -> Table:
    """Put tables of one schema under each other; the first says what the result is called."""
    both = "".join(table.fingerprint for table in tables)
    fingerprint = both if len(tables) == 1 else sha256(both.encode()).hexdigest()
    return replace(tables[0], data=pa.concat_tables([table.data for table in tables]), fingerprint=fingerprint)


def _differences(file: str, first: str, names: Sequence[str], others: Sequence[str], ignored: set[str]) -> list[Notice]:
    known = set(others)
    lacking = [name for name in names if name not in known]
    extra = [name for name in others if name not in {*names, *ignored}]
    said = []
    if lacking:
        said.append(Notice("source_columns", f"{file} lacks {_listed(lacking)} of {first}: empty in its rows"))
    if extra:
        said.append(Notice("source_columns", f"{file} has {_listed(extra)} besides, which {first} lacks: not used"))
    return said


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - MOST_NAMED:,} more" if len(names) > MOST_NAMED else ""
    return ", ".join(map(repr, names[:MOST_NAMED])) + more


def _reread_as_text(
    contents: Sequence[Content],
    layouts: Sequence[Layout],
    parts: Sequence[dict[str, pa.ChunkedArray]],
    names: Sequence[str],
) -> None:
    """Read columns once more, as texts, that are numbers in one table and something else in another."""
    mixed = [name for name in names if not _one_type([part[name].type for part in parts if name in part])]
    for content, layout, part in zip(contents, layouts, parts, strict=True):
        own = [name for name in mixed if name in part and not pa.types.is_string(part[name].type)]
        if own:
            cells = read_cells(content, layout, own, own)
            part.update(zip(own, cells.columns, strict=True))


def _one_type(types: Sequence[pa.DataType]) -> bool:
    """Whether columns of these types can be joined as they are, or as doubles."""
    known = {kind for kind in types if not pa.types.is_null(kind)}
    return len(known) < 2 or all(pa.types.is_integer(kind) or pa.types.is_floating(kind) for kind in known)


def _joined(
    columns: Sequence[pa.ChunkedArray | None], parts: Sequence[Mapping[str, pa.ChunkedArray]]
) -> pa.ChunkedArray:
    known = {column.type for column in columns if column is not None and not pa.types.is_null(column.type)}
    kind = next(iter(known)) if len(known) == 1 else pa.float64() if known else pa.null()
    chunks: list[pa.Array] = []
    for column, part in zip(columns, parts, strict=True):
        n_rows = len(next(iter(part.values())))
        # Not safe: integers beyond 2**53 are no exact doubles, which arrow would refuse.
        chunks += [pa.nulls(n_rows, kind)] if column is None else column.cast(kind, safe=False).chunks
    return pa.chunked_array(chunks, kind)
