"""What the two forest families share: their space, their cost and their fit, stopped between batches of trees."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from automl_cli.clock import Deadline
from automl_cli.families.boosting import shape_of
from automl_cli.families.family import (
    FoldData,
    Hyperparameters,
    Limits,
    Shape,
    present_classes,
    smoothing_prior,
    without_infinities,
)
from automl_cli.families.trees import Nodes, Trees, fitted_bytes, from_scikit_learn, join, n_bytes
from automl_cli.features.matrix import Array
from automl_cli.task import TaskKind

FOREST_MODULE = "sklearn.ensemble._forest"  # alone, it takes a fifth of the time and memory of its package
N_TREES = 300
"""AutoGluon's number of trees."""
MOST_LEAVES = 15_000
"""AutoGluon's bound; it keeps files and memory in check."""
MOST_BYTES = 40_000_000
"""Of one forest: its leaves hold a number per class, so that many classes leave room for fewer trees and leaves."""
_FEWEST_TREES = 50
"""That many fit always (TabArena's number): the bound on a tree's leaves sees to it."""
# (trees done, trees of the next batch). The first batches are small: they tell what a tree costs. The schedule depends
# on the trees alone, so that a forest which was cut short holds the first trees of the full one.
_BATCHES = ((0, 4), (4, 4), (8, 8), (16, 16))
_LATER_BATCH, _FEWEST_IN_BATCH = 32, 16
_BATCH_BYTES = 20_000_000
"""Of a batch as scikit-learn holds it, which is several times what is kept of it."""


class MakeForest(Protocol):
    """Makes a scikit-learn forest of the family for classification or regression."""

    def __call__(self, *, regression: bool, parameters: Mapping[str, Any]) -> Any:
        """Return an unfitted estimator."""
        ...


def forest_space(shape: Shape, *, bootstrap: bool) -> tuple[list[Any], list[Any]]:
    """Return the space of a forest: TabArena's ranges, with leaf sizes as in AutoGluon's portfolio.

    Parameters
    ----------
    bootstrap : bool
        Whether trees on samples of the rows are the family's default.
    """
    from ConfigSpace import Categorical, EqualsCondition, Float, Integer  # noqa: PLC0415

    rule = Categorical("max_features_rule", ["share", "sqrt"], default=_published_rule(shape))
    share = Float("max_features", (0.05, 1.0), default=1.0)
    sampled = Categorical("bootstrap", [True, False], default=bootstrap)
    sample = Float("max_samples", (0.5, 1.0), default=1.0)
    parameters = [rule, share, Integer("min_samples_leaf", (1, 50), log=True, default=1), sampled, sample]
    if shape.kind is not TaskKind.REGRESSION:
        parameters.append(Categorical("criterion", ["gini", "entropy"], default="gini"))
    return parameters, [EqualsCondition(share, rule, "share"), EqualsCondition(sample, sampled, True)]


def _published_rule(shape: Shape) -> str:
    return "share" if shape.kind is TaskKind.REGRESSION else "sqrt"


def forest_default(
    shape: Shape, *, bootstrap: bool, max_features: float | None = None, min_samples_leaf: int = 1
) -> Hyperparameters:
    """Return AutoGluon's forest (scikit-learn's defaults with 300 trees), or one of its portfolio.

    Parameters
    ----------
    max_features : float or None
        Share of the features tried per split; None is scikit-learn's rule for the task.
    """
    values: dict[str, Any] = {"bootstrap": bootstrap, "min_samples_leaf": min_samples_leaf}
    if bootstrap:
        values["max_samples"] = 1.0
    if shape.kind is not TaskKind.REGRESSION:
        values["criterion"] = "gini"
    if max_features is None and _published_rule(shape) == "sqrt":
        return {**values, "max_features_rule": "sqrt"}
    return {**values, "max_features_rule": "share", "max_features": 1.0 if max_features is None else max_features}


