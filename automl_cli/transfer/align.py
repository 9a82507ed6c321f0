"""Moving numeric columns of the source to where the target has them: by covariances, subspaces or quantiles.

A model is then trained on moved source rows and meets target rows as they are. Categories are not touched, and what is
missing stays missing.
"""

from dataclasses import dataclass

import numpy as np

from automl_cli.features.matrix import Array
from automl_cli.transfer.domain import finite

ROUNDING = 1e-10  # a column that varies less, relative to its mean, is constant
RIDGE = 1e-3
"""Added to the variances of standardised columns, so that columns that repeat each other can be told apart."""
MOST_ROWS = 200_000
"""Of a domain, evenly spread, that means, covariances and quantiles are taken of."""
N_KNOTS = 101
FEW_VALUES = 10
"""A column of at most so many values is a category in disguise: quantiles do not move it."""
MOST_DIRECTIONS = 10
EXPLAINED = 0.95
"""Share of the variance that aligned subspaces hold."""


@dataclass(frozen=True, eq=False)
class Moments:
    """Means and covariances by the pairs of values that are there, so that missing ones bias neither.

    Attributes
    ----------
    mean : ndarray of shape (n_columns,)
    covariance : ndarray of shape (n_columns, n_columns), positive semidefinite
    usable : ndarray of shape (n_columns,), bool
        Columns that vary by more than rounding.
    """

    mean: Array
    covariance: Array
    usable: Array

    @classmethod
    def of(cls, X: Array) -> "Moments":
        """Measure rows of shape (n_rows, n_columns), NaN where missing; of many rows some."""
        X = _some(X)
        present = ~np.isnan(X)
        counts = present.sum(axis=0)
        mean = np.where(present, X, 0.0).sum(axis=0) / np.maximum(counts, 1)
        centred = np.where(present, X - mean, 0.0)
        together = present.astype(np.float64).T @ present
        covariance = centred.T @ centred / np.maximum(together, 1)
        usable = np.diag(covariance) > (ROUNDING * mean) ** 2
        if present.all():
            return cls(mean, covariance, usable)
        values, vectors = np.linalg.eigh(covariance)  # pairs of different rows need not be a covariance: the nearest is
        return cls(mean, (vectors * np.maximum(values, 0)) @ vectors.T, usable)


@dataclass(frozen=True, eq=False)
class Coral:
    """A linear map: ``(x - from_mean) @ matrix + to_mean``.

    Attributes
    ----------
    columns : ndarray of int64
        Those that are moved; the others are empty or constant in one of the domains.
    """

    columns: Array
    from_mean: Array
    matrix: Array
    to_mean: Array

    def move(self, X: Array) -> Array:
        """Return moved source rows, float64 of the same shape.

        A missing value counts as the mean where it is mixed with other columns, and is missing again afterwards.
        """
        moved = np.array(finite(X), dtype=np.float64)
        block = moved[:, self.columns]
        new = np.nan_to_num(block - self.from_mean) @ self.matrix + self.to_mean
        moved[:, self.columns] = np.where(np.isnan(block), np.nan, new)
        return moved


def fit_coral(source: Array, target: Array, *, ridge: float = RIDGE) -> Coral:
    """Give the source the target's means and covariances: (x - m_S) C_S^-1/2 C_T^1/2 + m_T [1]_.

    Covariances are of columns that are scaled to a variance of one (the mean of both domains').

    References
    ----------
    .. [1] Sun, Feng and Saenko, Return of frustratingly easy domain adaptation, AAAI 2016.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> target = rng.normal(size=(500, 2)) @ np.array([[2.0, 1.0], [0.0, 0.5]])
    >>> moved = fit_coral(rng.normal(size=(400, 2)), target, ridge=0.0).move(rng.normal(size=(400, 2)))
    >>> bool(np.allclose(np.cov(moved.T), np.cov(target.T), atol=0.5))
    True
    """
    old, new = Moments.of(source), Moments.of(target)
    columns = np.flatnonzero(old.usable & new.usable)
    square = np.ix_(columns, columns)
    scale = np.sqrt((np.diag(old.covariance) + np.diag(new.covariance))[columns] / 2)
    more = ridge * np.eye(len(columns))
    whiten = _power(old.covariance[square] / np.outer(scale, scale) + more, -0.5)
    colour = _power(new.covariance[square] / np.outer(scale, scale) + more, 0.5)
    matrix = (whiten @ colour) * scale / scale[:, None]
    return Coral(columns, old.mean[columns], matrix, new.mean[columns])


