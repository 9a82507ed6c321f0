"""Numbers for models that add features up or measure distances: complete, centred, of one scale, without outliers.

Median and interquartile range with smooth clipping as in RealMLP (Holzmüller et al., Better by default, NeurIPS 2024);
heavily skewed columns are mapped to normal scores through their quantiles.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np

from automl_cli.features.matrix import Array, Source
from automl_cli.features.store import Stored

N_KNOTS = 65
SKEWED = 3.0
"""Moment skewness above which quantiles are used: an exponential distribution has 2, a lognormal 6."""
MISSING_SHARE = 0.01
"""A column with at least this share of missing training values gets an indicator."""
CLIP = 3.0
ROUNDING = 1e-10  # a column that varies less, relative to its size, is constant
LARGEST = 1e18  # values beyond are pulled in, so that nothing overflows
# normal scores of the knots; the outermost are pulled in to 0.5 and 99.5 %
SCORES = np.array([NormalDist().inv_cdf(min(max(i / (N_KNOTS - 1), 0.005), 0.995)) for i in range(N_KNOTS)])


@dataclass(frozen=True, eq=False)
class Scaling:
    """Imputes, scales and flags columns.

    Attributes
    ----------
    median, scale : ndarray of shape (n_columns,), float64
        A column that is constant in training has the scale 0 and becomes 0.
    skewed : ndarray of shape (n_skewed,), int32, increasing
        Columns that go through quantiles instead.
    knots, scores : ndarray of shape (n_skewed, N_KNOTS), float64
        Quantiles and the normal score of each; equal quantiles share the mean of their scores.
    flagged : ndarray of shape (n_flagged,), int32, increasing
        Columns with an indicator of missing values.
    """

    median: Array
    scale: Array
    skewed: Array
    knots: Array
    scores: Array
    flagged: Array

    @property
    def width(self) -> int:
        """Number of features: the scaled columns, then the indicators."""
        return len(self.median) + len(self.flagged)

    @classmethod
    def fit(cls, sample: Array) -> "Scaling":
        """Learn from training rows of shape (n_rows, n_columns), NaN where missing."""
        sample = np.clip(sample, -LARGEST, LARGEST)
        share_missing = np.isnan(sample).mean(axis=0) if len(sample) else np.ones(sample.shape[1])
        quantiles = _quantiles(sample)
        low, quarter, median, three_quarters, high = quantiles[[0, 16, 32, 48, 64]]
        spread, span = (three_quarters - quarter) / 1.349, high - low  # 1.349: the quartiles of a normal distribution
        span = np.where(span > ROUNDING * np.maximum(np.abs(low), np.abs(high)), span, 0.0)
        width = np.where(spread > 0, spread, span / 2) * (span > 0)
        with np.errstate(divide="ignore", over="ignore"):
            scale = np.where(width > 0, 1 / width, 0.0)
        scale = np.where(np.isfinite(scale), scale, 0.0)
        # two values stay two values on any scale: no need for quantiles
        skewed = np.flatnonzero((_skewness(sample, median, scale) > SKEWED) & _more_than_two(quantiles))
        knots = np.ascontiguousarray(quantiles[:, skewed].T)
        return cls(
            median=median,
            scale=scale,
            skewed=skewed.astype(np.int32),
            knots=knots,
            scores=np.array([_tied_scores(row) for row in knots]).reshape(knots.shape),
            flagged=np.flatnonzero((share_missing >= MISSING_SHARE) & (share_missing < 1)).astype(np.int32),
        )

    def transform(self, block: Array) -> Array:
        """Return float64 of shape (n_rows, width), without NaN; skewed columns are left to `normal_scores`."""
        missing = np.isnan(block)
        filled = np.where(missing, self.median, np.clip(block, -LARGEST, LARGEST))
        # bounded before it is squared
        z = np.clip((filled - self.median) * self.scale, -1e6, 1e6)
        z /= np.sqrt(1 + (z / CLIP) ** 2)
        return np.hstack([z, missing[:, self.flagged]])

    def normal_scores(self, i: int, values: Array) -> Array:
        """Return float64 of shape (n_rows,), without NaN, for the ``i``-th skewed column."""
        filled = np.where(np.isnan(values), self.median[self.skewed[i]], values)
        return np.asarray(np.interp(filled, self.knots[i], self.scores[i]))

    def limited_to(self, kept: Array) -> "Scaling":
        """Return a scaling that spends no time on skewed columns outside ``kept``, whose output is not used."""
        used = np.isin(self.skewed, kept)
        return replace(self, skewed=self.skewed[used], knots=self.knots[used], scores=self.scores[used])

    def sources(self, columns: Sequence[Source]) -> tuple[Source, ...]:
        """Return the source of each feature, for columns of these sources."""
        return (*columns, *(columns[j] for j in self.flagged))

    def arrays(self) -> Mapping[str, Array]:
        """Return what `read` needs."""
        names = ("median", "scale", "skewed", "knots", "scores", "flagged")
        return {f"scaling.{name}": getattr(self, name) for name in names}

    @classmethod
    def read(cls, stored: Stored, n_columns: int) -> "Scaling":
        """Read and check what `arrays` gave; raises `BadArtifact`."""
        skewed = stored.array("scaling.skewed", np.int32, (None,), low=0, high=n_columns - 1)
        shape = (len(skewed), N_KNOTS)
        return cls(
            median=stored.array("scaling.median", np.float64, (n_columns,), low=-LARGEST, high=LARGEST),
            scale=stored.array("scaling.scale", np.float64, (n_columns,), low=0),
            skewed=skewed,
            knots=stored.array("scaling.knots", np.float64, shape, low=-LARGEST, high=LARGEST),
            scores=stored.array("scaling.scores", np.float64, shape, low=-10, high=10),
            flagged=stored.array("scaling.flagged", np.int32, (None,), low=0, high=n_columns - 1),
        )


def _quantiles(sample: Array) -> Array:
    """Return shape (N_KNOTS, n_columns), ignoring NaN; 0 where a column has no value."""
    if not sample.size:
        return np.zeros((N_KNOTS, sample.shape[1]))
    # numpy's nanquantile goes column by column in Python
    ordered = np.sort(sample, axis=0)  # NaN last
    last = np.maximum((~np.isnan(sample)).sum(axis=0) - 1, 0)
    at = np.linspace(0, 1, N_KNOTS)[:, None] * last
    below = np.floor(at).astype(np.int64)
    above = np.minimum(below + 1, last)
    values = np.take_along_axis(ordered, below, axis=0)
    between = (at - below) * (np.take_along_axis(ordered, above, axis=0) - values)
    return np.asarray(np.nan_to_num(values + between))


def _skewness(sample: Array, median: Array, scale: Array) -> Array:
    """Absolute moment skewness per column, 0 where undefined."""
    if not len(sample):
        return np.zeros(sample.shape[1])
    z = np.clip((sample - median) * scale, -1e6, 1e6)
    missing = np.isnan(z)
    n_values = np.maximum((~missing).sum(axis=0), 1)
    centred = np.where(missing, 0.0, z - np.where(missing, 0.0, z).sum(axis=0) / n_values)
    variance = np.einsum("ij,ij->j", centred, centred) / n_values
    third = np.einsum("ij,ij,ij->j", centred, centred, centred) / n_values
    return np.asarray(np.abs(third) / np.maximum(variance, 1e-12) ** 1.5)


def _more_than_two(quantiles: Array) -> Array:
    """Whether any quantile lies between the least and the largest."""
    inner = (quantiles > quantiles[0]) & (quantiles < quantiles[-1])
    return np.asarray(inner.any(axis=0))


def _tied_scores(knots: Array) -> Array:
    _, group = np.unique(knots, return_inverse=True)
    mean: Array = np.bincount(group, weights=SCORES) / np.bincount(group)
    return mean[group]
