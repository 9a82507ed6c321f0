"""Members that learn once more from rows without labels, by what the ensemble says of them."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from automl_cli.asking import out_of_fold, said_by_fold
from automl_cli.clock import Deadline
from automl_cli.ending import Ending, Further, further_models
from automl_cli.evaluate import evaluate, open_run
from automl_cli.executors import SerialExecutor
from automl_cli.families import find_families
from automl_cli.families.family import FoldData
from automl_cli.features.frame import Frame, FrameSchema
from automl_cli.features.matrix import as_matrix
from automl_cli.members import Chosen, OofCache
from automl_cli.metrics import METRICS, TaskKind
from automl_cli.repeats import members_to_repeat, pupils_seconds, seconds_of_fit, taught_again
from automl_cli.rundata import save_rundata
from automl_cli.sourced import find_encoding, load_model
from automl_cli.splits import ValidationPlan, plan_folds
from automl_cli.stacking import MEAN, Mixing
from automl_cli.task import Task, make_task
from automl_cli.teaching import FIRST, TAUGHT, Taught, begin_teaching, finished_pupil, teach_fold, with_pupils
from automl_cli.trial import Pipeline, Proposal, Success
from automl_cli.trialfiles import fold_folders, read_oof, trial_folder
from automl_cli.unlabelled import LEAST_WEIGHT, MOST_LABELS, taught_rows, with_labels

N_FOLDS = 3
AGAIN = taught_again(N_FOLDS)


def clouds(n: int, seed: int) -> tuple[Frame, np.ndarray]:
    """Two clouds, of which each is a class."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, n)
    X = (2.0 * y - 1.0)[:, None] * np.array([1.0, -0.5]) + rng.normal(0, 1.0, (n, 2))
    return Frame(FrameSchema(numeric=("a", "b")), X, np.zeros((n, 0), dtype=np.int32), np.zeros((n, 0))), y


def task_of(y: np.ndarray) -> Task:
    return make_task(["no" if value == 0 else "yes" for value in y], target="y", metric="log_loss")[0]


def searched(
    folder: Path, y: np.ndarray, frame: Frame, unlabelled: Frame, plan: ValidationPlan | None = None
) -> Ending:
    """A search that is over: two linear models are members."""
    task = task_of(y)
    plan = plan or plan_folds(task, folds=N_FOLDS, seconds=None, n_columns=2, seed=0)
    save_rundata(folder / "data", frame, task, plan, None, unlabelled)
    members = []
    for number, C in enumerate((0.01, 1.0)):
        pipeline = Pipeline("linear", "one_hot", {"C": C, "elastic_net": False})
        trial = evaluate(Proposal(number, pipeline, "smac", 0, 1), str(folder))
        assert isinstance(trial, Success)
        members.append((trial, 0.25 + 0.5 * number))
    data = open_run(str(folder)).data
    said = sum(weight * read_oof(folder, data, trial) for trial, weight in members)
    chosen = Chosen(tuple(members), 0.1, (0.5,) * N_FOLDS, said=np.asarray(said))
    return Ending(SerialExecutor(), chosen, folder, Deadline.after(None), 0.1, lambda: False)


def cache_of(ending: Ending) -> OofCache:
    return OofCache(ending.run_folder, open_run(str(ending.run_folder)).data)


@pytest.fixture
def ending(tmp_path: Path) -> Ending:
    frame, y = clouds(45, 0)
    return searched(tmp_path, y, frame, clouds(300, 1)[0])


def taught(ending: Ending) -> Further:
    return further_models(ending, cache_of(ending), AGAIN, 1, calibrate=False)


def pupils_of(further: Further) -> list[Success]:
    return [trial for trial, _ in further.chosen.members if trial.proposal.origin == TAUGHT]


