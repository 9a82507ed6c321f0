"""What is recalled: near tables first, lists that complement themselves, and what won on the same table."""

import itertools
import sqlite3
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from automl_cli.candidates import as_it_was, candidates, reference_pipeline, remembered_as, suited
from automl_cli.experience.access import (
    Dataset,
    Evaluation,
    RunRecord,
    add,
    earlier_winners,
    every_run,
    export,
    open_store,
    reading,
    recall,
    take_in,
)
from automl_cli.experience.portfolio import greedy, regrets
from automl_cli.experience.queries import MOST_RUNS, best_runs, known_datasets
from automl_cli.experience.recall import MOST_BESIDE_WINNERS
from automl_cli.experience.similar import Scale, distances, shipped_weights
from automl_cli.families import find_families
from automl_cli.families.family import Shape
from automl_cli.metrics import TaskKind
from automl_cli.space import default_pipelines
from automl_cli.trial import Pipeline

A, B, C, D = (Pipeline("lightgbm", "native", {"learning_rate": rate}) for rate in (0.01, 0.05, 0.2, 0.3))
NAMES = ("u", "v", "w")


def as_it_is(pipeline):
    return pipeline, 1.0


def a_dataset(number, features, *, target="", columns=()):
    return Dataset(f"{number:032d}", f"d{number}", TaskKind.BINARY, 100, 5, 2, features, target, tuple(columns))


def a_run(dataset, losses, *, uid=None, began=0.0, members=()):
    evaluations = tuple(
        Evaluation(p, loss, (loss,), 1.0, 1.0, cut=False, given_up=False, origin="x") for p, loss in losses.items()
    )
    best, uid = min(losses.values()), uid or dataset.name
    return RunRecord(
        uid, dataset, "roc_auc", "5 folds", 5, "fit", began, 1.0, None, best, {}, tuple(members), evaluations
    )


@given(st.integers(1, 4), st.integers(1, 6), st.integers(0, 10_000))
def test_one_greedy_choice_is_the_best_single_one(n_datasets, n_pipelines, seed) -> None:
    rng = np.random.default_rng(seed)
    regret, weight = rng.random((n_datasets, n_pipelines)), rng.random(n_datasets) + 0.1
    chosen = greedy(regret, weight, np.ones(n_pipelines), 1)
    best = (weight[:, None] * regret).sum(axis=0).min()
    assert (weight * regret[:, chosen.order[0]]).sum() == pytest.approx(best)


@given(st.integers(0, 10_000))
def test_a_greedy_list_is_at_least_nearly_as_good_as_the_best_set(seed) -> None:
    rng = np.random.default_rng(seed)
    regret, weight = rng.random((5, 7)), np.ones(5)

    def left(columns):
        return float(regret[:, columns].min(axis=1).sum())

    chosen = greedy(regret, weight, np.ones(7), 3)
    best = min(left(list(columns)) for columns in itertools.combinations(range(7), 3))
    gained, most = 5 - left(list(chosen.order)), 5 - best
    assert gained >= (1 - 1 / np.e) * most - 1e-9  # the bound for submodular functions
    assert list(chosen.gains) == sorted(chosen.gains, reverse=True)


def test_a_cheap_pipeline_comes_before_an_equal_one() -> None:
    regret = np.array([[0.2, 0.2, 0.9]])
    assert greedy(regret, np.ones(1), np.array([9.0, 1.0, 1.0]), 2).order == (1,)


def test_a_cheap_pipeline_that_adds_next_to_nothing_does_not_end_the_list() -> None:
    regret = np.array([[0.5, 0.4995, 0.47]])
    chosen = greedy(regret, np.ones(1), np.array([1.0, 0.01, 400.0]), 3, start=[0])
    assert chosen.order == (2,), "what the cheap one adds is below the least; what the dear one adds is not"


