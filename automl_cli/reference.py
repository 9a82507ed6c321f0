"""What the columns looked like at training, binned: so much of a table is kept in its model's file."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from automl_cli.features.frame import Frame
from automl_cli.features.matrix import Array

N_BINS = 20
MOST_LEVELS = 50  # of a category that are told apart; the others are one
MOST_ROWS = 2_000
MOST_CELLS = 200_000  # of the sample of rows
MOST_QUANTILE_ROWS = 100_000  # that edges are taken from
LEAST_EXPECTED = 5.0  # rows of a bin, in a test
LUCK = 5.0  # standard deviations above the least level that is told apart: the luckiest of levels that are alike
OTHERS, UNKNOWN, ABSENT = 0, 1, 2
"""Bins of a category after its frequent levels: its other levels, values that training did not know, none."""


@dataclass(frozen=True)
class ColumnReference:
    """A column at training.

    Attributes
    ----------
    kind : str
        ``numeric``, ``categorical``, ``datetime`` (days since 1970) or ``text`` (its length in bytes).
    edges : tuple of float
        Between bins of about equal size; none of a category.
    counts : tuple of int
        Rows by bin, those without a value last.
    low, high : float or None
        Ends of the values; None of a category, or where there are none.
    """

    name: str
    kind: str
    edges: tuple[float, ...]
    counts: tuple[int, ...]
    low: float | None = None
    high: float | None = None

    @property
    def n_missing(self) -> int:
        """Rows without a value."""
        return self.counts[-1]


@dataclass(frozen=True, eq=False)
class Reference:
    """A table at training.

    Attributes
    ----------
    columns : tuple of ColumnReference
        In the order of the frame's schema.
    rows : ndarray of shape (n_sampled, n_columns), uint8
        Bins of some rows.
    predictions : ColumnReference or None
        Of the model on rows it had not seen: probabilities of the positive class, values, or classes.
    """

    columns: tuple[ColumnReference, ...]
    rows: Array
    predictions: ColumnReference | None = None

    @classmethod
    def of(cls, frame: Frame) -> "Reference":
        """Measure a table."""
        columns = []
        for name, kind, values in _columns(frame):
            n_levels = _n_levels(frame, name) if kind == "categorical" else None
            columns.append(column_reference(name, kind, values, n_levels))
        return cls(tuple(columns), binned(frame.take(sampled_rows(frame.n_rows, len(columns))), columns))

    def to_json(self) -> dict[str, Any]:
        """Return all but the rows as JSON values."""
        columns = [_plain(column) for column in self.columns]
        predictions = None if self.predictions is None else _plain(self.predictions)
        return {"columns": columns, "predictions": predictions, "n_rows": len(self.rows)}

    @classmethod
    def from_parts(cls, data: Mapping[str, Any], content: bytes | None) -> "Reference":
        """Read what `to_json` gave, and the bytes of the rows; with None there are none.

        Raises
        ------
        ValueError, KeyError, TypeError
            It is not that.
        """
        columns = tuple(_column(entry) for entry in data["columns"])
        shape = (int(data["n_rows"]) if content is not None else 0, len(columns))
        rows = np.frombuffer(content or b"", dtype=np.uint8)
        if len(rows) != shape[0] * shape[1]:
            raise ValueError("rows of another size")
        predictions = data.get("predictions")
        return cls(columns, rows.reshape(shape), None if predictions is None else _column(predictions))


def sampled_rows(n_rows: int, n_columns: int) -> Array:
    """Return which rows of a table the sample holds, ascending."""
    n = min(n_rows, MOST_ROWS, max(200, MOST_CELLS // max(1, n_columns)))
    return np.sort(np.random.default_rng(0).choice(n_rows, n, replace=False))


def column_reference(name: str, kind: str, values: Array, n_levels: int | None = None) -> ColumnReference:
    """Measure one column: numbers with NaN, or codes where ``n_levels`` says how many values are known."""
    if n_levels is not None:
        n_bins = min(n_levels, MOST_LEVELS) + 3
        levels = np.bincount(values[values >= 0], minlength=n_levels)
        # Of other rows as many have a value that these lack as these have one of their own (Good 1953).
        alone = (values >= 0) & (levels[np.maximum(values, 0)] == 1) & (len(values) > (levels > 0).sum())
        *told, others, unknown, absent = _counted(bins_of_codes(np.where(alone, -2, values), n_levels), n_bins)
        n_known = _known_but_unseen(levels, int(alone.sum()))
        return ColumnReference(name, kind, (), (*told, others + n_known, unknown - n_known, absent))
    known = values[np.isfinite(values)]
    if not len(known):
        return ColumnReference(name, kind, (), (0, len(values)))
    sample = known
    if len(known) > MOST_QUANTILE_ROWS:
        sample = np.random.default_rng(0).choice(known, MOST_QUANTILE_ROWS, replace=False)
    edges = np.unique(np.quantile(sample, np.linspace(0, 1, N_BINS + 1)[1:-1], method="lower"))
    counts = _counted(bins_of_numbers(values, edges), len(edges) + 2)
    return ColumnReference(name, kind, tuple(map(float, edges)), counts, float(known.min()), float(known.max()))


def _known_but_unseen(levels: Array, n_alone: int) -> int:
    """Return how many of ``n_alone`` rows stand for values that the schema knows from rows that are not counted here.

    Such as rows that judge a champion, or have no label. The values that no row has are estimated by Chao (1984).
    """
    n_unseen = n_alone**2 / (2 * max(1, int((levels == 2).sum())))
    return round(n_alone * min(1.0, int((levels == 0).sum()) / n_unseen)) if n_alone else 0


def bins_of_numbers(values: Array, edges: Array) -> Array:
    """Return which bin each number is in, uint8: an edge is the last of its bin; no number is the bin after all."""
    bins = np.searchsorted(edges, values, side="left")
    return np.where(np.isfinite(values), bins, len(edges) + 1).astype(np.uint8)


def bins_of_codes(codes: Array, n_levels: int) -> Array:
    """Return which bin each code is in, uint8; see `OTHERS`, `UNKNOWN` and `ABSENT` for those after the levels."""
    told = min(n_levels, MOST_LEVELS)
    bins = np.where(codes < told, codes, told + OTHERS)
    bins = np.where(codes == -2, told + UNKNOWN, bins)
    return np.where(codes == -1, told + ABSENT, bins).astype(np.uint8)


def binned(frame: Frame, columns: Sequence[ColumnReference]) -> Array:
    """Return the bins of a frame's cells, uint8 of shape (n_rows, n_columns)."""
    found = np.empty((frame.n_rows, len(columns)), dtype=np.uint8)
    for i, (reference, (name, kind, values)) in enumerate(zip(columns, _columns(frame), strict=True)):
        if kind == "categorical":
            found[:, i] = bins_of_codes(values, _n_levels(frame, name))
        else:
            found[:, i] = bins_of_numbers(values, np.array(reference.edges))
    return found


