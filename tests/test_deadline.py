"""The time limit is a promise: with a fake clock for every schedule of trials, and for real."""

import subprocess
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from automl_cli.clock import Deadline, process_age
from automl_cli.optimizer import Optimizer
from automl_cli.search import Execution, Finished, Rules, Started, search
from automl_cli.trial import Pipeline, Proposal, Success, Trial

Automl = Callable[..., subprocess.CompletedProcess[str]]


@dataclass
class Numbers(Optimizer):
    """Proposes a new pipeline each time."""

    n: int = 0
    told: list[str] = field(default_factory=list)

    def ask(self) -> tuple[Pipeline, str]:
        self.n += 1
        return Pipeline("linear", "one_hot", {"C": float(self.n)}), "test"

    def tell(self, pipeline: Pipeline, loss: float | None, seconds: float) -> None:
        self.told.append(pipeline.key())


def outcome(proposal: Proposal, seconds: float) -> Trial:
    return Success(proposal, (1.0 / (1 + proposal.number), 0.5), seconds, complete=True)


@given(st.lists(st.floats(0.01, 30.0), min_size=1, max_size=30), st.floats(2.0, 60.0), st.floats(0.0, 6.0))
def test_no_trial_is_started_that_may_end_after_the_deadline(lengths: list[float], limit: float, kept: float) -> None:
    now = 0.0
    started: list[tuple[float, Proposal]] = []

    def submit(proposal: Proposal) -> "Future[Trial]":
        nonlocal now
        started.append((now, proposal))
        assert proposal.seconds is not None
        # A worker keeps to its limit; it may be faster.
        took = min(lengths[proposal.number % len(lengths)], proposal.seconds)
        now += took
        future: Future[Trial] = Future()
        future.set_result(outcome(proposal, took))
        return future

    # what ending the run needs is known once there is a model
    execution = Execution(submit, lambda p, r, s: outcome(p, s), lambda: False, lambda: kept if started else 0.0)
    deadline = Deadline.after(limit, clock=lambda: now)
    events = list(search(Numbers(), execution, Rules(1, 1, 0), deadline=deadline, recorded={}))
    assert started
    assert all(at + proposal.seconds <= limit - kept + 1e-6 for at, proposal in started[1:])
    assert now <= limit + 1e-6
    finished = [event for event in events if isinstance(event, Finished)]
    assert len(finished) == len(started) == len([event for event in events if isinstance(event, Started)])


@given(st.lists(st.floats(0.0, 0.003), min_size=1, max_size=12), st.integers(1, 4), st.integers(1, 12))
def test_a_counted_run_tells_in_number_order_whatever_the_width(
    lengths: list[float], width: int, n_trials: int
) -> None:
    from concurrent.futures import ThreadPoolExecutor

    seen: dict[int, int] = {}
    numbers = Numbers()
    with ThreadPoolExecutor(width) as pool:

        def submit(proposal: Proposal) -> "Future[Trial]":
            seen[proposal.number] = len(numbers.told)

            def work() -> Trial:
                time.sleep(lengths[proposal.number % len(lengths)])
                return outcome(proposal, 0.0)

            return pool.submit(work)

        execution = Execution(submit, lambda p, r, s: outcome(p, s), lambda: False)
        rules = Rules(width, 1, 0, n_trials=n_trials)
        events = list(search(numbers, execution, rules, deadline=Deadline.after(None), recorded={}))
    assert sum(isinstance(event, Finished) for event in events) == n_trials
    assert seen == {k: max(0, k - 3) for k in range(n_trials)}
    assert numbers.told == [Pipeline("linear", "one_hot", {"C": float(k + 1)}).key() for k in range(len(numbers.told))]


def test_the_clock_starts_with_the_process() -> None:
    age = process_age()
    assert 0 < age < 7200
    assert Deadline.after(10, elapsed=4, clock=lambda: 100.0).seconds_left() == pytest.approx(6)


@pytest.mark.alone
def test_the_whole_command_ends_within_its_limit(automl: Automl, repository: Path, tmp_path: Path) -> None:
    began = time.monotonic()
    done = automl("fit", repository / "sample_data" / "wine.csv", "--target", "cultivar", "--time", "12s",
                  "--out", "wine.automl", cwd=tmp_path)  # fmt: skip
    took = time.monotonic() - began
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "wine.automl").exists()
    # A machine that stalls for a second must not fail the test; benchmarks/limits.py measures the promise itself.
    assert took < 12 + 1.5


@pytest.mark.alone
def test_an_interrupt_saves_the_best_so_far(repository: Path, tmp_path: Path) -> None:
    import signal
    import sys

    command = [Path(sys.executable).with_name("automl"), "fit", repository / "sample_data" / "wine.csv", "--target",
               "cultivar", "--time", "90s", "--out", "wine.automl", "--run-dir", "run"]  # fmt: skip
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    give_up = time.monotonic() + 40
    while not (tmp_path / "run" / "model.automl").exists() and time.monotonic() < give_up:
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 143, err
    assert (tmp_path / "wine.automl").exists()
