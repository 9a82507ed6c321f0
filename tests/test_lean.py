"""Boosting libraries without pandas and scikit-learn, which only their wrappers need."""

import importlib
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from automl_cli.lean import import_lean

BOOSTED = """
import sys
import numpy as np
from automl_cli.lean import import_lean
lightgbm, xgboost = import_lean("lightgbm"), import_lean("xgboost")
print([name for name in ("pandas", "sklearn") if name in sys.modules])
X = np.arange(80.0).reshape(40, 2)
y = (X[:, 0] > 30).astype(float)
booster = lightgbm.train({"verbose": -1, "min_data_in_leaf": 1}, lightgbm.Dataset(X, y), 2)
print(len(booster.predict(X)), len(xgboost.train({}, xgboost.DMatrix(X, y), 2).predict(xgboost.DMatrix(X))))
import pandas
print(pandas.DataFrame({"a": [1]}).shape, import_lean("lightgbm") is lightgbm)
"""

GROWN = """
import sys
import numpy as np
from automl_cli.lean import import_lean
X = np.arange(80.0).reshape(40, 2)
y = (X[:, 0] > 30).astype(int)
print(import_lean("sklearn.ensemble").ExtraTreesClassifier(5).fit(X, y).score(X, y))
from automl_cli.optimizer import load_smac
print(load_smac().RandomForest.__name__, "pandas" in sys.modules)
import pandas
from sklearn.linear_model import Ridge
print(Ridge().fit(pandas.DataFrame(X), y).predict(pandas.DataFrame(X)).shape)
"""


def test_they_learn_without_them_and_leave_them_importable() -> None:
    answer = subprocess.run([sys.executable, "-c", BOOSTED], capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.splitlines() == ["[]", "40 40", "(1, 1) True"]


def test_forests_and_the_surrogate_do_without_pandas_and_take_its_objects_later() -> None:
    answer = subprocess.run([sys.executable, "-c", GROWN], capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.splitlines() == ["1.0", "RandomForest False", "(40,)"]


def test_a_library_that_is_not_there_is_reported_and_hides_nothing() -> None:
    before = {name for name in sys.modules if sys.modules[name] is None}
    with pytest.raises(ModuleNotFoundError, match="no_such_library"):
        import_lean("no_such_library")
    assert {name for name in sys.modules if sys.modules[name] is None} == before


def test_a_thread_waits_for_a_library_that_another_is_loading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As two trials in one worker of a cluster."""
    (tmp_path / "slowly_loaded.py").write_text("import time\ntime.sleep(0.5)\nready = True\n")
    monkeypatch.syspath_prepend(tmp_path)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(importlib.import_module, "slowly_loaded")
        while "slowly_loaded" not in sys.modules:
            time.sleep(0.01)
        assert import_lean("slowly_loaded").ready
        assert first.result().ready
