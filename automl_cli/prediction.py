"""A saved model and a table -> predictions, or scores where the truth is known."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from automl_cli.artifact import Artifact, Manifest, open_artifact
from automl_cli.errors import BadArtifact, BadData, SchemaMismatch, UsageError
from automl_cli.features.frame import Frame, frame_from_table
from automl_cli.features.matrix import Array
from automl_cli.metrics import METRICS, Metric, TaskKind, metric_for, naive
from automl_cli.reasons import explained_part, reason_columns, reason_names, reasons, summary
from automl_cli.reference import Reference, newly_missing, values_beyond
from automl_cli.table import Kind, Notice, Remark, Schema, Table, gather, read_table, read_with_schema
from automl_cli.task import read_truth

BOOTSTRAPS = 200
MOST_BOOTSTRAPPED = 100_000  # cells: 200 draws of them take about two seconds


@dataclass(frozen=True)
class Predictions:
    """Predictions for every row of a table, in its order.

    Attributes
    ----------
    columns : mapping of str to array
        Carried columns first, then ``prediction``, then ``proba_<label>`` and ``reason_<number>`` where asked for.
    explained : str
        Whose the reasons are, in one line; empty where none were asked for.
    """

    columns: Mapping[str, Any]
    n_rows: int
    notices: tuple[Notice, ...]
    explained: str = ""


@dataclass(frozen=True)
class Scores:
    """How good a model is on labelled rows.

    Attributes
    ----------
    scores : mapping of metric name to its value in its natural direction
    interval : (float, float)
        95 % bootstrap interval over rows of the model's own metric.
    naive : float
        The same metric of a guess that knows only the shares or the mean of these rows.
    """

    metric: str
    n_rows: int
    n_left_out: int
    scores: Mapping[str, float]
    interval: tuple[float, float]
    weighted: bool
    naive: float
    notices: tuple[Notice, ...]


STRICT = frozenset(
    (
        "missing_columns",
        "extra_columns",
        "unseen_categories",
        "unreadable_cells",
        "infinities",
        "beyond",
        "newly_missing",
    )
)
"""Topics of notices that say: these rows are not like those of the training."""


def predict(
    model: Path,
    data: str,
    *,
    proba: bool = False,
    carry: Sequence[str] = (),
    threads: int,
    threshold: float | None = None,
    strict: bool = False,
    fill: bool = False,
    explain: int = 0,
) -> Predictions:
    """Predict every row of a file.

    Parameters
    ----------
    data : str
        A path, or ``-`` for standard input.
    carry : sequence of str
        Columns of the input that are repeated in the output as they are written there.
    threshold : float or None
        Least probability of the positive class for its label, in place of what the model has learned.
    strict : bool
        Whether what is unlike the training is an error.
    fill : bool
        Whether columns that are missing are taken for empty ones.
    explain : int
        How many reasons each row gets.

    Raises
    ------
    BadArtifact, BadData, SchemaMismatch, UsageError
        A regression was asked for ``proba``, or a carried column is called like an answer.
    """
    with open_artifact(model) as artifact:
        manifest = artifact.manifest
        if proba and manifest.kind is TaskKind.REGRESSION:
            raise UsageError(f"{model} predicts values, which have no probabilities", hint="leave --proba out")
        answers = ("prediction", *(f"proba_{label}" for label in manifest.classes if proba))
        if explain:
            explained_part(artifact)  # before the data is read
        if threshold is not None and manifest.kind is not TaskKind.BINARY:
            raise UsageError(f"{model} does not tell two classes apart", hint="leave --threshold out")
        for name in carry:
            if name in (*answers, *reason_names(explain)):
                raise UsageError(f"--columns names {name!r}, which the predictions are called", hint="leave it out")
        if strict and manifest.data.get("reference") is None:
            raise UsageError(f"{model} does not say what it was trained on", hint="leave --strict out, or fit it anew")
        table = read_with_schema(data, schema_of_features(manifest), verbatim=carry, fill=fill)
        frame = frame_from_table(table, manifest.frame_schema)
        notices = (*table.notices, *_unlike(frame, manifest))
        odd = [notice.message for notice in notices if notice.topic in STRICT]
        if strict and odd:
            raise SchemaMismatch(
                f"{data} is unlike the training: {'; '.join(odd)}", hint="mend it, or leave --strict out"
            )
        outputs = artifact.predict(frame, threads)
        columns: dict[str, Any] = {name: table.strings(name) for name in carry}
        columns |= zip(answers, (_answers(outputs, manifest, threshold), *outputs.T), strict=False)
        if not explain:
            return Predictions(columns, table.n_rows, notices)
        found = reasons(artifact, frame, explain, threads, outputs=outputs)
        columns |= reason_columns(found, frame, manifest.schema)
        return Predictions(columns, table.n_rows, notices, summary(found, manifest))


def _unlike(frame: Frame, manifest: Manifest) -> list[Notice]:
    """Say which numbers lie beyond those of the training, and which columns miss values that never did."""
    entry = manifest.data.get("reference")
    if entry is None:
        return []
    try:
        reference = Reference.from_parts(entry, None)
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        raise BadArtifact(f"the model's manifest has no valid 'reference' ({error})", hint="fit again") from error
    check_reference(reference, frame)
    ends = {column.name: (column.low, column.high) for column in reference.columns}
    remarks = []
    for name, n in values_beyond(frame, reference).items():
        low, high = ends[name]
        dated = name in frame.schema.datetime
        span = "" if dated else f" ({low:.6g} to {high:.6g})"
        what = f"{n:,} {'date' if dated else 'number'}{'' if n == 1 else 's'}"
        remarks.append(
            Remark(
                "later_dates" if dated else "beyond",
                name,
                f"column {name!r} has {what} beyond those of the training{span}",
            )
        )
    for name, n in newly_missing(frame, reference).items():
        cells = f"{n:,} cell{'' if n == 1 else 's'}"
        message = f"column {name!r} has {cells} without a value, which the training never had"
        remarks.append(Remark("newly_missing", name, message))
    return list(gather(remarks))


def check_reference(reference: Reference, frame: Frame) -> None:
    """Refuse a reference that is not of the frame's columns.

    Raises
    ------
    BadArtifact
    """
    schema = frame.schema
    kinds = dict.fromkeys(schema.numeric, "numeric") | dict.fromkeys(schema.categorical, "categorical")
    kinds |= dict.fromkeys(schema.datetime, "datetime") | dict.fromkeys(schema.text, "text")
    if [(column.name, column.kind) for column in reference.columns] != [(name, kinds[name]) for name in schema.names]:
        raise BadArtifact("the model's manifest has a 'reference' of other columns", hint="fit again")


def evaluate_model(model: Path, data: str, *, metric: str | None, threads: int) -> Scores:
    """Score a model on a labelled file, by its own metric and all others that fit the task.

    Rows without a target are left out and counted. Where the model was fitted with row weights and the file has them,
    they count here too.

    Parameters
    ----------
    metric : str or None
        The metric to put first; None: the one that the model was chosen by.
    """
    with open_artifact(model) as artifact:
        manifest = artifact.manifest
        chosen = metric_for(metric or manifest.metric, manifest.kind)
        table = read_with_schema(data, schema_of_features(manifest), verbatim=(manifest.target,))
        weight = weights_of(data, manifest)
        y, kept = read_truth(table.strings(manifest.target), manifest.target, manifest.classes)
        outputs = _outputs(artifact, table, threads)[kept]
    weight = None if weight is None else weight[kept]
    if not metric_fits(chosen.name, y):
        raise BadData(f"{chosen.name} is not defined for some values of {manifest.target!r}", hint="choose a --metric")
    fitting = [m for m in METRICS.values() if manifest.kind in m.kinds and metric_fits(m.name, y)]
    guess = naive(y, weight, manifest.kind, manifest.n_outputs, len(y), metric=chosen)
    return Scores(
        metric=chosen.name,
        n_rows=len(y),
        n_left_out=table.n_rows - len(kept),
        scores={m.name: m.natural(m.loss(y, manifest.decision.judged(outputs, m), weight)) for m in fitting},
        interval=bootstrapped(y, manifest.decision.judged(outputs, chosen), weight, chosen),
        weighted=weight is not None,
        naive=chosen.natural(chosen.loss(y, guess, weight)),
        notices=table.notices,
    )


def metric_fits(metric: str, y: Array) -> bool:
    """Whether a metric is defined for these values: a logarithm needs values from 0 on, a share values other than 0."""
    if metric == "rmsle":
        return bool((y >= 0).all())
    return metric != "mape" or bool((y != 0).all())


def schema_of_features(manifest: Manifest) -> Schema:
    """Return the schema with all columns marked as unused that no model sees: target, weight, group."""
    seen = set(manifest.frame_schema.names)
    return Schema(tuple(c if c.name in seen else replace(c, kind=Kind.ID) for c in manifest.schema.columns))


def _outputs(artifact: Artifact, table: Table, threads: int) -> Array:
    return artifact.predict(frame_from_table(table, artifact.manifest.frame_schema), threads)


def _answers(outputs: Array, manifest: Manifest, threshold: float | None) -> Any:
    if not manifest.classes:
        return outputs[:, 0]
    if threshold is not None:
        return np.asarray(manifest.classes, dtype=object)[(outputs[:, -1] >= threshold).astype(np.int64)]
    return np.asarray(manifest.classes, dtype=object)[manifest.decision.deciding(outputs).argmax(axis=1)]


def weights_of(data: str, manifest: Manifest) -> Array | None:
    """Return the row weights that the model was fitted with, if the file has them."""
    name = manifest.data.get("weight_column")
    if not isinstance(name, str) or data == "-":
        return None
    try:
        weight = read_table(data, verbatim=(name,)).numbers(name)
    except UsageError:  # the file has no such column
        return None
    return weight if np.isfinite(weight).all() and (weight >= 0).all() and weight.sum() > 0 else None


def bootstrapped(y: Array, outputs: Array, weight: Array | None, metric: Metric) -> tuple[float, float]:
    """Return a 95 % interval of the metric over resampled rows.

    Of many rows a part is resampled, and the interval narrowed by the root of that part's share.
    """
    rng = np.random.default_rng(0)
    n = min(len(y), MOST_BOOTSTRAPPED // outputs.shape[1])
    draws = []
    for _ in range(BOOTSTRAPS):
        rows = rng.integers(len(y), size=n)
        draws.append(metric.loss(y[rows], outputs[rows], None if weight is None else weight[rows]))
    middle = metric.loss(y, outputs, weight)
    low, high = middle + (np.quantile(draws, [0.025, 0.975]) - middle) * np.sqrt(n / len(y))
    first, second = sorted((metric.natural(float(low)), metric.natural(float(high))))
    return first, second
