"""Every error a user can meet, one tree; each class carries its exit code.

AutomlError                 1
├── NoSpace                 1
├── TooLarge                1
├── UsageError              2
│   └── MissingExtra        2
├── BadData                 3
│   ├── TargetNotFound      3
│   └── SchemaMismatch      3
├── NoModel                 4
│   └── LimitNotMet         4
├── Locked                  5
└── BadArtifact             6
"""

from typing import ClassVar


class AutomlError(Exception):
    """A failure that the user can act on.

    Parameters
    ----------
    problem : str
        What is wrong and where, in one line, without a full stop.
    hint : str
        What to do next; empty where the problem says it.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, problem: str, *, hint: str = "") -> None:
        super().__init__(problem)
        self.problem = problem
        self.hint = hint

    def __str__(self) -> str:
        """Return the one line that is shown."""
        return f"{self.problem}: {self.hint}" if self.hint else self.problem


class NoSpace(AutomlError):
    """The disk, or a limit on it, is full."""


class TooLarge(AutomlError):
    """A file would be larger than it may be.

    Attributes
    ----------
    n_bytes : int
        What it would hold.
    """

    def __init__(self, problem: str, *, hint: str = "", n_bytes: int) -> None:
        super().__init__(problem, hint=hint)
        self.n_bytes = n_bytes


class UsageError(AutomlError):
    """Options that do not fit together or name something that does not exist."""

    exit_code = 2


class MissingExtra(UsageError):
    """An option needs a package that is not installed."""


class BadData(AutomlError):
    """The data cannot be read or cannot be learned from."""

    exit_code = 3


class TargetNotFound(BadData):
    """The target column is not in the table."""


class SchemaMismatch(BadData):
    """The table at prediction does not fit the one at training."""


class NoModel(AutomlError):
    """No pipeline could be fitted within the limit."""

    exit_code = 4


class LimitNotMet(NoModel):
    """There are models, but none within the limits on size and time per row; the run can go on with others."""


class Locked(AutomlError):
    """Another run holds the output."""

    exit_code = 5


class BadArtifact(AutomlError):
    """The model file is missing, damaged, cut, foreign or not trusted."""

    exit_code = 6
