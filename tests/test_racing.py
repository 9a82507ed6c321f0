import math

from hypothesis import given
from hypothesis import strategies as st

from automl_cli.racing import should_stop

LOSSES = st.lists(st.floats(0, 1e6), min_size=1, max_size=8)


def test_worse_than_the_worst_fold_stops_and_says_the_numbers():
    decision = should_stop([0.4, 0.36], [0.1, 0.2, 0.3])
    assert decision.stop
    assert "0.38" in decision.reason
    assert "0.3" in decision.reason
    assert "\n" not in decision.reason


def test_worse_than_the_mean_alone_goes_on():
    assert not should_stop([0.29], [0.1, 0.2, 0.3]).stop


def test_equal_to_the_worst_fold_stops():
    assert should_stop([0.3], [0.1, 0.3]).stop


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
def test_the_rule(losses, incumbent):
    mean = math.fsum(losses) / len(losses)
    assert should_stop(losses, incumbent).stop == (mean >= max(incumbent))


@given(losses=LOSSES, incumbent=LOSSES, better=st.floats(0, 1))
def test_better_losses_never_turn_go_into_stop(losses, incumbent, better):
    if not should_stop(losses, incumbent).stop:
        assert not should_stop([loss * better for loss in losses], incumbent).stop
