"""The zip file around a model: entries are named, sized and digested before anything in them is believed."""

import hashlib
import os
import re
import shutil
import stat
import struct
import weakref
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from automl_cli.errors import AutomlError, BadArtifact, NoSpace
from automl_cli.files import NO_SPACE

MANIFEST = "manifest.json"
MANIFEST_DIGEST = "manifest.sha256"
BLOBS = "blobs/"

MAX_BYTES = 4 << 30
"""Of all entries together, unpacked."""
MAX_MANIFEST_BYTES = 256 << 20
MAX_RATIO = 100
"""Of all entries together, unpacked over packed; models reach 3 to 10. Deflate alone would allow 1032."""
FREE_BYTES = 64 << 20
"""Small enough to be unpacked whatever the ratio."""
CHUNK_BYTES = 1 << 20

DIGEST = re.compile(r"[0-9a-f]{64}")
_PART = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,99}")

# What zipfile raises for damaged or hostile input, found by flipping bytes: NotImplementedError for an unknown
# method, RuntimeError for an encrypted entry, ValueError and OverflowError for offsets and names.
_ZIP_ERRORS = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    KeyError,
    IndexError,
    NotImplementedError,
    OSError,
    OverflowError,
    RuntimeError,
    ValueError,
)

FOREIGN_HINT = "name a file that automl fit wrote"
DAMAGED_HINT = "copy it again from where it was made, or fit again"


def is_safe_name(name: str) -> bool:
    """Whether a relative name stays inside its folder on every system.

    >>> [is_safe_name(name) for name in ("trees/0.npy", "../up", "/root", "a//b", "c:x", ".hidden")]
    [True, False, False, False, False, False]
    """
    parts = name.split("/")
    return len(parts) <= 8 and all(_PART.fullmatch(part) for part in parts)


def too_large(unpacked: int, packed: int) -> bool:
    """Whether so many bytes unpacked are more than a model file may hold."""
    return unpacked > MAX_BYTES or unpacked > max(FREE_BYTES, MAX_RATIO * packed)


