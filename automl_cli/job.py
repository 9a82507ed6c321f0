"""One fitting job: everything that is fixed before the first trial."""

import difflib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from automl_cli.adapting import told_to_a_model
from automl_cli.artifact import Signer, read_signer
from automl_cli.clock import Deadline
from automl_cli.errors import BadData, MissingExtra, UsageError
from automl_cli.families import find_families
from automl_cli.families.family import Family, Shape, without_encoding
from automl_cli.features.frame import Frame, FrameSchema, frame_from_table, frame_schema
from automl_cli.features.matrix import Array
from automl_cli.features.text import width_of
from automl_cli.machine import usable_cores
from automl_cli.neural import NEURAL
from automl_cli.options import NO_NETWORKS, FitOptions
from automl_cli.parts import Part
from automl_cli.plan import Resources, share_cores
from automl_cli.rundata import RunData, SourceRows, open_rundata, renew, save_rundata
from automl_cli.runs import Run
from automl_cli.small import Ceiling
from automl_cli.sourcemodel import known_rows, lay_out_model
from automl_cli.sources import (
    Labelled,
    Sources,
    drawn,
    few_rows,
    learnable,
    most_source_rows,
    sampled,
    source_rows,
    split_task,
    thinned,
    unlabelled_rows,
)
from automl_cli.splits import ValidationPlan, plan_folds
from automl_cli.table import Kind, Notice, Table, under
from automl_cli.task import Task, make_task
from automl_cli.transfer.adaptation import adaptations, without_labels
from automl_cli.trial import Trial, read_journal

SOURCE_MODEL = "source_model"
LEAST_OTHERS = 0.5  # of a source's rows must be of groups that the data lacks, and early enough, for a model of it
SHORTEST_FOR_NETWORKS = 180.0  # seconds: in less, boosters gain more


@dataclass(frozen=True)
class Job:
    """Everything that is fixed before the first trial."""

    table: Table
    task: Task
    n_left_out: int
    frame_schema: FrameSchema
    plan: ValidationPlan
    shape: Shape
    families: Mapping[str, Family]
    resources: Resources
    run: Run
    data: RunData
    recorded: Mapping[int, Trial]
    teaches: bool = False
    """Whether the ensemble gives labels to rows without any at the end, for its members to learn from."""
    signer: Signer | None = None
    notices: tuple[Notice, ...] = ()
    """What was odd about the tables."""
    transfer: Mapping[str, Any] | None = None
    """Whether the model is adapted to new rows, and why; see `automl_cli.adaptto`."""


@dataclass(frozen=True, eq=False)
class Contest:
    """A model in use, which the new one must beat.

    Attributes
    ----------
    rows : ndarray of shape (n_held_out,)
        Positions in the table that nothing may be learned from.
    fingerprint : str
        Of the table in which they have these positions.
    deadline : Deadline
        Of the contest, later than that of the fit.
    decide : callable
        Is called once the new model is saved, and before the run is done: what fails there can go on with its trials.
    """

    rows: Array
    fingerprint: str
    deadline: Deadline
    decide: Callable[[], None]


def choose_families(include: Sequence[str], exclude: Sequence[str]) -> dict[str, Family]:
    """Return the families to search.

    Raises
    ------
    UsageError
        A name that does not exist, or nothing is left.
    MissingExtra
        A family was asked for whose package is not installed.
    """
    every, installed = find_families(include_missing=True), find_families()
    for name in (*include, *exclude):
        if name not in every:
            near = difflib.get_close_matches(name, every, n=1)
            raise UsageError(
                f"there is no model family {name!r}",
                hint=f"did you mean {near[0]!r}?" if near else "families are " + ", ".join(every),
            )
    for name in include:
        if name not in installed:
            raise MissingExtra(f"family {name!r} is not installed", hint=f"pip install 'automl-cli[{name}]'")
    chosen = {
        name: family for name, family in installed.items() if (not include or name in include) and name not in exclude
    }
    if not chosen:
        raise UsageError("--include and --exclude leave no model family", hint="families are " + ", ".join(installed))
    return chosen


