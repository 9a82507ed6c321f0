"""Proposal -> Trial: fit fold by fold in a worker, keep what is finished, stop what cannot win."""

import functools
import json
import shutil
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from automl_cli.adapting import (
    fold_rows,
    lent_rows,
    offset_of,
    training_targets,
    training_weights,
    watched_targets,
    watched_weights,
)
from automl_cli.calibration import at_thresholds
from automl_cli.encoded import Encoded, open_encoded
from automl_cli.families import find_families
from automl_cli.families.family import Family, FoldData, Limits, Model, none_impossible
from automl_cli.features.matrix import Array, Matrix
from automl_cli.files import link_files
from automl_cli.kept import Keep, Kept
from automl_cli.lean import import_lean
from automl_cli.machine import return_memory
from automl_cli.racing import Decision, leads, should_stop
from automl_cli.rowtime import alone, row_seconds
from automl_cli.rundata import UNLABELLED, RunData, open_rundata, token_of
from automl_cli.sourced import Offset, OffsetModel, find_encoding, save_model
from automl_cli.transfer.adaptation import SELFTRAIN, rows_of, split_name
from automl_cli.trial import Failure, Proposal, Success, Trial
from automl_cli.trialfiles import LENT, OOF, fold_facts, part_bytes, trial_folder
from automl_cli.unlabelled import drawn_unlabelled, fit_selftrained

ENCODED_BYTES = 64 * 2**20  # per worker, most of it shared with the others; beyond it a fold is mapped again, cheaply
BINNED_BYTES = 32 * 2**20  # per worker, its own
SAFETY = 0.9  # of a trial's seconds are shared out among its folds; the rest is encoding, predicting and writing


@dataclass(frozen=True)
class OpenRun:
    """A run as one worker sees it: the mapped data, and what it keeps from one trial to the next.

    Attributes
    ----------
    token : str
        Of the run, see `token_of`.
    encoded : Kept
        Encoded folds, by encoding and fold.
    binned : Kept
        What families made of them, see `FoldData.keep`.
    """

    folder: Path
    data: RunData
    token: str
    encoded: Kept = field(default_factory=lambda: Kept(ENCODED_BYTES))
    binned: Kept = field(default_factory=lambda: Kept(BINNED_BYTES))

    def refuse_another(self) -> None:
        """Raise where the run is over: on a cluster a call that was cancelled goes on, and must not write any more."""
        if token_of(self.folder / "data") != self.token:
            raise RuntimeError(f"the run that this trial is of does not work in {self.folder} any more")

    def encode(self, encoding: str, fold: int) -> Encoded:
        """Encode a fold, unless a worker has done so before."""
        rows = rows_of(encoding)

        def make() -> tuple[Encoded, int]:
            made = open_encoded(self.folder, self.data, rows, fold)
            return made, made.n_bytes

        return self.encoded.get((rows, fold), make)

    def encode_unlabelled(self, encoding: str, fold: int) -> Matrix:
        """Encode the rows without labels as rows that come later are, by a fold's encoder."""
        rows = rows_of(encoding)

        def make() -> tuple[Matrix, int]:
            encoder = find_encoding(rows).load(self.encode(encoding, fold).encoder)
            matrix = encoder.transform(drawn_unlabelled(self.data, fold))
            return matrix, int(matrix.X.nbytes)

        return self.encoded.get((rows, fold, UNLABELLED), make)

    def keep_for(self, encoding: str, fold: int) -> Keep:
        """Return what lets a family keep things that depend on this fold and encoding."""
        # A cluster's workers are threads, and no library says that two may train on one data set at once.
        return self.binned.under(rows_of(encoding), fold, threading.get_ident())


def open_run(folder: str) -> OpenRun:
    """Open a run's data once per worker, and again where another run has begun in this folder.

    A worker of a cluster outlives a run, and its folder may be named for the next one.
    """
    return _opened(folder, token_of(Path(folder) / "data"))


@functools.lru_cache(maxsize=1)
def _opened(folder: str, token: str) -> OpenRun:
    return OpenRun(Path(folder), open_rundata(Path(folder) / "data"), token)


