"""One level of stacking: it finds known weights, gains only where it surely does, and predicts as it was judged."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression, Ridge

from automl_cli.ensemble import combine, greedy_weights, measure_gain
from automl_cli.features.matrix import Array
from automl_cli.metrics import METRICS
from automl_cli.stacking import STRENGTHS, Greedy, Mixing, Rows, Stacked, _logistic, _ridge, stack

N_ROWS, N_PARTS = 600, 5
PARTS = np.repeat(np.arange(N_PARTS), N_ROWS // N_PARTS)


def stacked(oof: Array, y: Array, metric: str, spare: tuple[int, ...] = ()) -> tuple[Stacked | None, Greedy]:
    """Stack on top of the greedy selection, as a fit does."""
    found = measure_gain(oof, y, METRICS[metric], parts=PARTS)
    picks = found.picks_by_part if found else ((0,),) * N_PARTS
    by_part = [np.bincount(chosen, minlength=len(oof)) / len(chosen) for chosen in picks]
    rows = Rows(y, None, PARTS)
    losses = tuple(
        rows.loss(rows.part(part)[1], combine(oof[:, rows.part(part)[1]], weights), METRICS[metric])
        for part, weights in enumerate(by_part)
    )
    greedy = Greedy(greedy_weights(oof, y, METRICS[metric]), by_part, losses)
    return stack(oof, rows, METRICS[metric], greedy, spare=spare), greedy


def test_it_removes_an_error_that_members_share() -> None:
    """No mean of the first two loses what they have in common; a negative weight of the third does."""
    rng = np.random.default_rng(0)
    y, shared = rng.normal(size=N_ROWS), rng.normal(size=N_ROWS)
    oof = np.stack([y + shared + 0.1 * rng.normal(size=N_ROWS), y + 1.1 * shared, shared])[:, :, None]
    found, greedy = stacked(oof, y, "rmse", spare=(2,))
    assert found is not None
    assert found.weights[2] < -0.3
    assert METRICS["rmse"].loss(y, found.judged, None) < 0.5 * np.mean(greedy.losses)


def test_members_that_are_too_timid_become_surer() -> None:
    rng = np.random.default_rng(1)
    scores = 2.0 * rng.normal(size=(N_ROWS, 3))
    p = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    y = np.array([rng.choice(3, p=row) for row in p])
    timid = np.stack([(0.3 * s - np.log(np.exp(0.3 * s).sum(axis=1, keepdims=True))) for s in (scores, 0.9 * scores)])
    found, _ = stacked(np.exp(timid), y, "log_loss")
    assert found is not None
    assert found.weights.sum() > 2.0
    assert METRICS["log_loss"].loss(y, found.judged, None) < 1.1 * METRICS["log_loss"].loss(y, p, None)


def test_what_is_chance_is_left_alone() -> None:
    """Six members whose mean is as good as anything that can be made of them: what is taken costs next to nothing."""
    taken, costs = 0, []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        truth = rng.normal(size=3 * N_ROWS)
        members = 0.6 * (truth + 2.0 * rng.normal(size=(6, 3 * N_ROWS)))[:, :, None]
        found, greedy = stacked(members[:, :N_ROWS], truth[:N_ROWS], "rmse")
        if found is not None:
            taken += 1
            fresh = slice(N_ROWS, None)
            mixed = found.mixing.joined(np.tensordot(found.weights, members[:, fresh], 1))
            before = METRICS["rmse"].loss(truth[fresh], combine(members[:, fresh], greedy.weights), None)
            costs.append(METRICS["rmse"].loss(truth[fresh], mixed, None) / before)
    assert taken <= 10
    assert max(costs, default=1.0) < 1.02


@pytest.mark.parametrize(("n_rare", "stacks"), [(12, False), (60, True)])
def test_a_dozen_rows_of_a_class_are_too_few_to_learn_weights_from(n_rare: int, stacks: bool) -> None:
    """The timid members would gain by being surer, whatever the number; with a dozen rows that is told by chance."""
    rng = np.random.default_rng(4)
    y = np.zeros(N_ROWS, dtype=np.int64)
    y[rng.permutation(N_ROWS)[:n_rare]] = 1
    scores = 3.0 * (2 * y - 1) + rng.normal(size=(3, N_ROWS))
    p = 1 / (1 + np.exp(-0.4 * scores))
    found, _ = stacked(np.stack([1 - p, p], axis=2), y, "log_loss")
    assert (found is not None) == stacks


def test_identical_members_of_a_constant_target_change_nothing() -> None:
    y = np.full(N_ROWS, 0.1)
    found, _ = stacked(np.full((3, N_ROWS, 1), 0.1), y, "rmse")
    assert found is None


def test_a_spare_that_blew_up_does_not_stand_in_the_way() -> None:
    rng = np.random.default_rng(6)
    y = rng.normal(size=N_ROWS)
    timid = 0.4 * (y + 0.2 * rng.normal(size=(2, N_ROWS)))[:, :, None]
    wild = np.full((1, N_ROWS, 1), 8e307)
    found, _ = stacked(np.concatenate([timid, wild]), y, "rmse", spare=(2,))
    assert found is not None
    assert found.weights[2] == 0.0


@pytest.mark.parametrize("metric", ["f1_macro", "accuracy"])
def test_metrics_of_labels_are_left_to_thresholds(metric: str) -> None:
    rng = np.random.default_rng(2)
    oof = rng.dirichlet(np.ones(3), size=(4, N_ROWS))
    assert stacked(oof, rng.integers(0, 3, N_ROWS), metric)[0] is None


def test_two_parts_say_too_little() -> None:
    rng = np.random.default_rng(3)
    y = rng.normal(size=N_ROWS)
    oof = 0.5 * y[None, :, None] * np.ones((2, 1, 1))
    rows = Rows(y, None, (PARTS > 2).astype(np.int64))
    greedy = Greedy(np.array([1.0, 0.0]), [np.array([1.0, 0.0])] * 2, (9.0, 9.0))
    assert stack(oof, rows, METRICS["rmse"], greedy) is None
    assert stack(oof, replace(rows, parts=PARTS), METRICS["rmse"], replace(
        greedy, by_part=greedy.by_part[:1] * N_PARTS, losses=(9.0,) * N_PARTS)) is not None  # fmt: skip


@pytest.mark.parametrize("strength", STRENGTHS)
def test_values_are_a_ridge_regression(strength: float) -> None:
    """Against scikit-learn's, whose penalty is on weights: they begin at zero here."""
    rng = np.random.default_rng(4)
    X, y = 5.0 + rng.normal(size=(3, N_ROWS)), 5.0 + rng.normal(size=N_ROWS)
    y += X.sum(axis=0)
    share = rng.random(N_ROWS)
    share /= share.sum()
    weights, offset = _ridge(X, y, share, np.zeros(3), strength)
    centre = share @ y
    spread = np.sqrt(share @ (y - centre) ** 2)
    reference = Ridge(alpha=strength, fit_intercept=False).fit((X.T - centre) / spread, (y - centre) / spread, share)
    np.testing.assert_allclose(weights, reference.coef_, rtol=1e-6)
    assert offset[0] == pytest.approx(centre * (1 - weights.sum()))