def families_of(options: FitOptions) -> dict[str, Family]:
    """Return the families that a fit searches: networks only where there is time for them, or they were asked for.

    Raises
    ------
    UsageError, MissingExtra
        See `choose_families`; or networks are to be searched and left out as well.
    """
    searched = options.networks_wanted
    if searched and (NEURAL in options.exclude or (options.include and NEURAL not in options.include)):
        raise UsageError(f"--nas {options.nas} searches networks, which are left out", hint=f"--include {NEURAL} too")
    if options.nas == NO_NETWORKS and NEURAL in options.include:
        raise UsageError(f"--nas off leaves out what --include {NEURAL} asks for", hint="give one of them")
    without = sorted(options.without & {Part.SMAC, Part.BANDIT})
    if searched and without:
        raise UsageError(f"--nas {options.nas} is a part of what --without {without[0]} leaves out", hint="give one")
    families = choose_families(options.include, options.exclude)
    if searched and NEURAL not in families:
        raise MissingExtra("searching networks needs torch", hint=f"pip install 'automl-cli[{NEURAL}]'")
    # Where trials are counted the model must not depend on which extras are installed.
    short = options.seconds is None or options.seconds < SHORTEST_FOR_NETWORKS
    unwanted = options.nas == NO_NETWORKS or (short and not searched)
    if unwanted and NEURAL not in options.include and len(families) > 1:
        families.pop(NEURAL, None)
    return families


def signer_of(options: FitOptions) -> Signer | None:
    """Read the key that signs the model, before any work is done for it; None where none does.

    Raises
    ------
    UsageError, MissingExtra
        See `read_signer`.
    """
    return None if options.sign_key is None else read_signer(options.sign_key, os.environ)


def prepare(
    options: FitOptions, table: Table, families: Mapping[str, Family], run: Run, sources: Sources | None = None
) -> Job:
    """Turn the table into a task, fix the folds, and lay the data out for the workers.

    Raises
    ------
    BadData
        There is nothing to learn.
    UsageError
        A role is given to a column that is not there, no family fits, or the run that is to be resumed had other
        settings or data.
    """
    options.check_present(table)
    sources = sources or Sources()
    task, kept = task_of(options, table)
    schema = frame_schema(table.schema, exclude=options.roles)
    if not schema.names:
        raise BadData(
            f"{table.source} has no column to learn {options.target!r} from",
            hint="ids, constants and empty columns do not count; see automl profile",
        )
    frame = frame_from_table(table, schema)
    rows, notices = None, few_rows(task) if options.source or options.unlabeled else ()
    if sources.table is not None:
        found, rows, odd = _beside_source(options, table, task, frame, sources.table, sources.judging)
        task, kept, notices = found.task, found.kept, (*notices, *odd)
    if len(kept) < frame.n_rows:
        frame = frame.take(kept)
    unlabelled = None if sources.unlabelled is None else unlabelled_rows(table, kept, sources.unlabelled, schema)
    plan = plan_folds(
        task,
        folds=options.folds,
        seconds=options.seconds,
        n_columns=width_of(schema),
        seed=options.seed,
        n_more=0 if rows is None else len(rows.y),
    )
    teaches = unlabelled is not None and _teaches(options, task, plan)
    shape = _shape(task, table, schema, plan, rows, sources, teaches=teaches)
    offered = _offered(options, table, families, shape)
    _check_resumable(options, run, _fingerprint(options, table, run, sources), teaches=teaches)
    recorded = {trial.proposal.number: trial for trial in read_journal(run.journal)}
    if sources.model is not None and not (run.data / SOURCE_MODEL).exists():
        model = lay_out_model(sources.model, run.data / SOURCE_MODEL, table, schema, task)
        known = () if sources.judging is not None else known_rows(sources.model, options.data, table, kept, task)
        notices = (*notices, *model, *known)
    if not recorded:
        save_rundata(run.data, frame, task, plan, rows, unlabelled)
    else:
        renew(run.data)
    data = open_rundata(run.data)
    return Job(
        table=table,
        task=task,
        n_left_out=table.n_rows - len(kept) if unlabelled is None else 0,
        frame_schema=schema,
        plan=data.plan,
        shape=shape,
        families=offered,
        resources=share_cores(replace(shape, n_rows=shape.n_rows + shape.n_source), usable_cores(), options.workers),
        run=run,
        data=data,
        recorded=recorded,
        teaches=teaches,
        notices=(*table.notices, *notices),
    )


