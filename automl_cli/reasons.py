"""Why a row is predicted as it is: the columns that contribute most to it, as the boosters among the members tell.

Contributions are SHAP values, which are exact for trees: Lundberg et al., From local explanations to global
understanding with explainable AI for trees, Nature Machine Intelligence 2, 2020.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isnan
from typing import Any

import numpy as np

from automl_cli.artifact import Artifact, Manifest
from automl_cli.artifact.read import CHUNK_ROWS
from automl_cli.errors import BadArtifact, UsageError
from automl_cli.families import find_families
from automl_cli.families.target_scale import is_logarithm
from automl_cli.features.dates import FARTHEST_DAY, SECONDS_PER_DAY
from automl_cli.features.frame import Frame
from automl_cli.features.matrix import Array, Matrix, Source
from automl_cli.table import Schema
from automl_cli.transfer.adaptation import OFFSET, split_name

MOST_BYTES = 64 << 20
"""Of contributions that are held at once."""
NOTHING = -1
LEAST_SHARE = 0.05
"""Boosters of a smaller part of all boosters' weight give no reasons."""
DUST = 1e-6
"""A contribution below this share of its row's largest is a rounding error."""

Contributions = Callable[[Any, Matrix, int], Array]


@dataclass(frozen=True)
class Explained:
    """The part of a model that can give reasons.

    Attributes
    ----------
    tell : mapping of int to callable
        By member: ``contributions(model, data, threads)``, see `automl_cli.families.family.Family`.
    weights : mapping of int to float
        What a member's contributions count, by its number: means of contributions are taken over these members alone,
        while stacked weights stand as they are.
    n_members : int
        All members of the model.
    share : float
        Share of the members' weights, by their size, that is explained.
    """

    tell: Mapping[int, Contributions]
    weights: Mapping[int, float]
    n_members: int
    share: float


@dataclass(frozen=True)
class Reasons:
    """The columns that contribute most to each row's prediction, the largest first, whatever its sign.

    Attributes
    ----------
    columns : ndarray of shape (n_rows, k), int64
        Positions among ``frame.schema.names``; -1 where no further column contributes.
    contributions : ndarray of shape (n_rows, k), float64
        To the value of a regression, to the log odds of the positive of two classes, or to the raw score of the
        predicted one of several classes; 0 where there is no column.
    explained : Explained
    logarithm : bool
        Whether the value is the logarithm of 1 + the target.
    """

    columns: Array
    contributions: Array
    explained: Explained
    logarithm: bool


def explained_part(artifact: Artifact) -> Explained:
    """Return which members give reasons; no model is loaded.

    Raises
    ------
    UsageError
        None does.
    """
    families, members = find_families(include_missing=True), artifact.manifest.members
    tell: dict[int, Contributions] = {}
    for member in members:
        family = families.get(member.pipeline.family)  # predicting says which one is not known
        if split_name(member.pipeline.encoding)[1] == OFFSET:
            continue  # its contributions say what differs from another model, and nothing of that one
        if family is not None and family.contributions is not None and family.explains(member.pipeline.hyperparameters):
            tell[member.number] = family.contributions
    weights = {member.number: member.weight for member in members if member.number in tell}
    size = sum(map(abs, weights.values()))
    # A contribution takes a hundred times as long as a prediction: members that hardly count are not asked.
    weights = {number: weight for number, weight in weights.items() if abs(weight) >= LEAST_SHARE * size}
    tell = {number: tell[number] for number in weights}
    size = sum(map(abs, weights.values()))
    if not size > 0:
        raise UsageError(
            f"no member of {artifact.path} gives reasons, as boosters do",
            hint="leave --explain out, or fit with --include lightgbm",
        )
    stacked = bool(artifact.manifest.mixing.offsets)
    counted = weights if stacked else {number: weight / size for number, weight in weights.items()}
    return Explained(tell, counted, len(members), size / sum(abs(member.weight) for member in members))


