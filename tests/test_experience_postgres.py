"""The store on a real PostgreSQL, started here from Debian's packages; skipped where those are not installed."""

import multiprocessing
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from automl_cli.experience.access import (
    add,
    earlier_winners,
    every_run,
    find_dataset,
    find_url,
    forget,
    listed,
    open_store,
    reading,
    recall,
    remember,
    totals,
    writing,
)
from automl_cli.trial import Pipeline
from tests.test_experience import a_run

BINARIES = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))

pytestmark = pytest.mark.skipif(not BINARIES, reason="no PostgreSQL here: apt-get install postgresql")


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """Start a server in a folder of its own, reached through a socket; give its URL."""
    pytest.importorskip("psycopg", reason="pip install 'automl-cli[postgres]'")
    folder = Path(tempfile.mkdtemp(prefix="automl-pg-"))
    who = {"user": "postgres"} if os.geteuid() == 0 else {}  # the server refuses to run as root
    if who:
        shutil.chown(folder, "postgres")
    binaries = BINARIES[-1].parent

    def call(*command: object) -> None:
        subprocess.run(list(map(str, command)), check=True, cwd=folder, capture_output=True, timeout=60, **who)

    try:
        call(binaries / "initdb", "-D", folder / "data", "-U", "postgres", "--auth", "trust", "--no-sync")
        options = f"-k {folder} -c listen_addresses='' -c fsync=off"
        call(binaries / "pg_ctl", "-D", folder / "data", "-o", options, "-l", folder / "log", "-w", "start")
        try:
            yield f"postgresql://postgres@/postgres?host={folder}"
        finally:
            call(binaries / "pg_ctl", "-D", folder / "data", "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def write_one(url: str, number: int) -> str | None:
    return remember(url, a_run(f"run-{number}"), wait=30.0)


def test_twenty_processes_at_once_lose_nothing(server: str) -> None:
    url = find_url(server)
    assert url is not None
    with multiprocessing.get_context("spawn").Pool(20) as pool:
        assert pool.starmap(write_one, [(url, number) for number in range(60)]) == [None] * 60
    store = open_store(url)
    with reading(store) as connection:
        assert totals(connection) == (1, 60, 180)
        (run, *_) = every_run(connection)
        assert run.dataset == a_run().dataset
        assert run.evaluations == a_run().evaluations
    assert add(store, [a_run("run-1")]) == 0


def test_a_dataset_is_forgotten_there_too(server: str) -> None:
    store = open_store(find_url(server) or "")
    add(store, [a_run("other", fingerprint="e" * 32)])
    with writing(store) as connection:
        (found,) = find_dataset(connection, "eeeeee")
        assert forget(connection, [found.id]) == 3
    with reading(store) as connection:
        assert all(item.fingerprint != "e" * 32 for item in listed(connection))


def test_what_won_on_a_table_comes_back_from_there(server: str) -> None:
    store = open_store(find_url(server) or "")
    won, by_loss = (Pipeline("linear", "one_hot", {"C": C}) for C in (1.0, 2.0))
    dataset = replace(a_run().dataset, target="v" * 24)
    run = replace(a_run("by rank", fingerprint="d" * 32), dataset=dataset, members=(won,))
    add(store, [run, replace(run, uid="by loss", metric="log_loss", began=run.began + 1.0, members=(by_loss,))])
    for metric, winners in (("roc_auc", (won, by_loss)), ("log_loss", (by_loss, won))):
        assert earlier_winners(store, dataset, lambda pipeline: (pipeline, 1.0), metric) == winners
        found = recall(dataset, prior=None, own=store, suit=lambda pipeline: (pipeline, 1.0), now=2e9, metric=metric)
        assert (found.winners, found.same_table_runs, found.problems) == (winners, 2, ())
