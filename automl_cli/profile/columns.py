"""One column in numbers, and its cells as the checks see them."""

from dataclasses import asdict, dataclass
from datetime import date, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from automl_cli.table import CODED, Column, Kind, Table

Array = NDArray[Any]

MAX_CLASSES = 100


@dataclass(frozen=True)
class ColumnProfile:
    """A column in numbers.

    Attributes
    ----------
    missing : float
        Share of cells without a value, 0 to 1.
    distinct : int
        Distinct values among the rows that were looked at.
    minimum, maximum, mean, skew : float or None
        Of numbers; None where there are none.
    top : tuple of (value, share)
        The commonest values of booleans and categories.
    first, last : str
        Range of points in time, as ISO dates.
    """

    name: str
    kind: Kind
    reason: str
    missing: float
    distinct: int
    minimum: float | None = None
    maximum: float | None = None
    mean: float | None = None
    skew: float | None = None
    top: tuple[tuple[str, float], ...] = ()
    first: str = ""
    last: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the column's profile as JSON values."""
        values = asdict(self)
        return {
            **{key: value for key, value in values.items() if key not in ("minimum", "maximum")},
            "kind": self.kind.value,
            "min": self.minimum,
            "max": self.maximum,
            "top": [[value, share] for value, share in self.top],
        }


@dataclass(frozen=True)
class Cells:
    """The cells of the rows that are looked at, as float64 of shape (n_rows,): numbers, codes or days; NaN missing."""

    column: Column
    values: Array

    @property
    def coded(self) -> bool:
        """Whether the values are codes, which have no order."""
        return self.column.kind in CODED


def cells_of(table: Table, column: Column) -> Cells | None:
    """Return a column's cells as numbers; None for texts, ids and constants."""
    if column.kind in CODED:
        codes = table.codes(column.name).astype(np.float64)
        return Cells(column, np.where(codes < 0, np.nan, codes))
    if column.kind is Kind.NUMERIC:
        return Cells(column, table.numbers(column.name))
    if column.kind is Kind.DATETIME:
        return Cells(column, table.days(column.name))
    return None


def described_as(table: Table, column: Column, cells: Cells | None) -> ColumnProfile:
    """Describe a column in numbers."""
    n_rows = max(1, table.n_rows)
    if cells is None:
        texts = [text for text in table.texts(column.name) if text is not None]
        return ColumnProfile(column.name, column.kind, column.reason, 1 - len(texts) / n_rows, len(set(texts)))
    filled = cells.values[~np.isnan(cells.values)]
    missing = 1 - len(filled) / n_rows
    if cells.coded:
        counts = np.bincount(filled.astype(np.int64), minlength=1)
        order = np.argsort(-counts, kind="stable")[:5]
        top = tuple((column.categories[i], float(counts[i] / len(filled))) for i in order if counts[i])
        return ColumnProfile(column.name, column.kind, column.reason, missing, int((counts > 0).sum()), top=top)
    distinct = len(np.unique(filled))
    if not len(filled):
        return ColumnProfile(column.name, column.kind, column.reason, missing, 0)
    low, high = float(filled.min()), float(filled.max())
    if column.kind is Kind.DATETIME:
        first, last = _iso(low), _iso(high)
        return ColumnProfile(column.name, column.kind, column.reason, missing, distinct, first=first, last=last)
    # In units of the largest value, so that squares and cubes stay finite.
    unit = max(abs(low), abs(high)) or 1.0
    scaled = filled / unit
    centred = scaled - scaled.mean()
    spread = float(np.sqrt((centred**2).mean()))
    skew = float((centred**3).mean() / spread**3) if spread > 1e-12 else 0.0
    mean = float(scaled.mean() * unit)
    return ColumnProfile(column.name, column.kind, column.reason, missing, distinct, low, high, mean, skew)


def _iso(days: float) -> str:
    try:
        return (date(1970, 1, 1) + timedelta(days=days)).isoformat()
    except OverflowError:
        return ""


def positions(n_rows: int, wanted: int) -> Array:
    """Return at most ``wanted`` rows, int64, spread evenly."""
    return np.linspace(0, n_rows - 1, min(n_rows, wanted)).astype(np.int64)


def class_codes(cells: list[Cells], target: str | None) -> tuple[Array, tuple[str, ...]] | None:
    """Return the target's classes as int64 codes, -1 where missing, and their names; None where it is no class."""
    own = next((c for c in cells if c.column.name == target), None)
    if own is None:
        return None
    codes = np.where(np.isnan(own.values), -1, own.values)
    if own.coded:
        names = own.column.categories
        return (codes.astype(np.int64), names) if len(names) <= MAX_CLASSES else None
    values = np.unique(own.values[~np.isnan(own.values)])
    # The rule of the task: few whole numbers that follow each other are classes.
    if not 2 <= len(values) <= 20 or values[0] not in (0, 1) or (np.diff(values) != 1).any():
        return None
    whole = np.where(np.isnan(own.values), -1, own.values - values[0]).astype(np.int64)
    return whole, tuple(f"{value:g}" for value in values)


def renamed(codes: Array) -> Array:
    """Return each value's place in the order in which values first occur."""
    filled = np.where(np.isnan(codes), -1, codes)
    _, first, inverse = np.unique(filled, return_index=True, return_inverse=True)
    renamed: Array = np.argsort(np.argsort(first))[inverse].astype(np.int32)
    return renamed
