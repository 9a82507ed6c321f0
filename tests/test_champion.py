"""A model in use gives way to a better one only, on rows that neither has seen, and is never lost on the way."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from automl_cli.artifact import Manifest, open_artifact
from automl_cli.champion import (
    APART_SHARE,
    LEAST_JUDGED,
    Bench,
    Verdict,
    certainty_of,
    choose_judges,
    decided,
    holds_a_model,
    judge,
    read_bench,
)
from automl_cli.clock import Deadline
from automl_cli.errors import NoSpace
from automl_cli.features.frame import Frame, FrameSchema
from automl_cli.files import locked
from automl_cli.metrics import METRICS, TaskKind
from automl_cli.named import read_data
from automl_cli.options import FitOptions
from automl_cli.retraining import install
from automl_cli.runs import list_runs, output_lock
from automl_cli.seen import SeenRows
from automl_cli.task import Task, make_task
from automl_cli.workflow import fit
from tests.stopping import stopped

CHEAP = ("--trials", "1", "--include", "linear", "--folds", "2")
SCHEMA = FrameSchema(numeric=("a",), categorical=("c",), n_categories=(4,))


def frame(values, codes):
    numbers = np.array(values, dtype=np.float64)[:, None]
    return Frame(SCHEMA, numbers, np.array(codes, dtype=np.int32)[:, None], np.zeros((len(values), 0)))


def write(path, n, *, noise, seed):
    """Write y = 3 x + noise."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=n).round(6)
    y = (3 * x + noise * rng.normal(size=n)).round(6)
    path.write_text("x,y\n" + "".join(f"{a},{b}\n" for a, b in zip(x, y, strict=True)))
    return path


def joined(path, *parts):
    header, *_ = parts[0].read_text().splitlines()
    path.write_text("\n".join([header, *(line for part in parts for line in part.read_text().splitlines()[1:])]) + "\n")
    return path


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 1)), min_size=2, max_size=40), st.data())
def test_new_rows_are_those_beyond_what_was_seen(rows, data) -> None:
    n_old = data.draw(st.integers(1, len(rows)))
    a, c, y = (np.array(part) for part in zip(*rows, strict=True))
    seen = SeenRows.of(frame(a[:n_old], c[:n_old]), y[:n_old], ("no", "yes"))
    fresh = seen.fresh(frame(a, c), y, ("no", "yes"))
    assert len(fresh) == len(rows) - n_old  # all old rows are there, and chance makes equal ones
    order = np.array(data.draw(st.permutations(range(len(rows)))))
    again = seen.fresh(frame(a[order], c[order]), y[order], ("no", "yes"))
    assert sorted(rows[order[i]] for i in again) == sorted(rows[i] for i in fresh)


def test_labels_are_told_apart_by_their_text_and_salts_by_chance() -> None:
    one = frame([1.0, 2.0], [0, 1])
    seen = SeenRows.of(one, np.array([0, 1]), ("no", "yes"))
    assert list(seen.fresh(one, np.array([0, 1]), ("no", "yes"))) == []
    assert list(seen.fresh(one, np.array([1, 0]), ("yes", "no"))) == []
    assert list(seen.fresh(one, np.array([1, 0]), ("no", "yes"))) == [0, 1]
    assert not set(seen.hashes) & set(SeenRows.of(one, np.array([0, 1]), ("no", "yes")).hashes)


def test_of_many_rows_a_part_is_known_and_only_that_part_counts() -> None:
    rng = np.random.default_rng(0)
    a, y = rng.normal(size=(2, 3_000))
    seen = SeenRows.of(frame(a[:2_000], np.zeros(2_000)), y[:2_000], (), most=500)
    assert len(seen.hashes) == 500
    fresh = seen.fresh(frame(a, np.zeros(3_000)), y, ())
    assert fresh.min() >= 2_000
    assert 150 < len(fresh) < 350  # a quarter of the thousand new ones