def test_each_member_has_a_pupil_and_half_of_the_model_is_theirs_in_equal_parts(ending: Ending) -> None:
    further = taught(ending)
    members = further.chosen.members
    assert [(trial.proposal.number, trial.proposal.origin) for trial, _ in members] == [
        (0, "smac"), (1, "smac"), (FIRST, TAUGHT), (FIRST + 1, TAUGHT)
    ]  # fmt: skip
    assert [weight for _, weight in members] == pytest.approx([0.125, 0.375, 0.25, 0.25])
    pipelines = [trial.proposal.pipeline for trial, _ in members]
    assert pipelines[2:] == [pipelines[1], pipelines[0]], "the heaviest first"
    assert further.folders == {}
    assert further.taught is not None
    assert (further.taught.n_pupils, further.taught.n_rows) == (2, 300)


def test_pupils_say_of_validation_rows_what_is_kept_of_them(ending: Ending) -> None:
    data = cache_of(ending).data
    for pupil in pupils_of(taught(ending)):
        for fold, folder in enumerate(fold_folders(ending.run_folder, pupil)):
            rows = data.frame.take(np.asarray(data.folds[fold][1]))
            model = load_model(find_families()["linear"], "one_hot", folder / "model")
            said = model.predict(find_encoding("one_hot").load(folder / "encoder").transform(rows), 1)
            np.testing.assert_allclose(said, np.load(folder / "oof.npy"), atol=1e-6)


def test_no_model_of_a_fold_is_fitted_on_its_validation_rows(tmp_path: Path) -> None:
    """With other labels on them pupils are the same, where weights are: neither teacher nor pupil has learned one."""
    frame, y = clouds(45, 0)
    unlabelled, said = clouds(300, 1)[0], []
    plan = plan_folds(task_of(y), folds=N_FOLDS, seconds=None, n_columns=2, seed=0)
    turned = y.copy()
    turned[plan.folds[0][1]] = 1 - y[plan.folds[0][1]]
    for name, labels in (("as_they_are", y), ("turned", turned)):
        (tmp_path / name).mkdir()
        ending = searched(tmp_path / name, labels, frame, unlabelled, plan)
        for pupil in begin_teaching(ending.run_folder, [trial for trial, _ in ending.chosen.members]):
            teach_fold(pupil, ending.chosen, str(ending.run_folder), 0, None)
            said.append(np.load(trial_folder(ending.run_folder, pupil.number) / "fold_0" / "oof.npy"))
    np.testing.assert_array_equal(said[0], said[2])
    np.testing.assert_array_equal(said[1], said[3])


def test_the_ensemble_of_a_fold_is_the_weighted_mean_of_its_models(ending: Ending) -> None:
    frame = taught_rows(cache_of(ending).data)
    alone = [said_by_fold(ending.run_folder, replace(ending.chosen, members=(m,)), frame, 1) / m[1]
             for m in ending.chosen.members]  # fmt: skip
    both = said_by_fold(ending.run_folder, ending.chosen, frame, 1)
    np.testing.assert_allclose(both, 0.25 * alone[0] + 0.75 * alone[1], atol=1e-12)


def test_a_member_without_a_fold_has_no_say_in_it(ending: Ending) -> None:
    (first, one), (second, other) = ending.chosen.members
    short = replace(first, losses=first.losses[:2], complete=False)
    frame = taught_rows(cache_of(ending).data)
    chosen = replace(ending.chosen, members=((short, one), (second, other)))
    alone = replace(ending.chosen, members=((second, 1.0),))
    np.testing.assert_allclose(
        said_by_fold(ending.run_folder, chosen, frame, 2), said_by_fold(ending.run_folder, alone, frame, 2), atol=1e-12
    )
    with pytest.raises(ValueError, match="not all members have finished fold 2"):
        said_by_fold(ending.run_folder, replace(chosen, mixing=Mixing(logarithms=True)), frame, 2)


