"""Composition only: what a fit does, in the order in which docs/architecture.md tells it."""

import contextlib
import logging
import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

from automl_cli.adaptto import adapted_job
from automl_cli.anytime import ModelSoFar
from automl_cli.artifact import Signer
from automl_cli.attached import kept_of
from automl_cli.background import Background
from automl_cli.clock import Deadline
from automl_cli.correcting import delivered_for
from automl_cli.delivery import attached_in_time, save
from automl_cli.encoded import awaits_texts
from automl_cli.ending import Ending, what_mattered
from automl_cli.errors import AutomlError, BadData, NoModel
from automl_cli.evaluate import evaluate, finished_trial
from automl_cli.events import Entered, Event, Improved, Prepared, Remembered
from automl_cli.executors import PRELOAD, ExecutorKind, ProcessExecutor, Setup, TrialExecutor, open_executor, submitted
from automl_cli.experience.records import Recalled
from automl_cli.files import check_writable, explain, locked, refuse_to_overwrite
from automl_cli.job import SOURCE_MODEL, Contest, Job, ceiling_of, families_of, manifest_of, prepare, signer_of
from automl_cli.machine import usable_cores, usable_memory
from automl_cli.members import Chosen, OofCache
from automl_cli.named import read_with_sources
from automl_cli.optimizer import Optimizer
from automl_cli.options import FitOptions
from automl_cli.parts import Part
from automl_cli.patience import Patience
from automl_cli.plan import first_trial_seconds, kill_seconds, reserve_seconds
from automl_cli.profile import Profile, profile
from automl_cli.proposing import learner_of, proposer
from automl_cli.repeats import other_folds, taught_again
from automl_cli.runs import finish, interrupted_run, open_run, output_lock, sweep
from automl_cli.search import Execution, Finished, Happening, OutOfPatience, Rules, Started, search
from automl_cli.summary import (
    EndedEarly,
    Phases,
    SearchCost,
    Summary,
    failures,
    member_rows,
    naive_loss,
    natural_interval,
    raced,
    shares,
)
from automl_cli.table import Notice
from automl_cli.trial import Journal, Proposal, Trial
from automl_cli.warmstart import MOST_WAIT, Opening, leave, look_up, memory_of, open_memory, told
from automl_cli.worth import shift_of_run, transfer_report

logger = logging.getLogger(__name__)
USUAL_ENDING = 0.4  # seconds of weighing and saving on small tables
UNDESCRIBED = Notice(
    "undescribed", "there was no time to describe the table in the model: automl check and --champion need more --time"
)
TIDIED_BEFORE = 0.3  # seconds: from the last file that is removed until the process is gone
SHORTEST_SEARCH = 1.0  # seconds; with less no trial can end
MEMORY_SHARE = 0.85  # of the machine, where the user sets no limit


def fit(
    options: FitOptions,
    deadline: Deadline,
    interrupted: Callable[[], bool],
    *,
    contest: Contest | None = None,
    signer: Signer | None = None,
) -> Iterator[Event]:
    """Find, weigh and save the best pipelines for a table.

    Parameters
    ----------
    deadline : Deadline
        Of the whole command; unlimited where trials are counted.
    interrupted : callable
        Whether the user asked to stop; the best model so far is saved then.
    contest : Contest or None
        With a model in use, unless the search is interrupted.
    signer : Signer or None
        The key of ``options.sign_key``, where it has been read already.

    Yields
    ------
    Event
        What happens, as it happens; the last one is the Summary.

    Raises
    ------
    AutomlError
        Each with its exit code; nothing has been written to ``options.out`` then.
    """
    options.check_roles()
    options.check_adaptable()
    options.check_cluster()
    check_writable(options.out, only_file=True)
    refuse_to_overwrite(options.out, [Path(options.data), *filter(None, [options.sign_key])])
    families = families_of(options)
    signer = signer or signer_of(options)
    identity = options.identity()
    memory = memory_of(options)
    opening = Background(lambda: open_memory(memory))
    phases = Phases(deadline)
    with contextlib.ExitStack() as stack:
        wait = min(options.wait, max(0.0, deadline.seconds_left() - SHORTEST_SEARCH))
        stack.enter_context(locked(output_lock(options.out), str(options.out), wait_seconds=wait))
        executor = stack.enter_context(_open_executor(options))
        before = None if options.resume else interrupted_run(identity)
        opening.begin()
        yield Entered("reading")
        table, sources = read_with_sources(options)
        if contest is not None:
            if table.fingerprint != contest.fingerprint:
                raise BadData(f"{table.source} was changed while it was used", hint="run it again on a file that stays")
            table, sources = table.without(contest.rows), replace(sources, judging=table.take(contest.rows))
        phases.end("read")
        if deadline.limited and deadline.seconds_left() < SHORTEST_SEARCH:
            took = f"reading {table.source} took {phases.seconds['read']:.1f} s of the {deadline.total:g} s"
            raise NoModel(took, hint="give it more --time")
        stem = Path(options.data).name.split(".")[0] or "table"
        left = _until_the_end(deadline if contest is None else contest.deadline)
        run = stack.enter_context(
            open_run(options.run_dir, stem=stem, identity=identity, resume=options.resume, left=left)
        )
        job = replace(prepare(options, table, families, run, sources), signer=signer)
        if sources.new is not None:
            job = adapted_job(job, sources.new, options, executor, deadline)
        # not before: a resumption that is refused must not change them
        run.note({"options": options.to_json(), "uncontested": contest is None})
        phases.end("frame")
        yield Prepared(job, before)
        yield Entered("searching")
        stores = Opening(memory, opening)
        yield from _search_and_save(options, job, executor, phases, interrupted, stores, contest=contest)


