"""What a model's file keeps of its table: which rows it was trained on, and what their columns looked like."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from automl_cli.artifact import Attachment
from automl_cli.asking import known_rows, out_of_fold
from automl_cli.features.frame import joined
from automl_cli.features.matrix import Array
from automl_cli.members import Chosen, OofCache
from automl_cli.metrics import TaskKind
from automl_cli.outputs import KeptOutputs
from automl_cli.reference import ColumnReference, Reference, column_reference, sampled_rows
from automl_cli.rundata import RunData
from automl_cli.seen import SeenRows

PREDICTIONS = "prediction"


@dataclass(frozen=True, eq=False)
class Kept:
    """Of a table, whatever the search finds."""

    seen: SeenRows
    reference: Reference


def kept_of(data: RunData, classes: tuple[str, ...]) -> Kept:
    """Hash the rows that a run learns from, a source's too, and measure its own."""
    frame, y = data.frame, np.asarray(data.y)
    if data.source is not None:
        frame, y = joined([frame, data.source.frame]), np.concatenate([y, data.source.y])
    return Kept(SeenRows.of(frame, y, classes), Reference.of(data.frame))


def attachments(kept: Kept | None, chosen: Chosen, cache: OofCache) -> Mapping[str, Attachment]:
    """Return what is attached to the model's file; nothing where the table was not measured in time."""
    if kept is None:
        return {}
    reference = replace(kept.reference, predictions=predictions_reference(out_of_fold(chosen, cache)))
    said = outputs_of(chosen, cache)
    return {
        "rows": (kept.seen.to_json(), kept.seen.to_bytes()),
        "reference": (reference.to_json(), np.ascontiguousarray(reference.rows).tobytes()),
        **({} if said is None else {"outputs": (said.to_json(), said.to_bytes())}),
    }


def outputs_of(chosen: Chosen, cache: OofCache) -> KeptOutputs | None:
    """Return what a classifier said of rows that its members had not seen, uncorrected; None for a regression."""
    data = cache.data
    if data.kind is TaskKind.REGRESSION:
        return None
    known = known_rows(chosen, cache)
    rows = np.concatenate([valid for _, valid in data.folds])[known]
    outputs = out_of_fold(replace(chosen, decision=replace(chosen.decision, moved=None)), cache)
    sampled = sampled_rows(data.n_rows, len(data.frame.schema.names))
    return KeptOutputs.of(rows, outputs, np.asarray(data.y)[rows], sampled)


def predictions_reference(outputs: Array) -> ColumnReference | None:
    """Measure predictions: probabilities of the positive class, values, or which class is the likeliest."""
    if not len(outputs):
        return None
    if outputs.shape[1] > 2:
        return column_reference(PREDICTIONS, "categorical", outputs.argmax(axis=1), outputs.shape[1])
    return column_reference(PREDICTIONS, "numeric", outputs[:, -1])
