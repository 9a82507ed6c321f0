"""What every encoding promises, whichever it is."""

import json
import subprocess
import sys
import zipfile
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from automl_cli.errors import BadArtifact, SchemaMismatch
from automl_cli.features.encodings import ENCODINGS, Encoder, Encoding
from automl_cli.features.frame import Frame, FrameSchema
from automl_cli.features.matrix import Matrix
from automl_cli.task import TaskKind

KINDS = ((TaskKind.BINARY, 2), (TaskKind.MULTICLASS, 12), (TaskKind.REGRESSION, 1))
WORDS = ("good", "bad", "ugly", "film", "a", "the", "naïve", "電影")
every_encoding = pytest.mark.parametrize("encoding", ENCODINGS.values(), ids=lambda encoding: encoding.name)


def messy_frame(n_rows: int = 120, seed: int = 0, n_texts: int = 1) -> Frame:
    """Every kind of column, each with missing values; one number all missing, one huge; a category of 60 values."""
    rng = np.random.default_rng(seed)
    numbers = rng.lognormal(sigma=2, size=(n_rows, 5))
    numbers[:, 1] = np.nan
    numbers[:, 2] = 1.7e9 + np.arange(n_rows)
    numbers[:, 3] *= 1e300
    numbers[::7, 0] = np.nan
    sizes = (2, 5, 60)
    codes = np.column_stack([rng.integers(-1, size, n_rows) for size in sizes]).astype(np.int32)
    days = 19_000 + np.column_stack([rng.integers(0, 999, n_rows), rng.uniform(0, 999, n_rows)])
    days[::5] = np.nan
    texts = [" ".join(rng.choice(WORDS, 4)) if i % 9 else None for i in range(n_rows)]
    return Frame(
        FrameSchema(tuple("abcde"), tuple("fgh"), sizes, ("i", "j"), tuple(f"k{i}" for i in range(n_texts))),
        numbers,
        codes,
        days,
        tuple(pa.array(texts, pa.large_string()) for _ in range(n_texts)),
    )


def target_of(kind: TaskKind, n_outputs: int, n_rows: int, seed: int = 1) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(size=n_rows) if kind == TaskKind.REGRESSION else rng.integers(0, n_outputs, n_rows)


@cache
def fitted(name: str) -> tuple[Encoder, Matrix]:
    """An encoder that tests only read, and its training rows."""
    return ENCODINGS[name].fit(messy_frame(60), target_of(TaskKind.BINARY, 2, 60), TaskKind.BINARY, 2, 0)


@every_encoding
@pytest.mark.parametrize(("kind", "n_outputs"), KINDS)
def test_output_is_what_libraries_take(encoding: Encoding, kind: TaskKind, n_outputs: int) -> None:
    frame = messy_frame()
    encoder, train = encoding.fit(frame, target_of(kind, n_outputs, frame.n_rows), kind, n_outputs, 0)
    other = encoder.transform(messy_frame(50, seed=5))
    for matrix, n_rows in ((train, 120), (other, 50)):
        assert matrix.X.dtype == np.float32
        assert matrix.X.flags.c_contiguous
        assert matrix.X.shape == (n_rows, len(matrix.names))
        assert not np.isinf(matrix.X).any()
        assert all(name.isascii() and name.isalnum() for name in matrix.names)
    assert (train.names, train.categorical) == (other.names, other.categorical)
    assert not train.categorical or encoding.name in ("native", "generated")
    if encoding.name == "one_hot":
        assert not np.isnan(other.X).any()


@every_encoding
@pytest.mark.parametrize(("kind", "n_outputs"), KINDS)
def test_saved_encoder_encodes_the_same(encoding: Encoding, kind: TaskKind, n_outputs: int, tmp_path: Path) -> None:
    frame = messy_frame(n_texts=2)
    encoder, _ = encoding.fit(frame, target_of(kind, n_outputs, frame.n_rows), kind, n_outputs, 0)
    encoding.save(encoder, tmp_path)
    other = messy_frame(30, seed=2, n_texts=2)
    before, after = encoder.transform(other), encoding.load(tmp_path).transform(other)
    np.testing.assert_array_equal(before.X, after.X)
    assert (before.names, before.categorical) == (after.names, after.categorical)
    assert {path.suffix for path in tmp_path.iterdir()} == {".json", ".npz"}


def shuffled(frame: Frame, name: str) -> Frame:
    """The frame with one column's values in another order."""
    schema, order = frame.schema, np.roll(np.arange(frame.n_rows), 11)
    blocks = {"numbers": schema.numeric, "codes": schema.categorical, "days": schema.datetime}
    for key, names in blocks.items():
        if name in names:
            block = np.array(getattr(frame, key))
            block[:, names.index(name)] = block[order, names.index(name)]
            return replace(frame, **{key: block})
    texts = zip(schema.text, frame.texts, strict=True)
    return replace(frame, texts=tuple(text.take(pa.array(order)) if name == own else text for own, text in texts))


