"""What every optimizer promises: new pipelines, of the space, the same ones for the same seed and results."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
from ConfigSpace import Categorical, Configuration, ConfigurationSpace, EqualsCondition, Float, Integer

from automl_cli.optimizer import Bandit, Optimizer, Portfolio, RandomSearch, Smac, family_optimizer
from automl_cli.trial import Pipeline, Value


def small_space() -> ConfigurationSpace:
    space = ConfigurationSpace(seed=0)
    family = Categorical("family", ["a", "b", "c"])
    rate, depth = Float("a:rate", (1e-3, 1.0), log=True), Integer("a:depth", (1, 12))
    kind, size = Categorical("b:kind", ["x", "y", "z"]), Float("b:size", (0.0, 1.0))
    limited, limit = Categorical("c:limited", [True, False]), Float("c:limit", (0.0, 1.0))
    penalty = Float("c:penalty", (1e-4, 1e2), log=True)
    space.add(family, rate, depth, kind, size, limited, limit, penalty)
    space.add(EqualsCondition(rate, family, "a"), EqualsCondition(depth, family, "a"))
    space.add(EqualsCondition(kind, family, "b"), EqualsCondition(size, family, "b"))
    space.add(EqualsCondition(limited, family, "c"), EqualsCondition(penalty, family, "c"))
    space.add(EqualsCondition(limit, limited, True))
    return space


def plain(value: object) -> Value:
    return value.item() if hasattr(value, "item") else value


def to_pipeline(configuration: Configuration) -> Pipeline:
    values = {name: plain(value) for name, value in dict(configuration).items()}
    family = str(values.pop("family"))
    return Pipeline(family, "codes", {name.partition(":")[2]: value for name, value in values.items()})


def to_configuration(space: ConfigurationSpace, pipeline: Pipeline) -> Configuration:
    values = {f"{pipeline.family}:{name}": value for name, value in pipeline.hyperparameters.items()}
    return Configuration(space, {"family": pipeline.family, **values})


def loss_of(pipeline: Pipeline) -> float:
    values = pipeline.hyperparameters
    if pipeline.family == "a":
        return 0.1 + abs(values["rate"] - 0.1) + 0.02 * abs(values["depth"] - 6)
    if pipeline.family == "b":
        return 0.5 + (values["kind"] != "y") * 0.2 + (values["size"] - 0.3) ** 2
    return 0.3 + (values.get("limit", 0.5) - 0.9) ** 2


FIRST = (
    Pipeline("a", "codes", {"rate": 0.05, "depth": 3}),
    Pipeline("b", "codes", {"kind": "x", "size": 0.5}),
    Pipeline("c", "codes", {"limited": False, "penalty": 1.0}),
)


@dataclass(frozen=True)
class Case:
    name: str
    make: Callable[[int], Optimizer]


def make_smac(seed: int) -> Optimizer:
    return Smac(small_space(), to_pipeline, to_configuration, seed=seed)


def one_family(name: str) -> ConfigurationSpace:
    """Return the small space with one family to choose from."""
    whole = small_space()
    space = ConfigurationSpace()
    space.add(Categorical("family", [name]), *(part for part in whole.values() if part.name.startswith(f"{name}:")))
    if name == "c":
        space.add(EqualsCondition(space["c:limit"], space["c:limited"], True))
    return space


def make_bandit(seed: int) -> Optimizer:
    return Bandit(bandit_arms(seed))


def bandit_arms(seed: int) -> dict[str, Optimizer]:
    return {name: family_optimizer(one_family(name), to_pipeline, to_configuration, seed=seed) for name in "abc"}


CASES = [
    Case("random", lambda seed: RandomSearch(small_space(), to_pipeline, seed=seed)),
    Case("smac", make_smac),
    Case("bandit", make_bandit),
    Case("timed bandit", lambda seed: Bandit(bandit_arms(seed), timed=True)),
    Case("portfolio", lambda seed: Portfolio(FIRST, lambda: make_smac(seed))),
]
every_optimizer = pytest.mark.parametrize("make", [pytest.param(case.make, id=case.name) for case in CASES])


def asked(optimizer: Optimizer, n: int, *, width: int = 1) -> list[Pipeline]:
    """Ask n times while `width` pipelines are under way."""
    running: list[Pipeline] = []
    proposals = []
    for _ in range(n):
        pipeline, origin = optimizer.ask()
        assert origin in ("portfolio", "smac", "random")
        proposals.append(pipeline)
        running.append(pipeline)
        if len(running) >= width:
            done = running.pop(0)
            optimizer.tell(done, loss_of(done), 1.0)
    return proposals


@every_optimizer
def test_sixty_legal_proposals_without_a_duplicate(make):
    proposals = asked(make(0), 60, width=4)
    assert len(set(proposals)) == 60
    space = small_space()
    for pipeline in proposals:
        to_configuration(space, pipeline).check_valid_configuration()


@every_optimizer
def test_the_seed_and_the_results_decide_everything(make):
    assert asked(make(3), 16, width=2) == asked(make(3), 16, width=2)
    assert asked(make(3), 16) != asked(make(4), 16)


@every_optimizer
def test_eight_asks_without_a_result_give_eight_pipelines(make):
    optimizer = make(1)
    told = asked(optimizer, 10)
    waiting = [optimizer.ask()[0] for _ in range(8)]
    assert len({*waiting, *told}) == 18


@every_optimizer
def test_sixty_four_asks_without_a_result_give_sixty_four_pipelines(make):
    optimizer = make(1)
    told = asked(optimizer, 10)
    assert len({*(optimizer.ask()[0] for _ in range(64)), *told}) == 74


@every_optimizer
@pytest.mark.parametrize("loss", [None, float("nan"), float("inf")])
def test_failures_are_told_like_results(make, loss):
    optimizer = make(2)
    for n in range(20):
        pipeline, _ = optimizer.ask()
        optimizer.tell(pipeline, loss if n % 3 else loss_of(pipeline), 0.1)
    assert optimizer.ask()[0] not in (None, pipeline)


@every_optimizer
def test_nothing_but_failures_is_survived(make):
    optimizer = make(2)
    for _ in range(15):
        pipeline, _ = optimizer.ask()
        optimizer.tell(pipeline, None, 0.1)


@every_optimizer
def test_what_was_told_is_never_proposed(make):
    probe = asked(make(5), 12)
    optimizer = make(5)
    for pipeline in probe:
        optimizer.tell(pipeline, loss_of(pipeline), 1.0)
    assert not set(probe) & {optimizer.ask()[0] for _ in range(10)}


@every_optimizer
def test_huge_and_equal_losses_are_survived(make):
    optimizer = make(6)
    for n in range(24):
        pipeline, _ = optimizer.ask()
        optimizer.tell(pipeline, 1e300 if n % 4 else 0.0, 1.0)


@every_optimizer
def test_the_given_space_is_left_alone(make):
    untouched, watched = small_space(), small_space()
    optimizer = RandomSearch(watched, to_pipeline, seed=9)
    optimizer.ask()
    assert untouched.sample_configuration(5) == watched.sample_configuration(5)
