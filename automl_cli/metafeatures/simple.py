"""Counts and shares: sizes, kinds of columns, categories, missing values."""

import math

import numpy as np

from automl_cli.features.matrix import Array
from automl_cli.metafeatures.view import View

SOURCE = "Michie, Spiegelhalter and Taylor, Machine Learning, Neural and Statistical Classification, 1994, ch. 7"


def n_rows(view: View) -> float:
    """Return the number of labelled rows: n."""
    return float(view.n_rows)


def n_columns(view: View) -> float:
    """Return the number of columns that a model may see: p."""
    return float(view.n_columns)


def log_n_rows(view: View) -> float:
    """Return log10(n)."""
    return math.log10(max(1, view.n_rows))


def log_n_columns(view: View) -> float:
    """Return log10(p)."""
    return math.log10(max(1, view.n_columns))


def log_rows_per_column(view: View) -> float:
    """Return log10(n / p)."""
    return math.log10(max(1, view.n_rows) / max(1, view.n_columns))


def n_classes(view: View) -> float:
    """Return the number of classes; 0 for values."""
    return float(len(view.task.classes))


def share_numeric(view: View) -> float:
    """Return numeric columns / p."""
    return _share(len(view.frame.schema.numeric), view)


def share_categorical(view: View) -> float:
    """Return categorical columns / p."""
    return _share(len(view.frame.schema.categorical), view)


def share_datetime(view: View) -> float:
    """Return columns of dates / p."""
    return _share(len(view.frame.schema.datetime), view)


def share_text(view: View) -> float:
    """Return columns of text / p."""
    return _share(len(view.frame.schema.text), view)


def share_two_valued(view: View) -> float:
    """Return categorical columns with at most two values / p."""
    return _share(sum(n <= 2 for n in view.frame.schema.n_categories), view)


def share_many_valued(view: View) -> float:
    """Return categorical columns with more than 50 values / p."""
    return _share(sum(n > 50 for n in view.frame.schema.n_categories), view)


def log_mean_categories(view: View) -> float:
    """Return log10 of the mean number of values of a categorical column."""
    counts = view.frame.schema.n_categories
    return math.log10(max(1.0, sum(counts) / len(counts))) if counts else math.nan


def log_most_categories(view: View) -> float:
    """Return log10 of the largest number of values of a categorical column."""
    return math.log10(max(1, *view.frame.schema.n_categories)) if view.frame.schema.n_categories else math.nan


def share_missing(view: View) -> float:
    """Return missing cells / (n p)."""
    return float(_missing(view).mean()) if view.n_columns else math.nan


def share_columns_missing(view: View) -> float:
    """Return columns with a missing cell / p."""
    return float((_missing(view) > 0).mean()) if view.n_columns else math.nan


def most_missing(view: View) -> float:
    """Return the largest share of missing cells of a column."""
    return float(_missing(view).max()) if view.n_columns else math.nan


def _share(count: int, view: View) -> float:
    return count / max(1, view.n_columns)


def _missing(view: View) -> Array:
    """Return the share of missing cells of each column."""
    frame, n = view.frame, max(1, view.n_rows)
    return np.concatenate([
        np.isnan(frame.numbers).sum(axis=0) / n,
        (frame.codes == -1).sum(axis=0) / n,
        np.isnan(frame.days).sum(axis=0) / n,
        np.array([text.null_count / n for text in frame.texts]),
    ])  # fmt: skip
