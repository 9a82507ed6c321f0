"""What the members say of rows that their models have not seen: of labelled ones, and of ones without labels."""

from pathlib import Path

import numpy as np

from automl_cli.families import find_families
from automl_cli.features.frame import Frame
from automl_cli.features.matrix import Array
from automl_cli.members import Chosen, OofCache
from automl_cli.sourced import find_encoding, load_model
from automl_cli.stacking import MEAN
from automl_cli.trialfiles import fold_folders


def known_rows(chosen: Chosen, cache: OofCache) -> Array:
    """Return which validated rows all members have predicted, ascending: `out_of_fold` is about these."""
    oof = cache.stack([trial for trial, _ in chosen.members])
    return np.flatnonzero(np.isfinite(oof).all(axis=(0, 2)))


def out_of_fold(chosen: Chosen, cache: OofCache) -> Array:
    """Return what the model says of rows that its members had not seen, calibrated, shape (n_rows, n_outputs)."""
    oof = cache.stack([trial for trial, _ in chosen.members])
    oof = oof[:, np.isfinite(oof).all(axis=(0, 2))]
    total = sum(weight * chosen.mixing.terms(one) for (_, weight), one in zip(chosen.members, oof, strict=True))
    return np.asarray(chosen.decision.calibrated(chosen.mixing.joined(np.asarray(total, dtype=np.float64))))


def said_by_fold(run_folder: Path, chosen: Chosen, frame: Frame, fold: int) -> Array:
    """Return what the members' models of one fold say of rows, mixed and not calibrated, shape (n_rows, n_outputs).

    A member that has not finished the fold has no say where a mean is taken.

    Raises
    ------
    ValueError
        No member has finished the fold, or one has not and the mix is no mean.
    """
    having = [(trial, weight) for trial, weight in chosen.members if fold < len(trial.losses)]
    if not having or (chosen.mixing != MEAN and len(having) < len(chosen.members)):
        raise ValueError(f"not all members have finished fold {fold}")
    total: Array | float = 0.0
    for trial, weight in having:
        folder, pipeline = fold_folders(run_folder, trial)[fold], trial.proposal.pipeline
        encoder = find_encoding(pipeline.encoding).load(folder / "encoder")
        model = load_model(find_families()[pipeline.family], pipeline.encoding, folder / "model")
        total = total + weight * chosen.mixing.terms(np.asarray(model.predict(encoder.transform(frame), 1), np.float64))
    if len(having) < len(chosen.members):
        total = total / sum(weight for _, weight in having)
    return chosen.mixing.joined(np.asarray(total))
