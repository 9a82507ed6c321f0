"""What may surprise in a table apart from leaks: imbalance, ids, copies, dates out of order."""

import itertools
from collections.abc import Iterator
from shlex import quote
from typing import Any

import numpy as np
from numpy.typing import NDArray

from automl_cli.profile.columns import Cells, ColumnProfile, class_codes, positions, renamed
from automl_cli.table import Kind, Notice, is_id_name

Array = NDArray[Any]

TWIN_ROWS = 2_000
MAX_TWINS = 400
FEWEST_OWNERS = 10
RARE_SHARE = 0.05
LEAST_OWNERS, MOST_OWNERS = 0.02, 0.5
"""Distinct values per row of an id whose rows may be those of one person: fewer are kinds of things, more are rows."""


def imbalance(cells: list[Cells], described: list[ColumnProfile], target: str | None) -> Iterator[Notice]:
    """Find a class of the target that hardly occurs."""
    known = class_codes(cells, target)
    if known is None:
        return
    codes, names = known
    shares = np.bincount(codes[codes >= 0], minlength=len(names)) / max(1, int((codes >= 0).sum()))
    rarest = int(np.argmin(shares))
    if shares[rarest] < RARE_SHARE and len(names) > 1:
        message = f"only {shares[rarest]:.2%} of the rows have {target!r} = {names[rarest]!r}"
        yield Notice("imbalance", f"{message}: accuracy would mislead")


def unused(cells: list[Cells], described: list[ColumnProfile], target: str | None) -> Iterator[Notice]:
    """Find ids, constants and columns that are mostly missing."""
    for column in described:
        if column.name == target:
            continue
        if column.kind is Kind.ID:
            yield Notice("ids", f"column {column.name!r} looks like an id ({column.reason}) and is not learned from")
        elif column.kind is Kind.CONSTANT and column.missing < 1:
            yield Notice("constant_columns", f"column {column.name!r} is constant: {column.reason}")
        elif 0.5 < column.missing < 1:
            yield Notice("mostly_missing", f"column {column.name!r} is missing in {column.missing:.0%} of the rows")


def repeated_ids(cells: list[Cells], described: list[ColumnProfile], target: str | None) -> Iterator[Notice]:
    """Find ids that several rows share, such as those of persons: their rows are told apart by chance alone."""
    for cell in cells:
        name = cell.column.name
        if name == target or not is_id_name(name, measured=False) or cell.column.kind in (Kind.BOOLEAN, Kind.DATETIME):
            continue
        filled = cell.values[~np.isnan(cell.values)]
        owners = np.unique(filled)
        if not LEAST_OWNERS * len(filled) <= len(owners) <= MOST_OWNERS * len(filled) or len(owners) < FEWEST_OWNERS:
            continue
        single = all(len(text.split()) == 1 for text in cell.column.categories)
        if single if cell.coded else (owners == np.round(owners)).all():
            message = f"rows of one {name!r} are both learned from and judged on: if new ones are to be predicted"
            yield Notice("repeated_ids", f"{message}, add --group-column {quote(name)}")


def duplicate_rows(cells: list[Cells], described: list[ColumnProfile], target: str | None) -> Iterator[Notice]:
    """Find rows that are the same up to the fourth digit, ids and texts aside."""
    if len(cells) < 2 or not len(cells[0].values):
        return
    rows = np.zeros(len(cells[0].values), dtype=np.uint64)
    for i, column in enumerate(cells):
        rows = _mixed(rows ^ (_rounded(column.values).view(np.uint64) + np.uint64(i)))
    n_repeated = len(rows) - len(np.unique(rows))
    if n_repeated:
        share = n_repeated / len(rows)
        rows_repeat = "1 row repeats" if n_repeated == 1 else f"{n_repeated:,} rows ({share:.1%}) repeat"
        message = f"{rows_repeat} an earlier one (numbers to four digits)"
        yield Notice("duplicate_rows", f"{message}: copies on both sides of a split flatter the score")


