"""What past runs are to a fit: the same after a kill, and never longer than the time there is."""

import json
import socket
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from automl_cli.background import Background
from automl_cli.candidates import remembered_as
from automl_cli.clock import Deadline
from automl_cli.console.memories import remembered_words
from automl_cli.experience.access import add, every_run, from_json, listed, open_store, reading
from automl_cli.experience.records import Neighbour, Recalled, salted
from automl_cli.experience.store import waiting_folder
from automl_cli.job import Job, families_of, prepare
from automl_cli.members import Chosen
from automl_cli.named import read_with_sources
from automl_cli.optimizer import Optimizer, SpaceExhausted
from automl_cli.options import FitOptions
from automl_cli.proposing import MOST_KNOWN, proposer
from automl_cli.remembering import dataset_of
from automl_cli.runs import open_run
from automl_cli.search import LAG
from automl_cli.space import default_pipelines
from automl_cli.table import Kind
from automl_cli.trial import Pipeline, Proposal, Success
from automl_cli.warmstart import MOST_ASKING, Memory, leave, look_up, memory_of, open_memory, told, write_in_time
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


@pytest.mark.alone
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


def test_the_run_keeps_digests_that_are_those_of_its_store(options: FitOptions, job: Job) -> None:
    """A look-up that failed says nothing against the salt, and without digests the table is not known again."""
    assert options.experience is not None
    url = f"sqlite:///{options.experience}"
    failed = Memory(url, True, salt=b"salt", problems=["the experience could not be asked"])
    write_in_time(failed, job, a_run(), Deadline.after(0.0))
    (kept,) = waiting_folder(url).glob("*.json")
    assert from_json(json.loads(kept.read_text())) == a_run()


