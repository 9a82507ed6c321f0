"""What is known to be good comes first, in order."""

from collections import deque
from collections.abc import Callable, Sequence

from automl_cli.optimizer.asktell import Optimizer
from automl_cli.trial import Pipeline


class Portfolio:
    """Hands out an ordered list first, then what another optimizer asks; that one hears every result.

    Parameters
    ----------
    pipelines : sequence of Pipeline
        In the order in which they are tried; a repeated one is handed out once.
    then : Optimizer, or callable that gives one
        Called once, when the list has come to its end; what was told before then is told to it in the same order. A
        callable lets SMAC load in another thread while the list is tried: ``then=thread_future.result``.
    origin : str
        What its proposals are said to come from.
    until : callable or None
        Says when the rest of the list is left to the other optimizer.
    left : callable or None
        Told how many of the list are left, before each of them is handed out, once a trial has ended.

    Examples
    --------
    >>> class Nothing:
    ...     def ask(self): raise SpaceExhausted
    ...     def tell(self, pipeline, loss, seconds): pass
    >>> portfolio = Portfolio([Pipeline("linear", "one_hot", {"C": 1.0})], Nothing())
    >>> pipeline, origin = portfolio.ask()
    >>> pipeline.family, origin
    ('linear', 'portfolio')
    """

    def __init__(
        self,
        pipelines: Sequence[Pipeline],
        then: Optimizer | Callable[[], Optimizer],
        *,
        origin: str = "portfolio",
        until: Callable[[], bool] | None = None,
        left: Callable[[int], None] | None = None,
    ) -> None:
        self._origin, self._until, self._left = origin, until, left
        self._waiting = deque(dict.fromkeys(pipelines))
        self._start: Callable[[], Optimizer] = then if callable(then) else lambda: then
        self._then: Optimizer | None = None
        self._seen: set[Pipeline] = set()
        self._has_heard = False
        self._told: list[tuple[Pipeline, float | None, float]] = []

    def ask(self) -> tuple[Pipeline, str]:
        """Return the next of the list, or what the other optimizer asks."""
        while self._waiting and not (self._until is not None and self._until()):
            pipeline = self._waiting.popleft()
            if pipeline not in self._seen:  # told before it was asked: a resumed run
                if self._left is not None and self._has_heard:
                    self._left(1 + sum(other not in self._seen for other in self._waiting))
                self._seen.add(pipeline)
                return pipeline, self._origin
        then = self._started()
        pipeline, origin = then.ask()
        while pipeline in self._seen:  # handed out from the list and still running
            pipeline, origin = then.ask()
        self._seen.add(pipeline)
        return pipeline, origin

    def tell(self, pipeline: Pipeline, loss: float | None, seconds: float) -> None:
        """Keep the result for the other optimizer, or hand it on if that one has started."""
        self._seen.add(pipeline)
        self._has_heard = True
        if self._then is None:
            self._told.append((pipeline, loss, seconds))
        else:
            self._then.tell(pipeline, loss, seconds)

    def _started(self) -> Optimizer:
        if self._then is None:
            self._then = self._start()
            for result in self._told:
                self._then.tell(*result)
            self._told.clear()
        return self._then
