"""Processes that can be killed, and a cluster; what the machine has."""

import gc
import math
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import CancelledError, wait
from pathlib import Path

import psutil
import pytest

from automl_cli.errors import AutomlError
from automl_cli.executors import (
    DaskExecutor,
    ExecutorKind,
    MemoryExceeded,
    ProcessExecutor,
    SerialExecutor,
    Setup,
    WorkerDied,
    open_executor,
)
from automl_cli.machine import _group_limits, tree_memory, tree_resident, usable_cores, usable_memory

ENDLESS = range(10**13)  # sum() of it never returns to the interpreter: no signal handler, no thread runs
HOLD = "data = b'1' * ({} << 20); import time; time.sleep(60)"
MEBIBYTE = 1 << 20


@pytest.fixture
def processes():
    opened = ProcessExecutor(Setup(workers=2))
    yield opened
    opened.close(now=True)


def gone(pid: int, *, within: float) -> bool:
    until = time.monotonic() + within
    while time.monotonic() < until:
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.02)
    return False


@pytest.mark.alone
@pytest.mark.parametrize(("fn", "argument"), [(time.sleep, 60), (sum, ENDLESS)])
def test_a_call_is_killed_after_its_time(processes, fn, argument):
    future = processes.submit(fn, argument, timeout=0.3)
    began = time.monotonic()
    with pytest.raises(TimeoutError, match=r"killed after 0\.3 seconds"):
        future.result(timeout=30)
    assert time.monotonic() - began < 10
    assert processes.submit(math.sqrt, 9).result(timeout=30) == 3


def test_the_time_of_waiting_for_a_worker_is_not_counted():
    executor = ProcessExecutor(Setup(workers=1))
    first, second = executor.submit(time.sleep, 0.8), executor.submit(time.sleep, 0.1, timeout=0.6)
    assert second.result(timeout=30) is None
    assert first.done()
    executor.close(now=True)


def test_a_timeout_raised_by_the_call_itself_is_passed_on(processes):
    error = processes.submit(exec, "raise TimeoutError('of its own')").exception(timeout=30)
    assert isinstance(error, TimeoutError)
    assert str(error) == "of its own"


def test_cancel_kills_a_running_call(processes):
    future = processes.submit(sum, ENDLESS)
    busy = processes.submit(os.getpid)  # so that the first call has certainly been taken
    busy.result(timeout=30)
    workers, until = [], time.monotonic() + 10
    while not workers and time.monotonic() < until:
        workers = [child.pid for child in psutil.Process().children(recursive=True) if child.cpu_percent(0.2) > 20]
    assert future.cancel()
    assert future.cancelled()
    assert wait([future], timeout=1).done == {future}
    with pytest.raises(CancelledError):
        future.result()
    assert workers
    assert all(gone(pid, within=5) for pid in workers)
    assert [processes.submit(abs, -n).result(timeout=30) for n in range(4)] == [0, 1, 2, 3]


def test_a_worker_that_dies_is_an_error_and_the_next_call_works(processes):
    for _ in range(3):
        assert isinstance(processes.submit(os._exit, 1).exception(timeout=30), WorkerDied)
        assert processes.submit(abs, -1).result(timeout=30) == 1


def test_a_dying_worker_leaves_the_other_call_alone(processes):
    other = processes.submit(exec, "import time; time.sleep(1)")
    time.sleep(0.2)
    error = processes.submit(exec, "import os, signal, time; time.sleep(.2); os.kill(os.getpid(), signal.SIGSEGV)")
    assert "SIGSEGV" in str(error.exception(timeout=30))
    assert other.result(timeout=30) is None


def test_workers_killed_while_idle_are_replaced(processes):
    pid = processes.submit(os.getpid).result(timeout=30)
    for child in psutil.Process(psutil.Process(pid).ppid()).children():
        child.kill()
    time.sleep(0.5)
    assert processes.submit(abs, -1).result(timeout=30) == 1


