"""Reading a table to learn from it: kinds are decided, oddities noted."""

import difflib
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from automl_cli.errors import BadData, TargetNotFound, UsageError
from automl_cli.table.columns import Table, settle
from automl_cli.table.facts import Facts
from automl_cli.table.kinds import chosen, verdict_of
from automl_cli.table.layout import Layout
from automl_cli.table.reading import layout_of, read_cells
from automl_cli.table.schema import CODED, Column, Kind, Remark, Schema, count, gather
from automl_cli.table.source import open_content
from automl_cli.table.values import times_of

SENTINELS = (-99, -999, -9999, -99999, -200, 99, 999, 9999, 99999, 999999)
NO_KINDS: Mapping[str, Kind] = MappingProxyType({})
MANY_ROWS = 100_000
LONGEST_SHOWN = 60
AS_TEXT = CODED | {Kind.TEXT}
AS_VALUES = frozenset({Kind.NUMERIC, Kind.DATETIME})


def read_table(
    source: Path | str,
    *,
    target: str | None = None,
    kinds: Mapping[str, Kind] = NO_KINDS,
    ignore: Sequence[str] = (),
    verbatim: Sequence[str] = (),
) -> Table:
    """Read a table to learn from.

    Parameters
    ----------
    source : Path or str
        A CSV (any common separator, encoding and compression) or Parquet file; ``-`` is stdin.
    target : str or None
        The column to predict; read as text.
    kinds : mapping of column name to Kind
        Where the user knows better.
    ignore : sequence of str
        Columns that are not read.
    verbatim : sequence of str
        More columns to be read as text, exactly as written in the file.

    Raises
    ------
    BadData
        The table cannot be read, or has fewer than two rows.
    TargetNotFound
        There is no column called ``target``.
    UsageError
        ``kinds``, ``ignore`` or ``verbatim`` name a column that is not there, or the target is ignored.
    """
    content = open_content(source)
    content.start_hashing()
    layout = layout_of(content)
    check_names(layout, content.name, target, ignore, [*kinds, *ignore, *verbatim])
    left_out = set(ignore)
    names = [name for name in layout.names if name not in left_out]
    if not names:
        raise BadData(f"{content.name} has no column left to read", hint="ignore fewer columns")
    kept = {*verbatim} | ({target} if target is not None else set())
    as_text = kept | {name for name, kind in kinds.items() if kind in AS_TEXT}
    cells = read_cells(content, layout, names, as_text, target=target)
    check_rows(cells.num_rows, content.name)
    arrays = cells.columns
    del cells  # so that each column can be let go once it is stored in another way
    schema, remarks = decide_kinds(names, arrays, layout, kinds, kept)
    data = pa.table(arrays, names=names)
    notices = (*content.notices, *layout.notices, *gather(remarks))
    return Table(schema, data, notices, content.fingerprint, content.name, content.n_bytes)


def column_names(source: Path | str) -> tuple[str, ...]:
    """Return the names of a table's columns, whatever they hold.

    Raises
    ------
    BadData
        See `read_table`.
    """
    return layout_of(open_content(source)).names


def check_names(layout: Layout, file: str, target: str | None, ignore: Collection[str], asked: Sequence[str]) -> None:
    """Refuse names of columns that are not there; see `read_table`."""
    if target is not None and target not in layout.names:
        raise TargetNotFound(f"{file} has no column {target!r}", hint=near_names(target, layout.names))
    known = set(layout.names)
    for name in asked:
        if name not in known:
            raise UsageError(f"{file} has no column {name!r}", hint=near_names(name, layout.names))
    if target is not None and target in ignore:
        raise UsageError(f"column {target!r} is the target and cannot be ignored", hint="leave out --ignore for it")


def check_rows(n_rows: int, file: str) -> None:
    """Refuse a table with fewer than two rows."""
    if n_rows == 0:
        raise BadData(f"{file} has a header but no rows", hint="add rows")
    if n_rows == 1:
        raise BadData(f"{file} has one row, too few to learn from", hint="add rows, or check its line ends and header")


def near_names(name: str, names: Iterable[str]) -> str:
    """Offer the names that look like one that is not there.

    >>> near_names("Prize", ["price", "rooms"])
    "did you mean 'price'?"
    """
    by_lower = {candidate.lower(): candidate for candidate in names}
    near = [by_lower[match] for match in difflib.get_close_matches(name.strip().lower(), list(by_lower)[:5000], n=3)]
    if near:
        return f"did you mean {' or '.join(map(short_name, near))}?"
    shown = list(by_lower.values())
    more = f" and {len(shown) - 10:,} more" if len(shown) > 10 else ""
    return f"its columns are {', '.join(map(short_name, shown[:10]))}{more}"


