"""Forests as plain arrays: small on disk, checked when read, and summed in the same order by any number of threads."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from automl_cli.families.arrays import Expected, bad_model, integer, load_arrays, save_arrays
from automl_cli.families.family import as_probabilities, is_prior, smoothed, without_infinities
from automl_cli.features.matrix import Array, Matrix
from automl_cli.lean import import_lean

# Trees are summed in blocks of this size and blocks in their order: threads share out blocks, so that their number
# does not change a single bit of the sum.
_BLOCK = 8
# Rows times trees that are walked here: fewer than this take less time than importing scikit-learn does.
_FEW_PATHS = 50_000
FEWEST_KEPT = 50  # trees of a forest that is one of a bag


@dataclass(frozen=True)
class Nodes:
    """The splits and leaves of one tree, or of many, one tree after the other.

    A child that is 0 or more is a split of the same tree, counted from the tree's first; a negative child ``c`` is the
    leaf ``-c - 1`` of the same tree. A tree without splits is its one leaf.

    Attributes
    ----------
    feature, left, right : integer (n_splits,)
    threshold : float32 (n_splits,)
        A row goes left where its float32 value is at most this.
    missing_left : bool (n_splits,)
        Whether a row goes left where its value is missing.
    values : float32 (n_leaves, n_outputs), or float64 for a regression
        Class probabilities, or the mean.
    """

    feature: Array
    left: Array
    right: Array
    threshold: Array
    missing_left: Array
    values: Array


@dataclass(frozen=True)
class Trees:
    """A forest.

    Attributes
    ----------
    nodes : Nodes
        Of all trees.
    splits, leaves : int64 (n_trees,)
        Splits and leaves of each tree.
    prior : float64 (n_outputs,)
        Counts as one more tree, or as the part of one that it adds up to; empty for a regression.
    cut : bool
        Whether the seconds allowed fewer trees, or fewer rows, than they should have been.
    """

    nodes: Nodes
    splits: Array
    leaves: Array
    n_features: int
    regression: bool
    prior: Array
    cut: bool = False

    @property
    def rounds(self) -> int:
        """Number of trees."""
        return len(self.splits)

    def predict(self, data: Matrix, threads: int) -> Array:
        """Return float64 of shape (n_rows, n_outputs): the mean over all trees."""
        if data.X.shape[1] != self.n_features:
            raise bad_model(Path(_FILE), "it was fitted on another number of features")
        X = np.ascontiguousarray(without_infinities(data.X), dtype=np.float32)
        # rows in chunks, so that the sums which wait for their turn stay small
        size = max(1_000, 400_000 // self.nodes.values.shape[1])
        starts = range(0, max(len(X), 1), size)
        with ThreadPoolExecutor(max(threads, 1)) as pool:
            # One thread is the caller's own: what it takes is measured there.
            in_order: Callable[..., Iterable[Array]] = pool.map if threads > 1 else map
            mean = np.concatenate([self._sum(X[start : start + size], in_order) for start in starts]) / self.rounds
        return mean if self.regression else as_probabilities(smoothed(mean, self.prior, self.rounds))

    def _sum(self, X: Array, in_order: Callable[..., Iterable[Array]]) -> Array:
        split_starts = np.concatenate([[0], np.cumsum(self.splits)])
        leaf_starts = np.concatenate([[0], np.cumsum(self.leaves)])
        walked = self._walk(X, split_starts) if len(X) * self.rounds <= _FEW_PATHS else None

        def block_sum(first: int) -> Array:
            block = np.zeros((len(X), self.nodes.values.shape[1]))
            for tree in range(first, min(first + _BLOCK, self.rounds)):
                splits = slice(int(split_starts[tree]), int(split_starts[tree + 1]))
                leaf = self._leaf(X, splits, int(self.leaves[tree])) if walked is None else walked[:, tree]
                block += self.nodes.values[int(leaf_starts[tree]) + leaf]
            return block

        total = np.zeros((len(X), self.nodes.values.shape[1]))
        for block in in_order(block_sum, range(0, self.rounds, _BLOCK)):
            total += block
        return total

    def _walk(self, X: Array, split_starts: Array) -> Array:
        """Return the leaf of each tree that each row falls into, of shape (n_rows, n_trees)."""
        nodes = self.nodes
        reached = np.broadcast_to(np.where(self.splits > 0, 0, -1), (len(X), self.rounds)).copy()
        rows, trees = np.nonzero(reached >= 0)
        while len(rows):
            node = split_starts[trees] + reached[rows, trees]
            value = X[rows, nodes.feature[node]]
            goes_left = np.where(np.isnan(value), nodes.missing_left[node], value <= nodes.threshold[node])
            child = np.where(goes_left, nodes.left[node], nodes.right[node])
            reached[rows, trees] = child
            rows, trees = rows[child >= 0], trees[child >= 0]
        return -reached - 1

    def _leaf(self, X: Array, splits: slice, n_leaves: int) -> Array:
        """Return the leaf that each row falls into, found by scikit-learn's compiled walk."""
        n_splits = splits.stop - splits.start
        if n_splits == 0:
            return np.zeros(len(X), dtype=np.int64)
        tree = _scikit_learn_tree(self, splits, n_leaves)
        leaf: Array = tree.apply(X) - n_splits
        return leaf

    def save(self, path: Path) -> None:
        """Write the arrays."""
        arrays = {**vars(self.nodes), "splits": self.splits, "leaves": self.leaves, "prior": self.prior}
        scalars = {"n_features": np.array(self.n_features), "regression": np.array(self.regression)}
        save_arrays(path, arrays | scalars)


