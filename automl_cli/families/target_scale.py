"""Regression targets on a standard scale, and as the user's metric wants them: as logarithms, or weighed."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from automl_cli.families.arrays import Expected, bad_model, load_arrays, save_arrays
from automl_cli.families.family import Family, FoldData, Hyperparameters, Limits, Model, is_absolute, quantile
from automl_cli.features.matrix import Array, Matrix
from automl_cli.task import TaskKind

_SCALE = "scale.npz"
# exp of anything larger is no float64
_MOST_LOG = 709.0
# Errors smaller than this, on the standard scale, are squared where absolute ones are minimised: a solver needs a slope
# that says how far it is.
BEND = 0.1
# between these shares of a normal distribution lie so many standard deviations
_SHARES, _DEVIATIONS = (0.05, 0.95), 3.29
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Rescaled:
    """A model of the standardised target, whose predictions are brought back to the target's units.

    Attributes
    ----------
    centre, spread : float
        Mean and standard deviation of the target, or of its logarithm, by weight; for absolute errors see
        `middle_and_width`.
    logarithm : bool
        Whether the model is of log(1 + y).
    """

    model: Model
    centre: float
    spread: float
    logarithm: bool = False

    @property
    def rounds(self) -> int:
        """Rounds of the model."""
        return self.model.rounds

    @property
    def cut(self) -> bool:
        """Whether the fit of the model was cut."""
        return self.model.cut

    @property
    def raised(self) -> float:
        """By how much the rate of a booster was raised to converge in its seconds."""
        return float(getattr(self.model, "raised", 1.0))

    def predict(self, data: Matrix, threads: int) -> Array:
        """Return float64 of shape (n_rows, 1)."""
        values = self.model.predict(data, threads) * self.spread + self.centre
        return np.expm1(np.minimum(values, _MOST_LOG)) if self.logarithm else values


def power_of_two(y: Array) -> int:
    """Return the exponent with which ``numpy.ldexp(y, -exponent)`` lies between -1 and 1.

    The division is exact, and squares of what it gives do not overflow.
    """
    return int(np.frexp(np.abs(y).max(initial=0.0))[1])


def middle_and_width(y: Array, weight: Array | None) -> tuple[float, float]:
    """Return the median, and a standard deviation that does not depend on the twentieth of the rows at either end.

    A typing error of 1e9 would otherwise be the unit in which all other values are the same. Where the middle nine
    tenths are one value, but for rounding, the deviation is the mean absolute one; it may be 0.

    >>> middle_and_width(np.array([1.0, 2.0, 3.0, 4.0] * 10 + [1e9]), None)[0]
    3.0
    """
    low, middle, high = (quantile(y, weight, share) for share in (_SHARES[0], 0.5, _SHARES[1]))
    sizes = np.ones(len(y)) if weight is None else weight
    deviation = float(sizes @ np.abs(y - middle)) / max(float(sizes.sum()), np.finfo(float).tiny)
    return middle, (high - low) / _DEVIATIONS if high - low > _ROUNDING * deviation else deviation


def standardised(family: Family) -> Family:
    """Return the family with regression targets standardised on the training rows.

    Boosting libraries hold targets as float32, which cannot tell 1.7e9 from 1.7e9 + 50, and their L1 penalties and
    leaf thresholds have the target's units: the same hyperparameters would mean another thing for each target.
    scikit-learn's trees stop splitting where the variance is below 2e-16, whatever the units.

    For ``rmsle`` the target's logarithm is learnt; for ``mape`` rows weigh as much as the metric lets them. Rows count
    for the scale by the user's weight, those of weight 0 not at all.
    """

    def fit(data: FoldData, hyperparameters: Hyperparameters, limits: Limits) -> Model:
        if data.kind is not TaskKind.REGRESSION:
            return family.fit(data, hyperparameters, limits)
        data = _among_those_that_count(data)
        given = data.weight if data.weight is not None and data.weight.sum() > 0 else None
        logarithm = data.metric == "rmsle" and min(data.y.min(), data.y_valid.min(initial=0.0)) > -1
        if logarithm:
            data = replace(data, y=np.log1p(data.y), y_valid=np.log1p(data.y_valid))
        elif data.metric == "mape":
            weight, weight_valid = _relative(data.y, data.weight), _relative(data.y_valid, data.weight_valid)
            data = replace(data, weight=weight, weight_valid=weight_valid)
        exponent = power_of_two(data.y)
        y = np.ldexp(data.y, -exponent)
        centre, spread = middle_and_width(y, given) if is_absolute(data) else _mean_and_deviation(y, given)
        if not (spread > 0 and np.ldexp(spread, exponent) > 0):
            spread = 0.5
        y_valid = (np.ldexp(data.y_valid, -exponent) - centre) / spread
        scaled = replace(data, y=(y - centre) / spread, y_valid=y_valid)
        model = family.fit(scaled, hyperparameters, limits)
        return Rescaled(model, float(np.ldexp(centre, exponent)), float(np.ldexp(spread, exponent)), logarithm)

    def save(model: Any, folder: Path) -> None:
        if isinstance(model, Rescaled):
            scale = {"centre": model.centre, "spread": model.spread, "logarithm": model.logarithm}
            save_arrays(folder / _SCALE, {name: np.array(value) for name, value in scale.items()})
            family.save(model.model, folder)
        else:
            family.save(model, folder)

    def load(folder: Path) -> Model:
        path = folder / _SCALE
        if not path.exists():
            return family.load(folder)
        arrays = load_arrays(
            path, {"centre": Expected("f", 0), "spread": Expected("f", 0), "logarithm": Expected("b", 0)}
        )
        if not arrays["spread"] > 0:
            raise bad_model(path, "the spread is not positive")
        centre, spread = float(arrays["centre"]), float(arrays["spread"])
        return Rescaled(family.load(folder), centre, spread, bool(arrays["logarithm"]))

    def thinned(model: Any, n_models: int) -> Any:
        if family.thinned is None:
            return model
        if isinstance(model, Rescaled):
            return replace(model, model=family.thinned(model.model, n_models))
        return family.thinned(model, n_models)

    contributions = None if family.contributions is None else _rescaled(family.contributions)
    return replace(
        family,
        fit=fit,
        save=save,
        load=load,
        contributions=contributions,
        thinned=None if family.thinned is None else thinned,
    )


def _mean_and_deviation(y: Array, weight: Array | None) -> tuple[float, float]:
    if weight is None:
        return float(np.mean(y)), float(np.std(y))
    mean = float(np.average(y, weights=weight))
    return mean, float(np.sqrt(np.average((y - mean) ** 2, weights=weight)))


def _among_those_that_count(data: FoldData) -> FoldData:
    """Return the fold with targets of rows that weigh nothing brought into the range of the others.

    No loss sees them, but their size would: a sentinel of 1e9 opens the bounds of predictions, and squared it is no
    float32.
    """
    if data.weight is None or not data.weight.sum() > 0:
        return data
    counted = data.y[data.weight > 0]
    low, high = counted.min(), counted.max()

    def within(y: Array, weight: Array | None) -> Array:
        if weight is None or not weight.sum() > 0:
            return y
        return np.where(weight > 0, y, np.clip(y, low, high))

    return replace(data, y=within(data.y, data.weight), y_valid=within(data.y_valid, data.weight_valid))


def _rescaled(contributions: Callable[[Any, Matrix, int], Array]) -> Callable[[Any, Matrix, int], Array]:
    """Return a family's contributions in units of the target, or of its logarithm."""

    def rescaled(model: Any, data: Matrix, threads: int) -> Array:
        if not isinstance(model, Rescaled):
            return contributions(model, data, threads)
        values = contributions(model.model, data, threads) * model.spread
        values[:, -1] += model.centre
        return values

    return rescaled


def is_logarithm(model: Model) -> bool:
    """Whether the raw predictions of a model are logarithms of 1 + y, and so are the contributions to them."""
    return isinstance(model, Rescaled) and model.logarithm


def _relative(y: Array, weight: Array | None) -> Array | None:
    """Return weights divided by the target's size, 1 in the mean; rows where it is 0 count like the smallest others."""
    size = np.abs(y)
    if not (size > 0).any():
        return weight
    least = size[size > 0].min()
    relative = least / np.maximum(size, least)
    if weight is not None:
        relative = relative * weight
    mean = relative.mean()
    return np.asarray(relative / mean) if mean > 0 else weight
