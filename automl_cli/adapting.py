"""What a run learns of its source, once, by the first worker that needs it: weights of its rows, a model of them.

``RUN/source/weights/`` holds log ratios of the densities of both tables' rows; ``RUN/source/model/`` holds the files of
a source model as encoders take them, with its outputs for the target's rows.
"""

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

from automl_cli.comparing import compared_columns
from automl_cli.families import find_families
from automl_cli.families.family import FoldData, Limits, Shape
from automl_cli.features.encodings import ENCODINGS
from automl_cli.features.frame import Frame, joined
from automl_cli.features.matrix import Array
from automl_cli.files import once
from automl_cli.metrics import TaskKind
from automl_cli.rundata import RunData, SourceRows
from automl_cli.sourced import (
    HEADER,
    Offset,
    PartFiles,
    finish_source,
    n_raw,
    read_source,
    standardised,
    write_source,
)
from automl_cli.transfer.adaptation import BALANCED, OFFSET, POOLED, WEIGHTED, WITH_ROWS
from automl_cli.transfer.density import ratio_weights
from automl_cli.transfer.domain import Domain, tell_apart
from automl_cli.transfer.probabilities import raw_outputs
from automl_cli.transfer.source import fit_recalibration

PARTS = 3
"""Models of the source, each fitted without a third of its rows: so that rows of both tables can be asked alike."""
FLATTENED = 0.5
MOST_TOLD_APART = 4_000  # rows of each that a domain classifier is trained on: more would cost trials
FAMILY, ENCODING = "lightgbm", "native"
WATCHED_SHARE, MOST_WATCHED = 1 / 8, 2_000  # of a source's rows that a fold does not learn from
WATCHED_WEIGHT = 10.0  # rows of the target that these count as together; see docs/transfer.md
FEW_ROWS, MOST_LENT = 2_000, 2_000  # validated rows up to which so many rows of the source help to weigh the models
MOST_CELLS = 60_000  # of both: with many classes fewer, so that weighing takes no longer
_NONE = np.zeros(0, dtype=np.int64)


@dataclass(frozen=True)
class FoldRows:
    """Which rows one model learns from, and which its training is watched on to stop in time.

    Attributes
    ----------
    own, valid : ndarray of int64
        Rows of the target.
    source, watched : ndarray of int64
        Rows of the source: none where a way of using it takes no rows, and none of them is in both.
    """

    own: Array
    valid: Array
    source: Array
    watched: Array


def fold_rows(data: RunData, fold: int, adaptation: str) -> FoldRows:
    """Return the rows of a fold; some of the source are held back, since few rows of the target stop it by chance.

    Where rows have an order, nothing is learned from a source's rows that are later than the fold's own: that past
    would be predicted by its future. Rows whose place in time is not known are learned from.
    """
    own, valid = data.every_fold[fold]
    if adaptation not in WITH_ROWS:
        return FoldRows(own, valid, _NONE, _NONE)
    allowed = _allowed(data, fold)
    watched = _watched(data, fold, allowed)
    allowed[watched] = False
    return FoldRows(own, valid, np.flatnonzero(allowed), watched)


def _allowed(data: RunData, fold: int) -> Array:
    """Return which rows of the source a fold may know, bool: none that belong to validation rows, and none later."""
    source, (own, valid) = data.needed_source, data.every_fold[fold]
    allowed = np.ones(len(source.y), dtype=bool)
    if source.groups is not None and data.groups is not None:
        allowed &= ~np.isin(source.groups, data.groups[valid])
    if source.order is not None and data.order is not None:
        allowed &= not_later(source.order, data.order[own])
    return allowed


