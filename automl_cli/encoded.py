"""Encoded folds: made once in a run, by the first worker that needs them, and mapped by all.

``RUN/encoded/fold_0/native/`` holds ``encoder/``, ``facts.json`` and, unless the disk is short, both matrices; trials
link to the files of the encoder. ``RUN/encoded/fold_0/text_parts/`` holds what the encodings have in common.
"""

import json
import logging
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from math import inf
from pathlib import Path
from typing import TypeVar

import numpy as np

from automl_cli.features.encodings import ENCODINGS
from automl_cli.features.frame import Frame
from automl_cli.features.matrix import Array, Matrix, as_matrix
from automl_cli.features.text import KnownText, TextParts, read_text_parts, save_text_parts
from automl_cli.files import locked
from automl_cli.rowtime import row_seconds
from automl_cli.rundata import RunData

T = TypeVar("T")
logger = logging.getLogger(__name__)
DISK_SHARE = 0.2  # of the free disk may go into encoded folds; beyond it each worker makes its own
TEXT = "text_parts"


@dataclass(frozen=True)
class Encoded:
    """One fold under one encoding.

    Attributes
    ----------
    encoder : Path
        Folder with the saved encoder.
    train, valid : Matrix
        To be read only: the next trial is given the same rows.
    row_seconds : float
        What encoding a row takes; measured in the first fold, 0 in others.
    """

    encoder: Path
    train: Matrix
    valid: Matrix
    row_seconds: float = 0.0

    @property
    def n_bytes(self) -> int:
        """Bytes of both matrices."""
        return int(self.train.X.nbytes + self.valid.X.nbytes)


def open_encoded(run_folder: Path, data: RunData, encoding: str, fold: int) -> Encoded:
    """Map an encoded fold; the first who asks for it encodes it, others wait for that.

    Where the matrices would take too much of the disk, every worker holds its own.
    """
    root = run_folder / "encoded"  # whoever ends the run removes it
    place = root / f"fold_{fold}" / encoding
    made = once(place, lambda draft: _encode_into(draft, root, data, encoding, fold))
    facts = json.loads((place / "facts.json").read_text())
    if (place / "valid.npy").exists():
        categorical = tuple(facts["categorical"])
        train, valid = (as_matrix(_map(place / f"{part}.npy"), categorical) for part in ("train", "valid"))
    else:
        train, valid = made or _encode(root, data, encoding, fold, None)
    return Encoded(place / "encoder", train, valid, facts["row_seconds"])


def once(place: Path, make: Callable[[Path], T]) -> T | None:
    """Have a folder made by the first process that needs it; the others wait until it is there.

    Parameters
    ----------
    make : callable
        Fills an empty folder that becomes ``place``. Where it raises, or its process is killed, the next one makes it.

    Returns
    -------
    What ``make`` returned, or None where it was not called.
    """
    if place.exists():
        return None
    place.parent.mkdir(parents=True, exist_ok=True)
    with locked(place.with_suffix(".lock"), str(place), wait_seconds=inf):
        if place.exists():
            return None
        draft = Path(tempfile.mkdtemp(prefix=f".{place.name}.", dir=place.parent))
        try:
            made = make(draft)
            try:
                draft.rename(place)
            except OSError:
                if not place.exists():  # else somebody was faster, on a disk without locks
                    raise
            return made
        finally:
            shutil.rmtree(draft, ignore_errors=True)


def link_files(source: Path, target: Path) -> None:
    """Fill a new folder ``target`` with links to the files of ``source``, or with copies where there are no links."""
    target.mkdir()
    for file in source.iterdir():
        try:
            os.link(file, target / file.name)
        except OSError:
            shutil.copyfile(file, target / file.name)


def _encode_into(draft: Path, root: Path, data: RunData, encoding: str, fold: int) -> tuple[Matrix, Matrix]:
    encoder = draft / "encoder"
    encoder.mkdir()
    train, valid = _encode(root, data, encoding, fold, encoder)
    facts = {
        "categorical": train.categorical,
        "row_seconds": _row_seconds(data, encoding, encoder) if fold == 0 else 0.0,
    }
    (draft / "facts.json").write_text(json.dumps(facts))
    _write_matrices(draft, root, train=train.X, valid=valid.X)
    return train, valid


def _row_seconds(data: RunData, encoding: str, saved: Path) -> float:
    """Return what a row takes that comes from elsewhere: without what the run knows of its texts."""
    encoder, valid = ENCODINGS[encoding].load(saved), data.every_fold[0][1]
    n_columns = len(data.frame.schema.names)
    return row_seconds(lambda rows: encoder.transform(data.frame.take(valid[rows])), len(valid), n_columns)


def _encode(root: Path, data: RunData, encoding: str, fold: int, save_to: Path | None) -> tuple[Matrix, Matrix]:
    train_rows, valid_rows = data.every_fold[fold]
    train, valid = data.frame.take(train_rows), data.frame.take(valid_rows)
    if data.frame.schema.text:
        train, valid = _with_known_text(root / f"fold_{fold}" / TEXT, train, valid, fold)
    # The seed belongs to the fold, not to the trial: all trials share the encoded fold.
    encoder, matrix = ENCODINGS[encoding].fit(train, data.y[train_rows], data.kind, data.n_outputs, fold)
    if save_to is not None:
        ENCODINGS[encoding].save(encoder, save_to)
    return matrix, encoder.transform(valid)


def _with_known_text(place: Path, train: Frame, valid: Frame, seed: int) -> tuple[Frame, Frame]:
    """Return both frames with their text features, which are the same in every encoding."""

    def make(draft: Path) -> None:
        parts = TextParts.fit(train.texts, seed)
        save_text_parts(parts, train.schema, draft)
        np.save(draft / "train.npy", parts.transform(train.texts, train.n_rows))
        np.save(draft / "valid.npy", parts.transform(valid.texts, valid.n_rows))

    once(place, make)
    parts = read_text_parts(place)
    return (
        replace(train, known_text=KnownText(parts, _map(place / "train.npy"))),
        replace(valid, known_text=KnownText(parts, _map(place / "valid.npy"))),
    )


def _write_matrices(folder: Path, root: Path, **matrices: Array) -> None:
    """Write the matrices, or none of them where the disk has no room."""
    written = sum(file.stat().st_size for file in root.rglob("*.npy"))
    free = shutil.disk_usage(root).free
    if written + sum(X.nbytes for X in matrices.values()) > DISK_SHARE * (free + written):
        return
    try:
        for name, X in matrices.items():
            np.save(folder / f"{name}.npy", X)
    except OSError:
        logger.info("no room for %s on disk: every worker encodes for itself", folder, exc_info=True)
        for name in matrices:
            (folder / f"{name}.npy").unlink(missing_ok=True)


def _map(path: Path) -> Array:
    # Copy-on-write: scikit-learn checks rows with missing values in code that takes no read-only arrays.
    array: Array = np.load(path, mmap_mode="c", allow_pickle=False)
    return array.view(np.ndarray)
