"""Model files and tables that do not fit together: one line and the right exit code, or a warning and an answer."""

import contextlib
import io
import json
import random
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from automl_cli.cli import run

ROWS = [(i % 7 + 0.25 * (i % 3), 10 * (i % 5), "abc"[i % 3]) for i in range(60)]
LABELS = ["yes" if a > 3 else "no" for a, _, _ in ROWS]
AUTOML = Path(sys.executable).with_name("automl")


def csv(header: str, *rows: str) -> bytes:
    """A small table."""
    return "".join(f"{line}\n" for line in (header, *rows)).encode()


GOOD = csv("a,b,c,y", *(f"{a},{b},{c},{y}" for (a, b, c), y in zip(ROWS, LABELS, strict=True)))
NEW = csv("a,b,c", *(f"{a},{b},{c}" for a, b, c in ROWS))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with good.csv, new.csv and m.automl, made once."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "good.csv").write_bytes(GOOD)
    (folder / "new.csv").write_bytes(NEW)
    line = "fit good.csv -t y --trials 1 --include lightgbm --folds 2 -o m.automl -q"
    said = io.StringIO()
    with contextlib.chdir(folder), contextlib.redirect_stderr(said):
        assert run(line.split()) == 0, said.getvalue()
    return folder


@pytest.fixture
def folder(trained, tmp_path):
    """A copy that a test may change."""
    for path in trained.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path


def check_refused(answer, exit_code, *says):
    """One line on stderr, nothing on stdout, and the exit code."""
    assert answer.returncode == exit_code, answer.stderr
    assert answer.stderr.startswith("automl: "), answer.stderr
    assert answer.stderr.count("\n") == 1, answer.stderr
    assert "automl: unexpected" not in answer.stderr
    assert len(answer.stderr) < 400
    assert answer.stdout == ""
    for words in says:
        assert words in answer.stderr


REFUSED = {
    "a_column_missing": (csv("a,c", "1,a"), "bad.csv lacks the column 'b'"),
    "columns_missing": (csv("b", "1"), "bad.csv lacks the 2 columns: 'a', 'c'"),
    "a_name_misspelt": (csv("a,b,C", "1,2,a"), "for 'c', did you mean 'C'?"),
    "empty": (b"", "bad.csv is empty"),
    "header_alone": (b"a,b,c\n", "bad.csv has a header but no rows"),
    "binary": (random.Random(0).randbytes(5000).replace(b"\0", b"\1"), "bad.csv is binary data"),
    "nul_bytes": (NEW.replace(b"a\n", b"\0\n"), "bad.csv has a NUL byte"),
    "cut_in_a_quoted_cell": (NEW + b'1,2,"a', "bad.csv ends within a quoted cell"),
    "cut_in_a_row": (NEW + b"1,2", "bad.csv line 62 has 2 cells instead of 3"),
}


@pytest.mark.parametrize(("content", "says"), REFUSED.values(), ids=REFUSED)
def test_tables_that_cannot_be_predicted(command, folder, content, says):
    (folder / "bad.csv").write_bytes(content)
    before = sorted(folder.iterdir())
    check_refused(command("predict", "m.automl", "bad.csv", cwd=folder), 3, says)
    check_refused(command("predict", "m.automl", "bad.csv", "-o", "p.csv", cwd=folder), 3, says)
    assert sorted(folder.iterdir()) == before
    piped = command("predict", "m.automl", "-", cwd=folder, stdin=content)
    check_refused(piped, 3, says.replace("bad.csv", "stdin"))


@pytest.mark.parametrize("place", ["nowhere.csv", "nowhere/new.csv", "."])
def test_places_without_a_table(command, folder, place):
    check_refused(command("predict", "m.automl", place, cwd=folder), 3, place)


def other_order() -> bytes:
    """The same rows, columns from back to front."""
    return csv("c,b,a", *(f"{c},{b},{a}" for a, b, c in ROWS))


SAME = {
    "without_the_target": NEW,
    "with_the_target": GOOD,
    "other_order": other_order(),
    "other_separator": NEW.replace(b",", b";"),
    "windows_line_ends": NEW.replace(b"\n", b"\r\n"),
    "byte_order_mark": b"\xef\xbb\xbf" + NEW,
    "quoted": NEW.replace(b",", b'","').replace(b"\n", b'"\n"')[:-1].join((b'"', b"")),
}


