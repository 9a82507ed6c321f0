"""From a path or stdin to plain UTF-8 bytes that can be opened again: decompressed, transcoded, checked."""

import bz2
import codecs
import contextlib
import gzip
import hashlib
import io
import lzma
import os
import shutil
import stat
import sys
import tempfile
import threading
import zipfile
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
import pyarrow as pa

from automl_cli.errors import BadData, NoSpace
from automl_cli.table.schema import Notice, count

CHUNK = 1 << 20
IN_MEMORY = 64 << 20
"""Bytes of a decompressed or piped table that are kept in memory; what is longer goes to an unnamed temporary file."""

BEYOND_DOUBT = 20
"""With so many letters that are UTF-8 to each byte that is not, a file is UTF-8: in Latin-1 hardly two bytes agree."""
REPLACED = "\ufffd"

# Longer marks first: the mark of UTF-16 begins that of UTF-32.
MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
FOREIGN = (
    (b"%PDF", "a PDF document"),
    (b"SQLite format 3\0", "an SQLite database"),
    (b"\xd0\xcf\x11\xe0", "an old Excel or Word file"),
    (b"\x89PNG", "a picture"),
    (b"\x7fELF", "a program"),
    (b"\x89HDF", "an HDF5 file"),
    (b"ARROW1", "an Arrow file"),
    (b"7z\xbc\xaf", "a 7z archive"),
    (b"Rar!", "a RAR archive"),
)


@dataclass(frozen=True)
class Content:
    """The bytes of a table, which can be opened as often as needed.

    Attributes
    ----------
    name : str
        What the user knows it by; opens every error about it.
    parquet : bool
        Whether this is Parquet rather than text.
    n_quotes : int
        How many ``"`` it holds: 0 means that no cell is quoted, an odd number that one may be open at the end.
    """

    name: str
    parquet: bool
    n_bytes: int
    n_quotes: int
    opener: Callable[[], BinaryIO]
    notices: tuple[Notice, ...] = ()

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the bytes, in hex; worked out when it is first asked for, see also `start_hashing`."""
        return self._hashing.result()

    def start_hashing(self) -> None:
        """Work the fingerprint out beside what follows: for those who will ask for it, which predicting does not."""
        _ = self._hashing

    @cached_property
    def _hashing(self) -> Future[str]:
        pool = ThreadPoolExecutor(1)
        hashing = pool.submit(_digest, self.opener)
        pool.shutdown(wait=False)
        return hashing

    def open(self, offset: int = 0) -> BinaryIO:
        """Open the bytes at ``offset``, which counts from behind a byte order mark."""
        stream = self.opener()
        skip = len(codecs.BOM_UTF8) if stream.read(3) == codecs.BOM_UTF8 else 0
        stream.seek(skip + offset)
        return stream


def open_content(source: Path | str) -> Content:
    """Open a table's bytes; ``-`` is stdin.

    Raises
    ------
    BadData
        It is missing, a directory, not readable, empty, damaged, or not a text table.
    """
    if not str(source):
        raise BadData("no file is named: its name is empty", hint="is a variable unset?")
    name = "stdin" if str(source) == "-" else Path(source).name or str(source)
    try:
        with contextlib.ExitStack() as stack:
            raw = stack.enter_context(_open_raw(source, name))
            return _content(raw, source, name)
    except (EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, gzip.BadGzipFile, pa.ArrowInvalid) as error:
        raise _damaged(name) from error
    except OSError as error:
        raise _unreadable(source, name, error) from error


def _damaged(name: str) -> BadData:
    return BadData(f"{name} is a compressed file that is damaged or cut short", hint="get the file again")


def _unreadable(source: Path | str, name: str, error: OSError) -> BadData | NoSpace:
    if isinstance(error, FileNotFoundError):
        return BadData(f"{source} does not exist", hint="check the path; relative paths start at the current folder")
    if isinstance(error, PermissionError):
        return BadData(f"no permission to read {source}", hint="change its permissions (chmod u+r) or copy it")
    if isinstance(error, IsADirectoryError):
        return BadData(f"{source} is a folder", hint="name one file in it")
    if error.strerror is None or "zstd" in str(error).lower():  # what decompressors raise
        return _damaged(name)
    if "No space" in error.strerror:
        return NoSpace(
            f"no space in {tempfile.gettempdir()} to unpack {name}", hint="free some, or set TMPDIR to another folder"
        )
    return BadData(f"cannot read {source} ({error.strerror})", hint="check the file")


@contextlib.contextmanager
def _open_raw(source: Path | str, name: str) -> Iterator[BinaryIO]:
    if str(source) == "-":
        if sys.stdin is None or sys.stdin.closed:
            raise BadData("there is no stdin to read", hint="pipe a table into the command or name a file")
        yield sys.stdin.buffer
        return
    path = Path(source)
    if path.is_dir():
        raise BadData(f"{source} is a folder", hint="name one file in it")
    with path.open("rb") as file:
        yield file


def _content(raw: BinaryIO, source: Path | str, name: str) -> Content:
    buffered = _peekable(raw)
    head = _peek(buffered, 16)
    if not head:
        raise BadData(f"{name} is empty", hint="name a file with a header line and rows")
    stream = _decompressed(buffered, head, name)
    in_place = stream is buffered and str(source) != "-" and stat.S_ISREG(os.fstat(raw.fileno()).st_mode)
    head = _peek(stream, 16)
    encoding = next((encoding for mark, encoding in MARKS if head.startswith(mark)), None)
    if encoding is not None:
        chunks = _transcode(_chunks(stream), encoding, name)
        return _stored(chunks, name, (Notice("encoding", f"{name} is read as {encoding.upper()}"),))
    if not in_place:
        return _stored(_chunks(stream), name, ())
    path = Path(source)
    scan = _Scan(name)
    for chunk in _chunks(stream):
        scan.update(chunk)
    return _finished(scan, lambda: cast(BinaryIO, path.open("rb")), ())


def _digest(opener: Callable[[], BinaryIO]) -> str:
    with opener() as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()  # type: ignore[arg-type]


def _stored(chunks: Iterator[bytes], name: str, notices: tuple[Notice, ...]) -> Content:
    """Keep the bytes of a stream that cannot be read twice."""
    scan = _Scan(name)
    spool = _Spool()
    with contextlib.ExitStack() as unless_whole:
        unless_whole.callback(spool.file.close)
        for chunk in chunks:
            scan.update(chunk)
            spool.file.write(chunk)
        content = _finished(scan, spool.open, notices)
        unless_whole.pop_all()
    return content


class _Spool:
    """Bytes in memory or, where there are many, in an unnamed temporary file, for as long as somebody can open them."""

    def __init__(self) -> None:
        self.file = tempfile.SpooledTemporaryFile(max_size=IN_MEMORY)  # noqa: SIM115
        self._one_at_a_time = threading.Lock()

    def open(self) -> BinaryIO:
        return cast(BinaryIO, _View(self))

    def read_at(self, at: int, size: int) -> bytes:
        with self._one_at_a_time:
            self.file.seek(at)
            return self.file.read(size)

    def size(self) -> int:
        with self._one_at_a_time:
            return self.file.seek(0, io.SEEK_END)

    def __del__(self) -> None:
        self.file.close()


class _View(io.RawIOBase):
    """A reader of a spool with a place of its own: arrow may still read for one while another begins."""

    def __init__(self, spool: _Spool) -> None:
        self.spool = spool
        self.at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def read(self, size: int | None = -1, /) -> bytes:
        data = self.spool.read_at(self.at, -1 if size is None else size)
        self.at += len(data)
        return data

    def readinto(self, buffer: Any, /) -> int:
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def readall(self) -> bytes:
        return self.read()

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self.at}.get(whence)
        self.at = offset + (self.spool.size() if start is None else start)
        return self.at

    def tell(self) -> int:
        return self.at


class _Unclosed(io.RawIOBase):
    """A view of arrow's unpacked stream that survives being closed by its reader."""

    def __init__(self, file: Any) -> None:
        self.file = file

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        data = self.file.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


