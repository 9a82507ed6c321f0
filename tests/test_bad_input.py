"""`automl fit` on what nobody should give it: one line and the right exit code, or a warning and a model."""

import contextlib
import fcntl
import gzip
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from automl_cli.optimizer import load_smac
from automl_cli.runs import output_lock

N_ROWS = 60
CHEAP = ("--trials", "1", "--include", "linear", "--folds", "2")
ANSWERS = random.Random(7).choices(("yes", "no"), k=N_ROWS)
NOBODY = 65534


def table(header: str, row: Callable[[int], str], separator: str = ",") -> bytes:
    """A table of N_ROWS rows whose last column, called as the header ends, holds yes and no."""
    lines = [header, *(f"{row(i)}{separator}{ANSWERS[i]}" for i in range(N_ROWS))]
    return "".join(f"{line}\n" for line in lines).encode()


GOOD = table("x,c,y", lambda i: f"{i % 7 + 0.5},{'abc'[i % 3]}")


def check_refused(answer: subprocess.CompletedProcess[str], exit_code: int, *says: str) -> None:
    """One line on stderr, nothing on stdout, and the exit code."""
    assert answer.returncode == exit_code, answer.stderr
    assert answer.stderr.startswith("automl: "), answer.stderr
    assert answer.stderr.endswith("\n")
    assert answer.stderr.count("\n") == 1, answer.stderr
    assert "automl: unexpected" not in answer.stderr
    assert len(answer.stderr) < 400
    assert answer.stdout == ""
    for words in says:
        assert words in answer.stderr


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder with good.csv in it; whatever else a test put there, a refused fit leaves nothing beside it."""
    (tmp_path / "good.csv").write_bytes(GOOD)
    yield tmp_path
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


REFUSED = {
    "empty": (b"", "is empty"),
    "blank": (b"\n  \n\n", "is empty"),
    "header_alone": (b"x,y\n", "no rows"),
    "header_without_line_end": (b"x,y", "no rows"),
    "one_row": (b"x,y\n1,a\n", "one row"),
    "one_class": (b"x,y\n" + b"1,a\n2,a\n" * 20, "'y' is 'a' in all 40 rows"),
    "no_labels": (b"x,y\n" + b"1,\n2,\n" * 20, "'y' is filled in 0 of 40 rows"),
    "free_text": (table("x,y,z", lambda i: f"{i},row {i} has a sentence of its own"), "'y' is a different text"),
    "binary": (random.Random(0).randbytes(5000).replace(b"\0", b"\1"), "is binary data"),
    "quote_within_a_quoted_cell": (GOOD + b'1,"abc" d,x\n' + b'2,"ab\n' * 2, "cannot be read after line 61"),
    "cut_in_a_quoted_cell": (GOOD + b'1,"abc', "ends within a quoted cell that opens at or after line 62"),
    "cut_in_a_row": (GOOD + b"1,a", "line 62 has 2 cells instead of 3"),
    "ragged": (GOOD.replace(b"\n", b"\n1,2,3,4\n", 1), "line 2 has 4 cells instead of 3"),
    "nul_bytes": (GOOD.replace(b"a", b"\0"), "has a NUL byte"),
    "no_line_ends": (b"z" * 5000, "has no column 'y': its columns are 'zzz"),
    "cut_gzip": (gzip.compress(GOOD)[:-20], "damaged or cut short"),
    "nothing_to_learn_from": (b"y\n" + b"a\nb\n" * 20, "no column to learn 'y' from"),
    "nothing_but_missing": (table("m,k,y", lambda i: ",NA"), "no column to learn 'y' from"),
}


@pytest.mark.parametrize(("content", "says"), REFUSED.values(), ids=REFUSED)
def test_refused_with_one_line(command, folder, content, says):
    (folder / "bad.csv").write_bytes(content)
    before = sorted(folder.iterdir())
    check_refused(
        command("fit", "bad.csv", "-t", "y", *CHEAP, cwd=folder), 3, "bad.csv" if "'y' " not in says else "'y'", says
    )
    assert sorted(folder.iterdir()) == before
    piped = command("fit", "-", "-t", "y", *CHEAP, cwd=folder, stdin=content)
    check_refused(piped, 3, says)


@pytest.mark.parametrize("name", ["empty", "one_class", "cut_in_a_quoted_cell", "nul_bytes"])
def test_the_real_command_refuses_in_the_same_words(automl, command, folder, name):
    (folder / "bad.csv").write_bytes(REFUSED[name][0])
    line = ("fit", "bad.csv", "-t", "y", *CHEAP)
    real, here = automl(*line, cwd=folder), command(*line, cwd=folder)
    check_refused(real, 3, REFUSED[name][1])
    assert real.stderr == here.stderr
    assert sorted(path.name for path in folder.iterdir()) == ["bad.csv", "good.csv"]


PLACES = {
    "missing": ("nowhere.csv", "nowhere.csv does not exist"),
    "missing_folder": ("nowhere/good.csv", "nowhere/good.csv does not exist"),
    "directory": ("folder", "folder is a folder"),
    "no_stdin": ("-", "stdin is empty"),
    "device": ("/dev/null", "is empty"),
    "beneath_a_file": ("good.csv/good.csv", "good.csv/good.csv"),
}


@pytest.mark.parametrize(("place", "says"), PLACES.values(), ids=PLACES)
def test_places_without_a_table(command, folder, place, says):
    (folder / "folder").mkdir()
    check_refused(command("fit", place, "-t", "y", *CHEAP, cwd=folder), 3, says)
    check_refused(command("profile", place, cwd=folder), 3, says)


@pytest.mark.parametrize(
    ("target", "says"),
    [("Y", "did you mean 'y'?"), ("yy", "did you mean 'y'?"), ("income", "'x', 'c', 'y'"), ("", "'y'")],
)
def test_a_target_that_is_not_there(command, folder, target, says):
    check_refused(command("fit", "good.csv", "-t", target, *CHEAP, cwd=folder), 3, "good.csv has no column", says)


@contextlib.contextmanager
def unprivileged() -> Iterator[Path]:
    """A folder that belongs to the user ``nobody``, who runs what follows; who is not root stays who they are."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if os.geteuid() != 0:
            yield folder
            return
        os.chown(folder, NOBODY, NOBODY)
        os.seteuid(NOBODY)
        try:
            yield folder
        finally:
            os.seteuid(0)


