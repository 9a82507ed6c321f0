"""Which rows are learned from and which are predicted: one plan for the whole run."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from automl_cli.errors import BadData, UsageError
from automl_cli.metrics import Array, TaskKind
from automl_cli.task import Task

Fold = tuple[Array, Array]

_LONG = 300.0
"""Seconds from which more folds are worth their time; also what a run without a time limit counts as."""
_FOLDS_BY_ROWS: tuple[tuple[int, int, int], ...] = (
    # fewer rows than this: folds in a short run, folds in a long one
    (1_000, 8, 8),
    (5_000, 5, 8),
    (20_000, 5, 5),
    (100_000, 3, 4),
    (250_000, 3, 3),
)
_USUAL_COLUMNS = 100
"""Wider tables cost as much as longer ones, and get as few folds, though never fewer than three."""
_CELLS_PER_SECOND = 40_000
"""Cells, times classes, per second of the limit. Beyond it, where boosting one fold takes a large part of the time, one
fold whose fit converges is worth more than three that are cut."""
_SHORT, _FOLDS_IN_A_SHORT_RUN = 60.0, 5
_FEWEST_HELD_OUT = 20_000
"""Rows from which one part may do."""
_FEWEST_OF_CLASS = 100
"""Rows of a class that a holdout is to have: a handful puts an area under the curve off by more than models differ."""
_TIME_BLOCKS = 4
_MOST_REPEATED = 5_000
"""Rows up to which the members are fitted on other folds as well: on more, other rows make hardly another model."""
_MANY_GROUPS = 20_000
_MANY_CELLS = 5_000_000


@dataclass(frozen=True)
class ValidationPlan:
    """The folds that all trials of a run share.

    Attributes
    ----------
    folds : tuple of (train_rows, valid_rows)
        int64, ascending. No row is validated twice; rows that never are have no out-of-fold prediction.
    reason : str
        Why these, in one line.
    random : bool
        Whether rows were spread by chance alone, so that out-of-bag predictions may stand in for folds.
    refit : bool
        Whether the final members are to be fitted again on all rows: under a time order the folds' models have not
        seen the latest ones.
    repeat : tuple of (train_rows, valid_rows)
        The same rows dealt out once more, for further models of the final members; empty where there are many rows,
        a holdout, groups or a time order.
    """

    folds: tuple[Fold, ...]
    reason: str
    random: bool
    refit: bool
    repeat: tuple[Fold, ...] = ()

    @property
    def valid_rows(self) -> Array:
        """Rows with an out-of-fold prediction, int64, ascending."""
        return np.sort(np.concatenate([valid for _, valid in self.folds]))


@dataclass(frozen=True)
class _Count:
    """How many parts the rows are cut into, and how many of them are validated: all, or one as a holdout."""

    parts: int
    validated: int

    def __str__(self) -> str:
        if self.validated < self.parts:
            return f"one holdout of 1/{self.parts} of the rows"
        return f"{self.parts} folds"


def plan_folds(
    task: Task, *, folds: int | None, seconds: float | None, n_columns: int, seed: int, n_more: int = 0
) -> ValidationPlan:
    """Plan the validation by rows, classes, groups or time, and by what the time allows.

    Classes are spread evenly: each has within one row the same number in every fold. A class with fewer rows than
    folds misses from some of them; the only row of a class stays in training in every fold, and is never validated
    (unless its group moves as one). Small regressions are spread evenly over the sorted target. Groups are never
    split. Under a time order each block of the last half is predicted from all rows before it, and from none of the
    groups it holds. 8 folds serve small tables and 3 large ones [1]_, [2]_; from 250,000 rows on one holdout of at
    least 20,000 rows (5 %) does, and of 15 % from 20,000 rows on where the limit is short for the size of the table.

    Parameters
    ----------
    folds : int or None
        Overrides the number of folds, or of blocks in time: 2 to 20.
    seconds : float or None
        Time of the whole search; None counts as 300, so that nothing here depends on a clock.
    n_columns : int
        Columns of the table: wide tables get fewer folds.
    seed : int
        Of the run.
    n_more : int
        Rows of other tables that each fold may be trained on as well: they make folds dear, and a fold's own training
        rows matter less.

    Raises
    ------
    UsageError
        Where ``folds`` is out of range, or larger than the number of rows or groups, or where groups and time order
        leave nothing to learn from.
    BadData
        Where no fold can be made: one group, one point in time, each class with a single row.

    References
    ----------
    .. [1] AutoGluon's rule: 8 folds, 5 to 7 below 80 rows (Erickson et al., AutoGluon-Tabular, 2020).
    .. [2] Auto-sklearn 2.0: three folds have the least mean regret at ten minutes (Feurer et al., JMLR 2022).
    """
    if folds is not None and not 2 <= folds <= 20:
        raise UsageError(f"{folds} folds are out of range", hint="--folds takes 2 to 20")
    count = _fewer(_count(task, folds, seconds, n_columns), task, seconds, n_more if folds is None else 0)
    rng = np.random.default_rng(np.random.SeedSequence([seed, task.n_rows]))
    again: list[Fold] = []
    if task.order is not None:
        made = _in_time(task, task.order, count, blocks=folds or _TIME_BLOCKS)
        others = "" if task.groups is None else " that belong to other groups"
        what = f"{len(made)} block{'s' if len(made) > 1 else ''} in time"
        how = f"each predicted from the rows before it{others}"
    elif task.groups is not None:
        count = _within_groups(task.groups, count, folds)
        part = _spread_groups(task, task.groups, count.parts, rng)
        if count.validated < count.parts:
            part = (part - _held_out(task, task.groups, part, count.parts, rng)) % count.parts
        made = _apart(part, count)
        what, how = str(count), f"{len(np.unique(task.groups)):,} groups never split"
    else:
        spread, how = _spread(task)
        made = _apart(spread(task.y, count.parts, rng), count)
        what, how = str(count), how + _rare(task)
        if task.n_rows < _MOST_REPEATED and count.validated == count.parts:
            again = _apart(spread(task.y, count.parts, rng), count)
    usable = _usable(task, made)
    if not usable:
        raise _nothing_left(task)
    return ValidationPlan(
        folds=usable,
        reason=f"{what} for {task.n_rows:,} rows, {how}",
        random=task.order is None and task.groups is None,
        refit=task.order is not None,
        repeat=_usable(task, again),
    )


def _usable(task: Task, folds: list[Fold]) -> tuple[Fold, ...]:
    return tuple((train, valid) for train, valid in folds if len(valid) and _learnable(task, train))


def _count(task: Task, folds: int | None, limit: float | None, n_columns: int) -> _Count:
    if folds is not None:
        if folds > task.n_rows:
            raise UsageError(f"{folds} folds of {task.n_rows} rows", hint=f"--folds takes 2 to {min(20, task.n_rows)}")
        return _Count(folds, folds)
    n, seconds = task.n_rows, _LONG if limit is None else limit
    wanted, rarest = _folds_for(n, seconds), _rarest(task)
    hurried = limit is not None and _hurried(task, limit, n_columns)
    if wanted == 1 and not hurried and rarest < 3 * _FEWEST_OF_CLASS:
        wanted = 3
    if wanted == 1 or hurried:
        # a holdout is the first of as many parts as make one of them large enough, for the rarer class too
        parts = round(1 / min(max(0.05, 20_000 / n), 0.15))
        return _Count(max(2, min(parts, rarest, max(3, rarest // _FEWEST_OF_CLASS))), 1)
    wide = _folds_for(int(n * max(1.0, n_columns / _USUAL_COLUMNS)), seconds)
    wanted = min(wanted, max(3, wide), max(5, n // 10), n)
    wanted = min(wanted, max(2, rarest))
    return _Count(wanted, wanted)


def _fewer(count: _Count, task: Task, limit: float | None, n_more: int) -> _Count:
    """Return as many folds as all rows together would get, at least three, and in a short run at most five."""
    if not n_more or count.validated < count.parts:
        return count
    seconds = _LONG if limit is None else limit
    most = max(3, _folds_for(task.n_rows + n_more, seconds))
    n_folds = min(count.parts, most if seconds >= _SHORT else min(most, _FOLDS_IN_A_SHORT_RUN))
    return _Count(n_folds, n_folds)


def _rarest(task: Task) -> int:
    """Return the rows of the rarer class of two; otherwise of all.

    In as many parts each class has a row: without a positive row one says nothing.
    """
    return int(np.bincount(task.y, minlength=2).min()) if task.kind is TaskKind.BINARY else task.n_rows


def _hurried(task: Task, limit: float, n_columns: int) -> bool:
    n_outputs = task.n_outputs if task.n_outputs > 2 else 1  # trees of a round
    cells = task.n_rows * n_columns * n_outputs
    return task.n_rows >= _FEWEST_HELD_OUT and cells > _CELLS_PER_SECOND * limit


def _folds_for(n_rows: int, seconds: float) -> int:
    fitting = (long if seconds >= _LONG else short for rows, short, long in _FOLDS_BY_ROWS if n_rows < rows)
    return next(fitting, 1)


def _spread(task: Task) -> tuple[Callable[[Array, int, np.random.Generator], Array], str]:
    """Return how rows are given to parts, as a function and in words."""
    if task.kind is not TaskKind.REGRESSION:
        return _by_class, "stratified by class"
    if task.n_rows < 20_000:
        return _by_value, "spread evenly over the sorted target"
    return _by_chance, "at random"


def _rare(task: Task) -> str:
    """Say how many classes have one row only."""
    alone = 0 if task.kind is TaskKind.REGRESSION else int((np.bincount(task.y) == 1).sum())
    if not alone:
        return ""
    return f"; {alone} class{'es have' if alone > 1 else ' has'} a single row, which is always learned from"


def _by_class(y: Array, parts: int, rng: np.random.Generator) -> Array:
    """Deal each class out in turn, going on where the class before it ended; -1 is never validated."""
    counts = np.bincount(y)
    order = np.lexsort((rng.random(len(y)), y))
    order = order[counts[y[order]] > 1]
    part = np.full(len(y), -1, dtype=np.int64)
    part[order] = rng.permutation(parts)[np.arange(len(order)) % parts]
    return part


def _by_value(y: Array, parts: int, rng: np.random.Generator) -> Array:
    """Cut the sorted target into runs of ``parts`` rows and deal out each run by chance."""
    order = np.lexsort((rng.random(len(y)), y))
    n_runs = -(-len(y) // parts)
    dealt = rng.permuted(np.tile(np.arange(parts), (n_runs, 1)), axis=1).ravel()
    part = np.empty(len(y), dtype=np.int64)
    part[order] = dealt[: len(y)]
    return part


def _by_chance(y: Array, parts: int, rng: np.random.Generator) -> Array:
    return rng.permutation(np.arange(len(y)) % parts)


def _apart(part: Array, count: _Count) -> list[Fold]:
    """Turn the part of each row into folds."""
    return [(np.flatnonzero(part != k), np.flatnonzero(part == k)) for k in range(count.validated)]


def _within_groups(groups: Array, count: _Count, folds: int | None) -> _Count:
    n_groups = len(np.unique(groups))
    if n_groups < 2:
        raise BadData("all rows are in one group, so none can be held out", hint="name another --group-column")
    if folds is not None and folds > n_groups:
        raise UsageError(f"{folds} folds of {n_groups} groups", hint=f"--folds takes 2 to {min(20, n_groups)}")
    parts = min(count.parts, n_groups)
    return _Count(parts, min(count.validated, parts))


def _spread_groups(task: Task, groups: Array, parts: int, rng: np.random.Generator) -> Array:
    """Give each group, the largest first, to the part where its classes (or just its rows) are fewest so far."""
    _, codes = np.unique(groups, return_inverse=True)
    sizes = np.bincount(codes)
    order = np.lexsort((rng.random(len(sizes)), -sizes))
    part = np.empty(len(sizes), dtype=np.int64)
    if len(sizes) > _MANY_GROUPS:
        part[order] = np.arange(len(sizes)) % parts
        return part[codes]
    y = task.y if task.kind is not TaskKind.REGRESSION else np.zeros(task.n_rows, dtype=np.int64)
    n_classes = task.n_outputs
    if len(sizes) * n_classes > _MANY_CELLS:
        y, n_classes = np.zeros_like(y), 1
    held = np.bincount(codes * n_classes + y, minlength=len(sizes) * n_classes).reshape(len(sizes), n_classes)
    shares = held / np.maximum(held.sum(axis=0), 1)
    load, rows = np.zeros((parts, n_classes)), np.zeros(parts)
    for group in order:
        # least growth of the sum of squares; equal sizes decide a tie
        k = int(np.lexsort((rows, load @ shares[group]))[0])
        part[group] = k
        load[k] += shares[group]
        rows[k] += sizes[group]
    return part[codes]


def _held_out(task: Task, groups: Array, part: Array, parts: int, rng: np.random.Generator) -> int:
    """Choose the part of whole groups that is held out: of about the size that was meant, of several groups, by chance.

    The first part holds the largest group, which may be a large share of all rows and unlike the others. Both sides are
    to have two classes, and lack as few of the others as can be.
    """
    rows = np.bincount(part, minlength=parts)
    # A part that is too large takes rows from the training; one that is too small just judges less surely.
    excess = rows * parts / task.n_rows - 1
    off = np.where(excess > 0, 2 * excess, -excess)
    y = task.y if task.kind is not TaskKind.REGRESSION else np.zeros(task.n_rows, dtype=np.int64)
    held = np.bincount(part * task.n_outputs + y, minlength=parts * task.n_outputs).reshape(parts, -1)
    left = held.sum(axis=0) - held
    n_held, n_left = (held > 0).sum(axis=1), (left > 0).sum(axis=1)
    fits = np.minimum(n_held, n_left) >= min(2, task.n_outputs)
    fits = fits if fits.any() else np.ones(parts, dtype=bool)
    near = fits & (off <= off[fits].min() + 0.2)
    near &= (n_held + n_left) == (n_held + n_left)[near].max()
    _, first = np.unique(groups, return_index=True)
    several = near & (np.bincount(part[first], minlength=parts) > 1)
    return int(rng.choice(np.flatnonzero(several if several.any() else near)))


def _in_time(task: Task, order: Array, count: _Count, *, blocks: int) -> list[Fold]:
    """Cut the last half of the rows into blocks in time; rows of one moment stay together."""
    # a row without a time is only learned from
    when = np.where(np.isnan(order), -np.inf, order)
    by_time = np.argsort(when, kind="stable")
    sorted_when = when[by_time]
    n, n_known = len(order), np.isfinite(order).sum()
    share, blocks = (1 / count.parts, 1) if count.validated < count.parts else (0.5, blocks)
    cuts = np.ceil(n - n_known * share * np.arange(blocks, 0, -1) / blocks).astype(np.int64).clip(1, n - 1)
    first = np.searchsorted(sorted_when, sorted_when[cuts], side="left")
    after = np.searchsorted(sorted_when, sorted_when[cuts], side="right")
    # a block begins with its moment; where that is the first one of all, with the next
    edges = np.unique([*np.where(first > 0, first, after).tolist(), n])
    made = []
    for start, stop in pairwise(edges):
        train, valid = by_time[:start], by_time[start:stop]
        if task.groups is not None:
            train = train[~np.isin(task.groups[train], task.groups[valid])]
        made.append((np.sort(train), np.sort(valid)))
    return made


def _learnable(task: Task, train: Array) -> bool:
    """Whether the rows can be learned from: at least one, and two classes, and not all of weight 0."""
    if task.weight is not None and not task.weight[train].sum() > 0:
        return False
    if task.kind is TaskKind.REGRESSION:
        return len(train) > 0
    return len(train) > 1 and bool((task.y[train] != task.y[train[0]]).any())


def _nothing_left(task: Task) -> BadData | UsageError:
    if task.order is not None and task.groups is not None:
        return UsageError(
            "the groups reach through all of the time, so nothing is left to learn from before each block",
            hint="use --group-column or --time-column, not both",
        )
    if task.order is not None:
        return BadData(
            f"the rows cannot be cut in time so that the earlier ones hold two values of {task.target!r}",
            hint="leave out --time-column",
        )
    if task.groups is not None:
        return BadData(
            f"without one group the others hold a single class of {task.target!r}", hint="leave out --group-column"
        )
    return BadData(
        f"no class of {task.target!r} has two rows, so none can be learned and checked", hint="give more labelled rows"
    )