@pytest.mark.parametrize("mixing", [MEAN, Mixing(logarithms=True, offsets=(0.3, -0.1))])
def test_what_pupils_are_worth_is_told_by_the_labelled_rows(ending: Ending, mixing: Mixing) -> None:
    """Against half of what the members say and half of what the pupils say, fold by fold."""
    cache = cache_of(ending)
    said = np.asarray(
        mixing.joined(
            sum(w * mixing.terms(read_oof(ending.run_folder, cache.data, t)) for t, w in ending.chosen.members)
        )
    )
    y, _ = cache.data.validated()
    ends = np.cumsum([0, *(len(valid) for _, valid in cache.data.folds)])

    def losses(outputs: np.ndarray) -> np.ndarray:
        return np.array([METRICS["log_loss"].loss(y[a:b], outputs[a:b], None) for a, b in itertools.pairwise(ends)])

    ending = replace(
        ending, chosen=replace(ending.chosen, mixing=mixing, said=said, fold_losses=tuple(losses(said)), crossed=())
    )
    further = taught(ending)
    theirs = [read_oof(ending.run_folder, cache.data, pupil) for pupil in pupils_of(further)]
    if mixing == MEAN:
        after = 0.5 * said + 0.5 * np.mean(theirs, axis=0)
    else:
        after = np.exp(0.5 * np.log(said) + 0.5 * np.mean(np.log(theirs), axis=0))
        after /= after.sum(axis=1, keepdims=True)
    gains = losses(said) - losses(after)
    assert further.taught is not None
    assert further.taught.gain == pytest.approx(np.mean(gains), abs=1e-6)
    assert further.taught.error == pytest.approx(np.sqrt((1 / 3 + 1 / 2) * np.var(gains, ddof=1)), rel=1e-3)
    assert further.chosen.shown_loss == pytest.approx(np.mean(losses(after)), abs=1e-6)
    # the model that is written says the same: its members are mixed anew
    np.testing.assert_allclose(out_of_fold(further.chosen, cache), after, atol=1e-6)


def test_pupils_that_cost_are_left_aside(ending: Ending) -> None:
    """The members say nearly the truth of rows that are labelled, and of the others they know nothing."""
    cache = cache_of(ending)
    y, _ = cache.data.validated()
    said = np.where(np.eye(2)[y] > 0, 0.98, 0.02)
    sure = replace(ending.chosen, said=said, fold_losses=(-np.log(0.98),) * N_FOLDS)
    further = taught(replace(ending, chosen=sure))
    assert further.taught is not None
    assert further.taught.costs
    assert further.taught.to_json()["kept"] is False
    assert further.chosen is sure


def test_a_pupil_that_fails_is_left_out(ending: Ending) -> None:
    first, second = begin_teaching(ending.run_folder, [trial for trial, _ in ending.chosen.members])
    for fold in range(N_FOLDS):
        teach_fold(second, ending.chosen, str(ending.run_folder), fold, None)
        if fold:
            teach_fold(first, ending.chosen, str(ending.run_folder), fold, None)
    assert finished_pupil(ending.run_folder, first, N_FOLDS) is None
    pupil = finished_pupil(ending.run_folder, second, N_FOLDS)
    assert pupil is not None
    chosen, worth = with_pupils(ending.chosen, [pupil], cache_of(ending), calibrate=False)
    assert [weight for _, weight in chosen.members] == pytest.approx([0.125, 0.375, 0.5])
    assert worth.n_pupils == 1


def test_a_pupil_may_lack_folds_and_is_judged_on_those_that_it_has(ending: Ending) -> None:
    cache = cache_of(ending)
    (proposal,) = begin_teaching(ending.run_folder, [ending.chosen.members[1][0]])
    teach_fold(proposal, ending.chosen, str(ending.run_folder), 0, None)
    assert finished_pupil(ending.run_folder, proposal, N_FOLDS) is None, "one of three is too little"
    teach_fold(proposal, ending.chosen, str(ending.run_folder), 1, None)
    pupil = finished_pupil(ending.run_folder, proposal, N_FOLDS)
    assert pupil is not None
    chosen, worth = with_pupils(ending.chosen, [pupil], cache, calibrate=False)
    y, _ = cache.data.validated()
    n = sum(len(valid) for _, valid in cache.data.folds[:2])
    theirs = read_oof(ending.run_folder, cache.data, pupil)
    assert ending.chosen.said is not None
    assert chosen.loss == pytest.approx(
        METRICS["log_loss"].loss(y[:n], 0.5 * ending.chosen.said[:n] + 0.5 * theirs[:n], None), abs=1e-7
    )
    assert len(chosen.fold_losses) == 2
    assert worth.loss == pytest.approx(0.5)
    assert chosen.said is not None
    np.testing.assert_array_equal(chosen.said[n:], ending.chosen.said[n:])


