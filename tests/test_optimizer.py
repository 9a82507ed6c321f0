"""The portfolio's order, SMAC's surrogate, and what a search may not depend on."""

import json
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from ConfigSpace import Categorical, Configuration, ConfigurationSpace, EqualsCondition, Float, Integer
from hypothesis import given
from hypothesis import strategies as st

from automl_cli.errors import UsageError
from automl_cli.optimizer import Portfolio, RandomSearch, Smac, SpaceExhausted, expected_improvement, log_costs
from automl_cli.trial import Pipeline

N_FAMILIES = 8


def wide_space() -> ConfigurationSpace:
    """Build eight families of six hyperparameters."""
    space = ConfigurationSpace(seed=0)
    family = Categorical("family", [f"f{i}" for i in range(N_FAMILIES)])
    space.add(family)
    for i in range(N_FAMILIES):
        parts = [Float(f"f{i}:rate{j}", (1e-3, 1.0), log=True) for j in range(2)]
        parts += [Integer(f"f{i}:count{j}", (1, 100)) for j in range(2)]
        parts += [Categorical(f"f{i}:choice{j}", ["a", "b", "c"]) for j in range(2)]
        space.add(parts)
        space.add([EqualsCondition(part, family, f"f{i}") for part in parts])
    return space


def to_pipeline(configuration: Configuration) -> Pipeline:
    values = {k: v.item() if hasattr(v, "item") else v for k, v in dict(configuration).items()}
    family = str(values.pop("family"))
    return Pipeline(family, "codes", {name.partition(":")[2]: value for name, value in values.items()})


def to_configuration(space: ConfigurationSpace, pipeline: Pipeline) -> Configuration:
    values = {f"{pipeline.family}:{name}": value for name, value in pipeline.hyperparameters.items()}
    return Configuration(space, {"family": pipeline.family, **values})


def loss_of(pipeline: Pipeline) -> float:
    h = pipeline.hyperparameters
    loss = 0.1 + 0.02 * int(pipeline.family[1:]) + 0.05 * abs(np.log10(h["rate0"]) + 1.5) + 0.05 * (h["choice0"] != "b")
    return float(loss + 0.5 * ((h["count0"] - 40) / 100) ** 2 + 0.3 * ((h["count1"] - 10) / 100) ** 2)


def make_smac(seed: int) -> Smac:
    return Smac(wide_space(), to_pipeline, to_configuration, seed=seed)


def best_of(optimizer, n: int) -> float:
    best = np.inf
    for _ in range(n):
        pipeline, _ = optimizer.ask()
        loss = loss_of(pipeline)
        optimizer.tell(pipeline, loss, 1.0)
        best = min(best, loss)
    return best


def linear(penalty: float) -> Pipeline:
    return Pipeline("linear", "one_hot", {"C": penalty})


class Recorder:
    """An optimizer that proposes given pipelines and writes down what it is told."""

    def __init__(self, *pipelines: Pipeline) -> None:
        self.proposals = list(pipelines)
        self.told: list[tuple[Pipeline, float | None, float]] = []

    def ask(self):
        return self.proposals.pop(0), "random"

    def tell(self, pipeline, loss, seconds):
        self.told.append((pipeline, loss, seconds))


def test_a_portfolio_is_handed_out_in_order_then_the_other_one_asks():
    portfolio = Portfolio([linear(1.0), linear(2.0), linear(1.0)], Recorder(linear(3.0)))
    assert [portfolio.ask() for _ in range(3)] == [
        (linear(1.0), "portfolio"),
        (linear(2.0), "portfolio"),
        (linear(3.0), "random"),
    ]


def test_a_portfolio_starts_the_other_one_late_and_tells_it_everything_in_order():
    other, starts = Recorder(linear(3.0), linear(4.0)), []
    portfolio = Portfolio([linear(1.0), linear(2.0)], lambda: starts.append("started") or other)
    first, second = portfolio.ask()[0], portfolio.ask()[0]
    portfolio.tell(second, 0.2, 2.0)
    assert not starts
    third, _ = portfolio.ask()
    portfolio.tell(first, None, 1.0)
    portfolio.tell(third, 0.3, 3.0)
    portfolio.ask()
    assert starts == ["started"]
    assert other.told == [(second, 0.2, 2.0), (first, None, 1.0), (third, 0.3, 3.0)]