def fit_forest(data: FoldData, hyperparameters: Hyperparameters, limits: Limits, make: MakeForest) -> Trees:
    """Fit 300 trees, or as many as `MOST_BYTES` and the seconds allow.

    Where even a few trees would take too long, they learn from a sample of the rows.
    """
    deadline = Deadline.after(limits.seconds)
    regression = data.kind is TaskKind.REGRESSION
    X = np.ascontiguousarray(without_infinities(data.train.X), dtype=np.float32)
    classes, y = present_classes(data)
    rows = _affordable_rows(data, hyperparameters, limits)
    weight = data.weight
    if rows is not None:
        X, y, weight = X[rows], y[rows], None if weight is None else weight[rows]
        # a sample may lose a class that the fold has
        kept, y = np.unique(y, return_inverse=True) if not regression else (classes, y)
        classes = classes[kept] if not regression else classes
    parameters = _parameters(hyperparameters, len(y), data.n_outputs, limits.threads)
    trees: list[Nodes] = []
    cut = False
    while (batch := _next_batch(trees)) and not cut:
        started = deadline.elapsed()
        seed = np.random.SeedSequence([limits.seed, len(trees)]).generate_state(1)[0]
        forest = make(
            regression=regression, parameters={**parameters, "n_estimators": batch, "random_state": int(seed)}
        )
        forest.fit(X, y, sample_weight=weight)
        trees += [from_scikit_learn(estimator.tree_, classes, data.n_outputs) for estimator in forest.estimators_]
        seconds_per_tree = (deadline.elapsed() - started) / batch
        more = _next_batch(trees)
        cut = more > 0 and deadline.limited and deadline.seconds_left() < 1.1 * seconds_per_tree * more
    return join(trees, n_features=X.shape[1], prior=smoothing_prior(data), cut=cut or rows is not None)


def _next_batch(trees: Sequence[Nodes]) -> int:
    """Return how many trees to grow next; 0 where there are enough, or where no more of their size have room."""
    most = min(_batch(len(trees)), N_TREES - len(trees))
    if not trees:
        return most
    room = max(_FEWEST_IN_BATCH, _BATCH_BYTES * len(trees) // sum(fitted_bytes(tree) for tree in trees))
    taken = sum(n_bytes(tree) for tree in trees)
    return max(0, min(most, room, (MOST_BYTES - taken) * len(trees) // taken))


def _batch(n_done: int) -> int:
    return next((size for done, size in _BATCHES if done == n_done), _LATER_BATCH)


def _most_leaves(n_outputs: int) -> int:
    per_leaf = 11 + (4 * n_outputs if n_outputs > 1 else 8)
    return max(2, min(MOST_LEAVES, MOST_BYTES // (_FEWEST_TREES * per_leaf)))


def _affordable_rows(data: FoldData, hyperparameters: Hyperparameters, limits: Limits) -> Array | None:
    """Return the rows to learn from where the first batch on all of them would take half the limit; else None."""
    if limits.seconds is None:
        return None
    n_rows = len(data.y)
    first = _seconds_per_tree(shape_of(data), hyperparameters) * _batch(0) / min(limits.threads, _batch(0))
    share = 0.5 * limits.seconds / max(first, 1e-9)
    if share >= 1 or n_rows <= 1_000:
        return None
    rng = np.random.default_rng(limits.seed)
    return np.sort(rng.choice(n_rows, size=max(int(share * n_rows), 1_000), replace=False))


def _parameters(hyperparameters: Hyperparameters, n_rows: int, n_outputs: int, threads: int) -> dict[str, Any]:
    most_leaves = _most_leaves(n_outputs)
    bootstrap = bool(hyperparameters["bootstrap"])
    rule = hyperparameters["max_features_rule"]
    parameters: dict[str, Any] = {
        "bootstrap": bootstrap,
        "max_samples": float(hyperparameters["max_samples"]) if bootstrap else None,
        "max_features": "sqrt" if rule == "sqrt" else float(hyperparameters["max_features"]),
        "min_samples_leaf": int(hyperparameters["min_samples_leaf"]),
        # Only where it binds: the bound makes scikit-learn grow trees best-first, which is slower.
        "max_leaf_nodes": most_leaves if n_rows // int(hyperparameters["min_samples_leaf"]) > most_leaves else None,
        "n_jobs": threads,
    }
    return parameters | ({"criterion": hyperparameters["criterion"]} if "criterion" in hyperparameters else {})


def _seconds_per_tree(shape: Shape, hyperparameters: Hyperparameters) -> float:
    share = float(hyperparameters.get("max_features", shape.n_columns**-0.5))
    tried = max(1.0, share * shape.n_columns)
    depth = np.log2(max(shape.n_rows / float(hyperparameters["min_samples_leaf"]), 2))
    return float(2e-3 + 4.5e-8 * shape.n_rows * tried * depth + 1e-6 * shape.n_rows)


def forest_seconds(shape: Shape, hyperparameters: Hyperparameters) -> float:
    """Guess one fit's seconds on one core."""
    return 0.1 + N_TREES * _seconds_per_tree(shape, hyperparameters)