def counts_by_bin(bins: Array, reference: ColumnReference) -> Array:
    """Count the rows in each of a column's bins."""
    return np.bincount(bins, minlength=len(reference.counts))[: len(reference.counts)]


def compared(before: Array, now: Array, kind: str) -> tuple[float, float]:
    """Return the Jensen-Shannon distance of two tables of counts, and how likely chance alone makes one so large.

    Bins of which fewer than five rows are expected are taken together with others, since a chi-squared test holds for
    larger counts only [1]_. What has no others (cells without a value, values that the training did not know) is
    tested by Fisher's exact test where there are few of it; the least p counts, times the number of tests.

    Parameters
    ----------
    before, now : ndarray of shape (n_bins,)
        As `ColumnReference.counts`.
    kind : str
        Of the column; bins of all but a category have an order.

    References
    ----------
    .. [1] Cochran, Some methods for strengthening the common chi-squared tests, Biometrics 1954.
    """
    from scipy.spatial.distance import jensenshannon  # noqa: PLC0415  (loads slowly)
    from scipy.stats import chi2_contingency, fisher_exact  # noqa: PLC0415

    if not before.sum() or not now.sum():
        return 0.0, 1.0
    pairs = np.stack([before, now])
    pairs = _levels_together(pairs) if kind == "categorical" else _neighbours_together(pairs)
    pairs = pairs[:, pairs.sum(axis=0) > 0]
    if pairs.shape[1] < 2:
        return 0.0, 1.0
    full = _expected(pairs) >= LEAST_EXPECTED
    tests = []
    if full.sum() > 1 and pairs[:, full].sum(axis=1).all():
        tests.append(float(chi2_contingency(pairs[:, full])[1]))
    for few in pairs.T[~full]:
        tests.append(float(fisher_exact(np.stack([few, pairs.sum(axis=1) - few]))[1]))
    shares = pairs / pairs.sum(axis=1, keepdims=True)
    size = float(np.nan_to_num(jensenshannon(*shares, base=2)))
    return size, min(1.0, len(tests) * min(tests, default=1.0))


def told_alike(old: Array, new: Array, columns: Sequence[ColumnReference]) -> tuple[Array, Array]:
    """Call on both sides ``OTHERS`` what old and new rows of one and the same category differ in.

    Values that the training did not know can be in new rows only, and its most frequent ones are so by chance too:
    a classifier would tell any two samples apart by them.

    Parameters
    ----------
    old, new : ndarray of shape (n_rows, n_columns), uint8
        Bins of rows of the training and of another table.
    """
    old, new = old.copy(), new.copy()
    for j, column in enumerate(columns):
        if column.kind == "categorical":
            told = len(column.counts) - 3
            pairs = np.stack([np.array(column.counts), counts_by_bin(new[:, j], column)])
            others = np.arange(256, dtype=np.uint8)
            others[:told][_told_by_chance(pairs)] = told + OTHERS
            others[told + UNKNOWN] = told + OTHERS
            old[:, j], new[:, j] = others[old[:, j]], others[new[:, j]]
    return old, new


