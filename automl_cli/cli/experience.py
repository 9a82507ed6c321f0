"""``automl experience``: what past runs left, and how it is carried about."""

from pathlib import Path
from typing import Annotated, Any

import typer

from automl_cli.cli.options import Debug, Json, Quiet, print_json, say
from automl_cli.cli.settings import parse_seconds
from automl_cli.errors import UsageError

app = typer.Typer(invoke_without_command=True)

Where = Annotated[
    str | None,
    typer.Option(
        "--experience",
        metavar="PATH|URL",
        envvar="AUTOML_EXPERIENCE",
        help="A SQLite file, or postgresql://USER@HOST/NAME. Default: a file in your data folder.",
    ),
]
Wanted = Annotated[str, typer.Argument(metavar="DATASET", help="Its name, #number or the start of its fingerprint.")]


@app.callback()
def commands(context: typer.Context) -> None:
    """Show, carry and forget what past runs measured."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def _url(where: str | None) -> str:
    from automl_cli.experience.address import find_url

    url = find_url(where)
    if url is None:
        raise UsageError("the experience is switched off", hint="name one with --experience")
    return url


@app.command("path")
def path(where: Where = None, debug: Debug = False) -> int:
    """Print where the experience lies."""
    from automl_cli.experience.address import shown

    typer.echo(shown(_url(where)))
    return 0


@app.command("list")
def list_datasets(where: Where = None, json: Json = False, debug: Debug = False) -> int:
    """List the tables that were met, the latest first."""
    from automl_cli.experience.access import listed, open_store, reading

    with reading(open_store(_url(where), create_missing=False)) as connection:
        found = listed(connection)
    if json:
        print_json([vars(item) for item in found])
    else:
        from automl_cli.console.memories import tell_datasets

        tell_datasets(found)
    return 0


@app.command("show")
def show(dataset: Wanted, where: Where = None, json: Json = False, debug: Debug = False) -> int:
    """Show the runs on one table and what did best."""
    from automl_cli.experience.access import find_dataset, open_store, reading, runs_on

    with reading(open_store(_url(where), create_missing=False)) as connection:
        found = [(item, runs_on(connection, item.id)) for item in find_dataset(connection, dataset)]
    if json:
        print_json([{**vars(item), "runs": runs} for item, runs in found])
    else:
        from automl_cli.console.memories import tell_runs

        for item, runs in found:
            tell_runs(item, runs)
    return 0


@app.command("stats")
def stats(where: Where = None, json: Json = False, debug: Debug = False) -> int:
    """Count what is remembered, and what comes with the program."""
    from automl_cli.experience.access import open_prior, open_store, path_of, reading, shown, totals

    url = _url(where)
    file = path_of(url)
    own = (0, 0, 0)
    if file is None or file.exists():
        with reading(open_store(url, create_missing=False)) as connection:
            own = totals(connection)
    prior = open_prior()
    shipped = (0, 0, 0)
    if prior is not None:
        with reading(prior) as connection:
            shipped = totals(connection)
    data: dict[str, Any] = {
        "path": shown(url),
        "datasets_prior": shipped[0],
        "trials_prior": shipped[2],
        "datasets_own": own[0],
        "runs": own[1],
        "trials": own[2],
        "bytes": file.stat().st_size if file is not None and file.exists() else 0,
    }
    if json:
        print_json(data)
    else:
        from automl_cli.console.memories import tell_stats

        tell_stats(data)
    return 0


@app.command("export")
def export_runs(
    file: Annotated[Path, typer.Argument(help="Lines of JSON; packed where the name ends in .gz.")],
    where: Where = None,
    quiet: Quiet = False,
    debug: Debug = False,
) -> int:
    """Write all runs into a file, without anything that says what the tables or columns are called."""
    from automl_cli.experience.access import export, open_store

    n_runs = export(open_store(_url(where), create_missing=False), file)
    _say(f"{n_runs:,} runs written to {file}", quiet)
    return 0


@app.command("import")
def import_runs(
    file: Annotated[Path, typer.Argument(help="What automl experience export wrote.")],
    where: Where = None,
    quiet: Quiet = False,
    debug: Debug = False,
) -> int:
    """Add the runs of an exported file; all of them, or none where a line is damaged."""
    from automl_cli.experience.access import open_store, take_in

    new, n_runs = take_in(open_store(_url(where)), file)
    _say(f"{new:,} of {n_runs:,} runs were new", quiet)
    return 0


@app.command("merge")
def merge_stores(
    other: Annotated[str, typer.Argument(metavar="PATH|URL", help="Another store; it stays as it is.")],
    where: Where = None,
    quiet: Quiet = False,
    debug: Debug = False,
) -> int:
    """Add another store's runs to this one."""
    from automl_cli.experience.access import merge, open_store

    source = open_store(_url(other), create_missing=False)
    new, n_runs = merge(open_store(_url(where)), source)
    _say(f"{new:,} of {n_runs:,} runs were new", quiet)
    return 0


@app.command("forget")
def forget_dataset(dataset: Wanted, where: Where = None, quiet: Quiet = False, debug: Debug = False) -> int:
    """Remove a table and all runs on it."""
    from automl_cli.experience.access import find_dataset, forget, forget_waiting, open_store, writing

    url = _url(where)
    with writing(open_store(url, create_missing=False)) as connection:
        found = find_dataset(connection, dataset)
        if len(found) > 1:
            numbers = ", ".join(f"#{item.id}" for item in found)
            raise UsageError(f"{len(found)} datasets are called {dataset!r}", hint=f"choose one of {numbers}")
        n_trials = forget(connection, [found[0].id])
    forget_waiting(url, found[0].fingerprint)  # else the next run would take them in
    _say(f"{found[0].name} is forgotten with {n_trials:,} trials", quiet)
    return 0


@app.command("build")
def build_experience(
    folder: Annotated[Path, typer.Argument(help="Tables as .csv, .csv.gz, .tsv or .parquet, with an index.json.")],
    where: Where = None,
    target: Annotated[
        str | None, typer.Option("--target", "-t", help="The column to predict, where no index.json says it.")
    ] = None,
    name: Annotated[
        list[str] | None, typer.Option("--name", metavar="TABLE", help="Only this table; may be repeated.")
    ] = None,
    time: Annotated[
        str | None, typer.Option("--time", metavar="60s|10m|2h", help="Stop after so long; go on the next time.")
    ] = None,
    trial_time: Annotated[
        str, typer.Option("--trial-time", metavar="6s", help="Limit of one candidate on one table.")
    ] = "6s",
    workers: Annotated[int | None, typer.Option("--workers", min=1, help="Trials side by side.")] = None,
    quiet: Quiet = False,
    debug: Debug = False,
) -> int:
    """Measure many pipelines on every table of a folder; stopped, it goes on where it was."""
    from automl_cli.archive import build, find_tables
    from automl_cli.cli.signals import Interrupts
    from automl_cli.clock import Deadline
    from automl_cli.console.memories import tell_measured

    tables = find_tables(folder, target=target, names=tuple(name or ()))
    deadline = Deadline.after(None if time is None else parse_seconds(time))
    with Interrupts() as interrupts:
        steps = build(
            tables,
            _url(where),
            deadline=deadline,
            interrupted=interrupts.seen,
            workers=workers,
            trial_seconds=parse_seconds(trial_time),
        )
        for step in steps:
            if not quiet or step.problem:
                tell_measured(step)
    return interrupts.exit_code


def _say(text: str, quiet: bool) -> None:
    if not quiet:
        say(text)
