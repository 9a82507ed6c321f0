"""Beyond the contract: rounds without a split, smoothed votes, bounded sizes, the metric of the user."""

import multiprocessing
import resource
import time
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from automl_cli.clock import Deadline
from automl_cli.errors import BadArtifact
from automl_cli.families import find_families, forest
from automl_cli.families.arrays import save_arrays
from automl_cli.families.boosting import expected_rounds, stopping_for
from automl_cli.families.family import FoldData, Limits, Shape
from automl_cli.features.matrix import Matrix
from automl_cli.metrics import METRICS
from automl_cli.task import TaskKind

FAMILIES = find_families()
LIMITS = Limits(threads=1, seed=0)
BOOSTERS = [name for name in ("lightgbm", "xgboost", "catboost") if name in FAMILIES]
REGRESSION, BINARY, MULTICLASS = TaskKind.REGRESSION, TaskKind.BINARY, TaskKind.MULTICLASS


def plain(X):
    X = np.ascontiguousarray(X, dtype=np.float32)
    return Matrix(X, (), tuple(f"f{i}" for i in range(X.shape[1])))


def halves(X, y, kind, *, n_outputs=1, metric="", weight=None):
    """The first half to train on, the second to watch."""
    n = len(y) // 2
    w, w_valid = (None, None) if weight is None else (weight[:n], weight[n:])
    loss = METRICS[metric].loss if metric else METRICS["rmse"].loss
    return FoldData(kind, n_outputs, plain(X[:n]), y[:n], w, plain(X[n:]), y[n:], w_valid, loss, metric)


def fit(name, data, limits=LIMITS, **changes):
    n, d = data.train.X.shape
    family = FAMILIES[name]
    shape = Shape(data.kind, n, d, len(data.train.categorical), data.n_outputs)
    return family.fit(data, {**family.defaults(shape)[0], **changes}, limits)


def rounds_of(kind, losses):
    data = halves(np.zeros((40, 1)), np.zeros(40, dtype=int if kind is BINARY else float), kind)
    stopping = stopping_for(data, Deadline.after(None), LIMITS)
    return next((i for i, loss in enumerate(losses, start=1) if stopping.should_stop(loss)), None)


def test_only_classes_are_done_when_the_loss_is_nearly_nothing():
    losses = [0.98 ** min(i, 1_000) for i in range(1, 2_500)]
    assert rounds_of(BINARY, losses) < 1_100
    assert rounds_of(REGRESSION, losses) > 1_300


def test_patience_counts_rows_whatever_the_classes():
    few, many = (expected_rounds(Shape(MULTICLASS, 5_000, 5, 0, k), 0.05) for k in (3, 100))
    assert few == many


def sometimes_stuck():
    """Two of three features can never be split, and a tree may look at one feature only."""
    rng = np.random.default_rng(0)
    X = np.zeros((400, 3))
    X[:, 0] = rng.normal(size=400)
    X[[*range(5), *range(200, 205)], 1] = 1
    X[[*range(9, 12), *range(209, 212)], 2] = 1
    return halves(X, (X[:, 0] + rng.normal(scale=0.5, size=400) > 0).astype(int), BINARY, n_outputs=2)


@pytest.mark.parametrize("rounds", [None, 25])
def test_a_round_without_a_split_does_not_end_the_training(rounds):
    data = sometimes_stuck()
    model = fit("lightgbm", data, Limits(1, 0, rounds=rounds), feature_fraction=0.4, learning_rate=0.05)
    assert model.rounds == rounds or (rounds is None and model.rounds > 15)
    assert model.booster.num_trees() == model.rounds
    assert METRICS["log_loss"].loss(data.y_valid, model.predict(data.valid, 1), None) < 0.5


def test_nothing_to_split_at_all_ends_soon():
    data = halves(np.zeros((400, 1)), np.arange(400) % 2, BINARY, n_outputs=2)
    model = fit("lightgbm", data)
    assert model.rounds == 1
    np.testing.assert_allclose(model.predict(data.valid, 1), 0.5)


def test_rows_that_are_nearly_decided_can_still_be_split():
    # their hessians are tiny: with LightGBM's own bound on a leaf's sum, training would end at some hundred rounds
    rng = np.random.default_rng(1)
    X = rng.random((4_000, 1))
    data = halves(X, (X[:, 0] > 0.5).astype(int), BINARY, n_outputs=2)
    assert fit("lightgbm", data, Limits(1, 0, rounds=300), learning_rate=0.1, bagging=False).rounds == 300


