"""`automl fit --unlabeled`: rows whose target nobody knows."""

import csv
import json
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from automl_cli.console.transfers import transfer_words
from automl_cli.errors import BadArtifact
from automl_cli.families import find_families
from automl_cli.features.frame import Frame, FrameSchema
from automl_cli.rundata import open_rundata
from automl_cli.shared import SCALE, SharedColumns, read_shared
from automl_cli.sourced import find_encoding, load_model
from automl_cli.transfer.features import SharedFeatures

Command = Callable[..., subprocess.CompletedProcess[str]]
FAMILIES = ("--include", "linear", "--include", "extra_trees", "--folds", "2")
N_COLUMNS = 8


def write(path: Path, X: np.ndarray, labels: Any = None, name: str = "y") -> Path:
    header = [f"x{j}" for j in range(X.shape[1])]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header if labels is None else [*header, name])
        for k, row in enumerate(X):
            writer.writerow([*(f"{value:.4f}" for value in row), *([] if labels is None else [labels[k]])])
    return path


def groups(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Three clouds that overlap little, each a class."""
    rng = np.random.default_rng(1)
    centres = 1.2 * rng.normal(0, 1, (3, N_COLUMNS))
    y = rng.integers(0, 3, n)
    return centres[y] + rng.normal(0, 0.9, (n, N_COLUMNS)), np.array(list("abc"))[y]


def run(command: Command, cwd: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    done = command(*arguments, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return done


def scores(command: Command, cwd: Path, model: str) -> dict[str, float]:
    found: dict[str, float] = json.loads(run(command, cwd, "evaluate", model, "test.csv", "--json").stdout)["scores"]
    return found


@pytest.fixture(scope="module")
def folder(command: Command, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six labels of each cloud, 600 rows without, and models without the latter and with them in either way."""
    place = tmp_path_factory.mktemp("clouds")
    X, y = groups(1000)
    known = np.concatenate([np.flatnonzero(y == label)[:6] for label in "abc"])
    rest = np.setdiff1d(np.arange(1000), known)
    write(place / "few.csv", X[known], y[known])
    write(place / "more.csv", X[rest[:600]])
    write(place / "test.csv", X[rest[600:]], y[rest[600:]])
    line = ("fit", "few.csv", "-t", "y", "--trials", "10", *FAMILIES)
    run(command, place, *line, "-q", "-o", "alone.automl")
    beside = (*line, "--unlabeled", "more.csv")
    done = run(command, place, *beside, "-o", "with.automl")
    (place / "said.txt").write_text(done.stderr)
    done = run(command, place, *beside, "--without", "teaching", "-o", "ways.automl", "--run-dir", "run")
    (place / "ways.txt").write_text(done.stderr)
    return place


@pytest.fixture(scope="module")
def distances(command: Command, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of what the shared features say: how far a row is from the middle."""
    place = tmp_path_factory.mktemp("distances")
    X, _ = groups(160)
    write(place / "few.csv", X[:60], np.linalg.norm(X[:60], axis=1))
    write(place / "more.csv", X[60:])
    run(command, place, "fit", "few.csv", "-t", "y", "--unlabeled", "more.csv", "--include", "linear", "--trials", "8",
        "--folds", "2", "-q", "-o", "good.automl", "--run-dir", "run")  # fmt: skip
    return place


def test_rows_without_labels_show_what_the_labels_do_not(command: Command, folder: Path) -> None:
    assert "600 rows without a value of 'y'" in (folder / "said.txt").read_text()
    alone, taught, ways = (scores(command, folder, f"{name}.automl") for name in ("alone", "with", "ways"))
    assert taught["log_loss"] < alone["log_loss"]
    assert 1 - taught["accuracy"] <= 1 - alone["accuracy"]
    assert ways["log_loss"] < alone["log_loss"]
    assert 1 - ways["accuracy"] < 0.8 * (1 - alone["accuracy"])


def test_members_learn_once_more_with_labels_of_the_ensemble(command: Command, folder: Path) -> None:
    told = json.loads(run(command, folder, "inspect", "with.automl", "--json").stdout)
    alone = json.loads(run(command, folder, "inspect", "alone.automl", "--json").stdout)
    assert {row["encoding"].partition(":")[2] for row in told["leaderboard"]} == {""}
    n = len(alone["members"])
    own, pupils = told["members"][:n], told["members"][n:]
    assert [row["number"] for row in own] == [row["number"] for row in alone["members"]]
    assert [row["weight"] for row in own] == pytest.approx([row["weight"] / 2 for row in alone["members"]])
    assert [row["weight"] for row in pupils] == pytest.approx([0.5 / len(pupils)] * len(pupils))
    members = f"{len(pupils)} member" + "s" * (len(pupils) > 1)
    for words in ((folder / "said.txt").read_text(), run(command, folder, "inspect", "with.automl").stdout):
        assert f": {members} learned once more, with the model's labels on 500 of them" in " ".join(words.split())


def test_both_ways_are_tried_beside_plain_pipelines(command: Command, folder: Path) -> None:
    board = json.loads(run(command, folder, "inspect", "ways.automl", "--json").stdout)["leaderboard"]
    tried = {row["encoding"].partition(":")[2] for row in board}
    assert tried == {"", "shared", "selftrain"}


def test_what_they_were_worth_is_said_at_the_end_and_by_inspect(command: Command, folder: Path) -> None:
    for said in ((folder / "ways.txt").read_text(), run(command, folder, "inspect", "ways.automl").stdout):
        assert " of the error, give or take " in said
        assert "ways of using them in the model: " in said


def test_the_worth_of_rows_without_labels_in_words() -> None:
    plain = {"adaptation": "target only", "score": 0.75, "pipeline": "linear one_hot", "share": 0.25}
    shared = {"adaptation": "shared", "score": 0.5, "pipeline": "linear one_hot:shared", "share": 0.75}
    gain = {"mean": 0.25, "standard_error": 0.1, "share": 1 / 3, "share_error": 0.13}
    found = {"setting": "unlabelled", "shift": None, "tried": [shared, plain], "gain": gain}
    assert transfer_words(found) == [
        "rows without labels gain 33% of the error, give or take 13%: "
        "0.5 (linear one_hot:shared) against 0.75 (linear one_hot) without",
        "ways of using them in the model: 75% shared, 25% labels only",
    ]
    one_holdout = {**gain, "standard_error": None, "share_error": None}
    assert transfer_words({**found, "gain": one_holdout})[0].startswith(
        "rows without labels are no sure gain: 33% of the error, on one holdout, without an error to go by: "
    )
    assert transfer_words({**found, "tried": [plain], "gain": None}) == [
        "no trial with rows without labels was finished: what they are worth is not known"
    ]


def test_the_worth_of_taught_members_in_words() -> None:
    taught = {
        "n_pupils": 2, "n_rows": 500, "gain": 0.2, "error": 0.1, "share": 0.05, "share_error": 0.02, "kept": True
    }  # fmt: skip

    def words(**other: object) -> str:
        (line,) = transfer_words({"setting": "unlabelled", "taught": {**taught, **other}})
        return line

    how = "2 members learned once more, with the model's labels on 500 of them"
    assert words() == f"rows without labels gain 5% of the error, give or take 2%: {how}"
    assert words(gain=0.05, share=0.01).startswith("rows without labels are no sure gain: 1% of the error")
    costs = {"gain": -0.2, "share": -0.05, "kept": False, "n_pupils": 1}
    assert words(**costs).startswith(
        "rows without labels cost 5% of the error, give or take 2%, and are left aside (1 m"
    )
    assert "on one holdout, without an error to go by" in words(error=None, share_error=None)
    assert "no member came to an end with them" in transfer_words({"setting": "unlabelled", "taught": None})[0]


def test_saved_models_predict_what_they_did_out_of_fold(folder: Path, distances: Path) -> None:
    seen = set()
    for place in (folder, distances):
        data = open_rundata(place / "run" / "data")
        for fold in sorted((place / "run" / "trials").glob("*/fold_*")):
            if not (fold / "model").exists():  # of a trial that is no candidate any more
                continue
            facts = json.loads((fold / "fold.json").read_text())
            _, valid = data.folds[facts["fold"]]
            matrix = find_encoding(facts["encoding"]).load(fold / "encoder").transform(data.frame.take(valid))
            model = load_model(find_families()[facts["family"]], facts["encoding"], fold / "model")
            np.testing.assert_allclose(model.predict(matrix, 1), np.load(fold / "oof.npy"), atol=1e-5)
            seen.add(facts["encoding"].partition(":")[2])
    assert seen == {"", "shared", "selftrain"}


def test_a_target_beside_the_unlabelled_rows_is_never_looked_at(command: Command, folder: Path, tmp_path: Path) -> None:
    """Labels there, right or wrong, give the bytes of predictions that none give."""
    with (folder / "more.csv").open(newline="", encoding="utf-8") as file:
        X = np.array(list(csv.reader(file))[1:], dtype=np.float64)
    write(tmp_path / "more.csv", X, [("c", "b", "zebra")[k % 3] for k in range(len(X))])
    done = run(command, tmp_path, "fit", folder / "few.csv", "-t", "y", "--trials", "10", *FAMILIES,
               "--unlabeled", "more.csv", "-o", "with.automl")  # fmt: skip
    assert "a column 'y', which is not looked at" in done.stderr
    assert "lacks 'y'" not in done.stderr
    predicted = [
        run(command, place, "predict", "with.automl", folder / "test.csv", "--proba").stdout
        for place in (folder, tmp_path)
    ]
    assert predicted[0] == predicted[1]


def test_rows_that_carry_nothing_do_no_harm(command: Command, tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    X = rng.normal(0, 1, (900, 4))
    y = np.where(X[:, 0] + rng.normal(0, 0.5, 900) > 0, "yes", "no")
    write(tmp_path / "few.csv", X[:120], y[:120])
    write(tmp_path / "more.csv", rng.normal(0, 1, (400, 4)))
    write(tmp_path / "test.csv", X[120:], y[120:])
    line = ("fit", "few.csv", "-t", "y", "--trials", "8", "--include", "linear", "--folds", "3", "-q",
            "--metric", "log_loss")  # fmt: skip
    run(command, tmp_path, *line, "-o", "alone.automl")
    run(command, tmp_path, *line, "--unlabeled", "more.csv", "-o", "with.automl")
    alone, beside = (scores(command, tmp_path, f"{name}.automl") for name in ("alone", "with"))
    assert beside["log_loss"] < alone["log_loss"] + 0.02


def test_rows_whose_target_is_empty_count_as_unlabelled(command: Command, folder: Path, tmp_path: Path) -> None:
    X, y = groups(80)
    write(tmp_path / "half.csv", X, [label if k < 40 else "" for k, label in enumerate(y)])
    write(tmp_path / "more.csv", groups(30)[0])
    line = ("fit", "half.csv", "-t", "y", "--trials", "1", "--include", "linear", "--folds", "2", "-o", "m.automl")
    assert "70 rows without a value of 'y'" in run(command, tmp_path, *line, "--unlabeled", "more.csv").stderr
    assert "40 rows without a value of 'y' are left out" in run(command, tmp_path, *line).stderr


def test_numbers_are_predicted_with_features_of_all_rows(command: Command, tmp_path: Path) -> None:
    """A model does not label rows with numbers."""
    X, _ = groups(160)
    write(tmp_path / "few.csv", X[:60], np.round(3 * X[:60, 0] + X[:60, 1], 3))
    write(tmp_path / "more.csv", X[60:])
    run(command, tmp_path, "fit", "few.csv", "-t", "y", "--trials", "6", "--include", "linear", "--folds", "2",
        "--unlabeled", "more.csv", "-q", "-o", "m.automl")  # fmt: skip
    board = json.loads(run(command, tmp_path, "inspect", "m.automl", "--json").stdout)["leaderboard"]
    assert {row["encoding"].partition(":")[2] for row in board} == {"", "shared"}


def test_a_run_goes_on_with_the_same_rows_only(command: Command, folder: Path, tmp_path: Path) -> None:
    write(folder / "other.csv", groups(50)[0])
    line = ("fit", "few.csv", "-t", "y", "--trials", "12", *FAMILIES, "-q", "--without", "teaching",
            "-o", "ways.automl", "--run-dir", "run")  # fmt: skip
    done = command(*line, "--resume", "--unlabeled", "other.csv", cwd=folder)
    assert done.returncode == 2
    assert "other settings" in done.stderr


@pytest.mark.parametrize(
    ("content", "more", "code", "says"),
    [
        ("u,v\n1,2\n3,4\n", (), 3, "shares no column"),
        ("y\na\nb\n", (), 3, "shares no column"),
        ("x0,x1\n", (), 3, "has a header but no rows"),
        ("", (), 3, "more.csv"),
        ("x0,x1\n1,2\n3,4\n", ("--source", "few.csv"), 2, "cannot be used together"),
        ("x0,x1\n1,2\n3,4\n", ("--unlabeled", "gone.csv"), 3, "gone.csv"),
    ],
)
def test_what_cannot_be_used_is_told_in_one_line(
    command: Command, tmp_path: Path, content: str, more: tuple[str, ...], code: int, says: str
) -> None:
    X, y = groups(40)
    write(tmp_path / "few.csv", X, y)
    (tmp_path / "more.csv").write_text(content)
    done = command("fit", "few.csv", "-t", "y", "--trials", "1", "-q", "--unlabeled", "more.csv", *more, cwd=tmp_path)
    assert done.returncode == code, done.stderr
    assert says in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_damaged_encoder_is_found(command: Command, distances: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(distances / "good.automl") as model:
        content = {name: model.read(name) for name in model.namelist()}
    members = json.loads(content["manifest.json"])["members"]
    digest = next(f["encoder"][SCALE] for m in members for f in m["folds"] if SCALE in f["encoder"])
    content[f"blobs/{digest}"] = content[f"blobs/{digest}"].replace(b"centre", b"center")
    with zipfile.ZipFile(tmp_path / "bad.automl", "w") as model:
        for name, data in content.items():
            model.writestr(name, data)
    done = command("predict", "bad.automl", distances / "more.csv", cwd=tmp_path)
    assert done.returncode == 6
    assert "damaged" in done.stderr


def mixed_frame(n: int) -> Frame:
    rng = np.random.default_rng(0)
    numbers = rng.normal(0, 1, (n, 3))
    numbers[::7, 1] = np.nan
    schema = FrameSchema(numeric=("a", "b", "c"), categorical=("d",), n_categories=(4,))
    return Frame(schema, numbers, rng.integers(-1, 4, (n, 1)).astype(np.int32), np.empty((n, 0)))


def test_shared_columns_are_the_same_after_saving(tmp_path: Path) -> None:
    frame = mixed_frame(300)
    made = SharedColumns.of(SharedFeatures.fit(frame, 0), frame)
    made.save(tmp_path)
    again = read_shared(tmp_path).columns_of(frame)
    np.testing.assert_array_equal(again, made.columns_of(frame))
    assert np.isfinite(again).all()
    np.testing.assert_allclose(again.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(again.std(axis=0), 1, atol=1e-5)


@pytest.mark.parametrize(
    "scale",
    [
        "",
        "[]",
        '{"centre": [0], "scale": [1]}',
        '{"centre": "x", "scale": "y"}',
        '{"centre": [1e999], "scale": [1]}',
        "[" * 100_000,
    ],
)
def test_malformed_scales_are_refused(tmp_path: Path, scale: str) -> None:
    frame = mixed_frame(50)
    SharedColumns.of(SharedFeatures.fit(frame, 0), frame).save(tmp_path)
    (tmp_path / SCALE).write_text(scale)
    with pytest.raises(BadArtifact):
        read_shared(tmp_path)
    (tmp_path / SCALE).unlink()
    with pytest.raises(BadArtifact):
        read_shared(tmp_path)
