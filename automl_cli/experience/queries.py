"""What is read from a store: lists for the screen, runs for other stores, datasets and losses for recall."""

import json
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest
from typing import Any

import numpy as np
from sqlalchemy import Connection, Row, delete, func, select

from automl_cli.errors import UsageError
from automl_cli.experience.records import Dataset, Evaluation, RunRecord, pipeline_uid
from automl_cli.experience.tables import DATASETS, EVALUATIONS, FEATURES, PIPELINES, RUNS
from automl_cli.experience.writing import FEATURE, LOSS, pipeline_of
from automl_cli.features.matrix import Array
from automl_cli.metrics import TaskKind
from automl_cli.trial import Pipeline

MOST = 2**53
LATEST = 4e9  # seconds since 1970: until 2096
BEGINNING = 67  # characters: four digests


@dataclass(frozen=True, eq=False)
class Known:
    """The datasets of one kind of task in a store.

    Attributes
    ----------
    ids : ndarray of shape (n_datasets,), int64
    names, fingerprints, targets : tuple of str, one per dataset
    columns : tuple of (int, str)
        Length and beginning of the digests of each dataset's columns, to tell tables of one target apart: all digests
        of wide tables would be most of what is read.
    n_rows : ndarray of shape (n_datasets,), int64
    features : ndarray of shape (n_datasets, n_features), float32
        NaN where a dataset lacks one.
    feature_names : tuple of str
    """

    ids: Array
    names: tuple[str, ...]
    fingerprints: tuple[str, ...]
    targets: tuple[str, ...]
    columns: tuple[tuple[int, str], ...]
    n_rows: Array
    features: Array
    feature_names: tuple[str, ...]


def known_datasets(connection: Connection, kind: TaskKind) -> Known:
    """Read all datasets of a kind with their meta-features."""
    names = {row.id: row.name for row in connection.execute(select(FEATURES))}
    chosen = select(
        DATASETS.c.id,
        DATASETS.c.name,
        DATASETS.c.fingerprint,
        DATASETS.c.target,
        func.length(DATASETS.c.columns),
        func.substr(DATASETS.c.columns, 1, BEGINNING),
        DATASETS.c.n_rows,
        DATASETS.c.features,
    )
    rows = connection.execute(chosen.where(DATASETS.c.kind == str(kind)).order_by(DATASETS.c.id)).all()
    # by column: of ten thousand rows, attributes by name take a fifth of the whole look-up
    ids, shown, fingerprints, targets, lengths, begin, n_rows, features = zip(*rows, strict=True) if rows else ((),) * 8
    return Known(
        ids=np.array(ids, dtype=np.int64),
        names=shown,
        fingerprints=fingerprints,
        targets=targets,
        columns=tuple(zip(lengths, begin, strict=True)),
        n_rows=np.array(n_rows, dtype=np.int64),
        features=_unpacked(features, names),
        feature_names=tuple(names[key] for key in sorted(names)),
    )


def of_target(connection: Connection, kind: TaskKind, target: str) -> list[tuple[int, int, str]]:
    """Return number, classes and columns' digests of each dataset of a kind that has a target of this digest."""
    chosen = select(DATASETS.c.id, DATASETS.c.n_classes, DATASETS.c.columns)
    chosen = chosen.where(DATASETS.c.target == target, DATASETS.c.kind == str(kind)).order_by(DATASETS.c.id)
    return [(row.id, _count(row.n_classes), _text(row.columns)) for row in connection.execute(chosen)]


