"""`automl predict --explain`: which columns made a prediction what it is."""

import csv
import io
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

import automl_cli.reasons
from automl_cli.artifact import Artifact, Member, open_artifact, write_artifact
from automl_cli.errors import UsageError
from automl_cli.families import find_families
from automl_cli.families.family import FoldData, Limits, Shape
from automl_cli.features.encodings import ENCODINGS
from automl_cli.features.frame import Frame, FrameSchema
from automl_cli.metrics import METRICS
from automl_cli.reasons import NOTHING, Explained, Reasons, explained_part, reason_columns, reasons, summary
from automl_cli.table import Column, Kind, Schema
from automl_cli.task import TaskKind
from automl_cli.trial import Pipeline

Command = Callable[..., subprocess.CompletedProcess[str]]
N_ROWS = 400
SCHEMA = Schema(
    (
        Column("a", Kind.NUMERIC, ""),
        Column("b", Kind.NUMERIC, ""),
        Column("c", Kind.CATEGORY, "", categories=("red", "green", "blue")),
        Column("day", Kind.DATETIME, ""),
        Column("note", Kind.TEXT, ""),
    )
)
FRAME_SCHEMA = FrameSchema(("a", "b"), ("c",), (3,), ("day",), ("note",))
CLASSES = {TaskKind.BINARY: ("no", "yes"), TaskKind.MULTICLASS: ("x", "y", "z"), TaskKind.REGRESSION: ()}
Wanted = tuple[str, str, float]
"""Family, encoding, weight."""


def frame_of(n_rows: int = N_ROWS, seed: int = 0) -> Frame:
    rng = np.random.default_rng(seed)
    texts = [" ".join(rng.choice(["good", "bad", "film"], 3)) for _ in range(n_rows)]
    return Frame(
        FRAME_SCHEMA,
        rng.uniform(1, 3, (n_rows, 2)),
        rng.integers(0, 3, (n_rows, 1)).astype(np.int32),
        19_000 + rng.uniform(0, 900, (n_rows, 1)),
        (pa.array(texts, pa.large_string()),),
    )


def model_file(
    folder: Path, y: np.ndarray, kind: TaskKind, wanted: Sequence[Wanted], *, metric: str = "", mixing: object = None
) -> Artifact:
    """Fit two folds of each wanted member to `frame_of` and save them as one model."""
    members = [_member(folder / str(number), y, kind, metric, one) for number, one in enumerate(wanted)]
    return saved(folder, kind, members, metric=metric, mixing=mixing)


def saved(
    folder: Path, kind: TaskKind, members: Sequence[Member], *, metric: str = "", mixing: object = None
) -> Artifact:
    """Write members as one model and open it."""
    facts = {
        "created": "2026-01-01T00:00:00Z",
        "task": {"kind": kind.value, "target": "t", "classes": list(CLASSES[kind]), "metric": metric or "rmse"},
        "schema": SCHEMA.to_json(),
        "frame": FRAME_SCHEMA.to_json(),
        **({} if mixing is None else {"mixing": mixing}),
    }
    write_artifact(folder / "m.automl", facts, members)
    return open_artifact(folder / "m.automl")


def _member(folder: Path, y: np.ndarray, kind: TaskKind, metric: str, wanted: Wanted, **changed: str) -> Member:
    family, encoding, weight = wanted
    number = int(folder.name)
    frame, chosen, n_outputs = frame_of(), find_families()[family], len(CLASSES[kind]) or 1
    shape = Shape(kind, N_ROWS, 5, int(encoding != "target"), n_outputs)
    hyperparameters = {**chosen.defaults(shape)[0], **changed}
    folds = []
    for k in range(2):
        train, valid = np.flatnonzero(np.arange(N_ROWS) % 2 != k), np.flatnonzero(np.arange(N_ROWS) % 2 == k)
        encoder, matrix = ENCODINGS[encoding].fit(frame.take(train), y[train], kind, n_outputs, k)
        held_out = encoder.transform(frame.take(valid))
        loss = METRICS["rmse" if kind is TaskKind.REGRESSION else "log_loss"].loss
        data = FoldData(kind, n_outputs, matrix, y[train], None, held_out, y[valid], None, loss, metric)
        model = chosen.fit(data, hyperparameters, Limits(threads=1, seed=number, rounds=30))
        fold = folder / f"fold_{k}"
        (fold / "encoder").mkdir(parents=True)
        (fold / "model").mkdir()
        ENCODINGS[encoding].save(encoder, fold / "encoder")
        chosen.save(model, fold / "model")
        folds.append(fold)
    return Member(number, Pipeline(family, encoding, hyperparameters), weight, 0.1, tuple(folds))


