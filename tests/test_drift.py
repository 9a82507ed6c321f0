"""Drift is found where it is, is not where it is not, and rows unlike the training are counted at prediction."""

import csv
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from automl_cli.calibration import PLAIN
from automl_cli.drift import _column_drifts, _prediction_drift, domain_auc
from automl_cli.features.frame import Frame, FrameSchema
from automl_cli.reference import (
    Reference,
    binned,
    bins_of_codes,
    bins_of_numbers,
    column_reference,
    compared,
    counts_by_bin,
    told_alike,
)

CHEAP = ("--trials", "1", "--include", "linear", "--folds", "2")


def numbers_frame(values):
    values = np.asarray(values, dtype=np.float64)
    schema = FrameSchema(numeric=tuple(f"x{i}" for i in range(values.shape[1])))
    return Frame(schema, values, np.zeros((len(values), 0), np.int32), np.zeros((len(values), 0)))


@given(st.lists(st.floats(allow_infinity=False, width=32) | st.just(float("nan")), min_size=1, max_size=60))
def test_every_row_is_in_one_bin(values) -> None:
    x = np.array(values, dtype=np.float64)
    found = column_reference("x", "numeric", x)
    assert sum(found.counts) == len(x)
    assert found.n_missing == np.isnan(x).sum()
    bins = bins_of_numbers(x, np.array(found.edges))
    assert tuple(counts_by_bin(bins, found)) == found.counts
    assert list(found.edges) == sorted(set(found.edges))


def test_a_reference_survives_the_way_through_a_file() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(500, 3))
    x[::7, 1] = np.nan
    reference = Reference.of(numbers_frame(x))
    data = json.loads(json.dumps(reference.to_json()))
    again = Reference.from_parts(data, np.ascontiguousarray(reference.rows).tobytes())
    assert again.columns == reference.columns
    assert (again.rows == reference.rows).all()
    assert (binned(numbers_frame(x), again.columns) == binned(numbers_frame(x), reference.columns)).all()


@pytest.mark.parametrize("change", [{"n_rows": 7}, {"columns": [{"name": "x"}]}, {"columns": 3}])
def test_a_malformed_reference_is_refused(change) -> None:
    reference = Reference.of(numbers_frame(np.random.default_rng(0).normal(size=(50, 2))))
    with pytest.raises((ValueError, KeyError, TypeError)):
        Reference.from_parts({**reference.to_json(), **change}, reference.rows.tobytes())


def test_rows_are_told_apart_only_where_they_differ() -> None:
    rng = np.random.default_rng(0)
    reference = Reference.of(numbers_frame(rng.normal(size=(1_500, 4))))
    same = binned(numbers_frame(rng.normal(size=(1_000, 4))), reference.columns)
    _, low, high = domain_auc(reference.rows, same)
    assert low < 0.5 < high + 0.03
    correlated = rng.multivariate_normal(np.zeros(4), 0.2 * np.eye(4) + 0.8, size=1_000)  # each column as before
    assert domain_auc(reference.rows, binned(numbers_frame(correlated), reference.columns))[1] > 0.7


def levels_of(rng, n_levels, n_old, n_new):
    """Codes of old and new rows of one category with evenly spread levels, as a frame numbers them."""
    old = rng.integers(0, n_levels, n_old)
    levels, counts = np.unique(old, return_counts=True)
    code = np.full(n_levels, -2)
    code[levels[np.argsort(-counts, kind="stable")]] = np.arange(len(levels))
    return code[old], code[rng.integers(0, n_levels, n_new)], len(levels)


@pytest.mark.parametrize(("n_levels", "n_new"), [(60, 2_000), (300, 20_000), (3_000, 500), (3_000, 20_000)])
def test_levels_that_were_frequent_by_chance_are_no_drift(n_levels, n_new) -> None:
    rng = np.random.default_rng(0)
    alarms = 0
    for _ in range(20):
        old, new, n_known = levels_of(rng, n_levels, 2_000, n_new)
        found = column_reference("c", "categorical", old, n_known)
        size, p = compared(np.array(found.counts), counts_by_bin(bins_of_codes(new, n_known), found), "categorical")
        alarms += p < 0.01 and size > 0.1
    assert alarms == 0