def test_groups_of_categories_shrink_with_the_data():
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 12, size=240).astype(np.float32)
    y = np.isin(codes, (1, 4, 7, 9)).astype(int)

    def matrix(rows):
        return Matrix(codes[rows, None], (0,), ("f0",))

    train, valid = slice(0, 120), slice(120, 240)
    data = FoldData(BINARY, 2, matrix(train), y[train], None, matrix(valid), y[valid], None, METRICS["log_loss"].loss)
    model = fit("lightgbm", data, Limits(1, 0, rounds=60), min_data_in_leaf=1, cat_smooth=1.0, cat_l2=1.0)
    assert METRICS["log_loss"].loss(data.y_valid, model.predict(data.valid, 1), None) < 0.3


# a leaf of XGBoost may hold such a row alone
@pytest.mark.parametrize("name", [name for name in (*BOOSTERS, "linear", "mlp", "neighbors") if name != "xgboost"])
def test_typing_errors_in_the_target_cost_absolute_errors_little(name):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(600, 2))
    y = 50 + 20 * X[:, 0] + rng.normal(size=600)
    y[[5, 70]] = 1e9
    data = halves(X, y, REGRESSION, metric="mae")
    changes = {"epochs": 40} if name == "mlp" else {}
    predictions = fit(name, data, Limits(1, 0, rounds=40), **changes).predict(data.valid, 1)
    naive = METRICS["mae"].loss(data.y_valid, np.full((300, 1), np.median(data.y)), None)
    assert METRICS["mae"].loss(data.y_valid, predictions, None) < 0.5 * naive


def test_neighbours_answer_absolute_errors_by_their_median(tmp_path):
    X, y = np.zeros((6, 1)), np.array([1.0, 2.0, 60.0, 0.0, 0.0, 0.0])
    answers = {}
    for metric in ("rmse", "mae"):
        data = halves(X, y, REGRESSION, metric=metric)
        model = fit("neighbors", data, n_neighbors=3)
        (tmp_path / metric).mkdir()
        FAMILIES["neighbors"].save(model, tmp_path / metric)
        loaded = FAMILIES["neighbors"].load(tmp_path / metric)
        assert loaded.predict(data.valid, 1).tobytes() == model.predict(data.valid, 1).tobytes()
        answers[metric] = float(model.predict(data.valid, 1)[0, 0])
    assert answers == pytest.approx({"rmse": 21.0, "mae": 2.0})


def test_neighbours_that_were_saved_before_medians_were_predicted_are_read(tmp_path):
    data = halves(np.zeros((6, 1)), np.arange(6.0), REGRESSION)
    model = fit("neighbors", data)
    FAMILIES["neighbors"].save(model, tmp_path)
    path = tmp_path / "neighbors.npz"
    with np.load(path) as file:
        arrays = {name: file[name] for name in file if name != "absolute"}
    path.unlink()
    save_arrays(path, arrays)
    loaded = FAMILIES["neighbors"].load(tmp_path)
    assert loaded.predict(data.valid, 1).tobytes() == model.predict(data.valid, 1).tobytes()


VOTERS = ["extra_trees", "random_forest", "neighbors"]


@pytest.mark.parametrize("name", [*VOTERS, "mlp"])
def test_no_class_is_impossible(name, tmp_path):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(400, 2))
    y = (X[:, 0] > 0).astype(int)
    y[200:203] = 1 - y[200:203]
    data = halves(X, y, MULTICLASS, n_outputs=3)  # the third class never occurs
    model = fit(name, data)
    p = model.predict(data.valid, 1)
    assert p.min() > 1e-6
    np.testing.assert_allclose(p.sum(axis=1), 1)
    assert METRICS["log_loss"].loss(data.y_valid, p, None) < 0.3
    assert np.mean(p.argmax(axis=1) == data.y_valid) > 0.9


BAD_PRIORS = [[0.5, 0.5], [0.6, 0.6, 0.6], [0.0, 0.0, 0.0], [-1.0, 1.0, 1.0], []]


