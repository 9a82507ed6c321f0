"""What was learned of all rows, labelled or not, as columns behind an encoding's own.

The files of `SharedFeatures` lie flat in an encoder's folder, each with a prefix.
"""

import functools
import hashlib
import json
import shutil
import threading
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from automl_cli.errors import BadArtifact
from automl_cli.features.encodings import Encoder, Encoding
from automl_cli.features.frame import Frame
from automl_cli.features.matrix import Array, Matrix, Source, as_matrix
from automl_cli.features.native import check_schema
from automl_cli.features.store import ARRAYS, HEADER, HINT
from automl_cli.transfer.features import SharedFeatures

PREFIX = "shared_"
SCALE = f"{PREFIX}scale.json"
FILES = (f"{PREFIX}{HEADER}", f"{PREFIX}{ARRAYS}", SCALE)
MOST_HELD = 4  # in a process


@dataclass(frozen=True, eq=False)
class SharedColumns:
    """Features that need no labels, as a model sees them.

    Attributes
    ----------
    centre, scale : ndarray of shape (n_columns,)
        They are brought to mean 0 and variance 1: linear models are shrunk alike then.
    """

    features: SharedFeatures
    centre: Array
    scale: Array
    last: threading.local = field(default_factory=threading.local, repr=False)

    @classmethod
    def of(cls, features: SharedFeatures, frame: Frame) -> "SharedColumns":
        """Scale features by some rows."""
        raw = _whole(features, frame)
        scale = raw.std(axis=0)
        return cls(features, raw.mean(axis=0), np.where(scale > 0, scale, 1.0))

    def columns_of(self, frame: Frame) -> Array:
        """Return float32 of shape (n_rows, n_columns) without missing values; the encoding's own columns have these.

        The answer for the last frame is kept: many encoders of one model ask for the same rows.
        """
        last = getattr(self.last, "asked", None)
        if last is None or last[0] is not frame:
            check_schema(frame, self.features.schema)
            found = np.asarray((_whole(self.features, frame) - self.centre) / self.scale, dtype=np.float32)
            self.last.asked = last = (frame, found)
        answer: Array = last[1]
        return answer

    def save(self, folder: Path) -> None:
        """Write into an existing folder."""
        with TemporaryDirectory(prefix="automl-") as name:
            self.features.save(Path(name))
            for file in (HEADER, ARRAYS):
                shutil.copyfile(Path(name) / file, folder / f"{PREFIX}{file}")
        (folder / SCALE).write_text(json.dumps({"centre": self.centre.tolist(), "scale": self.scale.tolist()}))


def _whole(features: SharedFeatures, frame: Frame) -> Array:
    return np.nan_to_num(features.transform(frame).astype(np.float64))


@dataclass(frozen=True)
class SharedEncoder:
    """An encoder whose last columns are shared features."""

    base: Encoder
    shared: SharedColumns

    def transform(self, frame: Frame) -> Matrix:
        """Encode rows; see `Encoder`."""
        return with_columns(self.base.transform(frame), self.shared.columns_of(frame))

    def sources(self) -> tuple[Source, ...]:
        """Return the source of each feature."""
        return (*self.base.sources(), *self.shared.features.sources())


def with_columns(matrix: Matrix, columns: Array) -> Matrix:
    """Return a matrix with more features behind its own."""
    return as_matrix(np.hstack([matrix.X, columns]), matrix.categorical)


def shared_encoding(name: str, base: Encoding) -> Encoding:
    """Return the encoding that a model is opened with; how it is made is the run's affair."""

    def load(folder: Path) -> SharedEncoder:
        return SharedEncoder(base.load(folder), read_shared(folder))

    return replace(base, name=name, load=load)


def read_shared(folder: Path) -> SharedColumns:
    """Read what `SharedColumns.save` wrote; the last few are kept, for encoders that share them.

    Raises
    ------
    BadArtifact
        Anything is malformed.
    """
    try:
        digest = hashlib.sha256()
        for name in FILES:
            digest.update(hashlib.sha256((folder / name).read_bytes()).digest())
    except OSError as error:
        raise BadArtifact("the shared features cannot be read", hint=HINT) from error
    held, key = _held(), digest.hexdigest()
    if key not in held:
        if len(held) >= MOST_HELD:
            held.clear()
        held[key] = _parse(folder)
    return held[key]


@functools.lru_cache(maxsize=1)
def _held() -> dict[str, SharedColumns]:
    """Return the shared features of this process; they are not changed once they are read."""
    return {}


def _parse(folder: Path) -> SharedColumns:
    with TemporaryDirectory(prefix="automl-") as name:
        for file in (HEADER, ARRAYS):
            shutil.copyfile(folder / f"{PREFIX}{file}", Path(name) / file)
        features = SharedFeatures.load(Path(name))
    n_columns = len(features.sources())
    try:
        data = json.loads((folder / SCALE).read_text())
        centre, scale = (np.array(data[key], dtype=np.float64) for key in ("centre", "scale"))
        if centre.shape != (n_columns,) or scale.shape != (n_columns,):
            raise ValueError("a scale of other columns")
        if not (np.isfinite(centre).all() and np.isfinite(scale).all() and (scale > 0).all()):
            raise ValueError("a scale that is none")
    except (ValueError, KeyError, TypeError, RecursionError, OverflowError) as error:
        raise BadArtifact("the scale of the shared features cannot be read", hint=HINT) from error
    return SharedColumns(features, centre, scale)
