"""A short run of `benchmarks.fuzz`: nothing but one line and an exit code comes of hostile files."""

import subprocess
import sys
from pathlib import Path

MODELS = Path(__file__).parent / "data" / "models"


def test_hostile_files_end_in_an_exit_code(repository: Path, tmp_path: Path) -> None:
    counts = ["--models", "20", "--tables", "20", "--commands", "0", "--fits", "2"]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.fuzz", "--corpus", MODELS, "--keep", tmp_path / "found", *counts],
        cwd=repository, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "digests right inspect" in done.stdout
    assert "table: profile" in done.stdout
    assert "training table: fit" in done.stdout
