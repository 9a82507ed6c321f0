"""Everything that can be counted as a category: categories, integers of few values or that are names, and crosses.

Crosses after the CategoricalInteractionFeatureGenerator of AutoGluon and TabPrep (arXiv 2606.02384): order 2 and 3, and
only combinations of at least two training rows.
"""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from automl_cli.errors import BadArtifact
from automl_cli.features import levels
from automl_cli.features.frame import Frame
from automl_cli.features.generated.screen import Screen, binned
from automl_cli.features.matrix import Array, Source
from automl_cli.features.numeric import LARGEST
from automl_cli.features.store import HINT, Stored

UNKNOWN, MISSING = -2, -1
GLANCE = 300
ROWS_PER_NAME = 4
RANGES = (16, 128)
FEW = 30
"""Distinct values up to which integers are counted as a category, too."""
MOST_FEW = 40
MIN_ROWS = 2
MOST_KEYS = 20_000
"""Combinations of one cross; of more, the most frequent."""
LARGEST_KEY = 2**62
MOST_BASES = 10
PAIRS_EXTENDED = 4
NOBODY = -1

Cross = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class FewValued:
    """Numeric columns whose values are few integers, then those whose integers are names.

    Attributes
    ----------
    columns : ndarray of shape (n_columns,), int32
        Positions among the numeric columns.
    values : ndarray of shape (n_values,), float64
        Of the first column, increasing, then of the second, ...
    ends : ndarray of shape (n_columns,), int64
        Where each column's values end.
    """

    columns: Array
    values: Array
    ends: Array

    def sizes(self, frame_sizes: tuple[int, ...]) -> tuple[int, ...]:
        """Return the number of values of all coded columns, those of the frame first."""
        return (*frame_sizes, *np.diff(self.ends, prepend=0).tolist())

    @classmethod
    def fit(cls, numbers: Array) -> "FewValued":
        """Look at training numbers of shape (n_rows, n_numeric)."""
        looked_at = ((j, _few_integers(numbers[:, j])) for j in range(numbers.shape[1]))
        found = [(j, values) for j, values in looked_at if values is not None][:MOST_FEW]
        values = np.concatenate([np.empty(0), *(values for _, values in found)])
        ends = np.cumsum([len(values) for _, values in found], dtype=np.int64)
        return cls(np.array([j for j, _ in found], dtype=np.int32), values, ends)

    def followed_by(self, named: Mapping[int, Array]) -> "FewValued":
        """Return these and other columns, by their positions among the numeric ones, with their values, increasing."""
        ends = np.cumsum([len(values) for values in named.values()], dtype=np.int64) + len(self.values)
        return FewValued(
            np.concatenate([self.columns, np.array(list(named), dtype=np.int32)]),
            np.concatenate([self.values, *named.values()]),
            np.concatenate([self.ends, ends]),
        )

    def codes(self, frame: Frame) -> Array:
        """Return int32 of shape (n_rows, n_categorical + n_columns): codes of all coded columns."""
        out = np.empty((frame.n_rows, len(self.columns)), dtype=np.int32)
        for i, (j, end) in enumerate(zip(self.columns, self.ends, strict=True)):
            known = self.values[int(self.ends[i - 1]) if i else 0 : int(end)]
            number = frame.numbers[:, j]
            at = np.minimum(np.searchsorted(known, number), len(known) - 1)
            out[:, i] = np.where(known[at] == number, at, np.where(np.isnan(number), MISSING, UNKNOWN))
        return np.hstack([frame.codes, out])

    def arrays(self) -> Mapping[str, Array]:
        """Return what `read` needs."""
        return {"few.columns": self.columns, "few.values": self.values, "few.ends": self.ends}

    @classmethod
    def read(cls, stored: Stored) -> "FewValued":
        """Read and check what `arrays` gave; raises `BadArtifact`."""
        columns = stored.array("few.columns", np.int32, (None,), low=0, high=len(stored.schema.numeric) - 1)
        values = stored.array("few.values", np.float64, (None,), low=-LARGEST, high=LARGEST)
        return cls(columns, values, _read_ends(stored, "few.ends", len(columns), len(values)))


