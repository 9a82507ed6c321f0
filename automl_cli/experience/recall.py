"""What worked on tables like this one: neighbours by meta-features, and a list of pipelines that served them."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

import numpy as np
from sqlalchemy import Connection

from automl_cli.errors import AutomlError
from automl_cli.experience.portfolio import greedy, regrets
from automl_cli.experience.queries import Known, PastRun, best_runs, known_datasets, of_target, past_members
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
NEW_CLASSES = 2  # so many, or a tenth of them, may come or go
# Interquartile ranges: where figures are farther apart, names are all that two tables share. The halves of 26 tables
# were less than 0.3 apart, and of tables that have nothing to do with each other nine pairs in ten more than this.
FAR = 0.5
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
    metric: str | None = None,
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
    metric : str or None
        Of the run at hand: what was poor on this table by another one may be good by it. None: any.
    without : sequence of str
        Fingerprints that are passed over, to judge what is remembered of others.
    """
    suit_same = suit_same or suit
    question = _Question(dataset, now, reference, metric, frozenset(without))
    answers: list[_Answer] = []
    problems: list[str] = []
    for store in (prior, own):
        if store is None:
            continue
        try:
            with reading(store) as connection:
                scale = answers[0].scale if answers else None
                answers.append(_answer(connection, question, own=store is own, scale=scale))
        except AutomlError as error:  # the other store may still say something
            problems.append(str(error))
    asked = [item for answer in answers for item in answer.asked if item.regret]
    winners = _fitting([member for answer in answers for member in answer.members], suit_same)
    table = _table(asked, suit, suit_same)
    pipelines, gains = _complementary(table, winners)
    return Recalled(
        winners=winners,
        pipelines=pipelines,
        gains=gains,
        neighbours=tuple(sorted((item.neighbour for item in asked), key=lambda n: n.distance)),
        same_table_runs=sum(answer.same_table_runs for answer in answers),
        poor=table.poor,
        problems=tuple(problems),
    )


def earlier_winners(store: Store, dataset: Dataset, suit: Suit, metric: str | None = None) -> tuple[Pipeline, ...]:
    """Return what won on a table of the same target and columns, as it suits it now; needs no meta-features."""
    with reading(store) as connection:
        return _fitting(past_members(connection, _same_tables(connection, dataset), metric)[1], suit)


def _fitting(members: Sequence[Pipeline], suit: Suit) -> tuple[Pipeline, ...]:
    """Return the first members that can be used, of these the cheapest first: there has to be a model soon.

    Only what can be used is counted, for some of them may not be.
    """
    fitting = dict(found for pipeline in members if (found := suit(pipeline)) is not None)
    winners = list(fitting)[:MOST_WINNERS]
    cheapest = min(winners, key=fitting.__getitem__, default=None)
    return tuple(sorted(winners, key=lambda pipeline: pipeline != cheapest))


@dataclass(frozen=True)
class _Question:
    """What each store is asked; see `recall`."""

    dataset: Dataset
    now: float
    reference: Pipeline | None
    metric: str | None
    without: frozenset[str]


@dataclass(frozen=True, eq=False)
class _Answer:
    """What a store knows.

    Attributes
    ----------
    scale : Scale
        Of the datasets that distances are measured among: those of the first store.
    members : tuple of Pipeline
        Of models of the table at hand.
    """

    scale: Scale
    asked: tuple[_Asked, ...]
    same_table_runs: int = 0
    members: tuple[Pipeline, ...] = ()


def _answer(connection: Connection, question: _Question, *, own: bool, scale: Scale | None) -> _Answer:
    """Ask one store, by the scale of another one or by its own."""
    dataset = question.dataset
    known = known_datasets(connection, dataset.kind)
    measured_in = scale or Scale.of(known.features, known.feature_names, shipped_weights(dataset.kind))
    far = distances(measured_in, known.features, known.feature_names, dataset.features)
    here = np.isin(known.ids, _same_tables(connection, dataset) if own else [])
    if scale is not None:  # among states of one table alone each would be far from the others
        here &= ~((far > FAR) & _comparable(scale, known, dataset))
    same = np.flatnonzero(here)
    far[same] = 0.0
    far[[i for i, fingerprint in enumerate(known.fingerprints) if fingerprint in question.without]] = np.inf
    near = _near(known, far, same)
    at_hand = [int(known.ids[i]) for i in same]
    runs = best_runs(connection, known.ids[near], question.reference, at_hand=at_hand)
    same_table_runs, members = past_members(connection, at_hand, question.metric)
    asked = (
        _asked(
            Neighbour(known.names[i], float(far[i]), own, 0),
            [run for run in runs if run.dataset == known.ids[i]],
            question,
            same=bool(here[i]),
        )
        for i in near
    )
    return _Answer(measured_in, tuple(asked), same_table_runs, members)


