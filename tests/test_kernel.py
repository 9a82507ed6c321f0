"""Kernel machines: closed forms against what they are short for, and what they are for."""

import numpy as np
import pytest

from automl_cli.errors import BadArtifact
from automl_cli.families import find_families
from automl_cli.families.family import FoldData, Limits
from automl_cli.families.kernel import calibrated
from automl_cli.families.kernel_ridge import (
    Kernel,
    distances_within,
    gradients,
    solve,
    solve_with_centres,
)
from automl_cli.families.rows import sampled_rows
from automl_cli.features.matrix import as_matrix
from automl_cli.metrics import METRICS
from automl_cli.task import TaskKind

FAMILY = find_families()["kernel"]
FIRST = {"exponent": 1.5, "bandwidth": 2.0, "directions": True, "sharpness": 0.5}
KERNELS = [Kernel(1.5, exponent) for exponent in (0.7, 1.0, 1.5, 2.0)]


def rows(n=40, d=3, n_columns=2, seed=0):
    rng = np.random.default_rng(seed)
    weight = rng.uniform(0.3, 2.0, n)
    return rng.normal(size=(n, d)), rng.normal(size=(n, n_columns)), weight / weight.mean()


def ridge_by_hand(kernel, Z, centres, Y, ridge, weight):
    """Coefficients by a least-squares solver: penalty and rows one below the other."""
    values, penalty = kernel.between(Z, centres), np.linalg.cholesky(kernel.of(distances_within(centres)))
    left = np.vstack([np.sqrt(weight)[:, None] * values, np.sqrt(ridge) * penalty.T])
    right = np.vstack([np.sqrt(weight)[:, None] * Y, np.zeros((len(centres), Y.shape[1]))])
    return np.linalg.lstsq(left, right, rcond=None)[0]


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: f"exponent {kernel.exponent}")
def test_what_is_left_out_is_what_a_fit_without_the_row_predicts(kernel):
    Z, Y, weight = rows()
    found = solve(kernel.of(distances_within(Z)), Y, 0.1, weight)
    for i in (0, 7, 39):
        others = np.delete(np.arange(len(Z)), i)
        # weights are relative to the ridge: they stay as they are
        without = solve(kernel.of(distances_within(Z[others])), Y[others], 0.1, weight[others])
        expected = kernel.between(Z[[i]], Z[others]) @ without.coefficients
        np.testing.assert_allclose(found.left_out[[i]], expected, atol=1e-8)


def test_with_all_rows_as_centres_both_solutions_agree():
    Z, Y, weight = rows()
    kernel = KERNELS[1]
    whole = solve(kernel.of(distances_within(Z)), Y, 0.1, weight)
    found = solve_with_centres(kernel, Z, Z, Y, 0.1, weight)
    values = kernel.between(Z, Z)
    np.testing.assert_allclose(values @ found.coefficients, values @ whole.coefficients, atol=1e-4)
    np.testing.assert_allclose(found.left_out, whole.left_out, atol=1e-4)


def test_few_centres_solve_the_least_squares_problem_over_what_they_span():
    Z, Y, weight = rows(n=1_500)
    kernel, centres = KERNELS[1], Z[:30]
    found = solve_with_centres(kernel, Z, centres, Y, 0.5, weight)
    expected = ridge_by_hand(kernel, Z, centres, Y, 0.5, weight)
    np.testing.assert_allclose(kernel.between(Z, centres) @ (found.coefficients - expected), 0, atol=1e-4)
    others = np.arange(1, len(Z))
    without = ridge_by_hand(kernel, Z[others], centres, Y[others], 0.5, weight[others])
    np.testing.assert_allclose(found.left_out[:1], kernel.between(Z[:1], centres) @ without, atol=1e-4)


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: f"exponent {kernel.exponent}")
def test_gradients_are_those_of_finite_differences(kernel):
    Z, coefficients, _ = rows(n=20)
    step = 1e-6
    for column, found in enumerate(gradients(kernel, Z, distances_within(Z), coefficients)):
        for i, j in ((0, 0), (5, 2), (19, 1)):
            # the row's own kernel has a kink at 0 and does not count
            others = np.delete(np.arange(len(Z)), i)
            ends = np.repeat(Z[[i]], 2, axis=0)
            ends[:, j] += (step, -step)
            high, low = kernel.between(ends, Z[others]) @ coefficients[others, column]
            np.testing.assert_allclose(found[i, j], (high - low) / (2 * step), rtol=1e-4, atol=1e-6)


