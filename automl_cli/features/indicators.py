"""One-hot columns: the most frequent values of each category, a shared column for the rest, one for missing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from automl_cli.features import levels
from automl_cli.features.matrix import Array, Source
from automl_cli.features.scaling import MISSING_SHARE
from automl_cli.features.store import Stored

MAX_LEVELS = 20
"""Values of one category with a column of their own."""
MIN_ROWS = 2
"""A value of fewer training rows is rare: a weight for a single row is learned by heart."""
NOWHERE = -1
MISSING = 1  # a column's place for it, see `levels`


@dataclass(frozen=True, eq=False)
class Indicators:
    """Which indicator each category code sets.

    Attributes
    ----------
    slots : ndarray of shape (n_places,), int32
        See `automl_cli.features.levels`; -1 sets none. Values without training rows share the slot of the rare ones.
    """

    n_categories: tuple[int, ...]
    slots: Array
    width: int

    @classmethod
    def fit(cls, codes: Array, n_categories: tuple[int, ...]) -> "Indicators":
        """Choose indicators from training codes of shape (n_rows, n_categorical)."""
        counts = np.split(levels.count(codes, n_categories), levels.starts(n_categories)[1:])
        slots, width = [np.empty(0, dtype=np.int32)], 0
        for count in counts if n_categories else ():
            column, n_slots = _slots_of_column(count, len(codes))
            slots.append(np.where(column >= 0, column + width, NOWHERE).astype(np.int32))
            width += n_slots
        return cls(n_categories, np.concatenate(slots), width)

    def write(self, out: Array, codes: Array) -> None:
        """Set ones in ``out`` of shape (n_rows, width), which is zero before."""
        slot = self.slots[levels.places(codes, self.n_categories)]
        rows, columns = np.nonzero(slot >= 0)
        out[rows, slot[rows, columns]] = 1

    def sources(self, names: Sequence[str]) -> tuple[Source, ...]:
        """Return the source of each indicator, for categorical columns of these names."""
        column = np.repeat(np.arange(len(names)), np.asarray(self.n_categories, dtype=np.int64) + levels.N_OTHERS)
        owner = np.full(self.width, NOWHERE)
        owner[self.slots[self.slots >= 0]] = column[self.slots >= 0]
        return tuple((names[j],) if j >= 0 else () for j in owner)

    def arrays(self) -> Mapping[str, Array]:
        """Return what `read` needs."""
        return {"indicators.slots": self.slots}

    @classmethod
    def read(cls, stored: Stored) -> "Indicators":
        """Read and check what `arrays` gave; raises `BadArtifact`."""
        n_categories = stored.schema.n_categories
        n_places = levels.n_places(n_categories)
        slots = stored.array("indicators.slots", np.int32, (n_places,), low=NOWHERE, high=n_places)
        return cls(n_categories, slots, int(slots.max(initial=NOWHERE)) + 1)


def n_levels_seen(codes: Array, n_categories: tuple[int, ...]) -> Array:
    """Return how many different values each column has in these rows."""
    counts = levels.count(codes, n_categories)
    counts[levels.codes_of_places(n_categories) < 0] = 0
    return np.array([np.count_nonzero(part) for part in np.split(counts, levels.starts(n_categories)[1:])], dtype=int)


def _slots_of_column(count: Array, n_rows: int) -> tuple[Array, int]:
    """Return the slot of each place of one column, and how many slots there are."""
    slots = np.full(len(count), NOWHERE)
    seen = levels.N_OTHERS + np.flatnonzero(count[levels.N_OTHERS :])
    own = seen[count[seen] >= min(MIN_ROWS, count[seen].max(initial=0))]
    own = own[np.argsort(-count[own], kind="stable")][:MAX_LEVELS]
    has_missing = count[MISSING] >= MISSING_SHARE * max(n_rows, 1)
    has_rare = len(own) < len(seen)
    if len(own) == 2 and not has_rare and not has_missing:
        slots[own[1]] = 0  # the other value is its absence
        return slots, 1
    if has_rare:
        slots[:] = len(own)  # unknown values and those without training rows too
    slots[own] = np.arange(len(own))
    slots[MISSING] = len(own) + has_rare if has_missing else NOWHERE
    return slots, len(own) + int(has_rare) + int(has_missing)
