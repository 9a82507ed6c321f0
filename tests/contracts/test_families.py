"""The contract of a model family, over all families and tasks: a new file in the folder is covered as it is."""

import time
import warnings
from dataclasses import replace

import numpy as np
import pytest

from automl_cli.errors import BadArtifact
from automl_cli.families import find_families
from automl_cli.families.family import FoldData, Limits, Shape
from automl_cli.features.matrix import Matrix
from automl_cli.task import TaskKind

FAMILIES = find_families()
N_ROWS = 150
N_CODES = 4
LIMITS = Limits(threads=1, seed=3)
BRIEF = Limits(threads=1, seed=3, seconds=0.15)
"""Where the model may be any: most of a fit's rounds change nothing that is looked at."""


def n_outputs_of(kind):
    return {TaskKind.BINARY: 2, TaskKind.MULTICLASS: 3, TaskKind.REGRESSION: 1}[kind]


def pairs(families):
    """Every task that a family is offered for."""
    shapes = [(kind, Shape(kind, N_ROWS, 4, 1, n_outputs_of(kind))) for kind in TaskKind]
    both = [(family, kind) for family in families for kind, shape in shapes if family.offered(shape)]
    return pytest.mark.parametrize(("family", "kind"), both, ids=[f"{family.name}-{kind}" for family, kind in both])


def of(families):
    return pytest.mark.parametrize("family", families, ids=[family.name for family in families])


NATIVE = [family for family in FAMILIES.values() if "native" in family.encodings]
EXPLAINING = [family for family in FAMILIES.values() if family.contributions is not None]
each_family = of(list(FAMILIES.values()))
with_categories = of(NATIVE)
that_explains = of(EXPLAINING)
each_pair_that_explains = pairs(EXPLAINING)
each_pair = pairs(FAMILIES.values())
each_pair_with_categories = pairs(NATIVE)


def loss(y, predictions, weight):
    """Log loss, or the squared error."""
    if predictions.shape[1] == 1:
        return float(np.average((predictions[:, 0] - y) ** 2, weights=weight))
    picked = predictions[np.arange(len(y)), y]
    return float(np.average(-np.log(np.clip(picked, 1e-6, 1)), weights=weight))


def matrix(encoding, X, codes):
    """Three numbers and a category, as ``encoding`` gives them."""
    codes = codes.astype(float)
    if encoding == "native":
        X, codes = X.copy(), np.where(codes < 0, np.nan, codes)
        X[::7, 1] = np.nan
        columns, categorical = [X, codes[:, None]], (3,)
    elif encoding == "one_hot":
        columns, categorical = [X, np.eye(N_CODES + 1)[codes.astype(int)]], ()
    else:
        X = X.copy()
        X[::7, 1] = np.nan
        columns, categorical = [X, codes[:, None]], ()
    full = np.ascontiguousarray(np.hstack(columns), dtype=np.float32)
    return Matrix(full, categorical, tuple(f"f{i}" for i in range(full.shape[1])))


def make(family, kind, *, n=N_ROWS, n_outputs=None, seed=0, encoding=None):
    """Data that anybody can learn: the first number and the category decide."""
    rng = np.random.default_rng(seed)
    n_outputs = n_outputs or n_outputs_of(kind)
    encoding = encoding or family.encodings[0]
    X = rng.normal(size=(2 * n, 3))
    codes = rng.integers(-1, N_CODES, size=2 * n)
    score = X[:, 0] + np.array([0.0, 1.5, -1.5, 0.0, 0.0])[codes]
    y = score
    if kind is not TaskKind.REGRESSION:
        y = np.searchsorted(np.quantile(score, np.linspace(0, 1, n_outputs + 1)[1:-1]), score).astype(np.int64)
    return fold(kind, n_outputs, matrix(encoding, X[:n], codes[:n]), y[:n], matrix(encoding, X[n:], codes[n:]), y[n:])


def fold(kind, n_outputs, train, y, valid, y_valid):
    return FoldData(kind, n_outputs, train, y, None, valid, y_valid, None, loss)


def hyperparameters(family, data, number=0):
    n, d = data.train.X.shape
    return family.defaults(Shape(data.kind, n, d, len(data.train.categorical), data.n_outputs))[number]


def fit(family, data, limits=LIMITS):
    return family.fit(data, hyperparameters(family, data), limits)


@pytest.fixture(scope="module")
def fitted():
    """Fit each family once per task; the tests below only look at these models."""
    models = {}

    def get(family, kind):
        key = (family.name, kind)
        if key not in models:
            data = make(family, kind)
            models[key] = data, fit(family, data)
        return models[key]

    return get