@pytest.fixture
def own_state(monkeypatch):
    """Where nobody can write: the folder for runs and locks moves into the test's own."""

    def move(folder: Path) -> None:
        monkeypatch.setenv("XDG_STATE_HOME", str(folder / "state"))

    return move


def test_permissions(command, tmp_path, own_state):
    # imports are done before the privileges are dropped: the environment may be root's alone
    (tmp_path / "good.csv").write_bytes(GOOD)
    command("fit", "good.csv", "-t", "y", *CHEAP, "-q", cwd=tmp_path)
    load_smac()  # a thread of the fit may still be at it
    with unprivileged() as folder:
        own_state(folder)
        secret, closed = folder / "secret.csv", folder / "closed"
        secret.write_bytes(GOOD)
        secret.chmod(0)
        closed.mkdir()
        (closed / "in.csv").write_bytes(GOOD)
        closed.chmod(0)
        (folder / "good.csv").write_bytes(GOOD)
        shut = folder / "shut"
        shut.mkdir()
        shut.chmod(0o555)
        try:
            fit = ("fit", "-t", "y", *CHEAP)
            check_refused(command(*fit, "secret.csv", cwd=folder), 3, "no permission to read secret.csv")
            check_refused(command(*fit, "closed/in.csv", cwd=folder), 3, "no permission to read closed/in.csv")
            unwritable = command(*fit, "good.csv", "-o", "shut/m.automl", cwd=folder)
            check_refused(unwritable, 2, "no permission to write shut/m.automl")
            run_dir = command(*fit, "good.csv", "--run-dir", "shut/run", cwd=folder)
            check_refused(run_dir, 2, "no permission to write shut/run")
            assert list(shut.iterdir()) == []
            assert sorted(path.name for path in folder.glob("*.automl")) == []
        finally:
            for path in (closed, shut):
                path.chmod(0o755)


