"""What proposes comes in time, and not before."""

import pytest

from automl_cli.background import Background
from automl_cli.clock import Deadline
from automl_cli.proposing import LOADING_SECONDS, loading_of

N_LISTED = 40


class Load:
    """Work whose beginning is noted."""

    def __init__(self) -> None:
        self.begun_with: int | None = None
        self.left = N_LISTED

    def run(self) -> None:
        self.begun_with = self.left


def load_while(seconds_each: float, n_asked: int, limit: float | None = 300.0) -> int | None:
    """Ask for that many of a list, a pipeline every so many seconds; return how many were left as the learner came."""
    now = 0.0
    load = Load()
    learner: Background[None] = Background(load.run)
    hear = loading_of(learner, Deadline.after(limit, clock=lambda: now))
    for left in range(N_LISTED, N_LISTED - n_asked, -1):
        load.left = left
        hear(left)
        if learner._begun:
            learner.result()
            break
        now += seconds_each
    return load.begun_with


@pytest.mark.parametrize("seconds_each", [0.5, 1.0, 2.0])
def test_the_learner_is_loaded_so_early_that_nobody_waits_for_it(seconds_each: float) -> None:
    begun_with = load_while(seconds_each, N_LISTED)
    assert begun_with is not None
    assert LOADING_SECONDS - seconds_each <= begun_with * seconds_each <= max(LOADING_SECONDS, 5 * seconds_each)


def test_the_learner_is_not_loaded_where_the_list_does_not_come_to_its_end() -> None:
    assert load_while(2.0, N_LISTED // 2) is None


def test_a_queue_that_is_filled_at_once_says_nothing_about_how_long_the_list_lasts() -> None:
    assert load_while(0.0, 8) is None


def test_where_trials_are_counted_the_learner_is_loaded_beside_the_first_ones() -> None:
    assert load_while(1.0, 5, limit=None) == N_LISTED - 1
