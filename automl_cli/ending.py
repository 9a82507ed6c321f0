"""The end of a fit: more models of the members, or others where time orders the rows, and what mattered."""

import logging
from collections.abc import Callable, Collection
from concurrent.futures import Future, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from automl_cli.clock import Deadline
from automl_cli.evaluate import refit, repeat_fold
from automl_cli.executors import TrialExecutor, submitted
from automl_cli.importance import permutation_importance
from automl_cli.members import Chosen
from automl_cli.repeats import SHARE, members_to_repeat
from automl_cli.rundata import RunData
from automl_cli.trialfiles import fold_folders, repeated_folders

logger = logging.getLogger(__name__)
LEAVING_SECONDS = 1.0  # workers end and the interpreter shuts down; half of it on a machine that is not busy
IMPORTANCE_SECONDS = 0.5  # are left for what mattered
MOST_SECONDS = 3.0  # for what mattered, where there is a limit or somebody waits
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


def further_models(ending: Ending, data: RunData, n_repeat: int, workers: int) -> dict[int, tuple[Path, ...]]:
    """Fit the members on rows that their folds' models have not seen: all rows, or other folds.

    Returns
    -------
    dict of trial number to the folders that stand in for those of its folds
        Members that are missing from it keep their fold models.
    """
    return refit_members(ending) if data.plan.refit else repeat_members(ending, data, n_repeat, workers)


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


def repeat_members(ending: Ending, data: RunData, n_repeat: int, workers: int) -> dict[int, tuple[Path, ...]]:
    """Fit the members on the plan's other folds as well, as many as there is time for; see `automl_cli.repeats`.

    The folds of a member go to whichever workers are free.

    Returns
    -------
    dict of trial number to the folders of all its folds
        What was not finished in time is left out.
    """
    spare = ending.spare_seconds()
    if spare is None or not n_repeat or ending.interrupted():
        return {}
    seconds = min(spare - IMPORTANCE_SECONDS, SHARE * ending.deadline.total)
    trials = members_to_repeat(ending.chosen, n_repeat, seconds=seconds, workers=workers)
    folder = str(ending.run_folder)
    pending = {
        (trial.proposal.number, fold): submitted(ending.executor, repeat_fold, trial, folder, fold, timeout=seconds)
        for trial in trials
        for fold in range(len(data.folds), len(data.every_fold))
    }
    _await(ending, pending.values(), seconds)
    for (number, fold), future in pending.items():
        try:
            future.result(timeout=0)
        except Exception:  # the folds that were finished are there
            logger.info("trial %d was not repeated on fold %d", number, fold, exc_info=True)
            future.cancel()
    return {
        trial.proposal.number: (
            *fold_folders(ending.run_folder, trial),
            *repeated_folders(ending.run_folder, trial, data),
        )
        for trial in trials
    }


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