def test_the_first_model_is_installed_and_knows_its_rows(command, tmp_path) -> None:
    write(tmp_path / "monday.csv", 300, noise=1.0, seed=0)
    answer = command("fit", "monday.csv", "-t", "y", *CHEAP, "--champion", "m.automl", cwd=tmp_path)
    assert answer.returncode == 0, answer.stderr
    assert "m.automl is installed: there was none" in answer.stderr
    with open_artifact(tmp_path / "m.automl") as artifact:
        assert len(artifact.attached("rows", SeenRows.from_parts).hashes) == 300


def test_a_better_model_takes_the_place_and_the_old_one_is_kept(command, tmp_path) -> None:
    bad = write(tmp_path / "bad.csv", 200, noise=30.0, seed=0)
    good = write(tmp_path / "good.csv", 400, noise=0.1, seed=1)
    joined(tmp_path / "all.csv", good, bad)
    command("fit", "bad.csv", "-t", "y", *CHEAP, "--champion", "m.automl", cwd=tmp_path)
    old = (tmp_path / "m.automl").read_bytes()
    answer = command("fit", "good.csv", "-t", "y", *CHEAP, "--champion", "m.automl", "--json", cwd=tmp_path)
    assert answer.returncode == 0, answer.stderr
    assert (tmp_path / "m.automl.1").read_bytes() == old
    verdict = json.loads(answer.stdout)["champion"]
    assert verdict["installed"]
    assert verdict["n_fresh"] == 400
    assert verdict["challenger"] < verdict["champion"]
    with open_artifact(tmp_path / "m.automl") as artifact:  # nothing was learned from the rows that judged
        assert (
            artifact.manifest.data["n_rows"]
            == len(artifact.attached("rows", SeenRows.from_parts).hashes)
            == 400 - verdict["n_judged"]
        )


def test_a_model_that_is_no_better_does_not(command, tmp_path) -> None:
    first = write(tmp_path / "first.csv", 400, noise=1.0, seed=0)
    joined(tmp_path / "more.csv", first, write(tmp_path / "new.csv", 120, noise=1.0, seed=1))
    command("fit", "first.csv", "-t", "y", *CHEAP, "--champion", "m.automl", cwd=tmp_path)
    before = (tmp_path / "m.automl").read_bytes()
    answer = command("fit", "more.csv", "-t", "y", *CHEAP, "--champion", "m.automl", cwd=tmp_path)
    assert answer.returncode == 7
    assert "on 60 rows that neither has seen" in answer.stderr
    assert "the champion m.automl is kept" in answer.stderr
    assert (tmp_path / "m.automl").read_bytes() == before
    assert not (tmp_path / "m.automl.1").exists()


def test_too_few_new_rows_decide_nothing(command, tmp_path) -> None:
    write(tmp_path / "day.csv", 300, noise=1.0, seed=0)
    command("fit", "day.csv", "-t", "y", *CHEAP, "--champion", "m.automl", cwd=tmp_path)
    answer = command("fit", "day.csv", "-t", "y", *CHEAP, "--champion", "m.automl", cwd=tmp_path)
    assert answer.returncode == 7
    assert "0 rows that the champion has not seen are too few" in answer.stderr


