"""Runs are added to a store; what cannot be written now waits in files beside it until the next run."""

import contextlib
import json
import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import Connection, Table, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from automl_cli.errors import AutomlError
from automl_cli.experience.records import MOST_TRIALS, Dataset, RunRecord, from_json, is_kept, pipeline_uid, to_json
from automl_cli.experience.store import Store, is_locked, open_store, waiting_folder, writing
from automl_cli.experience.tables import DATASETS, EVALUATIONS, FEATURES, PIPELINES, RUNS
from automl_cli.files import write_whole
from automl_cli.trial import Pipeline

logger = logging.getLogger(__name__)
FEATURE = np.dtype([("id", "<u2"), ("value", "<f4")])
LOSS = np.dtype("<f4")
ATTEMPTS = 6  # of a transaction that met another one on a server; SQLite has one writer at a time
MOST_WAITING = 20  # that one run takes in
_AT_ONCE = 500  # values of one IN (...)


def remember(url: str, run: RunRecord, *, wait: float, left: Callable[[], float] = lambda: math.inf) -> str | None:
    """Write a run, and what waits; where that is impossible now, leave the run waiting.

    Parameters
    ----------
    wait : float
        Seconds to wait for other writers.
    left : callable
        Seconds that are left: once there are none, what waits is not taken in.

    Returns
    -------
    str or None
        One line to show where it was not written: what is wrong, and whether the run waits for the next one.
    """
    try:
        store = open_store(url, wait=wait)
        add(store, [run])
    except AutomlError as error:
        return left_waiting(url, run, error)
    with contextlib.suppress(AutomlError):  # they wait on
        for record, path in islice(_waiting(url), MOST_WAITING):
            if left() <= 0.0:
                break
            add(store, [record])
            with contextlib.suppress(OSError):
                path.unlink()
    return None


def left_waiting(url: str, run: RunRecord, error: AutomlError) -> str | None:
    """Leave a run waiting that could not be written; return one line to show, unless it only met another process."""
    kept = keep_for_later(url, run)
    if is_locked(error) and kept:
        logger.info("%s; the run waits beside it", error)
        return None
    return f"{error}; this run {'is kept for later' if kept else 'is not remembered'}"


def add(store: Store, runs: Sequence[RunRecord]) -> int:
    """Add runs in one transaction, anew where another process added the same rows meanwhile; return how many were new.

    Raises
    ------
    AutomlError
        Nothing was written.
    """
    for attempt in range(ATTEMPTS):
        try:
            with writing(store) as connection:
                return add_runs(connection, runs)
        except AutomlError as error:
            if attempt == ATTEMPTS - 1 or not _met_another(error.__cause__):
                raise
            time.sleep(0.02 * 2**attempt)
    raise AssertionError("unreachable")


def _met_another(error: BaseException | None) -> bool:
    """Whether a transaction failed because another one did the same at the same moment."""
    return isinstance(error, IntegrityError) or getattr(getattr(error, "orig", None), "sqlstate", "") in (
        "40001",
        "40P01",
    )


def keep_for_later(url: str, run: RunRecord) -> bool:
    """Write a run into a file of its own, for the next run to take in; False where that is impossible too."""
    folder = waiting_folder(url)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with write_whole(folder / f"{run.uid}.json") as file:
            file.write(json.dumps(to_json(run)).encode())
    except (OSError, AutomlError):
        logger.info("nothing can be kept in %s", folder, exc_info=True)
        return False
    return True


def _waiting(url: str) -> Iterator[tuple[RunRecord, Path]]:
    """Read the runs that wait, one by one; what is none is moved aside, or it would be in the way for good."""
    for path in sorted(waiting_folder(url).glob("*.json")):
        try:
            yield from_json(json.loads(path.read_bytes())), path
        except OSError:  # another run takes it in right now
            logger.info("%s cannot be read", path, exc_info=True)
        except (ValueError, RecursionError, AutomlError):
            logger.warning("%s is no run", path, exc_info=True)
            with contextlib.suppress(OSError):
                path.rename(path.with_suffix(".bad"))


def forget_waiting(url: str, fingerprint: str) -> int:
    """Remove the runs on a dataset that wait, what was moved aside too; return how many they were."""
    n_removed, wanted = 0, json.dumps({"fingerprint": fingerprint})[1:-1].encode()
    for path in sorted(waiting_folder(url).glob("*")):
        with contextlib.suppress(OSError):
            if wanted in path.read_bytes():
                path.unlink()
                n_removed += 1
    return n_removed