def short_name(name: str) -> str:
    """Quote a name; of a whole paragraph, which a file without line ends may have for one, the beginning will do."""
    return repr(name if len(name) <= LONGEST_SHOWN else name[: LONGEST_SHOWN - 3] + "...")


def decide_kinds(
    names: Sequence[str],
    arrays: list[pa.ChunkedArray],
    layout: Layout,
    kinds: Mapping[str, Kind],
    kept: Collection[str],
) -> tuple[Schema, list[Remark]]:
    """Decide the kinds column by column; each column in ``arrays`` makes place for how it is stored."""

    def decide(i: int) -> tuple[Column, list[Remark]]:
        unnamed = layout.unnamed and names[i] == layout.names[0]
        facts = Facts(names[i], arrays[i], layout.decimal, unnamed)
        override = kinds.get(names[i])
        verdict = verdict_of(facts) if override is None else chosen(facts, override)
        column, arrays[i], odd = settle(names[i], verdict, facts, keep_text=names[i] in kept)
        if override is None and column.kind in AS_VALUES and facts.n_filled and arrays[i].null_count == facts.n_rows:
            # infinities alone, for example: nobody asked for the kind, so that nobody can be told to take it back
            column = Column(names[i], Kind.CONSTANT, f"looks {column.kind}, and no cell has such a value")
        return column, [*_oddities(column, facts, arrays[i]), *odd]

    if arrays and len(arrays[0]) > MANY_ROWS:
        with ThreadPoolExecutor(2) as pool:  # arrow lets go of the interpreter while it counts and encodes
            decided = list(pool.map(decide, range(len(names))))
    else:
        decided = [decide(i) for i in range(len(names))]
    return Schema(tuple(column for column, _ in decided)), [remark for _, odd in decided for remark in odd]


def _oddities(column: Column, facts: Facts, stored: pa.ChunkedArray) -> list[Remark]:
    name = column.name
    if facts.n_filled == 0:
        return [Remark("empty_columns", name, f"column {name!r} has no value in any row; it is not used")]
    if column.kind is Kind.BOOLEAN and len(column.categories) != 2:
        values = count(len(column.categories), "distinct value")
        raise UsageError(f"column {name!r} has {values}; a boolean has two", hint=f"--kind {name}=category")
    if column.kind in AS_VALUES and stored.null_count == facts.n_rows:
        raise UsageError(f"no cell of column {name!r} can be read as {column.kind}", hint="leave out --kind for it")
    if column.kind is Kind.NUMERIC and not pa.types.is_string(stored.type):
        # A look at every cell only where an end of the range is one of the usual numbers.
        finite = facts.is_number and facts.is_finite
        return sentinels(name, stored) if not finite or any(b in SENTINELS for b in facts.bounds) else []
    if column.datetime_format.startswith(("%m/%d", "%d/%m", "%m-%d")) and _both_ways(facts, column.datetime_format):
        order = "month/day" if column.datetime_format.startswith("%m") else "day/month"
        return [Remark("date_order", name, f"dates in column {name!r} are read as {order}; both orders would fit")]
    return []


def _both_ways(facts: Facts, form: str) -> bool:
    swapped = form.replace("%m", "%_").replace("%d", "%m").replace("%_", "%d")
    return facts.is_text and times_of(facts.sample, swapped).null_count == 0


def sentinels(name: str, stored: pa.ChunkedArray) -> list[Remark]:
    """Note a number such as -999 that stands far from all others and repeats: it may mean missing."""
    bounds = pc.min_max(stored)
    for end in ("min", "max"):
        extreme = bounds[end].as_py()
        if extreme not in SENTINELS:
            continue
        others = stored.filter(pc.not_equal(stored, extreme)).drop_null()
        n_times = len(stored) - stored.null_count - len(others)
        if n_times < 2 or len(others) < 2:
            continue
        rest = pc.min_max(others)
        low, high = float(rest["min"].as_py()), float(rest["max"].as_py())
        gap = low - extreme if end == "min" else extreme - high
        if gap > high - low or (end == "min" and low >= 0 and np.isfinite(high)):
            share = n_times / len(stored)
            message = f"column {name!r} is {extreme:g} in {count(n_times, 'row')} ({share:.1%}), far from all others"
            return [Remark("sentinels", name, f"{message}: if that means missing, leave those cells empty")]
    return []
