"""What a classifier said of some of its training rows, kept in its file: so that other shares can be found later."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from automl_cli.features.matrix import Array

MOST_CELLS = 100_000  # rows times classes
MOST_CLASSES = 50


@dataclass(frozen=True, eq=False)
class KeptOutputs:
    """Probabilities of rows that the models had not seen, before any correction for other shares.

    Attributes
    ----------
    places : ndarray of shape (n_kept,), int32
        Of the rows among those of the model's `Reference`, ascending.
    y : ndarray of shape (n_kept,), int32
        Class indices.
    outputs : ndarray of shape (n_kept, n_classes), float32
    shares : ndarray of shape (n_classes,)
        Of the classes among all rows.
    means : ndarray of shape (n_classes, n_classes)
        The mean probabilities of all rows of each class.
    """

    places: Array
    y: Array
    outputs: Array
    shares: Array
    means: Array

    @classmethod
    def of(cls, rows: Array, outputs: Array, y: Array, sampled: Array) -> "KeptOutputs | None":
        """Measure what was said of all rows, and keep it of those that are sampled; None where there are many classes.

        Parameters
        ----------
        rows : ndarray of shape (n_rows,)
            Positions in the table of what was said.
        sampled : ndarray of shape (n_sampled,), ascending
            Positions in the table of the rows of the reference.
        """
        n_classes = outputs.shape[1]
        if n_classes > MOST_CLASSES or not len(rows):
            return None
        position = np.full(max(int(rows.max()), int(sampled.max())) + 1, -1, dtype=np.int64)
        position[rows] = np.arange(len(rows))
        places = np.flatnonzero(position[sampled] >= 0)
        most = MOST_CELLS // n_classes
        if len(places) > most:
            places = places[np.arange(most) * len(places) // most]
        kept = position[sampled[places]]
        counts = np.bincount(y, minlength=n_classes)
        means = np.zeros((n_classes, n_classes))
        np.add.at(means, y, outputs)
        means /= np.maximum(counts, 1)[:, None]
        said = np.asarray(outputs[kept], dtype=np.float32)
        return cls(places.astype(np.int32), y[kept].astype(np.int32), said, counts / len(y), means)

    def to_json(self) -> dict[str, Any]:
        """Return all but the rows as JSON values."""
        return {"n_rows": len(self.y), "shares": self.shares.tolist(), "means": self.means.tolist()}

    def to_bytes(self) -> bytes:
        """Return places, classes and probabilities of the rows, little-endian."""
        arrays = (self.places.astype("<i4"), self.y.astype("<i4"), self.outputs.astype("<f4"))
        return b"".join(np.ascontiguousarray(array).tobytes() for array in arrays)

    @classmethod
    def from_parts(cls, data: Mapping[str, Any], content: bytes) -> "KeptOutputs":
        """Read what `to_json` and `to_bytes` gave.

        Raises
        ------
        ValueError, KeyError, TypeError
            It is not that.
        """
        n_rows, shares = int(data["n_rows"]), np.array(data["shares"], dtype=np.float64)
        means = np.array(data["means"], dtype=np.float64)
        if shares.ndim != 1 or not 2 <= len(shares) <= MOST_CLASSES or means.shape != (len(shares), len(shares)):
            raise ValueError("shares or means of another shape")
        if n_rows < 0 or len(content) != n_rows * (8 + 4 * len(shares)):
            raise ValueError("rows of another size")
        places, y = np.frombuffer(content[: 8 * n_rows], dtype="<i4").reshape(2, n_rows)
        outputs = np.frombuffer(content[8 * n_rows :], dtype="<f4").reshape(n_rows, len(shares))
        for probabilities in (shares, means, outputs):
            if not ((probabilities >= 0) & (probabilities <= 1 + 1e-6)).all():
                raise ValueError("no probabilities")
        if n_rows and (y.min() < 0 or y.max() >= len(shares) or places[0] < 0 or (np.diff(places) <= 0).any()):
            raise ValueError("classes or rows that are not there")
        if n_rows and not np.allclose(outputs.sum(axis=1), 1.0, atol=1e-3):
            raise ValueError("probabilities that do not sum to one")
        return cls(places, y, outputs, shares, means)
