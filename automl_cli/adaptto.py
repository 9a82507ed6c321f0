"""A fit for rows without labels: whether the run's rows are weighed, asked once and kept with the run."""

import json
import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from automl_cli.clock import Deadline
from automl_cli.executors import TrialExecutor, submitted
from automl_cli.features.frame import frame_from_table
from automl_cli.features.matrix import Array
from automl_cli.harmless import harmless
from automl_cli.job import Job
from automl_cli.options import FitOptions
from automl_cli.rundata import open_rundata
from automl_cli.shifted import NEW, NONE, WEIGHTS, WEIGHTS_FILE, Asked, find_adaptation, judge_of, told
from automl_cli.table import Table
from automl_cli.transfer.density import mean_one
from automl_cli.transfer.judge import Verdict

logger = logging.getLogger(__name__)
SHARE = 0.1  # of the limit of a timed run goes into the decision
FOUND = "transfer.json"
MOST_SAID = 200  # characters of what went wrong


def adapted_job(job: Job, new: Table, options: FitOptions, executor: TrialExecutor, deadline: Deadline) -> Job:
    """Decide whether the model is adapted to new rows, and weigh the job's rows where they are.

    A run that is resumed keeps to what was decided at first.
    """
    place = job.run.data / FOUND
    if not place.exists():
        (job.run.data / NEW).mkdir(exist_ok=True)
        frame_from_table(new, job.frame_schema).save(job.run.data / NEW)
        found = {**_asked(job, options, executor, deadline), "table": new.source}
        _write(place, json.dumps(found).encode())
    found = json.loads(place.read_text())
    if found["adapted"] != WEIGHTS:
        return replace(job, transfer=found)
    weights = np.load(job.run.data / WEIGHTS_FILE)
    weight = mean_one(weights if job.task.weight is None else weights * job.task.weight)
    _save_weight(job.run.data / "weight.npy", weight)
    return replace(job, transfer=found, task=replace(job.task, weight=weight), data=open_rundata(job.run.data))


def _asked(job: Job, options: FitOptions, executor: TrialExecutor, deadline: Deadline) -> Mapping[str, Any]:
    seconds = SHARE * deadline.total if deadline.limited else None
    unlike = () if options.time_column is None else (options.time_column,)
    asked = Asked(judge_of(job.families), options.seed, unlike, job.task.groups, seconds)
    limit = None if seconds is None else 1.2 * seconds + 1.0  # it keeps its own time between two fits
    future = submitted(executor, find_adaptation, str(job.run.folder.resolve()), asked, timeout=limit)
    try:
        return future.result(timeout=limit)
    except Exception as error:  # a model that is not adapted is worth more than none
        logger.warning("the shift between the tables could not be found", exc_info=True)
        future.cancel()
        return told(None, Verdict(False, f"the two tables could not be compared {_why(error)}", {}), NONE)


def _why(error: Exception) -> str:
    r"""Say why something failed in a few words: more time helps against one of the reasons only.

    >>> _why(TimeoutError()), _why(ValueError("all rows\nare of one group")), _why(MemoryError())
    ('in the time there is', '(ValueError: all rows are of one group)', '(MemoryError)')
    """
    if isinstance(error, TimeoutError):
        return "in the time there is"
    words = harmless(" ".join(str(error).split()))[:MOST_SAID]
    return f"({type(error).__name__}: {words})" if words else f"({type(error).__name__})"


def _save_weight(place: Path, weight: Array) -> None:
    draft = place.with_suffix(".draft.npy")  # the old one may be mapped
    np.save(draft, weight)
    draft.replace(place)


def _write(place: Path, content: bytes) -> None:
    draft = place.with_suffix(".draft")
    draft.write_bytes(content)
    draft.replace(place)
