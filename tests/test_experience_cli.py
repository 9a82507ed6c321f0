"""The experience as a user meets it: a second fit begins where the first one ended, and nothing can stop it."""

import json
from pathlib import Path

import numpy as np
import pytest

CHEAP = ("--include", "lightgbm", "--include", "linear", "--folds", "3")


@pytest.fixture(scope="module")
def nightly(tmp_path_factory: pytest.TempPathFactory, automl):
    """A table of last night, learned, and the same table with other rows."""
    folder = tmp_path_factory.mktemp("nightly")
    for name, seed in (("monday", 1), ("tuesday", 2)):
        rng = np.random.default_rng(seed)
        a, b, c = rng.normal(size=(3, 300)).round(3)
        y = np.where(a * b + c > 0, "yes", "no")
        rows = [f"{i},{j},{k},{label}" for i, j, k, label in zip(a, b, c, y, strict=True)]
        (folder / f"{name}.csv").write_text("\n".join(["a,b,c,y", *rows]) + "\n")
    done = automl(
        "fit", "monday.csv", "-t", "y", "--trials", "6", "--folds", "3", "--experience", "e.sqlite", cwd=folder
    )
    assert done.returncode == 0, done.stderr
    return folder


def test_the_next_night_begins_with_the_winner(nightly: Path, automl) -> None:
    before = json.loads(automl("inspect", "monday.automl", "--json", cwd=nightly).stdout)
    winner = max(before["members"], key=lambda member: abs(member["weight"]))
    done = automl(
        "fit", "tuesday.csv", "-t", "y", "--trials", "4", "--folds", "3", "--experience", "e.sqlite",
        "--explain-warm-start", "--run-dir", "run", cwd=nightly,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "remembered: 1 earlier run on this table" in done.stderr
    assert "warm start: " in done.stderr
    journal = [json.loads(line) for line in (nightly / "run" / "journal.jsonl").read_text().splitlines()]
    first = next(trial for trial in journal if trial["number"] == 0)
    assert first["origin"] == "winner"
    assert all(winner[key] == value for key, value in first["pipeline"].items())
    told = json.loads(automl("inspect", "tuesday.automl", "--json", cwd=nightly).stdout)["experience"]
    assert told["same_table_runs"] == 1


def test_without_experience_nothing_is_read_or_written(nightly: Path, automl) -> None:
    size = (nightly / "e.sqlite").stat().st_size
    done = automl(
        "fit", "tuesday.csv", "-t", "y", "--trials", "2", *CHEAP, "--no-experience", "-o", "n.automl", cwd=nightly
    )
    assert done.returncode == 0, done.stderr
    assert "remembered" not in done.stderr
    assert (nightly / "e.sqlite").stat().st_size == size


def test_the_same_trials_give_the_same_result_whatever_was_run_before(nightly: Path, automl, monkeypatch) -> None:
    monkeypatch.delenv("AUTOML_EXPERIENCE")
    monkeypatch.setenv("XDG_DATA_HOME", str(nightly / "data"))
    scores = []
    for out in ("one.automl", "two.automl"):
        done = automl("fit", "tuesday.csv", "-t", "y", "--trials", "4", *CHEAP, "-o", out, "--json", cwd=nightly)
        assert done.returncode == 0, done.stderr
        scores.append(json.loads(done.stdout)["members"])
    assert scores[0] == scores[1]
    assert (nightly / "data" / "automl" / "experience.sqlite").exists()  # both are remembered all the same


@pytest.mark.parametrize("damage", ["garbage", "newer", "readonly"])
def test_a_store_that_cannot_be_used_costs_no_model(nightly: Path, automl, damage: str, tmp_path: Path) -> None:
    place = tmp_path / "e.sqlite"
    if damage == "garbage":
        place.write_bytes(b"this is not a database" * 200)
    elif damage == "newer":
        import sqlite3

        assert automl("fit", nightly / "monday.csv", "-t", "y", "--trials", "1", *CHEAP, "--experience", place, "-q",
                      cwd=tmp_path).returncode == 0  # fmt: skip
        with sqlite3.connect(place) as connection:
            connection.execute("UPDATE fact SET value = '99' WHERE name = 'version'")
    else:
        (tmp_path / "file").write_text("")
        place = tmp_path / "file" / "e.sqlite"
    done = automl("fit", nightly / "monday.csv", "-t", "y", "--trials", "2", *CHEAP, "--experience", place,
                  "-o", "m.automl", cwd=tmp_path)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "m.automl").exists()
    assert "Traceback" not in done.stderr
    warned = [line for line in done.stderr.splitlines() if line.startswith("warning: ") and str(place) in line]
    assert warned


