"""What a run learns of rows without labels: columns that are made of all rows, and labels that a model gives itself.

``RUN/source/shared/`` holds the former as encoders take them, with the labelled rows' columns.
"""

import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from automl_cli.families.family import Family, FoldData, Hyperparameters, Limits, Model
from automl_cli.features.frame import Frame, joined
from automl_cli.features.matrix import Array, Matrix, as_matrix
from automl_cli.files import once
from automl_cli.kept import keep_nothing
from automl_cli.rundata import RunData
from automl_cli.shared import SharedColumns
from automl_cli.transfer.features import SharedFeatures
from automl_cli.transfer.selftrain import margin, surest

MOST_SHARED_ROWS = 200_000
"""Of all rows: more would say the same, and both tables are held at once."""
MOST_LABELLED_BY_MODEL = 20_000
SHARES = (0.4, 1.0)
"""Of the rows without labels, round by round."""
LEAST_TAUGHT = 500
MOST_LABELS, LEAST_WEIGHT = 5, 0.01
"""Classes that a row may stand under, and what it must weigh there."""


def shared_folder(run_folder: Path, data: RunData) -> Path:
    """Return the folder of the shared features; the first who asks fits them on all rows, seeing no label.

    ``columns.npy`` in it holds the labelled rows' columns, ``files`` what encoders take.
    """
    place = run_folder / "source" / "shared"

    def make(draft: Path) -> None:
        rows = joined([_drawn(frame, MOST_SHARED_ROWS, 0) for frame in (data.frame, data.needed_unlabelled)])
        shared = SharedColumns.of(SharedFeatures.fit(rows, 0), rows)
        (draft / "files").mkdir()
        shared.save(draft / "files")
        np.save(draft / "columns.npy", shared.columns_of(data.frame))

    once(place, make)
    return place


def shared_columns(run_folder: Path, data: RunData) -> Array:
    """Return the labelled rows' shared features, shape (n_rows, n_columns), float32."""
    columns: Array = np.load(shared_folder(run_folder, data) / "columns.npy")
    return columns


def drawn_unlabelled(data: RunData, fold: int) -> Frame:
    """Return the rows that a model of this fold may give labels to."""
    return _drawn(data.needed_unlabelled, MOST_LABELLED_BY_MODEL, fold)


def n_taught_rows(data: RunData) -> int:
    """Return how many rows the ensemble gives labels to: as many as have one, and `LEAST_TAUGHT` at least."""
    return min(data.needed_unlabelled.n_rows, MOST_LABELLED_BY_MODEL, max(LEAST_TAUGHT, data.n_rows))


def taught_rows(data: RunData) -> Frame:
    """Return these rows, drawn by chance."""
    return _drawn(data.needed_unlabelled, n_taught_rows(data), 0)


def _drawn(frame: Frame, most: int, seed: int) -> Frame:
    if frame.n_rows <= most:
        return frame
    return frame.take(np.sort(np.random.default_rng(seed).choice(frame.n_rows, most, replace=False)))


def fit_selftrained(
    family: Family, data: FoldData, unlabelled: Matrix, hyperparameters: Hyperparameters, limits: Limits
) -> Model:
    """Fit on labelled rows and, round by round, on a growing share of the others with labels of the last model [1]_.

    Every round starts anew. A row without a label stands under each class that it may have, with the probability of it
    for a weight: under the likeliest alone the model would be taught its own mistakes as certain, which log loss
    punishes. All of them together weigh at most as much as the labelled rows. The rounds share the seconds; one that
    has none is left out.

    Parameters
    ----------
    data : FoldData
        Its validation rows are labelled by the truth, and what a model stops on in every round.

    References
    ----------
    .. [1] Cascante-Bonilla et al., Curriculum labeling: revisiting pseudo-labeling for semi-supervised learning, AAAI
       2021, there with hard labels.
    """
    ends = None if limits.seconds is None else time.perf_counter() + limits.seconds

    def within(n_left: int) -> Limits:
        return limits if ends is None else replace(limits, seconds=(ends - time.perf_counter()) / n_left)

    model = family.fit(data, hyperparameters, within(len(SHARES) + 1))
    for k, share in enumerate(SHARES):
        made = _with_made_labels(data, unlabelled, model.predict(unlabelled, limits.threads), share)
        own = within(len(SHARES) - k)
        if made is None or (own.seconds is not None and own.seconds <= 0):
            break
        model = family.fit(made, hyperparameters, own)
    return model


def _with_made_labels(data: FoldData, unlabelled: Matrix, outputs: Array, share: float) -> FoldData | None:
    """Return labelled rows and the surest share of the others; None where none of these has a label to give."""
    rows = surest(margin(np.arange(len(outputs)), outputs), outputs.argmax(axis=1), share)
    return with_labels(data, replace(unlabelled, X=unlabelled.X[rows]), outputs[rows]) if len(rows) else None


def with_labels(data: FoldData, unlabelled: Matrix, outputs: Array) -> FoldData:
    """Return labelled rows and others, each under every class that it may have, with the probability for a weight.

    The others together weigh at most as much as the labelled rows.

    Parameters
    ----------
    outputs : ndarray of shape (n_unlabelled, n_classes)
        Probabilities.
    """
    likeliest = np.argsort(-outputs, axis=1, kind="stable")[:, :MOST_LABELS]
    weights = np.take_along_axis(outputs, likeliest, axis=1)
    kept = weights >= LEAST_WEIGHT
    kept[:, 0] = True  # of many classes the likeliest may be no likelier than that
    at, place = np.nonzero(kept)
    own = np.ones(len(data.y)) if data.weight is None else np.asarray(data.weight)
    theirs = weights[at, place]
    theirs = theirs * min(1.0, float(own.sum()) / float(theirs.sum()))
    return replace(
        data,
        train=as_matrix(np.vstack([data.train.X, unlabelled.X[at]]), data.train.categorical),
        y=np.concatenate([data.y, likeliest[at, place].astype(data.y.dtype)]),
        weight=np.concatenate([own, theirs]),
        keep=keep_nothing,
    )
