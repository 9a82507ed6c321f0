"""Processes that can be killed: for taking too long, for holding too much memory, or because nobody waits for them."""

import contextlib
import fcntl
import os
import resource
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor, Future, InvalidStateError
from contextvars import ContextVar
from dataclasses import dataclass
from itertools import count
from multiprocessing import forkserver, get_context, parent_process
from multiprocessing.connection import Connection, wait
from pathlib import Path
from time import monotonic
from typing import Any, TypeVar

import pebble

from automl_cli.machine import tree_memory, tree_resident

__all__ = ["MemoryExceeded", "ProcessExecutor", "Setup", "WorkerDied"]

T = TypeVar("T")

LONGEST_TEMPORARY_PATH = 60  # a socket may have about 107 characters, multiprocessing adds 35
POLL_SECONDS = 0.2
CALM_SECONDS = 0.6  # between polls while less than half of what is allowed is held
MORE = 1.02  # times what was held before: only then is it measured exactly, which takes fifteen times as long
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)


class WorkerDied(Exception):  # noqa: N818 - named after what happened, as it is shown
    """The process that ran a call ended without an answer: a crash, or killed from outside."""


class MemoryExceeded(Exception):  # noqa: N818
    """The call was killed because the process tree held more memory than it may."""


@dataclass(frozen=True)
class Setup:
    """What workers are given.

    Attributes
    ----------
    workers : int
        Processes; a serial executor and a cluster have their own number.
    threads : int
        For the native libraries of each worker.
    preload : tuple of str
        Modules that are imported once, before workers are forked from that process.
    memory : int or None
        Bytes that the whole process tree may hold, this process included.
    log : Path or None
        Where workers' stdout and stderr are appended; None: nowhere.
    address : str
        Of a Dask scheduler.
    """

    workers: int = 1
    threads: int = 1
    preload: tuple[str, ...] = ()
    memory: int | None = None
    log: Path | None = None
    address: str = ""


class _Call(pebble.ProcessFuture[Any]):
    """The future of a call in a worker: cancelling it kills the worker; it settles once, whoever comes first."""

    def __init__(self) -> None:
        super().__init__()
        self.inner: Future[Any] = Future()  # pebble's, once the call is queued
        self.pid = 0  # of the worker, once it has started
        self.missing = 0  # polls in which that worker was gone

    def cancel(self) -> bool:
        if self.done():
            return bool(self.cancelled())
        if not super().cancel():  # type: ignore[no-untyped-call]
            return False
        with contextlib.suppress(RuntimeError):  # a second thread cancelled it at the same moment
            self.set_running_or_notify_cancel()  # type: ignore[no-untyped-call]  # wakes who waits
        self.inner.cancel()
        return True

    def fail(self, error: Exception) -> None:
        """Kill the worker and give this reason for it."""
        with contextlib.suppress(InvalidStateError):
            self.set_exception(error)
        self.inner.cancel()

    def settle(self, inner: "Future[Any]") -> None:
        """Take over what became of the inner future, in our words."""
        with contextlib.suppress(InvalidStateError):
            if inner.cancelled():
                self.cancel()
            elif (error := inner.exception()) is None:
                self.set_result(inner.result())
            elif isinstance(error, pebble.ProcessExpired):
                self.set_exception(WorkerDied(f"the worker process ended with {_exit_reason(error.exitcode)}"))
            elif isinstance(error, RuntimeError) and type(error).__name__ == "BrokenProcessPool":
                self.set_exception(WorkerDied("the worker process ended"))
            elif isinstance(error, TimeoutError) and error.args[:1] == ("Task timeout",):
                self.set_exception(TimeoutError(f"killed after {error.args[1]:.3g} seconds"))
            else:
                self.set_exception(error)