@each_pair
def test_learns_and_predicts_the_promised_shape(family, kind, fitted, capfd):
    data, model = fitted(family, kind)
    predictions = model.predict(data.valid, threads=1)
    assert predictions.dtype == np.float64
    assert predictions.shape == (N_ROWS, data.n_outputs)
    naive = np.full_like(predictions, 1 / data.n_outputs if data.n_outputs > 1 else data.y.mean())
    assert loss(data.y_valid, predictions, None) < 0.8 * loss(data.y_valid, naive, None)
    if kind is not TaskKind.REGRESSION:
        np.testing.assert_allclose(predictions.sum(axis=1), 1, atol=1e-12)
        assert predictions.min() >= 0
    out, err = capfd.readouterr()
    assert (out, err) == ("", "")


@each_family
def test_the_same_seed_gives_the_same_bytes(family, fitted):
    data, model = fitted(family, TaskKind.BINARY)
    again = fit(family, data)
    assert again.predict(data.valid, 1).tobytes() == model.predict(data.valid, 1).tobytes()


@each_pair
def test_threads_do_not_change_predictions(family, kind, fitted):
    data, model = fitted(family, kind)
    assert model.predict(data.valid, 1).tobytes() == model.predict(data.valid, 2).tobytes()


@each_family
def test_a_prediction_on_one_thread_stays_on_the_one_that_asks(family, fitted):
    """Where other threads of the process predict too, only its own seconds can be told apart."""
    kind = next(kind for kind in TaskKind if family.offered(Shape(kind, N_ROWS, 4, 1, n_outputs_of(kind))))
    data, model = fitted(family, kind)
    many = replace(data.valid, X=np.resize(data.valid.X, (20_000, data.valid.X.shape[1])))
    model.predict(many, 1)
    time.sleep(0.3)  # threads that have worked before look out for work for a while, which is no part of the prediction
    whole, own = time.process_time(), time.thread_time()
    model.predict(many, 1)
    whole, own = time.process_time() - whole, time.thread_time() - own
    assert own > 0.5 * whole


@each_pair
def test_a_loaded_model_is_the_same_model(family, kind, fitted, tmp_path):
    data, model = fitted(family, kind)
    family.save(model, tmp_path)
    loaded = family.load(tmp_path)
    assert loaded.predict(data.valid, 1).tobytes() == model.predict(data.valid, 1).tobytes()
    assert loaded.rounds == model.rounds


@each_pair_with_categories
def test_an_unseen_category_is_a_missing_one(family, kind, fitted):
    data, model = fitted(family, kind)
    predictions = []
    for value in (np.nan, N_CODES, 1000):
        X = data.valid.X.copy()
        X[:, 3] = value
        predictions.append(model.predict(Matrix(X, data.valid.categorical, data.valid.names), 1))
    assert predictions[1].tobytes() == predictions[0].tobytes()
    assert predictions[2].tobytes() == predictions[0].tobytes()


@with_categories
def test_a_code_that_no_training_row_has_is_missing(family):
    data = make(family, TaskKind.BINARY)
    X = data.train.X.copy()
    X[X[:, 3] == 2, 3] = 3  # code 2 lies between known ones
    model = fit(family, fold(data.kind, 2, Matrix(X, (3,), data.train.names), data.y, data.valid, data.y_valid), BRIEF)
    predictions = []
    for value in (2, np.nan):
        X = data.valid.X.copy()
        X[:, 3] = value
        predictions.append(model.predict(Matrix(X, (3,), data.valid.names), 1))
    assert predictions[0].tobytes() == predictions[1].tobytes()