def test_what_was_not_measured_helps_nobody() -> None:
    regret = regrets(np.array([[0.1, np.nan, 0.3, 0.5], [np.nan, 0.1, 0.3, 0.5]]))
    assert np.isnan(regret[0, 1])
    assert set(greedy(regret, np.ones(2), np.ones(4), 2).order) == {0, 1}


@given(st.integers(0, 10_000))
def test_a_dataset_is_nearest_to_itself_and_scales_do_not_matter(seed) -> None:
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(8, 3))
    factor, shift = rng.uniform(0.1, 100, size=3), rng.normal(size=3)
    for X in (features, features * factor + shift):
        far = distances(Scale.of(X, NAMES), X, NAMES, dict(zip(NAMES, X[2], strict=True)))
        assert int(far.argmin()) == 2
        assert far[2] == 0.0
    first = distances(Scale.of(features, NAMES), features, NAMES, dict(zip(NAMES, features[2], strict=True)))
    assert far == pytest.approx(first)


def test_features_that_one_side_lacks_count_as_far_and_none_as_nothing() -> None:
    X = np.array([[0.0, np.nan, 0.0], [1.0, 1.0, 1.0], [2.0, 2.0, 2.0], [0.0, np.nan, np.nan]])
    scale = Scale.of(X, NAMES)
    far = distances(scale, X, NAMES, {"u": 0.0, "w": 0.0})
    assert far[0] == 0.0
    assert 0.0 < far[3] < far[2]
    assert np.isinf(distances(scale, X[:, :0], (), {"u": 0.0})).all()


def test_near_tables_decide(tmp_path: Path) -> None:
    store = open_store(f"sqlite:///{tmp_path / 'e.sqlite'}")
    near = [a_dataset(i, {"u": 0.0 + i / 10, "v": 1.0}) for i in range(8)]
    far = [a_dataset(i, {"u": 50.0 + i, "v": -30.0}) for i in range(10, 20)]
    add(store, [a_run(d, {A: 0.1, B: 0.3, C: 0.5}) for d in near] + [a_run(d, {A: 0.5, B: 0.3, C: 0.1}) for d in far])
    here = a_dataset(99, {"u": 0.2, "v": 1.0})
    found = recall(here, prior=store, own=None, suit=as_it_is, now=0.0)
    assert found.pipelines[0] == A
    assert found.neighbours[0].name in {d.name for d in near}
    there = recall(a_dataset(98, {"u": 55.0, "v": -30.0}), prior=store, own=None, suit=as_it_is, now=0.0)
    assert there.pipelines[0] == C


def test_a_long_run_is_told_by_the_reference_as_a_short_one_is(tmp_path: Path) -> None:
    """The hundred best of a long run are all good: what they are worth is told by one that they leave behind."""
    store = open_store(f"sqlite:///{tmp_path / 'e.sqlite'}")
    crowd = [Pipeline("lightgbm", "native", {"learning_rate": 0.4 + i / 1000}) for i in range(160)]
    long = {D: 0.5, A: 0.1005} | {pipeline: 0.1 + i / 100_000 for i, pipeline in enumerate(crowd)}
    short = {D: 0.5, A: 0.1, crowd[0]: 0.3}
    add(store, [a_run(a_dataset(1, {"u": 1.0}), long), a_run(a_dataset(2, {"u": 1.2}), short)])
    found = recall(a_dataset(3, {"u": 1.1}), prior=None, own=store, suit=as_it_is, now=0.0, reference=D)
    assert found.pipelines[0] == A


def test_what_does_not_suit_is_left_out(tmp_path: Path) -> None:
    store = open_store(f"sqlite:///{tmp_path / 'e.sqlite'}")
    add(store, [a_run(a_dataset(i, {"u": float(i)}), {A: 0.1, B: 0.3, C: 0.5, D: 0.9}) for i in range(4)])
    found = recall(
        a_dataset(99, {"u": 1.0}), prior=store, own=None, suit=lambda p: None if p == A else (p, 1.0), now=0.0
    )
    assert A not in found.pipelines
    assert found.pipelines[0] == B


