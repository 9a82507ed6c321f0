"""Run folders: what is kept, what is found again, and what is given back."""

import json
import os
import resource
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from automl_cli.errors import Locked, UsageError
from automl_cli.files import remove_in_time
from automl_cli.rundata import renew, token_of
from automl_cli.runs import KEEP_DAYS, finish, interrupted_run, open_run, output_lock, state_folder, sweep

JOB = {"data": "/d.csv", "target": "y", "out": "/m.automl"}
OTHER = {**JOB, "target": "z"}


@pytest.fixture(autouse=True)
def own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    yield tmp_path / "state" / "automl" / "runs"
    shutil.rmtree(tmp_path / "state", ignore_errors=True)


def killed(identity: dict[str, str] = JOB, named: Path | None = None, stem: str = "d") -> Path:
    """A run that ended in the middle, with one trial on disk."""
    with open_run(named, stem=stem, identity=identity, resume=False) as run:
        run.data.mkdir()
        (run.folder / "trials" / "00000").mkdir(parents=True)
        run.journal.write_text("a trial\n")
        run.model.write_bytes(b"a model")
        return run.folder


def test_what_is_left_in_a_named_folder_is_no_runs_any_more(tmp_path: Path) -> None:
    """By the token a cluster's calls know whether they may write."""
    with open_run(tmp_path / "run", stem="d", identity=JOB, resume=False) as run:
        run.data.mkdir()
        renew(run.data)
        assert token_of(run.data)
    assert run.data.exists()
    assert not token_of(run.data)


def test_nothing_lies_about_after_a_run_but_what_it_was(own_state: Path) -> None:
    with open_run(None, stem="d", identity=JOB, resume=False) as run:
        run.data.mkdir()
        (run.folder / "trials").mkdir()
        run.journal.write_text("a trial\n")
        run.model.write_bytes(b"a model")
        finish(run)
    assert run.folder.parent == own_state
    assert not run.data.exists()
    assert not (run.folder / "trials").exists()
    assert not run.model.exists()
    assert run.facts()["status"] == "done"
    assert interrupted_run(JOB) is None


def test_a_full_disk_at_the_end_of_a_run_is_no_failure(caplog: pytest.LogCaptureFixture) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with open_run(None, stem="d", identity=JOB, resume=False) as run:
        run.data.mkdir()
        (run.data / "y.npy").write_bytes(b"0" * 100)
        resource.setrlimit(resource.RLIMIT_FSIZE, (10, limits[1]))  # as a disk that is full to a writer
        try:
            finish(run, {"score": 0.5})
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "could not be ended as usual" in caplog.text
    assert not run.data.exists(), "its room is given back all the same"
    assert run.facts()["identity"] == JOB


def test_a_named_folder_is_kept(tmp_path: Path) -> None:
    with open_run(tmp_path / "run", stem="d", identity=JOB, resume=False) as run:
        run.data.mkdir()
        run.model.write_bytes(b"a model")
        finish(run)
    assert run.data.exists()
    assert run.model.exists()


def test_a_killed_run_is_found_and_resumed() -> None:
    folder = killed()
    assert interrupted_run(JOB) == folder
    assert interrupted_run(OTHER) is None
    with open_run(None, stem="d", identity=JOB, resume=True) as run:
        assert run.folder == folder
        assert run.journal.read_text() == "a trial\n"
        assert interrupted_run(JOB) is None, "it goes on: nothing to resume"
        finish(run)
    assert interrupted_run(JOB) is None


def test_the_newest_of_two_killed_runs_is_resumed() -> None:
    older, newer = killed(stem="b"), killed(stem="a")
    os.utime(older, (time.time() - 60, time.time() - 60))
    with open_run(None, stem="d", identity=JOB, resume=True) as run:
        assert run.folder == newer


def test_a_run_that_was_killed_before_its_first_trial_is_not_resumed() -> None:
    with open_run(None, stem="d", identity=JOB, resume=False):
        pass
    with pytest.raises(UsageError, match="no interrupted run"), open_run(None, stem="d", identity=JOB, resume=True):
        pass


def test_two_runs_in_one_folder_keep_apart(tmp_path: Path) -> None:
    first, second = (open_run(tmp_path / "run", stem="d", identity=JOB, resume=False) for _ in range(2))
    with first, pytest.raises(Locked), second:
        pass


def test_an_interrupted_run_is_not_overwritten_by_accident(tmp_path: Path) -> None:
    folder = killed(named=tmp_path / "run")
    with pytest.raises(UsageError, match="--resume"), open_run(folder, stem="d", identity=JOB, resume=False):
        pass
    assert (folder / "journal.jsonl").exists()


def test_a_folder_of_another_job_is_not_resumed(tmp_path: Path) -> None:
    folder = killed(named=tmp_path / "run")
    with pytest.raises(UsageError, match="other data, target"), open_run(folder, stem="d", identity=OTHER, resume=True):
        pass
    with (
        pytest.raises(UsageError, match="no run to resume"),
        open_run(tmp_path / "new", stem="d", identity=JOB, resume=True),
    ):
        pass


def test_resuming_with_a_mistake_does_not_cost_the_run() -> None:
    folder = killed()
    with pytest.raises(UsageError, match="other settings"), open_run(None, stem="d", identity=JOB, resume=True):
        raise UsageError("the interrupted run had other settings")
    assert interrupted_run(JOB) == folder
    with open_run(None, stem="d", identity=JOB, resume=True) as run:
        assert run.journal.read_text() == "a trial\n"
        assert (run.folder / "trials" / "00000").exists()