_ARRAYS = {
    "feature": Expected("iu", 1),
    "left": Expected("i", 1),
    "right": Expected("i", 1),
    # Infinite where a split only parts missing values from all others.
    "threshold": Expected("f", 1, finite=False),
    "missing_left": Expected("b", 1),
    "values": Expected("f", 2),
}
_FILE = "trees.npz"


def _scikit_learn_tree(trees: Trees, splits: slice, n_leaves: int) -> Any:
    """Rebuild one checked tree: its splits first, then its leaves."""
    scikit_learn = import_lean("sklearn.tree._tree")
    n_splits = splits.stop - splits.start
    nodes = np.zeros(n_splits + n_leaves, dtype=scikit_learn.NODE_DTYPE)
    inner = nodes[:n_splits]
    for name, children in (("left_child", trees.nodes.left[splits]), ("right_child", trees.nodes.right[splits])):
        child = children.astype(np.int64)
        inner[name] = np.where(child >= 0, child, n_splits - child - 1)
    inner["feature"] = trees.nodes.feature[splits]
    inner["threshold"] = trees.nodes.threshold[splits]
    inner["missing_go_to_left"] = trees.nodes.missing_left[splits]
    nodes["left_child"][n_splits:] = -1
    nodes["right_child"][n_splits:] = -1
    tree = scikit_learn.Tree(trees.n_features, np.ones(1, dtype=np.intp), 1)
    tree.__setstate__(
        {"max_depth": 1, "node_count": len(nodes), "nodes": nodes, "values": np.zeros((len(nodes), 1, 1))}
    )
    return tree


def from_scikit_learn(tree: Any, classes: Array, n_outputs: int) -> Nodes:
    """Take a fitted scikit-learn tree apart.

    Parameters
    ----------
    tree : sklearn.tree._tree.Tree
    classes : int64 (n_present,)
        The class of each of its outputs; empty for a regression.
    """
    nodes = tree.__getstate__()["nodes"]
    is_leaf = nodes["left_child"] < 0
    # Splits and leaves are counted apart; both keep scikit-learn's order, in which a parent precedes its children.
    number = np.where(is_leaf, -np.cumsum(is_leaf), np.cumsum(~is_leaf) - 1)
    inner = nodes[~is_leaf]
    values = tree.value[is_leaf, 0, :]
    if len(classes):
        probabilities = np.zeros((len(values), n_outputs), dtype=np.float32)
        probabilities[:, classes] = values / np.maximum(values.sum(axis=1, keepdims=True), np.finfo(float).tiny)
        values = probabilities
    # copies in small types: a forest in the making holds hundreds of trees, and a view would keep all of `inner`
    return Nodes(
        feature=_smallest(inner["feature"]),
        left=_smallest(number[inner["left_child"]]),
        right=_smallest(number[inner["right_child"]]),
        threshold=_at_most(inner["threshold"]),
        missing_left=inner["missing_go_to_left"].astype(bool),
        values=values,
    )


def _at_most(threshold: Array) -> Array:
    """Return the largest float32 that is not above each float64: float32 values compare with both alike."""
    most = np.finfo(np.float32).max
    rounded = np.clip(threshold, -most, most).astype(np.float32)
    rounded = np.where(rounded > threshold, np.nextafter(rounded, np.float32(-np.inf)), rounded)
    return np.where(np.isinf(threshold), threshold, rounded).astype(np.float32)


def n_bytes(tree: Nodes) -> int:
    """Bytes that a tree takes once it is joined: feature and children as int16, a float32, a bool, and its leaves."""
    return 11 * len(tree.feature) + int(tree.values.nbytes)


def fitted_bytes(tree: Nodes) -> int:
    """Bytes that scikit-learn holds of it: 64 per node beside a float64 per node and output."""
    return (len(tree.feature) + len(tree.values)) * (64 + 8 * int(tree.values.shape[1]))


