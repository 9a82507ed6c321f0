"""The first commands a newcomer types, as the README and `make demo` give them, with a shorter limit."""

import csv
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Automl = Callable[..., subprocess.CompletedProcess[str]]

LIMIT = "10s"


@pytest.fixture
def clone(repository: Path, tmp_path: Path) -> Path:
    """Give a folder that looks like a clone but may be written to."""
    for name in ("sample_data", "scripts"):
        (tmp_path / name).symlink_to(repository / name)
    return tmp_path


def rows_of(path: Path) -> list[list[str]]:
    with path.open(newline="", encoding="utf-8") as lines:
        return list(csv.reader(lines))


def test_the_readmes_first_commands_run(repository: Path, clone: Path, automl: Automl) -> None:
    readme = (repository / "README.md").read_text(encoding="utf-8")
    block = re.search(r"On your own table:\n\n```sh\n(.*?)```", readme, re.DOTALL)
    assert block
    commands = [line for line in block[1].splitlines() if line.startswith("automl ")]
    assert len(commands) >= 2
    for line in commands:
        done = automl(*shlex.split(line.replace("60s", LIMIT))[1:], cwd=clone)
        assert done.returncode == 0, f"{line}\n{done.stderr}"
    predictions = rows_of(clone / "predictions.csv")
    assert len(predictions) == len(rows_of(clone / "sample_data" / "churn.csv"))
    assert predictions[0][0] == "prediction"


def test_the_demo_runs_and_says_what_to_type_next(clone: Path) -> None:
    done = subprocess.run(
        ["scripts/demo.sh", sys.prefix],
        cwd=clone,
        env={"PATH": "/usr/bin:/bin", "HOME": str(clone), "DEMO_TIME": LIMIT, "LANG": "C.UTF-8"},
        capture_output=True,
        text=True,
        check=False,
        timeout=110,
    )
    assert done.returncode == 0, done.stderr
    assert "The installation weighs" in done.stdout
    assert "automl fit your.csv" in done.stdout
    new, predictions = rows_of(clone / "build/demo/new.csv"), rows_of(clone / "build/demo/predictions.csv")
    assert len(predictions) == len(new)
    assert predictions[0][0] == "prediction"
