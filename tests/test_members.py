"""Which trials become the model."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from automl_cli.ensemble import greedy_weights, measure_gain
from automl_cli.features.frame import Frame, FrameSchema
from automl_cli.features.matrix import Array
from automl_cli.members import MOST_CANDIDATES, Chosen, OofCache, candidates, choose_members
from automl_cli.metrics import METRICS
from automl_cli.rundata import RunData
from automl_cli.splits import ValidationPlan
from automl_cli.stacking import MEAN
from automl_cli.task import TaskKind
from automl_cli.trial import Failure, Pipeline, Proposal, Success, Trial
from automl_cli.trialfiles import trial_folder
from automl_cli.trimming import trimmed
from automl_cli.weighing import steadied

N_ROWS = 40
EMPTY = Frame(FrameSchema(), np.zeros((N_ROWS, 0)), np.zeros((N_ROWS, 0), dtype=np.int32), np.zeros((N_ROWS, 0)))
TRUTH = np.random.default_rng(0).normal(size=N_ROWS)


def run_data(weight: Array | None = None, n_validated: int = N_ROWS, n_folds: int = 2) -> RunData:
    """A regression whose folds are the even and the odd rows, or every so manieth, as far as they are validated."""
    rows = np.arange(N_ROWS)
    validated = rows[N_ROWS - n_validated :]
    folds = tuple((rows, validated[validated % n_folds == k]) for k in range(n_folds))
    plan = ValidationPlan(folds, f"{n_folds} folds", random=False, refit=False)
    return RunData(EMPTY, TRUTH, weight, folds, TaskKind.REGRESSION, 1, METRICS["rmse"], plan)


def finished(run: Path, data: RunData, number: int, predictions: Array, *, n_folds: int | None = None,
             family: str = "linear") -> Success:  # fmt: skip
    """Write a trial's folds as a worker does, and return it."""
    losses = []
    for k, (_, valid) in enumerate(data.folds[:n_folds]):
        folder = trial_folder(run, number) / f"fold_{k}"
        (folder / "model").mkdir(parents=True)
        (folder / "model" / "model.txt").write_text("a model")
        np.save(folder / "oof.npy", predictions[valid, None].astype(np.float32))
        weight = None if data.weight is None else data.weight[valid]
        losses.append(data.metric.loss(TRUTH[valid], predictions[valid, None], weight))
    proposal = Proposal(number, Pipeline(family, "one_hot", {"C": float(number)}), "smac", 0, 1)
    return Success(proposal, tuple(losses), 1.0, complete=len(losses) == len(data.folds))


def noisy(number: int, noise: float) -> Array:
    return TRUTH + noise * np.random.default_rng(number + 1).normal(size=N_ROWS)


def weights_of(trials: Sequence[Trial], run: Path, data: RunData) -> dict[int, float]:
    chosen = choose_members(trials, OofCache(run, data))
    assert chosen is not None
    return {trial.proposal.number: weight for trial, weight in chosen.members}


def test_without_a_finished_fold_there_is_no_model(tmp_path: Path) -> None:
    data = run_data()
    failed = Failure(Proposal(0, Pipeline("linear", "one_hot", {}), "smac", 0, 1), "no", 0.1)
    assert choose_members([], OofCache(tmp_path, data)) is None
    assert choose_members([failed], OofCache(tmp_path, data)) is None


@given(noises=st.lists(st.floats(0.05, 3.0), min_size=1, max_size=6))
def test_together_they_are_no_worse_than_the_best_alone(
    tmp_path_factory: pytest.TempPathFactory, noises: list[float]
) -> None:
    run, data = tmp_path_factory.mktemp("run"), run_data()
    trials = [finished(run, data, k, noisy(k, noise)) for k, noise in enumerate(noises)]
    chosen = choose_members(trials, OofCache(run, data))
    assert chosen is not None
    alone = [
        data.metric.loss(TRUTH, noisy(k, noise).astype(np.float32)[:, None], None) for k, noise in enumerate(noises)
    ]
    assert chosen.loss <= min(alone) + 1e-9
    weights = [weight for _, weight in chosen.members]
    assert sum(weights) == pytest.approx(1.0)
    assert min(weights) > 0
    assert [trial.proposal.number for trial, _ in chosen.members] == sorted(
        {t.proposal.number for t, _ in chosen.members}
    )


