"""Labelled tables of a folder, their one split into training and test rows, and the one scorer of predictions."""

import hashlib
import json
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.metrics import log_loss, roc_auc_score, root_mean_squared_error
from sklearn.model_selection import train_test_split

from automl_cli.errors import BadData, UsageError

SEED = 20261122
TEST_SHARE = 0.25
METRICS = {"binary": "roc_auc", "multiclass": "log_loss", "regression": "rmse"}
LEAST_PROBABILITY = 1e-15
SUM_TOLERANCE = 1e-3  # written with few digits, probabilities do not add up to exactly one


class BadPredictions(BadData):
    """What a system wrote cannot be scored."""


@dataclass(frozen=True)
class Dataset:
    """A labelled CSV and what to do with it."""

    name: str
    source: Path
    target: str
    task: str

    @property
    def metric(self) -> str:
        """Return what is optimised: ``roc_auc``, ``log_loss`` or ``rmse``."""
        return METRICS[self.task]


def find_datasets(folder: Path, group: str = "dev") -> dict[str, Dataset]:
    """Return the datasets of a folder by their name, in the order of its index.

    Parameters
    ----------
    folder : Path
        Holds ``index.json``, which is ``{NAME: {"task": ..., "target": ...}}`` or groups of such by their name, and
        ``NAME.csv.gz`` or ``NAME.csv``, or a subfolder of the group's name with them.
    """
    path = folder / "index.json"
    if not path.is_file():
        raise UsageError(f"{folder} has no index.json", hint='write {"NAME": {"task": "binary", "target": "COLUMN"}}')
    index = json.loads(path.read_text(encoding="utf-8"))
    index = index.get(group, index)
    place = folder / group if (folder / group).is_dir() else folder
    return {name: _dataset(name, entry, place) for name, entry in index.items()}


def _dataset(name: str, entry: dict[str, str], place: Path) -> Dataset:
    if not isinstance(entry, dict) or entry.get("task") not in METRICS or "target" not in entry:
        raise UsageError(
            f"index.json says no task and target for {name!r}", hint=f"task is one of {', '.join(METRICS)}"
        )
    packed = place / f"{name}.csv.gz"
    return Dataset(name, packed if packed.exists() else place / f"{name}.csv", entry["target"], entry["task"])


def lay_out(dataset: Dataset, splits: Path) -> Path:
    """Write train.csv, test.csv and features.csv, which is test.csv without the target; return their folder.

    One fixed split: 75 % of the rows for training, shuffled, stratified by the target unless it is a regression; rows
    without a target are left out before. The folder is named after the data's digest: a table that has changed since
    gets a new one.
    """
    if not dataset.source.is_file():
        raise UsageError(f"{dataset.source} does not exist", hint="index.json names it")
    digest = hashlib.sha256(dataset.source.read_bytes() + dataset.target.encode()).hexdigest()[:10]
    folder = splits / f"{dataset.name}-{digest}"
    if folder.exists():
        return folder
    df = pd.read_csv(dataset.source, low_memory=False).dropna(subset=[dataset.target])
    stratify = None if dataset.task == "regression" else df[dataset.target]
    train, test = train_test_split(df, test_size=TEST_SHARE, random_state=SEED, stratify=stratify)
    splits.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(dir=splits))
    train.to_csv(scratch / "train.csv", index=False)
    test.to_csv(scratch / "test.csv", index=False)
    test.drop(columns=dataset.target).to_csv(scratch / "features.csv", index=False)
    try:
        scratch.rename(folder)
    except OSError:  # another run was quicker, with the same content
        shutil.rmtree(scratch)
    return folder


def truth_of(dataset: Dataset, path: Path) -> "pd.Series[str]":
    """Read the target as the text it is written as: `none`, `1.0` and `TRUE` are labels like any other."""
    return pd.read_csv(path, dtype=str, keep_default_na=False, usecols=[dataset.target])[dataset.target]


def error_of(dataset: Dataset, predictions: Path, test: Path) -> float:
    """Return 1 - ROC AUC (binary), log loss (multiclass) or root mean squared error (regression).

    Parameters
    ----------
    predictions : Path
        A CSV with one line per test row in their order: ``prediction`` for a regression, otherwise one column
        ``proba_<label>`` per class, the label as train.csv writes it. Other columns do not matter. A class that has no
        column was predicted with probability 0, of which log loss makes 1e-15.

    Raises
    ------
    BadPredictions
        Rows or columns are missing, values are not finite, or probabilities do not add up to 1.
    """
    truth = truth_of(dataset, test)
    answer = _read_answer(predictions, regression=dataset.task == "regression")
    if len(answer) != len(truth):
        raise BadPredictions(f"{len(answer)} predictions for {len(truth)} rows")
    if not np.isfinite(answer.to_numpy()).all():
        raise BadPredictions("predictions are missing or not finite")
    if dataset.task == "regression":
        return float(root_mean_squared_error(truth.astype(float), answer["prediction"]))
    return _class_error(dataset.task, truth.to_numpy(dtype=str), answer)


def _read_answer(predictions: Path, *, regression: bool) -> pd.DataFrame:
    try:
        answer = pd.read_csv(predictions)
    except (OSError, ValueError) as error:
        raise BadPredictions(f"predictions cannot be read: {error}") from error
    wanted = [c for c in answer.columns if (c == "prediction" if regression else c.startswith("proba_"))]
    if not wanted:
        raise BadPredictions(f"no column {'prediction' if regression else 'proba_<label>'} among {list(answer)}")
    answer = answer[wanted].rename(columns=lambda c: c.removeprefix("proba_"))
    try:
        return answer.astype(float)
    except ValueError as error:
        raise BadPredictions(f"predictions are not numbers: {error}") from error


def _class_error(task: str, truth: np.ndarray, answer: pd.DataFrame) -> float:
    sums = answer.sum(axis=1)
    if (abs(sums - 1) > SUM_TOLERANCE).any():
        raise BadPredictions(f"probabilities add up to {sums.min():g} to {sums.max():g}")
    labels = sorted({*truth, *answer.columns})
    shares = answer.div(sums, axis=0).reindex(columns=labels, fill_value=0.0).to_numpy()
    if task == "binary":
        return 1 - float(roc_auc_score(truth == labels[-1], shares[:, -1]))
    shares = shares.clip(LEAST_PROBABILITY, 1)
    return float(log_loss(truth, shares / shares.sum(axis=1, keepdims=True), labels=labels))


def guess_error(dataset: Dataset, folder: Path) -> float:
    """Return the error of a guess that ignores all columns: the classes' shares, or the mean, of the training rows."""
    train, test = (truth_of(dataset, folder / f"{part}.csv") for part in ("train", "test"))
    if dataset.task == "regression":
        mean = train.astype(float).mean()
        return float(root_mean_squared_error(test.astype(float), np.full(len(test), mean)))
    shares = train.value_counts(normalize=True)
    answer = pd.DataFrame({label: np.full(len(test), share) for label, share in shares.items()})
    return _class_error(dataset.task, test.to_numpy(dtype=str), answer)
