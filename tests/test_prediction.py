"""How a model is judged on labelled rows."""

import json
import random
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from automl_cli.errors import BadData, UsageError
from automl_cli.prediction import Asked, evaluate_model, predict

Command = Callable[..., subprocess.CompletedProcess[str]]
N_ROWS = 200


@pytest.fixture(scope="module")
def folder(command: Command, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A binary table whose first number says the label, mostly, and its model."""
    folder = tmp_path_factory.mktemp("binary")
    chance = random.Random(5)
    lines = ["x,z,y"]
    for _ in range(N_ROWS):
        x = chance.gauss(0, 1)
        lines.append(f"{x:.4f},{chance.random():.4f},{'yes' if x + chance.gauss(0, 0.8) > 0 else 'no'}")
    (folder / "d.csv").write_text("\n".join(lines) + "\n")
    done = command("fit", "d.csv", "-t", "y", "--trials", "1", "--folds", "2", "--include", "linear", "-q", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder


def some(folder: Path, path: Path, n_rows: int) -> str:
    lines = (folder / "d.csv").read_text().splitlines(keepends=True)
    path.write_text("".join(lines[: n_rows + 1]))
    return str(path)


def test_the_interval_narrows_with_the_rows(folder: Path, tmp_path: Path) -> None:
    few, many = (
        evaluate_model(folder / "d.automl", some(folder, tmp_path / f"{n}.csv", n), metric=None, threads=1)
        for n in (40, N_ROWS)
    )
    for scores in (few, many):
        low, high = scores.interval
        assert low < scores.scores["roc_auc"] < high
        assert scores.naive == pytest.approx(0.5)
    assert few.interval[1] - few.interval[0] > many.interval[1] - many.interval[0]


def test_the_same_rows_give_the_same_scores_and_interval(folder: Path) -> None:
    one, two = (evaluate_model(folder / "d.automl", str(folder / "d.csv"), metric=None, threads=n) for n in (1, 2))
    assert one == two


def test_another_metric_is_judged_by_its_own_guess(folder: Path) -> None:
    scores = evaluate_model(folder / "d.automl", str(folder / "d.csv"), metric="accuracy", threads=1)
    y = [line.rsplit(",", 1)[1] for line in (folder / "d.csv").read_text().split()[1:]]
    assert scores.metric == "accuracy"
    assert scores.naive == pytest.approx(max(y.count("yes"), y.count("no")) / N_ROWS)


@pytest.mark.parametrize("metric", ["rmse", "no_metric"])
def test_a_metric_that_does_not_fit_is_refused(folder: Path, metric: str) -> None:
    with pytest.raises(UsageError, match=metric):
        evaluate_model(folder / "d.automl", str(folder / "d.csv"), metric=metric, threads=1)


def test_rows_of_one_class_only_have_scores_where_they_are_defined(folder: Path, tmp_path: Path) -> None:
    lines = (folder / "d.csv").read_text().splitlines()
    (tmp_path / "one.csv").write_text("\n".join([lines[0], *(line for line in lines if line.endswith(",no"))]) + "\n")
    scores = evaluate_model(folder / "d.automl", str(tmp_path / "one.csv"), metric="accuracy", threads=1)
    assert 0 < scores.scores["accuracy"] <= 1
    assert scores.interval[0] <= scores.scores["accuracy"] <= scores.interval[1]


@pytest.mark.parametrize(
    ("table", "says"), [(b"x,z,y\n1,1,maybe\n", "'maybe'"), (b"x,z,y\n1,1,\n", "no row has a value")]
)
def test_rows_that_cannot_be_judged(folder: Path, tmp_path: Path, table: bytes, says: str) -> None:
    (tmp_path / "t.csv").write_bytes(table)
    with pytest.raises(BadData, match=says):
        evaluate_model(folder / "d.automl", str(tmp_path / "t.csv"), metric=None, threads=1)


@pytest.mark.parametrize(("name", "proba"), [("prediction", False), ("proba_yes", True)])
def test_a_carried_column_may_not_be_called_like_an_answer(
    folder: Path, tmp_path: Path, name: str, proba: bool
) -> None:
    (tmp_path / "t.csv").write_text(f"x,z,{name}\n1,1,5\n")
    with pytest.raises(UsageError, match=name):
        predict(folder / "d.automl", str(tmp_path / "t.csv"), Asked(proba, carry=(name,)), threads=1)


def test_one_row_is_predicted_as_among_many(folder: Path, tmp_path: Path) -> None:
    whole = predict(folder / "d.automl", str(folder / "d.csv"), Asked(proba=True), threads=2)
    first = predict(folder / "d.automl", some(folder, tmp_path / "1.csv", 1), Asked(proba=True), threads=1)
    assert first.n_rows == 1
    assert np.asarray(first.columns["proba_yes"])[0] == np.asarray(whole.columns["proba_yes"])[0]


def test_labels_follow_the_thresholds_and_so_do_the_scores(command: Command, tmp_path: Path) -> None:
    chance = random.Random(1)
    lines = ["x,y"]
    for _ in range(1200):
        x = chance.gauss(0, 1)
        lines.append(f"{x:.4f},{'yes' if x + chance.gauss(0, 1) > 2 else 'no'}")
    (tmp_path / "d.csv").write_text("\n".join(lines) + "\n")
    found = {}
    for name, without in (("with", ()), ("left_out", ("--without", "calibration"))):
        done = command(
            "fit", "d.csv", "-t", "y", "--trials", "1", "--folds", "4", "--include", "linear",
            "--metric", "balanced_accuracy", "-q", "-o", f"{name}.automl", *without, cwd=tmp_path,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        found[name] = evaluate_model(tmp_path / f"{name}.automl", str(tmp_path / "d.csv"), metric=None, threads=1)
    answer = predict(tmp_path / "with.automl", str(tmp_path / "d.csv"), Asked(proba=True), threads=1).columns
    said, proba = np.asarray(answer["prediction"]) == "yes", np.asarray(answer["proba_yes"])
    truth = np.array([line.endswith(",yes") for line in lines[1:]])
    threshold = proba[said].min()
    assert threshold < 0.3
    assert proba[~said].max() <= threshold
    by_hand = (said[truth].mean() + (~said[~truth]).mean()) / 2
    assert found["with"].scores["balanced_accuracy"] == pytest.approx(by_hand)
    assert found["with"].scores["balanced_accuracy"] > found["left_out"].scores["balanced_accuracy"] + 0.05
    assert found["with"].scores["roc_auc"] == found["left_out"].scores["roc_auc"]


@pytest.fixture(scope="module")
def weighted(command: Command, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of rows that count from 1 to 8, and its table: those that count more are the ones that can be told."""
    folder = tmp_path_factory.mktemp("weighted")
    chance = random.Random(6)
    lines = ["x,w,y"]
    for _ in range(300):
        x, w = chance.gauss(0, 1), chance.randint(1, 8)
        lines.append(f"{x:.4f},{w},{'yes' if x + chance.gauss(0, 0.1 if w > 4 else 3.0) > 0 else 'no'}")
    (folder / "d.csv").write_text("\n".join(lines) + "\n")
    line = (
        "fit",
        "d.csv",
        "-t",
        "y",
        "--weight-column",
        "w",
        "--trials",
        "1",
        "--folds",
        "2",
        "--include",
        "linear",
        "-q",
    )
    done = command(*line, cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize("name", ["evaluate", "check"])
def test_weights_count_from_a_pipe_as_from_a_file(command: Command, weighted: Path, name: str) -> None:
    table = (weighted / "d.csv").read_bytes()
    by_file, by_pipe = (
        json.loads(command(name, "d.automl", source, "--json", cwd=weighted, stdin=table).stdout)
        for source in ("d.csv", "-")
    )
    assert by_file == by_pipe
    plain = (weighted / "d.csv").read_text().replace(",w,", ",v,").encode()
    unweighted = json.loads(command(name, "d.automl", "-", "--json", cwd=weighted, stdin=plain).stdout)
    scores = [found.get("score") or found["scores"]["roc_auc"] for found in (by_file, unweighted)]
    assert scores[0] > scores[1] + 0.02


@pytest.mark.parametrize("weight", ["-1", "", "inf", "much"])
def test_what_is_no_weight_is_refused_where_the_row_has_a_label(
    command: Command, weighted: Path, tmp_path: Path, weight: str
) -> None:
    lines = (weighted / "d.csv").read_text().splitlines()
    (tmp_path / "new.csv").write_text("\n".join([*lines, f"0.5,{weight},yes"]) + "\n")
    for name in ("evaluate", "check"):
        done = command(name, weighted / "d.automl", "new.csv", cwd=tmp_path)
        assert done.returncode == 3
        assert "weights in column 'w'" in done.stderr
        assert "data row 301" in done.stderr
    (tmp_path / "new.csv").write_text("\n".join([*lines, f"0.5,{weight},"]) + "\n")
    assert command("evaluate", weighted / "d.automl", "new.csv", cwd=tmp_path).returncode == 0
