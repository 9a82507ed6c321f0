"""One trial, fold by fold, as a worker runs it."""

import hashlib
import json
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import automl_cli.evaluate
from automl_cli.evaluate import evaluate, finished_trial, open_run
from automl_cli.features.frame import Frame, FrameSchema
from automl_cli.refitting import course_of_refit, refit, repeat_fold
from automl_cli.rowtime import seconds_of
from automl_cli.rundata import renew, save_rundata
from automl_cli.splits import plan_folds
from automl_cli.task import make_task
from automl_cli.trial import Failure, Pipeline, Proposal, Success
from automl_cli.trialfiles import read_oof, repeated_folders, trial_folder

N_ROWS, N_FOLDS = 150, 3
LINEAR = Pipeline("linear", "one_hot", {"C": 1.0, "elastic_net": False})


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data of a run: two numbers of which one decides, mostly."""
    folder = tmp_path_factory.mktemp("run")
    random = np.random.default_rng(0)
    numbers = random.normal(size=(N_ROWS, 2))
    labels = np.where(numbers[:, 0] + 0.5 * random.normal(size=N_ROWS) > 0, "yes", "no")
    schema = FrameSchema(numeric=("a", "b"))
    frame = Frame(schema, numbers, np.zeros((N_ROWS, 0), dtype=np.int32), np.zeros((N_ROWS, 0)))
    task, _ = make_task(list(labels), target="y")
    save_rundata(folder / "data", frame, task, plan_folds(task, folds=N_FOLDS, seconds=None, n_columns=2, seed=0))
    return folder


def proposal(number: int, pipeline: Pipeline = LINEAR, **more: object) -> Proposal:
    return replace(Proposal(number, pipeline, "smac", 7, 1), **more)  # type: ignore[arg-type]


def repeat_folds(trial: Success, run: Path) -> None:
    for fold in range(N_FOLDS, 2 * N_FOLDS):
        repeat_fold(trial, str(run), fold)


def contents(folder: Path) -> dict[str, bytes]:
    """Everything that matters of the finished folds: models, encoders, predictions."""
    files = {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in files.items() if path.name != "fold.json"}


def test_every_row_is_predicted_by_a_model_that_has_not_seen_it(run: Path) -> None:
    trial = evaluate(proposal(0), str(run))
    assert isinstance(trial, Success)
    assert trial.complete
    assert len(trial.losses) == N_FOLDS
    assert trial.loss < 0.2
    oof = read_oof(run, open_run(str(run)).data, trial)
    assert oof.shape == (N_ROWS, 2)
    assert oof.sum(axis=1) == pytest.approx(1.0, abs=1e-5)


def test_a_class_of_one_group_alone_does_not_decide_the_loss(tmp_path: Path) -> None:
    """Its rows are judged by a model that has never met it."""
    numbers = np.random.default_rng(0).normal(size=(N_ROWS, 1))
    groups = np.arange(N_ROWS) % N_FOLDS
    labels = np.where(numbers[:, 0] > 0, "yes", "no").astype(object)
    labels[0] = "perhaps"
    task, _ = make_task(list(labels), target="y", groups=groups)
    frame = Frame(FrameSchema(numeric=("a",)), numbers, np.zeros((N_ROWS, 0), dtype=np.int32), np.zeros((N_ROWS, 0)))
    plan = plan_folds(task, folds=N_FOLDS, seconds=None, n_columns=1, seed=0)
    save_rundata(tmp_path / "data", frame, task, plan)
    trial = evaluate(proposal(0), str(tmp_path))
    assert isinstance(trial, Success)
    row = -np.log(1 / (N_ROWS * 2 / 3 + 1) / 3)  # of that row, in place of 34.5
    assert max(trial.losses) < 0.1 + (row + 0.1) / (N_ROWS / 3)


def test_a_worker_that_has_seen_another_run_in_the_folder_fits_the_new_table(tmp_path: Path) -> None:
    """The workers of a cluster live on between two nights' runs in one --run-dir."""
    a = np.linspace(0, 1, N_ROWS)
    frame = Frame(FrameSchema(numeric=("a",)), a[:, None], np.zeros((N_ROWS, 0), dtype=np.int32), np.zeros((N_ROWS, 0)))
    for level in (1_000.0, 2_000.0):
        shutil.rmtree(tmp_path / "data", ignore_errors=True)
        shutil.rmtree(tmp_path / "encoded", ignore_errors=True)
        task, _ = make_task([f"{level + value:.6f}" for value in a], target="y")
        plan = plan_folds(task, folds=N_FOLDS, seconds=None, n_columns=1, seed=0)
        save_rundata(tmp_path / "data", frame, task, plan)
        trial = evaluate(proposal(0), str(tmp_path))
        assert isinstance(trial, Success)
        assert read_oof(tmp_path, open_run(str(tmp_path)).data, trial).mean() == pytest.approx(level, rel=0.1)