def test_errors_in_opposite_directions_are_put_together(tmp_path: Path) -> None:
    data = run_data()
    trials = [finished(tmp_path, data, 0, TRUTH + 1.0), finished(tmp_path, data, 1, TRUTH - 1.0)]
    chosen = choose_members(trials, OofCache(tmp_path, data))
    assert chosen is not None
    assert weights_of(trials, tmp_path, data) == pytest.approx({0: 0.5, 1: 0.5})
    assert chosen.loss == pytest.approx(0.0, abs=1e-6)
    assert chosen.mean_loss == pytest.approx(0.0, abs=1e-6)


def test_a_trial_that_ran_out_of_time_is_a_member_by_its_finished_folds(tmp_path: Path) -> None:
    data = run_data()
    trials = [finished(tmp_path, data, 0, TRUTH - 1.0, n_folds=1), finished(tmp_path, data, 1, TRUTH + 1.0)]
    chosen = choose_members(trials, OofCache(tmp_path, data))
    assert chosen is not None
    # Half and half on the rows of the first fold; at prediction it has a model for every row, but half as many.
    assert weights_of(trials, tmp_path, data) == pytest.approx({0: 1 / 3, 1: 2 / 3})
    assert chosen.fold_losses == pytest.approx((0.0, 1.0), abs=1e-6)


def test_trials_that_were_given_up_or_finished_less_than_half_are_no_members(tmp_path: Path) -> None:
    data = run_data(n_folds=3)
    complete = finished(tmp_path, data, 0, TRUTH + 1.0)
    early = finished(tmp_path, data, 1, TRUTH - 1.0, n_folds=1)
    raced = replace(finished(tmp_path, data, 2, TRUTH - 1.0, n_folds=2), given_up=True)
    assert weights_of([complete, early, raced], tmp_path, data) == {0: 1.0}


@given(seed=st.integers(0, 10**6), n_kept=st.lists(st.integers(1, 4), min_size=0, max_size=5))
def test_with_partial_trials_they_are_no_worse_than_the_best_complete_one(
    tmp_path_factory: pytest.TempPathFactory, seed: int, n_kept: list[int]
) -> None:
    run, data, rng = tmp_path_factory.mktemp("run"), run_data(n_folds=4), np.random.default_rng(seed)
    noises = rng.uniform(0.05, 3.0, len(n_kept) + 1)
    trials = [
        finished(run, data, k, noisy(k, noise), n_folds=n)
        for k, (n, noise) in enumerate(zip([4, *n_kept], noises, strict=True))
    ]
    chosen = choose_members(trials, OofCache(run, data))
    assert chosen is not None
    complete = [noisy(t.proposal.number, noises[t.proposal.number]) for t in trials if t.complete]
    alone = [data.metric.loss(TRUTH, predictions.astype(np.float32)[:, None], None) for predictions in complete]
    assert chosen.loss <= min(alone) + 1e-9
    assert np.isfinite(chosen.fold_losses).all()
    if chosen.mixing == MEAN:
        assert sum(weight for _, weight in chosen.members) == pytest.approx(1.0)
        assert any(trial.complete for trial, _ in chosen.members)
    assert all(trial.complete or len(trial.losses) >= 2 for trial, _ in chosen.members)


