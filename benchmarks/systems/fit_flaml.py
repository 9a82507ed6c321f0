"""FLAML with its defaults."""

import pickle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from flaml import AutoML

if TYPE_CHECKING:
    from benchmarks.systems.one_run import Job, Predict, carry_out
else:  # started as a script, which finds it beside itself
    from one_run import Job, Predict, carry_out


def fit(job: Job, X: pd.DataFrame, y: "pd.Series[Any]") -> Predict:
    task = "regression" if job.task == "regression" else "classification"
    model = AutoML()
    model.fit(
        X, y, task=task, metric=job.metric, time_budget=job.limit_s, n_jobs=job.cores, seed=job.seed, verbose=1
    )  # fmt: skip
    (Path(job.out) / "model.pickle").write_bytes(pickle.dumps(model))

    def predict(rows: pd.DataFrame) -> pd.DataFrame:
        if task == "regression":
            return pd.DataFrame({"prediction": model.predict(rows)})
        return pd.DataFrame(model.predict_proba(rows), columns=list(model.classes_))

    return predict


if __name__ == "__main__":
    carry_out(fit, ("flaml", "lightgbm", "xgboost", "scikit-learn", "pandas"))
