"""An archive of tables becomes experience: every candidate is measured on every table, whole and unraced."""

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from automl_cli.candidates import candidates, suited
from automl_cli.clock import Deadline
from automl_cli.errors import AutomlError, UsageError
from automl_cli.evaluate import evaluate, finished_trial
from automl_cli.executors import PRELOAD, ExecutorKind, Setup, TrialExecutor, open_executor, submitted
from automl_cli.experience.access import Store, add, evaluation_of, open_store, reading, tried
from automl_cli.experience.records import Evaluation
from automl_cli.families import find_families
from automl_cli.families.family import Family
from automl_cli.job import Job, prepare
from automl_cli.machine import usable_cores, usable_memory
from automl_cli.metafeatures import measure
from automl_cli.named import verbatim_columns
from automl_cli.options import FitOptions
from automl_cli.remembering import dataset_of, run_of
from automl_cli.runs import Run
from automl_cli.table import read_table
from automl_cli.task import TaskKind
from automl_cli.trial import Failure, Pipeline, Proposal, Trial
from automl_cli.trialfiles import trial_folder

USUAL_LIMIT = 60.0
"""Seconds of the run whose folds are used: most users give about as much, and losses compare within one plan."""
TRIAL_SECONDS = 6.0
"""Of one candidate on one table, all folds together; a booster that needs more is measured as far as it comes."""
SEED = 0
ENDINGS = (".csv", ".csv.gz", ".tsv", ".parquet")
MEMORY_SHARE = 0.85


@dataclass(frozen=True)
class ArchivedTable:
    """One labelled table of an archive."""

    name: str
    path: Path
    target: str
    task: TaskKind | None


@dataclass(frozen=True)
class Measured:
    """A table is done, or was before, or cannot be used.

    Attributes
    ----------
    n_evaluations : int
        New ones.
    problem : str
        Why the table was left out; empty otherwise.
    """

    table: ArchivedTable
    number: int
    n_tables: int
    n_evaluations: int
    n_failed: int
    seconds: float
    problem: str = ""


