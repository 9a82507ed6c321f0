"""Encoded folds: made once, whoever asks; the same with and without a place on disk."""

import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from automl_cli import encoded
from automl_cli.adapting import fold_rows, training_frame
from automl_cli.encoded import awaits_texts, open_encoded
from automl_cli.evaluate import evaluate
from automl_cli.features.encodings import ENCODINGS
from automl_cli.features.frame import Frame, FrameSchema
from automl_cli.files import link_files, once
from automl_cli.rundata import RunData, open_rundata, renew, save_rundata
from automl_cli.splits import plan_folds
from automl_cli.task import make_task
from automl_cli.trial import Pipeline, Proposal, Success
from automl_cli.trialfiles import trial_folder

N_ROWS = 120
LINEAR = Pipeline("linear", "one_hot", {"C": 1.0, "elastic_net": False})
WORDS = ("red apple", "green apple", "old pear", "red pear tree", None)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """The data of a run with a number, a category, a date and a text."""
    random = np.random.default_rng(0)
    numbers, codes = random.normal(size=(N_ROWS, 1)), random.integers(-1, 6, size=(N_ROWS, 1)).astype(np.int32)
    texts = pa.array([WORDS[i] for i in random.integers(0, len(WORDS), size=N_ROWS)], pa.large_string())
    schema = FrameSchema(("n",), ("c",), (6,), ("d",), ("t",))
    frame = Frame(schema, numbers, codes, random.uniform(0, 9_000, size=(N_ROWS, 1)), (texts,))
    task, _ = make_task(list(np.where(numbers[:, 0] + codes[:, 0] > 2, "yes", "no")), target="y")
    save_rundata(tmp_path / "data", frame, task, plan_folds(task, folds=2, seconds=None, n_columns=4, seed=0))
    return tmp_path


@pytest.fixture
def data(run: Path) -> RunData:
    return open_rundata(run / "data")


def test_of_many_at_once_one_makes_the_folder_and_all_find_it(tmp_path: Path) -> None:
    makers, found = [], []

    def make(draft: Path) -> int:
        makers.append(threading.get_ident())
        time.sleep(0.05)
        (draft / "file").write_text("whole")
        return 7

    def ask() -> None:
        answer = once(tmp_path / "a" / "b", make)
        found.append((answer, (tmp_path / "a" / "b" / "file").read_text()))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(makers) == 1
    assert sorted(found, key=str) == [(7, "whole")] + [(None, "whole")] * 7
    assert {path.name for path in (tmp_path / "a").iterdir()} == {"b", "b.lock"}


def test_what_raises_leaves_nothing_and_the_next_one_makes_it(tmp_path: Path) -> None:
    def broken(draft: Path) -> None:
        (draft / "half").write_text("half")
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        once(tmp_path / "a", broken)
    assert not (tmp_path / "a").exists()
    once(tmp_path / "a", lambda draft: (draft / "file").write_text("whole"))
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["file"]


def test_a_killed_maker_holds_up_nobody(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from automl_cli.files import once\n"
        "def make(draft):\n    (draft / 'half').write_text('half'); print('begun', flush=True); time.sleep(60)\n"
        "once(Path(sys.argv[1]), make)"
    )
    with subprocess.Popen([sys.executable, "-c", code, tmp_path / "a"], stdout=subprocess.PIPE, text=True) as maker:
        assert maker.stdout is not None
        assert maker.stdout.readline() == "begun\n"
        threading.Timer(0.2, maker.kill).start()
        once(tmp_path / "a", lambda draft: (draft / "file").write_text("whole"))  # waits for the kill
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["file"]


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_fold_is_what_its_encoding_gives_and_writes_reach_nobody(run: Path, data: RunData, encoding: str) -> None:
    train, valid = data.folds[1]
    encoder, expected = ENCODINGS[encoding].fit(data.frame.take(train), data.y[train], data.kind, data.n_outputs, 1)
    for _ in range(2):  # as its maker sees it, and as another worker does
        got = open_encoded(run, data, encoding, 1)
        np.testing.assert_array_equal(got.train.X, expected.X)
        np.testing.assert_array_equal(got.valid.X, encoder.transform(data.frame.take(valid)).X)
        assert (got.train.categorical, got.train.names) == (expected.categorical, expected.names)
        assert got.train.X.dtype == np.float32
        got.train.X[:] = 77
    again = ENCODINGS[encoding].load(got.encoder).transform(data.frame.take(valid))
    np.testing.assert_array_equal(again.X, got.valid.X)


def test_text_is_learned_once_for_all_encodings(run: Path, data: RunData) -> None:
    open_encoded(run, data, "native", 0)
    known = run / "encoded" / "fold_0" / "text_parts" / "train.npy"
    doubled = 2 * np.load(known)
    np.save(known, doubled)  # what the next encoding shows, if it looks there
    width = doubled.shape[1]
    np.testing.assert_array_equal(open_encoded(run, data, "target", 0).train.X[:, -width:], doubled)
    assert not np.array_equal(open_encoded(run, data, "target", 1).train.X[:, -width:], doubled)


def test_texts_are_awaited_until_those_of_every_fold_are_there(run: Path, data: RunData) -> None:
    awaited = [awaits_texts(run, data)]
    for fold in range(len(data.folds)):
        open_encoded(run, data, "native", fold)
        awaited.append(awaits_texts(run, data))
    assert awaited == [True, True, False]


def test_an_encoding_learns_which_rows_belong_together(tmp_path: Path) -> None:
    numbers, groups = np.arange(60.0)[:, None], np.arange(60) // 4
    frame = Frame(FrameSchema(("n",)), numbers, np.zeros((60, 0), dtype=np.int32), np.zeros((60, 0)))
    task, _ = make_task(list(np.where(numbers[:, 0] % 3 > 1, "a", "b")), target="y", groups=groups)
    save_rundata(tmp_path, frame, task, plan_folds(task, folds=3, seconds=None, n_columns=1, seed=0))
    data = open_rundata(tmp_path)
    train = training_frame(data, fold_rows(data, 0, ""))
    assert train.groups is not None
    np.testing.assert_array_equal(train.groups, train.numbers[:, 0] // 4)


def trial(run: Path, number: int) -> dict[str, bytes]:
    assert isinstance(evaluate(Proposal(number, LINEAR, "smac", 7, 1), str(run)), Success)
    folder = trial_folder(run, number)
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != "fold.json")
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_without_room_on_disk_every_worker_encodes_for_itself(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shared = trial(run, 0)
    monkeypatch.setattr(encoded, "DISK_SHARE", 0.0)
    for folder in (run / "encoded" / "fold_0", run / "encoded" / "fold_1"):
        folder.rename(folder.with_suffix(".away"))
    renew(run / "data")
    assert trial(run, 1) == shared
    assert not list((run / "encoded" / "fold_0").rglob("watched.npy"))[1:], "only the text's"


def test_trials_link_to_one_encoder(run: Path) -> None:
    trial(run, 0)
    trial(run, 1)
    one, other = (trial_folder(run, number) / "fold_0" / "encoder" / "encoder.npz" for number in (0, 1))
    assert one.samefile(other)


def test_where_there_are_no_links_files_are_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(1, "Operation not permitted")

    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "file").write_text("content")
    monkeypatch.setattr("os.link", refuse)
    link_files(tmp_path / "source", tmp_path / "target")
    assert (tmp_path / "target" / "file").read_text() == "content"
    assert not (tmp_path / "target" / "file").samefile(tmp_path / "source" / "file")
