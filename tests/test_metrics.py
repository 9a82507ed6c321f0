"""Each loss equals scikit-learn's, with and without weights."""

import math
import pickle
import warnings

import numpy as np
import pytest
import sklearn.metrics as sk
from hypothesis import given, settings
from hypothesis import strategies as st

from automl_cli.errors import UsageError
from automl_cli.metrics import DEFAULT_METRIC, METRICS, TaskKind, metric_for, naive

OURS = settings(deadline=None, max_examples=40)


def _sample(seed: int, n: int, k: int, weighted: bool):
    """Classes that all occur, probabilities with many ties, and weights of which some are 0."""
    rng = np.random.default_rng(seed)
    y = np.concatenate([np.arange(k), rng.integers(0, k, n)])
    p = rng.integers(1, 6, (len(y), k)).astype(float)
    p /= p.sum(axis=1, keepdims=True)
    weight = rng.integers(0, 4, len(y)).astype(float) if weighted else None
    if weight is not None:
        weight[:k] = 1.0
    return y, p, weight


def _macro_auc(y, p, w):
    """scikit-learn's own check of row sums is stricter than floats allow, so one class at a time."""
    if p.shape[1] == 2:
        return sk.roc_auc_score(y, p[:, 1], sample_weight=w)
    return sk.roc_auc_score(y, p, multi_class="ovr", average="macro", sample_weight=w)


def _mcc(y, p, w):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn warns where a single class is predicted
        return sk.matthews_corrcoef(y, p.argmax(1), sample_weight=w)


THEIRS_CLASSES = {
    "roc_auc": _macro_auc,
    "log_loss": lambda y, p, w: sk.log_loss(y, p, sample_weight=w),
    "balanced_accuracy": lambda y, p, w: sk.recall_score(
        y, p.argmax(1), sample_weight=w, average="macro", labels=np.unique(y)
    ),
    "accuracy": lambda y, p, w: sk.accuracy_score(y, p.argmax(1), sample_weight=w),
    "f1": lambda y, p, w: sk.f1_score(y, p.argmax(1), sample_weight=w, zero_division=0),
    "f1_macro": lambda y, p, w: sk.f1_score(y, p.argmax(1), average="macro", sample_weight=w, zero_division=0),
    "average_precision": lambda y, p, w: sk.average_precision_score(y, p[:, 1], sample_weight=w),
    "mcc": _mcc,
    "brier": lambda y, p, w: sk.brier_score_loss(y, p[:, 1] if p.shape[1] == 2 else p, sample_weight=w),
}
THEIRS_VALUES = {
    "rmse": sk.root_mean_squared_error,
    "mae": sk.mean_absolute_error,
    "r2": sk.r2_score,
    "rmsle": sk.root_mean_squared_log_error,
    "mape": sk.mean_absolute_percentage_error,
    "median_ae": sk.median_absolute_error,
}


def test_every_metric_has_its_reference():
    assert set(THEIRS_CLASSES) | set(THEIRS_VALUES) == set(METRICS)


@pytest.mark.parametrize("name", THEIRS_CLASSES)
@OURS
@given(seed=st.integers(0, 10**6), n=st.integers(1, 60), k=st.integers(2, 5), weighted=st.booleans())
def test_class_metrics_equal_scikit_learn(name, seed, n, k, weighted):
    metric = METRICS[name]
    k = k if TaskKind.MULTICLASS in metric.kinds else 2
    y, p, weight = _sample(seed, n, k, weighted)
    theirs = THEIRS_CLASSES[name](y, p, weight)
    assert metric.natural(metric.loss(y, p, weight)) == pytest.approx(theirs, abs=1e-9)


@pytest.mark.parametrize("name", THEIRS_VALUES)
@OURS
@given(seed=st.integers(0, 10**6), n=st.integers(2, 60), weighted=st.booleans())
def test_value_metrics_equal_scikit_learn(name, seed, n, weighted):
    rng = np.random.default_rng(seed)
    y, p = rng.exponential(10, n) + 0.1, rng.exponential(10, n)
    weight = rng.integers(1, 4, n).astype(float) if weighted else None
    theirs = THEIRS_VALUES[name](y, p, sample_weight=weight)
    metric = METRICS[name]
    assert metric.natural(metric.loss(y, p[:, None], weight)) == pytest.approx(theirs, rel=1e-9, abs=1e-9)


