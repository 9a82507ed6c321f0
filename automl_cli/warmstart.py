"""A fit looks up what past runs measured, and leaves what it has measured itself; neither can stop it."""

import contextlib
import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from automl_cli.background import Background
from automl_cli.candidates import as_it_was, reference_pipeline, remembered_as, suited
from automl_cli.clock import Deadline
from automl_cli.errors import AutomlError
from automl_cli.experience.records import Dataset, Neighbour, Recalled, RunRecord, evaluation_of
from automl_cli.experience.similar import shipped_weights
from automl_cli.families import find_families
from automl_cli.families.family import Family, Shape
from automl_cli.job import Job
from automl_cli.members import Chosen
from automl_cli.metafeatures import measure
from automl_cli.options import FitOptions
from automl_cli.patience import RECALLED, WINNER
from automl_cli.remembering import dataset_of, run_of, table_name
from automl_cli.space import load_space
from automl_cli.transfer.adaptation import split_name
from automl_cli.trial import Pipeline, Success, Trial

if TYPE_CHECKING:
    from automl_cli.experience.store import Store

logger = logging.getLogger(__name__)
SHORTEST_LIMIT = 15.0  # seconds; a shorter run is over before a look-up pays
MOST_FEATURE_SECONDS = 3.0
LEAST_FEATURE_SECONDS = 0.5
FEATURE_SHARE = 0.01  # of the limit, between the two
MOST_WAIT = 2.0  # seconds for another writer at the end of a run
MOST_ASKING = 1.0  # seconds that nothing runs because a store is asked what won; the look-up finds that as well
MOST_WRITING = 6.0  # seconds for a store that could not be read
LEAST_LEFT = 0.3  # of the limit: with less, a run waits in a file for the next one
_Here = Callable[[Pipeline, Mapping[str, Family], Shape], Pipeline | None]


@dataclass
class Memory:
    """What a fit reads and writes of the experience.

    Attributes
    ----------
    url : str or None
        Of the user's own store; None: nothing is read or written, of the shipped one neither.
    reads_own : bool
        Whether own runs are looked up. Where trials are counted they are not, unless the user names a store: the same
        data, seed and number must give the same result today and tomorrow.
    store, prior : Store or None
        Once they are open.
    salt : bytes
        Of the user's store once it was open, also where it could not be asked after that.
    dataset : Dataset or None
        The table at hand in numbers, once it is measured.
    recalled : Recalled
        What was found.
    problems : list of str
        What to tell the user: a store that cannot be used never stops a fit.
    """

    url: str | None
    reads_own: bool
    store: "Store | None" = None
    prior: "Store | None" = None
    salt: bytes = b""
    dataset: Dataset | None = None
    recalled: Recalled = field(default_factory=Recalled)
    problems: list[str] = field(default_factory=list)

    @property
    def asked(self) -> bool:
        """Whether there is anything to look up."""
        return self.prior is not None or (self.store is not None and self.reads_own)


def memory_of(options: FitOptions) -> Memory:
    """Decide what a fit may read and write; nothing is opened yet.

    Raises
    ------
    UsageError
        The user named a store by something that is no address.
    """
    from automl_cli.experience.address import find_url  # noqa: PLC0415

    return Memory(find_url(options.experience), options.seconds is not None or options.experience is not None)


def open_memory(memory: Memory) -> Memory:
    """Open both stores for reading, the user's only where there is one yet; call it in a thread."""
    if memory.url is None:
        return memory
    try:
        # here, since SQLAlchemy takes a quarter of a second to import
        from automl_cli.experience.access import open_prior, open_store, path_of  # noqa: PLC0415

        memory.prior = open_prior()
        path = path_of(memory.url)
        if path is None or path.exists():
            store = open_store(memory.url, wait=MOST_WAIT)
            memory.salt, memory.store = store.salt, store  # in this order: others may look at any moment
            load_space()  # for what won before, which is tried first
    except Exception as error:
        _without(memory, error)
    return memory


@dataclass(frozen=True)
class Opening:
    """Stores of past runs, as far as they are open by now."""

    memory: Memory
    work: Background[Memory]

    def opened(self, deadline: Deadline) -> Memory:
        """Wait for them, in a timed run not for long."""
        self.work.result_within(MOST_WAIT if deadline.limited else math.inf)
        return self.memory


def _without(memory: Memory, error: Exception) -> None:
    """Note in one line why the fit goes on without what was remembered."""
    memory.store = None
    if not isinstance(error, AutomlError):
        logger.warning("the experience could not be asked", exc_info=True)
        error = AutomlError(f"the experience could not be asked ({type(error).__name__})")
    memory.problems.append(_goes_on(str(error)))


def _goes_on(problem: str) -> str:
    return f"{problem}; going on without it"