def check_sources(encoder: Encoder, frame: Frame) -> None:
    """Make sure that a feature changes with the columns that it is said to be made of, and with no other."""
    before, sources = encoder.transform(frame).X, encoder.sources()
    assert len(sources) == before.shape[1]
    seen = np.zeros(len(sources), dtype=bool)
    for name in frame.schema.names:
        after = encoder.transform(shuffled(frame, name)).X
        differs = ((before != after) & ~(np.isnan(before) & np.isnan(after))).any(axis=0)
        named = np.array([name in source for source in sources])
        assert not (differs & ~named).any(), name
        seen |= differs
    varies = np.array([len(np.unique(column)) > 1 for column in before.T])
    assert (seen == varies).all()


@every_encoding
@pytest.mark.parametrize(("kind", "n_outputs"), KINDS)
def test_features_say_which_columns_they_are_made_of(
    encoding: Encoding, kind: TaskKind, n_outputs: int, tmp_path: Path
) -> None:
    frame = messy_frame(n_texts=2)
    encoder, _ = encoding.fit(frame, target_of(kind, n_outputs, frame.n_rows), kind, n_outputs, 0)
    check_sources(encoder, frame)
    encoding.save(encoder, tmp_path)
    assert encoding.load(tmp_path).sources() == encoder.sources()
    assert {name for source in encoder.sources() for name in source} >= set(frame.schema.categorical)


@every_encoding
def test_a_frame_without_columns_has_a_feature_without_a_source(encoding: Encoding) -> None:
    nothing = Frame(FrameSchema(), np.empty((60, 0)), np.empty((60, 0), dtype=np.int32), np.empty((60, 0)))
    encoder, matrix = encoding.fit(nothing, target_of(TaskKind.BINARY, 2, 60), TaskKind.BINARY, 2, 0)
    assert encoder.sources() == ((),) * matrix.X.shape[1]


@every_encoding
def test_same_seed_gives_the_same_bytes(encoding: Encoding, tmp_path: Path) -> None:
    frame = messy_frame()
    y = target_of(TaskKind.BINARY, 2, frame.n_rows)
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        encoder, matrix = encoding.fit(frame, y, TaskKind.BINARY, 2, 7)
        encoding.save(encoder, tmp_path / name)
        np.save(tmp_path / name / "X.npy", matrix.X)
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()


@every_encoding
def test_row_is_encoded_alone(encoding: Encoding) -> None:
    frame = messy_frame()
    encoder, _ = encoding.fit(frame, target_of(TaskKind.BINARY, 2, 120), TaskKind.BINARY, 2, 0)
    together = encoder.transform(frame).X
    for row in (0, 1, 63):
        np.testing.assert_allclose(encoder.transform(frame.take(np.array([row]))).X[0], together[row], rtol=1e-5)


@every_encoding
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(code=st.integers(-(2**31), 2**31 - 1), number=st.floats(), day=st.floats(), text=st.none() | st.text())
def test_any_value_can_come_later(encoding: Encoding, code: int, number: float, day: float, text: str | None) -> None:
    encoder, train = fitted(encoding.name)
    strange = Frame(
        messy_frame(1).schema,
        np.full((1, 5), number),
        np.full((1, 3), code, dtype=np.int32),
        np.full((1, 2), day),
        (pa.array([text and text.encode("utf-8", "replace").decode()], pa.large_string()),),
    )
    X = encoder.transform(strange).X
    assert X.shape == (1, train.X.shape[1])
    assert not np.isinf(X).any()


@every_encoding
@pytest.mark.parametrize(("kind", "n_outputs"), KINDS)
@pytest.mark.parametrize("n_rows", [1, 2, 5])
def test_few_rows_are_enough(encoding: Encoding, kind: TaskKind, n_outputs: int, n_rows: int) -> None:
    frame = messy_frame(n_rows)
    encoder, train = encoding.fit(frame, target_of(kind, n_outputs, n_rows), kind, n_outputs, 0)
    assert len(train.X) == n_rows
    assert encoder.transform(messy_frame(0)).X.shape == (0, train.X.shape[1])


@every_encoding
def test_frame_without_columns_gives_one_constant(encoding: Encoding, tmp_path: Path) -> None:
    empty = np.empty((8, 0))
    frame = Frame(FrameSchema(), empty, empty.astype(np.int32), empty)
    encoder, train = encoding.fit(frame, target_of(TaskKind.BINARY, 2, 8), TaskKind.BINARY, 2, 0)
    encoding.save(encoder, tmp_path)
    assert train.X.tolist() == [[0.0]] * 8
    assert encoding.load(tmp_path).transform(frame).X.tolist() == [[0.0]] * 8


