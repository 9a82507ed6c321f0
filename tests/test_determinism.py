"""Same data, seed and number of trials: the same bytes, however the run went."""

import csv
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

Automl = Callable[..., subprocess.CompletedProcess[str]]

# Six cheap families' defaults and a few proposals of SMAC; the whole of `--trials 20` is a benchmark.
JOB = ("--target", "churned", "--trials", "9", "--seed", "1", "--ignore", "cancellation_fee", "--folds", "3",
       "--include", "lightgbm", "--include", "linear", "--include", "extra_trees")  # fmt: skip


@pytest.fixture(scope="module")
def table(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("table") / "churn.csv"
    with (repository / "sample_data" / "churn.csv").open(newline="", encoding="utf-8") as lines:
        rows = list(csv.reader(lines))[:251]
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    return path


def predictions_of(automl: Automl, table: Path, folder: Path, *options: str) -> bytes:
    done = automl("fit", table, *JOB, *options, "--out", "model.automl", "--quiet", cwd=folder)
    assert done.returncode == 0, done.stderr
    return applied(automl, table, folder)


def applied(automl: Automl, table: Path, folder: Path) -> bytes:
    done = automl("predict", "model.automl", table, "--proba", "-o", "p.csv", cwd=folder)
    assert done.returncode == 0, done.stderr
    return (folder / "p.csv").read_bytes()


@pytest.fixture(scope="module")
def expected(automl: Automl, table: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return predictions_of(automl, table, tmp_path_factory.mktemp("first"), "--workers", "2")


def test_one_worker_gives_the_same_bytes_as_two(automl: Automl, table: Path, tmp_path: Path, expected: bytes) -> None:
    assert predictions_of(automl, table, tmp_path, "--workers", "1") == expected


def test_another_seed_gives_another_model(automl: Automl, table: Path, tmp_path: Path, expected: bytes) -> None:
    assert predictions_of(automl, table, tmp_path, "--seed", "2") != expected


def test_a_killed_run_resumes_to_the_same_bytes(automl: Automl, table: Path, tmp_path: Path, expected: bytes) -> None:
    command = [Path(sys.executable).with_name("automl"), "fit", table, *JOB, "--out", "model.automl", "--quiet"]
    (tmp_path / "model.automl").write_bytes(b"the old model")
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    journals = Path(os.environ["XDG_STATE_HOME"]) / "automl" / "runs"
    give_up = time.monotonic() + 60
    while time.monotonic() < give_up and process.poll() is None:
        mine = [j for j in journals.glob(f"churn-*-{process.pid}/journal.jsonl") if j.read_bytes().count(b"\n") >= 3]
        if mine:
            break
        time.sleep(0.05)
    assert process.poll() is None, "it ended before it could be killed"
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert (tmp_path / "model.automl").read_bytes() == b"the old model"
    finished = mine[0].read_bytes().count(b"\n")
    done = automl("fit", table, *JOB, "--out", "model.automl", "--resume", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert applied(automl, table, tmp_path) == expected
    assert finished >= 3
    assert not (mine[0].parent / "trials").exists(), "the disk is given back"


def test_resuming_with_other_settings_is_refused(automl: Automl, table: Path, tmp_path: Path) -> None:
    done = automl("fit", table, *JOB, "--out", "model.automl", "--resume", cwd=tmp_path)
    assert done.returncode == 2
    assert "no interrupted run" in done.stderr
