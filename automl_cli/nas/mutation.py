"""Local search: the best network so far is changed in one decision."""

import numpy as np

from automl_cli.nas.decisions import Fits, Indices, Space, anything
from automl_cli.nas.strategy import Earlier, Suggestion, best_first, new_one, pop_new

_PATIENT = 30  # failed mutations before two steps are taken, then three


class Mutation:
    """Mutates the incumbent: most of what makes costlier methods work [1]_, and a strong baseline by itself [2]_.

    Parameters
    ----------
    space : Space
        Where candidates are from.
    seed : int
        The same seed gives the same sequence.
    starts : int
        Candidates drawn at random first, unless there are earlier ones.
    fits : callable
        Limits.
    earlier : sequence of (Candidate, float)
        The best of them replace the random starts.

    References
    ----------
    .. [1] Schneider, Pfisterer, Binder and Bischl, Mutation is all you need, 8th ICML workshop on AutoML, 2021.
    .. [2] White, Nolen and Savani, Exploring the loss landscape in neural architecture search, UAI 2021.
    """

    def __init__(
        self, space: Space, *, seed: int, starts: int = 6, fits: Fits = anything, earlier: Earlier = ()
    ) -> None:
        self._space = space
        self._rng = np.random.default_rng(seed)
        self._n_starts = starts
        self._fits = fits
        self._starts = best_first(earlier, space, fits, starts)
        self._seen: set[Indices] = set()
        self._best: tuple[float, Indices] | None = None
        self._begun = 0  # own suggestions, and others' whole trainings

    def ask(self) -> Suggestion:
        """Return a start, or the incumbent with one decision changed."""
        self._begun += 1
        if self._begun <= self._n_starts or self._best is None:
            start = pop_new(self._starts, self._space, self._fits, self._seen)
            if start is None:
                start = new_one(lambda _: self._space.sample(self._rng), self._space, self._fits, self._seen)
            return Suggestion(self._space.decode(start), origin="mutation")
        incumbent = self._best[1]

        def neighbour(attempt: int) -> Indices:
            changed = incumbent
            for _ in range(1 + attempt // _PATIENT):
                changed = self._space.mutate(changed, self._rng)
            return changed

        found = new_one(neighbour, self._space, self._fits, self._seen)
        return Suggestion(self._space.decode(found), parent=self._space.decode(incumbent), origin="mutation")

    def tell(self, suggestion: Suggestion, loss: float | None, cost: float) -> None:
        """Keep the incumbent."""
        indices = self._space.encode(suggestion.candidate)
        self._begun += indices not in self._seen and suggestion.fidelity == 1.0
        self._seen.add(indices)
        better = self._best is None or (loss is not None and loss < self._best[0])
        if loss is not None and better and suggestion.fidelity == 1.0:
            self._best = (loss, indices)