def test_a_new_class_counts_against_who_does_not_know_it(command, tmp_path) -> None:
    rng = np.random.default_rng(0)
    centres = {"a": 0.0, "b": 5.0, "c": 10.0}

    def write_classes(name, labels, n, seed):
        rng = np.random.default_rng(seed)
        drawn = rng.choice(labels, size=n)
        rows = "".join(f"{centres[label] + rng.normal():.6f},{label}\n" for label in drawn)
        (tmp_path / name).write_text("x,y\n" + rows)

    write_classes("two.csv", ["a", "b"], 300, 0)
    (tmp_path / "two.csv").write_text((tmp_path / "two.csv").read_text() + f"{rng.normal() + 20:.6f},d\n" * 3)
    write_classes("three.csv", ["a", "b", "c"], 400, 1)
    command("fit", "two.csv", "-t", "y", *CHEAP, "--champion", "m.automl", cwd=tmp_path)
    answer = command("fit", "three.csv", "-t", "y", *CHEAP, "--champion", "m.automl", cwd=tmp_path)
    assert answer.returncode == 0, answer.stderr


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (("day.csv", "-t", "y", "--champion", "m.automl", "-o", "n.automl"), "--champion stands in for --out"),
        (("-", "-t", "y", "--champion", "m.automl"), "more than once"),
        (("day.csv", "-t", "x", "--champion", "m.automl"), "predicts 'y'"),
        (("day.csv", "-t", "y", "--champion", "foreign.automl"), "is not a model file"),
        (("day.csv", "-t", "y", "--champion", "old.automl"), "does not say which rows"),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_is_touched(command, tmp_path, line, says) -> None:
    write(tmp_path / "day.csv", 150, noise=1.0, seed=0)
    command("fit", "day.csv", "-t", "y", *CHEAP, "--champion", "m.automl", cwd=tmp_path)
    (tmp_path / "foreign.automl").write_text("not a model")
    _without_rows(tmp_path / "m.automl", tmp_path / "old.automl")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    answer = command("fit", *line, *CHEAP, cwd=tmp_path)
    assert answer.returncode in (2, 6)
    assert says in answer.stderr
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_table_that_can_be_read_once_is_refused_at_once(command, tmp_path) -> None:
    os.mkfifo(tmp_path / "pipe.csv")
    answer = command("fit", "pipe.csv", "-t", "y", *CHEAP, "--champion", "m.automl", cwd=tmp_path)
    assert answer.returncode == 2
    assert "more than once" in answer.stderr


def _without_rows(model, path) -> None:
    """Copy a model as versions wrote it that kept no hashes."""
    import hashlib

    with zipfile.ZipFile(model) as old, zipfile.ZipFile(path, "w") as new:
        data = json.loads(old.read("manifest.json"))
        del data["rows"]
        text = json.dumps(data).encode()
        for name in old.namelist():
            content = {"manifest.json": text, "manifest.sha256": hashlib.sha256(text).hexdigest().encode()}.get(name)
            new.writestr(name, old.read(name) if content is None else content)


def test_a_champion_with_a_model_as_its_source_may_have_seen_more_than_it_says() -> None:
    told = (None, {"model": False}, {"model": "3f"}, {"model": True})  # no source, a table, adapted shares, a model
    assert [holds_a_model(Manifest("", {"transfer": about}, ())) for about in told] == [False, False, False, True]
    installed, reason = decided(0.4, 0.5, 0.1, of_model=True)
    assert not installed
    assert reason.startswith("it is no better; the champion was made with a model as its --source")
    assert decided(0.5, 0.4, 1.0, of_model=True) == (True, "it is better")


def test_waits_for_another_run_when_asked_to(command, tmp_path) -> None:
    write(tmp_path / "day.csv", 150, noise=1.0, seed=0)
    line = ("fit", "day.csv", "-t", "y", *CHEAP, "-o", "m.automl")
    held, free = threading.Event(), threading.Event()

    def hold() -> None:
        with locked(output_lock(tmp_path / "m.automl"), "m.automl"):
            held.set()
            free.wait(20)
            time.sleep(0.5)

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait()
    assert command(*line, cwd=tmp_path).returncode == 5
    free.set()
    assert command(*line, "--wait", "30s", cwd=tmp_path).returncode == 0
    holder.join()


def test_installing_keeps_as_many_as_asked_for(tmp_path) -> None:
    champion = tmp_path / "m.automl"
    champion.write_text("0")
    for number in range(1, 5):
        (tmp_path / "new").write_text(str(number))
        install(tmp_path / "new", champion, keep=2)
    assert champion.read_text() == "4"
    assert {path.name: path.read_text() for path in tmp_path.glob("m.automl.*")} == {
        "m.automl.1": "3",
        "m.automl.2": "2",
    }


INSTALLING = """
import sys
from pathlib import Path
from automl_cli.retraining import install
place = Path(sys.argv[1])
print("ready", flush=True)
while True:
    for letter in "ab":
        install(place / letter, place / "m.automl", keep=3)
"""


