"""The end of a fit: what is fitted once more, and what becomes of fits that fail or come too late."""

from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from automl_cli.clock import Deadline
from automl_cli.ending import Ending, repeat_members, what_mattered
from automl_cli.evaluate import evaluate, open_run
from automl_cli.executors import SerialExecutor
from automl_cli.features.frame import Frame, FrameSchema
from automl_cli.members import Chosen
from automl_cli.repeats import other_folds
from automl_cli.rundata import save_rundata
from automl_cli.splits import plan_folds
from automl_cli.task import make_task
from automl_cli.trial import Pipeline, Proposal, Success
from automl_cli.trialfiles import trial_folder

N_ROWS, N_FOLDS = 90, 3


@pytest.fixture
def ending(tmp_path: Path) -> Ending:
    """A search that is over: two linear models are members."""
    a = np.linspace(-1, 1, N_ROWS)
    frame = Frame(FrameSchema(numeric=("a",)), a[:, None], np.zeros((N_ROWS, 0), dtype=np.int32), np.zeros((N_ROWS, 0)))
    task, _ = make_task([f"{3 * value:.6f}" for value in a], target="y")
    plan = plan_folds(task, folds=N_FOLDS, seconds=None, n_columns=1, seed=0)
    save_rundata(tmp_path / "data", frame, task, plan)
    members = []
    for number, C in enumerate((1.0, 10.0)):
        pipeline = Pipeline("linear", "one_hot", {"C": C, "elastic_net": False})
        trial = evaluate(Proposal(number, pipeline, "smac", 0, 1), str(tmp_path))
        assert isinstance(trial, Success)
        members.append((trial, 0.5))
    chosen = Chosen(tuple(members), 0.1, (0.1,) * N_FOLDS)
    return Ending(SerialExecutor(), chosen, tmp_path, Deadline.after(3_600), 0.1, lambda: False)


def test_members_are_fitted_on_every_other_fold(ending: Ending) -> None:
    found = repeat_members(ending, open_run(str(ending.run_folder)).data, other_folds(N_FOLDS), 2)
    assert [[folder.name for folder in found[number]] for number in (0, 1)] == [[f"fold_{k}" for k in range(6)]] * 2


def test_a_fold_that_cannot_be_fitted_costs_no_other(ending: Ending) -> None:
    (trial_folder(ending.run_folder, 0) / "fold_4.draft").write_text("in the way")
    found = repeat_members(ending, open_run(str(ending.run_folder)).data, other_folds(N_FOLDS), 2)
    assert [folder.name for folder in found[0]] == ["fold_0", "fold_1", "fold_2", "fold_3", "fold_5"]
    assert len(found[1]) == 2 * N_FOLDS


def test_an_interrupt_leaves_the_models_of_the_folds(ending: Ending) -> None:
    stopped = Ending(ending.executor, ending.chosen, ending.run_folder, ending.deadline, 0.1, lambda: True)
    assert repeat_members(stopped, open_run(str(ending.run_folder)).data, other_folds(N_FOLDS), 2) == {}


def test_after_an_interrupt_nobody_waits_for_what_mattered(ending: Ending, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a cluster trials that were cancelled may hold all threads for hours."""
    monkeypatch.setattr("automl_cli.ending.MOST_SECONDS", 0.3)

    class Busy(SerialExecutor):
        def submit(self, *_: object, **__: object) -> "Future[Any]":
            return Future()

    stopped = Ending(Busy(), ending.chosen, ending.run_folder, Deadline.after(None), 0.1, lambda: True)
    assert what_mattered(stopped) == ()


@pytest.mark.parametrize("metric", ["f1", "balanced_accuracy", "log_loss"])
def test_what_decides_on_a_rare_class_matters_under_every_metric(tmp_path: Path, metric: str) -> None:
    """The class is never likelier than the other: at 0.5 no column would change a label."""
    random, n_rows = np.random.default_rng(0), 4_000
    numbers = random.normal(size=(n_rows, 2))
    labels = np.where(random.random(n_rows) < 0.3 * (numbers[:, 0] > 1.5), "yes", "no")
    frame = Frame(
        FrameSchema(numeric=("decides", "noise")), numbers, np.zeros((n_rows, 0), dtype=np.int32), np.zeros((n_rows, 0))
    )
    task, _ = make_task(list(labels), target="y", metric=metric, positive="yes")
    save_rundata(tmp_path / "data", frame, task, plan_folds(task, folds=2, seconds=None, n_columns=2, seed=0))
    trial = evaluate(
        Proposal(0, Pipeline("linear", "one_hot", {"C": 1.0, "elastic_net": False}), "smac", 0, 1), str(tmp_path)
    )
    assert isinstance(trial, Success)
    chosen = Chosen(((trial, 1.0),), 0.1, (0.1,) * 2)
    (first, added), (_, other) = what_mattered(
        Ending(SerialExecutor(), chosen, tmp_path, Deadline.after(3_600), 0.1, lambda: False)
    )
    assert first == "decides"
    assert added > 0
    assert added > 10 * abs(other)
