"""One finished run is one line of a JSONL file, on disk before the next begins."""

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from automl_cli.errors import BadData

Key = tuple[str, str, float, int]


@dataclass(frozen=True)
class Row:
    """What one system did on one dataset at one limit with one seed.

    Attributes
    ----------
    error : float or None
        1 - ROC AUC, log loss or root mean squared error on the test rows; None: it failed.
    failure : str or None
        Why it failed.
    guess : float
        The error of a guess that ignores all columns; what a failure counts as.
    fit_s : float or None
        The call that fits and saves: what a system's own limit is about. Of automl it is the whole command.
    model_s : float or None
        From the start of the process to a saved model.
    wall_s : float
        The whole process, predictions included.
    n_train, n_columns : int
        Size of the training table, the target included.
    position : int
        Which in the turn of systems on this dataset it was, from 0.
    load : float
        Of the machine in the minute before.
    n_left : int
        Processes that it left behind.
    source : str
        Digest of the code or the requirements that the system is.
    commit : str
        Of the checkout, for automl; "-dirty" behind it: with changes that were not committed.
    details : mapping
        What the system itself reports: versions, trials, phases.
    """

    system: str
    dataset: str
    task: str
    metric: str
    limit_s: float
    seed: int
    error: float | None
    failure: str | None
    guess: float
    fit_s: float | None
    model_s: float | None
    predict_s: float | None
    wall_s: float
    peak_bytes: int
    n_train: int = 0
    n_columns: int = 0
    cores: int = 0
    position: int = 0
    begun: str = ""
    load: float = 0.0
    n_left: int = 0
    source: str = ""
    commit: str = ""
    machine: str = ""
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> Key:
        """Return what is run once: system, dataset, limit, seed."""
        return self.system, self.dataset, self.limit_s, self.seed


def read_rows(paths: Iterable[Path]) -> list[Row]:
    """Read the finished runs of files; one that is not there has none, and a last line cut by a kill is none."""
    rows = []
    for path in paths:
        for number, line in enumerate(whole_lines(path), start=1):
            try:
                rows.append(Row(**json.loads(line)))
            except (ValueError, TypeError) as error:
                raise BadData(
                    f"{path}, line {number} is no run: {error}", hint="name a file that `run` wrote"
                ) from error
    return rows


def whole_lines(path: Path) -> list[bytes]:
    """Return the lines of a file that were written to their end; none where it is not there."""
    return path.read_bytes().split(b"\n")[:-1] if path.exists() else []


def append_row(path: Path, row: Row) -> None:
    """Add one finished run."""
    append_line(path, asdict(row))


def append_line(path: Path, values: Mapping[str, Any]) -> None:
    """Add one line and wait until it is on disk; a cut last line is dropped first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    whole = sum(len(line) + 1 for line in whole_lines(path))
    with path.open("ab") as file:
        file.truncate(whole)
        file.write(json.dumps(values).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())
