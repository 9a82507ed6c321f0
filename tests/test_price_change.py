"""The script of docs/price-change.md: a first night, a quiet one, and the night on which prices rise."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np

PAGE = Path(__file__).parents[1] / "docs" / "price-change.md"


def block(language: str) -> str:
    found = re.search(rf"^```{language}\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert found
    return found[1]


def sales(path: Path, n: int, *, factor: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    size, age = rng.uniform(30, 150, n).round(1), rng.integers(0, 60, n)
    price = factor * (50 + 3 * size - 0.8 * age + 20 * np.sin(size / 10)) + rng.normal(0, 6, n)
    rows = "".join(f"{a},{b},{c:.2f}\n" for a, b, c in zip(size, age, price, strict=True))
    path.write_text("size,age,price\n" + rows)


def test_the_script_of_the_page(tmp_path: Path) -> None:
    script = tmp_path / "nightly.sh"
    script.write_text(block("sh"))
    script.chmod(0o755)
    quick = block("toml").replace('time = "5m"', 'trials = 5\nfolds = 2\ninclude = ["lightgbm", "linear"]')
    (tmp_path / "automl.toml").write_text(quick)

    def night(n: int, factor: float, seed: int) -> str:
        sales(tmp_path / "today.csv", n, factor=factor, seed=seed)
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        environment = {**os.environ, "PATH": path}
        answer = subprocess.run([script], check=False, capture_output=True, text=True, timeout=180, env=environment)
        assert answer.returncode == 0, answer.stderr
        return answer.stdout + answer.stderr

    def error() -> float:
        sales(tmp_path / "after.csv", 400, factor=1.5, seed=99)
        command = [Path(sys.executable).with_name("automl"), "evaluate", "price.automl", "after.csv", "--json"]
        answer = subprocess.run(command, check=True, capture_output=True, text=True, cwd=tmp_path, timeout=60)
        return float(json.loads(answer.stdout)["scores"]["rmse"])

    night(500, 1.0, 1)
    old = (tmp_path / "price.automl").read_bytes()
    assert "at home in today's rows" in night(300, 1.0, 2)
    assert (tmp_path / "price.automl").read_bytes() == old
    wrong = error()

    changed = night(300, 1.5, 3)
    assert "something has changed" in changed
    assert "an adapted model is in use" in changed
    assert "the source gains" in changed
    assert error() < 0.3 * wrong
    assert (tmp_path / "price.automl.1").read_bytes() == old
    assert (tmp_path / "history.csv").read_text().count("\n") == 1 + 500 + 300 + 300
