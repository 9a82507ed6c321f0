"""How a fitted encoder lies on disk: a JSON header that says which arrays must be there, and an uncompressed npz.

Reading is a trust boundary. Nothing is unpickled; sizes in the header, in the archive's directory and on disk must
agree before memory is taken; every array is checked for type, shape, range and finiteness by the part that asks for it.
"""

import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from automl_cli.errors import BadArtifact
from automl_cli.features.frame import FrameSchema
from automl_cli.features.matrix import Array

HEADER = "encoder.json"
ARRAYS = "encoder.npz"
VERSION = 1
HINT = "the model file is damaged or was not written by automl"


@dataclass(frozen=True)
class Stored:
    """What was read, not yet believed: parts take their arrays through `array`."""

    schema: FrameSchema
    arrays: Mapping[str, Array]

    def array(
        self,
        name: str,
        dtype: type,
        shape: tuple[int | None, ...],
        *,
        low: float = -np.inf,
        high: float = np.inf,
        missing: bool = False,
    ) -> Array:
        """Return one array, checked.

        Parameters
        ----------
        shape : tuple
            None stands for any length.
        low, high : float
            Every value must lie between them, both included.
        missing : bool
            Whether NaN may occur.

        Raises
        ------
        BadArtifact
            The array is not there or is not what it should be.
        """
        array = self.arrays.get(name)
        if array is None or array.dtype != np.dtype(dtype) or array.ndim != len(shape):
            raise BadArtifact(f"the encoder's array {name!r} is missing or of another type", hint=HINT)
        if any(want is not None and want != have for want, have in zip(shape, array.shape, strict=True)):
            raise BadArtifact(f"the encoder's array {name!r} has the shape {array.shape}", hint=HINT)
        values = array[~np.isnan(array)] if missing else array
        if not bool(np.all(np.isfinite(values) & (values >= low) & (values <= high))):
            raise BadArtifact(f"the encoder's array {name!r} holds values out of range", hint=HINT)
        return array


def write_arrays(folder: Path, encoding: str, schema: FrameSchema, arrays: Mapping[str, Array]) -> None:
    """Write an encoder's schema and arrays into an existing folder."""
    whole = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    header = {
        "encoding": encoding,
        "version": VERSION,
        "schema": schema.to_json(),
        "arrays": {name: {"dtype": array.dtype.str, "shape": list(array.shape)} for name, array in whole.items()},
    }
    (folder / HEADER).write_text(json.dumps(header))
    np.savez(folder / ARRAYS, allow_pickle=False, **whole)


def read_arrays(folder: Path, encoding: str) -> Stored:
    """Read what `write_arrays` wrote.

    Raises
    ------
    BadArtifact
        A file is missing, malformed, of another encoding or version, or does not hold what its header says.
    """
    try:
        header = json.loads((folder / HEADER).read_text())
        if header["encoding"] != encoding or header["version"] != VERSION:
            raise BadArtifact(f"the encoder is not of the kind {encoding!r}, version {VERSION}", hint=HINT)
        schema = FrameSchema.from_json(header["schema"])
        return Stored(schema, _read_npz(folder / ARRAYS, header["arrays"]))
    except BadArtifact:
        raise
    # what json, zipfile and numpy raise for malformed input
    except (OSError, ValueError, KeyError, TypeError, AttributeError, EOFError, RuntimeError) as error:
        raise BadArtifact(f"the encoder in {folder.name!r} cannot be read", hint=HINT) from error
    except (zipfile.BadZipFile, SyntaxError, OverflowError) as error:
        raise BadArtifact(f"the encoder in {folder.name!r} cannot be read", hint=HINT) from error


def _read_npz(path: Path, wanted: Mapping[str, Any]) -> dict[str, Array]:
    with zipfile.ZipFile(path) as archive:
        members = {info.filename: info for info in archive.infolist()}
        stored = all(info.compress_type == zipfile.ZIP_STORED for info in members.values())
        # uncompressed and no larger than the file itself: no archive can ask for more memory than it weighs
        if not stored or sum(info.file_size for info in members.values()) > path.stat().st_size:
            raise BadArtifact("the encoder's arrays claim more than the file holds", hint=HINT)
        return {name: _read_npy(archive, members[f"{name}.npy"], spec) for name, spec in wanted.items()}


def _read_npy(archive: zipfile.ZipFile, member: zipfile.ZipInfo, spec: Mapping[str, Any]) -> Array:
    with archive.open(member) as file:
        if np.lib.format.read_magic(file) != (1, 0):
            raise BadArtifact(f"the encoder's {member.filename} is of an unknown format", hint=HINT)
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
        sizes_fit = file.tell() + dtype.itemsize * int(np.prod(shape, dtype=object)) == member.file_size
        if fortran or dtype.hasobject or not sizes_fit or dtype.str != spec["dtype"] or list(shape) != spec["shape"]:
            raise BadArtifact(f"the encoder's {member.filename} is not what its header says", hint=HINT)
        return np.frombuffer(file.read(), dtype=dtype).reshape(shape)