def _comparable(scale: Scale, known: Known, dataset: Dataset) -> Array:
    """Return which datasets have, as the one at hand does, every figure that tables are compared by."""
    wanted = [name for name in scale.middle if scale.weight.get(name)]
    if not wanted or not dataset.features.keys() >= set(wanted) <= set(known.feature_names):
        return np.zeros(len(known.ids), dtype=bool)
    columns = [known.feature_names.index(name) for name in wanted]
    return np.asarray(np.isfinite(known.features[:, columns]).all(axis=1))


def _near(known: Known, far: Array, same: Array) -> list[int]:
    """Return positions of the nearest datasets.

    A table that is learned every night has one dataset for each night: the latest, with the largest number, speaks for
    all, or it would crowd out the others. Of the table at hand some more are asked.
    """
    latest_first = [int(i) for i in np.argsort(-known.ids, kind="stable") if math.isfinite(far[i])]
    at_hand = set(map(int, same))
    mine = [i for i in latest_first if i in at_hand]
    speaks: dict[tuple[str, Any], int] = {}
    for i in latest_first:
        # what came with the program, or from elsewhere, has no digests: each speaks for itself
        name = (known.targets[i], known.columns[i]) if known.columns[i][0] else (known.fingerprints[i], i)
        if i not in at_hand:
            speaks.setdefault(name, i)
    found = [*mine[:MOST_SAME], *speaks.values()]
    return sorted(found, key=lambda i: (far[i], -known.ids[i]))[:N_NEIGHBOURS]


def _same_tables(connection: Connection, dataset: Dataset) -> list[int]:
    """Return the numbers of tables with the same target, about as many classes and nearly the same columns."""
    mine = list(zip(dataset.columns, dataset.former or dataset.columns, strict=True))
    found = []
    for number, n_classes, columns in of_target(connection, dataset.kind, dataset.target) if dataset.target else ():
        theirs = set(columns.split())
        n_common = sum(now in theirs or before in theirs for now, before in mine)
        most = max(len(mine), len(theirs))
        alike = n_common >= SAME * most or (most >= MAY_DIFFER and n_common >= most - 1)
        if mine and alike and abs(n_classes - dataset.n_classes) <= max(NEW_CLASSES, n_classes / 10):
            found.append(number)
    return found


def _asked(neighbour: Neighbour, runs: Sequence[PastRun], question: _Question, *, same: bool) -> _Asked:
    """Put together what runs measured on one dataset; the latest word on a pipeline counts.

    What was cut short in one run says nothing against what ran its course in another one, and may be good where there
    is more time. What was poor by another metric may be good by this one.
    """
    regret: dict[Pipeline, float] = {}
    settled: set[Pipeline] = set()
    poor: set[Pipeline] = set()
    for run in _whole(runs):  # oldest first
        losses = _losses(run.evaluations)
        # runs may have other folds and metrics: what compares is where in its run a pipeline stood
        of_reference = _loss_of(question.reference, run.evaluations)
        scaled = regrets(np.array([list(losses.values())]), np.array([of_reference]))[0] if losses else ()
        ended = {e.pipeline for e in run.evaluations if e.complete and not e.cut}
        told = {p: float(r) for p, r in zip(losses, scaled, strict=True) if p in ended or p not in settled}
        regret |= told
        settled |= ended
        if question.metric in (None, run.metric):
            poor -= told.keys()
            if math.isfinite(of_reference):
                poor |= {pipeline for pipeline, value in told.items() if value >= 1.0 and pipeline in ended}
    latest = max((run.began for run in runs), default=question.now)
    fading = 0.5 ** (max(0.0, question.now - latest) / HALF_LIFE) if neighbour.own else 1.0
    n_evaluations = sum(len(run.evaluations) for run in runs)
    return _Asked(replace(neighbour, n_evaluations=n_evaluations), regret, fading, same, frozenset(poor))


def _whole(runs: Sequence[PastRun]) -> list[PastRun]:
    """Put together what an archive's table was measured with, a part each time: its folds are always the same."""
    found: dict[tuple[Any, ...], PastRun] = {}
    for run in runs:
        name = (run.metric, run.plan) if run.origin == "build" else (run.id,)
        before = found.get(name)
        evaluations = run.evaluations if before is None else (*before.evaluations, *run.evaluations)
        found[name] = replace(run, evaluations=evaluations)
    return list(found.values())


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
