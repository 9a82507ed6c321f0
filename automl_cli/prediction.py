"""A saved model and a table -> predictions, or scores where the truth is known."""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from automl_cli.artifact import Artifact, Manifest, TrustedKeys, open_artifact
from automl_cli.errors import BadArtifact, BadData, SchemaMismatch, UsageError
from automl_cli.features.frame import Frame, FrameSchema, frame_from_table
from automl_cli.features.matrix import Array
from automl_cli.labels import read_truth
from automl_cli.metrics import METRICS, Metric, TaskKind, metric_for, naive
from automl_cli.reasons import explained_part, reason_columns, reason_names, reasons, summary
from automl_cli.reference import Reference, newly_missing, values_beyond
from automl_cli.table import (
    Aligned,
    Column,
    Kind,
    Notice,
    Remark,
    Schema,
    Table,
    added_up,
    align,
    gather,
    read_with_schema,
)

T = TypeVar("T")
BOOTSTRAPS = 200
COMPARE_CLASSES = frozenset({"roc_auc", "average_precision", "f1", "mcc"})  # undefined where there is one alone
MOST_BOOTSTRAPPED = 100_000  # cells: 200 draws of them take about two seconds


@dataclass(frozen=True)
class Done:
    """What there is to say once all rows are predicted.

    Attributes
    ----------
    notices : tuple of Notice
        What was odd about the rows.
    explained : str
        Whose the reasons are, in one line; empty where none were asked for.
    """

    n_rows: int
    notices: tuple[Notice, ...]
    explained: str = ""


@dataclass(frozen=True)
class Predictions(Done):
    """Predictions for every row of a table, in its order.

    Attributes
    ----------
    columns : mapping of str to array
        Carried columns first, then ``prediction``, then ``proba_<label>`` and ``reason_<number>`` where asked for.
    """

    columns: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Asked:
    """What is asked of a model, beside the rows.

    Attributes
    ----------
    proba : bool
        Whether the probability of each class is wanted too.
    carry : tuple of str
        Columns of the input that are repeated in the output as they are written there.
    threshold : float or None
        Least probability of the positive class for its label, in place of what the model has learned.
    strict : bool
        Whether what is unlike the training is an error.
    fill : bool
        Whether columns that are missing are taken for empty ones.
    n_reasons : int
        How many columns are named for each row, as those that contribute most.
    """

    proba: bool = False
    carry: tuple[str, ...] = ()
    threshold: float | None = None
    strict: bool = False
    fill: bool = False
    n_reasons: int = 0


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

    Where all rows are of one class, metrics that compare classes are NaN.
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


def predict(model: Path, data: str, asked: Asked, *, threads: int, trusted: TrustedKeys | None = None) -> Predictions:
    """Predict every row of a file and return all of it; see `predict_into`."""
    blocks: list[Mapping[str, Any]] = []
    done = predict_into(blocks.append, model, data, asked, threads=threads, trusted=trusted)
    columns = {name: np.concatenate([np.asarray(block[name]) for block in blocks]) for name in blocks[0]}
    return Predictions(done.n_rows, done.notices, done.explained, columns)


def predict_into(
    write: Callable[[Mapping[str, Any]], None],
    model: Path,
    data: str,
    asked: Asked,
    *,
    threads: int,
    trusted: TrustedKeys | None = None,
) -> Done:
    """Predict every row of a file, block by block: while one is predicted the next is read and the last written.

    Parameters
    ----------
    write : callable
        Is given the columns of each block in order, see `Predictions`, in another thread.
    data : str
        A path, or ``-`` for standard input.
    trusted : TrustedKeys or None
        Keys of which one must have signed the model.

    Raises
    ------
    BadArtifact, BadData, SchemaMismatch, UsageError
        A regression was asked for probabilities, or a carried column is called like an answer. What is wrong with
        the data may be found after blocks were written, and with ``strict`` it is.
    """
    with open_artifact(model, trusted) as artifact:
        manifest = artifact.manifest
        answers = _check_asked(artifact, asked)
        reference = reference_of(manifest)
        aligned = align(data, schema_of_features(manifest), verbatim=asked.carry, fill=asked.fill)
        artifact.check()
        remarks: list[Remark] = []
        n_rows, explained = 0, ""
        written: Future[None] | None = None
        with ThreadPoolExecutor(1) as writer:
            for block in ahead(_prepared(aligned, manifest, reference, artifact.block_bytes)):
                outputs = artifact.predict(block.frame, threads)
                columns: dict[str, Any] = dict(block.carried)
                columns |= zip(answers, (_answers(outputs, manifest, asked.threshold), *outputs.T), strict=False)
                if asked.n_reasons:
                    found = reasons(artifact, block.frame, asked.n_reasons, threads, outputs=outputs)
                    columns |= reason_columns(found, block.frame, manifest.schema)
                    explained = summary(found, manifest)
                if written is not None:
                    written.result()
                written = writer.submit(write, columns)
                n_rows += block.frame.n_rows
                remarks = added_up([*remarks, *block.remarks])
            if written is not None:
                written.result()
    notices = (*aligned.notices, *gather(remarks))
    odd = [notice.message for notice in notices if notice.topic in STRICT]
    if asked.strict and odd:
        raise SchemaMismatch(
            f"{aligned.content.name} is unlike the training: {'; '.join(odd)}", hint="mend it, or leave --strict out"
        )
    return Done(n_rows, notices, explained)