@pytest.mark.parametrize("content", SAME.values(), ids=SAME)
def test_the_same_table_in_other_clothes_gives_the_same_predictions(command, folder, content):
    (folder / "other.csv").write_bytes(content)
    plain = command("predict", "m.automl", "new.csv", "--proba", cwd=folder)
    other = command("predict", "m.automl", "other.csv", "--proba", cwd=folder)
    assert (plain.returncode, plain.stderr) == (0, "")
    assert (other.returncode, other.stderr) == (0, "")
    assert other.stdout == plain.stdout
    assert [line.split(",")[0] for line in plain.stdout.splitlines()] == ["prediction", *LABELS]


HANDLED = {
    "extra_columns": (csv("a,extra,b,c", "6.5,x,10,a"), "'extra'"),
    "words_for_numbers": (csv("a,b,c", "much,10,a"), "column 'a' has 1 cell that cannot be read as a number"),
    "dates_for_numbers": (csv("a,b,c", "2020-01-01,10,a"), "such as '2020-01-01'"),
    "numbers_for_words": (csv("a,b,c", "6.5,10,17"), "column 'c' has 1 cell with a value the model never saw"),
    "unseen_category": (csv("a,b,c", "6.5,10,zebra"), "such as 'zebra'"),
    "infinity": (csv("a,b,c", "inf,10,a"), "column 'a' has 1 infinite number"),
    "all_missing": (csv("a,b,c", ",,"), "which the training never had"),
    "a_column_twice": (csv("a,b,c,a", "6.5,10,a,1"), "column 'a' appears more than once"),
    "unseen_label": (csv("a,b,c,y", "6.5,10,a,perhaps"), ""),
}


@pytest.mark.parametrize(("content", "warning"), HANDLED.values(), ids=HANDLED)
def test_predicted_with_a_warning(command, folder, content, warning):
    (folder / "odd.csv").write_bytes(content)
    answer = command("predict", "m.automl", "odd.csv", cwd=folder)
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout in ("prediction\nyes\n", "prediction\nno\n")
    assert warning in answer.stderr
    assert bool(answer.stderr) == bool(warning)
    assert all(line.startswith("warning: ") for line in answer.stderr.splitlines())
    assert command("predict", "m.automl", "odd.csv", "--quiet", cwd=folder).stderr == ""


def damaged(data: bytes) -> bytes:
    """The file with one byte in its middle changed."""
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 255]) + data[middle + 1 :]


