"""A dense network on one vector of parameters: its gradient, AdamW, and the schedule of its rate."""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from automl_cli.families.family import Hyperparameters
from automl_cli.families.waves import FREQUENCY_RATE, N_EMBEDDED, Waves
from automl_cli.features.matrix import Array

_WARM_UP = 0.1  # share of the steps in which the rate rises
_SCALE_RATE = 6.0  # the learned input scales move faster than the weights
_BETA1, _BETA2, _EPSILON = 0.9, 0.95, 1e-8


def activate(z: Array, smooth: bool) -> tuple[Array, Array]:
    """Return the activation and its derivative."""
    gate = _gate(z) if smooth else z > 0
    return z * gate, gate * (1.0 + z * (1.0 - gate)) if smooth else gate


def activated(z: Array, smooth: bool) -> Array:
    """Return the activation alone, in place of ``z``."""
    z *= _gate(z) if smooth else z > 0
    return z


def _gate(z: Array) -> Array:
    """Return 1 / (1 + exp(-z)), in one array: more of this size take longer to make than to fill."""
    gate: Array = np.clip(z, -60.0, 60.0)
    np.negative(gate, out=gate)
    np.exp(gate, out=gate)
    gate += 1.0
    return np.divide(1.0, gate, out=gate)


@dataclass(frozen=True)
class Parameters:
    """Views of one vector: the input scales, the embedding's parameters, weight and bias of each layer."""

    scale: Array
    waves: Waves
    weights: tuple[Array, ...]
    biases: tuple[Array, ...]


@dataclass(frozen=True)
class Net:
    """All parameters in one vector, and how they are laid out in it.

    Attributes
    ----------
    n_inputs : int
    embedded : int64 (n_embedded,)
        Inputs that get an embedding beside them.
    shapes : tuple of (n_in, n_out)
        Of the layers; the first one sees the inputs and then the embeddings.
    """

    flat: Array
    n_inputs: int
    embedded: Array
    shapes: tuple[tuple[int, int], ...]
    smooth: bool
    dropout: float

    def views(self, flat: Array) -> Parameters:
        """Return the parts of a vector laid out like ``self.flat``."""
        layers = [shape for rows, columns in self.shapes for shape in ((rows, columns), (columns,))]
        shapes = ((self.n_inputs,), *Waves.shapes(len(self.embedded)), *layers)
        parts, at = [], 0
        for shape in shapes:
            size = math.prod(shape)
            parts.append(flat[at : at + size].reshape(shape))
            at += size
        return Parameters(parts[0], Waves(*parts[1:5]), tuple(parts[5::2]), tuple(parts[6::2]))

    def gradient(self, X: Array, slope_of: Callable[[Array], Array], gradient: Array, rng: np.random.Generator) -> None:
        """Write the gradient of one batch into ``gradient``; ``slope_of(scores)`` is the loss's slope in the scores."""
        now, to = self.views(self.flat), self.views(gradient)
        scaled = X * now.scale
        numbers = scaled[:, self.embedded]
        angles = now.waves.angles(numbers)
        cosines = np.cos(angles)
        inputs, slopes = [np.hstack([scaled, now.waves.embed(cosines)]) if len(self.embedded) else scaled], []
        for weight, bias in zip(now.weights[:-1], now.biases[:-1], strict=True):
            hidden, slope = activate(inputs[-1] @ weight + bias, self.smooth)
            if self.dropout:
                kept = (rng.random(hidden.shape, dtype=np.float32) >= self.dropout) * np.float32(1 / (1 - self.dropout))
                hidden, slope = hidden * kept, slope * kept
            inputs.append(hidden)
            slopes.append(slope)
        back = slope_of(inputs[-1] @ now.weights[-1] + now.biases[-1])
        for layer in range(len(now.weights) - 1, -1, -1):
            np.matmul(inputs[layer].T, back, out=to.weights[layer])
            np.sum(back, axis=0, out=to.biases[layer])
            back = back @ now.weights[layer].T
            if layer:
                back *= slopes[layer - 1]
        to_inputs = back[:, : self.n_inputs]
        if len(self.embedded):
            to_inputs[:, self.embedded] += now.waves.gradient(
                numbers, angles, cosines, back[:, self.n_inputs :], to.waves
            )
        np.sum(to_inputs * X, axis=0, out=to.scale)


def new_net(n_in: int, embedded: Array, n_out: int, hyperparameters: Hyperparameters, rng: np.random.Generator) -> Net:
    """Draw weights for rectified layers (He et al., 2015); the last layer starts near zero."""
    n_first = n_in + N_EMBEDDED * len(embedded)
    widths = [n_first, *[int(hyperparameters["width"])] * int(hyperparameters["layers"]), n_out]
    shapes = tuple(itertools.pairwise(widths))
    n_parameters = n_in + sum(rows * columns + columns for rows, columns in shapes)
    n_parameters += sum(math.prod(shape) for shape in Waves.shapes(len(embedded)))
    net = Net(
        np.zeros(n_parameters, dtype=np.float32),
        n_in,
        embedded,
        shapes,
        hyperparameters["activation"] == "silu",
        float(hyperparameters["dropout"]),
    )
    start = net.views(net.flat)
    start.scale[:] = 1.0
    start.waves.draw(rng)
    for i, weight in enumerate(start.weights):
        gain = math.sqrt(2.0 / weight.shape[0]) * (0.1 if i == len(shapes) - 1 else 1.0)
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
        """Start from nothing; only weights decay, input scales move faster and frequencies slower."""
        rates, decay = np.ones_like(net.flat), np.zeros_like(net.flat)
        factors = net.views(rates)
        factors.scale[:] = _SCALE_RATE
        factors.waves.frequency[:] = factors.waves.phase[:] = FREQUENCY_RATE
        for weight in net.views(decay).weights:
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
