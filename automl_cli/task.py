"""What is predicted: the kind of task, its classes and its metric."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from automl_cli.errors import BadData, UsageError
from automl_cli.labels import MISSING_LABELS, cells_of, labelled_rows, values_of, written_as
from automl_cli.metrics import Array, Metric, TaskKind, metric_for
from automl_cli.table.notation import PLAIN, Notation

__all__ = ["MISSING_LABELS", "Task", "TaskKind", "make_task"]

_MAX_CLASSES = 1000
# integers with at most this many distinct values may be classes as well as amounts
_FEW = 20
_ROWS_PER_CLASS = 10


@dataclass(frozen=True)
class Task:
    """The target, ready to be learned: one entry per labelled row.

    Attributes
    ----------
    kind : TaskKind
    target : str
        Name of the target column.
    reason : str
        Why this kind, in one line.
    doubtful : bool
        Whether another kind is as likely; the reason then names the option that decides.
    classes : tuple of str
        Labels as written in the data, in the order of the class indices; empty for a regression. Of a binary task
        the positive class is the last.
    metric : Metric
    y : ndarray of shape (n_rows,)
        int64 class indices, or float64 values.
    weight : ndarray of shape (n_rows,) or None
        float64, at least 0.
    groups : ndarray of shape (n_rows,) or None
        int64 codes of rows that belong together.
    order : ndarray of shape (n_rows,) or None
        float64, larger is later; NaN where it is not known.
    """

    kind: TaskKind
    target: str
    reason: str
    doubtful: bool
    classes: tuple[str, ...]
    metric: Metric
    y: Array
    weight: Array | None = None
    groups: Array | None = None
    order: Array | None = None

    @property
    def n_rows(self) -> int:
        """Labelled rows."""
        return len(self.y)

    @property
    def n_outputs(self) -> int:
        """Columns of a prediction: one per class, 1 for a regression."""
        return len(self.classes) or 1


@dataclass(frozen=True)
class _Labels:
    """The distinct labels of the labelled rows."""

    target: str
    texts: tuple[str, ...]
    counts: Array
    numbers: Array | None
    """float64, one per text; None unless all texts are numbers."""
    notation: Notation = PLAIN
    """How these are written."""

    @property
    def n_rows(self) -> int:
        return int(self.counts.sum())


def make_task(
    labels: Sequence[str | None] | Array | Any,
    *,
    target: str,
    kind: TaskKind | None = None,
    metric: str | None = None,
    positive: str | None = None,
    notation: Notation | None = None,
    weight: Array | None = None,
    groups: Sequence[Any] | Array | Any | None = None,
    order: Array | None = None,
) -> tuple[Task, Array]:
    """Decide what is predicted from the text of the target's cells.

    Two distinct values are a binary task, text is multiclass, 3 to 20 consecutive integers that start at 0 or 1 with
    at least 10 rows each are multiclass, other numbers are a regression; ``kind`` overrules. Labels keep their text
    (``1`` and ``1.0`` are two classes); classes are in numeric order where all are numbers, else in text order. No
    class is ever dropped, however rare.

    Parameters
    ----------
    labels : sequence of str or None, object array, or pyarrow string array, of length n
        Text of the target's cells; None and the usual markers (`MISSING_LABELS`) are missing, except that ``-`` is a
        label beside ``+``, and ``-`` or ``None`` where all other rows hold one and the same label; ``None`` also among
        other words (`meant_labels`).
    positive : str or None
        The label to predict the probability of; by default the last one.
    notation : Notation or None
        How numbers are written in the target's column, as far as a part of its cells tells; None where unknown.
    weight, order : ndarray of shape (n,) or None
    groups : sequence of length n or None
        Any values; rows with equal ones belong together. A row without one (None, NaN, -1) is a group of its own.

    Returns
    -------
    task : Task
    kept_rows : ndarray of int64
        Positions of the rows with a target, which the task consists of; ascending.

    Raises
    ------
    BadData
        Where there is nothing to learn: fewer than two labelled rows, one class, free text, a target, weight or
        order that does not fit.
    UsageError
        Where ``positive`` or ``metric`` does not fit the task.
    """
    cells, kept = _labelled(labels, target)
    found = _distinct(cells, target, notation)
    kind, reason, doubtful = _kind(found) if kind is None else _asked(found, kind)
    if kind is TaskKind.REGRESSION:
        if positive is not None:
            raise UsageError(f"--positive {positive!r} needs classes, target {target!r} is a regression")
        classes: tuple[str, ...] = ()
        y, finite = _values(cells, found)
        kept, y = kept[finite], y[finite]
    else:
        classes = _classes(found, positive, kind)
        y = pc.index_in(cells, value_set=pa.array(classes, pa.string())).to_numpy().astype(np.int64)
    chosen = metric_for(metric, kind)
    if kind is TaskKind.REGRESSION and y.min() < chosen.lowest:
        raise BadData(
            f"metric {chosen.name} needs targets of at least {chosen.lowest:g}, {target!r} goes down to {y.min():g}",
            hint="use --metric rmse or mae",
        )
    task = Task(
        kind=kind,
        target=target,
        reason=reason,
        doubtful=doubtful,
        classes=classes,
        metric=chosen,
        y=y,
        weight=None if weight is None else _weight(np.asarray(weight, dtype=np.float64), kept),
        groups=None if groups is None else _groups(groups, kept),
        order=None if order is None else _order(np.asarray(order, dtype=np.float64), kept),
    )
    return task, kept


def _labelled(labels: Any, target: str) -> tuple[Any, Array]:
    """Return the labelled cells as a pyarrow array, and their positions."""
    cells, kept = cells_of(labels), labelled_rows(labels)
    if len(kept) < 2:
        raise BadData(
            f"target {target!r} is filled in {len(kept)} of {len(cells)} rows, at least 2 are needed",
            hint="name another column with --target, or give labelled rows",
        )
    return cells.take(pa.array(kept)), kept


def _distinct(cells: Any, target: str, notation: Notation | None) -> _Labels:
    counted = pc.value_counts(cells)
    texts, counts = counted.field("values"), counted.field("counts").to_numpy()
    written = written_as(texts, notation)
    numbers = None if written is None else values_of(texts, written)
    found = _Labels(target, tuple(texts.to_pylist()), counts, numbers, written or PLAIN)
    if len(found.texts) < 2:
        raise BadData(
            f"target {target!r} is {found.texts[0]!r} in all {found.n_rows} rows",
            hint="there is nothing to tell apart; name another column with --target",
        )
    return found


def _kind(found: _Labels) -> tuple[TaskKind, str, bool]:
    """Infer the kind of task; return it with its reason, and whether that is doubtful."""
    n_distinct = len(found.texts)
    if n_distinct == 2:
        first, second = sorted(found.texts)
        return TaskKind.BINARY, f"two values, {first!r} and {second!r}", False
    if found.numbers is None:
        none = ", one of which is None" if "None" in found.texts else ""
        return TaskKind.MULTICLASS, f"text with {n_distinct:,} distinct values{none}", False
    values, written = np.unique(found.numbers), found.notation
    fewest = min(found.counts[found.numbers == value].sum() for value in values) if len(values) <= _FEW else 0
    if (written.prefix or written.suffix) and fewest >= _ROWS_PER_CLASS:
        reason = f"{len(values)} distinct numbers{written.words}, taken for classes; if they are amounts, say "
        return TaskKind.MULTICLASS, f"{reason}--task regression", True
    if not (3 <= len(values) <= _FEW and np.array_equal(values, np.round(values))):
        how = "" if written.is_plain else f"{written.words},"
        return TaskKind.REGRESSION, f"numbers{how} with {len(values):,} distinct values", False
    span = f"{len(values)} distinct integers from {values[0]:g} to {values[-1]:g}"
    if values[0] in (0, 1) and values[-1] - values[0] == len(values) - 1 and fewest >= _ROWS_PER_CLASS:
        reason = f"{span}, at least {fewest:,} rows each, taken for classes; if they are amounts, say --task regression"
        return TaskKind.MULTICLASS, reason, True
    return TaskKind.REGRESSION, f"{span}, taken for amounts; if they are classes, say --task multiclass", True


def _asked(found: _Labels, kind: TaskKind) -> tuple[TaskKind, str, bool]:
    """Check that the data can be the kind that was asked for."""
    n_distinct = len(found.texts)
    if kind is TaskKind.REGRESSION and found.numbers is None:
        first = next((text for text in found.texts if written_as(pa.array([text])) is None), found.texts[0])
        raise BadData(
            f"target {found.target!r} is not a number everywhere, for example {first!r}: no regression",
            hint="clean these cells, or use --task binary or multiclass",
        )
    if kind is TaskKind.BINARY and n_distinct != 2:
        raise BadData(
            f"target {found.target!r} has {n_distinct:,} distinct values, a binary task has 2",
            hint="use --task multiclass or regression",
        )
    if kind is TaskKind.MULTICLASS and n_distinct == 2:
        return TaskKind.BINARY, "multiclass was asked for; with two values that is a binary task", False
    return kind, "asked for", False


def _classes(found: _Labels, positive: str | None, kind: TaskKind) -> tuple[str, ...]:
    """Order the labels, the positive one last."""
    n_distinct = len(found.texts)
    if n_distinct > 2 and n_distinct > 0.8 * found.n_rows:
        problem = (
            f"target {found.target!r} is a different text in almost every row ({n_distinct:,} in {found.n_rows:,})"
        )
        raise BadData(problem, hint=_not_classes(found))
    if n_distinct > _MAX_CLASSES:
        problem = f"target {found.target!r} has {n_distinct:,} distinct labels, more than {_MAX_CLASSES:,} classes"
        raise BadData(problem, hint=_not_classes(found))
    keys = found.texts if found.numbers is None else list(zip(found.numbers.tolist(), found.texts, strict=True))
    ordered = tuple(found.texts[i] for i in sorted(range(n_distinct), key=keys.__getitem__))
    if positive is None:
        return ordered
    if kind is not TaskKind.BINARY:
        raise UsageError(f"--positive {positive!r} needs two classes, target {found.target!r} has {n_distinct}")
    if positive not in ordered:
        raise UsageError(
            f"no label of target {found.target!r} is {positive!r}",
            hint=f"the labels are {ordered[0]!r} and {ordered[1]!r}",
        )
    return (*(label for label in ordered if label != positive), positive)


def _not_classes(found: _Labels) -> str:
    """Say what to do about a target that is no set of classes."""
    if found.numbers is not None:
        return "these are numbers: use --task regression"
    texts = [text for text in found.texts[:10_000] if written_as(pa.array([text])) is None]
    if len(texts) < 0.1 * min(len(found.texts), 10_000):
        return f"almost all are numbers, but {texts[0]!r} is not: clean such cells" if texts else "clean its cells"
    return "free text cannot be predicted; name another column with --target"


def _values(cells: Any, found: _Labels) -> tuple[Array, Array]:
    """Return the numbers of a regression, and which rows hold a finite one."""
    y = values_of(cells, found.notation)  # every distinct text was read as a number before
    finite = np.isfinite(y)
    if finite.sum() < 2 or np.ptp(y[finite]) == 0:
        raise BadData(
            f"target {found.target!r} holds fewer than two distinct finite numbers",
            hint="there is nothing to tell apart; name another column with --target",
        )
    return y, finite


def _weight(weight: Array, kept: Array) -> Array:
    bad = kept[~(np.isfinite(weight[kept]) & (weight[kept] >= 0))]
    if len(bad):
        raise BadData(
            f"{len(bad):,} weights are missing, infinite or negative, the first in data row {bad[0] + 1}",
            hint="weights must be numbers of at least 0",
        )
    if not weight[kept].sum() > 0:
        raise BadData("all weights are 0", hint="name another column with --weight-column")
    # On average 1: the penalties and least weights of leaves in every library are made for rows that count once.
    return np.asarray(weight[kept] / weight[kept].mean())


def _groups(groups: Any, kept: Array) -> Array:
    """Return int64 codes; a row without a group gets a code of its own."""
    codes: Array
    values = groups.combine_chunks() if isinstance(groups, pa.ChunkedArray) else pa.array(groups, from_pandas=True)
    values = values.take(pa.array(kept))
    encoded = pc.dictionary_encode(values)
    codes = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
    if pa.types.is_integer(values.type):
        codes[pc.fill_null(pc.less(values, 0), False).to_numpy(zero_copy_only=False)] = -1
    alone = codes < 0
    codes[alone] = len(encoded.dictionary) + np.arange(alone.sum())
    return codes


def _order(order: Array, kept: Array) -> Array:
    if np.isnan(order[kept]).all():
        raise BadData("the time column is empty in all labelled rows", hint="name another column with --time-column")
    return np.asarray(order[kept])
