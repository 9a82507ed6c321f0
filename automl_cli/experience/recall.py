"""What worked on tables like this one: neighbours by meta-features, and a list of pipelines that served them."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

import numpy as np

from automl_cli.experience.portfolio import greedy, regrets
from automl_cli.experience.queries import Known, PastRun, best_runs, known_datasets, past_members
from automl_cli.experience.records import Dataset, Evaluation, Neighbour, Recalled
from automl_cli.experience.similar import Scale, distances, shipped_weights
from automl_cli.experience.store import Store, reading
from automl_cli.features.matrix import Array
from automl_cli.trial import Pipeline

N_NEIGHBOURS = 40  # of each store
MOST_SAME = 3  # of them, states of the table at hand
NEAR = 6  # that many neighbours count in full; farther ones fade
FLOOR = 0.1  # of a neighbour's weight that every dataset keeps: nothing near, and the list is the one that serves all
MOST_PIPELINES = 16
MOST_BESIDE_WINNERS = 6  # with something to search around, the search should begin early
MOST_WINNERS = 8
SAME = 0.9  # share of common columns from which two tables are one that changed a little
MAY_DIFFER = 5  # columns from which one may differ, whatever share that is
HALF_LIFE = 180 * 86_400.0  # seconds after which own experience counts half

Suit = Callable[[Pipeline], tuple[Pipeline, float] | None]
"""Gives a past pipeline as it suits the dataset at hand, and a guess of what a trial of it costs; None where it cannot
be used on it."""


@dataclass(frozen=True, eq=False)
class _Asked:
    """A dataset near the one at hand with what was measured on it.

    Attributes
    ----------
    same : bool
        Whether it is an earlier state of the table at hand.
    poor : frozenset of Pipeline
        What was no better than the reference, though its time was not cut short.
    """

    neighbour: Neighbour
    regret: Mapping[Pipeline, float]
    weight: float
    same: bool = False
    poor: frozenset[Pipeline] = frozenset()


def recall(
    dataset: Dataset,
    *,
    prior: Store | None,
    own: Store | None,
    suit: Suit,
    now: float,
    suit_same: Suit | None = None,
    reference: Pipeline | None = None,
    without: Sequence[str] = (),
) -> Recalled:
    """Look up what to try first on a dataset.

    Parameters
    ----------
    prior, own : Store or None
        What comes with the program, and the user's.
    suit, suit_same : callable
        For what was measured on other tables, and on earlier states of this one; None: the same.
    reference : Pipeline or None
        One that is measured on every dataset: losses are told in what the best gains over it.
    without : sequence of str
        Fingerprints that are passed over, to judge what is remembered of others.
    """
    suit_same = suit_same or suit
    asked: list[_Asked] = []
    winners: tuple[Pipeline, ...] = ()
    same_runs = 0
    scale: Scale | None = None
    for store in (prior, own):
        if store is None:
            continue
        with reading(store) as connection:
            known = known_datasets(connection, dataset.kind)
            if scale is None:
                scale = Scale.of(known.features, known.feature_names, shipped_weights(dataset.kind))
            far = distances(scale, known.features, known.feature_names, dataset.features)
            same = _same_tables(known, dataset) if store is own else np.zeros(0, dtype=np.int64)
            far[same] = 0.0
            far[[i for i, fingerprint in enumerate(known.fingerprints) if fingerprint in without]] = np.inf
            near = _near(known, far, same)
            at_hand = [int(known.ids[i]) for i in same]
            runs = best_runs(connection, known.ids[near], reference, at_hand=at_hand)
            if store is own:
                same_runs, members = past_members(connection, known.ids[same])
                winners = _fitting(members, suit_same)
        asked += [
            _asked(
                Neighbour(known.names[i], float(far[i]), store is own, 0),
                [run for run in runs if run.dataset == known.ids[i]],
                same=int(known.ids[i]) in at_hand,
                now=now,
                reference=reference,
            )
            for i in near
        ]
    asked = [item for item in asked if item.regret]
    table = _table(asked, suit, suit_same)
    pipelines, gains = _complementary(table, winners)
    return Recalled(
        winners=winners,
        pipelines=pipelines,
        gains=gains,
        neighbours=tuple(sorted((item.neighbour for item in asked), key=lambda n: n.distance)),
        same_table_runs=same_runs,
        poor=table.poor,
    )


def earlier_winners(store: Store, dataset: Dataset, suit: Suit) -> tuple[Pipeline, ...]:
    """Return what won on a table of the same target and columns, as it suits it now; needs no meta-features."""
    with reading(store) as connection:
        known = known_datasets(connection, dataset.kind)
        same = _same_tables(known, dataset)
        return _fitting(past_members(connection, known.ids[same])[1], suit)


def _fitting(members: Sequence[Pipeline], suit: Suit) -> tuple[Pipeline, ...]:
    """Return the first members that can be used: only then is counted, for some of them may not be."""
    fitting = (found[0] for pipeline in members if (found := suit(pipeline)) is not None)
    return tuple(dict.fromkeys(fitting))[:MOST_WINNERS]


def _near(known: Known, far: Array, same: Array) -> list[int]:
    """Return positions of the nearest datasets.

    A table that is learned every night has one dataset for each night: the latest, with the largest number, speaks for
    all, or it would crowd out the others. Of the table at hand some more are asked.
    """
    latest_first = [int(i) for i in np.argsort(-known.ids, kind="stable") if math.isfinite(far[i])]
    at_hand = set(map(int, same))
    mine = [i for i in latest_first if i in at_hand]
    speaks: dict[tuple[str, str], int] = {}
    for i in latest_first:
        # what came with the program, or from elsewhere, has no digests: each speaks for itself
        name = (known.targets[i], known.columns[i]) if known.targets[i] else (known.fingerprints[i], str(i))
        if i not in at_hand:
            speaks.setdefault(name, i)
    found = [*mine[:MOST_SAME], *speaks.values()]
    return sorted(found, key=lambda i: (far[i], -known.ids[i]))[:N_NEIGHBOURS]


def _same_tables(known: Known, dataset: Dataset) -> Array:
    """Return positions of tables with the same target and nearly the same columns."""
    mine = list(zip(dataset.columns, dataset.former or dataset.columns, strict=True))
    found = []
    for i, (target, columns) in enumerate(zip(known.targets, known.columns, strict=True)):
        if not target or target != dataset.target or not mine:
            continue
        theirs = set(columns.split())
        n_common = sum(now in theirs or before in theirs for now, before in mine)
        most = max(len(mine), len(theirs))
        if n_common >= SAME * most or (most >= MAY_DIFFER and n_common >= most - 1):
            found.append(i)
    return np.array(found, dtype=np.int64)


def _asked(
    neighbour: Neighbour, runs: Sequence[PastRun], *, same: bool, now: float, reference: Pipeline | None
) -> _Asked:
    """Put together what runs measured on one dataset; the latest word on a pipeline counts."""
    regret: dict[Pipeline, float] = {}
    poor: set[Pipeline] = set()
    for run in runs:  # oldest first
        losses = _losses(run.evaluations)
        # runs may have other folds and metrics: what compares is where in its run a pipeline stood
        of_reference = _loss_of(reference, run.evaluations)
        scaled = regrets(np.array([list(losses.values())]), np.array([of_reference]))[0] if losses else ()
        regret |= zip(losses, map(float, scaled), strict=True)
        poor -= losses.keys()
        if math.isfinite(of_reference):
            # what was cut may be good where there is more time
            ended = {e.pipeline for e in run.evaluations if e.complete and not e.cut}
            poor |= {pipeline for pipeline in losses if regret[pipeline] >= 1.0 and pipeline in ended}
    latest = max((run.began for run in runs), default=now)
    fading = 0.5 ** (max(0.0, now - latest) / HALF_LIFE) if neighbour.own else 1.0
    n_evaluations = sum(len(run.evaluations) for run in runs)
    return _Asked(replace(neighbour, n_evaluations=n_evaluations), regret, fading, same, frozenset(poor))


def _losses(evaluations: Sequence[Evaluation]) -> dict[Pipeline, float]:
    """Return the loss of each pipeline that finished: of one that was cut and had more time, the lower."""
    found: dict[Pipeline, float] = {}
    for e in evaluations:
        if e.complete and e.loss is not None:
            found[e.pipeline] = min(e.loss, found.get(e.pipeline, math.inf))
    return found


def _loss_of(pipeline: Pipeline | None, evaluations: Sequence[Evaluation]) -> float:
    """Return what a pipeline lost, or would have by its first folds compared with the best one's; NaN if unknown."""
    own = [e for e in evaluations if e.pipeline == pipeline and e.loss is not None]
    if losses := _losses(own):
        return min(losses.values())
    best = min((e.losses for e in evaluations if e.complete), key=fmean, default=())
    partial = max((e.losses for e in own), key=len, default=())
    if not 0 < len(partial) <= len(best):
        return math.nan
    return fmean(best) + fmean(partial) - fmean(best[: len(partial)])


