"""Plain arrays on disk: what a model is made of where no native format exists. Reading them trusts nothing."""

import hashlib
import struct
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from automl_cli.errors import BadArtifact
from automl_cli.features.matrix import Array

# What numpy and zipfile raise for files that were damaged, cut or made by somebody else.
_DAMAGE = (
    OSError,
    ValueError,
    KeyError,
    EOFError,
    MemoryError,
    OverflowError,
    NotImplementedError,
    RuntimeError,
    SyntaxError,
    TypeError,
    struct.error,
    zlib.error,
    zipfile.BadZipFile,
)
_MOST_BYTES = 8 * 2**30


@dataclass(frozen=True)
class Expected:
    """What an array has to be.

    Attributes
    ----------
    kinds : str
        Letters of numpy's ``dtype.kind`` that are accepted, such as ``"iu"`` or ``"f"``.
    n_dims : int
        Number of dimensions.
    finite : bool
        Whether NaN and infinities are refused.
    """

    kinds: str
    n_dims: int
    finite: bool = True


def bad_model(path: Path, problem: str) -> BadArtifact:
    """Return the error for a model file that cannot be what we wrote."""
    return BadArtifact(
        f"the model file {path.name} is damaged ({problem})", hint="get a fresh copy of the model, or fit again"
    )


def save_arrays(path: Path, arrays: Mapping[str, Array]) -> None:
    """Write arrays into one uncompressed ``.npz`` file; nothing in it is pickled."""
    with path.open("xb") as file:
        # allow_pickle is a keyword of numpy's own; an array called like it cannot occur here
        np.savez(file, allow_pickle=False, **arrays)


def load_arrays(path: Path, expected: Mapping[str, Expected]) -> dict[str, Array]:
    """Read what `save_arrays` wrote.

    Parameters
    ----------
    expected : Mapping of str to Expected
        The arrays that must be there, no more and no fewer.

    Raises
    ------
    BadArtifact
        The file is missing, cut or damaged, holds other arrays than expected, or objects.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            infos = archive.infolist()
            if sum(info.file_size for info in infos) > _MOST_BYTES:
                raise bad_model(path, "far too large")
            if sorted(info.filename for info in infos) != sorted(f"{name}.npy" for name in expected):
                raise bad_model(path, "other content than expected")
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in expected}
    except _DAMAGE as error:
        raise bad_model(path, "it cannot be read") from error
    for name, want in expected.items():
        array = arrays[name]
        if array.dtype.kind not in want.kinds or array.ndim != want.n_dims:
            raise bad_model(path, f"{name} has another type or shape")
        if want.finite and array.dtype.kind == "f" and not np.isfinite(array).all():
            raise bad_model(path, f"{name} is not finite")
    return arrays


def integer(path: Path, array: Array, low: int, high: int) -> int:
    """Return the one integer in a 0-dimensional array.

    Raises
    ------
    BadArtifact
        It lies outside ``low`` to ``high``, both included.
    """
    value = int(array)
    if not low <= value <= high:
        raise bad_model(path, "a number is out of range")
    return value


def save_native(path: Path, content: bytes | bytearray) -> None:
    """Write a library's own format, and its digest beside it."""
    path.write_bytes(content)
    _digest_of(path).write_text(hashlib.sha256(content).hexdigest() + "\n", encoding="ascii")


def read_native(path: Path, *, starts: bytes) -> bytes:
    """Read what `save_native` wrote.

    Native parsers trust their files: XGBoost crashes on one that was cut, CatBoost reads zeros without a word. The
    digest keeps damage away from them; it says nothing about who made the file.

    Raises
    ------
    BadArtifact
        A file is missing, empty, far too large, changed, or does not start as such files do.
    """
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise bad_model(path, "far too large")
        content, digest = path.read_bytes(), _digest_of(path).read_bytes()
    except OSError as error:
        raise bad_model(path, "it cannot be read") from error
    if not content.startswith(starts) or len(content) <= len(starts):
        raise bad_model(path, "not a model of this kind")
    if digest != hashlib.sha256(content).hexdigest().encode() + b"\n":
        raise bad_model(path, "its content was changed")
    return content


def _digest_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")