def winners_of(memory: Memory, job: Job, *, resume: bool, wait: float = math.inf) -> tuple[Pipeline, ...]:
    """Return what won in earlier runs on this table: tried first, so that there is a good model at once.

    A run that is resumed begins with what it began with: what it noted, or nothing if it had trials and no note.

    Parameters
    ----------
    wait : float
        Seconds after which the run begins without them.
    """
    if resume and (job.recorded or "winners" in job.run.facts()):
        return _noted(job, "winners")
    store = memory.store
    if store is None or not memory.reads_own:
        return ()
    try:
        from automl_cli.experience.access import earlier_winners  # noqa: PLC0415

        here, metric = dataset_of(job, "", {}, store.salt), job.data.metric.name
        asking = Background(lambda: earlier_winners(store, here, _suit(job, as_it_was), metric))
        winners = asking.result_within(wait)
        if winners is None:
            return ()
        job.run.note({"winners": [pipeline.to_json() for pipeline in winners]})
    except Exception as error:  # what was remembered must not cost the model
        _without(memory, error)
        return ()
    return winners


def _noted(job: Job, name: str) -> tuple[Pipeline, ...]:
    return tuple(Pipeline.from_json(item) for item in job.run.facts().get(name, ()))


def look_up(memory: Memory, job: Job, options: FitOptions, deadline: Deadline) -> Recalled:
    """Measure the table and recall what did well on tables like it; whatever fails, the fit goes on without."""
    if memory.url is None:
        return memory.recalled
    try:
        from automl_cli.experience.access import recall  # noqa: PLC0415

        store = memory.store
        seconds = math.inf
        if deadline.limited:
            seconds = min(max(LEAST_FEATURE_SECONDS, FEATURE_SHARE * deadline.total), MOST_FEATURE_SECONDS)
        features = measure(job.data.frame, job.task, seconds=seconds, first=tuple(shipped_weights(job.task.kind)))
        memory.dataset = dataset_of(job, table_name(options.data), features, memory.salt)
        pays = not deadline.limited or deadline.total >= SHORTEST_LIMIT
        if options.resume and "recalled" in job.run.facts():
            memory.recalled = _recalled_before(job)
        elif pays and memory.asked:
            memory.recalled = recall(
                memory.dataset,
                prior=memory.prior,
                own=store if memory.reads_own else None,
                suit=_suit(job, suited),
                suit_same=_suit(job, as_it_was),
                now=time.time(),
                reference=reference_pipeline(find_families(), job.task.kind),
                metric=job.data.metric.name,
            )
            memory.problems += [_goes_on(problem) for problem in memory.recalled.problems]
    except Exception as error:  # what was remembered must not cost the model
        _without(memory, error)
    # Also where it is nothing: a counted run that is resumed must not find what came into the store since.
    with contextlib.suppress(OSError):  # a full disk ends the search by itself
        if not (options.resume and "recalled" in job.run.facts()):
            found = memory.recalled
            lists = {"recalled_winners": found.winners, "recalled": found.pipelines, "poor": found.poor}
            noted = {name: [pipeline.to_json() for pipeline in one] for name, one in lists.items()}
            told_by = [asdict(neighbour) for neighbour in found.neighbours]
            because = {"gains": found.gains, "neighbours": told_by, "same_table_runs": found.same_table_runs}
            job.run.note({**noted, "recalled_because": because})
    return memory.recalled


def _recalled_before(job: Job) -> Recalled:
    """Return what a run that is resumed had recalled; older versions of the program did not note why."""
    because = job.run.facts().get("recalled_because", {})
    return Recalled(
        winners=_noted(job, "recalled_winners"),
        pipelines=_noted(job, "recalled"),
        gains=tuple(because.get("gains", ())),
        neighbours=tuple(Neighbour(**neighbour) for neighbour in because.get("neighbours", ())),
        same_table_runs=because.get("same_table_runs", 0),
        poor=_noted(job, "poor"),
    )


def _suit(job: Job, here: _Here) -> Callable[[Pipeline], tuple[Pipeline, float] | None]:
    """Return what gives a past pipeline as it suits this table, with a guess of a trial's seconds."""
    families, shape, n_folds = job.families, job.shape, len(job.plan.folds)

    def suit(pipeline: Pipeline) -> tuple[Pipeline, float] | None:
        own = here(pipeline, families, shape)
        if own is None:
            return None
        return own, n_folds * families[own.family].seconds(shape, own.hyperparameters)

    return suit


