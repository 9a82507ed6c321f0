"""What every executor promises, whoever runs the call.

The calls are functions of the standard library: a worker can import them whatever the tests are called.
"""

import math
import operator
import os
import time
from collections.abc import Iterator
from concurrent.futures import wait

import pytest

from automl_cli.executors import ExecutorKind, Setup, TrialExecutor, open_executor

# distributed leaves sockets and an event loop to the collector when a cluster in this process closes (2026.8)
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def scheduler() -> Iterator[str]:
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=2, processes=False, dashboard_address=None, protocol="tcp"
    ) as cluster:
        yield cluster.scheduler_address


@pytest.fixture(scope="module", params=list(ExecutorKind))
def executor(request: pytest.FixtureRequest) -> Iterator[TrialExecutor]:
    address = request.getfixturevalue("scheduler") if request.param is ExecutorKind.DASK else ""
    opened = open_executor(request.param, Setup(workers=2, address=address))
    yield opened
    opened.close(now=True)


def test_a_call_returns_its_value(executor):
    assert executor.submit(math.hypot, 3, 4).result(timeout=30) == 5
    assert executor.submit(sorted, [1, 3, 2], reverse=True).result(timeout=30) == [3, 2, 1]


def test_an_exception_comes_home_with_its_type_and_message(executor):
    error = executor.submit(operator.truediv, 1, 0).exception(timeout=30)
    assert isinstance(error, ZeroDivisionError)
    assert "division by zero" in str(error)


def test_every_future_gets_its_own_result(executor):
    futures = {n: executor.submit(math.factorial, n) for n in range(20)}
    done, running = wait(futures.values(), timeout=30)
    assert not running
    assert len(done) == 20
    assert {n: future.result() for n, future in futures.items()} == {n: math.factorial(n) for n in range(20)}


def test_a_call_within_its_limit_is_left_alone(executor):
    assert executor.submit(abs, -2, timeout=60).result(timeout=30) == 2


def test_a_callback_hears_of_the_end(executor):
    heard = []
    future = executor.submit(abs, -3)
    future.add_done_callback(lambda done: heard.append(done.result()))
    wait([future], timeout=30)
    until = time.monotonic() + 5
    while not heard and time.monotonic() < until:
        time.sleep(0.01)
    assert heard == [3]


def test_memory_was_seen(executor):
    executor.submit(abs, -1).result(timeout=30)
    assert executor.peak_memory() == 0 or executor.peak_memory() > 1 << 20


def test_there_are_workers(executor):
    assert executor.workers >= 1


@pytest.mark.parametrize("kind", [ExecutorKind.SERIAL, ExecutorKind.PROCESSES])
def test_a_closed_executor_refuses_calls(kind):
    opened = open_executor(kind, Setup())
    assert opened.submit(os.getpid).result(timeout=30) > 0
    opened.close(now=False)
    with pytest.raises(RuntimeError, match="after shutdown"):
        opened.submit(os.getpid)
