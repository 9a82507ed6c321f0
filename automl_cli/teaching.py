"""The ensemble as a teacher: its members are fitted once more, with the labels that it gives to rows without any.

A fold's pupils learn what the models of that fold say. Neither are fitted on the fold's validation rows, which judge
pupils as they judge members (who stop by them, and whose weights have seen them). Each of them has learned what all
members know, so that each is about as good as they are together, and their mean is taken as it is: weights that are
chosen on few rows fit these by chance.
"""

import json
import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from automl_cli.asking import known_rows, out_of_fold, said_by_fold
from automl_cli.calibration import PLAIN, Learned, learn_decision
from automl_cli.evaluate import OpenRun, finished_trial, fit_fold, open_run
from automl_cli.families import find_families
from automl_cli.families.family import FoldData
from automl_cli.features.frame import Frame
from automl_cli.features.matrix import Array
from automl_cli.files import once
from automl_cli.lean import import_lean
from automl_cli.members import LEAST_FINISHED, Chosen, OofCache, fold_losses, folds_of, parts_of
from automl_cli.rundata import RunData
from automl_cli.sourced import find_encoding
from automl_cli.stacking import Mixing
from automl_cli.transfer.adaptation import rows_of
from automl_cli.transfer.judge import corrected_error
from automl_cli.trial import Proposal, Success
from automl_cli.trialfiles import fold_facts, read_oof, trial_folder
from automl_cli.unlabelled import n_taught_rows, taught_rows, with_labels

TAUGHT = "taught"
"""Origin of the pupils, which are trials of a run's end."""
FIRST = (
    100_000  # number of the first pupil: a search has fewer trials, and what an interrupted end left is in no one's way
)
SHARE = 0.5  # of the model is the pupils'; see docs/unlabeled.md
LABELS = "labels.npy"


def begin_teaching(run_folder: Path, members: Sequence[Success]) -> tuple[Proposal, ...]:
    """Return a pupil for each of these members, and clear the folders that they work in.

    They have chance of their own: a network begins elsewhere, a forest draws other rows.
    """
    shutil.rmtree(_labels_folder(run_folder), ignore_errors=True)
    pupils = []
    for number, member in enumerate(members, FIRST):
        seed = (member.proposal.seed + number) % 2**31
        pupil = replace(member.proposal, number=number, origin=TAUGHT, seed=seed, incumbent=(), leader=())
        folder = trial_folder(run_folder, number)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(exist_ok=True)
        (folder / "proposal.json").write_text(json.dumps(pupil.pipeline.to_json()))
        pupils.append(pupil)
    return tuple(pupils)


def teach_fold(pupil: Proposal, chosen: Chosen, run_folder: str, fold: int, seconds: float | None) -> None:
    """Fit a pupil on a fold's training rows and on others with labels of the ensemble of that fold's models [1]_.

    Parameters
    ----------
    seconds : float or None
        For the fit; None: as many as it takes.

    References
    ----------
    .. [1] Bucila, Caruana, Niculescu-Mizil, Model compression, KDD 2006, where an ensemble labels rows that it has not
       seen, for a model that is to be small; Hinton, Vinyals, Dean, Distilling the knowledge in a neural network,
       arXiv 1503.02531.
    """
    run, encoding = open_run(run_folder), rows_of(pupil.pipeline.encoding)
    family = find_families()[pupil.pipeline.family]
    for module in family.modules:
        import_lean(module)
    # of its own time, not of the fit's
    encoder, frame = find_encoding(encoding).load(run.encode(encoding, fold).encoder), taught_rows(run.data)
    rows = encoder.transform(frame)
    with threadpool_limits(pupil.threads):
        labels = _labels(run, chosen, frame, fold)

    def further(data: FoldData) -> FoldData:
        return with_labels(data, rows, labels)

    place = trial_folder(run.folder, pupil.number) / f"fold_{fold}"
    fit_fold(run, family, pupil, fold, place, seconds=seconds, further=further)


def _labels_folder(run_folder: Path) -> Path:
    return run_folder / "source" / TAUGHT


def _labels(run: OpenRun, chosen: Chosen, frame: Frame, fold: int) -> Array:
    """Return what the members' models of a fold say of rows, as the model would; the first who asks has it said."""
    place = _labels_folder(run.folder) / f"fold_{fold}"

    def make(draft: Path) -> None:
        np.save(draft / LABELS, chosen.decision.calibrated(said_by_fold(run.folder, chosen, frame, fold)))
        run.refuse_another()

    once(place, make)
    labels: Array = np.load(place / LABELS)
    return labels