HANDLED = {
    "duplicate_names": (
        table("x,x,b,y", lambda i: f"{i % 5},{i % 3},{i % 7}"),
        "column 'x' appears more than once; column 2 is called 'x.1'",
    ),
    "all_missing": (table("x,m,k,y", lambda i: f"{i % 5},,NA"), "column 'm' has no value in any row"),
    "infinities": (
        table("x,b,y", lambda i: f"{i % 5},{['inf', '-inf', '1.5', '2.5', 'Infinity'][i % 5]}"),
        "column 'b' has 36 infinite numbers",
    ),
    "mixed_types": (
        table("x,b,y", lambda i: f"{i % 5},{i * 1.5 if i % 10 else 'broken'}"),
        "column 'b' has 6 cells that cannot be read as a number, such as 'broken'",
    ),
    "unusual_separator": (table("x^b^y", lambda i: f"{i % 5}^{i % 3}", "^"), "unusual separator '^'"),
    "unnamed_column": (table(",b,y", lambda i: f"{i % 5},{i % 3}"), "column 1 has no name"),
    "not_utf8": (GOOD.replace(b"a", b"\xe9"), "read as Latin-1"),
    "a_label_missing": (GOOD.replace(b",yes\n", b",\n", 1), "1 rows without a value of 'y' are left out"),
}


@pytest.mark.parametrize(("content", "warning"), HANDLED.values(), ids=HANDLED)
def test_handled_with_a_warning(command, folder, content, warning):
    (folder / "odd.csv").write_bytes(content)
    answer = command("fit", "odd.csv", "-t", "y", *CHEAP, cwd=folder)
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout == ""
    assert warning in answer.stderr
    predicted = command("predict", "odd.automl", "odd.csv", cwd=folder)
    assert predicted.returncode == 0, predicted.stderr
    assert predicted.stdout.splitlines()[0] == "prediction"
    assert set(predicted.stdout.splitlines()[1:]) <= {"yes", "no"}
    assert len(predicted.stdout.splitlines()) == N_ROWS + 1
    assert sorted(path.name for path in folder.iterdir()) == ["good.csv", "odd.automl", "odd.csv"]


@pytest.mark.parametrize("family", ["lightgbm", "xgboost", "linear", "extra_trees", "neighbors"])
def test_names_that_libraries_stumble_over(command, folder, family):
    rows = "".join(f"{i % 5},{i % 3},{i % 11},{'xyz'[i % 3]},{'🙂' if i % 5 < 2 else 'a,b'!r}\n" for i in range(N_ROWS))
    content = '"[a]{b}","c""d",",e:",😀é,"[y]{}"",:🎯"\n' + rows.replace("'a,b'", '"a,""b"').replace("'", "")
    (folder / "odd.csv").write_text(content, encoding="utf-8")
    line = ("fit", "odd.csv", "-t", '[y]{}",:🎯', "--trials", "1", "--include", family, "--folds", "2")
    answer = command(*line, "-o", "m.automl", cwd=folder)
    assert answer.returncode == 0, answer.stderr
    carried = command("predict", "m.automl", "odd.csv", "--proba", "--columns", '",e:",😀é', cwd=folder)
    assert carried.returncode == 0, carried.stderr
    header, first, *rest = carried.stdout.splitlines()
    assert header == '",e:",😀é,prediction,"proba_a,""b",proba_🙂'
    assert first.startswith(("0,x,🙂,", '0,x,"🙂",', '"0","x","🙂",'))
    assert len(rest) == N_ROWS - 1


def test_more_than_ten_thousand_columns(automl, folder):
    names = ",".join(f"c{k}" for k in range(12_000))
    rows = [",".join(str((k * 7 + i * 13 + k * i) % 97) for k in range(12_000)) for i in range(16)]
    (folder / "wide.csv").write_text(f"{names},y\n" + "".join(f"{row},{ANSWERS[i]}\n" for i, row in enumerate(rows)))
    answer = automl("fit", "wide.csv", "-t", "y", *CHEAP, cwd=folder)
    assert answer.returncode == 0, answer.stderr
    assert "12001 columns" in answer.stderr.replace(",", "")
    assert len(answer.stderr.splitlines()) < 60