def test_a_table_that_comes_again_brings_its_winners(tmp_path: Path) -> None:
    store = open_store(f"sqlite:///{tmp_path / 'e.sqlite'}")
    columns = [f"c{i}" for i in range(20)]
    first = a_dataset(1, {"u": 1.0}, target="t", columns=columns)
    add(store, [
        a_run(first, {A: 0.1, B: 0.2}, uid="old", began=1.0, members=(A,)),
        a_run(first, {B: 0.1, C: 0.2}, uid="new", began=2.0, members=(B, A)),
        a_run(a_dataset(2, {"u": 1.0}, target="other", columns=columns), {C: 0.1}, members=(C,)),
    ])  # fmt: skip
    tomorrow = a_dataset(3, {"u": 1.5}, target="t", columns=[*columns[:19], "renamed"])
    found = recall(tomorrow, prior=None, own=store, suit=as_it_is, now=3.0)
    assert found.same_table_runs == 2
    assert found.winners == (B, A)  # the latest model first
    stranger = a_dataset(4, {"u": 1.5}, target="t", columns=columns[:10])
    assert recall(stranger, prior=None, own=store, suit=as_it_is, now=3.0).same_table_runs == 0


COLUMNS = tuple(f"c{i}" for i in range(10))


def at_hand(number, columns=COLUMNS):
    return a_dataset(number, {"u": 1.0}, target="t", columns=columns)


def a_store(tmp_path: Path, name, runs):
    store = open_store(f"sqlite:///{tmp_path / name}")
    add(store, runs)
    return store


def test_what_this_table_taught_counts_as_much_as_what_all_others_did(tmp_path: Path) -> None:
    others = [a_run(a_dataset(i, {"u": 1.0 + i / 100}), {D: 0.5, A: 0.45, B: 0.1}) for i in range(8)]
    prior = a_store(tmp_path, "p", others)
    own = a_store(tmp_path, "o", [a_run(at_hand(50), {D: 0.5, A: 0.1, B: 0.49})])
    found = recall(at_hand(51), prior=prior, own=own, suit=as_it_is, now=0.0, reference=D)
    assert found.pipelines == (A, B)
    stranger = a_dataset(52, {"u": 1.0})
    assert recall(stranger, prior=prior, own=own, suit=as_it_is, now=0.0, reference=D).pipelines[0] == B


def test_what_is_recalled_adds_to_the_winners(tmp_path: Path) -> None:
    prior = a_store(tmp_path, "p", [a_run(a_dataset(i, {"u": float(i)}), {D: 0.5, B: 0.1, C: 0.2}) for i in (1, 2)])
    own = a_store(tmp_path, "o", [a_run(at_hand(50), {D: 0.5, A: 0.1, C: 0.4}, members=(A,))])
    found = recall(at_hand(51), prior=prior, own=own, suit=as_it_is, now=0.0, reference=D)
    assert found.winners == (A,)
    assert found.pipelines == (B,)


def test_beside_winners_less_is_recalled(tmp_path: Path) -> None:
    many = [Pipeline("lightgbm", "native", {"learning_rate": 0.1 + i / 100}) for i in range(12)]
    others = [a_run(a_dataset(i, {"u": float(i)}), {D: 0.5, best: 0.1}) for i, best in enumerate(many)]
    prior = a_store(tmp_path, "p", others)
    own = a_store(tmp_path, "o", [a_run(at_hand(50), {D: 0.5, A: 0.1}, members=(A,))])
    beside = recall(at_hand(51), prior=prior, own=own, suit=as_it_is, now=0.0, reference=D)
    assert len(beside.pipelines) == MOST_BESIDE_WINNERS
    without = recall(a_dataset(52, {"u": 1.0}), prior=prior, own=own, suit=as_it_is, now=0.0, reference=D)
    assert len(without.pipelines) > len(many)