def finished_pupil(run_folder: Path, pupil: Proposal, n_folds: int) -> Success | None:
    """Return a pupil of which at least half of the folds are there, and two where there are several, else None."""
    seconds = sum(fold["seconds"] for fold in fold_facts(trial_folder(run_folder, pupil.number), n_folds))
    trial = finished_trial(run_folder, pupil, seconds, n_folds, "")
    return (
        trial
        if isinstance(trial, Success) and len(trial.losses) >= max(LEAST_FINISHED * n_folds, min(2, n_folds))
        else None
    )


@dataclass(frozen=True)
class Taught:
    """What pupils are worth, on labelled rows that neither they nor their teacher have seen.

    Attributes
    ----------
    n_pupils : int
    n_rows : int
        Rows without labels that they learned from.
    loss : float
        Of the model without them, mean over the folds.
    gain, error : float
        Of that loss, and its standard error [1]_, infinite for a single holdout.

    References
    ----------
    .. [1] Nadeau, Bengio, Inference for the generalization error, Machine Learning 52, 2003.
    """

    n_pupils: int
    n_rows: int
    loss: float
    gain: float
    error: float

    @property
    def costs(self) -> bool:
        """Whether the model is better without them, by more than chance as far as that is known."""
        return self.gain < (-self.error if math.isfinite(self.error) else 0.0)

    def to_json(self) -> dict[str, Any]:
        """Return JSON values; what is not known is None, and shares are of the loss without pupils."""
        scale, known = 1 / self.loss if self.loss > 0 else 0.0, math.isfinite(self.error)
        return {
            "n_pupils": self.n_pupils,
            "n_rows": self.n_rows,
            "gain": self.gain,
            "error": self.error if known else None,
            "share": self.gain * scale,
            "share_error": self.error * scale if known else None,
            "kept": not self.costs,
        }


def with_pupils(
    chosen: Chosen, pupils: Sequence[Success], cache: OofCache, *, calibrate: bool
) -> tuple[Chosen, Taught]:
    """Return the model with pupils beside its members, and what they are worth.

    Each has the same weight, and together they have `SHARE`. A temperature or multipliers of the classes are learned
    anew, if any are, on the rows of the folds that all of them have finished.

    Notes
    -----
    A mean, or a log-linear pool, of two mixes is one of all their members.
    """
    data = cache.data
    y, weight = data.validated()
    before = chosen.said if chosen.said is not None else _said(chosen, cache)
    pool = Mixing(logarithms=chosen.mixing.logarithms)
    theirs = np.mean([pool.terms(read_oof(cache.run_folder, data, pupil)) for pupil in pupils], axis=0)
    rows = np.flatnonzero(np.isfinite(before).all(axis=1) & np.isfinite(theirs).all(axis=1))
    own = pool.terms(before[rows])
    said = pool.joined(np.asarray((1 - SHARE) * own + SHARE * theirs[rows], dtype=np.float64))
    y, weight = y[rows], None if weight is None else weight[rows]
    parts = parts_of(y, folds_of(data)[rows])
    learned = learn_decision(said, y, data.metric, weight, parts=parts) if calibrate else Learned(PLAIN, ())
    after = fold_losses(data, y, learned.judged(said, data.metric, parts), weight)
    decided = learned.decision.judged(learned.decision.calibrated(said), data.metric)
    everywhere = np.array(before)
    everywhere[rows] = said
    together = replace(
        chosen,
        members=(
            *((trial, (1 - SHARE) * part) for trial, part in chosen.members),
            *((pupil, SHARE / len(pupils)) for pupil in pupils),
        ),
        mixing=replace(chosen.mixing, offsets=tuple((1 - SHARE) * offset for offset in chosen.mixing.offsets)),
        decision=learned.decision,
        loss=float(data.metric.loss(y, decided, weight)),
        fold_losses=after,
        crossed=(),
        said=everywhere,
    )
    return together, _worth(chosen, after, data, n_pupils=len(pupils))


def _said(chosen: Chosen, cache: OofCache) -> Array:
    """Return what a model says of validated rows before it is decided; NaN for rows that not all members predicted."""
    said = np.full((cache.data.n_valid, cache.data.n_outputs), np.nan)
    said[known_rows(chosen, cache)] = out_of_fold(replace(chosen, decision=PLAIN), cache)
    return said


def _worth(chosen: Chosen, after: Sequence[float], data: RunData, *, n_pupils: int) -> Taught:
    gains = np.subtract(chosen.shown_losses[: len(after)], after)
    sizes = np.array([[len(train), len(valid)] for train, valid in data.folds], dtype=np.float64).mean(axis=0)
    return Taught(
        n_pupils=n_pupils,
        n_rows=n_taught_rows(data),
        loss=float(np.mean(chosen.shown_losses[: len(after)])),
        gain=float(gains.mean()),
        error=corrected_error(gains, n_train=float(sizes[0]), n_valid=float(sizes[1])),
    )
