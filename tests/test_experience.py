"""The store of past runs: many writers, damage, other versions, and nothing that says what a table holds."""

import json
import math
import multiprocessing
import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from automl_cli.errors import AutomlError, BadData, UsageError
from automl_cli.experience import address
from automl_cli.experience.access import (
    Dataset,
    Evaluation,
    RunRecord,
    add,
    evaluation_of,
    every_run,
    export,
    find_dataset,
    find_url,
    forget,
    forget_waiting,
    from_json,
    keep_for_later,
    listed,
    merge,
    open_store,
    reading,
    remember,
    take_in,
    to_json,
    totals,
    writing,
)
from automl_cli.experience.store import waiting_folder
from automl_cli.experience.tables import bring_up_to_date, read_facts
from automl_cli.metrics import TaskKind
from automl_cli.trial import Pipeline, Proposal, Success


def url_of(path: Path) -> str:
    return f"sqlite:///{path}"


def a_run(uid: str = "r1", *, fingerprint: str = "f" * 32, n: int = 3) -> RunRecord:
    dataset = Dataset(
        fingerprint, "sales", TaskKind.BINARY, 1_000, 12, 2, {"n_rows": 1000.0, "stump": 0.25}, "t" * 24, ("c1", "c2")
    )
    evaluations = tuple(
        Evaluation(
            Pipeline("lightgbm", "native", {"learning_rate": 0.05, "num_leaves": 10 + i}),
            loss=None if i == 2 else 0.25 + i / 4,
            losses=() if i == 2 else (0.25 + i / 4,),
            seconds=1.5,
            fidelity=0.0 if i == 2 else 1.0,
            cut=False,
            given_up=False,
            origin="portfolio",
        )
        for i in range(n)
    )
    members = (evaluations[0].pipeline,)
    return RunRecord(
        uid, dataset, "roc_auc", "5 folds", 5, "fit", 1e9, 60.0, 60.0, 0.25, {"automl": "1"}, members, evaluations
    )


def write_one(place: str, number: int) -> None:
    assert remember(url_of(Path(place)), a_run(f"run-{number}"), wait=30.0) is None


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    store = open_store(url_of(tmp_path / "e.sqlite"))
    assert add(store, [a_run()]) == 1
    assert add(store, [a_run()]) == 0  # a run counts once
    with reading(store) as connection:
        assert list(every_run(connection)) == [a_run()]
        assert totals(connection) == (1, 1, 3)


def test_twenty_processes_at_once_lose_nothing(tmp_path: Path) -> None:
    place = str(tmp_path / "e.sqlite")
    context = multiprocessing.get_context("spawn")
    with context.Pool(20) as pool:
        pool.starmap(write_one, [(place, number) for number in range(60)])
    with reading(open_store(url_of(Path(place)))) as connection:
        assert totals(connection) == (1, 60, 180)