@OURS
@given(seed=st.integers(0, 10**6), n=st.integers(2, 40))
def test_integer_weights_are_repeated_rows(seed, n):
    rng = np.random.default_rng(seed)
    times = rng.integers(0, 3, n)
    times[:2] = 1
    y, p, _ = _sample(seed, n - 2, 2, False)
    values, guesses = rng.exponential(3, n), rng.exponential(3, (n, 1))
    for metric in METRICS.values():
        a, b = (values, guesses) if metric.needs == "values" else (y, p)
        repeated = metric.loss(np.repeat(a, times), np.repeat(b, times, axis=0), None)
        assert metric.loss(a, b, times.astype(float)) == pytest.approx(repeated, abs=1e-9), metric.name


def test_auc_by_hand():
    y, score = np.array([0, 0, 1, 1]), np.array([0.1, 0.4, 0.4, 0.8])
    loss = METRICS["roc_auc"].loss(y, np.column_stack([1 - score, score]), None)
    assert loss == pytest.approx(1 - 3.5 / 4)  # of four pairs three are in order and one is a tie


def test_auc_of_classes_leaves_out_those_that_are_absent():
    y, p, _ = _sample(1, 30, 3, False)
    wider = np.column_stack([p, np.zeros(len(y))])
    assert METRICS["roc_auc"].loss(y, wider, None) == METRICS["roc_auc"].loss(y, p, None)


def test_a_certain_mistake_costs_a_finite_log_loss():
    assert METRICS["log_loss"].loss(np.array([1]), np.array([[1.0, 0.0]]), None) == pytest.approx(-math.log(1e-15))


def test_rmsle_counts_negative_predictions_as_zero():
    assert METRICS["rmsle"].loss(np.array([0.0, 0.0]), np.array([[-5.0], [0.0]]), None) == 0


@pytest.mark.parametrize("kind", TaskKind)
def test_defaults_fit_their_task(kind):
    assert kind in DEFAULT_METRIC[kind].kinds
    assert metric_for(None, kind) is DEFAULT_METRIC[kind]
    assert DEFAULT_METRIC[kind].name == {"binary": "roc_auc", "multiclass": "log_loss", "regression": "rmse"}[kind]


@pytest.mark.parametrize(("name", "kind"), [("f1", "multiclass"), ("rmse", "binary"), ("auc", "binary")])
def test_a_metric_that_does_not_fit_is_refused_with_those_that_do(name, kind):
    with pytest.raises(UsageError) as caught:
        metric_for(name, TaskKind(kind))
    assert name in caught.value.problem
    fitting = caught.value.hint.removeprefix("use one of ").split(", ")
    assert fitting == [m.name for m in METRICS.values() if kind in m.kinds]


def test_a_metric_survives_the_way_to_a_worker():
    for metric in METRICS.values():
        assert pickle.loads(pickle.dumps(metric)) is metric
        assert pickle.loads(pickle.dumps(metric.loss)) is metric.loss


def test_naive_is_shares_or_centre():
    y = np.array([0, 0, 1, 2])
    weight = np.array([1.0, 1.0, 2.0, 0.0])
    assert naive(y, weight, TaskKind.MULTICLASS, 3, 2).tolist() == [[0.5, 0.5, 0.0]] * 2
    values = np.array([1.0, 2.0, 9.0])
    assert naive(values, None, TaskKind.REGRESSION, 1, 1).tolist() == [[4.0]]
    assert naive(values, None, TaskKind.REGRESSION, 1, 1, metric=METRICS["mae"]).tolist() == [[2.0]]


@pytest.mark.parametrize("name", ["rmse", "mae", "r2", "rmsle"])
def test_naive_is_the_best_constant(name):
    y = np.random.default_rng(0).exponential(5, 101)
    metric = METRICS[name]
    constant = naive(y, None, TaskKind.REGRESSION, 1, len(y), metric=metric)
    for other in (constant * 0.97, constant * 1.03):
        assert metric.loss(y, constant, None) < metric.loss(y, other, None)


def test_classes_that_do_not_occur_do_not_pull_a_mean_down():
    y, p = np.array([0, 1, 1, 0]), np.array([[0.8, 0.2, 0, 0], [0.1, 0.9, 0, 0], [0.6, 0.4, 0, 0], [1.0, 0, 0, 0]])
    assert METRICS["balanced_accuracy"].loss(y, p, None) == pytest.approx(1 - (1.0 + 0.5) / 2)
    assert METRICS["f1_macro"].loss(y, p, None) == pytest.approx(1 - (4 / 5 + 2 / 3) / 2)
