"""Native models are parsed in a child process first: a file that crashes their parser costs an exit code, no more.

LightGBM aborts the process on a malformed text, and a tree that points outside itself is a segmentation fault.
Digests do not help against a file that was made to crash, so models that were not written on this machine are loaded
and asked for a prediction in a child, once; the verdict is kept in the user's cache folder.
"""

import contextlib
import hashlib
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from math import ceil
from pathlib import Path

from automl_cli.artifact.manifest import Manifest
from automl_cli.errors import AutomlError, BadArtifact

MARK = "automl-check: "
"""Begins the line in which the child says what is wrong."""
SECONDS = 60.0
BYTES_PER_SECOND = 2e6
"""Of a processor: models load at 20 MB/s and more; a tree that walks in circles never ends."""
WAITING = 10.0
"""Times as long by the clock: a machine that is busy says nothing about the file."""
MOST_VERDICTS = 2000

_CRASHES = frozenset({"SIGSEGV", "SIGABRT", "SIGBUS", "SIGFPE", "SIGILL", "SIGTRAP", "SIGSYS"})
_HINT = "do not use this file unless you know who made it"


def check_native(path: Path, manifest: Manifest, n_bytes: int) -> None:
    """Make sure that loading the models of a file does not crash this process.

    Parameters
    ----------
    n_bytes : int
        Of the file, unpacked; the time allowed grows with it.

    Raises
    ------
    BadArtifact
        The child crashed, found something malformed, or used up the processor's time that it was given.
    AutomlError
        The child could not do its work, such as for want of memory or space, or on a machine that is too busy.
    """
    if _is_checked(manifest.digest):
        return
    seconds = SECONDS + n_bytes / BYTES_PER_SECOND
    command = [sys.executable, "-P", "-m", "automl_cli.artifact.probe", str(path.absolute()), manifest.digest]
    with private_folder() as folder:  # ours: a child that crashes does not clear up
        try:
            child = subprocess.run(
                [*command, str(ceil(seconds))],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={**os.environ, "TMPDIR": str(folder)},
                timeout=WAITING * seconds,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            took = f"checking {path} took longer than {WAITING * seconds:.0f} s"
            raise AutomlError(f"{took}: the machine is busy", hint="try again") from error
    if child.returncode:
        raise explain_child(path, child.returncode, child.stdout.decode(errors="replace"))
    mark_checked(manifest.digest)


@contextlib.contextmanager
def private_folder() -> Iterator[Path]:
    """Make a folder that nobody else can look into, for as long as it is needed.

    Raises
    ------
    AutomlError
        There is no place for one.
    """
    try:
        folder = tempfile.TemporaryDirectory(prefix="automl-")
    except OSError as error:
        raise AutomlError(f"no temporary folder ({error})", hint="set TMPDIR to a folder you can write to") from error
    with folder as name:
        yield Path(name)


def mark_checked(digest: str) -> None:
    """Remember that the models of the manifest with this digest are safe to load; best effort."""
    with contextlib.suppress(OSError, RuntimeError):
        mark = _mark(digest)
        mark.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        mark.touch()
        marks = list(mark.parent.iterdir())
        if len(marks) > MOST_VERDICTS:
            for old in sorted(marks, key=lambda path: path.stat().st_mtime)[: MOST_VERDICTS // 2]:
                old.unlink(missing_ok=True)


def cache_folder(environment: Mapping[str, str]) -> Path:
    """Return where verdicts are kept: ``$XDG_CACHE_HOME/automl/checked``.

    >>> cache_folder({"XDG_CACHE_HOME": "/tmp/cache"}).as_posix()
    '/tmp/cache/automl/checked'

    Raises
    ------
    RuntimeError
        There is no home folder.
    """
    # The specification: a relative path is to be ignored.
    given = Path(environment.get("XDG_CACHE_HOME", ""))
    base = given if given.is_absolute() else Path.home() / ".cache"
    return base / "automl" / "checked"


def _is_checked(digest: str) -> bool:
    try:
        return _mark(digest).exists()
    except (OSError, RuntimeError):
        return False


def _mark(digest: str) -> Path:
    from automl_cli.artifact.write import library_versions  # noqa: PLC0415  (write marks what it wrote)

    # Another version of a library is another parser.
    key = hashlib.sha256(f"{digest} {sorted(library_versions().items())}".encode()).hexdigest()
    return cache_folder(os.environ) / key


def explain_child(path: Path, code: int, output: str) -> AutomlError:
    """Return the error that a child's end stands for.

    Parameters
    ----------
    code : int
        Its exit code, not zero; negative where a signal ended it.
    output : str
        What it wrote, native libraries included.
    """
    said = [line.removeprefix(MARK) for line in output.splitlines() if line.startswith(MARK)]
    if code == BadArtifact.exit_code and said:
        return BadArtifact(said[-1], hint=_HINT)
    if code < 0:
        name = _signal_name(-code)
        if name == "SIGXCPU":
            return BadArtifact(f"{path} is damaged: its models do not finish loading", hint=_HINT)
        if name in _CRASHES:
            return BadArtifact(f"{path} is damaged: reading its models crashes ({name})", hint=_HINT)
        return AutomlError(f"checking {path} was ended by {name}", hint="there may be too little memory")
    return AutomlError(said[-1] if said else f"{path} could not be checked (exit code {code})")


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
