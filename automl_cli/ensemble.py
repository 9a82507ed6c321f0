"""Greedy weights over out-of-fold predictions."""

import numpy as np

from automl_cli.errors import NoModel
from automl_cli.metrics import Array, Metric

# a search looks at no more rows and cells per model than this: 50 models and 20 picks then take about a second
_MAX_ROWS = 20_000
_MAX_CELLS = 100_000
# only the best models on their own are candidates (auto-sklearn's nbest)
_MAX_CANDIDATES = 50
# picks without a better prefix after which no more are tried
_PATIENCE = 5
# losses closer than this share of the best single loss are one: then a member already in is preferred
_TIE = 1e-6


def greedy_weights(oof: Array, y: Array, metric: Metric, weight: Array | None = None, *, n_picks: int = 50) -> Array:
    """Weigh models by greedy forward selection with replacement [1]_.

    The selection starts from the best model, is cut to its best prefix, and prefers members already chosen on ties,
    so it stays small. Above 20,000 rows (or 100,000 cells) it searches on a sample that is stratified by the target;
    the answer is checked on all rows, and there it is never worse than the best single model.

    Parameters
    ----------
    oof : ndarray of shape (n_models, n_rows, n_outputs)
        Out-of-fold predictions, float64 or float32: each row was predicted by a model that had not seen it. Rows
        without a prediction are left out by the caller, for all models alike.
    y : ndarray of shape (n_rows,)
    weight : ndarray of shape (n_rows,) or None
        Weights of the rows.
    n_picks : int
        Picks at most; weights are multiples of one over the picks made.

    Returns
    -------
    ndarray of shape (n_models,), summing to 1

    Raises
    ------
    NoModel
        Where no model has finite predictions.

    References
    ----------
    .. [1] Caruana et al., Ensemble selection from libraries of models, ICML 2004.

    Examples
    --------
    >>> from automl_cli.metrics import METRICS
    >>> oof = np.array([[[1.0], [4.0]], [[3.0], [2.0]]])
    >>> greedy_weights(oof, np.array([2.0, 3.0]), METRICS["rmse"])
    array([0.5, 0.5])
    """
    singles = np.array([metric.loss(y, member.astype(np.float64), weight) for member in oof])
    if not np.isfinite(singles).any():
        raise NoModel("no trial gave finite predictions", hint="see the reasons with `automl inspect`")
    ranked = np.argsort(np.where(np.isfinite(singles), singles, np.inf), kind="stable")
    # ascending, so that sums run in member order whatever the ranks
    candidates = np.sort(ranked[: min(_MAX_CANDIDATES, int(np.isfinite(singles).sum()))])
    rows = _sample(y, oof.shape[2], metric)
    start = int(np.flatnonzero(candidates == ranked[0])[0])
    picks = _pick(
        np.stack([oof[member][rows] for member in candidates]),
        y[rows],
        metric,
        None if weight is None else weight[rows],
        picks=[start],
        n_picks=n_picks,
    )
    weights = np.bincount(candidates[picks], minlength=len(oof)) / len(picks)
    if metric.loss(y, combine(oof, weights), weight) <= singles[ranked[0]]:
        return weights
    weights = np.zeros(len(oof))
    weights[ranked[0]] = 1.0
    return weights


def _sample(y: Array, n_outputs: int, metric: Metric) -> Array:
    """Return rows for the search, ascending: all, or as many as its time allows, spread over the sorted target."""
    n_kept = min(_MAX_ROWS, max(1, _MAX_CELLS // n_outputs))
    if metric.name == "roc_auc" and n_outputs > 2:
        n_kept = max(1, n_kept // 4)  # one sort per class and candidate
    if len(y) <= n_kept:
        return np.arange(len(y))
    order = np.lexsort((np.random.default_rng(0).random(len(y)), y))
    return np.sort(order[np.arange(n_kept) * len(y) // n_kept])


def _pick(oof: Array, y: Array, metric: Metric, weight: Array | None, *, picks: list[int], n_picks: int) -> list[int]:
    """Extend ``picks`` one by one; return the best prefix, the shortest of equals."""
    total = oof[picks].sum(axis=0, dtype=np.float64)
    best_loss = metric.loss(y, total / len(picks), weight)
    tie, best_length = _TIE * abs(best_loss), len(picks)
    scratch = np.empty_like(total)
    while len(picks) < n_picks and len(picks) - best_length < _PATIENCE and best_loss > 0:
        losses = np.empty(len(oof))
        for i, member in enumerate(oof):
            np.add(total, member, out=scratch)
            np.divide(scratch, len(picks) + 1, out=scratch)
            losses[i] = metric.loss(y, scratch, weight)
        close = np.flatnonzero(losses <= np.nanmin(losses) + tie)
        known = close[np.isin(close, picks)]
        among = known if len(known) else close
        chosen = int(among[np.argmin(losses[among])])
        picks = [*picks, chosen]
        total += oof[chosen]
        if losses[chosen] < best_loss:
            best_loss, best_length = float(losses[chosen]), len(picks)
    return picks[:best_length]


def combine(predictions: Array, weights: Array) -> Array:
    """Mix predictions of shape (n_models, n_rows, n_outputs) by ``weights`` (n_models,), summed in member order.

    Members without weight are not looked at.

    >>> combine(np.array([[[1.0]], [[3.0]]]), np.array([0.25, 0.75]))
    array([[2.5]])
    """
    total = np.zeros(predictions.shape[1:], dtype=np.float64)
    for member in np.flatnonzero(weights):
        total += weights[member] * predictions[member]
    return total
