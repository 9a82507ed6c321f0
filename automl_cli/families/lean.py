"""Import the boosting libraries without the wrappers that this program does not use.

LightGBM and XGBoost import scikit-learn and pandas, if they are there, for their wrapper classes. That is 1.2 of the
1.6 seconds that importing LightGBM takes; without them the first trial starts within a second.
"""

import importlib
import sys
from typing import Any

UNUSED = ("pandas", "sklearn", "dask", "matplotlib", "graphviz")


def import_lean(name: str) -> Any:
    """Import a library as if what it only needs for its wrappers were not installed.

    The wrapper classes (``LGBMClassifier`` and the like) are stand-ins in this process afterwards. A library that is
    loaded already is returned as it is.
    """
    if name in sys.modules:
        return sys.modules[name]
    hidden = [other for other in UNUSED if other not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]  # None: importing it raises ImportError
    try:
        return importlib.import_module(name)
    finally:
        for other in hidden:
            sys.modules.pop(other, None)
