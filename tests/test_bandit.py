"""Families shared out by a bandit: the better one gets more, none is starved, and no clock decides a counted run."""

from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
from ConfigSpace import Categorical, Configuration, ConfigurationSpace, EqualsCondition, Float, Integer

from automl_cli.optimizer import Bandit, Optimizer, Portfolio, RandomSearch, Smac, SpaceExhausted, family_optimizer
from automl_cli.trial import Pipeline

FAMILIES = ("f0", "f1", "f2", "f3")
OFFSETS = {"f0": 0.30, "f1": 0.10, "f2": 0.20, "f3": 0.40}
BEST = 0.10
DEFAULTS = tuple(Pipeline(name, "codes", {"rate": 0.03, "depth": 10, "kind": "a"}) for name in FAMILIES)


def space_of(*names: str) -> ConfigurationSpace:
    space = ConfigurationSpace()
    family = Categorical("family", names)
    space.add(family)
    for name in names:
        rate, depth = Float(f"{name}:rate", (1e-3, 1.0), log=True), Integer(f"{name}:depth", (1, 20))
        kind, size = Categorical(f"{name}:kind", ["a", "b", "c"]), Float(f"{name}:size", (0.0, 1.0))
        space.add(rate, depth, kind, size)
        space.add(*(EqualsCondition(part, family, name) for part in (rate, depth, kind)))
        space.add(EqualsCondition(size, kind, "b"))
    return space


def to_pipeline(configuration: Configuration) -> Pipeline:
    values = {k: v.item() if hasattr(v, "item") else v for k, v in dict(configuration).items()}
    family = str(values.pop("family"))
    return Pipeline(family, "codes", {name.partition(":")[2]: value for name, value in values.items()})


def to_configuration(space: ConfigurationSpace, pipeline: Pipeline) -> Configuration:
    values = {f"{pipeline.family}:{name}": value for name, value in pipeline.hyperparameters.items()}
    return Configuration(space, {"family": pipeline.family, **values})


def loss_of(pipeline: Pipeline) -> float:
    """Lowest, 0.1, in f1 at rate 0.1, depth 5 and kind b with size 0.7."""
    h = pipeline.hyperparameters
    loss = OFFSETS[pipeline.family] + 0.1 * abs(np.log10(h["rate"]) + 1.0) + 0.01 * abs(h["depth"] - 5)
    return float(loss + (0.1 * abs(h["size"] - 0.7) if h["kind"] == "b" else 0.1))


def make(seed: int, *, timed: bool = False) -> Bandit:
    arms: dict[str, Optimizer] = {
        name: family_optimizer(space_of(name), to_pipeline, to_configuration, seed=seed) for name in FAMILIES
    }
    return Bandit(arms, timed=timed)


def run(
    optimizer: Optimizer,
    n: int,
    *,
    loss: Callable[[Pipeline], float | None] = loss_of,
    seconds: Callable[[Pipeline], float] = lambda pipeline: 1.0,
    width: int = 1,
) -> list[tuple[Pipeline, float | None]]:
    """Ask n times while up to ``width`` are running; return what was asked with its loss."""
    running: list[Pipeline] = []
    seen = []
    for _ in range(n):
        pipeline, _ = optimizer.ask()
        running.append(pipeline)
        seen.append((pipeline, loss(pipeline)))
        if len(running) >= width:
            done = running.pop(0)
            optimizer.tell(done, loss(done), seconds(done))
    return seen


def families(seen: list[tuple[Pipeline, float | None]]) -> Counter[str]:
    return Counter(pipeline.family for pipeline, _ in seen)


def test_the_better_family_is_tried_most_and_every_one_at_least_twice():
    counts = families(run(make(0), 40))
    assert counts.most_common(1)[0][0] == "f1"
    assert counts["f1"] >= 16
    assert min(counts[name] for name in FAMILIES) >= 2


def test_every_family_is_tried_before_any_is_tried_again():
    assert [pipeline.family for pipeline, _ in run(make(0), 4)] == list(FAMILIES)
    assert [make_told().ask()[0].family for _ in range(2)] == ["f3", "f3"]


def make_told() -> Bandit:
    """Return a bandit that a portfolio told of all families but one."""
    bandit = make(0)
    for pipeline in DEFAULTS[:3]:
        bandit.tell(pipeline, loss_of(pipeline), 1.0)
    return bandit


def test_what_a_portfolio_measured_counts_as_pulls():
    portfolio = Portfolio(DEFAULTS, lambda: make(0))
    origins = [portfolio.ask() for _ in range(4)]
    for pipeline, origin in origins:
        assert origin == "portfolio"
        portfolio.tell(pipeline, loss_of(pipeline), 1.0)
    assert portfolio.ask()[0].family == "f1"  # none is unknown: the best default's family comes next


def test_seconds_do_not_matter_where_trials_are_counted():
    def as_told(seconds: Callable[[Pipeline], float]) -> list[tuple[Pipeline, float | None]]:
        return run(make(1), 30, seconds=seconds, width=3)

    assert as_told(lambda p: 1.0) == as_told(lambda p: {"f0": 90.0, "f1": 0.01, "f2": 7.0, "f3": 1e-9}[p.family])


def test_the_seed_and_the_calls_decide_everything():
    assert run(make(2), 30, width=4) == run(make(2), 30, width=4)
    assert run(make(2), 30, width=4) != run(make(3), 30, width=4)