def test_values_that_the_schema_knows_from_other_rows_are_no_drift() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        every, new, n_known = levels_of(rng, 3_000, 3_500, 2_000)
        found = column_reference("c", "categorical", every[:2_000], n_known)  # the others judge, or have no label
        assert sum(found.counts) == 2_000
        size, p = compared(np.array(found.counts), counts_by_bin(bins_of_codes(new, n_known), found), "categorical")
        assert p > 0.01 or size < 0.1


def test_rows_are_not_told_apart_by_values_that_only_new_rows_can_have() -> None:
    old, new, n_known = levels_of(np.random.default_rng(0), 3_000, 2_000, 1_000)
    columns = [column_reference("c", "categorical", old, n_known)]
    sides = [bins_of_codes(codes, n_known)[:, None] for codes in (old, new)]
    assert domain_auc(*sides)[1] > 0.6
    low, high = domain_auc(*told_alike(*sides, columns))[1:]
    assert low <= 0.5 < high + 0.03
    swapped = (
        np.where(old < 20, 1, 0),
        np.where(new < 20, 0, 1),
    )  # a level that takes the place of another is still seen
    columns = [column_reference("c", "categorical", swapped[0], 2)]
    sides = [bins_of_codes(codes, 2)[:, None] for codes in swapped]
    assert domain_auc(*told_alike(*sides, columns))[1] > 0.6


@pytest.mark.parametrize("n_rows", [40, 100])
def test_few_rows_tell_a_large_drift_and_no_chance(n_rows) -> None:
    rng = np.random.default_rng(0)
    found = column_reference("x", "numeric", rng.normal(size=5_000))

    def moved(values) -> bool:
        now = counts_by_bin(bins_of_numbers(values, np.array(found.edges)), found)
        size, p = compared(np.array(found.counts), now, "numeric")
        return p < 0.01 and size > 0.1

    assert all(moved(rng.normal(1.2, 1.0, n_rows)) for _ in range(20))
    assert sum(moved(rng.normal(size=n_rows)) for _ in range(50)) <= 2
    assert moved(np.where(rng.random(n_rows) < 0.2, np.nan, rng.normal(size=n_rows)))  # a fifth is missing now


def test_a_date_does_not_let_other_columns_pass_for_drift() -> None:
    rng = np.random.default_rng(0)
    columns = [column_reference(f"x{i}", "numeric", rng.normal(size=500)) for i in range(3)]
    day = column_reference("day", "datetime", np.arange(500.0))
    bins = np.stack([bins_of_numbers(rng.normal(size=300), np.array(column.edges)) for column in columns], axis=1)
    later = np.column_stack([bins, np.full(300, len(day.edges), dtype=np.uint8)])
    without = {column.name: column.p for column in _column_drifts(bins, columns)}
    with_date = {column.name: column.p for column in _column_drifts(later, [*columns, day])}
    assert with_date.pop("day") < 1e-9
    assert with_date == without


@pytest.mark.parametrize(("moved", "drifted"), [(0.0, False), (1.5, True)])
def test_a_mean_of_models_that_disagree_is_no_drift_and_predictions_that_move_are(moved, drifted) -> None:
    """Model k of 5 answers with column k: as widely spread as any other, while their mean is hardly spread at all."""
    rng = np.random.default_rng(0)

    def of_fold(k):
        return SimpleNamespace(predict_unchecked=lambda frame, threads: frame.numbers[:, [k]])

    manifest = SimpleNamespace(n_outputs=1, data={}, decision=PLAIN)
    model = SimpleNamespace(n_folds=5, manifest=manifest, uncorrected=of_fold)
    before = column_reference("prediction", "numeric", rng.normal(size=1_000))
    now = numbers_frame(rng.normal(moved, 1.0, size=(1_000, 5)))
    outputs = now.numbers.mean(axis=1, keepdims=True)
    found = _prediction_drift(model, Reference((), np.zeros((0, 0)), before), now, outputs, 1)
    assert found.drifted == drifted


