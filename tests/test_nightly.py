"""The script of docs/nightly.md, run as cron would: a good night, a failing one, and a recovery."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np

PAGE = Path(__file__).parents[1] / "docs" / "nightly.md"


def block(language: str) -> str:
    found = re.search(rf"^```{language}\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert found
    return found[1]


def write(path: Path, n: int, *, slope: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=n)
    churned = slope * x + 0.5 * rng.normal(size=n) > 0
    rows = "".join(f"{a:.6f},{'yes' if y else 'no'}\n" for a, y in zip(x, churned, strict=True))
    path.write_text("x,churned\n" + rows)


def test_the_script_of_the_page(tmp_path: Path) -> None:
    script = tmp_path / "nightly.sh"
    script.write_text(block("sh"))
    script.chmod(0o755)
    quick = block("toml").replace('time = "10m"', "trials = 1\nfolds = 2\ninclude = ['linear']")
    (tmp_path / "automl.toml").write_text(quick)
    (tmp_path / "customers.csv").write_text("x\n-1\n0.5\n2\n")

    def night() -> subprocess.CompletedProcess[str]:
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        environment = {**os.environ, "PATH": path}
        return subprocess.run([script], check=False, capture_output=True, text=True, timeout=120, env=environment)

    predictions = tmp_path / "predictions.csv"
    write(tmp_path / "today.csv", 300, slope=-1.0, seed=0)
    first = night()
    assert first.returncode == 0, first.stderr
    assert "a new model is in use" in first.stdout
    assert predictions.read_text().count("\n") == 4

    predictions.unlink()
    old = (tmp_path / "churn.automl").read_bytes()
    (tmp_path / "today.csv").write_text("x,chur")  # the export was cut short
    failed = night()
    assert failed.returncode == 3
    assert "no new model tonight (exit code 3)" in failed.stdout
    assert predictions.read_text().count("\n") == 4  # with the model of before
    assert (tmp_path / "churn.automl").read_bytes() == old

    again = night()
    assert again.returncode == 3

    write(tmp_path / "today.csv", 500, slope=1.0, seed=1)  # the world has changed
    recovered = night()
    assert recovered.returncode == 0, recovered.stderr
    assert "a new model is in use" in recovered.stdout
    assert (tmp_path / "churn.automl.1").read_bytes() == old

    kept = night()  # the same rows once more
    assert kept.returncode == 0, kept.stderr
    assert "yesterday's model is still the better one" in kept.stdout