def _few_integers(numbers: Array) -> Array | None:
    """Return the distinct values, increasing, where they are 2 to `FEW` integers; missing ones aside."""
    if len(numbers) > 10 * FEW and len(np.unique(numbers[: 10 * FEW])) > FEW + 1:
        return None
    values = np.unique(numbers[np.isfinite(numbers)])
    return values if 2 <= len(values) <= FEW and _are_integers(values) else None


def _are_integers(values: Array) -> bool:
    return bool(np.abs(values).max(initial=0.0) < LARGEST and (values == np.round(values)).all())


def named_integers(numbers: Array, screen: Screen) -> dict[int, Array]:
    """Find numeric columns whose integers are names, such as the number of a shop; return their distinct values.

    Those are columns of which the rows of one and the same value say more than those of a range of values: trees
    would have to cut out each value by itself.

    Parameters
    ----------
    numbers : ndarray of shape (n_rows, n_numeric)
        Of all training rows.
    screen : Screen
        Its main effects are in it.
    """
    found: dict[int, Array] = {}
    for j in range(numbers.shape[1]):
        column = numbers[:, j]
        first = column[:GLANCE]
        if not _are_integers(first[np.isfinite(first)]) or len(found) == MOST_FEW:
            continue
        values = np.unique(column[np.isfinite(column)])
        if not (FEW < len(values) <= len(column) / ROWS_PER_NAME and _are_integers(values)):
            continue
        some = column[screen.rows]
        code = np.where(np.isfinite(some), np.searchsorted(values, some), len(values)).astype(np.int64)
        ranges = [binned(some[:, None], n_bins)[:, 0].astype(np.int64) for n_bins in RANGES]
        by_range = max(screen.gain(of, n_bins + 1) for of, n_bins in zip(ranges, RANGES, strict=True))
        if screen.gain(code, len(values) + 1) > by_range + screen.least_gain:
            found[j] = values
    return found


@dataclass(frozen=True, eq=False)
class Crosses:
    """Combinations of coded columns as columns of their own.

    Attributes
    ----------
    members : ndarray of shape (n_crosses, 3), int32
        Positions among the coded columns; the third is -1 in a pair.
    keys : ndarray of shape (n_keys,), int64
        Combinations that have a code, increasing within each cross.
    ends : ndarray of shape (n_crosses,), int64
    """

    members: Array
    keys: Array
    ends: Array

    @property
    def sizes(self) -> tuple[int, ...]:
        """Codes of each cross."""
        return tuple(np.diff(self.ends, prepend=0).tolist())

    @classmethod
    def fit(cls, crosses: list[Cross], codes: Array, sizes: tuple[int, ...]) -> "Crosses":
        """Collect the combinations of at least `MIN_ROWS` training rows."""
        kept = []
        for cross in crosses:
            keys, counts = np.unique(_keys(cross, codes, sizes), return_counts=True)
            often = np.flatnonzero(counts >= MIN_ROWS)
            often = often[np.argsort(-counts[often], kind="stable")][:MOST_KEYS]
            kept.append(keys[np.sort(often)])
        members = np.array([(*cross, NOBODY)[:3] for cross in crosses], dtype=np.int32).reshape(-1, 3)
        return cls(
            members, np.concatenate([np.empty(0, dtype=np.int64), *kept]), np.cumsum([len(k) for k in kept], dtype=int)
        )

    def codes(self, codes: Array, sizes: tuple[int, ...]) -> Array:
        """Return int32 of shape (n_rows, n_crosses); a combination without a code is unknown."""
        out = np.full((len(codes), len(self.members)), UNKNOWN, dtype=np.int32)
        for i, end in enumerate(self.ends):
            known = self.keys[int(self.ends[i - 1]) if i else 0 : int(end)]
            if len(known):
                key = _keys(tuple(j for j in self.members[i].tolist() if j != NOBODY), codes, sizes)
                at = np.minimum(np.searchsorted(known, key), len(known) - 1)
                out[:, i] = np.where(known[at] == key, at, UNKNOWN)
        return out

    def sources(self, coded: Sequence[str]) -> tuple[Source, ...]:
        """Return the source of each cross, for coded columns of these names."""
        return tuple(tuple(dict.fromkeys(coded[j] for j in cross if j != NOBODY)) for cross in self.members.tolist())

    def arrays(self) -> Mapping[str, Array]:
        """Return what `read` needs."""
        return {"crosses.members": self.members, "crosses.keys": self.keys, "crosses.ends": self.ends}

    @classmethod
    def read(cls, stored: Stored, sizes: tuple[int, ...]) -> "Crosses":
        """Read and check what `arrays` gave; raises `BadArtifact`."""
        members = stored.array("crosses.members", np.int32, (None, 3), low=NOBODY, high=len(sizes) - 1)
        if bool((members[:, :2] == NOBODY).any()) or any(_n_keys(m, sizes) >= LARGEST_KEY for m in members.tolist()):
            raise BadArtifact("the encoder crosses columns that cannot be crossed", hint=HINT)
        keys = stored.array("crosses.keys", np.int64, (None,), low=0, high=LARGEST_KEY)
        return cls(members, keys, _read_ends(stored, "crosses.ends", len(members), len(keys)))


