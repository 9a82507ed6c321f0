"""What a fit found, in figures that a person can read and a program can parse."""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from automl_cli.artifact import Member
from automl_cli.clock import Clock, Deadline
from automl_cli.members import Chosen
from automl_cli.metrics import naive
from automl_cli.rundata import RunData
from automl_cli.small import Footprint
from automl_cli.table import Notice
from automl_cli.trial import Failure, Success, Trial
from automl_cli.trialfiles import fold_folders

LEADERBOARD = 50
TEXT_OF_MATTERED = 8
# Two-sided 95 % quantiles of Student's t with 1 .. 19 degrees of freedom.
STUDENT_T = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23, 2.20, 2.18, 2.16, 2.14, 2.13, 2.12, 2.11,
             2.10, 2.09)  # fmt: skip


@dataclass
class Phases:
    """Seconds spent in each phase of the run, and when what happened, from the start of the process."""

    deadline: Deadline
    seconds: dict[str, float] = field(default_factory=dict)
    milestones: dict[str, float] = field(default_factory=dict)

    def end(self, name: str) -> None:
        """Count everything since the last phase ended as ``name``."""
        self.seconds[name] = round(self.deadline.elapsed() - sum(self.seconds.values()), 3)

    def reach(self, name: str) -> None:
        """Note when something happened for the first time."""
        self.milestones.setdefault(name, round(self.deadline.elapsed(), 3))


@dataclass(frozen=True)
class Raced:
    """How many trials were given up for being worse than the incumbent, and what that left out.

    Attributes
    ----------
    n_folds : int
        Folds that were not fitted.
    seconds : float
        Of workers, as an estimate: each fold left out would have taken the mean of its own trial's finished ones.
    """

    n_trials: int
    n_folds: int
    seconds: float


def raced(trials: Sequence[Trial], n_folds: int) -> Raced:
    """Count what racing left out of trials of ``n_folds`` folds."""
    given_up = [trial for trial in trials if isinstance(trial, Success) and trial.given_up]
    left = [n_folds - len(trial.losses) for trial in given_up]
    seconds = math.fsum(t.seconds / len(t.losses) * n for t, n in zip(given_up, left, strict=True))
    return Raced(len(given_up), sum(left), round(seconds, 1))


@dataclass(frozen=True)
class EndedEarly:
    """A search that ran out of patience, or of space, before it came to its limit.

    Attributes
    ----------
    n_trials : int
        In a row, without a gain; of the whole search, where there is a ``reason``.
    seconds_left, trials_left : float or None, int or None
        Until the limit of the command and the number of trials that were asked for; None where there was none.
    reason : str
        Why it could not go on, in a few words without a path: a model file is handed on. Empty: it gained nothing more.
    """

    n_trials: int
    seconds_left: float | None
    trials_left: int | None
    reason: str = ""


