"""Fold folders -> one model file, there whole or not at all."""

import functools
import hashlib
import io
import json
import math
import platform
import random
import time
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO

from automl_cli import __version__
from automl_cli.artifact.check import mark_checked
from automl_cli.artifact.container import (
    BLOBS,
    CHUNK_BYTES,
    MANIFEST,
    MANIFEST_DIGEST,
    MAX_BYTES,
    MAX_MANIFEST_BYTES,
    too_large,
)
from automl_cli.artifact.manifest import format_of, parse_manifest
from automl_cli.artifact.signing import Signature, Signer, add_signature
from automl_cli.errors import AutomlError, TooLarge
from automl_cli.files import write_whole
from automl_cli.trial import Pipeline

Attachment = tuple[Mapping[str, Any], bytes]
NOTHING: Mapping[str, Attachment] = MappingProxyType({})
LIBRARIES = ("numpy", "pyarrow", "scikit-learn", "lightgbm", "xgboost", "catboost", "torch")
MOST_INDENTED = 2_000  # columns
SAMPLE_BYTES = 1 << 16
RELATIVE_SPEED = 0.7  # of models and the disk, beside what is tried of this machine
MOST_SAMPLES = 8  # of a file whose packed size is asked for
ENTRY_BYTES = 300  # of a zip file, beside the content: two names of 70 characters, headers and a line of the manifest
WORTH_DEFLATING = 0.9  # of the sample: below it the time of unpacking buys something


@dataclass(frozen=True)
class Member:
    """A pipeline that goes into the model.

    Attributes
    ----------
    number : int
        Of its trial.
    weight : float
        Its share of the prediction; those of all members sum to one.
    loss : float
        Mean over its folds.
    folds : tuple of Path
        Folders ``fold_0``, ...; each holds ``encoder/`` and ``model/`` as their save functions left them.
    """

    number: int
    pipeline: Pipeline
    weight: float
    loss: float
    folds: tuple[Path, ...]


def write_artifact(
    path: Path,
    manifest: Mapping[str, Any],
    members: Sequence[Member],
    *,
    attached: Mapping[str, Attachment] = NOTHING,
    compress: bool = True,
    signer: Signer | None = None,
    most_bytes: int | None = None,
) -> None:
    """Write a model file; what stood at ``path`` is replaced once the new one is complete and on disk.

    Files with the same content, such as the encoders that members share, are stored once. Equal content gives
    equal bytes: no time is written but the one in the manifest.

    Parameters
    ----------
    manifest : Mapping
        ``created``, ``task`` (kind, target, classes, metric), ``schema`` and ``frame``; whatever else `inspect`
        should show. Numbers that are not finite become null.
    members : sequence of Member
    attached : mapping of manifest key to (JSON object, bytes)
        What readers need beside the members, see `Artifact.attached`; the bytes become a blob.
    compress : bool
        Whether to deflate what is worth it, which takes most of the time.
    signer : Signer or None
        Whose signature the file bears from the beginning.
    most_bytes : int or None
        What the file may hold.

    Raises
    ------
    NoSpace
        The disk or a limit is full; the old file is untouched and nothing is left beside it.
    TooLarge
        It would hold more than ``most_bytes``; the old file is untouched.
    UsageError
        The folder is missing or cannot be written to.
    AutomlError
        The models are too large for one file.
    """
    blobs: dict[str, Path | bytes] = {}
    data = {
        **manifest,
        **{key: _attached(attachment, blobs) for key, attachment in attached.items()},
        "format": format_of(manifest),
        "product": __version__,
        "libraries": library_versions(),
        "members": [_entry(member, blobs) for member in sorted(members, key=lambda member: member.number)],
    }
    text = manifest_text(data)
    digest = hashlib.sha256(text).hexdigest()
    parse_manifest(text, digest)  # what no reader would accept must not replace a model that works
    n_bytes = len(text) + sum(map(_size, blobs.values()))
    if n_bytes > MAX_BYTES or len(text) > MAX_MANIFEST_BYTES:
        raise AutomlError(
            f"the model would hold {n_bytes / 2**30:.1f} GiB, more than one file may",
            hint="fit with --exclude random_forest,extra_trees",
        )
    signature = None if signer is None else signer.sign(digest)
    with write_whole(path) as file:
        write_zip(file, text, digest, blobs, signature, compress=compress)
        if too_large(n_bytes, file.tell()):
            # So regular that readers would take it for a bomb: stored as it is.
            file.seek(0)
            file.truncate()
            write_zip(file, text, digest, blobs, signature, compress=False)
        written = file.seek(0, io.SEEK_END)
        if most_bytes is not None and written > most_bytes:
            problem = f"the model takes {written / 1e6:.3g} MB, more than {most_bytes / 1e6:.3g} MB"
            raise TooLarge(problem, n_bytes=written)
    mark_checked(digest)


