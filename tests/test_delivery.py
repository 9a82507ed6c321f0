"""The end of a fit under limits: they are kept, or there is no model, however little time is left."""

from pathlib import Path

import pytest

from automl_cli.anytime import ModelSoFar
from automl_cli.delivery import deliver
from automl_cli.ending import Ending
from automl_cli.errors import LimitNotMet
from automl_cli.executors import SerialExecutor
from automl_cli.small import Ceiling
from tests.test_anytime import Clock, model_so_far, two_trials


def late_model(run: Path, ceiling: Ceiling) -> tuple[Ending, ModelSoFar]:
    """A model that is weighed so slowly that it can be measured once and never again."""
    trials = two_trials(run)
    so_far = model_so_far(run, run / "model.automl", Clock())
    so_far.limit(ceiling)
    for trial in trials:
        so_far.add(trial)
    chosen = so_far.settle()
    assert chosen is not None
    so_far.weighing_seconds = 1_000.0
    return Ending(SerialExecutor(), chosen, run, so_far.deadline, 0.0, lambda: False), so_far


def test_a_model_that_is_too_slow_is_not_delivered_because_it_is_late(tmp_path: Path) -> None:
    ending, so_far = late_model(tmp_path, Ceiling(row_seconds=1e-12))
    with pytest.raises(LimitNotMet, match="us a row, more than"):
        deliver(ending, so_far)


def test_a_late_model_that_is_fast_enough_is_delivered(tmp_path: Path) -> None:
    ending, so_far = late_model(tmp_path, Ceiling(n_bytes=100, row_seconds=10.0))
    delivered = deliver(ending, so_far)  # saving says whether it is too large
    assert delivered.footprint.row_seconds is not None
    assert delivered.footprint.row_seconds < 10.0
    assert not delivered.footprint.measured