def test_a_run_that_finds_the_store_locked_waits_for_the_next_one(tmp_path: Path) -> None:
    url = url_of(tmp_path / "e.sqlite")
    open_store(url)
    holder = sqlite3.connect(tmp_path / "e.sqlite", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    assert remember(url, a_run("first"), wait=0.1) is None  # nobody needs to hear of it
    assert len(list(waiting_folder(url).iterdir())) == 1
    holder.execute("ROLLBACK")
    holder.close()
    assert remember(url, a_run("second"), wait=1.0) is None
    assert not list(waiting_folder(url).iterdir())
    with reading(open_store(url)) as connection:
        assert {run.uid for run in every_run(connection)} == {"first", "second"}


def test_what_is_no_run_does_not_keep_others_waiting(tmp_path: Path) -> None:
    url = url_of(tmp_path / "e.sqlite")
    waiting_folder(url).mkdir(parents=True)
    for i in range(25):
        (waiting_folder(url) / f"0{i}.json").write_text('{"uid": ')
    assert keep_for_later(url, a_run("waits"))
    assert remember(url, a_run("now"), wait=1.0) is None
    with reading(open_store(url)) as connection:
        assert {run.uid for run in every_run(connection)} == {"waits", "now"}
    assert {path.suffix for path in waiting_folder(url).iterdir()} == {".bad"}


def test_what_waits_is_not_taken_in_beyond_the_time_that_is_left(tmp_path: Path) -> None:
    url = url_of(tmp_path / "e.sqlite")
    for i in range(3):
        keep_for_later(url, a_run(f"waits-{i}"))
    left = iter([1.0, 0.0])
    assert remember(url, a_run("now"), wait=1.0, left=lambda: next(left)) is None
    assert len(list(waiting_folder(url).iterdir())) == 2


def test_a_run_that_measured_more_of_a_table_completes_it(tmp_path: Path) -> None:
    store = open_store(url_of(tmp_path / "e.sqlite"))
    run = a_run("first")
    add(store, [replace(run, dataset=replace(run.dataset, features={}))])
    for uid, features in (("second", {"n_rows": 1000.0, "stump": 0.25}), ("third", {"n_rows": 1.0})):
        add(store, [replace(run, uid=uid, dataset=replace(run.dataset, features=features))])
    with reading(store) as connection:
        assert {tuple(run.dataset.features) for run in every_run(connection)} == {("n_rows", "stump")}


def journal_of(path: Path) -> str:
    connection = sqlite3.connect(path)
    try:
        return str(connection.execute("PRAGMA journal_mode").fetchone()[0])
    finally:
        connection.close()


def test_a_store_that_several_hosts_share_has_no_write_ahead_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its index lies in memory that each host has for itself: two that write at once damage the store."""
    own, shared = tmp_path / "own" / "e.sqlite", tmp_path / "a home" / "automl" / "e.sqlite"
    for path in (own, shared):
        add(open_store(url_of(path)), [a_run()])
        assert journal_of(path) == "wal", "the kernel calls this file system a local one"
    written = str(tmp_path / "a home").replace(" ", "\\040")
    (tmp_path / "mounts").write_text(
        f"/dev/vda / ext4 rw 0 0\nauto {written} autofs rw 0 0\ns:/h {written} nfs4 rw 0 0\n"
    )
    monkeypatch.setattr(address, "MOUNTS", tmp_path / "mounts")
    new = shared.with_name("new.sqlite")
    for path, journal in ((own, "wal"), (shared, "delete"), (new, "delete")):
        assert remember(url_of(path), a_run("next"), wait=1.0) is None
        assert journal_of(path) == journal
    with reading(open_store(url_of(shared))) as connection:
        assert {run.uid for run in every_run(connection)} == {"r1", "next"}


def test_a_system_that_lists_no_file_systems_has_local_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(address, "MOUNTS", tmp_path / "none")
    add(open_store(url_of(tmp_path / "e.sqlite")), [a_run()])
    assert journal_of(tmp_path / "e.sqlite") == "wal"


@pytest.mark.parametrize("content", [b"", b"not a database at all, and long enough to be read as a page" * 100])
def test_a_damaged_store_is_told_and_the_run_is_kept(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "e.sqlite"
    path.write_bytes(content)
    said = remember(url_of(path), a_run(), wait=0.5)
    if not content:  # an empty file is where a store may be made
        assert said is None
        return
    assert said is not None
    assert "\n" not in said
    assert str(path) in said
    assert "move it away" in said
    assert path.read_bytes() == content
    path.unlink()
    assert remember(url_of(path), a_run("next"), wait=0.5) is None
    with reading(open_store(url_of(path))) as connection:
        assert {run.uid for run in every_run(connection)} == {"r1", "next"}


def test_what_is_no_export_is_told(tmp_path: Path) -> None:
    store = open_store(url_of(tmp_path / "e.sqlite"))
    (tmp_path / "table.csv").write_text("a,b\n1,2\n")
    for name, says in (
        ("table.csv", "is no export of experience"),
        ("nosuch", "cannot be read (No such file or direct"),
    ):
        with pytest.raises(BadData) as caught:
            take_in(store, tmp_path / name)
        assert says in caught.value.problem


def test_a_store_is_kept_in_a_file_or_in_postgres() -> None:
    with pytest.raises(UsageError) as caught:
        find_url("mssql+pymssql://user:secret@host/name")
    assert "mssql" in caught.value.problem
    assert "postgresql://" in str(caught.value.hint)
    assert "secret" not in str(caught.value)


def test_a_cut_store_is_told(tmp_path: Path) -> None:
    path = tmp_path / "e.sqlite"
    store = open_store(url_of(path))
    add(store, [replace(a_run(str(i)), evaluations=a_run(n=200).evaluations) for i in range(20)])
    sqlite3.connect(path).execute("PRAGMA wal_checkpoint(TRUNCATE)").close()
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 3])
    said = remember(url_of(path), a_run("next"), wait=0.5)
    if said is None:  # what was cut off is not what this touches: then it must have been written
        with reading(open_store(url_of(path))) as connection:
            assert totals(connection)[1] >= 1
    else:
        assert "\n" not in said


def test_a_newer_store_is_refused_and_left_alone(tmp_path: Path) -> None:
    url = url_of(tmp_path / "e.sqlite")
    open_store(url)
    with sqlite3.connect(tmp_path / "e.sqlite") as connection:
        connection.execute("UPDATE fact SET value = '99' WHERE name = 'version'")
    with pytest.raises(AutomlError, match="version 99") as caught:
        open_store(url)
    assert "update the program" in caught.value.hint
    said = remember(url, a_run(), wait=0.5)
    assert said is not None
    assert "kept for later" in said


def test_an_older_store_is_migrated_whole_or_not_at_all(tmp_path: Path) -> None:
    store = open_store(url_of(tmp_path / "e.sqlite"))
    add(store, [a_run()])
    steps = {1: ("ALTER TABLE run ADD COLUMN host VARCHAR(50)",), 2: ("ALTER TABLE nothing ADD COLUMN a INTEGER",)}
    with pytest.raises(AutomlError), writing(store) as connection:
        bring_up_to_date(connection, newest=3, migrations=steps)
    with reading(store) as connection:
        assert read_facts(connection)["version"] == "1"
    with writing(store) as connection:
        assert bring_up_to_date(connection, newest=2, migrations=steps)
    with writing(store) as connection:
        assert not bring_up_to_date(connection, newest=2, migrations=steps)
        assert read_facts(connection)["version"] == "2"
        assert totals(connection) == (1, 1, 3)


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    said = remember(url_of(tmp_path / "file" / "e.sqlite"), a_run(), wait=0.1)
    assert said is not None
    assert "not remembered" in said


def test_an_unreachable_server_is_told_in_one_line() -> None:
    pytest.importorskip("psycopg")
    said = remember("postgresql+psycopg://nobody@127.0.0.1:1/none", a_run(), wait=0.1)
    assert said is not None
    assert "\n" not in said


@pytest.mark.parametrize("address", ["nosuch://x/y", "postgres:/wrong://"])
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(UsageError):
        find_url(address)


def test_off_is_nowhere_and_a_path_is_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert find_url("off") is None
    assert find_url(str(tmp_path / "x.db")) == f"sqlite:///{tmp_path / 'x.db'}"
    monkeypatch.setenv("AUTOML_EXPERIENCE", "off")
    assert find_url(None) is None
    monkeypatch.delenv("AUTOML_EXPERIENCE")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert find_url(None) == f"sqlite:///{tmp_path}/automl/experience.sqlite"


def test_an_export_holds_no_names_and_comes_in_whole(tmp_path: Path) -> None:
    store = open_store(url_of(tmp_path / "e.sqlite"))
    add(store, [a_run("a"), a_run("b", fingerprint="e" * 32)])
    for name in ("out.jsonl", "out.jsonl.gz"):
        assert export(store, tmp_path / name) == 2
        other = open_store(url_of(tmp_path / f"{name}.sqlite"))
        assert take_in(other, tmp_path / name) == (2, 2)
        assert take_in(other, tmp_path / name) == (0, 2)
    text = (tmp_path / "out.jsonl").read_text()
    assert "sales" not in text
    assert "c1" not in text
    assert "tttt" not in text
    assert store.salt.hex() not in text


def test_a_damaged_export_adds_nothing(tmp_path: Path) -> None:
    store = open_store(url_of(tmp_path / "e.sqlite"))
    add(store, [a_run("a"), a_run("b")])
    export(store, tmp_path / "out.jsonl")
    good = (tmp_path / "out.jsonl").read_text().splitlines()
    broken = json.loads(good[2])
    broken["dataset"]["n_rows"] = "many"
    other = open_store(url_of(tmp_path / "other.sqlite"))
    for lines in (good[1:], [good[0], good[1], json.dumps(broken)], [*good[:2], good[2][:50]], ["{}"]):
        (tmp_path / "bad.jsonl").write_text("\n".join(lines) + "\n")
        with pytest.raises(BadData):
            take_in(other, tmp_path / "bad.jsonl")
    (tmp_path / "bad.jsonl.gz").write_bytes(b"\x1f\x8b\x08nothing")
    with pytest.raises(BadData):
        take_in(other, tmp_path / "bad.jsonl.gz")
    with reading(other) as connection:
        assert totals(connection) == (0, 0, 0)


def test_a_run_survives_json() -> None:
    assert from_json(json.loads(json.dumps(to_json(a_run())))) == a_run()


def test_a_loss_that_is_no_number_is_kept_as_a_failure(tmp_path: Path) -> None:
    """The squares of a target of 1e200 are no numbers any more; four bytes hold none above 3.4e38."""
    store, run = open_store(url_of(tmp_path / "e.sqlite")), a_run()
    proposal = Proposal(0, run.members[0], "portfolio", 0, 1)
    losses = (0.5, 0.25), (0.5, math.inf), (math.nan, 0.5), (1e39, 0.5)
    trials = [Success(proposal, each, 1.0, complete=True) for each in losses]
    features = {"n_rows": 9.0, "target_spread": 1e200}
    add(store, [
        replace(run, dataset=replace(run.dataset, features=features),
                evaluations=tuple(evaluation_of(trial, 2) for trial in trials))
    ])  # fmt: skip
    assert export(store, tmp_path / "out.jsonl") == 1
    other = open_store(url_of(tmp_path / "other.sqlite"))
    assert take_in(other, tmp_path / "out.jsonl") == (1, 1)
    with reading(other) as connection:
        (found,) = every_run(connection)
    assert [e.loss for e in found.evaluations] == [0.375, None, None, None]
    assert found.dataset.features == {"n_rows": 9.0}


def test_merging_leaves_foreign_digests_behind(tmp_path: Path) -> None:
    one, two = (open_store(url_of(tmp_path / name)) for name in ("1.sqlite", "2.sqlite"))
    add(two, [a_run("x")])
    assert merge(one, two) == (1, 1)
    with reading(one) as connection:
        (run,) = every_run(connection)
    assert run.dataset.target == ""
    assert run.dataset.columns == ()


def test_two_targets_of_one_table_stay_two_wherever_they_go(tmp_path: Path) -> None:
    one, two = (open_store(url_of(tmp_path / name)) for name in ("1.sqlite", "2.sqlite"))
    first = a_run("x")
    second = replace(a_run("y"), dataset=replace(first.dataset, target="u" * 24, features={"n_rows": 7.0}))
    add(two, [first, second])
    merge(one, two)
    export(two, tmp_path / "out.jsonl")
    assert "uuu" not in (tmp_path / "out.jsonl").read_text()
    three = open_store(url_of(tmp_path / "3.sqlite"))
    take_in(three, tmp_path / "out.jsonl")
    for store in (one, three):
        with reading(store) as connection:
            assert {run.uid: run.dataset.features["n_rows"] for run in every_run(connection)} == {"x": 1000.0, "y": 7.0}
            assert totals(connection) == (2, 2, 6)
    add(two, [replace(second, uid="z")])
    assert merge(one, two) == (1, 3)
    with reading(one) as connection:
        assert totals(connection) == (2, 3, 9), "the same table and target are the same dataset the next time"


def test_forgetting_takes_everything_of_a_dataset(tmp_path: Path) -> None:
    store = open_store(url_of(tmp_path / "e.sqlite"))
    add(store, [a_run("a"), a_run("b", fingerprint="e" * 32, n=5)])
    with writing(store) as connection:
        assert len(find_dataset(connection, "sales")) == 2
        chosen = find_dataset(connection, "eeeeee")
        assert forget(connection, [chosen[0].id]) == 5
    with reading(store) as connection:
        assert totals(connection) == (1, 1, 3)
        assert [item.fingerprint for item in listed(connection)] == ["f" * 32]
        with pytest.raises(UsageError):
            find_dataset(connection, "eeeeee")


def test_a_table_that_is_forgotten_does_not_come_back_with_what_waits(tmp_path: Path) -> None:
    url = url_of(tmp_path / "e.sqlite")
    keep_for_later(url, a_run("a"))
    keep_for_later(url, a_run("b", fingerprint="e" * 32))
    (waiting_folder(url) / "a.bad").write_text(json.dumps(to_json(a_run("a")))[:-9])
    assert forget_waiting(url, "f" * 32) == 2
    assert [path.name for path in waiting_folder(url).iterdir()] == ["b.json"]
    assert forget_waiting(url_of(tmp_path / "none.sqlite"), "f" * 32) == 0


def test_no_cell_and_no_column_name_reaches_the_store(tmp_path: Path) -> None:
    rows = [f"{i % 7},secretvalue{i % 3},{['yesplease', 'nothanks'][i % 2 if i % 5 else 0]}" for i in range(120)]
    (tmp_path / "t.csv").write_text("\n".join(["uniquecolumna,uniquecolumnb,uniquetarget", *rows]) + "\n")
    done = subprocess.run(
        [Path(sys.executable).with_name("automl"), "fit", "t.csv", "--target", "uniquetarget", "--trials", "3",
         "--experience", "e.sqlite", "--quiet"],
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=90,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    with reading(open_store(url_of(tmp_path / "e.sqlite"))) as connection:
        assert totals(connection)[1:] == (1, 3)
    content = b"".join(path.read_bytes() for path in tmp_path.glob("e.sqlite*"))
    for word in (b"secretvalue", b"yesplease", b"nothanks", b"uniquecolumn", b"uniquetarget"):
        assert word not in content
