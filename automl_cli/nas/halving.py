"""Random search, with successive halving where a share of a training says something."""

import math

import numpy as np

from automl_cli.nas.decisions import Fits, Indices, Space, anything
from automl_cli.nas.strategy import Earlier, Suggestion, best_first, new_one, pop_new

FIDELITIES = (1 / 16, 1 / 4, 1.0)


class Halving:
    """Asynchronous successive halving [1]_ over candidates drawn at random.

    Candidates begin at the lowest fidelity. As soon as one is among the best ``1 / eta`` of what its fidelity has seen
    it goes on at the next, the highest first, and its own weights are a start for that. Random search with early
    stopping is a hard opponent of cleverer search [2]_. With one fidelity this is plain random search, the yardstick.

    Parameters
    ----------
    space : Space
        Where candidates are from.
    seed : int
        The same seed gives the same sequence.
    fidelities : tuple of float
        Ascending shares of a whole training; the last is 1.
    eta : int
        One of so many goes on.
    fits : callable
        Limits, asked again before a candidate goes on.
    earlier : sequence of (Candidate, float)
        The best ``eta`` of them are the first candidates.

    References
    ----------
    .. [1] Li et al., A system for massively parallel hyperparameter tuning, MLSys 2020.
    .. [2] Li and Talwalkar, Random search and reproducibility for neural architecture search, UAI 2019.
    """

    def __init__(
        self,
        space: Space,
        *,
        seed: int,
        fidelities: tuple[float, ...] = FIDELITIES,
        eta: int = 4,
        fits: Fits = anything,
        earlier: Earlier = (),
    ) -> None:
        self._space = space
        self._rng = np.random.default_rng(seed)
        self._fidelities = fidelities
        self._eta = eta
        self._fits = fits
        self._starts = best_first(earlier, space, fits, eta)
        self._seen: set[Indices] = set()
        # per fidelity: what was lost (infinity: it failed), and who has gone on or was seen higher up
        self._losses: list[dict[Indices, float]] = [{} for _ in fidelities]
        self._promoted: list[set[Indices]] = [set() for _ in fidelities]

    def ask(self) -> Suggestion:
        """Let the best go on; where nobody is good enough yet, begin with another candidate."""
        for rung in reversed(range(len(self._fidelities) - 1)):
            for indices in self._promotable(rung):
                candidate = self._space.decode(indices)
                if self._fits(candidate):
                    self._promoted[rung].add(indices)
                    return Suggestion(candidate, self._fidelities[rung + 1], parent=candidate, origin="random")
        start = pop_new(self._starts, self._space, self._fits, self._seen)
        if start is None:
            start = new_one(lambda _: self._space.sample(self._rng), self._space, self._fits, self._seen)
        return Suggestion(self._space.decode(start), self._fidelities[0], origin="random")

    def tell(self, suggestion: Suggestion, loss: float | None, cost: float) -> None:
        """Put a result on its rung; one at a fidelity that is none of these is only not suggested again."""
        indices = self._space.encode(suggestion.candidate)
        self._seen.add(indices)
        if suggestion.fidelity in self._fidelities:
            rung = self._fidelities.index(suggestion.fidelity)
            self._losses[rung][indices] = math.inf if loss is None else loss
            for below in range(rung):
                self._promoted[below].add(indices)

    def _promotable(self, rung: int) -> list[Indices]:
        """Return who is among the best share of a rung, has not failed and not gone on, the best first."""
        losses = self._losses[rung]
        best = sorted(losses, key=losses.__getitem__)[: len(losses) // self._eta]
        return [indices for indices in best if indices not in self._promoted[rung] and losses[indices] < math.inf]


def random_search(space: Space, *, seed: int, fits: Fits = anything, earlier: Earlier = ()) -> Halving:
    """Return plain random search: whole trainings, drawn without repetition."""
    return Halving(space, seed=seed, fidelities=(1.0,), fits=fits, earlier=earlier)
