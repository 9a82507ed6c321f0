"""The end of a fit: members refitted on all rows where time orders them, and what mattered."""

import logging
from concurrent.futures import wait
from dataclasses import dataclass
from pathlib import Path

from automl_cli.clock import Deadline
from automl_cli.evaluate import refit
from automl_cli.executors import TrialExecutor
from automl_cli.importance import permutation_importance
from automl_cli.members import Chosen

logger = logging.getLogger(__name__)
LEAVING_SECONDS = 1.0  # workers end and the interpreter shuts down; half of it on a machine that is not busy


@dataclass(frozen=True)
class Ending:
    """What is known once the search is over and the model is not yet saved."""

    executor: TrialExecutor
    chosen: Chosen
    run_folder: Path
    deadline: Deadline
    saving_seconds: float

    def spare_seconds(self) -> float | None:
        """Return the seconds that saving and leaving do not need; None where there is no limit."""
        if not self.deadline.limited:
            return None
        return self.deadline.seconds_left() - 1.5 * self.saving_seconds - LEAVING_SECONDS


def refit_members(ending: Ending) -> dict[int, Path]:
    """Fit the members on all rows, the heaviest first: under a time order the latest rows count most.

    A member that cannot be refitted in time keeps its fold models.
    """
    folder = str(ending.run_folder)
    spare = ending.spare_seconds()
    seconds = None if spare is None else 0.8 * spare
    heaviest_first = sorted(ending.chosen.members, key=lambda member: -abs(member[1]))
    pending = {
        trial.proposal.number: ending.executor.submit(refit, trial, folder, seconds, timeout=spare)
        for trial, _ in heaviest_first
    }
    wait(pending.values(), timeout=spare)
    refitted: dict[int, Path] = {}
    for number, future in pending.items():
        try:
            refitted[number] = future.result(timeout=0)
        except Exception:  # its fold models are still there
            logger.info("trial %d could not be refitted", number, exc_info=True)
            future.cancel()
    return refitted


def what_mattered(ending: Ending) -> tuple[tuple[str, float], ...]:
    """Ask a worker which columns the best member needs, within what the reserve leaves."""
    spare = ending.spare_seconds()
    if spare is not None and spare < 0.2:
        return ()
    limit = None if spare is None else min(3.0, spare)
    share = None if limit is None else 0.7 * limit
    proposal, folder = ending.chosen.best.proposal, str(ending.run_folder)
    future = ending.executor.submit(permutation_importance, proposal, folder, share, timeout=limit)
    try:
        return tuple(future.result(timeout=limit))
    except Exception:
        logger.info("no column importance", exc_info=True)
        future.cancel()
        return ()
