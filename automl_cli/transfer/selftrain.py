"""Self-training with a curriculum: rows without a label get the model's own, the surest first, more each round."""

from collections.abc import Callable

import numpy as np

from automl_cli.features.matrix import Array
from automl_cli.transfer.learner import LabelFit, Predict

SHARES = (0.2, 0.4, 0.6, 0.8, 1.0)

Confidence = Callable[[Array, Array], Array]
"""``confidence(rows, outputs)``: larger is surer, shape (n_rows,)."""


def margin(rows: Array, outputs: Array) -> Array:
    """Return how far the likeliest class is ahead of the next."""
    ordered = np.sort(outputs, axis=1)
    return np.asarray(ordered[:, -1] - ordered[:, -2])


def agreement(others: tuple[Predict, ...]) -> Confidence:
    """Return a confidence for regressions: minus the spread of models that were fitted on parts of the labels."""

    def confidence(rows: Array, outputs: Array) -> Array:
        values = [outputs[:, 0], *(predict(rows)[:, 0] for predict in others)]
        return np.asarray(-np.std(values, axis=0))

    return confidence


def self_train(
    fit: LabelFit,
    labelled: Array,
    y: Array,
    unlabelled: Array,
    *,
    confidence: Confidence = margin,
    shares: tuple[float, ...] = SHARES,
    weight: float = 1.0,
) -> Predict:
    """Fit on labelled rows and, round by round, on a growing share of the others with labels of the last model [1]_.

    Every round starts anew, so that early mistakes are not carried on, and picks and labels its rows anew. The surest
    come first within each class: otherwise the easiest class would fill the first rounds.

    Parameters
    ----------
    fit : LabelFit
    labelled, unlabelled : ndarray of int64
        Positions in the table.
    y : ndarray of shape (len(labelled),)
        Class indices (int64) or values (float64).
    weight : float
        Of a row with a made label; labelled rows have 1.

    References
    ----------
    .. [1] Cascante-Bonilla et al., Curriculum labeling: revisiting pseudo-labeling for semi-supervised learning, AAAI
       2021; for tables Revisiting self-training with regularized pseudo-labeling for tabular data, arXiv 2302.14013.
    """
    predict = fit(labelled, y, np.ones(len(labelled)))
    classes = np.issubdtype(y.dtype, np.integer)
    for share in shares if len(unlabelled) else ():
        outputs = predict(unlabelled)
        made = outputs.argmax(axis=1) if classes else outputs[:, 0]
        groups = made if classes else np.zeros(len(made), dtype=np.int64)
        kept = surest(confidence(unlabelled, outputs), groups, share)
        rows = np.concatenate([labelled, unlabelled[kept]])
        weights = np.repeat([1.0, weight], [len(labelled), len(kept)])
        predict = fit(rows, np.concatenate([y, made[kept]]), weights)
    return predict


def surest(confidence: Array, groups: Array, share: float) -> Array:
    """Return the positions of the surest share of each group, ascending.

    >>> surest(np.array([0.9, 0.1, 0.5, 0.3]), np.array([0, 0, 1, 1]), 0.5)
    array([0, 2])
    """
    order = np.lexsort((-confidence, groups))
    sizes = np.bincount(groups)
    place = np.arange(len(order)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return np.sort(order[place < np.ceil(share * np.repeat(sizes, sizes) - 1e-9)])
