"""Import libraries without the wrappers around them that this program does not use.

LightGBM and XGBoost import scikit-learn and pandas, if they are there, for their wrapper classes. That is 1.2 of the
1.6 seconds that importing LightGBM takes; without them the first trial starts within a second.
"""

import importlib
import sys
from importlib.abc import MetaPathFinder
from typing import Any

UNUSED = ("pandas", "sklearn", "dask", "matplotlib", "graphviz")


def import_lean(name: str) -> Any:
    """Import a library as if what it only needs for its wrappers were not installed.

    The wrapper classes (``LGBMClassifier`` and the like) are stand-ins in this process afterwards. A library that is
    loaded already is returned as it is.
    """
    # A cluster's worker is not ours alone; and what is loaded already may be half loaded, by another of its threads.
    if name in sys.modules or "distributed" in sys.modules:
        return importlib.import_module(name)
    hidden = [other for other in UNUSED if other not in sys.modules]
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
