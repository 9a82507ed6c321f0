"""Temperature and thresholds: learned where they gain, left out where they do not."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar

from automl_cli.calibration import PLAIN, Decision, at_thresholds, fit_temperature, learn_decision
from automl_cli.metrics import METRICS, Array

LABELS = [name for name, metric in METRICS.items() if metric.needs == "labels"]


def sampled(seed: int, n: int, k: int, *, prior: Array | None = None) -> tuple[Array, Array]:
    """Return the true probabilities of rows, and classes drawn from them."""
    rng = np.random.default_rng(seed)
    logits = 2.0 * rng.normal(size=(n, k)) + np.log(np.full(k, 1 / k) if prior is None else prior)
    p = np.exp(logits)
    p /= p.sum(axis=1, keepdims=True)
    return p, (p.cumsum(axis=1) > rng.random((n, 1))).argmax(axis=1)


def parts_of(n: int, k: int = 5) -> Array:
    return np.arange(n) * k // n


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 10**6), k=st.integers(2, 6), sharpness=st.floats(0.2, 5.0), weighted=st.booleans())
def test_the_temperature_is_the_one_that_a_general_search_finds(
    seed: int, k: int, sharpness: float, weighted: bool
) -> None:
    p, y = sampled(seed, 200, k)
    p = Decision(temperature=1 / sharpness).calibrated(p)
    weight = np.random.default_rng(seed).uniform(0, 2, len(y)) if weighted else None

    def loss(log_temperature: float) -> float:
        outputs = Decision(temperature=float(np.exp(log_temperature))).calibrated(p)
        of_any_class = -np.log(outputs).mean(axis=1)
        shares = np.ones(len(y)) / len(y) if weight is None else weight / weight.sum()
        one_more = METRICS["log_loss"].loss(y, outputs, weight) * len(y) + float(shares @ of_any_class)
        return one_more / (len(y) + 1)

    best = minimize_scalar(loss, bounds=(-np.log(10), np.log(10)), method="bounded", options={"xatol": 1e-8})
    assert loss(float(np.log(fit_temperature(p, y, weight)))) <= best.fun + 1e-9


def test_rows_that_are_all_right_leave_room_for_a_first_mistake() -> None:
    """Among 400 rows without one, the chance of the next mistake is about 1 in 400, and not next to nothing."""
    p, y = np.tile([[0.8, 0.2], [0.3, 0.7]], (200, 1)), np.tile([0, 1], 200)
    temperature = fit_temperature(p, y)
    wrong = 1 - Decision(temperature).calibrated(p)[np.arange(400), y]
    assert 0.1 < temperature < 0.5
    assert 1 / 4000 < wrong.mean() < 1 / 100


def test_rows_that_are_all_wrong_make_the_temperature_as_high_as_may_be() -> None:
    assert fit_temperature(np.array([[0.7, 0.3], [0.4, 0.6]]), np.array([1, 0])) == pytest.approx(10.0, rel=1e-3)


@pytest.mark.parametrize("name", ["log_loss", "brier"])
@pytest.mark.parametrize("k", [2, 4])
def test_probabilities_that_are_too_sure_are_calibrated(name: str, k: int) -> None:
    p, y = sampled(1, 4000, k)
    too_sure = Decision(temperature=0.4).calibrated(p)
    learned = learn_decision(too_sure, y, METRICS[name], parts=parts_of(4000))
    assert learned.decision.temperature == pytest.approx(2.5, rel=0.1)
    assert learned.decision.calibrated(too_sure) == pytest.approx(p, abs=0.05)


def test_a_temperature_keeps_the_order_of_classes_and_the_sum() -> None:
    p, _ = sampled(2, 100, 5)
    cooler = Decision(temperature=0.5).calibrated(p)
    assert (cooler.argsort(axis=1) == p.argsort(axis=1)).all()
    assert cooler.sum(axis=1) == pytest.approx(np.ones(100))
    assert np.isfinite(Decision(temperature=0.1).calibrated(np.array([[1.0, 0.0], [0.0, 0.0]]))).all()


def test_where_nothing_can_be_gained_nothing_is_decided() -> None:
    taken = 0
    for seed in range(20):
        p, y = sampled(seed, 600, 3)
        taken += learn_decision(p, y, METRICS["log_loss"], parts=parts_of(600)).decision != PLAIN
    assert taken <= 6  # of 20: what gains by chance on true probabilities


@pytest.mark.parametrize("name", ["roc_auc", "average_precision", "accuracy"])
def test_ranks_and_the_likeliest_class_are_left_alone(name: str) -> None:
    p, y = sampled(0, 500, 2, prior=np.array([0.9, 0.1]))
    assert (
        learn_decision(p**2 / (p**2).sum(axis=1, keepdims=True), y, METRICS[name], parts=parts_of(500)).decision
        == PLAIN
    )


@pytest.mark.parametrize(("name", "k"), [("f1", 2), ("f1_macro", 2), ("balanced_accuracy", 2), ("balanced_accuracy", 4),
                                         ("balanced_accuracy", 20)])  # fmt: skip
def test_rare_classes_are_found_on_rows_that_were_not_learned_from(name: str, k: int) -> None:
    prior = np.linspace(1, 0.4, k) ** 3
    p, y = sampled(3, 8000, k, prior=prior / prior.sum())
    metric, half = METRICS[name], 4000
    decision = learn_decision(p[:half], y[:half], metric, parts=parts_of(half)).decision
    before = metric.loss(y[half:], p[half:], None)
    after = metric.loss(y[half:], decision.judged(p[half:], metric), None)
    assert after < 0.99 * before


def test_of_two_classes_the_multipliers_are_a_threshold() -> None:
    p, y = sampled(5, 5000, 2, prior=np.array([0.93, 0.07]))
    decision = learn_decision(p, y, METRICS["balanced_accuracy"], parts=parts_of(5000)).decision
    threshold = decision.multipliers[0] / sum(decision.multipliers)
    labels = decision.deciding(p).argmax(axis=1)
    assert (labels == (p[:, 1] > threshold)).all()
    # Under true probabilities the share of the class is the best threshold for balanced accuracy.
    assert threshold == pytest.approx((y == 1).mean(), rel=0.4)


@settings(deadline=None, max_examples=40)
@given(
    name=st.sampled_from([*LABELS, "log_loss", "brier"]),
    seed=st.integers(0, 10**6),
    n=st.integers(6, 80),
    k=st.integers(2, 5),
    weighted=st.booleans(),
)
def test_on_the_rows_themselves_a_decision_is_never_worse_than_none(
    name: str, seed: int, n: int, k: int, weighted: bool
) -> None:
    metric = METRICS[name]
    p, y = sampled(seed, n, 2 if name == "f1" else k)
    weight = np.random.default_rng(seed).uniform(0, 2, n) if weighted else None
    learned = learn_decision(p, y, metric, weight, parts=parts_of(n, 3))
    decided = learned.decision.judged(learned.decision.calibrated(p), metric)
    assert metric.loss(y, decided, weight) <= metric.loss(y, p, weight)
    assert np.isfinite(learned.judged(p, metric, parts_of(n, 3))).all()


def test_a_part_is_judged_by_what_was_learned_on_the_others() -> None:
    p, y = sampled(6, 900, 2)
    too_sure = Decision(temperature=0.4).calibrated(p)
    parts = parts_of(900, 3)
    learned = learn_decision(too_sure, y, METRICS["log_loss"], parts=parts)
    judged = learned.judged(too_sure, METRICS["log_loss"], parts)
    others = parts != 1
    expected = Decision(fit_temperature(too_sure[others], y[others])).calibrated(too_sure[~others])
    assert judged[~others] == pytest.approx(expected)


def test_one_part_alone_decides_nothing() -> None:
    p, y = sampled(7, 300, 2)
    too_sure = Decision(temperature=0.3).calibrated(p)
    assert learn_decision(too_sure, y, METRICS["log_loss"], parts=np.zeros(300, dtype=int)).decision == PLAIN


@pytest.mark.parametrize("name", ["log_loss", "balanced_accuracy"])
def test_many_rows_take_a_fraction_of_a_second(name: str) -> None:
    p, y = sampled(8, 100_000, 10, prior=np.linspace(1, 10, 10) / 55)
    too_sure = Decision(temperature=0.5).calibrated(p)
    began = time.process_time()
    learned = learn_decision(too_sure, y, METRICS[name], parts=parts_of(100_000))
    assert time.process_time() - began < 1.5  # 0.1 to 0.3 s on a quiet machine
    assert learned.decision != PLAIN


def test_a_decision_outlives_json() -> None:
    decision = Decision(1.25, (0.5, 2.0))
    assert Decision.from_json(decision.to_json()) == decision


@pytest.mark.parametrize("name", ["f1", "balanced_accuracy", "mcc", "f1_macro"])
def test_models_that_never_say_the_rare_class_are_told_apart(name: str) -> None:
    metric, rng = METRICS[name], np.random.default_rng(0)
    y = (rng.random(4_000) < 0.03).astype(np.int64)
    noise = rng.normal(size=4_000)
    good, poor = (0.3 / (1 + np.exp(3 - 3 * y - spread * noise)) for spread in (0.5, 2.0))
    outputs = [np.column_stack([1 - p, p]) for p in (good, poor)]
    assert metric.loss(y, outputs[0], None) == metric.loss(y, outputs[1], None)
    losses = [metric.loss(y, at_thresholds(p, y, metric), None) for p in outputs]
    assert losses[0] < losses[1] - 0.05
    assert at_thresholds(outputs[0], y, METRICS["log_loss"]) is outputs[0]
