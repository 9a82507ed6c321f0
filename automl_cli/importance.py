"""What mattered: how much worse the best model gets when one column's values are shuffled."""

import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from automl_cli.calibration import decision_of_one
from automl_cli.evaluate import open_run
from automl_cli.families import find_families
from automl_cli.features.frame import Frame
from automl_cli.features.matrix import Array
from automl_cli.sourced import find_encoding, load_model
from automl_cli.trial import Proposal
from automl_cli.trialfiles import trial_folder

MOST_ROWS = 1000
LEAST_ROWS = 150
MOST_PREDICTIONS = 20_000
MOST_COLUMNS = 200
MOST_CELLS = 5 * 10**7  # read in all: with a hundred thousand columns each shuffle costs a look at every one


def permutation_importance(proposal: Proposal, run_folder: str, seconds: float | None) -> tuple[tuple[str, float], ...]:
    """Measure each column by the loss that shuffling it adds on validation rows of the first fold [1]_.

    Parameters
    ----------
    proposal : Proposal
        Of a finished trial; its first fold's model is asked.
    seconds : float or None
        Columns that are not reached in time are left out; the likelier ones come first.

    Returns
    -------
    tuple of (column, added loss), the largest first

    References
    ----------
    .. [1] Breiman, Random forests, Machine Learning 45, 2001, section 10.
    """
    started = time.perf_counter()
    run = open_run(run_folder)
    folder = trial_folder(Path(run_folder), proposal.number) / "fold_0"
    family, encoding = find_families()[proposal.pipeline.family], proposal.pipeline.encoding
    model = load_model(family, encoding, folder / "model")
    encoder = find_encoding(encoding).load(folder / "encoder")
    rng = np.random.default_rng(proposal.seed)
    rows, weights, metric = np.asarray(run.data.folds[0][1]), run.data.weight, run.data.metric
    # Learned once, of all rows and unshuffled: thresholds of their own would hide what a shuffled column costs.
    decision = decision_of_one(
        np.load(folder / "oof.npy"), run.data.y[rows], metric, None if weights is None else weights[rows]
    )
    most_rows = int(np.clip(MOST_PREDICTIONS // max(1, len(run.data.frame.schema.names)), LEAST_ROWS, MOST_ROWS))
    if len(rows) > most_rows:
        rows = np.sort(rng.choice(rows, most_rows, replace=False))
    frame, y = run.data.frame.take(rows), np.asarray(run.data.y)[rows]
    weight = None if weights is None else np.asarray(weights)[rows]

    def loss(changed: Frame) -> float:
        predictions = model.predict(encoder.transform(changed), proposal.threads)
        return float(metric.loss(y, decision.judged(predictions, metric), weight))

    before = loss(frame)
    found = []
    names = frame.schema.names
    n_tried = max(10, min(MOST_COLUMNS, MOST_CELLS // (len(rows) * len(names))))
    for name in _likeliest(frame, y)[:n_tried]:
        if seconds is not None and time.perf_counter() - started > seconds:
            break
        found.append((name, loss(_shuffled(frame, name, rng.permutation(len(rows)))) - before))
    return tuple(sorted(found, key=lambda item: -item[1]))


def _likeliest(frame: Frame, y: Array) -> list[str]:
    """Order the columns by what they promise alone: categories and texts, then numbers by their correlation."""
    s = frame.schema
    values = np.asarray(frame.numbers, dtype=np.float64)
    values = np.nan_to_num(values - np.nanmean(np.where(np.isfinite(values), values, 0.0), axis=0))
    norm = np.sqrt((values**2).sum(axis=0)) + 1e-12
    classes = [y == k for k in np.unique(y)] if y.dtype.kind == "i" else [y]
    promise = np.zeros(len(s.numeric))
    for target in classes:
        centred = target - np.mean(target)
        promise = np.maximum(promise, np.abs(centred @ values) / (norm * (np.sqrt(centred @ centred) + 1e-12)))
    order = np.argsort(-promise, kind="stable")
    return [*s.categorical, *s.datetime, *s.text, *(s.numeric[k] for k in order)]


def _shuffled(frame: Frame, name: str, order: Array) -> Frame:
    """Return the frame with the values of one column in another order."""
    s = frame.schema
    if name in s.text:
        k = s.text.index(name)
        texts = tuple(text.take(order) if j == k else text for j, text in enumerate(frame.texts))
        return replace(frame, texts=texts)
    if name in s.numeric:
        return replace(frame, numbers=_swapped(frame.numbers, s.numeric.index(name), order))
    if name in s.categorical:
        return replace(frame, codes=_swapped(frame.codes, s.categorical.index(name), order))
    return replace(frame, days=_swapped(frame.days, s.datetime.index(name), order))


def _swapped(values: Array, k: int, order: Array) -> Array:
    changed = np.array(values)
    changed[:, k] = changed[order, k]
    return changed
