"""A recurrent controller: each decision is drawn given the ones before it."""

from dataclasses import dataclass

import numpy as np

from automl_cli.nas.decisions import Indices, Space
from automl_cli.nas.policy import Vector, choice, logit_gradient, softmax

_START = 0.1  # parameters begin uniformly between minus this and this: nearly all candidates are as likely


@dataclass(frozen=True)
class _Step:
    """One decision of a sequence, with what its gradient needs.

    ``inputs`` is the embedding of the choice before and the hidden state before; ``gates`` are input, forget, output
    and new content after their nonlinearities, of shape (4, hidden).
    """

    place: int
    before: slice
    inputs: Vector
    gates: Vector
    cell_before: Vector
    cell: Vector
    hidden: Vector
    p: Vector


class Recurrent:
    """An LSTM over the active decisions, as the controller of ENAS [1]_, in numpy with a gradient by hand.

    The choice before is embedded and put in, a linear map per decision gives its logits. It can express that a choice
    is good only together with another one, which independent decisions cannot, and has more to learn from few losses.

    Parameters
    ----------
    space : Space
        Its decisions.
    seed : int
        Of the initial parameters.
    hidden : int
        Size of the state and of embeddings.

    References
    ----------
    .. [1] Pham, Guan, Zoph, Le and Dean, Efficient neural architecture search via parameter sharing, ICML 2018.
    """

    def __init__(self, space: Space, *, seed: int, hidden: int = 16) -> None:
        self._space = space
        self._hidden = hidden
        shapes: dict[object, tuple[int, ...]] = {"start": (hidden,), "W": (4, hidden, 2 * hidden), "b": (4, hidden)}
        for place, decision in enumerate(space.decisions):
            shapes["embedding", place] = (len(decision.options), hidden)
            shapes["U", place] = (len(decision.options), hidden)
            shapes["c", place] = (len(decision.options),)
        ends = np.cumsum([int(np.prod(shape)) for shape in shapes.values()])
        self._where = {
            key: (slice(int(end) - int(np.prod(shape)), int(end)), shape)
            for (key, shape), end in zip(shapes.items(), ends, strict=True)
        }
        self.theta: Vector = np.random.default_rng(seed).uniform(-_START, _START, int(ends[-1]))

    def draw(self, rng: np.random.Generator) -> Indices:
        """Draw one decision after the other."""
        return self._run(None, rng)[0]

    def log_probability(self, indices: Indices) -> float:
        """Sum over active decisions."""
        return float(sum(np.log(step.p[indices[step.place]]) for step in self._run(indices)[1]))

    def gradient(self, indices: Indices, score: float, entropy: float) -> Vector:
        """Go through time backwards. Entropies are those along these decisions."""
        _, steps = self._run(indices)
        gradient = np.zeros_like(self.theta)
        W, d_W, d_b = self._part("W"), self._part("W", gradient), self._part("b", gradient)
        d_hidden, d_cell = np.zeros(self._hidden), np.zeros(self._hidden)
        for step in reversed(steps):
            d_logits = logit_gradient(step.p, indices[step.place], score, entropy)
            self._part(("U", step.place), gradient)[:] += np.outer(d_logits, step.hidden)
            self._part(("c", step.place), gradient)[:] += d_logits
            d_hidden = d_hidden + self._part(("U", step.place)).T @ d_logits
            i, f, o, g = step.gates
            squashed = np.tanh(step.cell)
            d_cell = d_cell + d_hidden * o * (1 - squashed**2)
            d_sums = np.stack(
                [
                    d_cell * g * i * (1 - i),
                    d_cell * step.cell_before * f * (1 - f),
                    d_hidden * squashed * o * (1 - o),
                    d_cell * i * (1 - g**2),
                ]
            )
            d_W += d_sums[:, :, None] * step.inputs
            d_b += d_sums
            d_inputs = np.einsum("gh,ghi->i", d_sums, W)
            gradient[step.before] += d_inputs[: self._hidden]
            d_hidden, d_cell = d_inputs[self._hidden :], d_cell * f
        return gradient

    def _part(self, key: object, flat: Vector | None = None) -> Vector:
        """Return one parameter, a view of the flat vector or of one like it."""
        where, shape = self._where[key]
        return (self.theta if flat is None else flat)[where].reshape(shape)

    def _run(self, given: Indices | None, rng: np.random.Generator | None = None) -> tuple[Indices, list[_Step]]:
        """Follow given indices through the network, or draw them."""
        indices = [0] * len(self._space.decisions) if given is None else list(given)
        hidden, cell = np.zeros(self._hidden), np.zeros(self._hidden)
        before = self._where["start"][0]
        steps: list[_Step] = []
        W, b = self._part("W"), self._part("b")
        for place in self._space.open:
            if not self._space.active(indices, place):
                continue
            inputs = np.concatenate([self.theta[before], hidden])
            sums = W @ inputs + b
            gates = np.vstack([1 / (1 + np.exp(-sums[:3])), np.tanh(sums[3:])])
            i, f, o, g = gates
            cell_before, cell = cell, f * cell + i * g
            hidden = o * np.tanh(cell)
            p = softmax(self._part(("U", place)) @ hidden + self._part(("c", place)))
            steps.append(_Step(place, before, inputs, gates, cell_before, cell, hidden, p))
            if rng is not None:
                indices[place] = choice(p, rng)
            row = self._where["embedding", place][0].start + indices[place] * self._hidden
            before = slice(row, row + self._hidden)
        return tuple(indices), steps
