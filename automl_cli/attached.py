"""What a model's file keeps of its table: which rows it was trained on, and what their columns looked like."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from automl_cli.artifact import Attachment
from automl_cli.features.frame import joined
from automl_cli.features.matrix import Array
from automl_cli.members import Chosen, OofCache, out_of_fold
from automl_cli.reference import ColumnReference, Reference, column_reference
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
    return {
        "rows": (kept.seen.to_json(), kept.seen.to_bytes()),
        "reference": (reference.to_json(), np.ascontiguousarray(reference.rows).tobytes()),
    }


def predictions_reference(outputs: Array) -> ColumnReference | None:
    """Measure predictions: probabilities of the positive class, values, or which class is the likeliest."""
    if not len(outputs):
        return None
    if outputs.shape[1] > 2:
        return column_reference(PREDICTIONS, "categorical", outputs.argmax(axis=1), outputs.shape[1])
    return column_reference(PREDICTIONS, "numeric", outputs[:, -1])
