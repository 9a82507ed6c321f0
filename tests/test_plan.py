"""How a run shares out the machine and its time."""

from hypothesis import given
from hypothesis import strategies as st

from automl_cli.families.family import Shape
from automl_cli.plan import first_trial_seconds, kill_seconds, reserve_seconds, share_cores
from automl_cli.task import TaskKind

SHAPES = st.builds(
    Shape,
    kind=st.sampled_from(list(TaskKind)),
    n_rows=st.integers(2, 10**7),
    n_columns=st.integers(1, 10**4),
    n_categorical=st.just(0),
    n_outputs=st.integers(1, 50),
)


@given(SHAPES, st.integers(1, 64), st.integers(1, 16))
def test_the_workers_asked_for_never_change_the_threads_of_a_fit(shape: Shape, cores: int, workers: int) -> None:
    asked = share_cores(shape, cores, workers)
    assert asked.workers == workers
    assert asked.threads == share_cores(shape, cores, None).threads


@given(SHAPES, st.integers(1, 64))
def test_no_core_is_promised_twice(shape: Shape, cores: int) -> None:
    shared = share_cores(shape, cores, None)
    assert 1 <= shared.workers * shared.threads <= cores


def test_small_tables_are_fitted_side_by_side_and_large_ones_with_threads() -> None:
    small = Shape(TaskKind.BINARY, 500, 10, 0, 2)
    large = Shape(TaskKind.BINARY, 500_000, 30, 0, 2)
    assert (share_cores(small, 2, None).workers, share_cores(small, 2, None).threads) == (2, 1)
    assert (share_cores(large, 2, None).workers, share_cores(large, 2, None).threads) == (1, 2)


@given(st.floats(5.0, 10**5))
def test_first_model_and_reserve_leave_most_of_the_time_to_the_search(limit: float) -> None:
    assert first_trial_seconds(limit) + reserve_seconds(limit, 0.0) <= limit / 2
    assert first_trial_seconds(limit) <= 10.0


def test_a_model_that_is_slow_to_save_gets_more_time_for_it() -> None:
    assert reserve_seconds(60.0, 4.0) >= reserve_seconds(60.0, 0.0) + 4.0


def test_a_trial_that_encodes_long_texts_is_not_killed_before_it_can_begin() -> None:
    assert kill_seconds(2.4, 57.0, encodes_texts=False) < 6.0
    assert kill_seconds(2.4, 57.0, encodes_texts=True) > 25.0
    assert kill_seconds(60.0, 100.0, encodes_texts=True) == kill_seconds(60.0, 100.0, encodes_texts=False)
