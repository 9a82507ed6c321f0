"""`automl predict` and `automl evaluate`: rows in, rows out, labels as they were written."""

import csv
import gzip
import io
import json
import random
import subprocess
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import pytest

Command = Callable[..., subprocess.CompletedProcess[str]]
CHEAP = ("--trials", "1", "--folds", "2", "--include", "linear", "--quiet")
N_ROWS = 240
ODD_LABELS = ("a,b", 'say "hi"', "😀 naïve", "007")
Rows = list[list[str]]


def write(path: Path, rows: Iterable[Sequence[object]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)
    return path


def read(text: str) -> Rows:
    return list(csv.reader(io.StringIO(text, newline="")))


def labelled(labels: Sequence[str], seed: int = 0) -> Rows:
    """A table whose first number says the label: x is near the label's position."""
    chance = random.Random(seed)
    rows = [["id", "x", "colour", "y"]]
    for i in range(N_ROWS):
        k = chance.randrange(len(labels))
        x = f"{k + chance.gauss(0, 0.1):.4f}"
        rows.append([f"{i:04d}", x, chance.choice(["red", "green", "blue"]), labels[k]])
    return rows


def column(rows: Rows, name: str) -> list[str]:
    return [row[rows[0].index(name)] for row in rows[1:]]


@pytest.fixture(scope="module")
def folder(command: Command, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with odd.csv and odd.automl: four classes with labels that CSV has to quote."""
    folder = tmp_path_factory.mktemp("odd")
    write(folder / "odd.csv", labelled(ODD_LABELS))
    done = command("fit", "odd.csv", "-t", "y", *CHEAP, cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def predict(command: Command, folder: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    def run(*arguments: object, stdin: bytes = b"") -> subprocess.CompletedProcess[str]:
        done = command("predict", "odd.automl", *arguments, cwd=folder, stdin=stdin)
        assert done.returncode == 0, done.stderr
        return done

    return run


@pytest.mark.parametrize(("name", "plain"), [("p.csv.gz", "p.csv"), ("p.parquet", "p.csv"), ("a.b.ZIP", "a.b.csv")])
def test_predictions_are_not_called_what_they_are_not(command: Command, tmp_path: Path, name: str, plain: str) -> None:
    for line in (("predict", "m.automl", "new.csv"), ("embed", "new.csv")):
        done = command(*line, "-o", name, cwd=tmp_path)
        assert done.returncode == 2
        assert done.stderr == f"automl: {name} is no name for what is written, which is CSV: name it {plain}\n"


def test_odd_labels_come_back_as_they_were_written(predict: Command, folder: Path) -> None:
    answer = read(predict("odd.csv").stdout)
    truth = column(read((folder / "odd.csv").read_text()), "y")
    assert answer[0] == ["prediction"]
    given = column(answer, "prediction")
    assert len(given) == N_ROWS
    assert set(given) == set(ODD_LABELS)
    assert np.mean([a == b for a, b in zip(given, truth, strict=True)]) > 0.95


def test_rows_of_one_class_have_no_score_that_compares_classes(command: Command, folder: Path) -> None:
    header, *rows = labelled(ODD_LABELS)
    write(folder / "one.csv", [header, *(row for row in rows if row[-1] == "007")])
    done = command("evaluate", "odd.automl", "one.csv", "--metric", "roc_auc", "--json", cwd=folder)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert [found["scores"][name] for name in ("roc_auc", "mcc")] == [None, None]
    assert (found["interval"], found["naive"]) == ([None, None], None)
    assert found["scores"]["accuracy"] > 0.9
    assert "all rows have 'y' = '007': roc_auc, mcc say nothing" in done.stderr


@pytest.mark.parametrize(
    "labels", [("0", "1"), ("FALSE", "TRUE"), ("007", "008"), ("1.0", "1.50"), ("no", "ÿes "), ("-", "+")]
)
def test_two_labels_come_back_as_they_were_written(command: Command, tmp_path: Path, labels: tuple[str, str]) -> None:
    rows = labelled(labels)
    write(tmp_path / "d.csv", rows)
    done = command("fit", "d.csv", "-t", "y", *CHEAP, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    answer = read(command("predict", "d.automl", "d.csv", "--proba", cwd=tmp_path).stdout)
    given = column(answer, "prediction")
    stripped = {label.strip() for label in labels}
    assert {label.strip() for label in given} == stripped
    assert {name.removeprefix("proba_").strip() for name in answer[0][1:]} == stripped
    assert np.mean([a.strip() == b.strip() for a, b in zip(given, column(rows, "y"), strict=True)]) > 0.95


def test_probabilities_are_named_by_label_and_sum_to_one(predict: Command) -> None:
    answer = read(predict("odd.csv", "--proba").stdout)
    names = [f"proba_{label}" for label in ODD_LABELS]
    assert sorted(answer[0]) == sorted(["prediction", *names])
    values = np.array([[float(cell) for cell in column(answer, name)] for name in names])
    assert values.sum(axis=0) == pytest.approx(1.0, abs=1e-9)
    most_likely = [ODD_LABELS[k] for k in values.argmax(axis=0)]
    assert most_likely == column(answer, "prediction")


def test_predictions_follow_the_order_of_the_rows(predict: Command, folder: Path, tmp_path: Path) -> None:
    rows = read((folder / "odd.csv").read_text())
    straight = predict("odd.csv", "--proba").stdout.splitlines()
    turned = predict(write(tmp_path / "turned.csv", [rows[0], *rows[:0:-1]]), "--proba").stdout.splitlines()
    assert turned == [straight[0], *straight[:0:-1]]


def test_named_columns_stand_first_as_they_are_written(predict: Command, folder: Path) -> None:
    rows = read((folder / "odd.csv").read_text())
    answer = read(predict("odd.csv", "--columns", "id,y", "--proba").stdout)
    assert answer[0][:3] == ["id", "y", "prediction"]
    assert column(answer, "id") == column(rows, "id")
    assert column(answer, "y") == column(rows, "y")
    assert [row[2:] for row in answer] == read(predict("odd.csv", "--proba").stdout)


def test_a_file_gets_the_same_bytes_as_standard_output(predict: Command, folder: Path) -> None:
    said = predict("odd.csv", "--proba", "--columns", "id")
    done = predict("odd.csv", "--proba", "--columns", "id", "-o", "p.csv")
    assert (folder / "p.csv").read_bytes() == said.stdout.encode()
    assert done.stdout == ""
    assert f"{N_ROWS} predictions written to p.csv" in done.stderr
    assert predict("odd.csv", "--proba", "--columns", "id", "-o", "-").stdout == said.stdout


def test_it_does_not_matter_how_the_table_comes(predict: Command, folder: Path, tmp_path: Path) -> None:
    content = (folder / "odd.csv").read_bytes()
    expected = predict("odd.csv", "--proba").stdout
    packed = tmp_path / "odd.csv.gz"
    packed.write_bytes(gzip.compress(content))
    assert predict("-", "--proba", stdin=content).stdout == expected
    assert predict(packed, "--proba").stdout == expected
    assert predict("-", "--proba", stdin=gzip.compress(content)).stdout == expected


def test_columns_in_another_order_and_further_ones_change_nothing(
    predict: Command, folder: Path, tmp_path: Path
) -> None:
    rows = read((folder / "odd.csv").read_text())
    turned = [[f"extra {i}", row[2], row[1]] for i, row in enumerate(rows)]
    turned[0] = ["extra", "colour", "x"]
    done = predict(write(tmp_path / "turned.csv", turned), "--proba")
    assert done.stdout == predict("odd.csv", "--proba").stdout
    assert len(done.stderr.splitlines()) == 1
    assert "'extra'" in done.stderr


def test_the_number_of_threads_changes_nothing(predict: Command) -> None:
    one, two = (predict("odd.csv", "--proba", "--threads", n) for n in (1, 2))
    assert one.stdout == two.stdout


def test_values_that_were_never_seen_are_reported_and_count_as_missing(predict: Command) -> None:
    table = "x,colour\n0.1,purple\n0.1,\n0.1,mauve\n"
    done = predict("-", stdin=table.encode())
    assert len(done.stderr.splitlines()) == 2  # and one cell has no colour, which the training never had
    assert "colour" in done.stderr
    assert "purple" in done.stderr or "2" in done.stderr
    answers = read(predict("-", "--proba", stdin=table.encode()).stdout)[1:]
    assert answers[0] == answers[1] == answers[2]
    assert predict("-", "--quiet", stdin=table.encode()).stderr == ""


def test_a_column_that_is_missing_is_named(command: Command, folder: Path) -> None:
    done = command("predict", "odd.automl", "-", cwd=folder, stdin=b"colour\nred\n")
    assert done.returncode == 3
    assert "'x'" in done.stderr


def test_evaluate_agrees_with_what_predict_gives(command: Command, folder: Path) -> None:
    done = command("evaluate", "odd.automl", "odd.csv", "--json", cwd=folder)
    assert done.returncode == 0, done.stderr
    scores = json.loads(done.stdout)
    rows = read((folder / "odd.csv").read_text())
    answer = read(command("predict", "odd.automl", "odd.csv", "--proba", cwd=folder).stdout)
    pairs = list(zip(column(answer, "prediction"), column(rows, "y"), strict=True))
    given = [float(row[answer[0].index(f"proba_{y}")]) for row, (_, y) in zip(answer[1:], pairs, strict=True)]
    assert scores["scores"]["accuracy"] == pytest.approx(np.mean([a == b for a, b in pairs]))
    assert scores["scores"]["log_loss"] == pytest.approx(-np.mean(np.log(given)), rel=1e-4)
    assert scores["metric"] == "log_loss"
    low, high = scores["interval"]
    assert low < scores["scores"]["log_loss"] < high < scores["naive"]


def test_evaluate_leaves_out_rows_without_a_target_and_counts_them(
    command: Command, folder: Path, tmp_path: Path
) -> None:
    rows = read((folder / "odd.csv").read_text())
    for row in rows[1:31]:
        row[3] = ""
    write(tmp_path / "some.csv", rows)
    write(tmp_path / "rest.csv", [rows[0], *rows[31:]])
    some, rest = (
        json.loads(command("evaluate", folder / "odd.automl", name, "--json", cwd=tmp_path).stdout)
        for name in ("some.csv", "rest.csv")
    )
    assert (some["n_rows"], some["n_left_out"]) == (N_ROWS - 30, 30)
    assert some["scores"] == rest["scores"]
    said = command("evaluate", folder / "odd.automl", "some.csv", cwd=tmp_path).stdout
    assert "210 rows, 30 without a target left out" in said


def test_evaluate_puts_the_metric_asked_for_first(command: Command, folder: Path) -> None:
    done = command("evaluate", "odd.automl", "odd.csv", "--metric", "accuracy", cwd=folder)
    assert done.stdout.startswith("accuracy ")
    assert "log_loss" in done.stdout


@pytest.mark.parametrize("n_rows", [1, 2, 5])
def test_evaluate_on_very_few_rows(command: Command, folder: Path, tmp_path: Path, n_rows: int) -> None:
    rows = read((folder / "odd.csv").read_text())
    write(tmp_path / "few.csv", rows[: n_rows + 1])
    done = command("evaluate", folder / "odd.automl", "few.csv", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["n_rows"] == n_rows


@pytest.fixture(scope="module")
def regression(command: Command, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with r.csv, whose y is 3 x, and r.automl."""
    folder = tmp_path_factory.mktemp("regression")
    chance = random.Random(1)
    xs = [chance.uniform(-5, 5) for _ in range(N_ROWS)]
    write(folder / "r.csv", [["x", "y"], *([f"{x:.4f}", f"{3 * x + chance.gauss(0, 0.01):.4f}"] for x in xs)])
    done = command("fit", "r.csv", "-t", "y", *CHEAP, cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder


def test_a_regression_predicts_numbers(command: Command, regression: Path) -> None:
    answer = read(command("predict", "r.automl", "r.csv", cwd=regression).stdout)
    given = np.array(column(answer, "prediction"), dtype=float)
    truth = np.array(column(read((regression / "r.csv").read_text()), "y"), dtype=float)
    assert abs(given - truth).mean() < 0.2
    scores = json.loads(command("evaluate", "r.automl", "r.csv", "--json", cwd=regression).stdout)
    assert scores["scores"]["rmse"] == pytest.approx(np.sqrt(np.mean((given - truth) ** 2)), rel=1e-6)
    assert scores["naive"] == pytest.approx(truth.std(), rel=1e-6)


def test_a_regression_has_no_probabilities(command: Command, regression: Path) -> None:
    done = command("predict", "r.automl", "r.csv", "--proba", cwd=regression)
    assert done.returncode == 2
    assert "leave --proba out" in done.stderr


def test_metrics_that_are_not_defined_for_the_values_are_left_out(command: Command, regression: Path) -> None:
    table = b"x,y\n1,3\n0,0\n2,6\n-1,-3\n"
    scores = json.loads(command("evaluate", "r.automl", "-", "--json", cwd=regression, stdin=table).stdout)["scores"]
    assert {"mape", "rmsle"}.isdisjoint(scores)
    assert "rmse" in scores