def test_a_trial_whose_run_is_over_writes_no_more(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cluster's call goes on when it is cancelled; the run that was resumed has a trial of the same number."""
    fit = automl_cli.evaluate.fit_model

    def fit_while_another_run_begins(*arguments: object) -> object:
        renew(run / "data")
        return fit(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr("automl_cli.evaluate.fit_model", fit_while_another_run_begins)
    trial = evaluate(proposal(30), str(run))
    assert isinstance(trial, Failure)
    assert "does not work in" in trial.reason
    assert not list(trial_folder(run, 30).glob("fold_*"))


@pytest.mark.parametrize("family", ["linear", "lightgbm"])
def test_the_same_seed_leaves_the_same_bytes(run: Path, family: str) -> None:
    # another number is another folder; a worker may have encoded the folds before or not
    values = {"learning_rate": 0.1, "num_leaves": 7, "min_data_in_leaf": 5, "feature_fraction": 0.7,
              "bagging": True, "bagging_fraction": 0.7, "lambda_l1": 0.1, "lambda_l2": 0.1,
              "extra_trees": False}  # fmt: skip
    pipeline = LINEAR if family == "linear" else Pipeline("lightgbm", "native", values)
    first = evaluate(proposal(10, pipeline), str(run))
    renew(run / "data")
    second = evaluate(proposal(11, pipeline), str(run))
    assert isinstance(first, Success)
    assert isinstance(second, Success)
    assert first.losses == second.losses
    one, other = contents(trial_folder(run, 10)), contents(trial_folder(run, 11))
    assert one == other
    assert any("oof.npy" in name for name in one)


def test_a_lost_race_ends_after_its_fold_and_says_why(run: Path) -> None:
    trial = evaluate(proposal(20, incumbent=(0.0, 0.0, 0.0)), str(run))
    assert isinstance(trial, Success)
    assert not trial.complete
    assert len(trial.losses) == 1
    assert trial.given_up
    assert trial.note.startswith("given up after fold 1 of 3: mean ")
    assert "no better than the incumbent" in trial.note
    oof = read_oof(run, open_run(str(run)).data, trial)
    assert 0 < np.isfinite(oof).all(axis=1).sum() < N_ROWS


def test_the_best_of_its_family_goes_on_though_it_loses_the_race(run: Path) -> None:
    lost = {"incumbent": (0.0, 0.0, 0.0)}
    best_of_its_kind = evaluate(proposal(24, **lost, leader=(9.0, 9.0, 9.0)), str(run))
    assert isinstance(best_of_its_kind, Success)
    assert best_of_its_kind.complete
    assert not best_of_its_kind.given_up
    first, second, third = best_of_its_kind.losses
    ahead_at_first = evaluate(proposal(25, **lost, leader=(first + 0.1, second - 1.0, third)), str(run))
    never_ahead = evaluate(proposal(26, **lost, leader=(0.0, 0.0, 0.0)), str(run))
    assert isinstance(ahead_at_first, Success)
    assert isinstance(never_ahead, Success)
    assert (len(ahead_at_first.losses), len(never_ahead.losses)) == (2, 1)


def test_a_winner_is_raced_to_the_end(run: Path) -> None:
    trial = evaluate(proposal(21, incumbent=(0.9, 0.9, 0.9)), str(run))
    assert isinstance(trial, Success)
    assert trial.complete
    assert not trial.given_up
    assert trial.note == ""


def test_without_time_for_all_folds_the_first_counts(run: Path) -> None:
    trial = evaluate(proposal(22, seconds=1e-4), str(run))
    assert isinstance(trial, Success)
    assert len(trial.losses) == 1
    assert trial.note == "out of time after fold 1"
    assert not trial.given_up


@pytest.mark.parametrize(
    ("pipeline", "reason"),
    [
        (Pipeline("linear", "one_hot", {"C": 0.0, "elastic_net": False}), "ZeroDivisionError"),
        (Pipeline("lightgbm", "native", {}), "KeyError"),
        (Pipeline("no_family", "one_hot", {}), "KeyError: 'no_family'"),
        (Pipeline("linear", "no_encoding", {}), "KeyError: 'no_encoding'"),
    ],
)
def test_what_model_code_raises_becomes_a_failure_with_its_reason(run: Path, pipeline: Pipeline, reason: str) -> None:
    trial = evaluate(proposal(30, pipeline), str(run))
    assert isinstance(trial, Failure)
    assert trial.reason.startswith(reason)
    assert "\n" not in trial.reason
    assert "Error" in trial.trace


def test_folds_of_a_killed_worker_are_read_up_to_the_first_gap(run: Path) -> None:
    whole = evaluate(proposal(40), str(run))
    assert isinstance(whole, Success)
    folder = trial_folder(run, 40)
    (folder / "fold_2").rename(folder / "fold_2.draft")  # killed while it wrote the last fold
    rescued = finished_trial(run, proposal(40), 3.0, N_FOLDS, "WorkerDied: killed")
    assert isinstance(rescued, Success)
    assert rescued.losses == whole.losses[:2]
    assert not rescued.complete
    assert rescued.note == "WorkerDied: killed"
    shutil.rmtree(folder / "fold_0")
    nothing = finished_trial(run, proposal(40), 3.0, N_FOLDS, "WorkerDied: killed")
    assert isinstance(nothing, Failure)
    assert nothing.reason == "WorkerDied: killed"


def test_leftovers_of_an_earlier_attempt_are_replaced(run: Path) -> None:
    folder = trial_folder(run, 41)
    for name in ("fold_0.draft", "fold_0"):
        (folder / name / "model").mkdir(parents=True)
    (folder / "fold_0" / "fold.json").write_text(json.dumps({"loss": 99.0, "cut": False, "rounds": 0}))
    trial = evaluate(proposal(41, incumbent=(0.0,)), str(run))
    assert isinstance(trial, Success)
    assert trial.losses[0] < 1
    assert not (folder / "fold_0.draft").exists()


def test_a_refit_learns_from_all_rows_with_the_rounds_of_the_folds(run: Path) -> None:
    import lightgbm

    values = {"learning_rate": 0.3, "num_leaves": 7, "min_data_in_leaf": 5, "feature_fraction": 1.0,
              "bagging": False, "lambda_l1": 0.1, "lambda_l2": 0.1, "extra_trees": False}  # fmt: skip
    trial = evaluate(proposal(50, Pipeline("lightgbm", "native", values)), str(run))
    assert isinstance(trial, Success)
    assert min(trial.rounds) > 0
    folder = refit(trial, str(run), None)
    booster = lightgbm.Booster(model_file=folder / "model" / "model.txt")
    assert booster.num_trees() == round(sum(trial.rounds) / N_FOLDS)
    counts = booster.dump_model()["tree_info"][0]["tree_structure"]["internal_count"]
    assert counts == N_ROWS


def ended(pipeline: Pipeline, rounds: tuple[int, ...], *, cut: bool) -> Success:
    return Success(proposal(0, pipeline), (0.5,) * len(rounds), 3.0, complete=True, cut=cut, rounds=rounds)


@pytest.mark.parametrize("family", ["mlp", "neural"])
def test_the_rate_of_a_network_falls_over_the_epochs_that_a_refit_has(family: str) -> None:
    pipeline = Pipeline(family, "one_hot", {"epochs": 200, "learning_rate": 0.01})
    hurried, epochs = course_of_refit(ended(pipeline, (10, 14), cut=True), (1.0, 1.0))
    assert (hurried.pipeline.hyperparameters["epochs"], epochs) == (12, 12)
    # one that had its time ends where its folds were best, on the way that they went
    usual, epochs = course_of_refit(ended(pipeline, (90, 110), cut=False), (1.0, 1.0))
    assert usual.pipeline == pipeline
    assert epochs in (90, 110)
    # between the ends of two waves, in the mean, the rate would be at its height
    assert course_of_refit(ended(pipeline, (70, 150, 70, 150, 70), cut=False), (1.0,) * 5)[1] == 70


def test_a_booster_whose_rate_was_raised_is_refitted_at_that_rate() -> None:
    pipeline = Pipeline("lightgbm", "native", {"learning_rate": 0.02})
    hurried, rounds = course_of_refit(ended(pipeline, (300, 500), cut=True), (3.0, 5.0))
    assert rounds == 100
    assert hurried.pipeline.hyperparameters["learning_rate"] == pytest.approx(0.08)
    assert course_of_refit(ended(LINEAR, (0, 0), cut=True), (1.0, 1.0)) == (proposal(0), None)


def test_a_refit_of_a_hurried_booster_takes_no_more_rounds_than_its_folds(run: Path) -> None:
    import lightgbm

    values = {"learning_rate": 0.1, "num_leaves": 7, "min_data_in_leaf": 5, "feature_fraction": 1.0,
              "bagging": False, "lambda_l1": 0.1, "lambda_l2": 0.1, "extra_trees": False}  # fmt: skip
    trial = evaluate(proposal(52, Pipeline("lightgbm", "native", values)), str(run))
    assert isinstance(trial, Success)
    # as if its folds had kept a third of these rounds, at three times the rate
    for facts in trial_folder(run, 52).glob("fold_*/fold.json"):
        facts.write_text(json.dumps(json.loads(facts.read_text()) | {"cut": True, "raised": 3.0}))
    folder = refit(replace(trial, cut=True), str(run), None)
    booster = lightgbm.Booster(model_file=folder / "model" / "model.txt")
    assert booster.num_trees() == round(sum(trial.rounds) / N_FOLDS / 3)
    assert booster.dump_model()["tree_info"][1]["shrinkage"] == pytest.approx(0.3)


def test_a_refit_without_time_says_so(run: Path) -> None:
    trial = evaluate(proposal(51), str(run))
    assert isinstance(trial, Success)
    with pytest.raises(TimeoutError):
        refit(trial, str(run), 1e-9)


def test_other_folds_leave_other_models_and_the_trial_as_it_was(run: Path) -> None:
    trial = evaluate(proposal(60), str(run))
    assert isinstance(trial, Success)
    data = open_run(str(run)).data
    before = contents(trial_folder(run, 60))
    assert repeated_folders(run, trial, data) == ()
    repeat_folds(trial, run)
    folders = repeated_folders(run, trial, data)
    assert [folder.name for folder in folders] == ["fold_3", "fold_4", "fold_5"]
    after = contents(trial_folder(run, 60))
    assert {name: after[name] for name in before} == before
    models = {(folder / "model" / "linear.npz").read_bytes() for folder in trial_folder(run, 60).glob("fold_*")}
    assert len(models) == 2 * N_FOLDS
    for fold, folder in enumerate(folders):
        truth = np.asarray(data.y)[data.plan.repeat[fold][1]]
        right = np.load(folder / "oof.npy").argmax(axis=1) == truth
        assert right.mean() > 0.7


def test_boosters_are_not_made_coarser_on_the_other_folds(run: Path) -> None:
    """A trial that ended long before its limit: its fits must not be hurried where they are repeated."""
    values = {"learning_rate": 0.1, "num_leaves": 7, "min_data_in_leaf": 5, "feature_fraction": 0.7,
              "bagging": True, "bagging_fraction": 0.7, "lambda_l1": 0.1, "lambda_l2": 0.1,
              "extra_trees": False}  # fmt: skip
    trial = evaluate(proposal(61, Pipeline("lightgbm", "native", values), seconds=60.0), str(run))
    assert isinstance(trial, Success)
    assert not trial.cut
    repeat_folds(trial, run)
    folders = repeated_folders(run, trial, open_run(str(run)).data)
    assert len(folders) == N_FOLDS
    assert not any(json.loads((folder / "fold.json").read_text())["cut"] for folder in folders)


def test_what_a_killed_worker_or_run_left_of_other_folds_is_no_hindrance(run: Path) -> None:
    trial = evaluate(proposal(62), str(run))
    assert isinstance(trial, Success)
    (trial_folder(run, 62) / "fold_3.draft" / "model").mkdir(parents=True)
    repeat_folds(trial, run)
    finished = contents(trial_folder(run, 62))
    repeat_folds(trial, run)
    assert contents(trial_folder(run, 62)) == finished
    assert len(repeated_folders(run, trial, open_run(str(run)).data)) == N_FOLDS


def test_a_run_of_before_there_were_other_folds_is_opened(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run / "data", tmp_path / "data")
    path = tmp_path / "data" / "task.json"
    facts = json.loads(path.read_text())
    del facts["repeat"]
    path.write_text(json.dumps(facts))
    data = open_run(str(tmp_path)).data
    assert len(data.folds) == len(data.every_fold) == N_FOLDS


def test_a_row_takes_no_longer_for_other_trials_in_the_same_process() -> None:
    """As in a cluster's worker, whose calls are threads."""
    over, data = threading.Event(), bytes(1 << 22)

    def other_trial() -> None:
        while not over.is_set():
            hashlib.sha256(data).digest()  # lets go of the interpreter, as a fit does

    with ThreadPoolExecutor(2) as worker:
        worker.submit(other_trial)
        took = worker.submit(seconds_of, lambda: time.sleep(0.4)).result()
        over.set()
    assert took < 0.04