@dataclass(frozen=True)
class Summary:
    """The end of a fit.

    Attributes
    ----------
    score, interval, naive : float
        In the metric's natural direction, on rows that the models had not seen; the interval is the mean over the
        folds plus and minus Student's t times its standard error, None for a single fold.
    mattered : tuple of (column, share of the total added loss)
        Of the ``n_measured`` of ``n_columns`` columns that were shuffled in the time there was.
    odd : tuple of Notice
        What was unusual in the data.
    racing : Raced
        What stopping trials early left out.
    ended_early : EndedEarly or None
        Where patience, a full disk or a lost cluster ended the search.
    overhead : mapping
        See `SearchCost.overhead`.
    experience : mapping
        See `warmstart.told`.
    footprint : Footprint or None
        How many models it is, how fast, and what it would be without limits.
    transfer : mapping
        What a source was worth, see `automl_cli.worth.transfer_report`, or whether the model is adapted to other rows,
        and why; empty where neither was asked for.
    n_bytes : int
        Of the file, once it is there.
    """

    out: Path
    metric: str
    metric_title: str
    score: float
    interval: tuple[float, float] | None
    naive: float
    n_columns: int
    n_trials: int
    members: tuple[dict[str, Any], ...]
    failures: tuple[tuple[str, int], ...]
    phases: Mapping[str, float]
    milestones: Mapping[str, float]
    seconds: float
    racing: Raced
    mattered: tuple[tuple[str, float], ...] = ()
    n_measured: int = 0
    odd: tuple[Notice, ...] = ()
    overhead: Mapping[str, float] = field(default_factory=dict)
    peak_memory_bytes: int = 0
    interrupted: bool = False
    ended_early: EndedEarly | None = None
    experience: Mapping[str, Any] = field(default_factory=dict)
    footprint: Footprint | None = None
    transfer: Mapping[str, Any] = field(default_factory=dict)
    n_bytes: int = 0

    @property
    def n_failed(self) -> int:
        """Trials that left no usable fold."""
        return sum(count for _, count in self.failures)

    def to_json(self) -> dict[str, Any]:
        """Return the summary as JSON values."""
        return {**asdict(self), "out": str(self.out), "n_failed": self.n_failed}

    def to_manifest(self) -> dict[str, Any]:
        """Return what a model file keeps of the fit."""
        return {
            "score": self.score,
            "interval": None if self.interval is None else list(self.interval),
            "naive_score": self.naive,
            "mattered": [list(item) for item in self.mattered],
            "n_measured": self.n_measured,
            "warnings": [notice.message for notice in self.odd],
            "n_trials": self.n_trials,
            "racing": asdict(self.racing),
            "ended_early": None if self.ended_early is None else asdict(self.ended_early),
            "failures": [list(item) for item in self.failures],
            "timings": dict(self.phases),
            "milestones": dict(self.milestones),
            "overhead": dict(self.overhead),
            "peak_memory_bytes": self.peak_memory_bytes,
            "experience": dict(self.experience),
            "footprint": None if self.footprint is None else self.footprint.to_json(),
            **({"transfer": dict(self.transfer)} if self.transfer else {}),
        }


@dataclass
class SearchCost:
    """What a search takes beside its trials, counted from here on.

    Attributes
    ----------
    trial_seconds : float
        That trials ran, one beside the other, summed up; whoever hears of a trial adds to it.
    """

    cores: int
    workers: int
    trial_seconds: float = 0.0
    cpu_clock: Clock = time.process_time
    _before: float = field(init=False)

    def __post_init__(self) -> None:
        self._before = self.cpu_clock()

    def overhead(self, searched: float, limit: float) -> dict[str, float]:
        """Return ``cpu_seconds`` of the main process, all its threads together, and two shares.

        ``cpu_share`` is theirs of all that the cores had in the seconds of the whole run, or of the search where there
        is no limit or it was not reached; ``idle_share`` is the part of the workers' time in which no trial ran.

        >>> times = iter([1.0, 4.0])
        >>> cost = SearchCost(cores=2, workers=2, trial_seconds=90.0, cpu_clock=lambda: next(times))
        >>> cost.overhead(searched=50.0, limit=60.0)
        {'cpu_seconds': 3.0, 'cpu_share': 0.025, 'idle_share': 0.1}
        """
        used = self.cpu_clock() - self._before
        whole = limit if math.isfinite(limit) else searched
        idle = 1.0 - self.trial_seconds / max(self.workers * searched, 1e-9)
        return {
            "cpu_seconds": round(used, 3),
            "cpu_share": round(used / max(self.cores * whole, 1e-9), 4),
            "idle_share": round(min(1.0, max(0.0, idle)), 4),
        }


def interval_of(losses: Sequence[float]) -> tuple[float, float] | None:
    """Return a 95 % interval of the mean loss over folds, None for fewer than two.

    Folds share training rows, so that the interval is somewhat too narrow (Bengio and Grandvalet, No unbiased
    estimator of the variance of k-fold cross-validation, JMLR 5, 2004).

    >>> interval_of([1.0])
    >>> low, high = interval_of([1.0, 2.0, 3.0])
    >>> round(low, 2), round(high, 2)
    (-0.48, 4.48)
    """
    k = len(losses)
    if k < 2:
        return None
    mean = float(np.mean(losses))
    margin = STUDENT_T[min(k - 2, len(STUDENT_T) - 1)] * float(np.std(losses, ddof=1)) / math.sqrt(k)
    return mean - margin, mean + margin


