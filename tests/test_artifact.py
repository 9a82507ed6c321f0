"""The model file: what is written is read back, and nothing else is believed."""

import hashlib
import json
import os
import resource
import signal
import subprocess
import sys
import textwrap
import warnings
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from automl_cli.artifact import Member, open_artifact, write_artifact
from automl_cli.artifact.check import check_native, explain_child
from automl_cli.artifact.container import BLOBS, MANIFEST, MANIFEST_DIGEST
from automl_cli.errors import AutomlError, BadArtifact, NoSpace, UsageError
from automl_cli.families import find_families
from automl_cli.families.family import FoldData, Limits, Shape
from automl_cli.features.encodings import ENCODINGS
from automl_cli.features.frame import Frame, FrameSchema
from automl_cli.metrics import METRICS
from automl_cli.table import Column, Kind, Schema
from automl_cli.task import TaskKind
from automl_cli.trial import Pipeline

N_ROWS = 240
FRAME_SCHEMA = FrameSchema(numeric=("a", "b"), categorical=("c",), n_categories=(3,), datetime=(), text=())
SCHEMA = Schema(
    columns=(
        Column("a", Kind.NUMERIC, "numbers"),
        Column("b", Kind.NUMERIC, "numbers"),
        Column("c", Kind.CATEGORY, "few values", categories=("x", "y", "z")),
    )
)
MANIFEST_FACTS = {
    "created": "2026-01-01T00:00:00Z",
    "task": {"kind": "binary", "target": "t", "classes": ["no", "yes"], "metric": "roc_auc"},
    "schema": SCHEMA.to_json(),
    "frame": FRAME_SCHEMA.to_json(),
    "leaderboard": [{"number": 0, "score": float("nan")}],
    "naive_loss": float("inf"),
    "timings": {"read": 0.1},
}


@pytest.fixture(scope="module")
def rows():
    """Return a frame and binary labels that depend on it."""
    random = np.random.default_rng(0)
    numbers = random.normal(size=(N_ROWS, 2))
    codes = random.integers(0, 3, size=(N_ROWS, 1)).astype(np.int32)
    y = (numbers[:, 0] + codes[:, 0] > 1).astype(np.int64)
    return Frame(FRAME_SCHEMA, numbers, codes, np.empty((N_ROWS, 0))), y


@pytest.fixture(scope="module")
def members(rows, tmp_path_factory):
    """Fit two pipelines on two folds each; both members of an encoding share their encoders."""
    folder = tmp_path_factory.mktemp("trials")
    return [
        _fit_member(rows, folder, number=3, family="lightgbm", weight=0.75, defaults=0),
        _fit_member(rows, folder, number=11, family="lightgbm", weight=0.25, defaults=-1),
    ]


@pytest.fixture(scope="module")
def models(members, rows, tmp_path_factory):
    """Write the model file, with its own cache folder; return the file and what it predicts."""
    path = tmp_path_factory.mktemp("model") / "m.automl"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(path.parent / "cache"))
        write_artifact(path, MANIFEST_FACTS, members)
        yield path, open_artifact(path).predict(rows[0], threads=1)


