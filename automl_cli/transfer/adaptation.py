"""How a pipeline uses other rows than the labelled ones, by a name added to its encoding: ``native:pooled``.

An encoding without such a name learns from the target's rows alone. So the search chooses between ways of transfer as
it chooses between encodings, and none of them is ever the only candidate.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from automl_cli.metrics import TaskKind  # opening a model imports no numpy

POOLED = "pooled"
"""Source rows are training rows."""
BALANCED = "balanced"
"""Source rows are training rows that together weigh as much as the target's."""
WEIGHTED = "weighted"
"""Source rows are training rows that weigh more where the target has rows; see `automl_cli.transfer.density`."""
FEATURE = "feature"
"""The outputs of a model of the source are columns."""
OFFSET = "offset"
"""What is learned is the difference to a model of the source, recalibrated on the target."""

SHARED = "shared"
"""What was learned of all rows without looking at a label is in columns; see `automl_cli.shared`."""
SELFTRAIN = "selftrain"
"""Rows without labels get the model's own, the surest first; see `automl_cli.unlabelled`."""

WITH_ROWS = frozenset({POOLED, BALANCED, WEIGHTED})
WITH_OUTPUTS = frozenset({FEATURE, OFFSET})
ADAPTATIONS = (POOLED, BALANCED, FEATURE, OFFSET, WEIGHTED)
"""All of them, what pays most often first; see docs/transfer.md."""
WITHOUT_LABELS = (SHARED, SELFTRAIN)
"""Those that ask for rows without labels in place of a source."""
MOST_SHARED = 1000  # numeric columns: directions take the cube of them
SHIFTED_ALIKE = frozenset({"rmse", "mae", "r2"})
"""Metrics of which a difference says as much as the values themselves."""


def split_name(encoding: str) -> tuple[str, str]:
    """Return an encoding's own name and the adaptation, which is empty where only the target counts.

    >>> split_name("native:pooled"), split_name("native")
    (('native', 'pooled'), ('native', ''))
    """
    base, _, adaptation = encoding.partition(":")
    return base, adaptation


def rows_of(encoding: str) -> str:
    """Return the encoding by what its rows look like: those of several adaptations are the same.

    >>> rows_of("native:weighted"), rows_of("native:offset"), rows_of("native")
    ('native:pooled', 'native:feature', 'native')
    """
    base, adaptation = split_name(encoding)
    if adaptation in ("", SELFTRAIN):
        return base
    return f"{base}:{POOLED if adaptation in WITH_ROWS else FEATURE if adaptation in WITH_OUTPUTS else adaptation}"


def encoder_of(encoding: str) -> str:
    """Return the encoding by what a saved encoder is: rows of a source leave no trace in it.

    >>> encoder_of("native:weighted"), encoder_of("native:offset")
    ('native', 'native:feature')
    """
    rows = rows_of(encoding)
    return rows.partition(":")[0] if rows.endswith(f":{POOLED}") else rows


def adaptations(kind: "TaskKind", metric: str, *, rows: bool, outputs: bool = True) -> tuple[str, ...]:
    """Return the adaptations that a search may choose from.

    Parameters
    ----------
    rows, outputs : bool
        Whether there are rows of a source, and a model of it.
    """
    offset = kind == "regression" and metric in SHIFTED_ALIKE
    there = {
        **dict.fromkeys(WITH_ROWS, rows),
        FEATURE: outputs,
        OFFSET: outputs and offset,
    }
    return tuple(name for name in ADAPTATIONS if there[name])


def without_labels(kind: "TaskKind", *, n_numeric: int, n_categorical: int) -> tuple[str, ...]:
    """Return the adaptations that a search may choose from where there are rows without labels.

    Parameters
    ----------
    n_numeric, n_categorical : int
        Columns of the table.
    """
    there = {
        SHARED: (n_numeric > 1 or n_categorical > 0) and n_numeric <= MOST_SHARED,
        SELFTRAIN: kind != "regression",
    }
    return tuple(name for name in WITHOUT_LABELS if there[name])


def with_adaptations(encodings: Sequence[str], chosen: Sequence[str]) -> tuple[str, ...]:
    """Return the encodings, then each with each adaptation.

    >>> with_adaptations(["native"], ["pooled"])
    ('native', 'native:pooled')
    """
    return (*encodings, *(f"{encoding}:{name}" for name in chosen for encoding in encodings))
