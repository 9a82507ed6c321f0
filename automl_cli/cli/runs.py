"""``automl runs``: what was fitted, what was cut off, and what takes up the disk."""

from pathlib import Path
from typing import Annotated

import typer

from automl_cli.cli.fit import begin_imports, run_fit
from automl_cli.cli.options import Debug, Json, Quiet, print_json, say
from automl_cli.cli.settings import parse_latency, parse_seconds, parse_size
from automl_cli.clock import Deadline, process_age
from automl_cli.errors import UsageError

app = typer.Typer(invoke_without_command=True)

Name = Annotated[str, typer.Argument(metavar="RUN", help="Its name, or the beginning of it.")]


@app.callback()
def commands(context: typer.Context) -> None:
    """List, resume and clear the folders that fits work in."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command("list")
def list_folders(json: Json = False, debug: Debug = False) -> int:
    """List runs, the latest first: running, interrupted, failed or done."""
    from automl_cli.runs import list_runs

    found = list_runs()
    if json:
        print_json([run.to_json() for run in found])
    else:
        from automl_cli.console.runlist import tell_runs

        tell_runs(found)
    return 0


@app.command("show")
def show(run: Name, json: Json = False, debug: Debug = False) -> int:
    """Show what a run was asked for, how far it came, and its best trials."""
    from automl_cli.runs import find_run
    from automl_cli.trial import Success, read_journal, trial_to_json

    found = find_run(run)
    trials = [trial for trial in read_journal(found.folder / "journal.jsonl") if isinstance(trial, Success)]
    best = sorted(trials, key=lambda trial: (not trial.complete, trial.loss))[:10]
    if json:
        print_json({**found.to_json(), "best": [trial_to_json(trial) for trial in best]})
    else:
        from automl_cli.console.runlist import tell_run

        tell_run(found, best)
    return 0


@app.command("resume")
def resume(
    run: Name,
    time: Annotated[
        str | None,
        typer.Option("--time", metavar="60s|10m|2h", help="Limit of this command. Default: the run's own, anew."),
    ] = None,
    max_size: Annotated[
        str | None,
        typer.Option("--max-size", metavar="10MB", help="Another limit of the file. Default: the run's own."),
    ] = None,
    max_latency: Annotated[
        str | None,
        typer.Option(
            "--max-latency", metavar="50us|1ms", help="Another limit of a row's time. Default: the run's own."
        ),
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> int:
    """Go on with an interrupted run, wherever this is typed."""
    from automl_cli.runs import find_run

    found = find_run(run)
    options = found.facts.get("options")
    if found.status != "interrupted" or not isinstance(options, dict):
        raise UsageError(f"run {found.name} is {found.status}", hint="only interrupted runs can go on")
    if options.get("data") == "-":
        raise UsageError(
            f"run {found.name} read its table from standard input", hint="repeat its command with --resume"
        )
    if not Path(options["data"]).exists():
        raise UsageError(f"{options['data']} is gone", hint="put it back")
    seconds = options.get("seconds") if time is None else parse_seconds(time)
    deadline = Deadline.after(seconds, elapsed=process_age())
    begin_imports(local=options.get("dask") is None)
    from automl_cli.options import FitOptions

    changed = {**options, "seconds": seconds, "resume": True, "run_dir": str(found.folder)}
    if max_size is not None:
        changed["max_bytes"] = parse_size(max_size)
    if max_latency is not None:
        changed["max_row_seconds"] = parse_latency(max_latency)
    return run_fit(FitOptions.from_json(changed), deadline, quiet=quiet, json=json, explain=False)


@app.command("clean")
def clean(
    interrupted: Annotated[
        bool, typer.Option("--interrupted", help="Also those that could be resumed: their trials are lost.")
    ] = False,
    older: Annotated[
        str | None, typer.Option("--older", metavar="12h|7d", help="Only those that began longer ago.")
    ] = None,
    quiet: Quiet = False,
    debug: Debug = False,
) -> int:
    """Remove what runs have left in your folder for them; models are not touched."""
    import time as clock

    from automl_cli.runs import list_runs, remove_run

    before = clock.time() - (0.0 if older is None else parse_seconds(older))
    gone = {"done", "failed", *(["interrupted"] if interrupted else [])}
    chosen = [run for run in list_runs() if run.status in gone and run.began <= before]
    removed = [run for run in chosen if remove_run(run)]
    if not quiet:
        n, n_bytes = len(removed), sum(run.n_bytes for run in removed)
        say(f"{n:,} run{'' if n == 1 else 's'} removed, {n_bytes / 1e6:.1f} MB")
    return 0
