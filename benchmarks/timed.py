"""A command as a whole process: its seconds, the memory of its tree, and nothing left of it afterwards."""

import contextlib
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import psutil

from automl_cli.machine import tree_memory

POLL_SECONDS = 0.3
FIRST_POLL_SECONDS = 0.1
LONGEST_ERROR = 2000


@dataclass(frozen=True)
class Timed:
    """What a process took and said.

    Attributes
    ----------
    rc : int
        Exit status; negative: the signal that ended it.
    first_s : float or None
        When the watched file was first there.
    peak_bytes : int
        Largest memory of the process tree seen; pages shared between processes are counted once.
    n_left : int
        Processes of the tree that were still there after it ended, and were ended then.
    """

    rc: int
    wall_s: float
    first_s: float | None
    peak_bytes: int
    out: str
    err: str
    timed_out: bool
    n_left: int


class _Watch(threading.Thread):
    """Looks at a process tree until told to stop."""

    def __init__(self, process: psutil.Process, watched: Path | None, begin: float) -> None:
        super().__init__(daemon=True)
        self.process, self.watched, self.begin = process, watched, begin
        self.done = threading.Event()
        self.peak_bytes = 0
        self.first_s: float | None = None
        self.seen: set[psutil.Process] = set()

    def run(self) -> None:
        while not self.done.wait(FIRST_POLL_SECONDS if self.watched and self.first_s is None else POLL_SECONDS):
            if self.first_s is None and self.watched is not None and self.watched.exists():
                self.first_s = time.perf_counter() - self.begin
            self.look()

    def look(self) -> None:
        self.peak_bytes = max(self.peak_bytes, tree_memory(self.process.pid))
        with contextlib.suppress(psutil.Error):
            self.seen |= set(self.process.children(recursive=True))


def run_timed(
    command: Sequence[str],
    *,
    cwd: Path,
    timeout_s: float,
    environment: Mapping[str, str] | None = None,
    watched: Path | None = None,
) -> Timed:
    """Run a command to its end, or end it and all its descendants after ``timeout_s``."""
    # files, not pipes: a daemon that a system leaves behind would keep a pipe open
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        begin = time.perf_counter()
        process = subprocess.Popen(
            command,
            cwd=cwd,
            env=None if environment is None else dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
        )
        watch = _Watch(psutil.Process(process.pid), watched, begin)
        watch.start()
        timed_out = False
        try:
            process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            timed_out = True
        finally:  # also on Ctrl-C: a system that goes on would disturb the next one
            wall = time.perf_counter() - begin
            watch.done.set()
            watch.join()
            if process.poll() is None:
                watch.look()
                process.kill()
                process.wait()
            n_left = _end(watch.seen)
        said, complained = (_text(file) for file in (out, err))
    return Timed(
        process.returncode, wall, watch.first_s, watch.peak_bytes, said, complained[-LONGEST_ERROR:], timed_out, n_left
    )


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode(errors="replace")


def _end(processes: set[psutil.Process]) -> int:
    """Kill those that still run; return how many they were. A process is known by its number and its start."""
    left = [process for process in processes if _runs(process)]
    for process in left:
        with contextlib.suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(left, timeout=10)
    return len(left)


def _runs(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False
