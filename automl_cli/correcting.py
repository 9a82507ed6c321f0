"""The end of a fit for rows in which the classes have other shares: how many they are, by the model itself."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from automl_cli.anytime import ModelSoFar
from automl_cli.asking import known_rows, out_of_fold, said_by_fold
from automl_cli.delivery import Delivered, deliver
from automl_cli.ending import Ending
from automl_cli.evaluate import open_run
from automl_cli.executors import submitted
from automl_cli.features.frame import open_frame
from automl_cli.features.matrix import Array
from automl_cli.job import Job
from automl_cli.members import Chosen, folds_of, parts_of
from automl_cli.newshares import Known, gain_of, moved_decision, scores_there, shares_there
from automl_cli.shifted import MOST_ROWS, NEW, NONE, SHARES
from automl_cli.transfer.judge import judge_label_shift
from automl_cli.transfer.labels import LabelShift, fit_mlls
from automl_cli.worth import taught_report

logger = logging.getLogger(__name__)
PREDICTING_SHARE = 0.5  # of the seconds that nothing else needs
CAUTION = 3.0  # rows take so much longer than was measured, at worst
LEAST_ROWS = 200

Transfer = Mapping[str, Any]


@dataclass(frozen=True)
class Corrected:
    """The last models, and what became of the adaptation, or of rows without labels."""

    delivered: Delivered
    transfer: Transfer | None


def delivered_for(ending: Ending, model: ModelSoFar, job: Job) -> Corrected:
    """Deliver the model, corrected for other shares of the classes where that was decided.

    That comes first, before time goes into further models; under limits the members are only known afterwards.
    """
    if job.teaches:
        delivered = deliver(ending, model)
        return Corrected(delivered, taught_report(job.data, delivered.taught))
    if job.transfer is None or job.transfer["adapted"] != SHARES:
        return Corrected(deliver(ending, model), job.transfer)
    if model.costs is not None:
        delivered = deliver(ending, model)
        return Corrected(delivered, correct(replace(ending, chosen=model.chosen or ending.chosen), model, job.transfer))
    transfer = correct(ending, model, job.transfer)
    return Corrected(deliver(ending, model), transfer)


def correct(ending: Ending, model: ModelSoFar, transfer: Transfer) -> Transfer:
    """Estimate the shares by what the members say of the new rows, and make them part of the model's decision.

    Returns
    -------
    mapping
        ``transfer`` with the shares, and what the correction is worth by estimate.
    """
    chosen, data = ending.chosen, model.cache.data
    rows = known_rows(chosen, model.cache)
    y, weight = data.validated()
    folds = folds_of(data)[rows]
    y = y[rows]
    known = Known(out_of_fold(chosen, model.cache), y, None if weight is None else weight[rows], parts_of(y, folds))
    said = _said_of_new_rows(ending)
    if said is None:
        before, after = (np.array(transfer["shift"][name]) for name in ("classes_before", "classes_after"))
        shift = LabelShift(before, after)
    else:
        shift = fit_mlls(known.outputs, y, chosen.decision.calibrated(said))
    verdict = judge_label_shift(transfer["shift"]["kinds"], gain_of(shift, known))
    if not verdict.accepted:
        return {**transfer, "adapted": NONE, "verdict": verdict.to_json(), "withdrawn": True}
    decision = moved_decision(chosen.decision, shift, known, data.metric, calibrate=model.calibrate)
    model.chosen = replace(chosen, decision=decision)
    return {
        **transfer,
        "verdict": verdict.to_json(),
        "classes": shares_there(shift, tuple(model.manifest["task"]["classes"])),
        "scores": scores_there(decision, chosen.decision, shift, known, data.metric),
    }


def _said_of_new_rows(ending: Ending) -> Array | None:
    """Have a worker ask the members; None where there is no time for it."""
    spare = ending.spare_seconds()
    seconds = None if spare is None else PREDICTING_SHARE * spare
    n_rows = MOST_ROWS
    if seconds is not None:
        row = sum(sum(trial.row_seconds or (0.0, 0.0)) for trial, _ in ending.chosen.members)
        n_rows = int(min(n_rows, seconds / max(CAUTION * row, 1e-9)))
    if n_rows < LEAST_ROWS:
        return None
    asked = replace(ending.chosen, said=None)  # which may be large
    future = submitted(ending.executor, said_of_new_rows, str(ending.run_folder), asked, n_rows, timeout=seconds)
    try:
        return future.result(timeout=seconds)
    except Exception:  # the shares are known from the beginning, if less well
        logger.info("the members could not be asked about the new rows", exc_info=True)
        future.cancel()
        return None


def said_of_new_rows(run_folder: str, chosen: Chosen, most_rows: int) -> Array:
    """Return what the members say of new rows, mixed and not calibrated, shape (n_rows, n_outputs).

    Each row is asked of the models of one fold, as the labelled rows were: the mean of all of them is surer of itself,
    which would look like other shares.
    """
    run = open_run(run_folder)
    frame = open_frame(run.folder / "data" / NEW)
    order = np.random.default_rng(0).permutation(frame.n_rows)[:most_rows]
    n_folds = min(len(trial.losses) for trial, _ in chosen.members)
    said = np.zeros((len(order), run.data.n_outputs))
    for fold in range(n_folds):
        at = np.arange(fold, len(order), n_folds)
        said[at] = said_by_fold(Path(run_folder), chosen, frame.take(order[at]), fold)
    return said