def test_scores_are_brought_to_the_probabilities_that_they_mean():
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(4_000, 3))
    logits = 3.0 * scores + np.array([0.5, 0.0, -0.5])
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = (rng.random((4_000, 1)) > np.cumsum(p, axis=1)).sum(axis=1)
    steepness, shifts, loss = calibrated(scores, labels, np.ones(len(labels)))
    assert steepness == pytest.approx(3.0, rel=0.1)
    np.testing.assert_allclose(shifts - shifts.mean(), [0.5, 0.0, -0.5], atol=0.15)
    assert loss == pytest.approx(-np.log(p[np.arange(4_000), labels]).mean(), abs=0.01)


def turned(n, seed, n_more=8):
    """Values of one direction among ten features, which no single one shows."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 2 + n_more))
    return X.astype(np.float32), np.sin(2.0 * (X[:, 0] + X[:, 1])) + rng.normal(size=n) * 0.05


def fitted(X, y, seconds=None, **hyperparameters):
    X_valid, y_valid = turned(50, seed=9, n_more=X.shape[1] - 2)
    data = FoldData(
        TaskKind.REGRESSION, 1, as_matrix(X), y, None, as_matrix(X_valid), y_valid, None, METRICS["rmse"].loss, "rmse"
    )
    return FAMILY.fit(data, {**FIRST, **hyperparameters}, Limits(threads=1, seed=0, seconds=seconds))


def error(model, seed=5):
    X, y = turned(2_000, seed)
    return float(np.sqrt(np.mean((model.predict(as_matrix(X), 1)[:, 0] - y) ** 2)))


def test_a_turned_direction_is_found():
    model = fitted(*turned(400, seed=1))
    leading = model.model.transform[:, -1]  # ascending
    assert abs(leading[0] + leading[1]) / np.linalg.norm(leading) > 1.35  # 2^1/2 for the direction itself
    # scales of single features cannot show it: half of the variance is left
    assert error(model) < 0.15
    assert error(fitted(*turned(400, seed=1), directions=False)) > 0.3


def test_features_that_say_nothing_lose_their_weight():
    X, _ = turned(400, seed=1)
    model = fitted(X, np.sin(2.0 * X[:, 0].astype(float)), directions=False)
    scales = model.model.transform[0]
    assert scales[0] == 1.0
    assert scales[1:].max() < 0.3


def test_more_rows_than_centres_and_a_short_limit_serve_too():
    X, y = turned(6_000, seed=2)
    whole, hurried = fitted(X, y), fitted(X, y, seconds=0.2)
    assert len(whole.model.centres) == 1_000
    assert error(whole) < 0.1
    assert not whole.cut
    assert hurried.cut
    assert len(hurried.model.centres) < 6_000  # how good it is depends on the machine
    assert np.isfinite(error(hurried))


SINGLE = {"bandwidth": 0, "exponent": 1, "smoothing": 4}


@pytest.mark.parametrize(
    ("name", "value"), [("bandwidth", 0.0), ("bandwidth", -1.0), ("exponent", 2.5), ("exponent", 0.0), ("smoothing", 2)]
)
def test_numbers_out_of_range_are_refused(name, value, tmp_path):
    FAMILY.save(fitted(*turned(60, seed=1)), tmp_path)
    path = tmp_path / "kernel.npz"
    with np.load(path) as file:
        arrays = dict(file)
    arrays["single"][SINGLE[name]] = value
    np.savez(path, **arrays)
    with pytest.raises(BadArtifact, match="out of range"):
        FAMILY.load(tmp_path)


@pytest.mark.parametrize("name", ["transform", "centres", "coefficients", "offset", "steepness"])
def test_arrays_that_do_not_fit_one_another_are_refused(name, tmp_path):
    FAMILY.save(fitted(*turned(60, seed=1)), tmp_path)
    path = tmp_path / "kernel.npz"
    with np.load(path) as file:
        arrays = dict(file)
    arrays[name] = np.repeat(arrays[name], 2, axis=-1)
    np.savez(path, **arrays)
    with pytest.raises(BadArtifact, match="add up"):
        FAMILY.load(tmp_path)


def test_many_classes_do_not_make_the_sample_larger_than_twice():
    rng = np.random.default_rng(0)
    y = rng.permutation(np.concatenate([np.arange(100).repeat(60), np.zeros(20_000, dtype=int)]))
    drawn = sampled_rows(y, 1_500, False, 0, rare=7)
    assert len(drawn) < 2_300
    assert np.bincount(y[drawn]).min() >= 7
