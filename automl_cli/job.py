"""One fitting job: what the user asked for, and everything that is fixed before the first trial."""

import difflib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from automl_cli.artifact import Signer, read_signer
from automl_cli.errors import BadData, MissingExtra, UsageError
from automl_cli.families import find_families
from automl_cli.families.family import Family, Shape, without_encoding
from automl_cli.features.frame import FrameSchema, frame_from_table, frame_schema
from automl_cli.features.matrix import Array
from automl_cli.machine import usable_cores
from automl_cli.neural import NEURAL
from automl_cli.parts import Part
from automl_cli.plan import Resources, share_cores
from automl_cli.rundata import RunData, open_rundata, save_rundata
from automl_cli.runs import Run
from automl_cli.splits import ValidationPlan, plan_folds
from automl_cli.table import Kind, Table, read_table
from automl_cli.table.fitting import near_names
from automl_cli.task import Task, TaskKind, make_task
from automl_cli.trial import Trial, read_journal

PLACES = ("out", "run_dir", "sign_key", "require_signature")
"""Options that are paths."""
NO_NETWORKS = "off"
SHORTEST_FOR_NETWORKS = 180.0  # seconds: in less, boosters gain more


@dataclass(frozen=True)
class FitOptions:
    """What a user can say about a fit; None means: decide from the data.

    Attributes
    ----------
    data : str
        A path, or ``-`` for standard input.
    seconds : float or None
        Limit of the whole command, counted from the start of its process.
    n_trials : int or None
        With a number and without ``seconds`` the result is reproducible.
    patience : int or None
        Trials in a row without a gain after which the search ends.
    workers : int or None
        Trials side by side.
    memory_bytes : int or None
        Limit of the whole process tree.
    include, exclude : tuple of str
        Names of families.
    run_dir : Path or None
        Kept after the run where it is named.
    dask : str or None
        Address of a scheduler.
    without : frozenset of Part
        What is left out of the search, to see what it is worth.
    experience : str or None
        Where past runs are remembered: a path, an SQLAlchemy URL or ``off``; None: the user's own store.
    wait : float
        Seconds to wait where another run holds the output.
    keep : int or None
        How many replaced models stay, where ``out`` is a champion that only a better model may replace; else None.
    stands_for : Path or None
        The model whose place the result may take; then ``out`` is a place that only this process knows.
    sign_key : Path or None
        The private key that signs the model.
    require_signature : Path or None
        Public keys of which one must have signed the champion.
    max_bytes, max_row_seconds : int or None, float or None
        What the model's file may hold, and what predicting a row with it may take.
    compact : bool
        Whether the model is one fitted model.
    nas : str
        How networks are searched, one of `automl_cli.nas.STRATEGIES` or `NO_NETWORKS`; empty: where the time is enough
        and the extra is installed, a bandit shares it among strategies.
    """

    data: str
    target: str
    out: Path
    seconds: float | None = None
    n_trials: int | None = None
    patience: int | None = None
    task: TaskKind | None = None
    metric: str | None = None
    positive: str | None = None
    seed: int = 0
    workers: int | None = None
    memory_bytes: int | None = None
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    folds: int | None = None
    kinds: Mapping[str, Kind] = field(default_factory=dict)
    ignore: tuple[str, ...] = ()
    weight_column: str | None = None
    group_column: str | None = None
    time_column: str | None = None
    run_dir: Path | None = None
    resume: bool = False
    dask: str | None = None
    without: frozenset[Part] = frozenset()
    experience: str | None = None
    wait: float = 0.0
    keep: int | None = None
    stands_for: Path | None = None
    sign_key: Path | None = None
    require_signature: Path | None = None
    max_bytes: int | None = None
    max_row_seconds: float | None = None
    compact: bool = False
    nas: str = ""

    @property
    def roles(self) -> tuple[str, ...]:
        """Columns that are no features: the target, weights and groups."""
        return tuple(name for name in (self.target, self.weight_column, self.group_column) if name is not None)

    def check_roles(self) -> None:
        """Refuse a column that is given two roles, or one and is ignored.

        Raises
        ------
        UsageError
        """
        for option, name in self._role_options():
            if name == self.target:
                raise UsageError(f"{option} {name!r} is the target", hint="name another column")
            if name in self.ignore:
                raise UsageError(f"{option} {name!r} is ignored as well", hint=f"leave out --ignore {name}")
        names = [name for _, name in self._role_options()]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise UsageError(f"column {twice!r} is given two roles", hint="name another column for one of them")

    @property
    def networks_wanted(self) -> bool:
        """Whether networks are to be searched whatever the time."""
        return self.nas not in ("", NO_NETWORKS)

    def check_present(self, table: Table) -> None:
        """Refuse a role of a column that is not in the table.

        Raises
        ------
        UsageError
            With the nearest names.
        """
        for option, name in self._role_options():
            if name not in table.schema:
                problem = f"{table.source} has no column {name!r} for {option}"
                raise UsageError(problem, hint=near_names(name, table.schema.names))

    def _role_options(self) -> list[tuple[str, str]]:
        """Return (option, column) of the columns with a role beside the target."""
        columns = {
            "--weight-column": self.weight_column,
            "--group-column": self.group_column,
            "--time-column": self.time_column,
        }
        return [(option, name) for option, name in columns.items() if name is not None]

    def identity(self) -> dict[str, str]:
        """Return what makes two fits the same job."""
        data = self.data if self.data == "-" else str(Path(self.data).resolve())
        return {"data": data, "target": self.target, "out": str((self.stands_for or self.out).resolve())}

    def to_json(self) -> dict[str, Any]:
        """Return the options as JSON values, with whole paths, so that another process can go on with them."""
        data = {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "stands_for"}
        for name in PLACES:
            data[name] = None if data[name] is None else str(data[name].resolve())
        if self.data != "-":
            data["data"] = str(Path(self.data).resolve())
        if self.experience not in (None, "off") and "://" not in str(self.experience):
            data["experience"] = str(Path(str(self.experience)).resolve())
        if self.stands_for is not None:
            data["out"] = str(self.stands_for.resolve())
        return {**data, "kinds": dict(self.kinds), "without": sorted(self.without)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "FitOptions":
        """Read what `to_json` gave; what other versions knew as well is passed over."""
        known = {name: value for name, value in data.items() if name in cls.__dataclass_fields__}
        for name in PLACES:
            known[name] = None if known.get(name) is None else Path(known[name])
        for name in ("include", "exclude", "ignore"):
            known[name] = tuple(known.get(name) or ())
        task = known.get("task")
        kinds = {name: Kind(kind) for name, kind in (known.get("kinds") or {}).items()}
        without = frozenset(Part(name) for name in known.get("without") or ())
        return cls(**{**known, "task": None if task is None else TaskKind(task), "kinds": kinds, "without": without})

    def settings(self) -> dict[str, str]:
        """Return what must be the same for a run to be resumed.

        Not what only says when it ends, the number of trials and patience: more may be asked of a run than at first.
        Nor the limits on the model: trials are what they are, and another model may be made of them.
        """
        names = ("task", "metric", "positive", "seed", "include", "exclude", "folds", "ignore")
        roles = ("weight_column", "group_column", "time_column")
        chosen = {name: str(getattr(self, name)) for name in (*names, *roles)}
        without = ", ".join(sorted(self.without))
        kinds = str(sorted(self.kinds.items()))
        networks = {"nas": self.nas} if self.nas else {}
        return {**chosen, "kinds": kinds, "timed": str(self.seconds is not None), "without": without, **networks}


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
    signer: Signer | None = None


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


def verbatim_columns(options: FitOptions) -> tuple[str, ...]:
    """Return the columns whose text must be kept as it is written: labels and groups."""
    return (options.target,) if options.group_column is None else (options.target, options.group_column)


def read_data(options: FitOptions) -> Table:
    """Read the table that the options name, by the kinds and roles they give.

    Raises
    ------
    BadData, UsageError
        See `read_table`.
    """
    return read_table(
        options.data,
        target=options.target,
        kinds=options.kinds,
        ignore=options.ignore,
        verbatim=verbatim_columns(options),
    )


def prepare(options: FitOptions, table: Table, families: Mapping[str, Family], run: Run) -> Job:
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
    task, kept = task_of(options, table)
    schema = frame_schema(table.schema, exclude=options.roles)
    if not schema.names:
        raise BadData(
            f"{table.source} has no column to learn {options.target!r} from",
            hint="ids, constants and empty columns do not count; see automl profile",
        )
    frame = frame_from_table(table, schema)
    if len(kept) < frame.n_rows:
        frame = frame.take(kept)
    n_columns = len(schema.names)
    plan = plan_folds(task, folds=options.folds, seconds=options.seconds, n_columns=n_columns, seed=options.seed)
    shape = _shape(task, table, schema)
    offered = {name: family for name, family in families.items() if family.offered(shape)}
    if Part.GENERATED in options.without:
        offered = {name: without_encoding(family, "generated") for name, family in offered.items()}
    if options.networks_wanted and NEURAL not in offered:
        what = f"{shape.n_rows:,} rows and {shape.n_columns:,} columns"
        raise UsageError(f"{table.source} is no table for networks ({what})", hint="use automl fit without --nas")
    if not offered:
        raise UsageError("none of the chosen families can learn this table", hint="include another family")
    _check_resumable(options, run, table.fingerprint)
    recorded = {trial.proposal.number: trial for trial in read_journal(run.journal)}
    if not recorded:
        save_rundata(run.data, frame, task, plan)
    data = open_rundata(run.data)
    return Job(
        table=table,
        task=task,
        n_left_out=table.n_rows - len(kept),
        frame_schema=schema,
        plan=data.plan,
        shape=shape,
        families=offered,
        resources=share_cores(shape, usable_cores(), options.workers),
        run=run,
        data=data,
        recorded=recorded,
    )


def task_of(options: FitOptions, table: Table) -> tuple[Task, Array]:
    """Return what is to be predicted, and the positions of the rows that say it; see `make_task`."""
    return make_task(
        table.strings(options.target),
        target=options.target,
        kind=options.task,
        metric=options.metric,
        positive=options.positive,
        weight=None if options.weight_column is None else table.numbers(options.weight_column),
        groups=None if options.group_column is None else table.strings(options.group_column),
        order=None if options.time_column is None else _order(table, options.time_column),
    )


def _shape(task: Task, table: Table, schema: FrameSchema) -> Shape:
    many = [name for name in schema.categorical if table.schema.column(name).kind is Kind.HIGH_CARDINALITY]
    return Shape(
        kind=task.kind,
        n_rows=len(task.y),
        n_columns=len(schema.names),
        n_categorical=len(schema.categorical),
        n_outputs=task.n_outputs,
        n_numeric=len(schema.numeric),
        n_many=len(many),
    )


def _order(table: Table, name: str) -> Array:
    """Return what the rows are ordered by: points in time, or numbers that count it."""
    kind = table.schema.column(name).kind
    return table.days(name) if kind is Kind.DATETIME else table.numbers(name)


def _check_resumable(options: FitOptions, run: Run, fingerprint: str) -> None:
    """Refuse to mix trials of other data or settings; note what this run was started with."""
    now = {**options.settings(), "fingerprint": fingerprint}
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
    }
