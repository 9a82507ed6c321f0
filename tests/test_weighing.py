"""Weights on few rows: a share in equal parts, where that is not surely worse."""

from dataclasses import replace

import numpy as np
import pytest

from automl_cli.ensemble import combine, greedy_weights, measure_gain
from automl_cli.metrics import METRICS
from automl_cli.weighing import FEW_ROWS, Known, mix, steadied


def pool(seed: int, n_models: int, n: int, k: int, signal: tuple[float, float] = (0.5, 1.5)):
    """Probabilities of models that know the classes more or less, each with chance of its own."""
    rng = np.random.default_rng(seed)
    y = np.concatenate([np.arange(k), rng.integers(0, k, n - k)])
    scores = np.eye(k)[y] * rng.uniform(*signal, (n_models, 1, 1)) + rng.normal(size=(n_models, n, k))
    e = np.exp(scores)
    return e / e.sum(axis=2, keepdims=True), y


def known(y, metric: str) -> Known:
    parts = np.arange(len(y)) * 5 // len(y)
    return Known(y, None, parts, parts, METRICS[metric])


@pytest.mark.parametrize(("metric", "k"), [("log_loss", 3), ("roc_auc", 2), ("accuracy", 3)])
def test_the_ten_best_models_have_half_of_the_weight_in_equal_parts(metric: str, k: int) -> None:
    oof, y = pool(1, 14, 100, k)
    weights, _, gain = mix(oof, known(y, metric), calibrate=True)
    assert gain is not None
    assert gain.equal_share == 0.5
    assert weights.sum() == pytest.approx(1)
    assert (weights > 0).sum() >= 8
    # without each part ten models have a twentieth each, and what was chosen there the rest
    for own, picks, best in zip(gain.weights_by_part(14), gain.picks_by_part, gain.best_by_part, strict=True):
        expected = np.bincount(picks, minlength=14) / (2 * len(picks)) + np.isin(np.arange(14), best) / 20
        assert own == pytest.approx(expected)
        assert len(set(best)) == 10


def test_on_few_rows_that_ranks_new_ones_better() -> None:
    ratios, judge = [], METRICS["roc_auc"]
    for seed in range(20):
        oof, y = pool(seed, 20, 3_000, 2)
        few, new, folds = slice(0, 80), slice(80, None), np.arange(80) // 16
        gain = measure_gain(oof[:, few], y[few], judge, parts=folds, folds=folds)
        assert gain is not None
        first = greedy_weights(oof[:, few], y[few], judge, folds=folds)
        losses = []
        for share in (0.0, 0.5):
            shared = replace(gain, equal_share=share)
            weights = steadied(first, shared, oof[:, few], y[few], judge, None, folds=folds)
            losses.append(judge.loss(y[new], combine(oof[:, new], weights), None))
        ratios.append(losses[1] / losses[0])
    assert np.mean(np.log(ratios)) < -0.01
    assert np.mean(np.array(ratios) < 1) > 0.7


@pytest.mark.parametrize("seed", range(5))
def test_where_one_ranks_and_many_guess_it_keeps_its_weight(seed: int) -> None:
    oof, y = pool(seed, 10, 100, 2, signal=(0.0, 0.1))
    knows, others = oof[0] * np.exp(2.0 * np.eye(2)[y]), oof**8
    oof = others / others.sum(axis=2, keepdims=True)
    oof[0] = knows / knows.sum(axis=1, keepdims=True)
    weights, _, gain = mix(oof, known(y, "roc_auc"), calibrate=True)
    assert gain is not None
    assert gain.equal_share == 0
    assert weights[0] > 0.6


def test_they_count_as_a_hundred_rows() -> None:
    oof, y = pool(3, 12, 300, 2)
    gain = mix(oof, known(y, "roc_auc"), calibrate=True)[2]
    assert gain is not None
    assert gain.equal_share == pytest.approx(0.25)
    fewer = mix(oof[:, :50], known(y[:50], "roc_auc"), calibrate=True)[2]
    assert fewer is not None
    assert fewer.equal_share in (0.0, 0.5)


def test_neither_values_nor_many_rows_have_equal_parts() -> None:
    rng = np.random.default_rng(0)
    y = rng.normal(size=100)
    values = (y + rng.normal(size=(12, 100)))[:, :, None]
    many, labels = pool(2, 4, FEW_ROWS + 1, 2)
    for oof, truth, metric in ((values, y, "rmse"), (many, labels, "log_loss")):
        gain = mix(oof, known(truth, metric), calibrate=True)[2]
        assert gain is not None
        assert gain.equal_share == 0