class Container:
    """An open model file whose list of entries has been checked, and nothing else yet.

    The file stays open: a fit that replaces it meanwhile does not disturb who reads the old one. It is closed with
    the object.

    Raises
    ------
    BadArtifact
        Not a file, not readable, not a zip, cut, of another program, or with entries that are not as they must be.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        file = _open(path)
        self._closer = weakref.finalize(self, file.close)
        try:
            archive = zipfile.ZipFile(file)
            entries = archive.infolist()
        except _ZIP_ERRORS as error:
            raise _not_a_zip(file, path) from error
        packed = file.seek(0, 2)
        self._file = file
        self._archive = archive
        self.sizes = {entry.filename: entry.file_size for entry in entries}
        self._check(entries, packed)

    def _check(self, entries: list[zipfile.ZipInfo], packed: int) -> None:
        if MANIFEST not in self.sizes or MANIFEST_DIGEST not in self.sizes:
            raise BadArtifact(f"{self.path} is a zip file, but not a model", hint=FOREIGN_HINT)
        if len(self.sizes) < len(entries):
            raise self.damaged("two entries have one name")
        for entry in entries:
            # A folder's name may differ in the local header; zipfile compares the two when the entry is opened.
            if not is_safe_name(entry.filename) or entry.orig_filename != entry.filename:
                raise self.damaged(f"it holds an entry with the unsafe name {entry.filename[:80]!r}")
            if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) or entry.flag_bits & 1:
                raise self.damaged(f"entry {entry.filename} is encrypted or compressed in an unknown way")
        if too_large(sum(self.sizes.values()), packed):
            raise self.damaged("it unpacks to more than a model may hold")

    def damaged(self, what: str) -> BadArtifact:
        """Return the error for a file that is not as automl wrote it."""
        return BadArtifact(f"{self.path} is damaged: {what}", hint=DAMAGED_HINT)

    def close(self) -> None:
        """Close the file."""
        self._closer()

    def manifest(self) -> tuple[bytes, str]:
        """Return the manifest's bytes and their SHA-256, which agrees with the one stored."""
        if self.sizes[MANIFEST] > MAX_MANIFEST_BYTES:
            raise self.damaged("its manifest is too large")
        if self.sizes[MANIFEST_DIGEST] > 1000:
            raise self.damaged("the digest of its manifest is not one")
        text, stored = self.read(MANIFEST), self.read(MANIFEST_DIGEST)
        digest = hashlib.sha256(text).hexdigest()
        if stored.strip() != digest.encode():
            raise self.damaged("the digest of its manifest differs")
        return text, digest

    def read(self, name: str) -> bytes:
        """Return what an entry holds; whoever asks has looked at its size."""
        return b"".join(self._chunks(name))

    def check_blobs(self, digests: Iterable[str]) -> None:
        """Compare blobs with their digests.

        Raises
        ------
        BadArtifact
            One is missing or differs.
        """
        for digest in sorted(digests):
            found = hashlib.sha256()
            for chunk in self._chunks(BLOBS + digest):
                found.update(chunk)
            if found.hexdigest() != digest:
                raise self.damaged(f"entry {BLOBS}{digest} differs from its digest")

    def copy(self, other: BinaryIO) -> None:
        """Write the whole file, as it is, to another."""
        self._file.seek(0)
        shutil.copyfileobj(self._file, other, CHUNK_BYTES)

    def status(self) -> os.stat_result:
        """Return mode and owner of the file that is open."""
        return os.fstat(self._file.fileno())

    def extract(self, files: Iterable[tuple[str, str]], folder: Path) -> None:
        """Write blobs into a folder; digests are compared before the caller can parse anything.

        Parameters
        ----------
        files : pairs of a safe relative name and a digest
        folder : Path
            Exists, is empty and private.

        Raises
        ------
        BadArtifact
            A blob is missing or differs from its digest.
        NoSpace
            The folder's disk is full.
        """
        for name, digest in files:
            target = folder / name
            found = hashlib.sha256()
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                with target.open("xb") as out:
                    for chunk in self._chunks(BLOBS + digest):
                        found.update(chunk)
                        out.write(chunk)
            except OSError as error:  # of writing: what reading raises has been named already
                raise _no_room(error, folder) from error
            if found.hexdigest() != digest:
                raise self.damaged(f"entry {BLOBS}{digest} differs from its digest")

    def _chunks(self, name: str) -> Iterator[bytes]:
        """Yield an entry in pieces, never more than it declares."""
        left = self.sizes.get(name, 0)
        try:
            with self._archive.open(name) as entry:
                while chunk := entry.read(CHUNK_BYTES):
                    left -= len(chunk)
                    if left < 0:
                        raise self.damaged(f"entry {name} is longer than it says")
                    yield chunk
        except _ZIP_ERRORS as error:
            raise self.damaged(f"entry {name} cannot be read") from error
        if left:
            raise self.damaged(f"entry {name} is shorter than it says")


def _open(path: Path) -> BinaryIO:
    try:
        # Opening a named pipe would wait for a writer.
        if not stat.S_ISREG(path.stat().st_mode):
            raise BadArtifact(f"{path} is not a model file", hint=FOREIGN_HINT)
        return path.open("rb")
    except FileNotFoundError as error:
        raise BadArtifact(f"no model file {path}", hint="check its name, or make it with automl fit") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise BadArtifact(f"cannot read the model file {path} ({reason})", hint="check its permissions") from error


def _not_a_zip(file: BinaryIO, path: Path) -> BadArtifact:
    file.seek(0)
    if file.read(4) == b"PK\x03\x04":
        return BadArtifact(f"{path} is damaged: its end is missing or unreadable", hint=DAMAGED_HINT)
    return BadArtifact(f"{path} is not a model file", hint=FOREIGN_HINT)


def _no_room(error: OSError, folder: Path) -> AutomlError:
    hint = "free some space there, or set TMPDIR to another folder"
    if error.errno in NO_SPACE:
        return NoSpace(f"no space to unpack the model in {folder.parent}", hint=hint)
    return AutomlError(f"cannot unpack the model in {folder.parent} ({error.strerror or error})", hint=hint)
