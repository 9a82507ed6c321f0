"""Numeric columns in single precision, without losing what tells rows apart."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from automl_cli.features import levels
from automl_cli.features.matrix import Array
from automl_cli.features.store import Stored

# far from float32's end, so that libraries can add and square without overflow warnings
LARGEST = 1e18


@dataclass(frozen=True, eq=False)
class Numbers:
    """Numbers as they are, NaN included; those in a narrow range far from zero count from their least.

    Seconds since 1970 and Julian dates would lose what tells them apart. Where the range is narrow the difference is
    exact (Sterbenz, Floating-point computation, 1974), so that nothing is lost by it either.

    Attributes
    ----------
    shift : ndarray of shape (n_numeric,), float64
        Subtracted; zero where the numbers are not so.
    """

    shift: Array

    @classmethod
    def fit(cls, numbers: Array) -> "Numbers":
        """Learn shifts from training numbers of shape (n_rows, n_numeric)."""
        if not numbers.size:
            return cls(np.zeros(numbers.shape[1]))
        low, high = np.fmin.reduce(numbers, axis=0), np.fmax.reduce(numbers, axis=0)
        size = np.fmax(np.abs(low), np.abs(high))
        with np.errstate(over="ignore"):
            narrow = (low < high) & (size < LARGEST) & (high - low < size / 4)
        return cls(np.where(narrow, low, 0.0))

    def write(self, out: Array, numbers: Array) -> None:
        """Fill float32 ``out`` of shape (n_rows, n_numeric)."""
        for rows in levels.row_blocks(*numbers.shape):
            out[rows] = np.clip(numbers[rows] - self.shift, -LARGEST, LARGEST)

    def arrays(self) -> Mapping[str, Array]:
        """Return what `read` needs."""
        return {"numbers.shift": self.shift}

    @classmethod
    def read(cls, stored: Stored) -> "Numbers":
        """Read and check what `arrays` gave; raises `BadArtifact`."""
        return cls(stored.array("numbers.shift", np.float64, (len(stored.schema.numeric),), low=-LARGEST, high=LARGEST))
