"""What else a job may learn from: rows of other tables with the same target."""

from collections.abc import Collection
from dataclasses import dataclass, replace

import numpy as np

from automl_cli.adapting import FLATTENED
from automl_cli.artifact import Artifact
from automl_cli.comparing import compared_columns, plain_rows, shared_columns
from automl_cli.errors import BadData
from automl_cli.features.frame import Frame, FrameSchema, frame_from_table, joined
from automl_cli.features.matrix import Array
from automl_cli.features.rowhash import salted_hashes
from automl_cli.labels import label_codes, label_numbers, labelled_rows
from automl_cli.rundata import SourceRows
from automl_cli.table import Notice, Table
from automl_cli.task import Task, TaskKind
from automl_cli.transfer.density import drawn_by_weight, finished
from automl_cli.transfer.domain import BLOCK_ROWS, LEARNERS
from automl_cli.transfer.shift import repeated_rows

FEW_ROWS = 20
MOST_STRAY = 0.05  # of a source's labels: with more numbers that the target lacks, its own few rows tell too little
LEAST_TOLD_APART = 0.5  # of the smaller table's rows must differ, so that an equal row is likely the same one
SALT = b"rows"  # of hashes that are compared and forgotten
MODEL_SHARE = 0.05  # of the limit may go into a model of the source
CELLS_PER_SECOND = 40_000  # of a source, for each second of the limit
USUAL_SECONDS = 100.0
FEWEST_DRAWN, MOST_DRAWN = 10_000, 500_000
MOST_ASKED = 10_000  # rows of each table that a domain classifier is trained on


@dataclass(frozen=True)
class Sources:
    """What was named beside the data.

    Attributes
    ----------
    table : Table or None
        The rows of all tables.
    model : Artifact or None
    judging : Table or None
        Rows of the data that nothing may be learned from.
    new : Table or None
        Rows without labels that the model is for.
    unlabelled : Table or None
        Rows whose target nobody knows.
    """

    table: Table | None = None
    model: Artifact | None = None
    judging: Table | None = None
    new: Table | None = None
    unlabelled: Table | None = None

    @property
    def given(self) -> bool:
        """Whether there is a source."""
        return self.table is not None or self.model is not None

    @property
    def fingerprints(self) -> tuple[str, ...]:
        """What a run that is resumed must find again."""
        return (
            *(() if self.table is None else (self.table.fingerprint,)),
            *(() if self.model is None else (self.model.manifest.digest,)),
            *(() if self.new is None else (self.new.fingerprint,)),
            *(() if self.unlabelled is None else (self.unlabelled.fingerprint,)),
        )


@dataclass(frozen=True)
class Labelled:
    """The rows of target and source that have a target value.

    Attributes
    ----------
    task : Task
        Of the target's rows.
    kept, kept_source : ndarray of int64
        Their positions in either table.
    y, weight, groups, order
        Of the source's rows, as for `RunData`.
    """

    task: Task
    kept: Array
    kept_source: Array
    y: Array
    weight: Array | None
    groups: Array | None
    order: Array | None
    notices: tuple[Notice, ...]


def check_weights(source: Table, target: str, column: str) -> None:
    """Refuse weights of a source that are none; a table that lacks the column is no worse for it.

    Raises
    ------
    BadData
    """
    weight = source.numbers(column)
    if np.isnan(weight).all():
        return
    rows = labelled_rows(source.strings(target))
    bad = rows[~(weight[rows] >= 0)]
    if len(bad):
        what = f"{len(bad):,} weights of {source.source} are missing, infinite or negative"
        raise BadData(f"{what}, the first in data row {bad[0] + 1}", hint="weights must be numbers of at least 0")