def find_tables(folder: Path, *, target: str | None = None, names: Sequence[str] = ()) -> list[ArchivedTable]:
    """List the tables of a folder.

    ``index.json`` in it, or beside it under its name, says ``{"NAME": {"target": COLUMN, "task": KIND}}``; without one
    ``target`` is the column of all tables.

    Raises
    ------
    UsageError
        There is none, or no target is known.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder} is no folder", hint="name a folder of tables")
    index = _index(folder)
    paths = {path.name.split(".")[0]: path for path in sorted(folder.iterdir()) if path.name.endswith(ENDINGS)}
    missing = [name for name in names if name not in paths]
    if missing or not paths:
        raise UsageError(f"{folder} has no table {', '.join(missing)}".rstrip(), hint="tables end in .csv or .parquet")
    found = []
    for name in names or paths:
        entry = index.get(name, {})
        column = entry.get("target", target)
        if not isinstance(column, str):
            hint = 'give --target, or write an index.json: {"NAME": {"target": "COLUMN"}}'
            raise UsageError(f"nothing says what to predict in {paths[name]}", hint=hint)
        task = entry.get("task")
        if task is not None and task not in list(TaskKind):
            raise UsageError(f"index.json gives {name} the task {task!r}", hint=f"tasks are {', '.join(TaskKind)}")
        found.append(ArchivedTable(name, paths[name], column, None if task is None else TaskKind(task)))
    return found


def _index(folder: Path) -> Mapping[str, Mapping[str, Any]]:
    for path, key in ((folder / "index.json", None), (folder.parent / "index.json", folder.resolve().name)):
        if not path.is_file():
            continue
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise UsageError(f"{path} is no JSON ({error})", hint="mend it or move it away") from error
        found = data.get(key) if key is not None and isinstance(data, dict) else data
        if isinstance(found, dict) and all(isinstance(entry, dict) for entry in found.values()):
            return found
    return {}


def build(
    tables: Sequence[ArchivedTable],
    url: str,
    *,
    deadline: Deadline,
    interrupted: Callable[[], bool],
    workers: int | None = None,
    trial_seconds: float = TRIAL_SECONDS,
) -> Iterator[Measured]:
    """Measure the candidates on every table and add what was measured, table by table.

    What the store has of a table is not measured again, so that an interrupted build goes on where it stopped. A table
    that is not finished when the time is over is measured anew the next time.

    Yields
    ------
    Measured
    """
    store, families = open_store(url), find_families()
    setup = Setup(workers=workers or usable_cores(), preload=PRELOAD, memory=int(MEMORY_SHARE * usable_memory()))
    executor = open_executor(ExecutorKind.PROCESSES, setup)
    try:
        for number, table in enumerate(tables, start=1):
            if interrupted() or deadline.passed():
                return
            began = deadline.elapsed()
            done = Measured(table, number, len(tables), 0, 0, 0.0)
            try:
                evaluations = _measure(table, store, families, executor, trial_seconds, interrupted)
            except AutomlError as error:
                yield replace(done, problem=str(error), seconds=deadline.elapsed() - began)
                continue
            if evaluations is None:
                return
            n_failed = sum(e.loss is None for e in evaluations)
            yield replace(done, n_evaluations=len(evaluations), n_failed=n_failed, seconds=deadline.elapsed() - began)
    finally:
        executor.close(now=True)


def _measure(
    table: ArchivedTable,
    store: Store,
    families: Mapping[str, Family],
    executor: TrialExecutor,
    trial_seconds: float,
    interrupted: Callable[[], bool],
) -> list[Evaluation] | None:
    """Measure what the store lacks of a table and add it; None where the user asked to stop before the end."""
    options = FitOptions(
        str(table.path), table.target, Path(os.devnull), seconds=USUAL_LIMIT, task=table.task, seed=SEED
    )
    with tempfile.TemporaryDirectory(prefix="automl-build-") as place:
        run = Run(Path(place), keep=False)
        began = Deadline.after(None)
        read = read_table(options.data, target=table.target, verbatim=verbatim_columns(options))
        job = prepare(options, read, families, run)
        dataset = dataset_of(job, table.name, measure(job.data.frame, job.task), store.salt)
        with reading(store) as connection:
            before = tried(connection, dataset.uid, origin="build")
        wanted = {
            own: candidate
            for candidate in reversed(candidates(families, job.task.kind))
            if candidate not in before and (own := suited(candidate, job.families, job.shape)) is not None
        }
        if not wanted:
            return []
        trials = _run_all(list(reversed(wanted)), job, executor, trial_seconds, interrupted)
        if trials is None:
            return None
        n_folds = len(job.plan.folds)
        evaluations = [
            replace(evaluation_of(trial, n_folds), pipeline=wanted[trial.proposal.pipeline]) for trial in trials
        ]
        add(store, [run_of(job, dataset, evaluations, origin="build", seconds=began.elapsed(), limit=trial_seconds)])
        return evaluations


def _run_all(
    pipelines: Sequence[Pipeline],
    job: Job,
    executor: TrialExecutor,
    seconds: float,
    interrupted: Callable[[], bool],
) -> list[Trial] | None:
    """Run one trial of each pipeline, as many side by side as there are workers, and keep nothing on disk."""
    folder = job.run.folder.resolve()
    waiting = [
        Proposal(number, pipeline, "build", SEED, job.resources.threads, (), seconds)
        for number, pipeline in enumerate(pipelines)
    ]
    running: dict[Future[Trial], Proposal] = {}
    found: list[Trial] = []
    while waiting or running:
        if interrupted():
            for future in running:
                future.cancel()
            return None
        while waiting and len(running) < min(executor.workers, job.resources.workers):
            proposal = waiting.pop(0)
            running[submitted(executor, evaluate, proposal, str(folder), timeout=2 * seconds + 5)] = proposal
        done, _ = wait(running, timeout=0.2, return_when=FIRST_COMPLETED)
        for future in done:
            proposal = running.pop(future)
            found.append(_outcome(future, proposal, job, seconds))
            shutil.rmtree(trial_folder(folder, proposal.number), ignore_errors=True)
    return sorted(found, key=lambda trial: trial.proposal.number)


def _outcome(future: "Future[Trial]", proposal: Proposal, job: Job, seconds: float) -> Trial:
    try:
        return future.result()
    except Exception as error:  # a worker that died or was killed leaves its finished folds
        trial = finished_trial(job.run.folder, proposal, seconds, len(job.plan.folds), type(error).__name__)
        return replace(trial, trace="") if isinstance(trial, Failure) else trial