def _until_the_end(deadline: Deadline) -> Callable[[], float]:
    """Return what tells how many seconds there are for tidying up."""
    return lambda: deadline.seconds_left() - TIDIED_BEFORE if deadline.limited else math.inf


def _shift(job: Job, executor: TrialExecutor, deadline: Deadline) -> dict[str, Any]:
    """Have a worker find out what kind of shift lies between the source and the data."""
    left = deadline.seconds_left() if deadline.limited else None
    return submitted(executor, shift_of_run, str(job.run.folder.resolve()), timeout=left).result()


def _transfer(
    job: Job, model: ModelSoFar, chosen: Chosen, shift: Background[dict[str, Any]], ending: Ending
) -> dict[str, Any]:
    """Report what the source was worth, with its shift if that is known by now."""
    if not job.shape.adaptations:
        return {}
    found = None
    if job.data.source is not None:
        try:
            found = shift.result_within(0.0 if ending.deadline.limited or ending.interrupted() else math.inf)
        except Exception:  # a report must not cost the model
            logger.warning("the shift could not be measured", exc_info=True)
    return transfer_report(job.data, model.trials, chosen, found, of_model=(job.run.data / SOURCE_MODEL).exists())


@contextlib.contextmanager
def _open_executor(options: FitOptions) -> Iterator[TrialExecutor]:
    """Start the workers before the table is read, so that their imports overlap with it; end them at once after."""
    setup = Setup(
        workers=options.workers or usable_cores(),
        preload=PRELOAD,
        memory=options.memory_bytes or int(MEMORY_SHARE * usable_memory()),
        address=options.dask or "",
    )
    executor = open_executor(ExecutorKind.DASK if options.dask else ExecutorKind.PROCESSES, setup)
    if isinstance(executor, ProcessExecutor):
        executor.warm_up()
    try:
        yield executor
    finally:
        executor.close(now=True)


