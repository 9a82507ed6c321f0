"""Model families: each file here that defines ``FAMILY`` is one, found by itself."""

import importlib
import pkgutil
from collections.abc import Mapping
from types import MappingProxyType

from automl_cli.families.family import Family

__all__ = ["Family", "find_families"]


def find_families(*, include_missing: bool = False) -> Mapping[str, Family]:
    """Find every family in this folder, without importing the libraries behind them.

    Parameters
    ----------
    include_missing : bool
        Also those whose package is not installed.

    Returns
    -------
    Mapping of name to Family, sorted by name

    >>> "lightgbm" in find_families()
    True
    """
    names = sorted(module.name for module in pkgutil.iter_modules(__path__) if not module.ispkg)
    modules = (importlib.import_module(f"{__name__}.{name}") for name in names)
    found = [module.FAMILY for module in modules if hasattr(module, "FAMILY")]
    return MappingProxyType({f.name: f for f in found if include_missing or f.installed()})