def _check_asked(artifact: Artifact, asked: Asked) -> tuple[str, ...]:
    """Refuse what the model cannot answer; return what its answers are called."""
    model, manifest = artifact.path, artifact.manifest
    if asked.proba and manifest.kind is TaskKind.REGRESSION:
        raise UsageError(f"{model} predicts values, which have no probabilities", hint="leave --proba out")
    answers = ("prediction", *(f"proba_{label}" for label in manifest.classes if asked.proba))
    if asked.n_reasons:
        explained_part(artifact)
    if asked.threshold is not None and manifest.kind is not TaskKind.BINARY:
        raise UsageError(f"{model} does not tell two classes apart", hint="leave --threshold out")
    for name in asked.carry:
        if name in (*answers, *reason_names(asked.n_reasons)):
            raise UsageError(f"--columns names {name!r}, which the predictions are called", hint="leave it out")
    if asked.strict and manifest.data.get("reference") is None:
        raise UsageError(f"{model} does not say what it was trained on", hint="leave --strict out, or fit it anew")
    return answers


@dataclass(frozen=True)
class _Prepared:
    """Rows that are ready to be predicted."""

    frame: Frame
    carried: Mapping[str, Any]
    remarks: tuple[Remark, ...]


def _prepared(aligned: Aligned, manifest: Manifest, reference: Reference | None, n_bytes: int) -> Iterator[_Prepared]:
    for block in aligned.blocks(n_bytes):
        frame = frame_from_table(block.table, manifest.frame_schema)
        unlike = () if reference is None else _unlike(frame, reference)
        yield _Prepared(frame, block.carried, (*block.remarks, *unlike))


def ahead(items: Iterator[T]) -> Iterator[T]:
    """Yield items, each made while the one before is worked on."""
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(lambda: next(items, None))
        while (item := coming.result()) is not None:
            coming = pool.submit(lambda: next(items, None))
            yield item


def reference_of(manifest: Manifest) -> Reference | None:
    """Return what the manifest says of the training's columns, without its sample of rows; None in older files.

    Raises
    ------
    BadArtifact
        It is malformed, or of other columns.
    """
    entry = manifest.data.get("reference")
    if entry is None:
        return None
    try:
        reference = Reference.from_parts(entry, None)
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        raise BadArtifact(f"the model's manifest has no valid 'reference' ({error})", hint="fit again") from error
    check_reference(reference, manifest.frame_schema)
    return reference


def _unlike(frame: Frame, reference: Reference) -> tuple[Remark, ...]:
    """Say which numbers lie beyond those of the training, and which columns miss values that never did."""
    ends = {column.name: (column.low, column.high) for column in reference.columns}
    remarks = []
    for name, n in values_beyond(frame, reference).items():
        low, high = ends[name]
        dated = name in frame.schema.datetime
        span = "" if dated else f" ({low:.6g} to {high:.6g})"
        topic, what = ("later_dates", "date") if dated else ("beyond", "number")
        remarks.append(Remark(topic, name, f" beyond those of the training{span}", n, what))
    for name, n in newly_missing(frame, reference).items():
        remarks.append(Remark("newly_missing", name, " without a value, which the training never had", n))
    return tuple(remarks)


def check_reference(reference: Reference, schema: FrameSchema) -> None:
    """Refuse a reference that is not of these columns.

    Raises
    ------
    BadArtifact
    """
    kinds = dict.fromkeys(schema.numeric, "numeric") | dict.fromkeys(schema.categorical, "categorical")
    kinds |= dict.fromkeys(schema.datetime, "datetime") | dict.fromkeys(schema.text, "text")
    if [(column.name, column.kind) for column in reference.columns] != [(name, kinds[name]) for name in schema.names]:
        raise BadArtifact("the model's manifest has a 'reference' of other columns", hint="fit again")


def evaluate_model(
    model: Path, data: str, *, metric: str | None, threads: int, trusted: TrustedKeys | None = None
) -> Scores:
    """Score a model on a labelled file, by its own metric and all others that fit the task.

    Rows without a target are left out and counted. Where the model was fitted with row weights and the file has them,
    they count here too.

    Parameters
    ----------
    metric : str or None
        The metric to put first; None: the one that the model was chosen by.
    trusted : TrustedKeys or None
        Keys of which one must have signed the model.
    """
    with open_artifact(model, trusted) as artifact:
        manifest = artifact.manifest
        chosen = metric_for(metric or manifest.metric, manifest.kind)
        schema, optional = scored_columns(manifest)
        table = read_with_schema(data, schema, optional=optional, verbatim=(manifest.target,))
        y, kept = truth_of(table, manifest)
        weight = weights_of(table, manifest, kept)
        outputs = _outputs(artifact, table, threads)[kept]
    if not metric_fits(chosen.name, y):
        raise BadData(f"{chosen.name} is not defined for some values of {manifest.target!r}", hint="choose a --metric")
    fitting = [m for m in METRICS.values() if manifest.kind in m.kinds and metric_fits(m.name, y)]
    guess = naive(y, weight, manifest.kind, manifest.n_outputs, len(y), metric=chosen)
    found = Scores(
        metric=chosen.name,
        n_rows=len(y),
        n_left_out=table.n_rows - len(kept),
        scores={m.name: m.natural(m.loss(y, manifest.decision.judged(outputs, m), weight)) for m in fitting},
        interval=bootstrapped(y, manifest.decision.judged(outputs, chosen), weight, chosen),
        weighted=weight is not None,
        naive=chosen.natural(chosen.loss(y, guess, weight)),
        notices=table.notices,
    )
    counted = y if weight is None else y[weight > 0]
    if manifest.classes and len(np.unique(counted)) == 1:
        return _of_one_class(found, f"{manifest.target!r} = {manifest.classes[counted[0]]!r}")
    return found


