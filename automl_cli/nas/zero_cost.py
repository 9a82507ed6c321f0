"""Scores that need no training choose which random networks are trained."""

import math
from collections.abc import Callable

import numpy as np

from automl_cli.nas.decisions import Candidate, Fits, Indices, Space, anything
from automl_cli.nas.strategy import Earlier, Suggestion, best_first, new_one, pop_new
from automl_cli.optimizer.asktell import SpaceExhausted

Score = Callable[[Candidate], float]
"""How promising an untrained network looks; higher is better, and not a number is no answer."""


class ZeroCost:
    """Draws a pool, scores it and suggests its top share, the best first; then draws another [1]_.

    What a score is worth depends on the score: on tables those that measure expressiveness and how well the network can
    be trained at once, on one batch, rank best.

    Parameters
    ----------
    space : Space
        Where candidates are from.
    score : callable
        Seconds it takes count as the search's own.
    seed : int
        The same seed gives the same sequence.
    pool : int
        Candidates that are scored at a time.
    share : float
        Of them that are suggested, at least one.
    fits : callable
        Limits.
    earlier : sequence of (Candidate, float)
        The best of them come before the first pool, a fraction ``share`` of a pool at most.

    References
    ----------
    .. [1] Xing et al., Anytime neural architecture search on tabular data, arXiv 2403.10318.
    """

    def __init__(
        self,
        space: Space,
        score: Score,
        *,
        seed: int,
        pool: int = 32,
        share: float = 0.25,
        fits: Fits = anything,
        earlier: Earlier = (),
    ) -> None:
        self._space = space
        self._score = score
        self._rng = np.random.default_rng(seed)
        self._pool = pool
        self._top = max(1, round(pool * share))
        self._fits = fits
        self._queue = best_first(earlier, space, fits, self._top)
        self._seen: set[Indices] = set()

    def ask(self) -> Suggestion:
        """Return the best of the pool that was not suggested yet."""
        found = pop_new(self._queue, self._space, self._fits, self._seen)
        if found is None:
            self._queue = self._scored()
            found = pop_new(self._queue, self._space, self._fits, self._seen)
        if found is None:
            raise SpaceExhausted("no new network that fits was found")
        return Suggestion(self._space.decode(found), origin="zero_cost")

    def tell(self, suggestion: Suggestion, loss: float | None, cost: float) -> None:
        """Remember only that the candidate was tried."""
        self._seen.add(self._space.encode(suggestion.candidate))

    def _scored(self) -> list[Indices]:
        """Draw a pool of new candidates; return its top share."""
        drawn = set(self._seen)  # in a pool each is new, but one that is not chosen may be drawn again
        pool: list[Indices] = []
        while len(pool) < self._pool:
            try:
                pool.append(new_one(lambda _: self._space.sample(self._rng), self._space, self._fits, drawn))
            except SpaceExhausted:
                break
        scores = [self._score(self._space.decode(indices)) for indices in pool]
        order = sorted(range(len(pool)), key=lambda k: -math.inf if math.isnan(scores[k]) else scores[k], reverse=True)
        return [pool[k] for k in order[: self._top]]