def test_a_score_of_rows_that_the_weights_have_seen_is_not_shown(tmp_path: Path) -> None:
    # twenty guesses: what fits the rows by chance looks better on them than any guess is
    data, rng = run_data(n_folds=4), np.random.default_rng(0)
    guesses = [finished(tmp_path, data, k, rng.permutation(TRUTH)) for k in range(20)]
    chosen = choose_members(guesses, OofCache(tmp_path, data), stacking=False)
    assert chosen is not None
    assert len(chosen.shown_losses) == 4
    assert chosen.shown_loss > 1.02 * chosen.mean_loss
    partial = finished(tmp_path, data, 20, noisy(20, 0.5), n_folds=3)
    chosen = choose_members([*guesses, partial], OofCache(tmp_path, data), stacking=False)
    assert chosen is not None
    assert np.isfinite(chosen.shown_losses).all()
    one = run_data(n_validated=N_ROWS // 2, n_folds=1)
    held = [finished(tmp_path / "one", one, k, rng.permutation(TRUTH)) for k in range(6)]
    chosen = choose_members(held, OofCache(tmp_path / "one", one), stacking=False)
    assert chosen is not None
    assert len(chosen.shown_losses) == 1


def test_the_weights_of_complete_trials_are_what_the_selection_gave_to_the_last_bit(tmp_path: Path) -> None:
    data = run_data()
    trials = [finished(tmp_path, data, k, noisy(k, 0.2 + 0.1 * k)) for k in range(7)]
    oof, (y, _) = OofCache(tmp_path, data).stack(trials), data.validated()
    folds = np.repeat(np.arange(len(data.folds)), [len(valid) for _, valid in data.folds])
    gain = measure_gain(oof, y, data.metric, parts=folds)
    assert gain is not None
    picked = steadied(greedy_weights(oof, y, data.metric), gain, oof, y, data.metric, None, folds=None)
    assert len(np.flatnonzero(picked)) > 2
    assert weights_of(trials, tmp_path, data) == {k: float(w) for k, w in enumerate(picked) if w > 0}


def test_partial_trials_take_a_quarter_of_the_places_and_what_lost_one_never_returns(tmp_path: Path) -> None:
    data = run_data(n_folds=4)
    best = finished(tmp_path, data, 0, noisy(0, 0.5))
    most = MOST_CANDIDATES // 4
    partial = [finished(tmp_path, data, k, noisy(k, 0.5), n_folds=2 + k % 2) for k in range(1, most + 9)]
    cache, trials = OofCache(tmp_path, data), [best, *partial]
    kept = {t.proposal.number for t in candidates(trials, cache)}
    assert len(kept) == 1 + most
    cache.prune(trials)
    assert {int(path.parents[2].name) for path in tmp_path.rglob("model.txt")} == kept
    # Another best one is a milestone of another kind: bad on the folds that only some partial trials have finished.
    other = finished(tmp_path, data, 99, np.where(np.arange(N_ROWS) % 4 == 2, TRUTH + 0.9, TRUTH))
    later = [*trials, other]
    assert {t.proposal.number for t in candidates(later, cache)} == {*kept, 99}
    assert {t.proposal.number for t in candidates(later, OofCache(tmp_path, data))} == {*kept, 99}


def test_a_hard_fold_is_not_held_against_the_trial_that_finished_it(tmp_path: Path) -> None:
    data = run_data(n_folds=4)
    hard = np.where(np.arange(N_ROWS) % 4 == 2, 3.0, 0.5)  # the third fold, for all models alike
    trials = [finished(tmp_path, data, 0, TRUTH + hard)]
    trials += [finished(tmp_path, data, k, TRUTH + hard, n_folds=2) for k in range(1, MOST_CANDIDATES // 4 + 1)]
    trials.append(finished(tmp_path, data, 99, TRUTH + 0.9 * hard, n_folds=3))
    assert 99 in {t.proposal.number for t in candidates(trials, OofCache(tmp_path, data))}


def test_where_none_is_complete_the_one_with_most_folds_is_the_model(tmp_path: Path) -> None:
    data = run_data()
    trials = [finished(tmp_path, data, k, noisy(k, noise), n_folds=1) for k, noise in enumerate((0.9, 0.1, 0.5))]
    chosen = choose_members(trials, OofCache(tmp_path, data))
    assert chosen is not None
    assert [(t.proposal.number, w) for t, w in chosen.members] == [(1, 1.0)]
    assert len(chosen.fold_losses) == 1
    assert np.isfinite(chosen.loss)


def test_rows_that_no_fold_predicts_do_not_count(tmp_path: Path) -> None:
    # As under a time order, where the earliest rows are never validated.
    data = run_data(n_validated=20)
    trials = [finished(tmp_path, data, k, noisy(k, 0.3)) for k in range(2)]
    chosen = choose_members(trials, OofCache(tmp_path, data))
    assert chosen is not None
    assert np.isfinite(chosen.loss)
    assert np.isfinite(chosen.fold_losses).all()


def test_weights_of_rows_decide_who_is_better(tmp_path: Path) -> None:
    left = np.arange(N_ROWS) < N_ROWS // 2
    good_left, good_right = np.where(left, TRUTH, TRUTH + 5.0), np.where(left, TRUTH + 5.0, TRUTH)
    for name, weight, expected in (("a", left.astype(float), 0), ("b", 1.0 - left, 1)):
        data = run_data(weight=weight)
        run = tmp_path / name
        trials = [finished(run, data, 0, good_left), finished(run, data, 1, good_right)]
        assert weights_of(trials, run, data) == {expected: 1.0}


def test_neighbours_are_members_only_where_they_are_worth_their_time(tmp_path: Path) -> None:
    data = run_data()
    off = 0.5 * np.random.default_rng(7).normal(size=N_ROWS)
    trials = [finished(tmp_path, data, 0, TRUTH + off, family="linear")]
    # of two that together cancel out, one is slow: it gains a lot and stays
    slow = finished(tmp_path, data, 1, TRUTH - off, family="neighbors")
    assert weights_of([*trials, slow], tmp_path, data).keys() == {0, 1}
    # one that errs as a member does but for a hair gains next to nothing
    same = finished(tmp_path, data, 2, TRUTH + 0.9995 * off, family="neighbors")
    assert weights_of([*trials, same], tmp_path, data) == {0: 1.0}
    # alone it is better than no model
    assert weights_of([same], tmp_path, data) == {2: 1.0}


def test_dear_members_that_gain_next_to_nothing_are_left_out(tmp_path: Path) -> None:
    data = run_data()
    off = 0.5 * np.random.default_rng(7).normal(size=N_ROWS)
    one, other = (finished(tmp_path, data, k, TRUTH + sign * off) for k, sign in enumerate((1, -0.9)))
    hair = finished(tmp_path, data, 2, TRUTH + 0.02 * off + 0.0001 * noisy(3, 1.0))
    cache = OofCache(tmp_path, data)
    chosen = choose_members([one, other, hair], cache)
    assert chosen is not None
    same = trimmed(chosen, cache, lambda trial: 1.0)
    assert {t.proposal.number for t, _ in same.members} <= {t.proposal.number for t, _ in chosen.members}
    assert same.mean_loss <= 1.001 * chosen.mean_loss
    pair = choose_members([one, other], cache)
    assert pair is not None
    dear = trimmed(pair, cache, lambda trial: 100.0 if trial is one else 1.0)
    assert {t.proposal.number for t, _ in dear.members} == {0, 1}  # without it the other's error would stay


def test_of_two_members_that_say_the_same_the_dear_one_goes(tmp_path: Path) -> None:
    data = run_data()
    off = 0.5 * np.random.default_rng(7).normal(size=N_ROWS)
    one, other = (finished(tmp_path, data, k, TRUTH + part * off) for k, part in enumerate((1.0, 0.9999)))
    chosen = Chosen(((one, 0.5), (other, 0.5)), one.loss, one.losses)
    for dear, left in ((one, 1), (other, 0)):
        kept = trimmed(chosen, OofCache(tmp_path, data), lambda trial, dear=dear: 100.0 if trial is dear else 1.0)
        assert [trial.proposal.number for trial, _ in kept.members] == [left]


def test_the_order_in_which_trials_ended_does_not_matter(tmp_path: Path) -> None:
    data = run_data()
    trials = [finished(tmp_path, data, k, noisy(k, 0.2 + 0.1 * k)) for k in range(5)]
    assert weights_of(trials, tmp_path, data) == weights_of(trials[::-1], tmp_path, data)


def test_the_best_of_each_family_is_looked_at_however_many_are_better(tmp_path: Path) -> None:
    data = run_data()
    # Many near-copies that all err by +1; the only one that errs the other way is worse than each of them.
    copies = [finished(tmp_path, data, k, TRUTH + 1.0 + 1e-3 * k) for k in range(MOST_CANDIDATES + 5)]
    other = finished(tmp_path, data, 99, TRUTH - 1.5, family="lightgbm")
    assert 99 in weights_of([*copies, other], tmp_path, data)


def test_models_of_trials_that_lost_for_good_are_deleted_and_not_missed(tmp_path: Path) -> None:
    data = run_data()
    trials = [finished(tmp_path, data, k, TRUTH + 2.0 - 1e-2 * k) for k in range(MOST_CANDIDATES + 8)]
    cache = OofCache(tmp_path, data)
    chosen = choose_members(trials, cache)
    cache.prune(trials)
    models = {int(path.parents[2].name) for path in tmp_path.rglob("model.txt")}
    assert chosen is not None
    assert {trial.proposal.number for trial, _ in chosen.members} <= models
    assert len(models) == MOST_CANDIDATES
    # A resumed run begins with the first trials, whose models are gone, and with a new cache.
    assert weights_of(trials[:10], tmp_path, data) == {9: 1.0}
    assert choose_members(trials[:3], OofCache(tmp_path, data)) is None
    assert weights_of(trials, tmp_path, data) == {t.proposal.number: w for t, w in chosen.members}


def test_predictions_are_read_once_and_forgotten_with_their_trial(tmp_path: Path) -> None:
    data = run_data()
    cache = OofCache(tmp_path, data)
    trials = [finished(tmp_path, data, k, noisy(k, 0.3)) for k in range(2)]
    before = cache.stack(trials)
    for file in tmp_path.rglob("oof.npy"):
        file.unlink()
    assert (cache.stack(trials) == before).all()
    cache.stack(trials[:1])
    with pytest.raises(FileNotFoundError):
        cache.stack(trials)


@given(
    metric=st.sampled_from(["f1", "mcc", "balanced_accuracy", "f1_macro", "accuracy", "log_loss", "roc_auc"]),
    seeds=st.lists(st.integers(0, 10**6), min_size=1, max_size=5, unique=True),
    share=st.floats(0.1, 0.9),
    unfinished=st.sets(st.integers(1, 4)),
)
def test_decided_together_classes_are_no_worse_than_the_best_alone(
    tmp_path_factory: pytest.TempPathFactory, metric: str, seeds: list[int], share: float, unfinished: set[int]
) -> None:
    run, y = tmp_path_factory.mktemp("run"), (np.arange(N_ROWS) * 7 % N_ROWS < share * N_ROWS).astype(np.int64)
    folds = tuple((np.arange(N_ROWS), np.arange(N_ROWS)[np.arange(N_ROWS) // 2 % 3 == k]) for k in range(3))
    plan = ValidationPlan(folds, "three folds", random=True, refit=False)
    data = RunData(EMPTY, y, None, folds, TaskKind.BINARY, 2, METRICS[metric], plan)
    trials, alone = [], []
    for number, seed in enumerate(seeds):
        p = np.clip(0.15 + 0.3 * y + np.random.default_rng(seed).uniform(0, 0.5, N_ROWS), 0, 1).astype(np.float32)
        done = folds[:2] if number in unfinished else folds
        for k, (_, valid) in enumerate(done):
            folder = trial_folder(run, number) / f"fold_{k}"
            (folder / "model").mkdir(parents=True)
            (folder / "model" / "model.txt").write_text("a model")
            np.save(folder / "oof.npy", np.column_stack([1 - p, p])[valid])
        both = np.column_stack([1 - p, p]).astype(np.float64)
        losses = tuple(float(data.metric.loss(y[valid], both[valid], None)) for _, valid in done)
        proposal = Proposal(number, Pipeline("linear", "one_hot", {"C": float(number)}), "smac", 0, 1)
        trials.append(Success(proposal, losses, 1.0, complete=done == folds))
        if done == folds:
            alone.append(np.mean(losses) if metric == "roc_auc" else data.metric.loss(y, both, None))
    chosen = choose_members(trials, OofCache(run, data))
    assert chosen is not None
    assert (chosen.mean_loss if metric == "roc_auc" else chosen.loss) <= min(alone) + 1e-9
    assert len(chosen.fold_losses) == 3
    left_out = choose_members(trials, OofCache(run, data), calibrate=False)
    assert left_out is not None
    assert left_out.decision.multipliers == ()


def test_members_that_are_all_too_timid_are_stacked(tmp_path: Path) -> None:
    data = run_data(n_folds=4)
    trials = [finished(tmp_path, data, k, 0.4 * noisy(k, 0.2)) for k in range(4)]
    chosen = choose_members(trials, OofCache(tmp_path, data))
    without = choose_members(trials, OofCache(tmp_path, data), stacking=False)
    assert chosen is not None
    assert without is not None
    assert without.mixing == MEAN
    assert chosen.mixing.offsets
    assert sum(weight for _, weight in chosen.members) > 1.5
    assert chosen.mean_loss < 0.5 * without.mean_loss


def test_nothing_is_stacked_where_members_are_refitted_on_all_rows(tmp_path: Path) -> None:
    data = run_data(n_folds=4)
    data = replace(data, plan=replace(data.plan, refit=True))
    trials = [finished(tmp_path, data, k, 0.4 * noisy(k, 0.2)) for k in range(4)]
    chosen = choose_members(trials, OofCache(tmp_path, data))
    assert chosen is not None
    assert chosen.mixing == MEAN
