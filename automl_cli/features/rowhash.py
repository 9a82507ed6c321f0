"""Rows as 64-bit numbers that follow from their content, whatever the order of rows and columns."""

from collections.abc import Callable, Collection
from functools import partial
from hashlib import blake2b

import numpy as np
import pyarrow.compute as pc

from automl_cli.features.frame import Frame
from automl_cli.features.matrix import Array

MOST_HASHED = 4_000_000  # cells of a quick hash: of more, rows are told apart by some of the columns
FEW_COLUMNS, LEAST_COLUMNS = 8, 4  # where fewer than the former could be hashed it matters which; of the latter all are
SOME_ROWS, MANY_VALUES = 1_000, 64  # a column that has more values on so many rows tells rows apart


def quick_hashes(frame: Frame, y: Array) -> Array:
    """Return a uint64 for each row, from its cells, the names of their columns and the target.

    Of texts only the length counts, and of many cells some columns. Where those are few they are such as have many
    values, and the target plays no part: of the rows with the lowest hashes all could else be of one class and value.
    """
    bits = _quick_cells(frame)
    most = MOST_HASHED // max(1, frame.n_rows)
    if most >= min(FEW_COLUMNS, len(bits)):
        names = sorted(bits, key=name_hash)[:most]
        total = _mixed(np.ascontiguousarray(y, dtype=np.float64).view(np.uint64), "", b"")
    else:
        some = _quick_cells(frame.take(np.arange(0, frame.n_rows, max(1, frame.n_rows // SOME_ROWS))))
        telling = {name for name, read in some.items() if len(np.unique(read())) > MANY_VALUES}
        names = sorted(bits, key=lambda name: (name not in telling, name_hash(name)))[: max(most, LEAST_COLUMNS)]
        total = np.zeros(frame.n_rows, dtype=np.uint64)
    for name in names:
        total += _mixed(bits[name](), name, b"")
    return total


def _quick_cells(frame: Frame) -> dict[str, Callable[[], Array]]:
    """Return what gives each column as 64-bit patterns, of texts their lengths."""
    bits = {name: read for name, read in _cells(frame).items() if name not in frame.schema.text}
    return bits | {name: partial(_lengths, frame, i) for i, name in enumerate(frame.schema.text)}


def salted_hashes(
    frame: Frame, y: Array, classes: tuple[str, ...], salt: bytes, *, among: Collection[str] | None = None
) -> Array:
    """Return a uint64 for each row from all its cells and its label; without the salt they tell nothing of a row.

    Parameters
    ----------
    y : ndarray of shape (n_rows,)
        Positions in ``classes``, or values where there are none.
    salt : bytes
        1 to 64 of them.
    among : collection of str or None
        The columns that count; None: all.

    Returns
    -------
    ndarray of shape (n_rows,), uint64
        Equal for equal rows of two tables that were read by one schema.
    """
    if classes:
        labels = np.array([_digest(label, salt) for label in classes], dtype=np.uint64)
        target = labels[np.asarray(y, dtype=np.int64)]
    else:
        target = np.ascontiguousarray(y, dtype=np.float64).view(np.uint64)
    total = _mixed(target, "", salt)
    for name, read in _cells(frame, salt).items():
        if among is None or name in among:
            total += _mixed(read(), name, salt)
    return total


def name_hash(name: str) -> bytes:
    """Return eight bytes that columns are ordered by, so that their order in the file plays no part."""
    return _hash(name, b"")


def _hash(text: str, salt: bytes) -> bytes:
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8, key=salt).digest()


def _digest(text: str, salt: bytes) -> int:
    return int.from_bytes(_hash(text, salt), "big")


def _cells(frame: Frame, salt: bytes = b"") -> dict[str, Callable[[], Array]]:
    """Return what gives each column as 64-bit patterns; equal values have one pattern."""
    schema = frame.schema
    return {
        **{name: partial(_of_numbers, frame.numbers[:, i]) for i, name in enumerate(schema.numeric)},
        **{name: partial(_of_integers, frame.codes[:, i]) for i, name in enumerate(schema.categorical)},
        **{name: partial(_of_numbers, frame.days[:, i]) for i, name in enumerate(schema.datetime)},
        **{name: partial(_of_texts, frame, i, salt) for i, name in enumerate(schema.text)},
    }


def _of_numbers(values: Array) -> Array:
    found = np.array(values, dtype=np.float64)
    found[np.isnan(found)] = np.nan  # one pattern of the many
    return np.asarray((found + 0.0).view(np.uint64))  # and one zero


def _of_integers(values: Array) -> Array:
    return np.asarray(values.astype(np.int64).view(np.uint64))


def _of_texts(frame: Frame, column: int, salt: bytes) -> Array:
    encoded = pc.dictionary_encode(frame.texts[column])
    known = [_digest(text, salt) for text in encoded.dictionary.to_pylist()]
    codes = pc.fill_null(encoded.indices, len(known)).to_numpy(zero_copy_only=False)
    return np.asarray(np.array([*known, 0], dtype=np.uint64)[codes])


def _lengths(frame: Frame, column: int) -> Array:
    return frame.text_lengths(column).view(np.uint64)


def _mixed(bits: Array, name: str, salt: bytes) -> Array:
    """Scatter 64-bit values (the finaliser of MurmurHash3), each column its own way."""
    h = bits ^ np.uint64(_digest(name, salt))
    for shift, factor in ((33, 0xFF51AFD7ED558CCD), (33, 0xC4CEB9FE1A85EC53)):
        h = (h ^ (h >> np.uint64(shift))) * np.uint64(factor)
    return np.asarray(h ^ (h >> np.uint64(33)))