def _beside_source(
    options: FitOptions, table: Table, alone: Task, frame: Frame, source: Table, judging: Table | None
) -> tuple[Labelled, SourceRows, tuple[Notice, ...]]:
    """Return the task of a table beside a source, and the rows of this that are learned from."""
    settled = not (options.task is None and options.metric is None and options.positive is None)
    whole, kind, odd = learnable(source, table, alone, asked=options.task, settled=settled)
    most = most_source_rows(options.seconds, len(frame.schema.names))
    used = whole if whole.n_rows <= most else thinned(whole, frame, most, seed=options.seed)
    both = task_of(replace(options, task=kind), under((table, used)), n_own=table.n_rows)
    found = split_task(alone, *both, table, used)
    rows, more = source_rows(used, found, frame.take(found.kept), judging, limit=options.seconds)
    if used is not whole:
        rows = replace(rows, drawn_from=whole.n_rows, sample=sampled(whole, frame.schema, seed=options.seed))
    return found, rows, (*odd, *drawn(whole, used), *found.notices, *more)


def _offered(options: FitOptions, table: Table, families: Mapping[str, Family], shape: Shape) -> dict[str, Family]:
    """Return the families that can learn the table."""
    offered = {name: family for name, family in families.items() if family.offered(shape)}
    if Part.GENERATED in options.without:
        offered = {name: without_encoding(family, "generated") for name, family in offered.items()}
    if options.networks_wanted and NEURAL not in offered:
        what = f"{shape.n_rows:,} rows and {shape.n_columns:,} columns"
        raise UsageError(f"{table.source} is no table for networks ({what})", hint="use automl fit without --nas")
    if not offered:
        raise UsageError("none of the chosen families can learn this table", hint="include another family")
    return offered


def task_of(options: FitOptions, table: Table, *, n_own: int | None = None) -> tuple[Task, Array]:
    """Return what is to be predicted, and the positions of the rows that say it; see `make_task`.

    Parameters
    ----------
    n_own : int or None
        Rows from there on are a source's: those of a table without weights count as the mean, and no order is asked of
        them.
    """
    weight = None if options.weight_column is None else table.numbers(options.weight_column)
    if weight is not None and n_own is not None:
        usual = np.nanmean(weight[:n_own]) if np.isfinite(weight[:n_own]).any() else 1.0
        weight[n_own:] = np.where(np.isnan(weight[n_own:]), usual, weight[n_own:])
    return make_task(
        table.strings(options.target),
        target=options.target,
        kind=options.task,
        metric=options.metric,
        positive=options.positive,
        notation=table.schema.column(options.target).notation,
        weight=weight,
        groups=None if options.group_column is None else table.strings(options.group_column),
        order=None if options.time_column is None else _order(table, options.time_column),
    )


def ceiling_of(options: FitOptions) -> Ceiling:
    """Return the limits on the model."""
    return Ceiling(options.max_bytes, options.max_row_seconds, options.compact)