def reasons(artifact: Artifact, frame: Frame, k: int, threads: int, *, outputs: Array | None = None) -> Reasons:
    """Find the ``k`` columns that contribute most to each row's prediction.

    A feature that is made of several columns shares its contribution equally between them.

    Parameters
    ----------
    frame : Frame of the manifest's ``frame_schema``
    outputs : ndarray of shape (n_rows, n_outputs) or None
        What ``artifact.predict`` gives for these rows, where that is known.

    Raises
    ------
    UsageError
        No member of the model is a booster.
    BadArtifact
        The file is damaged or malformed.
    MissingExtra
        A model needs a package that is not installed.
    """
    explained = explained_part(artifact)
    artifact.check()
    classes = np.zeros(frame.n_rows, dtype=np.int64)
    if artifact.manifest.n_outputs > 2:
        outputs = artifact.predict(frame, threads) if outputs is None else outputs
        classes = artifact.manifest.decision.deciding(outputs).argmax(axis=1)
    columns = np.full((frame.n_rows, k), NOTHING, dtype=np.int64)
    sizes = np.zeros((frame.n_rows, k))
    logarithm = False
    for rows in _slices(frame.n_rows, len(frame.schema.names)):
        part = frame if rows == slice(0, frame.n_rows) else frame.take(np.arange(rows.start, rows.stop))
        total, logarithm = _by_column(artifact, explained, part, classes[rows], threads)
        order = np.argsort(-np.abs(total), axis=1, kind="stable")[:, :k]
        largest = np.take_along_axis(total, order, axis=1)
        counts = np.abs(largest) > DUST * np.abs(largest[:, :1])
        columns[rows, : order.shape[1]] = np.where(counts, order, NOTHING)
        sizes[rows, : order.shape[1]] = np.where(counts, largest, 0.0)
    return Reasons(columns, sizes, explained, logarithm)