def test_the_largest_call_is_killed_above_the_memory_limit():
    limit = tree_memory(os.getpid()) + 500 * MEBIBYTE
    executor = ProcessExecutor(Setup(workers=2, memory=limit))
    small = executor.submit(exec, "data = b'1' * (150 << 20); import time; time.sleep(2.5)")
    large = executor.submit(exec, "data = [b'1' * (50 << 20) for _ in range(8)]; import time; time.sleep(60)")
    with pytest.raises(MemoryExceeded, match=f"{limit >> 20} MiB are allowed"):
        large.result(timeout=30)
    assert small.result(timeout=30) is None
    assert executor.peak_memory() > limit
    executor.close(now=True)


def test_a_single_huge_request_for_memory_fails_at_once():
    executor = ProcessExecutor(Setup(workers=1, memory=tree_memory(os.getpid()) + 500 * MEBIBYTE))
    assert isinstance(executor.submit(bytearray, 1 << 42).exception(timeout=30), MemoryError)
    executor.close(now=True)


@pytest.mark.alone
def test_close_now_is_quick_and_leaves_no_worker_behind():
    executor = ProcessExecutor(Setup(workers=2))
    pids = {executor.submit(os.getpid).result(timeout=30) for _ in range(20)}
    futures = [executor.submit(sum, ENDLESS) for _ in range(3)]
    time.sleep(0.3)
    began = time.monotonic()
    executor.close(now=True)
    assert time.monotonic() - began < 2  # 0.1 to 0.2 s on an idle machine
    assert all(future.cancelled() for future in futures)
    assert all(gone(pid, within=2) for pid in pids)
    executor.close(now=True)


def test_close_waits_for_the_calls_when_asked_to():
    executor = ProcessExecutor(Setup(workers=1))
    futures = [executor.submit(time.sleep, 0.2) for _ in range(3)]
    executor.close(now=False)
    assert [future.result(timeout=0) for future in futures] == [None] * 3


@pytest.mark.alone
def test_close_during_warm_up_is_quick():
    executor = ProcessExecutor(Setup(workers=2))
    executor.warm_up()
    began = time.monotonic()
    executor.close(now=True)
    assert time.monotonic() - began < 2


def test_workers_are_told_their_threads_and_keep_quiet(tmp_path, capfd):
    log = tmp_path / "workers.log"
    executor = ProcessExecutor(Setup(workers=1, threads=2, log=log))
    assert executor.submit(os.getenv, "OMP_NUM_THREADS").result(timeout=30) == "2"
    executor.submit(os.write, 1, b"from native code\n").result(timeout=30)
    executor.submit(os.write, 2, b"and a complaint\n").result(timeout=30)
    executor.close(now=True)
    assert log.read_text() == "from native code\nand a complaint\n"
    assert capfd.readouterr() == ("", "")


def test_the_environment_of_this_process_is_left_alone(processes):
    before = dict(os.environ)
    processes.submit(abs, 1).result(timeout=30)
    assert dict(os.environ) == before


SCRIPT = """
import sys, time
from automl_cli.executors import ExecutorKind, Setup, open_executor
if __name__ == "__main__":
    executor = open_executor(ExecutorKind.PROCESSES, Setup(workers=2, preload=("json",)))
    executor.warm_up()
    futures = [executor.submit(sum, range(10**13)), executor.submit(time.sleep, 600)]
    if "exit" in sys.argv:
        assert executor.submit(abs, -1, timeout=1) is not None
        executor.close(now=True)
        print("closed")
        sys.exit(0)
    time.sleep(0.5)
    print("ready", flush=True)
    time.sleep(600)
"""


def test_workers_die_with_a_killed_main_process(tmp_path):
    script = tmp_path / "main.py"
    script.write_text(SCRIPT)
    with subprocess.Popen(
        [sys.executable, script], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        family = psutil.Process(child.pid).children(recursive=True)
        assert len(family) >= 4  # the server, the resource tracker, two workers
        child.send_signal(signal.SIGKILL)
        child.wait(timeout=10)
    assert all(gone(process.pid, within=4) for process in family)


def test_a_program_that_closes_ends_at_once_and_silently(tmp_path):
    script = tmp_path / "main.py"
    script.write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", script, "exit"],
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "closed\n", "")