# a part of a vote is a forest's prior once it is thinned, and nobody else's
@pytest.mark.parametrize(
    ("name", "prior"), [*((name, prior) for name in VOTERS for prior in BAD_PRIORS), ("neighbors", [0.2, 0.2, 0.2])]
)
def test_crafted_priors_are_refused(name, prior, tmp_path):
    X = np.arange(40.0)[:, None]
    FAMILIES[name].save(fit(name, halves(X, np.arange(40) % 3, MULTICLASS, n_outputs=3)), tmp_path)
    (path,) = tmp_path.iterdir()
    with np.load(path) as file:
        arrays = dict(file)
    path.unlink()
    save_arrays(path, {**arrays, "prior": np.array(prior, dtype=float)})
    with pytest.raises(BadArtifact):
        FAMILIES[name].load(tmp_path)


def test_neighbours_of_wide_rows_are_compared_in_small_chunks():
    import tracemalloc

    rng = np.random.default_rng(0)
    data = halves(rng.normal(size=(1_000, 2_000)), np.arange(1_000) % 2, BINARY, n_outputs=2)
    model = fit("neighbors", data, n_neighbors=100)
    tracemalloc.start()
    model.predict(data.valid, 1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 300e6


def test_a_forest_of_many_classes_stays_small(tmp_path):
    rng = np.random.default_rng(0)
    n_outputs = 600
    X = rng.normal(size=(4_000, 3))
    data = halves(X, rng.integers(0, n_outputs, size=4_000), MULTICLASS, n_outputs=n_outputs)
    model = fit("extra_trees", data)
    FAMILIES["extra_trees"].save(model, tmp_path)
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 1.1 * forest.MOST_BYTES
    assert model.rounds >= 50
    assert not model.cut


@pytest.mark.parametrize(("least", "best_first"), [(1, True), (2, False)])
def test_trees_grow_best_first_only_where_leaves_are_too_many(least, best_first):
    hyperparameters = {**FAMILIES["extra_trees"].defaults(Shape(BINARY, 20_000, 3, 0, 2))[0], "min_samples_leaf": least}
    parameters = forest._parameters(hyperparameters, 20_000, 2, 1)
    assert (parameters["max_leaf_nodes"] is not None) == best_first


@pytest.mark.parametrize("scale", [1e200, 1e-12, 1e-300, 1e300])
@pytest.mark.parametrize("name", list(FAMILIES))
def test_the_units_of_the_target_do_not_matter(name, scale):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 2))
    y = np.tanh(X[:, 0])
    limits = Limits(1, 0, seconds=5, rounds=40 if name in (*BOOSTERS, "neural") else None)
    data, scaled = halves(X, y, REGRESSION), halves(X, y * scale, REGRESSION)
    predictions = fit(name, scaled, limits).predict(data.valid, 1) / scale
    np.testing.assert_allclose(predictions, fit(name, data, limits).predict(data.valid, 1), atol=0.05)
    assert METRICS["rmse"].loss(data.y_valid, predictions, None) < 0.7 * data.y_valid.std()


@pytest.mark.parametrize("name", ["lightgbm", "xgboost"])
def test_a_booster_in_a_hurry_says_by_how_much_its_rate_was_raised(name):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(20_000, 10))
    model = fit(
        name, halves(X, np.sin(X[:, 0]) + X[:, 1] * X[:, 2], REGRESSION), Limits(1, 0, 2.0), learning_rate=0.005
    )
    booster = model.model.booster
    kept = booster.num_trees() if name == "lightgbm" else booster.num_boosted_rounds()
    assert model.cut
    assert model.raised > 1.1
    assert model.rounds == round(kept * model.raised)


def skewed():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(600, 2))
    return X, np.exp(1.5 * X[:, 0] + rng.normal(scale=1.2, size=600))


@pytest.mark.parametrize("rounds", [None, 60])
@pytest.mark.parametrize("metric", ["mae", "median_ae", "mape", "rmsle"])
@pytest.mark.parametrize("name", BOOSTERS)
def test_boosters_learn_what_the_user_measures(name, metric, rounds, tmp_path):
    X, y = skewed()
    limits = Limits(1, 0, rounds=rounds)
    losses = {}
    for told in ("", metric):
        data = halves(X, y, REGRESSION, metric=told)
        model = fit(name, data, limits, learning_rate=0.1)
        predictions = model.predict(data.valid, 1)
        losses[told] = METRICS[metric].loss(data.y_valid, predictions, None)
    assert losses[metric] < 0.95 * losses[""]
    assert rounds is None or model.rounds == rounds
    FAMILIES[name].save(model, tmp_path)
    loaded = FAMILIES[name].load(tmp_path)
    assert loaded.predict(data.valid, 1).tobytes() == predictions.tobytes()
    assert loaded.rounds == model.rounds