def _slices(n_rows: int, n_cells: int) -> Iterator[slice]:
    """Cut rows of so many cells of float64 into slices of `MOST_BYTES`, and of as many rows as a prediction takes."""
    step = max(1, min(CHUNK_ROWS, MOST_BYTES // (8 * max(1, n_cells))))
    return (slice(first, min(first + step, n_rows)) for first in range(0, n_rows, step))


def _by_column(
    artifact: Artifact, explained: Explained, frame: Frame, classes: Array, threads: int
) -> tuple[Array, bool]:
    """Return contributions of shape (n_rows, n_columns), and whether they are to a logarithm."""
    names = frame.schema.names
    total = np.zeros((frame.n_rows, len(names)))
    n_raw = artifact.manifest.n_outputs if artifact.manifest.n_outputs > 2 else 1
    logarithm = False
    for group in artifact.groups_of(explained.tell):
        shares = _Shares.of(group.encoder.sources(), names)
        matrix = group.encoder.transform(frame)
        for about, model in group.models:
            logarithm |= is_logarithm(model)
            for rows in _slices(frame.n_rows, (matrix.X.shape[1] + 1) * n_raw):
                part = Matrix(matrix.X[rows], matrix.categorical, matrix.names)
                told = explained.tell[about.number](model, part, threads)
                if told.shape != (len(part.X), len(shares.sources) + 1, n_raw):
                    raise BadArtifact(f"{artifact.path} is damaged: a model explains other features than it was given")
                own = np.take_along_axis(told[:, :-1], classes[rows, None, None], axis=2)[:, :, 0]
                total[rows] += explained.weights[about.number] * about.share * shares.by_column(own)
    return np.nan_to_num(total), logarithm


@dataclass(frozen=True)
class _Shares:
    """Which share of a feature's contribution is whose.

    Attributes
    ----------
    sources : sequence of Source
        One per feature.
    features, columns : ndarray of shape (n_pairs,), int64
        A feature and a column that it is made of, in the order of the columns.
    """

    sources: Sequence[Source]
    features: Array
    columns: Array
    n_columns: int

    @classmethod
    def of(cls, sources: Sequence[Source], names: Sequence[str]) -> "_Shares":
        position = {name: i for i, name in enumerate(names)}
        pairs = sorted((position[name], feature) for feature, source in enumerate(sources) for name in source)
        columns, features = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
        return cls(sources, features, columns, len(names))

    def by_column(self, by_feature: Array) -> Array:
        """Turn contributions of shape (n_rows, n_features) into those of shape (n_rows, n_columns)."""
        whole = np.zeros((len(by_feature), self.n_columns))
        if len(self.columns):
            among = np.array([max(1, len(source)) for source in self.sources])
            starts = np.flatnonzero(np.diff(self.columns, prepend=NOTHING))
            shared = (by_feature / among)[:, self.features]
            whole[:, self.columns[starts]] = np.add.reduceat(shared, starts, axis=1)
        return whole


def reason_names(k: int) -> tuple[str, ...]:
    """Return what the columns of reasons are called.

    >>> reason_names(2)
    ('reason_1', 'reason_2')
    """
    return tuple(f"reason_{number}" for number in range(1, k + 1))


def reason_columns(found: Reasons, frame: Frame, schema: Schema) -> dict[str, list[str | None]]:
    """Word the reasons: columns of texts such as ``age=45 (+0.12)``, None where there is no reason.

    Parameters
    ----------
    frame : Frame
        The rows that the reasons are for.
    schema : Schema
        Of the training, with the labels of categories.
    """
    n_rows, k = found.columns.shape
    worded: list[list[str | None]] = [[None] * n_rows for _ in range(k)]
    for column in np.unique(found.columns[found.columns != NOTHING]).tolist():
        name = frame.schema.names[column]
        rows, places = np.nonzero(found.columns == column)
        cells = _cells(frame, name, rows, schema)
        sizes = found.contributions[rows, places].tolist()
        for row, place, cell, size in zip(rows.tolist(), places.tolist(), cells, sizes, strict=True):
            worded[place][row] = f"{name}{cell} ({signed(size)})"
    return dict(zip(reason_names(k), worded, strict=True))


def summary(found: Reasons, manifest: Manifest) -> str:
    """Say in one line whose reasons they are, and what is contributed to."""
    explained, n_explained = found.explained, len(found.explained.weights)
    whose = f"{n_explained} of {explained.n_members} members, {explained.share:.2f} of the weight"
    if n_explained == explained.n_members:
        whose = "all members"
    if manifest.n_outputs > 2:
        what = "the score of the predicted class"
    elif manifest.n_outputs == 2:
        what = f"the log odds of {manifest.classes[-1]!r}"
    else:
        what = f"log(1 + {manifest.target!r})" if found.logarithm else f"{manifest.target!r}"
    return f"reasons are those of {whose}; contributions are to {what}"


def signed(size: float) -> str:
    """Return a contribution with its sign and three significant digits.

    >>> signed(0.12345), signed(-12345.6), signed(0.1)
    ('+0.123', '-12300', '+0.1')
    """
    short = f"{size:+.3g}"
    return f"{float(short):+.0f}" if "e+" in short and abs(size) < 1e15 else short


def _cells(frame: Frame, name: str, rows: Array, schema: Schema) -> list[str]:
    """Return what follows a column's name: its values in some rows as the model sees them."""
    kinds = frame.schema
    if name in kinds.numeric:
        numbers = frame.numbers[rows, kinds.numeric.index(name)].tolist()
        return [" missing" if isnan(number) else f"={number:g}" for number in numbers]
    if name in kinds.categorical:
        labels = schema.column(name).categories
        codes = frame.codes[rows, kinds.categorical.index(name)].tolist()
        return [_label(code, labels) for code in codes]
    if name in kinds.datetime:
        return _dates(frame.days[rows, kinds.datetime.index(name)])
    lengths = frame.text_lengths(kinds.text.index(name))[rows]
    return ["" if length >= 0 else " missing" for length in lengths.tolist()]


def _label(code: int, labels: Sequence[str]) -> str:
    if 0 <= code < len(labels):
        return f"={labels[code]}"
    return " missing" if code == -1 else " unknown"


def _dates(days: Array) -> list[str]:
    """Return ISO 8601, without the time of day where it is midnight."""
    known = np.nan_to_num(np.clip(days, -FARTHEST_DAY, FARTHEST_DAY))
    seconds = np.round(known * SECONDS_PER_DAY).astype(np.int64)
    times = np.datetime_as_string(seconds.astype("datetime64[s]")).tolist()
    cells = [f"={time.removesuffix('T00:00:00')}" for time in times]
    return [" missing" if isnan(day) else cell for cell, day in zip(cells, days.tolist(), strict=True)]