def _unpacked(blobs: Sequence[bytes], names: dict[int, str]) -> Array:
    """Lay packed features out as a matrix, one column for each known name in the order of their numbers."""
    column = np.full(max(names, default=0) + 1, -1)
    column[sorted(names)] = np.arange(len(names))
    matrix = np.full((len(blobs), len(names)), np.nan, dtype=np.float32)
    pairs = np.frombuffer(b"".join(blobs), dtype=FEATURE)
    row = np.repeat(np.arange(len(blobs)), [len(blob) // FEATURE.itemsize for blob in blobs])
    place = np.where(pairs["id"] < len(column), column[np.minimum(pairs["id"], len(column) - 1)], -1)
    matrix[row[place >= 0], place[place >= 0]] = pairs["value"][place >= 0]
    return matrix


@dataclass(frozen=True)
class PastRun:
    """One run as recall sees it."""

    id: int
    dataset: int
    metric: str
    plan: str
    origin: str
    began: float
    loss: float | None
    members: tuple[Pipeline, ...]
    evaluations: tuple[Evaluation, ...]


def _evaluations(connection: Connection, runs: Sequence[int]) -> dict[int, list[Evaluation]]:
    found: dict[int, list[Evaluation]] = {}
    pipelines: dict[int, Pipeline] = {}
    joined = select(EVALUATIONS, PIPELINES.c.text).join(PIPELINES, PIPELINES.c.id == EVALUATIONS.c.pipeline)
    for start in range(0, len(runs), 500):
        part = joined.where(EVALUATIONS.c.run.in_(runs[start : start + 500]))
        for row in connection.execute(part.order_by(EVALUATIONS.c.run, EVALUATIONS.c.number)):
            if row.pipeline not in pipelines:
                pipelines[row.pipeline] = pipeline_of(row.text)
            found.setdefault(row.run, []).append(_evaluation(row, pipelines[row.pipeline]))
    return found


def _evaluation(row: Row[Any], pipeline: Pipeline) -> Evaluation:
    losses = tuple(map(float, np.frombuffer(row.losses, dtype=LOSS)))
    loss = _loss(row.loss) if all(map(math.isfinite, losses)) else None
    return Evaluation(
        pipeline=pipeline,
        loss=loss,
        losses=() if loss is None else losses,
        seconds=_number(row.seconds),
        fidelity=_number(row.fidelity),
        cut=bool(row.cut),
        given_up=bool(row.given_up),
        origin=_text(row.origin),
    )


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("a text is none")
    return value


def _number(value: Any) -> float:
    if isinstance(value, str | bytes) or not math.isfinite(value):
        raise ValueError("a number is none")
    return float(value)


def _number_or_none(value: Any) -> float | None:
    return None if value is None else _number(value)


def _loss(value: Any) -> float | None:
    """Return a loss; None where there is none, or it is not finite: older versions of the program kept such."""
    return None if isinstance(value, float) and not math.isfinite(value) else _number_or_none(value)


def _count(value: Any) -> int:
    if not isinstance(value, int) or not 0 <= value < MOST:
        raise ValueError("a count is none")
    return value


def _moment(value: Any) -> float:
    seconds = _number(value)
    if not 0 <= seconds < LATEST:
        raise ValueError("a time is none")
    return seconds


def _members(text: str) -> tuple[Pipeline, ...]:
    return tuple(map(Pipeline.from_json, json.loads(text)))


def every_run(connection: Connection) -> Iterator[RunRecord]:
    """Read all runs whole, for an export or another store."""
    names = {row.id: row.name for row in connection.execute(select(FEATURES))}
    datasets = {row.id: _dataset(row, names) for row in connection.execute(select(DATASETS))}
    for run in connection.execute(select(RUNS).order_by(RUNS.c.id)).all():
        yield RunRecord(
            uid=_text(run.uid),
            dataset=datasets[run.dataset],
            metric=_text(run.metric),
            plan=_text(run.plan),
            n_folds=_count(run.n_folds),
            origin=_text(run.origin),
            began=_moment(run.began),
            seconds=_number(run.seconds),
            limit=_number_or_none(run.limit),
            loss=_loss(run.loss),
            versions=json.loads(run.versions),
            members=_members(run.members),
            evaluations=tuple(_evaluations(connection, [run.id]).get(run.id, ())),
        )


def _dataset(row: Row[Any], names: dict[int, str]) -> Dataset:
    pairs = np.frombuffer(row.features, dtype=FEATURE)
    return Dataset(
        fingerprint=_text(row.fingerprint),
        name=_text(row.name),
        kind=TaskKind(row.kind),
        n_rows=_count(row.n_rows),
        n_columns=_count(row.n_columns),
        n_classes=_count(row.n_classes),
        features={names[int(pair["id"])]: float(pair["value"]) for pair in pairs},
        target=_text(row.target),
        columns=tuple(row.columns.split()),
    )


@dataclass(frozen=True)
class Listed:
    """A dataset with what is known of it."""

    id: int
    name: str
    fingerprint: str
    kind: str
    n_rows: int
    n_columns: int
    n_runs: int
    n_evaluations: int
    last: float


def listed(connection: Connection) -> list[Listed]:
    """List the datasets, the one that was met last first."""
    counts = (
        select(RUNS.c.dataset, func.count(EVALUATIONS.c.number).label("n"))
        .join(EVALUATIONS, EVALUATIONS.c.run == RUNS.c.id)
        .group_by(RUNS.c.dataset)
        .subquery()
    )
    runs = (
        select(RUNS.c.dataset, func.count().label("n"), func.max(RUNS.c.began).label("last"))
        .group_by(RUNS.c.dataset)
        .subquery()
    )
    joined = (
        select(DATASETS, runs.c.n.label("n_runs"), runs.c.last, counts.c.n.label("n_evaluations"))
        .outerjoin(runs, runs.c.dataset == DATASETS.c.id)
        .outerjoin(counts, counts.c.dataset == DATASETS.c.id)
        .order_by(runs.c.last.desc(), DATASETS.c.id)
    )
    return [
        Listed(row.id, _text(row.name), _text(row.fingerprint), TaskKind(row.kind), _count(row.n_rows),
               _count(row.n_columns), row.n_runs or 0, row.n_evaluations or 0, _moment(row.last or 0.0))
        for row in connection.execute(joined)
    ]  # fmt: skip


def find_dataset(connection: Connection, wanted: str) -> list[Listed]:
    """Find datasets by number, by name or by the beginning of their fingerprint.

    Raises
    ------
    UsageError
        There is none.
    """
    found = [
        item
        for item in listed(connection)
        if wanted in (item.name, f"#{item.id}", str(item.id))
        or (len(wanted) >= 6 and item.fingerprint.startswith(wanted))
    ]
    if not found:
        raise UsageError(f"the experience has no dataset {wanted!r}", hint="see automl experience list")
    return found


def forget(connection: Connection, datasets: Sequence[int]) -> int:
    """Remove datasets with all their runs; return how many evaluations went."""
    runs = [row.id for row in connection.execute(select(RUNS.c.id).where(RUNS.c.dataset.in_(datasets)))]
    gone = connection.execute(delete(EVALUATIONS).where(EVALUATIONS.c.run.in_(runs))).rowcount
    connection.execute(delete(RUNS).where(RUNS.c.id.in_(runs)))
    connection.execute(delete(DATASETS).where(DATASETS.c.id.in_(datasets)))
    used = select(EVALUATIONS.c.pipeline)
    connection.execute(delete(PIPELINES).where(PIPELINES.c.id.not_in(used)))
    return int(gone)


def totals(connection: Connection) -> tuple[int, int, int]:
    """Count datasets, runs and evaluations."""
    tables = (DATASETS, RUNS, EVALUATIONS)
    counts = (connection.execute(select(func.count()).select_from(table)).scalar_one() for table in tables)
    datasets, runs, evaluations = counts
    return int(datasets), int(runs), int(evaluations)


def tried(connection: Connection, dataset_uid: str, *, origin: str) -> set[Pipeline]:
    """Return the pipelines that runs of an origin have evaluated on a dataset."""
    joined = (
        select(PIPELINES.c.text)
        .join(EVALUATIONS, EVALUATIONS.c.pipeline == PIPELINES.c.id)
        .join(RUNS, RUNS.c.id == EVALUATIONS.c.run)
        .join(DATASETS, DATASETS.c.id == RUNS.c.dataset)
        .where(DATASETS.c.uid == dataset_uid, RUNS.c.origin == origin)
        .distinct()
    )
    return {pipeline_of(row.text) for row in connection.execute(joined)}


def runs_on(connection: Connection, dataset: int) -> list[dict[str, Any]]:
    """Return the runs on a dataset as JSON values, the latest first, with the best complete evaluation of each."""
    chosen = select(RUNS).where(RUNS.c.dataset == dataset).order_by(RUNS.c.began.desc(), RUNS.c.id)
    runs = connection.execute(chosen).all()
    evaluations = _evaluations(connection, [run.id for run in runs])
    return [_run_row(run, evaluations.get(run.id, [])) for run in runs]


def _run_row(run: Row[Any], evaluations: Sequence[Evaluation]) -> dict[str, Any]:
    complete = [e for e in evaluations if e.complete and e.loss is not None]
    best = min(complete, key=lambda e: e.loss or 0.0, default=None)
    return {
        "began": _moment(run.began),
        "origin": _text(run.origin),
        "metric": _text(run.metric),
        "plan": _text(run.plan),
        "seconds": _number(run.seconds),
        "limit": _number_or_none(run.limit),
        "loss": _loss(run.loss),
        "versions": json.loads(run.versions),
        "n_trials": len(evaluations),
        "n_failed": sum(e.loss is None for e in evaluations),
        "best": None if best is None else {**best.pipeline.to_json(), "loss": best.loss, "seconds": best.seconds},
    }


MOST_EVALUATIONS = 150
"""Of one dataset that recall looks at, the best first, shared by its runs: a long run on a small table has thousands.
Each run on the table at hand has as many."""
MOST_RUNS = 5
"""Of one dataset, the latest: of a table that is learned every night there are hundreds."""


def best_runs(
    connection: Connection, datasets: Array, reference: Pipeline | None = None, *, at_hand: Sequence[int] = ()
) -> list[PastRun]:
    """Read the latest runs on some datasets, oldest first, with their best complete evaluations.

    The reference's is among them whatever became of it, since it tells what the others are worth: where another one led
    already, it is given up before its last fold.

    Parameters
    ----------
    at_hand : sequence of int
        Those of the datasets that are the table at hand.
    """
    place = func.row_number().over(partition_by=RUNS.c.dataset, order_by=(RUNS.c.began.desc(), RUNS.c.id.desc()))
    ranked = select(RUNS, place.label("place")).where(RUNS.c.dataset.in_([int(number) for number in datasets]))
    latest = ranked.subquery()
    chosen = select(latest).where(latest.c.place <= MOST_RUNS).order_by(latest.c.began, latest.c.id)
    runs = connection.execute(chosen).all()
    n_runs = Counter(run.dataset for run in runs)
    uid = "" if reference is None else pipeline_uid(reference)
    pipelines: dict[int, Pipeline] = {}
    found = []
    for run in runs:
        most = MOST_EVALUATIONS // (1 if run.dataset in at_hand else n_runs[run.dataset])
        rows = _best_rows(connection, run.id, most, uid)
        for row in rows:
            if row.pipeline not in pipelines:
                pipelines[row.pipeline] = pipeline_of(row.text)
        evaluations = tuple(_evaluation(row, pipelines[row.pipeline]) for row in rows)
        found.append(
            PastRun(
                run.id,
                run.dataset,
                run.metric,
                run.plan,
                run.origin,
                run.began,
                run.loss,
                _members(run.members),
                evaluations,
            )
        )
    return found


def _best_rows(connection: Connection, run: int, most: int, reference: str) -> list[Row[Any]]:
    """Return a run's best complete evaluations, and whatever became of the pipeline whose uid is ``reference``."""
    columns = select(EVALUATIONS, PIPELINES.c.text, PIPELINES.c.uid)
    joined = columns.join(PIPELINES, PIPELINES.c.id == EVALUATIONS.c.pipeline)
    own = joined.where(EVALUATIONS.c.run == run)
    best = own.where(EVALUATIONS.c.fidelity >= 1.0).order_by(EVALUATIONS.c.loss, EVALUATIONS.c.number)
    rows = list(connection.execute(best.limit(most)).all())
    if not reference or any(row.uid == reference for row in rows):
        return rows
    return rows + list(connection.execute(own.where(PIPELINES.c.uid == reference)).all())


LATEST_RUNS = 10
MOST_MEMBERS = 40
"""Of those runs' models: some do not fit the table any more, or their family is left out today."""


def past_members(
    connection: Connection, datasets: Sequence[int], metric: str | None = None
) -> tuple[int, tuple[Pipeline, ...]]:
    """Return how many runs there were on some datasets, and the members of their latest models, without repetition.

    Those of the latest model by a metric and of the one that was searched for longest by it take turns, the heaviest
    first: a short run must not make what an hour has found forgotten, however many came after it. Those of the other
    models follow, those by the same metric first.

    Parameters
    ----------
    metric : str or None
        Of the run at hand: what won by another one need not be good by it. None, or one that no model was found by:
        that of the latest model.
    """
    if not datasets:
        return 0, ()
    chosen = RUNS.c.dataset.in_(datasets)
    n_runs = connection.execute(select(func.count()).select_from(RUNS).where(chosen)).scalar_one()
    models = select(RUNS.c.members, RUNS.c.metric).where(chosen, RUNS.c.members != "[]")
    latest = RUNS.c.began.desc(), RUNS.c.id.desc()

    def read(order: Sequence[Any], n: int, *wanted: Any) -> list[tuple[Pipeline, ...]]:
        return [_members(row.members) for row in connection.execute(models.where(*wanted).order_by(*order).limit(n))]

    last = connection.execute(models.order_by(RUNS.c.metric != metric, *latest).limit(1)).first()
    if last is None:
        return int(n_runs), ()
    same = RUNS.c.metric == _text(last.metric)
    (longest,) = read((RUNS.c.seconds.desc(), *latest), 1, same)
    turns = chain.from_iterable(zip_longest(_members(last.members), longest))
    others = read((RUNS.c.metric != last.metric, *latest), LATEST_RUNS)
    every = chain((member for member in turns if member is not None), *others)
    return int(n_runs), tuple(dict.fromkeys(every))[:MOST_MEMBERS]