def test_no_kill_loses_the_champion(tmp_path) -> None:
    n = 300_000
    for letter in "ab":
        (tmp_path / letter).write_text(letter * n)
    champion = tmp_path / "m.automl"
    champion.write_text("a" * n)
    rng = np.random.default_rng(0)
    for _ in range(8):
        process = subprocess.Popen(
            [sys.executable, "-c", INSTALLING, str(tmp_path)], stdout=subprocess.PIPE, cwd=Path(__file__).parents[1]
        )
        process.stdout.readline()
        time.sleep(rng.uniform(0.0, 0.05))
        process.kill()
        process.wait()
        process.stdout.close()
        for path in (champion, *tmp_path.glob("m.automl.*")):
            assert path.read_text() in ("a" * n, "b" * n)


def test_copies_of_rows_and_rows_of_one_group_are_no_more_evidence_than_one_of_them():
    rng = np.random.default_rng(3)
    values = rng.normal(size=60).round(6)
    task, _ = make_task(values.astype(str).tolist(), target="y", kind=TaskKind.REGRESSION)
    outputs = [(values + noise * rng.normal(size=60))[:, None] for noise in (1.0, 0.95)]

    def sure(times, together):
        rows = np.tile(np.arange(60), times)
        bench = Bench(rows, rows, 60, task, values[rows], None, outputs[0][rows], np.tile(together, times), "")
        judged = [one[rows] for one in outputs]
        return certainty_of(bench, judged, METRICS["rmse"], 0, Deadline.after(None))

    alone = sure(1, np.arange(60))
    assert 0.5 < alone < 0.95
    assert sure(9, np.arange(60)) == alone


def test_twins_of_new_rows_do_not_give_the_answers_away(command, tmp_path) -> None:
    rng = np.random.default_rng(0)

    def noise(name, n, copies):
        rows = [
            f"{a:.6f},{b:.6f},{c}\n" for a, b, c in zip(*rng.normal(size=(2, n)), rng.integers(0, 2, n), strict=True)
        ]
        (tmp_path / name).write_text("a,b,y\n" + "".join(rows * copies))

    noise("old.csv", 400, 1)
    noise("new.csv", 200, 3)
    trees = ("--trials", "1", "--include", "random_forest", "--folds", "2")
    assert command("fit", "old.csv", "-t", "y", *trees, "--champion", "m.automl", cwd=tmp_path).returncode == 0
    answer = command("fit", "new.csv", "-t", "y", *trees, "--champion", "m.automl", "--json", cwd=tmp_path)
    assert answer.returncode in (0, 7), answer.stderr  # there is nothing to learn: chance decides who is better
    assert json.loads(answer.stdout)["champion"]["challenger"] < 0.7


def test_a_night_without_space_pushes_no_old_champion_out(tmp_path, monkeypatch) -> None:
    champion = tmp_path / "m.automl"
    champion.write_text("now")
    (tmp_path / "m.automl.1").write_text("before")
    (tmp_path / "new").write_text("new")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("shutil.copyfileobj", full)
    with pytest.raises(NoSpace):
        install(tmp_path / "new", champion, keep=2)
    monkeypatch.undo()
    assert champion.read_text() == "now"
    assert {path.name: path.read_text() for path in tmp_path.glob("m.automl.*")} == {"m.automl.1": "before"}


