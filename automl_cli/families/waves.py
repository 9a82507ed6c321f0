"""Periodic embeddings of numbers: what lets a dense network bend sharply where a value changes its meaning."""

import math
from dataclasses import dataclass

import numpy as np

from automl_cli.features.matrix import Array

N_WAVES = 16
N_EMBEDDED = 3
MOST_COLUMNS = 64  # beyond that the network has enough to look at, and the cosines cost more than the layers
SPREAD = 0.1  # standard deviation of the first frequencies, in turns per unit of a scaled column
FREQUENCY_RATE = 0.1  # frequencies and phases move slower than everything else


@dataclass(frozen=True)
class Waves:
    """Each number ``x`` gets ``mix.T @ cos(2 pi frequency x + phase) + shift`` beside it: PBLD of RealMLP [1]_, [2]_.

    Attributes
    ----------
    frequency, phase : ndarray of shape (n_columns, 1, N_WAVES)
    mix : ndarray of shape (n_columns, N_WAVES, N_EMBEDDED)
    shift : ndarray of shape (n_columns, 1, N_EMBEDDED)

    References
    ----------
    .. [1] Holzmüller, Grinsztajn, Steinwart, Better by default: strong pre-tuned MLPs and boosted trees on tabular
       data, NeurIPS 2024.
    .. [2] Gorishniy, Rubachev, Babenko, On embeddings for numerical features in tabular deep learning, NeurIPS 2022.
    """

    frequency: Array
    phase: Array
    mix: Array
    shift: Array

    @staticmethod
    def shapes(n_columns: int) -> tuple[tuple[int, int, int], ...]:
        """Return the shapes of the parameters, in the order of the attributes."""
        waves, mixed = (n_columns, 1, N_WAVES), (n_columns, N_WAVES, N_EMBEDDED)
        return waves, waves, mixed, (n_columns, 1, N_EMBEDDED)

    def draw(self, rng: np.random.Generator) -> None:
        """Fill the parameters with what training starts from."""
        self.frequency[:] = SPREAD * rng.standard_normal(self.frequency.shape, dtype=np.float32)
        self.phase[:] = math.pi * (2 * rng.random(self.phase.shape, dtype=np.float32) - 1)
        self.mix[:] = (2 * rng.random(self.mix.shape, dtype=np.float32) - 1) / np.float32(math.sqrt(N_WAVES))
        self.shift[:] = 0.0

    def angles(self, x: Array) -> Array:
        """Return the angles of columns of shape (n_rows, n_columns), as (n_columns, n_rows, N_WAVES)."""
        turns: Array = np.ascontiguousarray(x.T)[:, :, None] * (self.frequency * x.dtype.type(2 * math.pi))
        turns += self.phase
        return turns

    def embed(self, cosines: Array) -> Array:
        """Return the embedding of shape (n_rows, n_columns * N_EMBEDDED) of the cosines of `angles`."""
        mixed = cosines @ self.mix + self.shift
        return np.asarray(mixed.transpose(1, 0, 2).reshape(mixed.shape[1], -1))

    def gradient(self, x: Array, angles: Array, cosines: Array, back: Array, to: "Waves") -> Array:
        """Write the parameters' gradient into ``to`` and return the slope in ``x``, shape (n_rows, n_columns).

        Parameters
        ----------
        back : ndarray of shape (n_rows, n_columns * N_EMBEDDED)
            The loss's slope in the embedding.
        """
        n_rows, n_columns = x.shape
        whole = x.dtype.type(2 * math.pi)
        slope = np.ascontiguousarray(back.reshape(n_rows, n_columns, N_EMBEDDED).transpose(1, 0, 2))
        ones = np.ones((1, n_rows), dtype=x.dtype)  # a product sums faster than numpy's sum over this axis
        np.matmul(cosines.transpose(0, 2, 1), slope, out=to.mix)
        np.matmul(ones, slope, out=to.shift)
        turning = slope @ -self.mix.transpose(0, 2, 1)
        turning *= np.sin(angles)
        np.matmul(ones, turning, out=to.phase)
        np.matmul(np.ascontiguousarray(x.T)[:, None, :], turning, out=to.frequency)
        to.frequency[:] *= whole
        slopes = turning @ self.frequency.transpose(0, 2, 1)
        return np.asarray(slopes[:, :, 0].T * whole)


def numbers_among(X: Array) -> Array:
    """Return the columns worth an embedding, int64, ascending: those with more than two values; none of many.

    >>> numbers_among(np.array([[0.0, 0.5], [1.0, 0.7], [1.0, 0.1]]))
    array([1])
    """
    low, high = X.min(axis=0, initial=np.inf), X.max(axis=0, initial=-np.inf)
    columns = np.flatnonzero(((low != X) & (high != X)).any(axis=0))
    return columns if len(columns) <= MOST_COLUMNS else columns[:0]
