"""What happens in a fit, as whoever shows it is told."""

from dataclasses import dataclass
from pathlib import Path

from automl_cli.experience.records import Recalled
from automl_cli.job import Job
from automl_cli.members import Chosen
from automl_cli.search import Happening
from automl_cli.summary import Summary


@dataclass(frozen=True)
class Prepared:
    """The data is read and the plan is made; the search begins.

    Attributes
    ----------
    interrupted : Path or None
        The folder of an earlier run of the same job that was killed.
    """

    job: Job
    interrupted: Path | None


@dataclass(frozen=True)
class Improved:
    """The model in the run's folder was replaced by a better one."""

    chosen: Chosen


@dataclass(frozen=True)
class Entered:
    """A phase of the fit began: ``reading``, ``searching``, ``weighing``, ``saving``."""

    phase: str


@dataclass(frozen=True)
class Remembered:
    """Past runs were looked up.

    Attributes
    ----------
    recalled : Recalled
        What is tried because of them; nothing where nothing is known.
    """

    recalled: Recalled


Event = Entered | Prepared | Happening | Improved | Remembered | Summary
