"""The search loop, with a clock of its own and trials that end at once."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace

import pytest

from automl_cli.clock import Deadline
from automl_cli.errors import UsageError
from automl_cli.optimizer import Optimizer, SpaceExhausted
from automl_cli.search import Execution, Finished, Rules, Started, search
from automl_cli.trial import Failure, Pipeline, Proposal, Success, Trial

Result = Trial | BaseException


def pipeline(family: str, C: float) -> Pipeline:
    return Pipeline(family, "one_hot", {"C": C})


@dataclass
class Listed(Optimizer):
    """Hands out a list, then nothing; notes what it is told."""

    pipelines: list[Pipeline]
    told: list[tuple[Pipeline, float | None]] = field(default_factory=list)

    def ask(self) -> tuple[Pipeline, str]:
        if not self.pipelines:
            raise SpaceExhausted
        return self.pipelines.pop(0), "portfolio"

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
    ) -> list[Started | Finished]:
        execution = Execution(self.submit, self.rescue, lambda: len(self.proposals) >= self.stop_after)
        rules = Rules(width=1, threads=1, seed=5, n_trials=n_trials)
        deadline = Deadline.after(limit, clock=lambda: self.now)
        known = {trial.proposal.number: trial for trial in recorded}
        return list(search(optimizer, execution, rules, deadline=deadline, recorded=known))


def good(proposal: Proposal, *losses: float, cut: bool = False) -> Success:
    return Success(proposal, losses or (0.5, 0.6), 1.0, complete=True, cut=cut)


def trials(events: Sequence[Started | Finished]) -> list[Trial]:
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


def test_a_race_is_against_the_best_complete_trial() -> None:
    losses = {0: (0.5, 0.5), 1: (0.2, 0.3), 2: (0.4, 0.4), 3: (0.1, 0.1)}
    world = World(lambda p: replace(good(p, *losses.get(p.number, (9.0, 9.0))), complete=p.number != 3))
    world.run(Listed([pipeline("linear", float(C)) for C in range(5)]))
    assert [p.incumbent for p in world.proposals] == [(), (0.5, 0.5), (0.2, 0.3), (0.2, 0.3), (0.2, 0.3)]


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
