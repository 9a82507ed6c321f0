"""A saved model and new rows without labels: the same model, for other shares of the classes, where the rows agree."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from automl_cli.artifact import Artifact, Manifest, Signer, rewrite_artifact
from automl_cli.errors import BadArtifact, BadData, UsageError
from automl_cli.features.frame import Frame, frame_from_table
from automl_cli.features.matrix import Array
from automl_cli.labels import labelled_rows
from automl_cli.metrics import METRICS, TaskKind
from automl_cli.newshares import Known, gain_of, moved_decision, scores_there, shares_there
from automl_cli.options import FitOptions
from automl_cli.outputs import KeptOutputs
from automl_cli.prediction import check_reference, scored_columns
from automl_cli.reference import Reference, binned, told_alike
from automl_cli.shifted import ALIKE, LEAST_ROWS, MOST_ROWS, NONE, SHARES, told
from automl_cli.table import Kind, Notice, Table, read_with_schema
from automl_cli.transfer.judge import Verdict, judge_label_shift
from automl_cli.transfer.labels import LabelShift, bbse_of, fit_mlls
from automl_cli.transfer.shift import Shift, Side, find_shift

PARTS = 5  # of the kept rows, where thresholds are learned
LEAST_OF_CLASS = 20  # kept rows, without which calibration by them would be chance
ROLES = ("weight_column", "group_column", "time_column")
TAKEN_BACK = "the classes have the shares of the training again: the correction is taken back"
GIVE_LABELS = "give rows with labels, or fit the old table with --adapt-to"


@dataclass(frozen=True)
class Adapted:
    """What became of it.

    Attributes
    ----------
    out : Path or None
        None where nothing was written.
    transfer : mapping
        As in `automl_cli.shifted.told`, with the shares of the classes.
    """

    model: Path
    out: Path | None
    transfer: Mapping[str, Any]
    metric: str
    notices: tuple[Notice, ...]

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "model": str(self.model),
            "out": None if self.out is None else str(self.out),
            "metric": self.metric,
            "transfer": dict(self.transfer),
            "notices": [notice.message for notice in self.notices],
        }


def read_new_rows(artifact: Artifact, data: str) -> tuple[Table, bool]:
    """Read new rows for a model, and whether a fit could learn from their labels.

    A cell that says "not known" is no label. One label, or labels of one class, tell nothing apart: a classifier's rows
    are then taken for rows without labels, with a notice.

    Raises
    ------
    BadData, SchemaMismatch
    """
    target = artifact.manifest.target
    schema, optional = scored_columns(artifact.manifest)
    group = artifact.manifest.data.get("group_column")
    carried = (target, group) if isinstance(group, str) else (target,)
    table = read_with_schema(data, schema, optional=(*optional, *carried), verbatim=carried, fill=True)
    if target not in table.schema:
        return table, False
    known = labelled_rows(table.strings(target), artifact.manifest.classes)
    found = {value for value in table.take(known).texts(target) if value is not None}
    if len(found) > 1 or (found and not artifact.manifest.classes):  # of values a fit says what it lacks
        return table, True
    if not found:
        return table, False
    what = f"all labels of {target!r} are {found.pop()!r} ({len(known):,} of {table.n_rows:,} rows)"
    text = f"{what}, which tells nothing apart: the rows are taken for rows without labels"
    return replace(table, notices=(*table.notices, Notice("one_label", text))), False


def telling_columns(manifest: Manifest, table: Table, names: Collection[str]) -> tuple[str, ...]:
    """Return the columns of rows with labels, but for groups and a time that are one and the same in all of them.

    Nothing could be judged by these: such rows would be refused, as those of one shop where it was fitted by shops.

    Parameters
    ----------
    table : Table
        As `read_new_rows` gives it.
    names : collection of str
        Of its file.
    """
    some = table.take(labelled_rows(table.strings(manifest.target), manifest.classes))
    roles = {manifest.data.get(role) for role in ROLES[1:]}
    return tuple(
        name
        for name in names
        if name not in roles or name not in some.schema or len(set(some.texts(name)) - {None}) > 1
    )


def fitted_alike(options: FitOptions, manifest: Manifest, names: Collection[str]) -> FitOptions:
    """Give a fit of new rows what the fit of the model was told of its columns, as far as these are there.

    Columns that were ignored stay so: what is known only afterwards must not become a feature. Kinds are not decided
    anew on what may be a few rows.

    Parameters
    ----------
    names : collection of str
        Columns of the new rows that tell something, see `telling_columns`.
    """
    weight, group, time = (
        name if isinstance(name := manifest.data.get(role), str) and name in names else None for role in ROLES
    )
    no_features = {manifest.target, weight, group}
    kinds = {
        column.name: column.kind
        for column in manifest.schema.columns
        if column.name in names and column.name not in no_features and column.kind is not Kind.CONSTANT
    }
    ignored = tuple(name for name in manifest.data.get("ignored", ()) if name in names)
    return replace(options, weight_column=weight, group_column=group, time_column=time, kinds=kinds, ignore=ignored)


def unheeded(manifest: Manifest, names: Collection[str]) -> list[str]:
    """Say which columns told the fit of a model what belongs together, or comes first, and tell nothing of new rows."""
    told_by = zip(("which rows belong together", "which rows come first"), ROLES[1:], strict=True)
    return [
        f"the model's fit was told {what} by {name!r}, which the new rows lack or hold one value of: it is left out"
        for what, role in told_by
        if isinstance(name := manifest.data.get(role), str) and name not in names
    ]


def adapt_shares(artifact: Artifact, table: Table, out: Path, *, threads: int, signer: Signer | None = None) -> Adapted:
    """Correct a classifier for the shares of the classes in new rows, and write it, where nothing else has changed.

    A correction that the new rows no longer ask for is taken back.

    Raises
    ------
    UsageError
        The model is of a regression, or does not say what it needs for that.
    BadData
        There are too few rows.
    BadArtifact
        The model is damaged.
    """
    manifest = artifact.manifest
    said, reference = _kept(artifact)
    frame = frame_from_table(table, manifest.frame_schema)
    if frame.n_rows < LEAST_ROWS:
        rows = "1 row is" if frame.n_rows == 1 else f"{frame.n_rows} rows are"
        raise BadData(f"{rows} too few to tell a shift", hint=f"give at least {LEAST_ROWS}")
    order = np.random.default_rng(0).permutation(frame.n_rows)[:MOST_ROWS]
    frame = frame.take(order)
    artifact.check()
    outputs = asked_by_fold(artifact, frame, threads)
    metric = METRICS[manifest.metric]
    known = Known(said.outputs.astype(np.float64), said.y.astype(np.int64), None, np.arange(len(said.y)) % PARTS)
    with threadpool_limits(1):  # threads that wait for each other take longer than one on a busy machine
        shift, apart = _shift_of(known, outputs, reference, said, frame)
    shares = _shares(said, known, outputs)
    verdict = judge_label_shift(shift.kinds, gain_of(shares, known))
    adapted = SHARES if verdict.accepted else NONE
    if not shift.kinds:
        back = manifest.decision.moved is not None
        verdict = Verdict(back, TAKEN_BACK if back else ALIKE, verdict.gains)
        shares = LabelShift(said.shares, said.shares)
    about = {"table": table.source, "model": manifest.digest}
    transfer = {**told(shift, verdict, adapted, apart), **about}
    if not verdict.accepted:
        return Adapted(artifact.path, None, transfer, metric.name, table.notices)
    plain = replace(manifest.decision, moved=None)
    decision = moved_decision(plain, shares, known, metric, calibrate=True)
    if adapted == NONE:
        decision = replace(decision, moved=None)
    else:
        transfer["classes"] = shares_there(shares, manifest.classes)
        transfer["scores"] = scores_there(decision, plain, shares, known, metric)
    rewrite_artifact(artifact, out, {"decision": decision.to_json(), "transfer": transfer}, signer=signer)
    return Adapted(artifact.path, out, transfer, metric.name, table.notices)


def _kept(artifact: Artifact) -> tuple[KeptOutputs, Reference]:
    """Return what a model's file says of its training."""
    manifest = artifact.manifest
    if manifest.kind is TaskKind.REGRESSION:
        problem = f"{artifact.path} predicts values: without labels there is nothing to correct"
        raise UsageError(problem, hint=GIVE_LABELS)
    said = artifact.attached("outputs", KeptOutputs.from_parts)
    reference = artifact.attached("reference", Reference.from_parts)
    if said is None or reference is None or not len(said.y):
        raise UsageError(f"{artifact.path} does not keep what an adaptation without labels needs", hint=GIVE_LABELS)
    check_reference(reference, manifest.frame_schema)
    if len(said.shares) != manifest.n_outputs or said.places[-1] >= len(reference.rows):
        raise BadArtifact("the model's 'outputs' are of another model", hint="fit again")
    return said, reference


