"""The one early-stopping rule: for folds, boosting rounds, epochs and sample sizes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Decision:
    """Whether to give up, and why, in one line with its numbers."""

    stop: bool
    reason: str


def should_stop(losses: Sequence[float], incumbent: Sequence[float]) -> Decision:
    """Judge a challenger by its partial losses: the forgiving rule of [1]_.

    Parameters
    ----------
    losses : sequence of float
        The challenger's losses so far, one per finished step: the folds of a validation, or the values of several
        folds at one boosting round, epoch or sample size. Lower is better.
    incumbent : sequence of float
        The losses of the best complete candidate at the same step; empty while there is none.

    Returns
    -------
    Decision
        Stop where the mean of ``losses`` is no better than the incumbent's worst, or where a loss is not finite; go
        on where there is nothing to compare.

    References
    ----------
    .. [1] Bergman, Purucker, Hutter, Don't waste your time: early stopping cross-validation, AutoML 2024.

    Examples
    --------
    >>> should_stop([0.31], incumbent=[0.20, 0.25, 0.30])
    Decision(stop=True, reason='mean 0.31 over 1 step is no better than the incumbent at its worst, 0.3')
    >>> should_stop([0.31, 0.22], incumbent=[0.20, 0.25, 0.30]).stop
    False
    """
    for step, loss in enumerate(losses, start=1):
        if not math.isfinite(loss):
            return Decision(True, f"the loss at step {step} is {loss}")
    bounds = [loss for loss in incumbent if math.isfinite(loss)]
    if not losses or not bounds:
        return Decision(False, "nothing to compare with yet")
    mean, worst = math.fsum(losses) / len(losses), max(bounds)
    so_far = f"mean {mean:.6g} over {len(losses)} step{'s' if len(losses) > 1 else ''}"
    if mean >= worst:
        return Decision(True, f"{so_far} is no better than the incumbent at its worst, {worst:.6g}")
    return Decision(False, f"{so_far} is better than the incumbent at its worst, {worst:.6g}")