def _search_and_save(
    options: FitOptions,
    job: Job,
    executor: TrialExecutor,
    phases: Phases,
    interrupted: Callable[[], bool],
    opening: Opening,
    *,
    contest: Contest | None = None,
) -> Iterator[Event]:
    """Search, keep the model in the run's folder up to date, and write it to its place at the end."""
    deadline, memory = phases.deadline, opening.opened(phases.deadline)
    model = _model_so_far(options, job, executor, deadline)
    found = Background(lambda: profile(job.table, options.target))
    recalling = Background(lambda: look_up(memory, job, options, deadline))
    cost, journal = SearchCost(usable_cores(), model.workers), Journal(job.run.journal)
    early: EndedEarly | None = None
    learner = Background(lambda: learner_of(options, job, deadline))
    proposes = proposer(options, job, deadline, memory, recalling, learner)
    kept = Background(lambda: kept_of(job.data, job.task.classes))
    shift = Background(lambda: _shift(job, executor, deadline))
    others: list[Background[Any]] = [found, kept, *([shift] if job.data.source else []), Background(sweep)]
    trials = _trials(options, job, proposes, executor, model, lambda: interrupted() or _broken(journal, executor) != "")
    for event in _beside(trials, recalling, others, phases):
        yield event
        if isinstance(event, OutOfPatience):
            early = _ended_early(options, model, event.n_trials)
        if isinstance(event, Finished) and _hear(event, journal, model, cost) and model.chosen is not None:
            phases.reach("first_model")
            yield Improved(model.chosen)
    phases.end("search")
    if broken := _broken(journal, executor):
        early = _ended_early(options, model, model.n_trials, broken)
    overhead = cost.overhead(phases.seconds["search"], deadline.total if early is None else math.inf)
    yield Entered("weighing")
    chosen = model.settle()
    if chosen is None:
        raise _no_model(model.trials, options, journal)
    ending = Ending(executor, chosen, job.run.folder.resolve(), deadline, model.write_seconds(), interrupted)
    corrected = delivered_for(ending, model, job)
    searched, chosen = chosen, model.chosen or chosen  # under limits it may be another one by now
    known = searched if job.teaches else chosen  # pupils are nobody's first choice
    mattered = what_mattered(replace(ending, chosen=chosen))
    phases.end("weigh")
    yield Entered("saving")
    stopped_by_user = interrupted()
    attached = attached_in_time(kept, model, chosen, share=0.25 if options.keep is None else 0.5)
    summary = replace(
        _summary(options, job, model, chosen, phases, mattered),
        odd=(*_oddities(job, found, deadline, options), *(() if attached else (UNDESCRIBED,))),
        overhead=overhead,
        peak_memory_bytes=executor.peak_memory(),
        interrupted=stopped_by_user,
        ended_early=early,
        experience=told(memory, model.trials, known),
        footprint=corrected.delivered.footprint,
        transfer=corrected.transfer or _transfer(job, model, chosen, shift, ending),
    )
    _let_go(executor)
    left_out = save(model, options.out, summary, corrected.delivered.fitted, attached, job.signer)
    phases.end("save")
    last = deadline if contest is None else _settled(contest, phases, stopped_by_user=stopped_by_user)
    # else --resume can go on with it, and it is remembered once it is done
    if not stopped_by_user and journal.error is None:
        finish(job.run, {"metric": summary.metric_title, "score": summary.score, "seconds": round(last.elapsed(), 1)})
        leave(memory, job, options, model.trials, known, last)
    phases.end("remember")
    said = {**summary.experience, "problems": list(memory.problems)}
    odd = (*summary.odd, *(left_out if options.keep is not None else ()))
    summary = replace(summary, experience=said, odd=odd, n_bytes=options.out.stat().st_size)
    yield replace(summary, phases=phases.seconds, seconds=deadline.elapsed())


def _let_go(executor: TrialExecutor) -> None:
    """End this machine's workers: nothing is asked of them any more, and their memory is for what is written now."""
    if isinstance(executor, ProcessExecutor):  # a cluster's memory is its own
        executor.close(now=True)


def _settled(contest: Contest, phases: Phases, *, stopped_by_user: bool) -> Deadline:
    """Decide a contest, and return the deadline of what is left to do."""
    if not stopped_by_user:
        contest.decide()
    phases.end("judge")
    return contest.deadline


def _summary(
    options: FitOptions,
    job: Job,
    model: ModelSoFar,
    chosen: Chosen,
    phases: Phases,
    mattered: Sequence[tuple[str, float]],
) -> Summary:
    """Return what the search and its model say by themselves."""
    metric = job.data.metric
    return Summary(
        out=options.out,
        metric=metric.name,
        metric_title=metric.title,
        score=metric.natural(chosen.shown_loss),
        interval=natural_interval(job.data, chosen.shown_losses),
        naive=metric.natural(naive_loss(job.data)),
        n_columns=len(job.frame_schema.names),
        n_trials=model.n_trials,
        members=member_rows(chosen, job.data),
        mattered=shares(mattered),
        n_measured=len(mattered),
        failures=failures(model.trials),
        phases=phases.seconds,
        milestones=phases.milestones,
        seconds=phases.deadline.elapsed(),
        racing=raced(model.trials, len(job.plan.folds)),
    )


def _beside(
    events: Iterator[Happening],
    recalling: Background[Recalled],
    others: Sequence[Background[Any]],
    phases: Phases,
) -> Iterator[Event]:
    """Begin what may run beside the trials when it is in nobody's way; say when past runs were looked up."""
    told_of = False
    for event in events:
        yield event
        if isinstance(event, Started):
            phases.reach("first_trial")
            recalling.begin()
        if isinstance(event, Finished):
            for other in others:
                other.begin()
        if recalling.done() and not told_of:
            told_of = True
            yield Remembered(recalling.result())
    left = phases.deadline.seconds_left() / 2 if phases.deadline.limited else math.inf
    if not told_of and (recalled := recalling.result_within(min(left, MOST_WAIT))) is not None:
        yield Remembered(recalled)


def _hear(event: Finished, journal: Journal, model: ModelSoFar, cost: SearchCost) -> bool:
    """Write a trial to disk before it counts; return whether the model in the run's folder changed with it."""
    if not event.recorded and not event.stopped:
        journal.add(event.trial)
    cost.trial_seconds += 0.0 if event.recorded else event.trial.seconds
    model.add(event.trial, stopped=event.stopped)
    # Once the search is stopped, the last weighing follows at once.
    return not event.stopped and model.due() and model.refresh()