def test_without_room_on_the_disk_the_model_is_what_it_was(ending: Ending) -> None:
    trial_folder(ending.run_folder, FIRST).write_text("in the way")
    further = taught(ending)
    assert further.chosen is ending.chosen
    assert further.taught is None


def test_on_one_holdout_pupils_that_lose_are_left_aside() -> None:
    worth = Taught(n_pupils=1, n_rows=500, loss=0.5, gain=-0.01, error=math.inf)
    assert worth.costs
    assert worth.to_json()["error"] is None
    assert not replace(worth, gain=0.01).costs
    assert not replace(worth, error=0.02).costs


def test_what_is_said_of_many_rows_is_read_again(ending: Ending) -> None:
    cache = cache_of(ending)
    unknown = replace(ending, chosen=replace(ending.chosen, said=None))
    one, other = (further_models(e, cache, AGAIN, 1, calibrate=False).chosen for e in (ending, unknown))
    assert one.said is not None
    assert other.said is not None
    np.testing.assert_allclose(one.said, other.said, atol=1e-6)


def test_after_an_interrupt_nobody_is_taught(ending: Ending) -> None:
    assert taught(replace(ending, interrupted=lambda: True)).chosen is ending.chosen


def test_an_end_that_was_interrupted_leaves_nothing_to_the_next(ending: Ending) -> None:
    """Other members may have been the teacher by then, and their pupils have had these numbers."""
    expected = [np.load(fold_folders(ending.run_folder, p)[0] / "oof.npy") for p in pupils_of(taught(ending))]
    (_, _), (second, _) = ending.chosen.members
    taught(replace(ending, chosen=replace(ending.chosen, members=((second, 1.0),), said=ending.chosen.said)))
    again = taught(ending)
    assert [trial.proposal.number for trial in pupils_of(again)] == [FIRST, FIRST + 1]
    for before, pupil in zip(expected, pupils_of(again), strict=True):
        np.testing.assert_array_equal(before, np.load(fold_folders(ending.run_folder, pupil)[0] / "oof.npy"))


@given(st.integers(2, 8), st.integers(1, 30), st.integers(0, 10_000), st.booleans())
def test_rows_without_labels_weigh_at_most_what_the_labelled_ones_do(n: int, rows: int, seed: int, given: bool) -> None:
    rng = np.random.default_rng(seed)
    X, y = rng.normal(size=(10, 2)), rng.integers(0, n, 10)
    weight = rng.random(10) + 0.1 if given else None
    fold = FoldData(
        kind=TaskKind.MULTICLASS, n_outputs=n, train=as_matrix(X, ()), y=y, weight=weight, valid=as_matrix(X, ()),
        y_valid=y, weight_valid=None, loss=METRICS["log_loss"].loss, metric="log_loss",
    )  # fmt: skip
    outputs = rng.dirichlet(np.full(n, 0.3), rows)
    made = with_labels(fold, as_matrix(rng.normal(size=(rows, 2)), ()), outputs)
    own = 10.0 if weight is None else float(weight.sum())
    assert made.weight is not None
    theirs = np.asarray(made.weight)[10:]
    assert theirs.sum() <= own * (1 + 1e-9)
    scale = min(1.0, own / sum(np.sort(row)[-MOST_LABELS:][np.sort(row)[-MOST_LABELS:] >= LEAST_WEIGHT].sum()
                               for row in outputs))  # fmt: skip
    for label in range(n):
        top = [row[label] for row in outputs if row[label] >= LEAST_WEIGHT and (row > row[label]).sum() < MOST_LABELS]
        assert theirs[made.y[10:] == label].sum() == pytest.approx(scale * sum(top), abs=1e-9)


