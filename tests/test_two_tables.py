"""A target's rows and a source's: which are learned from, which are watched, what they weigh, what is said of them."""

import contextlib
import json
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from automl_cli.adapting import (
    all_rows,
    domain_of,
    fold_rows,
    source_model_folder,
    target_columns,
    training_weights,
    watched_weights,
)
from automl_cli.adaptto import adapted_job
from automl_cli.artifact import open_artifact
from automl_cli.clock import Deadline
from automl_cli.comparing import compared_columns, not_compared
from automl_cli.errors import BadData, UsageError
from automl_cli.job import Job, choose_families, prepare
from automl_cli.named import read_with_sources
from automl_cli.options import FitOptions
from automl_cli.runs import open_run
from automl_cli.sourced import read_source
from automl_cli.sourcemodel import lay_out_model
from automl_cli.task import TaskKind
from automl_cli.worth import shift_of_run

Command = Callable[..., subprocess.CompletedProcess[str]]
COLUMNS = ("a", "b", "place", "y")


def rows(n: int, seed: int, *more: Callable[[int], Any]) -> list[list[Any]]:
    """Rows of two numbers, a category and a target, and of what is asked for besides."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 2)).round(3)
    y = (2 * x[:, 0] + rng.normal(size=n)).round(3)
    return [[*x[k], "nsw"[k % 3], y[k], *(cell(k) for cell in more)] for k in range(n)]


def csv(path: Path, header: tuple[str, ...], cells: list[list[Any]]) -> None:
    path.write_text("\n".join(",".join(map(str, row)) for row in [header, *cells]) + "\n")


@contextlib.contextmanager
def prepared(folder: Path, **options: Any) -> Iterator[Job]:
    """A job on new.csv with old.csv as its source."""
    asked = FitOptions(
        str(folder / "new.csv"), "y", folder / "m.automl", n_trials=1,
        **{"folds": 4, "source": (str(folder / "old.csv"),), **options},
    )  # fmt: skip
    with open_run(folder / "run", stem="new", identity=asked.identity(), resume=False) as run:
        table, sources = read_with_sources(asked)
        yield prepare(asked, table, choose_families(("linear",), ()), run, sources)


def test_rows_of_both_tables_are_found_by_the_columns_that_both_have(tmp_path: Path) -> None:
    new, old = rows(60, 1, lambda k: k % 7), rows(300, 2)
    csv(tmp_path / "new.csv", (*COLUMNS, "only_new"), new)
    csv(tmp_path / "old.csv", COLUMNS, [*old, *(row[:4] for row in new[:10])])
    with prepared(tmp_path) as job:
        assert job.data.source is not None
        assert len(job.data.source.y) == 300
        assert any("10 rows are in" in notice.message for notice in job.notices)


def labelled(path: Path, labels: list[Any], seed: int) -> None:
    csv(path, COLUMNS, [[*row[:3], label] for row, label in zip(rows(len(labels), seed), labels, strict=True)])


@pytest.mark.parametrize(
    ("new", "old", "kind", "classes", "words"),
    [
        ([1, 2, 3, 4, 5] * 6, [1, 2, 3, 4, 5] * 60, "multiclass", ("1", "2", "3", "4", "5"), "be a regression task"),
        ([5, 6] * 20, [3, 4, 5, 6, 7, 8] * 50, "regression", (), "alone would be a binary task"),
        ([0, 1] * 20, [0.0, 1.0] * 50, "binary", ("0", "1"), ""),
        ([0, 1] * 20, [*[0, 1] * 50, 2], "binary", ("0", "1"), "1 of 101 labelled rows of old.csv are left out"),
        (["no", "yes"] * 20, [*["no", "yes"] * 50, "maybe"], "binary", ("no", "yes"), "but 'maybe' for example"),
        (["a", "b", "c"] * 20, ["a", "b", "d"] * 50, "multiclass", ("a", "b", "c", "d"), "'d' occurs in old.csv"),
    ],
)
def test_the_target_says_what_is_told_apart_and_the_source_what_its_few_numbers_are(
    tmp_path: Path, new: list[Any], old: list[Any], kind: str, classes: tuple[str, ...], words: str
) -> None:
    labelled(tmp_path / "new.csv", new, 1)
    labelled(tmp_path / "old.csv", old, 2)
    with prepared(tmp_path) as job:
        assert (job.task.kind, job.task.classes) == (kind, classes)
        assert job.data.source is not None
        said = " ".join(notice.message for notice in job.notices)
        assert words in said
        assert len(job.data.source.y) == len(old) - ("left out" in words or "maybe" in words)
        assert (job.task.kind == "multiclass") or "occurs in" not in said


def test_a_stray_label_of_the_source_leaves_metric_and_positive_class_to_the_target(tmp_path: Path) -> None:
    labelled(tmp_path / "new.csv", ["no", "yes"] * 20, 1)
    labelled(tmp_path / "old.csv", [*["no", "yes"] * 50, *["maybe"] * 30], 2)
    with prepared(tmp_path, metric="average_precision", positive="no") as job:
        assert job.task.classes == ("yes", "no")
        assert job.data.source is not None
        assert len(job.data.source.y) == 100
    (tmp_path / "run").rename(tmp_path / "first")
    with prepared(tmp_path, task=TaskKind.MULTICLASS) as job:
        assert job.task.classes == ("maybe", "no", "yes")


def test_text_beside_numbers_is_refused_and_no_label_at_all_as_well(tmp_path: Path) -> None:
    labelled(tmp_path / "new.csv", [1.5, 2.25, 3.125, 4.75] * 10, 1)
    labelled(tmp_path / "old.csv", ["low", "high"] * 20, 2)
    with pytest.raises(BadData, match=r"holds numbers in new.csv and something else in old.csv"), prepared(tmp_path):
        pass
    labelled(tmp_path / "old.csv", ["NA"] * 20, 2)
    with pytest.raises(BadData, match=r"old.csv has no labelled row"), prepared(tmp_path):
        pass


def test_of_a_large_source_only_rows_with_a_label_are_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    labelled(tmp_path / "new.csv", ["no", "yes"] * 20, 1)
    labelled(tmp_path / "old.csv", [["no", "yes", "maybe", ""][k % 4] if k % 5 == 0 else "" for k in range(2000)], 2)
    monkeypatch.setattr("automl_cli.job.most_source_rows", lambda *_: 150)
    with prepared(tmp_path) as job:
        assert job.data.source is not None
        assert len(job.data.source.y) == 150
        assert any("of 200 labelled rows of old.csv 150 are used" in notice.message for notice in job.notices)


def test_the_report_of_a_source_that_was_drawn_is_of_all_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    csv(tmp_path / "new.csv", COLUMNS, [[row[0] + 1.5, *row[1:]] for row in rows(200, 1)])
    csv(tmp_path / "old.csv", COLUMNS, rows(4000, 2))
    monkeypatch.setattr("automl_cli.job.most_source_rows", lambda *_: 400)
    with prepared(tmp_path) as job:
        found = shift_of_run(str(job.run.folder))
        drawn = domain_of(job.run.folder, job.data).auc[0]
        assert found["domain_auc"][0] > drawn + 0.08, "the drawn rows look like the target"
        assert "covariate" in found["kinds"]
        assert found["n_source"] == 400
        assert "the source counts as" in found["said"][1]


def test_no_fold_learns_from_a_group_that_it_is_judged_on(tmp_path: Path) -> None:
    csv(tmp_path / "new.csv", (*COLUMNS, "who"), rows(80, 1, lambda k: f"p{k % 16}"))
    csv(tmp_path / "old.csv", (*COLUMNS, "who"), rows(600, 2, lambda k: f"p{k % 40}"))
    with prepared(tmp_path, group_column="who") as job:
        data = job.data
        assert data.source is not None
        assert data.source.groups is not None
        assert data.groups is not None
        for fold in range(len(data.folds)):
            found = fold_rows(data, fold, "pooled")
            learned, watched = (set(data.source.groups[part]) for part in (found.source, found.watched))
            judged = set(data.groups[found.valid])
            assert not judged & (learned | watched)
            assert not learned & watched, "a group is watched as a whole"
            assert 0 < len(found.watched) <= 600 / 8
            assert len(learned) > 20
        assert len(all_rows(data, "pooled").source) == 600


def test_few_shared_values_do_not_make_a_source_vanish(tmp_path: Path) -> None:
    csv(tmp_path / "new.csv", (*COLUMNS, "only_new"), [[*row[:3], k % 2, k] for k, row in enumerate(rows(200, 1))])
    csv(tmp_path / "old.csv", ("place", "y", "only_old"), [["nsw"[k % 3], k % 2, k] for k in range(100)])
    with prepared(tmp_path, group_column=None) as job:
        assert job.data.source is not None
        assert len(job.data.source.y) == 100


def test_where_all_groups_are_shared_there_is_no_model_of_the_source(tmp_path: Path) -> None:
    csv(tmp_path / "new.csv", (*COLUMNS, "who"), rows(80, 1, lambda k: f"p{k % 16}"))
    csv(tmp_path / "old.csv", (*COLUMNS, "who"), rows(600, 2, lambda k: f"p{k % 20}"))
    with prepared(tmp_path, group_column="who") as job:
        assert set(job.shape.adaptations) == {"pooled", "balanced", "weighted"}


def test_weights_hold_between_the_tables_as_they_do_within_one(tmp_path: Path) -> None:
    csv(tmp_path / "new.csv", (*COLUMNS, "w"), rows(60, 1, lambda k: 1 + k % 2))
    csv(tmp_path / "old.csv", (*COLUMNS, "w"), rows(300, 2, lambda _: 0.1))
    with prepared(tmp_path, weight_column="w") as job:
        found = all_rows(job.data, "pooled")
        weights = training_weights(job.run.folder, job.data, found, "pooled")
        assert weights is not None
        assert weights.mean() == pytest.approx(1)
        assert weights[0] / weights[1] == pytest.approx(1 / 2)
        assert weights[1] / weights[-1] == pytest.approx(2 / 0.1)


def test_dates_and_columns_that_one_table_lacks_do_not_tell_the_tables_apart(tmp_path: Path) -> None:
    csv(tmp_path / "new.csv", (*COLUMNS, "when", "only_new"), rows(400, 1, lambda k: f"2024-03-{1 + k % 28:02}", float))
    csv(tmp_path / "old.csv", (*COLUMNS, "when"), rows(400, 2, lambda k: f"2019-03-{1 + k % 28:02}"))
    with prepared(tmp_path) as job:
        assert domain_of(job.run.folder, job.data).auc[0] < 0.6


def test_a_source_without_weights_counts_as_the_mean_beside_one_that_has_them(tmp_path: Path) -> None:
    csv(tmp_path / "new.csv", (*COLUMNS, "w"), rows(60, 1, lambda k: 1 + 2 * (k % 2)))
    csv(tmp_path / "old.csv", (*COLUMNS, "w"), rows(100, 2, lambda _: 4))
    csv(tmp_path / "older.csv", COLUMNS, rows(80, 3))
    both = tuple(str(tmp_path / name) for name in ("old.csv", "older.csv"))
    with prepared(tmp_path, weight_column="w", source=both) as job:
        assert job.data.source is not None
        assert job.data.source.weight is not None
        assert job.data.source.weight.tolist() == pytest.approx([2.0] * 100 + [1.0] * 80)
    (tmp_path / "run").rename(tmp_path / "first")
    csv(tmp_path / "old.csv", (*COLUMNS, "w"), rows(100, 2, lambda k: "" if k == 6 else 4))
    with (
        pytest.raises(BadData, match=r"1 weights of old.csv .* data row 7"),
        prepared(tmp_path, weight_column="w", source=both),
    ):
        pass


def test_under_a_time_order_nothing_is_learned_from_the_sources_future(tmp_path: Path) -> None:
    def days(n: int) -> Callable[[int], str]:
        return lambda k: str(np.datetime64("2024-01-01") + int(k * 300 / n))

    csv(tmp_path / "new.csv", (*COLUMNS, "day"), rows(100, 1, days(100)))
    csv(tmp_path / "old.csv", (*COLUMNS, "day"), rows(300, 2, days(300)))
    with prepared(tmp_path, time_column="day") as job:
        data = job.data
        assert data.source is not None
        assert data.source.order is not None
        assert data.order is not None
        assert set(job.shape.adaptations) == {"pooled", "balanced", "weighted"}, "most of the source is later"
        for fold in range(len(data.folds)):
            found = fold_rows(data, fold, "pooled")
            learned = data.source.order[np.concatenate([found.source, found.watched])]
            assert len(learned) > 100
            assert learned.max() <= data.order[found.own].max() < data.order[found.valid].min()
        assert len(all_rows(data, "pooled").source) == 300
    (tmp_path / "run").rename(tmp_path / "first")
    csv(tmp_path / "old.csv", (*COLUMNS, "day"), rows(300, 2, lambda k: "2023-05-05" if k % 2 else ""))
    with prepared(tmp_path, time_column="day") as job:
        assert job.data.source is not None
        assert "feature" in job.shape.adaptations
        found = fold_rows(job.data, 0, "pooled")
        assert len(found.source) + len(found.watched) == 300, "earlier, or of a day that nobody knows"


def test_a_year_in_numbers_does_not_tell_the_tables_apart_and_is_named(tmp_path: Path) -> None:
    new = rows(400, 1, lambda _: 2024, lambda k: f"week {k % 9}", lambda k: 5000 + k * 1.01)
    old = rows(400, 2, lambda _: 2023, lambda k: f"week {20 + k % 9}", lambda k: 50 + k * 1.01)
    for name, cells in (("new.csv", new), ("old.csv", old)):
        csv(tmp_path / name, (*COLUMNS, "year", "week", "size"), cells)
    with prepared(tmp_path, ignore=("size",)) as job:
        assert job.data.source is not None
        found = compared_columns(job.data.source.frame, job.data.frame)
        assert sorted(found.apart) == ["week", "year"]
        assert set(found.names) == {"a", "b", "place"}
        assert domain_of(job.run.folder, job.data).auc[0] < 0.6
        assert "'year'" in not_compared(found.apart)[0]
    (tmp_path / "run").rename(tmp_path / "first")
    with prepared(tmp_path) as job:  # what was measured in another unit is a difference that counts
        assert job.data.source is not None
        assert "size" in compared_columns(job.data.source.frame, job.data.frame).names
    (tmp_path / "run").rename(tmp_path / "second")
    with prepared(tmp_path, ignore=("size", "a", "b", "place")) as job:
        assert job.data.source is not None
        found = compared_columns(job.data.source.frame, job.data.frame)
        assert (found.apart, len(found.names)) == ((), 2)


def test_rare_classes_are_learned_from_and_never_held_back(tmp_path: Path) -> None:
    def labelled(n: int, seed: int, rare: int) -> list[list[Any]]:
        return [[*row[:3], "rare" if k < rare else "ab"[k % 2]] for k, row in enumerate(rows(n, seed))]

    csv(tmp_path / "new.csv", COLUMNS, labelled(80, 1, 8))
    csv(tmp_path / "old.csv", COLUMNS, labelled(400, 2, 3))
    with prepared(tmp_path) as job:
        assert job.data.source is not None
        y, rare = np.asarray(job.data.source.y), job.task.classes.index("rare")
        for fold in range(4):
            found = fold_rows(job.data, fold, "balanced")
            assert (y[found.source] == rare).sum() == 3
            assert len(found.watched) > 40


def test_few_rows_that_are_watched_weigh_as_they_are_and_relative_errors_watch_none(tmp_path: Path) -> None:
    csv(tmp_path / "new.csv", COLUMNS, [[*row[:3], 5 + abs(row[3])] for row in rows(60, 1)])
    csv(tmp_path / "old.csv", COLUMNS, [[*row[:3], 5 + abs(row[3])] for row in rows(40, 2)])
    with prepared(tmp_path) as job:
        found = fold_rows(job.data, 0, "pooled")
        weights = watched_weights(job.run.folder, job.data, found, "pooled")
        assert weights is not None
        assert len(found.watched) == 5
        assert weights.tolist() == [1.0] * (len(found.valid) + 5)
    other = tmp_path / "other"
    other.mkdir()
    for name in ("new.csv", "old.csv"):
        (tmp_path / name).rename(other / name)
    with prepared(other, metric="mape") as job:
        found = fold_rows(job.data, 0, "pooled")
        assert not len(found.watched)
        assert len(found.source) == 40


def test_what_a_model_has_learned_from_already_and_what_it_cannot_read_is_said(
    command: Command, tmp_path: Path
) -> None:
    known = rows(90, 1)
    csv(tmp_path / "old.csv", COLUMNS, known)
    csv(tmp_path / "new.csv", COLUMNS, [*known[:20], *rows(40, 5)])
    csv(tmp_path / "south.csv", COLUMNS, [[*row[:2], "s", row[3]] for row in rows(40, 6)])
    few = ("--trials", "1", "--folds", "3", "--include", "linear")
    assert command("fit", "old.csv", "-t", "y", "-o", "old.automl", *few, "-q", cwd=tmp_path).returncode == 0
    answer = command("fit", "new.csv", "-t", "y", "--source", "old.automl", "-o", "m.automl", *few, cwd=tmp_path)
    assert answer.returncode == 0, answer.stderr
    assert "20 of 60 labelled rows are among those that old.automl was trained on" in " ".join(answer.stderr.split())
    answer = command("fit", "south.csv", "-t", "y", "--source", "old.automl", "-o", "s.automl", *few, cwd=tmp_path)
    assert answer.returncode == 0, answer.stderr
    said = " ".join(answer.stderr.split())
    assert "old.automl knows 'place' as category, here it is read as constant" in said
    assert "--kind place=category" in said


@pytest.fixture(scope="module")
def three_classes(command: Command, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of three classes."""
    folder = tmp_path_factory.mktemp("three")
    labelled(folder / "old.csv", ["a", "b", "c"] * 40, 1)
    few = ("--trials", "1", "--folds", "3", "--include", "linear", "-q")
    assert command("fit", "old.csv", "-t", "y", "-o", "old.automl", *few, cwd=folder).returncode == 0
    return folder / "old.automl"


