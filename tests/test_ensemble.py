from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from automl_cli import ensemble
from automl_cli.ensemble import combine, greedy_weights, measure_gain
from automl_cli.errors import NoModel
from automl_cli.metrics import METRICS
from automl_cli.weighing import steadied


def _pool(seed: int, n_models: int, n: int, k: int):
    """Models of different quality around the truth."""
    rng = np.random.default_rng(seed)
    if k == 1:
        y = rng.normal(size=n)
        return rng.normal(y[None, :, None], rng.uniform(0.3, 2, (n_models, 1, 1)), (n_models, n, 1)), y
    y = np.concatenate([np.arange(k), rng.integers(0, k, n - k)])
    scores = np.eye(k)[y] * rng.uniform(0.2, 2, (n_models, 1, 1)) + rng.normal(size=(n_models, n, k))
    e = np.exp(scores)
    return e / e.sum(axis=2, keepdims=True), y


def _reference(oof, y, metric, n_picks):
    """Caruana as it is told, without running sums: every candidate's mean is taken anew."""
    losses = [metric.loss(y, member, None) for member in oof]
    picks = [int(np.argmin(losses))]
    trace = [losses[picks[0]]]
    while len(picks) < n_picks and len(picks) - 1 - int(np.argmin(trace)) < 5 and min(trace) > 0:
        tried = [metric.loss(y, oof[[*picks, i]].mean(axis=0), None) for i in range(len(oof))]
        close = [i for i, loss in enumerate(tried) if loss <= min(tried) + 1e-6 * trace[0]]
        among = [i for i in close if i in picks] or close
        picks.append(min(among, key=lambda i: tried[i]))
        trace.append(tried[picks[-1]])
    best = picks[: int(np.argmin(trace)) + 1]
    return np.bincount(best, minlength=len(oof)) / len(best)


POOLS = st.tuples(st.integers(0, 10**6), st.integers(1, 7), st.integers(8, 40))


@pytest.mark.parametrize(("name", "k"), [("rmse", 1), ("mae", 1), ("log_loss", 3), ("brier", 2), ("accuracy", 3)])
@settings(deadline=None, max_examples=25)
@given(pool=POOLS)
def test_equals_the_plain_algorithm(name, k, pool):
    oof, y = _pool(*pool, k)
    assert greedy_weights(oof, y, METRICS[name], n_picks=20) == pytest.approx(_reference(oof, y, METRICS[name], 20))


@pytest.mark.parametrize(
    ("name", "k"), [("roc_auc", 2), ("accuracy", 3), ("log_loss", 4), ("rmse", 1), ("median_ae", 1)]
)
@settings(deadline=None, max_examples=25)
@given(pool=POOLS, weighted=st.booleans(), precision=st.sampled_from([np.float32, np.float64]))
def test_never_worse_than_the_best_member(name, k, pool, weighted, precision):
    oof, y = _pool(*pool, k)
    oof = oof.astype(precision)
    weight = np.random.default_rng(0).uniform(0, 2, len(y)) if weighted else None
    metric = METRICS[name]
    weights = greedy_weights(oof, y, metric, weight)
    assert weights.sum() == pytest.approx(1)
    assert (weights >= 0).all()
    best = min(metric.loss(y, member, weight) for member in oof.astype(float))
    assert metric.loss(y, combine(oof, weights), weight) <= best


def test_never_worse_on_all_rows_when_the_search_saw_a_sample(monkeypatch):
    monkeypatch.setattr(ensemble, "_MAX_ROWS", 20)
    for seed in range(20):
        oof, y = _pool(seed, 5, 500, 2)
        weights = greedy_weights(oof, y, METRICS["roc_auc"])
        best = min(METRICS["roc_auc"].loss(y, member, None) for member in oof)
        assert METRICS["roc_auc"].loss(y, combine(oof, weights), None) <= best


def test_a_mix_of_independent_models_is_clearly_better():
    oof, y = _pool(5, 8, 400, 1)
    metric = METRICS["rmse"]
    best = min(metric.loss(y, member, None) for member in oof)
    assert metric.loss(y, combine(oof, greedy_weights(oof, y, metric)), None) < 0.9 * best


def test_copies_of_a_model_do_not_crowd_the_ensemble():
    oof, y = _pool(2, 1, 50, 2)
    weights = greedy_weights(np.repeat(oof, 6, axis=0), y, METRICS["log_loss"])
    assert weights.tolist() == [1, 0, 0, 0, 0, 0]


