"""What past runs are to a fit: the same after a kill, and never longer than the time there is."""

import json
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from automl_cli.clock import Deadline
from automl_cli.experience.access import from_json
from automl_cli.experience.store import waiting_folder
from automl_cli.job import Job, families_of, prepare, read_with_sources
from automl_cli.options import FitOptions
from automl_cli.runs import open_run
from automl_cli.trial import Pipeline
from automl_cli.warmstart import Memory, look_up, memory_of, open_memory, write_in_time
from tests.test_experience import a_run

NO_LIMIT = Deadline.after(None)


@pytest.fixture
def options(tmp_path: Path) -> FitOptions:
    """A counted run of which past runs are asked: those that come with the program."""
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 120)).round(3)
    rows = "".join(f"{i},{j},{'yes' if i + j > 0 else 'no'}\n" for i, j in zip(a, b, strict=True))
    (tmp_path / "d.csv").write_text("a,b,y\n" + rows)
    return FitOptions(
        data=str(tmp_path / "d.csv"),
        target="y",
        out=tmp_path / "m.automl",
        n_trials=9,
        folds=2,
        run_dir=tmp_path / "run",
        experience=str(tmp_path / "e.sqlite"),
    )


@pytest.fixture
def job(options: FitOptions) -> Iterator[Job]:
    table, sources = read_with_sources(options)
    with open_run(options.run_dir, stem="d", identity=options.identity(), resume=False) as run:
        yield prepare(options, table, families_of(options), run, sources)


def recalled(options: FitOptions, job: Job) -> tuple[Pipeline, ...]:
    return tuple(look_up(open_memory(memory_of(options)), job, options, NO_LIMIT).pipelines)


def note(job: Job, pipelines: tuple[Pipeline, ...] | None) -> None:
    """Leave these in the run's folder as what was recalled; None: as a kill leaves it that comes before."""
    facts = {name: value for name, value in job.run.facts().items() if name != "recalled"}
    found = {} if pipelines is None else {"recalled": [pipeline.to_json() for pipeline in pipelines]}
    (job.run.folder / "run.json").write_text(json.dumps({**facts, **found}))


def test_a_run_that_was_killed_before_its_look_up_recalls_the_same(options: FitOptions, job: Job) -> None:
    first = recalled(options, job)
    assert first
    resumed = replace(options, resume=True)
    assert recalled(resumed, job) == first
    note(job, None)
    assert recalled(resumed, job) == first
    note(job, first[:1])
    assert recalled(resumed, job) == first[:1]


def test_a_run_that_recalled_nothing_finds_nothing_when_it_goes_on(options: FitOptions, job: Job) -> None:
    nobody = Memory(options.experience, True)  # neither store could be opened
    assert look_up(nobody, job, options, NO_LIMIT).pipelines == ()
    assert recalled(replace(options, resume=True), job) == ()


def test_a_server_that_does_not_answer_is_not_waited_for_beyond_the_limit(
    options: FitOptions, job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("psycopg")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "share"))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"postgresql+psycopg://nobody@127.0.0.1:{silent.getsockname()[1]}/none"
        deadline = Deadline.after(0.8)
        said = write_in_time(Memory(url, True), job, a_run(), deadline)
        assert deadline.elapsed() < 1.8, "to connect alone may take two seconds"
    assert said == ""
    (kept,) = waiting_folder(url).glob("*.json")
    run = from_json(json.loads(kept.read_text()))
    assert run.uid == a_run().uid
    assert run.dataset.columns == (), "digests without the salt of the store are nobody's"
