"""TrAdaBoost: source rows that the target contradicts lose weight round by round, target rows that are hard gain it."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from automl_cli.features.matrix import Array
from automl_cli.transfer.density import mean_one
from automl_cli.transfer.learner import Fit, Predict

ROUNDS = 10
LARGEST_ERROR = 0.49
"""Of a round on the target: from a half on, its vote would count against itself."""
LEAST_ERROR = 1e-3
"""A model that has learned its rows by heart says nothing about them, and would have all votes."""


@dataclass(frozen=True, eq=False)
class Boosted:
    """What the rounds left.

    Attributes
    ----------
    weights : ndarray of shape (n_rounds + 1, n_rows)
        Before each round and after the last, each of mean one over all rows.
    votes : ndarray of shape (n_rounds,)
        log(1 / beta) of each round.
    predictors : tuple of Predict
        One of each round.
    """

    weights: Array
    votes: Array
    predictors: tuple[Predict, ...]

    def predict(self, rows: Array) -> Array:
        """Return the mean over the later half of the rounds, by their votes: earlier ones trust the source too much."""
        first = len(self.predictors) // 2
        shares = mean_one(self.votes[first:]) / len(self.votes[first:])
        outputs = (predict(rows) for predict in self.predictors[first:])
        return np.asarray(sum(share * output for share, output in zip(shares, outputs, strict=True)))

    def predict_median(self, rows: Array) -> Array:
        """Return the median over the later half of the rounds, by their votes, shape (n_rows, 1): for regressions."""
        first = len(self.predictors) // 2
        outputs = np.column_stack([predict(rows)[:, 0] for predict in self.predictors[first:]])
        order = np.argsort(outputs, axis=1)
        reached = np.cumsum(self.votes[first:][order], axis=1)
        middle = (reached >= reached[:, -1:] / 2).argmax(axis=1)
        return np.asarray(np.take_along_axis(outputs, np.take_along_axis(order, middle[:, None], 1), 1))


def tradaboost(fit: Fit, y: Array, is_source: Array, *, rounds: int = ROUNDS) -> Boosted:
    """Boost a classifier [1]_: w_S *= b^e, w_T *= b_t^-e with e = 1 where the label is wrong.

    b = 1 / (1 + sqrt(2 ln n_S / N)), b_t = E / (1 - E) with E the weighted error on the target rows. Probabilities are
    mixed where the paper counts votes: they are what most metrics look at.

    Parameters
    ----------
    fit : Fit
        Of a model that does not learn its rows by heart: the error of a round is that on the rows it was fitted on.
    y : ndarray of shape (n_rows,), class indices
    is_source : ndarray of shape (n_rows,), bool

    References
    ----------
    .. [1] Dai, Yang, Xue and Yu, Boosting for transfer learning, ICML 2007.
    """

    def wrong(outputs: Array) -> Array:
        return np.asarray(outputs.argmax(axis=1) != y, dtype=np.float64)

    return _boosted(fit, wrong, is_source, rounds)


def tradaboost_r2(fit: Fit, y: Array, is_source: Array, *, rounds: int = ROUNDS) -> Boosted:
    """Boost a regression as `tradaboost` does, with e = |error| / the largest |error| [1]_.

    References
    ----------
    .. [1] Pardoe and Stone, Boosting for regression transfer, ICML 2010.
    """

    def off(outputs: Array) -> Array:
        distances = np.abs(outputs[:, 0] - y)
        return np.asarray(distances / max(float(distances.max()), 1e-300))

    return _boosted(fit, off, is_source, rounds)


def _boosted(fit: Fit, errors_of: Callable[[Array], Array], is_source: Array, rounds: int) -> Boosted:
    rows = np.arange(len(is_source))
    fade = source_factor(int(is_source.sum()), rounds)
    weights, votes, predictors = [np.ones(len(rows))], [], []
    for _ in range(rounds):
        predict = fit(rows, weights[-1])
        errors = errors_of(predict(rows))
        moved, factor = updated(weights[-1], errors, is_source, fade)
        weights.append(mean_one(moved))
        votes.append(-np.log(factor))
        predictors.append(predict)
    return Boosted(np.array(weights), np.array(votes), tuple(predictors))


def source_factor(n_source: int, rounds: int) -> float:
    """Return 1 / (1 + sqrt(2 ln n_S / N)): what a source row's weight is multiplied by where it is all wrong.

    >>> round(source_factor(100, 10), 4)
    0.5103
    """
    return float(1 / (1 + np.sqrt(2 * np.log(max(n_source, 1)) / rounds)))


def updated(weights: Array, errors: Array, is_source: Array, fade: float) -> tuple[Array, float]:
    """Return the weights after a round, and b_t.

    >>> updated(np.ones(4), np.array([1, 0, 0, 0]), np.array([True, True, False, False]), 0.5)[0]
    array([0.5, 1. , 1. , 1. ])
    """
    target = ~is_source
    error = float(weights[target] @ errors[target] / weights[target].sum())
    error = min(max(error, LEAST_ERROR), LARGEST_ERROR)
    factor = error / (1 - error)
    return np.where(is_source, weights * fade**errors, weights * factor**-errors), factor