def _expected(pairs: Array) -> Array:
    """Return the rows by bin that the smaller of two tables would have if it were like both together."""
    together = pairs.sum(axis=0)
    return np.asarray(together * (pairs.sum(axis=1).min() / together.sum()))


def _told_by_chance(pairs: Array) -> Array:
    """Return which levels of a category are no better than its others: rare, or told apart only by a lucky draw.

    Where a category has more levels than are told apart, those that barely are have fewer rows in any other sample.
    """
    told = pairs.shape[1] - 3
    found = _expected(pairs)[:told] < LEAST_EXPECTED
    if told == MOST_LEVELS:
        least = max(1, pairs[0, :told].min())
        found |= pairs[0, :told] < least + LUCK * np.sqrt(least)
    return np.asarray(found)


def _levels_together(pairs: Array) -> Array:
    pairs = pairs.copy()
    told = pairs.shape[1] - 3
    levels = pairs[:, :told]  # a view
    by_chance = _told_by_chance(pairs)
    pairs[:, told + OTHERS] += levels[:, by_chance].sum(axis=1)
    levels[:, by_chance] = 0
    return pairs


def _neighbours_together(pairs: Array) -> Array:
    """Join neighbours until enough rows are expected of each; the last bin, cells without a value, stays apart."""
    group, held, groups = 0, 0.0, []
    for rows in _expected(pairs)[:-1]:
        groups.append(group)
        held += rows
        if held >= LEAST_EXPECTED:
            group, held = group + 1, 0.0
    last = max(0, group - 1)  # what is left over joins it
    groups = [min(group, last) for group in groups]
    joined = [[int(one[np.equal(groups, k)].sum()) for k in range(last + 1)] for one in pairs[:, :-1]]
    return np.column_stack([np.array(joined, dtype=pairs.dtype), pairs[:, -1]])


def values_beyond(frame: Frame, reference: Reference) -> dict[str, int]:
    """Count the numbers and dates below the lowest or above the highest of the training, by column, where there are."""
    found = {}
    for column, (name, kind, values) in zip(reference.columns, _columns(frame), strict=True):
        if kind in ("numeric", "datetime") and column.low is not None and column.high is not None:
            with np.errstate(invalid="ignore"):
                n = int(((values < column.low) | (values > column.high)).sum())
            if n:
                found[name] = n
    return found


def newly_missing(frame: Frame, reference: Reference) -> dict[str, int]:
    """Count the cells without a value of columns that had one everywhere in the training, by column."""
    found = {}
    for column, (name, kind, values) in zip(reference.columns, _columns(frame), strict=True):
        if column.n_missing == 0:
            n = int((values == -1).sum() if kind == "categorical" else np.isnan(values).sum())
            if n:
                found[name] = n
    return found


def _columns(frame: Frame) -> list[tuple[str, str, Array]]:
    """Return (name, kind, numbers with NaN or codes) of each column, in the order of the schema's names."""
    schema = frame.schema
    texts = [np.where((n := frame.text_lengths(i)) < 0, np.nan, n) for i in range(len(schema.text))]
    return [
        *((name, "numeric", _numbers(frame.numbers[:, i])) for i, name in enumerate(schema.numeric)),
        *((name, "categorical", np.asarray(frame.codes[:, i])) for i, name in enumerate(schema.categorical)),
        *((name, "datetime", _numbers(frame.days[:, i])) for i, name in enumerate(schema.datetime)),
        *((name, "text", lengths) for name, lengths in zip(schema.text, texts, strict=True)),
    ]


def _numbers(values: Array) -> Array:
    return np.asarray(values, dtype=np.float64)


def _n_levels(frame: Frame, name: str) -> int:
    return frame.schema.n_categories[frame.schema.categorical.index(name)]


def _counted(bins: Array, n_bins: int) -> tuple[int, ...]:
    return tuple(int(n) for n in np.bincount(bins, minlength=n_bins))


def _plain(column: ColumnReference) -> dict[str, Any]:
    plain = {**vars(column), "edges": list(column.edges), "counts": list(column.counts)}
    return {key: value for key, value in plain.items() if value is not None}


def _column(entry: Mapping[str, Any]) -> ColumnReference:
    edges, counts = tuple(map(float, entry["edges"])), tuple(map(int, entry["counts"]))
    low, high = (None if entry.get(key) is None else float(entry[key]) for key in ("low", "high"))
    found = ColumnReference(str(entry["name"]), str(entry["kind"]), edges, counts, low, high)
    if not all(np.isfinite(edges)) or list(edges) != sorted(edges) or not 2 <= len(counts) <= 255:
        raise ValueError(f"column {found.name!r} is not described as it must be")
    if min(counts) < 0 or max(counts) >= 2**53:
        raise ValueError(f"column {found.name!r} has no possible counts")
    if found.kind != "categorical" and len(counts) != len(edges) + 2:
        raise ValueError(f"column {found.name!r} has other bins than edges")
    return found
