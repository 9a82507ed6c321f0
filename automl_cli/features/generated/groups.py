"""A number against its group: the mean of a numeric column within a category, the difference and the ratio to it.

After the GroupBy generator of AutoGluon and TabPrep (arXiv 2606.02384). The target is not looked at for the values.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from automl_cli.features import levels
from automl_cli.features.generated.screen import Screen, binned
from automl_cli.features.matrix import Array, Source
from automl_cli.features.numeric import LARGEST
from automl_cli.features.store import Stored

MEAN, DIFFERENCE, RATIO = range(3)
ALPHA = 10.0
"""Rows of the overall mean that each group's mean is mixed with."""
MOST_CATEGORIES = 5
MOST_NUMBERS = 8
MOST_FORMS = 2


@dataclass(frozen=True, eq=False)
class Groups:
    """Columns that hold a number against the mean of its group.

    Attributes
    ----------
    program : ndarray of shape (n_groups, 3), int32
        Coded column, source, and one of `MEAN`, `DIFFERENCE` and `RATIO`.
    means : ndarray of shape (n_places,), float64
        For each group the places of its coded column, see `automl_cli.features.levels`, one group after the other. A
        category without training rows has the overall mean.
    """

    program: Array
    means: Array

    @classmethod
    def fit(cls, program: list[tuple[int, int, int]], codes: Array, sizes: tuple[int, ...], sources: Array) -> "Groups":
        """Learn the means of the training rows."""
        tables = [_means(codes[:, [j]], (sizes[j],), sources[:, i]) for j, i, _ in program]
        return cls(np.array(program, dtype=np.int32).reshape(-1, 3), np.concatenate([np.empty(0), *tables]))

    def transform(self, codes: Array, sizes: tuple[int, ...], sources: Array) -> Array:
        """Return float64 of shape (n_rows, n_groups), finite or NaN."""
        out = np.empty((len(sources), len(self.program)))
        first = 0
        for k, (j, i, form) in enumerate(self.program.tolist()):
            mean = self.means[first + levels.places(codes[:, [j]], (sizes[j],))[:, 0]]
            first += sizes[j] + levels.N_OTHERS
            out[:, k] = _form(form, sources[:, i], mean)
        return out

    def sources(self, coded: Sequence[str], names: Sequence[str]) -> tuple[Source, ...]:
        """Return the source of each group: what a row's value follows from, which for a mean is the category alone.

        Parameters
        ----------
        coded, names : sequence of str
            Of the coded columns, and of the numbers and dates.
        """
        made = ((coded[j], names[i]) if form != MEAN else (coded[j],) for j, i, form in self.program.tolist())
        return tuple(tuple(dict.fromkeys(source)) for source in made)

    def arrays(self) -> Mapping[str, Array]:
        """Return what `read` needs."""
        return {"groups.program": self.program, "groups.means": self.means}

    @classmethod
    def read(cls, stored: Stored, sizes: tuple[int, ...]) -> "Groups":
        """Read and check what `arrays` gave; raises `BadArtifact`."""
        program = stored.array("groups.program", np.int32, (None, 3), low=0, high=2**24)
        n_sources = len(stored.schema.numeric) + len(stored.schema.datetime)
        for k, most in enumerate((len(sizes) - 1, n_sources - 1, RATIO)):
            Stored(stored.schema, {"groups.program": program[:, k]}).array(
                "groups.program", np.int32, (None,), low=0, high=most
            )
        n_places = levels.n_places([sizes[j] for j in program[:, 0]])
        return cls(program, stored.array("groups.means", np.float64, (n_places,), low=-LARGEST, high=LARGEST))


def _means(codes: Array, sizes: tuple[int, ...], source: Array) -> Array:
    """Return the smoothed mean per place."""
    known = ~np.isnan(source)
    place, values = levels.places(codes[known], sizes)[:, 0], source[known]
    overall = float(values.mean()) if len(values) else 0.0
    n_places = levels.n_places(sizes)
    count = np.bincount(place, minlength=n_places)
    sums = np.bincount(place, weights=values, minlength=n_places)
    return np.asarray(np.clip((sums + ALPHA * overall) / (count + ALPHA), -LARGEST, LARGEST))


def _form(form: int, source: Array, mean: Array) -> Array:
    if form == MEAN:
        return mean
    with np.errstate(divide="ignore", invalid="ignore", over="ignore", under="ignore"):
        against = source - mean if form == DIFFERENCE else np.where(mean == 0, np.nan, source / mean)
    return np.asarray(np.clip(against, -LARGEST, LARGEST))


def find_groups(
    codes: Array, sizes: tuple[int, ...], sources: Array, screen: Screen, relevance: tuple[Array, Array], most: int
) -> list[tuple[int, int, int]]:
    """Choose at most ``most`` groups: coded column, source, form.

    Parameters
    ----------
    codes, sources : ndarray of shape (n, n_coded), (n, n_sources)
        Of the screen's rows.
    relevance : tuple of two ndarrays
        What each coded column and each source says about the target by itself: the best are combined.
    """
    chosen = np.argsort(-relevance[0], kind="stable")[:MOST_CATEGORIES].tolist()
    numbers = np.argsort(-relevance[1], kind="stable")[:MOST_NUMBERS].tolist()
    # the ratio has the order of the difference where the mean hardly varies: the better of both is enough
    scored: list[tuple[float, tuple[int, int, int]]] = []
    for j in chosen:
        for i in numbers:
            block = [(j, i, form) for form in (MEAN, DIFFERENCE, RATIO)]
            made = Groups.fit(block, codes, sizes, sources).transform(codes, sizes, sources)
            gains = screen.gains(binned(made, screen.n_bins)).tolist()
            best = sorted(zip(gains, block, strict=True), key=lambda item: -item[0])[:MOST_FORMS]
            scored += [(gain, group) for gain, group in best if gain > 0]
    scored.sort(key=lambda item: -item[0])
    return [group for _, group in scored[:most]]
