"""Strategies of architecture search: legal networks within limits, the same from the same seed, better than chance."""

import contextlib
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from automl_cli.nas import (
    STRATEGIES,
    Auto,
    Candidate,
    Costs,
    Evolution,
    Factorised,
    Fits,
    Mutation,
    Recurrent,
    Reinforce,
    Space,
    SpaceExhausted,
    Strategy,
    Suggestion,
    Work,
    ZeroCost,
    anything,
    at_most,
    make_strategy,
    parse_candidate,
    random_search,
    space_of_table,
    work_of,
)
from automl_cli.nas.decisions import Indices
from automl_cli.neural.architecture import Architecture, parse_architecture
from benchmarks.nas_table import SPACE

WHOLE = Space()
SEEDS = st.integers(0, 2**32 - 1)


def score_of(candidate: Candidate) -> float:
    return float(sum(block.width for block in candidate.architecture.blocks))


def with_zero_cost(space: Space, seed: int, fits: Fits, earlier: object) -> Strategy:
    return ZeroCost(space, score_of, seed=seed, fits=fits, earlier=earlier)  # type: ignore[arg-type]


MAKERS: dict[str, Callable[..., Strategy]] = {**STRATEGIES, "zero_cost": with_zero_cost}


def n_parameters(network: Architecture) -> int:
    """Count weights of dense layers after ten inputs: a count like the real one, not the same."""
    widths = [10 * max(network.number_size, 1), *(block.width for block in network.blocks), 1]
    return sum((fan_in + 1) * fan_out for fan_in, fan_out in pairwise(widths))


def loss_of(candidate: Candidate) -> float:
    """Lowest for two wide blocks of which the second is residual, and many members: effects depend on each other."""
    network = candidate.architecture
    first, last = network.blocks[0], network.blocks[-1]
    loss = 0.30 - 0.04 * (network.members == 8) - 0.03 * (first.kind == "gated") - 0.02 * (first.width == 256)
    if len(network.blocks) == 2:
        loss -= 0.05 * (last.kind == "residual") * (network.numbers == "pbld") - 0.01
        loss -= 0.02 * (last.width == 256)
    return loss


OPTIMUM = min((SPACE.decode(indices) for indices in SPACE.every()), key=loss_of)


def play(strategy: Strategy, n: int, *, noise: float = 0.0, seed: int = 0, width: int = 1) -> list[Suggestion]:
    """Ask and tell ``n`` times with ``width`` in training at a time; return what was asked."""
    rng = np.random.default_rng(seed)
    asked: list[Suggestion] = []
    pending: list[Suggestion] = []
    for _ in range(n):
        pending.append(strategy.ask())
        asked.append(pending[-1])
        if len(pending) == width:
            done = pending.pop(0)
            failed = rng.random() < noise / 10
            loss = None if failed else loss_of(done.candidate) + noise * float(rng.normal())
            strategy.tell(done, loss, 1.0 + score_of(done.candidate) / 1000)
    return asked


# ---- the space


@settings(max_examples=60, deadline=None)
@given(SEEDS)
def test_a_candidate_survives_indices_and_text(seed: int) -> None:
    indices = WHOLE.sample(np.random.default_rng(seed))
    candidate = WHOLE.decode(indices)
    assert WHOLE.canonical(indices) == indices
    assert WHOLE.encode(candidate) == indices
    assert parse_candidate(str(candidate)) == candidate
    assert parse_architecture(candidate.hyperparameters()["architecture"]) == candidate.architecture  # type: ignore[arg-type]
    for number, block in enumerate(candidate.architecture.blocks, 1):
        assert block.skip == 0 or block.skip < number - 1  # the block before is the input already


