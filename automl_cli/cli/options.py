"""Options that several commands share."""

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from automl_cli.errors import UsageError
from automl_cli.harmless import harmless

Json = Annotated[bool, typer.Option("--json", envvar="AUTOML_JSON", help="Print the result as JSON on stdout.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", envvar="AUTOML_QUIET", help="Say nothing but errors.")]
Debug = Annotated[bool, typer.Option("--debug", envvar="AUTOML_DEBUG", help="Show the traceback of an error.")]
Model = Annotated[Path, typer.Argument(metavar="MODEL", help="A model file written by automl fit.")]
Data = Annotated[str, typer.Argument(metavar="DATA", help="CSV or Parquet, also compressed; - is standard input.")]
Threads = Annotated[
    int | None, typer.Option("--threads", min=1, envvar="AUTOML_THREADS", help="Threads to predict with.")
]
Kinds = Annotated[
    list[str] | None,
    typer.Option("--kind", metavar="COLUMN=KIND", envvar="AUTOML_KIND", help="Read a column as this kind."),
]
Ignore = Annotated[
    list[str] | None, typer.Option("--ignore", metavar="COLUMN", envvar="AUTOML_IGNORE", help="Leave a column out.")
]


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


def print_json(data: Any) -> None:
    """Print one JSON document on stdout; numbers that are not finite become null."""
    import json

    typer.echo(harmless(json.dumps(_finite(data), indent=2, ensure_ascii=False, default=str)))


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
