"""A model for rows in which the classes have other shares: what it says is corrected, and decided anew."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from automl_cli.calibration import Decision, Moved, learn_decision
from automl_cli.metrics import Array, Metric, TaskKind
from automl_cli.transfer.judge import Gain, row_losses, weighted_gain
from automl_cli.transfer.labels import LabelShift


@dataclass(frozen=True, eq=False)
class Known:
    """Rows with a label, and what a model said of them that had not seen them.

    Attributes
    ----------
    outputs : ndarray of shape (n_rows, n_classes)
        Probabilities before any correction.
    y : ndarray of shape (n_rows,), class indices
    weight : ndarray of shape (n_rows,) or None
        The user's.
    parts : ndarray of shape (n_rows,)
        As for `learn_decision`.
    """

    outputs: Array
    y: Array
    weight: Array | None
    parts: Array

    def as_there(self, shift: LabelShift) -> Array:
        """Return weights under which the rows have the new shares of the classes."""
        moved = shift.weights[self.y]
        return moved if self.weight is None else moved * self.weight


def moved_by(shift: LabelShift) -> Moved:
    """Return a correction in the form in which a model keeps it."""
    offsets = np.log(np.maximum(shift.weights, 1e-12))
    if shift.calibration is None:
        return Moved(1.0, tuple(map(float, offsets)))
    return Moved(shift.calibration.inverse, tuple(map(float, offsets + shift.calibration.offsets)))


def moved_decision(decision: Decision, shift: LabelShift, known: Known, metric: Metric, *, calibrate: bool) -> Decision:
    """Return a decision under new shares: a metric of labels is served by thresholds that are learned for them."""
    moved = replace(decision, multipliers=(), moved=moved_by(shift))
    if not calibrate or metric.needs != "labels":
        return moved
    learned = learn_decision(shift.correct(known.outputs), known.y, metric, known.as_there(shift), parts=known.parts)
    return replace(moved, multipliers=learned.decision.multipliers)


def gain_of(shift: LabelShift, known: Known) -> Gain:
    """Return what a correction gains in log loss where the rows are weighed by the new shares."""
    losses = [row_losses(known.y, p, TaskKind.MULTICLASS) for p in (known.outputs, shift.correct(known.outputs))]
    return weighted_gain(losses[0], losses[1], known.as_there(shift))


def shares_there(shift: LabelShift, classes: tuple[str, ...]) -> list[dict[str, Any]]:
    """Return the shares of the classes in both tables as JSON values."""
    shares = zip(classes, shift.before, shift.after, strict=True)
    return [{"label": label, "before": float(before), "after": float(after)} for label, before, after in shares]


def scores_there(
    decision: Decision, plain: Decision, shift: LabelShift, known: Known, metric: Metric
) -> dict[str, float]:
    """Estimate the score on rows of the new shares, with the correction and ``without`` it."""
    weight = known.as_there(shift)
    corrected = decision.judged(shift.correct(known.outputs), metric)
    found = {"score": corrected, "without": plain.judged(known.outputs, metric)}
    return {name: metric.natural(metric.loss(known.y, outputs, weight)) for name, outputs in found.items()}
