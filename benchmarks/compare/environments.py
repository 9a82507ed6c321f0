"""Each foreign system lives in a virtual environment of its own, made when it is first asked for."""

import json
import logging
import shutil
import subprocess
import sys
from pathlib import Path

from automl_cli.errors import AutomlError
from automl_cli.files import locked
from benchmarks.compare.systems import REQUIREMENTS

logger = logging.getLogger(__name__)

MARK = "installed.json"  # written last: a folder without it is an installation that did not end


def python_of(name: str | None, venvs: Path) -> Path:
    """Return the interpreter of an environment."""
    return Path(sys.executable) if name is None else venvs.absolute() / name / "bin" / "python"


def make_environment(name: str, venvs: Path) -> None:
    """Install what an environment needs, unless it is there already.

    Raises
    ------
    AutomlError
        pip failed.
    """
    folder = venvs / name
    wanted = [list(step) for step in REQUIREMENTS[name]]
    venvs.mkdir(parents=True, exist_ok=True)
    with locked(venvs / f"{name}.lock", str(folder), wait_seconds=3600):
        if _installed(folder) == wanted:
            return
        logger.info("installing %s into %s", ", ".join(word for step in wanted for word in step), folder)
        shutil.rmtree(folder, ignore_errors=True)
        _call([sys.executable, "-m", "venv", str(folder)], name)
        for step in wanted:
            pip = [str(python_of(name, venvs)), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
            _call([*pip, *step], name)
        (folder / MARK).write_text(json.dumps(wanted), encoding="utf-8")


def _installed(folder: Path) -> list[list[str]] | None:
    try:
        installed: list[list[str]] = json.loads((folder / MARK).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return installed


def _call(command: list[str], name: str) -> None:
    done = subprocess.run(command, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise AutomlError(f"the environment {name!r} could not be made: {reason}", hint=" ".join(command))
