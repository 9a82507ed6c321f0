"""Text as numbers: hashed words and word pairs, weighed by rarity, projected onto a few directions.

Latent semantic analysis (Deerwester et al., Indexing by latent semantic analysis, JASIS 1990) over hashed features
(Weinberger et al., Feature hashing for large scale multitask learning, ICML 2009). No vocabulary is kept, so a saved
model holds no words of the training data.
"""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from automl_cli.errors import BadArtifact
from automl_cli.features.frame import Frame, FrameSchema
from automl_cli.features.matrix import Array, Source
from automl_cli.features.store import HINT, Stored, read_arrays, write_arrays

HASH_BITS = 18
N_BUCKETS = 2**HASH_BITS
MAX_BUCKETS_KEPT = 5_000
N_COMPONENTS = 16
# words are read from the beginning only, which bounds time and memory; the length is the whole text's
MAX_CHARACTERS, MIN_CHARACTERS = 2_000, 300
MAX_CHARACTERS_OF_ALL = 40_000_000
"""Of the training rows together, down to `MIN_CHARACTERS` of each; a core reads about 15 million a second."""
MAX_FIT_ROWS = 20_000
ROWS_AT_ONCE = 50_000
"""Rows whose words are held in memory together: of a million reviews they would take several GB."""
SPREAD = np.uint64(0x9E3779B97F4A7C15)  # Knuth's multiplicative hashing, The Art of Computer Programming 6.4


@dataclass(frozen=True, eq=False)
class TextColumn:
    """What one column's words mean.

    Attributes
    ----------
    buckets : ndarray of shape (n_kept,), int32, increasing
        Hash values in use.
    idf : ndarray of shape (n_kept,), float32
    components : ndarray of shape (n_kept, n_components), float32
    characters : int
        Words are read from so many at the beginning.
    """

    buckets: Array
    idf: Array
    components: Array
    characters: int = MAX_CHARACTERS

    @property
    def width(self) -> int:
        """Number of features: components, length, words."""
        return int(self.components.shape[1]) + 2

    def transform(self, texts: Any) -> Array:
        """Return float32 of shape (len(texts), width); a missing text has NaN in all of them."""
        out = np.empty((len(texts), self.width), dtype=np.float32)
        for start in range(0, len(texts), ROWS_AT_ONCE):
            out[start : start + ROWS_AT_ONCE] = self._transformed(texts.slice(start, ROWS_AT_ONCE))
        return out

    def _transformed(self, texts: Any) -> Array:
        words = _count_words(texts, self.characters)
        projected = _weigh(words, self.buckets, self.idf) @ self.components
        length = pc.fill_null(pc.utf8_length(texts), 0).to_numpy(zero_copy_only=False)
        out = np.column_stack([projected, length, words.n_words]).astype(np.float32)
        out[texts.is_null().to_numpy(zero_copy_only=False)] = np.nan
        return out


@dataclass(frozen=True, eq=False)
class TextParts:
    """All text columns of a frame."""

    columns: tuple[TextColumn, ...]

    @property
    def width(self) -> int:
        """Number of features."""
        return sum(column.width for column in self.columns)

    @classmethod
    def fit(cls, texts: tuple[Any, ...], seed: int) -> "TextParts":
        """Learn from the training rows' texts."""
        return cls(tuple(_fit_column(_spread(text), characters_read(len(text)), seed) for text in texts))

    def transform(self, texts: tuple[Any, ...], n_rows: int) -> Array:
        """Return float32 of shape (n_rows, width)."""
        blocks = [column.transform(text) for column, text in zip(self.columns, texts, strict=True)]
        return np.hstack([np.empty((n_rows, 0), dtype=np.float32), *blocks])

    def sources(self, names: Sequence[str]) -> tuple[Source, ...]:
        """Return the source of each feature, for text columns of these names."""
        return tuple((name,) for name, column in zip(names, self.columns, strict=True) for _ in range(column.width))

    def arrays(self) -> Mapping[str, Array]:
        """Return what `read` needs."""
        arrays = {
            f"text.{i}.{name}": getattr(column, name)
            for i, column in enumerate(self.columns)
            for name in ("buckets", "idf", "components")
        }
        read = {
            f"text.{i}.characters": np.array([column.characters], dtype=np.int32)
            for i, column in enumerate(self.columns)
        }
        return {**arrays, **read}

    @classmethod
    def read(cls, stored: Stored) -> "TextParts":
        """Read and check what `arrays` gave; raises `BadArtifact`."""
        columns = []
        for i in range(len(stored.schema.text)):
            buckets = stored.array(f"text.{i}.buckets", np.int32, (None,), low=0, high=N_BUCKETS - 1)
            idf = stored.array(f"text.{i}.idf", np.float32, (len(buckets),), low=0, high=100)
            components = stored.array(f"text.{i}.components", np.float32, (len(buckets), None), low=-1.01, high=1.01)
            if components.shape[1] > N_COMPONENTS:
                raise BadArtifact("the encoder projects text onto too many directions", hint=HINT)
            columns.append(TextColumn(buckets, idf, components, _read_characters(stored, f"text.{i}.characters")))
        return cls(tuple(columns))