def learnable(
    source: Table, table: Table, alone: Task, *, asked: TaskKind | None, settled: bool
) -> tuple[Table, TaskKind | None, tuple[Notice, ...]]:
    """Return the rows of a source that say something of the target, and which kind of task both tables are.

    The target counts: where it tells two labels apart, source rows of other labels are left out. Of numbers its few
    rows may show a part only, so that these are decided on with the source's. A label is known by its text, or where
    all are numbers by what it is: ``1.0`` is ``1``.

    Parameters
    ----------
    alone : Task
        Of the target's rows.
    asked : TaskKind or None
        The kind that the user asked for.
    settled : bool
        Whether the user leaves no other kind than that of the target alone.

    Returns
    -------
    source : Table
        Rows with a label, which is written as in the target.
    kind : TaskKind or None
        None where the rows of both tables are to decide.

    Raises
    ------
    BadData
        No row has a label, or no label is one of the target's.
    """
    target, name = alone.target, f"target {alone.target!r}"
    rows = labelled_rows(source.strings(target), alone.classes)
    if not len(rows):
        raise BadData(f"{source.source} has no labelled row", hint=f"name a table whose rows have a {target!r}")
    source = source if len(rows) == source.n_rows else source.take(rows)
    notation = source.schema.column(target).notation
    numbers = label_numbers(source.strings(target), notation)
    if alone.kind is TaskKind.REGRESSION:
        if numbers is None:
            problem = f"{name} holds numbers in {table.source} and something else in {source.source}"
            raise BadData(problem, hint="bring both to the same values, or say --task")
        return source, alone.kind if settled else None, ()
    values = None if numbers is None else label_numbers(alone.classes, notation)
    if numbers is not None and values is not None:
        source = _spelt_alike(source, alone, numbers, values)
    is_own = label_codes(source.strings(target), alone.classes) >= 0
    if not is_own.any():
        raise _nothing_in_common(name, alone.classes, table, {text or "" for text in source.texts(target)}, source)
    if values is not None and not settled and is_own.mean() < 1 - MOST_STRAY:
        return source, None, ()
    if TaskKind.MULTICLASS in (alone.kind, asked) or is_own.all():
        return source, asked or alone.kind, ()
    strange = source.texts(target)[int(np.argmin(is_own))]
    what = f"{(~is_own).sum():,} of {len(rows):,} labelled rows of {source.source} are left out: {target!r} is neither"
    keep = "" if settled else "; --task multiclass keeps them"
    text = f"{what} {' nor '.join(map(repr, alone.classes))} in them, but {strange!r} for example{keep}"
    return source.take(np.flatnonzero(is_own)), alone.kind, (Notice("source_target", text),)


def _spelt_alike(source: Table, alone: Task, numbers: Array, values: Array) -> Table:
    """Write labels of a source that are the same numbers as labels of the target as these are written."""
    order = np.argsort(values)
    if len(np.unique(values)) < len(values):  # the target itself tells 1 and 1.0 apart
        return source
    at = np.minimum(np.searchsorted(values[order], numbers), len(values) - 1)
    other = (values[order][at] == numbers) & (label_codes(source.strings(alone.target), alone.classes) < 0)
    if not other.any():
        return source
    texts = np.array(source.texts(alone.target), dtype=object)
    texts[other] = np.array(alone.classes, dtype=object)[order[at[other]]]
    return source.with_texts(alone.target, texts.tolist())


def _nothing_in_common(
    name: str, labels: Collection[str], table: Table, others: Collection[str], source: Table
) -> BadData:
    ours, theirs = (", ".join(map(repr, sorted(of)[:3])) for of in (labels, others))
    problem = f"{name} holds {ours} in {table.source} and {theirs} in {source.source}"
    return BadData(problem, hint="bring both to the same labels")