def natural_interval(data: RunData, losses: Sequence[float]) -> tuple[float, float] | None:
    """Return the interval in the metric's natural direction, lower end first."""
    interval = interval_of(losses)
    if interval is None:
        return None
    # Shares such as an AUC end at 0 and 1, whatever the normal approximation says.
    worst = 1.0 if data.metric.greater_is_better and data.metric.name not in ("mcc", "r2") else math.inf
    low, high = sorted(data.metric.natural(min(max(0.0, end), worst)) for end in interval)
    return low, high


def naive_loss(data: RunData) -> float:
    """Return the mean loss over folds of a model that ignores all columns."""
    losses = []
    for train, valid in data.folds:
        weight = None if data.weight is None else np.asarray(data.weight)
        seen = None if weight is None else weight[train]
        guess = naive(np.asarray(data.y)[train], seen, data.kind, data.n_outputs, len(valid), metric=data.metric)
        losses.append(data.metric.loss(np.asarray(data.y)[valid], guess, None if weight is None else weight[valid]))
    return float(np.mean(losses))


def leaderboard(trials: Sequence[Trial], data: RunData) -> list[dict[str, Any]]:
    """Return the best trials as JSON values, the best complete one first."""
    successes = [trial for trial in trials if isinstance(trial, Success)]
    ranked = sorted(successes, key=lambda t: (not t.complete, t.loss, t.proposal.number))
    return [
        {
            "number": t.proposal.number,
            **t.proposal.pipeline.to_json(),
            "origin": t.proposal.origin,
            "score": data.metric.natural(t.loss),
            "loss": t.loss,
            "folds": len(t.losses),
            "seconds": round(t.seconds, 3),
            "note": t.note,
        }
        for t in ranked[:LEADERBOARD]
    ]


def failures(trials: Sequence[Trial]) -> tuple[tuple[str, int], ...]:
    """Return the reasons of failed trials with their counts, the most frequent first."""
    counts: dict[str, int] = {}
    for trial in trials:
        if isinstance(trial, Failure):
            reason = f"{trial.proposal.pipeline.family}: {trial.reason}"
            counts[reason] = counts.get(reason, 0) + 1
    return tuple(sorted(counts.items(), key=lambda item: -item[1]))


def artifact_members(run_folder: Path, chosen: Chosen, fitted: Mapping[int, tuple[Path, ...]]) -> list[Member]:
    """Return the members as the artifact takes them: with the folders of their finished folds, or with ``fitted``."""
    return [
        Member(
            number=trial.proposal.number,
            pipeline=trial.proposal.pipeline,
            weight=weight,
            loss=trial.loss,
            folds=fitted.get(trial.proposal.number) or fold_folders(run_folder, trial),
        )
        for trial, weight in chosen.members
    ]


def member_rows(chosen: Chosen, data: RunData) -> tuple[dict[str, Any], ...]:
    """Return the members as JSON values, the heaviest first.

    ``share`` is a weight's part of all, signs apart: those of stacking may be negative.
    """
    ranked = sorted(chosen.members, key=lambda member: -abs(member[1]))
    total = sum(abs(weight) for _, weight in ranked)
    return tuple(
        {
            "number": trial.proposal.number,
            "family": trial.proposal.pipeline.family,
            "weight": round(weight, 4),
            "share": round(abs(weight) / total, 4),
            "score": data.metric.natural(trial.loss),
        }
        for trial, weight in ranked
    )


def ensemble_gain(chosen: Chosen) -> dict[str, float] | None:
    """Return what the ensemble gains over the best member alone, in units of the loss, as JSON values."""
    if chosen.gain is None or not math.isfinite(chosen.gain.in_sample + chosen.gain.cross_fitted):
        return None
    return {"in_sample_gain": chosen.gain.in_sample, "cross_fitted_gain": chosen.gain.cross_fitted}


def shares(added: Sequence[tuple[str, float]]) -> tuple[tuple[str, float], ...]:
    """Turn added losses into shares of their sum; columns that do not help are left out.

    >>> shares([("a", 3.0), ("b", 1.0), ("c", -0.5)])
    (('a', 0.75), ('b', 0.25))
    """
    useful = [(name, loss) for name, loss in added if loss > 0]
    total = sum(loss for _, loss in useful)
    return tuple((name, round(loss / total, 4)) for name, loss in useful[:TEXT_OF_MATTERED])
