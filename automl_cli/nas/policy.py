"""Distributions over candidates that a gradient can move."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from automl_cli.nas.decisions import Indices, Space

Vector = NDArray[np.float64]


class Policy(Protocol):
    """A distribution over candidates, with one flat vector of parameters that is changed in place."""

    theta: Vector

    def draw(self, rng: np.random.Generator) -> Indices:
        """Draw canonical indices."""
        ...

    def log_probability(self, indices: Indices) -> float:
        """Return the logarithm of a candidate's probability."""
        ...

    def gradient(self, indices: Indices, score: float, entropy: float) -> Vector:
        """Return the gradient of ``score * log P(indices) + entropy * sum of the entropies of its decisions``."""
        ...


class Factorised:
    """One independent softmax per decision; those that are not active in a candidate have no part in it.

    Parameters
    ----------
    space : Space
        Its decisions; all options are as likely at first.
    """

    def __init__(self, space: Space) -> None:
        self._space = space
        ends = np.cumsum([len(decision.options) for decision in space.decisions])
        self._slices = [
            slice(int(end) - len(d.options), int(end)) for end, d in zip(ends, space.decisions, strict=True)
        ]
        self.theta: Vector = np.zeros(int(ends[-1]))

    def draw(self, rng: np.random.Generator) -> Indices:
        """Draw every decision."""
        return self._space.drawn(lambda place: choice(softmax(self.theta[self._slices[place]]), rng))

    def log_probability(self, indices: Indices) -> float:
        """Sum over active decisions."""
        free = self._space.free(indices)
        return float(sum(np.log(softmax(self.theta[self._slices[p]])[indices[p]]) for p in free))

    def gradient(self, indices: Indices, score: float, entropy: float) -> Vector:
        """Return the gradient with respect to the logits."""
        gradient = np.zeros_like(self.theta)
        for place in self._space.free(indices):
            part = self._slices[place]
            gradient[part] = logit_gradient(softmax(self.theta[part]), indices[place], score, entropy)
        return gradient


def softmax(logits: Vector) -> Vector:
    """Return probabilities.

    >>> softmax(np.array([0.0, 0.0]))
    array([0.5, 0.5])
    """
    shifted = np.exp(logits - logits.max())
    return np.asarray(shifted / shifted.sum())


def choice(p: Vector, rng: np.random.Generator) -> int:
    """Draw an index."""
    return min(int(np.searchsorted(p.cumsum(), rng.random())), len(p) - 1)


def logit_gradient(p: Vector, chosen: int, score: float, entropy: float) -> Vector:
    """Return the gradient of ``score * log p[chosen] + entropy * H(p)`` with respect to the logits of ``p``."""
    logs = np.log(np.maximum(p, np.finfo(np.float64).tiny))
    gradient = -score * p - entropy * p * (logs - p @ logs)
    gradient[chosen] += score
    return np.asarray(gradient)