def split_task(alone: Task, both: Task, kept: Array, table: Table, source: Table) -> Labelled:
    """Tell the target's rows of a task of both tables from the source's.

    Parameters
    ----------
    alone : Task
        Of the target's rows, without the source.
    both, kept
        Of both tables under each other; see `make_task`.

    Raises
    ------
    BadData
        The two have no class in common.
    """
    own = kept < table.n_rows
    notices = _labels_apart(both, own, table, source)
    if alone.kind is not both.kind:
        what = f"target {alone.target!r} of {table.source} alone would be a {alone.kind} task"
        text = f"{what}; with {source.source}: {both.reason}; --task {alone.kind} keeps to the former"
        notices = (*notices, Notice("source_target", text))
    # rows of either table weigh as the user says, relative to each other
    mean = 1.0 if both.weight is None else float(both.weight[own].mean()) or 1.0
    task = replace(
        both,
        reason=alone.reason if alone.kind is both.kind else both.reason,
        doubtful=alone.doubtful if alone.kind is both.kind else both.doubtful,
        y=both.y[own],
        weight=None if both.weight is None else both.weight[own] / mean,
        groups=None if both.groups is None else both.groups[own],
        order=None if both.order is None else both.order[own],
    )
    weight = None if both.weight is None else both.weight[~own] / mean
    groups = None if both.groups is None else both.groups[~own]
    order = None if both.order is None or np.isnan(both.order[~own]).all() else both.order[~own]
    return Labelled(task, kept[own], kept[~own] - table.n_rows, both.y[~own], weight, groups, order, notices)


def _labels_apart(both: Task, own: Array, table: Table, source: Table) -> tuple[Notice, ...]:
    """Compare the target's values; refuse classes that have nothing in common."""
    name = f"target {both.target!r}"
    if both.kind is TaskKind.REGRESSION:
        low, high = (float(end(both.y[own])) for end in (np.min, np.max))
        if not len(both.y[~own]) or (both.y[~own].max() >= low and both.y[~own].min() <= high):
            return ()
        ranges = f"{low:g} to {high:g} in {table.source}, {both.y[~own].min():g} to {both.y[~own].max():g} in"
        return (Notice("source_target", f"{name} ranges from {ranges} {source.source}: is it in one unit?"),)
    labels = [{both.classes[k] for k in np.unique(both.y[rows])} for rows in (own, ~own)]
    if not labels[0] & labels[1]:
        raise _nothing_in_common(name, labels[0], table, labels[1], source)
    said = []
    for more, fewer, here, there in ((0, 1, table, source), (1, 0, source, table)):
        extra = sorted(labels[more] - labels[fewer])
        if extra:
            what = ", ".join(map(repr, extra[:5]))
            said.append(Notice("source_target", f"{name}: {what} occurs in {here.source} and not in {there.source}"))
    return tuple(said)


def source_rows(
    source: Table, found: Labelled, frame: Frame, judging: Table | None, *, limit: float | None = None
) -> tuple[SourceRows, tuple[Notice, ...]]:
    """Return the source's labelled rows without those that the target has too: they would be trained and judged on.

    Parameters
    ----------
    frame : Frame
        Of the target's labelled rows.
    judging : Table or None
        Rows that are set aside to judge: what looks like one of them is left out, whatever its target.
    limit : float or None
        Seconds of the whole run.

    Raises
    ------
    BadData
        No row is left.
    """
    whole = frame_from_table(source, frame.schema).take(found.kept_source)
    repeated = repeated_rows(*_hashed(whole, found.y, frame, found.task.y))
    if judging is not None:
        alike = frame_from_table(judging, frame.schema)
        ours, known = _hashed(whole, np.zeros(whole.n_rows), alike, np.zeros(alike.n_rows))
        repeated = np.union1d(repeated, np.flatnonzero(np.isin(ours, known)))
    rows = np.setdiff1d(np.arange(whole.n_rows), repeated, assume_unique=True)
    if not len(rows):
        hint = "name a table with other rows"
        raise BadData(f"{source.source} has no labelled row that is not in the data as well", hint=hint)
    notices: tuple[Notice, ...] = ()
    if len(repeated):
        what = "1 row is" if len(repeated) == 1 else f"{len(repeated):,} rows are"
        notices = (Notice("repeated_rows", f"{what} in {source.source} and in the data: left out of the former"),)
    weight, groups, order = (None if of is None else of[rows] for of in (found.weight, found.groups, found.order))
    seconds = None if limit is None else MODEL_SHARE * limit
    frame = whole.take(rows) if len(repeated) else whole
    return SourceRows(frame, found.y[rows], weight, seconds, groups, order), notices


