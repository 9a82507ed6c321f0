"""``automl fit``: find a model for a table and save it."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from automl_cli.cli.options import (
    DEFAULT_TIME,
    Data,
    Debug,
    Ignore,
    Json,
    Kinds,
    MetricName,
    Out,
    Quiet,
    RequireSignature,
    StrategyOrOff,
    Target,
    Task,
    Time,
    parse_kinds,
    parse_parts,
    print_json,
    say,
)
from automl_cli.cli.settings import (
    check_settings,
    parse_bytes,
    parse_latency,
    parse_seconds,
    parse_size,
    parse_wait,
    settings_table,
)
from automl_cli.clock import Deadline, process_age
from automl_cli.errors import UsageError
from automl_cli.harmless import harmless

if TYPE_CHECKING:
    from automl_cli.options import FitOptions

CHAMPION_KEPT = 7  # exit code: the new model was not better


def fit(
    context: typer.Context,
    data: Data,
    target: Target,
    time: Time = None,
    trials: Annotated[
        int | None,
        typer.Option(
            "--trials",
            min=1,
            envvar="AUTOML_TRIALS",
            help="End after so many trials; without --time the result is reproducible.",
        ),
    ] = None,
    patience: Annotated[
        int | None,
        typer.Option(
            "--patience",
            min=1,
            envvar="AUTOML_PATIENCE",
            help="End early once so many trials in a row have not improved the model. Default: never.",
        ),
    ] = None,
    out: Out = None,
    champion: Annotated[
        Path | None,
        typer.Option(
            "--champion",
            metavar="MODEL",
            envvar="AUTOML_CHAMPION",
            help="In place of --out: replace this model only if the new one is better on rows that neither has seen.",
        ),
    ] = None,
    keep: Annotated[
        int,
        typer.Option(
            "--keep", min=0, max=99, envvar="AUTOML_KEEP", help="Replaced champions that stay, as MODEL.1 and so on."
        ),
    ] = 3,
    sign_key: Annotated[
        Path | None,
        typer.Option(
            "--sign-key",
            metavar="KEYFILE",
            envvar="AUTOML_SIGN_KEY",
            help="Sign the model with this private Ed25519 key before it takes its place.",
        ),
    ] = None,
    require_signature: RequireSignature = None,
    wait: Annotated[
        str | None,
        typer.Option(
            "--wait",
            metavar="60s|10m|2h",
            envvar="AUTOML_WAIT",
            help="Wait so long where another run writes the same model; the time counts.",
        ),
    ] = None,
    task: Task = None,
    metric: MetricName = None,
    positive: Annotated[
        str | None,
        typer.Option(
            "--positive",
            metavar="LABEL",
            envvar="AUTOML_POSITIVE",
            help="The positive class. Default: the last in order.",
        ),
    ] = None,
    seed: Annotated[
        int, typer.Option("--seed", min=0, envvar="AUTOML_SEED", help="Chance of folds, models and search.")
    ] = 0,
    workers: Annotated[
        int | None,
        typer.Option(
            "--workers", min=1, envvar="AUTOML_WORKERS", help="Trials side by side. Default: by cores and data."
        ),
    ] = None,
    memory: Annotated[
        str | None,
        typer.Option(
            "--memory",
            metavar="4GB",
            envvar="AUTOML_MEMORY",
            help="Limit of all processes together. Default: 85 % of the machine.",
        ),
    ] = None,
    include: Annotated[
        list[str] | None,
        typer.Option("--include", metavar="FAMILY", envvar="AUTOML_INCLUDE", help="Only these model families."),
    ] = None,
    exclude: Annotated[
        list[str] | None,
        typer.Option("--exclude", metavar="FAMILY", envvar="AUTOML_EXCLUDE", help="Not these model families."),
    ] = None,
    folds: Annotated[
        int | None, typer.Option("--folds", min=2, max=20, envvar="AUTOML_FOLDS", help="Default: by rows and time.")
    ] = None,
    nas: Annotated[
        StrategyOrOff | None,
        typer.Option(
            "--nas",
            envvar="AUTOML_NAS",
            help="Search networks this way too, or not at all (off). Default: where torch and three minutes are there.",
        ),
    ] = None,
    kind: Kinds = None,
    ignore: Ignore = None,
    weight_column: Annotated[
        str | None, typer.Option("--weight-column", envvar="AUTOML_WEIGHT_COLUMN", help="How much each row counts.")
    ] = None,
    group_column: Annotated[
        str | None,
        typer.Option(
            "--group-column",
            envvar="AUTOML_GROUP_COLUMN",
            help="Rows of one group are never split between training and validation.",
        ),
    ] = None,
    time_column: Annotated[
        str | None,
        typer.Option(
            "--time-column", envvar="AUTOML_TIME_COLUMN", help="Validate on rows later than those trained on."
        ),
    ] = None,
    source: Annotated[
        list[str] | None,
        typer.Option(
            "--source",
            metavar="FILE",
            envvar="AUTOML_SOURCE",
            help="Learn from this older table or model too, where that helps on the data; repeatable.",
        ),
    ] = None,
    adapt_to: Annotated[
        str | None,
        typer.Option(
            "--adapt-to",
            metavar="FILE",
            envvar="AUTOML_ADAPT_TO",
            help="A table without labels that the model is for: it is adapted to these rows where there is evidence.",
        ),
    ] = None,
    unlabeled: Annotated[
        list[str] | None,
        typer.Option(
            "--unlabeled",
            metavar="FILE",
            envvar="AUTOML_UNLABELED",
            help="Rows whose target nobody knows: learned from where that helps on the labelled ones; repeatable.",
        ),
    ] = None,
    max_size: Annotated[
        str | None,
        typer.Option("--max-size", metavar="10MB", envvar="AUTOML_MAX_SIZE", help="What the model file may hold."),
    ] = None,
    max_latency: Annotated[
        str | None,
        typer.Option(
            "--max-latency",
            metavar="50us|1ms",
            envvar="AUTOML_MAX_LATENCY",
            help="Mean time of a row where 10,000 are predicted at once on one thread, encoding included.",
        ),
    ] = None,
    compact: Annotated[
        bool,
        typer.Option(
            "--compact",
            envvar="AUTOML_COMPACT",
            help="One pipeline and one fitted model of it, in place of an ensemble of bags.",
        ),
    ] = False,
    run_dir: Annotated[
        Path | None,
        typer.Option("--run-dir", envvar="AUTOML_RUN_DIR", help="Keep trials and the best model so far here."),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an interrupted run of the same job.")] = False,
    dask: Annotated[
        str | None,
        typer.Option(
            "--dask",
            metavar="tcp://HOST:PORT",
            envvar="AUTOML_DASK",
            help="Evaluate on a Dask cluster that shares this machine's files.",
        ),
    ] = None,
    no_racing: Annotated[
        bool, typer.Option("--no-racing", help="Validate every candidate on all folds, also one that cannot win.")
    ] = False,
    without: Annotated[
        list[str] | None,
        typer.Option("--without", metavar="PART", help="Leave a part out of the search, to see what it is worth."),
    ] = None,
    experience: Annotated[
        str | None,
        typer.Option(
            "--experience",
            metavar="PATH|URL|off",
            envvar="AUTOML_EXPERIENCE",
            help="Where past runs are remembered. Default: a file in your data folder.",
        ),
    ] = None,
    no_experience: Annotated[
        bool, typer.Option("--no-experience", help="Neither look up past runs nor remember this one.")
    ] = False,
    explain_warm_start: Annotated[
        bool,
        typer.Option(
            "--explain-warm-start", help="Say which past tables were near, what was borrowed, and if it paid."
        ),
    ] = False,
    log_file: Annotated[
        Path | None,
        typer.Option("--log-file", envvar="AUTOML_LOG_FILE", help="Add what happens to this file, as lines of JSON."),
    ] = None,
    show_settings: Annotated[
        bool, typer.Option("--show-settings", help="Print each setting and where it comes from, and leave.")
    ] = False,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> int:
    """Find the best model for a table within a time limit and save it as one file."""
    check_settings(context)
    if show_settings:
        for name, value, origin in settings_table(context):
            typer.echo(harmless(f"{name:14} {value:24} {origin}"))
        return 0
    if time is None and trials is None:
        time = DEFAULT_TIME
        if not quiet:
            say(f"no --time given: {DEFAULT_TIME} it is")
    seconds = None if time is None else parse_seconds(time)
    deadline = Deadline.after(seconds, elapsed=process_age())
    if champion is not None and out is not None:
        raise UsageError("--champion stands in for --out", hint="give one of them")
    given = getattr(context.get_parameter_source("require_signature"), "name", "")
    if champion is None and given == "COMMANDLINE":  # in the environment it is for all commands
        raise UsageError("--require-signature is about the --champion, and there is none", hint="leave it out")

    begin_imports(local=dask is None)
    from automl_cli.metrics import TaskKind
    from automl_cli.options import FitOptions

    options = FitOptions(
        data=data,
        target=target,
        out=champion or out or Path(stem_of(data) + ".automl"),
        seconds=seconds,
        n_trials=trials,
        patience=patience,
        task=None if task is None else TaskKind(task),
        metric=metric,
        positive=positive,
        seed=seed,
        workers=workers,
        memory_bytes=None if memory is None else parse_bytes(memory),
        include=tuple(include or ()),
        exclude=tuple(exclude or ()),
        folds=folds,
        kinds=parse_kinds(kind or ()),
        ignore=tuple(ignore or ()),
        weight_column=weight_column,
        group_column=group_column,
        time_column=time_column,
        run_dir=run_dir,
        resume=resume,
        dask=dask,
        without=parse_parts([*(without or ()), *(["racing"] if no_racing else [])]),
        experience="off" if no_experience else experience,
        wait=parse_wait(wait),
        keep=None if champion is None else keep,
        sign_key=sign_key,
        require_signature=require_signature,
        max_bytes=None if max_size is None else parse_size(max_size),
        max_row_seconds=None if max_latency is None else parse_latency(max_latency),
        compact=compact,
        nas="" if nas is None else str(nas),
        source=tuple(source or ()),
        adapt_to=adapt_to,
        unlabeled=tuple(unlabeled or ()),
    )
    return run_fit(options, deadline, log_file=log_file, quiet=quiet, json=json, explain=explain_warm_start)


def begin_imports(*, local: bool) -> None:
    """Start the server that workers are forked from first: its imports overlap with ours."""
    if local:
        from automl_cli.executors import PRELOAD, Setup, start_server

        start_server(Setup(preload=PRELOAD))
    from automl_cli.lean import arrow_without_pandas

    arrow_without_pandas()


def run_fit(
    options: "FitOptions",
    deadline: Deadline,
    *,
    log_file: Path | None = None,
    quiet: bool,
    json: bool,
    explain: bool,
) -> int:
    """Fit on screen; return 0, 7 where the champion was kept, or 128 + the signal that ended the search."""
    from automl_cli.cli.signals import Interrupts
    from automl_cli.console.eventlog import logged
    from automl_cli.console.live import show
    from automl_cli.errors import LimitNotMet, NoModel
    from automl_cli.events import Event
    from automl_cli.files import refuse_to_overwrite
    from automl_cli.retraining import Retrained, retrain
    from automl_cli.workflow import fit

    with Interrupts() as interrupts:
        begin: Callable[..., Iterator[Event | Retrained]] = fit if options.keep is None else retrain
        if log_file is not None:
            refuse_to_overwrite(log_file, [Path(options.data), options.out])
        events = begin(options, deadline, interrupts.seen)
        if log_file is not None:
            events = logged(events, log_file, deadline)
        try:
            last = show(events, deadline, quiet=quiet, explain=explain)
        except NoModel as error:
            if interrupts.exit_code and not isinstance(error, LimitNotMet):
                say("automl: interrupted before there was a model")
                raise typer.Exit(interrupts.exit_code) from error  # whoever called has no model to go on with
            raise
    if json:
        print_json(last.to_json())
    if not isinstance(last, Retrained):
        return interrupts.exit_code
    verdict = 0 if last.verdict.installed else CHAMPION_KEPT
    # a signal that came once the search had ended has changed nothing: the two were compared all the same
    was_decided = last.summary is not None and not last.summary.interrupted
    return verdict if was_decided else interrupts.exit_code or verdict


def stem_of(data: str) -> str:
    """Return a file's name without its endings.

    >>> stem_of("tables/data.csv.gz"), stem_of("-")
    ('data', 'model')
    """
    return "model" if data == "-" else Path(data).name.split(".")[0] or "model"