@dataclass(frozen=True, eq=False)
class _Table:
    """What is known of pipelines as they suit the dataset at hand.

    Attributes
    ----------
    pipelines : tuple of Pipeline
    regret : ndarray of shape (n_datasets, n_pipelines)
        NaN where one was not measured.
    weight : ndarray of shape (n_datasets,)
    seconds : ndarray of shape (n_pipelines,)
    poor : tuple of Pipeline
        What was no better than the reference whenever it was tried on this very table.
    """

    pipelines: tuple[Pipeline, ...]
    regret: Array
    weight: Array
    seconds: Array
    poor: tuple[Pipeline, ...]


def _table(asked: Sequence[_Asked], suit: Suit, suit_same: Suit) -> _Table:
    """Lay out what was measured; pipelines that are one and the same here are one column, with their lowest regret."""
    ours = {pipeline for item in asked if item.same for pipeline in item.regret}
    every = dict.fromkeys(pipeline for item in asked for pipeline in item.regret)
    here = {p: found for p in every if (found := (suit_same if p in ours else suit)(p)) is not None}
    column = {own: i for i, own in enumerate(dict.fromkeys(own for own, _ in here.values()))}
    regret = np.full((len(asked), len(column)), np.nan)
    good: set[Pipeline] = set()
    poor: dict[Pipeline, None] = {}
    for row, item in enumerate(asked):
        for pipeline, value in item.regret.items():
            if pipeline in here:
                own = here[pipeline][0]
                regret[row, column[own]] = np.fmin(regret[row, column[own]], value)
                if item.same and pipeline in item.poor:
                    poor[own] = None
                elif item.same:
                    good.add(own)
    cost = np.zeros(len(column))
    for own, seconds in here.values():
        cost[column[own]] = seconds
    worse = tuple(pipeline for pipeline in poor if pipeline not in good)
    return _Table(tuple(column), regret, _weights(asked), cost, worse)