def test_probabilities_are_a_logistic_regression() -> None:
    """Two classes and next to no penalty on anything: the same slope as scikit-learn's."""
    rng = np.random.default_rng(5)
    scores = rng.normal(size=N_ROWS)
    y = (rng.random(N_ROWS) < 1 / (1 + np.exp(-1.7 * scores))).astype(np.int64)
    L = np.stack([-0.5 * scores, 0.5 * scores], axis=1)[None]
    share = np.full(N_ROWS, 1 / N_ROWS)
    weights, _ = _logistic(L, y, share, (np.ones(1), np.zeros(2)), 1e-9, None)
    reference = LogisticRegression(C=1e9).fit(scores[:, None], y)
    assert weights[0] == pytest.approx(reference.coef_[0, 0], rel=0.01)


@given(seed=st.integers(0, 10_000), n_absent=st.integers(0, 4))
@settings(max_examples=20, deadline=None)
def test_models_without_all_rows_leave_no_hole(seed: int, n_absent: int) -> None:
    rng = np.random.default_rng(seed)
    y = rng.normal(size=N_ROWS)
    oof = (0.4 * y + 0.3 * rng.normal(size=(3, N_ROWS)))[:, :, None]
    oof[1, n_absent > PARTS] = np.nan
    found, greedy = stacked(oof, y, "rmse")
    assert found is not None, "all members are far too timid"
    assert np.isfinite(found.judged).all()
    assert METRICS["rmse"].loss(y, found.judged, None) < np.mean(greedy.losses)


def test_it_is_the_same_after_json() -> None:
    mixing = Mixing(logarithms=True, offsets=(0.1, -0.1))
    assert Mixing.from_json(mixing.to_json()) == mixing
    p = np.array([[0.0, 1.0]])
    assert np.isfinite(mixing.joined(3.0 * mixing.terms(p))).all()
