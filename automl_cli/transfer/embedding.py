"""Rows in numbers that no label was needed for: clusters, directions, how strange they are."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from automl_cli.features.frame import Frame
from automl_cli.features.levels import row_blocks
from automl_cli.features.matrix import Array
from automl_cli.features.one_hot import OneHotEncoder, fit_one_hot
from automl_cli.task import TaskKind
from automl_cli.transfer.features import LARGEST, SharedFeatures

MOST_SAMPLED = 20_000
MOST_DIRECTIONS = 8
STARTS = 4  # of k-means; the tightest clusters are taken


@dataclass(frozen=True, eq=False)
class Embedding:
    """What was learned of a table's rows.

    Attributes
    ----------
    encoder : OneHotEncoder
        Scaled numbers and indicators of categories, in which clusters and directions lie.
    centres : ndarray of shape (n_clusters, n_features)
        Of k-means, the largest cluster first.
    mean, directions : ndarray of shape (n_features,) and (n_directions, n_features)
        Principal ones.
    shared : SharedFeatures
        Ranks and frequencies.
    medians : ndarray of shape (n_numeric + n_datetime,)
        What a missing number counts as where it is asked how strange a row is.
    forest : IsolationForest
        Isolates a row by cuts of numbers and of the frequencies of its categories [1]_.

    References
    ----------
    .. [1] Liu et al., Isolation forest, ICDM 2008.
    """

    encoder: OneHotEncoder
    centres: Array
    mean: Array
    directions: Array
    shared: SharedFeatures
    medians: Array
    forest: Any

    @classmethod
    def fit(cls, frame: Frame, n_clusters: int, seed: int) -> "Embedding":
        """Learn from a frame, or from 20,000 of its rows; clusters are at most as many as there are different rows."""
        from sklearn.cluster import KMeans  # noqa: PLC0415  (loads slowly, as the next two)
        from sklearn.decomposition import PCA  # noqa: PLC0415
        from sklearn.ensemble import IsolationForest  # noqa: PLC0415

        shared = SharedFeatures.fit(frame, seed)
        if frame.n_rows > MOST_SAMPLED:
            chance = np.random.default_rng(seed)
            frame = frame.take(np.sort(chance.choice(frame.n_rows, MOST_SAMPLED, replace=False)))
        encoder, matrix = fit_one_hot(frame, np.zeros(frame.n_rows), TaskKind.REGRESSION, 1, seed)
        X = matrix.X.astype(np.float64)
        with threadpool_limits(1):  # sums in one order, whatever the machine
            clusters = KMeans(min(n_clusters, len(np.unique(X, axis=0))), n_init=STARTS, random_state=seed).fit(X)
            sizes = np.bincount(clusters.labels_, minlength=clusters.n_clusters)
            found = PCA(min(MOST_DIRECTIONS, *X.shape), random_state=seed).fit(X)
            bare = np.hstack([frame.numbers, frame.days])
            filled = [column[~np.isnan(column)] for column in bare.T]
            medians = np.array([np.median(column) if len(column) else 0.0 for column in filled])
            strange = _strange_inputs(frame, shared, medians)
            forest = IsolationForest(random_state=seed).fit(strange)
        order = np.argsort(-sizes, kind="stable")
        centres = np.asarray(clusters.cluster_centers_[order])
        return cls(encoder, centres, found.mean_, found.components_, shared, medians, forest)

    def columns(self, frame: Frame, *, every: bool = False) -> dict[str, Array]:
        """Return the columns of some rows by name; each row's depend on that row alone.

        Parameters
        ----------
        every : bool
            Whether ranks and frequencies are wanted too.

        Returns
        -------
        mapping of name to ndarray of shape (n_rows,), int64 for clusters and float32 for all else
            The rank of a missing number is masked.
        """
        with threadpool_limits(1):
            parts = list(self._parts(frame))
        distances, directions, strange = (np.concatenate(part) for part in zip(*parts, strict=True))
        named = {"cluster": distances.argmin(axis=1)}
        named |= {f"distance_{k}": column for k, column in enumerate(distances.T)}
        named |= {f"direction_{k}": column for k, column in enumerate(directions.T)}
        named["anomaly"] = strange
        if every:
            schema = self.shared.schema
            names = [*(f"frequency_{n}" for n in schema.categorical), *(f"rank_{n}" for n in schema.numeric)]
            shared = self.shared.transform(frame).T
            named |= {name: np.ma.masked_invalid(column) for name, column in zip(names, shared, strict=False)}
        return named

    def _parts(self, frame: Frame) -> Iterator[tuple[Array, Array, Array]]:
        width = self.centres.shape[1]
        for rows in row_blocks(frame.n_rows, max(1, width)):
            part = frame.take(np.arange(rows.start, rows.stop))
            X = self.encoder.transform(part).X.astype(np.float64)
            squared = [((X - centre) ** 2).sum(axis=1) for centre in self.centres]
            directed = [((X - self.mean) * direction).sum(axis=1) for direction in self.directions]
            strange = -self.forest.score_samples(_strange_inputs(part, self.shared, self.medians))
            yield (
                np.sqrt(np.stack(squared, axis=1)).astype(np.float32),
                np.stack(directed, axis=1).astype(np.float32),
                strange.astype(np.float32),
            )


def _strange_inputs(frame: Frame, shared: SharedFeatures, medians: Array) -> Array:
    """Return numbers, days and frequencies without missing values; at least one column."""
    bare = np.hstack([frame.numbers, frame.days])
    bare = np.clip(np.where(np.isnan(bare), medians, bare), -LARGEST, LARGEST)
    frequencies = shared.transform(frame)[:, : len(frame.schema.categorical)]
    inputs = np.hstack([bare, frequencies])
    return inputs if inputs.shape[1] else np.zeros((frame.n_rows, 1))
