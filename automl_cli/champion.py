"""A model in use against one that was just trained: which is better on rows that neither has seen."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from automl_cli.artifact import Artifact, Manifest, TrustedKeys, open_artifact
from automl_cli.clock import Deadline
from automl_cli.errors import BadData, UsageError
from automl_cli.features.frame import Frame, frame_from_table
from automl_cli.features.matrix import Array
from automl_cli.features.rowhash import salted_hashes
from automl_cli.job import task_of
from automl_cli.metrics import Metric, TaskKind
from automl_cli.options import FitOptions
from automl_cli.prediction import schema_of_features
from automl_cli.seen import SeenRows
from automl_cli.table import Table, read_with_schema
from automl_cli.task import Task

LEAST_JUDGED = 50
MOST_JUDGED = 10_000
JUDGED_SHARE = 0.2  # of the table, where all of it is new; of a few new rows half
APART_SHARE = 0.4  # of the table at most is not learned from, where more rows must be left out than judge
DRAWS = 1_000
LEAST_DRAWS = 20
ENDING = 0.7  # seconds before the limit at which no more is drawn: for the installation and the end of the process
MOST_DRAWN = 2_000_000  # rows of all draws together: of many rows fewer draws tell as much
SURE = 0.95  # share of draws in which the challenger must be better
FORGETFUL = (
    "there was no time or room for the new one to say which rows it was trained on, and nothing could be compared with "
    "it; give more --time or --max-size"
)
OF_A_MODEL = "; the champion was made with a model as its --source, which may have seen the rows that judged"


@dataclass(frozen=True, eq=False)
class Bench:
    """Rows that will judge, and what the champion says of them.

    Attributes
    ----------
    rows : ndarray of shape (n_judged,)
        Positions in the table.
    held_out : ndarray of shape (n_held_out,)
        Positions of all rows that nothing may be learned from; see `choose_judges`.
    n_fresh : int
        Rows of the table that the champion has not seen.
    task : Task
        Of the whole table.
    y, weight : ndarray of shape (n_judged,)
        The truth of the rows that judge; no weights where there are none.
    champion : ndarray of shape (n_judged, n_outputs)
        By the classes of the task.
    together : ndarray of shape (n_judged,)
        Equal for rows of one group, or else for equal rows: they say the same thing twice.
    fingerprint : str
        Of the table: positions mean nothing in another one.
    of_model : bool
        Whether the champion holds a model of other rows, which it cannot tell from fresh ones.
    """

    rows: Array
    held_out: Array
    n_fresh: int
    task: Task
    y: Array
    weight: Array | None
    champion: Array
    together: Array
    fingerprint: str
    of_model: bool = False


@dataclass(frozen=True)
class Verdict:
    """The outcome of a comparison.

    Attributes
    ----------
    installed : bool
        Whether the challenger took the champion's place.
    reason : str
        In a few words.
    metric_title : str
    champion, challenger : float or None
        Scores in the metric's natural direction; None where nothing was compared.
    certainty : float or None
        Share of resampled rows in which the challenger is better.
    n_judged, n_fresh : int
        Rows that judged, and rows of the table that the champion had not seen.
    """

    installed: bool
    reason: str
    n_fresh: int
    metric_title: str = ""
    champion: float | None = None
    challenger: float | None = None
    certainty: float | None = None
    n_judged: int = 0


def read_bench(
    champion: Path, options: FitOptions, table: Table, threads: int, trusted: TrustedKeys | None = None
) -> Bench | Verdict:
    """Choose the rows that judge, before anything is learned from the others.

    Parameters
    ----------
    trusted : TrustedKeys or None
        Keys of which one must have signed the champion.

    Returns
    -------
    Bench, or Verdict where there are too few rows that the champion has not seen

    Raises
    ------
    BadArtifact
        The champion cannot be read, or is not signed as it must be.
    UsageError
        It predicts something else, or does not say what it was trained on.
    SchemaMismatch
        The table lacks columns that the champion needs.
    """
    with open_artifact(champion, trusted) as artifact:
        task, kept = _task_like(artifact.manifest, options, table)
        _check_same_task(champion, artifact.manifest, task)
        seen = artifact.attached("rows", SeenRows.from_parts)
        if seen is None:
            raise UsageError(
                f"{champion} does not say which rows it was trained on", hint="fit it anew with this version of automl"
            )
        theirs = read_with_schema(options.data, schema_of_features(artifact.manifest))
        check_unchanged(theirs, table.fingerprint)
        frame = frame_from_table(theirs, artifact.manifest.frame_schema)
        labelled = frame.take(kept)
        fresh = seen.fresh(labelled, task.y, task.classes)
        hashes = numbered(salted_hashes(labelled, task.y, task.classes, seen.salt))
        entries, held_out = choose_judges(fresh, hashes, task, options.seed)
        y = task.y[entries]
        left = np.unique(np.delete(task.y, held_out)) if task.classes else y
        if task.classes and len(left) < len(task.classes):
            return Verdict(False, "the rows that would judge are all there is of a class", len(fresh))
        if len(entries) >= LEAST_JUDGED and task.classes and len(np.unique(y)) < 2:
            return Verdict(False, "the rows that may judge hold one class only", len(fresh))
        if len(entries) < LEAST_JUDGED:
            return Verdict(False, f"{_counted(len(fresh))} too few to judge by", len(fresh))
        rows, weight = kept[entries], None if task.weight is None else task.weight[entries]
        said = _said(artifact, frame.take(rows), task, threads)
        together = hashes[entries] if task.groups is None else task.groups[entries]
        known = (rows, kept[held_out], len(fresh), task, y, weight, said, together, table.fingerprint)
        return Bench(*known, of_model=holds_a_model(artifact.manifest))


def holds_a_model(manifest: Manifest) -> bool:
    """Whether a model was made with another one as its source: which rows that one has seen it does not say."""
    return (manifest.data.get("transfer") or {}).get("model") is True


def _task_like(manifest: Manifest, options: FitOptions, table: Table) -> tuple[Task, Array]:
    """Return the task; of a kind that is only guessed and may be another one, the champion's is taken."""
    if options.task is None:
        guess, _ = task_of(replace(options, metric=None, positive=None), table)
        if guess.doubtful and manifest.kind not in (guess.kind, TaskKind.BINARY):
            options = replace(options, task=manifest.kind)
    return task_of(options, table)


