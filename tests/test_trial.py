"""Trials and the journal, which outlives a killed run."""

import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from automl_cli.trial import (
    Failure,
    Pipeline,
    Proposal,
    Success,
    Trial,
    append_to_journal,
    read_journal,
    trial_from_json,
    trial_to_json,
)

LOSSES = st.lists(st.floats(0, 1e12), min_size=1, max_size=8).map(tuple)
VALUES = st.floats(allow_nan=False) | st.integers(-(2**53), 2**53) | st.text(max_size=8) | st.booleans()
PIPELINES = st.builds(Pipeline, st.text(max_size=8), st.text(max_size=8), st.dictionaries(st.text(max_size=8), VALUES))
PROPOSALS = st.builds(
    Proposal,
    number=st.integers(0, 10**6),
    pipeline=PIPELINES,
    origin=st.sampled_from(["portfolio", "smac", "random", "again"]),
    seed=st.integers(0, 2**31 - 1),
    threads=st.integers(1, 64),
    incumbent=st.just(()) | LOSSES,
    seconds=st.none() | st.floats(0.01, 1e6),
    leader=st.just(()) | LOSSES,
)
SECONDS = st.integers(0, 10**9).map(lambda n: n / 1000)  # the journal keeps milliseconds
TRIALS = st.builds(
    Success,
    PROPOSALS,
    LOSSES,
    SECONDS,
    complete=st.booleans(),
    note=st.text(max_size=20),
    cut=st.booleans(),
    rounds=st.lists(st.integers(0, 10**5), max_size=8).map(tuple),
    given_up=st.booleans(),
) | st.builds(Failure, PROPOSALS, st.text(max_size=20), SECONDS, st.text(max_size=20))


def trial(number: int, loss: float = 0.5) -> Trial:
    return Success(Proposal(number, Pipeline("linear", "one_hot", {"C": 1.0}), "smac", 3, 1), (loss,), 1.0, True)


@given(TRIALS)
def test_a_trial_survives_the_journal(trial: Trial) -> None:
    line = json.dumps(trial_to_json(trial))
    assert "\n" not in line
    back = trial_from_json(json.loads(line))
    assert back == trial
    # A second and third trip changes nothing: 1 stays an integer, 1.0 a float.
    assert json.dumps(trial_to_json(back)) == line


@given(PIPELINES)
def test_the_order_of_hyperparameters_does_not_matter(pipeline: Pipeline) -> None:
    turned = Pipeline(pipeline.family, pipeline.encoding, dict(reversed(pipeline.hyperparameters.items())))
    assert turned == pipeline
    assert hash(turned) == hash(pipeline)
    assert turned.key() == pipeline.key()


def test_a_pipeline_cannot_be_changed() -> None:
    given = {"C": 1.0}
    pipeline = Pipeline("linear", "one_hot", given)
    given["C"] = 2.0
    assert pipeline.hyperparameters["C"] == 1.0
    with pytest.raises(TypeError):
        pipeline.hyperparameters["C"] = 3.0  # type: ignore[index]


def test_the_loss_is_the_mean_of_the_finished_folds() -> None:
    proposal = trial(0).proposal
    assert Success(proposal, (0.2, 0.4), 1.0, complete=False).loss == pytest.approx(0.3)


def test_a_run_without_a_journal_has_no_trials(tmp_path: Path) -> None:
    assert read_journal(tmp_path / "journal.jsonl") == []


def test_the_journal_keeps_the_order_of_ending(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    trials = [trial(3), trial(0), Failure(trial(1).proposal, "ValueError: two\nlines é", 0.1, "a\ntrace"), trial(2)]
    for each in trials:
        append_to_journal(path, each)
    assert read_journal(path) == trials


@pytest.mark.parametrize("keep", [1, 20, -2, -1])
def test_a_half_written_line_is_left_out_and_then_removed(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "journal.jsonl"
    for number in range(3):
        append_to_journal(path, trial(number))
    lines = path.read_bytes().splitlines(keepends=True)
    # As a kill in the middle of writing leaves it; -1: all but the line break.
    path.write_bytes(b"".join(lines[:2]) + lines[2][:keep])
    assert read_journal(path) == [trial(0), trial(1)]
    append_to_journal(path, trial(7))
    assert read_journal(path) == [trial(0), trial(1), trial(7)]
    assert path.read_bytes().startswith(b"".join(lines[:2]))


def test_a_journal_that_is_all_half_a_line_starts_anew(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_bytes(b'{"status": "succ')
    assert read_journal(path) == []
    append_to_journal(path, trial(0))
    assert read_journal(path) == [trial(0)]


def test_a_loss_that_is_no_number_survives(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    append_to_journal(path, trial(0, loss=math.inf))
    (back,) = read_journal(path)
    assert isinstance(back, Success)
    assert back.loss == math.inf