def test_what_was_no_better_than_the_default_on_this_table_is_not_tried_again(tmp_path: Path) -> None:
    prior = a_store(tmp_path, "p", [a_run(a_dataset(i, {"u": float(i)}), {D: 0.5, B: 0.1, C: 0.2}) for i in (1, 2)])
    own = a_store(tmp_path, "o", [a_run(at_hand(50), {D: 0.5, A: 0.1, B: 0.6})])
    found = recall(at_hand(51), prior=prior, own=own, suit=as_it_is, now=0.0, reference=D)
    assert set(found.poor) == {B, D}
    assert B not in found.pipelines
    add(own, [a_run(at_hand(50), {A: 0.1, B: 0.12, C: 0.2}, uid="later", began=1.0)])
    again = recall(at_hand(51), prior=prior, own=own, suit=as_it_is, now=1.0, reference=D)
    assert C not in again.poor, "by the median alone half of what a good run has finished would be"


def test_a_reference_that_lost_the_race_still_tells_what_the_others_are_worth(tmp_path: Path) -> None:
    run = a_run(at_hand(1), {A: 0.1, B: 0.11, C: 0.12})
    lost = Evaluation(D, 0.6, (0.6,), 1.0, 0.2, cut=False, given_up=True, origin="portfolio")
    folds = [replace(e, losses=(e.loss + 0.1, e.loss - 0.1)) for e in run.evaluations]  # the first fold is a hard one
    own = a_store(tmp_path, "o", [replace(run, evaluations=(*folds, lost))])
    price = {A: 100.0, B: 1.0, C: 100.0}
    found = recall(at_hand(2), prior=None, own=own, suit=lambda p: (p, price.get(p, 1.0)), now=0.0, reference=D)
    assert found.pipelines[0] == B, "nearly as good as the best, and cheap"
    assert found.poor == ()


def test_a_pipeline_that_was_cut_counts_by_its_second_try(tmp_path: Path) -> None:
    run = a_run(at_hand(1), {A: 0.1, B: 0.3, D: 0.5})
    cut = replace(run.evaluations[0], loss=0.5, losses=(0.5,), cut=True)
    own = a_store(tmp_path, "o", [replace(run, evaluations=(*run.evaluations, cut))])
    found = recall(at_hand(2), prior=None, own=own, suit=as_it_is, now=0.0, reference=D)
    assert found.pipelines == (A,)


def test_a_pipeline_that_was_cut_may_be_good_where_there_is_more_time(tmp_path: Path) -> None:
    run = a_run(at_hand(1), {A: 0.1, B: 0.6, C: 0.6, D: 0.5})
    evaluations = [replace(e, cut=e.pipeline == C) for e in run.evaluations]
    own = a_store(tmp_path, "o", [replace(run, evaluations=tuple(evaluations))])
    assert set(recall(at_hand(2), prior=None, own=own, suit=as_it_is, now=0.0, reference=D).poor) == {B, D}


def test_the_model_that_was_searched_for_longest_is_not_forgotten(tmp_path: Path) -> None:
    hour = replace(a_run(at_hand(1), {A: 0.1}, uid="hour", began=1.0, members=(A, B)), seconds=3600.0)
    short = a_run(at_hand(1), {C: 0.2}, uid="short", began=2.0, members=(C, D))
    own = a_store(tmp_path, "o", [hour, short])
    assert recall(at_hand(2), prior=None, own=own, suit=as_it_is, now=3.0).winners == (C, A, D, B)


def test_winners_that_do_not_fit_take_no_place(tmp_path: Path) -> None:
    members = [Pipeline("lightgbm", "native", {"learning_rate": 0.1 + i / 100}) for i in range(20)]
    own = a_store(tmp_path, "o", [a_run(at_hand(1), {A: 0.1}, members=members)])
    unfit = set(members[:6])
    found = recall(at_hand(2), prior=None, own=own, suit=lambda p: None if p in unfit else (p, 1.0), now=0.0)
    assert found.winners == tuple(members[6:14])


