"""Options that several commands share."""

import contextlib
import math
import re
import sys
from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from automl_cli.errors import UsageError
from automl_cli.harmless import harmless

if TYPE_CHECKING:
    from automl_cli.artifact import TrustedKeys

MOST_REASONS = 50
DEFAULT_TIME = "5m"


class TaskChoice(StrEnum):
    """The tasks that can be asked for."""

    BINARY = "binary"
    MULTICLASS = "multiclass"
    REGRESSION = "regression"


Target = Annotated[str, typer.Option("--target", "-t", envvar="AUTOML_TARGET", help="The column to predict.")]
Time = Annotated[
    str | None,
    typer.Option(
        "--time",
        metavar="60s|10m|2h",
        envvar="AUTOML_TIME",
        help=f"Limit of the whole command. Without it and --trials: {DEFAULT_TIME}.",
    ),
]
Out = Annotated[
    Path | None,
    typer.Option("--out", "-o", envvar="AUTOML_OUT", help="The model file. Default: <data stem>.automl here."),
]
Task = Annotated[TaskChoice | None, typer.Option("--task", envvar="AUTOML_TASK", help="Default: seen from the target.")]
MetricName = Annotated[
    str | None,
    typer.Option("--metric", envvar="AUTOML_METRIC", help="What to optimise. Default: roc_auc, log_loss or rmse."),
]
Json = Annotated[bool, typer.Option("--json", envvar="AUTOML_JSON", help="Print the result as JSON on stdout.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", envvar="AUTOML_QUIET", help="Say nothing but errors.")]
Debug = Annotated[bool, typer.Option("--debug", envvar="AUTOML_DEBUG", help="Show the traceback of an error.")]
Model = Annotated[Path, typer.Argument(metavar="MODEL", help="A model file written by automl fit.")]
Data = Annotated[str, typer.Argument(metavar="DATA", help="CSV or Parquet, also compressed; - is standard input.")]
Threads = Annotated[
    int | None, typer.Option("--threads", min=1, envvar="AUTOML_THREADS", help="Threads to predict with.")
]
RequireSignature = Annotated[
    Path | None,
    typer.Option(
        "--require-signature",
        metavar="KEYS",
        envvar="AUTOML_REQUIRE_SIGNATURE",
        help="Refuse a model that none of the public keys in this file has signed.",
    ),
]
Explain = Annotated[
    str | None,
    typer.Option(
        "--explain",
        metavar="topN",
        envvar="AUTOML_EXPLAIN",
        help="Add the N columns that contribute most to each prediction, such as top3.",
    ),
]
Kinds = Annotated[
    list[str] | None,
    typer.Option("--kind", metavar="COLUMN=KIND", envvar="AUTOML_KIND", help="Read a column as this kind."),
]
Ignore = Annotated[
    list[str] | None, typer.Option("--ignore", metavar="COLUMN", envvar="AUTOML_IGNORE", help="Leave a column out.")
]


def trusted_by(keys: Path | None) -> "TrustedKeys | None":
    """Read the keys of which one must have signed a model; None where anybody may have made it.

    Raises
    ------
    UsageError, MissingExtra
    """
    from automl_cli.artifact import read_trusted

    return None if keys is None else read_trusted(keys)


class Strategy(StrEnum):
    """How networks are searched."""

    AUTO = "auto"
    EVOLUTION = "evolution"
    MUTATION = "mutation"
    RANDOM = "random"
    REINFORCE = "reinforce"
    RECURRENT = "recurrent"


class StrategyOrOff(StrEnum):
    """The same, or not at all."""

    AUTO = "auto"
    EVOLUTION = "evolution"
    MUTATION = "mutation"
    RANDOM = "random"
    REINFORCE = "reinforce"
    RECURRENT = "recurrent"
    OFF = "off"


def parse_kinds(items: Iterable[str]) -> dict[str, Any]:
    """Read COLUMN=KIND pairs.

    Raises
    ------
    UsageError
        A pair without ``=``, or a kind that does not exist.
    """
    from automl_cli.table import Kind

    kinds = {}
    for item in items:
        column, sign, kind = item.rpartition("=")
        if not sign or kind not in list(Kind):
            raise UsageError(f"--kind {item!r} is not COLUMN=KIND", hint="kinds are " + ", ".join(Kind))
        kinds[column] = Kind(kind)
    return kinds


def parse_explain(text: str | None) -> int:
    """Read how many reasons each row gets; 0 where none were asked for.

    Raises
    ------
    UsageError
        It is not ``top`` and a number from 1 to 50.

    >>> parse_explain("top3"), parse_explain(None)
    (3, 0)
    """
    if text is None:
        return 0
    match = re.fullmatch("top([1-9][0-9]?)", text)
    if match is None or int(match[1]) > MOST_REASONS:
        raise UsageError(f"--explain {text!r} is not topN", hint=f"write top3; N goes from 1 to {MOST_REASONS}")
    return int(match[1])


def parse_parts(names: Iterable[str]) -> frozenset[Any]:
    """Read the names of parts that are left out.

    Raises
    ------
    UsageError
        There is no such part.

    >>> sorted(parse_parts(["racing"]))
    [<Part.RACING: 'racing'>]
    """
    from automl_cli.parts import Part

    names = tuple(names)
    for name in names:
        if name not in list(Part):
            raise UsageError(f"--without {name!r} is no part of the search", hint="parts are " + ", ".join(Part))
    return frozenset(Part(name) for name in names)


def say(text: str) -> None:
    """Say a line on stderr; where it cannot be written, what the command has done is done all the same."""
    with contextlib.suppress(OSError, ValueError):
        typer.echo(harmless(text), err=True)


def print_json(data: Any) -> None:
    """Print one JSON document on stdout; numbers that are not finite become null, letters that it lacks are escaped."""
    import json

    escaped = not (sys.stdout.encoding or "utf-8").lower().startswith("utf")
    typer.echo(harmless(json.dumps(_finite(data), indent=2, ensure_ascii=escaped, default=str)))


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
