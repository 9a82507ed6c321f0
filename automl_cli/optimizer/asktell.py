"""What every optimizer is: something to ask for a pipeline and to tell its loss."""

from typing import Protocol

from automl_cli.trial import Pipeline


class SpaceExhausted(Exception):  # noqa: N818 - the end of a search, not an error
    """Every configuration that could be found in the space has been handed out."""


class Optimizer(Protocol):
    """Proposes pipelines and learns from their losses. Not for use from two threads at once."""

    def ask(self) -> tuple[Pipeline, str]:
        """Return a pipeline that was never handed out before and its origin: "portfolio", "smac", "random" ...

        Raises
        ------
        SpaceExhausted
            If nothing new is left in a finite space.
        """
        ...

    def tell(self, pipeline: Pipeline, loss: float | None, seconds: float) -> None:
        """Learn that ``pipeline`` reached ``loss`` (0 is best; None: it failed) after ``seconds``.

        The pipeline need not have been asked for: that is how a resumed run and a warm start begin.
        """
        ...