def _power(covariance: Array, exponent: float) -> Array:
    """Return a power of a symmetric matrix; directions without variance stay without."""
    values, vectors = np.linalg.eigh(covariance)
    kept = values > 1e-12 * max(float(values.max(initial=0.0)), 1e-300)
    powers = np.where(kept, np.where(kept, values, 1.0) ** exponent, 0.0)
    return np.asarray((vectors * powers) @ vectors.T)


@dataclass(frozen=True, eq=False)
class Subspace:
    """Principal directions of both domains, and the source's turned to the target's.

    Attributes
    ----------
    columns : ndarray of int64
    source_mean, source_scale, target_mean, target_scale : ndarray of shape (n_kept_columns,)
    source_basis, target_basis : ndarray of shape (n_kept_columns, n_directions)
        Orthonormal.
    """

    columns: Array
    source_mean: Array
    source_scale: Array
    source_basis: Array
    target_mean: Array
    target_scale: Array
    target_basis: Array

    @property
    def turn(self) -> Array:
        """The matrix nearest to carrying the source's basis to the target's: P_S' P_T."""
        return np.asarray(self.source_basis.T @ self.target_basis)

    def of_source(self, X: Array) -> Array:
        """Return features of source rows, shape (n_rows, n_directions); missing values count as means."""
        scaled = np.nan_to_num((finite(X[:, self.columns]) - self.source_mean) / self.source_scale)
        return np.asarray(scaled @ self.source_basis @ self.turn)

    def of_target(self, X: Array) -> Array:
        """Return features of target rows, shape (n_rows, n_directions)."""
        scaled = np.nan_to_num((finite(X[:, self.columns]) - self.target_mean) / self.target_scale)
        return np.asarray(scaled @ self.target_basis)


def fit_subspace(source: Array, target: Array, *, most: int = MOST_DIRECTIONS) -> Subspace:
    """Align the principal directions of both domains, each standardised on its own [1]_.

    As many directions as hold 95 % of the variance in both, and at most ``most``.

    References
    ----------
    .. [1] Fernando et al., Unsupervised visual domain adaptation using subspace alignment, ICCV 2013.
    """
    old, new = Moments.of(source), Moments.of(target)
    columns = np.flatnonzero(old.usable & new.usable)
    bases, needed = [], []
    scales = [np.sqrt(np.diag(of.covariance)[columns]) for of in (old, new)]
    for of, scale in zip((old, new), scales, strict=True):
        values, vectors = np.linalg.eigh(of.covariance[np.ix_(columns, columns)] / np.outer(scale, scale))
        shares = np.cumsum(values[::-1]) / max(float(values.sum()), 1e-300)
        needed.append(int(np.searchsorted(shares, EXPLAINED)) + 1)
        bases.append(vectors[:, ::-1])
    k = min(max(needed), most, len(columns))
    return Subspace(
        columns, old.mean[columns], scales[0], bases[0][:, :k], new.mean[columns], scales[1], bases[1][:, :k]
    )


@dataclass(frozen=True, eq=False)
class QuantileMap:
    """Each column moved on its own: a source value becomes the target's value of the same rank.

    Attributes
    ----------
    knots : tuple of (column, source values, target values)
        Source values ascending without ties.
    """

    knots: tuple[tuple[int, Array, Array], ...]

    def move(self, X: Array) -> Array:
        """Return moved source rows, float64 of the same shape; order within a column stays, and so does NaN."""
        moved = np.array(X, dtype=np.float64)
        for column, old, new in self.knots:
            values = moved[:, column]
            moved[:, column] = np.where(np.isnan(values), np.nan, np.interp(values, old, new))
        return moved


def fit_quantile_map(source: Array, target: Array) -> QuantileMap:
    """Match the quantiles of each column that has more than a few values in both domains.

    This is optimal transport in one dimension: of all maps to the target's distribution the one that moves least.
    """
    knots = []
    at = np.linspace(0, 1, N_KNOTS)
    source, target = _some(source), _some(target)
    for column in range(source.shape[1]):
        old, new = (X[~np.isnan(X[:, column]), column] for X in (source, target))
        if min(len(np.unique(old)), len(np.unique(new))) <= FEW_VALUES:
            continue
        values, tie = np.unique(np.quantile(old, at), return_inverse=True)
        reached = np.bincount(tie, weights=np.quantile(new, at)) / np.bincount(tie)
        knots.append((column, values, reached))
    return QuantileMap(tuple(knots))


def _some(X: Array) -> Array:
    return np.asarray(finite(X[:: -(-len(X) // MOST_ROWS) or 1]), dtype=np.float64)
