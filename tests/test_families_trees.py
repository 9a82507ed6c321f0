"""Forests as arrays: the same numbers as scikit-learn, and no crafted file gets through."""

import numpy as np
import pytest
from sklearn.ensemble import ExtraTreesRegressor, RandomForestClassifier, RandomForestRegressor

from automl_cli.errors import BadArtifact
from automl_cli.families.trees import FEWEST_KEPT, from_scikit_learn, join, load_trees, save_trees, thinned
from automl_cli.features.matrix import Matrix


def rows(n=400, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 5)).astype(np.float32)
    X[:, 1] = np.round(X[:, 1], 1)
    X[rng.random(X.shape) < 0.1] = np.nan
    return X


def as_matrix(X):
    return Matrix(X, (), tuple(f"f{i}" for i in range(X.shape[1])))


def taken_apart(forest, classes, n_outputs, regression):
    trees = [from_scikit_learn(e.tree_, classes, n_outputs) for e in forest.estimators_]
    return join(
        trees, n_features=5, prior=np.full(n_outputs, 1 / n_outputs) if not regression else np.zeros(0), cut=False
    )


@pytest.fixture(scope="module")
def classifier():
    X = rows()
    y = (np.nan_to_num(X[:, 0]) > 0).astype(int) + (np.nan_to_num(X[:, 1]) > 1)
    forest = RandomForestClassifier(20, random_state=0).fit(X, y)
    return forest, taken_apart(forest, np.arange(3), 3, regression=False)


def test_class_probabilities_are_scikit_learns(classifier):
    forest, trees = classifier
    X = rows(1000, seed=1)
    # and one more vote for the prior
    expected = (20 * forest.predict_proba(X) + 1 / 3) / 21
    np.testing.assert_allclose(trees.predict(as_matrix(X), 2), expected, atol=1e-6)


@pytest.mark.parametrize("make", [RandomForestRegressor, ExtraTreesRegressor])
@pytest.mark.parametrize("offset", [0.0, 1e9])
def test_values_are_scikit_learns(make, offset):
    X = rows()
    y = np.nan_to_num(X[:, 0]) + offset
    forest = make(20, max_leaf_nodes=50, random_state=0).fit(X, y)
    trees = taken_apart(forest, np.zeros(0, dtype=int), 1, regression=True)
    fresh = rows(1000, seed=1)
    np.testing.assert_allclose(trees.predict(as_matrix(fresh), 1)[:, 0], forest.predict(fresh), atol=1e-6)


def test_values_on_a_threshold_go_the_same_way():
    # neighbouring float32 values: the midpoint between them is no float32
    X = np.float32([3.0, np.nextafter(np.float32(3), np.float32(4))])[:, None].repeat(5, axis=1)
    forest = RandomForestRegressor(3, bootstrap=False, random_state=0).fit(X, [0.0, 1.0])
    trees = taken_apart(forest, np.zeros(0, dtype=int), 1, regression=True)
    np.testing.assert_array_equal(forest.predict(X), [0.0, 1.0])
    np.testing.assert_array_equal(trees.predict(as_matrix(X), 1)[:, 0], [0.0, 1.0])


@pytest.mark.parametrize("threads", [1, 2])
def test_a_row_alone_is_answered_to_the_bit_as_among_many(classifier, threads):
    # few rows take another way through the trees than many
    _, trees = classifier
    stump = RandomForestClassifier(1, max_leaf_nodes=2, random_state=0).fit(rows(), np.zeros(400, dtype=int))
    lone = [from_scikit_learn(tree.tree_, np.array([0]), 3) for tree in stump.estimators_]
    with_stump = join(
        [*lone, *(from_scikit_learn(e.tree_, np.arange(3), 3) for e in classifier[0].estimators_)],
        n_features=5,
        prior=np.full(3, 1 / 3),
        cut=False,
    )
    X = rows(20_000, seed=2)
    for forest in (trees, with_stump):
        together = forest.predict(as_matrix(X), threads)
        alone = np.concatenate([forest.predict(as_matrix(X[k : k + 1]), threads) for k in range(300)])
        np.testing.assert_array_equal(alone, together[:300])


