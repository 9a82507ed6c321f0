"""Model files that earlier versions wrote: they open, say what they are, and predict what they predicted then.

``tests/data/models/NAME.automl`` was written by the first version with its format, ``NAME.csv`` holds labelled rows and
``NAME.predictions.csv`` what that version answered for them. These files are never written anew; a format that is new
gets files of its own.
"""

import json
from pathlib import Path

import numpy as np
import pytest

from automl_cli.artifact.manifest import FORMAT

MODELS = Path(__file__).parent / "data" / "models"
NAMES = sorted(path.stem for path in MODELS.glob("*.automl"))
MOST_BYTES = 60_000


def cells(text):
    """Return header and rows."""
    header, *rows = [line.split(",") for line in text.splitlines()]
    return header, rows


def test_every_format_has_a_file():
    formats = {int(name.split("-")[1]) for name in NAMES}
    assert formats == set(range(1, FORMAT + 1))
    assert all((MODELS / f"{name}.automl").stat().st_size <= MOST_BYTES for name in NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_it_predicts_what_it_predicted_then(command, tmp_path, name):
    regression = name.endswith("regression")
    options = () if regression else ("--proba",)
    done = command("predict", MODELS / f"{name}.automl", MODELS / f"{name}.csv", *options, "-q", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (then, before), (now, after) = map(cells, ((MODELS / f"{name}.predictions.csv").read_text(), done.stdout))
    assert now == then
    first_number = 0 if regression else 1
    assert [row[:first_number] for row in after] == [row[:first_number] for row in before]
    numbers = [np.array([row[first_number:] for row in rows], dtype=float) for rows in (after, before)]
    np.testing.assert_allclose(*numbers, rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_it_says_what_it_is(command, tmp_path, name):
    shown = command("inspect", MODELS / f"{name}.automl", cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert "predicts" in shown.stdout
    manifest = json.loads(command("inspect", MODELS / f"{name}.automl", "--json", cwd=tmp_path).stdout)
    assert manifest["format"] == int(name.split("-")[1])
    assert {member["family"] for member in manifest["members"]} > {"linear"}


@pytest.mark.parametrize("name", NAMES)
def test_it_is_scored(command, tmp_path, name):
    done = command("evaluate", MODELS / f"{name}.automl", MODELS / f"{name}.csv", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    scores = json.loads(done.stdout)
    better = scores["scores"][scores["metric"]] < scores["naive"]
    assert better == (scores["metric"] == "rmse"), "it beats a guess"
