"""Is a model still at home in a table: schema, columns, rows as a whole, predictions, and scores where labels are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from automl_cli.artifact import Artifact, TrustedKeys, open_artifact
from automl_cli.attached import PREDICTIONS, predictions_reference
from automl_cli.errors import BadArtifact, BadData, UsageError
from automl_cli.features.frame import Frame, frame_from_table
from automl_cli.features.matrix import Array
from automl_cli.labels import known_labels
from automl_cli.metrics import METRICS
from automl_cli.outputs import KeptOutputs
from automl_cli.prediction import (
    bootstrapped,
    check_reference,
    metric_fits,
    scored_columns,
    truth_of,
    weights_of,
)
from automl_cli.readapting import asked_by_fold
from automl_cli.reference import (
    ColumnReference,
    Reference,
    binned,
    bins_of_codes,
    bins_of_numbers,
    compared,
    counts_by_bin,
    told_alike,
)
from automl_cli.table import Notice, Table, read_with_schema
from automl_cli.transfer.domain import auc_interval

LEVEL = 0.01  # of false discoveries among all columns
LARGE = 0.1  # Jensen-Shannon distance, 0 (the same) to 1 (nothing in common): a normal moved by a quarter of its width
LARGE_PREDICTIONS = 0.25  # between rows of one table: one fold's models say another thing than the next one's
LEAST_ROWS = 30
MOST_DOMAIN_ROWS = 2_000
TOLD_APART = 0.6  # AUC that a classifier of old and new rows must surely exceed
LEAST_LABELLED = 50
SCHEMA_TOPICS = frozenset({"missing_columns"})


@dataclass(frozen=True)
class ColumnDrift:
    """How far one column has moved.

    Attributes
    ----------
    size : float
        Jensen-Shannon distance of the bins' shares, base 2.
    p : float
        Of a test on the counts, see `compared`; of all but dates adjusted for their number (Benjamini and Hochberg).
    missing_before, missing_now : float
        Shares of cells without a value.
    unknown : float
        Share of cells with a category that the training did not know.
    drifted : bool
        Whether it is both surely there and large.
    """

    name: str
    size: float
    p: float
    missing_before: float
    missing_now: float
    unknown: float
    drifted: bool


@dataclass(frozen=True)
class Check:
    """What was found.

    Attributes
    ----------
    reasons : tuple of str
        Why the model should not be trusted on these rows; none where it may.
    columns : tuple of ColumnDrift
        The largest drift first.
    domain_auc : (float, float, float) or None
        How well rows of the training and of this table are told apart, with a 95 % interval: 0.5 is not at all.
    predictions : ColumnDrift or None
        Of the model's predictions.
    score, score_interval : float, (float, float), or None
        Of the model's metric on the rows with a label, where there are at least fifty.
    score_before, interval_before
        What the model reached at training.
    strange_labels : mapping of str to int
        Labels that the model does not know, or that are no numbers, and how many rows have them.
    """

    n_rows: int
    reasons: tuple[str, ...]
    columns: tuple[ColumnDrift, ...]
    domain_auc: tuple[float, float, float] | None
    predictions: ColumnDrift | None
    metric: str
    metric_title: str
    score: float | None
    score_interval: tuple[float, float] | None
    score_before: float | None
    interval_before: tuple[float, float] | None
    strange_labels: Mapping[str, int]
    notices: tuple[Notice, ...]

    @property
    def drift(self) -> bool:
        """Whether anything was found."""
        return bool(self.reasons)

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        columns = [vars(column) for column in self.columns]
        predictions = None if self.predictions is None else vars(self.predictions)
        notices = [notice.message for notice in self.notices]
        own = {**vars(self), "columns": columns, "predictions": predictions, "notices": notices}
        return {"verdict": "drift" if self.drift else "no drift", **own}


def check(model: Path, data: str, *, threads: int, trusted: TrustedKeys | None = None) -> Check:
    """Compare a table with the one that a model was trained on.

    Parameters
    ----------
    trusted : TrustedKeys or None
        Keys of which one must have signed the model.

    Raises
    ------
    BadArtifact, BadData
    UsageError
        The model does not say what it was trained on.
    """
    with open_artifact(model, trusted) as artifact:
        reference = artifact.attached("reference", Reference.from_parts)
        if reference is None:
            raise UsageError(
                f"{model} does not say what its training looked like", hint="fit it anew with this version"
            )
        manifest = artifact.manifest
        schema, optional = scored_columns(manifest)
        target = manifest.target
        table = read_with_schema(data, schema, optional=(*optional, target), verbatim=(target,), fill=True)
        frame = frame_from_table(table, manifest.frame_schema)
        check_reference(reference, frame.schema)
        if manifest.metric not in METRICS:
            raise BadArtifact(f"{model} was chosen by an unknown metric", hint="pip install --upgrade automl-cli")
        if frame.n_rows < LEAST_ROWS:
            rows = "1 row is" if frame.n_rows == 1 else f"{frame.n_rows} rows are"
            raise BadData(f"{rows} too few to tell drift", hint=f"give at least {LEAST_ROWS}")
        bins = binned(frame, reference.columns)
        columns = _column_drifts(bins, reference.columns)
        outputs = artifact.predict(frame, threads)
        scored = _scored(artifact, table, outputs)
        predictions = _prediction_drift(artifact, reference, frame, outputs, threads)
    timeless = [i for i, column in enumerate(reference.columns) if column.kind != "datetime"]
    domain = None
    if len(reference.rows) >= LEAST_ROWS and timeless:
        columns_told = [reference.columns[i] for i in timeless]
        domain = domain_auc(*told_alike(reference.rows[:, timeless], bins[:, timeless], columns_told))
    found = Check(
        n_rows=frame.n_rows,
        reasons=(),
        columns=columns,
        domain_auc=domain,
        predictions=predictions,
        metric=manifest.metric,
        metric_title=METRICS[manifest.metric].title,
        notices=table.notices,
        **scored,
    )
    return Check(**{**vars(found), "reasons": tuple(_reasons(found))})


def _column_drifts(bins: Array, references: Sequence[ColumnReference]) -> tuple[ColumnDrift, ...]:
    """Compare all columns; those that were empty at training and still are have not moved."""
    from scipy.stats import false_discovery_control  # noqa: PLC0415  (loads slowly)

    counts = [counts_by_bin(bins[:, i], reference) for i, reference in enumerate(references)]
    measured = [compared(np.array(ref.counts), now, ref.kind) for ref, now in zip(references, counts, strict=True)]
    adjusted = np.array([p for _, p in measured])
    # a date is surely later: among the others it would let more chance pass for drift
    timeless = [i for i, reference in enumerate(references) if reference.kind != "datetime"]
    if timeless:
        adjusted[timeless] = false_discovery_control(adjusted[timeless])
    found = [
        _drift(reference, now, size, float(p))
        for reference, now, (size, _), p in zip(references, counts, measured, adjusted, strict=True)
    ]
    return tuple(sorted(found, key=lambda column: (not column.drifted, -column.size)))


def _drift(reference: ColumnReference, now: Array, size: float, p: float) -> ColumnDrift:
    before = np.array(reference.counts)
    unknown = float(now[-2] / now.sum()) if reference.kind == "categorical" else 0.0
    missing_before, missing_now = (float(counts[-1] / max(1, counts.sum())) for counts in (before, now))
    large = LARGE_PREDICTIONS if reference.name == PREDICTIONS else LARGE
    drifted = p < LEVEL and size > large and reference.kind != "datetime"  # time goes on
    return ColumnDrift(reference.name, size, p, missing_before, missing_now, unknown, drifted)


def domain_auc(old: Array, new: Array, *, seed: int = 0) -> tuple[float, float, float]:
    """Return how well a boosted classifier tells old rows from new ones by their bins, on rows it has not seen [1]_.

    Returns
    -------
    (auc, low, high)
        The interval by Hanley and McNeil's standard error.

    References
    ----------
    .. [1] Lopez-Paz and Oquab, Revisiting classifier two-sample tests, ICLR 2017.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier  # noqa: PLC0415
    from sklearn.metrics import roc_auc_score  # noqa: PLC0415
    from sklearn.model_selection import StratifiedKFold, cross_val_predict  # noqa: PLC0415

    rng = np.random.default_rng(seed)
    parts = [rows[rng.permutation(len(rows))[:MOST_DOMAIN_ROWS]] for rows in (old, new)]
    X = np.concatenate(parts).astype(np.float32)
    y = np.repeat([0, 1], [len(part) for part in parts])
    model = HistGradientBoostingClassifier(
        max_iter=60, max_leaf_nodes=8, min_samples_leaf=10, learning_rate=0.1, early_stopping=False, random_state=seed,
    )  # fmt: skip
    folds = StratifiedKFold(4, shuffle=True, random_state=seed)
    with threadpool_limits(1):  # threads that wait for each other take longer than one on a busy machine
        found = cross_val_predict(model, X, y, cv=folds, method="predict_proba")[:, 1]
    auc = float(roc_auc_score(y, found))
    return auc_interval(auc, *(len(part) for part in parts))