def evaluate(proposal: Proposal, run_folder: str) -> Trial:
    """Fit a proposal fold by fold and leave each finished fold in the run's folder.

    This is the one place that catches whatever foreign model code raises.

    Returns
    -------
    Success with the folds that were finished, or Failure if there is none.
    """
    started = time.perf_counter()
    folder = trial_folder(Path(run_folder), proposal.number)
    try:
        run = open_run(run_folder)
        family = find_families()[proposal.pipeline.family]
        for module in family.modules:  # once per worker, and not a trial's fault
            import_lean(module)
        started = time.perf_counter()
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        (folder / "proposal.json").write_text(json.dumps(proposal.pipeline.to_json()))
        end = _fit_folds(run, family, proposal, folder, started)
        seconds = time.perf_counter() - started
        trial = finished_trial(Path(run_folder), proposal, seconds, len(run.data.folds), end.reason)
        return_memory()
        return replace(trial, given_up=end.stop) if isinstance(trial, Success) else trial
    except Exception as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        return Failure(proposal, reason, time.perf_counter() - started, traceback.format_exc(limit=-8))


def _fit_folds(run: OpenRun, family: Family, proposal: Proposal, folder: Path, started: float) -> Decision:
    """Fit until the last fold, the race is lost (a decision to stop) or the seconds are used up (a reason only)."""
    losses: list[float] = []
    n_folds = len(run.data.folds)
    for fold in range(n_folds):
        seconds = None
        if proposal.seconds is not None:
            seconds = SAFETY * (proposal.seconds - (time.perf_counter() - started)) / (n_folds - fold)
            if losses and seconds <= 0:
                return Decision(False, f"out of time after fold {fold}")
        losses.append(fit_fold(run, family, proposal, fold, folder / f"fold_{fold}", seconds=seconds))
        decision = should_stop(losses, proposal.incumbent)
        if decision.stop and fold + 1 < n_folds and not leads(losses, proposal.leader):
            return Decision(True, f"given up after fold {fold + 1} of {n_folds}: {decision.reason}")
    return Decision(False, "")


def fit_fold(
    run: OpenRun,
    family: Family,
    proposal: Proposal,
    fold: int,
    place: Path,
    *,
    seconds: float | None,
    further: Callable[[FoldData], FoldData] | None = None,
) -> float:
    """Fit one fold, leave its model and what it says of the validation rows in ``place``, and return its loss there.

    Parameters
    ----------
    further : callable or None
        ``further(data)`` returns what is learned from in place of ``data``, with the validation rows of that.
    """
    run.refuse_another()
    began = time.perf_counter()
    data, encoding = run.data, proposal.pipeline.encoding
    _, valid_rows = data.every_fold[fold]
    encoded = run.encode(encoding, fold)
    fold_data, offset = _fold_data(run, encoded, encoding, fold)
    if further is not None:
        fold_data = further(fold_data)
    left = None if seconds is None else max(0.05, seconds - (time.perf_counter() - began))
    with threadpool_limits(proposal.threads):
        limits = Limits(proposal.threads, proposal.seed, left)
        model = fit_model(family, proposal, fold_data, limits, lambda: run.encode_unlabelled(encoding, fold))
    raised = float(getattr(model, "raised", 1.0))
    if offset is not None:
        model = OffsetModel(model, offset)
    predicting = time.process_time()
    predictions = _said(model, encoded.valid, fold_data, proposal.threads)
    predicting = time.process_time() - predicting
    weight = None if data.weight is None else data.weight[valid_rows]
    judged = at_thresholds(predictions, data.y[valid_rows], data.metric, weight)
    loss = float(data.metric.loss(data.y[valid_rows], judged, weight))
    facts = {
        "family": proposal.pipeline.family,
        "encoding": proposal.pipeline.encoding,
        "fold": fold,
        "loss": loss,
        "seconds": time.perf_counter() - began,
        "rounds": int(getattr(model, "rounds", 0)),
        "cut": bool(getattr(model, "cut", False)),
        "raised": raised,
    }
    if fold == 0:
        known = predicting if alone() else 0.0  # else it holds what other threads did meanwhile
        facts["row_seconds"] = [encoded.row_seconds, _row_seconds(model, encoded.valid, known)]
    said = {OOF: predictions}
    if fold < len(data.folds) and len(rows := lent_rows(run.folder, data, fold)):
        said[LENT] = _said(model, encoded.others(len(rows)), fold_data, proposal.threads)
    run.refuse_another()
    _write_fold(place, family, model, encoded.encoder, said, facts)
    return loss


