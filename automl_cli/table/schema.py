"""The words for a table as it was read: kinds, columns, schema, notices."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cached_property
from typing import Any

from automl_cli.table.notation import Notation


class Kind(StrEnum):
    """What a column holds, as far as learning is concerned."""

    NUMERIC = "numeric"
    BOOLEAN = "boolean"
    CATEGORY = "category"
    HIGH_CARDINALITY = "high_cardinality"
    DATETIME = "datetime"
    TEXT = "text"
    ID = "id"
    CONSTANT = "constant"


CODED = frozenset({Kind.BOOLEAN, Kind.CATEGORY, Kind.HIGH_CARDINALITY})
"""Kinds whose values are numbered by their position in ``Column.categories``."""

UNUSED = frozenset({Kind.ID, Kind.CONSTANT})
"""Kinds that no model learns from, so that prediction does not ask for them."""

BESIDE_NUMBERS = ("grouping", "prefix", "suffix", "negative")


@dataclass(frozen=True)
class Column:
    """A column, its kind and the reason for it.

    Attributes
    ----------
    categories : tuple of str
        Values of a boolean (exactly two, sorted), a category or a high-cardinality category (most frequent first,
        ties in the order of the text); a code is a position in it.
    decimal : str
        ``,`` where numbers are written with a decimal comma.
    datetime_format : str
        How points in time are written, as for ``strptime``; ``epoch_s``, ``_ms``, ``_us`` and ``_ns`` count from
        1970; empty for ISO 8601.
    grouping, prefix, suffix, negative : str
        What stands between the thousands of numbers and beside them, and around negative ones; see `Notation`.
    """

    name: str
    kind: Kind
    reason: str
    categories: tuple[str, ...] = ()
    decimal: str = "."
    datetime_format: str = ""
    grouping: str = ""
    prefix: str = ""
    suffix: str = ""
    negative: str = ""

    @property
    def notation(self) -> Notation:
        """How its numbers are written."""
        return Notation(self.decimal, self.grouping, self.prefix, self.suffix, self.negative)

    def to_json(self) -> dict[str, Any]:
        """Return the column as JSON values."""
        return {
            "name": self.name,
            "kind": self.kind.value,
            "reason": self.reason,
            "categories": list(self.categories),
            "decimal": self.decimal,
            "datetime_format": self.datetime_format,
            # models of earlier versions lack these
            **{name: text for name in BESIDE_NUMBERS if (text := getattr(self, name))},
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Column":
        """Read what `to_json` wrote; raises ValueError, KeyError or TypeError where it is anything else."""
        texts = [data["name"], data["reason"], data["decimal"], data["datetime_format"], *data["categories"]]
        beside = {name: data.get(name, "") for name in BESIDE_NUMBERS}
        texts += beside.values()
        if not all(isinstance(text, str) for text in texts) or not isinstance(data["categories"], list):
            raise ValueError("a column is not described by texts")
        if len(set(data["categories"])) < len(data["categories"]):
            raise ValueError("a column is not described as it must be")
        column = cls(
            name=data["name"],
            kind=Kind(data["kind"]),
            reason=data["reason"],
            categories=tuple(data["categories"]),
            decimal=data["decimal"],
            datetime_format=data["datetime_format"],
            **beside,
        )
        _ = column.notation  # raises where nobody writes numbers in that way
        return column


@dataclass(frozen=True)
class Schema:
    """The columns of a table, in order, names unique."""

    columns: tuple[Column, ...]

    @cached_property
    def _by_name(self) -> dict[str, Column]:
        return {column.name: column for column in self.columns}

    @property
    def names(self) -> tuple[str, ...]:
        """Names in order."""
        return tuple(column.name for column in self.columns)

    def __contains__(self, name: object) -> bool:
        return name in self._by_name

    def column(self, name: str) -> Column:
        """Return the column of that name; KeyError where there is none."""
        return self._by_name[name]

    def to_json(self) -> list[dict[str, Any]]:
        """Return the schema as JSON values."""
        return [column.to_json() for column in self.columns]

    @classmethod
    def from_json(cls, data: list[dict[str, Any]]) -> "Schema":
        """Read what `to_json` wrote."""
        return cls(tuple(Column.from_json(column) for column in data))


@dataclass(frozen=True)
class Notice:
    """Something odd in the data that was handled; one line for the user.

    Attributes
    ----------
    topic : str
        A stable word to filter by, such as ``duplicate_columns``.
    """

    topic: str
    message: str


@dataclass(frozen=True)
class Remark:
    """Something odd in one column; `gather` turns many of them into few notices.

    Attributes
    ----------
    text : str
        The message; where cells were counted, what follows on ``column 'x' has 3 cells``.
    n : int
        How many, 0 where nothing was counted.
    what : str
        What was counted, one of it.
    """

    topic: str
    column: str
    text: str
    n: int = 0
    what: str = "cell"

    @property
    def message(self) -> str:
        """One line for the user."""
        return f"column {self.column!r} has {count(self.n, self.what)}{self.text}" if self.n else self.text


def count(number: int, what: str) -> str:
    """Say how many.

    >>> count(1, "cell"), count(1200, "cell")
    ('1 cell', '1,200 cells')
    """
    return f"{number:,} {what}" + ("" if number == 1 else "s")


def added_up(remarks: Iterable[Remark]) -> list[Remark]:
    """Make one remark of those that say the same of different rows; the first gives the example."""
    first: dict[tuple[str, str, str], Remark] = {}
    for remark in remarks:
        key = (remark.topic, remark.column, remark.what)
        before = first.get(key)
        first[key] = remark if before is None else replace(before, n=before.n + remark.n)
    return list(first.values())


def gather(remarks: Sequence[Remark]) -> tuple[Notice, ...]:
    """Turn remarks into notices; a topic that more than five columns share becomes one line.

    >>> [n.message for n in gather([Remark("empty", f"c{i}", "c has no value") for i in range(7)])]
    ["7 columns: c has no value ('c0'); the same goes for 'c1', 'c2', 'c3', 'c4' and 2 more"]
    """
    topics: dict[str, list[Remark]] = {}
    for remark in remarks:
        topics.setdefault(remark.topic, []).append(remark)
    notices: list[Notice] = []
    for topic, group in topics.items():
        if len(group) <= 5:
            notices += [Notice(topic, remark.message) for remark in group]
            continue
        others = ", ".join(repr(remark.column) for remark in group[1:5])
        first = f"{len(group)} columns: {group[0].message} ({group[0].column!r})"
        notices.append(Notice(topic, f"{first}; the same goes for {others} and {len(group) - 5} more"))
    return tuple(notices)