def _prediction_drift(
    artifact: Artifact, reference: Reference, frame: Frame, outputs: Array, threads: int
) -> ColumnDrift | None:
    """Compare what single folds' models say, as they spoke of the training: the mean of all of them spreads less."""
    before = _predictions_before(artifact, reference)
    if before is None or not len(outputs):
        return None
    plain = artifact.n_folds == 1 and artifact.manifest.decision.moved is None
    said = outputs if plain else asked_by_fold(artifact, frame, threads)
    if before.kind == "categorical":
        bins = bins_of_codes(said.argmax(axis=1), said.shape[1])
    else:
        bins = bins_of_numbers(said[:, -1], np.array(before.edges))
    counts = counts_by_bin(bins, before)
    return _drift(before, counts, *compared(np.array(before.counts), counts, before.kind))


def _predictions_before(artifact: Artifact, reference: Reference) -> ColumnReference | None:
    """Return the predictions at training; a fit for other shares of the classes has kept uncorrected ones apart."""
    if reference.predictions is None or "transfer" not in artifact.manifest.data:
        return reference.predictions
    kept = artifact.attached("outputs", KeptOutputs.from_parts)
    return reference.predictions if kept is None else predictions_reference(kept.outputs) or reference.predictions


def _scored(artifact: Artifact, table: Table, outputs: Array) -> dict[str, Any]:
    """Score the rows whose label is known, where there are enough of them."""
    manifest, data = artifact.manifest, artifact.manifest.data
    interval = data.get("interval")
    before = {
        "score_before": data.get("score"),
        "interval_before": None if interval is None else (float(interval[0]), float(interval[1])),
    }
    nothing: dict[str, Any] = {"score": None, "score_interval": None, "strange_labels": {}, **before}
    if manifest.target not in table.schema:
        return nothing
    notation = table.schema.column(manifest.target).notation
    labels, nothing["strange_labels"] = known_labels(table.strings(manifest.target), manifest.classes, notation)
    try:
        y, kept = truth_of(table, manifest, labels)
    except BadData:  # no label at all, or none that the model knows
        return nothing
    if len(y) < LEAST_LABELLED or (manifest.classes and len(np.unique(y)) < 2):
        return nothing
    metric = METRICS[manifest.metric]
    judged = manifest.decision.judged(outputs[kept], metric)
    if not metric_fits(manifest.metric, y):
        return nothing
    weight = weights_of(table, manifest, kept)
    score = metric.natural(metric.loss(y, judged, weight))
    return {**nothing, "score": score, "score_interval": bootstrapped(y, judged, weight, metric)}


