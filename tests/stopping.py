"""A fit that is told to stop once its first trial has ended."""

import os
import signal
from collections.abc import Callable, Iterator

from automl_cli.events import Event
from automl_cli.search import Finished


def stopped(fit: Callable[..., Iterator[Event]]) -> Callable[..., Iterator[Event]]:
    """Return a fit that sends its own process SIGTERM, once: twice would end the process at once."""

    def run(*arguments: object, **more: object) -> Iterator[Event]:
        told = False
        for event in fit(*arguments, **more):
            yield event
            if isinstance(event, Finished) and not told:
                told = True
                os.kill(os.getpid(), signal.SIGTERM)

    return run
