"""How long one row takes, measured beside the trials where that costs next to nothing.

Seconds are those of the processor: workers side by side, and whatever else a machine does, make a row no slower.
"""

import threading
import time
from collections.abc import Callable

import numpy as np

from automl_cli.metrics import Array

__all__ = ["alone", "row_seconds", "seconds_of"]

ROWS = 1_000  # of fewer the time is mostly that of the call
MOST_CELLS = 2_000_000  # of wide tables fewer rows are timed
LEAST_ROWS = 50
DEAREST = 0.05  # seconds that a call may take which is made to be timed alone


def alone() -> bool:
    """Return whether nothing else runs in this process: the workers of a cluster are threads of one."""
    return threading.current_thread() is threading.main_thread()


def seconds_of(call: Callable[[], object]) -> float:
    """Return the seconds of the processor that a call takes in all threads; in its own where others run other calls."""
    clock = time.process_time if alone() else time.thread_time
    began = clock()
    call()
    return clock() - began


def row_seconds(call: Callable[[Array], object], n_rows: int, n_columns: int, *, known: float = 0.0) -> float:
    """Return the seconds that a row takes, rather too many than too few.

    Parameters
    ----------
    call : callable
        Does the work for the rows at these positions; some may be there repeatedly.
    known : float
        What a first call for all ``n_rows`` took. It stands where these are many, or where another call would cost
        more than it is worth. The first of all calls may be slower than any other.
    """
    n_timed = min(ROWS, max(LEAST_ROWS, MOST_CELLS // max(1, n_columns)))
    found = known / max(1, n_rows) if known else float("inf")
    for n in sorted({min(n_rows, n_timed), n_timed}):
        if known and (n_rows >= n_timed or found * n > DEAREST):
            break
        rows = np.resize(np.arange(n_rows), n)
        found = min(found, seconds_of(lambda rows=rows: call(rows)) / n)  # type: ignore[misc]
    return found
