"""``automl predict``: apply a model to new rows."""

import contextlib
import csv
import io
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, BinaryIO, cast

import typer

from automl_cli.cli.options import (
    Data,
    Debug,
    Explain,
    Model,
    Quiet,
    RequireSignature,
    Threads,
    parse_explain,
    say,
    trusted_by,
)
from automl_cli.cli.settings import check_settings
from automl_cli.errors import UsageError

OTHER_FORMS = (".gz", ".bz2", ".xz", ".zst", ".zip", ".parquet")
SPOOLED_BYTES = 64 << 20  # of an output that is written as a whole, before it goes to a temporary file


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
    require_signature: RequireSignature = None,
    quiet: Quiet = False,
    debug: Debug = False,
) -> int:
    """Predict every row of a file and write CSV."""
    check_settings(context)
    trusted, n_reasons = trusted_by(require_signature), parse_explain(explain)
    from automl_cli.files import check_writable, refuse_to_overwrite

    if out is not None and str(out) != "-":
        refuse_other_forms(out)
        check_writable(out)
        refuse_to_overwrite(out, [model, Path(data), *filter(None, [require_signature])])
    from automl_cli.lean import arrow_without_pandas
    from automl_cli.machine import keep_memory, usable_cores

    keep_memory()
    arrow_without_pandas()
    from automl_cli.prediction import Asked, predict_into
    from automl_cli.table import csv_writer

    if strict and allow_missing:
        raise UsageError("--strict refuses what --allow-missing allows", hint="give one of them")
    carry = names_of(columns)
    asked = Asked(proba, carry, threshold, strict, fill=allow_missing, n_reasons=n_reasons)
    threads = threads or usable_cores()
    with opened(out, whole=strict) as file:
        done = predict_into(csv_writer(file), model, data, asked, threads=threads, trusted=trusted)
    if not quiet:
        if done.notices:
            from automl_cli.console.tell import tell_notices

            tell_notices(done.notices)
        if done.explained:
            say(done.explained)
        if out is not None and str(out) != "-":
            say(f"{done.n_rows:,} predictions written to {out}")
    return 0


def names_of(columns: str) -> tuple[str, ...]:
    """Read names as a line of CSV; one that holds a comma or a line break stands in quotes."""
    try:
        return tuple(name for row in csv.reader(io.StringIO(columns, newline="")) for name in row if name)
    except csv.Error as error:
        raise UsageError(f"--columns cannot be read ({error})", hint='put a name with a comma in "') from error


def refuse_other_forms(out: Path) -> None:
    """Refuse the name of a packed file or a Parquet file: no reader would take CSV for it.

    Raises
    ------
    UsageError
    """
    if out.suffix.lower() in OTHER_FORMS:
        plain = out.with_name(out.stem.removesuffix(".csv") + ".csv")
        raise UsageError(f"{out} is no name for what is written, which is CSV", hint=f"name it {plain}")


@contextlib.contextmanager
def opened(out: Path | None, *, whole: bool) -> Iterator[BinaryIO]:
    """Open the file to write, or standard output: there rows appear as they are predicted, unless all or none may."""
    from automl_cli.files import write_whole

    if out is not None and str(out) != "-":
        with write_whole(out) as file:
            yield file
    elif whole:
        with tempfile.SpooledTemporaryFile(SPOOLED_BYTES) as spool:
            yield cast(BinaryIO, spool)
            spool.seek(0)
            shutil.copyfileobj(spool, sys.stdout.buffer)
            sys.stdout.buffer.flush()
    else:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
