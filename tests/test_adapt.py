"""``automl adapt``: a saved model and new rows, without the table that the model was made from."""

import csv
import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from automl_cli.artifact import Manifest, open_artifact
from automl_cli.errors import Locked
from automl_cli.files import locked
from automl_cli.options import FitOptions
from automl_cli.readapting import fitted_alike, read_new_rows, telling_columns, unheeded
from automl_cli.runs import list_runs, output_lock
from automl_cli.table import Column, Kind, Schema, Table
from automl_cli.task import TaskKind
from automl_cli.workflow import fit
from tests.stopping import stopped

MODELS = Path(__file__).parent / "data" / "models"
TRIALS = ("--trials", 2, "--include", "linear", "--no-experience")


def write(path, n, share, seed, *, labels=True, scale=1.0):
    """Write rows of two classes that overlap, of which ``share`` are "yes"."""
    rng = np.random.default_rng(seed)
    y = rng.random(n) < share
    X = scale * (rng.normal(size=(n, 3)) + y[:, None] * np.array([1.5, -0.8, 0.0]))
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["x0", "x1", "x2", *(["y"] if labels else [])])
        for values, label in zip(X.round(5).tolist(), y, strict=True):
            rows.writerow([*values, *(["yes" if label else "no"] if labels else [])])
    return path


@pytest.fixture(scope="module")
def folder(command, tmp_path_factory):
    """Return a folder with a model, and tables of other and of the same shares of the classes."""
    folder = tmp_path_factory.mktemp("adapt")
    old = write(folder / "old.csv", 900, 0.5, 1)
    write(folder / "new.csv", 800, 0.15, 2, labels=False)
    write(folder / "truth.csv", 800, 0.15, 2)
    write(folder / "same.csv", 500, 0.5, 3, labels=False)
    for metric in ("log_loss", "balanced_accuracy"):
        done = command("fit", old, "-t", "y", *TRIALS, "--metric", metric, "-o", f"{metric}.automl", cwd=folder)
        assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def adapted(command, folder):
    """Adapt the model to the other shares; the answer is what ``--json`` says."""
    done = command("adapt", "log_loss.automl", "new.csv", "-o", "adapted.automl", "--json", cwd=folder)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def scores(command, model, folder):
    done = command("evaluate", model, "truth.csv", "--json", cwd=folder)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["scores"]


def test_other_shares_of_the_classes_are_corrected_for_without_labels(command, folder, adapted):
    transfer = adapted["transfer"]
    assert transfer["adapted"] == "label shares"
    assert next(one["after"] for one in transfer["classes"] if one["label"] == "yes") == pytest.approx(0.15, abs=0.04)
    before, after = (scores(command, f"{name}.automl", folder)["log_loss"] for name in ("log_loss", "adapted"))
    assert after < 0.8 * before
    assert transfer["scores"]["score"] == pytest.approx(after, abs=0.05)
    shown = " ".join(command("inspect", "adapted.automl", cwd=folder).stdout.split())
    assert "to new.csv" in shown
    assert "probabilities are corrected" in shown


