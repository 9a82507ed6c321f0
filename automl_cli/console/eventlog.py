"""A fit's events as lines of JSON, for whoever watches many fits."""

import json
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from automl_cli.clock import Deadline
from automl_cli.events import Entered, Event, Improved, Prepared, Remembered
from automl_cli.files import explain
from automl_cli.retraining import Retrained
from automl_cli.search import Finished, OutOfPatience, Started
from automl_cli.summary import Summary
from automl_cli.trial import Failure, Trial


def logged(events: Iterable[Event | Retrained], path: Path, deadline: Deadline) -> Iterator[Event | Retrained]:
    """Hand events on, each written first: one line, with the time and the seconds since the start.

    Lines are appended, and on disk when the next event comes. An error that ends the fit is the last line.

    Raises
    ------
    AutomlError
        The file cannot be written.
    """
    try:
        file = path.open("a", encoding="utf-8", buffering=1)
    except OSError as error:
        raise explain(error, path) from error

    def write(kind: str, data: dict[str, Any]) -> None:
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        line = {"time": now, "elapsed": round(deadline.elapsed(), 3), "event": kind, **data}
        try:
            file.write(json.dumps(line, default=str) + "\n")
        except OSError as error:
            raise explain(error, path) from error

    with file:
        try:
            for event in events:
                write(type(event).__name__.lower(), _facts(event))
                yield event
        except Exception as error:
            write("failed", {"error": type(error).__name__, "message": str(error)})
            raise


def _facts(event: Event | Retrained) -> dict[str, Any]:
    facts: dict[str, Any] = {}
    match event:
        case Entered(phase=phase):
            facts = {"phase": phase}
        case Prepared(job=job):
            facts = {
                "data": job.table.source,
                "task": str(job.task.kind),
                "metric": job.task.metric.name,
                "rows": len(job.task.y),
                "columns": len(job.frame_schema.names),
                "run": str(job.run.folder),
            }
        case Started(proposal=proposal):
            facts = {"trial": proposal.number, "origin": proposal.origin, **proposal.pipeline.to_json()}
        case Finished(trial=trial):
            facts = {"trial": trial.proposal.number, "seconds": round(trial.seconds, 3), **_outcome(trial)}
        case Improved(chosen=chosen):
            facts = {"loss": chosen.shown_loss, "members": len(chosen.members)}
        case Remembered(recalled=recalled):
            facts = {"same_table_runs": recalled.same_table_runs, "pipelines": len(recalled.pipelines)}
        case OutOfPatience(n_trials=n_trials):
            facts = {"trials": n_trials}
        case Retrained(verdict=verdict):
            facts = {"champion": str(event.champion), **vars(verdict)}
        case Summary(metric=metric, score=score, n_trials=n_trials):
            facts = {"model": str(event.out), "metric": metric, "score": score, "trials": n_trials}
    return facts


def _outcome(trial: Trial) -> dict[str, Any]:
    if isinstance(trial, Failure):
        return {"failure": trial.reason}
    return {"loss": trial.loss, "folds": len(trial.losses), "complete": trial.complete}
