"""What every test stands on: no settings of the machine, and the real command as a fixture."""

import contextlib
import io
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

REPOSITORY = Path(__file__).parents[1]
collect_ignore = ["data/pymfe_values.py"]  # a script that needs a package which the tests do without

# a shared machine may stall for seconds, and a property that fails must fail again
settings.register_profile("automl", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("automl")


@pytest.fixture(scope="session", autouse=True)
def _bare_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the user's settings and past runs away from the tests, and the tests away from them."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AUTOML_")]:
            patch.delenv(name)
        patch.setenv("AUTOML_EXPERIENCE", "off")  # one test's runs are nothing to the next
        for name in ("XDG_DATA_HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_STATE_HOME"):
            patch.setenv(name, str(home / name.lower()))
        for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "GITHUB_ACTIONS"):
            patch.delenv(name, raising=False)
        patch.setenv("NO_COLOR", "1")
        patch.setenv("COLUMNS", "120")
        yield


@pytest.fixture(scope="session")
def repository() -> Path:
    """Return the folder that holds pyproject.toml."""
    return REPOSITORY


@pytest.fixture(scope="session")
def automl() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the real command: ``automl("fit", path, cwd=folder)`` gives its exit code and both streams."""

    def run(
        *arguments: object,
        cwd: Path | None = None,
        stdin: str | None = None,
        seconds: float = 90,
        encoding: str | None = None,
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [Path(sys.executable).with_name("automl"), *map(str, arguments)],
            check=False,
            capture_output=True,
            text=True,
            encoding=encoding,
            cwd=cwd,
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            timeout=seconds,
        )

    return run


@pytest.fixture(scope="session")
def command() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a command line in this process, which saves what starting one costs; otherwise the same as ``automl``."""

    def run(*arguments: object, cwd: Path, stdin: bytes = b"") -> subprocess.CompletedProcess[str]:
        from automl_cli.cli import run as run_command

        out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True)
        said = io.StringIO()
        line = [str(argument) for argument in arguments]
        with (
            contextlib.chdir(cwd),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(said),
            pytest.MonkeyPatch.context() as patch,
        ):
            patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin), encoding="utf-8"))
            code = run_command(line)
        return subprocess.CompletedProcess(line, code, out.buffer.getvalue().decode(), said.getvalue())

    return run
