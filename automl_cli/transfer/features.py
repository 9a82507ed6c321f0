"""Features that need no labels, learned from all rows of both tables: frequencies, ranks, directions, distances.

Time and memory are linear in the rows: what is more than linear looks at a bounded sample.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from automl_cli.errors import BadArtifact
from automl_cli.features import levels
from automl_cli.features.frame import Frame, FrameSchema
from automl_cli.features.matrix import Array, Source
from automl_cli.features.store import HINT, read_arrays, write_arrays

NAME = "shared"
N_KNOTS = 129
MOST_SAMPLED = 20_000
MOST_DIRECTIONS = 8
MOST_CENTRES = 8
LARGEST = 1e18


@dataclass(frozen=True, eq=False)
class SharedFeatures:
    """What was learned from all rows.

    Attributes
    ----------
    frequencies : ndarray of shape (n_places,), float64
        Share of the rows by the value of a category, see `automl_cli.features.levels`.
    knots : ndarray of shape (n_knots, n_numeric), float64
        Quantiles of the numbers.
    directions : ndarray of shape (n_numeric, n_directions), float64
        Principal ones of the ranks.
    centres : ndarray of shape (n_centres, n_numeric), float64
        Of k-means on the ranks.
    """

    schema: FrameSchema
    frequencies: Array
    knots: Array
    directions: Array
    centres: Array

    @classmethod
    def fit(cls, frame: Frame, seed: int) -> "SharedFeatures":
        """Learn from all rows of a frame, with or without a label."""
        counts = levels.count(frame.codes, frame.schema.n_categories)
        knots = _knots(_sample(frame.numbers, seed))
        ranks = np.concatenate([np.zeros((0, len(knots[0]))), *_ranks(_sample(frame.numbers, seed), knots)])
        return cls(
            schema=frame.schema,
            frequencies=counts / max(1, frame.n_rows),
            knots=knots,
            directions=_directions(frame.numbers, knots),
            centres=_centres(ranks, seed),
        )

    def transform(self, frame: Frame) -> Array:
        """Return float32 of shape (n_rows, n_features): frequencies, ranks, directions, distances.

        A rank is NaN where the number is missing; all else counts it as the median.
        """
        n_coded, n_numeric = len(self.schema.categorical), len(self.schema.numeric)
        out = np.empty((frame.n_rows, len(self.sources())), dtype=np.float32)
        levels.look_up(self.frequencies, frame.codes, self.schema.n_categories, out[:, :n_coded])
        at = 0
        for ranks, missing in zip(_ranks(frame.numbers, self.knots), _missing(frame.numbers), strict=True):
            block = out[at : at + len(ranks), n_coded:]
            block[:, :n_numeric] = np.where(missing, np.nan, ranks)
            block[:, n_numeric : n_numeric + self.directions.shape[1]] = ranks @ self.directions
            squared = (ranks**2).sum(axis=1)[:, None] + (self.centres**2).sum(axis=1) - 2 * ranks @ self.centres.T
            block[:, n_numeric + self.directions.shape[1] :] = np.sqrt(np.maximum(squared, 0))
            at += len(ranks)
        return out

    def sources(self) -> tuple[Source, ...]:
        """Return the columns that each feature is made of."""
        together = self.schema.numeric
        n_together = self.directions.shape[1] + len(self.centres)
        return (*((name,) for name in (*self.schema.categorical, *self.schema.numeric)), *((together,) * n_together))

    def save(self, folder: Path) -> None:
        """Write into an existing folder."""
        names = ("frequencies", "knots", "directions", "centres")
        write_arrays(folder, NAME, self.schema, {name: getattr(self, name) for name in names})

    @classmethod
    def load(cls, folder: Path) -> "SharedFeatures":
        """Read what `save` wrote; raises `BadArtifact` for anything malformed."""
        stored = read_arrays(folder, NAME)
        n_numeric = len(stored.schema.numeric)
        knots = stored.array("knots", np.float64, (N_KNOTS, n_numeric), low=-LARGEST, high=LARGEST)
        if (np.diff(knots, axis=0) < 0).any():
            raise BadArtifact("the encoder's quantiles are not in order", hint=HINT)
        n_places = levels.n_places(stored.schema.n_categories)
        return cls(
            schema=stored.schema,
            frequencies=stored.array("frequencies", np.float64, (n_places,), low=0, high=1),
            knots=knots,
            directions=stored.array("directions", np.float64, (n_numeric, None), low=-1.0001, high=1.0001),
            centres=stored.array("centres", np.float64, (None, n_numeric), low=-1, high=1),
        )


def _sample(numbers: Array, seed: int) -> Array:
    if len(numbers) <= MOST_SAMPLED:
        return numbers
    return numbers[np.sort(np.random.default_rng(seed).choice(len(numbers), MOST_SAMPLED, replace=False))]


def _knots(sample: Array) -> Array:
    """Return quantiles by column, of the values that are there; zeros where there are none."""
    knots = np.zeros((N_KNOTS, sample.shape[1]))
    for j in range(sample.shape[1]):
        values = sample[:, j]
        values = np.clip(values[~np.isnan(values)], -LARGEST, LARGEST)
        if len(values):
            knots[:, j] = np.quantile(values, np.linspace(0, 1, N_KNOTS))
    return knots


def _ranks(numbers: Array, knots: Array) -> Iterator[Array]:
    """Yield blocks of ranks between -1 and 1, 0 where missing: equal values have the middle of their ranks."""
    at = np.linspace(-1, 1, N_KNOTS)
    columns = []
    for j in range(numbers.shape[1]):
        values, tie = np.unique(knots[:, j], return_inverse=True)
        columns.append((values, np.bincount(tie, weights=at) / np.bincount(tie)))
    for rows in levels.row_blocks(len(numbers), max(1, numbers.shape[1])):
        block = np.empty((len(numbers[rows]), len(columns)))
        for j, (values, reached) in enumerate(columns):
            block[:, j] = np.interp(numbers[rows, j], values, reached)
        yield np.nan_to_num(block)


def _missing(numbers: Array) -> Iterator[Array]:
    yield from (np.isnan(numbers[rows]) for rows in levels.row_blocks(len(numbers), max(1, numbers.shape[1])))


def _directions(numbers: Array, knots: Array) -> Array:
    """Return principal directions of the ranks, from sums over all rows; the largest part of each is positive."""
    d = numbers.shape[1]
    n, total, products = 0, np.zeros(d), np.zeros((d, d))
    for ranks in _ranks(numbers, knots):
        n, total, products = n + len(ranks), total + ranks.sum(axis=0), products + ranks.T @ ranks
    if d < 2 or n < 2:
        return np.zeros((d, 0))
    _, vectors = np.linalg.eigh(products / n - np.outer(total, total) / n**2)
    kept = vectors[:, ::-1][:, : min(MOST_DIRECTIONS, d)]
    largest = kept[np.abs(kept).argmax(axis=0), np.arange(kept.shape[1])]
    return np.asarray(kept * np.sign(largest))


def _centres(ranks: Array, seed: int) -> Array:
    """Return the centres of k-means, ordered by their first coordinates."""
    if ranks.shape[1] < 2 or len(ranks) < 10 * MOST_CENTRES:
        return np.zeros((0, ranks.shape[1]))
    from sklearn.cluster import KMeans  # noqa: PLC0415  (loads slowly)

    n_centres = min(MOST_CENTRES, len(np.unique(ranks, axis=0)))
    centres = KMeans(n_centres, n_init=2, random_state=seed).fit(ranks).cluster_centers_
    return np.asarray(np.clip(centres[np.lexsort(centres.T[::-1])], -1, 1))
