"""The figures that a fit ends with."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from automl_cli.clock import Deadline
from automl_cli.features.frame import Frame, FrameSchema
from automl_cli.members import Chosen
from automl_cli.metrics import METRICS
from automl_cli.rundata import RunData
from automl_cli.splits import ValidationPlan
from automl_cli.summary import (
    Phases,
    SearchCost,
    failures,
    interval_of,
    leaderboard,
    naive_loss,
    natural_interval,
    raced,
    shares,
)
from automl_cli.task import TaskKind
from automl_cli.trial import Failure, Pipeline, Proposal, Success
from automl_cli.worth import transfer_report

N_ROWS = 60


def run_data(metric: str) -> RunData:
    kind = TaskKind.REGRESSION if metric in ("rmse", "r2") else TaskKind.BINARY
    y = np.arange(N_ROWS, dtype=float) if kind is TaskKind.REGRESSION else np.arange(N_ROWS) % 3 // 2
    rows = np.arange(N_ROWS)
    folds = tuple((rows[rows % 3 != k], rows[rows % 3 == k]) for k in range(3))
    folds = folds if kind is TaskKind.REGRESSION else tuple((rows, part) for part in np.array_split(rows, 3))
    plan = ValidationPlan(folds, "three folds", random=False, refit=False)
    frame = Frame(FrameSchema(), np.zeros((N_ROWS, 0)), np.zeros((N_ROWS, 0), dtype=np.int32), np.zeros((N_ROWS, 0)))
    return RunData(frame, y, None, folds, kind, 1 if kind is TaskKind.REGRESSION else 2, METRICS[metric], plan)


def success(number: int, *losses: float, complete: bool = True) -> Success:
    return Success(Proposal(number, Pipeline("linear", "one_hot", {}), "smac", 0, 1), losses, 1.0, complete)


def test_what_a_source_gains_on_one_holdout_has_no_error() -> None:
    data, plain = run_data("log_loss"), success(0, 1.0, 0.9, 1.1)
    pooled = Proposal(1, Pipeline("linear", "one_hot:pooled", {}), "smac", 0, 1)
    adapted = replace(success(1, 0.5, 0.6, 0.5), proposal=pooled)
    found = transfer_report(data, [plain, adapted], Chosen(((adapted, 1.0),), 0.5, ()), None, of_model=False)["gain"]
    assert 0 < found["standard_error"] < found["mean"]
    one = replace(data, folds=data.folds[:1])
    trials = [replace(trial, losses=trial.losses[:1]) for trial in (plain, adapted)]
    found = transfer_report(one, trials, Chosen(((trials[1], 1.0),), 0.5, ()), None, of_model=False)["gain"]
    assert (found["mean"], found["standard_error"], found["share_error"]) == (0.5, None, None)


@given(st.lists(st.floats(0, 1000), min_size=2, max_size=25))
def test_the_interval_lies_around_the_mean(losses: list[float]) -> None:
    interval = interval_of(losses)
    assert interval is not None
    low, high = interval
    mean = sum(losses) / len(losses)
    assert low <= mean + 1e-9
    assert high >= mean - 1e-9
    assert low + high == pytest.approx(2 * mean, abs=1e-6)


def test_nineteen_of_twenty_intervals_hold_the_truth() -> None:
    random = np.random.default_rng(0)
    intervals = [interval_of(random.normal(10.0, 2.0, size=5)) for _ in range(2000)]
    held = np.mean([interval is not None and interval[0] <= 10.0 <= interval[1] for interval in intervals])
    assert 0.935 <= held <= 0.965


def test_one_fold_has_no_interval() -> None:
    assert interval_of([0.3]) is None
    assert natural_interval(run_data("roc_auc"), [0.3]) is None


@pytest.mark.parametrize("metric", ["roc_auc", "log_loss"])
def test_the_interval_is_shown_in_the_metrics_own_direction(metric: str) -> None:
    interval = natural_interval(run_data(metric), [0.1, 0.12, 0.2])
    assert interval is not None
    low, high = interval
    middle = METRICS[metric].natural(0.14)
    assert low < middle < high
    if metric == "roc_auc":
        assert high <= 1.0


def test_the_guess_that_ignores_all_columns() -> None:
    data = run_data("roc_auc")
    assert data.metric.natural(naive_loss(data)) == pytest.approx(0.5)
    regression = run_data("rmse")
    spread = [np.sqrt(np.mean((regression.y[v] - regression.y[t].mean()) ** 2)) for t, v in regression.folds]
    assert naive_loss(regression) == pytest.approx(np.mean(spread))


def test_the_leaderboard_puts_complete_trials_first_then_the_better() -> None:
    trials = [
        success(0, 0.3, 0.3),
        success(1, 0.01, complete=False),
        success(2, 0.125, 0.25),
        success(3, 0.1875, 0.1875),
    ]
    failed = Failure(trials[0].proposal, "no", 0.1)
    board = leaderboard([*trials, failed], run_data("roc_auc"))
    assert [row["number"] for row in board] == [2, 3, 0, 1]
    assert board[0]["score"] == pytest.approx(0.8125)
    json.dumps(board)


def test_what_racing_left_out_is_estimated_from_the_folds_that_were_fitted() -> None:
    given_up = [
        replace(success(0, 0.5, complete=False), seconds=2.0, given_up=True),
        replace(success(1, 0.5, 0.6, complete=False), seconds=6.0, given_up=True),
    ]
    others = [success(2, 0.1, 0.1, 0.1, 0.1, 0.1), success(3, 0.2, complete=False)]  # the last ran out of time
    saved = raced([*given_up, *others, Failure(others[0].proposal, "no", 9.0)], 5)
    assert (saved.n_trials, saved.n_folds) == (2, 7)
    assert saved.seconds == pytest.approx(4 * 2.0 + 3 * 3.0)
    assert raced(others, 5).n_trials == 0


def test_reasons_of_failures_are_grouped_the_most_frequent_first() -> None:
    def failed(number: int, family: str, reason: str) -> Failure:
        return Failure(Proposal(number, Pipeline(family, "one_hot", {}), "smac", 0, 1), reason, 0.1)

    trials = [failed(0, "linear", "a"), failed(1, "lightgbm", "b"), failed(2, "lightgbm", "b"), success(3, 0.1)]
    assert failures(trials) == (("lightgbm: b", 2), ("linear: a", 1))


@given(st.lists(st.floats(-1.0, 10.0), max_size=30))
def test_shares_of_what_mattered_are_shares(losses: list[float]) -> None:
    found = shares([(f"c{k}", loss) for k, loss in enumerate(sorted(losses, reverse=True))])
    assert all(0 <= share <= 1 for _, share in found)
    assert sum(share for _, share in found) <= 1 + 1e-3
    assert [share for _, share in found] == sorted((share for _, share in found), reverse=True)


def test_overhead_counts_the_search_where_there_is_no_limit_and_is_never_out_of_range() -> None:
    def found(busy: float, limit: float) -> dict[str, float]:
        times = iter([5.0, 7.0])
        return SearchCost(4, 2, busy, cpu_clock=lambda: next(times)).overhead(searched=10.0, limit=limit)

    shares_of_run = [found(15.0, math.inf), found(25.0, 60.0), found(0.0, 60.0)]
    assert [each["cpu_share"] for each in shares_of_run] == [0.05, 0.0083, 0.0083]
    assert [each["idle_share"] for each in shares_of_run] == [0.25, 0.0, 1.0]


def test_phases_add_up_to_the_time_used_and_milestones_stay() -> None:
    now = 0.0
    phases = Phases(Deadline.after(60.0, elapsed=1.5, clock=lambda: now))
    now = 2.0
    phases.end("read")
    phases.reach("first_trial")
    now = 7.25
    phases.end("search")
    phases.reach("first_trial")
    assert phases.seconds == {"read": 3.5, "search": 5.25}
    assert phases.milestones == {"first_trial": 3.5}
