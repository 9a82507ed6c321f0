"""Which members are fitted on other folds of the same rows as well, and what that takes.

Members are bags: each predicts with the mean of the models of its folds. On small data the mean of twice as many,
fitted on rows dealt out anew, errs less on new rows (docs/ensemble.md). Weights, scores and calibration stay those of
the folds that all trials share: the second models of a row have seen the rows that the first ones are judged on.
"""

from collections.abc import Sequence

from automl_cli.members import Chosen
from automl_cli.trial import Success

__all__ = ["members_to_repeat", "repeat_seconds"]

SHARE = 0.1  # of the limit may go into it: what a search finds in its last tenth is worth less
SAFETY = 0.8  # of the seconds are planned with


def members_to_repeat(chosen: Chosen, n_repeat: int, *, seconds: float, workers: int) -> list[Success]:
    """Return the members whose other folds can be fitted, the heaviest first.

    Parameters
    ----------
    n_repeat : int
        Other folds of the plan.
    seconds : float
        From now on, for all of them.
    """
    heaviest = sorted(chosen.members, key=lambda member: -abs(member[1]))
    found: list[Success] = []
    total = 0.0
    for trial, _ in heaviest:
        needed = _seconds(trial, n_repeat)
        # a bag that lacks folds is slow to fit as it is
        fits = needed <= SAFETY * seconds and total + needed <= SAFETY * seconds * workers
        if trial.complete and fits:
            found.append(trial)
            total += needed
    return found


def repeat_seconds(chosen: Chosen, n_repeat: int, *, limit: float, workers: int) -> float:
    """Return what to keep for it before the search ends, out of a whole ``limit``."""
    most = SHARE * limit
    trials = members_to_repeat(chosen, n_repeat, seconds=most, workers=workers)
    return min(most, _longest(trials, n_repeat, workers) / SAFETY)


def _seconds(trial: Success, n_repeat: int) -> float:
    return trial.seconds / len(trial.losses) * n_repeat


def _longest(trials: Sequence[Success], n_repeat: int, workers: int) -> float:
    """Return how long workers need that take one trial after the other."""
    busy = [0.0] * workers
    for trial in trials:
        first = busy.index(min(busy))
        busy[first] += _seconds(trial, n_repeat)
    return max(busy)
