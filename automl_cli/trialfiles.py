"""What a trial leaves in its run's folder: for each finished fold its models, its figures and what it says of rows.

``RUN/trials/00012/fold_0/`` holds ``fold.json``, ``encoder/``, ``model/``, ``oof.npy``, and with a source ``lent.npy``.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from automl_cli.features.matrix import Array
from automl_cli.rundata import RunData
from automl_cli.trial import Success

OOF, LENT = "oof", "lent"
"""What a fold's model says of its validation rows, and of rows of a source that it has not learned from."""


def trial_folder(run_folder: Path, number: int) -> Path:
    """Return where a trial keeps its folds."""
    return run_folder / "trials" / f"{number:05d}"


def fold_facts(folder: Path, n_folds: int) -> list[dict[str, Any]]:
    """Read the facts of the finished folds, from the first on without a gap."""
    facts = []
    for fold in range(n_folds):
        path = folder / f"fold_{fold}" / "fold.json"
        if not path.exists():
            break
        facts.append(json.loads(path.read_text()))
    return facts


def part_bytes(fold: Path) -> dict[str, int]:
    """Return how many bytes ``encoder/`` and ``model/`` of a fold hold."""
    return {part: sum(file.stat().st_size for file in (fold / part).glob("*")) for part in ("encoder", "model")}


def fold_folders(run_folder: Path, trial: Success) -> tuple[Path, ...]:
    """Return the folders of the folds that a trial has finished."""
    folder = trial_folder(run_folder, trial.proposal.number)
    return tuple(folder / f"fold_{fold}" for fold in range(len(trial.losses)))


def repeated_folders(run_folder: Path, trial: Success, data: RunData) -> tuple[Path, ...]:
    """Return the folders that `repeat_fold` left."""
    folder = trial_folder(run_folder, trial.proposal.number)
    others = (folder / f"fold_{fold}" for fold in range(len(data.folds), len(data.every_fold)))
    return tuple(fold for fold in others if fold.exists())


def read_oof(run_folder: Path, data: RunData, trial: Success) -> Array:
    """Read a trial's out-of-fold predictions.

    Returns
    -------
    ndarray of shape (n_valid, n_outputs)
        Fold after fold; NaN for the folds that were not finished. Probabilities are float32, values float64: a target
        may be large beside its spread.
    """
    return read_said(run_folder, data, trial, OOF, [len(valid) for _, valid in data.folds])


def read_said(run_folder: Path, data: RunData, trial: Success, name: str, n_rows: Sequence[int]) -> Array:
    """Read what the folds' models said of so many rows each, as `read_oof` does."""
    said = np.full((sum(n_rows), data.n_outputs), np.nan, dtype=np.float64 if data.n_outputs == 1 else np.float32)
    folder = trial_folder(run_folder, trial.proposal.number)
    end = 0
    for fold, n in enumerate(n_rows[: len(trial.losses)]):
        start, end = end, end + n
        if (path := folder / f"fold_{fold}" / f"{name}.npy").exists() or name == OOF:
            said[start:end] = np.load(path)
    return said
