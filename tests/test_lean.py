"""Boosting libraries without pandas and scikit-learn, which only their wrappers need."""

import importlib
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from automl_cli.lean import UNUSED, Unused, import_lean

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
from automl_cli.optimizer import load_smac
forests = import_lean("sklearn.ensemble._forest")
print((forests.ExtraTreesClassifier(5).fit(X, y).predict(X) == y).mean())
unused = ("pandas", "scipy.stats", "sklearn.ensemble._gb", "sklearn.neighbors._base", "sklearn.linear_model", "dask")
print([name for name in unused if name in sys.modules])
print(forests.RandomForestClassifier(20, oob_score=True, random_state=0).fit(X, y).oob_score_ > 0.8)
print(load_smac().RandomForest.__name__, [name for name in ("pandas", "dask", "smac.facade") if name in sys.modules])
import pandas
import sklearn.ensemble
from sklearn.linear_model import Ridge
import smac
from ConfigSpace import ConfigurationSpace
print(Ridge().fit(pandas.DataFrame(X), y).predict(pandas.DataFrame(X)).shape)
print(sklearn.ensemble._forest is forests, sklearn.ensemble.ExtraTreesClassifier is forests.ExtraTreesClassifier)
scenario = smac.Scenario(ConfigurationSpace({"a": (0.0, 1.0)}), n_trials=3, output_directory=sys.argv[1])
facade = smac.HyperparameterOptimizationFacade(scenario, lambda config, seed=0: config["a"], logging_level=50)
print(facade.optimize()["a"] <= 1)
"""


CATBOOST = """
import sys
import numpy as np
from automl_cli.lean import import_lean
catboost = import_lean("catboost")
X = np.arange(80.0).reshape(40, 2)
y = (X[:, 0] > 30).astype(int)
model = catboost.CatBoostClassifier(iterations=5, verbose=0, allow_writing_files=False).fit(X, y)
print(model.predict_proba(X).shape, "pandas" in sys.modules)
import pandas
print(catboost.Pool(pandas.DataFrame(X), pandas.Series(y)).shape == (40, 2))
print(model.predict_proba(pandas.DataFrame(X)).shape)
"""


def test_they_learn_without_them_and_leave_them_importable() -> None:
    answer = subprocess.run([sys.executable, "-c", BOOSTED], capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.splitlines() == ["[]", "40 40", "(1, 1) True"]


def test_forests_and_the_surrogate_do_without_pandas_and_take_its_objects_later(tmp_path: Path) -> None:
    run = [sys.executable, "-c", GROWN, str(tmp_path)]
    answer = subprocess.run(run, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.splitlines() == ["1.0", "[]", "True", "RandomForest []", "(40,)", "True True", "True"]


def test_catboost_does_without_pandas_and_takes_its_objects_later() -> None:
    pytest.importorskip("catboost")
    answer = subprocess.run([sys.executable, "-c", CATBOOST], capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.splitlines() == ["(40, 2) False", "True", "(40, 2)"]


@pytest.fixture
def thick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Return the name of a library that loads another one at its start, which one of its parts seldom uses."""
    library = tmp_path / "thick"
    library.mkdir()
    (library / "__init__.py").write_text("import other_library\nready = True\n")
    (library / "seldom.py").write_text(
        "from other_library import Kind, tool\n"
        "def use(): return tool(20)\n"
        "def is_kind(value): return isinstance(value, (int, Kind))\n"
    )
    (library / "often.py").write_text("from other_library import Kind\nclass Mine(Kind): pass\n")
    (tmp_path / "other_library.py").write_text("class Kind: size = 3\ndef tool(n): return n + 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "distributed", raising=False)  # in a cluster's worker nothing is put off
    for part in ("seldom", "often"):
        monkeypatch.setitem(UNUSED, f"thick.{part}", Unused(later=("other_library",), bare=("thick",)))  # type: ignore[arg-type]
    yield "thick"
    for name in [name for name in sys.modules if name.partition(".")[0] in ("thick", "other_library")]:
        del sys.modules[name]


def test_what_is_put_off_comes_with_its_first_use(thick: str) -> None:
    seldom = import_lean(f"{thick}.seldom")
    assert seldom.is_kind(1)
    assert not seldom.is_kind("text")
    assert "other_library" not in sys.modules
    assert seldom.use() == 21
    assert seldom.Kind.size == 3
    assert seldom.is_kind(sys.modules["other_library"].Kind())
    assert issubclass(sys.modules["other_library"].Kind, seldom.Kind)
    package = importlib.import_module(thick)
    assert "ready" not in vars(package)
    assert package.seldom is seldom
    assert package.ready
    assert not hasattr(package, "never")


def test_a_library_that_needs_at_once_what_was_put_off_is_imported_in_whole(thick: str) -> None:
    often = import_lean(f"{thick}.often")
    assert often.Mine.size == 3
    assert sys.modules[thick].ready


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
