"""`automl fit`, then what the other commands say of its model."""

import csv
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from automl_cli.runs import state_folder
from automl_cli.trial import Success, read_journal

Command = Callable[..., subprocess.CompletedProcess[str]]
CHEAP = ("--trials", "2", "--folds", "2", "--include", "linear")
ONE = ("--trials", "1", "--folds", "2", "--include", "linear")
N_ROWS = 200
HEAVY = (
    "sklearn", "scipy", "pandas", "lightgbm", "xgboost", "catboost", "smac", "ConfigSpace", "torch",
    "pyarrow.parquet",
)  # fmt: skip


def write(path: Path, rows: Iterable[Sequence[object]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)
    return path


def table(answer: Callable[[float, random.Random], object], n_rows: int = N_ROWS) -> list[list[Any]]:
    chance = random.Random(3)
    xs = [chance.gauss(0, 1) for _ in range(n_rows)]
    return [["x", "noise", "y"], *([f"{x:.4f}", f"{chance.random():.4f}", answer(x, chance)] for x in xs)]


def fit(command: Command, cwd: Path, *arguments: object, **more: Any) -> subprocess.CompletedProcess[str]:
    done = command("fit", *arguments, cwd=cwd, **more)
    assert done.returncode == 0, done.stderr
    return done


def inspect(command: Command, cwd: Path, model: str) -> dict[str, Any]:
    done = command("inspect", model, "--json", cwd=cwd)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def scores(command: Command, cwd: Path, model: str, data: str) -> dict[str, float]:
    done = command("evaluate", model, data, "--json", cwd=cwd)
    assert done.returncode == 0, done.stderr
    found: dict[str, float] = json.loads(done.stdout)["scores"]
    return found


ANSWERS: dict[str, Callable[[float, random.Random], object]] = {
    "binary": lambda x, chance: "yes" if x + chance.gauss(0, 0.3) > 0 else "no",
    "multiclass": lambda x, chance: ("low", "mid", "top")[(x > -0.4) + (x > 0.4)],
    "regression": lambda x, chance: f"{2 * x + chance.gauss(0, 0.1):.4f}",
}


@pytest.fixture(scope="module")
def folder(command: Command, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a table and a model for each task; `<task>.json` and `<task>.txt` hold what fit answered."""
    folder = tmp_path_factory.mktemp("fits")
    for task, answer in ANSWERS.items():
        write(folder / f"{task}.csv", table(answer))
        done = fit(command, folder, f"{task}.csv", "-t", "y", *CHEAP, "--json")
        (folder / f"{task}.json").write_text(done.stdout)
        (folder / f"{task}.txt").write_text(done.stderr)
    return folder


each_task = pytest.mark.parametrize("task", list(ANSWERS))


@each_task
def test_what_fit_promises_is_what_the_model_does(command: Command, folder: Path, task: str) -> None:
    summary = json.loads((folder / f"{task}.json").read_text())
    manifest = inspect(command, folder, f"{task}.automl")
    assert manifest["task"]["kind"] == task
    assert manifest["task"]["target"] == "y"
    assert manifest["score"] == summary["score"]
    assert manifest["n_rows"] == N_ROWS
    assert manifest["n_trials"] == summary["n_trials"] == 2
    assert sum(member["weight"] for member in manifest["members"]) == pytest.approx(1.0)
    assert {member["family"] for member in manifest["members"]} == {"linear"}
    own = scores(command, folder, f"{task}.automl", f"{task}.csv")[summary["metric"]]
    better_than_guess = own > summary["naive"] if summary["metric"] == "roc_auc" else own < summary["naive"]
    assert better_than_guess
    low, high = summary["interval"]
    assert low <= summary["score"] <= high
    # the rows that the model was made of: it may know them better than rows it has not seen, and hardly worse
    errors = [1 - own, 1 - summary["score"]] if summary["metric"] == "roc_auc" else [own, summary["score"]]
    assert 0.3 * errors[1] <= errors[0] <= 1.3 * errors[1]
    assert summary["mattered"][0][0] == "x"
    assert manifest["overhead"] == summary["overhead"]
    assert 0 < manifest["overhead"]["cpu_seconds"] < 30
    assert 0 < manifest["overhead"]["cpu_share"] <= 1
    assert 0 <= manifest["overhead"]["idle_share"] < 1


@each_task
def test_the_screen_says_what_was_understood_and_what_to_type_next(folder: Path, task: str) -> None:
    said = (folder / f"{task}.txt").read_text()
    assert f"{task}.csv: {N_ROWS} rows, 3 columns" in said
    assert f"task: {task}" in said
    assert "validation: 2 folds" in said
    assert ("positive class: yes" in said) == (task == "binary")
    assert "a guess that ignores all columns reaches" in said
    assert f"next: automl predict {task}.automl NEW.csv -o predictions.csv" in said


@pytest.mark.parametrize("line", [["evaluate", "binary.automl", "binary.csv"], ["inspect", "binary.automl"],
                                  ["profile", "binary.csv", "-t", "y"]])  # fmt: skip
def test_json_is_one_document_and_nothing_else(command: Command, folder: Path, line: list[str]) -> None:
    done = command(*line, "--json", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert isinstance(json.loads(done.stdout), dict)
    plain = command(*line, cwd=folder)
    assert plain.returncode == 0, plain.stderr
    assert plain.stdout.strip()
    with pytest.raises(json.JSONDecodeError):
        json.loads(plain.stdout)


@pytest.mark.parametrize(
    ("line", "allowed"),
    [(["inspect", "binary.automl"], set()), (["--help"], set()), (["fit", "--help"], set()),
     # Arrow imports pandas, where it is there, at the first conversion.
     (["profile", "binary.csv"], {"pandas"}), (["predict", "binary.automl", "binary.csv"], {"pandas"})],
)  # fmt: skip
def test_a_command_loads_only_the_libraries_it_needs(folder: Path, line: list[str], allowed: set[str]) -> None:
    code = (
        "import sys; from automl_cli.cli import run; code = run(sys.argv[1:]);"
        f"print(*[n for n in {HEAVY!r} if n in sys.modules], file=sys.stderr); sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code, *line], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert set(done.stderr.splitlines()[-1].split()) <= allowed


def test_standard_input_and_compressed_files_are_tables_too(command: Command, folder: Path, tmp_path: Path) -> None:
    import gzip

    content = (folder / "binary.csv").read_bytes()
    (tmp_path / "packed.csv.gz").write_bytes(gzip.compress(content))
    fit(command, tmp_path, "packed.csv.gz", "-t", "y", *ONE, "-q")
    fit(command, tmp_path, "-", "-t", "y", *ONE, "-q", stdin=content)
    packed, piped = (inspect(command, tmp_path, name) for name in ("packed.automl", "model.automl"))
    assert packed["fingerprint"] == piped["fingerprint"]
    assert packed["score"] == piped["score"]
    assert packed["members"] == piped["members"]


def test_the_positive_class_can_be_chosen(command: Command, folder: Path, tmp_path: Path) -> None:
    done = fit(command, tmp_path, folder / "binary.csv", "-t", "y", *ONE, "--positive", "no", "--metric", "f1")
    assert "positive class: no" in done.stderr
    assert inspect(command, tmp_path, "binary.automl")["task"]["classes"] == ["yes", "no"]


def test_rows_without_a_target_are_counted_and_left_out(command: Command, tmp_path: Path) -> None:
    rows = table(ANSWERS["binary"])
    for row in rows[1:13]:
        row[2] = ""
    write(tmp_path / "gaps.csv", rows)
    done = fit(command, tmp_path, "gaps.csv", "-t", "y", *ONE)
    assert "12 rows without a value of 'y' are left out" in done.stderr
    assert inspect(command, tmp_path, "gaps.automl")["n_rows"] == N_ROWS - 12


def test_rows_without_weight_do_not_matter(command: Command, tmp_path: Path) -> None:
    good = table(lambda x, chance: "yes" if x > 0 else "no")
    lies = table(lambda x, chance: "no" if x > 0 else "yes", n_rows=2 * N_ROWS)
    write(tmp_path / "truth.csv", good)
    rows = [["w", *good[0]], *([1, *row] for row in good[1:]), *([0, *row] for row in lies[1:])]
    write(tmp_path / "mixed.csv", rows)
    fit(command, tmp_path, "mixed.csv", "-t", "y", *ONE, "-q", "-o", "blind.automl")
    fit(command, tmp_path, "mixed.csv", "-t", "y", *ONE, "-q", "--weight-column", "w", "-o", "weighted.automl")
    manifest = inspect(command, tmp_path, "weighted.automl")
    assert "w" not in manifest["frame"]["numeric"] + manifest["frame"]["categorical"]
    assert manifest["score"] > 0.95
    # The weight need not be there for new rows.
    assert scores(command, tmp_path, "weighted.automl", "truth.csv")["accuracy"] > 0.9
    rows_with_weight = write(tmp_path / "with.csv", rows[: N_ROWS + 1])
    assert scores(command, tmp_path, "blind.automl", rows_with_weight.name)["accuracy"] < 0.9


def test_groups_are_not_split(command: Command, tmp_path: Path) -> None:
    # All rows of a customer share a number and an answer, and the number says nothing about other customers.
    chance = random.Random(0)
    people = [(f"g{k}", f"{chance.random():.6f}", chance.choice(["yes", "no"])) for k in range(40)]
    write(tmp_path / "d.csv", [["person_id", "x", "y"], *(person for person in people for _ in range(6))])
    trees, groups = ("--trials", "1", "--folds", "4", "--include", "xgboost"), ("--group-column", "person_id")
    fit(command, tmp_path, "d.csv", "-t", "y", *trees, "--ignore", "person_id", "-o", "split.automl")
    told = fit(command, tmp_path, "d.csv", "-t", "y", *trees, *groups, "-o", "whole.automl").stderr
    assert " ".join(groups) not in told
    assert f"add {' '.join(groups)}" in fit(command, tmp_path, "d.csv", "-t", "y", *ONE, "-o", "known.automl").stderr
    split, whole = (inspect(command, tmp_path, name) for name in ("split.automl", "whole.automl"))
    assert split["score"] > 0.95
    assert whole["score"] < 0.8
    assert "40 groups never split" in whole["validation"]
    assert "person_id" not in whole["frame"]["categorical"]
    # a column that was left out on purpose is not unlike the training
    strictly = command("predict", "split.automl", "d.csv", "--strict", "-o", "p.csv", cwd=tmp_path)
    assert strictly.returncode == 0, strictly.stderr
    assert "unknown" not in strictly.stderr


def test_under_a_time_order_the_members_are_fitted_on_all_rows(command: Command, tmp_path: Path) -> None:
    # The answer turns around in the last third: only a model that has seen it can tell.
    chance = random.Random(0)
    rows: list[list[object]] = [["day", "x", "y"]]
    for i in range(N_ROWS):
        x = chance.gauss(0, 1)
        rows.append([f"2024-{1 + i // 28:02d}-{1 + i % 28:02d}", f"{x:.4f}", f"{x * (1 if i < 120 else -3):.4f}"])
    write(tmp_path / "d.csv", rows)
    fit(command, tmp_path, "d.csv", "-t", "y", *ONE, "--time-column", "day", "-q", "-o", "ordered.automl")
    fit(command, tmp_path, "d.csv", "-t", "y", *ONE, "-q", "-o", "spread.automl")
    ordered, spread = (inspect(command, tmp_path, name) for name in ("ordered.automl", "spread.automl"))
    assert "in time" in ordered["validation"]
    assert [len(member["folds"]) for member in ordered["members"]] == [1]
    assert [len(member["folds"]) for member in spread["members"]] == [2]


def test_a_run_leaves_one_file_and_no_disk_in_use(command: Command, folder: Path, tmp_path: Path) -> None:
    before = set((state_folder() / "runs").iterdir())
    write(tmp_path / "unlike_any_other.csv", table(ANSWERS["binary"]))
    fit(command, tmp_path, "unlike_any_other.csv", "-t", "y", *ONE, "-q")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["unlike_any_other.automl", "unlike_any_other.csv"]
    (left,) = set((state_folder() / "runs").iterdir()) - before
    assert sum(path.stat().st_size for path in left.rglob("*") if path.is_file()) < 20_000


def test_a_named_run_folder_keeps_trials_and_a_model(command: Command, folder: Path, tmp_path: Path) -> None:
    fit(command, tmp_path, folder / "binary.csv", "-t", "y", *CHEAP, "-q", "--run-dir", "run")
    trials = read_journal(tmp_path / "run" / "journal.jsonl")
    assert sorted(trial.proposal.number for trial in trials) == [0, 1]
    done = command("predict", "run/model.automl", folder / "binary.csv", cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_without_any_limit_five_minutes_are_announced(folder: Path, tmp_path: Path) -> None:
    process = subprocess.Popen(
        [Path(sys.executable).with_name("automl"), "fit", folder / "binary.csv", "-t", "y"],
        cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    assert process.stderr is not None
    with process.stderr:
        assert process.stderr.readline() == "no --time given: 5m it is\n"
        process.kill()
        process.wait()


def test_a_timed_run_that_was_killed_goes_on_where_it_was(command: Command, folder: Path, tmp_path: Path) -> None:
    line = ["fit", folder / "binary.csv", "-t", "y", "--folds", "2", "--include", "linear", "--run-dir", "run", "-q",
            "-o", "m.automl"]  # fmt: skip
    journal = tmp_path / "run" / "journal.jsonl"
    process = subprocess.Popen([Path(sys.executable).with_name("automl"), *line, "--time", "60s"], cwd=tmp_path)
    give_up = time.monotonic() + 40
    while time.monotonic() < give_up and (not journal.exists() or journal.read_bytes().count(b"\n") < 2):
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    before = read_journal(journal)
    assert len(before) >= 2
    assert not (tmp_path / "m.automl").exists()
    n_trials = str(len(before) + 3)
    fit(command, tmp_path, *line[1:], "--time", "600s", "--trials", n_trials, "--resume")
    after = read_journal(journal)
    assert after[: len(before)] == before
    assert len(after) == len(before) + 3
    assert len({trial.proposal.number for trial in after}) == len(after)
    tried = [trial.proposal.pipeline for trial in after if trial.proposal.origin != "again"]
    assert len(set(tried)) == len(tried), "nothing is tried twice"
    manifest = inspect(command, tmp_path, "m.automl")
    assert manifest["n_trials"] == len(after)


def test_losses_of_weighted_rows_are_the_ones_shown(command: Command, tmp_path: Path) -> None:
    rows = table(lambda x, chance: f"{x + chance.gauss(0, 1):.4f}")
    doubled = [[*rows[0], "w"], *([*row, 2 if k % 3 else 6] for k, row in enumerate(rows[1:]))]
    small = [[*rows[0], "w"], *([*row, 1 if k % 3 else 3] for k, row in enumerate(rows[1:]))]
    write(tmp_path / "large.csv", doubled)
    write(tmp_path / "small.csv", small)
    for name in ("large", "small"):
        fit(command, tmp_path, f"{name}.csv", "-t", "y", *ONE, "-q", "--weight-column", "w")
    large, less = (inspect(command, tmp_path, f"{name}.automl") for name in ("large", "small"))
    # Only the proportions of weights matter.
    assert large["score"] == pytest.approx(less["score"], rel=1e-4)
    assert np.isfinite(large["score"])


def test_a_long_temporary_folder_is_no_hindrance(automl, repository, tmp_path, monkeypatch):
    folder = tmp_path / ("x" * 90)  # a socket's path may have about 107 characters
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    done = automl(
        "fit", repository / "sample_data" / "wine.csv", "--target", "cultivar", "--trials", "1", "--folds", "2",
        "--include", "linear", "-o", "m.automl", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "m.automl").exists()


def test_parts_of_the_search_can_be_left_out(command: Command, folder: Path, tmp_path: Path) -> None:
    """Without the portfolio and the surrogate, all but the first trial are drawn at random, and none is raced."""
    data = folder / "binary.csv"
    without = ("--no-racing", "--without", "portfolio", "--without", "smac")
    fit(command, tmp_path, data, "-t", "y", "--trials", "7", "--folds", "2", "--include", "linear", *without,
        "--run-dir", "run")  # fmt: skip
    # the journal has them in the order in which they ended
    trials = sorted(read_journal(tmp_path / "run" / "journal.jsonl"), key=lambda trial: trial.proposal.number)
    assert [trial.proposal.origin for trial in trials] == ["portfolio", *["random"] * 6]
    assert all(trial.proposal.incumbent == () for trial in trials)


@pytest.mark.alone
def test_the_members_of_small_data_are_fitted_on_other_folds_too(
    automl: Command, command: Command, folder: Path, tmp_path: Path
) -> None:
    data = folder / "binary.csv"
    for name, limit, more in (("with", "8s", ()), ("without", "5s", ("--without", "repeats"))):
        fit(automl, tmp_path, data, "-t", "y", "--time", limit, "--folds", "3", "--include", "linear",
            "--without", "smac", *more, "-o", f"{name}.automl")  # fmt: skip
    n_models = [
        [len(member["folds"]) for member in inspect(command, tmp_path, f"{name}.automl")["members"]]
        for name in ("with", "without")
    ]
    assert 6 in n_models[0]
    assert set(n_models[0]) <= {3, 6}  # as many members as there is time for
    assert set(n_models[1]) == {3}
    assert scores(command, tmp_path, "with.automl", str(data))["accuracy"] > 0.8


def test_what_racing_left_out_is_said_at_the_end_and_by_inspect(command: Command, folder: Path, tmp_path: Path) -> None:
    random = ("--without", "portfolio", "--without", "smac")
    done = fit(command, tmp_path, folder / "binary.csv", "-t", "y", "--trials", "14", "--folds", "3",
               "--include", "linear", *random, "--run-dir", "run", "-o", "m.automl")  # fmt: skip
    trials = read_journal(tmp_path / "run" / "journal.jsonl")
    given_up = [trial for trial in trials if isinstance(trial, Success) and trial.given_up]
    assert given_up
    assert all("no better than the incumbent" in trial.note and not trial.complete for trial in given_up)
    assert f"14 trials, {len(given_up)} given up early, 0 failed" in done.stderr
    left_out = sum(3 - len(trial.losses) for trial in given_up)
    assert inspect(command, tmp_path, "m.automl")["racing"]["n_folds"] == left_out
    shown = command("inspect", "m.automl", cwd=tmp_path).stdout
    assert f"{len(given_up)} trials given up early; {left_out} folds" in shown


def test_an_unknown_part_is_refused_with_the_known_ones(command: Command, folder: Path, tmp_path: Path) -> None:
    done = command("fit", folder / "binary.csv", "-t", "y", "--without", "luck", cwd=tmp_path)
    assert done.returncode == 2
    assert "parts are racing, portfolio, " in done.stderr


@pytest.mark.alone
def test_where_nothing_gains_any_more_a_run_ends_long_before_its_limit(
    automl: Command, command: Command, folder: Path, tmp_path: Path
) -> None:
    # a process of its own, from whose start the limit counts
    done = fit(automl, tmp_path, folder / "binary.csv", "-t", "y", "--time", "100s", "--patience", "4", "--folds", "2",
               "--include", "linear", "--without", "smac", "--json", "-o", "m.automl")  # fmt: skip
    summary = json.loads(done.stdout)
    early = summary["ended_early"]
    assert early["n_trials"] >= 4
    assert early["trials_left"] is None
    assert summary["seconds"] < 60
    assert 100 - summary["seconds"] <= early["seconds_left"] < 100
    assert not summary["interrupted"]
    said = f"the search ended after {early['n_trials']} trials in a row without a gain, {early['seconds_left']:.0f} s "
    assert said in done.stderr
    assert inspect(command, tmp_path, "m.automl")["ended_early"] == early
    assert said in " ".join(command("inspect", "m.automl", cwd=tmp_path).stdout.split())
    assert scores(command, tmp_path, "m.automl", str(folder / "binary.csv"))["accuracy"] > 0.8


def test_patience_ends_a_counted_run_at_the_same_trial_for_every_number_of_workers(
    command: Command, folder: Path, tmp_path: Path
) -> None:
    found = []
    for workers in ("1", "2"):
        done = fit(command, tmp_path, folder / "binary.csv", "-t", "y", "--trials", "80", "--patience", "3",
                   "--folds", "2", "--include", "linear", "--without", "smac", "--workers", workers, "--json",
                   "--run-dir", f"run{workers}", "-o", f"{workers}.automl")  # fmt: skip
        summary = json.loads(done.stdout)
        assert summary["ended_early"] == {
            "n_trials": 3, "seconds_left": None, "trials_left": 80 - summary["n_trials"], "reason": ""
        }  # fmt: skip
        assert 6 <= summary["n_trials"] < 80
        journal = read_journal(tmp_path / f"run{workers}" / "journal.jsonl")
        tried = sorted((trial.proposal.number, trial.proposal.pipeline.key()) for trial in journal)
        applied = command("predict", f"{workers}.automl", folder / "binary.csv", "--proba", cwd=tmp_path)
        found.append((tried, applied.stdout, summary["score"]))
    assert found[0] == found[1]


def test_no_patience_at_all_is_a_mistake(command: Command, folder: Path, tmp_path: Path) -> None:
    done = command("fit", folder / "binary.csv", "-t", "y", "--patience", "0", cwd=tmp_path)
    assert done.returncode == 2
    assert "--patience" in done.stderr


def test_without_patience_nothing_is_said_of_it(folder: Path) -> None:
    assert json.loads((folder / "binary.json").read_text())["ended_early"] is None
    assert "ended after" not in (folder / "binary.txt").read_text()
