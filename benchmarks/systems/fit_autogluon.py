"""AutoGluon's TabularPredictor with the preset that the job's options name."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from autogluon.tabular import TabularPredictor

if TYPE_CHECKING:
    from benchmarks.systems.one_run import Job, Predict, carry_out
else:  # started as a script, which finds it beside itself
    from one_run import Job, Predict, carry_out


def fit(job: Job, X: pd.DataFrame, y: "pd.Series[Any]") -> Predict:
    metric = "root_mean_squared_error" if job.metric == "rmse" else job.metric
    predictor = TabularPredictor(
        label=job.target,
        problem_type=job.task,
        eval_metric=metric,
        path=str(Path(job.out) / "model"),
        learner_kwargs={"random_state": job.seed},
    )
    (preset,) = job.options
    predictor.fit(X.assign(**{job.target: y}), presets=preset, time_limit=job.limit_s, num_cpus=job.cores)

    def predict(rows: pd.DataFrame) -> pd.DataFrame:
        if job.task == "regression":
            return pd.DataFrame({"prediction": predictor.predict(rows).to_numpy()})
        probabilities: pd.DataFrame = predictor.predict_proba(rows, as_multiclass=True).reset_index(drop=True)
        return probabilities

    return predict


if __name__ == "__main__":
    carry_out(fit, ("autogluon.tabular", "torch", "lightgbm", "scikit-learn", "pandas"))