def test_a_first_run_that_finds_others_making_the_store_waits_for_the_next_one(options: FitOptions, job: Job) -> None:
    """Twenty first runs may end together, each with little time left."""
    url = memory_of(options).url or ""
    memory = open_memory(Memory(url, True))
    holder = sqlite3.connect(options.experience or "", isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    assert write_in_time(memory, job, a_run("first"), Deadline.after(0.6)) == ""
    holder.execute("ROLLBACK")
    holder.close()
    assert write_in_time(memory, job, a_run("second"), NO_LIMIT) == ""
    with reading(open_store(url)) as connection:
        assert {run.uid for run in every_run(connection)} == {"first", "second"}


def test_a_store_that_cannot_be_read_is_written_to_all_the_same(options: FitOptions, job: Job) -> None:
    """What is wrong with one past run is no reason to forget this one, and the shipped experience still counts."""
    url = memory_of(options).url or ""
    own = dataset_of(job, "d", {}, open_store(url).salt)
    add(open_store(url), [replace(a_run("old"), dataset=own)])
    with sqlite3.connect(options.experience or "") as connection:
        connection.execute("UPDATE evaluation SET seconds = 'long'")
    memory = open_memory(memory_of(options))
    assert look_up(memory, job, options, NO_LIMIT).pipelines
    (problem,) = memory.problems
    assert "a number is none" in problem
    trial = a_trial(0, *pipelines(1), "portfolio", 0.25)
    leave(memory, job, options, [trial], Chosen(((trial, 1.0),), 0.25, (0.25, 0.25)), NO_LIMIT)
    assert memory.problems == [problem], "said once"
    assert not waiting_folder(url).exists()
    with reading(open_store(url)) as connection:
        assert [item.n_runs for item in listed(connection)] == [2], "of the same table: with the digests of the store"


@pytest.mark.alone
def test_a_run_begins_though_its_store_does_not_say_what_won(options: FitOptions, job: Job) -> None:
    """A server may hang, or have much to send: the look-up beside the first trials finds what won as well."""
    url = memory_of(options).url or ""
    memory = Memory(url, True, store=open_store(url, wait=20.0))
    holder = sqlite3.connect(options.experience or "", isolation_level=None)
    holder.execute("PRAGMA journal_mode = DELETE")
    holder.execute("BEGIN EXCLUSIVE")
    deadline, learner = Deadline.after(60.0), Background[Optimizer](Nothing)
    proposes = proposer(options, job, deadline, memory, Background(Recalled), learner)
    assert proposes.ask() == (default_pipelines(job.families, job.shape)[0], "portfolio")
    assert deadline.elapsed() < MOST_ASKING + 5.0
    holder.execute("ROLLBACK")
    holder.close()


class Nothing:
    """An optimizer with no idea of its own."""

    def ask(self) -> tuple[Pipeline, str]:
        raise SpaceExhausted

    def tell(self, pipeline: Pipeline, loss: float | None, seconds: float) -> None:
        pass


def pipelines(n: int) -> tuple[Pipeline, ...]:
    return tuple(Pipeline("lightgbm", "native", {"learning_rate": 0.1 + i / 1000}) for i in range(n))


def asked(options: FitOptions, job: Job, recalled: Recalled, *, opened: bool = False) -> list[tuple[Pipeline, str]]:
    """Return what a counted run proposes before it begins to search."""
    memory, found = open_memory(memory_of(options)), []
    assert (memory.store is not None) == opened, "where there is none, what won is found by the look-up alone"
    learner: Background[Optimizer] = Background(Nothing)
    proposes = proposer(options, job, NO_LIMIT, memory, Background(lambda: recalled), learner)
    while True:
        try:
            found.append(proposes.ask())
        except SpaceExhausted:
            return found
        proposes.tell(found[-1][0], 0.5, 1.0)


def test_winners_that_are_found_late_are_tried_before_all_else(options: FitOptions, job: Job) -> None:
    won, borrowed = pipelines(2)
    found = asked(options, job, Recalled(winners=(won,), pipelines=(borrowed,)))
    assert found[LAG : LAG + 2] == [(won, "winner"), (borrowed, "recalled")]
    assert len({pipeline for pipeline, _ in found}) == len(found)


def test_where_something_won_the_search_begins_early(options: FitOptions, job: Job) -> None:
    known = default_pipelines(job.families, job.shape)
    won, borrowed = pipelines(2)
    assert len(asked(options, job, Recalled(pipelines=(borrowed,)))) == len(known) + 1
    warm = asked(options, job, Recalled(winners=(won,), pipelines=(borrowed,)))
    families = {pipeline.family for pipeline in known}
    assert {pipeline.family for pipeline, origin in warm if origin == "portfolio"} == families
    assert len(warm) <= 2 + MOST_KNOWN + len(families) < len(known)


def test_what_was_poor_on_this_table_is_left_out_but_for_the_first_of_each_family(
    options: FitOptions, job: Job
) -> None:
    known = default_pipelines(job.families, job.shape)
    tried = [pipeline for pipeline, _ in asked(options, job, Recalled(poor=known))]
    assert tried[:LAG] == list(known[:LAG])  # before anything was looked up
    families = [pipeline.family for pipeline in tried[LAG:]]
    assert len(set(families)) == len(families)
    assert {pipeline.family for pipeline in tried} == {pipeline.family for pipeline in known}


def test_a_run_that_goes_on_knows_all_that_it_recalled(options: FitOptions, job: Job) -> None:
    won, poor = pipelines(2)
    job.run.note({"recalled": [], "recalled_winners": [won.to_json()], "poor": [poor.to_json()]})
    found = look_up(open_memory(memory_of(options)), job, replace(options, resume=True), NO_LIMIT)
    assert (found.winners, found.pipelines, found.poor) == ((won,), (), (poor,))


def test_a_run_that_goes_on_says_as_before_why_it_recalled_that(options: FitOptions, job: Job) -> None:
    memory = open_memory(memory_of(options))
    first = look_up(memory, job, options, NO_LIMIT)
    assert first.neighbours
    again = look_up(open_memory(memory_of(options)), job, replace(options, resume=True), NO_LIMIT)
    assert again == first
    assert remembered_words(again) == remembered_words(first) != ""
    said = [told(Memory(None, True, recalled=found), [], None)["neighbours"] for found in (first, again)]
    assert said[0] == said[1] != []


def test_where_only_names_were_the_same_the_whole_portfolio_is_tried(options: FitOptions, job: Job) -> None:
    known, url = default_pipelines(job.families, job.shape), memory_of(options).url or ""
    store = open_store(url)
    won = known[-1]
    add(store, [replace(a_run(), dataset=dataset_of(job, "d", {}, store.salt), metric=job.data.metric.name,
                        members=(remembered_as(won, job.families, job.shape),))])  # fmt: skip

    def tried(recalled: Recalled) -> list[tuple[Pipeline, str]]:
        found = asked(options, job, recalled, opened=True)
        assert found[0] == (won, "winner")
        return found

    neighbour = Neighbour("another", 0.5, False, 9)
    assert len(tried(Recalled(neighbours=(neighbour,)))) == len(known)
    assert len(tried(Recalled(neighbours=(neighbour,), winners=(won,), same_table_runs=1))) < len(known)


def a_trial(number: int, pipeline: Pipeline, origin: str, loss: float, *, cut: bool = False) -> Success:
    return Success(Proposal(number, pipeline, origin, 0, 1), (loss, loss), 1.0, complete=True, cut=cut)


def test_a_run_is_remembered_whatever_was_measured_and_is_searched_today(options: FitOptions, job: Job) -> None:
    """The limit ended the measuring; and a resumed run with less time holds trials of networks that it searches not."""
    assert "neural" not in job.families
    trial = a_trial(0, Pipeline("neural", "native", {"epochs": 9}), "nas", 0.25)
    memory = memory_of(options)
    leave(memory, job, options, [trial], Chosen(((trial, 1.0),), 0.25, (0.25, 0.25)), NO_LIMIT)
    assert memory.problems == []
    with reading(open_store(memory.url or "")) as connection:
        (run,) = every_run(connection)
    assert run.members == (trial.proposal.pipeline,)
    assert run.dataset.features == {}
    assert run.dataset.fingerprint == job.table.fingerprint


def test_digests_are_those_of_a_store_that_opened_after_the_look_up_began(options: FitOptions, job: Job) -> None:
    memory = memory_of(options)
    open_store(memory.url or "")
    memory.dataset = dataset_of(job, "d", {"n_rows": 120.0}, memory.salt)
    open_memory(memory)
    trial = a_trial(0, *pipelines(1), "portfolio", 0.25)
    leave(memory, job, options, [trial], Chosen(((trial, 1.0),), 0.25, (0.25, 0.25)), NO_LIMIT)
    with reading(open_store(memory.url or "")) as connection:
        (run,) = every_run(connection)
    assert run.dataset.target == salted("y", memory.salt) != salted("y", b"")
    assert run.dataset.features == {"n_rows": 120.0}


def test_a_winner_that_was_cut_and_tried_again_is_borrowed_still() -> None:
    lent, own = pipelines(2)
    trials = [a_trial(0, lent, "winner", 0.3, cut=True), a_trial(1, lent, "again", 0.1), a_trial(2, own, "smac", 0.2)]
    said = told(Memory(None, True), trials, Chosen(((trials[1], 0.5), (trials[2], 0.5)), 0.1, (0.1,)))
    assert (said["borrowed"], said["best_borrowed"], said["best_other"], said["members_borrowed"]) == (1, 0.1, 0.2, 1)


def test_a_column_that_has_a_few_values_more_is_the_same_column(job: Job) -> None:
    def digests(kind: Kind) -> tuple[tuple[str, ...], tuple[str, ...]]:
        columns = tuple(replace(c, kind=kind) if c.name == "a" else c for c in job.table.schema.columns)
        schema = replace(job.table.schema, columns=columns)
        dataset = dataset_of(replace(job, table=replace(job.table, schema=schema)), "", {}, b"salt")
        return dataset.columns, dataset.former

    boolean, category, number = digests(Kind.BOOLEAN), digests(Kind.HIGH_CARDINALITY), digests(Kind.NUMERIC)
    assert boolean[0] == category[0] != number[0]
    assert boolean[1] != category[1], "as older versions told them apart"
    assert number[0] == number[1]