def _ended_early(options: FitOptions, model: ModelSoFar, n_trials: int, reason: str = "") -> EndedEarly:
    left = round(model.deadline.seconds_left(), 1) if model.deadline.limited else None
    trials_left = None if options.n_trials is None else options.n_trials - model.n_trials
    return EndedEarly(n_trials, left, trials_left, reason)


def _broken(journal: Journal, executor: TrialExecutor) -> str:
    """Say why the search cannot go on; empty where it can."""
    if journal.error is not None:
        return f"its run folder cannot be written ({journal.error.strerror or journal.error})"
    return "the Dask scheduler is gone" if executor.gone() else ""


def _model_so_far(options: FitOptions, job: Job, executor: TrialExecutor, deadline: Deadline) -> ModelSoFar:
    model = ModelSoFar(job.run.model, manifest_of(options, job), OofCache(job.run.folder, job.data), deadline)
    model.calibrate = Part.CALIBRATION not in options.without
    model.stacking = Part.STACKING not in options.without
    model.workers = _width(options, job, executor)
    if job.teaches:
        model.again = taught_again(len(job.plan.folds))
    elif Part.REPEATS not in options.without:
        model.again = other_folds(len(job.plan.repeat))
    model.patience = Patience(options.patience)
    if (ceiling := ceiling_of(options)).given:
        model.limit(ceiling)
    return model


def _trials(
    options: FitOptions,
    job: Job,
    proposer: Optimizer,
    executor: TrialExecutor,
    model: ModelSoFar,
    interrupted: Callable[[], bool],
) -> Iterator[Happening]:
    """Run the search with this job's workers and reserves."""
    folder, deadline = str(job.run.folder.resolve()), model.deadline

    def submit(proposal: Proposal) -> "Future[Trial]":
        limit = None
        if proposal.seconds is not None:
            encodes_texts = awaits_texts(job.run.folder, job.data)
            limit = kill_seconds(proposal.seconds, deadline.seconds_left(), encodes_texts=encodes_texts)
        return submitted(executor, evaluate, proposal, folder, timeout=limit)

    def rescue(proposal: Proposal, reason: str, seconds: float) -> Trial:
        return finished_trial(job.run.folder, proposal, seconds, len(job.plan.folds), reason)

    def enough() -> bool:
        if interrupted():
            return True
        return deadline.limited and deadline.seconds_left() < reserve_seconds(deadline.total, model.ending_seconds())

    limit = deadline.total if deadline.limited else 0.0
    rules = Rules(
        width=model.workers,
        threads=job.resources.threads,
        seed=options.seed,
        n_trials=options.n_trials,
        first_seconds=first_trial_seconds(limit),
        racing=Part.RACING not in options.without,
    )
    # A little more than the last save is likely to need: a trial that keeps to its limit is not stopped before its end.
    earlier = deadline.earlier(reserve_seconds(limit, USUAL_ENDING)) if deadline.limited else deadline
    yield from search(
        proposer,
        Execution(
            submit,
            rescue,
            enough,
            lambda: max(0.0, model.ending_seconds() - USUAL_ENDING),
            lambda trial: model.costs is None or model.costs.surely_fits(trial),
        ),
        rules,
        deadline=earlier,
        recorded=job.recorded,
        patience=model.patience,
    )


def _width(options: FitOptions, job: Job, executor: TrialExecutor) -> int:
    """Return how many trials run at once: a cluster knows its own size."""
    by_size = max(1, executor.workers // job.resources.threads)
    return by_size if options.dask and options.workers is None else job.resources.workers


def _oddities(job: Job, found: Background[Profile], deadline: Deadline, options: FitOptions) -> tuple[Notice, ...]:
    """Return what was odd about the tables, and the profile's warnings if they are there in time."""
    known = tuple(dict.fromkeys((*job.table.notices, *job.notices)))
    if deadline.limited and not found.done():
        return known
    try:
        warnings = found.result().warnings
    except Exception:  # remarks for the screen must not cost the model
        logger.warning("the table could not be profiled", exc_info=True)
        return known
    # what the user has already seen to needs no remark
    seen_to = {"time_order": options.time_column, "repeated_ids": options.group_column}
    return *known, *(notice for notice in warnings if seen_to.get(notice.topic) is None)


def _no_model(trials: list[Trial], options: FitOptions, journal: Journal) -> AutomlError:
    if journal.error is not None:
        return explain(journal.error, journal.path)
    reasons = "; ".join(f"{count} x {reason}" for reason, count in failures(trials)[:3])
    if reasons:
        return NoModel(
            f"all {len(trials)} trials failed ({reasons})", hint="see automl fit --debug, or --include others"
        )
    return NoModel("no trial ended within the limit", hint=f"give it more than --time {options.seconds:g}s")