@pytest.fixture(scope="module")
def small(rows, tmp_path_factory):
    """Write a file whose models load fast; return it and what it predicts."""
    folder = tmp_path_factory.mktemp("small")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        member = _fit_member(rows, folder / "trials", number=0, family="linear", weight=1.0, defaults=0)
        write_artifact(folder / "m.automl", MANIFEST_FACTS, [member])
        return folder / "m.automl", open_artifact(folder / "m.automl").predict(rows[0], threads=1)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def _fit_member(rows, folder, *, number, family, weight, defaults):
    frame, y = rows
    shape = Shape(TaskKind.BINARY, N_ROWS, 3, 1, 2)
    chosen = find_families()[family]
    hyperparameters = chosen.defaults(shape)[defaults]
    encoding = ENCODINGS[chosen.encodings[0]]
    folds = []
    for k in range(2):
        train, valid = np.arange(N_ROWS) % 2 != k, np.arange(N_ROWS) % 2 == k
        train_frame, valid_frame = frame.take(np.flatnonzero(train)), frame.take(np.flatnonzero(valid))
        encoder, matrix = encoding.fit(train_frame, y[train], TaskKind.BINARY, 2, k)
        data = FoldData(
            kind=TaskKind.BINARY,
            n_outputs=2,
            train=matrix,
            y=y[train],
            weight=None,
            valid=encoder.transform(valid_frame),
            y_valid=y[valid],
            weight_valid=None,
            loss=METRICS["roc_auc"].loss,
        )
        model = chosen.fit(data, hyperparameters, Limits(threads=1, seed=number))
        fold = folder / f"{number:05d}" / f"fold_{k}"
        (fold / "encoder").mkdir(parents=True)
        (fold / "model").mkdir()
        encoding.save(encoder, fold / "encoder")
        chosen.save(model, fold / "model")
        folds.append(fold)
    return Member(number, Pipeline(family, encoding.name, hyperparameters), weight, 0.1, tuple(folds))