class ProcessExecutor(Executor):
    """Runs calls in processes that are killed when they take too long, too much memory, or are cancelled.

    Workers are forked from a server process that has imported ``setup.preload`` and has never started a thread: a fork
    of this process could hang in OpenMP, and would inherit its file locks. There is one such server for the life of
    this process, so that the preload of the first executor counts. Workers end with this process, even by kill -9 and
    even in native code. Like everything that spawns processes, this needs a main module that can be imported.

    Parameters
    ----------
    setup : Setup
    """

    def __init__(self, setup: Setup) -> None:
        self.workers = setup.workers
        self._setup = setup
        self._context = get_context("forkserver")
        self._started, self._worker_end = self._context.Pipe(duplex=False)
        self._lock = threading.Lock()
        self._pool: Any = None  # a pebble.ProcessPool, whose methods are half annotated
        self._closed = threading.Event()
        self._calls: dict[int, _Call] = {}
        self._numbers = count(1)
        self._dying = 0
        self._peak = 0
        self._most_resident = 0
        self._watcher = threading.Thread(target=self._watch, name="automl-watcher", daemon=True)

    def warm_up(self) -> None:
        """Start the server, whose imports take seconds; returns at once.

        The workers are forked at the first call. Forking them here would leave semaphores behind where the program
        ends before there is a call, because the data cannot be read for example.
        """
        start_server(self._setup)

    def submit(self, fn: Callable[..., T], /, *args: Any, timeout: float | None = None, **kwargs: Any) -> Future[T]:  # type: ignore[override]
        """Queue a call; ``timeout`` counts from its start in a worker."""
        if self._closed.is_set():
            raise RuntimeError("cannot schedule new futures after shutdown")
        number, call = next(self._numbers), _Call()
        self._calls[number] = call  # before the worker can name itself
        call.add_done_callback(lambda _: self._calls.pop(number, None))
        arguments = (number, fn, args, kwargs)
        try:
            call.inner = self._open_pool().schedule(_run, args=arguments, timeout=timeout)
        except RuntimeError:  # the pool broke since it was looked at
            call.inner = self._open_pool().schedule(_run, args=arguments, timeout=timeout)
        call.inner.add_done_callback(call.settle)
        return call

    def close(self, *, now: bool) -> None:
        """Let go of the workers: at once, cancelling what runs, or when all calls are done."""
        if self._closed.is_set():
            return
        self._closed.set()
        if not self._lock.acquire(timeout=0.1 if now else -1):
            self._cancel_all()
            return  # the server still imports: what it forks then is stopped by who waits for it
        try:
            self._stop_pool(now=now)
        finally:
            self._lock.release()
        self._worker_end.send((0, 0))  # wakes the watcher
        if self._watcher.is_alive():
            self._watcher.join()
        self._started.close()
        self._worker_end.close()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Close as the standard library's executors do."""
        self.close(now=cancel_futures or not wait)

    def peak_memory(self) -> int:
        """Most bytes that the process tree was seen to hold."""
        return self._peak

    def gone(self) -> bool:
        """Never: a worker that died is replaced."""
        return False

    def _stop_pool(self, *, now: bool) -> None:
        if self._pool is not None:
            (self._pool.stop if now else self._pool.close)()
        if now:
            self._cancel_all()
        if self._pool is not None:
            self._pool.join()

    def _cancel_all(self) -> None:
        for call in list(self._calls.values()):
            call.cancel()

    def _open_pool(self) -> Any:
        """Return a pool that runs, opening one where there is none or the last one broke."""
        with self._lock:
            if self._closed.is_set():
                raise RuntimeError("cannot schedule new futures after shutdown")
            if self._pool is not None and self._pool.active:
                return self._pool
            if self._pool is not None:  # broken: its calls have failed already
                self._pool.stop()
                self._pool.join()
            start_server(self._setup)
            setup = self._setup
            self._pool = pebble.ProcessPool(
                max_workers=setup.workers,
                initializer=_begin_worker,
                initargs=(self._worker_end, setup.threads, setup.memory, setup.log),
                context=self._context,
            )
            if not self._pool.active:  # asking starts the workers
                raise WorkerDied("the worker processes could not be started")
            if self._closed.is_set():
                self._stop_pool(now=True)
                raise RuntimeError("closed while the workers were starting")
            if not self._watcher.is_alive():
                self._watcher.start()
            return self._pool

    def _watch(self) -> None:
        """Until closed: learn which worker runs which call, look for dead ones, measure memory."""
        next_poll = 0.0
        while not self._closed.is_set():
            for _ in wait([self._started], timeout=POLL_SECONDS):
                number, pid = self._started.recv()
                if number in self._calls:
                    self._calls[number].pid = pid
            if monotonic() >= next_poll:
                self._look_for_dead()
                is_calm = self._look_at_memory()
                next_poll = monotonic() + (CALM_SECONDS if is_calm else POLL_SECONDS)

    def _look_at_memory(self) -> bool:
        """Measure what is held where it may be more than ever, or too much; return whether it is far from too much."""
        resident, limit = tree_resident(os.getpid()), self._setup.memory
        is_calm = limit is None or resident < limit / 2
        if not is_calm or resident > MORE * self._most_resident:
            self._most_resident = max(self._most_resident, resident)
            held = tree_memory(os.getpid())
            self._peak = max(self._peak, held)
            self._limit_memory(held)
        return is_calm

    def _look_for_dead(self) -> None:
        """Fail calls whose worker is gone: pebble misses one that dies before its first message is read."""
        for call in list(self._calls.values()):
            if call.pid and not Path(f"/proc/{call.pid}").exists() and Path("/proc/self").exists():
                call.missing += 1
                if call.missing > 2:
                    call.fail(WorkerDied("the worker process ended"))

    def _limit_memory(self, held: int) -> None:
        limit = self._setup.memory
        running = [call for call in list(self._calls.values()) if call.pid and not call.done()]
        if limit is None or held <= limit or not running or tree_memory(self._dying):
            return
        largest = max(running, key=lambda call: tree_memory(call.pid))
        self._dying = largest.pid  # its memory is given back before another call is blamed
        largest.fail(MemoryExceeded(f"{held >> 20} MiB were held, {limit >> 20} MiB are allowed"))


