"""SIGINT, SIGTERM and a hang-up end the search and save the best so far; a second one ends the process."""

import os
import signal
from types import FrameType, TracebackType


class Interrupts:
    """Note the first interrupt instead of raising in the middle of something.

    Attributes
    ----------
    exit_code : int
        128 + the signal's number, or 0 while none came.
    """

    def __init__(self) -> None:
        self.exit_code = 0
        self._before: dict[int, signal._HANDLER] = {}

    def seen(self) -> bool:
        """Whether the user asked to stop."""
        return self.exit_code != 0

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.exit_code:
            os._exit(self.exit_code)  # asked twice: at once; the kernel releases locks, workers die with us
        self.exit_code = 128 + number

    def __enter__(self) -> "Interrupts":
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup leaves it
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
