"""What the loops of this package fit: any model, as a function of rows of one table that holds source and target."""

from collections.abc import Callable

from automl_cli.features.matrix import Array

Predict = Callable[[Array], Array]
"""``predict(rows)``: class probabilities or values, shape (n_rows, n_outputs), of positions in the table."""

Fit = Callable[[Array, Array], Predict]
"""``fit(rows, weights)`` learns from positions in the table, with the labels that they have."""

LabelFit = Callable[[Array, Array, Array], Predict]
"""``fit(rows, y, weights)`` learns from positions in the table, with labels that are given."""
