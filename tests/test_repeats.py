"""Which members are fitted once more, the heaviest ones first, and what is kept back for it."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from automl_cli.members import Chosen
from automl_cli.repeats import (
    SAFETY,
    SHARE,
    STARTING_SECONDS,
    members_to_repeat,
    other_folds,
    refit_seconds,
    refits_seconds,
    repeat_seconds,
)
from automl_cli.trial import Pipeline, Proposal, Success

N_FOLDS = 4
PIPELINE = Pipeline("linear", "one_hot", {"C": 1.0})


def chosen(*members: tuple[float, float], complete: bool = True) -> Chosen:
    """A model of members with these weights and seconds of a whole trial."""
    trials = [
        (Success(Proposal(number, PIPELINE, "smac", 0, 1), (0.5,) * N_FOLDS, seconds, complete), weight)
        for number, (weight, seconds) in enumerate(members)
    ]
    return Chosen(tuple(trials), 0.5, (0.5,) * N_FOLDS)


def numbers(trials: list[Success]) -> list[int]:
    return [trial.proposal.number for trial in trials]


def test_the_heaviest_come_first_whatever_their_sign() -> None:
    model = chosen((0.1, 1.0), (-0.5, 1.0), (0.4, 1.0))
    assert numbers(members_to_repeat(model, other_folds(N_FOLDS), seconds=100.0, workers=1)) == [1, 2, 0]
    assert numbers(members_to_repeat(model, other_folds(N_FOLDS), seconds=2.6, workers=1)) == [1, 2]
    assert numbers(members_to_repeat(model, other_folds(N_FOLDS), seconds=2.6, workers=2)) == [1, 2, 0]


def test_one_that_is_too_slow_is_passed_over() -> None:
    model = chosen((0.6, 50.0), (0.4, 1.0))
    assert numbers(members_to_repeat(model, other_folds(N_FOLDS), seconds=5.0, workers=2)) == [1]
    assert members_to_repeat(model, other_folds(N_FOLDS), seconds=0.5, workers=2) == []
    assert members_to_repeat(chosen((1.0, 1.0), complete=False), other_folds(N_FOLDS), seconds=5.0, workers=2) == []


@given(
    members=st.lists(st.tuples(st.floats(0.01, 1.0), st.floats(0.01, 100.0)), min_size=1, max_size=20),
    limit=st.floats(1.0, 600.0),
    workers=st.integers(1, 16),
)
def test_what_is_kept_back_is_at_most_a_tenth_and_enough_for_all_that_were_chosen(
    members: list[tuple[float, float]], limit: float, workers: int
) -> None:
    model = chosen(*members)
    kept = repeat_seconds(model, other_folds(N_FOLDS), limit=limit, workers=workers)
    assert 0.0 <= kept <= SHARE * limit
    trials = members_to_repeat(model, other_folds(N_FOLDS), seconds=SHARE * limit, workers=workers)
    assert sum(trial.seconds for trial in trials) <= SHARE * limit * workers
    if len(trials) == 1:
        longest = math.ceil(N_FOLDS / workers) * trials[0].seconds / N_FOLDS
        assert kept == pytest.approx(min(SHARE * limit, longest / SAFETY))


def test_the_folds_of_a_slow_member_are_shared_out_among_the_workers() -> None:
    model = chosen((0.6, 8.0), (0.4, 1.0))  # 2 s a fold, and a quarter of one
    assert numbers(members_to_repeat(model, other_folds(N_FOLDS), seconds=5.5, workers=1)) == [1]
    assert numbers(members_to_repeat(model, other_folds(N_FOLDS), seconds=5.5, workers=2)) == [0]
    assert numbers(members_to_repeat(model, other_folds(N_FOLDS), seconds=5.5, workers=4)) == [0, 1]
    assert repeat_seconds(model, other_folds(N_FOLDS), limit=60.0, workers=4) == pytest.approx(2.25 / SAFETY)


def test_what_is_kept_back_for_all_rows_is_the_longest_that_any_worker_needs() -> None:
    trials = [trial for trial, _ in chosen((0.5, 8.0), (0.3, 4.0), (0.2, 4.0)).members]  # 4, 2 and 2 s on all rows
    needed = {workers: refits_seconds(trials, 1_000, workers=workers) - STARTING_SECONDS for workers in (1, 2, 3)}
    assert needed == pytest.approx({1: 8.0 / SAFETY, 2: 4.0 / SAFETY, 3: 4.0 / SAFETY})


def test_an_encoder_that_takes_long_is_fitted_once_more() -> None:
    ((trial, _),) = chosen((1.0, 0.4)).members
    slow = replace(trial, row_seconds=(1e-3, 1e-6))
    assert refit_seconds(slow, 10_000) > refit_seconds(trial, 10_000) + 10.0
