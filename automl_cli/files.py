"""Files that are there whole or not at all, and locks that the kernel releases."""

import contextlib
import errno
import fcntl
import logging
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from math import inf
from pathlib import Path
from typing import BinaryIO, TypeVar

from automl_cli.errors import AutomlError, Locked, NoSpace, UsageError

T = TypeVar("T")
logger = logging.getLogger(__name__)
NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


@contextlib.contextmanager
def write_whole(path: Path, *, like: os.stat_result | None = None) -> Iterator[BinaryIO]:
    """Open a temporary file beside ``path`` that takes its place once it is complete and on disk.

    A link stays: the file that it names is replaced. A device or pipe is written to, never replaced.

    Parameters
    ----------
    like : os.stat_result or None
        Whose mode, and as far as this user may, owner the file takes; None: of the file that it replaces, or where
        there is none as the umask says.

    Raises
    ------
    NoSpace
        The disk or a limit is full; what stood at ``path`` is untouched.
    UsageError
        The folder is missing or cannot be written to.
    """
    place = path.resolve()
    if place.exists() and not place.is_file():
        with _opened(path) as file:
            yield file
        return
    temporary: Path | None = None
    try:
        if like is None and place.exists():
            like = place.stat()
        handle, name = tempfile.mkstemp(prefix=f".{place.name[:80]}.", suffix=".tmp", dir=place.parent)
        temporary = Path(name)
        with os.fdopen(handle, "w+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        _set_mode(temporary, like)
        temporary.replace(place)
        _sync_folder(place.parent)
    except OSError as error:
        raise explain(error, path) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def _set_mode(path: Path, like: os.stat_result | None) -> None:
    if like is not None:
        for owner, group in ((-1, like.st_gid), (like.st_uid, -1)):
            with contextlib.suppress(PermissionError):
                os.chown(path, owner, group)
        path.chmod(stat.S_IMODE(like.st_mode))
        return
    # mkstemp makes files private; the result follows the user's umask like any other output.
    umask = os.umask(0)
    os.umask(umask)
    path.chmod(0o666 & ~umask)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    try:
        with path.open("wb") as file:
            yield file
    except OSError as error:
        raise explain(error, path) from error


def refuse_to_overwrite(out: Path, used: Iterable[Path]) -> None:
    """Refuse an output that is a file which the same command reads.

    Raises
    ------
    UsageError
    """
    for path in used:
        if out.exists() and path.exists() and out.samefile(path):
            raise UsageError(f"{out} would be overwritten, and it is read by this command", hint="choose another -o")


def is_stream(source: str) -> bool:
    """Whether what is read of a source is gone then: standard input, a pipe or a device."""
    if source == "-":
        return True
    try:
        mode = Path(source).stat().st_mode
    except (OSError, ValueError):
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def explain(error: OSError, path: Path) -> AutomlError:
    """Say in a user's words why ``path`` could not be written."""
    if error.errno in NO_SPACE:
        return NoSpace(f"no space to write {path}", hint="free some space or choose another place")
    if isinstance(error, FileNotFoundError) and not path.parent.exists():
        return UsageError(f"the folder {path.parent} does not exist", hint="make it first or choose another place")
    if isinstance(error, PermissionError):
        return UsageError(f"no permission to write {path}", hint="choose another place")
    if isinstance(error, (IsADirectoryError, NotADirectoryError)):
        return UsageError(f"{path} is not a place for a file", hint="name a file, not a folder")
    return AutomlError(f"cannot write {path} ({error.strerror or error})")


def check_writable(path: Path, *, only_file: bool = False) -> None:
    """Find out before the work starts whether ``path`` can be written.

    Parameters
    ----------
    only_file : bool
        Whether devices and pipes are refused.

    Raises
    ------
    UsageError, NoSpace
        As `write_whole` would at the end.
    """
    if path.is_dir():
        hint = "name a file" if path != Path() else "name a file; an empty name stands for the current folder too"
        raise UsageError(f"{path} is a folder", hint=hint)
    place = path.resolve()
    if place.exists() and not place.is_file():
        if only_file:
            raise UsageError(f"{path} is no place for a model", hint="name a file")
        return
    try:
        with tempfile.NamedTemporaryFile(prefix=".automl-check.", dir=place.parent) as file:
            file.write(b"\0" * 4096)
            file.flush()
    except OSError as error:
        raise explain(error, path) from error


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError:  # some network file systems refuse it; the rename itself has happened
        pass
    finally:
        os.close(handle)


@contextlib.contextmanager
def locked(
    lock: Path, what: str, *, wait_seconds: float = 0.0, hint: str = "wait for it, or choose another -o"
) -> Iterator[None]:
    """Hold an exclusive lock, which the kernel releases however the process ends.

    Parameters
    ----------
    hint : str
        What to do where another process holds it.

    Raises
    ------
    Locked
        Another process holds it and still does after ``wait_seconds``.
    """
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        file = lock.open("a")
    except OSError as error:
        raise explain(error, lock) from error
    with file:
        give_up = time.monotonic() + wait_seconds
        pause = 0.001
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError as error:
                if error.errno not in (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES):
                    logger.warning("no locks on %s (%s): two runs on one output are not told apart", lock, error)
                    break
                if time.monotonic() >= give_up:
                    raise Locked(f"{what} is in use by another run", hint=hint) from error
                time.sleep(pause)
                pause = min(2 * pause, 0.1)
        yield


def once(place: Path, make: Callable[[Path], T]) -> T | None:
    """Have a folder made by the first process that needs it; the others wait until it is there.

    Parameters
    ----------
    make : callable
        Fills an empty folder that becomes ``place``. Where it raises, or its process is killed, the next one makes it.

    Returns
    -------
    What ``make`` returned, or None where it was not called.
    """
    if place.exists():
        return None
    place.parent.mkdir(parents=True, exist_ok=True)
    with locked(place.with_suffix(".lock"), str(place), wait_seconds=inf):
        if place.exists():
            return None
        draft = Path(tempfile.mkdtemp(prefix=f".{place.name}.", dir=place.parent))
        try:
            made = make(draft)
            try:
                draft.rename(place)
            except OSError:
                if not place.exists():  # else somebody was faster, on a disk without locks
                    raise
            return made
        finally:
            shutil.rmtree(draft, ignore_errors=True)


def link_files(source: Path, target: Path) -> None:
    """Fill a new folder ``target`` with links to the files of ``source``, or with copies where there are no links."""
    target.mkdir()
    for file in source.iterdir():
        link_file(file, target / file.name)


def link_file(file: Path, place: Path) -> None:
    """Link a file to another place, or copy it where there are no links."""
    try:
        os.link(file, place)
    except OSError:
        shutil.copyfile(file, place)


def remove_in_time(folder: Path, left: Callable[[], float]) -> bool:
    """Remove a folder file by file while seconds are left; return whether it is gone.

    Removing gigabytes takes seconds on a slow disk. What cannot be removed stays.
    """
    for place, folders, files in os.walk(folder, topdown=False):
        for name in (*files, *folders):
            if left() <= 0:
                return False
            path = Path(place, name)
            with contextlib.suppress(OSError):
                if name in files or path.is_symlink():
                    path.unlink()
                else:
                    path.rmdir()
    with contextlib.suppress(OSError):
        folder.rmdir()
    return not folder.exists()


def bytes_under(root: Path, ending: str) -> int:
    """Return the bytes of the files with an ending below a folder, while others add to it and move things in it."""
    total = 0
    for folder, _, names in os.walk(root):  # a folder that is gone by now is passed over
        for name in names:
            if name.endswith(ending):
                with contextlib.suppress(FileNotFoundError):
                    total += (Path(folder) / name).stat().st_size
    return total