def test_a_model_of_three_classes_serves_rows_that_hold_two_of_them(three_classes: Path, tmp_path: Path) -> None:
    labelled(tmp_path / "new.csv", ["a", "b"] * 20, 2)
    with prepared(tmp_path, source=(str(three_classes),)) as job:
        assert job.task.kind == "binary"
        columns = target_columns(job.run.folder, job.data)
        assert columns.shape == (40, 3)
        model = read_source(source_model_folder(job.run.folder, job.data) / "files")
        assert np.allclose(model.columns_of(job.data.frame), columns)


@pytest.mark.parametrize(("encoding", "serves"), [("pooled", True), ("selftrain", True), ("feature", False)])
def test_members_that_hold_another_model_are_no_source(
    three_classes: Path, tmp_path: Path, encoding: str, serves: bool
) -> None:
    labelled(tmp_path / "new.csv", ["a", "b"] * 20, 2)
    with prepared(tmp_path, source=(str(three_classes),)) as job, open_artifact(three_classes) as artifact:
        (member,) = artifact.manifest.members
        own, shared = (
            replace(member, number=k, weight=0.5, pipeline=replace(member.pipeline, encoding=name))
            for k, name in enumerate((f"one_hot:{encoding}", "one_hot:offset"))
        )
        artifact.manifest = replace(artifact.manifest, members=(own, shared))
        asked = (artifact, tmp_path / "source", job.table, job.frame_schema, job.task)
        if not serves:
            with pytest.raises(UsageError, match="was itself made with a --source or --unlabeled"):
                lay_out_model(*asked)
            return
        assert ["50% of it asks" in notice.message for notice in lay_out_model(*asked)] == [True]
        parts = json.loads((tmp_path / "source" / "source.json").read_text())["parts"]
        assert {part["encoding"] for part in parts} == {"one_hot"}
        assert sum(part["share"] for part in parts) == pytest.approx(1)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (TimeoutError(), "could not be compared in the time there is"),
        (ValueError("all rows\nare of one group"), "could not be compared (ValueError: all rows are of one group)"),
    ],
)
def test_why_two_tables_could_not_be_compared_is_said(tmp_path: Path, error: Exception, words: str) -> None:
    class Failing:
        def submit(self, *_: Any, timeout: float | None) -> Future[Any]:
            del timeout
            future: Future[Any] = Future()
            future.set_exception(error)
            return future

    csv(tmp_path / "new.csv", COLUMNS, rows(60, 1))
    with prepared(tmp_path, source=()) as job:
        asked = FitOptions(str(tmp_path / "new.csv"), "y", tmp_path / "m.automl", n_trials=1)
        found = adapted_job(job, job.table, asked, Failing(), Deadline.after(None))  # type: ignore[arg-type]
        assert found.transfer is not None
        assert words in found.transfer["verdict"]["reason"]
