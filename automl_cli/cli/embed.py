"""``automl embed``: rows as numbers that no label was needed for."""

from pathlib import Path
from typing import Annotated

import typer

from automl_cli.cli.options import Data, Debug, Ignore, Json, Kinds, Quiet, parse_kinds, print_json, say
from automl_cli.cli.predict import names_of, opened, refuse_other_forms
from automl_cli.cli.settings import check_settings
from automl_cli.errors import UsageError


def embed(
    context: typer.Context,
    data: Data,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="The CSV to write. Default: standard output.")] = None,
    apply: Annotated[
        list[str] | None,
        typer.Option(
            "--apply",
            metavar="FILE",
            envvar="AUTOML_APPLY",
            help="Embed these rows in place of those that are learned from; repeatable.",
        ),
    ] = None,
    target: Annotated[
        str | None, typer.Option("--target", "-t", envvar="AUTOML_TARGET", help="A column that is not looked at.")
    ] = None,
    clusters: Annotated[
        int, typer.Option("--clusters", min=1, max=1000, envvar="AUTOML_CLUSTERS", help="How many clusters, at most.")
    ] = 8,
    columns: Annotated[
        str,
        typer.Option(
            "--columns",
            metavar="A,B",
            envvar="AUTOML_COLUMNS",
            help="Columns of the data to repeat in front; nothing is learned from them.",
        ),
    ] = "",
    every: Annotated[
        bool,
        typer.Option("--all", envvar="AUTOML_ALL", help="Add ranks of numbers and frequencies of categories."),
    ] = False,
    seed: Annotated[int, typer.Option("--seed", min=0, envvar="AUTOML_SEED", help="Chance of what is learned.")] = 0,
    kind: Kinds = None,
    ignore: Ignore = None,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> int:
    """Write each row's cluster, its place among the others, and how strange it is."""
    check_settings(context)
    from automl_cli.files import check_writable, refuse_to_overwrite

    written = out is not None and str(out) != "-"
    if json and not written:
        raise UsageError("--json and the rows cannot both go to standard output", hint="name a file with -o")
    if out is not None and written:
        refuse_other_forms(out)
        check_writable(out)
        refuse_to_overwrite(out, [Path(data), *map(Path, apply or ())])
    from automl_cli.lean import arrow_without_pandas

    arrow_without_pandas()
    from automl_cli.console.tell import tell_notices
    from automl_cli.embedding import EmbedOptions
    from automl_cli.embedding import embed as learn
    from automl_cli.table import csv_writer

    options = EmbedOptions(
        source=data,
        apply=tuple(apply or ()),
        target=target,
        n_clusters=clusters,
        carry=names_of(columns),
        every=every,
        seed=seed,
        kinds=parse_kinds(kind or ()),
        ignore=tuple(ignore or ()),
    )
    embedded = learn(options)
    with opened(out, whole=False) as file:
        write = csv_writer(file)
        for block in embedded.blocks():
            write(block)
    if not quiet:
        tell_notices(embedded.notices)
        if written:
            say(f"{embedded.n_rows:,} rows in {len(embedded.names)} columns written to {out}")
    if json:
        print_json(embedded.to_json())
    return 0