def test_a_model_that_is_not_finite_is_left_out():
    oof, y = _pool(3, 4, 60, 2)
    oof[1, 7, 0] = np.nan
    weights = greedy_weights(oof, y, METRICS["log_loss"])
    assert weights[1] == 0
    without = greedy_weights(oof[[0, 2, 3]], y, METRICS["log_loss"])
    assert weights[[0, 2, 3]].tolist() == without.tolist()


def test_no_finite_model_is_an_error():
    with pytest.raises(NoModel):
        greedy_weights(np.full((2, 3, 1), np.nan), np.zeros(3), METRICS["rmse"])


def test_large_pools_are_searched_in_seconds_and_always_alike():
    oof, y = _pool(0, 60, 30_000, 2)
    first = greedy_weights(oof, y, METRICS["log_loss"])
    assert first.tolist() == greedy_weights(oof, y, METRICS["log_loss"]).tolist()
    best = min(METRICS["log_loss"].loss(y, member, None) for member in oof)
    assert METRICS["log_loss"].loss(y, combine(oof, first), None) < best


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 10**6), n_models=st.integers(1, 5), k=st.integers(1, 4))
def test_combine_is_the_weighted_mean(seed, n_models, k):
    rng = np.random.default_rng(seed)
    predictions, weights = rng.normal(size=(n_models, 6, k)), rng.dirichlet(np.ones(n_models))
    assert combine(predictions, weights) == pytest.approx(np.einsum("m,mnk->nk", weights, predictions))


def test_combine_does_not_look_at_members_without_weight():
    predictions = np.stack([np.ones((2, 1)), np.full((2, 1), np.nan)])
    assert combine(predictions, np.array([1.0, 0.0])).tolist() == [[1.0], [1.0]]


def test_a_member_already_in_is_preferred_to_its_near_copy():
    a, b = np.array([[1.0], [4.0]]), np.array([[3.0], [2.0]])
    copy = b - 1e-8 * np.sign(a - b)  # a hair better as the third pick, and worse alone
    y = ((a + b + copy) / 3).ravel()
    assert greedy_weights(np.stack([copy, a, b]), y, METRICS["rmse"]) == pytest.approx([0, 1 / 3, 2 / 3])


