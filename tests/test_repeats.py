"""Which members are fitted on other folds as well: the heaviest ones, within the seconds there are."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from automl_cli.members import Chosen
from automl_cli.repeats import SHARE, members_to_repeat, repeat_seconds
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
    assert numbers(members_to_repeat(model, N_FOLDS, seconds=100.0, workers=1)) == [1, 2, 0]
    assert numbers(members_to_repeat(model, N_FOLDS, seconds=2.6, workers=1)) == [1, 2]
    assert numbers(members_to_repeat(model, N_FOLDS, seconds=2.6, workers=2)) == [1, 2, 0]


def test_one_that_is_too_slow_is_passed_over() -> None:
    model = chosen((0.6, 50.0), (0.4, 1.0))
    assert numbers(members_to_repeat(model, N_FOLDS, seconds=5.0, workers=2)) == [1]
    assert members_to_repeat(model, N_FOLDS, seconds=0.5, workers=2) == []
    assert members_to_repeat(chosen((1.0, 1.0), complete=False), N_FOLDS, seconds=5.0, workers=2) == []


@given(
    members=st.lists(st.tuples(st.floats(0.01, 1.0), st.floats(0.01, 100.0)), min_size=1, max_size=20),
    limit=st.floats(1.0, 600.0),
    workers=st.integers(1, 16),
)
def test_what_is_kept_back_is_at_most_a_tenth_and_enough_for_all_that_were_chosen(
    members: list[tuple[float, float]], limit: float, workers: int
) -> None:
    model = chosen(*members)
    kept = repeat_seconds(model, N_FOLDS, limit=limit, workers=workers)
    assert 0.0 <= kept <= SHARE * limit
    trials = members_to_repeat(model, N_FOLDS, seconds=SHARE * limit, workers=workers)
    assert sum(trial.seconds for trial in trials) <= SHARE * limit * workers
    if len(trials) == 1:
        assert kept == pytest.approx(min(SHARE * limit, trials[0].seconds / 0.8))