def entries(path):
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def rewrite(path, content):
    """Write entries as a zip, as anybody can."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in content.items():
            archive.writestr(name, data)
    return path


def with_manifest(content, change):
    """Return entries with a changed manifest whose digest is right."""
    manifest = json.loads(content[MANIFEST])
    text = json.dumps(change(manifest)).encode()
    return {**content, MANIFEST: text, MANIFEST_DIGEST: hashlib.sha256(text).hexdigest().encode()}


def forge(content, old, data):
    """Return entries in which one blob is another, with every digest made right."""
    digest = hashlib.sha256(data).hexdigest()
    renamed = {name: value for name, value in content.items() if name != BLOBS + old}
    forged = with_manifest(renamed, lambda manifest: json.loads(json.dumps(manifest).replace(old, digest)))
    return {**forged, BLOBS + digest: data}


def model_blob(content):
    """Return the digest of the first native model."""
    (files,) = [json.loads(content[MANIFEST])["members"][0]["folds"][0]["model"]]
    (digest,) = [digest for digest in files.values() if content[BLOBS + digest].startswith(b"tree")]
    return digest


# round trip


def test_prediction_is_the_weighted_mean_of_the_fold_models(models, members, rows):
    _, predicted = models
    expected = np.zeros((N_ROWS, 2))
    for member in members:
        for fold in member.folds:
            encoder = ENCODINGS[member.pipeline.encoding].load(fold / "encoder")
            model = find_families()[member.pipeline.family].load(fold / "model")
            expected += member.weight / 2 * model.predict(encoder.transform(rows[0]), 1)
    np.testing.assert_allclose(predicted, expected, rtol=1e-12)
    np.testing.assert_allclose(predicted.sum(axis=1), 1.0)


def test_manifest_says_what_was_learned(models, members):
    manifest = open_artifact(models[0]).manifest
    assert (manifest.target, manifest.kind, manifest.classes) == ("t", TaskKind.BINARY, ("no", "yes"))
    assert (manifest.metric, manifest.n_outputs) == ("roc_auc", 2)
    assert manifest.schema == SCHEMA
    assert manifest.frame_schema == FRAME_SCHEMA
    assert [member.pipeline for member in manifest.members] == [member.pipeline for member in members]
    assert "lightgbm" in manifest.data["libraries"]
    assert manifest.data["naive_loss"] is None, "an infinite number is no JSON"


def test_equal_content_gives_equal_bytes_and_shared_files_are_stored_once(models, members, tmp_path):
    again = tmp_path / "again.automl"
    write_artifact(again, MANIFEST_FACTS, list(reversed(members)))
    assert again.read_bytes() == models[0].read_bytes()
    n_files = sum(file.is_file() for member in members for fold in member.folds for file in fold.rglob("*"))
    stored = [name for name in entries(again) if name.startswith(BLOBS)]
    assert len(stored) < n_files, "encoders of the same fold are the same"


def test_threads_chunks_and_repetition_do_not_change_the_prediction(models, rows, monkeypatch):
    path, predicted = models
    with open_artifact(path) as artifact:
        np.testing.assert_array_equal(artifact.predict_unchecked(rows[0], threads=2), predicted)
        monkeypatch.setattr("automl_cli.artifact.read.CHUNK_ROWS", 77)
        np.testing.assert_array_equal(artifact.predict_unchecked(rows[0], threads=1), predicted)
        assert artifact.predict_unchecked(rows[0].take(np.arange(0)), threads=1).shape == (0, 2)


def test_a_replaced_file_does_not_disturb_who_has_it_open(models, members, rows, tmp_path):
    path = tmp_path / "m.automl"
    path.write_bytes(models[0].read_bytes())
    with open_artifact(path) as artifact:
        write_artifact(path, {**MANIFEST_FACTS, "created": "later"}, [_alone(members[1])])
        np.testing.assert_array_equal(artifact.predict_unchecked(rows[0], threads=1), models[1])
    assert open_artifact(path).manifest.data["created"] == "later"


def test_nothing_is_left_in_the_temporary_folder(models, rows, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    open_artifact(models[0]).predict_unchecked(rows[0], threads=1)
    assert list(tmp_path.iterdir()) == []


def test_opening_imports_no_heavy_library(models):
    code = f"""
        import sys
        from pathlib import Path
        from automl_cli.artifact import open_artifact
        assert open_artifact(Path({str(models[0])!r})).manifest.target == "t"
        heavy = {{"numpy", "pandas", "pyarrow", "sklearn", "scipy", "lightgbm", "xgboost"}}
        print(sorted(heavy & set(sys.modules)))
    """
    shown = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


def _alone(member):
    return Member(member.number, member.pipeline, 1.0, member.loss, member.folds)


# writing


def test_a_full_disk_leaves_the_old_file(members, tmp_path):
    path = tmp_path / "m.automl"
    path.write_bytes(b"old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        with pytest.raises(NoSpace):
            write_artifact(path, MANIFEST_FACTS, members)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir()] == ["m.automl"]


def test_no_space_to_unpack(models, rows):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with open_artifact(models[0]) as artifact:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
        try:
            with pytest.raises(NoSpace, match="TMPDIR"):
                artifact.predict_unchecked(rows[0], threads=1)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_missing_folder_is_named(members, tmp_path):
    with pytest.raises(UsageError, match="nowhere does not exist"):
        write_artifact(tmp_path / "nowhere" / "m.automl", MANIFEST_FACTS, members)


def test_what_no_reader_accepts_does_not_replace_a_model(members, tmp_path):
    path = tmp_path / "m.automl"
    path.write_bytes(b"old")
    with pytest.raises(BadArtifact, match="sum to one"):
        write_artifact(path, MANIFEST_FACTS, members[:1])
    assert path.read_bytes() == b"old"


def test_very_regular_models_are_not_taken_for_a_bomb(members, tmp_path, monkeypatch):
    monkeypatch.setattr("automl_cli.artifact.container.FREE_BYTES", 1000)
    fold = tmp_path / "fold_0"
    (fold / "model").mkdir(parents=True)
    (fold / "encoder").mkdir()
    (fold / "model" / "zeros.bin").write_bytes(b"\0" * 1_000_000)
    path = tmp_path / "m.automl"
    write_artifact(path, MANIFEST_FACTS, [Member(0, members[0].pipeline, 1.0, 0.1, (fold,))])
    assert open_artifact(path).manifest.members[0].number == 0


def test_models_beyond_the_limit_are_refused_with_a_way_out(members, tmp_path, monkeypatch):
    monkeypatch.setattr("automl_cli.artifact.write.MAX_BYTES", 1000)
    with pytest.raises(AutomlError, match="--exclude"):
        write_artifact(tmp_path / "m.automl", MANIFEST_FACTS, members)


# damage


def cut(data):
    return data[: len(data) // 2]


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda data: b"", "not a model file"),
        (lambda data: b"name,age\n1,2\n", "not a model file"),
        (cut, "damaged"),
        (lambda data: data[:-1], "damaged"),
    ],
    ids=["empty", "csv", "half", "last byte"],
)
def test_files_that_are_not_whole(models, tmp_path, damage, says):
    path = tmp_path / "m.automl"
    path.write_bytes(damage(models[0].read_bytes()))
    with pytest.raises(BadArtifact, match=says) as caught:
        open_artifact(path)
    assert caught.value.exit_code == 6
    assert caught.value.hint


def _pipe(folder):
    os.mkfifo(folder / "pipe")
    return folder / "pipe"


PLACES = {
    "missing": lambda folder: folder / "missing",
    "folder": lambda folder: folder,
    "pipe": _pipe,
    "device": lambda folder: Path("/dev/zero"),
    "long name": lambda folder: folder / ("x" * 300),
    "NUL": lambda folder: folder / "a\0b",
}


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
def test_places_that_hold_no_file(place, tmp_path):
    with pytest.raises(BadArtifact):
        open_artifact(place(tmp_path))


CHANGED_ENTRIES = {
    "foreign zip": (lambda c: {"word/document.xml": b"<x/>"}, "not a model"),
    "manifest changed": (lambda c: {**c, MANIFEST: c[MANIFEST].replace(b"yes", b"YES")}, "digest of its manifest"),
    "digest is no digest": (lambda c: {**c, MANIFEST_DIGEST: b"x"}, "digest of its manifest"),
    "blob missing": (lambda c: {k: v for k, v in c.items() if k != BLOBS + model_blob(c)}, "is missing"),
    "name goes up": (lambda c: {**c, "../up": b"x"}, "unsafe name"),
    "absolute name": (lambda c: {**c, "/etc/x": b"x"}, "unsafe name"),
    "bomb": (lambda c: {**c, "zeros": b"\0" * (70 << 20)}, "unpacks to more"),
}


@pytest.mark.parametrize(("change", "says"), CHANGED_ENTRIES.values(), ids=CHANGED_ENTRIES)
def test_entries_that_are_not_as_written(models, tmp_path, change, says):
    path = rewrite(tmp_path / "m.automl", change(entries(models[0])))
    with pytest.raises(BadArtifact, match=says):
        open_artifact(path)
    assert [file.name for file in tmp_path.iterdir()] == ["m.automl"]


def test_a_blob_that_differs_from_its_digest_is_never_parsed(models, rows, tmp_path):
    content = entries(models[0])
    name = BLOBS + model_blob(content)
    path = rewrite(tmp_path / "m.automl", {**content, name: content[name].replace(b"leaf_value=", b"leaf_value=9")})
    with pytest.raises(BadArtifact, match="differs from its digest"):
        open_artifact(path).predict_unchecked(rows[0], threads=1)


def test_two_entries_with_one_name(models, tmp_path):
    path = rewrite(tmp_path / "m.automl", entries(models[0]))
    with warnings.catch_warnings(), zipfile.ZipFile(path, "a") as archive:
        warnings.simplefilter("ignore")  # the standard library warns of what we make on purpose
        archive.writestr(MANIFEST, b"{}")
    with pytest.raises(BadArtifact, match="one name"):
        open_artifact(path)


def _set(*path_and_value):
    *path, value = path_and_value

    def change(manifest):
        at = manifest
        for key in path[:-1]:
            at = at[key]
        at[path[-1]] = value
        return manifest

    return change


def _escape(manifest):
    files = manifest["members"][0]["folds"][0]["model"]
    _, digest = files.popitem()
    files["../../escaped.txt"] = digest
    return manifest


MALFORMED = {
    "a list": (lambda m: [], "not a JSON object"),
    "no format": (_set("format", "1"), "format version"),
    "newer": (lambda m: {"format": 99, "product": "9.1"}, r"newer automl \(9\.1\).*pip install --upgrade"),
    "task": (_set("task", "binary"), "'task'"),
    "three classes of two": (_set("task", "classes", ["a", "b", "c"]), "'task'"),
    "unknown kind": (_set("task", "kind", "ranking"), "'task'"),
    "created": (_set("created", 5), "'created'"),
    "timings": (_set("timings", {"read": "long"}), "'timings'"),
    "overhead": (_set("overhead", {"cpu_share": "little"}), "'overhead'"),
    "patience": (_set("ended_early", {"n_trials": 5, "seconds_left": "many"}), "'ended_early'"),
    "reason to end": (_set("ended_early", {"n_trials": 5, "reason": ["full"]}), "'ended_early'"),
    "footprint": (_set("footprint", {"n_models": 5, "row_seconds": "few"}), "'footprint'"),
    "without limits": (_set("footprint", {"n_models": 5, "unlimited": {"n_members": 3}}), "'footprint'"),
    "no members": (_set("members", []), "no members"),
    "weight is text": (_set("members", 0, "weight", "1"), "weight"),
    "weights": (_set("members", 0, "weight", 5.0), "sum to one"),
    "huge integer": (_set("members", 0, "loss", 10**400), "loss"),
    "no folds": (_set("members", 0, "folds", []), "folds"),
    "digest": (_set("members", 0, "folds", 0, "encoder", {"encoder.json": "../x"}), "digest"),
    "escape": (_escape, "unsafe file"),
    "hyperparameters": (_set("members", 0, "hyperparameters", {"depth": [1]}), "plain value"),
    "family": (_set("members", 0, "family", "os"), "unknown family"),
    "encoding": (_set("members", 0, "encoding", "pickle"), "unknown encoding"),
    "schema": (_set("schema", {"columns": 3}), "schema"),
    "frame": (_set("frame", {"numeric": 3}), "frame"),
    "decision": (_set("decision", [1.0]), "'decision'"),
    "mixing": (_set("mixing", [1.0]), "'mixing'"),
    "mixing of values in logarithms": (_set("mixing", {"logarithms": True, "offsets": []}), "'mixing'"),
    "mixing with an offset too many": (_set("mixing", {"logarithms": True, "offsets": [0.0] * 3}), "'mixing'"),
    "mixing out of range": (_set("mixing", {"logarithms": True, "offsets": [1e300, 0.0]}), "'mixing'"),
    "mixing with text": (_set("mixing", {"logarithms": True, "offsets": ["0", "0"]}), "'mixing'"),
    "decision without a key": (_set("decision", {"temperature": 1.0}), "'decision'"),
    "no temperature": (_set("decision", {"temperature": 0, "multipliers": []}), "'decision'"),
    "temperature is text": (_set("decision", {"temperature": "1", "multipliers": []}), "'decision'"),
    "negative multiplier": (_set("decision", {"temperature": 1.0, "multipliers": [1.0, -1.0]}), "'decision'"),
    "one multiplier of two": (_set("decision", {"temperature": 1.0, "multipliers": [1.0]}), "'decision'"),
    "ensemble": (_set("ensemble", {"in_sample_gain": 0.1}), "'ensemble'"),
    "two columns of one name": (_set("schema", 1, "name", "a"), "'schema'"),
    "categories are numbers": (_set("schema", 2, "categories", [1, 2, 3]), "'schema'"),
    "frame without its column": (_set("frame", "numeric", ["a", "x"]), "other columns"),
    "frame of other categories": (_set("frame", "n_categories", [2]), "other columns"),
    "frame of another kind": (_set("schema", 0, "kind", "text"), "other columns"),
    "unknown metric": (_set("task", "metric", "beauty"), "metric"),
    "metric of another task": (_set("task", "metric", "rmse"), "metric"),
    "memory is text": (_set("peak_memory_bytes", "much"), "'peak_memory_bytes'"),
    "naive score": (_set("naive_score", "0.5"), "'naive_score'"),
    "leaderboard": (_set("leaderboard", 0, "score", "best"), "'leaderboard'"),
    "racing": (_set("racing", {"n_trials": 3}), "'racing'"),
    "mattered": (_set("mattered", [["a"]]), "'mattered'"),
    "warnings": (_set("warnings", [{}]), "'warnings'"),
}


@pytest.mark.parametrize(("change", "says"), MALFORMED.values(), ids=MALFORMED)
def test_manifests_with_right_digests_but_wrong_content(models, rows, tmp_path, change, says):
    path = rewrite(tmp_path / "m.automl", with_manifest(entries(models[0]), change))
    with pytest.raises(BadArtifact, match=says) as caught:
        artifact = open_artifact(path)
        _ = artifact.manifest.schema, artifact.manifest.frame_schema, artifact.manifest.metric
        artifact.predict(rows[0], threads=1)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "escaped.txt").exists()


def test_a_temperature_is_applied_and_its_absence_is_none(models, rows, tmp_path):
    path, before = models
    decision = {"temperature": 2.0, "multipliers": [0.5, 2.0]}
    softer = rewrite(tmp_path / "m.automl", with_manifest(entries(path), _set("decision", decision)))
    with open_artifact(softer) as artifact:
        roots = np.sqrt(before)
        assert artifact.predict(rows[0], threads=1) == pytest.approx(roots / roots.sum(axis=1, keepdims=True))
        assert artifact.manifest.decision.multipliers == (0.5, 2.0)
    with open_artifact(path) as artifact:
        assert "decision" not in artifact.manifest.data
        assert artifact.manifest.decision.multipliers == ()


@pytest.mark.parametrize("at_once", [None, 7])
def test_stacked_members_are_weighed_in_logarithms_of_their_bags(members, rows, tmp_path, monkeypatch, at_once):
    """Against the formula, with weights of either sign, whether all rows are predicted at once or not."""
    if at_once:
        monkeypatch.setattr("automl_cli.artifact.read.CHUNK_ROWS", at_once)
        monkeypatch.setattr("automl_cli.artifact.read.MOST_BAGGED", 1)
    weights, offsets = (1.5, -0.4), np.array([0.3, -0.1])
    stacked = [replace(member, weight=weight) for member, weight in zip(members, weights, strict=True)]
    mixing = {"logarithms": True, "offsets": offsets.tolist()}
    write_artifact(tmp_path / "m.automl", {**MANIFEST_FACTS, "mixing": mixing}, stacked)
    scores = np.tile(offsets, (N_ROWS, 1))
    for member in stacked:
        bag = np.zeros_like(scores)
        for folder in member.folds:
            matrix = ENCODINGS[member.pipeline.encoding].load(folder / "encoder").transform(rows[0])
            bag += find_families()[member.pipeline.family].load(folder / "model").predict(matrix, 1) / len(member.folds)
        scores += member.weight * np.log(np.maximum(bag, 1e-6))
    expected = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    with open_artifact(tmp_path / "m.automl") as artifact:
        assert artifact.predict(rows[0], threads=1) == pytest.approx(expected)


def test_weights_that_do_not_sum_to_one_need_a_mixing(members, tmp_path):
    with pytest.raises(BadArtifact, match="sum to one"):
        write_artifact(tmp_path / "m.automl", MANIFEST_FACTS, [replace(members[0], weight=1.5)])


@pytest.mark.parametrize("text", [b"[" * 100_000, b"{", b'{"format": NaN}', b"\xff", b'{"format": true}'])
def test_manifests_that_are_no_json(models, tmp_path, text):
    content = {**entries(models[0]), MANIFEST: text, MANIFEST_DIGEST: hashlib.sha256(text).hexdigest()}
    with pytest.raises(BadArtifact):
        open_artifact(rewrite(tmp_path / "m.automl", content))


@settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_flipped_bytes_are_found_or_change_nothing(models, rows, tmp_path, data):
    path, predicted = models
    content = bytearray(path.read_bytes())
    # As many flips in the zip's own structures as in the models.
    structure = content.rfind(b"PK\x01\x02", 0, content.find(b"PK\x01\x02") + 1)
    place = st.one_of(st.integers(0, len(content) - 1), st.integers(structure, len(content) - 1))
    for _ in range(data.draw(st.integers(1, 3), label="flips")):
        content[data.draw(place)] ^= data.draw(st.integers(1, 255))
    damaged = tmp_path / "flipped.automl"
    damaged.write_bytes(content)
    try:
        found = open_artifact(damaged).predict_unchecked(rows[0], threads=1)
    except BadArtifact:
        return
    np.testing.assert_array_equal(found, predicted)


# native parsers

FORGED = {
    # Passes as a model text, then corrupts the memory of whoever predicts with it.
    "a million classes": lambda text: text.replace(b"objective=binary", b"objective=multiclass num_class:1000000", 1),
    "cut": lambda text: text[: len(text) // 3],
}


@pytest.mark.parametrize("change", FORGED.values(), ids=FORGED)
def test_a_forged_native_model_is_refused_before_this_process_loads_it(models, rows, tmp_path, change):
    content = entries(models[0])
    old = model_blob(content)
    path = rewrite(tmp_path / "m.automl", forge(content, old, change(content[BLOBS + old])))
    with pytest.raises(BadArtifact):
        open_artifact(path).predict(rows[0], threads=1)


def test_parts_that_do_not_fit_together_are_refused(small, rows, tmp_path):
    content = with_manifest(entries(small[0]), _set("frame", "numeric", ["a"]))
    with pytest.raises(BadArtifact, match="do not fit together"):
        open_artifact(rewrite(tmp_path / "m.automl", content)).predict(rows[0], threads=1)


def test_a_stranger_is_checked_once(small, rows, tmp_path, monkeypatch):
    assert not (tmp_path / "cache").exists()
    np.testing.assert_array_equal(open_artifact(small[0]).predict(rows[0], threads=1), small[1])
    assert len(list((tmp_path / "cache/automl/checked").iterdir())) == 1
    monkeypatch.setattr(sys, "executable", "/no/python")  # a second check would need it
    np.testing.assert_array_equal(open_artifact(small[0]).predict(rows[0], threads=1), small[1])


def test_without_a_cache_folder_the_check_is_made_and_prediction_works(small, rows, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null")
    np.testing.assert_array_equal(open_artifact(small[0]).predict(rows[0], threads=1), small[1])


@pytest.mark.parametrize("name", ["SIGSEGV", "SIGABRT", "SIGFPE"])
def test_a_crash_of_the_child_is_a_damaged_file(name):
    error = explain_child(Path("m.automl"), -getattr(signal, name), "")
    assert isinstance(error, BadArtifact)
    assert name in error.problem


def test_models_that_take_all_of_the_processors_time_are_damaged():
    """A tree that walks in circles never gives the interpreter its turn."""
    code = """
    from pathlib import Path
    from automl_cli.artifact import probe
    def circle(path):
        while True:
            pass
    probe.open_artifact = circle
    probe.main(Path("m.automl"), "", seconds=1)
    """
    child = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, check=False)
    error = explain_child(Path("m.automl"), child.returncode, "")
    assert isinstance(error, BadArtifact)
    assert "do not finish loading" in error.problem


def test_a_busy_machine_says_nothing_about_the_file(small, tmp_path, monkeypatch):
    (tmp_path / "slow").write_text("#!/bin/sh\nexec sleep 30\n")
    (tmp_path / "slow").chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "slow"))
    monkeypatch.setattr("automl_cli.artifact.check.SECONDS", 0.01)
    with open_artifact(small[0]) as artifact, pytest.raises(AutomlError, match="the machine is busy") as caught:
        check_native(small[0], artifact.manifest, 1)
    assert caught.value.exit_code == 1


def test_a_killed_child_says_nothing_about_the_file():
    assert explain_child(Path("m.automl"), -signal.SIGKILL, "").exit_code == 1
    assert explain_child(Path("m.automl"), 1, "").exit_code == 1
