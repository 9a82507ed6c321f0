"""What a user can say about a fit."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from shlex import quote
from typing import Any

from automl_cli.errors import UsageError
from automl_cli.parts import Part
from automl_cli.table import Kind, Table
from automl_cli.table.fitting import near_names
from automl_cli.task import TaskKind

PLACES = ("out", "run_dir", "sign_key", "require_signature")
"""Options that are paths."""
NO_NETWORKS = "off"


@dataclass(frozen=True)
class FitOptions:
    """What a user can say about a fit; None means: decide from the data.

    Attributes
    ----------
    data : str
        A path, or ``-`` for standard input.
    seconds : float or None
        Limit of the whole command, counted from the start of its process.
    n_trials : int or None
        With a number and without ``seconds`` the result is reproducible.
    patience : int or None
        Trials in a row without a gain after which the search ends.
    workers : int or None
        Trials side by side.
    memory_bytes : int or None
        Limit of the whole process tree.
    include, exclude : tuple of str
        Names of families.
    run_dir : Path or None
        Kept after the run where it is named.
    dask : str or None
        Address of a scheduler.
    without : frozenset of Part
        What is left out of the search, to see what it is worth.
    experience : str or None
        Where past runs are remembered: a path, an SQLAlchemy URL or ``off``; None: the user's own store.
    wait : float
        Seconds to wait where another run holds the output.
    keep : int or None
        How many replaced models stay, where ``out`` is a champion that only a better model may replace; else None.
    stands_for : Path or None
        The model whose place the result may take; then ``out`` is a place that only this process knows.
    sign_key : Path or None
        The private key that signs the model.
    require_signature : Path or None
        Public keys of which one must have signed the champion.
    max_bytes, max_row_seconds : int or None, float or None
        What the model's file may hold, and what predicting a row with it may take.
    compact : bool
        Whether the model is one fitted model.
    nas : str
        How networks are searched, one of `automl_cli.nas.STRATEGIES` or `NO_NETWORKS`; empty: where the time is enough
        and the extra is installed, a bandit shares it among strategies.
    adapt_to : str or None
        A table without labels that the model is for, as `data`.
    source : tuple of str
        Other tables with the same target, or a model of one: they are learned from where that helps, and nothing is
        judged on them.
    unlabeled : tuple of str
        Tables whose target nobody knows.
    """

    data: str
    target: str
    out: Path
    seconds: float | None = None
    n_trials: int | None = None
    patience: int | None = None
    task: TaskKind | None = None
    metric: str | None = None
    positive: str | None = None
    seed: int = 0
    workers: int | None = None
    memory_bytes: int | None = None
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    folds: int | None = None
    kinds: Mapping[str, Kind] = field(default_factory=dict)
    ignore: tuple[str, ...] = ()
    weight_column: str | None = None
    group_column: str | None = None
    time_column: str | None = None
    run_dir: Path | None = None
    resume: bool = False
    dask: str | None = None
    without: frozenset[Part] = frozenset()
    experience: str | None = None
    wait: float = 0.0
    keep: int | None = None
    stands_for: Path | None = None
    sign_key: Path | None = None
    require_signature: Path | None = None
    max_bytes: int | None = None
    max_row_seconds: float | None = None
    compact: bool = False
    nas: str = ""
    source: tuple[str, ...] = ()
    adapt_to: str | None = None
    unlabeled: tuple[str, ...] = ()

    @property
    def roles(self) -> tuple[str, ...]:
        """Columns that are no features: the target, weights and groups."""
        return tuple(name for name in (self.target, self.weight_column, self.group_column) if name is not None)

    def check_roles(self) -> None:
        """Refuse a column that is given two roles, or one and is ignored.

        Raises
        ------
        UsageError
        """
        for option, name in self._role_options():
            if name == self.target:
                raise UsageError(f"{option} {name!r} is the target", hint="name another column")
            if name in self.ignore:
                raise UsageError(f"{option} {name!r} is ignored as well", hint=f"leave out --ignore {quote(name)}")
        names = [name for _, name in self._role_options()]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise UsageError(f"column {twice!r} is given two roles", hint="name another column for one of them")

    def check_adaptable(self) -> None:
        """Refuse options that do not go with rows without labels.

        Raises
        ------
        UsageError
        """
        if self.adapt_to is None:
            return
        if self.source:
            raise UsageError("--adapt-to and --source are two ways of transfer", hint="give one of them")
        if self.keep is not None:
            raise UsageError("--champion judges on rows of the data, --adapt-to asks for others", hint="give one")
        if self.dask is not None:
            raise UsageError("--adapt-to needs the machine that the command runs on", hint="leave --dask out")

    def check_cluster(self) -> None:
        """Refuse what a cluster cannot do.

        Raises
        ------
        UsageError
        """
        if self.dask is None:
            return
        if self.run_dir is None:
            raise UsageError("--dask needs a --run-dir that all machines see", hint="name a folder on a shared disk")
        if self.memory_bytes is not None:
            raise UsageError("--memory limits no cluster", hint="leave it out, and limit Dask's workers at their start")

    @property
    def networks_wanted(self) -> bool:
        """Whether networks are to be searched whatever the time."""
        return self.nas not in ("", NO_NETWORKS)

    def check_present(self, table: Table) -> None:
        """Refuse a role of a column that is not in the table.

        Raises
        ------
        UsageError
            With the nearest names.
        """
        for option, name in self._role_options():
            if name not in table.schema:
                problem = f"{table.source} has no column {name!r} for {option}"
                raise UsageError(problem, hint=near_names(name, table.schema.names))

    def _role_options(self) -> list[tuple[str, str]]:
        """Return (option, column) of the columns with a role beside the target."""
        columns = {
            "--weight-column": self.weight_column,
            "--group-column": self.group_column,
            "--time-column": self.time_column,
        }
        return [(option, name) for option, name in columns.items() if name is not None]

    def identity(self) -> dict[str, str]:
        """Return what makes two fits the same job."""
        return {"data": _whole(self.data), "target": self.target, "out": str((self.stands_for or self.out).resolve())}

    def to_json(self) -> dict[str, Any]:
        """Return the options as JSON values, with whole paths, so that another process can go on with them."""
        data = {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "stands_for"}
        for name in PLACES:
            data[name] = None if data[name] is None else str(data[name].resolve())
        data["data"] = _whole(self.data)
        data["adapt_to"] = None if self.adapt_to is None else _whole(self.adapt_to)
        for name in ("source", "unlabeled"):
            data[name] = [_whole(path) for path in getattr(self, name)]
        if self.experience not in (None, "off") and "://" not in str(self.experience):
            data["experience"] = str(Path(str(self.experience)).resolve())
        if self.stands_for is not None:
            data["out"] = str(self.stands_for.resolve())
        return {**data, "kinds": dict(self.kinds), "without": sorted(self.without)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "FitOptions":
        """Read what `to_json` gave; what other versions knew as well is passed over."""
        known = {name: value for name, value in data.items() if name in cls.__dataclass_fields__}
        for name in PLACES:
            known[name] = None if known.get(name) is None else Path(known[name])
        for name in ("include", "exclude", "ignore", "source", "unlabeled"):
            known[name] = tuple(known.get(name) or ())
        task = known.get("task")
        kinds = {name: Kind(kind) for name, kind in (known.get("kinds") or {}).items()}
        without = frozenset(Part(name) for name in known.get("without") or ())
        return cls(**{**known, "task": None if task is None else TaskKind(task), "kinds": kinds, "without": without})

    def settings(self) -> dict[str, str]:
        """Return what must be the same for a run to be resumed.

        Not what only says when it ends, the number of trials and patience: more may be asked of a run than at first.
        Nor the limits on the model: trials are what they are, and another model may be made of them.
        """
        names = ("task", "metric", "positive", "seed", "include", "exclude", "folds", "ignore")
        roles = ("weight_column", "group_column", "time_column")
        chosen = {name: str(getattr(self, name)) for name in (*names, *roles)}
        without = ", ".join(sorted(self.without))
        kinds = str(sorted(self.kinds.items()))
        networks = {"nas": self.nas} if self.nas else {}
        tables = {name: getattr(self, name) for name in ("source", "unlabeled") if getattr(self, name)}
        others = {name: ", ".join(map(_whole, paths)) for name, paths in tables.items()}
        if self.adapt_to is not None:
            others["adapt_to"] = _whole(self.adapt_to)
        return {
            **others,
            **chosen,
            "kinds": kinds,
            "timed": str(self.seconds is not None),
            "without": without,
            **networks,
        }


def _whole(path: str) -> str:
    """Return a path that means the same in every folder; ``-`` is standard input."""
    return path if path == "-" else str(Path(path).resolve())
