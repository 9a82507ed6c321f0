"""Random search, with successive halving where a share of a training says something."""

import numpy as np

from automl_cli.nas.decisions import Fits, Indices, Space, anything
from automl_cli.nas.rungs import ETA, FIDELITIES, Rungs
from automl_cli.nas.strategy import Earlier, Suggestion, best_first, new_one, pop_new
from automl_cli.optimizer.asktell import SpaceExhausted


class Halving:
    """Asynchronous successive halving [1]_ over candidates drawn at random; see `Rungs`.

    Candidates begin at the lowest fidelity, and the own weights of one that goes on are a start for that. Random search
    with early stopping is a hard opponent of cleverer search [2]_. With one fidelity this is plain random search, the
    yardstick.

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
        eta: int = ETA,
        fits: Fits = anything,
        earlier: Earlier = (),
    ) -> None:
        self._space = space
        self._rng = np.random.default_rng(seed)
        self._rungs: Rungs[Indices] = Rungs(fidelities, eta)
        self._fits = fits
        self._starts = best_first(earlier, space, fits, eta)
        self._seen: set[Indices] = set()

    def ask(self) -> Suggestion:
        """Let the best go on; where nobody is good enough yet, begin with another candidate."""
        if promoted := self._promoted():
            return promoted
        start = pop_new(self._starts, self._space, self._fits, self._seen)
        if start is None:
            try:
                start = new_one(lambda _: self._space.sample(self._rng), self._space, self._fits, self._seen)
            except SpaceExhausted:
                if promoted := self._promoted(anybody=True):
                    return promoted
                raise
        return Suggestion(self._space.decode(start), self._rungs.fidelities[0], origin="random")

    def _promoted(self, *, anybody: bool = False) -> Suggestion | None:
        found = self._rungs.next(lambda indices: self._fits(self._space.decode(indices)), anybody=anybody)
        if found is None:
            return None
        candidate = self._space.decode(found[0])
        return Suggestion(candidate, found[1], parent=candidate, origin="random")

    def tell(self, suggestion: Suggestion, loss: float | None, cost: float) -> None:
        """Put a result on its rung; one at a fidelity that is none of these is only not suggested again."""
        indices = self._space.encode(suggestion.candidate)
        self._seen.add(indices)
        self._rungs.tell(indices, suggestion.fidelity, loss)


def random_search(space: Space, *, seed: int, fits: Fits = anything, earlier: Earlier = ()) -> Halving:
    """Return plain random search: whole trainings, drawn without repetition."""
    return Halving(space, seed=seed, fidelities=(1.0,), fits=fits, earlier=earlier)