@each_pair
def test_weights_matter(family, kind):
    data = make(family, kind)
    # rows that look alike and differ in the target: only weights can move what is predicted for them
    X = np.repeat(np.float32([[0.0], [1.0]]), N_ROWS // 2, axis=0)
    rows = Matrix(X, (), ("f0",))
    weight = np.where(data.y > data.y.mean(), 100.0, 0.01)
    plain = fold(kind, data.n_outputs, rows, data.y, rows, data.y)
    heavy = FoldData(kind, data.n_outputs, rows, data.y, weight, rows, data.y, weight, loss)
    values = np.arange(data.n_outputs) if data.n_outputs > 1 else np.ones(1)
    means = [(fit(family, d, BRIEF).predict(rows, 1) @ values).mean() for d in (plain, heavy)]
    assert means[1] > means[0] + 0.1


@pytest.mark.alone
@each_family
def test_the_seconds_are_kept(family):
    data = make(family, TaskKind.MULTICLASS, n=6_000, n_outputs=8)
    started = time.monotonic()
    model = fit(family, data, Limits(threads=1, seed=0, seconds=0.5))
    assert time.monotonic() - started < 2.5
    predictions = model.predict(data.valid, 1)
    assert loss(data.y_valid, predictions, None) < np.log(8)


@each_pair
def test_one_constant_feature_is_enough_to_predict_the_mean(family, kind):
    data = make(family, kind)
    X = np.ones((N_ROWS, 1), dtype=np.float32)
    one = Matrix(X, (), ("f0",))
    model = fit(family, fold(kind, data.n_outputs, one, data.y, one, data.y_valid), BRIEF)
    predictions = model.predict(one, 1)
    assert predictions.shape == (N_ROWS, data.n_outputs)
    assert np.isfinite(predictions).all()
    if kind is TaskKind.REGRESSION and family.name != "neighbors":
        np.testing.assert_allclose(predictions[:, 0], data.y.mean(), atol=0.2)


@each_pair
def test_one_feature(family, kind):
    data = make(family, kind)
    train, valid = (Matrix(np.ascontiguousarray(m.X[:, :1]), (), ("f0",)) for m in (data.train, data.valid))
    model = fit(family, fold(kind, data.n_outputs, train, data.y, valid, data.y_valid), BRIEF)
    assert np.isfinite(model.predict(valid, 1)).all()


@each_family
def test_many_classes(family):
    data = make(family, TaskKind.MULTICLASS, n=600, n_outputs=30)
    model = fit(family, data, Limits(threads=1, seed=0, seconds=3.0))
    predictions = model.predict(data.valid, 1)
    assert predictions.shape == (600, 30)
    assert np.mean(predictions.argmax(axis=1) == data.y_valid) > 3 / 30


@each_family
def test_a_class_that_the_fold_lacks_keeps_its_column(family, tmp_path):
    data = make(family, TaskKind.MULTICLASS)
    rows = np.flatnonzero(data.y != 1)
    train = Matrix(data.train.X[rows], data.train.categorical, data.train.names)
    model = fit(family, fold(data.kind, 3, train, data.y[rows], data.valid, data.y_valid), BRIEF)
    predictions = model.predict(data.valid, 1)
    assert predictions.shape == (N_ROWS, 3)
    assert predictions[:, 1].max() < 0.05
    family.save(model, tmp_path)
    assert family.load(tmp_path).predict(data.valid, 1).tobytes() == predictions.tobytes()


@each_pair
def test_one_value_of_the_target(family, kind, tmp_path):
    data = make(family, kind)
    y = np.full_like(data.y, 1)
    model = fit(family, fold(kind, data.n_outputs, data.train, y, data.valid, data.y_valid), BRIEF)
    predictions = model.predict(data.valid, 1)
    assert predictions.shape == (N_ROWS, data.n_outputs)
    column = 0 if kind is TaskKind.REGRESSION else 1
    np.testing.assert_allclose(predictions[:, column], 1, atol=0.02)
    family.save(model, tmp_path)
    assert family.load(tmp_path).predict(data.valid, 1).tobytes() == predictions.tobytes()


@each_family
def test_infinite_values_are_survived(family):
    data = make(family, TaskKind.BINARY)
    X = data.train.X.copy()
    X[3, 0], X[4, 0] = np.inf, -np.inf
    train = Matrix(X, data.train.categorical, data.train.names)
    model = fit(family, fold(data.kind, 2, train, data.y, train, data.y), BRIEF)
    assert np.isfinite(model.predict(train, 1)).all()


@each_pair
def test_every_default_is_complete(family, kind):
    for number in range(len(family.defaults(Shape(kind, N_ROWS, 4, 1, n_outputs_of(kind))))):
        data = make(family, kind, n=60)
        hp = hyperparameters(family, data, number)
        model = family.fit(data, hp, Limits(threads=1, seed=0, seconds=0.05))
        assert np.isfinite(model.predict(data.valid, 1)).all()
        assert family.seconds(Shape(kind, 60, 4, 1, data.n_outputs), hp) > 0


@each_pair
def test_a_fit_leaves_its_rows_as_they_are(family, kind):
    # they are mapped, and the next trial of the worker reads the same pages
    data = make(family, kind)
    if "native" in family.encodings:
        data.train.X[0, 0], data.valid.X[0, 0] = np.inf, -np.inf
    before = [matrix.X.copy() for matrix in (data.train, data.valid)]
    fit(family, data, BRIEF).predict(data.valid, 1)
    for matrix, was in zip((data.train, data.valid), before, strict=True):
        np.testing.assert_array_equal(matrix.X, was)


@each_family
def test_other_encodings_work(family):
    for encoding in family.encodings[1:]:
        data = make(family, TaskKind.BINARY, encoding=encoding)
        assert loss(data.y_valid, fit(family, data).predict(data.valid, 1), None) < 0.6


DAMAGES = {
    "empty": lambda content: b"",
    "cut in half": lambda content: content[: len(content) // 2],
    "the last bytes are missing": lambda content: content[:-30],
    "foreign": lambda content: b"\x80\x04" + b"not a model" * 50,
    "zeros in the middle": lambda content: (
        content[: len(content) // 3] + b"\0" * (len(content) // 3) + content[2 * (len(content) // 3) :]
    ),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=list(DAMAGES))
@each_family
def test_damaged_files_are_refused(family, damage, fitted, tmp_path):
    _, model = fitted(family, TaskKind.BINARY)
    family.save(model, tmp_path)
    files = sorted(tmp_path.iterdir())
    assert files
    for path in files:
        content = path.read_bytes()
        path.write_bytes(damage(content))
        with pytest.raises(BadArtifact):
            family.load(tmp_path)
        path.write_bytes(content)


@each_family
def test_missing_files_are_refused(family, fitted, tmp_path):
    _, model = fitted(family, TaskKind.BINARY)
    family.save(model, tmp_path)
    for path in sorted(tmp_path.iterdir()):
        content = path.read_bytes()
        path.unlink()
        with pytest.raises(BadArtifact):
            family.load(tmp_path)
        path.write_bytes(content)


@each_family
def test_nothing_warns(family):
    data = make(family, TaskKind.BINARY, n=80)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit(family, data, BRIEF).predict(data.valid, 1)


def n_raw_of(n_outputs):
    return n_outputs if n_outputs > 2 else 1


def linked(raw):
    """Probabilities, or the values themselves, of raw predictions."""
    if raw.shape[1] == 1:
        return np.hstack([1 / (1 + np.exp(raw)), 1 / (1 + np.exp(-raw))])
    powers = np.exp(raw - raw.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def test_boosters_explain():
    assert {"lightgbm", "xgboost"} <= {family.name for family in EXPLAINING} <= {"lightgbm", "xgboost", "catboost"}


@each_pair_that_explains
def test_contributions_add_up_to_the_prediction(family, kind, fitted, tmp_path):
    data, model = fitted(family, kind)
    told = family.contributions(model, data.valid, 1)
    assert told.dtype == np.float64
    assert told.shape == (N_ROWS, 5, n_raw_of(data.n_outputs))
    raw, predictions = told.sum(axis=1), model.predict(data.valid, 1)
    np.testing.assert_allclose(raw if kind is TaskKind.REGRESSION else linked(raw), predictions, atol=1e-4)
    # the base is the same for all rows
    np.testing.assert_allclose(told[:, -1], np.broadcast_to(told[:1, -1], told[:, -1].shape))
    family.save(model, tmp_path)
    np.testing.assert_array_equal(family.contributions(family.load(tmp_path), data.valid, 1), told)


@each_pair_that_explains
def test_every_default_is_explained(family, kind):
    shape = Shape(kind, N_ROWS, 4, 1, n_outputs_of(kind))
    assert all(family.explains(hyperparameters) for hyperparameters in family.defaults(shape))


@that_explains
@pytest.mark.parametrize("order", [(3, 0, 1, 2), (1, 3, 0, 2), (0, 1, 2, 3)])
def test_the_features_that_decide_contribute_most(family, order):
    data = make(family, TaskKind.REGRESSION, n=300)

    def arranged(matrix):
        return Matrix(np.ascontiguousarray(matrix.X[:, order]), (order.index(3),), matrix.names)

    data = replace(data, train=arranged(data.train), valid=arranged(data.valid))
    told = family.contributions(fit(family, data), data.valid, 1)
    size = np.abs(told[:, :4, 0]).mean(axis=0)
    # the first number and the category decide, see `make`
    assert {order[k] for k in np.argsort(-size)[:2]} == {0, 3}
    assert size[order.index(1)] < 0.5 * size[order.index(3)]


@that_explains
def test_a_class_that_the_fold_lacks_is_explained_in_its_place(family):
    data = make(family, TaskKind.MULTICLASS)
    rows = data.y != 1
    train = Matrix(data.train.X[rows], data.train.categorical, data.train.names)
    model = fit(family, replace(data, train=train, y=data.y[rows]), BRIEF)
    told = family.contributions(model, data.valid, 1)
    assert told.shape == (N_ROWS, 5, 3)
    present = linked(told.sum(axis=1)[:, [0, 2]])
    np.testing.assert_allclose(present[:, 1] > 0.5, model.predict(data.valid, 1)[:, 2] > 0.5)


@each_pair_that_explains
def test_one_value_of_the_target_needs_no_reasons(family, kind):
    data = make(family, kind)
    constant = np.ones_like(data.y)
    model = fit(family, replace(data, y=constant, y_valid=constant), BRIEF)
    told = family.contributions(model, data.valid, 1)
    assert told.shape == (N_ROWS, 5, n_raw_of(data.n_outputs))
    np.testing.assert_allclose(told[:, :-1], 0.0, atol=1e-6)
    if kind is TaskKind.REGRESSION:
        np.testing.assert_allclose(told[:, -1], 1.0)
