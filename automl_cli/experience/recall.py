"""What worked on tables like this one: neighbours by meta-features, and a list of pipelines that served them."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from automl_cli.experience.portfolio import greedy, regrets
from automl_cli.experience.queries import Known, PastRun, best_runs, known_datasets, latest_members
from automl_cli.experience.records import Dataset, Neighbour, Recalled
from automl_cli.experience.similar import Scale, distances, shipped_weights
from automl_cli.experience.store import Store, reading
from automl_cli.features.matrix import Array
from automl_cli.trial import Pipeline

N_NEIGHBOURS = 40
NEAR = 6  # that many neighbours count in full; farther ones fade
FLOOR = 0.1  # of a neighbour's weight that every dataset keeps: nothing near, and the list is the one that serves all
MOST_PIPELINES = 16
SAME = 0.9  # share of common columns from which two tables are one that changed a little
HALF_LIFE = 180 * 86_400.0  # seconds after which own experience counts half


@dataclass(frozen=True, eq=False)
class _Asked:
    """A dataset near the one at hand with what was measured on it."""

    neighbour: Neighbour
    regret: Mapping[Pipeline, float]
    weight: float


def recall(
    dataset: Dataset,
    *,
    prior: Store | None,
    own: Store | None,
    suit: Callable[[Pipeline], tuple[Pipeline, float] | None],
    now: float,
    reference: Pipeline | None = None,
    without: Sequence[str] = (),
) -> Recalled:
    """Look up what to try first on a dataset.

    Parameters
    ----------
    prior, own : Store or None
        What comes with the program, and the user's.
    suit : callable
        Gives a past pipeline as it suits this dataset, and a guess of what a trial of it costs; None where it cannot be
        used on it.
    reference : Pipeline or None
        One that is measured on every dataset: losses are told in what the best gains over it.
    without : sequence of str
        Fingerprints that are passed over, to judge what is remembered of others.
    """
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
            # of equals the latest, the one with the largest number: a nightly table has one dataset for each night
            near = [int(i) for i in np.lexsort((-known.ids, far))[:N_NEIGHBOURS] if math.isfinite(far[i])]
            runs = best_runs(connection, known.ids[near], reference)
            n_same, latest = latest_members(connection, known.ids[same])
        same_runs += n_same
        winners = winners or latest
        asked += [
            _asked(
                known,
                i,
                float(far[i]),
                [run for run in runs if run.dataset == known.ids[i]],
                own=store is own,
                now=now,
                reference=reference,
            )
            for i in near
        ]
    asked = [item for item in asked if item.regret]
    pipelines, gains = _complementary(asked, suit)
    fitting = [suit(pipeline) for pipeline in winners]
    return Recalled(
        winners=tuple(dict.fromkeys(found[0] for found in fitting if found is not None)),
        pipelines=pipelines,
        gains=gains,
        neighbours=tuple(sorted((item.neighbour for item in asked), key=lambda n: n.distance)),
        same_table_runs=same_runs,
    )


def earlier_winners(store: Store, dataset: Dataset) -> tuple[Pipeline, ...]:
    """Return the members of the latest models for a table of the same target and columns; needs no meta-features."""
    with reading(store) as connection:
        known = known_datasets(connection, dataset.kind)
        same = _same_tables(known, dataset)
        return latest_members(connection, known.ids[same])[1]


def _same_tables(known: Known, dataset: Dataset) -> Array:
    """Return positions of tables with the same target and nearly the same columns."""
    mine = set(dataset.columns)
    found = []
    for i, (target, columns) in enumerate(zip(known.targets, known.columns, strict=True)):
        if not target or target != dataset.target or not mine:
            continue
        theirs = set(columns.split())
        if len(mine & theirs) >= SAME * len(mine | theirs):
            found.append(i)
    return np.array(found, dtype=np.int64)


def _asked(
    known: Known,
    position: int,
    distance: float,
    runs: Sequence[PastRun],
    *,
    own: bool,
    now: float,
    reference: Pipeline | None,
) -> _Asked:
    """Put together what runs measured on one dataset; the latest word on a pipeline counts."""
    regret: dict[Pipeline, float] = {}
    for run in runs:  # oldest first
        complete = [(e.pipeline, e.loss) for e in run.evaluations if e.complete and e.loss is not None]
        # runs may have other folds and metrics: what compares is where in its run a pipeline stood
        of_reference = np.array([next((loss for pipeline, loss in complete if pipeline == reference), np.nan)])
        scaled = regrets(np.array([[loss for _, loss in complete]]), of_reference)[0] if complete else ()
        regret |= dict(zip((pipeline for pipeline, _ in complete), map(float, scaled), strict=True))
    latest = max((run.began for run in runs), default=now)
    fading = 0.5 ** (max(0.0, now - latest) / HALF_LIFE) if own else 1.0
    neighbour = Neighbour(known.names[position], distance, own, sum(len(run.evaluations) for run in runs))
    return _Asked(neighbour, regret, fading)


def _complementary(
    asked: Sequence[_Asked], suit: Callable[[Pipeline], tuple[Pipeline, float] | None]
) -> tuple[tuple[Pipeline, ...], tuple[float, ...]]:
    """Choose greedily on the neighbours' losses, the near ones counting most.

    Pipelines that are one and the same here are one column, with the lower of their regrets.
    """
    every = dict.fromkeys(pipeline for item in asked for pipeline in item.regret)
    here = {pipeline: found for pipeline in every if (found := suit(pipeline)) is not None}
    column = {own: i for i, own in enumerate(dict.fromkeys(own for own, _ in here.values()))}
    if not column:
        return (), ()
    regret = np.full((len(asked), len(column)), np.nan)
    for row, item in enumerate(asked):
        for pipeline, value in item.regret.items():
            if pipeline in here:
                place = (row, column[here[pipeline][0]])
                regret[place] = np.fmin(regret[place], value)
    cost = np.zeros(len(column))
    for own, seconds in here.values():
        cost[column[own]] = seconds
    far = np.array([item.neighbour.distance for item in asked])
    reach = max(float(np.sort(far)[min(NEAR, len(far)) - 1]), 1e-6)
    weight = (FLOOR + np.exp(-far / reach)) * np.array([item.weight for item in asked])
    chosen = greedy(regret, weight, cost, MOST_PIPELINES)
    pipelines = list(column)
    return tuple(pipelines[i] for i in chosen.order), chosen.gains