def manifest_text(data: Mapping[str, Any]) -> bytes:
    """Return a manifest as it stands in a file."""
    # Indented for people to read, unless there is so much that nobody does: json then takes ten times as long.
    indent = 1 if len(data["schema"]) <= MOST_INDENTED else None
    return json.dumps(_plain(data), ensure_ascii=False, allow_nan=False, indent=indent).encode("utf-8", "surrogatepass")


def packed_bytes(folder: Path) -> int:
    """Return what the files of a folder take in a model file, of large ones by a few samples; rather too much."""
    return sum(_packed(file) + ENTRY_BYTES for file in folder.rglob("*") if file.is_file())


def _packed(file: Path) -> int:
    n_bytes = file.stat().st_size
    starts = range(0, n_bytes, SAMPLE_BYTES)
    # Pieces that are deflated one by one share nothing, and take a little more than all in one.
    seen = packed = 0
    with file.open("rb") as content:
        for start in starts[:: max(1, len(starts) // MOST_SAMPLES)]:
            content.seek(start)
            piece = content.read(SAMPLE_BYTES)
            seen, packed = seen + len(piece), packed + len(zlib.compress(piece, 1))
            if start == 0 and packed > WORTH_DEFLATING * seen:
                return n_bytes  # it will be stored as it is
    return min(n_bytes, -(-n_bytes * packed // seen)) if seen else 0


@functools.cache
def packed_per_second() -> float:
    """Return how many bytes of models are hashed, deflated and written in a second, measured once, slow on purpose.

    What is tried is half random and half zeros, about as hard as models are; at most 50 MB/s are believed.
    """
    sample = random.Random(0).randbytes(SAMPLE_BYTES) + bytes(SAMPLE_BYTES)
    taken = []
    for _ in range(3):
        began = time.thread_time()  # workers that are busy meanwhile will not be at the end
        hashlib.sha256(sample)
        zlib.compress(sample, 1)
        taken.append(time.thread_time() - began)
    return min(50e6, RELATIVE_SPEED * len(sample) / max(min(taken), 1e-6))


def library_versions() -> dict[str, str]:
    """Return the versions of what can be inside a model, without importing any of it."""
    versions = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def _attached(attachment: Attachment, blobs: dict[str, Path | bytes]) -> dict[str, Any]:
    entry, content = attachment
    digest = hashlib.sha256(content).hexdigest()
    blobs[digest] = content
    return {**entry, "blob": digest}


def _size(blob: Path | bytes) -> int:
    return len(blob) if isinstance(blob, bytes) else blob.stat().st_size


def _entry(member: Member, blobs: dict[str, Path | bytes]) -> dict[str, Any]:
    return {
        "number": member.number,
        **member.pipeline.to_json(),
        "weight": member.weight,
        "loss": member.loss,
        "folds": [{part: _digests(fold / part, blobs) for part in ("encoder", "model")} for fold in member.folds],
    }


def _digests(folder: Path, blobs: dict[str, Path | bytes]) -> dict[str, str]:
    """Return relative name -> digest of the files in a folder, and note where each content lies."""
    digests = {}
    for file in sorted(file for file in folder.rglob("*") if file.is_file()):
        with file.open("rb") as content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()
        digests[file.relative_to(folder).as_posix()] = digest
        blobs.setdefault(digest, file)
    return digests


def write_zip(
    file: BinaryIO,
    text: bytes,
    digest: str,
    blobs: Mapping[str, Path | bytes],
    signature: Signature | None,
    *,
    compress: bool,
) -> None:
    """Write the entries of a model file: manifest, blobs by their digest, a signature."""
    # Entries opened by name carry 1980-01-01, so that the bytes depend on the content alone.
    method = zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED
    with zipfile.ZipFile(file, "w", method, compresslevel=1) as archive:
        for name, content in ((MANIFEST, text), (MANIFEST_DIGEST, digest.encode() + b"\n")):
            with archive.open(name, "w") as entry:
                entry.write(content)
        for name in sorted(blobs):
            _write_blob(archive, name, blobs[name])
        if signature is not None:
            add_signature(archive, signature)


def _write_blob(archive: zipfile.ZipFile, name: str, blob: Path | bytes) -> None:
    with io.BytesIO(blob) if isinstance(blob, bytes) else blob.open("rb") as content:
        sample = content.read(SAMPLE_BYTES)
        content.seek(0)
        target: str | zipfile.ZipInfo = BLOBS + name
        if len(zlib.compress(sample, 1)) > WORTH_DEFLATING * len(sample):
            target = zipfile.ZipInfo(BLOBS + name)
        with archive.open(target, "w", force_zip64=_size(blob) > 1 << 30) as entry:
            while chunk := content.read(CHUNK_BYTES):
                entry.write(chunk)


def _plain(value: Any) -> Any:
    """Return JSON values: mappings, lists, and null for numbers that are not finite."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