def test_one_of_a_bag_is_its_first_trees_and_its_prior_counts_as_it_did(tmp_path):
    X, n = rows(), 3 * FEWEST_KEPT
    y = (np.nan_to_num(X[:, 0]) > 0).astype(int)
    forest = RandomForestClassifier(n, max_leaf_nodes=8, random_state=0).fit(X, y)
    part = thinned(taken_apart(forest, np.arange(2), 2, regression=False), 6)
    assert part.rounds == FEWEST_KEPT
    fresh = rows(300, seed=1)
    first = np.mean([e.predict_proba(fresh.astype(np.float64)) for e in forest.estimators_[:FEWEST_KEPT]], axis=0)
    np.testing.assert_allclose(part.predict(as_matrix(fresh), 1), (n * first + 1 / 2) / (n + 1), atol=1e-6)
    save_trees(part, tmp_path)
    np.testing.assert_array_equal(load_trees(tmp_path).predict(as_matrix(fresh), 1), part.predict(as_matrix(fresh), 1))


def test_a_bag_of_parts_is_better_than_one_whole_forest():
    X, fresh = rows(300), rows(2000, seed=1)
    truth = [np.nan_to_num(part[:, 0]) + np.nan_to_num(part[:, 2]) ** 2 for part in (X, fresh)]
    y = truth[0] + 0.5 * np.random.default_rng(0).normal(size=300)
    forests = [
        taken_apart(ExtraTreesRegressor(120, max_leaf_nodes=60, random_state=k).fit(X, y), np.zeros(0, int), 1, True)
        for k in range(4)
    ]
    parts = [thinned(forest, 4) for forest in forests]
    assert [part.rounds for part in parts] == [60] * 4

    def error(models):
        said = np.mean([model.predict(as_matrix(fresh), 1)[:, 0] for model in models], axis=0)
        return np.mean((said - truth[1]) ** 2)

    assert error(parts) < np.mean([error([forest]) for forest in forests])
    assert error(parts) == pytest.approx(error(forests), rel=0.01)
    assert thinned(forests[0], 1) is forests[0]
    assert thinned(forests[0], 2) is forests[0]


def test_files_are_small(classifier, tmp_path):
    _, trees = classifier
    save_trees(trees, tmp_path)
    n_nodes = int(trees.splits.sum() + trees.leaves.sum())
    assert sum(f.stat().st_size for f in tmp_path.iterdir()) < 14 * n_nodes + 4000


def crafted(path, **changes):
    with np.load(path) as file:
        arrays = dict(file)
    for name, change in changes.items():
        arrays[name] = change(arrays[name])
    path.unlink()
    np.savez(path, **arrays)


def put(position, value):
    def change(array):
        array = array.astype(np.int64) if array.dtype.kind in "iu" else array.copy()
        array[position] = value
        return array

    return change


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("left", put(0, 0)),  # a circle
        ("left", put(2, 1)),  # upwards
        ("right", put(0, 10**6)),
        ("right", put(0, -(10**6))),
        ("feature", put(0, 5)),
        ("feature", put(0, -1)),
        ("feature", lambda a: a[:-1]),
        ("feature", lambda a: a.astype(float)),
        ("threshold", put(0, np.nan)),
        ("values", put((0, 0), np.inf)),
        ("values", lambda a: a[:-1]),
        ("values", lambda a: a[:, :0]),
        ("splits", put(0, 10**18)),
        ("splits", put(0, -1)),
        ("leaves", put(0, 1)),
        ("splits", lambda a: a[:0]),
        ("n_features", lambda a: np.array(0)),
        ("regression", lambda a: np.array([True])),
        ("left", lambda a: np.array([{"a": 1}], dtype=object)),
    ],
)
def test_crafted_files_are_refused(classifier, tmp_path, name, change):
    _, trees = classifier
    save_trees(trees, tmp_path)
    crafted(tmp_path / "trees.npz", **{name: change})
    with pytest.raises(BadArtifact):
        load_trees(tmp_path)


def test_another_number_of_features_is_refused(classifier):
    _, trees = classifier
    with pytest.raises(BadArtifact):
        trees.predict(as_matrix(rows()[:, :3]), 1)
