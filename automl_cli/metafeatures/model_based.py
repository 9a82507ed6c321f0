"""The shape of a small tree that is grown on the sample."""

import math

import numpy as np

from automl_cli.metafeatures.tree import DEEPEST
from automl_cli.metafeatures.view import View

SOURCE = "Peng, Flach, Soares and Brazdil, DS 2002"


def log_leaves(view: View) -> float:
    """Return log2 of the number of leaves."""
    return math.log2(len(view.tree.depths))


def mean_leaf_depth(view: View) -> float:
    """Return the mean depth of a leaf over the deepest that is allowed, by rows."""
    tree = view.tree
    return float(np.average(tree.depths, weights=tree.rows)) / DEEPEST


def share_columns_used(view: View) -> float:
    """Return the share of columns that are split on."""
    gains = view.tree.gains
    return float((gains > 0).mean()) if len(gains) else math.nan


def column_concentration(view: View) -> float:
    """Return the largest column's part of all gain."""
    gains = view.tree.gains
    return float(gains.max() / gains.sum()) if len(gains) and gains.sum() > 0 else math.nan


def explained(view: View) -> float:
    """Return the part of the impurity (Gini's, of a regression over ten classes of values) that the tree takes away."""
    classes = view.landmark_classes
    shares = np.bincount(classes) / max(1, len(classes))
    impurity = 1.0 - float((shares**2).sum())
    return float(view.tree.gains.sum() / len(classes) / impurity) if impurity > 0 else math.nan
