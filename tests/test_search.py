"""The search loop, with a clock of its own and trials that end at once."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace

import pytest

from automl_cli.clock import Deadline
from automl_cli.errors import UsageError
from automl_cli.optimizer import Optimizer, Portfolio, SpaceExhausted
from automl_cli.patience import WINNER, Patience
from automl_cli.search import LAG, Execution, Finished, Happening, OutOfPatience, Rules, Started, search
from automl_cli.trial import Failure, Pipeline, Proposal, Success, Trial

Result = Trial | BaseException


def pipeline(family: str, C: float) -> Pipeline:
    return Pipeline(family, "one_hot", {"C": C})


@dataclass
class Listed(Optimizer):
    """Hands out a list, then nothing; notes what it is told."""

    pipelines: list[Pipeline]
    told: list[tuple[Pipeline, float | None]] = field(default_factory=list)
    n_listed: int = 10**9

    def ask(self) -> tuple[Pipeline, str]:
        if not self.pipelines:
            raise SpaceExhausted
        self.n_listed -= 1
        return self.pipelines.pop(0), "portfolio" if self.n_listed >= 0 else "smac"

    def tell(self, pipeline: Pipeline, loss: float | None, seconds: float) -> None:
        self.told.append((pipeline, loss))


@dataclass
class World:
    """A clock that moves by what each trial takes, and what became of the proposals."""

    outcome: Callable[[Proposal], Result]
    took: float = 1.0
    now: float = 0.0
    proposals: list[Proposal] = field(default_factory=list)
    rescued: list[tuple[int, str]] = field(default_factory=list)
    stop_after: int = 10**9

    def submit(self, proposal: Proposal) -> "Future[Trial]":
        self.proposals.append(proposal)
        self.now += self.took
        future: Future[Trial] = Future()
        result = self.outcome(proposal)
        if isinstance(result, BaseException):
            future.set_exception(result)
        else:
            future.set_result(result)
        return future

    def rescue(self, proposal: Proposal, reason: str, seconds: float) -> Trial:
        self.rescued.append((proposal.number, reason))
        return Failure(proposal, reason, seconds)

    def run(
        self,
        optimizer: Optimizer,
        *,
        limit: float | None = 60.0,
        n_trials: int | None = None,
        recorded: Sequence[Trial] = (),
        patience: int | None = None,
        width: int = 1,
    ) -> list[Happening]:
        execution = Execution(self.submit, self.rescue, lambda: len(self.proposals) >= self.stop_after)
        rules = Rules(width=width, threads=1, seed=5, n_trials=n_trials)
        deadline = Deadline.after(limit, clock=lambda: self.now)
        known = {trial.proposal.number: trial for trial in recorded}
        return list(search(optimizer, execution, rules, deadline=deadline, recorded=known, patience=Patience(patience)))


def good(proposal: Proposal, *losses: float, cut: bool = False) -> Success:
    return Success(proposal, losses or (0.5, 0.6), 1.0, complete=True, cut=cut)


def trials(events: Sequence[Happening]) -> list[Trial]:
    return [event.trial for event in events if isinstance(event, Finished)]


@pytest.mark.parametrize("limit", [None, 60.0])
def test_the_end_of_the_space_ends_the_search(limit: float | None) -> None:
    world = World(good)
    events = world.run(Listed([pipeline("linear", C) for C in (1.0, 2.0, 3.0)]), limit=limit)
    assert [trial.proposal.number for trial in trials(events)] == [0, 1, 2]
    assert world.now == 3.0


@pytest.mark.parametrize("limit", [None, 60.0])
def test_the_number_of_trials_ends_the_search(limit: float | None) -> None:
    optimizer = Listed([pipeline("linear", float(C)) for C in range(9)])
    assert len(trials(World(good).run(optimizer, limit=limit, n_trials=4))) == 4


def test_the_next_trial_starts_before_anybody_hears_of_the_last() -> None:
    # whoever hears of it may save a model, and no worker should wait for that
    events = World(good).run(Listed([pipeline("linear", C) for C in (1.0, 2.0, 3.0)]))
    order = [
        ("start", e.proposal.number) if isinstance(e, Started) else ("end", e.trial.proposal.number) for e in events
    ]
    assert order == [("start", 0), ("start", 1), ("end", 0), ("start", 2), ("end", 1), ("end", 2)]


@pytest.mark.parametrize("limit", [None, 1000.0])
def test_an_interrupt_ends_the_search_and_keeps_what_is_there(limit: float | None) -> None:
    world = World(good, stop_after=3)
    events = world.run(Listed([pipeline("linear", float(C)) for C in range(9)]), limit=limit)
    assert [trial.proposal.number for trial in trials(events)] == [0, 1, 2]
    assert all(isinstance(trial, Success) for trial in trials(events))


@pytest.mark.parametrize("limit", [None, 60.0])
def test_the_first_of_each_family_is_never_raced(limit: float | None) -> None:
    names = ["linear", "linear", "lightgbm", "lightgbm", "linear"]
    world = World(lambda p: good(p, 0.3 + p.number, 0.4))
    world.run(Listed([pipeline(name, float(C)) for C, name in enumerate(names)]), limit=limit)
    raced = [bool(p.incumbent) for p in world.proposals]
    assert raced[0] is raced[2] is False
    assert raced[4] is True  # a counted run knows at proposal 4 what became of trial 0
    assert world.proposals[4].incumbent == (0.3, 0.4)


@pytest.mark.parametrize("limit", [None, 60.0])
def test_the_first_three_winners_of_past_runs_are_not_raced(limit: float | None) -> None:
    won = [pipeline("linear", float(C)) for C in range(6)]
    world = World(good)
    world.run(Portfolio(won, Listed([pipeline("linear", 9.0)]), origin=WINNER), limit=limit)
    raced = [bool(p.incumbent) for p in world.proposals]
    assert raced[:3] == [False, False, False]
    assert raced[4:] == [True, True, True], "the fourth too, where a trial has ended by then"


def test_a_winner_that_is_tried_again_is_not_raced_either() -> None:
    world = World(lambda p: good(p, cut=p.number == 0))
    world.run(Portfolio([pipeline("linear", 1.0)], Listed([]), origin=WINNER))
    assert [(p.origin, bool(p.incumbent)) for p in world.proposals] == [("winner", False), ("again", False)]


def test_a_race_is_against_the_best_complete_trial() -> None:
    losses = {0: (0.5, 0.5), 1: (0.2, 0.3), 2: (0.4, 0.4), 3: (0.1, 0.1)}
    world = World(lambda p: replace(good(p, *losses.get(p.number, (9.0, 9.0))), complete=p.number != 3))
    world.run(Listed([pipeline("linear", float(C)) for C in range(5)]))
    assert [p.incumbent for p in world.proposals] == [(), (0.5, 0.5), (0.2, 0.3), (0.2, 0.3), (0.2, 0.3)]


def test_a_trial_is_told_of_the_best_complete_one_of_its_family() -> None:
    names = ["linear", "lightgbm", "linear", "linear", "linear", "lightgbm", "linear", "lightgbm"]
    losses = {0: (0.5, 0.5), 1: (0.2, 0.3), 2: (0.4, 0.4), 3: (0.1, 0.1)}
    world = World(lambda p: replace(good(p, *losses.get(p.number, (9.0, 9.0))), complete=p.number != 3))
    world.run(Listed([pipeline(name, float(C)) for C, name in enumerate(names)]))
    linear, lightgbm = (0.4, 0.4), (0.2, 0.3)
    assert [p.leader for p in world.proposals] == [(), (), (0.5, 0.5), linear, linear, lightgbm, linear, lightgbm]


@pytest.mark.parametrize("limit", [None, 60.0])
def test_of_a_trial_that_was_given_up_the_optimizer_hears_how_it_compares(limit: float | None) -> None:
    # by the first fold alone, an easy one, it would look as good as the best complete trial does on all of them
    world = World(lambda p: good(p, 0.2, 0.4) if p.number != 6 else replace(good(p, 0.3), complete=False))
    optimizer = Listed([pipeline("linear", float(C)) for C in range(15)])
    world.run(optimizer, limit=limit)
    told = dict(optimizer.told)
    assert told.pop(pipeline("linear", 6.0)) == pytest.approx(0.3 + 0.1)
    assert list(told.values()) == pytest.approx([0.3] * len(told))


def test_a_failure_is_told_as_a_failure_and_the_search_goes_on() -> None:
    optimizer = Listed([pipeline("linear", C) for C in (1.0, 2.0)])
    world = World(lambda p: good(p) if p.number else Failure(p, "ValueError: no", 0.1))
    assert [type(trial) for trial in trials(world.run(optimizer))] == [Failure, Success]
    assert [(told.hyperparameters["C"], loss) for told, loss in optimizer.told] == [(1.0, None), (2.0, 0.55)]


@pytest.mark.parametrize("limit", [None, 60.0])
def test_a_dead_worker_is_a_failure_with_its_reason(limit: float | None) -> None:
    world = World(lambda p: good(p) if p.number else RuntimeError("worker killed\nby signal 9"))
    first, second = trials(world.run(Listed([pipeline("linear", C) for C in (1.0, 2.0)]), limit=limit))
    assert isinstance(first, Failure)
    assert first.reason == "RuntimeError: worker killed by signal 9"
    assert isinstance(second, Success)


@pytest.mark.parametrize("limit", [None, 60.0])
def test_a_trial_that_a_cluster_lost_is_run_again(limit: float | None) -> None:
    world, lost = World(good), []
    submit = world.submit

    def lose_the_first(proposal: Proposal) -> "Future[Trial]":
        if lost:
            return submit(proposal)
        lost.append(proposal)
        future: Future[Trial] = Future()
        future.cancel()
        future.set_running_or_notify_cancel()
        return future

    world.submit = lose_the_first  # type: ignore[method-assign]
    first, second = trials(world.run(Listed([pipeline("linear", C) for C in (1.0, 2.0)]), limit=limit))
    assert isinstance(first, Success)
    assert isinstance(second, Success)
    assert {first.proposal.number, second.proposal.number} == {0, 1}


def test_finished_folds_of_a_dead_worker_are_kept() -> None:
    optimizer = Listed([pipeline("linear", 1.0)])
    world = World(lambda p: RuntimeError("gone"))
    kept = Success(Proposal(0, pipeline("linear", 1.0), "portfolio", 0, 1), (0.25,), 1.0, complete=False, note="gone")
    world.rescue = lambda proposal, reason, seconds: kept  # type: ignore[method-assign]  # two folds were planned
    assert trials(world.run(optimizer)) == [kept]
    assert optimizer.told == [(pipeline("linear", 1.0), 0.25)]


def test_what_still_runs_at_the_end_is_ended_and_its_folds_are_read() -> None:
    world = World(good)
    futures: list[Future[Trial]] = []

    def submit(proposal: Proposal) -> "Future[Trial]":
        world.proposals.append(proposal)
        world.now += 100.0
        futures.append(Future())
        return futures[-1]

    world.submit = submit  # type: ignore[method-assign]
    events = world.run(Listed([pipeline("linear", 1.0)]))
    assert [number for number, _ in world.rescued] == [0]
    assert "stopped" in world.rescued[0][1]
    assert futures[0].cancelled()
    assert len(trials(events)) == 1


def test_a_trial_that_was_cut_gets_another_chance_with_more_time() -> None:
    optimizer = Listed([pipeline("linear", C) for C in (1.0, 2.0)])
    world = World(lambda p: good(p, cut=p.number == 0))
    events = world.run(optimizer, limit=100.0)
    assert [(p.origin, p.pipeline.hyperparameters["C"]) for p in world.proposals] == [
        ("portfolio", 1.0), ("again", 1.0), ("portfolio", 2.0)]  # fmt: skip
    first, second = world.proposals[0].seconds, world.proposals[1].seconds
    assert first is not None
    assert second is not None
    assert second >= 2 * first
    # The loss of a fit that was cut would mislead the optimizer: it hears of the pipeline once.
    assert [told.hyperparameters["C"] for told, _ in optimizer.told] == [1.0, 2.0]
    assert len(trials(events)) == 3


@pytest.mark.parametrize("folds", [(), (0.4,)])
def test_a_heavy_winner_that_the_short_first_limit_ended_gets_another_chance(folds: tuple[float, ...]) -> None:
    """It won with more time: killed before its first fold, or out of time after it, says nothing against it."""

    def outcome(proposal: Proposal) -> Trial:
        if proposal.number:
            return good(proposal, 0.1)
        took = 1.5 * (proposal.seconds or 0.0) + 2.0
        return Success(proposal, folds, took, complete=False) if folds else Failure(proposal, "TimeoutError", took)

    learner = Listed([pipeline("linear", 2.0)])
    world = World(outcome)
    world.run(Portfolio([pipeline("catboost", 1.0)], learner, origin=WINNER), limit=100.0)
    assert [(p.pipeline.family, p.origin) for p in world.proposals] == [
        ("catboost", "winner"), ("catboost", "again"), ("linear", "portfolio")]  # fmt: skip
    assert learner.told == [(pipeline("catboost", 1.0), 0.1), (pipeline("linear", 2.0), 0.1)]


def test_a_first_trial_that_failed_for_another_reason_is_not_repeated() -> None:
    world = World(lambda p: good(p) if p.number else Failure(p, "WorkerDied", 0.5))
    world.run(Listed([pipeline("linear", C) for C in (1.0, 2.0)]), limit=100.0)
    assert [p.pipeline.hyperparameters["C"] for p in world.proposals] == [1.0, 2.0]


def test_what_is_kept_for_the_end_is_not_there_to_repeat_with() -> None:
    world = World(lambda p: good(p, cut=True), took=0.5)
    execution = Execution(world.submit, world.rescue, lambda: False, kept=lambda: 95.0)
    deadline, rules = Deadline.after(100.0, clock=lambda: world.now), Rules(width=1, threads=1, seed=5)
    optimizer = Listed([pipeline("linear", 1.0)])
    list(search(optimizer, execution, rules, deadline=deadline, recorded={}, patience=Patience(None)))
    assert [p.origin for p in world.proposals] == ["portfolio"]


def test_a_cut_trial_near_the_end_counts_as_it_is() -> None:
    optimizer = Listed([pipeline("linear", 1.0)])
    world = World(lambda p: good(p, cut=True), took=2.0)
    world.run(optimizer, limit=3.0)
    assert len(world.proposals) == 1
    assert [told.hyperparameters["C"] for told, _ in optimizer.told] == [1.0]


def test_a_trial_keeps_its_seed_whatever_else_happens() -> None:
    one, other = World(good), World(good, took=7.0)
    one.run(Listed([pipeline("linear", float(C)) for C in range(4)]), limit=None)
    other.run(Listed([pipeline("lightgbm", float(C)) for C in range(4)]), limit=60.0)
    assert [p.seed for p in one.proposals] == [p.seed for p in other.proposals]
    assert len({p.seed for p in one.proposals}) == 4


def test_recorded_trials_are_not_run_again_in_a_counted_run() -> None:
    pipelines = [pipeline("linear", float(C)) for C in range(8)]
    whole = World(good)
    events = whole.run(Listed(list(pipelines)), limit=None)
    resumed = World(good)
    optimizer = Listed(list(pipelines))
    # Trial 4 had ended before trial 3 when the run was killed.
    known = [trial for trial in trials(events) if trial.proposal.number in (0, 1, 2, 4)]
    again = resumed.run(optimizer, limit=None, recorded=known)
    assert [p.number for p in resumed.proposals] == [3, 5, 6, 7]
    assert sorted(trials(again), key=lambda t: t.proposal.number) == trials(events)
    assert [event.recorded for event in again if isinstance(event, Finished)].count(True) == 4


def test_another_programs_trials_are_refused() -> None:
    known = good(Proposal(0, pipeline("linear", 99.0), "portfolio", 0, 1))
    with pytest.raises(UsageError, match="trial 0 of the interrupted run differs"):
        World(good).run(Listed([pipeline("linear", 1.0)]), limit=None, recorded=[known])


def test_a_timed_run_that_is_resumed_tells_what_is_known_and_counts_on() -> None:
    known = [good(Proposal(k, pipeline("linear", float(k)), "portfolio", 0, 1), 0.1 * (k + 1)) for k in (0, 1, 4)]
    optimizer = Listed([pipeline("linear", 7.0), pipeline("linear", 8.0)])
    world = World(good)
    events = world.run(optimizer, n_trials=4, recorded=known)
    # Number 4 had its folder: no new trial may take it; and three of four trials are done.
    assert [p.number for p in world.proposals] == [5]
    assert [loss for _, loss in optimizer.told[:3]] == pytest.approx([0.1, 0.2, 0.5])
    assert world.proposals[0].incumbent == pytest.approx((0.1,))
    assert len(trials(events)) == 4


def gaining(*numbers: int) -> Callable[[Proposal], Result]:
    """Each of these trials is better than all before it, and no other is."""
    return lambda p: good(p, 0.5 - 0.01 * p.number if p.number in numbers else 0.9)


def endless(n_listed: int = 0) -> Listed:
    return Listed([pipeline("linear", float(C)) for C in range(200)], n_listed=n_listed)


def test_a_timed_search_ends_once_so_many_trials_in_a_row_gained_nothing() -> None:
    world = World(gaining(0, 4, 9))
    *happened, last = world.run(endless(), limit=1000.0, patience=6)
    assert last == OutOfPatience(6)
    assert [trial.proposal.number for trial in trials(happened)] == list(range(16))
    assert world.now == 16.0, "nothing was begun in vain"


def test_failures_count_too() -> None:
    world = World(lambda p: Failure(p, "no", 0.1) if p.number else good(p))
    assert len(trials(world.run(endless(), limit=1000.0, patience=5))) == 6


@pytest.mark.parametrize("limit", [None, 1000.0])
def test_the_portfolio_is_tried_to_its_end_whatever_patience_says(limit: float | None) -> None:
    world = World(gaining(0))
    events = world.run(endless(n_listed=12), limit=limit, n_trials=100, patience=2)
    assert len(trials(events)) == 12 + 2 + (LAG - 1 if limit is None else 0)


def test_a_pipeline_of_the_portfolio_that_still_runs_is_waited_for() -> None:
    slow: Future[Trial] = Future()
    world = World(gaining(0))

    def submit(proposal: Proposal) -> "Future[Trial]":
        if proposal.number == 9:
            slow.set_result(good(running[0], 0.9))
        if proposal.number == 1:
            running.append(proposal)
            return slow
        return World.submit(world, proposal)

    running: list[Proposal] = []
    world.submit = submit  # type: ignore[method-assign]
    events = world.run(endless(n_listed=2), limit=1000.0, patience=3, width=2)
    assert 1 in [trial.proposal.number for trial in trials(events)]
    assert not world.rescued
    assert len(trials(events)) >= 10


def test_a_model_that_gained_in_the_meantime_keeps_the_search_going() -> None:
    """Whoever hears of the last trial weighs the model anew, before the search decides."""
    world, patience = World(gaining(0)), Patience(4)
    execution = Execution(world.submit, world.rescue, lambda: False)
    deadline = Deadline.after(1000.0, clock=lambda: world.now)
    rules = Rules(width=1, threads=1, seed=5)
    n_ended = 0
    for event in search(endless(), execution, rules, deadline=deadline, recorded={}, patience=patience):
        n_ended += isinstance(event, Finished)
        if patience.out:
            patience.hear_model(0.4)
    # 0 and four without a gain; the model gained; four more, and it has not gained again
    assert n_ended == 9


@pytest.mark.parametrize("n_recorded", [0, 3, 11])
@pytest.mark.parametrize("width", [1, 2, 4])
def test_a_counted_search_ends_at_the_same_trial_for_every_width_and_when_resumed(width: int, n_recorded: int) -> None:
    whole = trials(World(gaining(0, 4, 5)).run(endless(n_listed=2), limit=None, n_trials=60, patience=6))
    assert len(whole) == 6 + 6 + LAG - 1, "the three that are under way where it is decided run to their end"
    world = World(gaining(0, 4, 5))
    events = world.run(
        endless(n_listed=2), limit=None, n_trials=60, patience=6, width=width, recorded=whole[:n_recorded]
    )
    assert sorted(trials(events), key=lambda trial: trial.proposal.number) == whole
    assert events[-1] == OutOfPatience(6)
    assert len(world.proposals) == len(whole) - n_recorded


def test_a_search_that_comes_to_its_number_of_trials_was_patient_enough() -> None:
    events = World(gaining(0)).run(endless(), limit=None, n_trials=9, patience=6)
    assert not any(isinstance(event, OutOfPatience) for event in events)
    assert len(trials(events)) == 9


def test_a_timed_run_that_is_resumed_begins_to_count_anew() -> None:
    known = [good(Proposal(k, pipeline("linear", 500.0 + k), "smac", 0, 1), 0.3) for k in range(20)]
    world = World(lambda p: good(p, 0.4))
    world.run(endless(), limit=1000.0, patience=5, recorded=known)
    assert len(world.proposals) == 5, "what is known is the reference, and no reason to end at once"
