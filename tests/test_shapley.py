"""Contributions against Shapley values by their definition, over all subsets, on the libraries' own dumps."""

import json
from collections.abc import Callable, Collection
from dataclasses import dataclass
from itertools import combinations
from math import comb
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from automl_cli.families import find_families
from automl_cli.families.family import FoldData, Limits, Shape
from automl_cli.features.matrix import as_matrix
from automl_cli.metrics import METRICS
from automl_cli.task import TaskKind

N_FEATURES = 3


@dataclass(frozen=True)
class Node:
    """A leaf with its value, or a split; and how much of the training rows came here."""

    weight: float
    value: float = 0.0
    feature: int = -1
    goes_left: Callable[[float], bool] = bool
    children: "tuple[Node, Node] | None" = None

    def expected(self, x: np.ndarray, known: Collection[int]) -> float:
        """The tree's prediction where only some features are known: at the others, both ways by their weight."""
        if self.children is None:
            return self.value
        left, right = self.children
        if self.feature in known:
            return (left if self.goes_left(float(x[self.feature])) else right).expected(x, known)
        if left.weight + right.weight == 0:
            return 0.0
        parts = [child.weight * child.expected(x, known) if child.weight else 0.0 for child in self.children]
        return sum(parts) / (left.weight + right.weight)


def shapley(trees: list[Node], x: np.ndarray) -> list[float]:
    def worth(known: Collection[int]) -> float:
        return sum(tree.expected(x, known) for tree in trees)

    def gain(feature: int) -> float:
        others = [other for other in range(N_FEATURES) if other != feature]
        return sum(
            (worth((*known, feature)) - worth(known)) / (N_FEATURES * comb(N_FEATURES - 1, size))
            for size in range(N_FEATURES)
            for known in combinations(others, size)
        )

    return [gain(feature) for feature in range(N_FEATURES)]


def lightgbm_trees(booster: Any, folder: Path) -> list[Node]:
    def node(part: dict[str, Any]) -> Node:
        if "leaf_value" in part:
            return Node(part.get("leaf_count", 1), part["leaf_value"])
        children = (node(part["left_child"]), node(part["right_child"]))
        edge = part["threshold"]
        return Node(part["internal_count"], 0.0, part["split_feature"], lambda value: value <= edge, children)

    return [node(tree["tree_structure"]) for tree in booster.dump_model()["tree_info"]]


def xgboost_trees(booster: Any, folder: Path) -> list[Node]:
    def node(part: dict[str, Any]) -> Node:
        if "leaf" in part:
            return Node(part["cover"], part["leaf"])
        by_id = {child["nodeid"]: node(child) for child in part["children"]}
        edge = part["split_condition"]
        children = (by_id[part["yes"]], by_id[part["no"]])
        return Node(part["cover"], 0.0, int(part["split"][1:]), lambda value: value < edge, children)

    return [node(json.loads(text)) for text in booster.get_dump(with_stats=True, dump_format="json")]


def catboost_trees(booster: Any, folder: Path) -> list[Node]:
    booster.save_model(str(folder / "model.json"), format="json")

    def node(tree: dict[str, Any], level: int, leaf: int) -> Node:
        if level < 0:
            return Node(tree["leaf_weights"][leaf], tree["leaf_values"][leaf])
        split = tree["splits"][level]
        children = (node(tree, level - 1, leaf), node(tree, level - 1, leaf | 1 << level))
        edge, feature = split["border"], split["float_feature_index"]
        return Node(sum(child.weight for child in children), 0.0, feature, lambda value: value <= edge, children)

    trees = json.loads((folder / "model.json").read_text())["oblivious_trees"]
    return [node(tree, len(tree["splits"]) - 1, 0) for tree in trees]


TREES = {"lightgbm": lightgbm_trees, "xgboost": xgboost_trees, "catboost": catboost_trees}


@pytest.mark.parametrize("name", TREES)
def test_contributions_are_shapley_values(name: str, tmp_path: Path) -> None:
    family = find_families(include_missing=True)[name]
    if not family.installed():
        pytest.skip(f"{name} is not installed")
    rng = np.random.default_rng(0)
    X = rng.normal(size=(400, N_FEATURES)).astype(np.float32)
    y = 100 + 20 * X[:, 0] + 10 * X[:, 1] * X[:, 2] + rng.normal(size=400)
    train, valid = as_matrix(X[:300]), as_matrix(X[300:])
    loss = METRICS["rmse"].loss
    data = FoldData(TaskKind.REGRESSION, 1, train, y[:300], None, valid, y[300:], None, loss, "rmse")
    hyperparameters = family.defaults(Shape(TaskKind.REGRESSION, 300, N_FEATURES, 0, 1))[0]
    model: Any = family.fit(data, hyperparameters, Limits(threads=1, seed=0, rounds=6))
    assert family.contributions is not None
    told = family.contributions(model, valid, 1)[:15, :-1, 0]
    trees = TREES[name](model.model.booster, tmp_path)
    expected = model.spread * np.array([shapley(trees, x) for x in valid.X[:15]])
    np.testing.assert_allclose(told, expected, atol=1e-4 * model.spread)
