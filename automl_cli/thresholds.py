"""Multipliers of the classes' probabilities with which the likeliest class serves a metric of labels best."""

import numpy as np

from automl_cli.metrics import Array, Metric

_PASSES = 2
_LARGEST = 8.0  # of a multiplier's logarithm: a factor of 3,000
_EXPONENTS = np.linspace(0.0, 1.5, 16)
_QUANTILES = {2: 100}
_FEWER_QUANTILES = 24
_LEAST_GAIN = 1e-9


def prior_multipliers(logs: Array, y: Array, metric: Metric, weight: Array | None = None) -> Array:
    """Return logarithms of multipliers that are one power of the classes' shares [1]_.

    One parameter, so that it overfits little: with power -1 it is the best decision for balanced accuracy under true
    probabilities, with 0 the likeliest class, which is best for accuracy.

    Parameters
    ----------
    logs : ndarray of shape (n_rows, n_classes)
        Logarithms of the probabilities.
    y : ndarray of shape (n_rows,), class indices

    Returns
    -------
    ndarray of shape (n_classes,)

    References
    ----------
    .. [1] Menon et al., Long-tail learning via logit adjustment, ICLR 2021.
    """
    k = logs.shape[1]
    shares = np.bincount(y, weights=weight, minlength=k).astype(np.float64)
    shares = np.maximum(shares / shares.sum(), 0.5 / len(y))
    against = np.clip(-np.log(shares), None, _LARGEST)
    tables = [_table(logs + exponent * against, y, weight) for exponent in _EXPONENTS]
    losses = _losses(metric, np.stack(tables))
    return np.asarray(_EXPONENTS[int(np.argmin(losses))] * against)


def class_multipliers(logs: Array, y: Array, metric: Metric, weight: Array | None = None) -> Array:
    """Return logarithms of one multiplier per class, found by going through the classes in turn.

    For one class at a time the losses of all candidates follow from one count of the rows by their margin: the
    multiplier from which on a row is given to the class. Of two classes it is an exact search over quantiles of the
    threshold.

    Parameters
    ----------
    logs : ndarray of shape (n_rows, n_classes)
        Logarithms of the probabilities.
    y : ndarray of shape (n_rows,), class indices

    Returns
    -------
    ndarray of shape (n_classes,)
    """
    k = logs.shape[1]
    if k == 2:
        return _best_of_class(logs, y, metric, weight, np.zeros(2), 1)
    chosen = prior_multipliers(logs, y, metric, weight)
    for _ in range(_PASSES):
        before = chosen
        for label in range(k):
            chosen = _best_of_class(logs, y, metric, weight, chosen, label)
        if np.array_equal(before, chosen):
            break
    return chosen


def _best_of_class(logs: Array, y: Array, metric: Metric, weight: Array | None, chosen: Array, label: int) -> Array:
    """Return ``chosen`` with the best multiplier of one class; unchanged where none is better."""
    k = len(chosen)
    scores = logs + chosen
    scores[:, label] = -np.inf
    other = scores.argmax(axis=1)
    margin = scores[np.arange(len(y)), other] - logs[:, label]
    candidates = _candidates(margin, y == label, float(chosen[label]), _QUANTILES.get(k, _FEWER_QUANTILES))
    n = len(candidates)
    # The first candidate that gives a row to the class; all later ones do so too.
    first = np.searchsorted(candidates, margin, side="right")
    counts = np.bincount((first * k + y) * k + other, weights=weight, minlength=(n + 1) * k * k)
    counts = counts.reshape(n + 1, k, k).astype(np.float64)
    given = counts[:n].cumsum(axis=0)
    tables = counts.sum(axis=0) - given
    tables[:, :, label] += given.sum(axis=2)
    losses = _losses(metric, tables)
    now = int(np.searchsorted(candidates, chosen[label]))
    # Of candidates that are as good as each other the middle one: the plateau's edges are single rows.
    best = np.flatnonzero(losses <= losses.min() + _LEAST_GAIN)
    if losses[now] <= losses.min() + _LEAST_GAIN:
        return chosen
    changed = chosen.copy()
    changed[label] = candidates[best[len(best) // 2]]
    return changed


def _candidates(margin: Array, of_class: Array, now: float, n_quantiles: int) -> Array:
    """Return multipliers to try, ascending: between quantiles of all margins and of those of the class's own rows."""
    levels = np.linspace(0.0, 1.0, n_quantiles)
    groups = [margin, margin[of_class]] if of_class.any() else [margin]
    edges = np.unique(np.concatenate([np.quantile(group, levels) for group in groups]))
    between = (edges[1:] + edges[:-1]) / 2
    return np.unique(np.append(np.clip(between, -_LARGEST, _LARGEST), now))


def _table(scores: Array, y: Array, weight: Array | None) -> Array:
    k = scores.shape[1]
    counts = np.bincount(y * k + scores.argmax(axis=1), weights=weight, minlength=k * k)
    return counts.reshape(k, k).astype(np.float64)


def _losses(metric: Metric, tables: Array) -> Array:
    if metric.of_tables is None:
        raise ValueError(f"{metric.name} is no function of labels")
    return metric.of_tables(tables)
