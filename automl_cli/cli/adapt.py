"""``automl adapt``: bring a saved model to new rows, without the table that it was made from."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from automl_cli.cli.fit import CHAMPION_KEPT, begin_imports, run_fit
from automl_cli.cli.options import (
    Data,
    Debug,
    Json,
    Model,
    Quiet,
    RequireSignature,
    Threads,
    print_json,
    say,
    trusted_by,
)
from automl_cli.cli.settings import check_settings, parse_seconds
from automl_cli.clock import Deadline, process_age
from automl_cli.errors import UsageError

if TYPE_CHECKING:
    from automl_cli.artifact import Artifact
    from automl_cli.table import Table

KEPT = CHAMPION_KEPT  # exit code: nothing was written
DEFAULT_TIME = "60s"


def adapt(
    context: typer.Context,
    model: Model,
    data: Data,
    out: Annotated[Path, typer.Option("--out", "-o", help="The adapted model; may be MODEL itself.")],
    time: Annotated[
        str | None,
        typer.Option(
            "--time",
            metavar="60s|10m|2h",
            envvar="AUTOML_TIME",
            help=f"Limit of the search, where rows have labels. Without it and --trials: {DEFAULT_TIME}.",
        ),
    ] = None,
    trials: Annotated[
        int | None,
        typer.Option("--trials", min=1, envvar="AUTOML_TRIALS", help="End the search after so many trials."),
    ] = None,
    seed: Annotated[
        int, typer.Option("--seed", min=0, envvar="AUTOML_SEED", help="Chance of folds, models and search.")
    ] = 0,
    sign_key: Annotated[
        Path | None,
        typer.Option(
            "--sign-key",
            metavar="KEYFILE",
            envvar="AUTOML_SIGN_KEY",
            help="Sign the adapted model with this private Ed25519 key; signatures of MODEL do not fit it.",
        ),
    ] = None,
    threads: Threads = None,
    require_signature: RequireSignature = None,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> int:
    """Adapt a model to new rows: by their labels, or else to the shares of the classes that the rows show."""
    check_settings(context)
    seconds = parse_seconds(time or DEFAULT_TIME) if time is not None or trials is None else None
    deadline = Deadline.after(seconds, elapsed=process_age())
    trusted = trusted_by(require_signature)
    from automl_cli.files import check_writable, is_stream, locked, refuse_to_overwrite

    check_writable(out, only_file=True)
    refuse_to_overwrite(out, [Path(data), *filter(None, [sign_key, require_signature])])
    from automl_cli.lean import arrow_without_pandas

    arrow_without_pandas()
    from automl_cli.artifact import open_artifact
    from automl_cli.options import FitOptions
    from automl_cli.readapting import fitted_alike, read_new_rows, telling_columns, unheeded
    from automl_cli.runs import output_lock
    from automl_cli.table import column_names

    # before the model is opened: another one that took its place meanwhile would be overwritten
    with locked(output_lock(out), str(out)), open_artifact(model, trusted) as artifact:
        table, labelled = read_new_rows(artifact, data)
        if not labelled:
            return _without_labels(artifact, table, out, threads=threads, sign_key=sign_key, quiet=quiet, json=json)
        manifest = artifact.manifest
    if is_stream(data):
        raise UsageError("rows with labels are read more than once", hint="save them to a file first")
    options = FitOptions(
        data=data,
        target=manifest.target,
        out=out,
        seconds=seconds,
        n_trials=trials,
        task=manifest.kind,
        metric=manifest.metric,
        positive=manifest.classes[-1] if len(manifest.classes) == 2 else None,
        seed=seed,
        sign_key=sign_key,
        source=(str(model),),
    )
    begin_imports(local=True)
    names = telling_columns(manifest, table, column_names(data))
    if not quiet:
        say(f"{data} has labels: a model of its rows is fitted, with {model} as its source")
        if out.exists() and out.samefile(model):
            say("keep a copy: as a source of later rows the new one serves less well than the one that it replaces")
        for sentence in unheeded(manifest, names):
            say(sentence)
    return run_fit(fitted_alike(options, manifest, names), deadline, quiet=quiet, json=json, explain=False)


def _without_labels(
    artifact: "Artifact",
    table: "Table",
    out: Path,
    *,
    threads: int | None,
    sign_key: Path | None,
    quiet: bool,
    json: bool,
) -> int:
    """Correct a classifier for other shares of the classes; exit code 7 where the rows do not ask for it."""
    import os

    from automl_cli.artifact import read_signer
    from automl_cli.console.shifts import tell_adapted
    from automl_cli.console.tell import tell_notices
    from automl_cli.machine import usable_cores
    from automl_cli.readapting import adapt_shares

    signer = None if sign_key is None else read_signer(sign_key, os.environ)
    found = adapt_shares(artifact, table, out, threads=threads or usable_cores(), signer=signer)
    if not quiet:
        tell_notices(found.notices)
        tell_adapted(found)
    if json:
        print_json(found.to_json())
    return 0 if found.out is not None else KEPT
