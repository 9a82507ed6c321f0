"""The end of a fit: more models of the members, or others where time orders the rows, and what mattered."""

import logging
import math
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Future, wait
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from automl_cli.clock import Deadline
from automl_cli.executors import TrialExecutor, submitted
from automl_cli.importance import permutation_importance
from automl_cli.members import Chosen, OofCache
from automl_cli.refitting import refit, repeat_fold
from automl_cli.repeats import Again, members_to_repeat, seconds_of_fit
from automl_cli.rundata import RunData
from automl_cli.teaching import Taught, begin_teaching, finished_pupil, teach_fold, with_pupils
from automl_cli.trial import Success
from automl_cli.trialfiles import fold_folders, repeated_folders

logger = logging.getLogger(__name__)
LEAVING_SECONDS = 1.0  # workers end and the interpreter shuts down; half of it on a machine that is not busy
IMPORTANCE_SECONDS = 0.5  # are left for what mattered
MOST_SECONDS = 3.0  # for what mattered, where there is a limit or somebody waits
LEAST_TEACHING = 0.5  # seconds, below which no pupil comes to an end
POLL_SECONDS = 0.2  # how soon an interrupt is noticed


@dataclass(frozen=True)
class Ending:
    """What is known once the search is over and the model is not yet saved."""

    executor: TrialExecutor
    chosen: Chosen
    run_folder: Path
    deadline: Deadline
    saving_seconds: float
    interrupted: Callable[[], bool]

    def spare_seconds(self) -> float | None:
        """Return the seconds that saving and leaving do not need; None where there is no limit."""
        if not self.deadline.limited:
            return None
        return self.deadline.seconds_left() - 1.25 * self.saving_seconds - LEAVING_SECONDS


@dataclass(frozen=True)
class Further:
    """What was fitted at the end.

    Attributes
    ----------
    chosen : Chosen
        The members, pupils among them.
    folders : mapping of trial number to the folders that stand in for those of its folds
        Members that are missing from it keep their fold models.
    taught : Taught or None
        What pupils are worth, where there are some.
    """

    chosen: Chosen
    folders: Mapping[int, tuple[Path, ...]] = field(default_factory=dict)
    taught: Taught | None = None


def further_models(ending: Ending, cache: OofCache, again: Again, workers: int, *, calibrate: bool) -> Further:
    """Fit the members once more: on all rows, on rows that the ensemble gives a label to, or on other folds."""
    if cache.data.plan.refit:
        return Further(ending.chosen, refit_members(ending))
    if again.taught:
        return teach_members(ending, cache, again, workers, calibrate=calibrate)
    return Further(ending.chosen, repeat_members(ending, cache.data, again, workers))


def refit_members(ending: Ending, only: Collection[int] | None = None) -> dict[int, tuple[Path, ...]]:
    """Fit the members on all rows, the heaviest first: under a time order the latest rows count most.

    A member that cannot be refitted in time keeps its fold models.

    Parameters
    ----------
    only : collection of int or None
        Numbers of the trials that are meant; None: all members.
    """
    if ending.interrupted():
        return {}
    folder = str(ending.run_folder)
    spare = ending.spare_seconds()
    seconds = None if spare is None else 0.8 * spare
    members = [member for member in ending.chosen.members if only is None or member[0].proposal.number in only]
    heaviest_first = sorted(members, key=lambda member: -abs(member[1]))
    pending = {
        trial.proposal.number: submitted(ending.executor, refit, trial, folder, seconds, timeout=spare)
        for trial, _ in heaviest_first
    }
    _await(ending, pending.values(), spare)
    refitted: dict[int, tuple[Path, ...]] = {}
    for number, future in pending.items():
        try:
            refitted[number] = (future.result(timeout=0),)
        except Exception:  # its fold models are still there
            logger.info("trial %d could not be refitted", number, exc_info=True)
            future.cancel()
    return refitted


