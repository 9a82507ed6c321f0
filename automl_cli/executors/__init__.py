"""Where evaluations run: in this process, in processes that can be killed, or on a Dask cluster.

All three are `concurrent.futures.Executor`s. Only processes keep limits: seconds for a call, memory for the whole tree.
"""

import os
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, Future
from enum import StrEnum
from typing import Any, Protocol, TypeVar

from automl_cli.errors import AutomlError
from automl_cli.executors.processes import MemoryExceeded, ProcessExecutor, Setup, WorkerDied, start_server
from automl_cli.machine import tree_memory

__all__ = [
    "PRELOAD",
    "DaskExecutor",
    "ExecutorKind",
    "MemoryExceeded",
    "ProcessExecutor",
    "SerialExecutor",
    "Setup",
    "TrialExecutor",
    "WorkerDied",
    "open_executor",
    "start_server",
    "submitted",
]

T = TypeVar("T")

PRELOAD = ("automl_cli.worker",)
"""What workers import once, in the server that they are forked from."""


class ExecutorKind(StrEnum):
    """Where evaluations run."""

    SERIAL = "serial"
    PROCESSES = "processes"
    DASK = "dask"


class TrialExecutor(Protocol):
    """An executor whose calls may carry a time limit, and that can be closed at once."""

    workers: int

    def submit(self, fn: Callable[..., T], /, *args: Any, timeout: float | None = None, **kwargs: Any) -> Future[T]:
        """Run ``fn(*args, **kwargs)``; its future fails with TimeoutError after ``timeout`` seconds of running."""
        ...

    def close(self, *, now: bool) -> None:
        """Let go of the workers: at once, cancelling what runs, or when all calls are done."""
        ...

    def peak_memory(self) -> int:
        """Most bytes that the process tree was seen to hold."""
        ...

    def gone(self) -> bool:
        """Whether no call can run any more, although nobody has closed this."""
        ...


class SerialExecutor(Executor):
    """Runs each call inside `submit`. Nothing can be killed here, so time limits are left to the call itself."""

    def __init__(self) -> None:
        self.workers = 1
        self._closed = False
        self._peak = 0

    def submit(self, fn: Callable[..., T], /, *args: Any, timeout: float | None = None, **kwargs: Any) -> Future[T]:  # type: ignore[override]
        """Run the call and return its finished future."""
        if self._closed:
            raise RuntimeError("cannot schedule new futures after shutdown")
        future: Future[T] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        self._peak = max(self._peak, tree_memory(os.getpid()))
        return future

    def close(self, *, now: bool) -> None:
        """Refuse further calls."""
        self._closed = True

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Refuse further calls."""
        self._closed = True

    def peak_memory(self) -> int:
        """Most bytes that the process tree was seen to hold after a call."""
        return self._peak

    def gone(self) -> bool:
        """Never: this process is the worker."""
        return False


class DaskExecutor(Executor):
    """Runs calls on a Dask cluster.

    Neither time nor memory is limited from here: calls run in threads of workers that belong to the cluster. Dask
    itself runs a call again when its worker is lost (up to three times, ``distributed.scheduler.allowed-failures``).

    Parameters
    ----------
    address : str
        Of the scheduler, such as ``tcp://10.0.0.1:8786``.

    Raises
    ------
    AutomlError
        If no scheduler answers.
    """

    def __init__(self, address: str) -> None:
        import distributed  # noqa: PLC0415

        client: Any = distributed.Client

        try:
            self._client: Any = client(address, timeout="10s", set_as_default=False)
        except (OSError, ValueError) as error:
            raise AutomlError(
                f"no Dask scheduler answers at {address!r}", hint="give the address it printed at its start"
            ) from error
        self._executor = self._client.get_executor(pure=False, retries=0)
        self.workers = max(1, sum(self._client.nthreads().values()))
        self._peak = 0

    def submit(self, fn: Callable[..., T], /, *args: Any, timeout: float | None = None, **kwargs: Any) -> Future[T]:  # type: ignore[override]
        """Send the call to the cluster; ``timeout`` is left to the call itself."""
        self._peak = max(self._peak, tree_memory(os.getpid()))
        if self.gone():
            raise WorkerDied("the Dask scheduler is gone")
        future: Future[T] = self._executor.submit(fn, *args, **kwargs)
        return future

    def gone(self) -> bool:
        """Whether the scheduler was lost, and not found again within the seconds that the client tries to."""
        return self._client.status not in ("running", "connecting")

    def close(self, *, now: bool) -> None:
        """Cancel what runs, or wait for it, and leave the cluster."""
        if not self.gone():
            self._executor.shutdown(wait=not now)
        self._client.close()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Close as the standard library's executors do."""
        self.close(now=cancel_futures or not wait)

    def peak_memory(self) -> int:
        """Most bytes that this process and its children were seen to hold; the cluster's memory is not counted."""
        return self._peak


OPENERS: Mapping[ExecutorKind, Callable[[Setup], TrialExecutor]] = {
    ExecutorKind.SERIAL: lambda setup: SerialExecutor(),
    ExecutorKind.PROCESSES: ProcessExecutor,
    ExecutorKind.DASK: lambda setup: DaskExecutor(setup.address),
}


def submitted(executor: TrialExecutor, fn: Callable[..., T], *args: Any, timeout: float | None) -> "Future[T]":
    """Hand a call to the workers; where no process can be started, for the moment at least, the future says so."""
    try:
        return executor.submit(fn, *args, timeout=timeout)
    except (RuntimeError, OSError, WorkerDied) as error:
        future: Future[T] = Future()
        future.set_exception(error)
        return future


def open_executor(kind: ExecutorKind, setup: Setup) -> TrialExecutor:
    """Open the executor of this kind.

    >>> executor = open_executor(ExecutorKind.SERIAL, Setup())
    >>> executor.submit(max, 1, 2).result()
    2
    """
    return OPENERS[kind](setup)