def test_a_short_run_does_not_overwrite_what_an_hour_measured(tmp_path: Path) -> None:
    hour = a_run(at_hand(1), {A: 0.1, B: 0.6, D: 0.5}, uid="hour", began=1.0)
    short = a_run(at_hand(1), {A: 0.6, B: 0.45, C: 0.4, D: 0.5}, uid="short", began=2.0)
    cut = [replace(e, cut=e.pipeline in (A, B)) for e in short.evaluations]
    own = a_store(tmp_path, "o", [hour, replace(short, evaluations=tuple(cut))])
    found = recall(at_hand(2), prior=None, own=own, suit=as_it_is, now=3.0, reference=D)
    assert A in found.pipelines
    assert set(found.poor) == {B, D}, "each as it was where it ran its course"
    again = a_run(at_hand(1), {A: 0.6, C: 0.1, D: 0.5}, uid="whole", began=3.0)
    add(own, [again])
    assert A in recall(at_hand(2), prior=None, own=own, suit=as_it_is, now=3.0, reference=D).poor


def test_the_longest_search_is_remembered_after_many_short_ones(tmp_path: Path) -> None:
    hour = replace(a_run(at_hand(1), {A: 0.1}, uid="hour", began=1.0, members=(A,)), seconds=3600.0)
    nights = [a_run(at_hand(1), {B: 0.2}, uid=f"night {i}", began=2.0 + i, members=(B,)) for i in range(30)]
    nothing = replace(a_run(at_hand(1), {C: 0.2}, uid="none", began=99.0), seconds=9999.0)
    own = a_store(tmp_path, "o", [hour, *nights, nothing])
    assert recall(at_hand(2), prior=None, own=own, suit=as_it_is, now=100.0).winners == (B, A)


def test_what_won_or_was_poor_by_another_metric_says_less(tmp_path: Path) -> None:
    by_loss = a_run(at_hand(1), {A: 0.6, B: 0.1, C: 0.2, D: 0.5}, uid="loss", began=9.0, members=(B, C))
    by_rank = a_run(at_hand(1), {A: 0.1, B: 0.6, D: 0.5}, uid="rank", began=1.0, members=(A,))
    own = a_store(tmp_path, "o", [by_rank, replace(by_loss, metric="log_loss")])

    def found(metric):
        return recall(at_hand(2), prior=None, own=own, suit=as_it_is, now=9.0, reference=D, metric=metric)

    assert (found("roc_auc").winners, set(found("roc_auc").poor)) == ((A, B, C), {B, D})
    assert (found("log_loss").winners, set(found("log_loss").poor)) == ((B, C, A), {A, D})
    assert earlier_winners(own, at_hand(2), as_it_is, "roc_auc") == (A, B, C)
    assert (found("accuracy").winners, found("accuracy").poor) == ((B, C, A), ())


def test_the_cheapest_winner_comes_first_so_that_there_is_a_model_soon(tmp_path: Path) -> None:
    own = a_store(tmp_path, "o", [a_run(at_hand(1), {A: 0.1}, members=(A, B, C))])
    price = {A: 90.0, B: 20.0, C: 0.5}
    found = recall(at_hand(2), prior=None, own=own, suit=lambda p: (p, price[p]), now=0.0)
    assert found.winners == (C, A, B)


FIGURES = tuple(shipped_weights(TaskKind.BINARY))


def figured(dataset, value):
    """Give a dataset all ten figures that tables are compared by."""
    return replace(dataset, features=dict.fromkeys(FIGURES, value))


def test_a_table_that_shares_no_more_than_names_is_another_table(tmp_path: Path) -> None:
    """The columns of many tables are called V1 to V28, or f_00 to f_49."""
    prior = a_store(tmp_path, "p", [a_run(figured(a_dataset(i, {}), float(i)), {A: 0.1, B: 0.2}) for i in range(9)])
    own = a_store(tmp_path, "o", [a_run(figured(at_hand(50), 2.0), {D: 0.5, A: 0.1, B: 0.6}, members=(A,))])

    def found(here):
        return recall(here, prior=prior, own=own, suit=as_it_is, now=0.0, reference=D)

    grown = found(figured(at_hand(51), 3.0))
    assert (grown.same_table_runs, grown.winners, set(grown.poor)) == (1, (A,), {B, D})
    stranger = found(figured(at_hand(51), 8.0))
    assert (stranger.same_table_runs, stranger.winners, stranger.poor) == (0, (), ())
    unmeasured = found(replace(at_hand(51), features=dict.fromkeys(FIGURES[1:], 8.0)))
    assert unmeasured.same_table_runs == 1, "what is not known contradicts nothing"