def _reasons(found: Check) -> list[str]:
    reasons = [notice.message for notice in found.notices if notice.topic in SCHEMA_TOPICS]
    moved = [column.name for column in found.columns if column.drifted]
    if moved:
        more = f" and {len(moved) - 5} more" if len(moved) > 5 else ""
        reasons.append(f"{len(moved)} of {len(found.columns)} columns have moved: {', '.join(moved[:5])}{more}")
    if found.domain_auc is not None and found.domain_auc[1] > TOLD_APART:
        reasons.append(f"rows of the training and of this table are told apart (AUC {found.domain_auc[0]:.2f})")
    if found.predictions is not None and found.predictions.drifted:
        reasons.append(f"predictions have moved (distance {found.predictions.size:.2f})")
    if found.strange_labels:
        n_rows, label = sum(found.strange_labels.values()), next(iter(found.strange_labels))
        rows = "1 row has" if n_rows == 1 else f"{n_rows:,} rows have"
        values = METRICS[found.metric].needs == "values"
        what = "that is no number" if values else "that the model does not know"
        reasons.append(f"{rows} a label {what}, such as {label[:40]!r}")
    if _is_worse(found):
        was = f"it was {found.score_before:.5g} at training"
        reasons.append(f"{found.metric_title} is {found.score:.5g} on the labelled rows, {was}")
    return reasons


def _is_worse(found: Check) -> bool:
    """Whether the score's interval lies wholly beyond the worse end of the one at training."""
    if found.score_interval is None or found.score_before is None:
        return False
    low, high = found.score_interval
    before = found.interval_before or (found.score_before, found.score_before)
    return high < before[0] if METRICS[found.metric].greater_is_better else low > before[1]
