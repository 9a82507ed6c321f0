"""``automl predict``: apply a model to new rows."""

import csv
import sys
from pathlib import Path
from typing import Annotated

import typer

from automl_cli.cli.options import Data, Debug, Explain, Model, Quiet, Threads, parse_explain
from automl_cli.cli.settings import check_settings
from automl_cli.errors import UsageError


def predict(
    context: typer.Context,
    model: Model,
    data: Data,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="The CSV to write. Default: standard output."),
    ] = None,
    proba: Annotated[
        bool, typer.Option("--proba", envvar="AUTOML_PROBA", help="Add a column with the probability of each class.")
    ] = False,
    columns: Annotated[
        str,
        typer.Option(
            "--columns", metavar="A,B", envvar="AUTOML_COLUMNS", help="Columns of the data to repeat in front."
        ),
    ] = "",
    threshold: Annotated[
        float | None,
        typer.Option(
            "--threshold",
            min=0.0,
            max=1.0,
            envvar="AUTOML_THRESHOLD",
            help="Least probability for the positive class. Default: what the model learned for its metric.",
        ),
    ] = None,
    strict: Annotated[
        bool,
        typer.Option(
            "--strict", envvar="AUTOML_STRICT", help="Refuse rows that are unlike the training, with exit code 3."
        ),
    ] = False,
    allow_missing: Annotated[
        bool,
        typer.Option(
            "--allow-missing", envvar="AUTOML_ALLOW_MISSING", help="Take columns that are missing for empty ones."
        ),
    ] = False,
    explain: Explain = None,
    threads: Threads = None,
    quiet: Quiet = False,
    debug: Debug = False,
) -> int:
    """Predict every row of a file and write CSV."""
    check_settings(context)
    n_reasons = parse_explain(explain)
    from automl_cli.files import check_writable, refuse_to_overwrite, write_whole

    if out is not None and str(out) != "-":
        check_writable(out)
        refuse_to_overwrite(out, [model, Path(data)])
    from automl_cli.lean import arrow_without_pandas

    arrow_without_pandas()
    from automl_cli.console.tell import tell_notices
    from automl_cli.machine import usable_cores
    from automl_cli.prediction import predict as run_predict
    from automl_cli.table import write_csv

    carry = [name for name in next(csv.reader([columns]), []) if name]
    if strict and allow_missing:
        raise UsageError("--strict refuses what --allow-missing allows", hint="give one of them")
    answer = run_predict(
        model,
        data,
        proba=proba,
        carry=carry,
        threads=threads or usable_cores(),
        threshold=threshold,
        strict=strict,
        fill=allow_missing,
        explain=n_reasons,
    )
    if not quiet:
        tell_notices(answer.notices)
        if answer.explained:
            typer.echo(answer.explained, err=True)
    if out is None or str(out) == "-":
        write_csv(answer.columns, sys.stdout.buffer)
        sys.stdout.buffer.flush()
        return 0
    with write_whole(out) as file:
        write_csv(answer.columns, file)
    if not quiet:
        typer.echo(f"{answer.n_rows:,} predictions written to {out}", err=True)
    return 0