def join(trees: list[Nodes], *, n_features: int, prior: Array, cut: bool) -> Trees:
    """Lay trees one after the other, each array in the smallest type that holds it.

    Parameters
    ----------
    trees : list of Nodes
        Empty afterwards: each kind of array is let go once it is laid, so that a forest is not held twice.
    prior : float64 (n_outputs,)
        As `smoothing_prior` returns it: empty for a regression.
    """
    sizes = np.array([(len(tree.feature), len(tree.values)) for tree in trees], dtype=np.int64)
    parts = {name: [getattr(tree, name) for tree in trees] for name in _ARRAYS}
    trees.clear()
    arrays = {name: np.concatenate(parts.pop(name)) for name in _ARRAYS}
    for name in ("feature", "left", "right"):
        arrays[name] = _smallest(arrays[name])
    return Trees(
        Nodes(**arrays),
        splits=sizes[:, 0],
        leaves=sizes[:, 1],
        n_features=n_features,
        regression=not len(prior),
        prior=prior,
        cut=cut,
    )


def _smallest(numbers: Array) -> Array:
    """Copy integers into the smallest of two types that holds them."""
    reach = int(np.abs(numbers).max(initial=0))
    return numbers.astype(np.int16 if reach < 2**15 else np.int32)


def thinned(model: Trees, n_models: int) -> Trees:
    """Return the first trees of a forest, so many that a bag of such forests has twice the trees of one.

    A forest's error falls with its trees as a mean's does, with one over their number. It was judged with all of its
    own; the others of the bag have as many, and most of them would only take room and time. The prior counts as it did.
    """
    kept = max(FEWEST_KEPT, -(-2 * model.rounds // n_models))
    if kept >= model.rounds:
        return model
    n_splits, n_leaves = int(model.splits[:kept].sum()), int(model.leaves[:kept].sum())
    nodes = {name: getattr(model.nodes, name)[:n_splits] for name in _ARRAYS if name != "values"}
    return replace(
        model,
        nodes=Nodes(**nodes, values=model.nodes.values[:n_leaves]),
        splits=model.splits[:kept],
        leaves=model.leaves[:kept],
        prior=model.prior * (kept / model.rounds),
    )


def save_trees(model: Trees, folder: Path) -> None:
    """Write a forest into a folder."""
    model.save(folder / _FILE)


def load_trees(folder: Path) -> Trees:
    """Read a forest, checking everything that the compiled walk follows blindly.

    Raises
    ------
    BadArtifact
        The file is missing or damaged, or a tree leads outside itself or in a circle.
    """
    path = folder / _FILE
    more = {
        "splits": Expected("i", 1),
        "leaves": Expected("i", 1),
        "prior": Expected("f", 1),
        "n_features": Expected("i", 0),
        "regression": Expected("b", 0),
    }
    arrays = load_arrays(path, {**_ARRAYS, **more})
    splits, leaves = arrays["splits"].astype(np.int64), arrays["leaves"].astype(np.int64)
    n_features = integer(path, arrays["n_features"], 1, 2**31)
    model = Trees(
        Nodes(**{name: arrays[name] for name in _ARRAYS}),
        splits,
        leaves,
        n_features,
        regression=bool(arrays["regression"]),
        prior=arrays["prior"],
    )
    problem = next(iter(_problems(model)), None)
    if problem is not None:
        raise bad_model(path, problem)
    return model


def _problems(trees: Trees) -> Iterable[str]:
    nodes = trees.nodes
    if len(trees.splits) < 1 or len(trees.splits) != len(trees.leaves) or nodes.values.shape[1] < 1:
        yield "trees do not add up"
        return
    if not is_prior(trees.prior, nodes.values.shape[1], regression=trees.regression, part=True):
        yield "the shares of the classes do not add up"
    # bounded first, so that the sums below cannot overflow
    bounded = ((trees.splits >= 0) & (trees.splits < 2**31) & (trees.leaves == trees.splits + 1)).all()
    n_splits, n_leaves = int(trees.splits.sum()), int(trees.leaves.sum())
    lengths = {len(getattr(nodes, name)) for name in ("feature", "left", "right", "threshold", "missing_left")}
    if not bounded or lengths != {n_splits} or len(nodes.values) != n_leaves:
        yield "trees do not add up"
        return
    size = np.repeat(trees.splits, trees.splits)
    position = np.arange(n_splits) - np.repeat(np.cumsum(trees.splits) - trees.splits, trees.splits)
    for child in (nodes.left.astype(np.int64), nodes.right.astype(np.int64)):
        inner = child >= 0
        if (child >= size).any() or (inner & (child <= position)).any() or (-child - 1 > size).any():
            yield "a branch leads nowhere"
    feature = nodes.feature.astype(np.int64)
    if n_splits and (feature.min() < 0 or feature.max() >= trees.n_features):
        yield "a feature is out of range"
    if np.isnan(nodes.threshold).any():
        yield "a threshold is not a number"