@pytest.mark.parametrize("metric", ["rmse", "r2"])
def test_squared_errors_are_learnt_as_without_a_metric(metric):
    X, y = skewed()
    data = [halves(X, y, REGRESSION, metric=told) for told in ("", metric)]
    first, second = (fit("lightgbm", d).predict(d.valid, 1) for d in data)
    assert first.tobytes() == second.tobytes()


@pytest.mark.parametrize("name", BOOSTERS)
def test_percentages_of_zero_do_not_break_the_fit(name):
    X, y = skewed()
    y[::3] = 0.0
    weight = np.ones(len(y))
    weight[1] = 0.0
    data = halves(X, y, REGRESSION, metric="mape", weight=weight)
    assert np.isfinite(fit(name, data, Limits(1, 0, rounds=20)).predict(data.valid, 1)).all()


@pytest.mark.parametrize("sentinel", [1e9, -1e300])
@pytest.mark.parametrize("metric", ["rmse", "mae"])
@pytest.mark.parametrize("name", [*BOOSTERS, "extra_trees", "linear", "mlp"])
def test_a_target_of_rows_that_weigh_nothing_changes_nothing(name, metric, sentinel):
    rng = np.random.default_rng(4)
    X = rng.normal(size=(600, 2))
    y = 50 + 20 * X[:, 0] + rng.normal(size=600)
    counted = np.arange(600) % 10 > 0
    data = halves(X, np.where(counted, y, sentinel), REGRESSION, metric=metric, weight=counted.astype(float))
    predictions = fit(name, data, Limits(1, 0, rounds=60 if name in BOOSTERS else None)).predict(plain(X), 1)
    assert np.abs(predictions[:, 0] - y)[counted].mean() < 0.4 * y.std()
    assert np.abs(predictions - 50).max() < 200


def test_rows_that_weigh_next_to_nothing_do_not_set_the_scale_of_the_target():
    rng = np.random.default_rng(4)
    X = rng.normal(size=(600, 2))
    y = 50 + 20 * X[:, 0] + rng.normal(size=600)
    known = np.arange(600) % 10 > 0
    # the others are rough guesses, and weigh accordingly
    data = halves(X, np.where(known, y, 1e5), REGRESSION, metric="rmse", weight=np.where(known, 1.0, 1e-12))
    predictions = fit("lightgbm", data, Limits(1, 0, rounds=60), lambda_l1=0.5).predict(plain(X), 1)
    assert np.abs(predictions[:, 0] - y)[known].mean() < 0.4 * y.std()


@pytest.mark.parametrize("n_outputs", [2, 3])
@pytest.mark.parametrize("name", BOOSTERS)
def test_without_a_feature_the_shares_of_the_classes_are_predicted(name, n_outputs, tmp_path):
    y = np.where(np.arange(600) % 10 > 0, 0, n_outputs - 1)
    y[::200] = 1
    data = halves(np.zeros((600, 1)), y, BINARY if n_outputs == 2 else MULTICLASS, n_outputs=n_outputs)
    model = fit(name, data, Limits(1, 0, rounds=20), learning_rate=0.3)
    predictions = model.predict(data.valid, 1)
    shares = np.bincount(data.y, minlength=n_outputs) / len(data.y)
    np.testing.assert_allclose(predictions, np.tile(shares, (300, 1)), atol=0.03)
    FAMILIES[name].save(model, tmp_path)
    loaded = FAMILIES[name].load(tmp_path)
    np.testing.assert_array_equal(loaded.predict(data.valid, 1), predictions)
    raw = FAMILIES[name].contributions(loaded, data.valid, 1).sum(axis=1)
    raw = np.hstack([np.zeros_like(raw), raw]) if n_outputs == 2 else raw
    np.testing.assert_allclose(np.exp(raw) / np.exp(raw).sum(axis=1, keepdims=True), predictions, atol=1e-4)


def test_a_constant_catboost_of_an_older_version_is_read(tmp_path):
    pytest.importorskip("catboost", reason="extra: catboost")
    data = halves(np.zeros((600, 1)), np.arange(600) % 2, BINARY, n_outputs=2)
    FAMILIES["catboost"].save(fit("catboost", data), tmp_path)
    (tmp_path / "shares.npz").unlink()
    np.testing.assert_array_equal(FAMILIES["catboost"].load(tmp_path).predict(data.valid, 1), 0.5)


