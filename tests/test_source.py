"""``fit --source``: an older table, or a model of one, as part of the same search."""

import json
import subprocess
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from automl_cli.adapting import WATCHED_WEIGHT, all_rows, fold_rows, lent_rows, watched_weights
from automl_cli.asking import out_of_fold
from automl_cli.candidates import USUAL
from automl_cli.encoded import open_encoded
from automl_cli.evaluate import open_run
from automl_cli.families import find_families
from automl_cli.features.frame import frame_from_table, frame_schema
from automl_cli.members import OofCache, choose_members
from automl_cli.metrics import TaskKind
from automl_cli.optimizer import Ways
from automl_cli.proposing import way_of
from automl_cli.sourced import find_encoding
from automl_cli.sources import thinned
from automl_cli.space import default_pipelines, ways_of
from automl_cli.table import read_tables
from automl_cli.transfer.adaptation import adaptations, encoder_of, rows_of
from automl_cli.trial import Success, read_journal

Command = Callable[..., subprocess.CompletedProcess[str]]
FEW = ("--folds", "3", "--include", "lightgbm", "--include", "linear")
LINEAR = ("--folds", "3", "--include", "linear")
LEVELS = ("north", "south", "west")


def prices(rng: np.random.Generator, n: int, factor: float, *, moved: float = 0.0, noise: float = 0.2) -> str:
    """Rows of a regression with a curve, a category and a missing value now and then; prices times ``factor``."""
    x = rng.normal(moved, 1, size=(n, 3)).round(3)
    place = rng.integers(0, 3, n)
    y = factor * (5 + 2 * x[:, 0] + np.sin(2 * x[:, 1]) * 2 + np.array([0.0, 1.5, -1.5])[place])
    y = (y + noise * rng.normal(size=n)).round(3)
    size = np.where(rng.random(n) < 0.05, "", x[:, 2].astype(str))
    cells = zip(x[:, 0], x[:, 1], size, np.array(LEVELS)[place], y, strict=True)
    return "a,b,c,place,y\n" + "".join(",".join(map(str, row)) + "\n" for row in cells)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A year of prices, 60 rows after prices rose by 60 %, and many more to judge by."""
    place, rng = tmp_path_factory.mktemp("source"), np.random.default_rng(1)
    (place / "old.csv").write_text(prices(rng, 1500, 1.0))
    (place / "new.csv").write_text(prices(rng, 60, 1.6))
    (place / "later.csv").write_text(prices(rng, 1500, 1.6))
    return place


@pytest.fixture(scope="module")
def fitted(command: Command, folder: Path) -> dict[str, Any]:
    """What a fit with the older table says, its run kept."""
    answer = command(
        "fit", "new.csv", "-t", "y", "--source", "old.csv", "-o", "both.automl", "--trials", "12", *FEW, "--json",
        "--run-dir", "run", cwd=folder,
    )  # fmt: skip
    assert answer.returncode == 0, answer.stderr
    found: dict[str, Any] = json.loads(answer.stdout)
    return {**found, "said": answer.stderr}


def error_of(command: Command, folder: Path, model: str, table: str = "later.csv") -> float:
    answer = command("evaluate", model, table, "--json", cwd=folder)
    assert answer.returncode == 0, answer.stderr
    return float(json.loads(answer.stdout)["scores"]["rmse"])


def test_an_older_table_gains_after_prices_rose(command: Command, folder: Path, fitted: dict[str, Any]) -> None:
    alone = command("fit", "new.csv", "-t", "y", "-o", "alone.automl", "--trials", "12", *FEW, cwd=folder)
    assert alone.returncode == 0, alone.stderr
    assert error_of(command, folder, "both.automl") < 0.7 * error_of(command, folder, "alone.automl")
    found = fitted["transfer"]
    assert found["n_source"] == 1500
    assert found["n_target"] == 60
    assert "concept" in found["shift"]["kinds"]
    assert found["gain"]["mean"] > found["gain"]["standard_error"] > 0
    assert {way["adaptation"] for way in found["tried"]} >= {"target only", "pooled", "feature", "offset"}
    assert sum(way["share"] for way in found["tried"]) == pytest.approx(1, abs=1e-3)
    for words in ("the source gains", "a concept shift", "source: 1,500 rows"):
        assert words in fitted["said"]


def test_inspect_says_what_the_source_was_worth(command: Command, folder: Path, fitted: dict[str, Any]) -> None:
    del fitted
    said = command("inspect", "both.automl", cwd=folder).stdout
    assert "the source gains" in said
    assert ":offset" in said or ":feature" in said
    stored = json.loads(command("inspect", "both.automl", "--json", cwd=folder).stdout)
    assert stored["transfer"]["setting"] == "inductive"


def test_a_saved_encoder_gives_what_the_model_was_trained_on(folder: Path, fitted: dict[str, Any]) -> None:
    del fitted
    data = open_run(str(folder / "run")).data
    rows = np.asarray(data.folds[0][1])
    for encoding in ("native:feature", "one_hot:feature", "native:pooled"):
        made = open_encoded(folder / "run", data, encoding, 0)
        again = find_encoding(encoder_of(encoding)).load(made.encoder).transform(data.frame.take(rows))
        assert again.X.shape[1] == made.valid.X.shape[1]
        assert np.allclose(again.X, made.valid.X, rtol=1e-5, atol=1e-6, equal_nan=True)


def test_nothing_is_ever_judged_on_rows_of_the_source(folder: Path, fitted: dict[str, Any]) -> None:
    del fitted
    data = open_run(str(folder / "run")).data
    assert data.n_rows == data.n_valid == 60
    for train, valid in data.folds:
        assert max(train.max(), valid.max()) < 60
    pooled = open_encoded(folder / "run", data, "native:pooled", 0)
    assert len(pooled.valid.X) == len(data.folds[0][1])


def test_training_stops_by_rows_of_the_source_too_that_it_has_not_seen(folder: Path, fitted: dict[str, Any]) -> None:
    del fitted
    data = open_run(str(folder / "run")).data
    for fold in range(len(data.folds)):
        made, rows = open_encoded(folder / "run", data, "native:pooled", fold), fold_rows(data, fold, "pooled")
        assert len(made.train.X) == len(rows.own) + len(rows.source)
        assert len(made.held.X) == len(rows.valid) + len(rows.watched)
        assert sorted([*rows.source, *rows.watched]) == list(range(1500))
        assert len(rows.watched) == 1500 // 8
        weights = watched_weights(folder / "run", data, rows, "pooled")
        assert weights is not None
        assert (weights[: len(rows.valid)] == 1).all()
        assert weights[len(rows.valid) :].sum() == pytest.approx(WATCHED_WEIGHT)
    assert len(all_rows(data, "pooled").source) == 1500


def test_every_model_says_what_it_thinks_of_the_same_rows_of_the_source(folder: Path, fitted: dict[str, Any]) -> None:
    del fitted
    run = folder / "run"
    data, trials = open_run(str(run)).data, sorted((run / "trials").iterdir())
    lent = [lent_rows(run, data, fold) for fold in range(len(data.folds))]
    assert len(np.unique(np.concatenate(lent))) == sum(map(len, lent)) > 500, "each row is lent to one fold"
    asked = set()
    for trial in trials:
        encoding = json.loads((trial / "proposal.json").read_text())["encoding"]
        for fold, rows in enumerate(lent):
            if not (trial / f"fold_{fold}").exists():
                continue
            learned = fold_rows(data, fold, encoding.partition(":")[2])
            assert not np.isin(rows, learned.source).any()
            said = np.load(trial / f"fold_{fold}" / "lent.npy")
            assert said.shape == (len(rows), 1)
            assert np.corrcoef(said[:, 0], np.asarray(data.source.y)[rows])[0, 1] > 0.5, encoding  # type: ignore[union-attr]
            asked.add(encoding.partition(":")[2])
    assert asked >= {"", "pooled", "feature", "offset"}


def test_rows_of_another_world_have_no_say_and_the_score_is_of_the_targets_rows(
    folder: Path, fitted: dict[str, Any]
) -> None:
    data, run = open_run(str(folder / "run")).data, folder / "run"
    cache, trials = OofCache(run, data), read_journal(run / "journal.jsonl")
    among = [trial for trial in trials if isinstance(trial, Success) and trial.complete]
    lent = cache.lent(among, cache.stack(among))
    assert lent is None or lent.share < 0.1, "prices rose by 60 %"
    chosen = choose_members(trials, cache)
    assert chosen is not None
    said, (y, _) = out_of_fold(chosen, cache), data.validated()
    assert len(said) == 60
    assert chosen.loss == pytest.approx(data.metric.loss(y, said, None))
    assert fitted["score"] == pytest.approx(chosen.shown_loss)


def test_the_same_command_gives_the_same_model(command: Command, folder: Path, fitted: dict[str, Any]) -> None:
    del fitted
    for name in ("once", "twice"):
        answer = command(
            "fit", "new.csv", "-t", "y", "--source", "old.csv", "-o", f"{name}.automl", "--trials", "3", *LINEAR,
            "-q", cwd=folder,
        )  # fmt: skip
        assert answer.returncode == 0, answer.stderr
        assert command("predict", f"{name}.automl", "later.csv", "-o", f"{name}.csv", cwd=folder).returncode == 0
    assert (folder / "once.csv").read_bytes() == (folder / "twice.csv").read_bytes()


def test_a_model_serves_where_the_old_rows_are_gone(command: Command, folder: Path, tmp_path: Path) -> None:
    # other order of columns, another one besides, one that is gone, a category that it never saw
    old = (folder / "old.csv").read_text().splitlines()[1:601]
    shuffled = ["y,extra,place,c,b,a"]
    for k, row in enumerate(old):
        a, b, c, place, y = row.split(",")
        shuffled.append(f"{y},{k % 7},{place},{c},{b},{a}")
    (tmp_path / "old.csv").write_text("\n".join(shuffled) + "\n")
    new = (folder / "new.csv").read_text().replace("south", "centre", 3)
    (tmp_path / "new.csv").write_text(new)
    (tmp_path / "later.csv").write_text((folder / "later.csv").read_text())
    for line in (
        ("fit", "old.csv", "-t", "y", "-o", "old.automl", "--trials", "2", *FEW, "-q"),
        ("fit", "new.csv", "-t", "y", "--source", "old.automl", "-o", "both.automl", "--trials", "4", *FEW, "-q"),
        ("fit", "new.csv", "-t", "y", "-o", "alone.automl", "--trials", "3", *FEW, "-q"),
    ):
        answer = command(*line, cwd=tmp_path)
        assert answer.returncode == 0, answer.stderr
    (tmp_path / "old.automl").unlink()
    answer = command(
        "fit", "new.csv", "-t", "y", "--source", "both.automl", "-o", "m.automl", "--trials", "1", cwd=tmp_path
    )
    assert answer.returncode == 2, answer.stderr
    assert "was itself made with" in answer.stderr
    why = command("predict", "both.automl", "later.csv", "--explain", "top2", "-o", "why.csv", cwd=tmp_path)
    assert why.returncode == 0 or "gives reasons" in why.stderr
    assert error_of(command, tmp_path, "both.automl") < 0.8 * error_of(command, tmp_path, "alone.automl")


def test_a_source_that_says_nothing_costs_next_to_nothing(command: Command, tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    (tmp_path / "new.csv").write_text(prices(rng, 150, 1.0))
    (tmp_path / "later.csv").write_text(prices(rng, 1000, 1.0))
    header, *rows = prices(rng, 800, 1.0).splitlines()
    targets = [row.rpartition(",")[2] for row in rows]
    rng.shuffle(targets)
    mixed = [f"{row.rpartition(',')[0]},{y}" for row, y in zip(rows, targets, strict=True)]
    (tmp_path / "noise.csv").write_text("\n".join([header, *mixed]) + "\n")
    for name, more in (("alone", ()), ("both", ("--source", "noise.csv"))):
        # the search with a source shares its trials among more ways, so it is given more of them
        n = "4" if not more else "15"
        answer = command(
            "fit", "new.csv", "-t", "y", "-o", f"{name}.automl", "--trials", n, *LINEAR, "-q", *more, cwd=tmp_path
        )
        assert answer.returncode == 0, answer.stderr
    assert error_of(command, tmp_path, "both.automl") < 1.05 * error_of(command, tmp_path, "alone.automl")


def test_rows_of_both_tables_are_learned_from_once(command: Command, folder: Path, tmp_path: Path) -> None:
    new = (folder / "new.csv").read_text()
    (tmp_path / "new.csv").write_text(new)
    old = (folder / "old.csv").read_text()
    (tmp_path / "old.csv").write_text(old + "".join(new.splitlines(keepends=True)[1:11]))
    answer = command(
        "fit", "new.csv", "-t", "y", "--source", "old.csv", "-o", "m.automl", "--trials", "2", *FEW, "--json",
        cwd=tmp_path,
    )  # fmt: skip
    assert answer.returncode == 0, answer.stderr
    assert json.loads(answer.stdout)["transfer"]["n_source"] == 1500
    assert "10 rows are in old.csv and in the data" in answer.stderr


SMALL = "x,z,y\n" + "".join(f"{k},{k % 5},{'ab'[k % 2]}\n" for k in range(40))


@pytest.mark.parametrize(
    ("source", "code", "words"),
    [
        ("p,q,y\n1,2,a\n3,4,b\n", 3, "old.csv shares no column with new.csv"),
        ("x,z,w\n1,2,a\n3,4,b\n", 3, "old.csv has no column 'y'"),
        ("x,z,y\n1,2,yes\n3,4,no\n", 3, "'no', 'yes' in old.csv"),
        ("x,z,y\n" + "".join(f"{k},{k},{k * 1.37}\n" for k in range(60)), 3, "old.csv"),
        (SMALL, 3, "old.csv has no labelled row that is not in the data"),
        ("x,z,y\n", 3, "old.csv has a header but no rows"),
        ("x,z,y\n1,2,\n3,4,\n", 3, "old.csv"),
        (None, 3, "old.csv"),
    ],
)  # fmt: skip
def test_a_source_that_cannot_serve_is_refused_in_one_line(
    command: Command, tmp_path: Path, source: str | None, code: int, words: str
) -> None:
    (tmp_path / "new.csv").write_text(SMALL)
    if source is not None:
        (tmp_path / "old.csv").write_text(source)
    answer = command(
        "fit", "new.csv", "-t", "y", "--source", "old.csv", "-o", "m.automl", "--trials", "1", cwd=tmp_path
    )
    assert answer.returncode == code, answer.stderr
    assert words in answer.stderr
    assert "Traceback" not in answer.stderr
    assert not (tmp_path / "m.automl").exists()


def test_a_model_that_is_cut_short_is_a_bad_model(command: Command, tmp_path: Path) -> None:
    (tmp_path / "new.csv").write_text(SMALL)
    (tmp_path / "old.automl").write_bytes(b"PK\x03\x04 and no more")
    answer = command(
        "fit", "new.csv", "-t", "y", "--source", "old.automl", "-o", "m.automl", "--trials", "1", cwd=tmp_path
    )
    assert answer.returncode == 6, answer.stderr
    assert answer.stderr.count("\n") == 1


def test_a_label_that_only_one_table_has_is_said(command: Command, tmp_path: Path) -> None:
    (tmp_path / "new.csv").write_text(SMALL)
    more = "".join(f"{k + 0.5},{k % 5},{'abc'[k % 3]}\n" for k in range(60))
    (tmp_path / "old.csv").write_text("x,z,y\n" + more)
    answer = command(
        "fit", "new.csv", "-t", "y", "--source", "old.csv", "-o", "m.automl", "--trials", "3", *FEW,
        "--task", "multiclass", cwd=tmp_path,
    )  # fmt: skip
    assert answer.returncode == 0, answer.stderr
    assert "'c' occurs in old.csv and not in new.csv" in answer.stderr
    rows = command("predict", "m.automl", "new.csv", "--proba", cwd=tmp_path).stdout.splitlines()
    assert rows[0].count(",") >= 2


def test_ten_rows_are_enough_to_begin_and_few_enough_to_be_told(command: Command, folder: Path, tmp_path: Path) -> None:
    ten = (folder / "new.csv").read_text().splitlines(keepends=True)[:11]
    (tmp_path / "new.csv").write_text("".join(ten))
    answer = command(
        "fit", "new.csv", "-t", "y", "--source", folder / "old.csv", "-o", "m.automl", "--trials", "6", *FEW[2:],
        cwd=tmp_path,
    )  # fmt: skip
    assert answer.returncode == 0, answer.stderr
    assert "10 labelled rows: what is said of the model is vague" in answer.stderr


def test_of_a_large_source_the_rows_that_look_like_the_data_are_drawn(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    (tmp_path / "new.csv").write_text(prices(rng, 200, 1.0, moved=1.5))
    (tmp_path / "old.csv").write_text(prices(rng, 20_000, 1.0))
    table, source = read_tables(tmp_path / "new.csv", [tmp_path / "old.csv"], target="y")
    frame = frame_from_table(table, frame_schema(table.schema, exclude=("y",)))
    some = thinned(source, frame, 2_000, seed=0)
    assert some.n_rows == 2_000
    before, after, goal = (part.numbers("a").mean() for part in (source, some, table))
    assert before + 0.4 < after < goal
    assert thinned(source, frame, 2_000, seed=0).texts("y") == some.texts("y")


def test_two_tables_are_read_as_one_where_their_kinds_differ(tmp_path: Path) -> None:
    (tmp_path / "new.csv").write_text("code,n,when,y\n1,1,2024-01-01,0\n2,2,2024-01-02,1\n")
    (tmp_path / "old.csv").write_text("y,code,n,more\n1,A7,1.5,x\n0,2,2.5,x\n1,A7,,x\n")
    new, old = read_tables(tmp_path / "new.csv", [tmp_path / "old.csv"], target="y")
    assert new.schema == old.schema
    assert new.texts("code") == ["1", "2"]
    assert old.texts("code") == ["A7", "2", "A7"]
    assert old.numbers("n")[:2].tolist() == [1.5, 2.5]
    assert np.isnan(old.numbers("n")[2])
    assert old.data.column("when").null_count == 3
    said = " ".join(notice.message for notice in old.notices)
    assert "old.csv lacks 'when' of new.csv" in said
    assert "old.csv has 'more' besides" in said


def test_every_way_of_transfer_is_tried_early_and_the_best_most_often() -> None:
    offered = adaptations(TaskKind.REGRESSION, "rmse", rows=True)
    shape = replace(USUAL[TaskKind.REGRESSION], n_rows=100, n_source=5000, adaptations=offered)
    plain = default_pipelines(find_families(), shape)
    ways = Ways(ways_of(plain, find_families(), shape), way_of, 60, lambda: pytest.fail("too early"))
    asked = []
    for _ in range(48):
        pipeline, _ = ways.ask()
        asked.append(pipeline)
        ways.tell(pipeline, 0.1 if way_of(pipeline) == "offset" else 0.5, 1.0)
    first = asked[: len(offered) + 1]
    assert [way_of(pipeline) for pipeline in first] == ["", *offered]
    assert len({pipeline.family for pipeline in first}) > 2
    counts = Counter(way_of(pipeline) for pipeline in asked)
    assert counts["offset"] == max(counts.values())
    assert min(counts[way] for way in ("", *offered)) >= 2
    assert len(set(asked)) == len(asked)


def test_names_say_how_rows_and_encoders_are_shared() -> None:
    assert adaptations(TaskKind.BINARY, "roc_auc", rows=False) == ("feature",)
    assert rows_of("native:balanced") == "native:pooled"
    assert encoder_of("native:weighted") == "native"
