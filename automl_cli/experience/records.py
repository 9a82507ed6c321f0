"""What is remembered of a run: numbers of its table, its trials, and nothing that the table says."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

from automl_cli.errors import BadData
from automl_cli.metrics import METRICS, TaskKind
from automl_cli.trial import Pipeline, Success, Trial

DIGEST_BYTES = 12
LARGEST = 3e38  # a figure that is kept: the store holds them in four bytes each
MOST_TRIALS = 10_000  # of one run; later ones of a longer run are as good as these
FORMAT = "automl-experience"
FORMAT_VERSION = 1


@dataclass(frozen=True)
class Dataset:
    """A table and its target, in numbers.

    Attributes
    ----------
    fingerprint : str
        Digest of the table's content.
    name : str
        How the user calls it: the file's name without its endings.
    features : mapping of str to float
        Meta-features by name, finite ones.
    target, columns : str, tuple of str
        Salted digests of the target's name and of each column's name and kind. In what comes from elsewhere there are
        none, and of a table's second target its number.
    former : tuple of str
        Digests of the columns as older versions of the program made them, to find what those have left; not kept.
    """

    fingerprint: str
    name: str
    kind: TaskKind
    n_rows: int
    n_columns: int
    n_classes: int
    features: Mapping[str, float]
    target: str = ""
    columns: tuple[str, ...] = ()
    former: tuple[str, ...] = field(default=(), compare=False)

    @property
    def uid(self) -> str:
        """One for each content, target and kind of task."""
        return _digest("\n".join((self.fingerprint, self.target, str(self.kind))))


@dataclass(frozen=True)
class Evaluation:
    """One trial of a run.

    Attributes
    ----------
    loss : float or None
        Mean over the finished folds; None for a failure.
    fidelity : float
        Share of the folds that were finished.
    cut : bool
        Whether a fit ended because its time was over.
    given_up : bool
        Whether it lost the race.
    """

    pipeline: Pipeline
    loss: float | None
    losses: tuple[float, ...]
    seconds: float
    fidelity: float
    cut: bool
    given_up: bool
    origin: str

    @property
    def complete(self) -> bool:
        """Whether all folds were finished, so that the loss compares with others."""
        return self.loss is not None and self.fidelity >= 1.0


@dataclass(frozen=True)
class RunRecord:
    """One run on one dataset.

    Attributes
    ----------
    uid : str
        Chosen at random: a run that is written twice counts once.
    plan : str
        How it was validated, in words; losses are comparable within a run.
    origin : str
        ``fit``, ``build`` or ``import``.
    began : float
        Seconds since 1970.
    limit : float or None
        The time limit it had.
    loss : float or None
        Of the ensemble.
    members : tuple of Pipeline
        Of the final model, the heaviest first.
    """

    uid: str
    dataset: Dataset
    metric: str
    plan: str
    n_folds: int
    origin: str
    began: float
    seconds: float
    limit: float | None
    loss: float | None
    versions: Mapping[str, str] = field(default_factory=dict)
    members: tuple[Pipeline, ...] = ()
    evaluations: tuple[Evaluation, ...] = ()


@dataclass(frozen=True)
class Neighbour:
    """A past dataset that was asked.

    Attributes
    ----------
    distance : float
        In interquartile ranges of a meta-feature, on average.
    own : bool
        Whether the user's own runs measured it.
    """

    name: str
    distance: float
    own: bool
    n_evaluations: int


@dataclass(frozen=True)
class Recalled:
    """What to try first, and why.

    Attributes
    ----------
    winners : tuple of Pipeline
        Of earlier runs on the same table, the heaviest member first.
    pipelines : tuple of Pipeline
        What served the neighbours as it suits this dataset, in the order in which it complements itself.
    gains : tuple of float
        How much of the neighbours' regret each of them takes away.
    same_table_runs : int
        Earlier runs on a table of the same columns and target.
    poor : tuple of Pipeline
        What was no better than the reference on the same table by the same metric: not worth another trial.
    problems : tuple of str
        One line for each store that could not be asked; what is here comes from the other one.
    """

    winners: tuple[Pipeline, ...] = ()
    pipelines: tuple[Pipeline, ...] = ()
    gains: tuple[float, ...] = ()
    neighbours: tuple[Neighbour, ...] = ()
    same_table_runs: int = 0
    poor: tuple[Pipeline, ...] = ()
    problems: tuple[str, ...] = ()


def evaluation_of(trial: Trial, n_folds: int) -> Evaluation:
    """Turn a trial into what is remembered of it; an error's message may quote the table, and stays here.

    A loss that is no number, or too large to be kept as one, is remembered as a failure.
    """
    p = trial.proposal
    if not isinstance(trial, Success) or not all(map(is_kept, trial.losses)):
        return Evaluation(p.pipeline, None, (), trial.seconds, 0.0, cut=False, given_up=False, origin=p.origin)
    return Evaluation(
        pipeline=p.pipeline,
        loss=trial.loss,
        losses=trial.losses,
        seconds=trial.seconds,
        fidelity=1.0 if trial.complete else len(trial.losses) / n_folds,
        cut=trial.cut,
        given_up=trial.given_up,
        origin=p.origin,
    )


def is_kept(value: float) -> bool:
    """Whether a figure is one that a store can hold."""
    return abs(value) <= LARGEST  # what is not a number is not


def salted(text: str, salt: bytes) -> str:
    """Return a digest that says nothing of ``text`` to whoever lacks the salt."""
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=DIGEST_BYTES, key=salt).hexdigest()


def _digest(text: str) -> str:
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=DIGEST_BYTES).hexdigest()


def pipeline_uid(pipeline: Pipeline) -> str:
    """Return a short name of a pipeline, the same in every store."""
    return _digest(pipeline.key())


def to_json(run: RunRecord, *, named: bool = True) -> dict[str, Any]:
    """Return a run as JSON values.

    Parameters
    ----------
    named : bool
        Whether the table's name is in it; without that and without digests it may leave the house.
    """
    dataset = run.dataset
    return {
        "uid": run.uid,
        "dataset": {
            "fingerprint": dataset.fingerprint,
            "name": dataset.name if named else f"table-{dataset.fingerprint[:8]}",
            "kind": str(dataset.kind),
            "n_rows": dataset.n_rows,
            "n_columns": dataset.n_columns,
            "n_classes": dataset.n_classes,
            "features": dict(dataset.features),
            "target": dataset.target,
            "columns": list(dataset.columns),
        },
        "metric": run.metric,
        "plan": run.plan,
        "n_folds": run.n_folds,
        "origin": run.origin,
        "began": run.began,
        "seconds": run.seconds,
        "limit": run.limit,
        "loss": run.loss,
        "versions": dict(run.versions),
        "members": [pipeline.to_json() for pipeline in run.members],
        "evaluations": [
            {
                "pipeline": e.pipeline.to_json(),
                "losses": list(e.losses),
                "failed": e.loss is None,
                "seconds": round(e.seconds, 3),
                "fidelity": e.fidelity,
                "cut": e.cut,
                "given_up": e.given_up,
                "origin": e.origin,
            }
            for e in run.evaluations
        ],
    }


def from_json(data: Any) -> RunRecord:
    """Read what `to_json` wrote, believing nothing.

    Raises
    ------
    BadData
        It is anything else; says which part.
    """
    reader = _Reader(data, "")
    dataset = reader.inside("dataset")
    return RunRecord(
        uid=reader.text("uid", 64),
        dataset=Dataset(
            fingerprint=dataset.text("fingerprint", 128),
            name=dataset.text("name", 200),
            kind=TaskKind(dataset.one_of("kind", [str(kind) for kind in TaskKind])),
            n_rows=dataset.count("n_rows"),
            n_columns=dataset.count("n_columns"),
            n_classes=dataset.count("n_classes"),
            features=dataset.numbers("features"),
            target=dataset.text("target", 64),
            columns=dataset.texts("columns", 64),
        ),
        metric=reader.one_of("metric", list(METRICS)),
        plan=reader.text("plan", 500),
        n_folds=reader.count("n_folds"),
        origin=reader.text("origin", 20),
        began=reader.moment("began"),
        seconds=reader.number("seconds"),
        limit=reader.number_or_none("limit"),
        loss=reader.number_or_none("loss"),
        versions={key: str(value)[:50] for key, value in reader.mapping("versions").items()},
        members=tuple(_pipeline(item) for item in reader.items("members")),
        evaluations=tuple(_evaluation(item) for item in reader.items("evaluations")),
    )


def _evaluation(item: "_Reader") -> Evaluation:
    losses = tuple(item.number_list("losses"))
    failed = item.flag("failed") or not losses
    return Evaluation(
        pipeline=_pipeline(item.inside("pipeline")),
        loss=None if failed else sum(losses) / len(losses),
        losses=losses,
        seconds=item.number("seconds"),
        fidelity=min(max(item.number("fidelity"), 0.0), 1.0),
        cut=item.flag("cut"),
        given_up=item.flag("given_up"),
        origin=item.text("origin", 20),
    )


def _pipeline(item: "_Reader") -> Pipeline:
    values = item.mapping("hyperparameters")
    for name, value in values.items():
        if not isinstance(value, int | float | str | bool) or (isinstance(value, float) and not math.isfinite(value)):
            raise item.wrong(f"hyperparameters.{name}")
    return Pipeline(item.text("family", 50), item.text("encoding", 50), values)


@dataclass(frozen=True)
class _Reader:
    """A JSON object whose parts are taken out by name and type."""

    data: Any
    path: str

    def wrong(self, name: str) -> BadData:
        """Return the error that says where."""
        return BadData(f"{self.path}{name} is missing or not what it should be", hint="is it an export of automl?")

    def _get(self, name: str, *kinds: type) -> Any:
        value = self.data.get(name) if isinstance(self.data, dict) else None
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            raise self.wrong(name)
        return value

    def inside(self, name: str) -> "_Reader":
        return _Reader(self._get(name, dict), f"{self.path}{name}.")

    def items(self, name: str) -> list["_Reader"]:
        return [_Reader(item, f"{self.path}{name}[{i}].") for i, item in enumerate(self._get(name, list))]

    def text(self, name: str, longest: int) -> str:
        value: str = self._get(name, str)
        if len(value) > longest:
            raise self.wrong(name)
        return value

    def texts(self, name: str, longest: int) -> tuple[str, ...]:
        value = self._get(name, list)
        if any(not isinstance(item, str) or len(item) > longest for item in value):
            raise self.wrong(name)
        return tuple(value)

    def one_of(self, name: str, known: list[str]) -> str:
        value: str = self._get(name, str)
        if value not in known:
            raise self.wrong(name)
        return value

    def count(self, name: str) -> int:
        value: int = self._get(name, int)
        if not 0 <= value < 2**53:
            raise self.wrong(name)
        return value

    def number(self, name: str) -> float:
        value = float(self._get(name, int, float))
        if not math.isfinite(value):
            raise self.wrong(name)
        return value

    def moment(self, name: str) -> float:
        value = self.number(name)
        if not 0 <= value < 4e9:  # until 2096
            raise self.wrong(name)
        return value

    def number_or_none(self, name: str) -> float | None:
        return None if isinstance(self.data, dict) and self.data.get(name) is None else self.number(name)

    def number_list(self, name: str) -> list[float]:
        value = self._get(name, list)
        if any(isinstance(n, bool) or not isinstance(n, int | float) or not math.isfinite(n) for n in value):
            raise self.wrong(name)
        return [float(n) for n in value]

    def mapping(self, name: str) -> dict[str, Any]:
        value: dict[str, Any] = self._get(name, dict)
        if any(not isinstance(key, str) or len(key) > 100 for key in value):
            raise self.wrong(name)
        return value

    def numbers(self, name: str) -> dict[str, float]:
        return {key: _Reader(value, f"{self.path}{name}.")._as_number(key) for key, value in self.mapping(name).items()}

    def _as_number(self, key: str) -> float:
        if isinstance(self.data, bool) or not isinstance(self.data, int | float) or not math.isfinite(self.data):
            raise self.wrong(key)
        return float(self.data)

    def flag(self, name: str) -> bool:
        value: bool = self._get(name, bool)
        return value