def write(path, n, *, seed, shift=0.0, slope=1.0, kinds=("a", "b", "c"), blank=0.0, labels=True):
    rng = np.random.default_rng(seed)
    x, z = rng.normal(size=(2, n))
    kind = rng.choice(kinds, size=n)
    y = np.where(slope * (x + (kind == "a")) + 0.5 * rng.normal(size=n) > 0, "yes", "no")
    cells = [
        ["" if rng.random() < blank else f"{a + shift:.5f}", f"{b:.5f}", c] for a, b, c in zip(x, z, kind, strict=True)
    ]
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["x", "z", "kind", *(["y"] if labels else [])])
        writer.writerows([*row, label] if labels else row for row, label in zip(cells, y, strict=True))
    return path


@pytest.fixture(scope="module")
def home(command, tmp_path_factory):
    """A folder with model m.automl."""
    folder = tmp_path_factory.mktemp("drift")
    write(folder / "train.csv", 600, seed=0)
    answer = command("fit", "train.csv", "-t", "y", *CHEAP, "-o", "m.automl", cwd=folder)
    assert answer.returncode == 0, answer.stderr
    return folder


def test_rows_of_the_same_kind_have_not_drifted(command, home) -> None:
    alarms = 0
    for seed in range(1, 9):
        write(home / "new.csv", 300, seed=seed, labels=seed % 2 == 0)
        answer = command("check", "m.automl", "new.csv", "--json", cwd=home)
        alarms += answer.returncode == 8
    assert alarms == 0, answer.stdout


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"shift": 1.0}, "1 of 3 columns have moved: x"),
        ({"kinds": ("a", "b", "new")}, "columns have moved: kind"),
        ({"blank": 0.2}, "columns have moved: x"),
        ({"slope": -1.0}, "ROC AUC is"),
    ],
)
def test_what_has_drifted_is_named(command, home, changed, says) -> None:
    write(home / "new.csv", 400, seed=9, **changed)
    answer = command("check", "m.automl", "new.csv", cwd=home)
    assert answer.returncode == 8, answer.stdout
    assert says in answer.stdout


def test_few_rows_that_have_moved_are_told(command, home) -> None:
    write(home / "few.csv", 60, seed=9, shift=2.0)
    answer = command("check", "m.automl", "few.csv", cwd=home)
    assert answer.returncode == 8, answer.stdout
    assert "columns have moved: x" in answer.stdout


def test_a_missing_column_is_drift_and_the_others_are_still_compared(command, home) -> None:
    write(home / "new.csv", 300, seed=9)
    rows = [line.split(",", 1)[1] for line in (home / "new.csv").read_text().splitlines()]
    (home / "narrow.csv").write_text("\n".join(rows) + "\n")
    answer = command("check", "m.automl", "narrow.csv", "--json", cwd=home)
    assert answer.returncode == 8
    found = json.loads(answer.stdout)
    assert "'x'" in found["reasons"][0]
    assert {column["name"]: column["drifted"] for column in found["columns"]}["z"] is False


def test_a_label_that_the_model_does_not_know_is_drift_and_the_others_are_scored(command, home) -> None:
    write(home / "new.csv", 300, seed=9)
    lines = (home / "new.csv").read_text().splitlines()
    changed = [line.rsplit(",", 1)[0] + ",maybe" for line in lines[1:8]]
    (home / "new.csv").write_text("\n".join([lines[0], *changed, *lines[8:]]) + "\n")
    answer = command("check", "m.automl", "new.csv", "--json", cwd=home)
    assert answer.returncode == 8
    found = json.loads(answer.stdout)
    assert found["strange_labels"] == {"maybe": 7}
    assert found["reasons"] == ["7 rows have a label that the model does not know, such as 'maybe'"]
    assert 0.6 < found["score"] < 1


def test_a_label_that_is_no_number_is_drift_and_the_others_are_scored(command, tmp_path) -> None:
    models = Path(__file__).parent / "data" / "models"
    header, *rows = (models / "format-2-regression.csv").read_text().splitlines()
    rows = [rows[0].rpartition(",")[0] + ",n.a.", *rows[1:], *rows]
    (tmp_path / "new.csv").write_text("\n".join([header, *rows]) + "\n")
    answer = command("check", models / "format-2-regression.automl", "new.csv", "--json", cwd=tmp_path)
    assert answer.returncode == 8, answer.stderr
    found = json.loads(answer.stdout)
    assert "1 row has a label that is no number, such as 'n.a.'" in found["reasons"]
    assert found["score"] > 0


