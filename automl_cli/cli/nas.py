"""``automl nas``: find a network for a table."""

from pathlib import Path
from typing import Annotated

import typer

from automl_cli.cli.fit import begin_imports, run_fit, stem_of
from automl_cli.cli.options import (
    DEFAULT_TIME,
    Data,
    Debug,
    Json,
    MetricName,
    Out,
    Quiet,
    Strategy,
    Target,
    Task,
    Time,
    say,
)
from automl_cli.cli.settings import check_settings, parse_seconds
from automl_cli.clock import Deadline, process_age


def nas(
    context: typer.Context,
    data: Data,
    target: Target,
    time: Time = None,
    trials: Annotated[
        int | None,
        typer.Option("--trials", min=1, envvar="AUTOML_TRIALS", help="End after so many networks."),
    ] = None,
    out: Out = None,
    nas: Annotated[
        Strategy,
        typer.Option("--nas", envvar="AUTOML_NAS", help="How networks are searched; auto shares the time among all."),
    ] = Strategy.AUTO,
    task: Task = None,
    metric: MetricName = None,
    seed: Annotated[int, typer.Option("--seed", min=0, envvar="AUTOML_SEED", help="Chance of folds and networks.")] = 0,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> int:
    """Search networks for a table within a time limit, draw the best one and save them as one model file."""
    check_settings(context)
    if time is None and trials is None:
        time = DEFAULT_TIME
        if not quiet:
            say(f"no --time given: {DEFAULT_TIME} it is")
    seconds = None if time is None else parse_seconds(time)
    deadline = Deadline.after(seconds, elapsed=process_age())
    begin_imports(local=True)
    from automl_cli.metrics import TaskKind
    from automl_cli.neural import NEURAL
    from automl_cli.options import FitOptions

    options = FitOptions(
        data=data,
        target=target,
        out=out or Path(stem_of(data) + ".automl"),
        seconds=seconds,
        n_trials=trials,
        task=None if task is None else TaskKind(task),
        metric=metric,
        seed=seed,
        include=(NEURAL,),
        nas=str(nas),
    )
    code = run_fit(options, deadline, quiet=quiet, json=json, explain=False)
    if not (quiet or json):
        from automl_cli.artifact import open_artifact
        from automl_cli.console.drawing import tell_networks

        with open_artifact(options.out) as artifact:
            tell_networks(artifact.manifest, most=1)
    return code
