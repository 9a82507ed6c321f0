"""What the user can do about runs: see them, go on with one that was killed, and clear them away."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from automl_cli.metrics import TaskKind
from automl_cli.options import FitOptions
from automl_cli.parts import Part
from automl_cli.runs import list_runs
from automl_cli.table import Kind

CHEAP = ("--trials", "6", "--include", "linear", "--folds", "2")


@pytest.fixture(autouse=True)
def own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def write(path: Path, n: int = 400) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, 3)).round(5)
    y = x @ [1.0, 2.0, 0.0] + rng.normal(size=n)
    path.write_text("a,b,c,y\n" + "".join(f"{u},{v},{w},{t:.5f}\n" for (u, v, w), t in zip(x, y, strict=True)))


def killed(folder: Path, *more: str) -> str:
    """Start a fit, kill it once it has a trial on disk, and return its name."""
    program = Path(sys.executable).with_name("automl")
    line = [str(program), "fit", "day.csv", "-t", "y", "--trials", "2000", "--include", "linear", "-q", *more]
    process = subprocess.Popen(line, cwd=folder, start_new_session=True)
    give_up = time.monotonic() + 60
    while time.monotonic() < give_up and not any(run.n_trials >= 2 for run in list_runs()):
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return list_runs()[0].name


def test_a_killed_run_is_listed_resumed_from_anywhere_and_cleared(command, tmp_path) -> None:
    folder, elsewhere = tmp_path / "work", tmp_path / "elsewhere"
    folder.mkdir()
    elsewhere.mkdir()
    write(folder / "day.csv")
    name = killed(folder, "-o", "m.automl", "--seed", "3", "--patience", "5")

    listed = command("runs", "list", cwd=elsewhere)
    assert f"{name}  interrupted" in listed.stdout.replace("   ", "  ")
    assert f"next: automl runs resume {name}" in listed.stdout
    shown = json.loads(command("runs", "show", name, "--json", cwd=elsewhere).stdout)
    assert shown["status"] == "interrupted"
    assert shown["options"]["seed"] == 3
    assert len(shown["best"]) >= 2

    answer = command("runs", "resume", name[:6], "--json", cwd=elsewhere)
    assert answer.returncode == 0, answer.stderr
    assert json.loads(answer.stdout)["n_trials"] >= shown["n_trials"]
    assert (folder / "m.automl").exists()
    (done,) = list_runs()
    assert (done.status, done.n_trials) == ("done", 0)
    assert "root mean squared error" in command("runs", "show", name, cwd=elsewhere).stdout

    assert "1 run removed" in command("runs", "clean", cwd=elsewhere).stderr
    assert list_runs() == []


def test_cleaning_spares_what_can_go_on(command, tmp_path) -> None:
    write(tmp_path / "day.csv")
    name = killed(tmp_path, "-o", "m.automl")
    assert "0 runs removed" in command("runs", "clean", cwd=tmp_path).stderr
    assert "0 runs removed" in command("runs", "clean", "--interrupted", "--older", "1h", cwd=tmp_path).stderr
    assert [run.name for run in list_runs()] == [name]
    assert "1 run removed" in command("runs", "clean", "--interrupted", cwd=tmp_path).stderr
    assert list_runs() == []


def test_what_cannot_be_resumed_is_said(command, tmp_path) -> None:
    write(tmp_path / "day.csv")
    assert command("runs", "resume", "nothing", cwd=tmp_path).returncode == 2
    command("fit", "day.csv", "-t", "y", *CHEAP, "-o", "m.automl", cwd=tmp_path)
    answer = command("runs", "resume", "day", cwd=tmp_path)
    assert answer.returncode == 2
    assert "is done" in answer.stderr
    write(tmp_path / "days.csv")
    command("fit", "days.csv", "-t", "y", *CHEAP, "-o", "m.automl", cwd=tmp_path)
    assert "2 runs begin with 'day'" in command("runs", "show", "day", cwd=tmp_path).stderr


@pytest.mark.parametrize("name", ["runs", "experience"])
def test_without_a_command_the_commands_are_listed(command, tmp_path, name) -> None:
    done = command(name, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "show" in done.stdout


def test_options_survive_the_way_through_a_file(tmp_path) -> None:
    options = FitOptions(
        str(tmp_path / "d.csv"),
        "y",
        tmp_path / "m.automl",
        seconds=60.0,
        task=TaskKind.BINARY,
        include=("linear",),
        kinds={"a": Kind.NUMERIC},
        without=frozenset({Part.RACING}),
        keep=3,
    )
    assert FitOptions.from_json(json.loads(json.dumps(options.to_json()))) == options


def test_the_log_has_a_line_for_all_that_happened(command, tmp_path) -> None:
    write(tmp_path / "day.csv")
    line = ("fit", "day.csv", *CHEAP, "-o", "m.automl", "--log-file", "log.jsonl")
    assert command(*line, "-t", "y", cwd=tmp_path).returncode == 0
    assert command(*line, "-t", "nothing", cwd=tmp_path).returncode == 3
    lines = [json.loads(text) for text in (tmp_path / "log.jsonl").read_text().splitlines()]
    kinds = [entry["event"] for entry in lines]
    assert kinds.count("started") == kinds.count("finished") == 6
    assert [entry["trial"] for entry in lines if entry["event"] == "started"] == list(range(6))
    assert kinds.count("summary") == 1
    assert (kinds[-1], lines[-1]["error"]) == ("failed", "TargetNotFound")
    assert [entry["time"] for entry in lines] == sorted(entry["time"] for entry in lines)


def test_a_log_that_cannot_be_written_is_refused(command, tmp_path) -> None:
    write(tmp_path / "day.csv")
    answer = command("fit", "day.csv", "-t", "y", *CHEAP, "-o", "m.automl", "--log-file", "no/log", cwd=tmp_path)
    assert answer.returncode == 2
    assert "the folder no does not exist" in answer.stderr
    assert not (tmp_path / "m.automl").exists()
