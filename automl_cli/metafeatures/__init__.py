"""A dataset in some sixty numbers, by which past datasets are found that were like it.

Each is one function of a `View`; `META_FEATURES` names them with what they cost. To add one, write the function into
the module of its kind, with its formula in the first line of its docstring. They are stored by name, so that old
records outlive new ones.
"""

import math
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from inspect import isfunction
from types import MappingProxyType, ModuleType

import numpy as np

from automl_cli.clock import Clock
from automl_cli.features.frame import Frame
from automl_cli.metafeatures import information, landmarks, model_based, simple, statistical, target
from automl_cli.metafeatures.view import View, view_of
from automl_cli.task import Task

__all__ = ["META_FEATURES", "MetaFeature", "measure"]

COUNTED, SAMPLED, FITTED = 0, 1, 2
"""What a meta-feature costs: a pass over the columns, statistics of a sample, or a model on a part of it."""
_MODULES = ((simple, COUNTED), (target, COUNTED), (statistical, SAMPLED), (information, SAMPLED), (model_based, FITTED),
            (landmarks, FITTED))  # fmt: skip


@dataclass(frozen=True)
class MetaFeature:
    """One number of a dataset.

    Attributes
    ----------
    compute : callable
        Gives it for a `View`; NaN where it is not defined.
    cost : int
        `COUNTED`, `SAMPLED` or `FITTED`: the cheap ones come first.
    formula, source : str
        What it is, in a line, and who described it.
    """

    name: str
    compute: Callable[[View], float]
    cost: int
    formula: str
    source: str


def _described(module: ModuleType, cost: int) -> Iterator[MetaFeature]:
    """List the public functions that a module defines."""
    for name, function in vars(module).items():
        if isfunction(function) and function.__module__ == module.__name__ and not name.startswith("_"):
            formula = (function.__doc__ or "").partition("\n")[0]
            yield MetaFeature(name, function, cost, formula.removeprefix("Return "), module.SOURCE)


META_FEATURES: Mapping[str, MetaFeature] = MappingProxyType(
    {feature.name: feature for module, cost in _MODULES for feature in _described(module, cost)}
)


def measure(
    frame: Frame,
    task: Task,
    *,
    seconds: float = math.inf,
    first: Collection[str] = (),
    clock: Clock = time.perf_counter,
) -> dict[str, float]:
    """Compute the meta-features of a table, the cheap ones first, until the seconds are used up.

    Parameters
    ----------
    first : collection of str
        Names of those that come before the others: what past datasets are compared by.

    Returns
    -------
    dict of str to float
        Finite ones only: what is not defined, or was not reached in time, is missing.
    """
    began = clock()
    view = view_of(frame, task)
    found = {}
    for feature in sorted(META_FEATURES.values(), key=lambda feature: (feature.name not in first, feature.cost)):
        if clock() - began > seconds:
            break
        with np.errstate(all="ignore"):  # numbers whose squares no float holds: the result is not finite, and left out
            value = feature.compute(view)
        if math.isfinite(value):
            found[feature.name] = float(value)
    return found