@pytest.mark.parametrize("name", BOOSTERS)
def test_without_a_feature_absolute_errors_give_the_median(name):
    _, y = skewed()
    data = halves(np.zeros((600, 1)), y, REGRESSION, metric="mae")
    prediction = fit(name, data, Limits(1, 0, rounds=5)).predict(data.valid, 1)
    np.testing.assert_allclose(prediction, np.median(data.y), rtol=0.05)


@given(st.sampled_from(["depthwise", "lossguide"]), st.integers(0, 20))
def test_a_depth_is_searched_only_where_xgboost_heeds_it(policy, seed):
    from ConfigSpace import ConfigurationSpace

    parameters, conditions = FAMILIES["xgboost"].space(Shape(BINARY, 500, 4, 0, 2))
    space = ConfigurationSpace(seed=seed)
    space.add(parameters)
    space.add(conditions)
    configuration = next(c for c in space.sample_configuration(50) if c["grow_policy"] == policy)
    assert ("max_depth" in configuration) == (policy == "depthwise")
    assert ("max_leaves" in configuration) == (policy == "lossguide")


class ProcessorSeconds:
    """A deadline of processor time: what others run beside the test does not matter."""

    @staticmethod
    def after(seconds):
        return Deadline.after(seconds, clock=time.process_time)


def test_catboost_converges_within_few_seconds(monkeypatch):
    pytest.importorskip("catboost", reason="extra: catboost")
    from automl_cli.families import catboost

    monkeypatch.setattr(catboost, "Deadline", ProcessorSeconds)
    rng = np.random.default_rng(0)
    X = rng.normal(size=(600, 40))
    y = X[:, 0] + np.sin(2 * X[:, 1]) + X[:, 2] * X[:, 3] + rng.normal(scale=0.3, size=600)
    data = halves(X, y, REGRESSION)
    losses = {}
    for seconds in (None, 0.5):
        started = time.process_time()
        model = fit("catboost", data, Limits(1, 0, seconds))
        spent = time.process_time() - started
        losses[seconds] = data.loss(data.y_valid, model.predict(data.valid, 1), None)
    assert spent < 1.5
    assert model.cut
    assert losses[0.5] < 1.15 * losses[None]


def test_catboost_stays_as_asked_where_the_seconds_suffice_or_the_rounds_are_given():
    pytest.importorskip("catboost", reason="extra: catboost")
    rng = np.random.default_rng(0)
    X = rng.normal(size=(120, 2))
    data = halves(X, X[:, 0] + rng.normal(scale=0.5, size=120), REGRESSION)
    plenty, untimed = (fit("catboost", data, Limits(1, 0, seconds)) for seconds in (60.0, None))
    assert not plenty.cut
    assert plenty.predict(data.valid, 1).tobytes() == untimed.predict(data.valid, 1).tobytes()
    short, counted = (fit("catboost", data, Limits(1, 0, seconds, rounds=20)) for seconds in (60.0, None))
    assert short.predict(data.valid, 1).tobytes() == counted.predict(data.valid, 1).tobytes()


@pytest.mark.parametrize("name", BOOSTERS)
def test_a_rare_class_is_boosted_for_more_than_a_few_rounds(name):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(12_000, 8))
    score = X[:, 0] + np.sin(2 * X[:, 1]) + X[:, 2] * X[:, 3] + 0.5 * rng.logistic(size=12_000)
    y = (score > np.quantile(score, 0.995)).astype(np.int64)
    data = halves(X, y, BINARY, n_outputs=2, metric="roc_auc")
    model = fit(name, data)
    assert model.rounds > 20
    assert data.loss(data.y_valid, model.predict(data.valid, 1), None) < 0.12


def _grown(name, changes):
    """Fit large trees on many columns; return by how many MB this process has grown."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(3_000, 500))
    data = halves(X, (X[:, 0] + X[:, 1] > 0).astype(np.int64), BINARY, n_outputs=2)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    fit(name, data, Limits(1, 0, rounds=3), **changes)
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("lightgbm", {"num_leaves": 256, "min_data_in_leaf": 1}),
        ("xgboost", {"grow_policy": "lossguide", "max_leaves": 1024}),
        ("catboost", {"depth": 9, "colsample_bylevel": 0.8}),
    ],
)
def test_large_trees_on_many_columns_take_bounded_memory(name, changes):
    if name not in FAMILIES:
        pytest.skip(f"extra: {name}")
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as apart:
        assert apart.submit(_grown, name, changes).result() < 250
