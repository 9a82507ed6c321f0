"""A list of pipelines in turn with variants of those that did best: ways of using rows without labels."""

import math
from collections import deque
from collections.abc import Callable, Collection, Sequence
from statistics import median

from automl_cli.optimizer.asktell import Optimizer, SpaceExhausted
from automl_cli.optimizer.portfolio import Portfolio
from automl_cli.trial import Pipeline

FIRST = 4  # of the list, before the first variant: something is known by then
BETWEEN = 2  # of the list, between two variants
MOST_SECONDS = 0.3  # of all, for variants, where a clock decides: the rest would have been spent without them
MOST_WORSE = 3  # variants of one kind in a row that lost against what they are variants of
PORTFOLIO = "portfolio"


class Variants:
    """Hands out a list in order, every third time a variant of what did best, then asks another optimizer.

    The first variant comes after four of the list. The kinds of variants take turns. Each time it is the best pipeline
    of the list that has no variant of the kind yet, among the better half of those that are done. A kind whose variants
    lost three times in a row against the pipelines that they vary is given up: the time goes to the list, as if there
    were no such kind. Where a clock decides, all variants take no more than three tenths of the seconds.

    Parameters
    ----------
    pipelines : sequence of Pipeline
        In the order in which they are tried.
    listed : collection of Pipeline
        Those that variants may be of: these, and what an interrupted run had tried of the list.
    kinds : sequence of str
    vary : callable
        ``vary(pipeline, kind)`` gives the variant, or None where there is none.
    then : Optimizer, or callable that gives one
        See `Portfolio`; it hears every result.
    timed : bool
        Whether ``seconds`` matter. Where trials are counted they must not.
    left : callable or None
        Told how many of the list are left, before each of them is handed out, once a trial has ended.
    """

    def __init__(
        self,
        pipelines: Sequence[Pipeline],
        listed: Collection[Pipeline],
        kinds: Sequence[str],
        vary: Callable[[Pipeline, str], Pipeline | None],
        then: Optimizer | Callable[[], Optimizer],
        *,
        timed: bool = False,
        left: Callable[[int], None] | None = None,
    ) -> None:
        self._waiting, self._listed = deque(dict.fromkeys(pipelines)), frozenset(listed)
        self._kinds, self._vary = deque(kinds), vary
        self._origins: dict[Pipeline, tuple[Pipeline, str]] = {}  # of the variants of what is done
        self._losses: dict[Pipeline, float] = {}
        self._worse = dict.fromkeys(kinds, 0)
        self._rest, self._hear = Portfolio((), then), left
        self._seen: set[Pipeline] = set()
        self._until_variant, self._has_heard = FIRST, False
        self._timed, self._seconds, self._of_variants = timed, 0.0, 0.0

    def ask(self) -> tuple[Pipeline, str]:
        """Return the next of the list, a variant, or what the other optimizer asks."""
        if self._until_variant <= 0 and (variant := self._next_variant()) is not None:
            return self._varied(variant)
        self._until_variant -= 1
        while self._waiting:
            pipeline = self._waiting.popleft()
            if pipeline not in self._seen:  # told before it was asked: a resumed run
                if self._hear is not None and self._has_heard:
                    self._hear(1 + sum(other not in self._seen for other in self._waiting))
                self._seen.add(pipeline)
                return pipeline, PORTFOLIO
        try:
            pipeline, origin = self._rest.ask()
            while pipeline in self._seen:  # handed out before and still running
                pipeline, origin = self._rest.ask()
        except SpaceExhausted:
            if (variant := self._next_variant()) is not None:
                return self._varied(variant)
            raise
        self._seen.add(pipeline)
        return pipeline, origin

    def _varied(self, variant: Pipeline) -> tuple[Pipeline, str]:
        self._until_variant = BETWEEN
        self._seen.add(variant)
        return variant, PORTFOLIO

    def _next_variant(self) -> Pipeline | None:
        """Return the variant of the next kind that has one to give."""
        is_dear = self._timed and self._of_variants > MOST_SECONDS * self._seconds
        if is_dear or not self._losses:
            return None
        good = median(self._losses.values())
        for _ in range(len(self._kinds)):
            kind = self._kinds[0]
            self._kinds.rotate(-1)
            losses = {
                variant: self._losses[origin]
                for variant, (origin, of_kind) in self._origins.items()
                if of_kind == kind and variant not in self._seen and self._losses[origin] <= good
            }
            if losses and self._worse[kind] < MOST_WORSE:
                return min(losses, key=losses.__getitem__)
        return None

    def tell(self, pipeline: Pipeline, loss: float | None, seconds: float) -> None:
        """Judge a variant by what it varies, and keep the result for the other optimizer."""
        self._seen.add(pipeline)
        self._has_heard = True
        self._rest.tell(pipeline, loss, seconds)
        self._seconds += seconds
        known = loss if loss is not None and math.isfinite(loss) else math.inf
        if pipeline in self._origins:
            self._of_variants += seconds
            origin, kind = self._origins[pipeline]
            self._worse[kind] = self._worse[kind] + 1 if known >= self._losses[origin] else 0
        elif known < math.inf and pipeline in self._listed:
            self._losses[pipeline] = known
            varied = {self._vary(pipeline, kind): (pipeline, kind) for kind in self._kinds}
            self._origins |= {variant: origin for variant, origin in varied.items() if variant is not None}
