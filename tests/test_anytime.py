"""The model so far: there is one from the first finished trial on, and keeping it current costs little."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from automl_cli.anytime import ModelSoFar
from automl_cli.artifact import open_artifact, packed_per_second
from automl_cli.clock import Deadline
from automl_cli.evaluate import evaluate, open_run
from automl_cli.families import find_families
from automl_cli.features.encodings import ENCODINGS
from automl_cli.features.frame import Frame, FrameSchema
from automl_cli.members import OofCache
from automl_cli.patience import Patience
from automl_cli.rundata import save_rundata
from automl_cli.splits import plan_folds
from automl_cli.table import Column, Kind, Schema
from automl_cli.task import make_task
from automl_cli.trial import Failure, Pipeline, Proposal, Success, Trial
from automl_cli.trialfiles import trial_folder

N_ROWS = 80
FRAME = FrameSchema(numeric=("a",))


@pytest.fixture(scope="module")
def trials(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Trial]]:
    """A run folder with two finished trials of a regression, the second much better."""
    run = tmp_path_factory.mktemp("run")
    return run, two_trials(run)


def two_trials(run: Path) -> list[Trial]:
    """Evaluate two pipelines in an empty run folder."""
    a = np.linspace(-1, 1, N_ROWS)
    frame = Frame(FRAME, a[:, None], np.zeros((N_ROWS, 0), dtype=np.int32), np.zeros((N_ROWS, 0)))
    task, _ = make_task([f"{3 * value:.6f}" for value in a], target="y")
    save_rundata(run / "data", frame, task, plan_folds(task, folds=2, seconds=None, n_columns=1, seed=0))
    made = []
    for number, C in enumerate((1e-4, 1e3)):
        pipeline = Pipeline("linear", "one_hot", {"C": C, "elastic_net": False})
        made.append(evaluate(Proposal(number, pipeline, "smac", 0, 1), str(run)))
    assert all(isinstance(trial, Success) for trial in made)
    return made


class Clock:
    """Moves only when told."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def model_so_far(run: Path, path: Path, clock: Clock, limit: float | None = 60.0) -> ModelSoFar:
    schema = Schema((Column("a", Kind.NUMERIC, "numbers"), Column("y", Kind.NUMERIC, "numbers")))
    task = {"kind": "regression", "target": "y", "classes": [], "metric": "rmse", "reason": "numbers"}
    manifest = {"task": task, "schema": schema.to_json(), "frame": FRAME.to_json()}
    data = open_run(str(run)).data
    return ModelSoFar(path, manifest, OofCache(run, data), Deadline.after(limit, clock=clock))


def test_the_first_finished_trial_is_a_model(trials: tuple[Path, list[Trial]], tmp_path: Path) -> None:
    run, (poor, good) = trials
    clock = Clock()
    so_far = model_so_far(run, tmp_path / "model.automl", clock)
    so_far.add(poor)
    assert so_far.due()
    assert so_far.refresh()
    with open_artifact(so_far.path) as artifact:
        before = artifact.manifest.data["loss"]
        assert [member["number"] for member in artifact.manifest.data["members"]] == [0]
    so_far.add(good)
    clock.now = 10.0
    assert so_far.due()
    assert so_far.refresh()
    with open_artifact(so_far.path) as artifact:
        assert artifact.manifest.data["loss"] < before
        assert [row["number"] for row in artifact.manifest.data["leaderboard"]] == [1, 0]


def test_a_trial_that_changes_nothing_writes_nothing(trials: tuple[Path, list[Trial]], tmp_path: Path) -> None:
    run, (poor, good) = trials
    clock = Clock()
    so_far = model_so_far(run, tmp_path / "model.automl", clock)
    so_far.add(good)
    assert so_far.refresh()
    so_far.path.unlink()
    so_far.add(Failure(poor.proposal, "no", 0.1))
    assert not so_far.refresh()
    assert not so_far.path.exists()


def test_a_failure_alone_is_no_reason_to_write(trials: tuple[Path, list[Trial]], tmp_path: Path) -> None:
    run, (poor, _) = trials
    so_far = model_so_far(run, tmp_path / "model.automl", Clock())
    so_far.add(Failure(poor.proposal, "no", 0.1))
    assert not so_far.due()
    assert so_far.weigh() is None
    with pytest.raises(ValueError, match="no members"):
        so_far.write(so_far.path, {})


@pytest.mark.parametrize(("saving", "pause"), [(0.01, 2.0), (0.5, 25.0), (20.0, 1000.0)])
def test_what_is_slow_to_save_is_saved_less_often(
    trials: tuple[Path, list[Trial]], tmp_path: Path, saving: float, pause: float
) -> None:
    clock = Clock()
    so_far = model_so_far(trials[0], tmp_path / "model.automl", clock, limit=None)
    so_far.add(trials[1][0])
    so_far.saved_at, so_far.saving_seconds = 0.0, saving
    clock.now = pause - 0.1
    assert not so_far.due()
    clock.now = pause + 0.1
    assert so_far.due()


def test_near_the_end_the_time_is_left_to_the_last_save(trials: tuple[Path, list[Trial]], tmp_path: Path) -> None:
    clock = Clock()
    so_far = model_so_far(trials[0], tmp_path / "model.automl", clock, limit=60.0)
    so_far.add(trials[1][0])
    so_far.saved_at, so_far.saving_seconds = 0.0, 2.0
    # the last save takes 2 s, and 1.5 s are in reserve: a refresh of three times the usual must be over by then
    clock.now = 50.0
    assert so_far.due()
    clock.now = 51.0
    assert not so_far.due()


