"""automl of the checkout on PYTHONPATH: its two commands, as a user runs them."""

import json
import os
import subprocess
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks.systems.one_run import read_job, write_report
else:  # started as a script, which finds it beside itself
    from one_run import read_job, write_report

AUTOML = [sys.executable, "-m", "automl_cli"]
TOLD = ("n_trials", "n_failed", "score", "phases", "milestones", "failures", "overhead", "peak_memory_bytes")


def versions() -> dict[str, str]:
    """Return the versions of what the models are fitted with, where it is installed."""
    found = {}
    for name in ("lightgbm", "xgboost", "catboost", "scikit-learn", "smac", "torch"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def main() -> None:
    job = read_job()
    fit = [
        *AUTOML, "fit", job.train, "--target", job.target, "--task", job.task, "--metric", job.metric,
        "--time", f"{job.limit_s:g}s", "--seed", str(job.seed), "--out", "model.automl", "--json", *job.options,
    ]  # fmt: skip
    # what comes with the program counts, what earlier runs on these very tables have left does not
    os.environ.setdefault("AUTOML_EXPERIENCE", str(Path(job.out) / "experience.sqlite"))
    begin = time.monotonic()
    fitted = subprocess.run(fit, cwd=job.out, stdout=subprocess.PIPE, text=True, check=False)
    saved = time.monotonic()
    if fitted.returncode:
        raise SystemExit(fitted.returncode)
    predict = [*AUTOML, "predict", "model.automl", job.features, "-o", "predictions.csv"]
    predict += [] if job.task == "regression" else ["--proba"]
    predicted = subprocess.run(predict, cwd=job.out, check=False)
    if predicted.returncode:
        raise SystemExit(predicted.returncode)
    summary = json.loads(fitted.stdout)
    details = {key: summary.get(key) for key in TOLD}
    details |= {"versions": versions(), "model_bytes": (Path(job.out) / "model.automl").stat().st_size}
    predict_s = time.monotonic() - saved
    write_report(job, fit_s=saved - begin, model_s=saved - job.begun, predict_s=predict_s, details=details)


if __name__ == "__main__":
    main()
