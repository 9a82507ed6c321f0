"""Work beside the search, in a thread."""

import math
import threading
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from typing import Generic, TypeVar

T = TypeVar("T")


class Background(Generic[T]):
    """Work for a thread that does not hold up the end of the process; begun when asked for, at the latest by `result`.

    It is begun once the first trial has ended: importing SMAC would keep the interpreter from handing out that trial.
    """

    def __init__(self, work: Callable[[], T]) -> None:
        self._work = work
        self._future: Future[T] = Future()
        self._begun = False

    def begin(self) -> None:
        """Start the thread, once."""
        if not self._begun:
            self._begun = True
            threading.Thread(target=self._run, daemon=True).start()

    def done(self) -> bool:
        """Whether the result is there."""
        return self._future.done()

    def result(self) -> T:
        """Wait for the result; raises what the work raised."""
        self.begin()
        return self._future.result()

    def result_within(self, seconds: float) -> T | None:
        """Wait for the result so long; None where it takes longer."""
        self.begin()
        try:
            return self._future.result(timeout=None if seconds == math.inf else max(0.0, seconds))
        except FutureTimeout:
            return None

    def _run(self) -> None:
        try:
            self._future.set_result(self._work())
        except BaseException as error:  # handed to whoever asks for the result
            self._future.set_exception(error)
