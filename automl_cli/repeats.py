"""Which members are fitted once more at the end, on other folds or on all rows, and what that takes.

Members are bags: each predicts with the mean of the models of its folds. On small data the mean of twice as many,
fitted on rows dealt out anew, errs less on new rows (docs/ensemble.md). Weights, scores and calibration stay those of
the folds that all trials share: the second models of a row have seen the rows that the first ones are judged on. Under
a time order, and under limits on the model, one model of all rows takes the place of a bag.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from automl_cli.members import Chosen
from automl_cli.trial import Success

SHARE = 0.1  # of the limit may go into other folds: what a search finds in its last tenth is worth less
TAUGHT_SHARE = 0.15  # and so much into folds with labels of the ensemble
TAUGHT_TIMES = 2.0  # the seconds of a fold, for one with as many rows again, or more
LEAST_SECONDS = 0.1  # of a fit, below which its beginning is most of it
MOST_PUPILS = 3  # each is about as good as the ensemble that taught it, see docs/unlabeled.md
POOR_PUPILS = frozenset({"linear", "neighbors"})  # which cannot say what they are taught
SAFETY = 0.8  # of the seconds are planned with
GROWTH = 2.0  # times the seconds of a fold: under a time order the folds learn from half of the rows in the mean
# Trials find the encoders of their folds fitted, a refit does not. Of 20,000 rows with a text that takes ten times what
# encoding them does, of more rows less.
ENCODING = 10.0
STARTING_SECONDS = 1.0  # workers whose trials ended with the search are started again


@dataclass(frozen=True)
class Again:
    """How members are fitted once more.

    Attributes
    ----------
    n : int
        Fits of each member; 0: none.
    share : float
        Of a limit may go into all of them.
    times : float
        What a fit takes, in fits of a fold.
    taught : bool
        Whether it is on the same folds, with labels of the ensemble on rows that have none.
    """

    n: int
    share: float = SHARE
    times: float = 1.0
    taught: bool = False


def other_folds(n: int) -> Again:
    """Return how members are fitted on the plan's other folds."""
    return Again(n)


def taught_again(n_folds: int) -> Again:
    """Return how members are fitted on their folds with labels of the ensemble."""
    return Again(n_folds, TAUGHT_SHARE, TAUGHT_TIMES, taught=True)


def members_to_repeat(chosen: Chosen, again: Again, *, seconds: float, workers: int) -> list[Success]:
    """Return the members that can be fitted once more, the heaviest first; each fit goes to whichever worker is free.

    Pupils are few, of different families as far as there are some, and the quick ones come first, of which one is
    taught in whatever time there is.

    Parameters
    ----------
    seconds : float
        From now on, for all of them; infinite where nothing may depend on what a fit takes.
    """
    heaviest = [trial for trial, _ in sorted(chosen.members, key=lambda member: -abs(member[1]))]
    found: list[Success] = []
    busy = [0.0] * workers
    ranked = _pupils(heaviest, timed=seconds < math.inf) if again.taught else heaviest
    for trial in ranked:
        if again.taught and len(found) == MOST_PUPILS:
            break
        after = _busy(busy, [again.times * fold_seconds(trial)] * again.n)
        # a bag that lacks folds is slow to fit as it is
        if trial.complete and max(after) <= SAFETY * seconds:
            found.append(trial)
            busy = after
    return found or (ranked[:1] if again.taught else [])


def seconds_of_fit(trial: Success, again: Again, n_members: int, *, seconds: float, workers: int) -> float:
    """Return the seconds that one of the fits of a pupil may take: what it needs, or its part of all there are."""
    part = SAFETY * seconds * workers / (again.n * n_members)
    return max(LEAST_SECONDS, min(again.times * fold_seconds(trial), part))


def _pupils(heaviest: Sequence[Success], *, timed: bool) -> list[Success]:
    """Return members in the order in which they are taught: a first one of each family, then the others."""
    ranked = sorted(heaviest, key=fold_seconds) if timed else list(heaviest)
    ranked = [trial for trial in ranked if trial.complete]
    able = [trial for trial in ranked if trial.proposal.pipeline.family not in POOR_PUPILS] or ranked
    firsts = {trial.proposal.pipeline.family: trial for trial in reversed(able)}.values()
    return sorted(able, key=lambda trial: trial not in firsts)


def repeat_seconds(chosen: Chosen, again: Again, *, limit: float, workers: int) -> float:
    """Return what to keep for it before the search ends, out of a whole ``limit``."""
    most = again.share * limit
    trials = members_to_repeat(chosen, again, seconds=most, workers=workers)
    folds = [again.times * fold_seconds(trial) for trial in trials for _ in range(again.n)]
    return min(most, max(_busy([0.0] * workers, folds)) / SAFETY)


def pupils_seconds(trials: Sequence[Success], again: Again, *, limit: float, workers: int) -> float:
    """Return what to keep for pupils before the search ends: as many as there can be, each as slow as most trials are.

    Who they will be is known at the end alone. What the members take to label the rows is not counted: these are
    about as many as have a label.
    """
    most = again.share * limit
    if not trials:
        return most
    usual = again.times * median(fold_seconds(trial) for trial in trials)
    return min(most, max(_busy([0.0] * workers, [usual] * again.n * MOST_PUPILS)) / SAFETY)


def refit_seconds(trial: Success, n_rows: int) -> float:
    """Return about what one fit of a pipeline on all rows takes, its encoder included."""
    encoding = 0.0 if trial.row_seconds is None else trial.row_seconds[0]
    return GROWTH * fold_seconds(trial) + ENCODING * n_rows * encoding


def refits_seconds(trials: Sequence[Success], n_rows: int, *, workers: int) -> float:
    """Return what to keep for fitting trials on all rows, handed out to workers in this order."""
    longest = max(_busy([0.0] * workers, [refit_seconds(trial, n_rows) for trial in trials]))
    return STARTING_SECONDS + longest / SAFETY


def fold_seconds(trial: Success) -> float:
    """Return what a fold of a trial took, in the mean."""
    return trial.seconds / len(trial.losses)


def _busy(busy: Sequence[float], fits: Iterable[float]) -> list[float]:
    """Return for how long each worker is busy once these fits went, one by one, to whoever is free first."""
    after = list(busy)
    for seconds in fits:
        after[after.index(min(after))] += seconds
    return after
