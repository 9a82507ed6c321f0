"""The data of one run, laid out once on disk and mapped into memory by every worker."""

import json
import uuid
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from automl_cli.features.frame import Frame, open_frame
from automl_cli.features.matrix import Array
from automl_cli.metrics import METRICS, Metric, TaskKind
from automl_cli.splits import ValidationPlan
from automl_cli.task import Task

UNLABELLED, SAMPLE, TOKEN = "unlabelled", "sample", "token"


@dataclass(frozen=True)
class SourceRows:
    """Rows of another table that may be learned from, and that nothing is ever judged on.

    Attributes
    ----------
    frame : Frame
        Of the schema of the run.
    y, weight
        As for `RunData`.
    seconds : float or None
        What a model of them may take; None: as long as it takes, and reproducible.
    groups : ndarray of shape (n_rows,) or None
        Which rows belong together, with those of the run that bear the same number.
    order : ndarray of shape (n_rows,) or None
        When they are from, with those of the run; NaN where it is not known.
    drawn_from : int or None
        How many rows there were, where these were drawn because they look like the run's.
    sample : Frame or None
        Some of those, drawn by chance alone: what the source was like.
    """

    frame: Frame
    y: Array
    weight: Array | None
    seconds: float | None = None
    groups: Array | None = None
    order: Array | None = None
    drawn_from: int | None = None
    sample: Frame | None = None


@dataclass(frozen=True)
class RunData:
    """What a worker needs to know to evaluate a pipeline.

    Attributes
    ----------
    y : ndarray of shape (n_rows,)
        Float64 values of a regression, int64 class indices otherwise.
    weight : ndarray of shape (n_rows,) or None
    groups : ndarray of shape (n_rows,) or None
        Which rows belong together, with those of a source that bear the same number.
    order : ndarray of shape (n_rows,) or None
        Which rows come first, where that is known of a source's rows as well.
    folds : tuple of (training rows, validation rows)
    source : SourceRows or None
    unlabelled : Frame or None
        Rows whose target nobody knows, of the schema of the run.
    """

    frame: Frame
    y: Array
    weight: Array | None
    folds: tuple[tuple[Array, Array], ...]
    kind: TaskKind
    n_outputs: int
    metric: Metric
    plan: ValidationPlan
    source: SourceRows | None = None
    unlabelled: Frame | None = None
    groups: Array | None = None
    order: Array | None = None

    @property
    def needed_unlabelled(self) -> Frame:
        """The rows without labels, where a pipeline says that there are some."""
        if self.unlabelled is None:
            raise ValueError("a pipeline learns from rows without labels, and the run has none")
        return self.unlabelled

    @property
    def needed_source(self) -> SourceRows:
        """The source, where a pipeline says that there is one."""
        if self.source is None:
            raise ValueError("a pipeline learns from a source, and the run has none")
        return self.source

    @property
    def n_rows(self) -> int:
        """Rows that have a target."""
        return len(self.y)

    @property
    def every_fold(self) -> tuple[tuple[Array, Array], ...]:
        """The folds of all trials and, numbered on from them, those that only the final members are fitted on."""
        return (*self.folds, *self.plan.repeat)

    @property
    def n_valid(self) -> int:
        """Rows that are validated in some fold: as many as there are out-of-fold predictions."""
        return sum(len(valid) for _, valid in self.folds)

    def validated(self) -> tuple[Array, Array | None]:
        """Return target and weight of the validated rows, fold after fold, each of shape (n_valid,)."""
        rows = np.concatenate([valid for _, valid in self.folds])
        return np.asarray(self.y)[rows], None if self.weight is None else np.asarray(self.weight)[rows]


