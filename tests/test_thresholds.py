"""Multipliers of the classes, against trying all thresholds."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from automl_cli.metrics import METRICS
from automl_cli.thresholds import class_multipliers, prior_multipliers

LABELS = [metric for metric in METRICS.values() if metric.of_tables is not None]
names = pytest.mark.parametrize("metric", LABELS, ids=lambda metric: metric.name)


def pool(seed: int, n: int, k: int):
    rng = np.random.default_rng(seed)
    y = np.append(np.arange(k), rng.choice(k, n - k, p=np.arange(1, k + 1) / np.arange(1, k + 1).sum()))
    p = rng.dirichlet(np.ones(k), n) + np.eye(k)[y] * rng.uniform(0, 0.6)
    return p / p.sum(axis=1, keepdims=True), y


@names
@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 10**6), n=st.integers(6, 60))
def test_of_few_rows_the_threshold_is_the_best_of_all(metric, seed, n):
    p, y = pool(seed, n, 2)
    found = metric.loss(y, p * np.exp(class_multipliers(np.log(p), y, metric)), None)
    ratios = np.sort(np.log(p[:, 0] / p[:, 1]))
    cuts = np.concatenate([ratios[:1] - 1, (ratios[1:] + ratios[:-1]) / 2, ratios[-1:] + 1])
    every = [metric.loss(y, p * np.exp([0.0, cut]), None) for cut in cuts]
    # Quantiles of the margins: all of them where there are few rows, but for the two ends.
    assert found <= min(every[1:-1]) + 1e-9


@names
@pytest.mark.parametrize("ways", [class_multipliers, prior_multipliers])
@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 10**6), n=st.integers(8, 60), k=st.integers(2, 6), weighted=st.booleans())
def test_never_worse_than_the_likeliest_class(metric, ways, seed, n, k, weighted):
    p, y = pool(seed, n, 2 if metric.name == "f1" else k)
    weight = np.random.default_rng(seed).uniform(0, 2, n) if weighted else None
    logs = ways(np.log(p), y, metric, weight)
    assert metric.loss(y, p * np.exp(logs), weight) <= metric.loss(y, p, weight) + 1e-9


def test_for_balanced_accuracy_the_power_of_the_shares_is_near_minus_one():
    rng = np.random.default_rng(0)
    shares = np.array([0.7, 0.25, 0.05])
    p = np.exp(1.5 * rng.normal(size=(20_000, 3)) + np.log(shares))
    p /= p.sum(axis=1, keepdims=True)
    y = (p.cumsum(axis=1) > rng.random((20_000, 1))).argmax(axis=1)
    logs = prior_multipliers(np.log(p), y, METRICS["balanced_accuracy"])
    power = (logs[2] - logs[0]) / np.log((y == 0).mean() / (y == 2).mean())
    assert power == pytest.approx(1.0, abs=0.2)


@names
@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 10**6), n=st.integers(1, 40), k=st.integers(2, 5), weighted=st.booleans())
def test_losses_of_tables_are_those_of_rows(metric, seed, n, k, weighted):
    k = 2 if metric.name == "f1" else k
    rng = np.random.default_rng(seed)
    weight = rng.uniform(0, 2, n) if weighted else None
    tables, losses = [], []
    for _ in range(3):
        y, said = rng.integers(0, k, n), rng.integers(0, k, n)
        counts = np.bincount(y * k + said, weights=weight, minlength=k * k).reshape(k, k)
        tables.append(counts.astype(float))
        losses.append(metric.loss(y, np.eye(k)[said], weight))
    assert metric.of_tables(np.stack(tables)) == pytest.approx(losses)
