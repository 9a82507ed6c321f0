"""What somebody who controls a table, a model file, the experience or the surroundings cannot do."""

import ast
import json
import os
import re
import sqlite3
import stat
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from automl_cli.artifact.check import check_native, mark_checked, private_folder
from automl_cli.artifact.manifest import read_manifest
from automl_cli.artifact.read import Container
from automl_cli.candidates import as_it_was, suited
from automl_cli.errors import BadArtifact
from automl_cli.experience.access import Dataset, Evaluation, RunRecord, add, open_store
from automl_cli.families import find_families
from automl_cli.families.arrays import Expected, load_arrays
from automl_cli.families.family import Shape
from automl_cli.harmless import harmless
from automl_cli.runs import open_run, state_folder
from automl_cli.task import TaskKind
from automl_cli.trial import Pipeline
from benchmarks.mutations import Trap, npy_of, read_entries, replaced, with_right_digest, write_entries

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "automl_cli"
MODEL = Path(__file__).parent / "data" / "models" / "format-2.automl"
ROWS = MODEL.with_suffix(".csv")
PAGE = ROOT / "docs" / "threat-model.md"

# clears the screen, sets the title, writes over the line, turns the direction; as two bytes and as one character
ACTING = "\x1b[2J\x1b]0;owned\x07\r\u009b31m\u202e\x7f"


def acts(text):
    return re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", text)


@pytest.fixture(autouse=True)
def own_folders(tmp_path, monkeypatch):
    for name in ("CACHE", "DATA", "STATE"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(tmp_path / "home" / name.lower()))


def changed(path, change):
    """Write the model with another manifest, whose digest is right."""
    entries = read_entries(MODEL)
    manifest = json.loads(entries["manifest.json"])
    change(manifest)
    path.write_bytes(write_entries(with_right_digest(entries, manifest)))
    return path