MODELS = {
    "missing": None,
    "empty": lambda data: b"",
    "foreign": lambda data: GOOD,
    "cut": lambda data: data[: len(data) // 2],
    "damaged": damaged,
    "a_pickle": lambda data: b"\x80\x04\x95\x0b\x00\x00\x00\x00\x00\x00\x00\x8c\x05never\x94.",
}


@pytest.mark.parametrize("change", MODELS.values(), ids=MODELS)
def test_files_that_are_no_models(command, folder, change):
    model = folder / "m.automl"
    if change is None:
        model.unlink()
    else:
        model.write_bytes(change(model.read_bytes()))
    for line in (["predict", "m.automl", "new.csv"], ["evaluate", "m.automl", "good.csv"]):
        check_refused(command(*line, cwd=folder), 6, "m.automl")


@pytest.mark.parametrize("place", ["nowhere.automl", ".", "new.csv"])
def test_inspect_wants_a_model(command, folder, place):
    check_refused(command("inspect", place, cwd=folder), 6)


USAGE = {
    "unknown_option": (["--bogus"], "--bogus"),
    "no_threads": (["--threads", "0"], "--threads"),
    "out_in_no_folder": (["-o", "nowhere/p.csv"], "folder nowhere does not exist"),
    "out_is_a_folder": (["-o", "."], "is a folder"),
    "third_argument": (["new.csv"], "extra argument"),
    "a_carried_column_called_like_the_answer": (["--columns", "prediction"], "'prediction'"),
}


@pytest.mark.parametrize(("options", "says"), USAGE.values(), ids=USAGE)
def test_options_that_cannot_be(command, folder, options, says):
    check_refused(command("predict", "m.automl", "new.csv", *options, cwd=folder), 2, says)


def test_a_carried_column_that_is_not_there(command, folder):
    answer = command("predict", "m.automl", "new.csv", "--columns", "aa", cwd=folder)
    check_refused(answer, 3, "new.csv has no column 'aa': did you mean 'a'?")


@pytest.mark.parametrize("line", [[], ["nonsense"], ["--bogus"], ["predict"], ["predict", "m.automl"]])
def test_incomplete_commands(command, folder, line):
    answer = command(*line, cwd=folder)
    if line:
        check_refused(answer, 2)
    else:
        assert answer.returncode == 0
        assert "automl fit data.csv" in answer.stdout


EVALUATED = {
    "metric_of_another_task": (GOOD, ["--metric", "rmse"], 2, "use one of roc_auc"),
    "no_target": (NEW, [], 3, "has no column 'y'"),
    "unknown_label": (csv("a,b,c,y", "1,2,a,perhaps", "1,2,a,no"), [], 3, "the first 'perhaps' in data row 1"),
    "no_truth": (csv("a,b,c,y", "1,2,a,", "1,2,b,"), [], 3, "no row has a value of target 'y'"),
}


@pytest.mark.parametrize(("content", "options", "code", "says"), EVALUATED.values(), ids=EVALUATED)
def test_rows_that_cannot_be_judged(command, folder, content, options, code, says):
    (folder / "bad.csv").write_bytes(content)
    check_refused(command("evaluate", "m.automl", "bad.csv", *options, cwd=folder), code, says)


def test_json_stands_alone_on_stdout(command, folder):
    (folder / "odd.csv").write_bytes(GOOD.replace(b",a,", b",zebra,"))
    for line in (
        ["evaluate", "m.automl", "odd.csv", "--json"],
        ["inspect", "m.automl", "--json"],
        ["profile", "odd.csv", "--json"],
    ):
        answer = command(*line, cwd=folder)
        assert answer.returncode == 0, answer.stderr
        assert isinstance(json.loads(answer.stdout), dict)


def test_debug_shows_where(command, folder):
    answer = command("predict", "nowhere.automl", "new.csv", "--debug", cwd=folder)
    assert answer.returncode == 6
    assert answer.stderr.startswith("Traceback")
    assert answer.stderr.splitlines()[-1].startswith("automl: no model file nowhere.automl")


def shell(line: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a pipe; the exit code is that of its first command, which `automl` stands for."""
    line = line.replace("automl ", f"'{AUTOML}' ", 1)
    script = f"{line}; exit ${{PIPESTATUS[0]}}"
    return subprocess.run(["bash", "-c", script], check=False, capture_output=True, text=True, cwd=folder, timeout=60)


STREAMS = {
    "stdin": ("automl predict m.automl - < new.csv | head -n 3", (0, 141), "prediction\nno\nno\n", ""),
    "nobody_reads": ("automl predict m.automl long.csv | true", (141,), "", ""),
    "one_line_is_read": ("automl predict m.automl long.csv | head -n 1", (141,), "prediction\n", ""),
    "full_device": ("automl predict m.automl new.csv > /dev/full", (1,), "", "no space to write the output"),
    "full_device_for_json": ("automl inspect m.automl --json > /dev/full", (1,), "", "no space to write the output"),
    "no_stdout": ("automl predict m.automl new.csv -o p.csv -q >&-", (0,), "", ""),
    "no_stdin": ("automl predict m.automl - <&-", (3,), "", "there is no stdin to read"),
    "full_stderr": ("automl predict m.automl new.csv -o p.csv 2> /dev/full", (0,), "", ""),
    "full_stderr_for_an_error": ("automl predict m.automl nowhere.csv 2> /dev/full", (3,), "", ""),
    "no_stderr": ("automl predict m.automl nowhere.csv 2>&-", (3,), "", ""),
}


@pytest.mark.parametrize(("line", "codes", "out", "says"), STREAMS.values(), ids=STREAMS)
def test_streams_of_the_real_command(folder, line, codes, out, says):
    (folder / "long.csv").write_bytes(NEW + NEW.split(b"\n", 1)[1] * 2000)
    answer = shell(line, folder)
    assert answer.returncode in codes, answer.stderr
    assert answer.stdout == out
    assert says in answer.stderr
    assert answer.stderr.count("\n") == bool(says)


def test_no_space_leaves_the_old_predictions(folder):
    # enough to unpack the model, too little for the answer
    (folder / "long.csv").write_bytes(NEW + NEW.split(b"\n", 1)[1] * 20_000)
    (folder / "p.csv").write_text("the old predictions")
    before = sorted(folder.iterdir())
    answer = subprocess.run(
        [AUTOML, "predict", "m.automl", "long.csv", "-o", "p.csv"],
        check=False,
        capture_output=True,
        text=True,
        cwd=folder,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, 2_000_000)),
        timeout=60,
    )
    check_refused(answer, 1, "no space to write p.csv")
    assert (folder / "p.csv").read_text() == "the old predictions"
    assert sorted(folder.iterdir()) == before