USAGE = {
    "unknown_option": (["--bogus"], "--bogus"),
    "unknown_family": (["--include", "lightgmb"], "did you mean 'lightgbm'?"),
    "unknown_family_to_leave_out": (["--exclude", "qqq"], "families are"),
    "no_family_left": (["--exclude", "linear"], "leave no model family"),
    "kind_without_column": (["--kind", "numeric"], "COLUMN=KIND"),
    "kind_that_is_none": (["--kind", "x=nonsense"], "kinds are numeric"),
    "kind_of_an_unknown_column": (["--kind", "xx=numeric"], "did you mean 'x'?"),
    "kind_that_does_not_fit": (["--kind", "c=numeric"], "column 'c'"),
    "ignore_unknown": (["--ignore", "cc"], "did you mean 'c'?"),
    "ignore_the_target": (["--ignore", "y"], "'y' is the target"),
    "no_time": (["--time", "0"], "'0' leaves no time"),
    "negative_time": (["--time", "-5"], "'-5' is not a duration"),
    "time_in_words": (["--time", "soon"], "'soon' is not a duration"),
    "metric_of_another_task": (["--metric", "rmse"], "use one of roc_auc"),
    "unknown_metric": (["--metric", "rocauc"], "use one of roc_auc"),
    "positive_that_is_no_label": (["--positive", "maybe"], "the labels are 'no' and 'yes'"),
    "one_fold": (["--folds", "1"], "--folds"),
    "folds_in_words": (["--folds", "many"], "--folds"),
    "no_trials": (["--trials", "0"], "--trials"),
    "no_workers": (["--workers", "0"], "--workers"),
    "little_memory": (["--memory", "1MB"], "1MB"),
    "no_size": (["--memory", "much"], "'much' is not a size"),
    "unknown_task": (["--task", "guess"], "'multiclass'"),
    "weight_unknown": (["--weight-column", "xx"], "no column 'xx' for --weight-column: did you mean 'x'?"),
    "group_unknown": (["--group-column", "xx"], "no column 'xx'"),
    "time_column_unknown": (["--time-column", "xx"], "no column 'xx' for --time-column: did you mean 'x'?"),
    "weight_is_the_target": (["--weight-column", "y"], "--weight-column 'y' is the target"),
    "group_is_ignored": (["--group-column", "c", "--ignore", "c"], "leave out --ignore c"),
    "out_in_no_folder": (["-o", "nowhere/m.automl"], "folder nowhere does not exist"),
    "out_is_a_folder": (["-o", "."], "is a folder"),
    "run_dir_is_a_file": (["--run-dir", "good.csv"], "good.csv is a file"),
    "nothing_to_resume": (["--resume"], "no interrupted run"),
}


@pytest.mark.parametrize(("options", "says"), USAGE.values(), ids=USAGE)
def test_options_that_cannot_be(command, folder, options, says):
    check_refused(command("fit", "good.csv", "-t", "y", *CHEAP, *options, cwd=folder), 2, says)
    assert [path.name for path in folder.iterdir()] == ["good.csv"]


BAD_ROLES = {
    "text_as_weight": (["--weight-column", "c"], "60 weights are missing"),
    "text_as_time": (["--time-column", "c"], "time column"),
    "regression_on_text": (["--task", "regression"], "'y' is not a number everywhere"),
}


@pytest.mark.parametrize(("options", "says"), BAD_ROLES.values(), ids=BAD_ROLES)
def test_columns_that_do_not_suit_their_role(command, folder, options, says):
    check_refused(command("fit", "good.csv", "-t", "y", *CHEAP, *options, cwd=folder), 3, says)


@pytest.mark.parametrize("line", [[], ["good.csv"], ["-t", "y"], ["good.csv", "good.csv", "-t", "y"]])
def test_arguments_missing_or_too_many(command, folder, line):
    check_refused(command("fit", *line, cwd=folder), 2)


SETTINGS = {
    "unknown_key": ("[fit]\nbogus = 1\n", "'bogus'"),
    "near_key": ("[fit]\ntrial = 1\n", "did you mean 'trials'?"),
    "no_toml": ("[fit\n", "not valid TOML"),
    "no_table": ("time = 3\n", "'time' stands outside a table"),
    "wrong_value": ("[fit]\nseed = 'x'\n", "--seed"),
}