def test_every_claim_names_a_test_that_exists():
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith("|") and "test_" in line]
    named = [pair for row in rows for pair in re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", row)]
    assert len(rows) >= 20
    assert len(named) == len(rows)
    missing = [f"{file}::{test}" for file, test in named if f"def {test}(" not in (ROOT / file).read_text()]
    assert not missing


# on the screen


def test_a_table_cannot_act_on_the_terminal(command, tmp_path):
    lines = [f"a{ACTING},b,y", *(f"{i},{'xyz'[i % 3]}{ACTING},{'no' if i % 2 else 'yes'}" for i in range(30))]
    (tmp_path / "t.csv").write_text("\n".join(lines).replace("\r", "") + "\n")
    for options in ((), ("--json",), ("--target", f"b{ACTING}")):
        shown = command("profile", "t.csv", *options, cwd=tmp_path)
        assert shown.returncode in (0, 3)
        assert not acts(shown.stdout + shown.stderr)
    shown = command("predict", MODEL, "t.csv", cwd=tmp_path)
    assert shown.returncode == 3
    assert not acts(shown.stderr)
    name = f"x{ACTING}.csv".replace("\r", "")
    assert not acts(command("profile", name, "--debug", cwd=tmp_path).stderr)


def test_a_model_file_cannot_act_on_the_terminal(command, tmp_path):
    def change(manifest):
        manifest["task"]["target"] = manifest["validation"] = manifest["product"] = ACTING
        manifest["warnings"] = [ACTING]
        manifest["leaderboard"][0] |= {"origin": ACTING, "note": f"[bold]{ACTING}", "family": "[/nothing]"}
        manifest["members"][0]["hyperparameters"][ACTING] = ACTING

    model = changed(tmp_path / "m.automl", change)
    for options in ((), ("--json",)):
        shown = command("inspect", model, *options, cwd=tmp_path)
        assert shown.returncode == 0, shown.stderr
        assert not acts(shown.stdout)
    assert json.loads(shown.stdout)["product"] == ACTING, "JSON says what the file says"
    model = changed(tmp_path / "m.automl", lambda manifest: manifest["members"][0].update(family=ACTING))
    refused = command("predict", model, ROWS, cwd=tmp_path)
    assert refused.returncode == 6
    assert not acts(refused.stderr)


def test_half_letters_of_a_model_file_can_be_shown(automl, tmp_path):
    model = changed(tmp_path / "m.automl", lambda manifest: manifest.update(validation="\ud800"))
    for options in ((), ("--json",)):
        shown = automl("inspect", model, *options, cwd=tmp_path)
        assert shown.returncode == 0, shown.stderr
        assert "\\ud800" in shown.stdout


def test_what_is_written_in_any_script_is_shown_as_it_is():
    assert harmless("größe\t価格\n🙂 العربية") == "größe\t価格\n🙂 العربية"


def test_the_log_holds_one_json_object_a_line(command, tmp_path):
    name = f"t{ACTING}.csv".replace("\r", "").replace("/", "")
    (tmp_path / name).write_text("a,y\n1,2\n")
    refused = command("fit", name, "-t", "no\nsuch", "--trials", "1", "--log-file", "log.jsonl", cwd=tmp_path)
    assert refused.returncode == 3
    lines = (tmp_path / "log.jsonl").read_text().splitlines()
    assert [json.loads(line)["event"] for line in lines][-1] == "failed"
    assert not acts("".join(lines))


# code


def test_nothing_is_unpickled_and_no_text_is_run():
    """What turns bytes into code or objects is called nowhere; arrays are never loaded with their objects."""
    forbidden = {"pickle", "cloudpickle", "dill", "marshal", "shelve", "jsonpickle", "yaml"}
    found = []
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            called = getattr(getattr(node, "func", None), "id", "")
            objects = isinstance(node, ast.keyword) and node.arg == "allow_pickle" and node.value.value is not False
            if forbidden & {name.split(".")[0] for name in names} or called in ("eval", "exec", "compile") or objects:
                found.append(f"{path.name}:{getattr(node, 'lineno', '?')}")
    assert not found


def test_pickled_objects_among_arrays_are_refused(tmp_path):
    file = tmp_path / "model.npz"
    file.write_bytes(write_entries({"x.npy": npy_of(np.array([Trap(tmp_path / "ran")], dtype=object))}))
    with pytest.raises(BadArtifact):
        load_arrays(file, {"x": Expected("f", 1)})
    assert not (tmp_path / "ran").exists()


def test_an_encoder_that_is_a_pickle_is_refused(command, tmp_path):
    entries = read_entries(MODEL)
    files = json.loads(entries["manifest.json"])["members"][0]["folds"][0]["encoder"]
    trap = write_entries({"x.npy": npy_of(np.array([Trap(tmp_path / "ran")], dtype=object))}, zipfile.ZIP_STORED)
    (tmp_path / "m.automl").write_bytes(write_entries(replaced(entries, files["encoder.npz"], trap)))
    assert command("predict", "m.automl", ROWS, cwd=tmp_path).returncode == 6
    assert not (tmp_path / "ran").exists()


def test_a_module_in_the_current_folder_is_not_imported(automl, tmp_path):
    for name in ("numpy", "pyarrow", "lightgbm", "sitecustomize", "automl_cli", "json"):
        (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    done = automl("predict", MODEL, ROWS, "-o", "out.csv", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len((tmp_path / "out.csv").read_text().splitlines()) == 41
    assert not (tmp_path / "ran").exists()


# files


def test_a_zipped_table_is_never_unpacked_to_its_name(command, tmp_path):
    (tmp_path / "in").mkdir()
    with zipfile.ZipFile(tmp_path / "in" / "t.zip", "w") as archive:
        archive.writestr("../../escaped.csv", "a,b\n1,x\n2,y\n")
    before = set(tmp_path.rglob("*"))
    assert command("profile", "t.zip", cwd=tmp_path / "in").returncode == 0
    assert {path for path in set(tmp_path.rglob("*")) - before if "home" not in path.parts} == set()


def test_a_check_that_crashes_leaves_nothing(tmp_path, monkeypatch):
    """The child dies with its files; whoever waits for it clears up."""
    crash = f"""#!{sys.executable}
import os, pathlib, tempfile
(pathlib.Path(tempfile.mkdtemp()) / "extracted").write_bytes(b"x")
os.abort()
"""
    (tmp_path / "crash").write_text(crash)
    (tmp_path / "crash").chmod(0o755)
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "crash"))
    with pytest.raises(BadArtifact, match="SIGABRT"):
        check_native(MODEL, read_manifest(Container(MODEL)), 1)
    assert list((tmp_path / "tmp").iterdir()) == []


def test_private_places_are_closed_to_others(tmp_path):
    old = os.umask(0o022)
    try:
        with private_folder() as folder, open_run(None, stem="t", identity={}, resume=False) as run:
            mark_checked("0" * 64)
            checked = tmp_path / "home" / "cache" / "automl" / "checked"
            assert run.folder.parent == state_folder() / "runs"
            for place in (folder, run.folder, checked):
                assert stat.S_IMODE(place.stat().st_mode) & 0o077 == 0, place
    finally:
        os.umask(old)


# the experience


def store(path):
    pipeline = Pipeline("lightgbm", "native", {"num_leaves": 31})
    evaluation = Evaluation(pipeline, 0.2, (0.2,), 1.0, 1.0, cut=False, given_up=False, origin="portfolio")
    dataset = Dataset("f" * 32, "sales", TaskKind.BINARY, 1000, 12, 2, {"n_rows": 1000.0}, "t" * 24, ("c1",))
    run = RunRecord("r", dataset, "roc_auc", "5 folds", 5, "fit", 1e9, 9.0, 9.0, 0.2, {}, (pipeline,), (evaluation,))
    add(open_store(f"sqlite:///{path}"), [run])


def columns_of_the_store(path):
    with sqlite3.connect(path) as connection:
        tables = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return [(t, row[1]) for t in tables for row in connection.execute(f'PRAGMA table_info("{t}")')]


BAD_CELLS = ("x", '{"a": [[]]}', b"\xff\xfe\x00", -1, 2**62, 1e308, ACTING)
READERS = (("list",), ("show", "#1"), ("stats",), ("export", "out.jsonl"))


@pytest.mark.parametrize("turn", range(len(BAD_CELLS)), ids=[repr(value)[:12] for value in BAD_CELLS])
def test_a_cell_of_the_store_that_cannot_be_is_one_line(command, tmp_path, turn):
    """Every value in every column, and every column read by every command: by one that alternates with both."""
    value = BAD_CELLS[turn]
    store(tmp_path / "whole.sqlite")
    for number, (table, column) in enumerate(columns_of_the_store(tmp_path / "whole.sqlite")):
        place = tmp_path / "e.sqlite"
        place.write_bytes((tmp_path / "whole.sqlite").read_bytes())
        connection = sqlite3.connect(place)
        connection.execute("PRAGMA ignore_check_constraints = ON")
        try:
            connection.execute(f'UPDATE "{table}" SET "{column}" = ?', (value,))
        except sqlite3.Error:  # no such value in such a column
            connection.close()
            continue
        connection.commit()
        connection.close()
        line = READERS[(number + turn) % len(READERS)]
        done = command("experience", *line, "--experience", place, cwd=tmp_path)
        assert done.returncode in (0, 1, 2), (table, column, line)
        assert "unexpected" not in done.stderr, (table, column, line, done.stderr)
        assert done.stderr.count("\n") <= 1
        assert not acts(done.stdout + done.stderr), (table, column, line)


@pytest.mark.parametrize("value", [10**9, -1, 1e308, "x", "", None, True, "__import__('os')"])
def test_hyperparameters_of_a_store_stay_within_the_space(value):
    families, shape = find_families(), Shape(TaskKind.BINARY, 1000, 10, 2, 2)
    family = families["lightgbm"]
    limits = {parameter.name: parameter for parameter in family.space(shape)[0]}
    for name in [*family.defaults(shape)[0], "no_such_thing"]:
        borrowed = Pipeline("lightgbm", "native", {**family.defaults(shape)[0], name: value})
        for found in (suited(borrowed, families, shape), as_it_was(borrowed, families, shape)):
            for key, chosen in (found.hyperparameters if found else {}).items():
                assert limits[key].legal_value(chosen), (key, chosen)
    assert suited(Pipeline("os", "native", {}), families, shape) is None
    assert suited(Pipeline("lightgbm", "pickle", {}), families, shape) is None


# what can be done, so that nobody believes otherwise


def test_formulas_are_carried_as_they_are_written(command, tmp_path):
    """Known and documented: who opens predictions in a spreadsheet opens what the table held."""
    header, *rows = ROWS.read_text().splitlines()
    (tmp_path / "t.csv").write_text("\n".join([f"{header},id", *(f"{row},=1+1" for row in rows)]) + "\n")
    done = command("predict", MODEL, "t.csv", "--columns", "id", "-q", cwd=tmp_path)
    assert done.stdout.splitlines()[1].startswith("=1+1,")


def test_the_check_runs_apart_from_the_folder_it_is_started_in(tmp_path):
    """``-P`` keeps the current folder off the path of the child that looks at a stranger's file."""
    (tmp_path / "automl_cli.py").write_text("raise SystemExit('not ours')")
    line = [sys.executable, "-P", "-m", "automl_cli.artifact.probe", str(MODEL), "0" * 64]
    done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 6
    assert "replaced while it was read" in done.stdout
