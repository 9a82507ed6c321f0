"""What every metric promises."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from automl_cli.metrics import METRICS

ROWS = [(name, kind) for name, metric in METRICS.items() for kind in sorted(metric.kinds)]


def _perfect(kind: str, n: int = 30):
    rng = np.random.default_rng(3)
    if kind == "regression":
        y = rng.exponential(4, n)
        return y, y[:, None].copy()
    k = 2 if kind == "binary" else 4
    y = np.concatenate([np.arange(k), rng.integers(0, k, n - k)])
    return y, np.eye(k)[y]


def _noisy(predictions, rng):
    if predictions.shape[1] == 1:
        return predictions + rng.normal(0, 3, predictions.shape)
    mixed = predictions + rng.exponential(2, predictions.shape)
    return mixed / mixed.sum(axis=1, keepdims=True)


@pytest.mark.parametrize(("name", "kind"), ROWS)
def test_zero_is_best(name, kind):
    y, predictions = _perfect(kind)
    metric = METRICS[name]
    assert metric.loss(y, predictions, None) == pytest.approx(0, abs=1e-12)
    assert metric.loss(y, predictions, np.linspace(0, 2, len(y))) == pytest.approx(0, abs=1e-12)
    assert metric.loss(y, _noisy(predictions, np.random.default_rng(0)), None) > 0.01


@pytest.mark.parametrize("row", ROWS, ids="-".join)
@settings(deadline=None, max_examples=30)
@given(
    seed=st.integers(0, 10**6), n=st.integers(1, 12), one_class=st.booleans(), weight=st.sampled_from([None, 0.0, 2.0])
)
def test_any_rows_give_a_finite_loss_that_is_not_negative(row, seed, n, one_class, weight):
    name, kind = row
    y, perfect = _perfect(kind)
    rng = np.random.default_rng(seed)
    rows = np.repeat(rng.integers(0, len(y), 1), n) if one_class else rng.integers(0, len(y), n)
    loss = METRICS[name].loss(y[rows], _noisy(perfect[rows], rng), None if weight is None else np.full(n, weight))
    assert np.isfinite(loss)
    assert loss >= 0


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize(("name", "kind"), ROWS)
def test_a_prediction_that_is_not_finite_is_not_scored(name, kind, bad):
    y, predictions = _perfect(kind)
    predictions[5, 0] = bad
    assert np.isnan(METRICS[name].loss(y, predictions, None))


@pytest.mark.parametrize(("name", "kind"), ROWS)
def test_equal_weights_change_nothing_and_order_neither(name, kind):
    y, perfect = _perfect(kind)
    predictions = _noisy(perfect, np.random.default_rng(1))
    metric = METRICS[name]
    plain = metric.loss(y, predictions, None)
    assert metric.loss(y, predictions, np.full(len(y), 0.5)) == pytest.approx(plain)
    assert metric.loss(y[::-1], predictions[::-1], None) == pytest.approx(plain)


@pytest.mark.parametrize(("name", "kind"), ROWS)
def test_inputs_are_left_alone(name, kind):
    y, perfect = _perfect(kind)
    predictions, weight = _noisy(perfect, np.random.default_rng(1)), np.ones(len(y))
    for array in (y, predictions, weight):
        array.flags.writeable = False
    METRICS[name].loss(y, predictions, weight)


@pytest.mark.parametrize("name", METRICS)
def test_a_loss_and_its_natural_number_belong_together(name):
    metric = METRICS[name]
    assert metric.natural(metric.natural(0.25)) == 0.25
    assert metric.greater_is_better == (metric.natural(0.0) == 1.0)


@pytest.mark.parametrize("name", [name for name, metric in METRICS.items() if metric.natural(0.0) == 0.0])
def test_natural_losses_are_shown_as_they_are(name):
    assert METRICS[name].natural(0.3) == 0.3


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 10**6), n=st.integers(1, 40), levels=st.integers(1, 50))
def test_many_predictions_at_once_are_scored_as_one_by_one(seed, n, levels):
    """With and without ties, with one class only, and to the last bit: the ensemble compares them."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, n)
    positive = rng.integers(0, levels, (5, n)) / 64
    positive[3] = rng.random(n)
    one_by_one = {name: metric for name, metric in METRICS.items() if metric.of_many is not None}
    assert "roc_auc" in one_by_one
    for metric in one_by_one.values():
        alone = [metric.loss(y, np.stack([1 - p, p], axis=1), None) for p in positive]
        np.testing.assert_array_equal(metric.of_many(y, positive), alone)
        positive[1, 0] = np.nan
        assert np.isnan(metric.of_many(y, positive)[1])
