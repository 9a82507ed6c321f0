"""LightGBM's text format: what of it is kept, and checks made before its own parser sees it.

LightGBM trusts its files: a missing number aborts the process, a child that points upwards lets a prediction run for
ever. Everything the parser follows blindly is checked here, for all trees at once: a model may have ten thousand.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from automl_cli.features.matrix import Array

_END = "end of trees\n"
_OBJECTIVES = ("binary sigmoid:1", "regression", "regression_l1")
_TAIL = "pandas_categorical:"
# Trees that are checked together: enough that numpy's calls cost nothing, few enough that they take little memory
# beside a text of hundreds of megabytes.
_TOGETHER = 1_000
# Told of each split and leaf, and asked for by nobody: predictions and their reasons need the rest alone. Without them
# a file is smaller by two fifths.
_UNUSED = ("split_gain", "internal_value", "internal_weight", "leaf_weight")


@dataclass(frozen=True)
class Summary:
    """What the header promises."""

    n_trees: int
    n_rounds: int
    n_features: int
    objective: str


def lean_text(text: str) -> str:
    """Return a model without what neither predictions nor their contributions need; they stay the same to the bit."""
    header, start = _header(text)
    sizes = _tree_sizes(header)
    kept = [
        "\n".join(line for line in tree.split("\n") if line.partition("=")[0] not in _UNUSED)
        for tree in _trees(text, start, sizes)
    ]
    told, telling = (" ".join(map(str, counts)) for counts in (sizes, [len(tree) for tree in kept]))
    return "".join(
        (text[:start].replace(f"tree_sizes={told}", f"tree_sizes={telling}", 1), *kept, text[start + sum(sizes) :])
    )


def read_header(text: str) -> Summary:
    """Return what the header of a LightGBM model says.

    Raises
    ------
    ValueError, KeyError, IndexError
        It is not one that LightGBM wrote, or contradicts itself.
    """
    return _summary(_header(text)[0])


def check_text(text: str) -> Summary:
    """Check a LightGBM model and return what its header says.

    Raises
    ------
    ValueError, KeyError, IndexError
        It is not a model that LightGBM wrote, or was changed since.
    """
    header, start = _header(text)
    summary = _summary(header)
    sizes = _tree_sizes(header)
    if min(sizes) <= 0 or not text.startswith(_END, start + sum(sizes)):
        raise ValueError("a tree has another size than promised")
    waiting = []
    for number, tree in enumerate(_trees(text, start, sizes)):
        if not tree.startswith(f"Tree={number}\n") or not tree.endswith("\n"):
            raise ValueError("a tree has another size than promised")
        waiting.append(_fields(tree))
        if len(waiting) == _TOGETHER or number == len(sizes) - 1:
            _check_trees(waiting, summary.n_features)
            waiting = []
    return summary


def _header(text: str) -> tuple[dict[str, str], int]:
    """Return the fields before the first tree, and where that begins."""
    head, blank, _ = text.partition("\n\n")
    # sizes count bytes, and LightGBM knows no other line end
    if not text.isascii() or not text.startswith("tree\nversion=v4\n") or not blank or _TAIL not in text[-4096:]:
        raise ValueError("the first or the last lines are missing")
    return _fields(head.removeprefix("tree\n")), len(head) + len(blank)


def _tree_sizes(header: dict[str, str]) -> list[int]:
    return [int(size) for size in header["tree_sizes"].split()]


def _summary(header: dict[str, str]) -> Summary:
    n_trees, per_round = len(_tree_sizes(header)), _trees_per_round(header)
    summary = Summary(
        n_trees=n_trees,
        n_rounds=n_trees // per_round,
        n_features=int(header["max_feature_idx"]) + 1,
        objective=header["objective"].split()[0],
    )
    if summary.n_rounds * per_round != n_trees or summary.n_rounds < 1:
        raise ValueError("trees are missing")
    if not 0 < summary.n_features == len(header["feature_names"].split()) == len(header["feature_infos"].split()):
        raise ValueError("features do not add up")
    return summary


def _trees(text: str, start: int, sizes: Sequence[int]) -> Iterator[str]:
    """Cut the text into its trees, one at a time."""
    for size in sizes:
        yield text[start : start + size]
        start += size


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


def _numbers(trees: Sequence[dict[str, str]], name: str, counts: Array, *, whole: bool = False) -> Array:
    """Return a field of all trees, which has so many numbers in each, one tree after the other."""
    import pyarrow  # noqa: PLC0415
    import pyarrow.compute  # noqa: PLC0415

    texts = [tree[name] for tree in trees]
    if [text.count(" ") + 1 if text else 0 for text in texts] != counts.tolist():
        raise ValueError(f"{name} is not what it should be")
    if not counts.any():
        return np.zeros(0, dtype=np.int64 if whole else np.float64)
    joined = " ".join(text for text in texts if text)
    # LightGBM reads 0x1 as 0, Arrow as 1. Otherwise Arrow is strict where Python is not: 1_0 is no number, and neither
    # is nothing between two blanks.
    if "x" in joined or "X" in joined:
        raise ValueError(f"{name} is not what it should be")
    words = pyarrow.compute.split_pattern(pyarrow.scalar(joined), " ").values
    values: Array = words.cast(pyarrow.int64() if whole else pyarrow.float64()).to_numpy()
    return values


def _counts(trees: Sequence[dict[str, str]], name: str) -> Array:
    return _numbers(trees, name, np.ones(len(trees), dtype=np.int64), whole=True)


def _check_trees(trees: Sequence[dict[str, str]], n_features: int) -> None:
    n_leaves, n_cat = _counts(trees, "num_leaves"), _counts(trees, "num_cat")
    if n_leaves.min() < 1 or n_cat.min() < 0 or _counts(trees, "is_linear").any():
        raise ValueError("a tree of an unknown sort")
    _check_finite(trees, "leaf_value", n_leaves)
    n_splits = n_leaves - 1
    # a tree without splits has one leaf and leaves the rest empty
    split = np.flatnonzero(n_splits).tolist()
    parted = [trees[number] for number in split]
    _check_finite(parted, "leaf_count", n_leaves[split])
    _check_finite(trees, "internal_count", n_splits)
    for name in _UNUSED:
        having = [tree for tree in parted if name in tree]
        if having and len(having) < len(parted):
            raise ValueError(f"{name} is there and is not")
        if having:
            _check_finite(parted, name, (n_leaves if name == "leaf_weight" else n_splits)[split])
    feature = _numbers(trees, "split_feature", n_splits, whole=True)
    if len(feature) and (feature.min() < 0 or feature.max() >= n_features):
        raise ValueError("a split on a feature that does not exist")
    _check_children(trees, n_splits)
    _check_categories(trees, n_cat, n_splits)


def _check_finite(trees: Sequence[dict[str, str]], name: str, counts: Array) -> None:
    if not np.isfinite(_numbers(trees, name, counts)).all():
        raise ValueError(f"{name} is not what it should be")


def _check_children(trees: Sequence[dict[str, str]], n_splits: Array) -> None:
    size = np.repeat(n_splits, n_splits)
    parent = np.arange(len(size)) - np.repeat(np.cumsum(n_splits) - n_splits, n_splits)
    for name in ("left_child", "right_child"):
        child = _numbers(trees, name, n_splits, whole=True)
        # LightGBM appends splits: a child that is a split comes after its parent, so no path is a circle
        if ((child >= 0) & (child <= parent)).any() or (child >= size).any() or (child < -size - 1).any():
            raise ValueError("a child that does not exist")


def _check_categories(trees: Sequence[dict[str, str]], n_cat: Array, n_splits: Array) -> None:
    kinds = _numbers(trees, "decision_type", n_splits, whole=True)
    thresholds = _numbers(trees, "threshold", n_splits)
    # A random threshold beyond all values is written as inf: only the missing ones go the other way.
    if np.isnan(thresholds).any():
        raise ValueError("threshold is not what it should be")
    by_category = (kinds & 1) == 1
    positions = thresholds[by_category]
    if not ((positions >= 0) & (positions < np.repeat(n_cat, n_splits)[by_category])).all():
        raise ValueError("a category split without categories")
    having = np.flatnonzero(n_cat).tolist()
    sets, n_sets = [trees[number] for number in having], n_cat[having]
    ends = _numbers(sets, "cat_boundaries", n_sets + 1, whole=True)
    last = np.cumsum(n_sets + 1) - 1
    first = last - n_sets
    steps = np.diff(ends)
    # what lies between one tree's last end and the next one's first is no step
    if ends[first].any() or (np.delete(steps, last[:-1]) <= 0).any():
        raise ValueError("categories do not add up")
    bits = _numbers(sets, "cat_threshold", ends[last], whole=True)
    if len(bits) and (bits.min() < 0 or bits.max() >= 2**32):
        raise ValueError("categories out of range")