def test_a_finished_named_folder_is_used_again_from_the_start(tmp_path: Path) -> None:
    with open_run(tmp_path / "run", stem="d", identity=JOB, resume=False) as run:
        (run.folder / "trials").mkdir()
        run.journal.write_text("old\n")
        finish(run)
    with open_run(tmp_path / "run", stem="d", identity=JOB, resume=False) as run:
        assert not run.journal.exists()
        assert not (run.folder / "trials").exists()


def test_folders_that_nobody_touched_for_a_month_are_forgotten() -> None:
    old, recent, held = killed(stem="old"), killed(stem="recent"), killed(stem="held")
    long_ago = time.time() - (KEEP_DAYS + 1) * 86400
    for folder in (old, held):
        os.utime(folder, (long_ago, long_ago))
    with open_run(held, stem="held", identity=JOB, resume=True):
        os.utime(held, (long_ago, long_ago))
        sweep()
        assert not old.exists()
        assert recent.exists()
        assert held.exists(), "somebody works in it"


def test_what_there_was_no_time_to_remove_is_removed_later(own_state: Path) -> None:
    none = {"stem": "d", "resume": False, "left": lambda: 0.0}
    with open_run(None, identity=JOB, **none) as run:
        for place in (run.data, run.source, run.encoded / "native", run.folder / "trials" / "00000"):
            place.mkdir(parents=True)
            (place / "large.npy").write_bytes(b"0" * 1000)
        run.journal.write_text("a trial\n")
        finish(run)
    wrong = []
    for identity in (OTHER, {**OTHER, "out": "/n.automl"}):
        other = none | {"stem": identity["out"][1:]}
        with pytest.raises(UsageError), open_run(None, identity=identity, **other) as gone:
            gone.data.mkdir()
            (gone.data / "y.npy").write_bytes(b"0")
            wrong.append(gone)
            raise UsageError("no such column", hint="see the data")
    long_ago = time.time() - 2 * 86400
    os.utime(wrong[0].folder, (long_ago, long_ago))
    dead = killed({**JOB, "data": "/e.csv"}, stem="dead")
    (dead / "encoded").mkdir()
    (own_state / ".stray").write_text("no folder")
    assert (run.data / "large.npy").exists()
    assert interrupted_run(JOB) is None, "it is done, whatever lies there"
    sweep()
    assert sorted(path.name for path in run.folder.iterdir()) == ["lock", "run.json"]
    assert not wrong[0].data.exists()
    assert wrong[1].data.exists(), "it may have just begun"
    assert interrupted_run({**JOB, "data": "/e.csv"}) == dead, "it can still be resumed"


def test_removing_ends_with_the_time_within_a_folder_too(tmp_path: Path) -> None:
    for k in range(20):
        (tmp_path / "encoded" / "fold_0" / f"part_{k}").mkdir(parents=True)
        (tmp_path / "encoded" / "fold_0" / f"part_{k}" / "X.npy").write_bytes(b"0" * 100)
    ticks = iter(range(10, -1000, -1))
    assert not remove_in_time(tmp_path / "encoded", lambda: next(ticks))
    assert 5 < len(list(tmp_path.glob("encoded/fold_0/*/X.npy"))) < 20
    assert remove_in_time(tmp_path / "encoded", lambda: 1.0)
    assert remove_in_time(tmp_path / "never there", lambda: 1.0)


def test_a_named_folder_that_is_used_again_has_nothing_of_another_source(tmp_path: Path) -> None:
    with open_run(tmp_path / "run", stem="d", identity=JOB, resume=False) as run:
        (run.source / "model").mkdir(parents=True)
        finish(run)
    with open_run(tmp_path / "run", stem="d", identity=JOB, resume=False) as run:
        assert not run.source.exists()


@pytest.mark.parametrize("text", ["", "{", "[]", "\0\0\0"])
def test_a_damaged_note_of_an_old_run_stops_no_new_one(text: str) -> None:
    folder = killed(stem="old")
    (folder / "run.json").write_text(text)
    assert interrupted_run(JOB) is None
    with open_run(None, stem="d", identity=JOB, resume=False) as run:
        finish(run)


@pytest.mark.parametrize("name", ["data", "trials", "journal.jsonl", "model.automl", "run.json"])
def test_what_a_user_had_in_the_folder_is_not_removed(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "mine"
    own = folder / name / "precious.csv" if name in ("data", "trials") else folder / name
    own.parent.mkdir(parents=True)
    own.write_text("precious")
    with pytest.raises(UsageError, match=name), open_run(folder, stem="d", identity=JOB, resume=False):
        pass
    assert own.read_text() == "precious"


def test_a_folder_with_other_files_can_be_named(tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_text("x")
    with open_run(tmp_path, stem="d", identity=JOB, resume=False) as run:
        finish(run)
    assert (tmp_path / "data.csv").read_text() == "x"


def test_facts_are_added_to_what_was_noted() -> None:
    with open_run(None, stem="d", identity=JOB, resume=False) as run:
        run.note({"settings": {"seed": "1"}})
        run.note({"more": 2})
        assert run.facts()["identity"] == JOB
        assert run.facts()["settings"] == {"seed": "1"}
        assert json.loads((run.folder / "run.json").read_text())["more"] == 2


def test_one_output_has_one_lock_however_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to(tmp_path)
    assert output_lock(Path("m.automl")) == output_lock(tmp_path / "m.automl") == output_lock(Path("link/m.automl"))
    assert output_lock(Path("m.automl")) != output_lock(Path("n.automl"))
    assert output_lock(Path("m.automl")).is_relative_to(state_folder())