@pytest.fixture
def own_state(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.mark.usefixtures("own_state")
def test_a_night_that_fails_at_its_last_step_can_go_on(command, tmp_path, monkeypatch) -> None:
    bad = write(tmp_path / "bad.csv", 200, noise=30.0, seed=0)
    joined(tmp_path / "day.csv", write(tmp_path / "good.csv", 400, noise=0.1, seed=1), bad)
    command("fit", "bad.csv", "-t", "y", *CHEAP, "--champion", "m.automl", cwd=tmp_path)
    old = (tmp_path / "m.automl").read_bytes()

    def full(*_: object) -> None:
        raise NoSpace("no space to write m.automl", hint="free some")

    monkeypatch.setattr("automl_cli.retraining.install", full)
    assert command("fit", "day.csv", "-t", "y", *CHEAP, "--champion", "m.automl", cwd=tmp_path).returncode == 1
    assert (tmp_path / "m.automl").read_bytes() == old
    (night,) = (run for run in list_runs() if run.status == "interrupted")
    assert night.n_trials == 1

    def judge_under_fire(*arguments: object) -> Verdict:
        os.kill(os.getpid(), signal.SIGTERM)
        return judge(*arguments)

    monkeypatch.setattr("automl_cli.retraining.install", install)
    monkeypatch.setattr("automl_cli.retraining.judge", judge_under_fire)
    answer = command("runs", "resume", night.name, cwd=tmp_path)
    assert answer.returncode == 0, answer.stderr  # not 143: the new model is in use
    assert (tmp_path / "m.automl.1").read_bytes() == old
    assert {run.status for run in list_runs()} == {"done"}


def test_a_model_that_could_never_be_challenged_is_not_installed(command, tmp_path, monkeypatch) -> None:
    bad = write(tmp_path / "bad.csv", 200, noise=30.0, seed=0)
    joined(tmp_path / "day.csv", write(tmp_path / "good.csv", 400, noise=0.1, seed=1), bad)
    command("fit", "bad.csv", "-t", "y", *CHEAP, "--champion", "m.automl", cwd=tmp_path)
    old = (tmp_path / "m.automl").read_bytes()
    monkeypatch.setattr("automl_cli.workflow.attached_in_time", lambda *_, **__: {})  # as where the time is short
    answer = command("fit", "day.csv", "-t", "y", *CHEAP, "--champion", "m.automl", cwd=tmp_path)
    assert answer.returncode == 7
    assert "give more --time or --max-size" in answer.stderr
    assert (tmp_path / "m.automl").read_bytes() == old


def test_the_kind_of_the_champion_decides_where_the_table_may_be_of_two(command, tmp_path) -> None:
    rng = np.random.default_rng(0)

    def night(name, highest) -> str:
        rows = zip(rng.normal(size=300).round(6), rng.integers(1, highest + 1, 300), strict=True)
        (tmp_path / name).write_text("x,y\n" + "".join(f"{a},{b}\n" for a, b in rows))
        return str(tmp_path / name)

    night("many.csv", 30)  # orders a day, say
    command("fit", "many.csv", "-t", "y", *CHEAP, "--champion", "m.automl", cwd=tmp_path)
    options = FitOptions(night("few.csv", 5), "y", tmp_path / "m.automl", metric="mae")
    bench = read_bench(options.out, options, read_data(options), 1)
    assert isinstance(bench, Bench)
    assert bench.task.kind is TaskKind.REGRESSION


@pytest.mark.usefixtures("own_state")
def test_a_first_night_that_was_interrupted_can_go_on(command, tmp_path, monkeypatch) -> None:
    write(tmp_path / "day.csv", 300, noise=1.0, seed=0)

    monkeypatch.setattr("automl_cli.retraining.fit", stopped(fit))
    line = ("--trials", "3", "--include", "linear", "--folds", "2", "--workers", "1", "--champion", "m.automl")
    assert command("fit", "day.csv", "-t", "y", *line, cwd=tmp_path).returncode == 143
    so_far = (tmp_path / "m.automl").read_bytes()
    monkeypatch.setattr("automl_cli.retraining.fit", fit)
    (night,) = list_runs()
    answer = command("runs", "resume", night.name, "--json", cwd=tmp_path)
    assert answer.returncode == 0, answer.stderr
    assert json.loads(answer.stdout)["n_trials"] == 3
    assert (tmp_path / "m.automl").read_bytes() != so_far
    again = command("fit", "day.csv", "-t", "y", *CHEAP, "--champion", "m.automl", cwd=tmp_path)
    assert again.returncode == 7  # by now it is a champion like any other


def test_large_groups_may_judge_too(command, tmp_path) -> None:
    rng = np.random.default_rng(0)

    def grouped(name, groups):
        x = rng.normal(size=300 * len(groups))
        y = 3 * x + rng.normal(size=len(x))
        names = np.repeat(groups, 300)
        rows = "".join(f"{a:.6f},{b:.6f},{g}\n" for a, b, g in zip(x, y, names, strict=True))
        (tmp_path / name).write_text("x,y,g\n" + rows)

    line = ("-t", "y", *CHEAP, "--group-column", "g", "--champion", "m.automl")
    grouped("old.csv", ["a", "b"])
    grouped("new.csv", ["c", "d", "e"])
    assert command("fit", "old.csv", *line, cwd=tmp_path).returncode == 0
    answer = command("fit", "new.csv", *line, cwd=tmp_path)
    assert "on 300 rows that neither has seen" in answer.stderr


def timed_groups(groups, times) -> Task:
    y = [f"{k * 7 % 101}.5" for k in range(len(groups))]
    return make_task(y, target="y", groups=[f"g{group}" for group in groups], order=np.array(times, dtype=float))[0]


def test_with_groups_and_a_time_the_latest_of_new_groups_judge_and_nothing_later_is_learned_from() -> None:
    rng = np.random.default_rng(0)
    begins = 10.0 * np.arange(60)  # sessions of 20 rows; the champion knows the first forty of them
    groups, times = np.repeat(np.arange(60), 20), (begins[:, None] + rng.uniform(0, 25, (60, 20))).ravel()
    groups, times = np.append(groups, [3] * 10), np.append(times, np.arange(600.0, 610.0))  # an old one comes back
    task, fresh = timed_groups(groups, times), np.arange(800, 1210)
    judges, held_out = choose_judges(fresh, np.arange(1210), task, seed=0)
    assert len(judges) == len(fresh) // 2
    assert groups[judges].min() >= 40
    learned = np.setdiff1d(np.arange(1210), held_out)
    assert not np.isin(groups[judges], groups[learned]).any()
    assert times[learned].max() < times[judges].min()
    others = fresh[(groups[fresh] >= 40) & ~np.isin(fresh, judges)]
    assert times[others].max() < times[judges].min(), "the latest judge"


def test_where_new_groups_reach_far_back_fewer_rows_judge_and_most_are_learned_from() -> None:
    rng = np.random.default_rng(1)
    groups, times = rng.integers(0, 400, 4_000), rng.uniform(0, 100, 4_000)
    judges, held_out = choose_judges(np.arange(4_000), np.arange(4_000), timed_groups(groups, times), seed=0)
    assert LEAST_JUDGED <= len(judges) < len(held_out) <= APART_SHARE * 4_000
    few = choose_judges(np.arange(4_000), np.arange(4_000), timed_groups(groups % 3, times), seed=0)
    assert [len(found) for found in few] == [0, 0], "three groups leave nothing to learn from"


def test_twins_of_earlier_rows_of_other_groups_do_not_judge() -> None:
    groups, times = np.repeat(np.arange(100), 10), np.arange(1_000.0)
    hashes = np.where(np.arange(1_000) == 990, 5, np.arange(1_000))
    judges, held_out = choose_judges(np.arange(1_000), hashes, timed_groups(groups, times), seed=0)
    assert 990 not in judges
    assert len(judges) == 199
    assert 990 in held_out


def test_a_challenger_knows_neither_the_groups_that_judge_nor_what_came_later(command, tmp_path) -> None:
    rng = np.random.default_rng(0)

    def sessions(first, last, noise):
        rows = [(k, 10 * k + 25 * rng.random(), rng.normal()) for k in range(first, last) for _ in range(10)]
        return [(t, f"{x:.6f},{3 * x + noise * rng.normal():.6f},g{k},{t:.4f}\n") for k, t, x in rows]

    old, new = sessions(0, 30, 30.0), sessions(30, 70, 0.1)
    for name, rows in (("old", old), ("new", old + new)):
        (tmp_path / f"{name}.csv").write_text("x,y,g,t\n" + "".join(row for _, row in rows))
    line = ("-t", "y", *CHEAP, "--group-column", "g", "--time-column", "t", "--champion", "m.automl", "--json")
    assert command("fit", "old.csv", *line, cwd=tmp_path).returncode == 0
    answer = command("fit", "new.csv", *line, cwd=tmp_path)
    assert answer.returncode == 0, answer.stderr
    n_judged = json.loads(answer.stdout)["champion"]["n_judged"]
    first = sorted(t for t, _ in new)[-n_judged]
    judged = {row.split(",")[2] for t, row in new if t >= first}
    learned = [row for t, row in old + new if t < first and row.split(",")[2] not in judged]
    with open_artifact(tmp_path / "m.automl") as artifact:
        assert artifact.manifest.data["n_rows"] == len(learned) < 700 - n_judged