def _hashed(source: Frame, y: Array, target: Frame, y_target: Array) -> tuple[Array, Array]:
    """Return hashes of both tables' rows, of all cells of the columns that both have; none where these tell too little.

    Where few columns of few values are shared, most rows look like some other one, and none of them is known again.
    """
    shared = shared_columns(source, target)
    lacking = shared < shared_columns(target, target)
    ours, theirs = (salted_hashes(frame, of, (), SALT, among=shared) for frame, of in ((source, y), (target, y_target)))
    fewer = min(ours, theirs, key=len)
    if lacking and len(np.unique(fewer)) < LEAST_TOLD_APART * len(fewer):
        return ours[:0], theirs[:0]
    return ours, theirs


def most_source_rows(seconds: float | None, n_columns: int) -> int:
    """Return how many rows of a source a run can learn from in its time; none is counted as `USUAL_SECONDS`.

    >>> most_source_rows(20, 20), most_source_rows(20, 1), most_source_rows(5, 1000)
    (40000, 500000, 10000)
    """
    cells = CELLS_PER_SECOND * (USUAL_SECONDS if seconds is None else seconds)
    return int(np.clip(cells / max(1, n_columns), FEWEST_DRAWN, MOST_DRAWN))


def thinned(source: Table, target: Frame, most: int, *, seed: int) -> Table:
    """Draw rows of a large source without replacement, each in proportion to its flattened weight.

    A domain classifier is trained on a sample and asked for the rest in blocks: what is held of the source beside its
    table is one number per row, and time is linear in its rows.
    """
    rng = np.random.default_rng(seed)
    n, schema = source.n_rows, target.schema
    some = np.sort(rng.choice(n, min(n, MOST_ASKED), replace=False))
    ours = np.arange(target.n_rows)
    if len(ours) > MOST_ASKED:
        ours = np.sort(rng.choice(len(ours), MOST_ASKED, replace=False))
    both = compared_columns(frame_from_table(source.take(some), schema), target.take(ours))
    logs = np.zeros(n)
    if both.kept:
        is_target = np.repeat([False, True], [len(both.source), len(both.target)])
        told = LEARNERS["boosted"](np.concatenate([both.source, both.target]), is_target, both.categorical, seed)
        for start in range(0, n, BLOCK_ROWS):
            rows = np.arange(start, min(start + BLOCK_ROWS, n))
            logs[rows] = told(plain_rows(frame_from_table(source.take(rows), schema))[0][:, both.kept])
    weights = finished(np.exp(np.clip(logs, -50, 50)), gamma=FLATTENED)
    return source.take(drawn_by_weight(weights, most, seed=seed))


def sampled(source: Table, schema: FrameSchema, *, seed: int) -> Frame:
    """Return rows of a source that were drawn by chance alone, to say what it is like."""
    rows = np.random.default_rng(seed).choice(source.n_rows, min(source.n_rows, MOST_ASKED), replace=False)
    return frame_from_table(source.take(np.sort(rows)), schema)


def drawn(whole: Table, used: Table) -> tuple[Notice, ...]:
    """Say how much of a source is used, where it is not all."""
    if used.n_rows == whole.n_rows:
        return ()
    rows = f"of {whole.n_rows:,} labelled rows of {whole.source} {used.n_rows:,} are used"
    return (Notice("source_drawn", f"{rows}, drawn by how much they look like the data; more --time takes more"),)


def unlabelled_rows(table: Table, kept: Array, unlabelled: Table, schema: FrameSchema) -> Frame:
    """Return the rows of both tables that nobody knows the target of.

    Parameters
    ----------
    kept : ndarray of int64
        Positions of the rows of the first that have one.
    """
    more = frame_from_table(unlabelled, schema)
    own = np.setdiff1d(np.arange(table.n_rows), kept, assume_unique=True)
    return joined([frame_from_table(table.take(own), schema), more]) if len(own) else more


def few_rows(task: Task) -> tuple[Notice, ...]:
    """Warn where so few rows are judged on that chance decides."""
    if task.n_rows >= FEW_ROWS:
        return ()
    text = f"{task.n_rows} labelled rows: what is said of the model is vague, and so is the choice of it"
    return (Notice("few_rows", text),)
