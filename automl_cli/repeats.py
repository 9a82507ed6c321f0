"""Which members are fitted once more at the end, on other folds or on all rows, and what that takes.

Members are bags: each predicts with the mean of the models of its folds. On small data the mean of twice as many,
fitted on rows dealt out anew, errs less on new rows (docs/ensemble.md). Weights, scores and calibration stay those of
the folds that all trials share: the second models of a row have seen the rows that the first ones are judged on. Under
a time order, and under limits on the model, one model of all rows takes the place of a bag.
"""

from collections.abc import Iterable, Sequence

from automl_cli.members import Chosen
from automl_cli.trial import Success

__all__ = ["members_to_repeat", "refit_seconds", "refits_seconds", "repeat_seconds"]

SHARE = 0.1  # of the limit may go into other folds: what a search finds in its last tenth is worth less
SAFETY = 0.8  # of the seconds are planned with
GROWTH = 2.0  # times the seconds of a fold: under a time order the folds learn from half of the rows in the mean
# Trials find the encoders of their folds fitted, a refit does not. Of 20,000 rows with a text that takes ten times what
# encoding them does, of more rows less.
ENCODING = 10.0
STARTING_SECONDS = 1.0  # workers whose trials ended with the search are started again


def members_to_repeat(chosen: Chosen, n_repeat: int, *, seconds: float, workers: int) -> list[Success]:
    """Return the members whose other folds can be fitted, the heaviest first.

    Parameters
    ----------
    n_repeat : int
        Other folds of the plan; each goes to whichever worker is free.
    seconds : float
        From now on, for all of them.
    """
    heaviest = sorted(chosen.members, key=lambda member: -abs(member[1]))
    found: list[Success] = []
    busy = [0.0] * workers
    for trial, _ in heaviest:
        after = _busy(busy, [_fold_seconds(trial)] * n_repeat)
        # a bag that lacks folds is slow to fit as it is
        if trial.complete and max(after) <= SAFETY * seconds:
            found.append(trial)
            busy = after
    return found


def repeat_seconds(chosen: Chosen, n_repeat: int, *, limit: float, workers: int) -> float:
    """Return what to keep for it before the search ends, out of a whole ``limit``."""
    most = SHARE * limit
    trials = members_to_repeat(chosen, n_repeat, seconds=most, workers=workers)
    folds = [_fold_seconds(trial) for trial in trials for _ in range(n_repeat)]
    return min(most, max(_busy([0.0] * workers, folds)) / SAFETY)


def refit_seconds(trial: Success, n_rows: int) -> float:
    """Return about what one fit of a pipeline on all rows takes, its encoder included."""
    encoding = 0.0 if trial.row_seconds is None else trial.row_seconds[0]
    return GROWTH * _fold_seconds(trial) + ENCODING * n_rows * encoding


def refits_seconds(trials: Sequence[Success], n_rows: int, *, workers: int) -> float:
    """Return what to keep for fitting trials on all rows, handed out to workers in this order."""
    longest = max(_busy([0.0] * workers, [refit_seconds(trial, n_rows) for trial in trials]))
    return STARTING_SECONDS + longest / SAFETY


def _fold_seconds(trial: Success) -> float:
    return trial.seconds / len(trial.losses)


def _busy(busy: Sequence[float], fits: Iterable[float]) -> list[float]:
    """Return for how long each worker is busy once these fits went, one by one, to whoever is free first."""
    after = list(busy)
    for seconds in fits:
        after[after.index(min(after))] += seconds
    return after
