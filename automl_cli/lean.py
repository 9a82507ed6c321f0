"""Import libraries without what they only need for wrappers and inputs that this program does not use.

LightGBM and XGBoost import scikit-learn and pandas, if they are there, for their wrapper classes. That is 1.2 of the
1.6 seconds that importing LightGBM takes; without them the first trial starts within a second. scikit-learn and SMAC
import pandas to recognise its objects, of which we never hand them any: that is 30 MB of each process. CatBoost looks
for them in code that fails where there is no pandas, so that it is left as it is.
"""

import importlib
import sys
import threading
from collections.abc import Mapping
from importlib.abc import MetaPathFinder
from typing import Any

UNUSED: Mapping[str, tuple[str, ...]] = {
    "lightgbm": ("pandas", "sklearn", "dask", "matplotlib", "graphviz"),
    "xgboost": ("pandas", "sklearn", "dask", "matplotlib", "graphviz"),
    "sklearn": ("pandas",),
    "smac": ("pandas",),
}
"""By library: what it imports if it is there, and can do without."""
_ONE_AT_A_TIME = threading.RLock()  # what one call hides must not be missed, or brought back, by another


def import_lean(name: str) -> Any:
    """Import a module as if what its library only needs for wrappers were not installed; see `UNUSED`.

    The wrapper classes (``LGBMClassifier`` and the like) are stand-ins in this process afterwards. A module that is
    loaded already is returned as it is, and so is one of a library that is not listed.
    """
    with _ONE_AT_A_TIME:
        # A cluster's worker is not ours alone; and what is loaded already may be half loaded, by another thread.
        if name in sys.modules or "distributed" in sys.modules:
            return importlib.import_module(name)
        hidden = [other for other in UNUSED.get(name.partition(".")[0], ()) if other not in sys.modules]
        sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]  # None: importing it raises ImportError
        try:
            return importlib.import_module(name)
        finally:
            for other in hidden:
                sys.modules.pop(other, None)


def arrow_without_pandas() -> None:
    """Keep pyarrow from importing pandas at its first conversion, which takes 0.3 seconds; for commands only.

    pyarrow looks once whether pandas is there, to recognise its objects; we never hand it any.
    """
    import pyarrow  # noqa: PLC0415

    absent = _Absent()
    sys.meta_path.insert(0, absent)
    try:
        pyarrow.array([0]).to_numpy()
    finally:
        sys.meta_path.remove(absent)


class _Absent(MetaPathFinder):
    """Says that pandas is not installed; what is imported already stays."""

    def find_spec(self, fullname: str, path: object, target: object = None) -> None:
        """Refuse pandas, leave the rest to others."""
        if fullname == "pandas":
            raise ModuleNotFoundError("pandas is left out", name=fullname)
