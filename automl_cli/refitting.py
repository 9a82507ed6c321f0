"""A trial's pipeline once more: on the plan's other folds, or on all rows."""

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from automl_cli.adapting import all_rows, offset_of, training_frame, training_targets, training_weights
from automl_cli.encoded import added_columns
from automl_cli.evaluate import SAFETY, fit_fold, fit_model, open_run
from automl_cli.families import find_families
from automl_cli.families.family import FoldData, Limits
from automl_cli.features.matrix import Matrix
from automl_cli.lean import import_lean
from automl_cli.shared import with_columns
from automl_cli.sourced import OffsetModel, find_encoding, save_model, source_files
from automl_cli.transfer.adaptation import split_name
from automl_cli.trial import Proposal, Success
from automl_cli.trialfiles import fold_facts, trial_folder
from automl_cli.unlabelled import drawn_unlabelled

LAST_ROWS = 256


def repeat_fold(trial: Success, run_folder: str, fold: int) -> None:
    """Fit a trial's pipeline on one of the plan's other folds too, and leave its model beside those that are there.

    Fits that were not cut by their seconds have none here: a limit would only make boosters coarser. Those that were
    have as many as in the trial.
    """
    run = open_run(run_folder)
    proposal, n_folds = trial.proposal, len(run.data.folds)
    folder = trial_folder(Path(run_folder), proposal.number)
    if (folder / f"fold_{fold}").exists():  # left by a run that was killed at its very end
        return
    family = find_families()[proposal.pipeline.family]
    for module in family.modules:
        import_lean(module)
    limit = SAFETY * proposal.seconds / n_folds if trial.cut and proposal.seconds is not None else None
    run.encode(proposal.pipeline.encoding, fold)  # of its own time, not of the fit's
    # chance of its own: a network begins elsewhere, a forest draws other rows
    again = replace(proposal, seed=(proposal.seed + fold) % 2**31)
    fit_fold(run, family, again, fold, folder / f"fold_{fold}", seconds=limit)


def course_of_refit(trial: Success, raised: Sequence[float]) -> tuple[Proposal, int | None]:
    """Return what a fit on all rows is asked for, and its rounds: those that the folds stopped at, in the mean.

    Of networks it is an epoch that a fold has kept, the middle one: between two of them may lie one at which the rate
    is at its highest.

    Fits that their seconds cut short went another way than their hyperparameters say: a network's rate fell to zero
    over the epochs that there was time for, a booster's was raised. The refit follows them. Through more epochs a
    network would be stopped at its highest rate, and a booster at its own rate needs as many times the rounds, for
    which there is no time at the end.

    Parameters
    ----------
    raised : sequence of float
        By how much each fold's rate was.
    """
    kept = [n for n in trial.rounds if n > 0]
    if not kept:
        return trial.proposal, None
    rounds, pipeline = sum(kept) / len(kept), trial.proposal.pipeline
    values = dict(pipeline.hyperparameters)
    if trial.cut and "epochs" in values:
        values["epochs"] = round(rounds)
    elif "epochs" in values:
        rounds = sorted(kept)[len(kept) // 2]
    elif (factor := sum(raised) / len(raised)) > 1.0:
        values["learning_rate"] = factor * float(values["learning_rate"])
        rounds /= factor
    return replace(trial.proposal, pipeline=replace(pipeline, hyperparameters=values)), max(1, round(rounds))


def refit(trial: Success, run_folder: str, seconds: float | None) -> Path:
    """Fit a trial's pipeline on all rows in the way in which its folds' fits went; see `course_of_refit`.

    Returns
    -------
    Path
        The folder with ``encoder/`` and ``model/``.
    """
    run = open_run(run_folder)
    data, folder = run.data, trial_folder(Path(run_folder), trial.proposal.number)
    facts = fold_facts(folder, len(trial.losses))
    proposal, rounds = course_of_refit(trial, [fold.get("raised", 1.0) for fold in facts])  # older runs do not say
    family = find_families()[proposal.pipeline.family]
    base, adaptation = split_name(proposal.pipeline.encoding)
    encoding, rows = find_encoding(base), all_rows(data, adaptation)
    y = training_targets(data, rows)
    encoder, train = encoding.fit(training_frame(data, rows), y, data.kind, data.n_outputs, len(data.folds))
    added = added_columns(run.folder, data, adaptation)
    if added is not None:
        train = with_columns(train, added.columns)
    offset = offset_of(run.folder, data, rows.own, adaptation)
    if offset is not None:
        y = y - offset.of(train)[:, 0]
    last = slice(max(0, data.n_rows - LAST_ROWS), data.n_rows)  # the source's rows come behind
    weight = training_weights(run.folder, data, rows, adaptation)
    fold_data = FoldData(
        kind=data.kind,
        n_outputs=data.n_outputs,
        train=train,
        y=y,
        weight=weight,
        valid=Matrix(train.X[last], train.categorical, train.names),  # watched, but nothing depends on it
        y_valid=y[last],
        weight_valid=None if weight is None else weight[last],
        loss=data.metric.loss,
        metric=data.metric.name,
    )
    limits = Limits(proposal.threads, proposal.seed, seconds, rounds)
    model = fit_model(family, proposal, fold_data, limits, lambda: encoder.transform(drawn_unlabelled(data, 0)))
    if model.cut:
        raise TimeoutError("not enough time to fit all rows")
    folder = folder / "all_rows"
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "model").mkdir(parents=True)
    (folder / "encoder").mkdir()
    save_model(family, model if offset is None else OffsetModel(model, offset), folder / "model")
    encoding.save(encoder, folder / "encoder")
    if added is not None:
        source_files(added.files, folder / "encoder")
    return folder
