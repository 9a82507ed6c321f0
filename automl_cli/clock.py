"""The one clock: seconds left until the promise made to the user falls due."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

Clock = Callable[[], float]


@dataclass(frozen=True)
class Deadline:
    """A point in time; everything that must end by it asks this object.

    Attributes
    ----------
    at : float
        Seconds on ``clock``; infinite where there is no limit.
    started : float
        Seconds on ``clock`` at which the counted time began.
    """

    at: float
    started: float
    clock: Clock = time.monotonic

    @classmethod
    def after(cls, seconds: float | None, *, elapsed: float = 0.0, clock: Clock = time.monotonic) -> "Deadline":
        """Set a deadline ``seconds`` after a start that lies ``elapsed`` seconds back; None means no limit.

        >>> now = 100.0
        >>> Deadline.after(60, elapsed=2, clock=lambda: now).seconds_left()
        58.0
        """
        started = clock() - elapsed
        return cls(at=float("inf") if seconds is None else started + seconds, started=started, clock=clock)

    @property
    def limited(self) -> bool:
        """Whether there is a limit at all."""
        return self.at != float("inf")

    @property
    def total(self) -> float:
        """Seconds between the start and the deadline."""
        return self.at - self.started

    def seconds_left(self) -> float:
        """Seconds until the deadline, negative once it has passed."""
        return self.at - self.clock()

    def elapsed(self) -> float:
        """Seconds since the start."""
        return self.clock() - self.started

    def passed(self) -> bool:
        """Whether no time is left."""
        return self.seconds_left() <= 0

    def earlier(self, seconds: float) -> "Deadline":
        """Return the same deadline, moved forward by a reserve of ``seconds``."""
        return Deadline(at=self.at - seconds, started=self.started, clock=self.clock)


def process_age() -> float:
    """Seconds since this process was started, interpreter start-up included.

    Zero where the system does not tell (the kernel's process table is read, Linux only).
    """
    try:
        stat = Path("/proc/self/stat").read_text()
        # the command in parentheses may hold spaces: count fields after it; starttime is field 22 of proc(5)
        ticks = int(stat.rpartition(")")[2].split()[19])
        return max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK"))
    except (OSError, ValueError, IndexError, AttributeError):
        return 0.0
