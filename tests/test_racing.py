import json
import math
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from automl_cli.racing import RULES, either, forgiving, paired, reachable, should_stop

RECORDED = Path(__file__).parent / "data" / "fold_losses.json"  # benchmarks/replay.py --extract
LOSSES = st.lists(st.floats(0, 1e6), min_size=1, max_size=8)


def test_clearly_worse_on_the_same_folds_stops_and_says_the_numbers():
    decision = should_stop([0.4, 0.36], [0.1, 0.2, 0.3])
    assert decision.stop
    assert "0.38" in decision.reason
    assert f"{0.15 + 0.1 / math.sqrt(2):.6g}" in decision.reason


def test_a_little_worse_on_the_same_folds_goes_on():
    assert not should_stop([0.19], [0.1, 0.2, 0.3]).stop


def test_the_forgiving_rule_looks_at_the_worst_fold():
    assert not forgiving([0.29], [0.1, 0.2, 0.3]).stop
    assert forgiving([0.3], [0.1, 0.3]).stop


def test_nothing_to_compare_with_goes_on():
    assert not should_stop([0.9], []).stop
    assert not should_stop([], [0.1]).stop


def test_a_loss_that_is_no_number_stops_even_the_first():
    assert should_stop([0.1, math.nan], []).stop
    assert "step 2" in should_stop([0.1, math.nan], []).reason
    assert should_stop([math.inf], [0.1]).stop


def test_an_incumbent_without_numbers_stops_nobody():
    assert not should_stop([0.5], [math.nan]).stop


@given(losses=LOSSES, incumbent=LOSSES)
def test_the_forgiving_rule(losses, incumbent):
    mean = math.fsum(losses) / len(losses)
    assert forgiving(losses, incumbent).stop == (mean >= max(incumbent))


@given(pairs=st.lists(st.tuples(st.floats(0, 1e6), st.floats(0, 1e6)), min_size=2, max_size=8), n=st.integers(1, 8))
def test_who_is_better_than_the_incumbent_so_far_is_never_stopped(pairs, n):
    ours, theirs = ([pair[k] for pair in pairs] for k in (0, 1))
    ours = ours[:n]
    if should_stop(ours, theirs).stop:
        assert math.fsum(ours) >= math.fsum(theirs[: len(ours)]) - 1e-6


@given(losses=LOSSES, incumbent=LOSSES, better=st.floats(0, 1))
def test_better_losses_never_turn_go_into_stop(losses, incumbent, better):
    if not should_stop(losses, incumbent).stop:
        assert not should_stop([loss * better for loss in losses], incumbent).stop


@pytest.mark.parametrize("name", RULES)
@given(losses=LOSSES, incumbent=LOSSES)
def test_every_rule_gives_its_reason_in_one_line(name, losses, incumbent):
    decision = RULES[name](losses, incumbent)
    assert decision.reason
    assert "\n" not in decision.reason
    assert decision == RULES[name](losses, incumbent)


@pytest.mark.parametrize("name", [name for name in RULES if name != "never"])
@given(losses=LOSSES)
def test_no_rule_stops_a_much_better_challenger_or_spares_a_much_worse_one(name, losses):
    worse = [10 * (loss + 1) for loss in losses]
    spread = max(losses) - min(losses)
    assert not RULES[name](losses, [loss + 1 + 10 * spread for loss in losses]).stop
    assert RULES[name]([loss + 10 * spread for loss in worse], losses).stop


def test_folds_that_are_hard_for_everybody_do_not_count_against_the_challenger():
    incumbent = [0.40, 0.10, 0.12]
    assert not paired(0.5)([0.38], incumbent).stop
    assert paired(0.5)([0.40, 0.40], incumbent).stop
    assert not forgiving([0.40, 0.38], incumbent).stop


def test_one_of_several_rules_is_enough():
    assert either(RULES["never"], forgiving)([0.4], [0.3]).stop
    assert not either(RULES["never"], forgiving)([0.2], [0.3]).stop


@given(limit=st.floats(-10, 10), height=st.floats(0.1, 10), power=st.floats(0.2, 3))
def test_a_power_law_is_extrapolated_to_its_limit(limit, height, power):
    curve = [limit + height * n**-power for n in (16, 32, 64)]
    assert reachable(curve) == pytest.approx(limit, abs=1e-5 * (1 + height))


def test_a_slow_start_promises_everything_and_a_flat_end_nothing():
    assert reachable([0.69, 0.68, 0.66]) == -math.inf
    assert reachable([0.69, 0.68]) == -math.inf
    assert reachable([0.5, 0.4, 0.4]) == 0.4


def race(runs, rule):
    """Replay a search on recorded losses: the lowest mean of what is validated to the end."""
    incumbent, seen = None, set()
    for family, *losses in runs:
        raced = incumbent is not None and family in seen
        seen.add(family)
        stopped = raced and any(rule(losses[:n], incumbent).stop for n in range(1, len(losses)))
        if not stopped and (incumbent is None or sum(losses) < sum(incumbent)):
            incumbent = losses
    return sum(incumbent) / len(incumbent)


RISK = 0.002  # docs/early-stopping.md: in the mean over orders, of the lowest loss


@pytest.mark.parametrize("table", range(12))
def test_racing_does_not_cost_more_than_the_stated_risk(table):
    runs = json.loads(RECORDED.read_text())[table]
    best = min(sum(losses) / len(losses) for _, *losses in runs)
    chance = random.Random(table)
    regrets = [race(chance.sample(runs, len(runs)), should_stop) / best - 1 for _ in range(100)]
    assert sum(regrets) / len(regrets) <= RISK
