"""What a run learns of its source, once, by the first worker that needs it: weights of its rows, a model of them.

``RUN/source/weights/`` holds log ratios of the densities of both tables' rows; ``RUN/source/model/`` holds the files of
a source model as encoders take them, with its outputs for the target's rows.
"""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

from automl_cli.families import find_families
from automl_cli.families.family import FoldData, Limits, Shape
from automl_cli.features.encodings import ENCODINGS
from automl_cli.features.frame import Frame, joined
from automl_cli.features.matrix import Array
from automl_cli.files import once
from automl_cli.rundata import RunData, SourceRows
from automl_cli.sourced import HEADER, Offset, PartFiles, finish_source, read_source, standardised, write_source
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


def training_frame(data: RunData, rows: Array, adaptation: str) -> Frame:
    """Return the rows that an encoding and a model are fitted on: the target's, and the source's where it counts."""
    own = data.frame.take(rows)
    return joined([own, data.needed_source.frame]) if adaptation in WITH_ROWS else own


def training_targets(data: RunData, rows: Array, adaptation: str) -> Array:
    """Return the targets of `training_frame`, those of the target's rows first."""
    own: Array = data.y[rows]
    return np.concatenate([own, data.needed_source.y]) if adaptation in WITH_ROWS else own


def training_weights(run_folder: Path, data: RunData, rows: Array, adaptation: str) -> Array | None:
    """Return the weights of `training_frame`, of mean one where there is a source; None where all rows count alike."""
    own = None if data.weight is None else np.asarray(data.weight[rows])
    if adaptation not in WITH_ROWS:
        return own
    source = data.needed_source
    if adaptation == POOLED and own is None and source.weight is None:
        return None
    ours = np.ones(len(rows)) if own is None else own
    theirs = np.ones(len(source.y)) if source.weight is None else np.asarray(source.weight)
    if adaptation == WEIGHTED:
        theirs = theirs * source_weights(run_folder, data)
    elif adaptation == BALANCED:
        theirs = theirs * (ours.sum() / max(float(theirs.sum()), 1e-300))
    both = np.concatenate([ours, theirs])
    return np.asarray(both / both.mean())


def offset_of(run_folder: Path, data: RunData, rows: Array, adaptation: str) -> Offset | None:
    """Return what a model of these rows starts from: the source's outputs, recalibrated on them; None for others."""
    if adaptation != OFFSET:
        return None
    columns = np.asarray(target_columns(run_folder, data)[rows], dtype=np.float64)
    centre, scale = _scale(source_model_folder(run_folder, data))
    found = fit_recalibration(columns * scale + centre, np.asarray(data.y[rows]), data.kind)
    return Offset(found.slope * float(scale[0]), found.slope * float(centre[0]) + float(found.base[0]))


def source_weights(run_folder: Path, data: RunData) -> Array:
    """Return flattened weights of the source's rows, of mean one: p_T(x) / p_S(x) by a domain classifier."""
    return ratio_weights(domain_of(run_folder, data), gamma=FLATTENED)


def domain_of(run_folder: Path, data: RunData) -> Domain:
    """Return how target-like the rows of source and target are; the first who asks finds out."""
    place = run_folder / "source" / "weights"

    def make(draft: Path) -> None:
        X, categorical = plain_rows(data.needed_source.frame)
        with threadpool_limits(1):  # other workers are busy
            found = tell_apart(X, plain_rows(data.frame)[0], categorical=categorical, seed=0, most_rows=MOST_TOLD_APART)
        np.save(draft / "source.npy", found.source)
        np.save(draft / "target.npy", found.target)
        (draft / "auc.json").write_text(json.dumps(found.auc))

    once(place, make)
    auc = json.loads((place / "auc.json").read_text())
    return Domain(np.load(place / "source.npy"), np.load(place / "target.npy"), (auc[0], auc[1], auc[2]))


def plain_rows(frame: Frame) -> tuple[Array, tuple[int, ...]]:
    """Return numbers, codes and days side by side, float64 of shape (n_rows, n_features), and which are codes.

    Of a text its length is looked at.
    """
    n_numeric, n_coded = len(frame.schema.numeric), len(frame.schema.categorical)
    lengths = [frame.text_lengths(k).astype(np.float64)[:, None] for k in range(len(frame.texts))]
    X = np.hstack([frame.numbers, frame.codes.astype(np.float64), frame.days, *lengths])
    return X, tuple(range(n_numeric, n_numeric + n_coded))


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
        raw = raw_outputs(source.outputs(data.frame), data.kind)
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


def own_outputs(run_folder: Path, data: RunData) -> Array:
    """Return outputs for the source's rows, shape (n_source, n_outputs), each by a model that has not seen it."""
    outputs: Array = np.load(source_model_folder(run_folder, data) / "own.npy")
    return outputs


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
    part = np.random.default_rng(0).permutation(np.arange(n) % PARTS)
    own = np.empty((n, data.n_outputs))
    parts = []
    for k in range(PARTS):
        place = draft / f"part_{k}"
        (place / "encoder").mkdir(parents=True)
        (place / "model").mkdir()
        seen, held = np.flatnonzero(part != k), np.flatnonzero(part == k)
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
    weight = None if source.weight is None else np.asarray(source.weight)
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