def add_runs(connection: Connection, runs: Sequence[RunRecord]) -> int:
    """Add the runs that the store does not have yet; return how many they were.

    All in the connection's transaction: a run is there with all of its evaluations or not at all.
    """
    known = _numbers(connection, RUNS, [run.uid for run in runs])
    fresh = {run.uid: run for run in runs if run.uid not in known}
    if not fresh:
        return 0
    datasets = _dataset_numbers(connection, {run.dataset.uid: run.dataset for run in fresh.values()})
    pipelines = {pipeline_uid(e.pipeline): e.pipeline for run in fresh.values() for e in run.evaluations}
    numbers = _added(
        connection, PIPELINES, {uid: {"uid": uid, "text": pipeline.key()} for uid, pipeline in pipelines.items()}
    )
    run_rows = {uid: _run_row(run, datasets[run.dataset.uid]) for uid, run in fresh.items()}
    run_numbers = _added(connection, RUNS, run_rows)
    rows = [
        row for uid, run in fresh.items() for row in _evaluation_rows(run, run_numbers[uid], numbers)
    ]  # fmt: skip
    if rows:
        connection.execute(insert(EVALUATIONS), rows)
    return len(fresh)


def _evaluation_rows(run: RunRecord, number: int, pipelines: Mapping[str, int]) -> Iterable[dict[str, Any]]:
    for i, e in enumerate(run.evaluations[:MOST_TRIALS]):
        yield {
            "run": number,
            "number": i,
            "pipeline": pipelines[pipeline_uid(e.pipeline)],
            "loss": e.loss,
            "losses": np.array(e.losses, dtype=LOSS).tobytes(),
            "seconds": e.seconds,
            "fidelity": e.fidelity,
            "cut": e.cut,
            "given_up": e.given_up,
            "origin": e.origin,
        }


def _run_row(run: RunRecord, dataset: int) -> dict[str, Any]:
    return {
        "uid": run.uid,
        "dataset": dataset,
        "metric": run.metric,
        "plan": run.plan[:500],
        "n_folds": run.n_folds,
        "origin": run.origin,
        "began": run.began,
        "seconds": run.seconds,
        "limit": run.limit,
        "loss": run.loss,
        "versions": json.dumps(dict(run.versions), sort_keys=True),
        "members": json.dumps([pipeline.to_json() for pipeline in run.members]),
    }


def _dataset_numbers(connection: Connection, datasets: Mapping[str, Dataset]) -> dict[str, int]:
    names = sorted({name for dataset in datasets.values() for name in dataset.features})
    ids = _feature_ids(connection, names)
    rows = {uid: _dataset_row(dataset, ids) for uid, dataset in datasets.items()}
    _complete(connection, rows)
    return _added(connection, DATASETS, rows)


def _complete(connection: Connection, rows: Mapping[str, dict[str, Any]]) -> None:
    """Give datasets that are there the meta-features of a run that had the time to measure more of them."""
    uids = sorted(rows)
    for start in range(0, len(uids), _AT_ONCE):
        there = select(DATASETS.c.uid, func.length(DATASETS.c.features).label("n_bytes"))
        for known in connection.execute(there.where(DATASETS.c.uid.in_(uids[start : start + _AT_ONCE]))).all():
            features = rows[known.uid]["features"]
            if known.n_bytes < len(features):
                connection.execute(update(DATASETS).where(DATASETS.c.uid == known.uid).values(features=features))


def _dataset_row(dataset: Dataset, ids: Mapping[str, int]) -> dict[str, Any]:
    pairs = [(ids[name], value) for name, value in sorted(dataset.features.items()) if is_kept(value)]
    return {
        "uid": dataset.uid,
        "fingerprint": dataset.fingerprint,
        "name": dataset.name[:200],
        "kind": str(dataset.kind),
        "n_rows": dataset.n_rows,
        "n_columns": dataset.n_columns,
        "n_classes": dataset.n_classes,
        "features": np.array(pairs, dtype=FEATURE).tobytes(),
        "target": dataset.target,
        "columns": " ".join(dataset.columns),
    }


def _feature_ids(connection: Connection, names: Sequence[str]) -> dict[str, int]:
    known = {row.name: row.id for row in connection.execute(select(FEATURES))}
    missing = [name for name in names if name not in known]
    if missing:
        connection.execute(insert(FEATURES), [{"name": name} for name in missing])
        known = {row.name: row.id for row in connection.execute(select(FEATURES))}
    return known


def _added(connection: Connection, table: Table, rows: Mapping[str, dict[str, Any]]) -> dict[str, int]:
    """Insert the rows whose ``uid`` is not there; return the number of each."""
    known = _numbers(connection, table, list(rows))
    missing = [row for uid, row in sorted(rows.items()) if uid not in known]  # one order: no deadlocks
    if missing:
        connection.execute(insert(table), missing)
        known |= _numbers(connection, table, [row["uid"] for row in missing])
    return known


def _numbers(connection: Connection, table: Table, uids: Sequence[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for start in range(0, len(uids), _AT_ONCE):
        wanted = table.c.uid.in_(uids[start : start + _AT_ONCE])
        found |= {row.uid: row.id for row in connection.execute(select(table.c.uid, table.c.id).where(wanted))}
    return found


def pipeline_of(text: str) -> Pipeline:
    """Read a pipeline's canonical text."""
    return Pipeline.from_json(json.loads(text))