@every_encoding
def test_other_columns_are_refused(encoding: Encoding) -> None:
    frame = messy_frame()
    encoder, _ = encoding.fit(frame, target_of(TaskKind.BINARY, 2, 120), TaskKind.BINARY, 2, 0)
    with pytest.raises(SchemaMismatch):
        encoder.transform(messy_frame(n_texts=2))


def saved(encoding: Encoding, folder: Path) -> Path:
    encoding.save(fitted(encoding.name)[0], folder)
    return folder


def rewrite(folder: Path, arrays: dict[str, np.ndarray], name: str, array: np.ndarray) -> None:
    """Replace one array, header included, as somebody would who knows the format."""
    np.savez(folder / "encoder.npz", **{**arrays, name: array})
    header = json.loads((folder / "encoder.json").read_text())
    header["arrays"][name] = {"dtype": array.dtype.str, "shape": list(array.shape)}
    (folder / "encoder.json").write_text(json.dumps(header))


def arrays_of(folder: Path) -> dict[str, np.ndarray]:
    with np.load(folder / "encoder.npz") as archive:
        return dict(archive)


@every_encoding
def test_every_array_is_checked(encoding: Encoding, tmp_path: Path) -> None:
    folder = saved(encoding, tmp_path)
    arrays = arrays_of(folder)
    for name, array in arrays.items():
        wrong = [array.astype("<c16"), array[None], np.array([{}], dtype=object)]
        wrong += [np.full(array.shape, np.inf, array.dtype)] if array.dtype.kind == "f" else []
        wrong += [np.full(array.shape, 2**31 - 1, array.dtype)] if array.dtype == np.int32 else []
        for bad in (bad for bad in wrong if bad.size):
            rewrite(folder, arrays, name, bad)
            with pytest.raises(BadArtifact):
                encoding.load(folder)
        rewrite(folder, arrays, name, array)
    encoding.load(folder)


@every_encoding
@pytest.mark.parametrize("damage", ["missing", "cut", "empty", "header", "other", "nested"])
def test_damaged_files_are_refused(encoding: Encoding, damage: str, tmp_path: Path) -> None:
    folder = saved(encoding, tmp_path)
    header, arrays = folder / "encoder.json", folder / "encoder.npz"
    if damage == "missing":
        arrays.unlink()
    elif damage == "cut":
        arrays.write_bytes(arrays.read_bytes()[:-100])
    elif damage == "empty":
        header.write_text("")
    elif damage == "header":
        header.write_text("[1, 2]")
    elif damage == "other":
        name = next(name for name in ENCODINGS if name != encoding.name)
        header.write_text(header.read_text().replace(f'"{encoding.name}"', f'"{name}"'))
    else:
        header.write_text("[" * 200_000)
    with pytest.raises(BadArtifact):
        encoding.load(folder)


@every_encoding
def test_archive_that_claims_more_than_it_weighs_is_refused(encoding: Encoding, tmp_path: Path) -> None:
    folder = saved(encoding, tmp_path)
    arrays = arrays_of(folder)
    np.savez_compressed(folder / "encoder.npz", **arrays)
    with pytest.raises(BadArtifact, match="more than the file holds"):
        encoding.load(folder)
    name, array = next(iter(arrays.items()))
    np.savez(folder / "encoder.npz", **arrays)
    header = json.loads((folder / "encoder.json").read_text())
    header["arrays"][name]["shape"] = [10**15]
    (folder / "encoder.json").write_text(json.dumps(header))
    # an array whose own header claims a petabyte
    lying = np.lib.format.header_data_from_array_1_0(array) | {"shape": (10**15,)}
    with zipfile.ZipFile(folder / "encoder.npz") as archive:
        members = {info: archive.read(info) for info in archive.namelist()}
    with zipfile.ZipFile(folder / "encoder.npz", "w") as archive:
        for member, content in members.items():
            with archive.open(member, "w") as file:
                if member == f"{name}.npy":
                    np.lib.format.write_array_header_1_0(file, lying)
                else:
                    file.write(content)
    with pytest.raises(BadArtifact):
        encoding.load(folder)


@every_encoding
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(data=st.data())
def test_flipped_bytes_never_crash(encoding: Encoding, tmp_path_factory: pytest.TempPathFactory, data) -> None:
    folder = saved(encoding, tmp_path_factory.mktemp("encoder"))
    path = folder / data.draw(st.sampled_from(["encoder.json", "encoder.npz"]))
    content = bytearray(path.read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    try:
        encoder = encoding.load(folder)
    except BadArtifact:
        return
    try:
        encoder.transform(messy_frame(3))
    except SchemaMismatch:
        return


def test_importing_encodings_loads_no_learning_library() -> None:
    code = "import sys, automl_cli.features.encodings\nprint({'sklearn', 'scipy', 'pandas'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "set()"
