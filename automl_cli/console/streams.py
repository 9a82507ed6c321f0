"""Talk goes to stderr, answers to stdout; colour only where a person watches and wants it."""

import os
import sys

from rich.console import Console


def make_console(*, answer: bool = False) -> Console:
    """Return a console on stderr, or on stdout for an answer; it obeys NO_COLOR and TERM=dumb.

    Parameters
    ----------
    answer : bool
        Whether what is printed is the command's result rather than talk about it.
    """
    plain = "NO_COLOR" in os.environ or os.environ.get("TERM") == "dumb"
    return Console(file=sys.stdout if answer else sys.stderr, highlight=False, soft_wrap=True, no_color=plain or None)
