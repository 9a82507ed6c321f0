"""Write pymfe.json: what pymfe says of tables that tests measure. Needs `pip install pymfe`, which the tests do not."""

import json
from importlib.metadata import version
from pathlib import Path

import pandas as pd
from pymfe.mfe import MFE

HERE = Path(__file__).parent
SAMPLES = HERE.parent.parent / "sample_data"
NUMERIC = {SAMPLES / "wine.csv": "cultivar", SAMPLES / "breast_cancer.csv": "diagnosis"}
CATEGORICAL = {HERE / "categories.csv": "y"}
COUNTS = ["nr_inst", "nr_attr", "nr_class", "class_ent", "freq_class"]
OF_NUMBERS = ["skewness", "kurtosis", "cor", "nr_outliers", "eigenvalues"]
OF_CATEGORIES = ["attr_ent", "mut_inf"]


def values(path: Path, target: str, features: list[str]) -> dict[str, list[float]]:
    """Return the value of each feature, one for each column, class or pair where there are several."""
    table = pd.read_csv(path)
    y, X = table.pop(target).to_numpy(), table
    if "eigenvalues" in features:  # of the correlations
        X = (X - X.mean()) / X.std()
    numeric = all(pd.api.types.is_numeric_dtype(X[name]) for name in X)
    mfe = MFE(groups="all", features=features, summary=None)
    mfe.fit(X.to_numpy(), y, cat_cols=None if numeric else list(range(X.shape[1])), transform_num=False,
            transform_cat=None)  # fmt: skip
    names, found = mfe.extract(skewness={"method": 1}, kurtosis={"method": 1})
    return {name: [round(float(v), 10) for v in (value if hasattr(value, "__len__") else [value])]
            for name, value in zip(names, found, strict=True)}  # fmt: skip


if __name__ == "__main__":
    tables = {path.name: values(path, target, COUNTS + OF_NUMBERS) for path, target in NUMERIC.items()}
    tables |= {path.name: values(path, target, COUNTS + OF_CATEGORIES) for path, target in CATEGORICAL.items()}
    content = {"pymfe": version("pymfe"), "tables": tables}
    (HERE / "pymfe.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