def _weights(asked: Sequence[_Asked]) -> Array:
    """Return what each dataset counts: the near ones most, and earlier states of this very table half of all."""
    if not asked:
        return np.zeros(0)
    far = np.array([item.neighbour.distance for item in asked])
    same = np.array([item.same for item in asked])
    fading = np.array([item.weight for item in asked])
    others = np.sort(far[~same]) if not same.all() else far
    reach = max(float(others[min(NEAR, len(others)) - 1]), 1e-6)
    weight: Array = (FLOOR + np.exp(-far / reach)) * fading
    if same.any():
        share = max(float(weight[~same].sum()), 1.0) * fading[same].max()
        weight[same] *= share / weight[same].sum()
    return weight


def _complementary(table: _Table, winners: Sequence[Pipeline]) -> tuple[tuple[Pipeline, ...], tuple[float, ...]]:
    """Choose greedily what adds most to the winners, on this table and on those like it."""
    place = {pipeline: i for i, pipeline in enumerate(table.pipelines)}
    if not place:
        return (), ()
    regret = table.regret.copy()
    regret[:, [place[pipeline] for pipeline in table.poor if pipeline not in winners]] = np.nan
    start = [place[pipeline] for pipeline in winners if pipeline in place]
    most = MOST_BESIDE_WINNERS if winners else MOST_PIPELINES
    chosen = greedy(regret, table.weight, table.seconds, most, start=start)
    return tuple(table.pipelines[i] for i in chosen.order), chosen.gains
