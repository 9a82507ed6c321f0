"""Class probabilities and the raw outputs that add up: log odds, and what a softmax is taken of."""

import numpy as np

from automl_cli.calibration import softmax
from automl_cli.features.matrix import Array
from automl_cli.metrics import TaskKind

STEEPEST = 15.0
"""Log odds are kept between minus and plus this: beyond it a probability is 0 or 1 to six digits."""


def raw_outputs(outputs: Array, kind: TaskKind) -> Array:
    """Return what adds up: values, log odds of the second of two classes, or centred logarithms of several.

    >>> raw_outputs(np.array([[0.5, 0.5], [0.0, 1.0]]), TaskKind.BINARY)
    array([[ 0.],
           [15.]])
    """
    if kind is TaskKind.REGRESSION:
        return np.asarray(outputs, dtype=np.float64)
    logs = np.log(np.clip(outputs, np.exp(-STEEPEST), 1.0, dtype=np.float64))
    if kind is TaskKind.BINARY:
        return np.asarray(logs[:, 1:] - logs[:, :1])
    return np.asarray(logs - logs.mean(axis=1, keepdims=True))


def from_raw(raw: Array, kind: TaskKind) -> Array:
    """Return probabilities or values of raw outputs, shape (n_rows, n_outputs)."""
    if kind is TaskKind.REGRESSION:
        return raw
    return softmax(np.hstack([np.zeros_like(raw), raw])) if kind is TaskKind.BINARY else softmax(raw)