def repeat_members(ending: Ending, data: RunData, again: Again, workers: int) -> dict[int, tuple[Path, ...]]:
    """Fit the members on the plan's other folds as well, as many as there is time for; see `automl_cli.repeats`.

    The folds of a member go to whichever workers are free.

    Returns
    -------
    dict of trial number to the folders of all its folds
        What was not finished in time is left out.
    """
    spare = ending.spare_seconds()
    if spare is None or not again.n or ending.interrupted():
        return {}
    seconds = min(spare - IMPORTANCE_SECONDS, again.share * ending.deadline.total)
    trials = members_to_repeat(ending.chosen, again, seconds=seconds, workers=workers)
    folder = str(ending.run_folder)
    pending = {
        (trial.proposal.number, fold): submitted(ending.executor, repeat_fold, trial, folder, fold, timeout=seconds)
        for trial in trials
        for fold in range(len(data.folds), len(data.every_fold))
    }
    _gathered(ending, pending, seconds)
    return {
        trial.proposal.number: (
            *fold_folders(ending.run_folder, trial),
            *repeated_folders(ending.run_folder, trial, data),
        )
        for trial in trials
    }


def teach_members(ending: Ending, cache: OofCache, again: Again, workers: int, *, calibrate: bool) -> Further:
    """Fit members on their folds again, with labels of the ensemble on rows that have none; see `teaching`.

    What does not come to its end is left out, and all are where the labelled rows say that they cost.
    """
    try:
        pupils = _taught(ending, cache, again, workers)
        if not pupils:
            return Further(ending.chosen)
        together, worth = with_pupils(ending.chosen, pupils, cache, calibrate=calibrate)
    except (OSError, ValueError):  # the disk of the run's folder is full, say: the model is what it was
        logger.warning("no member could be taught", exc_info=True)
        return Further(ending.chosen)
    return Further(ending.chosen if worth.costs else together, taught=worth)


def _taught(ending: Ending, cache: OofCache, again: Again, workers: int) -> list[Success]:
    """Return pupils that have come to an end in time."""
    chosen, folder = ending.chosen, ending.run_folder
    spare = ending.spare_seconds()
    seconds = None if spare is None else spare - IMPORTANCE_SECONDS  # all that is left: the search is over
    if ending.interrupted() or (seconds is not None and seconds < LEAST_TEACHING):
        return []
    within = math.inf if seconds is None else seconds
    members = members_to_repeat(chosen, again, seconds=within, workers=workers)
    pupils = begin_teaching(folder, members)
    teacher = replace(chosen, said=None)  # which may be large
    most = [
        None if seconds is None else seconds_of_fit(member, again, len(members), seconds=seconds, workers=workers)
        for member in members
    ]
    n_folds = len(cache.data.folds)
    pending = {  # pupil by pupil: one that has come to its end is worth more than several that have not
        (pupil.number, fold): submitted(
            ending.executor, teach_fold, pupil, teacher, str(folder), fold, own, timeout=seconds
        )
        for pupil, own in zip(pupils, most, strict=True)
        for fold in range(n_folds)
    }
    _gathered(ending, pending, seconds)
    return [trial for pupil in pupils if (trial := finished_pupil(folder, pupil, n_folds)) is not None]


def _gathered(ending: Ending, pending: "Mapping[tuple[int, int], Future[None]]", seconds: float | None) -> None:
    """Wait for fits of members, by trial and fold; what was finished is there."""
    _await(ending, pending.values(), seconds)
    for (number, fold), future in pending.items():
        try:
            future.result(timeout=0)
        except Exception:
            logger.info("trial %d was not fitted once more on fold %d", number, fold, exc_info=True)
            future.cancel()


def _await(ending: Ending, pending: Collection["Future[Any]"], seconds: float | None) -> None:
    """Wait until all have ended, the seconds are over or the user asks to stop."""
    began = ending.deadline.clock()
    left = set(pending)
    while left and not ending.interrupted():
        if seconds is not None and ending.deadline.clock() - began >= seconds:
            return
        left = wait(left, timeout=POLL_SECONDS).not_done


def what_mattered(ending: Ending) -> tuple[tuple[str, float], ...]:
    """Ask a worker which columns the best member needs, within what the reserve leaves."""
    spare = ending.spare_seconds()
    if spare is None and ending.interrupted():
        spare = MOST_SECONDS  # whatever was cancelled may hold all threads of a cluster
    if spare is not None and spare < 0.2:
        return ()
    limit = None if spare is None else min(MOST_SECONDS, spare)
    share = None if limit is None else 0.7 * limit
    proposal, folder = ending.chosen.best.proposal, str(ending.run_folder)
    future = submitted(ending.executor, permutation_importance, proposal, folder, share, timeout=limit)
    try:
        return tuple(future.result(timeout=limit))
    except Exception:
        logger.info("no column importance", exc_info=True)
        future.cancel()
        return ()