def test_thresholds_are_learned_anew(command, folder):
    done = command("adapt", "balanced_accuracy.automl", "new.csv", "-o", "thresholds.automl", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "a label shift" in done.stderr
    assert scores(command, "thresholds.automl", folder)["balanced_accuracy"] > 0.75


@pytest.mark.parametrize("options", [(), ("--json", "-q")])
def test_rows_like_those_of_the_training_change_nothing(command, folder, options):
    done = command("adapt", "log_loss.automl", "same.csv", "-o", "same.automl", *options, cwd=folder)
    assert done.returncode == 7, done.stderr
    assert not (folder / "same.automl").exists()
    if options:
        found = json.loads(done.stdout)
        assert (found["out"], found["transfer"]["verdict"]["accepted"], done.stderr) == (None, False, "")
    else:
        assert "look like those that were learned from" in done.stderr
        assert "nothing is written" in done.stderr


def test_rows_that_were_measured_otherwise_change_nothing(command, folder, tmp_path):
    write(tmp_path / "scaled.csv", 500, 0.5, 4, labels=False, scale=3.0)
    done = command("adapt", folder / "log_loss.automl", "scaled.csv", "-o", "m.automl", cwd=tmp_path)
    assert done.returncode == 7, done.stderr
    assert "more than the shares of the classes has changed" in done.stderr
    assert not (tmp_path / "m.automl").exists()


def test_a_year_that_the_training_did_not_reach_hides_no_other_shares(command, folder, tmp_path):
    for name, years in (("old.csv", (2022, 2023)), ("new.csv", (2024, 2024))):
        header, *rows = (folder / name).read_text().splitlines()
        dated = [f"{years[k % 2]},{row}" for k, row in enumerate(rows)]
        (tmp_path / name).write_text("\n".join([f"year,{header}", *dated]) + "\n")
    fitted = command("fit", "old.csv", "-t", "y", *TRIALS, "--metric", "log_loss", "-o", "m.automl", cwd=tmp_path)
    assert fitted.returncode == 0, fitted.stderr
    done = command("adapt", "m.automl", "new.csv", "-o", "m.automl", cwd=tmp_path)
    assert "Not compared: 'year', of which no value is in both tables." in done.stderr
    assert done.returncode == 0, done.stderr
    assert "a label shift" in done.stderr


def test_a_model_is_adapted_where_it_stands_and_the_correction_taken_back(command, folder, adapted, tmp_path):
    shutil.copy(folder / "log_loss.automl", tmp_path / "m.automl")
    assert command("adapt", "m.automl", folder / "new.csv", "-o", "m.automl", cwd=tmp_path).returncode == 0
    once = scores(command, tmp_path / "m.automl", folder)
    assert command("adapt", "m.automl", folder / "new.csv", "-o", "m.automl", cwd=tmp_path).returncode == 0
    assert scores(command, tmp_path / "m.automl", folder) == once, "a correction is never put upon another"
    done = command("adapt", "m.automl", folder / "same.csv", "-o", "m.automl", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "taken back" in done.stderr
    assert scores(command, tmp_path / "m.automl", folder) == scores(command, "log_loss.automl", folder)


def test_no_other_run_can_replace_the_model_that_is_read_to_be_replaced(command, folder, tmp_path, monkeypatch):
    model = tmp_path / "here.automl"
    shutil.copy(folder / "log_loss.automl", model)
    tried = []

    def read(*arguments):
        with pytest.raises(Locked), locked(output_lock(model), str(model)):
            pass
        tried.append(model)
        return read_new_rows(*arguments)

    monkeypatch.setattr("automl_cli.readapting.read_new_rows", read)
    assert command("adapt", model, "new.csv", "-o", model, cwd=folder).returncode == 0
    assert tried == [model]


def test_rows_with_labels_are_learned_from(command, folder, tmp_path):
    write(tmp_path / "labelled.csv", 60, 0.15, 5)
    options = ("--trials", 1, "-o", "m.automl", "--json")
    done = command("adapt", folder / "log_loss.automl", "labelled.csv", *options, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "has labels" in done.stderr
    found = json.loads(done.stdout)
    assert (found["metric"], found["n_trials"]) == ("log_loss", 1)
    assert scores(command, tmp_path / "m.automl", folder)["log_loss"] < 0.5


def test_learning_in_place_goes_on_after_an_interruption(command, folder, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    shutil.copy(folder / "log_loss.automl", tmp_path / "m.automl")
    rows = write(tmp_path / "labelled.csv", 300, 0.15, 5)

    monkeypatch.setattr("automl_cli.workflow.fit", stopped(fit))
    done = command("adapt", "m.automl", rows, "-o", "m.automl", "--trials", "3", cwd=tmp_path)
    assert done.returncode == 143
    assert "keep a copy" in done.stderr, "the new model is a poorer source of later rows than the one it replaces"
    monkeypatch.setattr("automl_cli.workflow.fit", fit)
    (run,) = list_runs()
    done = command("runs", "resume", run.name, "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["n_trials"] == 3


def test_a_fit_of_rows_with_labels_is_told_what_the_fit_of_the_model_was():
    kinds = {"y": "category", "w": "numeric", "shop": "category", "day": "datetime", "who": "text", "old": "id"}
    columns = tuple(Column(name, Kind(kind), "") for name, kind in {**kinds, "one": "constant"}.items())
    data = {
        "task": {"kind": "binary", "target": "y", "classes": ["a", "b"], "metric": "roc_auc"},
        "schema": Schema(columns).to_json(),
        "ignored": ["leak", "gone"],
        "weight_column": "w",
        "group_column": "who",
        "time_column": "day",
    }
    manifest, asked = Manifest("", data, ()), FitOptions("new.csv", "y", Path("m.automl"), task=TaskKind.BINARY)
    names = ("y", "w", "shop", "day", "who", "one", "leak", "more")
    found = fitted_alike(asked, manifest, names)
    assert found.ignore == ("leak",), "what is known only afterwards stays out"
    assert found.kinds == {"shop": Kind.CATEGORY, "day": Kind.DATETIME}
    assert (found.weight_column, found.group_column, found.time_column) == ("w", "who", "day")
    assert unheeded(manifest, names) == []
    without = fitted_alike(asked, manifest, ("y", "shop"))
    assert (without.weight_column, without.group_column, without.time_column, without.ignore) == (None, None, None, ())
    assert [sentence.count("'who'") for sentence in unheeded(manifest, ("y", "shop", "day"))] == [1]


def test_rows_of_one_group_and_of_one_day_are_judged_without_either():
    schema = Schema(tuple(Column(name, Kind.TEXT, "") for name in ("y", "who", "day")))
    data = {"task": {"target": "y", "classes": ["a", "b"]}, "group_column": "who", "time_column": "day"}
    manifest, names = Manifest("", data, ()), ("y", "who", "day", "x")
    for labels, who, day, told in (
        (["a", "b", "a"], "ppq", "122", names),
        (["a", "b", "NA"], "ppq", "122", ("y", "day", "x")),  # a row without a label judges nothing
        (["a", "b", "a"], "ppp", "111", ("y", "x")),
    ):
        cells = pa.table({"y": labels, "who": list(who), "day": list(day)})
        assert telling_columns(manifest, Table(schema, cells, (), "", "new.csv", 0), names) == told


def test_columns_that_a_fit_was_told_to_ignore_stay_out_of_the_adapted_model(command, tmp_path):
    for name, n, seed in (("old.csv", 90, 1), ("labelled.csv", 60, 2)):
        header, *rows = write(tmp_path / name, n, 0.5, seed).read_text().splitlines()
        leaks = [f"{row},{int(row.endswith('yes'))},s{k % 3}" for k, row in enumerate(rows)]
        (tmp_path / name).write_text("\n".join([f"{header},leak,who", *leaks]) + "\n")
    told = ("--ignore", "leak", "--group-column", "who", "--kind", "x2=id")
    assert command("fit", "old.csv", "-t", "y", *TRIALS, *told, "-o", "m.automl", cwd=tmp_path).returncode == 0
    done = command("adapt", "m.automl", "labelled.csv", "--trials", 1, "-o", "new.automl", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    with open_artifact(tmp_path / "new.automl") as artifact:
        assert artifact.manifest.frame_schema.names == ("x0", "x1")
        assert artifact.manifest.data["ignored"] == ["leak"]
        assert artifact.manifest.data["group_column"] == "who"


@pytest.mark.parametrize(
    ("cells", "labelled", "words"),
    [
        (["NA"] * 6, False, ""),
        (["?", "null", " ", "", "-", "n/a"], False, ""),
        (["low", "NA", "?", "", "", ""], False, "all labels of 'price' are 'low' (1 of 6 rows)"),
        (["low", "low", "NA", "NA", "NA", "NA"], False, "all labels of 'price' are 'low' (2 of 6 rows)"),
        (["low", "high", "NA", "NA", "NA", "NA"], True, ""),
    ],
)
def test_cells_that_say_not_known_and_labels_that_tell_nothing_apart_are_no_labels(tmp_path, cells, labelled, words):
    header, *rows = (MODELS / "format-2.csv").read_text().splitlines()
    some = [row.rpartition(",")[0] for row in rows[:6]]
    lines = [header, *(f"{row},{cell}" for row, cell in zip(some, cells, strict=True))]
    (tmp_path / "new.csv").write_text("\n".join(lines) + "\n")
    with open_artifact(MODELS / "format-2.automl") as artifact:
        table, found = read_new_rows(artifact, str(tmp_path / "new.csv"))
    assert found is labelled
    said = " ".join(notice.message for notice in table.notices)
    assert words in said
    assert bool(words) == ("rows without labels" in said)


@pytest.mark.parametrize("name", ["format-1", "format-2", "format-2-regression"])
def test_an_older_model_needs_labels(command, tmp_path, name):
    rows = [line.rpartition(",")[0] for line in (MODELS / f"{name}.csv").read_text().splitlines()]
    (tmp_path / "new.csv").write_text("\n".join(rows) + "\n")
    done = command("adapt", MODELS / f"{name}.automl", "new.csv", "-o", "m.automl", cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1
    assert "give rows with labels, or fit the old table with --adapt-to" in done.stderr
    assert not (tmp_path / "m.automl").exists()


def test_too_few_rows_are_refused(command, folder, tmp_path):
    write(tmp_path / "few.csv", 10, 0.5, 6, labels=False)
    done = command("adapt", folder / "log_loss.automl", "few.csv", "-o", "m.automl", cwd=tmp_path)
    assert done.returncode == 3
    assert "too few" in done.stderr


def rewritten(model, path, change):
    """Copy a model with other kept outputs, whose digests are right: only their content is not."""
    from hashlib import sha256

    with zipfile.ZipFile(model) as old:
        manifest = json.loads(old.read("manifest.json"))
        blob = old.read(f"blobs/{manifest['outputs']['blob']}")
        blobs = {name: old.read(name) for name in old.namelist() if name.startswith("blobs/")}
    blob = change(manifest["outputs"], blob)
    digest = sha256(blob).hexdigest()
    manifest["outputs"]["blob"] = digest
    blobs[f"blobs/{digest}"] = blob
    text = json.dumps(manifest).encode()
    with zipfile.ZipFile(path, "w") as new:
        new.writestr("manifest.json", text)
        new.writestr("manifest.sha256", sha256(text).hexdigest())
        for name, content in blobs.items():
            new.writestr(name, content)
    return path


def shorter(entry, blob):
    return blob[:-4]


def not_probabilities(entry, blob):
    n = 8 * entry["n_rows"]
    return blob[:n] + (np.frombuffer(blob[n:], "<f4") * 3).astype("<f4").tobytes()


def other_classes(entry, blob):
    n = 4 * entry["n_rows"]
    return blob[:n] + (np.frombuffer(blob[n : 2 * n], "<i4") + 7).astype("<i4").tobytes() + blob[2 * n :]


def other_shares(entry, blob):
    entry["shares"] = [0.2, 0.3, 0.5]
    return blob


@pytest.mark.parametrize("change", [shorter, not_probabilities, other_classes, other_shares])
def test_a_damaged_attachment_is_refused(command, folder, tmp_path, change):
    model = rewritten(folder / "log_loss.automl", tmp_path / "bad.automl", change)
    done = command("adapt", model, folder / "new.csv", "-o", "m.automl", cwd=tmp_path)
    assert done.returncode == 6, done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "m.automl").exists()


@pytest.mark.parametrize(
    "moved",
    [{"inverse": 1.0, "offsets": [0.0]}, {"inverse": 0.0, "offsets": [0.0, 0.0]}, {"inverse": 1.0}, [], "no",
     {"inverse": 1.0, "offsets": [0.0, 1e9]}],
)  # fmt: skip
def test_a_correction_that_is_none_is_refused(command, folder, tmp_path, moved):
    def change(entry, blob):
        return blob

    def with_moved(path):
        from hashlib import sha256

        with zipfile.ZipFile(path) as old:
            parts = {name: old.read(name) for name in old.namelist()}
        manifest = json.loads(parts["manifest.json"])
        manifest["decision"]["moved"] = moved
        parts["manifest.json"] = json.dumps(manifest).encode()
        parts["manifest.sha256"] = sha256(parts["manifest.json"]).hexdigest().encode()
        with zipfile.ZipFile(path, "w") as new:
            for name, content in parts.items():
                new.writestr(name, content)

    model = rewritten(folder / "log_loss.automl", tmp_path / "bad.automl", change)
    with_moved(model)
    done = command("predict", model, folder / "new.csv", cwd=tmp_path)
    assert done.returncode == 6, done.stderr


def test_a_signature_does_not_outlive_the_change(command, folder, tmp_path):
    pytest.importorskip("cryptography")
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

    key = Ed25519PrivateKey.generate()
    form = (Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (tmp_path / "key.pem").write_bytes(key.private_bytes(*form))
    (tmp_path / "key.pub").write_bytes(key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH))
    shutil.copy(folder / "log_loss.automl", tmp_path / "m.automl")
    adapt = ("adapt", "m.automl", folder / "new.csv", "--require-signature", "key.pub")
    assert command(*adapt, "-o", "a.automl", cwd=tmp_path).returncode == 6, "nobody has signed it"
    assert command("sign", "m.automl", "--key", "key.pem", cwd=tmp_path).returncode == 0
    assert command(*adapt, "-o", "a.automl", cwd=tmp_path).returncode == 0
    assert command(*adapt, "-o", "b.automl", "--sign-key", "key.pem", cwd=tmp_path).returncode == 0
    signed = [
        json.loads(command("inspect", name, "--json", cwd=tmp_path).stdout)["signatures"]
        for name in ("a.automl", "b.automl")
    ]
    assert [len(found) for found in signed] == [0, 1]