def _of_one_class(found: Scores, what: str) -> Scores:
    """Take back the metrics that compare classes: 0.5 or 0 would pass for a model that has collapsed."""
    silent = [name for name in found.scores if name in COMPARE_CLASSES]
    notice = Notice("one_class", f"all rows have {what}: {', '.join(silent)} say nothing")
    scores = {**found.scores, **dict.fromkeys(silent, np.nan)}
    if found.metric in silent:
        found = replace(found, interval=(np.nan, np.nan), naive=np.nan)
    return replace(found, scores=scores, notices=(*found.notices, notice))


def truth_of(table: Table, manifest: Manifest, labels: Any = None) -> tuple[Array, Array]:
    """Return the target of a table, or of these labels of it, read as the training did; see `read_truth`."""
    target = manifest.target
    labels = table.strings(target) if labels is None else labels
    return read_truth(labels, target, manifest.classes, table.schema.column(target).notation)


def metric_fits(metric: str, y: Array) -> bool:
    """Whether a metric is defined for these values: a logarithm needs values from 0 on, a share values other than 0."""
    if metric == "rmsle":
        return bool((y >= 0).all())
    return metric != "mape" or bool((y != 0).all())


def schema_of_features(manifest: Manifest) -> Schema:
    """Return the schema with all columns marked as unused that no model sees: target, weight, group, ignored ones."""
    seen, known = set(manifest.frame_schema.names), manifest.schema.columns
    unused = set(manifest.data.get("ignored", ())) - {column.name for column in known}
    left_out = (Column(name, Kind.ID, "ignored at the fit") for name in sorted(unused))
    return Schema((*(c if c.name in seen else replace(c, kind=Kind.ID) for c in known), *left_out))


def scored_columns(manifest: Manifest) -> tuple[Schema, tuple[str, ...]]:
    """Return the columns that scoring reads beside the target, and those of them that may be missing: row weights."""
    schema, name = schema_of_features(manifest), weight_column(manifest)
    if name is None:
        return schema, ()
    known = {column.name: column for column in manifest.schema.columns}
    weight = known.get(name, Column(name, Kind.NUMERIC, "weights of rows"))
    if weight.kind is not Kind.BOOLEAN:  # numbers that are all different look like ids
        weight = replace(weight, kind=Kind.NUMERIC)
    return Schema((*(column for column in schema.columns if column.name != name), weight)), (name,)


def _outputs(artifact: Artifact, table: Table, threads: int) -> Array:
    return artifact.predict(frame_from_table(table, artifact.manifest.frame_schema), threads)


def _answers(outputs: Array, manifest: Manifest, threshold: float | None) -> Any:
    if not manifest.classes:
        return outputs[:, 0]
    if threshold is not None:
        return np.asarray(manifest.classes, dtype=object)[(outputs[:, -1] >= threshold).astype(np.int64)]
    return np.asarray(manifest.classes, dtype=object)[manifest.decision.deciding(outputs).argmax(axis=1)]


def weight_column(manifest: Manifest) -> str | None:
    """Return the column whose weights the model was fitted with."""
    name = manifest.data.get("weight_column")
    return name if isinstance(name, str) else None


def weights_of(table: Table, manifest: Manifest, kept: Array) -> Array | None:
    """Return how much each of the labelled rows counts, if the table says so.

    Parameters
    ----------
    table : Table
        Read by `scored_columns`.
    kept : ndarray of int64
        Positions of the labelled rows.

    Raises
    ------
    BadData
        A weight is missing, infinite or negative, or all are 0.
    """
    name = weight_column(manifest)
    if name is None or name not in table.schema:
        return None
    weight = table.numbers(name)[kept]
    bad = kept[~(weight >= 0)]  # what is no finite number is NaN
    if len(bad):
        raise BadData(
            f"{len(bad):,} weights in column {name!r} are missing, infinite or negative, "
            f"the first in data row {bad[0] + 1}",
            hint="mend them, or leave the column out",
        )
    if not weight.sum() > 0:
        raise BadData(f"all weights in column {name!r} are 0", hint="mend them, or leave the column out")
    return np.asarray(weight)


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
