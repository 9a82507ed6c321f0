"""The benchmark of rows without labels: what it hides, and what it counts."""

import csv
import json
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from benchmarks.tables import Dataset
from benchmarks.unlabeled import ALONE, WITH, n_pupils_of, report, shares_of, split, without_pupils

Command = Callable[..., subprocess.CompletedProcess[str]]


def read(path: Path) -> list[list[str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def test_labels_are_stratified_and_hidden_elsewhere(tmp_path: Path) -> None:
    rows = [[str(k), "rare" if k % 60 == 0 else "ab"[k % 2]] for k in range(600)]
    with (tmp_path / "t.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["x", "y"], *rows])
    data = Dataset("t", tmp_path / "t.csv", "y", "multiclass")
    n_labelled, n_rest, n_test = split(data, tmp_path, n_labels=40, most=100, seed=1)
    assert abs(n_labelled - 40) <= 2
    assert (n_rest, n_test) == (100, 200)
    labelled, rest, test = (read(tmp_path / f"{name}.csv") for name in ("labelled", "rest", "test"))
    counts = Counter(row[1] for row in labelled[1:])
    assert counts["rare"] == 2
    assert abs(counts["a"] - counts["b"]) <= 4
    assert rest[0] == ["x"]
    parts = [{row[0] for row in part[1:]} for part in (labelled, rest, test)]
    assert sum(map(len, parts)) == len(set.union(*parts))
    split(data, tmp_path, n_labels=40, most=100, seed=1)
    assert read(tmp_path / "labelled.csv") == labelled


def test_sets_are_counted_by_the_sign_of_their_difference(tmp_path: Path) -> None:
    same = {"labels": 40, "limit": "3 trials", "optimised": "default", "metric": "log_loss", "shares": {"plain": 1.0}}
    rows = []
    for name, differences in (("gains", (-0.1, -0.11)), ("loses", (0.2, 0.21)), ("unsure", (-0.3, 0.2))):
        for seed, difference in enumerate(differences):
            about = {**same, "name": name, "seed": seed}
            beside = {**about, "system": WITH, "error": 0.5 + difference, "members_error": 0.5}
            rows += [{**about, "system": ALONE, "error": 0.5}, beside]
    rows.append({**same, "name": "broken", "seed": 0, "system": ALONE, "failure": "no"})
    (tmp_path / "runs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    said = report(tmp_path / "runs.jsonl")
    assert "lower on 2 of 3, by more than 2 standard errors on 1; worse by more than 2 on 1" in said
    assert "| gains | log_loss | 2 | 0.5 | 0.395 | -0.105 | 0.005 |" in said
    assert "1 failed" in said
    mean = (0.4 * 0.39 * 0.7 * 0.71 * 0.2 * 0.7) ** (1 / 6) / 0.5
    assert f"with unlabeled to labels alone: {mean:.4f} (standard error " in said
    assert f"with pupils to the same members alone: {mean:.4f} (standard error " in said
    assert "3 of 6 lower" in said


def test_a_model_without_its_pupils_is_the_model_before_them(command: Command, tmp_path: Path) -> None:
    """Of the same trials: a fit that is counted finds them with and without rows that have no label."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 400)
    X = rng.normal(0, 1, (400, 3)) + (2 * y - 1)[:, None] * [0.8, 0.4, 0]
    lines = [",".join(f"{value:.4f}" for value in row) for row in X]
    (tmp_path / "few.csv").write_text(
        "\n".join(["a,b,c,y", *(f"{line},{'ny'[label]}" for line, label in zip(lines[:60], y, strict=False))])
    )
    (tmp_path / "rest.csv").write_text("\n".join(["a,b,c", *lines[60:]]))
    line = ("fit", "few.csv", "-t", "y", "--trials", "4", "--folds", "2", "--include", "linear", "--include", "xgboost",
            "--metric", "log_loss", "--without", "calibration", "-q")  # fmt: skip
    for name, more in (("alone", ()), ("with", ("--unlabeled", "rest.csv"))):
        done = command(*line, *more, "-o", f"{name}.automl", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    board = json.loads(command("inspect", "with.automl", "--json", cwd=tmp_path).stdout)
    n_pupils = n_pupils_of(board)
    assert n_pupils
    assert shares_of(board["members"], n_pupils)["pupils"] == pytest.approx(0.5, abs=1e-3)
    without_pupils(tmp_path / "with.automl", tmp_path / "members.automl", n_pupils)
    said = [command("predict", f"{name}.automl", "rest.csv", "--proba", cwd=tmp_path) for name in ("alone", "members")]
    assert [done.returncode for done in said] == [0, 0]
    alone, members = (np.loadtxt(done.stdout.splitlines()[1:], delimiter=",", usecols=(1, 2)) for done in said)
    np.testing.assert_allclose(members, alone, atol=1e-6)