def numbered(hashes: Array) -> Array:
    """Replace values by numbers in the order of their first appearance: what is drawn does not depend on the salt.

    >>> numbered(np.array([70, 10, 70, 30])).tolist()
    [0, 1, 0, 2]
    """
    _, first, twins = np.unique(hashes, return_index=True, return_inverse=True)
    return np.asarray(np.argsort(np.argsort(first))[twins])


def _counted(n_fresh: int) -> str:
    one = n_fresh == 1
    return f"{n_fresh:,} row{'' if one else 's'} that the champion has not seen {'is' if one else 'are'}"


def _said(artifact: Artifact, frame: Frame, task: Task, threads: int) -> Array:
    """Return what a model says as the metric looks at it, by the classes of the task."""
    manifest = artifact.manifest
    outputs = manifest.decision.judged(artifact.predict(frame, threads), task.metric)
    return _aligned(outputs, manifest.classes, task.classes)


def _check_same_task(path: Path, manifest: Manifest, task: Task) -> None:
    if manifest.target != task.target or manifest.kind is not task.kind:
        raise UsageError(
            f"{path} predicts {manifest.target!r} ({manifest.kind}), the table is for {task.target!r} ({task.kind})",
            hint="name another --champion",
        )
    if task.kind is TaskKind.BINARY and manifest.classes != task.classes:
        theirs, ours = (" and ".join(map(repr, classes)) for classes in (manifest.classes, task.classes))
        raise UsageError(
            f"{path} tells {theirs} apart, the table {ours}", hint="name another --champion, or --positive"
        )


def check_unchanged(table: Table, fingerprint: str) -> None:
    """Refuse a table that was replaced since it was first read: positions of rows would mean others.

    Raises
    ------
    BadData
    """
    if table.fingerprint != fingerprint:
        raise BadData(f"{table.source} was changed while it was used", hint="run it again on a file that stays")


