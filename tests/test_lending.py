"""Rows of a source that help to weigh models for a target with few rows."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from automl_cli.ensemble import Lent, combine, greedy_weights, measure_gain
from automl_cli.lending import MOST_SHARE, row_losses, share_lent
from automl_cli.metrics import METRICS, Array

RMSE, AUC = METRICS["rmse"], METRICS["roc_auc"]


def tables(seed: int, n_own: int, n_lent: int, bias: float) -> tuple[Array, Array]:
    """What twenty models lose on the rows of two tables, which differ by a bias of each model."""
    rng = np.random.default_rng(seed)
    gains, biases = 0.1 * rng.normal(size=(20, 1)), bias * rng.normal(size=(20, 1))
    return gains + rng.normal(size=(20, n_own)), gains + biases + rng.normal(size=(20, n_lent))


def test_rows_of_the_same_world_count_like_ones_own_and_those_of_another_do_not() -> None:
    same = [share_lent(*tables(seed, 50, 2000, 0.0)) for seed in range(40)]
    other = [share_lent(*tables(seed, 50, 2000, 3.0)) for seed in range(40)]
    assert np.mean(same) > 0.7
    assert np.max(other) < 0.02


def test_the_share_is_the_one_that_is_best_on_average() -> None:
    """With known variances the best weight is v_T / (v_T + v_S + tau^2); estimated on twenty models it comes near."""
    n_own, n_lent, bias = 100, 1000, 0.1
    wanted = (1 / n_own) / (1 / n_own + 1 / n_lent + bias**2)
    found = [share_lent(*tables(seed, n_own, n_lent, bias)) for seed in range(200)]
    assert np.mean(found) == pytest.approx(wanted, abs=0.1)


@given(st.integers(0, 10_000), st.integers(2, 300), st.floats(0, 5))
@settings(max_examples=50, deadline=None)
def test_the_share_is_a_share_whatever_the_units(seed: int, n_own: int, bias: float) -> None:
    own, lent = tables(seed, n_own, 500, bias)
    share = share_lent(own, lent)
    assert 0 <= share <= MOST_SHARE
    assert share_lent(1000 * own, 1000 * lent) == pytest.approx(share)
    assert share_lent(own, lent, np.full(n_own, 3.0), np.full(500, 0.1)) == pytest.approx(share)


def world(seed: int, n: int, models: Array) -> tuple[Array, Array]:
    """Targets, and predictions of models with noise of their own."""
    rng = np.random.default_rng(seed)
    y = rng.normal(size=n)
    return y, (y + models[:, None] * rng.normal(size=(len(models), n)))[:, :, None]


def test_lent_rows_find_the_better_models_that_few_own_rows_cannot_tell() -> None:
    """Thirty models of which five are good, forty rows: what is chosen loses less on new rows with lent ones."""
    noise = np.r_[np.full(25, 1.2), np.full(5, 1.0)]
    alone, helped = [], []
    for seed in range(12):
        y, oof = world(seed, 40, noise)
        y_lent, oof_lent = world(seed + 100, 1000, noise)
        y_new, new = world(seed + 200, 4000, noise)
        folds = np.arange(1000) * 4 // 1000
        share = share_lent(row_losses(oof, y, RMSE), row_losses(oof_lent, y_lent, RMSE))
        lent = Lent(oof_lent, y_lent, folds, None, share)
        assert share > 0.5
        for losses, rows in ((alone, None), (helped, lent)):
            losses.append(RMSE.loss(y_new, combine(new, greedy_weights(oof, y, RMSE, lent=rows)), None))
    assert np.mean(helped) < 0.93 * np.mean(alone)


def test_without_a_share_lent_rows_change_nothing() -> None:
    y, oof = world(0, 60, np.linspace(0.5, 1.5, 8))
    y_lent, other = world(1, 300, np.linspace(1.5, 0.5, 8))
    lent = Lent(other, y_lent, np.arange(300) // 100, None, 0.0)
    parts = np.arange(60) // 20
    assert greedy_weights(oof, y, RMSE, lent=lent).tolist() == greedy_weights(oof, y, RMSE).tolist()
    with_rows, without = (measure_gain(oof, y, RMSE, parts=parts, lent=rows) for rows in (lent, None))
    assert with_rows is not None
    assert without is not None
    assert with_rows.picks_by_part == without.picks_by_part
    assert with_rows.cross_fitted == pytest.approx(without.cross_fitted)


def test_lent_rows_leave_no_less_of_ones_own_to_choose_by() -> None:
    """900 rows in eight parts are all looked at, however many are lent: only then is a mean of selections taken."""
    noise = np.linspace(0.8, 1.2, 6)
    y, oof = world(0, 900, noise)
    y_lent, other = world(1, 2000, noise)
    lent = Lent(other, y_lent, np.arange(2000) * 8 // 2000, None, 0.5)
    found = measure_gain(oof, y, RMSE, parts=np.arange(900) * 8 // 900, lent=lent)
    assert found is not None
    assert not found.sampled


def test_ranks_are_compared_within_a_fold_and_a_table() -> None:
    """Scores of the source's rows on another scale, and of one class in a fold, leave the choice as it is."""
    rng = np.random.default_rng(3)
    y, y_lent, folds = rng.integers(0, 2, 60), rng.integers(0, 2, 400), np.arange(400) // 100
    good, poor = (np.clip(y + rng.normal(0, s, 60), -3, 4) for s in (0.8, 3.0))
    good_lent, poor_lent = (np.clip(y_lent + rng.normal(0, s, 400), -3, 4) for s in (0.8, 3.0))

    def two(scores: Array) -> Array:
        p = 1 / (1 + np.exp(-scores))
        return np.column_stack([1 - p, p])

    oof, said = np.stack([two(poor), two(good)]), np.stack([two(poor_lent - 3), two(good_lent - 3)])
    lent = Lent(said, y_lent, folds, None, 0.8)
    assert greedy_weights(oof, y, AUC, folds=np.arange(60) // 20, lent=lent)[1] > 0.5
    one_class = replace(lent, y=np.where(folds == 0, 1, y_lent))
    assert np.isfinite(greedy_weights(oof, y, AUC, folds=np.arange(60) // 20, lent=one_class)).all()