def asked_by_fold(artifact: Artifact, frame: Frame, threads: int) -> Array:
    """Ask each row of one model of each member, uncorrected: so were the training's rows.

    Returns
    -------
    ndarray of shape (n_rows, n_outputs), float64
        `Artifact.check` comes first.
    """
    outputs = np.empty((frame.n_rows, artifact.manifest.n_outputs))
    for fold in range(artifact.n_folds):
        rows = np.arange(fold, frame.n_rows, artifact.n_folds)
        if len(rows):
            outputs[rows] = artifact.uncorrected(fold).predict_unchecked(frame.take(rows), threads)
    return outputs


def _shift_of(
    known: Known, outputs: Array, reference: Reference, said: KeptOutputs, frame: Frame
) -> tuple[Shift, list[str]]:
    """Tell the shift by bins of the columns, and which of these are not compared because no bin holds rows of both.

    Nor are dates, and columns that the new rows lack.
    """
    bins = binned(frame, reference.columns)
    kept = [
        j
        for j, column in enumerate(reference.columns)
        if column.kind != "datetime" and (bins[:, j] != len(column.counts) - 1).any()
    ]
    columns = [reference.columns[j] for j in kept]
    old, new = told_alike(reference.rows[said.places][:, kept], bins[:, kept], columns)
    apart = [
        j
        for j, column in enumerate(columns)
        if not np.setdiff1d(np.intersect1d(old[:, j], new[:, j]), [len(column.counts) - 1]).size
    ]
    apart = apart if len(apart) < len(columns) else []
    names = [columns[j].name for j in apart]
    old, new = (np.delete(sides, apart, axis=1) for sides in (old, new))
    columns = [column for column in columns if column.name not in names]
    shift = find_shift(
        Side(old.astype(np.float64), known.y, known.outputs),
        Side(new.astype(np.float64), outputs=outputs),
        kind=TaskKind.MULTICLASS if outputs.shape[1] > 2 else TaskKind.BINARY,
        names=[column.name for column in columns],
        categorical=tuple(i for i, column in enumerate(columns) if column.kind == "categorical"),
    )
    return shift, names


def _shares(said: KeptOutputs, known: Known, outputs: Array) -> LabelShift:
    """Estimate the shares; by all of the training's rows where too few of a class were kept."""
    counts = np.bincount(known.y, minlength=len(said.shares))
    if counts[said.shares > 0].min() >= LEAST_OF_CLASS:
        return fit_mlls(known.outputs, known.y, outputs)
    return bbse_of(said.shares, (said.means * said.shares[:, None]).T, outputs)
