"""The search: a generator that keeps proposals in flight until the deadline and yields what happens."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, wait
from dataclasses import dataclass, field, replace

import numpy as np

from automl_cli.clock import Deadline
from automl_cli.errors import UsageError
from automl_cli.optimizer import Optimizer, SpaceExhausted
from automl_cli.patience import LISTED, REPEATED, WINNER, Patience
from automl_cli.trial import Failure, Pipeline, Proposal, Success, Trial

LAG = 4  # proposal k sees exactly the trials up to k - LAG, so that up to LAG workers give the same run
STOPPED = "stopped with the search"
HOPELESS = 20  # failures, and nothing else: something is wrong that trying on does not mend
POLL_SECONDS = 0.2  # how soon an interrupt is noticed
MOST_UNRACED = 3  # past winners, the first ones: where trials take long, all eight of them would take the whole run


@dataclass(frozen=True)
class Execution:
    """How proposals are carried out.

    Attributes
    ----------
    submit : callable
        Hands a proposal to the workers; the future gives the trial, or the error that killed its worker.
    rescue : callable
        ``rescue(proposal, reason, seconds)`` makes a trial of what a dead or stopped worker left on disk.
    interrupted : callable
        Whether the search should stop now.
    kept : callable
        Seconds before the deadline that ending the run will need by now: a trial that reached into them would be
        stopped before its end.
    eligible : callable
        Whether others may be raced against a complete trial: one that can never be the model would push out those
        that can.
    """

    submit: Callable[[Proposal], "Future[Trial]"]
    rescue: Callable[[Proposal, str, float], Trial]
    interrupted: Callable[[], bool]
    kept: Callable[[], float] = lambda: 0.0
    eligible: Callable[[Success], bool] = lambda trial: True


@dataclass(frozen=True)
class Started:
    """A proposal went to a worker."""

    proposal: Proposal


@dataclass(frozen=True)
class Finished:
    """A trial ended.

    Attributes
    ----------
    recorded : bool
        It was taken from the journal of an interrupted run.
    stopped : bool
        It was ended because the search was: its folds count for the model, but it says nothing about its pipeline.
    """

    trial: Trial
    recorded: bool = False
    stopped: bool = False


@dataclass(frozen=True)
class OutOfPatience:
    """The search ends before its limit: ``n_trials`` in a row have improved nothing."""

    n_trials: int


Happening = Started | Finished | OutOfPatience


@dataclass(frozen=True)
class Rules:
    """What the search may do.

    Attributes
    ----------
    width : int
        Proposals in flight at once.
    threads : int
        Threads of one fit; depends on the data alone.
    n_trials : int or None
        End after so many trials. With a number and no time limit the run is reproducible.
    first_seconds : float
        Limit of the first trial of a timed run, so that there is a model soon.
    racing : bool
        Whether a candidate that cannot win is given up before its last fold.
    share : float
        Largest share of the seconds left that a later trial may take.
    again_share : float
        The same for a trial that was cut short and deserves more.
    shortest_seconds : float
        A trial that would have less is not started.
    """

    width: int
    threads: int
    seed: int
    n_trials: int | None = None
    first_seconds: float = 2.0
    racing: bool = True
    share: float = 0.3
    again_share: float = 0.5
    shortest_seconds: float = 0.7


@dataclass
class State:
    """What the search knows so far."""

    next_number: int = 0
    pending: dict["Future[Trial]", tuple[Proposal, float]] = field(default_factory=dict)
    trials: dict[int, Trial] = field(default_factory=dict)
    told: int = 0
    again: Pipeline | None = None
    ready: tuple[Pipeline, str] | None = None
    exhausted: bool = False
    families: set[str] = field(default_factory=set)
    winners: set[Pipeline] = field(default_factory=set)
    incumbent: Success | None = None
    leaders: dict[str, Success] = field(default_factory=dict)
    ended: set[str] = field(default_factory=set)
    patience: Patience = field(default_factory=Patience)
    eligible: Callable[[Success], bool] = lambda trial: True


def search(
    optimizer: Optimizer,
    execution: Execution,
    rules: Rules,
    *,
    deadline: Deadline,
    recorded: Mapping[int, Trial],
    patience: Patience | None = None,
) -> Iterator[Happening]:
    """Propose, evaluate and learn until the deadline, the number of trials, the end of patience or an interrupt.

    Parameters
    ----------
    optimizer : Optimizer
        Proposes pipelines and is told their losses.
    recorded : mapping of number to Trial
        Trials of the same run before it was interrupted; they are told, not evaluated again.
    patience : Patience or None
        Hears every trial; of a timed run also what whoever hears of them makes of them together.

    Yields
    ------
    Started, Finished, OutOfPatience
        In the order in which they happen.

    Notes
    -----
    Where only trials are counted, the optimizer is told in number order and proposal k sees exactly the trials
    up to k - 4, whatever the width up to 4, so that the run is the same for every number of workers. Patience is asked
    at the same place: where it is out, proposal k is not made, and the three trials before it run to their end.
    """
    state = State(patience=patience or Patience(), eligible=execution.eligible)
    if deadline.limited:
        yield from _timed(state, optimizer, execution, rules, deadline, recorded)
    else:
        yield from _counted(state, optimizer, execution, rules, recorded)


def _counted(
    state: State,
    optimizer: Optimizer,
    execution: Execution,
    rules: Rules,
    recorded: Mapping[int, Trial],
) -> Iterator[Happening]:
    """Search by number of trials: nothing depends on a clock or on which trial ended first."""
    last = rules.n_trials
    while not (execution.interrupted() or _hopeless(state)):
        while (last is None or state.next_number < last) and len(state.pending) < rules.width:
            if not _seen_up_to(state, optimizer, state.next_number - LAG) or state.patience.out:
                break
            asked = _ask(state, optimizer)
            if asked is None:
                break
            proposal = _proposal(state, rules, asked, seconds=None)
            if proposal.number in recorded:
                yield _replay(state, proposal, recorded[proposal.number])
                continue
            state.pending[execution.submit(proposal)] = (proposal, time.perf_counter())
            yield Started(proposal)
        if not state.pending:
            if state.patience.out:
                yield OutOfPatience(state.patience.waited)
            return
        for trial in _collect(state, execution, POLL_SECONDS):
            state.trials[trial.proposal.number] = trial
            yield Finished(trial)
    yield from _stop(state, execution)


def _seen_up_to(state: State, optimizer: Optimizer, number: int) -> bool:
    """Tell the optimizer every trial up to ``number`` in order; False if one of them has not ended yet."""
    while state.told <= number:
        trial = state.trials.get(state.told)
        if trial is None:
            return False
        _tell(state, optimizer, trial)
        state.told += 1
    return True


def _replay(state: State, proposal: Proposal, trial: Trial) -> Finished:
    """Take a trial from the journal in place of running it."""
    if trial.proposal.pipeline != proposal.pipeline:
        raise UsageError(
            f"trial {proposal.number} of the interrupted run differs from what this program proposes",
            hint="the data, the options or the version changed; start anew without --resume",
        )
    state.trials[proposal.number] = trial
    return Finished(trial, recorded=True)


def _timed(
    state: State,
    optimizer: Optimizer,
    execution: Execution,
    rules: Rules,
    deadline: Deadline,
    recorded: Mapping[int, Trial],
) -> Iterator[Happening]:
    """Search until the deadline; the optimizer is told each trial as soon as it ends."""
    state.next_number = max(recorded, default=-1) + 1
    for trial in recorded.values():
        _tell(state, optimizer, trial)
        state.families.add(trial.proposal.pipeline.family)
        state.patience.waited = 0  # whoever gives a run more time wants more trials of it
        yield Finished(trial, recorded=True)
    last = None if rules.n_trials is None else max(0, rules.n_trials - len(recorded)) + state.next_number
    ended: list[Trial] = []
    while not (execution.interrupted() or deadline.passed() or _hopeless(state)):
        if state.patience.out:
            # Before it ends, whoever hears of the last trials may weigh the model anew and find that it gained.
            yield from map(Finished, ended)
            ended = []
            if state.patience.out:
                yield OutOfPatience(state.patience.waited)
                break
        while len(state.pending) < rules.width and (last is None or state.next_number < last):
            seconds = _seconds_for_next(state, rules, deadline.seconds_left() - execution.kept())
            if seconds < rules.shortest_seconds:
                break
            asked = _next_pipeline(state, optimizer)
            if asked is None:
                break
            proposal = _proposal(state, rules, asked, seconds)
            state.pending[execution.submit(proposal)] = (proposal, time.perf_counter())
            yield Started(proposal)
        # Only now, because whoever hears of it may take a while (to save the model, say) and no worker should wait.
        yield from map(Finished, ended)
        ended = []
        if not state.pending:
            return
        if state.ready is None and len(state.trials) > rules.width:
            state.ready = _ask(state, optimizer)  # while the workers are busy, not while one waits
        for trial in _collect(state, execution, min(POLL_SECONDS, max(0.0, deadline.seconds_left()))):
            state.trials[trial.proposal.number] = trial
            if _deserves_more(trial, rules, deadline.seconds_left() - execution.kept()):
                state.again = trial.proposal.pipeline
                _judge(state, trial)
            else:
                _tell(state, optimizer, trial)
            ended.append(trial)
    yield from map(Finished, ended)
    yield from _stop(state, execution)


def _seconds_for_next(state: State, rules: Rules, left: float) -> float:
    """Return the limit of the next trial: short for the first, else a share of what is left."""
    if state.next_number == 0:
        return min(left, rules.first_seconds)
    share = rules.share if state.again is None else rules.again_share
    # Near the end a trial may take all that is left: a fit that is cut short still counts.
    return min(left, max(share * left, 4.0))


def _hopeless(state: State) -> bool:
    """Whether there have been nothing but failures, and many of them."""
    return len(state.trials) >= HOPELESS and all(isinstance(trial, Failure) for trial in state.trials.values())


def _deserves_more(trial: Trial, rules: Rules, left: float) -> bool:
    """Whether a trial was cut by its limit, or ended without all folds at it, although twice as much can be had now.

    In practice this is the first one, whose limit is short so that there is a model soon: what won on the table before
    may need more for its first fold alone.

    Parameters
    ----------
    left : float
        Seconds that trials may still take.
    """
    seconds = trial.proposal.seconds
    if seconds is None or rules.again_share * left < 2 * seconds:
        return False
    if isinstance(trial, Success) and (trial.complete or trial.cut or trial.given_up):
        return trial.cut and not trial.given_up
    return trial.seconds >= seconds  # else it ended for another reason, which more time does not mend


def _ask(state: State, optimizer: Optimizer) -> tuple[Pipeline, str] | None:
    """Return what the optimizer proposes; None once it has nothing new."""
    if state.exhausted:
        return None
    try:
        return optimizer.ask()
    except SpaceExhausted:
        state.exhausted = True
        return None


def _next_pipeline(state: State, optimizer: Optimizer) -> tuple[Pipeline, str] | None:
    """Return what to try next; a pipeline that was cut by its limit is given more time once."""
    if state.again is not None:
        again, state.again = state.again, None
        return again, REPEATED
    if state.ready is not None:
        ready, state.ready = state.ready, None
        return ready
    return _ask(state, optimizer)


def _proposal(state: State, rules: Rules, asked: tuple[Pipeline, str], seconds: float | None) -> Proposal:
    number = state.next_number
    state.next_number += 1
    seed = int(np.random.SeedSequence([rules.seed, number]).generate_state(1)[0] % 2**31)
    # The first pipeline of each family, or the next where that one did not come to its end, is not raced: an ensemble
    # gains from members that err differently, and a search that overfits its validation rows still has the defaults.
    # Nor are the first past winners, which won together.
    family = asked[0].family
    if asked[1] == WINNER and len(state.winners) < MOST_UNRACED:
        state.winners.add(asked[0])
    is_first = family not in state.families or (family in state.ended and family not in state.leaders)
    raced = rules.racing and state.incumbent is not None and not is_first and asked[0] not in state.winners
    state.families.add(family)
    incumbent = state.incumbent.losses if raced and state.incumbent is not None else ()
    leader = state.leaders[family].losses if raced and family in state.leaders else ()
    return Proposal(number, *asked, seed, rules.threads, incumbent, seconds, leader)


def _tell(state: State, optimizer: Optimizer, trial: Trial) -> None:
    """Tell the optimizer, and judge the trial."""
    best = state.incumbent.losses if state.incumbent is not None else ()
    loss = comparable_loss(trial, trial.proposal.incumbent or best) if isinstance(trial, Success) else None
    optimizer.tell(trial.proposal.pipeline, loss, trial.seconds)
    _judge(state, trial)


def comparable_loss(trial: Success, best: Sequence[float]) -> float:
    """Return what a trial would have lost on all folds, as far as its distance from a complete one on its own tells.

    Folds differ: one that was given up after the easiest would look better than every complete trial.

    >>> from automl_cli.trial import Pipeline
    >>> asked = Proposal(0, Pipeline("linear", "one_hot", {}), "smac", 0, 1)
    >>> comparable_loss(Success(asked, (0.25,), 1.0, complete=False), best=(0.125, 0.25, 0.375))
    0.375
    """
    n = len(trial.losses)
    if trial.complete or n >= len(best):
        return trial.loss
    loss = sum(best) / len(best) + trial.loss - sum(best[:n]) / n
    return 0.0 if loss < 0 else loss  # what is not a number stays so


def _judge(state: State, trial: Trial) -> None:
    """Keep the best complete trial for the race, and count the trials without a gain."""
    state.patience.hear(trial)
    # What runs of the portfolio would be cut short. In a counted run the trial is then of the portfolio itself, for the
    # list is handed out in order: which trials happen to run decides nothing.
    if any(proposal.origin in LISTED for proposal, _ in state.pending.values()):
        state.patience.waited = 0
    family = trial.proposal.pipeline.family
    state.ended.add(family)
    if not (isinstance(trial, Success) and trial.complete):
        return
    if family not in state.leaders or trial.loss < state.leaders[family].loss:
        state.leaders[family] = trial
    if state.eligible(trial) and (state.incumbent is None or trial.loss < state.incumbent.loss):
        state.incumbent = trial


def _collect(state: State, execution: Execution, timeout: float) -> Iterator[Trial]:
    """Wait a moment and give the trials that ended, in number order."""
    done, _ = wait(state.pending, timeout=timeout, return_when=FIRST_COMPLETED)
    if execution.interrupted():
        return  # what a lost cluster took along is no failure of its pipeline
    for future in sorted(done, key=lambda f: state.pending[f][0].number):
        proposal, started = state.pending.pop(future)
        if future.cancelled():  # not by anybody here: a cluster lost it, which may be there again
            state.pending[execution.submit(proposal)] = (proposal, started)
            continue
        yield _outcome(future, proposal, time.perf_counter() - started, execution)


def _outcome(future: "Future[Trial]", proposal: Proposal, seconds: float, execution: Execution) -> Trial:
    """Turn a future into a trial; a worker that died or was killed leaves its finished folds."""
    try:
        return future.result(timeout=0)
    except CancelledError:
        return execution.rescue(proposal, STOPPED, seconds)
    except Exception as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        trial = execution.rescue(proposal, reason, seconds)
        return replace(trial, reason=reason) if isinstance(trial, Failure) else trial


def _stop(state: State, execution: Execution) -> Iterator[Finished]:
    """End what still runs, and keep the folds it had finished."""
    for future, (proposal, started) in sorted(state.pending.items(), key=lambda item: item[1][0].number):
        seconds = time.perf_counter() - started
        if future.done() and not future.cancelled() and future.exception() is None:
            yield Finished(future.result())
            continue
        future.cancel()
        yield Finished(execution.rescue(proposal, STOPPED, seconds), stopped=True)
    state.pending.clear()