def _finished(scan: "_Scan", opener: Callable[[], BinaryIO], notices: tuple[Notice, ...]) -> Content:
    scan.check()
    if scan.parquet or not scan.n_broken:
        return Content(
            name=scan.name,
            parquet=scan.parquet,
            n_bytes=scan.n_bytes,
            n_quotes=scan.n_quotes,
            opener=opener,
            notices=notices,
        )
    with opener() as stream:
        if scan.n_beyond_ascii >= BEYOND_DOUBT * scan.n_broken:
            chunks = _transcode(_chunks(stream), "utf-8", scan.name, errors="replace")
            what = f"{count(scan.n_broken, 'place')} of {scan.name} cannot be read as UTF-8, as all else in it is"
            return _stored(chunks, scan.name, (*notices, Notice("encoding", f"{what}: there stands \ufffd now")))
        chunks = _transcode(_chunks(stream), "latin-1", scan.name)
        notice = Notice("encoding", f"{scan.name} is not UTF-8; it is read as Latin-1 (Windows-1252)")
        return _stored(chunks, scan.name, (*notices, notice))


class _Scan:
    """One pass over the bytes: size, quotes, NUL bytes, and how much of them is UTF-8."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.n_bytes = 0
        self.n_quotes = 0
        self.parquet = False
        self.n_beyond_ascii = 0
        self.n_broken = 0
        self.decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self.end = b""
        self.nul_at: int | None = None
        self.blank = True

    def update(self, chunk: bytes) -> None:
        if self.n_bytes == 0:
            self.parquet = chunk.startswith(b"PAR1")
            if not self.parquet:
                _refuse_binary(chunk, self.name)
        self.n_bytes += len(chunk)
        if self.parquet:
            return
        self.blank = self.blank and not chunk.removeprefix(codecs.BOM_UTF8).strip()
        if b'"' in chunk:
            self.n_quotes += int(np.count_nonzero(np.frombuffer(chunk, np.uint8) == ord('"')))
        if self.nul_at is None and b"\0" in chunk:
            self.nul_at = self.n_bytes - len(chunk) + chunk.index(b"\0")
        if not (chunk.isascii() and not self.decoder.getstate()[0]):
            self._decode(chunk)
        self.end = (self.end + chunk[-2:])[-2:]

    def _decode(self, chunk: bytes) -> None:
        text = self.decoder.decode(chunk)
        n_ascii = int(np.count_nonzero(np.frombuffer(chunk, np.uint8) < 128))
        n_replaced = text.count(REPLACED)
        if n_replaced:  # by the decoder, or by whoever wrote the file: the last two bytes may begin such a one
            n_replaced -= (self.end + chunk).count(REPLACED.encode())
        self.n_broken += n_replaced
        self.n_beyond_ascii += len(text) - n_ascii - n_replaced

    def check(self) -> None:
        if self.nul_at is not None:
            raise BadData(
                f"{self.name} has a NUL byte (at byte {self.nul_at:,}): this is not a text table",
                hint="export the table as CSV in UTF-8",
            )
        if self.blank and not self.parquet:
            raise BadData(f"{self.name} is empty", hint="name a file with a header line and rows")
        if self.decoder.getstate()[0]:  # a letter cut in half at the very end
            self.n_broken += 1


def _refuse_binary(head: bytes, name: str) -> None:
    what = next((what for mark, what in FOREIGN if head.startswith(mark)), None)
    if what is None:
        sample = head[:65536]
        # Control characters do not occur in tables; tabs, line ends, form feeds and separators of units do.
        n_control = len(sample) - len(sample.translate(None, bytes([*range(1, 9), *range(14, 28), 127])))
        if n_control > max(2, len(sample) // 100):
            what = "binary data"
    if what is not None:
        raise BadData(f"{name} is {what}, not a table", hint="export the table as CSV or Parquet")


def _transcode(chunks: Iterator[bytes], encoding: str, name: str, errors: str = "strict") -> Iterator[bytes]:
    decoder: codecs.IncrementalDecoder = codecs.getincrementaldecoder(encoding)(errors=errors)
    # Windows-1252 is Latin-1 with letters where Latin-1 has control characters; bytes it lacks are read as Latin-1.
    windows = bytes(range(128, 160)).decode("latin-1")
    table = {ord(c): bytes([ord(c)]).decode("cp1252", errors="ignore") or c for c in windows}
    try:
        for chunk in chunks:
            text = decoder.decode(chunk)
            yield (text.translate(table) if encoding == "latin-1" else text).encode("utf-8")
        if last := decoder.decode(b"", final=True):
            yield last.encode("utf-8")
    except UnicodeError as error:
        raise BadData(f"{name} is not valid {encoding.upper()}", hint="export it again in UTF-8") from error


def _decompressed(stream: io.BufferedReader, head: bytes, name: str) -> io.BufferedReader:
    """Unpack by what the bytes say, not by what the file is called."""
    if head.startswith(b"\x1f\x8b"):
        return _peekable(cast(BinaryIO, gzip.open(stream)))
    if head.startswith(b"BZh") and head[4:10] == b"\x31\x41\x59\x26\x53\x59":
        return _peekable(cast(BinaryIO, bz2.open(stream)))
    if head.startswith(b"\xfd7zXZ\0"):
        return _peekable(cast(BinaryIO, lzma.open(stream)))
    if head.startswith(b"\x28\xb5\x2f\xfd"):
        return _peekable(cast(BinaryIO, pa.CompressedInputStream(pa.PythonFile(stream, mode="r"), "zstd")))
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return _peekable(_only_member(stream, name))
    return stream


def _only_member(stream: io.BufferedReader, name: str) -> BinaryIO:
    if not stream.seekable():
        spool = _Spool()
        shutil.copyfileobj(stream, spool.file)
        stream = _peekable(spool.open())
    archive = zipfile.ZipFile(stream)
    members = [m for m in archive.infolist() if not m.is_dir() and not m.filename.startswith("__MACOSX/")]
    if any(m.filename.startswith(("xl/", "word/")) for m in members):
        raise BadData(f"{name} is an Excel or Word file, not a table", hint="save the sheet as CSV")
    if len(members) != 1:
        raise BadData(
            f"{name} holds {len(members)} files instead of one", hint="unpack it and name the table, or zip it alone"
        )
    if members[0].flag_bits & 1:
        raise BadData(f"{name} is protected by a password", hint="unpack it first")
    return cast(BinaryIO, archive.open(members[0]))


def _peekable(stream: BinaryIO) -> io.BufferedReader:
    if isinstance(stream, io.BufferedReader):
        return stream
    if isinstance(stream, pa.NativeFile):
        return io.BufferedReader(_Unclosed(stream), CHUNK)
    return io.BufferedReader(cast(io.RawIOBase, stream), CHUNK)


def _peek(stream: io.BufferedReader, n_bytes: int) -> bytes:
    return stream.peek(n_bytes)[:n_bytes]


def _chunks(stream: BinaryIO) -> Iterator[bytes]:
    while chunk := stream.read(CHUNK):
        yield chunk
