"""Several lists of pipelines, shared out by what their best has reached: ways of using another table."""

from collections.abc import Callable, Mapping, Sequence

from automl_cli.optimizer.asktell import Optimizer, SpaceExhausted
from automl_cli.optimizer.bandit import Bandit
from automl_cli.optimizer.portfolio import Portfolio
from automl_cli.trial import Pipeline

PORTFOLIO = "portfolio"


class _List:
    """Hands out what was never handed out, in order."""

    def __init__(self, pipelines: Sequence[Pipeline], seen: set[Pipeline]) -> None:
        self._waiting = list(dict.fromkeys(reversed(pipelines)))
        self._seen = seen

    def ask(self) -> tuple[Pipeline, str]:
        while self._waiting:
            pipeline = self._waiting.pop()
            if pipeline not in self._seen:
                self._seen.add(pipeline)
                return pipeline, PORTFOLIO
        raise SpaceExhausted("the list has come to its end")

    def tell(self, pipeline: Pipeline, loss: float | None, seconds: float) -> None:
        self._seen.add(pipeline)


class Ways:
    """Hands out portfolios of several ways, a bandit among them, and after so many what another optimizer asks.

    Each way is tried once, in the order given; then those come first whose best loss is lowest, and each of the others
    again now and then, the cheap ones more often where a clock decides.

    Parameters
    ----------
    lists : mapping of way to sequence of Pipeline
    way_of : callable
        Tells a pipeline's way.
    most : int
        Pipelines of the lists that are handed out in all.
    then : Optimizer, or callable that gives one
        See `Portfolio`; it hears every result.
    left : callable or None
        Told how many of the lists are left, before each of them is handed out, once a trial has ended.
    """

    def __init__(
        self,
        lists: Mapping[str, Sequence[Pipeline]],
        way_of: Callable[[Pipeline], str],
        most: int,
        then: Optimizer | Callable[[], Optimizer],
        *,
        timed: bool = False,
        left: Callable[[int], None] | None = None,
    ) -> None:
        self._hear, self._has_heard = left, False
        self._seen: set[Pipeline] = set()
        self._bandit = Bandit(
            {way: _List(pipelines, self._seen) for way, pipelines in lists.items()}, timed=timed, arm_of=way_of
        )
        self._left = most
        self._rest = Portfolio((), then)

    def ask(self) -> tuple[Pipeline, str]:
        """Return the next of some list, or what the other optimizer asks."""
        if self._left > 0:
            if self._hear is not None and self._has_heard:
                self._hear(self._left)
            self._left -= 1
            try:
                return self._bandit.ask()
            except SpaceExhausted:
                self._left = 0
        pipeline, origin = self._rest.ask()
        while pipeline in self._seen:  # handed out from a list and still running
            pipeline, origin = self._rest.ask()
        self._seen.add(pipeline)
        return pipeline, origin

    def tell(self, pipeline: Pipeline, loss: float | None, seconds: float) -> None:
        """Credit the pipeline's way, and keep the result for the other optimizer."""
        self._seen.add(pipeline)
        self._has_heard = True
        self._bandit.tell(pipeline, loss, seconds)
        self._rest.tell(pipeline, loss, seconds)