@pytest.mark.parametrize(("text", "says"), SETTINGS.values(), ids=SETTINGS)
def test_settings_that_cannot_be(command, folder, text, says):
    (folder / "automl.toml").write_text(text)
    check_refused(command("fit", "good.csv", "-t", "y", *CHEAP, cwd=folder), 2, says)


def test_a_family_whose_package_is_not_installed(command, folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "catboost", None)  # Python's own way to say that there is no such package
    line = ("fit", "good.csv", "-t", "y", "--trials", "1", "--include", "catboost")
    check_refused(
        command(*line, cwd=folder), 2, "family 'catboost' is not installed", "pip install 'automl-cli[catboost]'"
    )


def test_no_time_for_a_model(automl, folder):
    answer = automl("fit", "good.csv", "-t", "y", "--time", "0.5s", cwd=folder)
    assert answer.returncode == 4, answer.stderr
    last = answer.stderr.splitlines()[-1]
    assert last.startswith("automl: ")
    assert "give it more" in last
    assert "--time" in last
    assert "Traceback" not in answer.stderr
    assert [path.name for path in folder.iterdir()] == ["good.csv"]


def limited(n_bytes: int, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the real command where no file may grow beyond ``n_bytes``, as on a disk that fills up."""
    (folder / "scratch").mkdir(exist_ok=True)
    return subprocess.run(
        [Path(sys.executable).with_name("automl"), *arguments],
        check=False,
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, "XDG_STATE_HOME": str(folder / "state"), "TMPDIR": str(folder / "scratch")},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, n_bytes)),
        timeout=90,
    )


@pytest.mark.parametrize("n_bytes", [1000, 4500])
def test_no_space_leaves_the_old_model(folder, n_bytes):
    # 1000 bytes are too few for the check at the start, 4500 for the model at the end
    (folder / "m.automl").write_bytes(b"the old model")
    line = (
        "fit",
        "good.csv",
        "-t",
        "y",
        "--trials",
        "1",
        "--include",
        "lightgbm",
        "--folds",
        "2",
        "-o",
        "m.automl",
        "-q",
    )
    check_refused(limited(n_bytes, folder, *line), 1, "no space to write", "free some space")
    assert (folder / "m.automl").read_bytes() == b"the old model"
    assert sorted(path.name for path in folder.glob("[!s]*")) == ["good.csv", "m.automl"]
    assert list((folder / "scratch").iterdir()) == []


def test_two_fits_on_one_output(automl, command, folder):
    line = ["fit", "-", "-t", "y", *CHEAP, "-o", "m.automl", "-q"]
    first = subprocess.Popen(
        [Path(sys.executable).with_name("automl"), *line],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=folder,
    )
    _wait_until_locked(output_lock(folder / "m.automl"))
    second = command("fit", "good.csv", "-t", "y", *CHEAP, "-o", folder / "m.automl", cwd=folder)
    check_refused(second, 5, "m.automl is in use by another run")
    _, said = first.communicate(GOOD, timeout=60)
    assert (first.returncode, said) == (0, b"")
    assert (folder / "m.automl").exists()


def _wait_until_locked(lock: Path) -> None:
    """Return once another process holds the lock; pytest's own limit ends the wait."""
    while True:
        if lock.exists():
            with lock.open("a") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    return


def test_debug_shows_where(command, folder):
    answer = command("fit", "nowhere.csv", "-t", "y", *CHEAP, "--debug", cwd=folder)
    assert answer.returncode == 3
    assert answer.stderr.startswith("Traceback")
    assert answer.stderr.splitlines()[-1].startswith("automl: nowhere.csv does not exist")


def test_json_and_quiet(command, folder):
    answer = command("fit", "good.csv", "-t", "y", *CHEAP, "--json", "--quiet", cwd=folder)
    assert answer.returncode == 0
    assert answer.stderr == ""
    summary = json.loads(answer.stdout)
    assert summary["n_trials"] == 1
    assert summary["out"] == "good.automl"
    assert command("fit", "good.csv", "-t", "y", *CHEAP, "-q", cwd=folder).stdout == ""
