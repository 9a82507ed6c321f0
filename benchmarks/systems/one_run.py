"""What the script of a system begins and ends with: the job it is given and the answer it leaves.

Such a script is started as `python SCRIPT job.json`, in whatever environment its system lives, and writes into the
folder that the job names:

- predictions.csv: one line per row of the features; `prediction` for a regression, otherwise one column
  `proba_<label>` per class, the label as train.csv writes it;
- report.json: seconds and versions, see `write_report`.

Anything else than exit status 0 is a failure. This file needs nothing but Python; what is imported inside is pandas.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Job:
    """One fit, as a system is told about it.

    Attributes
    ----------
    train, features : str
        CSV files; the features are the test rows without their target.
    task : str
        ``binary``, ``multiclass`` or ``regression``.
    metric : str
        What to optimise: ``roc_auc``, ``log_loss`` or ``rmse``.
    cores : int
        How many to use; the process may run on so many.
    out : str
        Folder for the answer and everything else.
    options : list of str
        What else the system is told: a preset, options of a command.
    begun : float
        When the process was started, by ``time.monotonic()``, which all processes share.
    """

    train: str
    features: str
    target: str
    task: str
    metric: str
    limit_s: float
    seed: int
    cores: int
    out: str
    options: list[str]
    begun: float


Predict = Callable[["pd.DataFrame"], "pd.DataFrame"]


def write_job(job: Job, path: Path) -> None:
    """Write what `read_job` reads."""
    path.write_text(json.dumps(asdict(job)), encoding="utf-8")


def read_job() -> Job:
    """Return the job of this process, and keep it to its cores."""
    job = Job(**json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
    if hasattr(os, "sched_setaffinity"):
        allowed = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, allowed[: job.cores])
    return job


def read_train(job: Job) -> tuple["pd.DataFrame", "pd.Series[Any]"]:
    """Return the training rows and their target; labels are read as the text that is written."""
    import pandas as pd

    X = pd.read_csv(job.train, low_memory=False).drop(columns=job.target)
    text = pd.read_csv(job.train, dtype=str, keep_default_na=False, usecols=[job.target])[job.target]
    return X, text.astype(float) if job.task == "regression" else text


def write_report(job: Job, *, fit_s: float, model_s: float, predict_s: float, details: dict[str, Any]) -> None:
    """Write seconds and whatever else there is to tell.

    Parameters
    ----------
    fit_s : float
        Of the call that fits and saves; what a system's own time limit is about.
    model_s : float
        From the start of the process to a saved model: imports and reading count.
    """
    report = {"fit_s": fit_s, "model_s": model_s, "predict_s": predict_s, "details": details}
    (Path(job.out) / "report.json").write_text(json.dumps(report), encoding="utf-8")


def carry_out(fit: Callable[[Job, "pd.DataFrame", "pd.Series[Any]"], Predict], packages: Sequence[str]) -> None:
    """Do the job with a system that is called in this process.

    Parameters
    ----------
    fit : callable
        Fits, saves into the folder ``job.out``, and returns a function from features to a table with the columns
        ``prediction``, or one per class named by its label.
    packages : sequence of str
        Distributions whose versions are reported.
    """
    import pandas as pd

    job = read_job()
    X, y = read_train(job)
    begin = time.monotonic()
    predict = fit(job, X, y)
    fitted = time.monotonic()
    answer = predict(pd.read_csv(job.features, low_memory=False))
    predicted = time.monotonic()
    if job.task != "regression":
        answer = answer.rename(columns=lambda label: f"proba_{label}")
    answer.to_csv(Path(job.out) / "predictions.csv", index=False)
    versions = {name: version(name) for name in packages}
    write_report(
        job,
        fit_s=fitted - begin,
        model_s=fitted - job.begun,
        predict_s=predicted - fitted,
        details={"versions": versions},
    )
