"""The model so far: from the first finished trial on, a complete model lies in the run's folder."""

import json
import logging
import math
import time
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from threadpoolctl import threadpool_limits

from automl_cli.artifact import NOTHING, Attachment, Signer, packed_per_second, write_artifact
from automl_cli.clock import Deadline
from automl_cli.errors import AutomlError
from automl_cli.members import MOST_MODEL_BYTES, Chosen, OofCache, choose_members
from automl_cli.patience import Patience
from automl_cli.plan import reserve_seconds
from automl_cli.repeats import Again, other_folds, pupils_seconds, refit_seconds, refits_seconds, repeat_seconds
from automl_cli.small import Ceiling, Cost, Costs, Small, choose_small
from automl_cli.summary import artifact_members, ensemble_gain, leaderboard
from automl_cli.trial import Success, Trial
from automl_cli.trimming import trimmed

logger = logging.getLogger(__name__)
REFIT_SHARE = 0.15  # of the limit at most, where members are refitted on all rows at the end
LAST_SHARE = 0.25  # of the limit: the model is refreshed once more in this last part of it
REFRESH_SHARE = 0.02  # of the time may go into refreshing the model in the run's folder
MEASURING_SECONDS = 1.0  # of the time of a row, where the model has limits
SUMMARY_BYTES = 4_000  # what the end of a fit adds to the manifest, packed, and rather more
BOARD_BYTES = 6_000  # of the leaderboard and the like
ATTACHED_SHARE = 0.1  # of a limit on the size is kept for what the file says of its table


