import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from automl_cli.errors import BadData, UsageError
from automl_cli.metrics import DEFAULT_METRIC, TaskKind
from automl_cli.splits import plan_folds
from automl_cli.task import Task

OURS = settings(deadline=None, max_examples=50)


def _classes(y, **sides):
    y = np.asarray(y, dtype=np.int64)
    k = int(y.max()) + 1
    kind = TaskKind.BINARY if k == 2 else TaskKind.MULTICLASS
    return Task(kind, "y", "", False, tuple(map(str, range(k))), DEFAULT_METRIC[kind], y, **sides)


def _values(y, **sides):
    y = np.asarray(y, dtype=np.float64)
    return Task(TaskKind.REGRESSION, "y", "", False, (), DEFAULT_METRIC[TaskKind.REGRESSION], y, **sides)


def _plan(task, *, folds=None, seconds=None, n_columns=10, seed=0):
    return plan_folds(task, folds=folds, seconds=seconds, n_columns=n_columns, seed=seed)


def _check_apart(plan, n):
    for train, valid in plan.folds:
        assert train.dtype == valid.dtype == np.int64
        assert len(train)
        assert len(valid)
        assert not np.intersect1d(train, valid).size
    assert len(np.unique(plan.valid_rows)) == len(plan.valid_rows)
    assert plan.valid_rows.min() >= 0
    assert plan.valid_rows.max() < n


@OURS
@given(counts=st.lists(st.integers(1, 40), min_size=2, max_size=8), folds=st.integers(2, 8), seed=st.integers(0, 99))
def test_classes_are_spread_within_one_row(counts, folds, seed):
    if max(counts) == 1 or sum(counts) < folds:
        return
    y = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts))
    plan = _plan(_classes(y), folds=folds, seed=seed)
    _check_apart(plan, len(y))
    assert plan.random
    assert not plan.refit
    alone = np.flatnonzero(np.asarray(counts) == 1)
    assert set(plan.valid_rows) == set(np.flatnonzero(~np.isin(y, alone)))
    for train, valid in plan.folds:
        assert len(train) + len(valid) == len(y)
        assert set(y[train]) == set(y)  # every class is learned from in every fold
    table = np.array([np.bincount(y[valid], minlength=len(counts)) for _, valid in plan.folds])
    if len(plan.folds) == folds:
        assert (np.ptp(table, axis=0) <= 1).all()
        assert np.ptp(table.sum(axis=1)) <= 1


