"""What a user would write in five minutes: LightGBM, codes for the strings, early stopping on a tenth. The floor.

It has no time limit: up to 2,000 rounds at a rate of 0.05, stopped after 50 without a gain.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightgbm as lgb
import pandas as pd
from sklearn.model_selection import train_test_split

if TYPE_CHECKING:
    from benchmarks.systems.one_run import Job, Predict, carry_out
else:  # started as a script, which finds it beside itself
    from one_run import Job, Predict, carry_out


def as_codes(X: pd.DataFrame, categories: dict[str, list[str]]) -> pd.DataFrame:
    """Make each text column a category with the values of the training rows; name columns as LightGBM accepts it."""
    X = X.copy()
    for column, values in categories.items():
        X[column] = pd.Categorical(X[column].map(str), categories=values)
    return X.set_axis([f"f{i}" for i in range(X.shape[1])], axis=1)


def fit(job: Job, X: pd.DataFrame, y: "pd.Series[Any]") -> Predict:
    text = [c for c in X.columns if not pd.api.types.is_numeric_dtype(X[c])]
    categories = {c: sorted(X[c].map(str).unique()) for c in text}
    regression = job.task == "regression"
    fit_X, stop_X, fit_y, stop_y = train_test_split(
        as_codes(X, categories), y, test_size=0.1, random_state=job.seed, stratify=None if regression else y
    )
    kind = lgb.LGBMRegressor if regression else lgb.LGBMClassifier
    model = kind(n_estimators=2000, learning_rate=0.05, n_jobs=job.cores, verbose=-1)
    model.fit(fit_X, fit_y, eval_set=[(stop_X, stop_y)], callbacks=[lgb.early_stopping(50, verbose=False)])
    model.booster_.save_model(Path(job.out) / "model.txt")

    def predict(rows: pd.DataFrame) -> pd.DataFrame:
        coded = as_codes(rows, categories)
        if regression:
            return pd.DataFrame({"prediction": model.predict(coded)})
        return pd.DataFrame(model.predict_proba(coded), columns=list(model.classes_))

    return predict


if __name__ == "__main__":
    carry_out(fit, ("lightgbm", "scikit-learn", "pandas"))