def leave(
    memory: Memory,
    job: Job,
    options: FitOptions,
    trials: Sequence[Trial],
    chosen: Chosen,
    deadline: Deadline,
) -> None:
    """Write a run into the user's store; where it could not be, one line is added to the problems.

    Where the time is nearly over, or another process holds the store, the run waits in a file until the next one.
    """
    plain = [trial for trial in trials if not _adapted(trial)]  # others say nothing of a table without this source
    if memory.url is None or not plain:
        return

    try:
        # in a short run on a large table the measuring may not have ended; a later run adds what is missing
        features = {} if memory.dataset is None else memory.dataset.features
        dataset = dataset_of(job, table_name(options.data), features, memory.salt)  # it may have been opened since
        n_folds = len(job.plan.folds)
        ranked = sorted(chosen.members, key=lambda member: -abs(member[1]))

        def known_as(trial: Trial) -> Pipeline:
            return remembered_as(trial.proposal.pipeline, job.families, job.shape)

        run = run_of(
            job,
            dataset,
            [
                replace(evaluation_of(trial, n_folds), pipeline=known_as(trial))
                for trial in sorted(plain, key=lambda t: t.proposal.number)
            ],
            origin="fit",
            seconds=deadline.elapsed(),
            limit=options.seconds,
            loss=chosen.mean_loss,
            members=[known_as(trial) for trial, _ in ranked if not _adapted(trial)],
        )
        problem = write_in_time(memory, job, run, deadline)
        memory.problems += [problem] if problem else []
    except AutomlError as error:
        memory.problems.append(f"{error}; this run is not remembered")
    except Exception as error:  # the model is saved: nothing may turn that into a failure
        logger.warning("the run could not be remembered", exc_info=True)
        memory.problems.append(f"this run could not be remembered ({type(error).__name__})")


def write_in_time(memory: Memory, job: Job, run: RunRecord, deadline: Deadline) -> str:
    """Write a run into the store, or into a file beside it where there is no time; return a problem, if any, to tell.

    A server is written to in a thread that is left behind: to connect and to wait for a lock may take it seconds
    whatever it is asked for, and a timed run seldom has more than two by now. So is a store that was opened and could
    not be read: what is wrong with one past run is no reason to forget this one.
    """
    from automl_cli.experience.access import keep_for_later, left_waiting, open_store, path_of, remember  # noqa: PLC0415

    url = memory.url
    if url is None:
        return ""

    def left() -> float:
        return deadline.seconds_left() - LEAST_LEFT if deadline.limited else math.inf

    # digests without the store's salt are nobody's
    waits = run if memory.salt else replace(run, dataset=replace(run.dataset, target="", columns=()))

    def write() -> str:
        if memory.store is not None:
            return remember(url, run, wait=_patience(left()), left=left) or ""
        try:
            store = open_store(url, wait=_patience(left()))
        except AutomlError as error:  # other first runs make it right now, say
            return left_waiting(url, waits, error) or ""
        ours = dataset_of(job, run.dataset.name, run.dataset.features, store.salt)
        return remember(url, replace(run, dataset=ours), wait=_patience(left()), left=left) or ""

    said = None
    if memory.problems and memory.salt and left() >= 0:
        said = Background(write).result_within(min(left(), MOST_WRITING))
        said = None if said is None else ""  # what is wrong with the store was said before
    elif not memory.problems and left() >= 0:  # else said before, or no time to find out
        said = write() if path_of(url) is not None else Background(write).result_within(left())
    if said is None:
        logger.info("there is no time to write the run; it waits for the next one")
        keep_for_later(url, waits)
    return said or ""


def _adapted(trial: Trial) -> bool:
    return bool(split_name(trial.proposal.pipeline.encoding)[1])


def _patience(left: float) -> float:
    """Return how long to wait for another writer where so many seconds are left for it."""
    return min(MOST_WAIT, max(0.05, left))


def told(memory: Memory, trials: Sequence[Trial], chosen: Chosen | None) -> dict[str, Any]:
    """Return what a model file and the screen say of the experience, as JSON values."""
    recalled = memory.recalled
    complete = [trial for trial in trials if isinstance(trial, Success) and trial.complete]
    # by pipeline: one that was cut by its seconds is tried a second time, and no longer by the name of who lent it
    lent = {trial.proposal.pipeline for trial in trials if trial.proposal.origin in (WINNER, RECALLED)}
    borrowed = [trial for trial in complete if trial.proposal.pipeline in lent]
    others = [trial for trial in complete if trial.proposal.pipeline not in lent]
    members = [] if chosen is None else [trial for trial, _ in chosen.members]
    return {
        "same_table_runs": recalled.same_table_runs,
        # without their names: a model file is handed on, and they are names of the user's files
        "neighbours": [
            {"distance": round(n.distance, 4), "own": n.own, "trials": n.n_evaluations} for n in recalled.neighbours
        ],
        "borrowed": len({trial.proposal.pipeline for trial in borrowed}),
        "best_borrowed": min((trial.loss for trial in borrowed), default=None),
        "best_other": min((trial.loss for trial in others), default=None),
        "members_borrowed": sum(trial.proposal.pipeline in lent for trial in members),
        "members": len(members),
    }
