"""What the search speaks about: a pipeline is proposed, and its trial succeeds or fails."""

import json
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO

logger = logging.getLogger(__name__)
Value = float | int | str | bool


@dataclass(frozen=True)
class Pipeline:
    """An encoding, a family and its hyperparameters: everything that decides how a table becomes a model.

    Two pipelines are equal when their canonical text is.
    """

    family: str
    encoding: str
    hyperparameters: Mapping[str, Value]

    def __post_init__(self) -> None:
        object.__setattr__(self, "hyperparameters", MappingProxyType(dict(sorted(self.hyperparameters.items()))))

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:
        """Kept, since the text must be written out for it, and a look-up of past runs asks for it over and over."""
        return hash(self.key())

    def __reduce__(self) -> tuple[Any, ...]:
        return Pipeline, (self.family, self.encoding, dict(self.hyperparameters))

    def key(self) -> str:
        """Return the canonical text of the pipeline, the same in every process.

        >>> Pipeline("linear", "one_hot", {"C": 1.0}).key()
        '{"encoding": "one_hot", "family": "linear", "hyperparameters": {"C": 1.0}}'
        """
        return json.dumps(self.to_json(), sort_keys=True)

    def to_json(self) -> dict[str, Any]:
        """Return the pipeline as JSON values."""
        return {"family": self.family, "encoding": self.encoding, "hyperparameters": dict(self.hyperparameters)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Pipeline":
        """Read what `to_json` wrote; raises KeyError, TypeError or ValueError where it is anything else."""
        family, encoding, hyperparameters = data["family"], data["encoding"], data["hyperparameters"]
        plain = isinstance(hyperparameters, dict) and all(isinstance(v, Value) for v in hyperparameters.values())
        if not (isinstance(family, str) and isinstance(encoding, str) and plain):
            raise ValueError("a pipeline is not described as it must be")
        return cls(family, encoding, hyperparameters)


@dataclass(frozen=True)
class Proposal:
    """A pipeline that is to be tried.

    Attributes
    ----------
    number : int
        Counted from 0 within the run; names the trial's folder.
    origin : str
        Who proposed it: ``portfolio``, ``winner`` and ``recalled`` (of past runs), ``smac``, ``random``, ``again``
        (more time for one that was cut short).
    seed : int
        The trial's own chance, a function of the run's seed and the number alone.
    incumbent : tuple of float
        Losses per fold of the best complete trial known when this one was proposed: what it is raced against.
        Empty: never stopped early.
    leader : tuple of float
        The same of the best complete trial of its family. Where it is better than that so far it goes on, though it
        loses the race: it would be the best of its kind, and members of other kinds err differently.
    seconds : float or None
        Limit of the whole trial; None where trials are counted and nothing may depend on a clock.
    """

    number: int
    pipeline: Pipeline
    origin: str
    seed: int
    threads: int
    incumbent: tuple[float, ...] = ()
    seconds: float | None = None
    leader: tuple[float, ...] = ()


@dataclass(frozen=True)
class Success:
    """A trial with at least one finished fold.

    Attributes
    ----------
    losses : tuple of float
        One per finished fold, in fold order.
    complete : bool
        Whether every fold of the plan was finished; only then is it comparable with other trials.
    note : str
        Why it ended before the last fold, or that its fits were cut by the time limit; empty otherwise.
    cut : bool
        Whether a fit ended because its seconds were used up.
    rounds : tuple of int
        Boosting rounds kept per finished fold; 0 for families without rounds.
    given_up : bool
        Whether it lost the race against the incumbent; ``note`` says by how much.
    n_bytes : tuple of int
        Of what each finished fold left for a model file, before it is packed.
    row_seconds : (float, float) or None
        What encoding a row takes, and predicting it with the model of one fold: about, and rather too much.
    """

    proposal: Proposal
    losses: tuple[float, ...]
    seconds: float
    complete: bool
    note: str = ""
    cut: bool = False
    rounds: tuple[int, ...] = ()
    given_up: bool = False
    n_bytes: tuple[int, ...] = ()
    row_seconds: tuple[float, float] | None = None

    @property
    def loss(self) -> float:
        """Mean over the finished folds."""
        return sum(self.losses) / len(self.losses)


@dataclass(frozen=True)
class Failure:
    """A trial that left no usable fold."""

    proposal: Proposal
    reason: str
    """One line: the kind of error and its message."""
    seconds: float
    trace: str = ""


Trial = Success | Failure


def trial_to_json(trial: Trial) -> dict[str, Any]:
    """Return a trial as JSON values, one line of the journal."""
    p = trial.proposal
    shared: dict[str, Any] = {
        "number": p.number,
        "pipeline": p.pipeline.to_json(),
        "origin": p.origin,
        "seed": p.seed,
        "threads": p.threads,
        "incumbent": list(p.incumbent),
        "leader": list(p.leader),
        "limit": p.seconds,
        "seconds": round(trial.seconds, 3),
    }
    if isinstance(trial, Failure):
        return {"status": "failure", **shared, "reason": trial.reason, "trace": trial.trace}
    return {
        "status": "success",
        **shared,
        "losses": list(trial.losses),
        "complete": trial.complete,
        "note": trial.note,
        "cut": trial.cut,
        "rounds": list(trial.rounds),
        "given_up": trial.given_up,
        "n_bytes": list(trial.n_bytes),
        "row_seconds": None if trial.row_seconds is None else list(trial.row_seconds),
    }


def trial_from_json(data: Mapping[str, Any]) -> Trial:
    """Read what `trial_to_json` wrote."""
    proposal = Proposal(
        number=data["number"],
        pipeline=Pipeline.from_json(data["pipeline"]),
        origin=data["origin"],
        seed=data["seed"],
        threads=data["threads"],
        incumbent=tuple(data["incumbent"]),
        leader=tuple(data.get("leader", ())),  # older journals do not say
        seconds=data["limit"],
    )
    if data["status"] == "failure":
        return Failure(proposal, data["reason"], data["seconds"], data["trace"])
    row_seconds = data.get("row_seconds")
    return Success(
        proposal=proposal,
        losses=tuple(data["losses"]),
        seconds=data["seconds"],
        complete=data["complete"],
        note=data["note"],
        cut=data["cut"],
        rounds=tuple(data["rounds"]),
        given_up=data.get("given_up", False),  # older journals do not say
        n_bytes=tuple(data.get("n_bytes", ())),
        row_seconds=None if row_seconds is None else (row_seconds[0], row_seconds[1]),
    )


def read_journal(path: Path) -> list[Trial]:
    """Read a run's journal; a last line that a kill cut short is left out.

    Returns
    -------
    list of Trial, in the order in which they ended
    """
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").split("\n")
    # Only a line that was ended by its line break was written whole.
    return [trial_from_json(json.loads(line)) for line in lines[:-1]]


def append_to_journal(path: Path, trial: Trial) -> None:
    """Add a trial to the journal and make sure that it is on disk: only then does the trial count."""
    line = (json.dumps(trial_to_json(trial)) + "\n").encode()
    with path.open("r+b" if path.exists() else "w+b") as journal:
        _cut_half_line(journal)
        journal.write(line)
        journal.flush()
        os.fsync(journal.fileno())


@dataclass
class Journal:
    """Where a search writes its trials down as they end.

    Attributes
    ----------
    error : OSError or None
        Why no more can be written, a full disk say. What there is by then can still become a model somewhere else.
    """

    path: Path
    error: OSError | None = None

    def add(self, trial: Trial) -> None:
        """Write a trial down, unless that has failed before."""
        if self.error is not None:
            return
        try:
            append_to_journal(self.path, trial)
        except OSError as error:
            logger.warning("trial %d could not be written to %s", trial.proposal.number, self.path, exc_info=True)
            self.error = error


def _cut_half_line(journal: BinaryIO) -> None:
    """Remove what a killed writer left behind after the last line break."""
    size = journal.seek(0, os.SEEK_END)
    journal.seek(max(0, size - 65536))
    tail = journal.read()
    if tail and not tail.endswith(b"\n"):
        keep = size - len(tail) + tail.rfind(b"\n") + 1
        journal.truncate(keep)
    journal.seek(0, os.SEEK_END)
