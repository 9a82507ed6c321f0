"""The program where the extra ``neural`` is not installed: everything else works, and it says how to get it."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def torchless(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Run the command in interpreters, workers included, to which torch is not installed."""
    folder = tmp_path_factory.mktemp("torchless")
    # Python's own way to say that there is no such package
    (folder / "sitecustomize.py").write_text('import sys\nsys.modules.update({"torch": None, "safetensors": None})\n')
    rows = "\n".join(f"{i % 7},{'ab'[i % 2]},{'yes' if (i % 7 + i % 2) > 4 else 'no'}" for i in range(120))
    (folder / "data.csv").write_text(f"x,c,y\n{rows}\n")

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        path = os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])
        return subprocess.run(
            [sys.executable, "-m", "automl_cli", *map(str, arguments)],
            check=False,
            capture_output=True,
            text=True,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            timeout=90,
            env={**os.environ, "PYTHONPATH": path},
        )

    return run


def test_help_and_fit_work(torchless: Run) -> None:
    assert torchless("--help").returncode == 0
    done = torchless("fit", "data.csv", "--target", "y", "--trials", 2, "--folds", 2, "--out", "plain.automl")
    assert done.returncode == 0, done.stderr
    again = torchless("predict", "plain.automl", "data.csv")
    assert again.returncode == 0, again.stderr
    assert "torch" not in done.stderr + again.stderr


def test_the_family_says_how_to_get_it(torchless: Run) -> None:
    done = torchless("fit", "data.csv", "--target", "y", "--trials", 1, "--include", "neural")
    assert done.returncode == 2
    assert "family 'neural' is not installed" in done.stderr
    assert "pip install 'automl-cli[neural]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_model_with_a_network_says_what_it_needs(torchless: Run, tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="extra: neural")
    folder = tmp_path / "with"
    folder.mkdir()
    data = folder / "data.csv"
    data.write_text("x,y\n" + "\n".join(f"{i % 7}.5,{i % 7 + i % 3}.5" for i in range(120)) + "\n")
    quick = ["--trials", "1", "--folds", "2", "--include", "neural"]
    line = ["fit", data, "-t", "y", *quick, "--out", folder / "net.automl"]
    fitted = subprocess.run(
        [sys.executable, "-m", "automl_cli", *map(str, line)], check=False, capture_output=True, text=True, timeout=90
    )
    assert fitted.returncode == 0, fitted.stderr
    done = torchless("predict", folder / "net.automl", data)
    assert done.returncode == 2
    assert "pip install 'automl-cli[neural]'" in done.stderr
