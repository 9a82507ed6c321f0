"""When boosting stops, which categories it knows, and what a LightGBM file may hold."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from automl_cli.clock import Deadline
from automl_cli.families.boosting import SeenCodes, Stopping, affordable_rate
from automl_cli.families.family import Shape
from automl_cli.families.lightgbm import LightGBMModel
from automl_cli.families.lightgbm_text import check_text, lean_text
from automl_cli.features.matrix import Matrix
from automl_cli.task import TaskKind

NO_LIMIT = Deadline.after(None)


def stops_after(losses, *, n_rows, deadline=NO_LIMIT, floor=0.0):
    stopping = Stopping(n_rows, deadline, floor=floor)
    for number, loss in enumerate(losses, start=1):
        if stopping.should_stop(loss):
            return number, stopping
    return None, stopping


def falling_until(best, n):
    return [1.0 - min(i, best) / best / 2 for i in range(1, n + 1)]


@pytest.mark.parametrize(
    ("n_rows", "best", "patience"),
    [(1_000, 20, 50), (60_000, 20, 50), (1_000, 400, 140), (100_000, 20, 30), (10_000_000, 1, 21), (1_000, 2_000, 620)],
)
def test_patience_grows_with_the_best_round_and_shrinks_with_the_rows(n_rows, best, patience):
    last, stopping = stops_after(falling_until(best, 20_000), n_rows=n_rows)
    assert stopping.best_round == best
    assert last == best + patience
    assert not stopping.cut


def test_gains_that_nobody_can_see_are_not_waited_for():
    last, stopping = stops_after((0.5 ** min(i, 900) for i in range(1, 5_000)), n_rows=100_000, floor=1e-5)
    assert last < 100
    assert stopping.best_round == last


def test_losses_that_are_not_numbers_end_the_training():
    last, stopping = stops_after([float("nan")] * 1_000, n_rows=100_000)
    assert last is not None
    assert stopping.best_round == 1


def test_the_deadline_leaves_room_for_one_more_round():
    now = [0.0]

    def rounds():
        for i in range(1, 1_000):
            now[0] += 1.0
            yield 1 / i

    last, stopping = stops_after(rounds(), n_rows=100, deadline=Deadline.after(60, clock=lambda: now[0]))
    assert stopping.cut
    assert 50 <= last <= 58


@pytest.mark.parametrize(("n_rows", "rate"), [(1_000, 0.04), (50_000, 0.06), (500_000, 0.1)])
def test_rates_rise_where_rounds_are_expensive(n_rows, rate):
    assert affordable_rate(Shape(TaskKind.BINARY, n_rows, 10, 0, 2), 0.04) == rate


@given(
    train=st.lists(st.integers(-1, 6), min_size=1, max_size=20),
    fresh=st.lists(st.integers(-1, 9), min_size=1, max_size=20),
)
def test_exactly_the_codes_of_training_are_known(train, fresh):
    def column(codes):
        values = np.array(codes, dtype=np.float32)[:, None]
        return np.where(values < 0, np.float32("nan"), values)

    codes = SeenCodes.of(Matrix(column(train), (0,), ("f0",)))
    known = [code if code in train else -1 for code in fresh]
    np.testing.assert_array_equal(codes.codes(column(fresh), 0), known)
    np.testing.assert_array_equal(codes.mask(column(fresh))[:, 0], column(known)[:, 0])


@pytest.fixture(scope="module")
def text():
    import lightgbm

    rng = np.random.default_rng(0)
    X = rng.random((300, 3))
    X[:, 2] = rng.integers(0, 6, 300)
    y = (X[:, 0] + X[:, 2] > 3).astype(int)
    params = {"objective": "binary", "num_leaves": 4, "verbosity": -1, "min_data_per_group": 1, "cat_smooth": 1}
    data = lightgbm.Dataset(X, y, categorical_feature=[2], params={"verbosity": -1})
    return lightgbm.train(params, data, 3).model_to_string()


def test_what_lightgbm_writes_is_accepted(text):
    summary = check_text(text)
    assert (summary.n_trees, summary.n_rounds, summary.n_features, summary.objective) == (3, 3, 3, "binary")
    assert "num_cat=1" in text


@pytest.mark.parametrize(("n_classes", "objective"), [(1, "binary"), (1, "regression"), (3, "multiclass")])
def test_a_lean_text_is_the_same_model(n_classes, objective):
    import lightgbm

    rng = np.random.default_rng(0)
    X = rng.random((500, 4))
    X[:, 3] = rng.integers(0, 9, 500)
    y = (X[:, 0] * 3).astype(int) if n_classes > 1 else (X[:, 0] + X[:, 3] > 4).astype(int)
    params = {"objective": objective, "verbosity": -1, "min_data_per_group": 1, "cat_smooth": 1}
    params |= {"num_class": n_classes} if n_classes > 1 else {}
    data = lightgbm.Dataset(X, y, categorical_feature=[3], params={"verbosity": -1})
    text = lightgbm.train(params, data, 300).model_to_string()
    lean = lean_text(text)
    assert len(lean) < 0.75 * len(text)
    assert check_text(lean) == check_text(text)
    whole, smaller = (lightgbm.Booster(model_str=each) for each in (text, lean))
    for asked in ({}, {"raw_score": True}, {"pred_contrib": True}, {"pred_leaf": True}):
        np.testing.assert_array_equal(whole.predict(X, **asked), smaller.predict(X, **asked))
    # a few trees at a time, and the objective's own function after them
    model = LightGBMModel(lean, smaller, objective == "regression", 300)
    answer = model.predict(Matrix(X.astype(np.float32), (3,), tuple("abcd")), 2)
    expected = whole.predict(X.astype(np.float32))
    if objective == "binary":
        expected = np.stack([1 - expected, expected], axis=1)
    np.testing.assert_allclose(answer, expected.reshape(answer.shape), rtol=1e-9, atol=1e-12)


def test_a_field_that_some_trees_have_and_some_not_is_refused(text):
    with pytest.raises(ValueError, match="split_gain"):
        check_text(changed(text, r"^split_gain=.*\n", ""))


def changed(text, pattern, replacement):
    """Change a line of the first tree and its promised size, as somebody with bad intentions would."""
    start = text.index("Tree=0")
    new = text[:start] + re.sub(pattern, replacement, text[start:], count=1, flags=re.MULTILINE)
    assert new != text
    first = int(re.search(r"tree_sizes=(\d+)", text)[1])
    return new.replace(f"tree_sizes={first}", f"tree_sizes={first + len(new) - len(text)}", 1)


@pytest.mark.parametrize(
    ("pattern", "replacement"),
    [
        (r"^left_child=\S+", "left_child=0"),
        (r"^left_child=\S+", "left_child=99"),
        (r"^right_child=\S+", "right_child=-99"),
        (r"^left_child=.*$", "left_child="),
        (r"^split_feature=\S+", "split_feature=3"),
        (r"^split_feature=\S+", "split_feature=-1"),
        (r"^threshold=.*$", "threshold=nan"),
        (r"^leaf_value=\S+", "leaf_value=x"),
        (r"^left_child=\S+", "left_child=1_0"),
        (r"^left_child=\S+", "left_child=0x1"),
        (r"^leaf_value=(\S+) ", r"leaf_value=\1  "),
        (r"^leaf_value=(\S+)", r"leaf_value=\1 "),
        (r"^internal_count=\S+ ", "internal_count="),
        (r"^leaf_value=.*\n", ""),
        (r"^num_leaves=4", "num_leaves=400000000"),
        (r"^num_cat=\d", "num_cat=9"),
        (r"^cat_boundaries=.*$", "cat_boundaries=0 100"),
        (r"^is_linear=0", "is_linear=1"),
    ],
)
def test_changed_trees_are_refused(text, pattern, replacement):
    with pytest.raises((ValueError, KeyError, IndexError)):
        check_text(changed(text, pattern, replacement))


@pytest.mark.parametrize(
    ("line", "replacement"),
    [
        ("objective=binary sigmoid:1", "objective=multiclass num_class:1000000"),
        ("objective=binary sigmoid:1", "objective=multiclass num_class:1"),
        ("objective=binary sigmoid:1", "objective=lambdarank"),
        ("num_class=1", "num_class=3"),
        ("num_class=1", "num_class=-1"),
        ("num_class=1", "num_class=1\nnum_class=3"),
        ("num_tree_per_iteration=1", "num_tree_per_iteration=3"),
        ("label_index=0", "label_index=0\n\u00e9=1"),
    ],
)
def test_headers_that_contradict_themselves_are_refused(text, line, replacement):
    assert f"\n{line}\n" in text
    with pytest.raises((ValueError, KeyError, IndexError)):
        check_text(text.replace(f"\n{line}\n", f"\n{replacement}\n", 1))


def test_a_line_that_is_there_twice_is_refused(text):
    # LightGBM reads only so many lines of a tree, and takes another of the two than we might
    with pytest.raises(ValueError, match="twice"):
        check_text(changed(text, r"^(shrinkage=.*)$", r"\1\nleft_child=-1 -2 -3"))


@given(st.integers(0, 10_000))
def test_cut_texts_are_refused(text, position):
    with pytest.raises((ValueError, KeyError, IndexError)):
        check_text(text[: position % (len(text) - 100)])


@given(st.floats(0.01, 0.3), st.floats(1e-3, 1.0), st.floats(0.5, 60.0))
def test_the_rate_is_raised_only_where_the_seconds_are_too_few(rate, seconds_per_round, limit):
    now = 0.0
    stopping = Stopping(1000, Deadline.after(limit, clock=lambda: now))
    raised = None
    for k in range(10):
        now += seconds_per_round
        if stopping.should_stop(1.0 / (k + 1)):
            return
        answer = stopping.coarser_rate(rate)
        assert answer is None or raised is None, "asked again, it answers once"
        raised = raised or answer
    possible = limit / seconds_per_round
    if raised is None:
        assert possible * rate > 10 or rate > 0.27
    else:
        assert rate < raised <= 0.3
        assert possible * rate < 15
        assert stopping.shortened
        assert stopping.rounds_at_rate >= stopping.best_round


def test_the_rate_stays_where_nothing_is_timed():
    stopping = Stopping(1000, Deadline.after(None))
    for k in range(10):
        stopping.should_stop(1.0 / (k + 1))
        assert stopping.coarser_rate(0.01) is None
    assert stopping.rounds_at_rate == stopping.best_round
    assert not stopping.shortened
