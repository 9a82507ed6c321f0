"""Talk goes to stderr, answers to stdout; colour only where a person watches and wants it."""

import contextlib
import os
import sys
from collections.abc import Iterable
from typing import TextIO, cast

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from automl_cli.harmless import harmless

LOG_COLUMNS = 160


class Talk:
    """A stream whose reader may leave: what nobody hears must not end a fit."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write, or not."""
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush, or not."""
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)


class Screen(Console):
    """A console on which text cannot act: what tables and model files hold is shown, neither obeyed nor marked up."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Render as rich does, and take the sting out of all text; what rich itself tells the terminal stays."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=harmless(segment.text))


def make_console(*, answer: bool = False) -> Console:
    """Return a console on stderr, or on stdout for an answer; it obeys NO_COLOR and TERM=dumb.

    Parameters
    ----------
    answer : bool
        Whether what is printed is the command's result rather than talk about it.
    """
    plain = "NO_COLOR" in os.environ or os.environ.get("TERM") == "dumb"
    stream = sys.stdout if answer else sys.stderr
    # In a log or a pipe nobody's window is 80 columns wide. rich heeds the width only beside a height.
    wide = not (stream.isatty() or "COLUMNS" in os.environ)
    return Screen(
        width=LOG_COLUMNS if wide else None,
        height=50 if wide else None,
        file=sys.stdout if answer else cast(TextIO, Talk(sys.stderr)),
        highlight=False,
        markup=False,
        emoji=False,
        soft_wrap=True,
        no_color=plain or None,
    )