@pytest.mark.parametrize(
    "text",
    [
        "",
        "none cat8 k1 | dense64 relu none d0",
        "none cat8 k1 | dense64 relu none d0 @ lr0.001 wd0 ls0 cosine",
        "none cat8 k1 | dense64 relu none d0 @ lr0.001 wd0 ls0 linear b32",
        "none cat8 k1 | dense64 relu none d0 @ lr1_0 wd0 ls0 cosine b32",
        "none cat8 k1 | dense64 relu none d0 @ lrnan wd0 ls0 cosine b32",
        "none cat8 k1 | dense64 relu none d0 @ lr0.001 wd0 ls0 cosine b32\n",
    ],
)
def test_what_is_no_candidate_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no "):
        parse_candidate(text)


@settings(max_examples=60, deadline=None)
@given(SEEDS)
def test_a_mutation_changes_exactly_one_active_decision(seed: int) -> None:
    rng = np.random.default_rng(seed)
    parent = WHOLE.sample(rng)
    child = WHOLE.mutate(parent, rng)
    both = set(WHOLE.free(parent)) & set(WHOLE.free(child))
    assert WHOLE.canonical(child) == child
    assert sum(parent[place] != child[place] for place in both) == 1
    assert WHOLE.encode(WHOLE.decode(child)) == child


@settings(max_examples=60, deadline=None)
@given(SEEDS)
def test_a_child_of_two_has_each_decision_from_one_of_them(seed: int) -> None:
    rng = np.random.default_rng(seed)
    one, other = WHOLE.sample(rng), WHOLE.sample(rng)
    child = WHOLE.cross(one, other, rng)
    assert WHOLE.canonical(child) == child
    for place in WHOLE.free(child):
        assert child[place] in {p[place] for p in (one, other) if WHOLE.active(p, place)}


def test_what_changes_nothing_on_a_table_is_not_searched() -> None:
    rng = np.random.default_rng(0)
    space = space_of_table(numbers=False, categories=False, classify=False)
    candidates = [space.decode(space.sample(rng)) for _ in range(50)]
    assert {(c.architecture.numbers, c.training.label_smoothing) for c in candidates} == {("none", 0.0)}
    assert len({c.architecture.category_size for c in candidates}) == 1
    assert space_of_table(numbers=True, categories=True, classify=True) == WHOLE


def test_every_option_is_drawn_as_often_as_the_others() -> None:
    rng = np.random.default_rng(0)
    depths = Counter(len(WHOLE.decode(WHOLE.sample(rng)).architecture.blocks) for _ in range(2000))
    assert set(depths) == {1, 2, 3, 4, 5}
    assert max(depths.values()) < 1.3 * min(depths.values())


def test_a_part_of_the_space_is_counted_and_named() -> None:
    assert len(SPACE.every()) == len(set(SPACE.every())) == 120
    assert all(WHOLE.holds(SPACE.decode(indices)) for indices in SPACE.every())
    with pytest.raises(ValueError, match="widht1"):
        WHOLE.restrict(widht1=(64,))
    with pytest.raises(ValueError, match="members"):
        WHOLE.restrict(members=(3,))
    with pytest.raises(ValueError, match="not of this space"):
        SPACE.encode(parse_candidate("none cat8 k32 | dense64 relu none d0 @ lr0.001 wd0 ls0 cosine b128"))


# ---- all strategies