def by_column(found: Reasons, n_columns: int) -> np.ndarray:
    """Return signed contributions of shape (n_rows, n_columns)."""
    whole = np.zeros((len(found.columns), n_columns))
    rows, places = np.nonzero(found.columns != NOTHING)
    whole[rows, found.columns[rows, places]] = found.contributions[rows, places]
    return whole


def value(frame: Frame) -> np.ndarray:
    """A target in which every column has a part."""
    a, b = frame.numbers.T
    return 1000 + 30 * a * b + np.array([0.0, 40.0, -20.0])[frame.codes[:, 0]] + 0.05 * (frame.days[:, 0] - 19_000)


BOOSTERS = (("lightgbm", "native", 0.5), ("xgboost", "target", 0.3), ("catboost", "generated", 0.2))


@pytest.fixture(scope="module")
def boosters(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """A regression by three boosters with an encoding each."""
    pytest.importorskip("catboost")
    return model_file(tmp_path_factory.mktemp("boosters"), value(frame_of()), TaskKind.REGRESSION, BOOSTERS)


def test_contributions_add_up_to_the_prediction_in_units_of_the_target(boosters: Artifact) -> None:
    frame = frame_of(200, seed=1)
    found = reasons(boosters, frame, 50, threads=1)
    rest = boosters.predict(frame, 1)[:, 0] - found.contributions.sum(axis=1)
    # what no column contributes is the same for all rows
    assert np.ptp(rest) < 1e-3
    assert rest.mean() == pytest.approx(value(frame_of()).mean(), rel=0.05)
    assert summary(found, boosters.manifest) == "reasons are those of all members; contributions are to 't'"
    order = np.abs(found.contributions)
    assert (np.diff(order, axis=1) <= 0).all()


def test_few_reasons_are_the_first_of_many(boosters: Artifact) -> None:
    frame = frame_of(50, seed=2)
    two, all_of_them = (reasons(boosters, frame, k, threads=1) for k in (2, 5))
    np.testing.assert_array_equal(two.columns, all_of_them.columns[:, :2])
    np.testing.assert_array_equal(two.contributions, all_of_them.contributions[:, :2])


def test_rows_are_explained_alike_however_few_at_a_time(boosters: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    frame = frame_of(60, seed=3)
    whole = reasons(boosters, frame, 3, threads=1)
    monkeypatch.setattr(automl_cli.reasons, "MOST_BYTES", 7 * 8 * 5)
    parts = reasons(boosters, frame, 3, threads=2)
    np.testing.assert_array_equal(whole.columns, parts.columns)
    np.testing.assert_allclose(whole.contributions, parts.contributions, rtol=1e-5)


@pytest.mark.parametrize("decisive", ["a", "c", "day", "note"])
def test_the_one_column_that_decides_is_named_first(decisive: str, tmp_path: Path) -> None:
    frame = frame_of()
    good = np.array(["good" in text for text in frame.texts[0].to_pylist()])
    score = {
        "a": frame.numbers[:, 0] > 2,
        "c": frame.codes[:, 0] == 1,
        "day": frame.days[:, 0] > 19_450,
        "note": good,
    }[decisive]
    wanted = [("lightgbm", "native", 0.6), ("xgboost", "generated", 0.4)]
    artifact = model_file(tmp_path, score.astype(np.int64), TaskKind.BINARY, wanted)
    fresh = frame_of(300, seed=4)
    found = reasons(artifact, fresh, 3, threads=1)
    first = np.array(fresh.schema.names)[found.columns[:, 0]]
    assert (first == decisive).mean() > 0.97
    says_yes = artifact.predict(fresh, 1)[:, 1] > 0.5
    assert ((found.contributions[:, 0] > 0) == says_yes).mean() > 0.97
    assert summary(found, artifact.manifest).endswith("contributions are to the log odds of 'yes'")


def test_of_several_classes_the_predicted_one_is_explained(tmp_path: Path) -> None:
    frame = frame_of()
    y = np.array([0, 2, 1])[frame.codes[:, 0]]
    artifact = model_file(tmp_path, y, TaskKind.MULTICLASS, [("lightgbm", "native", 0.5), ("xgboost", "target", 0.5)])
    fresh = frame_of(90, seed=5)
    outputs = artifact.predict(fresh, 1)
    found = reasons(artifact, fresh, 2, threads=1)
    assert (found.columns[:, 0] == fresh.schema.names.index("c")).all()
    assert (found.contributions[:, 0] > 0).all()
    given = reasons(artifact, fresh, 2, threads=1, outputs=outputs)
    np.testing.assert_array_equal(given.contributions, found.contributions)
    # had another class been predicted, the category would speak against it
    other = reasons(artifact, fresh, 5, threads=1, outputs=np.roll(outputs, 1, axis=1))
    assert (by_column(other, 5)[:, 2] < 0).all()


def test_members_that_are_no_boosters_are_left_out_and_counted(tmp_path: Path) -> None:
    y = value(frame_of())
    mixed, alone = tmp_path / "mixed", tmp_path / "alone"
    wanted = [("lightgbm", "native", 0.25), ("linear", "one_hot", 0.75)]
    artifact = model_file(mixed, y, TaskKind.REGRESSION, wanted)
    frame = frame_of(40, seed=6)
    found = reasons(artifact, frame, 3, threads=1)
    assert "those of 1 of 2 members, 0.25 of the weight" in summary(found, artifact.manifest)
    # a mean over the boosters, not a quarter of it
    other = reasons(model_file(alone, y, TaskKind.REGRESSION, [("lightgbm", "native", 1.0)]), frame, 3, threads=1)
    np.testing.assert_allclose(found.contributions, other.contributions)


def test_boosters_that_hardly_count_are_not_asked(tmp_path: Path) -> None:
    y, frame = value(frame_of()), frame_of(40, seed=6)
    mixed, alone = tmp_path / "mixed", tmp_path / "alone"
    wanted = [("lightgbm", "native", 0.97), ("xgboost", "native", 0.03)]
    artifact = model_file(mixed, y, TaskKind.REGRESSION, wanted)
    found = reasons(artifact, frame, 3, threads=1)
    assert "those of 1 of 2 members, 0.97 of the weight" in summary(found, artifact.manifest)
    other = reasons(model_file(alone, y, TaskKind.REGRESSION, [("lightgbm", "native", 1.0)]), frame, 3, threads=1)
    np.testing.assert_allclose(found.contributions, other.contributions)


def test_trees_that_catboost_explains_wrongly_are_left_out(tmp_path: Path) -> None:
    pytest.importorskip("catboost")
    y = value(frame_of())
    members = [
        _member(tmp_path / "0", y, TaskKind.REGRESSION, "", ("lightgbm", "native", 0.5)),
        _member(tmp_path / "1", y, TaskKind.REGRESSION, "", ("catboost", "native", 0.5), grow_policy="Depthwise"),
    ]
    artifact = saved(tmp_path, TaskKind.REGRESSION, members)
    assert list(explained_part(artifact).weights) == [0]
    assert explained_part(artifact).share == 0.5


def test_stacked_weights_stand_as_they_are(tmp_path: Path) -> None:
    wanted = [("lightgbm", "native", 1.5), ("xgboost", "native", -0.7)]
    mixing = {"logarithms": False, "offsets": [150.0]}
    artifact = model_file(tmp_path, value(frame_of()), TaskKind.REGRESSION, wanted, mixing=mixing)
    frame = frame_of(100, seed=7)
    found = reasons(artifact, frame, 5, threads=1)
    assert np.ptp(artifact.predict(frame, 1)[:, 0] - found.contributions.sum(axis=1)) < 1e-3


def test_a_logarithm_is_called_one(tmp_path: Path) -> None:
    wanted = [("xgboost", "native", 1.0)]
    artifact = model_file(tmp_path, value(frame_of()), TaskKind.REGRESSION, wanted, metric="rmsle")
    frame = frame_of(30, seed=8)
    found = reasons(artifact, frame, 5, threads=1)
    assert summary(found, artifact.manifest).endswith("contributions are to log(1 + 't')")
    assert np.abs(found.contributions).max() < 1


def test_a_model_that_learned_nothing_has_no_reasons(tmp_path: Path) -> None:
    artifact = model_file(tmp_path, np.full(N_ROWS, 3.0), TaskKind.REGRESSION, [("xgboost", "native", 1.0)])
    found = reasons(artifact, frame_of(5), 2, threads=1)
    assert (found.columns == NOTHING).all()
    assert reason_columns(found, frame_of(5), SCHEMA) == {"reason_1": [None] * 5, "reason_2": [None] * 5}


def test_no_booster_is_an_error_before_any_model_is_loaded(tmp_path: Path) -> None:
    artifact = model_file(tmp_path, value(frame_of()), TaskKind.REGRESSION, [("linear", "one_hot", 1.0)])
    for call in (lambda: explained_part(artifact), lambda: reasons(artifact, frame_of(3), 2, threads=1)):
        with pytest.raises(UsageError, match="--include lightgbm"):
            call()


def test_cells_are_worded_as_the_model_sees_them() -> None:
    frame = Frame(
        FRAME_SCHEMA,
        np.array([[45, 1234567.0], [np.nan, 0.5]] * 2),
        np.array([[2], [-1], [-2], [0]], dtype=np.int32),
        np.array([[19_783.0], [19_783.5], [np.nan], [0.0]]),
        (pa.array(["fine", None, "", "x"], pa.large_string()),),
    )

    def worded(column: int, size: float) -> list[str | None]:
        columns, sizes = np.full((4, 1), column), np.full((4, 1), size)
        return reason_columns(Reasons(columns, sizes, Explained({}, {}, 1, 1.0), False), frame, SCHEMA)["reason_1"]

    assert worded(0, 0.12345) == ["a=45 (+0.123)", "a missing (+0.123)"] * 2
    assert worded(1, -12345.0)[0] == "b=1.23457e+06 (-12300)"
    assert worded(2, -0.3) == ["c=blue (-0.3)", "c missing (-0.3)", "c unknown (-0.3)", "c=red (-0.3)"]
    days = ["day=2024-03-01 (+2)", "day=2024-03-01T12:00:00 (+2)", "day missing (+2)", "day=1970-01-01 (+2)"]
    assert worded(3, 2.0) == days
    assert worded(4, 1e-5) == ["note (+1e-05)", "note missing (+1e-05)", "note (+1e-05)", "note (+1e-05)"]
    assert worded(NOTHING, 0.0) == [None] * 4


# --- the command ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(command: Command, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with d.csv, whose label is "age above 40", a booster d.automl and a linear model l.automl."""
    folder = tmp_path_factory.mktemp("command")
    rng = np.random.default_rng(0)
    rows = ["id,age,colour,y"]
    for i in range(400):
        age = rng.integers(20, 61)
        shown = "" if i % 10 == 0 else age
        rows.append(f"r{i},{shown},{rng.choice(['red', 'green'])},{'old' if age > 40 else 'young'}")
    (folder / "d.csv").write_text("\n".join(rows) + "\n")
    for name, family in (("d", "lightgbm"), ("l", "linear")):
        done = command(
            "fit", "d.csv", "-t", "y", "--trials", "1", "--folds", "2", "--include", family, "--ignore", "id",
            "--positive", "old", "-q", "-o", f"{name}.automl", cwd=folder,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    return folder


def test_reasons_come_last(command: Command, folder: Path) -> None:
    done = command("predict", "d.automl", "d.csv", "--explain", "top3", "--proba", "--columns", "id", cwd=folder)
    assert done.returncode == 0, done.stderr
    header, *rows = csv.reader(io.StringIO(done.stdout))
    assert header == ["id", "prediction", "proba_young", "proba_old", "reason_1", "reason_2", "reason_3"]
    assert "contributions are to the log odds of 'old'" in done.stderr
    plain = command("predict", "d.automl", "d.csv", "--proba", "--columns", "id", cwd=folder)
    assert [row[:4] for row in [header, *rows]] == list(csv.reader(io.StringIO(plain.stdout)))
    ages = [row.split(",")[1] for row in (folder / "d.csv").read_text().splitlines()[1:]]
    for age, row in zip(ages, rows, strict=True):
        assert row[6] == ""  # there are two columns
        if age:
            sign = "+" if row[1] == "old" else "-"
            assert row[4].startswith(f"age={age} ({sign}")
        else:
            assert "age missing (" in row[4] + row[5]


def test_quiet_says_nothing_of_whose_reasons_they_are(command: Command, folder: Path) -> None:
    done = command("predict", "d.automl", "d.csv", "--explain", "top1", "-q", cwd=folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[0] == "prediction,reason_1"


@pytest.mark.parametrize("text", ["top0", "top51", "top", "3", "top03", "top1e1", "all", "top-1", ""])
def test_anything_but_a_number_of_reasons_is_refused(command: Command, folder: Path, text: str) -> None:
    done = command("predict", "d.automl", "d.csv", "--explain", text, cwd=folder)
    assert done.returncode == 2
    assert "write top3" in done.stderr
    assert done.stdout == ""


def test_the_environment_and_the_settings_count(
    command: Command, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "automl.toml").write_text('[predict]\nexplain = "top2"\n')
    line = ("predict", folder / "d.automl", folder / "d.csv", "-q")
    assert command(*line, cwd=tmp_path).stdout.splitlines()[0] == "prediction,reason_1,reason_2"
    monkeypatch.setenv("AUTOML_EXPLAIN", "top1")
    assert command(*line, cwd=tmp_path).stdout.splitlines()[0] == "prediction,reason_1"


def test_a_model_without_boosters_is_refused_before_the_data_is_read(command: Command, folder: Path) -> None:
    done = command("predict", "l.automl", "no-such.csv", "--explain", "top3", cwd=folder)
    assert done.returncode == 2
    assert "fit with --include lightgbm" in done.stderr


def test_a_carried_column_may_not_be_called_like_a_reason(command: Command, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("age,colour,reason_2\n30,red,x\n")
    line = ("predict", folder / "d.automl", "t.csv", "--columns", "reason_2", "--explain")
    assert command(*line, "top2", cwd=tmp_path).returncode == 2
    assert command(*line, "top1", cwd=tmp_path).returncode == 0
