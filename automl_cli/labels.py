"""Labels as cells of text: which are there, which numbers or classes they are."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from automl_cli.errors import BadData
from automl_cli.metrics import Array
from automl_cli.table.markers import MARKERS, meant_labels
from automl_cli.table.notation import PLAIN, Notation, notations, numbers_of, trimmed_numbers

# texts that mean: not known (compared without blanks around them)
MISSING_LABELS = ("", *MARKERS)


def read_truth(labels: Any, target: str, classes: Sequence[str], notation: Notation = PLAIN) -> tuple[Array, Array]:
    """Read the target of rows that a model is judged on.

    Parameters
    ----------
    labels : as for `make_task`
    classes : sequence of str
        The model's classes in the order of its outputs; empty for a regression.
    notation : Notation
        How the training wrote the numbers of the target.

    Returns
    -------
    y : ndarray of shape (n_kept,)
        Class indices (int64) or values (float64).
    kept_rows : ndarray of int64
        Positions of the rows whose truth is known; ascending.

    Raises
    ------
    BadData
        No row has a target, or one has a label that the model does not know, or that is no number.
    """
    cells = _spelt_as(cells_of(labels), classes)
    absent = _absent(classes)
    kept = _known(cells, absent)
    cells = cells.take(pa.array(kept))
    if not len(kept):
        raise BadData(f"no row has a value of target {target!r}", hint="this needs rows whose truth is known")
    if classes:
        codes = label_codes(cells, classes)
        if codes.min() < 0:
            label, strange = cells[int(np.argmin(codes))].as_py(), kept[codes < 0]
            where = f"in {len(strange):,} of {len(kept):,} rows, the first {label!r} in data row {strange[0] + 1}"
            problem = f"target {target!r} holds labels that the model was not trained on {where}"
            raise BadData(problem, hint="leave such rows out")
        return codes, kept
    known = None if notation.is_plain and notation.decimal == "." else notation
    written = written_as(pc.unique(cells), known)
    if written is None:
        raise BadData(f"target {target!r} is not a number everywhere", hint="clean it: the model predicts numbers")
    y = values_of(cells, written)
    finite = np.isfinite(y)
    return y[finite], kept[finite]


def known_labels(labels: Any, classes: Sequence[str], notation: Notation = PLAIN) -> tuple[Any, dict[str, int]]:
    """Return labels with null for those that the model cannot know, and how often each of these occurs.

    Parameters
    ----------
    labels, classes, notation : as for `read_truth`
        Of a regression labels that are no numbers are null.
    """
    cells = _spelt_as(cells_of(labels), classes)
    if classes:
        usual = pa.array([*classes, *sorted(set(MISSING_LABELS) - set(classes))], pa.string())
        strange = pc.and_kleene(pc.is_valid(cells), pc.invert(pc.is_in(cells, value_set=usual)))
    else:
        texts = pc.unique(cells)
        texts = texts.take(pa.array(_known(texts, pa.array(MISSING_LABELS, pa.string()))))
        if written_as(texts, None if notation.is_plain and notation.decimal == "." else notation) is not None:
            return cells, {}
        numbers = pc.coalesce(numbers_of(texts, notation), numbers_of(texts))
        strange = pc.is_in(cells, value_set=texts.filter(pc.is_null(numbers)))
    counts = pc.value_counts(cells.filter(strange)).to_pylist()
    found = {str(entry["values"]): int(entry["counts"]) for entry in sorted(counts, key=lambda e: -e["counts"])}
    return pc.if_else(strange, None, cells), found


def labelled_rows(labels: Any, classes: Sequence[str] = ()) -> Array:
    """Return the positions of the cells that hold a label, ascending; what is none is told as by `make_task`.

    Parameters
    ----------
    classes : sequence of str
        Labels whatever they look like.
    """
    cells = cells_of(labels)
    meant = meant_labels(pc.utf8_trim_whitespace(cells)).union(classes)
    return _known(cells, pa.array(sorted(set(MISSING_LABELS) - meant), pa.string()))


def label_codes(labels: Any, classes: Sequence[str]) -> Array:
    """Return the positions of labels among the classes, int64, -1 where one is none of them."""
    found = pc.index_in(cells_of(labels), value_set=pa.array(classes, pa.string()))
    return np.asarray(found.fill_null(-1).to_numpy(), dtype=np.int64)


def _spelt_as(cells: Any, classes: Sequence[str]) -> Any:
    """Return labels as the classes are written where both are numbers: a file with a missing cell writes 1 as 1.0.

    Only where not one of them is written like a class: beside 1, 1.0 may be another.
    """
    texts = pc.unique(cells)
    texts = texts.take(pa.array(_known(texts, _absent(classes))))
    if not classes or not len(texts) or pc.any(pc.is_in(texts, value_set=pa.array(classes, pa.string()))).as_py():
        return cells
    ours, theirs = label_numbers(classes), label_numbers(texts)
    if ours is None or theirs is None or len(np.unique(ours)) < len(classes):
        return cells
    written = dict(zip(ours.tolist(), classes, strict=True))
    known = pa.array([written.get(number) for number in theirs.tolist()], pa.string())
    return pc.coalesce(known.take(pc.index_in(cells, value_set=texts)), cells)


def _absent(classes: Sequence[str]) -> Any:
    return pa.array(sorted(set(MISSING_LABELS) - set(classes)), pa.string())


def label_numbers(labels: Any, notation: Notation | None = None) -> Array | None:
    """Return the numbers that labels are, float64; None where one of them is no number."""
    cells = cells_of(labels)
    written = written_as(pc.unique(cells), notation)
    return None if written is None else values_of(cells, written)


def cells_of(labels: Any) -> Any:
    """Return cells as a pyarrow array of strings."""
    cells = labels.combine_chunks() if isinstance(labels, pa.ChunkedArray) else labels
    return cells.cast(pa.string()) if isinstance(cells, pa.Array) else pa.array(cells, pa.string(), from_pandas=True)


def _known(cells: Any, markers: Any) -> Array:
    """Return the positions of the cells that hold something."""
    missing = pc.or_(pc.is_null(cells), pc.is_in(pc.utf8_trim_whitespace(cells), value_set=markers))
    return np.flatnonzero(pc.invert(missing).to_numpy(zero_copy_only=False)).astype(np.int64)


def written_as(texts: Any, known: Notation | None = None) -> Notation | None:
    """Return how distinct texts write numbers; None where one of them is no number."""
    if known is not None and known.grouping and not numbers_of(texts, known).null_count:
        return known  # at first: 1.036 alone would be another number
    if _cast(texts) is not None:
        return PLAIN
    ways = [known] if known is not None and not known.is_plain else []
    ways += [way for way in notations(texts, "" if known is None else known.decimal) if not way.is_plain]
    # A decimal comma only where no point is used as well: then the comma separates thousands, or is text.
    ways += [] if pc.any(pc.match_substring(texts, ".")).as_py() else [Notation(",")]
    return next((way for way in ways if not numbers_of(texts, way).null_count), None)


def values_of(texts: Any, written: Notation) -> Array:
    """Return the numbers that texts are, written in this way."""
    if written == PLAIN:
        return np.asarray(_cast(texts).to_numpy(zero_copy_only=False))
    encoded = texts.dictionary_encode()
    return np.asarray(numbers_of(encoded.dictionary, written).take(encoded.indices).to_numpy(zero_copy_only=False))


def _cast(texts: Any) -> Any:
    try:
        return pc.cast(trimmed_numbers(texts), pa.float64())
    except pa.ArrowInvalid:
        return None