def _teaches(options: FitOptions, task: Task, plan: ValidationPlan) -> bool:
    """Whether the ensemble may teach its members at the end; else ways of using rows without labels are searched.

    It gives labels of classes: of a value the mean of models says hardly more than each of them, see docs/unlabeled.md.
    Under a time order members are fitted on all rows at the end, and under limits single models are.
    """
    unwanted = Part.TEACHING in options.without or plan.refit or ceiling_of(options).given
    return task.n_outputs > 1 and not unwanted


def _shape(
    task: Task,
    table: Table,
    schema: FrameSchema,
    plan: ValidationPlan,
    rows: SourceRows | None,
    sources: Sources,
    *,
    teaches: bool,
) -> Shape:
    can: tuple[str, ...] = ()
    n_source = 0 if rows is None else len(rows.y)
    if sources.given:
        # a model of the source that may not hear of the target's groups, or its future, needs others to learn from
        first = plan.folds[0][0]
        outputs = rows is None or told_to_a_model(rows, task.groups, task.order, first).mean() >= LEAST_OTHERS
        can = adaptations(task.kind, task.metric.name, rows=n_source > 0, outputs=bool(outputs))
    elif sources.unlabelled is not None and not teaches:
        can = without_labels(task.kind, n_numeric=len(schema.numeric), n_categorical=len(schema.categorical))
    many = [name for name in schema.categorical if table.schema.column(name).kind is Kind.HIGH_CARDINALITY]
    return Shape(
        kind=task.kind,
        n_rows=len(task.y),
        n_columns=len(schema.names),
        n_categorical=len(schema.categorical),
        n_outputs=task.n_outputs,
        n_numeric=len(schema.numeric),
        n_many=len(many),
        n_source=n_source,
        adaptations=can,
    )


def _order(table: Table, name: str) -> Array:
    """Return what the rows are ordered by: points in time, or numbers that count it."""
    kind = table.schema.column(name).kind
    return table.days(name) if kind is Kind.DATETIME else table.numbers(name)


def _fingerprint(options: FitOptions, table: Table, run: Run, sources: Sources) -> str:
    """Return what a run that is resumed must find again.

    An interrupted run leaves its model so far where it was asked to, be it the place of the model that it learns from:
    it has a copy of that one.
    """
    now, model = "".join((table.fingerprint, *sources.fingerprints)), sources.model
    if model is None or not (run.data / SOURCE_MODEL).exists() or not options.out.exists():
        return now
    is_own = model.path.samefile(options.out) and model.manifest.data.get("fingerprint") == table.fingerprint
    began = str(run.facts().get("settings", {}).get("fingerprint"))
    return began if is_own and began.startswith(now.removesuffix(model.manifest.digest)) else now


def _check_resumable(options: FitOptions, run: Run, fingerprint: str, *, teaches: bool) -> None:
    """Refuse to mix trials of other data or settings; note what this run was started with.

    Whether the ensemble teaches decides what is searched, and depends on limits that may change otherwise.
    """
    now = {**options.settings(), "fingerprint": fingerprint, **({"teaching": teaches} if options.unlabeled else {})}
    known = run.facts().get("settings")
    if options.resume and known is not None and known != now:
        changed = ", ".join(sorted(name for name in now if now[name] != known.get(name)))
        raise UsageError(f"the interrupted run had other settings ({changed})", hint="start anew without --resume")
    run.note({"settings": now})


def manifest_of(options: FitOptions, job: Job) -> dict[str, Any]:
    """Return what a model file says whatever the search finds."""
    task = job.task
    return {
        "task": {
            "kind": str(task.kind),
            "target": task.target,
            "classes": list(task.classes),
            "metric": task.metric.name,
            "reason": task.reason,
        },
        "schema": job.table.schema.to_json(),
        "frame": job.frame_schema.to_json(),
        "fingerprint": job.table.fingerprint,
        "n_rows": len(task.y),
        "validation": job.plan.reason,
        "seed": options.seed,
        "weight_column": options.weight_column,
        "group_column": options.group_column,
        "time_column": options.time_column,
        "ignored": sorted(set(options.ignore)),
    }
