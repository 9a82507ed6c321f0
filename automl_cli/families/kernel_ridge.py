"""Kernel ridge regression with leave-one-out predictions in closed form, and its gradients.

The kernel is exp(-(d / L)^p) of a distance d between transformed rows: p = 1 is Laplace's, p = 2 the Gaussian one, and
it is positive definite for all p up to 2 (Schoenberg 1938).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from automl_cli.features.matrix import Array

_NEAR = 1e-10
"""Pairs whose squared distance is below this part of L^2 are one place, at which the kernel has no slope."""
_SLACK = 1e-8
_ROWS_AT_ONCE = 1_024


@dataclass(frozen=True)
class Kernel:
    """exp(-(d / bandwidth)^exponent).

    Attributes
    ----------
    bandwidth : float
        In the units of the transformed rows.
    exponent : float
        Above 0, at most 2.
    """

    bandwidth: float
    exponent: float

    def between(self, A: Array, B: Array) -> Array:
        """Return the kernel of each row of ``A`` with each of ``B``, float64 of shape (n_a, n_b)."""
        return self.of(squared_distances(A, B))

    def of(self, squares: Array) -> Array:
        """Return the kernel of squared distances, in their place."""
        squares /= self.bandwidth**2
        raised = _raised(squares, self.exponent)
        return np.asarray(np.exp(np.negative(raised, out=raised), out=raised))

    def slopes(self, squares: Array) -> Array:
        """Return what the difference of two rows has to be multiplied by for the kernel's gradient; 0 at one place."""
        apart = squares > _NEAR * self.bandwidth**2
        scaled = np.where(apart, squares, 1.0) / self.bandwidth**2
        raised = _raised(scaled.copy(), self.exponent)
        found = -self.exponent / self.bandwidth**2 * np.exp(-raised) * raised / scaled
        return np.asarray(np.where(apart, found, 0.0))


def _raised(squares: Array, exponent: float) -> Array:
    """Return distances to a power, in the place of their squares: by roots where these will do, which are quick."""
    if exponent == 2.0:
        return squares
    if exponent == 1.0:
        return np.asarray(np.sqrt(squares, out=squares))
    if exponent == 1.5:
        roots = np.sqrt(squares)
        return np.asarray(np.multiply(roots, np.sqrt(roots, out=squares), out=squares))
    return np.asarray(np.power(squares, 0.5 * exponent, out=squares))


def squared_distances(A: Array, B: Array) -> Array:
    """Return squared Euclidean distances, float64 of shape (n_a, n_b)."""
    found = A @ B.T
    found *= -2.0
    found += np.einsum("ij,ij->i", A, A)[:, None]
    found += np.einsum("ij,ij->i", B, B)
    return np.asarray(np.maximum(found, 0.0, out=found))


def distances_within(Z: Array) -> Array:
    """Return squared distances of rows to one another, exactly 0 to themselves."""
    squares = squared_distances(Z, Z)
    np.fill_diagonal(squares, 0.0)
    return squares


@dataclass(frozen=True)
class Ridge:
    """A solution.

    Attributes
    ----------
    coefficients : ndarray of shape (n_centres, n_columns)
    left_out : ndarray of shape (n_rows, n_columns)
        What each row would have been predicted without itself.
    """

    coefficients: Array
    left_out: Array


def solve(kernel: Array, Y: Array, ridge: float, weight: Array) -> Ridge | None:
    """Minimise sum w (y - f)^2 + ridge |f|^2 over the functions of a kernel.

    Without row i the prediction at it is y_i - a_i / B_ii, with B the inverse of K + ridge / w and a = B y (Rasmussen
    and Williams, Gaussian Processes for Machine Learning, 2006, section 5.4.2).

    Parameters
    ----------
    kernel : ndarray of shape (n_rows, n_rows)
        Of the rows with one another; it is overwritten.
    Y : ndarray of shape (n_rows, n_columns)
    weight : ndarray of shape (n_rows,)
        Above 0, of mean 1.

    Returns
    -------
    Ridge or None
        None where the matrix is singular in float64.
    """
    from scipy.linalg import lapack  # noqa: PLC0415

    kernel[np.diag_indices(len(kernel))] += ridge / weight
    factor, failed = lapack.dpotrf(kernel.T, lower=1, overwrite_a=1, clean=0)
    if failed:
        return None
    coefficients, _ = lapack.dpotrs(factor, Y, lower=1)
    inverse, failed = lapack.dpotri(factor, lower=1, overwrite_c=1)
    if failed:
        return None
    return Ridge(coefficients, Y - coefficients / np.diag(inverse)[:, None])


def solve_with_centres(kernel: Kernel, Z: Array, centres: Array, Y: Array, ridge: float, weight: Array) -> Ridge | None:
    """Do the same over the functions that some rows span, the centres: time and memory grow with the rows alone.

    With k the kernel of a row with the centres, f = k' b, b = A^-1 sum w k y and A = sum w k k' + ridge K (Nystroem's
    approximation; Rudi et al., Less is more, NeurIPS 2015); without row i the prediction is (f_i - h_i y_i) / (1 - h_i)
    with h_i = w_i k' A^-1 k.

    Parameters
    ----------
    Z : ndarray of shape (n_rows, n_features)
    centres : ndarray of shape (n_centres, n_features)
    """
    from scipy.linalg import lapack  # noqa: PLC0415

    blocks = [slice(start, start + _ROWS_AT_ONCE) for start in range(0, len(Z), _ROWS_AT_ONCE)]
    normal = ridge * kernel.of(distances_within(centres))
    normal[np.diag_indices(len(normal))] += _SLACK * len(Z)
    right = np.zeros((len(centres), Y.shape[1]))
    for rows in blocks:
        values = kernel.between(Z[rows], centres)
        weighted = values * weight[rows, None]
        normal += values.T @ weighted
        right += weighted.T @ Y[rows]
    factor, failed = lapack.dpotrf(normal.T, lower=1, overwrite_a=1, clean=0)
    if failed:
        return None
    coefficients, _ = lapack.dpotrs(factor, right, lower=1)
    left_out = np.empty_like(Y)
    for rows in blocks:
        values = kernel.between(Z[rows], centres)
        solved, _ = lapack.dtrtrs(factor, values.T, lower=1)
        influence = np.minimum(weight[rows] * np.einsum("ij,ij->j", solved, solved), 1.0 - 1e-6)[:, None]
        left_out[rows] = (values @ coefficients - influence * Y[rows]) / (1.0 - influence)
    return Ridge(coefficients, left_out)


def gradients(kernel: Kernel, Z: Array, squares: Array, coefficients: Array) -> Iterator[Array]:
    """Yield each column's gradients at the rows, of shape (n_rows, n_features).

    Parameters
    ----------
    squares : ndarray of shape (n_rows, n_rows)
        See `distances_within`.
    coefficients : ndarray of shape (n_rows, n_columns)
    """
    slopes = kernel.slopes(squares)
    for column in coefficients.T:
        pulls = slopes * column
        yield pulls.sum(axis=1)[:, None] * Z - pulls @ Z
