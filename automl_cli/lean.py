"""Import libraries without what they only need for wrappers and inputs that this program does not use.

LightGBM and XGBoost import scikit-learn and pandas, if they are there, for their wrapper classes. That is 1.2 of the
1.6 seconds that importing LightGBM takes; without them the first trial starts within a second. Every other library here
imports several times what its part in a search needs, in each process of it: CatBoost pandas, to recognise its objects;
scikit-learn's forests all that is in scikit-learn, and scipy.stats; SMAC's forest its facades, and with them Dask.
"""

import importlib
import logging
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec, module_from_spec
from types import ModuleType
from typing import Any

__all__ = ["Unused", "arrow_without_pandas", "import_lean"]


@dataclass(frozen=True)
class Unused:
    """What a library imports and can do without.

    Attributes
    ----------
    absent : tuple of str
        Modules that it asks for and does not need: they seem not to be installed.
    later : tuple of str
        Modules whose names it takes and seldom uses: the first use imports them.
    bare : tuple of str
        Packages that are imported for one of their modules: that alone is, not what the package imports at its start.
    """

    absent: tuple[str, ...] = ()
    later: tuple[str, ...] = ()
    bare: tuple[str, ...] = ()


_WRAPPERS = Unused(absent=("pandas", "sklearn", "dask", "matplotlib", "graphviz"))
UNUSED: Mapping[str, Unused] = {
    "lightgbm": _WRAPPERS,
    "xgboost": _WRAPPERS,
    # where pandas is absent, its code for tables without it fails
    "catboost": Unused(
        absent=("matplotlib", "plotly", "IPython", "ipywidgets", "graphviz"), later=("pandas", "polars")
    ),
    "sklearn.tree._tree": Unused(
        absent=("pandas",), later=("scipy.stats",), bare=("sklearn.tree", "sklearn.neighbors")
    ),
    "sklearn.ensemble._forest": Unused(
        absent=("pandas",),
        later=("scipy.stats", "sklearn.metrics", "sklearn.preprocessing"),
        bare=("sklearn.ensemble", "sklearn.neighbors"),
    ),
    "smac.model.random_forest.random_forest": Unused(absent=("pandas",), bare=("smac",)),
}
"""By the module that is imported, or its library."""
_ONE_AT_A_TIME = threading.RLock()  # what one call hides must not be missed, or brought back, by another
logger = logging.getLogger(__name__)


def import_lean(name: str) -> Any:
    """Import a module without what its library can do without here; see `UNUSED`.

    Wrapper classes (``LGBMClassifier`` and the like) are stand-ins in this process afterwards. A module that is loaded
    already is returned as it is, and so is one that is not listed. Where a release of the library needs more after
    all, it is imported as anybody would. While it runs, other threads should import nothing that is listed: they would
    miss it too.
    """
    with _ONE_AT_A_TIME:
        unused = UNUSED.get(name) or UNUSED.get(name.partition(".")[0])
        # A cluster's worker is not ours alone; and what is loaded already may be half loaded, by another thread.
        if unused is None or name in sys.modules or "distributed" in sys.modules:
            return importlib.import_module(name)
        try:
            with _hidden(unused):
                for package in unused.bare:
                    _put_bare(package)
                return importlib.import_module(name)
        except Exception:
            logger.debug("%s is imported in whole", name, exc_info=True)
            return importlib.import_module(name)


@contextmanager
def _hidden(unused: Unused) -> Iterator[None]:
    """Put something else in the place of modules that are not loaded yet; what is imported meanwhile keeps that."""
    places: dict[str, ModuleType | None] = {
        **dict.fromkeys(unused.absent),  # None: importing it raises ImportError
        **{module: _Later(module) for module in unused.later},
    }
    places = {module: place for module, place in places.items() if module not in sys.modules}
    sys.modules.update(places)  # type: ignore[arg-type]  # typeshed knows no None
    try:
        yield
    finally:
        for module in places:
            sys.modules.pop(module, None)


def _put_bare(package: str) -> None:
    """Have a package find its modules without having run its own code: that runs when something of it is asked for."""
    if package in sys.modules:
        return
    parent, _, child = package.rpartition(".")
    above = importlib.import_module(parent) if parent else None
    spec = find_spec(package)
    if spec is None:
        raise ModuleNotFoundError(f"No module named {package!r}", name=package)
    module = module_from_spec(spec)
    module.__class__ = _Bare
    sys.modules[package] = module
    if above is not None:
        setattr(above, child, module)


def _is_private(name: str) -> bool:
    """Whether it is one of the names that Python itself asks modules for."""
    return name.startswith("__") and name not in ("__all__", "__version__")


class _Bare(ModuleType):
    """A package whose own code has not run yet."""

    def __getattr__(self, name: str) -> Any:
        if _is_private(name):
            raise AttributeError(name)
        with _ONE_AT_A_TIME:
            if type(self) is _Bare:
                # what it asks itself for while it runs is there, or is not
                self.__class__ = ModuleType  # type: ignore[assignment]
                spec = self.__spec__
                assert spec is not None
                assert spec.loader is not None
                try:
                    spec.loader.exec_module(self)
                except BaseException:
                    self.__class__ = _Bare
                    raise
        return getattr(self, name)


class _Later(ModuleType):
    """Stands for a module that was not imported; of it, there is whatever one asks for."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.__spec__ = ModuleSpec(name, None)

    def __getattr__(self, name: str) -> Any:
        known = sys.modules.get(self.__name__)
        if known is not None and not isinstance(known, _Later):
            return getattr(known, name)
        if _is_private(name):
            raise AttributeError(name)
        promise = _Promise(name, (), {"module": self.__name__})
        setattr(self, name, promise)
        return promise


class _Promise(type):
    """Stands for a function or class of such a module: called, or asked for more, it is that."""

    module: str

    def _kept(cls) -> Any:
        with _ONE_AT_A_TIME:
            module = importlib.import_module(cls.module)
        if isinstance(module, _Later):
            raise ImportError(f"{cls.module}.{cls.__name__} is used while it is put off", name=cls.module)
        return getattr(module, cls.__name__)

    def _may_have(cls) -> bool:
        """Whether there can be an instance of it: not where nobody has imported its module."""
        return not isinstance(sys.modules.get(cls.module), _Later | None)

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        return cls._kept()(*args, **kwargs)

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(cls._kept(), name)

    def __instancecheck__(cls, value: object) -> bool:
        return cls._may_have() and isinstance(value, cls._kept())

    def __subclasscheck__(cls, other: type) -> bool:
        return cls._may_have() and issubclass(other, cls._kept())

    def __init__(cls, name: str, bases: tuple[type, ...], namespace: dict[str, Any]) -> None:
        super().__init__(name, bases, namespace)
        if bases:
            raise TypeError(f"{bases[0].__name__} is not imported yet and cannot be a base")


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