# What runs in a worker

_STARTS: ContextVar[Connection] = ContextVar("_STARTS")


def _begin_worker(starts: Connection, threads: int, memory: int | None, log: Path | None) -> None:
    """Prepare a worker that was just forked."""
    _die_with_parent()
    # pebble's own handler runs only between two bytecodes: a native call would outlive SIGTERM by seconds
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _STARTS.set(starts)
    sink = os.open(log or os.devnull, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(sink, 1)
    os.dup2(sink, 2)
    os.close(sink)
    os.environ.update(_thread_environment(threads))
    from threadpoolctl import threadpool_limits  # noqa: PLC0415

    threadpool_limits(limits=threads)
    if memory is not None:
        resource.setrlimit(resource.RLIMIT_DATA, (memory, resource.getrlimit(resource.RLIMIT_DATA)[1]))


def _die_with_parent() -> None:
    """Have the kernel end this process when the main process does, whatever code runs here then.

    The parent is the server, which outlives the main process for as long as a worker holds its pipe, so that
    PR_SET_PDEATHSIG would never fire. The pipe to the main process raises SIGIO when its other end closes, and SIGIO
    ends a process that does not handle it, even one that never returns to the interpreter.
    """
    parent = parent_process()
    assert parent is not None
    end = parent.sentinel
    fcntl.fcntl(end, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(end, fcntl.F_SETFL, fcntl.fcntl(end, fcntl.F_GETFL) | os.O_ASYNC)
    if wait([end], timeout=0):  # it ended before the signal was asked for
        os._exit(1)


def _run(number: int, fn: Callable[..., T], args: tuple[Any, ...], kwargs: dict[str, Any]) -> T:
    """Say which process runs the call, and run it."""
    _STARTS.get().send((number, os.getpid()))  # less than a pipe's atomic write: no lock
    return fn(*args, **kwargs)


def start_server(setup: Setup) -> None:
    """Start the server that workers are forked from, if it does not run yet; does not wait for its imports."""
    forkserver.set_forkserver_preload(["__main__", __name__, *setup.preload])
    # Ctrl-C reaches every process of the terminal: the server inherits the block, and so do the workers
    old = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        with _environment(_thread_environment(setup.threads)), _short_temporary_folder():
            forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, old)


@contextlib.contextmanager
def _short_temporary_folder() -> Iterator[None]:
    """Have the server's socket made in the system's own folder where the path of TMPDIR is too long for a socket's."""
    before = tempfile.tempdir
    if len(tempfile.gettempdir()) > LONGEST_TEMPORARY_PATH:
        tempfile.tempdir = "/tmp"
    try:
        yield
    finally:
        tempfile.tempdir = before


def _thread_environment(threads: int) -> dict[str, str]:
    # Threads that wait must sleep, not spin: where something else runs on the machine, two spinning threads of a fit
    # wait for each other's turn, and a fit gets a tenth of its rounds done.
    return {**dict.fromkeys(THREAD_VARIABLES, str(threads)), "OMP_WAIT_POLICY": "PASSIVE"}


@contextlib.contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables for what is started meanwhile, and restore them."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _exit_reason(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"
