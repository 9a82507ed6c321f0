"""Regularised evolution: the oldest dies, not the worst."""

from collections import deque

import numpy as np

from automl_cli.nas.decisions import Fits, Indices, Space, anything
from automl_cli.nas.strategy import Earlier, Suggestion, best_first, new_one, pop_new

_PATIENT = 30  # failed mutations of a parent before two steps are taken, then three


class Evolution:
    """Aging evolution [1]_: the best of a few drawn from the last ``population`` results is changed in one decision.

    Because a member leaves by age, a network that was lucky once is forgotten unless its children are good as well:
    losses on small tables are noisy. The paper has 100 members of which 25 are drawn, for thousands of networks; a
    daily job trains a few dozen.

    Parameters
    ----------
    space : Space
        Where candidates are from.
    seed : int
        The same seed gives the same sequence.
    population : int
        Members; the first so many candidates are drawn at random, unless there are earlier ones.
    sample : int
        Members of which the best becomes a parent.
    crossing : float
        Share of children that are crossed with the best of another sample before they are mutated; the paper has none.
    fits : callable
        Limits.
    earlier : sequence of (Candidate, float)
        The best of them take up to half of the first population.

    References
    ----------
    .. [1] Real, Aggarwal, Huang and Le, Regularized evolution for image classifier architecture search, AAAI 2019.
    """

    def __init__(
        self,
        space: Space,
        *,
        seed: int,
        population: int = 12,
        sample: int = 4,
        crossing: float = 0.0,
        fits: Fits = anything,
        earlier: Earlier = (),
    ) -> None:
        self._space = space
        self._rng = np.random.default_rng(seed)
        self._members: deque[tuple[Indices, float]] = deque(maxlen=population)  # oldest first
        self._population = population
        self._sample = sample
        self._crossing = crossing
        self._fits = fits
        self._starts = best_first(earlier, space, fits, population // 2)
        self._seen: set[Indices] = set()
        self._asked = 0

    def ask(self) -> Suggestion:
        """Return an earlier or a random candidate while the population is young, then a child of a good member."""
        young = max(self._asked, len(self._members)) < self._population
        self._asked += 1
        if young or not self._members:
            start = pop_new(self._starts, self._space, self._fits, self._seen)
            if start is None:
                start = new_one(lambda _: self._space.sample(self._rng), self._space, self._fits, self._seen)
            return Suggestion(self._space.decode(start), origin="evolution")
        parent = self._parent()

        def child(attempt: int) -> Indices:
            base = parent
            if self._crossing and self._rng.random() < self._crossing:
                base = self._space.cross(parent, self._parent(), self._rng)
            for _ in range(1 + attempt // _PATIENT):
                base = self._space.mutate(base, self._rng)
            return base

        found = new_one(child, self._space, self._fits, self._seen)
        return Suggestion(self._space.decode(found), parent=self._space.decode(parent), origin="evolution")

    def tell(self, suggestion: Suggestion, loss: float | None, cost: float) -> None:
        """Let a member in, and the oldest die; a failure has no children."""
        indices = self._space.encode(suggestion.candidate)
        self._seen.add(indices)
        if loss is not None and suggestion.fidelity == 1.0:
            self._members.append((indices, loss))

    def _parent(self) -> Indices:
        """Return the best of a sample."""
        n = min(self._sample, len(self._members))
        drawn = self._rng.choice(len(self._members), size=n, replace=False)
        return min((self._members[int(place)] for place in drawn), key=lambda member: member[1])[0]