@OURS
@given(n=st.integers(20, 300), folds=st.integers(2, 10), seed=st.integers(0, 99))
def test_values_are_spread_over_the_sorted_target(n, folds, seed):
    y = np.random.default_rng(seed).permutation(n)
    plan = _plan(_values(y), folds=folds, seed=seed)
    _check_apart(plan, n)
    assert len(plan.valid_rows) == n
    for _, valid in plan.folds:
        # one of each run of as many rows as there are folds
        assert (np.diff(np.sort(y[valid]) // folds) == 1).all()


@OURS
@given(
    sizes=st.lists(st.integers(1, 12), min_size=4, max_size=30),
    folds=st.integers(2, 4),
    seed=st.integers(0, 99),
    values=st.booleans(),
)
def test_groups_are_never_split(sizes, folds, seed, values):
    rng = np.random.default_rng(seed)
    groups = rng.permutation(np.repeat(np.arange(len(sizes)) * 7, sizes))
    y = rng.integers(0, 2, len(groups))
    y[:2] = [0, 1]
    task = _values(y, groups=groups) if values else _classes(y, groups=groups)
    try:
        plan = _plan(task, folds=folds, seed=seed)
    except BadData:
        assert not values
        return
    _check_apart(plan, len(groups))
    assert not plan.random
    for train, valid in plan.folds:
        assert not np.intersect1d(groups[train], groups[valid]).size
    if values:
        assert len(plan.valid_rows) == len(groups)
        lengths = [len(valid) for _, valid in plan.folds]
        assert max(lengths) - min(lengths) <= max(sizes)


def test_groups_keep_the_classes_in_balance():
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(200), 5)
    y = (rng.random(200) < 0.15).astype(int)[groups]  # a whole group has one class
    plan = _plan(_classes(y, groups=groups), folds=5)
    shares = [y[valid].mean() for _, valid in plan.folds]
    assert max(shares) - min(shares) < 0.03


def test_very_many_groups_are_balanced_too():
    groups = np.random.default_rng(0).integers(0, 30_000, 90_000)
    plan = _plan(_values(np.arange(90_000.0), groups=groups), folds=3)
    lengths = [len(valid) for _, valid in plan.folds]
    assert max(lengths) - min(lengths) < 100
    assert sum(lengths) == 90_000


@OURS
@given(times=st.lists(st.integers(0, 40), min_size=8, max_size=80), folds=st.none() | st.integers(2, 6))
def test_training_lies_before_what_is_predicted(times, folds):
    order = np.array(times, dtype=np.float64)
    task = _values(np.arange(len(times)), order=order)
    if len(set(times)) == 1:
        with pytest.raises(BadData):
            _plan(task, folds=folds)
        return
    plan = _plan(task, folds=folds)
    _check_apart(plan, len(times))
    assert plan.refit
    assert not plan.random
    for train, valid in plan.folds:
        assert order[train].max() < order[valid].min()
    for (earlier, _), (later, _) in zip(plan.folds, plan.folds[1:], strict=False):
        assert set(earlier) < set(later)
    assert order[plan.valid_rows].max() == order.max()


def test_time_blocks_cover_the_last_half():
    order = np.random.default_rng(0).permutation(400).astype(float)
    plan = _plan(_values(np.arange(400), order=order))
    assert [len(valid) for _, valid in plan.folds] == [50] * 4
    assert sorted(order[plan.valid_rows]) == list(range(200, 400))


def test_rows_without_a_time_are_only_learned_from():
    order = np.arange(100.0)
    order[10:80] = np.nan
    plan = _plan(_values(np.arange(100), order=order))
    assert set(plan.valid_rows) == set(range(85, 100))
    assert all(set(range(10, 80)) <= set(train) for train, _ in plan.folds)


@pytest.mark.parametrize("values", [True, False])
def test_a_holdout_of_groups_is_neither_the_largest_group_nor_any_other_alone(values):
    groups = np.repeat(np.arange(901), [120_000] + [200] * 900)
    y = np.random.default_rng(0).integers(0, 2, len(groups))
    task = _values(y, groups=groups) if values else _classes(y, groups=groups)
    held = []
    for seed in range(3):
        ((train, valid),) = _plan(task, seed=seed).folds
        assert not np.intersect1d(groups[train], groups[valid]).size
        assert 0.03 < len(valid) / len(groups) < 0.1
        assert len(np.unique(groups[valid])) > 10
        held.append(set(groups[valid]))
    assert held[0] != held[1] != held[2]


def test_a_holdout_of_groups_has_both_classes():
    sizes = np.array([100_000] * 2 + [20_000] * 8)  # only the two largest hold the rare class
    groups = np.repeat(np.arange(10), sizes)
    y = (np.arange(len(groups)) % 50 == 0) & (groups < 2)
    ((train, valid),) = _plan(_classes(y, groups=groups)).folds
    assert set(y[valid]) == set(y[train]) == {False, True}


def test_time_and_groups_together_keep_both_promises():
    rng = np.random.default_rng(0)
    order, groups = np.arange(300.0), rng.integers(0, 4, 300) + 10 * (np.arange(300) // 60)
    plan = _plan(_values(np.arange(300), order=order, groups=groups))
    for train, valid in plan.folds:
        assert order[train].max() < order[valid].min()
        assert not np.intersect1d(groups[train], groups[valid]).size
    with pytest.raises(UsageError, match="not both"):
        _plan(_values(np.arange(300), order=order, groups=np.arange(300) % 3))


@pytest.mark.parametrize(
    ("n", "seconds", "n_folds"),
    [
        (30, 60, 5),
        (65, 60, 6),
        (800, 60, 8),
        (3_000, 60, 5),
        (3_000, 300, 8),
        (3_000, None, 8),
        (10_000, 60, 5),
        (50_000, 60, 3),
        (50_000, 600, 4),
        (200_000, 600, 3),
        (300_000, 600, 1),
    ],
)
def test_more_rows_and_less_time_give_fewer_folds(n, seconds, n_folds):
    assert len(_plan(_values(np.arange(n)), seconds=seconds).folds) == n_folds
    assert len(_plan(_classes(np.arange(n) % 2), seconds=seconds).folds) == n_folds


@pytest.mark.parametrize(("n", "seconds", "n_columns", "parts"), [
    (75_000, 60, 40, 7), (75_000, 60, 20, 3), (75_000, 600, 40, 4), (19_000, 5, 500, 3), (150_000, 15, 20, 8),
])  # fmt: skip
def test_where_time_is_short_for_a_large_table_one_part_is_held_out(n, seconds, n_columns, parts):
    plan = _plan(_values(np.arange(n) % 1000), seconds=seconds, n_columns=n_columns)
    one = len(plan.folds) == 1
    assert one == (parts > 4)
    assert round(n / len(plan.folds[0][1])) == parts
    assert not plan.repeat


def test_where_only_trials_are_counted_nothing_is_short_of_time():
    assert len(_plan(_values(np.arange(60_000) % 1000), n_columns=250).folds) == 3


def test_a_class_that_is_too_rare_for_small_parts_is_in_the_one_that_is_held_out():
    y = np.zeros(30_000, dtype=int)
    y[:3] = 1
    ((_, valid),) = _plan(_classes(y), seconds=10, n_columns=50).folds
    assert y[valid].sum() == 1


@pytest.mark.parametrize(
    ("n", "n_rare", "seconds", "n_folds", "n_validated"),
    [
        (300_000, 492, 600, 1, 123),
        (300_000, 60, 600, 3, 60),
        (1_000_000, 100, 60, 1, 33),
        (300_000, 9_000, 600, 1, 600),
    ],
)
def test_what_is_held_out_has_rows_enough_of_a_rare_class(n, n_rare, seconds, n_folds, n_validated):
    y = np.zeros(n, dtype=int)
    y[:n_rare] = 1
    folds = _plan(_classes(y), seconds=seconds).folds
    assert len(folds) == n_folds
    assert sum(y[valid].sum() for _, valid in folds) == pytest.approx(n_validated, abs=2)


def test_wide_tables_get_fewer_folds_but_three():
    assert len(_plan(_values(np.arange(3_000)), seconds=60, n_columns=50_000).folds) == 3


@pytest.mark.parametrize("sides", [{}, {"order": np.arange(500_000.0)}, {"groups": np.arange(500_000) // 5000}])
def test_a_large_holdout_has_at_least_twenty_thousand_rows(sides):
    ((train, valid),) = _plan(_values(np.arange(500_000) % 1000, **sides)).folds
    assert 20_000 <= len(valid) <= 26_000
    assert len(train) + len(valid) == 500_000


def test_a_holdout_of_classes_learns_every_class():
    y = np.zeros(260_000, dtype=int)
    y[:3] = [1, 2, 2]
    ((train, valid),) = _plan(_classes(y)).folds
    assert set(y[train]) == {0, 1, 2}
    assert 0 not in valid


def test_few_positives_lower_the_number_of_folds():
    y = np.zeros(500, dtype=int)
    y[:3] = 1
    plan = _plan(_classes(y))
    assert [int(y[valid].sum()) for _, valid in plan.folds] == [1, 1, 1]


def test_same_seed_same_folds_other_seed_other_folds():
    task = _classes(np.arange(200) % 3)
    first, again, other = _plan(task, seed=1), _plan(task, seed=1), _plan(task, seed=2)
    assert all(np.array_equal(a[1], b[1]) for a, b in zip(first.folds, again.folds, strict=True))
    assert not all(np.array_equal(a[1], b[1]) for a, b in zip(first.folds, other.folds, strict=True))


@pytest.mark.parametrize("folds", [0, 1, 21, -3])
def test_a_number_of_folds_out_of_range_is_refused(folds):
    with pytest.raises(UsageError, match="2 to 20"):
        _plan(_values(np.arange(100)), folds=folds)


def test_more_folds_than_rows_or_groups_are_refused():
    with pytest.raises(UsageError, match="5 folds of 4 rows"):
        _plan(_values(np.arange(4)), folds=5)
    with pytest.raises(UsageError, match="5 folds of 3 groups"):
        _plan(_values(np.arange(30), groups=np.arange(30) % 3), folds=5)


def test_what_cannot_be_validated_is_refused():
    with pytest.raises(BadData, match="two rows"):
        _plan(_classes([0, 1]))
    with pytest.raises(BadData, match="one group"):
        _plan(_values(np.arange(30), groups=np.zeros(30, dtype=np.int64)))
    with pytest.raises(BadData, match="single class"):
        _plan(_classes([0] * 10 + [1] * 10, groups=np.repeat([0, 1], 10)))
    with pytest.raises(BadData, match="in time"):
        _plan(_classes([0] * 19 + [1], order=np.arange(20.0)))


def test_the_reason_is_one_line_with_what_a_user_asks():
    reason = _plan(_classes([0, 1] * 500 + [2])).reason
    assert "8 folds" in reason
    assert "1,001 rows" in reason
    assert "single row" in reason
    assert "\n" not in reason


def test_a_large_group_does_not_make_the_folds_uneven():
    groups = np.repeat(np.arange(11), [2] * 10 + [20])  # the large one comes last
    plan = _plan(_values(np.arange(40), groups=groups), folds=2)
    assert [len(valid) for _, valid in plan.folds] == [20, 20]


def _check_repeat(plan, n):
    assert len(plan.repeat) == len(plan.folds)
    for (train, valid), (_, before) in zip(plan.repeat, plan.folds, strict=True):
        assert not np.intersect1d(train, valid).size
        assert len(train) + len(valid) == n
        assert not np.array_equal(valid, before)
    assert np.array_equal(np.sort(np.concatenate([valid for _, valid in plan.repeat])), plan.valid_rows)


def test_small_data_are_dealt_out_once_more():
    y = np.random.default_rng(0).integers(0, 3, 400)
    _check_repeat(_plan(_classes(y), folds=4), 400)
    _check_repeat(_plan(_values(np.arange(400.0)), folds=4), 400)


@pytest.mark.parametrize(
    "task",
    [
        _values(np.arange(5_000.0)),  # many rows
        _values(np.arange(400.0), order=np.arange(400.0)),
        _values(np.arange(400.0), groups=np.arange(400) // 4),
    ],
)
def test_other_data_are_not_dealt_out_again(task):
    assert _plan(task).repeat == ()
