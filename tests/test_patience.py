"""When a search ends early: so many trials in a row without a gain."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from automl_cli.patience import NOISE, Patience
from automl_cli.trial import Failure, Pipeline, Proposal, Success, Trial

LOSSES = st.lists(st.floats(0.0, 1e6), min_size=1, max_size=60)


def trial(loss: float | None, *, origin: str = "smac", complete: bool = True) -> Trial:
    proposal = Proposal(0, Pipeline("linear", "one_hot", {}), origin, 0, 1)
    if loss is None:
        return Failure(proposal, "no", 0.1)
    return Success(proposal, (loss,), 1.0, complete)


def heard(most: int | None, *trials: Trial) -> Patience:
    patience = Patience(most)
    for each in trials:
        patience.hear(each)
    return patience


def ends_at(most: int, losses: list[float]) -> int | None:
    """Return how many of ``losses`` are heard before the search ends."""
    patience = Patience(most)
    for n_heard, loss in enumerate(losses, start=1):
        patience.hear(trial(loss))
        if patience.out:
            return n_heard
    return None


@given(LOSSES, st.integers(1, 8))
def test_it_ends_only_where_the_last_trials_gained_next_to_nothing(losses: list[float], most: int) -> None:
    end = ends_at(most, losses)
    if end is not None:
        before = min(losses[: end - most])
        assert min(losses[end - most : end]) >= (1 - NOISE) * before


@given(LOSSES, st.integers(1, 8))
def test_it_always_ends_once_nothing_gains(losses: list[float], most: int) -> None:
    end = ends_at(most, [*losses, *[max(losses)] * most])
    assert end is not None


@given(LOSSES, st.integers(1, 8))
def test_more_patience_never_ends_sooner(losses: list[float], most: int) -> None:
    end, later = ends_at(most, losses), ends_at(most + 1, losses)
    assert later is None or (end is not None and end < later)


def test_small_steps_add_up() -> None:
    assert ends_at(4, [0.5 * (1 - 0.4 * NOISE) ** k for k in range(50)]) is None
    assert ends_at(4, [0.5 * (1 - 0.1 * NOISE) ** k for k in range(50)]) == 5


def test_without_a_number_it_never_ends() -> None:
    assert not heard(None, *[trial(0.5)] * 1000).out


@pytest.mark.parametrize(
    "no_gain", [trial(None), trial(0.1, complete=False), trial(math.nan), trial(math.inf), trial(0.5)]
)
def test_what_failed_or_was_given_up_is_a_trial_without_a_gain(no_gain: Trial) -> None:
    assert heard(3, trial(0.5), no_gain, no_gain).waited == 2


def test_nothing_is_counted_before_the_first_complete_trial() -> None:
    assert heard(2, *[trial(None), trial(0.1, complete=False)] * 5).waited == 0


def test_the_portfolio_is_tried_to_its_end() -> None:
    listed = [trial(0.5, origin="portfolio"), *[trial(0.9, origin="portfolio")] * 8]
    assert heard(1, *listed, trial(0.9, origin="again")).waited == 0
    assert heard(1, *listed, trial(0.9)).out


def test_a_model_that_gains_begins_the_count_anew() -> None:
    patience = heard(2, trial(0.5), trial(0.6))
    patience.hear_model(0.45)
    patience.hear(trial(0.6))
    patience.hear_model(0.4499)
    assert patience.waited == 1
    patience.hear(trial(0.6))
    assert patience.out
    patience.hear_model(0.44)
    assert patience.waited == 0


def test_a_model_of_partial_trials_is_nothing_to_gain_on() -> None:
    patience = heard(1, trial(0.1, complete=False))
    patience.hear_model(0.1)
    patience.hear(trial(0.5))
    patience.hear(trial(0.5))
    patience.hear_model(0.4)
    assert patience.waited == 0, "the mean over all folds is held against nothing but such means"
