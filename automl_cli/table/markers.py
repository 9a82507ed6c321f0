"""The usual signs for a missing cell, and where one of them is a value."""

from collections.abc import Collection

import pyarrow as pa
import pyarrow.compute as pc

from automl_cli.table.notation import numbers_of

FAILED = ("#DIV/0!", "#VALUE!", "#REF!", "#NUM!", "#NAME?", "#NULL!")
"""What a spreadsheet shows in place of a result."""
MARKERS = ("?", "NA", "N/A", "n/a", "#N/A", "NaN", "nan", "NaT", "null", "NULL", "None", "<NA>", "\\N", "-", *FAILED)
# A blank after the separator is common; numbers are trimmed by arrow, markers are not.
MISSING = ("", " ", "  ", *MARKERS, *(f" {marker}" for marker in MARKERS), *(f"{marker} " for marker in MARKERS))
ANSWERS = {"yes", "no", "y", "n", "true", "false", "t", "f"}
MOST_LABELS = 1000
LEAST_ROWS = 5
"""A label ``None`` stands in so many rows, at least."""


def without_markers(texts: pa.ChunkedArray, meant: Collection[str] = ()) -> pa.ChunkedArray:
    """Return texts with null where they are one of the usual signs for a missing cell, except those that are meant."""
    absent = pc.is_in(texts, value_set=pa.array(sorted(set(MISSING) - set(meant)), pa.string()))
    return pc.if_else(absent, None, texts)


def meant_markers(texts: pa.Array) -> set[str]:
    """Return the usual signs for a missing cell that are values here, given the distinct texts.

    ``-`` is one beside ``+``, and ``-`` or ``None`` where all other cells hold one and the same text.

    >>> meant_markers(pa.array(["+", "-", "?"]))
    {'-'}
    """
    plain = set(texts.filter(pc.invert(pc.is_in(texts, value_set=pa.array(MISSING)))).drop_null().to_pylist())
    found = {text for text in ("-", "None") if pc.index(texts, text).as_py() >= 0}
    if len(plain) == 1 and len(found) == 1:
        return found
    return {"-"} if "+" in plain else set()


def meant_labels(cells: pa.ChunkedArray | pa.Array) -> set[str]:
    """Return the usual signs for a missing cell that are labels of a target: `meant_markers`, or ``None`` among words.

    ``None`` is a label where no other cell is missing, all other labels are words that are no answers, and one of
    these is at least as rare.

    >>> sorted(meant_labels(pa.array(["None"] * 20 + ["Insomnia", "Apnea"] * 8)))
    ['None']
    >>> meant_labels(pa.array(["None"] * 20 + ["yes", "no"] * 8))
    set()
    """
    meant = meant_markers(pc.unique(cells))
    counted = pc.value_counts(cells)
    if len(counted) > MOST_LABELS or pc.index(counted.field("values"), "None").as_py() < 0:
        return meant
    counts = {entry["values"]: entry["counts"] for entry in counted.to_pylist()}
    n_rows = counts.pop("None")
    if len(counts) < 2 or not counts.keys().isdisjoint((None, *MISSING)) or n_rows < LEAST_ROWS:
        return meant
    words = numbers_of(pa.array(counts, pa.string())).null_count == len(counts)
    answers = {text.strip().lower() for text in counts} <= ANSWERS
    return meant | ({"None"} if words and not answers and n_rows >= min(counts.values()) else set())
