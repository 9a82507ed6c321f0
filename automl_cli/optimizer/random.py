"""The yardstick: configurations drawn at random."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from automl_cli.optimizer.points import Points
from automl_cli.trial import Pipeline

if TYPE_CHECKING:
    from ConfigSpace import Configuration, ConfigurationSpace


class RandomSearch:
    """Proposes configurations drawn at random from the space.

    Parameters
    ----------
    space : ConfigurationSpace
        Copied, so that its own random state is left alone.
    to_pipeline : callable
        ``to_pipeline(configuration) -> Pipeline``.
    seed : int
        The same seed gives the same sequence, in any process.
    """

    def __init__(
        self, space: "ConfigurationSpace", to_pipeline: Callable[["Configuration"], Pipeline], *, seed: int
    ) -> None:
        self._points = Points(space, to_pipeline, seed)
        self._seen: set[Pipeline] = set()

    def ask(self) -> tuple[Pipeline, str]:
        """Return a random pipeline."""
        _, pipeline = self._points.unseen(self._seen)
        self._seen.add(pipeline)
        return pipeline, "random"

    def tell(self, pipeline: Pipeline, loss: float | None, seconds: float) -> None:
        """Remember only that the pipeline was tried."""
        self._seen.add(pipeline)