def test_no_semaphores_are_left(processes):
    folder = Path("/dev/shm")
    if not folder.is_dir():
        pytest.skip("semaphores are not files here")

    def semaphores() -> set[str]:
        """Those of joblib name their process: other tests' come and go meanwhile."""
        names = {path.name for path in folder.glob("sem.*")}
        return {name for name in names if not name.startswith("sem.loky-") or f"-{os.getpid()}-" in name}

    before = semaphores()
    executor = ProcessExecutor(Setup(workers=1))
    executor.submit(abs, 1).result(timeout=30)
    executor.close(now=True)
    del executor
    assert semaphores() <= before


def test_serial_runs_at_once_in_this_process():
    executor = SerialExecutor()
    future = executor.submit(os.getpid)
    assert future.done()
    assert future.result() == os.getpid()
    with executor as same:
        assert list(same.map(abs, [-1, -2])) == [1, 2]


# tornado and distributed close sockets and loops late (2026.8): the collector complains about them
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_missing_scheduler_is_a_plain_error():
    pytest.importorskip("distributed")
    with pytest.raises(AutomlError, match="no Dask scheduler answers at 'not an address'"):
        DaskExecutor("not an address")


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_scheduler_that_is_gone_is_known_and_refuses_calls():
    distributed = pytest.importorskip("distributed")
    # A client that found no scheduler stops its loop when it is collected. Were that in the thread of the next loop,
    # the two would wait for each other, for ten seconds (2026.8).
    gc.collect()
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None, protocol="tcp"
    ) as cluster:
        executor = DaskExecutor(cluster.scheduler_address)
        assert not executor.gone()
        executor._client.close()  # as it does by itself ten seconds after the scheduler was lost
        assert executor.gone()
        with pytest.raises(WorkerDied, match="scheduler is gone"):
            executor.submit(abs, -1)
        executor.close(now=True)


def test_open_executor_opens_what_was_asked_for():
    assert isinstance(open_executor(ExecutorKind.SERIAL, Setup()), SerialExecutor)
    executor = open_executor(ExecutorKind.PROCESSES, Setup(workers=3))
    assert isinstance(executor, ProcessExecutor)
    assert executor.workers == 3
    executor.close(now=True)


def test_tree_memory_counts_children_and_forgets_the_dead():
    before = tree_memory(os.getpid())
    with subprocess.Popen([sys.executable, "-c", HOLD.format(100) + "\n"]) as child:
        until = time.monotonic() + 20
        while tree_memory(child.pid) < 100 * MEBIBYTE and time.monotonic() < until:
            time.sleep(0.05)
        assert tree_memory(os.getpid()) > before + 90 * MEBIBYTE
        child.kill()
        child.wait(timeout=10)
    assert tree_memory(child.pid) == 0


def test_what_is_resident_is_never_less_than_what_is_held_and_counts_shared_pages_twice():
    script = "import os, time; data = b'1' * (100 << 20); os.fork(); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", script], start_new_session=True) as child:
        until = time.monotonic() + 20
        while tree_resident(child.pid) < 200 * MEBIBYTE and time.monotonic() < until:
            time.sleep(0.05)
        assert tree_resident(child.pid) > 200 * MEBIBYTE
        assert 100 * MEBIBYTE < tree_memory(child.pid) < 150 * MEBIBYTE
        os.killpg(child.pid, signal.SIGKILL)
    assert tree_resident(child.pid) == 0


def test_the_machine_is_not_imagined():
    assert 1 <= usable_cores() <= (os.cpu_count() or 1)
    assert 100 * MEBIBYTE < usable_memory() <= psutil.virtual_memory().total


@pytest.mark.parametrize(
    ("groups", "files", "limits"),
    [
        ("0::/a/b\n", {"a/b/memory.max": "500\n", "a/memory.max": "max\n", "memory.max": "900\n"}, [500, 900]),
        ("4:memory:/docker/x\n3:cpu:/other\n", {"memory/memory.limit_in_bytes": "700\n"}, [700]),
        ("0::/\n", {}, []),
        ("", {}, []),
    ],
)
def test_limits_of_containers_are_read_up_to_the_root(tmp_path, groups, files, limits):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert _group_limits(groups, tmp_path) == limits


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system binds no process to cores")
def test_cores_are_those_that_the_process_is_bound_to():
    one = min(os.sched_getaffinity(0))
    code = f"""
import os
from automl_cli.machine import usable_cores
os.sched_setaffinity(0, [{one}])
print(usable_cores())
"""
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "1\n"
