"""What a source was like, and what it was worth: the report of a fit that had one."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from automl_cli.adapting import MOST_TOLD_APART, dealt_outputs, domain_of, own_outputs
from automl_cli.comparing import compared_columns, not_compared
from automl_cli.evaluate import open_run
from automl_cli.features.frame import Frame
from automl_cli.members import Chosen
from automl_cli.rundata import RunData
from automl_cli.teaching import Taught
from automl_cli.transfer.adaptation import split_name
from automl_cli.transfer.domain import tell_apart
from automl_cli.transfer.judge import corrected_error
from automl_cli.transfer.shift import Shift, Side, find_shift
from automl_cli.trial import Success, Trial

NONE = "target only"
MOST_ROWS = 50_000  # of the source, that are looked at


def shift_of_run(run_folder: str) -> dict[str, Any]:
    """Return the `Shift` between a run's source and its target as JSON values, with its sentences; for a worker.

    Nothing where there are no rows of a source.
    """
    run = open_run(run_folder)
    data = run.data
    if data.source is None:
        return {}
    source, folder = data.source, Path(run_folder)
    n = len(source.y)
    rows = np.arange(n) if n <= MOST_ROWS else np.sort(np.random.default_rng(0).choice(n, MOST_ROWS, replace=False))
    both = compared_columns(source.frame.take(rows), data.frame)
    outputs = own_outputs(folder, data)
    # a model that was given is not asked: it may have learned from these very rows
    of_source, of_target = (None, None) if outputs is None else (outputs[rows], dealt_outputs(folder, data))
    found = find_shift(
        Side(both.source, np.asarray(source.y)[rows], of_source),
        Side(both.target, np.asarray(data.y), of_target),
        kind=data.kind,
        names=both.names,
        categorical=both.categorical,
        domain=domain_of(folder, data),
    )
    if source.sample is not None and source.drawn_from is not None:
        found = _of_all(found, source.sample, source.drawn_from, data)
    said = [*found.sentences(), *not_compared(both.apart)]
    return {**found.to_json(), "n_source": n, "said": said}


def _of_all(drawn: Shift, sample: Frame, n_source: int, data: RunData) -> Shift:
    """Return the shift between a whole source and the target, of which ``drawn`` knows rows that look like the target.

    How far rows differ is told by a sample of all, and what they mean by the drawn ones, which models were asked about.
    """
    both = compared_columns(sample, data.frame)
    with threadpool_limits(1):  # other workers are busy
        domain = tell_apart(both.source, both.target, categorical=both.categorical, most_rows=MOST_TOLD_APART)
    sides = Side(both.source), Side(both.target)
    seen = find_shift(*sides, kind=data.kind, names=both.names, categorical=both.categorical, domain=domain)
    kinds = {*drawn.kinds} - {"covariate"} | ({*seen.kinds} if "label" not in drawn.kinds else set())
    return replace(
        drawn,
        n_source=n_source,
        kinds=tuple(kind for kind in ("label", "covariate", "concept") if kind in kinds),
        domain_auc=seen.domain_auc,
        effective_rows=seen.effective_rows * n_source / sample.n_rows,
        moved=seen.moved,
    )


def transfer_report(
    data: RunData, trials: Sequence[Trial], chosen: Chosen, shift: Mapping[str, Any] | None, *, of_model: bool
) -> dict[str, Any]:
    """Return what was tried with the source, and what the best of it gained over the best without, as JSON values.

    Parameters
    ----------
    shift : mapping or None
        What `shift_of_run` found; None where there was no time for it.
    of_model : bool
        Whether a model stands for the source, or for a part of it.

    Notes
    -----
    The gain is in units of the loss, on the target's rows alone, with the standard error of Nadeau and Bengio (2003),
    which one holdout does not tell: None.
    Both sides are the best of several, so that neither is as good as it looks.
    """
    complete = [trial for trial in trials if isinstance(trial, Success) and trial.complete]
    ways: dict[str, list[Success]] = {}
    for trial in complete:
        ways.setdefault(_way(trial), []).append(trial)
    best = {way: min(found, key=lambda trial: (trial.loss, trial.proposal.number)) for way, found in ways.items()}
    total = math.fsum(abs(weight) for _, weight in chosen.members) or 1.0
    shares: dict[str, float] = {}
    for trial, weight in chosen.members:
        shares[_way(trial)] = shares.get(_way(trial), 0.0) + abs(weight) / total
    tried = [
        {
            "adaptation": way,
            "n_trials": len(ways[way]),
            "score": data.metric.natural(trial.loss),
            "loss": trial.loss,
            "pipeline": f"{trial.proposal.pipeline.family} {trial.proposal.pipeline.encoding}",
            "share": round(shares.get(way, 0.0), 4),
        }
        for way, trial in sorted(best.items(), key=lambda item: item[1].loss)
    ]
    adapted = min((trial for way, trial in best.items() if way != NONE), key=lambda t: t.loss, default=None)
    return {
        "setting": "inductive" if data.unlabelled is None else "unlabelled",
        "n_unlabelled": 0 if data.unlabelled is None else data.unlabelled.n_rows,
        "n_source": 0 if data.source is None else len(data.source.y),
        "n_target": data.n_rows,
        "model": of_model,
        "shift": None if not shift else dict(shift),
        "tried": tried,
        "gain": _gain(data, best.get(NONE), adapted),
    }


def taught_report(data: RunData, taught: Taught | None) -> dict[str, Any]:
    """Return what members gained that learned from rows without labels at the end, as JSON values.

    Parameters
    ----------
    taught : Taught or None
        None where there was no time for it.
    """
    return {
        "setting": "unlabelled",
        "n_unlabelled": data.needed_unlabelled.n_rows,
        "n_target": data.n_rows,
        "taught": None if taught is None else taught.to_json(),
    }


def _way(trial: Success) -> str:
    return split_name(trial.proposal.pipeline.encoding)[1] or NONE


def _gain(data: RunData, plain: Success | None, adapted: Success | None) -> dict[str, float | None] | None:
    if plain is None or adapted is None:
        return None
    gains = np.subtract(plain.losses, adapted.losses)
    sizes = np.array([[len(train), len(valid)] for train, valid in data.folds], dtype=np.float64).mean(axis=0)
    error = corrected_error(gains, n_train=float(sizes[0]), n_valid=float(sizes[1]))
    known, scale = math.isfinite(error), 1 / plain.loss if plain.loss > 0 else 0.0
    return {
        "mean": float(gains.mean()),
        "standard_error": error if known else None,
        "share": float(gains.mean()) * scale,
        "share_error": error * scale if known else None,
    }