def save_rundata(
    folder: Path,
    frame: Frame,
    task: Task,
    plan: ValidationPlan,
    source: SourceRows | None = None,
    unlabelled: Frame | None = None,
) -> None:
    """Write a run's data into ``folder``, which must be empty or absent."""
    if unlabelled is not None:
        (folder / UNLABELLED).mkdir(parents=True, exist_ok=True)
        unlabelled.save(folder / UNLABELLED)
    if source is not None:
        _save_source(folder / "source", source)
        if source.order is not None and task.order is not None:
            np.save(folder / "order.npy", task.order)
    (folder / "frame").mkdir(parents=True, exist_ok=True)
    frame.save(folder / "frame")
    np.save(folder / "y.npy", task.y)
    if task.weight is not None:
        np.save(folder / "weight.npy", task.weight)
    if task.groups is not None:
        np.save(folder / "groups.npy", task.groups)
    for k, (train, valid) in enumerate([*plan.folds, *plan.repeat]):
        np.save(folder / f"train_{k}.npy", train)
        np.save(folder / f"valid_{k}.npy", valid)
    facts = {
        "kind": task.kind,
        "n_outputs": task.n_outputs,
        "metric": task.metric.name,
        "folds": len(plan.folds),
        "repeat": len(plan.repeat),
        "plan": {"reason": plan.reason, "random": plan.random, "refit": plan.refit},
    }
    (folder / "task.json").write_text(json.dumps(facts))
    renew(folder)


def renew(folder: Path) -> None:
    """Mark a run's data as that of a run which begins: what workers keep of this folder is another's."""
    (folder / TOKEN).write_text(uuid.uuid4().hex)


def token_of(folder: Path) -> str:
    """Return the mark of the run that works in this folder; empty where there is none."""
    try:
        return (folder / TOKEN).read_text()
    except FileNotFoundError:
        return ""


def _save_source(folder: Path, source: SourceRows) -> None:
    (folder / "frame").mkdir(parents=True, exist_ok=True)
    source.frame.save(folder / "frame")
    np.save(folder / "y.npy", source.y)
    if source.weight is not None:
        np.save(folder / "weight.npy", source.weight)
    if source.groups is not None:
        np.save(folder / "groups.npy", source.groups)
    if source.order is not None:
        np.save(folder / "order.npy", source.order)
    if source.sample is not None:
        (folder / SAMPLE).mkdir()
        source.sample.save(folder / SAMPLE)
    (folder / "facts.json").write_text(json.dumps({"seconds": source.seconds, "drawn_from": source.drawn_from}))


def _open_source(folder: Path) -> SourceRows | None:
    if not folder.exists():
        return None
    facts = json.loads((folder / "facts.json").read_text())
    return SourceRows(
        open_frame(folder / "frame"),
        np.load(folder / "y.npy", mmap_mode="r"),
        _mapped(folder / "weight.npy"),
        facts["seconds"],
        _mapped(folder / "groups.npy"),
        _mapped(folder / "order.npy"),
        facts.get("drawn_from"),  # older runs do not say
        open_frame(folder / SAMPLE) if (folder / SAMPLE).exists() else None,
    )


def _mapped(path: Path) -> Array | None:
    return np.load(path, mmap_mode="r") if path.exists() else None


def open_rundata(folder: Path) -> RunData:
    """Map what `save_rundata` wrote; nothing is read before it is used."""
    facts = json.loads((folder / "task.json").read_text())
    n_repeat = facts.get("repeat", 0)  # older runs have none
    every_fold = tuple(
        (np.load(folder / f"train_{k}.npy", mmap_mode="r"), np.load(folder / f"valid_{k}.npy", mmap_mode="r"))
        for k in range(facts["folds"] + n_repeat)
    )
    folds, repeat = every_fold[: facts["folds"]], every_fold[facts["folds"] :]
    return RunData(
        frame=open_frame(folder / "frame"),
        y=np.load(folder / "y.npy", mmap_mode="r"),
        weight=_mapped(folder / "weight.npy"),
        folds=folds,
        kind=TaskKind(facts["kind"]),
        n_outputs=facts["n_outputs"],
        metric=METRICS[facts["metric"]],
        plan=ValidationPlan(folds, **facts["plan"], repeat=repeat),
        source=_open_source(folder / "source"),
        unlabelled=open_frame(folder / UNLABELLED) if (folder / UNLABELLED).exists() else None,
        groups=_mapped(folder / "groups.npy"),
        order=_mapped(folder / "order.npy"),
    )
