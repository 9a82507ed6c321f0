"""What a person sees: a live view on a terminal, plain lines elsewhere, nothing where quiet is asked for."""

import contextlib
import json
import os
import pty
import random
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from automl_cli.clock import Deadline
from automl_cli.console.live import View
from automl_cli.search import Finished, Started
from automl_cli.trial import Failure, Pipeline, Proposal, Success

Command = Callable[..., subprocess.CompletedProcess[str]]
CHEAP = ("-t", "y", "--trials", "2", "--folds", "2", "--include", "linear")
COLOUR = re.compile(r"\x1b\[[\d;]*\b(3[1-7]|9[0-7])m")
MOVE = re.compile(r"\x1b\[\d*[ABFGHJK]|\x1b\[\?25[lh]")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("table")
    chance = random.Random(5)
    xs = [chance.gauss(0, 1) for _ in range(150)]
    rows = [f"{x:.4f},same,{'yes' if x > 0 else 'no'}" for x in xs]
    (folder / "d.csv").write_text("\n".join(["x,constant,y", *rows]) + "\n")
    return folder


def on_terminal(folder: Path, *arguments: str, **environment: str) -> tuple[str, str]:
    """Run the real command with stderr on a terminal; return what the terminal got and what went to stdout."""
    ours, theirs = pty.openpty()
    env = {key: value for key, value in os.environ.items() if key not in ("NO_COLOR", "COLUMNS")}
    process = subprocess.Popen(
        [Path(sys.executable).with_name("automl"), *arguments],
        cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=theirs, env={**env, **environment},
    )  # fmt: skip
    os.close(theirs)
    seen = b""
    with contextlib.suppress(OSError):  # the terminal is gone with its last user
        while block := os.read(ours, 4096):
            seen += block
    out, _ = process.communicate(timeout=30)
    os.close(ours)
    assert process.returncode == 0, seen.decode()
    return seen.decode(), out.decode()


def test_a_terminal_gets_a_live_view_and_then_the_summary(folder: Path, tmp_path: Path) -> None:
    seen, out = on_terminal(folder, "fit", "d.csv", *CHEAP, "-o", str(tmp_path / "m.automl"), TERM="xterm-256color")
    assert out == ""
    assert MOVE.search(seen), "it is drawn in place"
    assert COLOUR.search(seen)
    for words in ("searching", "trials", "running", "ensemble"):
        assert words in seen
    *_, end = seen.partition("ROC AUC")
    assert "next: automl predict" in end
    assert seen.rstrip().endswith("NEW.csv -o predictions.csv\x1b[0m")
    # The cursor is back.
    assert seen.rfind("\x1b[?25h") > seen.rfind("\x1b[?25l") > -1


def test_no_color_takes_the_colour_and_leaves_the_view(folder: Path, tmp_path: Path) -> None:
    line = ("fit", "d.csv", *CHEAP, "-o", str(tmp_path / "m.automl"))
    seen, _ = on_terminal(folder, *line, TERM="xterm-256color", NO_COLOR="1")
    assert MOVE.search(seen)
    assert not COLOUR.search(seen)


def test_a_dumb_terminal_gets_plain_lines(folder: Path, tmp_path: Path) -> None:
    seen, _ = on_terminal(folder, "fit", "d.csv", *CHEAP, "-o", str(tmp_path / "m.automl"), TERM="dumb")
    assert "\x1b" not in seen
    assert "next: automl predict" in seen


def test_off_a_terminal_there_are_plain_lines_on_stderr_alone(automl: Command, folder: Path, tmp_path: Path) -> None:
    done = automl("fit", "d.csv", *CHEAP, "-o", tmp_path / "m.automl", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert "\x1b" not in done.stderr
    assert "\r" not in done.stderr
    lines = done.stderr.splitlines()
    assert lines[0] == "d.csv: 150 rows, 3 columns"
    assert any("| best ROC AUC" in line for line in lines)
    assert lines[-1].startswith("next: automl predict")


def test_quiet_says_nothing(command: Command, folder: Path, tmp_path: Path) -> None:
    done = command("fit", "d.csv", *CHEAP, "-o", tmp_path / "m.automl", "--quiet", cwd=folder)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    done = command("predict", tmp_path / "m.automl", "d.csv", "-o", tmp_path / "p.csv", "--quiet", cwd=folder)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_what_the_next_command_is_can_be_pasted(command: Command, folder: Path, tmp_path: Path) -> None:
    import shlex

    out = tmp_path / "it's my model.automl"
    done = command("fit", "d.csv", *CHEAP, "-o", out, cwd=folder)
    said = done.stderr.splitlines()[-1].removeprefix("next: ")
    assert shlex.split(said)[2] == str(out)


def test_letters_that_the_locale_lacks_do_not_end_an_answer(
    automl: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", "latin-1")
    (tmp_path / "d.csv").write_text("größe,😀\n" + "".join(f"{i}.5,{i * i}\n" for i in range(30)), encoding="utf-8")
    done = automl("profile", "d.csv", cwd=tmp_path, encoding="latin-1")
    assert (done.returncode, done.stderr) == (0, "")
    assert "größe" in done.stdout
    assert "\\U0001f600" in done.stdout
    done = automl("profile", "d.csv", "--json", cwd=tmp_path, encoding="latin-1")
    assert [column["name"] for column in json.loads(done.stdout)["columns"]] == ["größe", "😀"]


def test_markup_in_names_is_shown_as_it_is(command: Command, tmp_path: Path) -> None:
    rows = "\n".join(f"{i / 10},{'[red]yes[/red]' if i % 3 else '[/]'}" for i in range(60))
    (tmp_path / "[bold]d.csv").write_text(f"[red]x[/red],[y]\n{rows}\n")
    done = command("fit", "[bold]d.csv", "-t", "[y]", *CHEAP[2:], "-o", "m.automl", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "[bold]d.csv: 60 rows" in done.stderr
    assert "positive class: [red]yes[/red]" in done.stderr
    done = command("inspect", "m.automl", cwd=tmp_path)
    assert "[red]x[/red]" in done.stdout
    assert "[y]" in done.stdout


def proposal(number: int) -> Proposal:
    return Proposal(number, Pipeline("linear", "one_hot", {}), "smac", 0, 1)


@pytest.mark.parametrize(("limit", "left"), [(60.0, "57 s left"), (None, "3 s")])
def test_the_line_counts_what_happened(limit: float | None, left: str) -> None:
    now = 0.0
    view = View(Deadline.after(limit, clock=lambda: now))
    now = 3.0
    for number in range(4):
        view.take(Started(proposal(number)))
    view.take(Finished(Success(proposal(0), (0.1, 0.2), 1.0, complete=True)))
    view.take(Finished(Success(proposal(1), (0.1,), 1.0, complete=False)))
    view.take(Finished(Failure(proposal(2), "ValueError: no", 1.0)))
    assert view.line() == f"{left} | 3 trials, 1 failed | best none yet | running linear"
    assert (view.n_done, view.n_stopped, view.n_failed) == (3, 1, 1)


def test_after_the_limit_no_negative_time_is_shown() -> None:
    now = 0.0
    view = View(Deadline.after(10.0, clock=lambda: now))
    now = 12.0
    assert view.left() == "0 s left"