def test_too_few_rows_tell_nothing(command, home) -> None:
    write(home / "new.csv", 20, seed=1)
    answer = command("check", "m.automl", "new.csv", cwd=home)
    assert answer.returncode == 3
    assert "20 rows are too few" in answer.stderr


def test_prediction_counts_what_is_unlike_the_training_and_strict_refuses_it(command, home) -> None:
    (home / "odd.csv").write_text("x,z,kind\n99,0.1,a\n,0.2,b\n0.3,0.1,zebra\n")
    answer = command("predict", "m.automl", "odd.csv", cwd=home)
    assert answer.returncode == 0
    assert answer.stdout.count("\n") == 4
    assert "column 'x' has 1 number beyond those of the training" in answer.stderr
    assert "column 'x' has 1 cell without a value, which the training never had" in answer.stderr
    assert "1 cell with a value the model never saw" in answer.stderr
    refused = command("predict", "m.automl", "odd.csv", "--strict", "-o", "p.csv", cwd=home)
    assert refused.returncode == 3
    assert refused.stderr.count("\n") == 1
    assert not (home / "p.csv").exists()
    (home / "fine.csv").write_text("x,z,kind\n0.5,0.1,a\n")
    assert command("predict", "m.automl", "fine.csv", "--strict", cwd=home).returncode == 0


def test_a_missing_column_is_an_error_unless_it_is_allowed(command, home) -> None:
    (home / "narrow.csv").write_text("x,kind\n0.5,a\n1.5,b\n")
    assert command("predict", "m.automl", "narrow.csv", cwd=home).returncode == 3
    answer = command("predict", "m.automl", "narrow.csv", "--allow-missing", cwd=home)
    assert answer.returncode == 0
    assert answer.stdout.count("\n") == 3
    assert "1 column that the model was trained with is missing, and taken for empty: 'z'" in answer.stderr
    both = command("predict", "m.automl", "narrow.csv", "--allow-missing", "--strict", cwd=home)
    assert both.returncode == 2


def test_a_threshold_decides_in_place_of_the_model(command, home) -> None:
    write(home / "new.csv", 200, seed=3, labels=False)

    def labels(*options: str) -> tuple[np.ndarray, np.ndarray]:
        answer = command("predict", "m.automl", "new.csv", "--proba", *options, cwd=home)
        assert answer.returncode == 0, answer.stderr
        rows = list(csv.DictReader(answer.stdout.splitlines()))
        return np.array([row["prediction"] == "yes" for row in rows]), np.array([float(r["proba_yes"]) for r in rows])

    for threshold in ("0.2", "0.9"):
        given, probability = labels("--threshold", threshold)
        assert (given == (probability >= float(threshold))).all()
        assert 0 < given.sum() < 200
    assert labels("--threshold", "0")[0].all()
    assert command("predict", "m.automl", "new.csv", "--threshold", "2", cwd=home).returncode == 2


def test_what_every_sample_brings_is_no_drift(command, tmp_path) -> None:
    """Rare cities, later days and rows that count more."""
    rng = np.random.default_rng(0)

    def sample(name, first_day):
        n = 600
        city = rng.zipf(1.5, size=n) % 5_000
        day = [f"2026-{1 + d // 28:02d}-{1 + d % 28:02d}" for d in first_day + rng.integers(0, 50, n)]
        x, weight = rng.normal(size=n), rng.integers(1, 9, n)
        y = np.where(x + rng.normal(scale=np.where(weight > 4, 0.1, 5.0)) > 0, "yes", "no")
        rows = zip(city, day, x.round(4), weight, y, strict=True)
        (tmp_path / name).write_text("city,day,x,w,y\n" + "".join(f"c{c},{d},{a},{w},{t}\n" for c, d, a, w, t in rows))

    sample("old.csv", 0)
    sample("new.csv", 100)
    line = ("fit", "old.csv", "-t", "y", "--weight-column", "w", *CHEAP, "-o", "m.automl")
    assert command(*line, cwd=tmp_path).returncode == 0
    answer = command("check", "m.automl", "new.csv", cwd=tmp_path)
    assert answer.returncode == 0, answer.stdout