@dataclass
class ModelSoFar:
    """Trials as they arrive, and what is made of them.

    Attributes
    ----------
    manifest : mapping
        What is known before the search: task, schema, frame.
    saving_seconds : float
        What weighing, calibrating and writing took the last time.
    weighing_seconds, writing_seconds : float
        The parts of it.
    calibrate, stacking : bool
        Whether a temperature or thresholds may follow the weights, and a regression take their place.
    workers : int
        Fits side by side.
    again : Again
        How the members are fitted once more at the end.
    patience : Patience
        In a timed run it is told when the model gains, and the model is weighed once more before it ends the search.
    costs : Costs or None
        Of the members, where there are limits on the model.
    small : Small or None
        The members under these limits, once they were weighed.
    """

    path: Path
    manifest: Mapping[str, Any]
    cache: OofCache
    deadline: Deadline
    trials: list[Trial] = field(default_factory=list)
    chosen: Chosen | None = None
    saving_seconds: float = 0.0
    weighing_seconds: float = 0.0
    writing_seconds: float = 0.0
    saved_at: float | None = None
    weighed: int = 0
    n_trials: int = 0
    calibrate: bool = True
    stacking: bool = True
    workers: int = 1
    again: Again = field(default_factory=lambda: other_folds(0))
    patience: Patience = field(default_factory=Patience)
    costs: Costs | None = None
    small: Small | None = None

    def limit(self, ceiling: Ceiling) -> None:
        """Hold the model under limits from now on; further models, which would make it larger, are left out."""
        text = json.dumps(dict(self.manifest)).encode("utf-8", "surrogatepass")
        base = Cost(len(zlib.compress(text, 1)) + BOARD_BYTES + self.later_bytes(ceiling))
        costs = Costs(self.cache, ceiling, base)
        self.costs, self.cache, self.again = costs, replace(self.cache, fits=costs.fits), other_folds(0)

    def later_bytes(self, ceiling: Ceiling) -> int:
        """Return what the last file has that those before it lack: a summary, and what is attached to it."""
        if ceiling.n_bytes is None:
            return SUMMARY_BYTES
        frame = self.cache.data.frame
        attached = 8 * frame.n_rows + (min(frame.n_rows, 2_000) + 800) * len(frame.schema.names)
        if self.cache.data.n_outputs > 1:  # what it said of some rows
            attached += min(frame.n_rows, 2_000) * (8 + 4 * self.cache.data.n_outputs)
        return SUMMARY_BYTES + min(attached, int(ATTACHED_SHARE * ceiling.n_bytes))

    def add(self, trial: Trial, *, stopped: bool = False) -> None:
        """Take in a trial; one that was stopped with the search counts only if it has finished folds."""
        if not stopped or isinstance(trial, Success):
            self.trials.append(trial)
        self.n_trials += not stopped

    def ending_seconds(self, *, unweighed: bool = True) -> float:
        """Return what weighing, refitting and saving will take once the search ends; see `write_seconds`."""
        again = max(self.refit_seconds(unweighed=unweighed), self.repeat_seconds())
        if self.chosen is None:
            return self.saving_seconds + again
        return 2.0 * self.weighing_seconds + 1.25 * self.write_seconds(unweighed=unweighed) + again

    def refit_seconds(self, *, unweighed: bool = False) -> float:
        """Return what fitting on all rows will take: all members under a time order, single models under limits."""
        most, n_rows = REFIT_SHARE * self.deadline.total, self.cache.data.n_rows
        if self.small is not None:
            members = [trial for trial, _ in self.small.chosen.members]
            singles = [trial for trial in members if trial.proposal.number in self.small.singles]
            # one after another: once they are measured, others may be chosen that have to be fitted as well
            return min(most, sum(refit_seconds(trial, n_rows) for trial in singles)) + MEASURING_SECONDS
        if not self.cache.data.plan.refit:
            return 0.0
        if self.chosen is None:
            return most
        refitted = [trial for trial, _ in sorted(self.chosen.members, key=lambda member: -abs(member[1]))]
        if unweighed:
            refitted += sorted(self._since(), key=lambda trial: refit_seconds(trial, n_rows))[-self.workers :]
        return min(most, refits_seconds(refitted, n_rows, workers=self.workers))

    def _since(self) -> list[Success]:
        """Return the complete trials that ended since the model was weighed: any of them may become a member."""
        return [trial for trial in self.trials[self.weighed :] if isinstance(trial, Success) and trial.complete]

    def repeat_seconds(self) -> float:
        """Return what fitting the members once more will take at the end."""
        if self.chosen is None or not (self.again.n and self.deadline.limited):
            return 0.0
        if self.again.taught:
            complete = [trial for trial in self.trials if isinstance(trial, Success) and trial.complete]
            return pupils_seconds(complete, self.again, limit=self.deadline.total, workers=self.workers)
        return repeat_seconds(self.chosen, self.again, limit=self.deadline.total, workers=self.workers)

    def write_seconds(self, *, unweighed: bool = False) -> float:
        """Return what writing the members will take: they may be larger than those that were written the last time.

        Parameters
        ----------
        unweighed : bool
            Whether the largest of the trials that ended since may become a member too.
        """
        if self.chosen is None:
            return self.writing_seconds
        n_bytes = sum(self.cache.model_bytes(trial) for trial, _ in self.chosen.members)
        if self.small is not None:
            return max(self.writing_seconds, 2 * n_bytes / packed_per_second())  # once to measure it
        if unweighed:
            sizes = [self.cache.model_bytes(trial) for trial in self._since()]
            n_bytes += max((size for size in sizes if size <= MOST_MODEL_BYTES), default=0)
        more = 1.0 if self.repeat_seconds() == 0.0 else 1.0 + self.again.n / len(self.cache.data.folds)
        return more * max(self.writing_seconds, n_bytes / packed_per_second())

    def weigh(self) -> Chosen | None:
        """Choose and weigh the members among all trials so far, in number order."""
        if self.weighed < len(self.trials):
            self.choose()
            self.weighed = len(self.trials)
            self.cache.prune(self._in_order())
        return self.chosen

    def choose(self) -> None:
        """Choose the members; under limits by what is known of their costs."""
        # Beside busy workers a second thread of the linear algebra mostly spins, and takes their cores.
        with threadpool_limits(1):
            if self.costs is None:
                self.chosen = self.without_limits()
                return
            self.small = choose_small(self._in_order(), self.costs, calibrate=self.calibrate, stacking=self.stacking)
        self.chosen = None if self.small is None else self.small.chosen

    def without_limits(self) -> Chosen | None:
        """Return what the model would be if it might be as large and slow as it likes."""
        return choose_members(self._in_order(), self.cache, calibrate=self.calibrate, stacking=self.stacking)

    def _in_order(self) -> list[Trial]:
        return sorted(self.trials, key=lambda trial: trial.proposal.number)

    def settle(self) -> Chosen | None:
        """Weigh for the last time; dear members that gain next to nothing are left out where there is time to ask."""
        chosen = self.weigh()
        if chosen is None or self.costs is not None:
            return chosen
        left = self.deadline.seconds_left() - reserve_seconds(self.deadline.total, self.write_seconds())
        if self.deadline.limited and left < 0.5 * self.weighing_seconds:
            return chosen
        # Where trials are counted nothing may depend on what they took: bytes say about how much there is to walk.
        timed = self.deadline.limited and all(trial.row_seconds is not None for trial, _ in chosen.members)

        def price(trial: Success) -> float:
            seconds = sum(trial.row_seconds or ()) * len(trial.losses)
            return seconds if timed else float(self.cache.model_bytes(trial))

        with threadpool_limits(1):
            self.chosen = trimmed(chosen, self.cache, price, calibrate=self.calibrate, stacking=self.stacking)
        return self.chosen

    def due(self) -> bool:
        """Whether the model in the run's folder should be refreshed now."""
        decides = self.patience.out and self.deadline.limited  # whether the search goes on
        if not (decides or isinstance(self.trials[-1], Success)):
            return False
        if self.saved_at is None:
            return True
        now, pause = self.deadline.clock(), max(2.0, self.saving_seconds / REFRESH_SHARE)
        # once in the last part of the time, so that what the ending takes is known: any trial may have become a member
        last = self.deadline.at - LAST_SHARE * self.deadline.total if self.deadline.limited else math.inf
        if not (decides or now - self.saved_at > pause or self.saved_at < last <= now):
            return False
        if not self.deadline.limited:
            return True
        # one that began shortly before the end would take from the reserve, and the last save follows anyway
        left = self.deadline.seconds_left()
        ending = self.ending_seconds(unweighed=False)  # what it may be too high by is what weighing will tell
        return left - reserve_seconds(self.deadline.total, ending) > 3 * self.saving_seconds

    def refresh(self) -> bool:
        """Weigh again and replace the model in the run's folder; False where nothing changed."""
        began = self.deadline.clock()
        before = self.chosen
        now = self.weigh()
        weighed_at = self.deadline.clock()
        self.weighing_seconds = max(0.5 * self.weighing_seconds, weighed_at - began)
        changed = now is not None and now != before
        if now is not None and changed:
            try:
                self.write(self.path, {}, compress=False)  # it will be replaced
            except AutomlError:  # the disk of the run's folder is full, say: the search goes on, --out may be elsewhere
                logger.warning("the model so far could not be written", exc_info=True)
            self.writing_seconds = max(0.5 * self.writing_seconds, self.deadline.clock() - weighed_at)
        self.saved_at = self.deadline.clock()
        self.saving_seconds = max(0.5 * self.saving_seconds, self.saved_at - began)
        if now is not None and self.deadline.limited:  # a counted run must not depend on when it was refreshed
            self.patience.hear_model(now.mean_loss)
        return changed

    def write(
        self,
        path: Path,
        more: Mapping[str, Any],
        fitted: Mapping[int, tuple[Path, ...]] | None = None,
        *,
        attached: Mapping[str, Attachment] = NOTHING,
        compress: bool = True,
        signer: Signer | None = None,
        most_bytes: int | None = None,
    ) -> None:
        """Write the current members as a model file.

        Parameters
        ----------
        fitted : mapping of trial number to folders with encoder and model, or None
            Stand in for the fold models of these members; None: nothing, or under limits the best of them.
        attached, signer, most_bytes
            See `write_artifact`.
        """
        if self.chosen is None:
            raise ValueError("no members to write")
        if fitted is None and self.small is not None and self.costs is not None:
            fitted = {number: (folder,) for number, folder in self.costs.single_folders(self.small).items()}
        members = artifact_members(self.cache.run_folder, self.chosen, fitted or {})
        data = {
            **self.manifest,
            "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "loss": self.chosen.loss,
            "decision": self.chosen.decision.to_json(),
            "mixing": self.chosen.mixing.to_json(),
            "ensemble": ensemble_gain(self.chosen),
            "leaderboard": leaderboard(self.trials, self.cache.data),
            **more,
        }
        write_artifact(path, data, members, attached=attached, compress=compress, signer=signer, most_bytes=most_bytes)
