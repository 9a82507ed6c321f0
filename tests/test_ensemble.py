import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from automl_cli import ensemble
from automl_cli.ensemble import combine, greedy_weights, measure_gain
from automl_cli.errors import NoModel
from automl_cli.metrics import METRICS


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
