"""A short run of `benchmarks.fuzz`: nothing but one line and an exit code comes of hostile files."""

import subprocess
import sys
from pathlib import Path

import pytest

MODELS = Path(__file__).parent / "data" / "models"


@pytest.mark.parametrize("kind", ["models", "tables"])
def test_hostile_files_end_in_an_exit_code(repository: Path, tmp_path: Path, kind: str) -> None:
    numbers = {"models": 0, "tables": 0, "commands": 0, kind: 100}
    counts = [word for name, n in numbers.items() for word in (f"--{name}", str(n))]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.fuzz", "--corpus", MODELS, "--keep", tmp_path / "found", *counts],
        cwd=repository, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert f"{'models' if kind == 'models' else 'table'}" in done.stdout