@dataclass(frozen=True, eq=False)
class KnownText:
    """The text features of some rows, computed before.

    Attributes
    ----------
    parts : TextParts
        What was learned from the training rows.
    features : ndarray of shape (n_rows, width), float32
        What it makes of these rows.
    """

    parts: TextParts
    features: Array


def _read_characters(stored: Stored, name: str) -> int:
    if name not in stored.arrays:  # written before it depended on the rows
        return MAX_CHARACTERS
    return int(stored.array(name, np.int32, (1,), low=MIN_CHARACTERS, high=MAX_CHARACTERS)[0])


def characters_read(n_rows: int) -> int:
    """Return from how many characters of a text words are read, for so many training rows.

    A trial cannot begin before the texts of its fold are encoded. It depends on the rows alone, so that a run can be
    repeated.

    >>> characters_read(20_000), characters_read(100_000), characters_read(1_000_000)
    (2000, 400, 300)
    """
    return min(max(MAX_CHARACTERS_OF_ALL // max(n_rows, 1), MIN_CHARACTERS), MAX_CHARACTERS)


def width_of(schema: FrameSchema) -> int:
    """Return for how many columns those of a schema count where time is shared out: texts for those that they become.

    >>> width_of(FrameSchema(numeric=("price",), text=("review",)))
    19
    """
    return len(schema.names) + len(schema.text) * (N_COMPONENTS + 1)


def fit_text(frame: Frame, seed: int) -> TextParts:
    """Learn from the training rows' texts, unless that was done before: all encodings learn the same."""
    return TextParts.fit(frame.texts, seed) if frame.known_text is None else frame.known_text.parts


def text_features(parts: TextParts, frame: Frame) -> Array:
    """Return float32 of shape (n_rows, width), computed only where they are not known for these rows."""
    known = frame.known_text
    if known is not None and known.parts is parts:
        return known.features
    return parts.transform(frame.texts, frame.n_rows)


def save_text_parts(parts: TextParts, schema: FrameSchema, folder: Path) -> None:
    """Write text parts that stand alone into an existing folder."""
    write_arrays(folder, "text", schema, parts.arrays())


def read_text_parts(folder: Path) -> TextParts:
    """Read what `save_text_parts` wrote; raises `BadArtifact`."""
    return TextParts.read(read_arrays(folder, "text"))


@dataclass(frozen=True, eq=False)
class _Words:
    """Words and word pairs per row: each (row, bucket) once, with its count."""

    n_rows: int
    rows: Array
    buckets: Array
    counts: Array
    n_words: Array


def _count_words(texts: Any, characters: int) -> _Words:
    head = pc.utf8_lower(pc.utf8_slice_codeunits(pc.fill_null(texts, ""), 0, characters))
    # letters, the marks that belong to them in Indic and Semitic scripts, digits
    spaced = pc.utf8_trim_whitespace(pc.replace_substring_regex(head, pattern=r"[^\pL\pM\pN]+", replacement=" "))
    split = pc.utf8_split_whitespace(spaced)
    coded = split.flatten().dictionary_encode()
    vocabulary = coded.dictionary.to_pylist()
    hashes = np.array([zlib.crc32(word.encode()) for word in vocabulary], dtype=np.uint64)
    index = coded.indices.to_numpy(zero_copy_only=False)
    rows = pc.list_parent_indices(split).to_numpy(zero_copy_only=False).astype(np.int64)
    real = np.array([bool(word) for word in vocabulary], dtype=bool)[index]
    rows, words = rows[real], hashes[index[real]]
    adjacent = rows[1:] == rows[:-1]
    pairs = (words[:-1] * SPREAD + words[1:] + np.uint64(1))[adjacent]
    hashed = np.concatenate([words, pairs]) * SPREAD >> np.uint64(64 - HASH_BITS)
    keys = np.concatenate([rows, rows[:-1][adjacent]]) * N_BUCKETS + hashed.astype(np.int64)
    keys, counts = np.unique(keys, return_counts=True)
    n_words = np.bincount(rows, minlength=len(texts))
    return _Words(len(texts), keys // N_BUCKETS, keys % N_BUCKETS, counts, n_words)


def _weigh(words: _Words, buckets: Array, idf: Array) -> Any:
    """Sparse rows of unit length: (1 + log count) times the inverse document frequency of the kept buckets."""
    from scipy import sparse  # noqa: PLC0415 - heavy

    place = np.full(N_BUCKETS, -1, dtype=np.int64)
    place[buckets] = np.arange(len(buckets))
    column = place[words.buckets]
    known = column >= 0
    rows, column = words.rows[known], column[known]
    values = (1.0 + np.log(words.counts[known])) * idf[column]
    norm = np.sqrt(np.bincount(rows, weights=values**2, minlength=words.n_rows))
    return sparse.csr_array((values / norm[rows], (rows, column)), shape=(words.n_rows, len(buckets)))


def _spread(texts: Any) -> Any:
    """Return at most `MAX_FIT_ROWS` texts, evenly spaced: a table may be sorted."""
    if len(texts) <= MAX_FIT_ROWS:
        return texts
    return texts.take(pa.array(np.linspace(0, len(texts) - 1, MAX_FIT_ROWS).astype(np.int64)))


def _fit_column(texts: Any, characters: int, seed: int) -> TextColumn:
    words = _count_words(texts, characters)
    frequency = np.bincount(words.buckets, minlength=N_BUCKETS)
    # a word of a single row can only be learned by heart
    common = np.flatnonzero(frequency >= 2)
    common = common[np.argsort(-frequency[common], kind="stable")][:MAX_BUCKETS_KEPT]
    buckets = np.sort(common).astype(np.int32)
    idf = (np.log((1 + len(texts)) / (1 + frequency[buckets])) + 1).astype(np.float32)
    components = _directions(_weigh(words, buckets, idf), seed)
    return TextColumn(buckets, idf, components.astype(np.float32), characters)


def _directions(A: Any, seed: int) -> Array:
    """First right singular vectors, shape (n_kept, at most N_COMPONENTS), by randomised subspace iteration.

    Halko, Martinsson and Tropp, Finding structure with randomness, SIAM Review 2011, algorithm 4.4.
    """
    n_components = min(N_COMPONENTS, *A.shape)
    if not n_components:
        return np.empty((A.shape[1], 0))
    guess = np.random.default_rng(seed).standard_normal((A.shape[1], min(n_components + 10, *A.shape)))
    for _ in range(4):
        Q, _ = np.linalg.qr(A @ guess)
        guess, _ = np.linalg.qr(A.T @ Q)
    _, strength, Vt = np.linalg.svd(A @ guess, full_matrices=False)
    # few different texts span few directions: the others would be rounding errors, which scaling blows up
    n_components = int((strength[:n_components] > 1e-6 * strength[0]).sum())
    V: Array = guess @ Vt.T[:, :n_components]
    # a singular vector's sign is arbitrary: let its largest entry be positive
    largest = V[np.abs(V).argmax(axis=0), np.arange(V.shape[1])]
    return V * np.where(largest < 0, -1.0, 1.0)
