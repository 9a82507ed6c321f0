"""A dense network on one vector of parameters: its gradient, AdamW, and the schedule of its rate."""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from automl_cli.families.family import Hyperparameters
from automl_cli.features.matrix import Array

_WARM_UP = 0.1  # share of the steps in which the rate rises
_SCALE_RATE = 6.0  # the learned input scales move faster than the weights
_BETA1, _BETA2, _EPSILON = 0.9, 0.95, 1e-8


def activate(z: Array, smooth: bool) -> tuple[Array, Array]:
    """Return the activation and its derivative."""
    if not smooth:
        positive = z > 0
        return z * positive, positive
    gate = 1.0 / (1.0 + np.exp(-np.clip(z, -60.0, 60.0)))
    return z * gate, gate * (1.0 + z * (1.0 - gate))


@dataclass(frozen=True)
class Net:
    """All parameters in one vector, and views of it: the input scales, then weight and bias of each layer."""

    flat: Array
    shapes: tuple[tuple[int, int], ...]
    smooth: bool
    dropout: float

    def views(self, flat: Array) -> tuple[Array, list[Array], list[Array]]:
        """Return input scales, weights and biases as views of a vector laid out like ``self.flat``."""
        n_in = self.shapes[0][0]
        scale, at = flat[:n_in], n_in
        weights, biases = [], []
        for rows, columns in self.shapes:
            weights.append(flat[at : at + rows * columns].reshape(rows, columns))
            at += rows * columns
            biases.append(flat[at : at + columns])
            at += columns
        return scale, weights, biases

    def gradient(self, X: Array, slope_of: Callable[[Array], Array], gradient: Array, rng: np.random.Generator) -> None:
        """Write the gradient of one batch into ``gradient``; ``slope_of(scores)`` is the loss's slope in the scores."""
        scale, weights, biases = self.views(self.flat)
        to_scale, to_weights, to_biases = self.views(gradient)
        inputs, slopes = [X * scale], []
        for weight, bias in zip(weights[:-1], biases[:-1], strict=True):
            hidden, slope = activate(inputs[-1] @ weight + bias, self.smooth)
            if self.dropout:
                kept = (rng.random(hidden.shape, dtype=np.float32) >= self.dropout) * np.float32(1 / (1 - self.dropout))
                hidden, slope = hidden * kept, slope * kept
            inputs.append(hidden)
            slopes.append(slope)
        back = slope_of(inputs[-1] @ weights[-1] + biases[-1])
        for layer in range(len(weights) - 1, -1, -1):
            np.matmul(inputs[layer].T, back, out=to_weights[layer])
            np.sum(back, axis=0, out=to_biases[layer])
            back = back @ weights[layer].T
            if layer:
                back *= slopes[layer - 1]
        np.sum(back * X, axis=0, out=to_scale)


def new_net(n_in: int, n_out: int, hyperparameters: Hyperparameters, rng: np.random.Generator) -> Net:
    """Draw weights for rectified layers (He et al., 2015); the last layer starts near zero."""
    widths = [n_in, *[int(hyperparameters["width"])] * int(hyperparameters["layers"]), n_out]
    shapes = tuple(itertools.pairwise(widths))
    n_parameters = n_in + sum(rows * columns + columns for rows, columns in shapes)
    net = Net(
        np.zeros(n_parameters, dtype=np.float32),
        shapes,
        hyperparameters["activation"] == "silu",
        float(hyperparameters["dropout"]),
    )
    scale, weights, _ = net.views(net.flat)
    scale[:] = 1.0
    for i, weight in enumerate(weights):
        gain = math.sqrt(2.0 / weight.shape[0]) * (0.1 if i == len(weights) - 1 else 1.0)
        weight[:] = rng.standard_normal(weight.shape, dtype=np.float32) * np.float32(gain)
    return net


@dataclass
class AdamW:
    """Adam with decoupled weight decay (Loshchilov, Hutter, ICLR 2019) on one vector."""

    rates: Array
    decay: Array
    first: Array
    second: Array
    steps: int = 0

    @classmethod
    def of(cls, net: Net, weight_decay: float) -> "AdamW":
        """Start from nothing; only weights decay, and input scales move faster."""
        rates, decay = np.ones_like(net.flat), np.zeros_like(net.flat)
        scale, _, _ = net.views(rates)
        scale[:] = _SCALE_RATE
        _, weights, _ = net.views(decay)
        for weight in weights:
            weight[:] = weight_decay
        return cls(rates, decay, np.zeros_like(net.flat), np.zeros_like(net.flat))

    def step(self, flat: Array, gradient: Array, rate: float) -> None:
        """Move ``flat`` against ``gradient``, which is used up."""
        self.steps += 1
        self.first *= _BETA1
        self.first += (1 - _BETA1) * gradient
        self.second *= _BETA2
        gradient *= gradient
        gradient *= 1 - _BETA2
        self.second += gradient
        bias1, bias2 = 1 - _BETA1**self.steps, 1 - _BETA2**self.steps
        np.divide(self.second, bias2, out=gradient)
        np.sqrt(gradient, out=gradient)
        gradient += _EPSILON
        np.divide(self.first, gradient, out=gradient)
        gradient *= self.rates
        gradient *= rate / bias1
        flat *= 1 - rate * self.decay
        flat -= gradient


def rate_factor(done: float) -> float:
    """Return the rate's factor: up for a tenth of the steps, then down along a cosine.

    >>> rate_factor(0.05), rate_factor(0.1), round(rate_factor(1.0), 6)
    (0.5, 1.0, 0.0)
    """
    if done < _WARM_UP:
        return max(done, 0.01) / _WARM_UP
    return 0.5 * (1 + math.cos(math.pi * (done - _WARM_UP) / (1 - _WARM_UP)))