def _said(model: Model, rows: Matrix, learned: FoldData, threads: int) -> Array:
    """Return what a fold's model says of rows."""
    predictions = model.predict(rows, threads)
    if not np.isfinite(predictions).all():
        raise ValueError("the model predicts values that are not finite")
    return none_impossible(predictions, learned.y) if learned.n_outputs > 1 else predictions


def fit_model(
    family: Family, proposal: Proposal, data: FoldData, limits: Limits, unlabelled: Callable[[], Matrix]
) -> Model:
    """Fit, with rows that have no labels where the pipeline asks for them."""
    hyperparameters = proposal.pipeline.hyperparameters
    if split_name(proposal.pipeline.encoding)[1] == SELFTRAIN:
        return fit_selftrained(family, data, unlabelled(), hyperparameters, limits)
    return family.fit(data, hyperparameters, limits)


def _fold_data(run: OpenRun, encoded: Encoded, encoding: str, fold: int) -> tuple[FoldData, Offset | None]:
    """Return what a model of one fold learns from and stops on, and what its values are the difference to, if any."""
    data, adaptation = run.data, split_name(encoding)[1]
    rows = fold_rows(data, fold, adaptation)
    y, y_valid = training_targets(data, rows), watched_targets(data, rows)
    watched = encoded.held if len(rows.watched) else encoded.valid
    offset = offset_of(run.folder, data, rows.own, adaptation)
    if offset is not None:
        y, y_valid = y - offset.of(encoded.train)[:, 0], y_valid - offset.of(watched)[:, 0]
    fold_data = FoldData(
        kind=data.kind,
        n_outputs=data.n_outputs,
        train=encoded.train,
        y=y,
        weight=training_weights(run.folder, data, rows, adaptation),
        valid=watched,
        y_valid=y_valid,
        weight_valid=watched_weights(run.folder, data, rows, adaptation),
        loss=data.metric.loss,
        metric=data.metric.name,
        keep=run.keep_for(encoding, fold),
    )
    return fold_data, offset


def _row_seconds(model: Model, valid: Matrix, took: float) -> float:
    """Return what predicting a row takes, after the validation rows took so many seconds of the processor, if known."""
    n_rows, n_columns = valid.X.shape

    def again(rows: Array) -> None:
        model.predict(replace(valid, X=valid.X[rows]), 1)

    return row_seconds(again, n_rows, n_columns, known=took)


def _write_fold(
    folder: Path, family: Family, model: Any, encoder: Path, said: Mapping[str, Array], facts: dict[str, Any]
) -> None:
    """Write one finished fold; it is there whole or not at all."""
    draft = folder.with_suffix(".draft")
    shutil.rmtree(draft, ignore_errors=True)  # left by a worker that was killed
    (draft / "model").mkdir(parents=True)
    save_model(family, model, draft / "model")
    link_files(encoder, draft / "encoder")
    for name, predictions in said.items():
        np.save(draft / f"{name}.npy", predictions if predictions.shape[1] == 1 else predictions.astype(np.float32))
    (draft / "fold.json").write_text(json.dumps(facts))
    draft.rename(folder)


def finished_trial(run_folder: Path, proposal: Proposal, seconds: float, n_folds: int, note: str) -> Trial:
    """Read what a trial left on disk, whether its worker ended by itself or was killed.

    Returns
    -------
    Success if at least the first fold is there, else Failure with ``note`` as its reason.
    """
    folder = trial_folder(run_folder, proposal.number)
    folds = fold_facts(folder, n_folds)
    if not folds:
        return Failure(proposal, note or "no fold was finished", seconds)
    cut = any(fold["cut"] for fold in folds)
    return Success(
        proposal=proposal,
        losses=tuple(fold["loss"] for fold in folds),
        seconds=seconds,
        complete=len(folds) == n_folds,
        note=note,
        cut=cut,
        rounds=tuple(fold["rounds"] for fold in folds),
        n_bytes=tuple(sum(part_bytes(folder / f"fold_{k}").values()) for k in range(len(folds))),
        row_seconds=(folds[0]["row_seconds"][0], folds[0]["row_seconds"][1]) if "row_seconds" in folds[0] else None,
    )