@pytest.mark.parametrize(("before", "now", "same"), [(5, 7, 1), (5, 8, 0), (200, 215, 1), (200, 300, 0)])
def test_a_table_of_other_classes_is_another_table(tmp_path: Path, before, now, same) -> None:
    def of_classes(number, n_classes):
        return replace(at_hand(number), kind=TaskKind.MULTICLASS, n_classes=n_classes)

    own = a_store(tmp_path, "o", [a_run(of_classes(1, before), {A: 0.1}, members=(A,))])
    assert recall(of_classes(2, now), prior=None, own=own, suit=as_it_is, now=0.0).same_table_runs == same
    assert len(earlier_winners(own, of_classes(2, now), as_it_is)) == same


def spoil(tmp_path: Path, name: str, statement: str) -> None:
    with sqlite3.connect(tmp_path / name) as connection:
        connection.execute(statement)


def test_what_is_wrong_with_one_store_does_not_silence_the_other(tmp_path: Path) -> None:
    prior = a_store(tmp_path, "p", [a_run(a_dataset(i, {"u": float(i)}), {A: 0.1, B: 0.2}) for i in (1, 2)])
    own = a_store(tmp_path, "o", [a_run(at_hand(50), {A: 0.1, B: 0.2})])
    spoil(tmp_path, "o", "UPDATE evaluation SET seconds = 'long'")
    found = recall(at_hand(51), prior=prior, own=own, suit=as_it_is, now=0.0)
    assert found.pipelines == (A,)
    (problem,) = found.problems
    assert str(tmp_path / "o") in problem


def test_an_infinite_loss_that_an_older_version_kept_counts_as_a_failure(tmp_path: Path) -> None:
    own = a_store(tmp_path, "o", [a_run(at_hand(50), {A: 0.1, B: 0.2, C: 0.3})])
    spoil(tmp_path, "o", "UPDATE evaluation SET loss = 9e999 WHERE number = 2")
    found = recall(at_hand(51), prior=None, own=own, suit=as_it_is, now=0.0)
    assert (found.pipelines, found.problems) == ((A,), ())
    export(own, tmp_path / "out.jsonl")
    other = open_store(f"sqlite:///{tmp_path / 'other'}")
    take_in(other, tmp_path / "out.jsonl")
    with reading(other) as connection:
        (run,) = every_run(connection)
    assert [e.loss for e in run.evaluations] == [pytest.approx(0.1), pytest.approx(0.2), None]


def test_what_won_on_a_table_is_found_without_reading_all_others(tmp_path: Path) -> None:
    own = a_store(tmp_path, "o", [a_run(at_hand(1), {A: 0.1}, members=(A,)), a_run(a_dataset(2, {"u": 1.0}), {B: 0.1})])
    spoil(tmp_path, "o", "UPDATE dataset SET features = 'read in vain', n_rows = 'many' WHERE target = ''")
    assert earlier_winners(own, at_hand(3), as_it_is) == (A,)


def test_two_tables_of_one_target_are_told_apart_by_their_columns(tmp_path: Path) -> None:
    nights = [a_run(replace(at_hand(i), target="x"), {A: 0.1, B: 0.2}) for i in range(3)]
    others = [
        a_run(a_dataset(10 + n, {"u": float(n)}, target="x", columns=COLUMNS[:n]), {A: 0.1, B: 0.2}) for n in (4, 5)
    ]
    own = a_store(tmp_path, "o", [])
    for run in (*nights, *others):
        add(own, [run])
    found = recall(at_hand(300), prior=None, own=own, suit=as_it_is, now=0.0)
    assert {neighbour.name for neighbour in found.neighbours} == {"d2", "d14", "d15"}