def _rounded(values: Array) -> Array:
    """Round to four significant digits; NaN and both zeros to one pattern each."""
    size = np.abs(values)
    with np.errstate(divide="ignore", invalid="ignore"):
        exponent = np.floor(np.log10(np.where(size > 0, size, 1.0)))
    # Tiny and huge exponents would overflow the power of ten.
    unit = 10.0 ** (np.clip(np.where(np.isnan(exponent), 0.0, exponent), -290, 290) - 3)
    rounded = np.round(values / unit) * unit + 0.0
    return np.where(np.isnan(rounded), np.nan, rounded)


def _mixed(x: Array) -> Array:
    """Scramble 64-bit integers (the finaliser of splitmix64, Steele et al. 2014)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: Array = x ^ (x >> np.uint64(31))
    return mixed


def twin_columns(cells: list[Cells], described: list[ColumnProfile], target: str | None) -> Iterator[Notice]:
    """Find columns that tell the same: numbers that are proportional, categories that are renamed."""
    features = [c for c in cells if c.column.name != target][:MAX_TWINS]
    if not features:
        return
    rows = positions(len(features[0].values), TWIN_ROWS)
    coded: dict[bytes, str] = {}
    for cell in (c for c in features if c.coded):
        names = renamed(cell.values[rows])
        key = names.tobytes()
        if names.max() > len(rows) / 2:
            continue  # where hardly a value repeats, all such columns look the same
        if key in coded:
            yield _twins(coded[key], cell.column.name)
        coded.setdefault(key, cell.column.name)
    numeric = [c for c in features if not c.coded]
    if not numeric:
        return
    ranked = np.array([_standardised(c.values[rows]) for c in numeric])
    near = np.abs(ranked @ ranked.T) > 0.99999
    seen: set[int] = set()
    for i, j in itertools.combinations(range(len(numeric)), 2):
        if not near[i, j] or i in seen or j in seen:
            continue
        if (np.isnan(numeric[i].values[rows]) == np.isnan(numeric[j].values[rows])).all():
            seen.add(j)
            yield _twins(numeric[i].column.name, numeric[j].column.name)


def _twins(first: str, second: str) -> Notice:
    return Notice("duplicate_columns", f"columns {first!r} and {second!r} tell the same")


def _standardised(values: Array) -> Array:
    filled = np.nan_to_num(values, nan=float(np.nanmean(values)) if (~np.isnan(values)).any() else 0.0)
    centred = filled / (np.abs(filled).max() or 1.0)
    centred = centred - centred.mean()
    length = float(np.sqrt((centred**2).sum()))
    return centred / length if length > 1e-9 else np.zeros_like(centred)


def dates_out_of_order(cells: list[Cells], described: list[ColumnProfile], target: str | None) -> Iterator[Notice]:
    """Find dates by which the rows are sorted, or nearly, and a start that now and then lies behind its end."""
    dates = [c for c in cells if c.column.kind is Kind.DATETIME][:20]
    for cell in dates:
        days = cell.values[~np.isnan(cell.values)]
        steps = np.diff(days)
        name = cell.column.name
        n_back, n_on = int((steps < 0).sum()), int((steps > 0).sum())
        if n_on > 20 and n_back == 0:
            message = f"the rows are in the order of {name!r}: if the future is to be predicted"
            yield Notice("time_order", f"{message}, add --time-column {quote(name)}")
        elif n_on > 20 and n_back <= 0.05 * n_on:
            message = f"the rows are in the order of {name!r} but for {n_back:,} places where it goes back"
            yield Notice("dates_out_of_order", message)
    for a, b in itertools.permutations(dates, 2):
        with np.errstate(invalid="ignore"):
            n_before, n_behind = int((a.values < b.values).sum()), int((a.values > b.values).sum())
        if n_before > 20 and 0 < n_behind <= 0.02 * n_before:
            message = f"{a.column.name!r} lies before {b.column.name!r} but for {n_behind:,} rows"
            yield Notice("dates_out_of_order", f"{message}: are those dates right?")