def test_an_address_that_is_none_is_refused_at_once(nightly: Path, automl) -> None:
    done = automl("fit", "monday.csv", "-t", "y", "--trials", "1", "--experience", "nosuch://x", cwd=nightly)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1


def test_the_commands_show_what_is_there(nightly: Path, automl) -> None:
    listed = json.loads(automl("experience", "list", "--experience", "e.sqlite", "--json", cwd=nightly).stdout)
    assert {item["name"] for item in listed} >= {"monday"}
    shown = automl("experience", "show", "monday", "--experience", "e.sqlite", cwd=nightly)
    assert "roc_auc" in shown.stdout
    stats = json.loads(automl("experience", "stats", "--experience", "e.sqlite", "--json", cwd=nightly).stdout)
    assert stats["datasets_own"] >= 1
    assert stats["trials"] >= 6
    assert stats.keys() >= {"datasets_prior", "datasets_own", "trials", "bytes"}
    where = automl("experience", "path", "--experience", "e.sqlite", cwd=nightly)
    assert where.stdout.strip() == str(nightly / "e.sqlite")
    missing = automl("experience", "show", "friday", "--experience", "e.sqlite", cwd=nightly)
    assert missing.returncode == 2
    assert "experience list" in missing.stderr
    nothing = automl("experience", "list", "--experience", "none.sqlite", cwd=nightly)
    assert nothing.returncode == 1
    assert nothing.stderr.count("\n") == 1


def test_experience_is_carried_and_forgotten(nightly: Path, automl) -> None:
    def run(*arguments):
        done = automl("experience", *arguments, cwd=nightly)
        assert done.returncode == 0, done.stderr
        return done

    run("export", "out.jsonl.gz", "--experience", "e.sqlite")
    run("import", "out.jsonl.gz", "--experience", "other.sqlite")
    run("merge", "e.sqlite", "--experience", "merged.sqlite")
    assert "monday" in run("list", "--experience", "merged.sqlite").stdout
    assert "monday" not in run("list", "--experience", "other.sqlite").stdout
    found = json.loads(run("list", "--experience", "merged.sqlite", "--json").stdout)
    (monday,) = [item["fingerprint"] for item in found if item["name"] == "monday"]
    waiting = nightly / "merged.sqlite.waiting"
    waiting.mkdir()
    (waiting / "run.json").write_text(json.dumps({"dataset": {"fingerprint": monday}}))
    run("forget", "monday", "--experience", "merged.sqlite")
    assert "monday" not in run("list", "--experience", "merged.sqlite").stdout
    assert not list(waiting.iterdir())  # else the next run would bring it back


def test_an_archive_is_built_once_and_gone_on_with(tmp_path: Path, automl) -> None:
    folder = tmp_path / "archive"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name in ("first", "second"):
        x, z = rng.normal(size=(2, 60)).round(3)
        rows = [f"{i},{j},{i + j:.3f}" for i, j in zip(x, z, strict=True)]
        (folder / f"{name}.csv").write_text("\n".join(["x,z,y", *rows]) + "\n")
    (folder / "third.csv").write_text("a,b\n1,2\n")
    (folder / "index.json").write_text(json.dumps({n: {"target": "y"} for n in ("first", "second", "third")}))
    command = ("experience", "build", "archive", "--experience", "e.sqlite", "--trial-time", "0.1s")
    done = automl(*command, "--name", "first", cwd=tmp_path, seconds=170)
    assert done.returncode == 0, done.stderr
    stats = json.loads(automl("experience", "stats", "--experience", "e.sqlite", "--json", cwd=tmp_path).stdout)
    assert stats["datasets_own"] == 1
    assert stats["trials"] > 50
    done = automl(*command, "--name", "first", "--name", "third", cwd=tmp_path, seconds=170)
    assert "1 of 2 first: measured before" in done.stderr
    assert "third: " in done.stderr
    assert "'y'" in done.stderr  # has no such column
    nothing = automl("experience", "build", "nowhere", "--experience", "e.sqlite", cwd=tmp_path)
    assert nothing.returncode == 2