def lent_rows(run_folder: Path, data: RunData, fold: int) -> Array:
    """Return the rows of a source that the models of a fold predict beside its validation rows.

    They are among those that no model of the fold learns from, and the first of `FoldRows.watched`. None where the
    target has rows enough, and where a model was given as the source: nobody knows what it has seen.
    """
    source = data.source
    room = min(MOST_LENT, MOST_CELLS // data.n_outputs - data.n_valid)
    if source is None or data.n_valid > FEW_ROWS or room <= 0 or (run_folder / "data" / "source_model").exists():
        return _NONE
    return _watched(data, fold, _allowed(data, fold))[: -(-room // len(data.folds))]


def not_later(order: Array, known: Array) -> Array:
    """Return which of a source's rows are not later than all rows of the target that are known."""
    last = np.nanmax(known) if np.isfinite(known).any() else np.inf
    return np.asarray(~(order > last))


def told_to_a_model(source: SourceRows, groups: Array | None, order: Array | None, first: Array) -> Array:
    """Return which rows of a source a model of it may learn from: all folds of the target hear what it says.

    None of the target's groups, and nothing later than what is known before the first block of rows is judged.

    Parameters
    ----------
    groups, order : ndarray or None
        Of the target's rows.
    first : ndarray of int64
        The rows of the target that the first fold learns from.
    """
    told = np.ones(len(source.y), dtype=bool)
    if source.groups is not None and groups is not None:
        told &= ~np.isin(source.groups, groups)
    if source.order is not None and order is not None:
        told &= not_later(source.order, order[first])
    return told


def _watched(data: RunData, fold: int, allowed: Array) -> Array:
    """Return those of a source's rows that a fold does not learn from, shuffled: whole groups, and no rare classes.

    Each fold has its own, as it has its own validation rows, as far as there are enough.
    """
    source = data.needed_source
    if data.metric.name == "mape":  # of relative errors, values on another scale would outweigh the target's own
        return _NONE
    n = len(source.y)
    most, rng = min(int(WATCHED_SHARE * n), MOST_WATCHED), np.random.default_rng(n)
    if not most:
        return _NONE
    if source.groups is None:
        start = fold % (n // most) * most
        dealt = rng.permutation(n)[start : start + most]
    else:
        _, group, counts = np.unique(source.groups, return_inverse=True, return_counts=True)
        order = rng.permutation(len(counts))
        ends = np.cumsum(counts[order])
        first, last = (ends - counts[order]) // most, (ends - 1) // most
        part = np.full(len(counts), -1)
        part[order] = np.where(first == last, first, -1)  # a group that lies in two parts is of none
        dealt = rng.permutation(np.flatnonzero(part[group] == fold % (n // most)))
    dealt = dealt[allowed[dealt]]
    if data.kind is TaskKind.REGRESSION:
        return dealt
    y = np.asarray(source.y)
    common = np.bincount(y[allowed], minlength=data.n_outputs) >= 1 / WATCHED_SHARE
    return np.asarray(dealt[common[y[dealt]]])


def all_rows(data: RunData, adaptation: str) -> FoldRows:
    """Return every row as one to learn from."""
    source = np.arange(len(data.needed_source.y)) if adaptation in WITH_ROWS else _NONE
    return FoldRows(np.arange(data.n_rows), _NONE, source, _NONE)


def training_frame(data: RunData, rows: FoldRows) -> Frame:
    """Return the rows that an encoding and a model are fitted on, the target's first."""
    frame = _frame(data, rows.own, rows.source)
    if data.groups is None or len(rows.source):
        return frame
    return replace(frame, groups=np.asarray(data.groups[rows.own]))


def training_targets(data: RunData, rows: FoldRows) -> Array:
    """Return the targets of `training_frame`."""
    return _targets(data, rows.own, rows.source)


def training_weights(run_folder: Path, data: RunData, rows: FoldRows, adaptation: str) -> Array | None:
    """Return the weights of `training_frame`, of mean one where there is a source; None where all rows count alike."""
    if not len(rows.source):
        return None if data.weight is None else np.asarray(data.weight[rows.own])
    if adaptation == POOLED and data.weight is None and data.needed_source.weight is None:
        return None
    ours, theirs = _weights(run_folder, data, rows.own, rows.source, adaptation)
    if adaptation == BALANCED:
        theirs = theirs * (ours.sum() / max(float(theirs.sum()), 1e-300))
    both = np.concatenate([ours, theirs])
    return np.asarray(both / both.mean())


def held_frame(run_folder: Path, data: RunData, rows: FoldRows, fold: int) -> Frame:
    """Return the rows that a fold's models predict or are watched on, the validation rows first."""
    return _frame(data, rows.valid, rows.watched if len(rows.watched) else lent_rows(run_folder, data, fold))


def watched_targets(data: RunData, rows: FoldRows) -> Array:
    """Return the targets of the rows that training is watched on, the validation rows first."""
    return _targets(data, rows.valid, rows.watched)


def watched_weights(run_folder: Path, data: RunData, rows: FoldRows, adaptation: str) -> Array | None:
    """Return the weights of `watched_targets`: the source's together weigh as `WATCHED_WEIGHT` rows, or as they are."""
    if not len(rows.watched):
        return None if data.weight is None else np.asarray(data.weight[rows.valid])
    ours, theirs = _weights(run_folder, data, rows.valid, rows.watched, adaptation)
    together = min(WATCHED_WEIGHT, len(theirs)) * ours.mean()
    return np.concatenate([ours, theirs * (together / max(float(theirs.sum()), 1e-300))])


def _frame(data: RunData, own: Array, source: Array) -> Frame:
    ours = data.frame.take(own)
    if not len(source):
        return ours
    whole = data.needed_source.frame
    return joined([ours, whole if len(source) == whole.n_rows else whole.take(source)])


def _targets(data: RunData, own: Array, source: Array) -> Array:
    ours: Array = data.y[own]
    return np.concatenate([ours, data.needed_source.y[source]]) if len(source) else ours


def _weights(run_folder: Path, data: RunData, own: Array, source: Array, adaptation: str) -> tuple[Array, Array]:
    ours = np.ones(len(own)) if data.weight is None else np.asarray(data.weight[own])
    given = data.needed_source.weight
    theirs = np.ones(len(source)) if given is None else np.asarray(given[source])
    return ours, theirs * source_weights(run_folder, data)[source] if adaptation == WEIGHTED else theirs


def offset_of(run_folder: Path, data: RunData, rows: Array, adaptation: str) -> Offset | None:
    """Return what a model of these rows starts from: the source's outputs, recalibrated on them; None for others."""
    if adaptation != OFFSET:
        return None
    columns = np.asarray(target_columns(run_folder, data)[rows], dtype=np.float64)
    centre, scale = _scale(source_model_folder(run_folder, data))
    weight = None if data.weight is None else np.asarray(data.weight[rows])
    found = fit_recalibration(columns * scale + centre, np.asarray(data.y[rows]), data.kind, weight)
    return Offset(found.slope * float(scale[0]), found.slope * float(centre[0]) + float(found.base[0]))


def source_weights(run_folder: Path, data: RunData) -> Array:
    """Return flattened weights of the source's rows, of mean one: p_T(x) / p_S(x) by a domain classifier."""
    return ratio_weights(domain_of(run_folder, data), gamma=FLATTENED)


def domain_of(run_folder: Path, data: RunData) -> Domain:
    """Return how target-like the rows of source and target are; the first who asks finds out."""
    place = run_folder / "source" / "weights"

    def make(draft: Path) -> None:
        both = compared_columns(data.needed_source.frame, data.frame)
        with threadpool_limits(1):  # other workers are busy
            found = tell_apart(
                both.source, both.target, categorical=both.categorical, seed=0, most_rows=MOST_TOLD_APART
            )
        np.save(draft / "source.npy", found.source)
        np.save(draft / "target.npy", found.target)
        (draft / "auc.json").write_text(json.dumps(found.auc))

    once(place, make)
    auc = json.loads((place / "auc.json").read_text())
    return Domain(np.load(place / "source.npy"), np.load(place / "target.npy"), (auc[0], auc[1], auc[2]))


def source_model_folder(run_folder: Path, data: RunData) -> Path:
    """Return the folder of the source model; the first who asks fits it, or it came with the run.

    ``columns.npy`` in it holds the target's rows as `automl_cli.sourced.SourceModel.columns_of` gives them, and
    ``own.npy`` the outputs for the source's rows, each by a model that has not seen it.
    """
    place = run_folder / "source" / "model"

    def make(draft: Path) -> None:
        given = run_folder / "data" / "source_model"
        flat = draft / "files"
        if given.exists():
            shutil.copytree(given, flat)
        else:
            flat.mkdir()
            np.save(draft / "own.npy", _fit_source(draft, flat, data))
        source = read_source(flat)
        raw = raw_outputs(source.outputs(data.frame), source.kind)
        centre, scale = raw.mean(axis=0), raw.std(axis=0)
        scale = np.where(scale > 0, scale, 1.0)
        finish_source(flat, centre, scale)
        np.save(draft / "columns.npy", standardised(raw, centre, scale))

    once(place, make)
    return place


def target_columns(run_folder: Path, data: RunData) -> Array:
    """Return the source model's outputs for the target's rows as columns, shape (n_target, n_raw), float32."""
    columns: Array = np.load(source_model_folder(run_folder, data) / "columns.npy")
    return columns


def lent_columns(run_folder: Path, data: RunData, fold: int) -> Array:
    """Return the outputs of `own_outputs` for `lent_rows` as columns, as `target_columns` are of the target's rows."""
    rows, own = lent_rows(run_folder, data, fold), own_outputs(run_folder, data)
    if own is None:
        return np.empty((0, n_raw(data.kind, data.n_outputs)), dtype=np.float32)
    return standardised(raw_outputs(own[rows], data.kind), *_scale(source_model_folder(run_folder, data)))


def own_outputs(run_folder: Path, data: RunData) -> Array | None:
    """Return outputs for the source's rows, shape (n_source, n_outputs), each by a model that has not seen it.

    None where a model was given: nobody knows what it has seen.
    """
    place = source_model_folder(run_folder, data) / "own.npy"
    return np.load(place) if place.exists() else None


def dealt_outputs(run_folder: Path, data: RunData) -> Array:
    """Return outputs for the target's rows, each by one of the same models.

    Their mean is surer of itself than each of them, which would look like a shift.
    """
    source = read_source(source_model_folder(run_folder, data) / "files")
    every = [replace(source, parts=(replace(part, share=1.0),)).outputs(data.frame) for part in source.parts]
    rows = np.arange(data.n_rows)
    return np.asarray(np.stack(every)[rows % len(every), rows])


def _scale(place: Path) -> tuple[Array, Array]:
    header = json.loads((place / "files" / HEADER).read_text())
    return np.array(header["centre"]), np.array(header["scale"])


def _fit_source(draft: Path, flat: Path, data: RunData) -> Array:
    """Fit models of the source, each without a part of it; return what each part's rows are predicted to be."""
    source = data.needed_source
    n = len(source.y)
    # rows that belong together are never on both sides, or the models look better at home than they are
    apart = np.arange(n) if source.groups is None else np.unique(source.groups, return_inverse=True)[1]
    apart = np.arange(n) if apart.max() + 1 < PARTS else apart
    part = np.random.default_rng(0).permutation(np.arange(apart.max() + 1) % PARTS)[apart]
    known = told_to_a_model(source, data.groups, data.order, data.folds[0][0])
    own = np.empty((n, data.n_outputs))
    parts = []
    for k in range(PARTS):
        place = draft / f"part_{k}"
        (place / "encoder").mkdir(parents=True)
        (place / "model").mkdir()
        seen, held = np.flatnonzero((part != k) & known), np.flatnonzero(part == k)
        own[held] = _fit_part(place, data, source, seen, held)
        parts.append(PartFiles(ENCODING, FAMILY, 1.0 / PARTS, place / "encoder", place / "model"))
    write_source(flat, parts, data.kind, data.n_outputs, None)
    for k in range(PARTS):
        shutil.rmtree(draft / f"part_{k}")
    return own


def _fit_part(place: Path, data: RunData, source: SourceRows, seen: Array, held: Array) -> Array:
    family, encoding = find_families()[FAMILY], ENCODINGS[ENCODING]
    y = np.asarray(source.y)
    encoder, train = encoding.fit(source.frame.take(seen), y[seen], data.kind, data.n_outputs, 0)
    valid = encoder.transform(source.frame.take(held))
    weight = None
    if source.weight is not None and source.weight[seen].sum() > 0:
        weight = np.asarray(source.weight) / source.weight[seen].mean()
    schema = data.frame.schema
    shape = Shape(data.kind, len(seen), len(schema.names), len(schema.categorical), data.n_outputs, len(schema.numeric))
    fold = FoldData(
        kind=data.kind,
        n_outputs=data.n_outputs,
        train=train,
        y=y[seen],
        weight=None if weight is None else weight[seen],
        valid=valid,
        y_valid=y[held],
        weight_valid=None if weight is None else weight[held],
        loss=data.metric.loss,
        metric=data.metric.name,
    )
    seconds = None if source.seconds is None else source.seconds / PARTS
    model = family.fit(fold, family.defaults(shape)[0], Limits(1, 0, seconds))
    encoding.save(encoder, place / "encoder")
    family.save(model, place / "model")
    return model.predict(valid, 1)