def choose_judges(fresh: Array, hashes: Array, task: Task, seed: int) -> tuple[Array, Array]:
    """Choose entries of the task that judge: the latest where rows have an order, whole groups, else by chance.

    Equal rows stay together: the challenger would know the answer of one that judges from its twin.

    Parameters
    ----------
    fresh : ndarray of shape (n_fresh,)
        Entries that the champion has not seen.
    hashes : ndarray of shape (n_rows,)
        Equal for rows that are equal.

    Returns
    -------
    (n_judged,), (n_held_out,)
        Entries that judge, and those that may not be learned from: with groups and an order more than the former.
    """
    n = min(len(fresh) // 2, max(LEAST_JUDGED, round(JUDGED_SHARE * task.n_rows)), MOST_JUDGED)
    if n < LEAST_JUDGED:
        return fresh[:0], fresh[:0]
    if task.groups is not None and task.order is not None:
        return _latest_of_new_groups(fresh, hashes, task.groups, task.order, n)
    if task.groups is not None:
        judges = _whole_groups(fresh, task.groups, n, seed)
    elif task.order is not None:
        latest = _by_time(fresh, task.order)
        judges = np.sort(latest[-n:][~np.isin(hashes[latest[-n:]], hashes[latest[:-n]])])
    else:
        judges = _by_chance(fresh, hashes, n, seed)
    return judges, judges


def _by_time(entries: Array, order: Array) -> Array:
    """Return the entries whose time is known, the latest last."""
    known = entries[np.isfinite(order[entries])]
    return np.asarray(known[np.argsort(order[known], kind="stable")])


def _by_chance(fresh: Array, hashes: Array, n: int, seed: int) -> Array:
    values, twins = np.unique(hashes[fresh], return_inverse=True)
    order = np.random.default_rng(seed).permutation(len(values))
    sizes = np.cumsum(np.bincount(twins)[order])
    return np.sort(fresh[np.isin(twins, order[sizes <= n])])


def _latest_of_new_groups(fresh: Array, hashes: Array, groups: Array, order: Array, n: int) -> tuple[Array, Array]:
    """Choose the latest rows of groups that the champion has not seen, as a fit validates.

    Neither their groups nor any row as late as the first of them is learned from. Where the new groups are few and
    reach far back that would leave little, and fewer rows judge.
    """
    latest = _by_time(fresh[np.isin(groups[fresh], _unseen(groups, fresh))], order)

    def apart(n_judged: int) -> Array:
        judges = latest[len(latest) - n_judged :]
        return np.asarray(np.isin(groups, groups[judges]) | (order >= order[judges[0]]))

    sizes, most = range(1, min(n, len(latest)) + 1), APART_SHARE * len(groups)
    n_judged = bisect_right(sizes, most, key=lambda size: apart(size).sum())
    if n_judged < LEAST_JUDGED:
        return fresh[:0], fresh[:0]
    judges, is_apart = latest[len(latest) - n_judged :], apart(n_judged)
    learned = fresh[~is_apart[fresh]]
    return np.sort(judges[~np.isin(hashes[judges], hashes[learned])]), np.flatnonzero(is_apart)


def _unseen(groups: Array, fresh: Array) -> Array:
    """Return the groups none of whose rows the champion has seen."""
    is_fresh = np.zeros(len(groups), dtype=bool)
    is_fresh[fresh] = True
    return np.setdiff1d(groups, groups[~is_fresh])


def _whole_groups(fresh: Array, groups: Array, n: int, seed: int) -> Array:
    """Choose groups none of whose rows the champion has seen, until there are enough rows."""
    usable = _unseen(groups, fresh)
    order = np.random.default_rng(seed).permutation(usable)
    counts = np.bincount(groups, minlength=int(groups.max(initial=0)) + 1)
    taken: list[int] = []
    total = 0
    for group in order[: max(0, len(order) - 1)]:  # one at least is learned from
        if total + counts[group] <= n or (total < LEAST_JUDGED and total + counts[group] <= len(fresh) // 2):
            taken.append(int(group))
            total += int(counts[group])
    return np.flatnonzero(np.isin(groups, taken))


def judge(bench: Bench, challenger: Path, options: FitOptions, threads: int, deadline: Deadline) -> Verdict:
    """Compare on the rows that judge: paired resamples of them say how sure it is that the challenger is better.

    One that does not say which rows it was trained on is not installed: it could never be challenged.

    Raises
    ------
    BadData
        The table was replaced meanwhile.
    """
    with open_artifact(challenger) as artifact:
        if artifact.manifest.data.get("rows") is None:
            return Verdict(False, FORGETFUL, bench.n_fresh)
        table = read_with_schema(options.data, schema_of_features(artifact.manifest))
        check_unchanged(table, bench.fingerprint)
        table = table.take(bench.rows)
        said = _said(artifact, frame_from_table(table, artifact.manifest.frame_schema), bench.task, threads)
    metric, outputs = bench.task.metric, (bench.champion, said)
    losses = [metric.loss(bench.y, one, bench.weight) for one in outputs]
    certainty = certainty_of(bench, outputs, metric, options.seed, deadline)
    better, reason = decided(losses[0], losses[1], certainty, of_model=bench.of_model)
    champion, ours = (metric.natural(loss) for loss in losses)
    return Verdict(better, reason, bench.n_fresh, metric.title, champion, ours, certainty, len(bench.y))


def decided(champion: float, challenger: float, certainty: float, *, of_model: bool) -> tuple[bool, str]:
    """Return whether the challenger is installed, by both losses, and why.

    >>> decided(0.5, 0.4, 0.99, of_model=False), decided(0.5, 0.4, 0.8, of_model=False)
    ((True, 'it is better'), (False, 'it is not surely better'))
    """
    if challenger < champion and certainty >= SURE:
        return True, "it is better"
    reason = "it is not surely better" if challenger < champion else "it is no better"
    return False, reason + (OF_A_MODEL if of_model else "")


def _aligned(outputs: Array, classes: Sequence[str], union: Sequence[str]) -> Array:
    """Lay probabilities out by the classes of both; those of a class that is nowhere in the table are shared out."""
    if not union:
        return outputs
    found = np.zeros((len(outputs), len(union)))
    place = {label: i for i, label in enumerate(union)}
    for i, label in enumerate(classes):
        if label in place:
            found[:, place[label]] = outputs[:, i]
    total = found.sum(axis=1, keepdims=True)
    return np.where(total > 0, found / np.where(total > 0, total, 1.0), 1.0 / len(union))


def certainty_of(bench: Bench, outputs: Sequence[Array], metric: Metric, seed: int, deadline: Deadline) -> float:
    """Return the share of bootstrap draws of the rows in which the second is better; a tie counts half.

    Rows that belong together are drawn together: one by one they would look like more evidence than they are.
    Where the time is nearly over there are fewer draws, but twenty at least.
    """
    y, weight = bench.y, bench.weight
    rng = np.random.default_rng(seed)
    order = np.argsort(bench.together, kind="stable")
    _, starts, sizes = np.unique(bench.together[order], return_index=True, return_counts=True)
    n_draws = int(np.clip(MOST_DRAWN // len(y), 200, DRAWS))
    wins = 0.0
    for number in range(n_draws):
        if number >= LEAST_DRAWS and deadline.limited and deadline.seconds_left() < ENDING:
            return wins / number
        units = rng.integers(len(sizes), size=len(sizes))
        ends = np.cumsum(sizes[units])
        rows = order[np.arange(ends[-1]) + np.repeat(starts[units] - ends + sizes[units], sizes[units])]
        if metric.name == "roc_auc" and len(np.unique(y[rows])) < 2:
            wins += 0.5
            continue
        drawn = None if weight is None else weight[rows]
        first, second = (metric.loss(y[rows], one[rows], drawn) for one in outputs)
        wins += 1.0 if second < first else 0.5 if second == first else 0.0
    return wins / n_draws