def test_a_portfolio_skips_what_a_resumed_run_tells_and_what_it_handed_out_itself():
    portfolio = Portfolio([linear(1.0), linear(2.0)], Recorder(linear(2.0), linear(1.0), linear(5.0)))
    portfolio.tell(linear(1.0), 0.1, 1.0)
    assert [portfolio.ask()[0] for _ in range(2)] == [linear(2.0), linear(5.0)]


def test_a_portfolio_tells_how_many_are_left():
    left: list[int] = []
    portfolio = Portfolio([linear(1.0), linear(2.0)], Recorder(linear(3.0)), left=left.append)
    portfolio.ask()
    assert not left, "nothing has ended yet"
    portfolio.tell(linear(1.0), 0.1, 1.0)
    portfolio.ask()
    portfolio.ask()
    assert left == [1]


def test_a_portfolio_leaves_its_rest_to_the_other_one_as_soon_as_that_is_there():
    there = []
    portfolio = Portfolio(
        [linear(1.0), linear(2.0), linear(3.0)], Recorder(linear(2.0), linear(9.0)), until=lambda: bool(there)
    )
    assert [portfolio.ask()[0] for _ in range(2)] == [linear(1.0), linear(2.0)]
    there.append("the other one")
    assert portfolio.ask()[0] == linear(9.0)


def test_a_finite_space_ends_instead_of_repeating_itself():
    space = ConfigurationSpace({"family": ["a", "b", "c"]})
    for optimizer in (
        RandomSearch(space, to_pipeline, seed=0),
        Smac(space, to_pipeline, to_configuration, seed=0),
    ):
        assert {optimizer.ask()[0].family for _ in range(3)} == {"a", "b", "c"}
        with pytest.raises(SpaceExhausted):
            optimizer.ask()


def test_smac_exhausts_a_finite_space_that_it_models():
    space = ConfigurationSpace({"family": list("abcdefgh")})
    smac = Smac(space, to_pipeline, to_configuration, seed=0)
    for _ in range(8):
        pipeline, _ = smac.ask()
        smac.tell(pipeline, float(ord(pipeline.family)), 1.0)
    with pytest.raises(SpaceExhausted):
        smac.ask()


def test_the_first_proposals_are_random_and_most_later_ones_are_modelled():
    smac = make_smac(0)
    origins = []
    for _ in range(45):
        pipeline, origin = smac.ask()
        origins.append(origin)
        smac.tell(pipeline, loss_of(pipeline), 1.0)
    assert set(origins[:5]) == {"random"}
    assert 25 <= Counter(origins[5:])["smac"] <= 39


def test_smac_after_a_portfolio_is_much_better_than_chance_after_it():
    values = {"rate0": 0.1, "rate1": 0.1, "count0": 50, "count1": 50, "choice0": "a", "choice1": "a"}
    first = [Pipeline(f"f{i}", "codes", values) for i in range(N_FAMILIES)]
    smac = np.mean([best_of(Portfolio(first, make_smac(seed)), 40) for seed in range(3)])
    chance = np.mean(
        [best_of(Portfolio(first, RandomSearch(wide_space(), to_pipeline, seed=seed)), 40) for seed in range(3)]
    )
    assert smac < chance - 0.015


def test_smac_learns_from_results_it_did_not_ask_for():
    smac = make_smac(0)
    good = {"rate1": 0.5, "count0": 40, "count1": 10, "choice0": "b", "choice1": "a"}
    for n in range(30):
        family = f"f{n % N_FAMILIES}"
        pipeline = Pipeline(family, "codes", {**good, "rate0": 0.01 + 0.02 * n})
        smac.tell(pipeline, 0.0 if family == "f3" else 1.0, 1.0)
    families = Counter(pipeline.family for pipeline, origin in (smac.ask() for _ in range(12)) if origin == "smac")
    assert families["f3"] == families.total() > 5