def _read_ends(stored: Stored, name: str, n_parts: int, n_items: int) -> Array:
    """Read where the parts of an array end: each has at least one item, and the last ends with the array."""
    ends = stored.array(name, np.int64, (n_parts,), low=0, high=n_items)
    steps = np.diff(ends, prepend=0)
    if (int(ends[-1]) if n_parts else 0) != n_items or bool((steps < (name == "few.ends")).any()):
        raise BadArtifact(f"the encoder's array {name!r} does not add up", hint=HINT)
    return ends


def _n_keys(cross: Cross | list[int], sizes: tuple[int, ...]) -> int:
    product = 1
    for j in cross:
        product *= sizes[j] + levels.N_OTHERS if j != NOBODY else 1
    return product


def _keys(cross: Cross, codes: Array, sizes: tuple[int, ...]) -> Array:
    """Return a number per combination, int64 of shape (n_rows,): its places (see `features.levels`) in mixed radix."""
    key = np.zeros(len(codes), dtype=np.int64)
    for j in cross:
        key = key * (sizes[j] + levels.N_OTHERS) + levels.places(codes[:, [j]], (sizes[j],))[:, 0]
    return key


def find_crosses(
    codes: Array, sizes: tuple[int, ...], screen: Screen, bases: list[int], categories: Set[int]
) -> list[Cross]:
    """Find the crosses with more than a chance gain, best first; each has at least one category.

    Trees cut integers as they need them. For integers alone, statistics of a few rows are only a noisier copy.

    Parameters
    ----------
    codes : ndarray of shape (n, n_coded)
        Of the screen's rows.
    bases : list of int
        Coded columns to cross.
    categories : set of int
        Coded columns that are categories, or integers that are names; the others are integers of few values.
    """
    pairs = _scored([p for p in combinations(bases, 2) if not categories.isdisjoint(p)], codes, sizes, screen)
    longer = dict.fromkeys(tuple(sorted({*pair, j})) for _, pair in pairs[:PAIRS_EXTENDED] for j in bases)
    gain_of = {cross: gain for gain, cross in pairs}
    triples = [
        (gain, cross)
        for gain, cross in _scored([cross for cross in longer if len(cross) == 3], codes, sizes, screen)
        # a third column must add to what the best pair of the three says
        if gain > screen.least_gain + max(gain_of.get(pair, 0.0) for pair in combinations(cross, 2))
    ]
    return [cross for _, cross in sorted([*pairs, *triples], key=lambda item: -item[0])]


def strongest(relevance: Array) -> list[int]:
    """Return the coded columns that say most by themselves, in their order: those are crossed."""
    return sorted(np.argsort(-relevance, kind="stable")[:MOST_BASES].tolist())


def _scored(crosses: list[Cross], codes: Array, sizes: tuple[int, ...], screen: Screen) -> list[tuple[float, Cross]]:
    """Return the crosses with more than a chance gain, best first."""
    scored = []
    for cross in crosses:
        if _n_keys(cross, sizes) < LARGEST_KEY:
            keys, code = np.unique(_keys(cross, codes, sizes), return_inverse=True)
            gain = screen.gain(code.reshape(-1), len(keys))
            if gain > screen.least_gain:
                scored.append((gain, cross))
    return sorted(scored, key=lambda item: -item[0])
