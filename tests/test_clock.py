"""The one clock."""

import os
import subprocess
import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from automl_cli.clock import Deadline

SECONDS = st.floats(0.0, 1e6)


def test_without_a_limit_there_is_always_time() -> None:
    deadline = Deadline.after(None, elapsed=3.0, clock=lambda: 100.0)
    assert not deadline.limited
    assert not deadline.passed()
    assert deadline.seconds_left() == float("inf")
    assert deadline.elapsed() == pytest.approx(3.0)


@given(SECONDS, SECONDS, SECONDS)
def test_what_was_used_and_what_is_left_add_up_to_the_limit(limit: float, elapsed: float, later: float) -> None:
    now = 50.0
    deadline = Deadline.after(limit, elapsed=elapsed, clock=lambda: now)
    now += later
    assert deadline.elapsed() + deadline.seconds_left() == pytest.approx(limit, abs=1e-6)
    assert deadline.total == pytest.approx(limit, abs=1e-6)
    assert deadline.passed() == (deadline.seconds_left() <= 0)


def test_a_reserve_moves_the_end_and_not_the_start() -> None:
    now = 0.0
    deadline = Deadline.after(60.0, elapsed=10.0, clock=lambda: now)
    earlier = deadline.earlier(5.0)
    assert earlier.seconds_left() == pytest.approx(45.0)
    assert earlier.elapsed() == deadline.elapsed() == pytest.approx(10.0)
    now = 47.0
    assert earlier.passed()
    assert not deadline.passed()


@pytest.mark.alone
def test_the_age_counts_from_before_the_interpreter_was_there() -> None:
    code = "import time; time.sleep(0.3); from automl_cli.clock import process_age; print(process_age())"
    began = time.monotonic()
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    took = time.monotonic() - began
    # the kernel counts a process's start in ticks
    tick = 1.0 / os.sysconf("SC_CLK_TCK")
    assert 0.3 <= float(answer.stdout) <= took + 2 * tick
