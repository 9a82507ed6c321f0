"""Which rows a model was trained on: hashes that are kept in its file, so that others can be told from them."""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from automl_cli.features.frame import Frame
from automl_cli.features.matrix import Array
from automl_cli.features.rowhash import salted_hashes

MOST_KEPT = 1_000_000  # hashes: of more rows those below a limit are kept, and only such rows can be told apart
SALT_BYTES = 16
_ALL = 2**64 - 1


@dataclass(frozen=True, eq=False)
class SeenRows:
    """The rows that a model was trained on.

    Attributes
    ----------
    salt : bytes
        Drawn for this model: two models' hashes have nothing in common.
    limit : int
        Hashes up to it are kept.
    hashes : ndarray of shape (n_kept,), uint64
        Ascending; rows that are equal are there as often as in the table.
    """

    salt: bytes
    limit: int
    hashes: Array

    @classmethod
    def of(cls, frame: Frame, y: Array, classes: tuple[str, ...], *, most: int = MOST_KEPT) -> "SeenRows":
        """Hash a table with a salt of its own."""
        salt = secrets.token_bytes(SALT_BYTES)
        return cls(salt, _ALL, np.sort(salted_hashes(frame, y, classes, salt))).first(most)

    def first(self, most: int) -> "SeenRows":
        """Keep about so many hashes, the lowest; only rows in their range can be told apart then."""
        if len(self.hashes) <= most:
            return self
        limit = int(self.hashes[most - 1])
        return SeenRows(self.salt, limit, self.hashes[self.hashes <= np.uint64(limit)])

    def fresh(self, frame: Frame, y: Array, classes: tuple[str, ...]) -> Array:
        """Return the positions of rows that the model has not seen, ascending.

        Of rows that are equal, as many count as seen as the model has seen, the first ones: chance makes equal rows
        too, where columns hold few values.

        Parameters
        ----------
        frame : Frame
            Read by the schema of the model.
        """
        hashes, is_known = self._known(frame, y, classes)
        return np.flatnonzero(~is_known & (hashes <= np.uint64(self.limit)))

    def known(self, frame: Frame, y: Array, classes: tuple[str, ...]) -> Array:
        """Return the positions of rows that the model has surely seen, ascending; see `fresh`."""
        return np.flatnonzero(self._known(frame, y, classes)[1])

    def _known(self, frame: Frame, y: Array, classes: tuple[str, ...]) -> tuple[Array, Array]:
        """Return the rows' hashes, and which of them were seen."""
        hashes = salted_hashes(frame, y, classes, self.salt)
        order = np.argsort(hashes, kind="stable")
        values, first, counts = np.unique(hashes[order], return_index=True, return_counts=True)
        n_seen = np.searchsorted(self.hashes, values, side="right") - np.searchsorted(self.hashes, values, side="left")
        place = np.arange(len(hashes)) - np.repeat(first, counts)  # which of its equals a row is
        is_known = np.zeros(len(hashes), dtype=bool)
        is_known[order] = place < np.repeat(n_seen, counts)
        return hashes, is_known

    def to_bytes(self) -> bytes:
        """Return the hashes, eight bytes each, little-endian."""
        return np.ascontiguousarray(self.hashes, dtype="<u8").tobytes()

    def to_json(self) -> dict[str, Any]:
        """Return what else is needed to read them."""
        return {"salt": self.salt.hex(), "limit": f"{self.limit:016x}"}

    @classmethod
    def from_parts(cls, data: Mapping[str, Any], content: bytes) -> "SeenRows":
        """Read what the two above gave.

        Raises
        ------
        ValueError, KeyError, TypeError
            It is not that.
        """
        salt, limit = bytes.fromhex(data["salt"]), int(data["limit"], 16)
        if not 1 <= len(salt) <= 64 or not 0 <= limit <= _ALL or len(content) % 8:
            raise ValueError("not what was written")
        hashes = np.frombuffer(content, dtype="<u8").astype(np.uint64)
        if (hashes[1:] < hashes[:-1]).any():
            raise ValueError("not in order")
        return cls(salt, limit, hashes)