def test_only_on_the_rows_that_chose_the_weights_is_there_always_a_gain():
    gains = []
    for seed in range(12):
        oof, y = _pool(seed, 25, 60, 2)
        gains.append(measure_gain(oof, y, METRICS["log_loss"], parts=np.arange(60) * 4 // 60))
    assert all(gain.in_sample >= 0 for gain in gains)
    assert any(gain.cross_fitted < 0 for gain in gains)


def test_a_real_gain_is_seen_on_rows_that_did_not_choose_it():
    oof, y = _pool(5, 8, 400, 1)
    gain = measure_gain(oof, y, METRICS["rmse"], parts=np.arange(400) * 5 // 400)
    assert gain.cross_fitted > 0
    assert gain.n_picks > 1


def test_a_gain_needs_two_models_and_two_parts():
    oof, y = _pool(5, 3, 40, 1)
    assert measure_gain(oof[:1], y, METRICS["rmse"], parts=np.arange(40) % 2) is None
    assert measure_gain(oof, y, METRICS["rmse"], parts=np.zeros(40, dtype=int)) is None


def _steadied(oof, y, metric, n_parts=4):
    gain = measure_gain(oof, y, metric, parts=np.arange(len(y)) * n_parts // len(y))
    return steadied(greedy_weights(oof, y, metric), gain, oof, y, metric, None, folds=None)


@pytest.mark.parametrize(("name", "k"), [("rmse", 1), ("log_loss", 3), ("roc_auc", 2)])
@settings(deadline=None, max_examples=15)
@given(pool=st.tuples(st.integers(0, 10**6), st.integers(2, 7), st.integers(30, 60)))
def test_a_mean_of_selections_is_never_worse_than_the_best_member(name, k, pool):
    oof, y = _pool(*pool, k)
    metric = METRICS[name]
    weights = _steadied(oof, y, metric)
    assert weights.sum() == pytest.approx(1)
    assert metric.loss(y, combine(oof, weights), None) <= min(metric.loss(y, one, None) for one in oof) + 1e-12


def test_a_mean_of_selections_on_few_rows_is_better_on_new_ones():
    metric, ratios = METRICS["rmse"], []
    for seed in range(20):
        oof, y = _pool(seed, 20, 3_000, 1)
        few, new = slice(0, 60), slice(60, None)
        chosen = [greedy_weights(oof[:, few], y[few], metric), _steadied(oof[:, few], y[few], metric)]
        losses = [metric.loss(y[new], combine(oof[:, new], weights), None) for weights in chosen]
        ratios.append(losses[1] / losses[0])
    assert np.mean(np.log(ratios)) < -0.01
    assert np.mean(np.array(ratios) <= 1) > 0.6


def test_members_of_next_to_no_weight_are_left_out_where_that_costs_nothing():
    rng, metric = np.random.default_rng(0), METRICS["rmse"]
    y, alike = rng.normal(size=400), rng.normal(size=400)
    oof = (y + 0.5 * alike + 0.1 * rng.normal(size=(30, 400)))[:, :, None]
    gain = measure_gain(oof, y, metric, parts=np.arange(400) // 50)
    mean = np.mean(gain.weights_by_part(30), axis=0)
    weights = steadied(greedy_weights(oof, y, metric), gain, oof, y, metric, None, folds=None)
    assert ((mean > 0) & (mean < 0.03)).any()
    assert weights[weights > 0].min() >= 0.03
    assert metric.loss(y, combine(oof, weights), None) <= 1.001 * metric.loss(y, combine(oof, mean), None)


def test_folds_on_other_scales_do_not_spoil_a_ranking():
    y = np.tile([0, 1], 20)
    folds = np.repeat([0, 1], 20)
    shifted = np.where(folds == 0, 0.1, 0.8) + 0.1 * y  # ranks each fold perfectly, all rows together not
    even = np.clip(0.5 + 0.3 * (y - 0.5) + 0.4 * np.random.default_rng(0).normal(size=40), 0, 1)
    oof = np.stack([np.column_stack([1 - p, p]) for p in (even, shifted)])
    metric = METRICS["roc_auc"]
    assert greedy_weights(oof, y, metric, folds=folds).tolist() == [0, 1]
    assert greedy_weights(oof, y, metric)[0] > 0


@settings(deadline=None, max_examples=25)
@given(pool=POOLS)
def test_never_worse_than_the_best_member_over_folds(pool):
    oof, y = _pool(*pool, 2)
    folds = np.arange(len(y)) * 3 // len(y)

    def loss(p):
        return np.mean([METRICS["roc_auc"].loss(y[folds == k], p[folds == k], None) for k in range(3)])

    assert loss(combine(oof, greedy_weights(oof, y, METRICS["roc_auc"], folds=folds))) <= min(map(loss, oof)) + 1e-12


def _never_nan(metric):
    """The metric, which no NaN may reach."""

    def loss(y, predictions, weight):
        assert np.isfinite(predictions).all()
        return metric.loss(y, predictions, weight)

    return replace(metric, loss=loss)


def _cut(oof, seed, n_folds=4):
    """Take the last folds from all models but one; return the fold of each row as well."""
    rng, folds = np.random.default_rng(seed), np.arange(oof.shape[1]) * n_folds // oof.shape[1]
    n_kept = rng.integers(0, n_folds + 1, len(oof))
    n_kept[rng.integers(len(oof))] = n_folds
    return np.where((folds >= n_kept[:, None])[:, :, None], np.nan, oof).astype(oof.dtype), folds


PARTS = pytest.mark.parametrize(
    ("name", "k"), [("rmse", 1), ("median_ae", 1), ("log_loss", 3), ("accuracy", 3), ("roc_auc", 2)]
)


@PARTS
@settings(deadline=None, max_examples=25)
@given(pool=POOLS, weighted=st.booleans(), precision=st.sampled_from([np.float32, np.float64]))
def test_with_unfinished_models_it_is_never_worse_than_the_best_complete_one(name, k, pool, weighted, precision):
    whole, y = _pool(*pool, k)
    oof, folds = _cut(whole.astype(precision), pool[0])
    weight = np.random.default_rng(0).uniform(0.1, 2, len(y)) if weighted else None
    metric, scales = _never_nan(METRICS[name]), folds if name == "roc_auc" else None

    def loss(p):
        parts = [folds == k for k in range(4)] if name == "roc_auc" else [np.ones(len(y), dtype=bool)]
        return np.mean([metric.loss(y[m], p[m], None if weight is None else weight[m]) for m in parts])

    weights = greedy_weights(oof, y, metric, weight, folds=scales)
    complete = np.isfinite(oof).all(axis=(1, 2))
    assert weights.sum() == pytest.approx(1)
    assert weights[complete].sum() > 0
    assert not weights[np.isnan(oof).all(axis=(1, 2))].any()
    assert loss(combine(oof, weights)) <= min(map(loss, oof[complete].astype(float))) + 1e-12
    of_rows = combine(np.where(np.isnan(oof), np.nan, 1.0), weights)
    assert of_rows == pytest.approx(np.ones(of_rows.shape))
    gain = measure_gain(oof, y, metric, weight, parts=folds, folds=scales)
    assert gain is None or np.isfinite([gain.in_sample, gain.cross_fitted]).all()


@settings(deadline=None, max_examples=25)
@given(pool=POOLS)
def test_rows_without_a_prediction_are_means_of_the_others(pool):
    """The plain algorithm, with every candidate's mean over those picks that have the row taken anew."""
    whole, y = _pool(*pool, 1)
    oof, _ = _cut(whole, pool[0])
    metric = METRICS["rmse"]
    complete = np.isfinite(oof).all(axis=(1, 2))
    usable = np.flatnonzero(np.isfinite(oof).any(axis=(1, 2)))
    picks = [int(min(np.flatnonzero(complete), key=lambda i: metric.loss(y, oof[i], None)))]
    trace = [metric.loss(y, oof[picks[0]], None)]
    while len(picks) < 12 and len(picks) - 1 - int(np.argmin(trace)) < 5 and min(trace) > 0:
        tried = {i: metric.loss(y, np.nanmean(oof[[*picks, i]], axis=0), None) for i in usable}
        close = [i for i, loss in tried.items() if loss <= min(tried.values()) + 1e-6 * trace[0]]
        picks.append(min([i for i in close if i in picks] or close, key=tried.__getitem__))
        trace.append(tried[picks[-1]])
    best = picks[: int(np.argmin(trace)) + 1]
    expected = np.bincount(best, minlength=len(oof)) / len(best)
    assert greedy_weights(oof, y, metric, n_picks=12) == pytest.approx(expected)


@PARTS
@settings(deadline=None, max_examples=15)
@given(pool=POOLS)
def test_complete_models_are_summed_and_counted_as_ever_to_the_last_bit(name, k, pool):
    oof, y = _pool(*pool, k)
    oof, metric = oof.astype(np.float32), METRICS[name]
    weights = greedy_weights(oof, y, metric, n_picks=15)
    assert weights.tobytes() == _as_ever(oof, y, metric, n_picks=15).tobytes()
    total = np.zeros(oof.shape[1:])
    for member in np.flatnonzero(weights):
        total += weights[member] * oof[member]
    assert combine(oof, weights).tobytes() == total.tobytes()
    nothing_finished = np.concatenate([oof, np.full_like(oof[:1], np.nan)])
    assert greedy_weights(nothing_finished, y, metric, n_picks=15)[:-1].tobytes() == weights.tobytes()


def _as_ever(oof, y, metric, n_picks):
    """Running sums over the number of picks, as long as all models are complete."""
    singles = [metric.loss(y, member.astype(float), None) for member in oof]
    picks, length = [int(np.argmin(singles))], 1
    total = oof[picks[0]].astype(float)
    best = first = metric.loss(y, total, None)
    while len(picks) < n_picks and len(picks) - length < 5 and best > 0:
        tried = np.array([metric.loss(y, (total + member) / (len(picks) + 1), None) for member in oof])
        close = np.flatnonzero(tried <= tried.min() + 1e-6 * first)
        among = close[np.isin(close, picks)] if np.isin(close, picks).any() else close
        picks.append(int(among[np.argmin(tried[among])]))
        total += oof[picks[-1]]
        if tried[picks[-1]] < best:
            best, length = tried[picks[-1]], len(picks)
    weights = np.bincount(picks[:length], minlength=len(oof)) / length
    mixed = sum(weights[i] * oof[i].astype(float) for i in np.flatnonzero(weights))
    return weights if metric.loss(y, mixed, None) <= singles[picks[0]] else np.eye(len(oof))[picks[0]]


def test_an_unfinished_model_that_errs_the_other_way_is_taken_and_counts_on_its_rows():
    y, halves = np.linspace(-1, 1, 20), np.arange(20) < 10
    oof = np.stack([y + 1.0, np.where(halves, y - 1.0, np.nan), np.where(halves, y + 0.9, np.nan)])[:, :, None]
    weights = greedy_weights(oof, y, METRICS["rmse"])
    assert weights == pytest.approx([0.5, 0.5, 0.0])
    assert combine(oof, weights).ravel() == pytest.approx(np.where(halves, y, y + 1.0))


def test_a_part_is_judged_without_beginning_from_a_model_that_lacks_it():
    y, folds = np.linspace(-1, 1, 40), np.arange(40) // 20
    perfect_there = np.where(folds == 0, y, np.nan)
    oof = np.stack([perfect_there, y + 0.5, y - 0.7])[:, :, None]
    gain = measure_gain(oof, y, _never_nan(METRICS["rmse"]), parts=folds)
    assert gain is not None
    assert np.isfinite([gain.in_sample, gain.cross_fitted]).all()
