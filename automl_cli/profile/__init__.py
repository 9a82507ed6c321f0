"""A table in numbers, and what in it may surprise: imbalance, copies, leaks, ids, dates out of order.

All of it on bounded numbers of rows and columns.
"""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from automl_cli.profile.checks import (
    dates_out_of_order,
    duplicate_rows,
    imbalance,
    repeated_ids,
    twin_columns,
    unused,
)
from automl_cli.profile.columns import Cells, ColumnProfile, cells_of, described_as
from automl_cli.profile.leaks import leaks
from automl_cli.table import Notice, Table

__all__ = ["ColumnProfile", "Profile", "profile"]

MAX_COLUMNS = 5_000
"""Columns beyond these are listed, not examined."""

Check = Callable[[list[Cells], list[ColumnProfile], str | None], Iterator[Notice]]
CHECKS: tuple[Check, ...] = (
    leaks,
    imbalance,
    unused,
    repeated_ids,
    twin_columns,
    duplicate_rows,
    dates_out_of_order,
)


@dataclass(frozen=True)
class Profile:
    """A table in numbers, and what is odd in it."""

    n_rows: int
    target: str | None
    columns: tuple[ColumnProfile, ...]
    warnings: tuple[Notice, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the profile as JSON values."""
        return {
            "n_rows": self.n_rows,
            "target": self.target,
            "columns": [column.to_json() for column in self.columns],
            "warnings": [asdict(warning) for warning in self.warnings],
        }


def profile(table: Table, target: str | None = None, *, max_rows: int = 200_000) -> Profile:
    """Describe a table and look for what may surprise.

    Parameters
    ----------
    target : str or None
        The column to be predicted: without it leaks and imbalance are not looked for.
    max_rows : int
        Of a longer table, evenly spread rows are looked at.
    """
    if table.n_rows > max_rows:
        table = _spread(table, max_rows)
    examined = {column.name for column in table.schema.columns[:MAX_COLUMNS]} | {target}
    described: list[ColumnProfile] = []
    cells: list[Cells] = []
    for column in table.schema.columns:
        if column.name not in examined:
            share = table.data.column(column.name).null_count / max(1, table.n_rows)
            described.append(ColumnProfile(column.name, column.kind, column.reason, share, 0))
            continue
        known = cells_of(table, column)
        described.append(described_as(table, column, known))
        if known is not None:
            cells.append(known)
    warnings = [warning for check in CHECKS for warning in check(cells, described, target)]
    return Profile(table.n_rows, target, tuple(described), tuple(_few(warnings)))


def _spread(table: Table, n_rows: int) -> Table:
    return table.take(np.linspace(0, table.n_rows - 1, n_rows).astype(np.int64))


def _few(warnings: list[Notice]) -> Iterator[Notice]:
    """Keep five warnings of a topic and count the others."""
    for topic in dict.fromkeys(warning.topic for warning in warnings):
        group = [warning for warning in warnings if warning.topic == topic]
        yield from group[:5]
        if len(group) > 5:
            yield Notice(topic, f"and {len(group) - 5:,} more of this sort")