def test_what_may_still_become_a_member_counts_for_the_time_that_writing_takes(
    trials: tuple[Path, list[Trial]], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(trials[0] / "data", run / "data")
    poor, good = (evaluate(trial.proposal, str(run)) for trial in trials[1])
    so_far = model_so_far(run, tmp_path / "model.automl", Clock())
    so_far.add(poor)
    so_far.refresh()
    before = so_far.write_seconds()
    (trial_folder(run, 1) / "fold_0" / "model" / "large").write_bytes(bytes(50_000_000))
    so_far.add(good)
    assert so_far.write_seconds(unweighed=True) > before + 0.9
    assert so_far.write_seconds() == before
    assert so_far.ending_seconds() > so_far.ending_seconds(unweighed=False) + 1.1


def test_the_model_is_weighed_shortly_before_the_end_so_that_what_saving_takes_is_known(
    trials: tuple[Path, list[Trial]], tmp_path: Path
) -> None:
    clock = Clock()
    so_far = model_so_far(trials[0], tmp_path / "model.automl", clock, limit=60.0)
    so_far.add(trials[1][0])
    so_far.saved_at, so_far.saving_seconds = 30.0, 1.3  # as slow as that it would be due again after 26 s
    clock.now = 44.0
    assert not so_far.due()
    clock.now = 45.5
    assert so_far.due()
    so_far.saved_at = 45.2
    assert not so_far.due()


@pytest.mark.parametrize("limit", [60.0, None])
def test_before_patience_ends_a_timed_search_the_model_is_weighed_once_more(
    trials: tuple[Path, list[Trial]], tmp_path: Path, limit: float | None
) -> None:
    run, (poor, good) = trials
    so_far = model_so_far(run, tmp_path / "model.automl", Clock(), limit)
    so_far.patience = Patience(2, waited=2, best=poor.loss, model=poor.loss)  # type: ignore[union-attr]
    so_far.saved_at = 0.0
    so_far.add(good)
    so_far.add(Failure(poor.proposal, "no", 0.1))
    assert so_far.due() == (limit is not None), "a moment after the last refresh, and after a failure"
    assert so_far.refresh()
    assert so_far.patience.out == (limit is None), "when a counted run is refreshed must not decide how it ends"


def test_a_trial_that_ran_out_of_time_predicts_with_the_folds_it_has(
    trials: tuple[Path, list[Trial]], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(trials[0] / "data", run / "data")
    poor, good = (evaluate(trial.proposal, str(run)) for trial in trials[1])
    assert isinstance(good, Success)
    shutil.rmtree(trial_folder(run, 1) / "fold_1")
    so_far = model_so_far(run, tmp_path / "model.automl", Clock())
    so_far.add(poor)
    so_far.add(replace(good, losses=good.losses[:1], complete=False, note="out of time after fold 1"))
    assert so_far.refresh()
    frame = open_run(str(run)).data.frame
    expected = np.zeros((N_ROWS, 1))
    with open_artifact(so_far.path) as artifact:
        members = artifact.manifest.members
        predicted = artifact.predict(frame, 1)
    assert [len(member.folds) for member in members] == [2, 1]
    for member in members:
        for k in range(len(member.folds)):
            folder = trial_folder(run, member.number) / f"fold_{k}"
            matrix = ENCODINGS["one_hot"].load(folder / "encoder").transform(frame)
            model = find_families()["linear"].load(folder / "model")
            expected += member.weight * model.predict(matrix, 1) / len(member.folds)
    assert sum(member.weight for member in members) == pytest.approx(1.0)
    assert predicted == pytest.approx(expected)


def test_what_writing_takes_grows_with_the_members_that_were_just_chosen(
    trials: tuple[Path, list[Trial]], tmp_path: Path
) -> None:
    run, (_, good) = trials
    so_far = model_so_far(run, tmp_path / "model.automl", Clock())
    assert so_far.write_seconds() == 0.0
    so_far.add(good)
    so_far.cache.sizes[good.proposal.number] = 200 * 10**6
    so_far.weigh()
    packing = 200 * 10**6 / packed_per_second()  # 4 s, or more on a slow machine
    assert so_far.write_seconds() == pytest.approx(packing)
    assert so_far.ending_seconds() >= packing >= 4.0


def under_a_time_order(so_far: ModelSoFar) -> ModelSoFar:
    data = so_far.cache.data
    so_far.cache = replace(so_far.cache, data=replace(data, plan=replace(data.plan, refit=True)))
    return so_far


def test_under_a_time_order_the_search_goes_on_where_all_rows_are_soon_learned(
    trials: tuple[Path, list[Trial]], tmp_path: Path
) -> None:
    run, (_, good) = trials
    so_far = under_a_time_order(model_so_far(run, tmp_path / "model.automl", Clock(), limit=600.0))
    assert so_far.ending_seconds() >= 90.0, "nothing is known yet"
    so_far.add(replace(good, seconds=0.5))  # type: ignore[type-var]
    so_far.weigh()
    assert so_far.ending_seconds() < 5.0
    so_far.add(replace(good, seconds=20.0))  # type: ignore[type-var]
    assert so_far.ending_seconds() > 20.0, "it may become a member"
    assert so_far.ending_seconds(unweighed=False) < 5.0


def test_under_a_time_order_slow_members_do_not_end_the_search_long_before_its_limit(
    trials: tuple[Path, list[Trial]], tmp_path: Path
) -> None:
    run, (_, good) = trials
    so_far = under_a_time_order(model_so_far(run, tmp_path / "model.automl", Clock(), limit=60.0))
    so_far.add(replace(good, seconds=50.0))  # type: ignore[type-var]
    so_far.weigh()
    assert 9.0 <= so_far.ending_seconds() < 10.0
