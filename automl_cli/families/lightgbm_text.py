"""Checks of LightGBM's text format, made before its own parser sees the text.

LightGBM trusts its files: a missing number aborts the process, a child that points upwards lets a prediction run for
ever. Everything the parser follows blindly is checked here.
"""

from dataclasses import dataclass

import numpy as np

from automl_cli.features.matrix import Array

_END = "end of trees\n"
_OBJECTIVES = ("binary sigmoid:1", "regression", "regression_l1")
_TAIL = "pandas_categorical:"


@dataclass(frozen=True)
class Summary:
    """What the header promises."""

    n_trees: int
    n_rounds: int
    n_features: int
    objective: str


def check_text(text: str) -> Summary:
    """Check a LightGBM model and return what its header says.

    Raises
    ------
    ValueError, KeyError, IndexError
        It is not a model that LightGBM wrote, or was changed since.
    """
    head, blank, _ = text.partition("\n\n")
    # sizes count bytes, and LightGBM knows no other line end
    if not text.isascii() or not text.startswith("tree\nversion=v4\n") or not blank or _TAIL not in text[-4096:]:
        raise ValueError("the first or the last lines are missing")
    header = _fields(head.removeprefix("tree\n"))
    sizes = [int(size) for size in header["tree_sizes"].split()]
    per_round = _trees_per_round(header)
    summary = Summary(
        n_trees=len(sizes),
        n_rounds=len(sizes) // per_round,
        n_features=int(header["max_feature_idx"]) + 1,
        objective=header["objective"].split()[0],
    )
    if summary.n_rounds * per_round != len(sizes) or summary.n_rounds < 1:
        raise ValueError("trees are missing")
    if not 0 < summary.n_features == len(header["feature_names"].split()) == len(header["feature_infos"].split()):
        raise ValueError("features do not add up")
    start = len(head) + len(blank)
    for number, size in enumerate(sizes):
        tree = text[start : start + size]
        if size <= 0 or not tree.startswith(f"Tree={number}\n") or not tree.endswith("\n"):
            raise ValueError("a tree has another size than promised")
        _check_tree(_fields(tree), summary.n_features)
        start += size
    if not text.startswith(_END, start):
        raise ValueError("text after the last tree")
    return summary


def _trees_per_round(header: dict[str, str]) -> int:
    """Return the trees of a round; the header tells it three times, and LightGBM believes each in its place."""
    n_classes = int(header["num_class"])
    expected = _OBJECTIVES if n_classes == 1 else (f"multiclass num_class:{n_classes}",)
    if n_classes < 1 or int(header["num_tree_per_iteration"]) != n_classes or header["objective"] not in expected:
        raise ValueError("classes do not add up")
    return n_classes


def _fields(block: str) -> dict[str, str]:
    # a line that is no assignment, or is there twice, would be read in another way than here
    pairs = [line.split("=", 1) for line in block.split("\n") if line]
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("a line is there twice")
    return fields


def _numbers(tree: dict[str, str], name: str, count: int, *, whole: bool = False) -> Array:
    values = np.array(tree[name].split(), dtype=np.int64 if whole else np.float64)
    if len(values) != count or not np.isfinite(values).all():
        raise ValueError(f"{name} is not what it should be")
    return values


def _check_tree(tree: dict[str, str], n_features: int) -> None:
    n_leaves, n_cat = int(tree["num_leaves"]), int(tree["num_cat"])
    if n_leaves < 1 or n_cat < 0 or int(tree["is_linear"]) != 0:
        raise ValueError("a tree of an unknown sort")
    n_splits = n_leaves - 1
    _numbers(tree, "leaf_value", n_leaves)
    # a tree without splits has one leaf and leaves the rest empty
    for name in ("leaf_weight", "leaf_count") if n_splits else ():
        _numbers(tree, name, n_leaves)
    for name in ("split_gain", "internal_value", "internal_weight", "internal_count"):
        _numbers(tree, name, n_splits)
    feature = _numbers(tree, "split_feature", n_splits, whole=True)
    if n_splits and (feature.min() < 0 or feature.max() >= n_features):
        raise ValueError("a split on a feature that does not exist")
    _check_children(tree, n_leaves)
    _check_categories(tree, n_cat, n_splits)


def _check_children(tree: dict[str, str], n_leaves: int) -> None:
    parents = np.arange(n_leaves - 1)
    for name in ("left_child", "right_child"):
        child = _numbers(tree, name, n_leaves - 1, whole=True)
        # LightGBM appends splits: a child that is a split comes after its parent, so no path is a circle
        inner = child >= 0
        if (child[inner] <= parents[inner]).any() or (child >= n_leaves - 1).any() or (child < -n_leaves).any():
            raise ValueError("a child that does not exist")


def _check_categories(tree: dict[str, str], n_cat: int, n_splits: int) -> None:
    kinds = _numbers(tree, "decision_type", n_splits, whole=True)
    thresholds = np.array(tree["threshold"].split(), dtype=np.float64)
    # A random threshold beyond all values is written as inf: only the missing ones go the other way.
    if len(thresholds) != n_splits or np.isnan(thresholds).any():
        raise ValueError("threshold is not what it should be")
    positions = thresholds[(kinds & 1) == 1]
    if len(positions) and not (positions.min() >= 0 and positions.max() < n_cat):
        raise ValueError("a category split without categories")
    if n_cat:
        ends = _numbers(tree, "cat_boundaries", n_cat + 1, whole=True)
        if ends[0] != 0 or (np.diff(ends) <= 0).any():
            raise ValueError("categories do not add up")
        bits = _numbers(tree, "cat_threshold", int(ends[-1]), whole=True)
        if len(bits) and (bits.min() < 0 or bits.max() >= 2**32):
            raise ValueError("categories out of range")
