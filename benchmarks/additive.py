"""A model of losses that adds up what each decision is worth: few and noisy losses teach it."""

from collections.abc import Sequence

import numpy as np

from automl_cli.features.matrix import Array
from automl_cli.nas.decisions import Indices, Space

_PENALTIES = (0.3, 1.0, 3.0, 10.0, 30.0)


def predicted_ranks(known: Sequence[tuple[Indices, float]], asked: Sequence[Indices], space: Space) -> Array:
    """Predict where networks stand among those that are known, by a ridge regression on their decisions.

    An additive model is what a predictor of networks comes down to on a few dozen of them [1]_. Losses are replaced by
    their ranks, scaled to -1 (the best) .. 1: a network that did not converge is last, however far it is off. The
    penalty is that of the least leave-one-out error.

    Parameters
    ----------
    known : sequence of (Indices, float)
        Networks and what they lost, at least one.
    asked : sequence of Indices

    Returns
    -------
    ndarray of shape (n_asked,)
        The lower, the better.

    References
    ----------
    .. [1] White, Zela, Ru, Liu and Hutter, How powerful are performance predictors in neural architecture search?,
       NeurIPS 2021, section 4: simple models are ahead where few networks are trained.
    """
    X = _one_hot([indices for indices, _ in known], space)
    losses = np.array([loss for _, loss in known])
    ranks = np.array([(losses < loss).mean() + (losses <= loss).mean() - 1.0 for loss in losses])
    centre, base = X.mean(axis=0), ranks.mean()
    left, singular, right = np.linalg.svd(X - centre, full_matrices=False)
    inside = left.T @ (ranks - base)
    best, weights = np.inf, np.zeros(X.shape[1])
    for penalty in _PENALTIES:
        shrunk = singular**2 / (singular**2 + penalty)
        leverage = (left**2) @ shrunk + 1.0 / len(known)
        residuals = (ranks - base - left @ (shrunk * inside)) / np.maximum(1.0 - leverage, 1e-6)
        if (error := float((residuals**2).mean())) < best:
            best, weights = error, right.T @ (singular / (singular**2 + penalty) * inside)
    return np.asarray(base + (_one_hot(asked, space) - centre) @ weights)


def _one_hot(networks: Sequence[Indices], space: Space) -> Array:
    """Return which option each active decision has, shape (n_networks, n_options of all decisions)."""
    starts = np.cumsum([0, *(len(decision.options) for decision in space.decisions)])
    X = np.zeros((len(networks), starts[-1]))
    for row, indices in enumerate(networks):
        for place, option in enumerate(indices):
            if space.active(indices, place):
                X[row, starts[place] + option] = 1.0
    return X
