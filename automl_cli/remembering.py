"""What a job leaves to the experience: its table in numbers, and its trials."""

import importlib.metadata
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

from automl_cli import __version__
from automl_cli.experience.records import Dataset, Evaluation, RunRecord, is_kept, salted
from automl_cli.job import Job
from automl_cli.table.schema import CODED, Kind
from automl_cli.trial import Pipeline

_PACKAGES = ("lightgbm", "xgboost", "catboost", "scikit-learn", "torch")


def dataset_of(job: Job, name: str, features: Mapping[str, float], salt: bytes) -> Dataset:
    """Describe a job's table and target in numbers; names leave as salted digests only."""
    schema = job.table.schema
    used = set(job.frame_schema.names)
    kinds = [(column.name, column.kind) for column in schema.columns if column.name in used]
    # A few more or fewer values, and a boolean is a category or a category one of high cardinality: no other column.
    digests = sorted(
        (salted(f"{name}\n{Kind.CATEGORY if kind in CODED else kind}", salt)[:16], salted(f"{name}\n{kind}", salt)[:16])
        for name, kind in kinds
    )
    return Dataset(
        fingerprint=job.table.fingerprint,
        name=name,
        kind=job.task.kind,
        n_rows=job.task.n_rows,
        n_columns=len(job.frame_schema.names),
        n_classes=len(job.task.classes),
        features=features,
        target=salted(job.task.target, salt),
        columns=tuple(now for now, _ in digests),
        former=tuple(before for _, before in digests),
    )


def run_of(
    job: Job,
    dataset: Dataset,
    evaluations: Sequence[Evaluation],
    *,
    origin: str,
    seconds: float,
    limit: float | None = None,
    loss: float | None = None,
    members: Sequence[Pipeline] = (),
) -> RunRecord:
    """Put a run together as the store takes it."""
    return RunRecord(
        uid=uuid.uuid4().hex,
        dataset=dataset,
        metric=job.data.metric.name,
        plan=job.plan.reason,
        n_folds=len(job.plan.folds),
        origin=origin,
        began=time.time() - seconds,
        seconds=seconds,
        limit=limit,
        loss=loss if loss is not None and is_kept(loss) else None,
        versions=_versions(),
        members=tuple(members),
        evaluations=tuple(evaluations),
    )


def table_name(data: str) -> str:
    """Return how a table is called: its file's name without endings.

    >>> table_name("/data/sales.csv.gz"), table_name("-")
    ('sales', 'stdin')
    """
    name = "stdin" if data == "-" else Path(data).name.split(".")[0] or "table"
    return name.encode("utf-8", "replace").decode("utf-8")[:200]


def _versions() -> dict[str, str]:
    found = {"automl": __version__}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