@pytest.mark.parametrize(("n_columns", "n_changed", "same"), [(10, 1, 1), (6, 1, 1), (6, 2, 0), (4, 1, 0), (4, 0, 1)])
def test_one_column_of_five_or_more_may_be_another_one(tmp_path: Path, n_columns, n_changed, same) -> None:
    own = a_store(tmp_path, "o", [a_run(at_hand(1, COLUMNS[:n_columns]), {A: 0.1, B: 0.2})])
    changed = [f"{name}{'x' if i < n_changed else ''}" for i, name in enumerate(COLUMNS[:n_columns])]
    found = recall(at_hand(2, changed), prior=None, own=own, suit=as_it_is, now=0.0)
    assert found.same_table_runs == same


def test_digests_of_older_versions_are_still_known(tmp_path: Path) -> None:
    own = a_store(tmp_path, "o", [a_run(at_hand(1), {A: 0.1, B: 0.2})])
    today = replace(at_hand(2, [f"new{i}" for i in range(10)]), former=COLUMNS)
    assert recall(today, prior=None, own=own, suit=as_it_is, now=0.0).same_table_runs == 1


def test_a_table_of_every_night_leaves_room_for_others(tmp_path: Path) -> None:
    nights = [a_run(replace(at_hand(i), target="nightly"), {A: 0.1, B: 0.2}) for i in range(60)]
    here = [a_run(at_hand(100 + i), {A: 0.1, B: 0.2}) for i in range(6)]
    another = a_run(a_dataset(200, {"u": 9.0}, target="x", columns=COLUMNS), {C: 0.1, B: 0.2})
    own = a_store(tmp_path, "o", [])
    for run in (*nights, *here, another):
        add(own, [run])
    found = recall(at_hand(300), prior=None, own=own, suit=as_it_is, now=0.0)
    names = {neighbour.name for neighbour in found.neighbours}
    assert names == {"d105", "d104", "d103", "d59", "d200"}
    assert found.same_table_runs == 6


def test_of_many_runs_on_a_table_the_latest_are_read(tmp_path: Path) -> None:
    runs = [a_run(at_hand(1), {A: 0.1}, uid=f"r{i}", began=float(i)) for i in range(9)]
    store = a_store(tmp_path, "o", runs)
    with reading(store) as connection:
        found = best_runs(connection, np.array([1]))
    assert [run.began for run in found] == [float(i) for i in range(9 - MOST_RUNS, 9)]


LARGE = Shape(TaskKind.BINARY, 150_000, 10, 2, 2, 8)


def test_what_won_on_a_table_comes_back_at_its_own_rate() -> None:
    families, slow = find_families(), {"learning_rate": 0.02, "num_leaves": 31}
    won = as_it_was(Pipeline("lightgbm", "native", slow), families, LARGE)
    assert won is not None
    assert won.hyperparameters["learning_rate"] == 0.02
    assert suited(Pipeline("lightgbm", "native", slow), families, LARGE).hyperparameters["learning_rate"] > 0.05
    grown = replace(LARGE, n_rows=300)  # the range of epochs moves with the rows
    won = as_it_was(Pipeline("mlp", "one_hot", {"epochs": 10_000, "width": 100}), families, grown)
    assert won is not None
    assert won.hyperparameters["width"] == 100


@pytest.mark.parametrize("fitting", [suited, as_it_was])
def test_a_network_that_a_search_found_comes_back(fitting) -> None:
    families = find_families(include_missing=True)
    drawn = "pbld16 cat8 k16 | dense256 silu batch d0.1 | gated128 relu none d0 +1"
    default = dict(families["neural"].defaults(LARGE)[0])
    short = Pipeline("neural", "native", {**default, "architecture": drawn, "epochs": 1})
    found = fitting(short, families, LARGE)
    assert found is not None
    assert found.hyperparameters["architecture"] == drawn
    assert found.hyperparameters["epochs"] >= 1
    assert fitting(Pipeline("neural", "native", {**default, "architecture": "dense"}), families, LARGE) is None


