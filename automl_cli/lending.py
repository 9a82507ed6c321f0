"""How far rows of a source help to weigh models for a target that has few rows of its own.

A few dozen rows hardly tell two good models apart, and the better of forty on them is the luckiest. Where the source's
rows rank models as the target's do, thousands of rows can say which is better; where they do not, what they say is of
another world. How alike both rank the models of a run can be measured on these models: the difference between what a
model gains on the one and on the other is noise, whose size is known from the rows, and the shift.

The weight is that of an empirical Bayes estimate [1]_: of two estimates of a model's gain on the target, one unbiased
with variance v_T, one with variance v_S and a bias that varies by tau^2 from model to model, the best mean gives the
second v_T / (v_T + v_S + tau^2).

References
----------
.. [1] Efron and Morris, Stein's estimation rule and its competitors, JASA 1973; for tables of two worlds: Chen, Owen
   and Shi, Data enriched linear regression, Electronic Journal of Statistics 2015.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from automl_cli.adapting import lent_rows
from automl_cli.ensemble import Lent
from automl_cli.families.family import ABSOLUTE
from automl_cli.features.matrix import Array
from automl_cli.metrics import Metric
from automl_cli.rundata import RunData
from automl_cli.trial import Success
from automl_cli.trialfiles import LENT, read_said

MOST_SHARE = 0.8
"""Of the loss that another table's rows decide at most: that both rank alike is itself known from few rows."""
LEAST_SHARE = 0.01
LEAST_PROBABILITY = 1e-3  # a row that is wrong for sure counts as much as this: one row is not to decide alone


def read_lent(run_folder: Path, data: RunData, trials: Sequence[Success], oof: Array) -> Lent | None:
    """Return the rows of the source that help to weigh these trials, and how much; None where that is next to nothing.

    Parameters
    ----------
    oof : ndarray of shape (n_trials, n_valid, n_outputs)
        Their predictions of the target's rows, NaN for folds that were not finished.
    """
    rows = [lent_rows(run_folder, data, fold) for fold in range(len(data.folds))]
    n_rows = [len(fold) for fold in rows]
    if not sum(n_rows) or len(trials) < 2:
        return None
    source, every = data.needed_source, np.concatenate(rows)
    said = np.stack([read_said(run_folder, data, trial, LENT, n_rows) for trial in trials])
    complete = np.array([trial.complete for trial in trials])
    if complete.sum() < 2 or not np.isfinite(said[complete]).all():  # older runs lent none
        return None
    y, weight = data.validated()
    y_lent = np.asarray(source.y)[every]
    weight_lent = None if source.weight is None else np.asarray(source.weight)[every]
    if weight_lent is not None and not weight_lent.sum() > 0:
        return None
    own = row_losses(oof[complete], y, data.metric)
    share = share_lent(own, row_losses(said[complete], y_lent, data.metric), weight, weight_lent)
    folds = np.repeat(np.arange(len(rows)), n_rows)
    return Lent(said, y_lent, folds, weight_lent, share) if share >= LEAST_SHARE else None


def row_losses(predictions: Array, y: Array, metric: Metric) -> Array:
    """Return what each model loses on each row, in a measure that a row has: log loss, squared or absolute error.

    Parameters
    ----------
    predictions : ndarray of shape (n_models, n_rows, n_outputs)

    Returns
    -------
    ndarray of shape (n_models, n_rows)
    """
    if predictions.shape[2] > 1:
        right = predictions[:, np.arange(len(y)), y.astype(np.int64)]
        return np.asarray(-np.log(np.maximum(right.astype(np.float64), LEAST_PROBABILITY)))
    errors = np.abs(predictions[:, :, 0] - y)
    return np.asarray(errors if metric.name in ABSOLUTE else errors**2)


def share_lent(own: Array, lent: Array, weight: Array | None = None, weight_lent: Array | None = None) -> float:
    """Return the weight of the other table's rows in a mean of two losses; see the head of this file.

    Of the models the better half by either table is looked at: what a poor one loses says nothing of the good ones.

    Parameters
    ----------
    own, lent : ndarray of shape (n_models, n_rows)
        What each model loses on the rows of either table.
    weight, weight_lent : ndarray of shape (n_rows,) or None
        Of the rows.

    Returns
    -------
    float
        0 to `MOST_SHARE`.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> gains = 0.1 * rng.normal(size=(20, 1))
    >>> own, lent = gains + rng.normal(size=(20, 50)), gains + rng.normal(size=(20, 2000))
    >>> share_lent(own, lent) > 0.6, share_lent(own, 10 * rng.normal(size=(20, 1)) + lent) < 0.01
    (True, True)
    """
    if len(own) < 2:
        return 0.0
    w, v = (np.ones(x.shape[1]) if given is None else given for x, given in ((own, weight), (lent, weight_lent)))
    half = (len(own) + 1) // 2
    by_own, by_lent = np.average(own, axis=1, weights=w), np.average(lent, axis=1, weights=v)
    good = np.union1d(np.argsort(by_own, kind="stable")[:half], np.argsort(by_lent, kind="stable")[:half])
    gain, noise = _gains(own[good], w)
    gain_lent, noise_lent = _gains(lent[good], v)
    apart = max(0.0, float(np.mean((gain - gain_lent) ** 2)) - noise - noise_lent)
    total = noise + noise_lent + apart
    return min(MOST_SHARE, noise / total) if total > 0 else 0.0


def _gains(losses: Array, weight: Array) -> tuple[Array, float]:
    """Return what each model gains over the mean of all, and the mean variance of that."""
    apart = losses - losses.mean(axis=0)
    gains = np.average(apart, axis=1, weights=weight)
    share = weight / weight.sum()
    degrees = 1.0 - float(share @ share)
    return gains, float(np.mean(((apart - gains[:, None]) ** 2) @ share**2)) / degrees if degrees > 0 else 0.0