def test_a_row_that_may_be_anything_stands_under_the_likeliest_class() -> None:
    """Of 150 classes none may be likelier than what a row must weigh."""
    X, y = np.zeros((4, 1)), np.arange(4)
    fold = FoldData(
        kind=TaskKind.MULTICLASS, n_outputs=150, train=as_matrix(X, ()), y=y, weight=None, valid=as_matrix(X, ()),
        y_valid=y, weight_valid=None, loss=METRICS["log_loss"].loss, metric="log_loss",
    )  # fmt: skip
    outputs = np.full((2, 150), 1 / 150)
    outputs[:, 7] += 1e-6
    made = with_labels(fold, as_matrix(np.ones((2, 1)), ()), outputs)
    assert list(made.y[4:]) == [7, 7]


def test_as_many_rows_are_taught_as_have_a_label_and_some_hundreds_at_least(tmp_path: Path) -> None:
    frame, y = clouds(45, 0)
    searched(tmp_path, y, frame, clouds(900, 1)[0])
    assert taught_rows(open_run(str(tmp_path)).data).n_rows == 500


def trial(number: int, family: str, seconds: float) -> Success:
    return Success(Proposal(number, Pipeline(family, "native", {"k": number}), "smac", 0, 1), (0.5,) * 3, seconds, True)


def numbers(trials: Sequence[Success]) -> list[int]:
    return [trial.proposal.number for trial in trials]


def test_pupils_are_three_of_different_families_and_the_quick_ones_come_first() -> None:
    members = [trial(0, "lightgbm", 6.0), trial(1, "lightgbm", 3.0), trial(2, "linear", 0.3), trial(3, "xgboost", 4.5),
               trial(4, "mlp", 1.5), trial(5, "catboost", 9.0)]  # fmt: skip
    chosen = Chosen(tuple((one, 1 / 6) for one in members), 0.1, (0.1,) * 3)
    assert numbers(members_to_repeat(chosen, AGAIN, seconds=1e6, workers=1)) == [4, 1, 3]
    assert numbers(members_to_repeat(chosen, AGAIN, seconds=math.inf, workers=1)) == [0, 3, 4], "no clock is asked"
    few = replace(chosen, members=((members[0], 0.5), (members[1], 0.3), (members[2], 0.2)))
    assert numbers(members_to_repeat(few, AGAIN, seconds=1e6, workers=1)) == [1, 0]
    unfinished = replace(members[0], complete=False)
    last = replace(chosen, members=((unfinished, 0.5), (members[2], 0.5)))
    assert numbers(members_to_repeat(last, AGAIN, seconds=1e6, workers=1)) == [2]
    alone = replace(chosen, members=((members[2], 1.0),))
    assert numbers(members_to_repeat(alone, AGAIN, seconds=1e6, workers=1)) == [2]


def test_seconds_are_kept_for_pupils_and_one_is_taught_in_whatever_there_is() -> None:
    """A fold takes 1 s, and once more 2 s at most."""
    members = (trial(0, "lightgbm", 3.0), trial(1, "xgboost", 3.0))
    chosen = Chosen(tuple((one, 0.5) for one in members), 0.1, (0.1,) * 3)
    assert len(members_to_repeat(chosen, AGAIN, seconds=16.0, workers=1)) == 2
    assert len(members_to_repeat(chosen, AGAIN, seconds=12.0, workers=1)) == 1
    assert len(members_to_repeat(chosen, AGAIN, seconds=1.0, workers=1)) == 1
    trials = [trial(k, "lightgbm", seconds) for k, seconds in enumerate((0.3, 3.0, 60.0))]
    assert pupils_seconds(trials, AGAIN, limit=1_000.0, workers=1) == pytest.approx(3 * 3 * 2.0 / 0.8)
    assert pupils_seconds(trials, AGAIN, limit=1_000.0, workers=3) == pytest.approx(3 * 2.0 / 0.8)
    assert pupils_seconds(trials, AGAIN, limit=20.0, workers=1) == pytest.approx(3.0)
    assert pupils_seconds([], AGAIN, limit=20.0, workers=1) == pytest.approx(3.0)
    assert seconds_of_fit(members[0], AGAIN, 2, seconds=20.0, workers=1) == pytest.approx(2.0)
    assert seconds_of_fit(members[0], AGAIN, 1, seconds=3.0, workers=1) == pytest.approx(0.8)
