"""What a fit does where the disk of its run folder is full: what was found by then is saved elsewhere."""

import random
import resource
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from automl_cli.artifact import open_artifact
from automl_cli.clock import Deadline
from automl_cli.console.tell import early_words
from automl_cli.errors import UsageError
from automl_cli.events import Entered
from automl_cli.options import FitOptions
from automl_cli.plan import Resources
from automl_cli.search import Finished
from automl_cli.summary import Summary
from automl_cli.trial import read_journal
from automl_cli.workflow import _width, fit

FULL = 200  # bytes: fewer than any line of the journal has


@pytest.fixture
def options(tmp_path: Path) -> FitOptions:
    labels = random.Random(7).choices(("yes", "no"), k=60)
    rows = "".join(f"{k % 7 + 0.5},{label}\n" for k, label in enumerate(labels))
    (tmp_path / "d.csv").write_text("x,y\n" + rows)
    return FitOptions(
        data=str(tmp_path / "d.csv"),
        target="y",
        out=tmp_path / "m.automl",
        n_trials=8,
        workers=1,
        folds=2,
        include=("linear",),
        run_dir=tmp_path / "run",
        experience="off",
    )


def fitted(options: FitOptions, *, full_after: int) -> Summary:
    """Fit where nothing can be written by this process from the end of so many trials on, until the search is over."""
    limits, n_trials, event = resource.getrlimit(resource.RLIMIT_FSIZE), 0, None
    try:
        for event in fit(options, Deadline.after(None), lambda: False):
            n_trials += isinstance(event, Finished)
            if n_trials == full_after + 1 and isinstance(event, Finished):  # it is not in the journal yet
                resource.setrlimit(resource.RLIMIT_FSIZE, (FULL, limits[1]))
            if isinstance(event, Entered) and event.phase == "weighing":  # the model goes to another disk
                resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert isinstance(event, Summary)
    return event


def test_a_run_folder_that_is_full_ends_the_search_and_costs_no_model(options: FitOptions) -> None:
    summary = fitted(options, full_after=2)
    assert summary.n_trials == 3, "what could not be noted counts for the model"
    assert summary.ended_early is not None
    said = early_words(asdict(summary.ended_early))
    assert said.startswith(
        "the search ended after 3 trials, 5 trials before the limit: its run folder cannot be written"
    )
    assert [trial.proposal.number for trial in read_journal(options.run_dir / "journal.jsonl")] == [0, 1]
    with open_artifact(options.out) as artifact:
        assert artifact.manifest.data["ended_early"] == asdict(summary.ended_early)
        assert artifact.manifest.data["n_trials"] == 3


def test_a_limit_on_memory_that_a_cluster_would_not_keep_is_refused(options: FitOptions) -> None:
    with pytest.raises(UsageError, match="--memory limits no cluster"):
        list(fit(replace(options, dask="tcp://localhost:1", memory_bytes=1 << 30), Deadline.after(None), lambda: False))


@pytest.mark.parametrize(("threads", "width"), [(1, 8), (2, 4), (16, 1)])
def test_a_cluster_is_given_no_more_threads_than_it_has(options: FitOptions, threads: int, width: int) -> None:
    job: Any = SimpleNamespace(resources=Resources(workers=3, threads=threads))
    cluster: Any = SimpleNamespace(workers=8)
    assert _width(replace(options, workers=None, dask="tcp://localhost:1"), job, cluster) == width
    assert _width(replace(options, workers=None), job, cluster) == 3
