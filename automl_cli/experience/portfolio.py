"""An ordered list of pipelines that complement each other on past datasets; of equals the cheap one comes first."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from automl_cli.features.matrix import Array

COST_POWER = 0.5  # of the seconds that a gain is divided by
LEAST_GAIN = 1e-3  # of the regret without any; with less the list is at its end


@dataclass(frozen=True, eq=False)
class Chosen:
    """Positions of the chosen pipelines in their order, and how much regret each one takes away."""

    order: tuple[int, ...]
    gains: tuple[float, ...]


def regrets(losses: Array, reference: Array | None = None) -> Array:
    """Scale losses to regrets: 0 is the best of its dataset, 1 the median or worse.

    Parameters
    ----------
    losses : ndarray of shape (n_datasets, n_pipelines)
        NaN where a pipeline was not measured, or failed.
    reference : ndarray of shape (n_datasets,) or None
        A loss that stands in for the median, where it is known and not the best.

    Returns
    -------
    ndarray of the same shape
        NaN stays NaN; all 0 where a dataset's losses are one and the same.

    Examples
    --------
    >>> regrets(np.array([[1.0, 2.0, 3.0, 9.0]]))
    array([[0.        , 0.66666667, 1.        , 1.        ]])
    """
    found = np.full(losses.shape, np.nan)
    for row, values in enumerate(losses):
        known = np.isfinite(values)
        if not known.any():
            continue
        best, middle = values[known].min(), np.median(values[known])
        if reference is not None and np.isfinite(reference[row]) and reference[row] > best:
            middle = reference[row]
        width = middle - best
        found[row, known] = np.minimum((values[known] - best) / width, 1.0) if width > 0 else 0.0
    return found


def greedy(regret: Array, weight: Array, seconds: Array, most: int, *, start: Sequence[int] = ()) -> Chosen:
    """Choose pipelines one by one, each the one that takes away most of the regret that is left [1]_, per its cost.

    What a pipeline was not measured on, it does not help. The sum of the datasets' best regrets is submodular, so that
    each choice is at least as good as any fixed order could make it at that step.

    Parameters
    ----------
    regret : ndarray of shape (n_datasets, n_pipelines)
        From 0 to 1, or NaN.
    weight : ndarray of shape (n_datasets,)
        How much each dataset counts.
    seconds : ndarray of shape (n_pipelines,)
        What trying a pipeline costs; gains are divided by its square root.
    start : sequence of int
        Chosen beforehand.

    References
    ----------
    .. [1] Feurer et al., Auto-sklearn 2.0, JMLR 2022, section 3.1; Salinas and Erickson, TabRepo, AutoML 2024.
    """
    known = np.where(np.isnan(regret), 1.0, regret)
    left = np.ones(len(known))
    for position in start:
        left = np.minimum(left, known[:, position])
    total = float(weight.sum()) or 1.0
    price = np.maximum(seconds, 1e-3) ** COST_POWER
    order: list[int] = []
    gains: list[float] = []
    free = np.ones(known.shape[1], dtype=bool)
    free[list(start)] = False
    while len(order) < most:
        gain = (weight[:, None] * np.maximum(left[:, None] - known, 0.0)).sum(axis=0) / total
        worth = free & (gain >= LEAST_GAIN)
        if not worth.any():
            break
        # only among these: a cheap one that adds next to nothing must not end the list before a dear one that adds much
        best = int(np.argmax(np.where(worth, gain / price, -1.0)))
        order.append(best)
        gains.append(float(gain[best]))
        free[best] = False
        left = np.minimum(left, known[:, best])
    return Chosen(tuple(order), tuple(gains))