@pytest.mark.parametrize("width", [1, 3])
@pytest.mark.parametrize("name", MAKERS)
def test_the_same_seed_gives_the_same_sequence(name: str, width: int) -> None:
    first, again, other = (
        play(MAKERS[name](WHOLE, seed, anything, ()), 40, noise=0.1, width=width) for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other


@settings(max_examples=10, deadline=None)
@given(SEEDS, st.sampled_from(sorted(MAKERS)), st.sampled_from([3000, 30_000, 300_000]))
def test_only_new_and_legal_networks_within_the_limit_are_asked(seed: int, name: str, most: int) -> None:
    fits = at_most(n_parameters, most)
    asked = play(MAKERS[name](WHOLE, seed, fits, ()), 18, noise=0.1, seed=seed, width=2)
    for suggestion in asked:
        assert n_parameters(suggestion.candidate.architecture) <= most
        assert parse_candidate(str(suggestion.candidate)) == suggestion.candidate
        assert WHOLE.holds(suggestion.candidate)
        assert 0 < suggestion.fidelity <= 1
    assert len({(s.candidate, s.fidelity) for s in asked}) == len(asked)


@pytest.mark.parametrize("name", MAKERS)
def test_a_limit_that_tightens_is_kept(name: str) -> None:
    most = 300_000
    strategy = MAKERS[name](WHOLE, 0, lambda c: n_parameters(c.architecture) <= most, ())
    play(strategy, 20)
    most = 10_000
    assert all(n_parameters(s.candidate.architecture) <= most for s in play(strategy, 8))


@pytest.mark.parametrize("name", MAKERS)
def test_a_space_that_is_used_up_and_a_limit_that_nothing_keeps_end_the_search(name: str) -> None:
    small = SPACE.restrict(depth=(1,), members=(1,), numbers=("none",))  # six networks
    strategy = MAKERS[name](small, 0, anything, ())
    asked: list[Suggestion] = []
    with pytest.raises(SpaceExhausted):
        for _ in range(60):
            asked += play(strategy, 1)
    assert len({s.candidate for s in asked}) == 6
    with pytest.raises(SpaceExhausted):
        MAKERS[name](WHOLE, 0, lambda _: False, ()).ask()


@pytest.mark.parametrize("name", MAKERS)
def test_failures_alone_stop_no_strategy(name: str) -> None:
    strategy = MAKERS[name](WHOLE, 0, anything, ())
    asked = []
    for _ in range(30):
        asked.append(strategy.ask())
        strategy.tell(asked[-1], None, 1.0)
    assert len({(s.candidate, s.fidelity) for s in asked}) == 30


@pytest.mark.parametrize("name", MAKERS)
def test_what_worked_elsewhere_is_asked_first(name: str) -> None:
    rng = np.random.default_rng(5)
    earlier = [(WHOLE.decode(WHOLE.sample(rng)), float(k)) for k in range(6)]
    foreign = parse_candidate("none cat5 k1 | dense77 relu none d0 @ lr0.001 wd0 ls0 cosine b128")
    strategy = MAKERS[name](WHOLE, 0, anything, [*reversed(earlier), (foreign, -1.0)])
    assert strategy.ask().candidate == earlier[0][0]  # a network that is not of the space is left out
    assert play(MAKERS[name](WHOLE, 0, lambda c: c != earlier[0][0], earlier), 1)[0].candidate == earlier[1][0]


@pytest.mark.parametrize("name", MAKERS)
def test_a_resumed_search_does_not_ask_again(name: str) -> None:
    before = play(MAKERS[name](SPACE, 3, anything, ()), 25)
    resumed = MAKERS[name](SPACE, 3, anything, ())
    for suggestion in before:
        resumed.tell(suggestion, loss_of(suggestion.candidate), 1.0)
    after = {(s.candidate, s.fidelity) for s in play(resumed, 25)}
    assert not after & {(s.candidate, s.fidelity) for s in before}


def until_optimum(strategy: Strategy, seed: int) -> int:
    rng = np.random.default_rng(seed)
    for n in range(1, 121):
        suggestion = strategy.ask()
        if suggestion.candidate == OPTIMUM:
            return n
        strategy.tell(suggestion, loss_of(suggestion.candidate) + 0.005 * float(rng.normal()), 1.0)
    raise AssertionError("it is one of 120")


@pytest.mark.parametrize("name", ["evolution", "reinforce", "mutation"])
def test_the_optimum_is_found_sooner_than_by_chance(name: str) -> None:
    own = np.array([until_optimum(make_strategy(name, SPACE, seed=seed), seed) for seed in range(30)])
    chance = np.array([until_optimum(random_search(SPACE, seed=seed), seed) for seed in range(30)])
    error = np.sqrt((own.var() + chance.var()) / 30)
    assert own.mean() < chance.mean() - 2 * error


# ---- one by one


def test_evolution_lets_the_oldest_die_and_says_whose_weights_to_inherit() -> None:
    evolution = Evolution(SPACE, seed=0, population=4, sample=4)
    first = [evolution.ask() for _ in range(4)]
    for suggestion, loss in zip(first, [0.0, 0.3, 0.4, 0.5], strict=True):
        evolution.tell(suggestion, loss, 1.0)
    child = evolution.ask()
    assert child.parent == first[0].candidate  # all four are drawn: the best is the parent
    one, other = SPACE.encode(first[0].candidate), SPACE.encode(child.candidate)
    both = set(SPACE.free(one)) & set(SPACE.free(other))
    assert sum(one[place] != other[place] for place in both) == 1
    evolution.tell(child, 0.6, 1.0)
    assert evolution.ask().parent == first[1].candidate  # the best was the oldest


def test_crossed_evolution_stays_within_the_space() -> None:
    asked = play(Evolution(SPACE, seed=0, crossing=0.5), 50)
    assert len({s.candidate for s in asked}) == 50


def test_mutation_stays_with_the_incumbent() -> None:
    mutation = Mutation(WHOLE, seed=0, starts=2)
    one, other = mutation.ask(), mutation.ask()
    mutation.tell(one, 0.5, 1.0)
    mutation.tell(other, 0.4, 1.0)
    for _ in range(5):
        near = mutation.ask()
        assert near.parent == other.candidate
        mutation.tell(near, 0.6, 1.0)


@pytest.mark.parametrize("name", ["random", "auto"])
def test_the_best_of_four_goes_on_at_each_fidelity_with_its_own_weights(name: str) -> None:
    halving = make_strategy(name, WHOLE, seed=0, looks=True)
    losses: dict[float, list[float]] = {1 / 16: [], 1 / 4: [], 1.0: []}
    for _ in range(60):
        suggestion = halving.ask()
        loss = loss_of(suggestion.candidate)
        if suggestion.fidelity > 1 / 16:
            below = losses[suggestion.fidelity / 4]
            assert suggestion.parent == suggestion.candidate
            assert loss <= sorted(below)[len(below) // 4 - 1]
        losses[suggestion.fidelity].append(loss)
        halving.tell(suggestion, loss, suggestion.fidelity)
    assert len(losses[1 / 16]) > 2 * len(losses[1 / 4]) > 2 * len(losses[1.0]) > 0


def test_scores_choose_from_a_pool() -> None:
    asked = play(ZeroCost(WHOLE, score_of, seed=0, pool=40, share=0.1), 4)
    rng = np.random.default_rng(1)
    usual = np.median([score_of(WHOLE.decode(WHOLE.sample(rng))) for _ in range(200)])
    scores = [score_of(s.candidate) for s in asked]
    assert scores == sorted(scores, reverse=True)
    assert min(scores) > usual
    assert len(play(ZeroCost(WHOLE, lambda _: float("nan"), seed=0), 10)) == 10  # a score that fails chooses nothing


@pytest.mark.parametrize("make", [Factorised, lambda space: Recurrent(space, seed=1, hidden=6)])
def test_gradients_of_policies_are_those_of_finite_differences(make: Callable[[Space], Factorised | Recurrent]) -> None:
    policy = make(SPACE)
    rng = np.random.default_rng(0)
    policy.theta += rng.normal(0, 0.5, len(policy.theta))
    for _ in range(3):
        indices = policy.draw(rng)
        gradient = policy.gradient(indices, 1.0, 0.0)
        for place in [*rng.integers(len(policy.theta), size=40), *np.argsort(-np.abs(gradient))[:20]]:
            values = []
            for step in (1e-5, -1e-5):
                policy.theta[place] += step
                values.append(policy.log_probability(indices))
                policy.theta[place] -= step
            assert gradient[place] == pytest.approx((values[0] - values[1]) / 2e-5, abs=1e-7)


@pytest.mark.parametrize("make", [Factorised, lambda space: Recurrent(space, seed=1, hidden=6)])
def test_policies_are_distributions_and_draw_by_them(make: Callable[[Space], Factorised | Recurrent]) -> None:
    small = SPACE.restrict(depth=(1, 2), members=(1,), numbers=("none",), width1=(64,), width2=(64,))
    policy = make(small)
    rng = np.random.default_rng(0)
    policy.theta += rng.normal(0, 0.5, len(policy.theta))
    probability = {indices: np.exp(policy.log_probability(indices)) for indices in small.every()}
    assert sum(probability.values()) == pytest.approx(1.0)
    counts = Counter(policy.draw(rng) for _ in range(2000))
    for indices, p in probability.items():
        assert counts[indices] / 2000 == pytest.approx(p, abs=4 * np.sqrt(p * (1 - p) / 2000) + 1e-3)


def entropy_along(policy: Factorised | Recurrent, space: Space, indices: Indices) -> float:
    """Sum the entropies of the decisions on the way, each from the chances of its options."""
    total = 0.0
    for place in space.free(indices):
        chances = []
        for option in range(len(space.decisions[place].options)):
            # what follows does not matter to how likely the option is: it cancels out below
            changed = (*indices[:place], option, *indices[place + 1 :])
            chances.append(np.exp(policy.log_probability(changed)))
        p = np.array(chances) / sum(chances)
        total -= float(p @ np.log(p))
    return total


def test_the_gradient_of_the_entropy_is_that_of_finite_differences() -> None:
    flat = SPACE.restrict(depth=(1,), numbers=("none",))  # nothing hangs on anything: options can be exchanged
    policy = Factorised(flat)
    rng = np.random.default_rng(0)
    policy.theta += rng.normal(0, 0.5, len(policy.theta))
    indices = policy.draw(rng)
    gradient = policy.gradient(indices, 0.0, 1.0)
    for place in range(len(policy.theta)):
        values = []
        for step in (1e-5, -1e-5):
            policy.theta[place] += step
            values.append(entropy_along(policy, flat, indices))
            policy.theta[place] -= step
        assert gradient[place] == pytest.approx((values[0] - values[1]) / 2e-5, abs=1e-7)


def test_the_correction_for_what_does_not_fit_is_right_on_average() -> None:
    small = SPACE.restrict(members=(1,), numbers=("none",))
    fits = at_most(n_parameters, 10_000)
    inside = [indices for indices in small.every() if fits(small.decode(indices))]
    assert 0 < len(inside) < len(small.every())
    policy = Factorised(small)
    policy.theta += np.random.default_rng(0).normal(0, 0.7, len(policy.theta))
    chosen = inside[0]

    def log_share() -> float:
        mass = sum(np.exp(policy.log_probability(indices)) for indices in inside)
        return float(policy.log_probability(chosen) - np.log(mass))

    exact = np.zeros(len(policy.theta))
    for place in range(len(policy.theta)):
        values = []
        for step in (1e-5, -1e-5):
            policy.theta[place] += step
            values.append(log_share())
            policy.theta[place] -= step
        exact[place] = (values[0] - values[1]) / 2e-5
    controller = Reinforce(small, policy, seed=0, fits=fits, draws=64)
    estimates = np.array([controller.direction(chosen) for _ in range(100)])
    error = estimates.std(axis=0) / np.sqrt(len(estimates))
    uncorrected = policy.gradient(chosen, 1.0, 0.0)
    assert (np.abs(estimates.mean(axis=0) - exact) <= 4 * error + 1e-3).all()
    assert np.abs(uncorrected - exact).max() > 0.05  # so the test can tell


@pytest.mark.parametrize("make", [Factorised, lambda space: Recurrent(space, seed=0)])
def test_the_controller_comes_to_prefer_the_optimum(make: Callable[[Space], Factorised | Recurrent]) -> None:
    best = SPACE.encode(OPTIMUM)
    rises = []
    for seed in range(5):
        policy = make(SPACE)
        before = policy.log_probability(best)
        rate = 0.1 if isinstance(policy, Factorised) else 0.01
        play(Reinforce(SPACE, policy, seed=seed, rate=rate), 60, noise=0.005, seed=seed)
        rises.append(policy.log_probability(best) - before)
    assert np.mean(rises) > np.log(3)


def test_under_shared_weights_a_network_is_drawn_again_until_the_policy_is_sure() -> None:
    policy = Factorised(SPACE)
    play(Reinforce(SPACE, policy, seed=0, repeats=True), 600, noise=0.02)
    drawn = [policy.draw(np.random.default_rng(seed)) for seed in range(20)]
    best_tenth = np.quantile([loss_of(SPACE.decode(indices)) for indices in SPACE.every()], 0.1)
    assert np.mean([loss_of(SPACE.decode(indices)) <= best_tenth for indices in drawn]) > 0.8
    assert Reinforce(SPACE, policy, seed=1).ask() == Reinforce(SPACE, policy, seed=1).ask()


def test_the_policy_does_not_learn_from_what_others_drew_but_starts_from_what_worked() -> None:
    policy = Factorised(SPACE)
    controller = Reinforce(SPACE, policy, seed=0)
    for suggestion in play(random_search(SPACE, seed=1), 20):
        controller.tell(suggestion, loss_of(suggestion.candidate), 1.0)
    assert not policy.theta.any()
    Reinforce(SPACE, policy, seed=0, earlier=[(OPTIMUM, 0.1)])
    assert np.exp(policy.log_probability(SPACE.encode(OPTIMUM))) > 3 / 120


def test_under_the_bandit_what_is_known_is_trained_in_whole_and_nothing_twice() -> None:
    known = [(OPTIMUM, 0.3), (SPACE.decode(next(iter(SPACE.every()))), 0.1)]
    asked = play(make_strategy("auto", SPACE, seed=0, earlier=known, looks=True), 100)
    begun: dict[Candidate, float] = {}
    for suggestion in asked:
        begun.setdefault(suggestion.candidate, suggestion.fidelity)
    whole = {candidate for candidate, fidelity in begun.items() if fidelity == 1.0}
    assert whole == {candidate for candidate, _ in known}
    assert set(begun.values()) == {1 / 16, 1.0}
    assert len({(s.candidate, s.fidelity) for s in asked}) == len(asked)
    assert {s.origin for s in asked} == {"evolution", "mutation", "random", "reinforce"}


@pytest.mark.parametrize("seed", range(4))
def test_under_the_bandit_every_strategy_begins_networks_of_its_own(seed: int) -> None:
    known = [(SPACE.decode(indices), 0.1) for indices in list(SPACE.every())[:3]]
    asked = play(make_strategy("auto", WHOLE, seed=seed, earlier=known, looks=True), 300, width=2, seed=seed)
    own = Counter(s.origin for s in asked if s.fidelity == 1 / 16)
    assert min(own[name] for name in ("evolution", "mutation", "random", "reinforce")) >= 6


def test_after_a_resume_every_strategy_goes_on() -> None:
    first = play(make_strategy("auto", WHOLE, seed=0, looks=True), 60)
    resumed = make_strategy("auto", WHOLE, seed=0, looks=True)
    for suggestion in first:
        resumed.tell(replace(suggestion, origin=""), loss_of(suggestion.candidate), suggestion.fidelity)
    more = play(resumed, 40)
    assert not {(s.candidate, s.fidelity) for s in more} & {(s.candidate, s.fidelity) for s in first}
    assert {s.origin for s in more if s.fidelity == 1 / 16} == {"evolution", "mutation", "random", "reinforce"}


@pytest.mark.parametrize("name", ["random", "auto"])
def test_where_no_new_network_is_left_the_others_are_trained_further(name: str) -> None:
    small = SPACE.restrict(members=(1,), depth=(1,), width1=(64,))
    strategy = make_strategy(name, small, seed=0, looks=True)
    asked = []
    with contextlib.suppress(SpaceExhausted):
        while len(asked) < 1000:
            asked.append(strategy.ask())
            strategy.tell(asked[-1], loss_of(asked[-1].candidate), 1.0)
    n_all = len(list(small.every()))
    assert Counter(s.fidelity for s in asked) == {1 / 16: n_all, 1 / 4: n_all, 1.0: n_all}


def test_a_controller_hears_of_failures_and_not_of_what_a_share_has_lost() -> None:
    controller = Reinforce(SPACE, Factorised(SPACE), seed=0)
    play(controller, 5)
    before = controller.policy.theta.copy()
    look = replace(controller.ask(), fidelity=1 / 16)
    controller.tell(look, 0.0, 1.0)
    assert (controller.policy.theta == before).all()
    controller.tell(replace(controller.ask(), fidelity=1 / 16), None, 1.0)
    assert (controller.policy.theta != before).any()


def share_of_first(first: Callable[[int], Strategy], *, worse: float, price: float) -> float:
    """Return the share of results of the first of two arms; the other is random and loses ``worse`` more."""
    shares = []
    for seed in range(5):
        auto = Auto({"one": first(seed), "other": random_search(WHOLE, seed=100 + seed)})
        for _ in range(60):
            suggestion = auto.ask()
            own = suggestion.origin == "one"
            auto.tell(suggestion, loss_of(suggestion.candidate) + worse * (not own), price if own else 1.0)
        assert min(auto.shares().values()) >= 2  # nobody is forgotten
        shares.append(auto.shares()["one"] / 60)
    return float(np.mean(shares))


def test_the_bandit_gives_more_to_who_gains_more_per_second() -> None:
    assert share_of_first(lambda seed: Mutation(WHOLE, seed=seed), worse=0.1, price=1.0) > 0.7
    alike = share_of_first(lambda seed: random_search(WHOLE, seed=seed), worse=0.0, price=1.0)
    dearer = share_of_first(lambda seed: random_search(WHOLE, seed=seed), worse=0.0, price=5.0)
    assert dearer < min(alike, 0.4)


# ---- costs


def test_costs_are_learned_and_bound_what_is_asked() -> None:
    def work(candidate: Candidate, fidelity: float) -> Work:
        return work_of(candidate, float(n_parameters(candidate.architecture)), rows=2000 * fidelity, epochs=50)

    def truth(candidate: Candidate, fidelity: float) -> float:
        done = work(candidate, fidelity)
        return 0.3 + 1e-3 * done.steps + 4e-10 * done.operations  # some times slower than guessed

    rng = np.random.default_rng(0)
    costs = Costs(work)
    for _ in range(15):
        candidate = WHOLE.decode(WHOLE.sample(rng))
        costs.learn(candidate, 1.0, truth(candidate, 1.0) * float(rng.lognormal(0, 0.1)))
    others = [(WHOLE.decode(WHOLE.sample(rng)), fidelity) for fidelity in (0.25, 1.0) for _ in range(40)]
    ratios = np.array([costs.seconds(c, fidelity) / truth(c, fidelity) for c, fidelity in others])
    assert 0.8 < np.median(ratios) < 1.25
    assert np.mean([costs.at_most(c, fidelity) >= truth(c, fidelity) for c, fidelity in others]) > 0.8
    within = costs.ends_within(lambda: 5.0)
    asked = play(make_strategy("evolution", WHOLE, seed=0, fits=within), 20)
    assert all(costs.at_most(s.candidate) <= 5.0 for s in asked)
