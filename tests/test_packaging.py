"""What a user gets from ``pip install``: the whole package, its command, its extras and its licence."""

import csv
import fnmatch
import importlib.metadata
import io
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = SETTINGS["project"]
EXTRAS = PROJECT["optional-dependencies"]
PACKAGE = ROOT / "automl_cli"


def distribution(requirement: str) -> str:
    found = re.match(r"[\w.-]+", requirement)
    assert found
    return found[0].lower()


def lower_bound(requirement: str) -> str | None:
    found = re.fullmatch(r"[\w.-]+(?:\[[\w,]+\])?>=([\d.]+)(?:,!=[\d.]+)*", requirement)  # broken releases aside
    return found[1] if found else None


def test_every_folder_with_code_is_a_package() -> None:
    folders = {path.parent for path in PACKAGE.rglob("*.py")}
    assert [f.relative_to(ROOT).as_posix() for f in folders if not (f / "__init__.py").exists()] == []


def test_every_data_file_is_shipped() -> None:
    shipped = SETTINGS["tool"]["setuptools"]["package-data"]["automl_cli"]
    data = [
        p.relative_to(PACKAGE).as_posix() for p in PACKAGE.rglob("*") if p.is_file() and p.suffix not in {".py", ".pyc"}
    ]
    assert [name for name in data if not any(fnmatch.fnmatch(name, pattern) for pattern in shipped)] == []
    assert "py.typed" in data


@pytest.mark.parametrize("requirement", [r for group in (PROJECT["dependencies"], *EXTRAS.values()) for r in group])
def test_requirements_have_a_lower_bound_and_no_upper_pin(requirement: str) -> None:
    assert requirement.startswith("automl-cli[") or lower_bound(requirement)


@pytest.mark.parametrize("requirement", PROJECT["dependencies"])
def test_what_is_installed_meets_the_lower_bounds(requirement: str) -> None:
    def parts(version: str) -> list[int]:
        return [int(part) for part in re.findall(r"\d+", version)[:3]]

    installed = importlib.metadata.version(distribution(requirement))
    assert parts(installed) >= parts(lower_bound(requirement) or "0")


def test_the_gpu_build_of_xgboost_can_be_swapped() -> None:
    # xgboost-cpu is another distribution with the same module: nothing may ask for its metadata by name
    asks = [path.name for path in PACKAGE.rglob("*.py") if re.search(r"version\([\"']xgboost[\"']\)", path.read_text())]
    assert not asks


def test_extras_are_the_promised_ones_and_all_holds_the_rest() -> None:
    assert {"catboost", "neural", "postgres", "report", "dev", "all"} <= set(EXTRAS)
    (everything,) = EXTRAS["all"]
    named = set(everything.partition("[")[2].rstrip("]").split(","))
    assert named == set(EXTRAS) - {"all", "dev"}


def test_the_core_does_not_depend_on_an_extra() -> None:
    core = {distribution(r) for r in PROJECT["dependencies"]}
    assert not core & {distribution(r) for name, extra in EXTRAS.items() if name != "all" for r in extra}


def test_the_licence_is_named_and_shipped() -> None:
    assert PROJECT["license"] == "Apache-2.0"
    assert all((ROOT / name).exists() for name in PROJECT["license-files"])
    assert "Apache License" in (ROOT / "LICENSE").read_text(encoding="utf-8")


def test_the_version_is_in_the_changelog() -> None:
    headings = re.findall(r"^## \[([^\]]+)\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert headings[0] == "Unreleased" or headings[0] == PROJECT["version"]
    assert importlib.metadata.version("automl-cli") == PROJECT["version"]


def test_the_command_is_installed() -> None:
    command = shutil.which("automl", path=str(Path(sys.executable).parent))
    assert command
    done = subprocess.run([command, "--help"], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "fit" in done.stdout


@pytest.mark.parametrize("script", ["prerequisites.sh", "demo.sh"])
def test_scripts_can_be_executed(script: str) -> None:
    assert (ROOT / "scripts" / script).stat().st_mode & 0o111


def fake_python(folder: Path, *, refuses: str) -> Path:
    """Write a python that fails whenever its ``-c`` code mentions ``refuses``."""
    path = folder / "python3"
    path.write_text(f'#!/bin/sh\ncase "$2" in *"{refuses}"*) exit 1 ;; esac\n')
    path.chmod(0o755)
    return path


@pytest.mark.parametrize(
    ("refuses", "way_out"),
    [
        ("version_info", "older than Python 3.11"),
        ("ensurepip", "apt install python3-venv"),
        ("libgomp", "apt install libgomp1"),
    ],
)
def test_each_missing_prerequisite_gives_one_clear_line(tmp_path: Path, refuses: str, way_out: str) -> None:
    python = fake_python(tmp_path, refuses=refuses)
    done = subprocess.run([ROOT / "scripts" / "prerequisites.sh", python], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert way_out in line


def test_a_missing_python_gives_one_clear_line() -> None:
    done = subprocess.run(
        [ROOT / "scripts" / "prerequisites.sh", "python-that-is-not-there"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "python-that-is-not-there is not installed" in line


def test_the_prerequisites_are_met_here() -> None:
    done = subprocess.run(
        [ROOT / "scripts" / "prerequisites.sh", sys.executable], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_held_out_rows_and_training_rows_make_the_whole_table(tmp_path: Path) -> None:
    source = tmp_path / "all.csv"
    rows = [f'{i},"a ""quoted"", cell\nin two lines"' for i in range(40)]
    source.write_text("\n".join(["id,text", *rows]) + "\n", encoding="utf-8")
    train, test = tmp_path / "train.csv", tmp_path / "test.csv"
    script = ROOT / "scripts" / "hold_out.py"
    subprocess.run([sys.executable, script, source, train, test], check=True, timeout=60)

    parts = [list(csv.reader(io.StringIO(path.read_text(encoding="utf-8"), newline=""))) for path in (train, test)]
    assert [part[0] for part in parts] == [["id", "text"]] * 2
    assert [len(part) - 1 for part in parts] == [30, 10]
    assert sorted(int(row[0]) for part in parts for row in part[1:]) == list(range(40))