def test_smac_passes_over_what_is_not_of_its_space():
    """A network that an earlier search of networks found is told to whoever proposes, whatever that searches."""

    def refuse(space, pipeline):
        raise UsageError("outside")

    smac = Smac(ConfigurationSpace({"family": list("abcdefgh")}), to_pipeline, refuse, seed=0, min_told=1)
    smac.tell(Pipeline("z", "codes", {}), 0.1, 1.0)
    assert smac.ask()[1] == "random"


def test_proposals_do_not_depend_on_the_process_or_its_hash_seed():
    code = (
        "import json, sys; sys.path.insert(0, sys.argv[1]); import test_optimizer as t\nprint(json.dumps(t.sequence()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(Path(__file__).parent)],
        env={**os.environ, "PYTHONHASHSEED": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout) == sequence()


def sequence() -> list[str]:
    smac, running, keys = make_smac(11), [], []
    for _ in range(16):
        pipeline, _ = smac.ask()
        keys.append(pipeline.key())
        running.append(pipeline)
        if len(running) == 3:
            done = running.pop(0)
            smac.tell(done, loss_of(done), 1.0)
    return keys


def test_nothing_is_written_and_nothing_is_said(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    best_of(make_smac(0), 12)
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")


def test_an_ask_stays_cheap():
    # 0.07 s on an idle core; SMAC's own facade takes 0.25 s on average and 2.5 s at worst
    smac = make_smac(0)
    for _ in range(100):
        pipeline = smac._points.unseen(set())[1]
        smac.tell(pipeline, loss_of(pipeline), 1.0)
    began = time.process_time()
    for _ in range(10):
        smac.ask()
    assert (time.process_time() - began) / 10 < 0.5


losses = st.lists(st.none() | st.floats(0, 1e12, allow_subnormal=False), min_size=1, max_size=40)


@given(losses)
def test_costs_are_finite_and_keep_the_order_of_losses(values):
    costs = log_costs(values)
    assert np.isfinite(costs).all()
    assert (costs <= 0).all()
    known = [i for i, value in enumerate(values) if value is not None]
    order = sorted(known, key=lambda i: values[i])
    assert (np.diff(costs[order]) >= 0).all()
    failed = [i for i, value in enumerate(values) if value is None]
    assert all(costs[i] >= costs[j] for i in failed for j in known)


@given(st.lists(st.floats(0.01, 1e3), min_size=3, max_size=20), st.floats(0.1, 1e4))
def test_costs_do_not_depend_on_the_unit_of_the_loss(values, factor):
    if max(values) - min(values) < 1e-6:
        return
    np.testing.assert_allclose(log_costs(values), log_costs([factor * value for value in values]), atol=1e-4, rtol=1e-4)


def test_one_loss_beyond_all_measure_does_not_make_the_others_alike():
    usual = [0.30, 0.30, 0.31, 0.35, 0.40, 0.45]
    costs = log_costs([*usual, 1e9])
    assert costs[2] - costs[0] > 1.0
    assert costs[5] - costs[2] > 1.0


def test_expected_improvement_agrees_with_a_simulation():
    rng = np.random.default_rng(0)
    mean, variance, best = np.array([-1.0, -2.0, 0.5]), np.array([0.3, 0.01, 1.0]), -1.2
    draws = np.exp(rng.normal(mean, np.sqrt(variance), size=(400_000, 3)))
    simulated = np.maximum(np.exp(best) - draws, 0).mean(axis=0)
    np.testing.assert_allclose(expected_improvement(mean, variance, best), simulated, atol=1e-3)


@given(st.floats(-20, 5), st.floats(1e-10, 4), st.floats(-20, 5))
def test_expected_improvement_is_never_negative(mean, variance, best):
    gain = expected_improvement(np.array([mean]), np.array([variance]), best)
    assert np.isfinite(gain).all()
    assert (gain >= 0).all()
