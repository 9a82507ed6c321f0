"""Encoded folds: made once in a run, by the first worker that needs them, and mapped by all.

``RUN/encoded/fold_0/native/`` holds ``encoder/``, ``facts.json`` and, unless the disk is short, both matrices; trials
link to the files of the encoder. ``RUN/encoded/fold_0/text_parts/`` holds what the encodings have in common.
"""

import json
import logging
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from automl_cli.adapting import (
    fold_rows,
    held_frame,
    lent_columns,
    source_model_folder,
    target_columns,
    training_frame,
    training_targets,
)
from automl_cli.features.frame import Frame
from automl_cli.features.matrix import Array, Matrix, as_matrix
from automl_cli.features.text import KnownText, TextParts, read_text_parts, save_text_parts
from automl_cli.files import bytes_under, once
from automl_cli.rowtime import row_seconds
from automl_cli.rundata import RunData
from automl_cli.shared import with_columns
from automl_cli.sourced import find_encoding, source_files
from automl_cli.transfer.adaptation import SHARED, WITH_OUTPUTS, WITH_ROWS, split_name
from automl_cli.unlabelled import shared_columns, shared_folder

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
    train, held : Matrix
        To learn from, and not to: the validation rows, and behind them some of a source, if there is one. To be read
        only: the next trial is given the same rows.
    n_valid : int
        Validation rows.
    row_seconds : float
        What encoding a row takes; measured in the first fold, 0 in others.
    """

    encoder: Path
    train: Matrix
    held: Matrix
    n_valid: int
    row_seconds: float = 0.0

    @property
    def valid(self) -> Matrix:
        """The validation rows."""
        return replace(self.held, X=self.held.X[: self.n_valid])

    def others(self, n: int) -> Matrix:
        """Return the first rows of the source that are held."""
        return replace(self.held, X=self.held.X[self.n_valid : self.n_valid + n])

    @property
    def n_bytes(self) -> int:
        """Bytes of both matrices."""
        return int(self.train.X.nbytes + self.held.X.nbytes)


@dataclass(frozen=True)
class Added:
    """Columns of all labelled rows that stand behind those of an encoder, and the files that make them of new rows."""

    columns: Array
    files: Path


def open_encoded(run_folder: Path, data: RunData, encoding: str, fold: int) -> Encoded:
    """Map an encoded fold; the first who asks for it encodes it, others wait for that.

    Where the matrices would take too much of the disk, every worker holds its own.
    """
    root = run_folder / "encoded"  # whoever ends the run removes it
    place = root / f"fold_{fold}" / encoding
    made = once(place, lambda draft: _encode_into(draft, root, data, encoding, fold))
    facts = json.loads((place / "facts.json").read_text())
    if (place / "held.npy").exists():
        categorical = tuple(facts["categorical"])
        train, held = (as_matrix(_map(place / f"{part}.npy"), categorical) for part in ("train", "held"))
    else:
        train, held = made or _encode(root, data, encoding, fold, None)
    return Encoded(place / "encoder", train, held, len(data.every_fold[fold][1]), facts["row_seconds"])


def _encode_into(draft: Path, root: Path, data: RunData, encoding: str, fold: int) -> tuple[Matrix, Matrix]:
    encoder = draft / "encoder"
    encoder.mkdir()
    train, held = _encode(root, data, encoding, fold, encoder)
    facts = {
        "categorical": train.categorical,
        "row_seconds": _row_seconds(data, encoding, encoder) if fold == 0 else 0.0,
    }
    (draft / "facts.json").write_text(json.dumps(facts))
    _write_matrices(draft, root, train=train.X, held=held.X)
    return train, held


def _row_seconds(data: RunData, encoding: str, saved: Path) -> float:
    """Return what a row takes that comes from elsewhere: without what the run knows of its texts."""
    encoder, valid = find_encoding(encoding).load(saved), data.every_fold[0][1]
    n_columns = len(data.frame.schema.names)
    return row_seconds(lambda rows: encoder.transform(data.frame.take(valid[rows])), len(valid), n_columns)


def _encode(root: Path, data: RunData, encoding: str, fold: int, save_to: Path | None) -> tuple[Matrix, Matrix]:
    base, adaptation = split_name(encoding)
    rows = fold_rows(data, fold, adaptation)
    train, others = training_frame(data, rows), held_frame(root.parent, data, rows, fold)
    if data.frame.schema.text:
        kind = f"{TEXT}_with_source" if adaptation in WITH_ROWS else TEXT
        train, others = _with_known_text(root / f"fold_{fold}" / kind, train, others, fold)
    y = training_targets(data, rows)
    # The seed belongs to the fold, not to the trial: all trials share the encoded fold.
    encoder, matrix = find_encoding(base).fit(train, y, data.kind, data.n_outputs, fold)
    held = encoder.transform(others)
    if save_to is not None:
        find_encoding(base).save(encoder, save_to)
    added = added_columns(root.parent, data, adaptation)
    if added is not None:
        behind = added.columns[rows.valid]
        if adaptation in WITH_OUTPUTS:
            behind = np.concatenate([behind, lent_columns(root.parent, data, fold)])
        matrix, held = with_columns(matrix, added.columns[rows.own]), with_columns(held, behind)
        if save_to is not None:
            source_files(added.files, save_to)
    return matrix, held


def awaits_texts(run_folder: Path, data: RunData) -> bool:
    """Whether a fold's texts are still to be encoded, for which its first trials wait, whatever their own seconds."""
    folds = (run_folder / "encoded" / f"fold_{fold}" / TEXT for fold in range(len(data.folds)))
    return bool(data.frame.schema.text) and not all(fold.exists() for fold in folds)


def added_columns(run_folder: Path, data: RunData, adaptation: str) -> Added | None:
    """Return what an adaptation adds to the columns of an encoding; None where that is nothing."""
    if adaptation in WITH_OUTPUTS:
        return Added(target_columns(run_folder, data), source_model_folder(run_folder, data) / "files")
    if adaptation == SHARED:
        return Added(shared_columns(run_folder, data), shared_folder(run_folder, data) / "files")
    return None


def _with_known_text(place: Path, train: Frame, held: Frame, seed: int) -> tuple[Frame, Frame]:
    """Return both frames with their text features, which are the same in every encoding."""

    def make(draft: Path) -> None:
        parts = TextParts.fit(train.texts, seed)
        save_text_parts(parts, train.schema, draft)
        np.save(draft / "train.npy", parts.transform(train.texts, train.n_rows))
        np.save(draft / "held.npy", parts.transform(held.texts, held.n_rows))

    once(place, make)
    parts = read_text_parts(place)
    return (
        replace(train, known_text=KnownText(parts, _map(place / "train.npy"))),
        replace(held, known_text=KnownText(parts, _map(place / "held.npy"))),
    )


def _write_matrices(folder: Path, root: Path, **matrices: Array) -> None:
    """Write the matrices, or none of them where the disk has no room."""
    written = bytes_under(root, ".npy")
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