def test_in_a_timed_run_a_cheap_family_is_explored_more_than_a_slow_one():
    alike = {"loss": lambda pipeline: 0.5 + 0.001 * pipeline.hyperparameters["rate"], "width": 1}
    prices = {"f0": 9.0, "f1": 1.0, "f2": 1.0, "f3": 0.1}
    counts = families(run(make(0, timed=True), 40, seconds=lambda p: prices[p.family], **alike))
    assert counts["f3"] > counts["f1"] >= counts["f0"] >= 2


@pytest.mark.parametrize("timed", [False, True])
def test_a_family_that_always_fails_or_never_ends_does_not_starve_the_others(timed):
    bandit = make(0, timed=timed)
    counts: Counter[str] = Counter()
    for _ in range(40):
        pipeline, _ = bandit.ask()
        counts[pipeline.family] += 1
        if pipeline.family == "f0":
            bandit.tell(pipeline, None, 0.01)
        elif pipeline.family != "f3":  # what f3 proposes is never heard of again
            bandit.tell(pipeline, loss_of(pipeline), 1.0)
    assert counts["f1"] > counts["f0"]
    assert counts["f1"] > counts["f3"]
    assert counts["f1"] + counts["f2"] >= 20


def test_the_best_family_leaves_time_to_the_others_even_where_it_is_cheap_and_gains_no_more() -> None:
    prices = {"f0": 1.0, "f1": 0.1, "f2": 1.0, "f3": 1.0}
    seen = families(run(make(0, timed=True), 300, seconds=lambda p: prices[p.family], width=2))
    spent = {name: prices[name] * seen[name] for name in FAMILIES}
    assert 0.55 < spent["f1"] / sum(spent.values()) < 0.65
    counted = families(run(make(0), 60))
    assert 0.55 < counted["f1"] / 60 < 0.65


def test_a_family_is_not_cheap_because_it_fails_at_once():
    """Half of its pipelines fail within no time; it is explored as one that takes as long as the others."""

    def seconds(pipeline: Pipeline) -> float:
        return 0.001 if loss(pipeline) is None else 1.0

    def loss(pipeline: Pipeline) -> float | None:
        fails = pipeline.family == "f0" and pipeline.hyperparameters["depth"] % 2
        return None if fails else loss_of(pipeline)

    failing = families(run(make(0, timed=True), 60, loss=loss, seconds=seconds))["f0"]
    slow = families(run(make(0, timed=True), 60, loss=loss))["f0"]
    assert failing == slow


def test_a_family_that_only_fails_late_is_as_dear_as_it_is():
    def loss(pipeline: Pipeline) -> float | None:
        return None if pipeline.family == "f0" else loss_of(pipeline)

    late = families(run(make(0, timed=True), 60, loss=loss, seconds=lambda p: 30.0 if p.family == "f0" else 1.0))["f0"]
    soon = families(run(make(0, timed=True), 60, loss=loss, seconds=lambda p: 0.01 if p.family == "f0" else 1.0))["f0"]
    assert late < soon <= families(run(make(0, timed=True), 60, loss=loss))["f0"]


def test_nothing_but_failures_shares_the_trials_out_evenly():
    counts = families(run(make(0), 40, loss=lambda pipeline: None))
    assert set(counts.values()) == {10}


def test_one_disaster_does_not_make_the_other_families_look_alike():
    def loss(pipeline: Pipeline) -> float:
        return 1e9 if pipeline.family == "f3" else loss_of(pipeline)

    assert families(run(make(0), 40, loss=loss))["f1"] >= 14


def test_sixty_four_running_pipelines_differ_and_come_from_all_families():
    bandit = make(0)
    run(bandit, 24)
    waiting = [bandit.ask()[0] for _ in range(64)]
    assert len(set(waiting)) == 64
    counts = Counter(pipeline.family for pipeline in waiting)
    assert set(counts) == set(FAMILIES)
    # to a hundredth of every range too
    spots = {(p.family, *(near(name, value) for name, value in p.hyperparameters.items())) for p in waiting}
    assert len(spots) == 64


def near(name: str, value: object) -> object:
    if name == "rate":
        return round(np.log10(value) / 0.03)
    return round(value / 0.01) if name == "size" else (name, value)


def test_a_family_without_anything_new_is_left_and_the_end_comes_after_the_last():
    def choices(name: str, *values: str) -> ConfigurationSpace:
        return ConfigurationSpace({"family": [name], f"{name}:x": list(values)})

    arms: dict[str, Optimizer] = {
        "one": RandomSearch(choices("one", "a"), to_pipeline, seed=0),
        "three": Smac(choices("three", "a", "b", "c"), to_pipeline, to_configuration, seed=0),
    }
    bandit = Bandit(arms)
    assert families(run(bandit, 4, loss=lambda p: 0.1 if p.family == "one" else 0.9)) == {"one": 1, "three": 3}
    with pytest.raises(SpaceExhausted):
        bandit.ask()


def test_the_known_optimum_is_found_better_than_by_three_times_as_many_random_trials():
    def regret(optimizer: Optimizer, n: int) -> float:
        return min(loss for _, loss in run(Portfolio(DEFAULTS, optimizer), n) if loss is not None) - BEST

    seeds = range(3)
    learned = np.mean([regret(make(seed), 40) for seed in seeds])
    chance = np.mean([regret(RandomSearch(space_of(*FAMILIES), to_pipeline, seed=seed), 120) for seed in seeds])
    assert learned < 0.5 * chance