def test_nothing_remembered_is_nothing_recalled(tmp_path: Path) -> None:
    empty = open_store(f"sqlite:///{tmp_path / 'e.sqlite'}")
    found = recall(a_dataset(1, {"u": 1.0}), prior=None, own=empty, suit=as_it_is, now=0.0)
    assert found.pipelines == ()
    assert found.neighbours == ()


def test_ten_thousand_datasets_are_looked_up_at_once(tmp_path: Path) -> None:
    store = open_store(f"sqlite:///{tmp_path / 'e.sqlite'}")
    rng = np.random.default_rng(0)
    names = [f"feature_{i}" for i in range(57)]
    runs = [
        a_run(a_dataset(i, dict(zip(names, rng.normal(size=57), strict=True))), {A: 0.1, B: 0.2}) for i in range(10_000)
    ]
    add(store, runs)
    here = a_dataset(99_999, dict(zip(names, rng.normal(size=57), strict=True)))
    recall(here, prior=None, own=store, suit=as_it_is, now=0.0)
    began = time.process_time()
    recall(here, prior=None, own=store, suit=as_it_is, now=0.0)
    assert time.process_time() - began < 1.0  # 0.11 s; the rest is for a busy machine
    with reading(store) as connection:
        assert known_datasets(connection, TaskKind.BINARY).features.shape == (10_000, 57)


@pytest.mark.parametrize("kind", list(TaskKind))
def test_candidates_suit_tables_of_every_shape(kind: TaskKind) -> None:
    families = find_families()
    found = candidates(families, kind)
    assert len(set(found)) == len(found) > 50
    outputs = {TaskKind.BINARY: 2, TaskKind.MULTICLASS: 4, TaskKind.REGRESSION: 1}[kind]
    for n_rows, n_categorical, n_numeric in ((150, 0, 4), (5_000, 6, 6), (300_000, 3, 0)):
        shape = Shape(kind, n_rows, n_categorical + n_numeric, n_categorical, outputs, n_numeric)
        offered = {name: family for name, family in families.items() if family.offered(shape)}
        own = [p for candidate in found if (p := suited(candidate, offered, shape)) is not None]
        assert len(set(own)) > 20
        for pipeline in default_pipelines(offered, shape):
            assert suited(remembered_as(pipeline, offered, shape), offered, shape) == pipeline
        named = [remembered_as(pipeline, offered, shape) for pipeline in default_pipelines(offered, shape)]
        assert reference_pipeline(families, kind) in named  # whatever the table, what losses are compared with
        for name, family in offered.items():
            assert any(p.family == name and dict(p.hyperparameters) == dict(family.defaults(shape)[0]) for p in own)


def test_a_table_that_was_measured_in_two_parts_says_what_it_would_measured_at_once(tmp_path: Path) -> None:
    near, far, first, second = a_dataset(1, {"u": 0.0}), a_dataset(3, {"u": 90.0}), {A: 0.3, C: 0.5}, {B: 0.1, D: 0.2}
    said = {}
    for name, parts in (("once", [{**first, **second}]), ("twice", [first, second])):
        built = [replace(a_run(near, part, uid=f"r{i}", began=i), origin="build") for i, part in enumerate(parts)]
        said[name] = recall(
            a_dataset(2, {"u": 0.1}),
            prior=a_store(tmp_path, name, [a_run(far, {A: 0.5, C: 0.5}), *built]),
            own=None,
            suit=lambda p: (p, 0.01 if p == D else 1.0),
            now=10.0,
            reference=A,
        )
    assert said["twice"] == said["once"]
    assert said["once"].pipelines[0] == D, "cheap and half as good as the best; in its part alone it is the worst"
