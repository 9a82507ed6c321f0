"""Regression targets on a standard scale, for libraries that need it."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from automl_cli.families.arrays import Expected, bad_model, load_arrays, save_arrays
from automl_cli.families.family import Family, FoldData, Hyperparameters, Limits, Model
from automl_cli.features.matrix import Array, Matrix
from automl_cli.task import TaskKind

_SCALE = "scale.npz"


@dataclass(frozen=True)
class Rescaled:
    """A model of the standardised target, whose predictions are brought back to the target's units."""

    model: Model
    centre: float
    spread: float

    @property
    def rounds(self) -> int:
        """Rounds of the model."""
        return self.model.rounds

    @property
    def cut(self) -> bool:
        """Whether the fit of the model was cut."""
        return self.model.cut

    def predict(self, data: Matrix, threads: int) -> Array:
        """Return float64 of shape (n_rows, 1)."""
        return self.model.predict(data, threads) * self.spread + self.centre


def standardised(family: Family) -> Family:
    """Return the family with regression targets standardised on the training rows.

    Boosting libraries hold targets as float32, which cannot tell 1.7e9 from 1.7e9 + 50, and their L1 penalties and
    leaf thresholds have the target's units: the same hyperparameters would mean another thing for each target.
    """

    def fit(data: FoldData, hyperparameters: Hyperparameters, limits: Limits) -> Model:
        if data.kind is not TaskKind.REGRESSION:
            return family.fit(data, hyperparameters, limits)
        centre, spread = float(np.mean(data.y)), float(np.std(data.y))
        if not (np.isfinite(spread) and spread > 0):
            spread = 1.0
        scaled = replace(data, y=(data.y - centre) / spread, y_valid=(data.y_valid - centre) / spread)
        return Rescaled(family.fit(scaled, hyperparameters, limits), centre, spread)

    def save(model: Any, folder: Path) -> None:
        if isinstance(model, Rescaled):
            save_arrays(folder / _SCALE, {"centre": np.array(model.centre), "spread": np.array(model.spread)})
            family.save(model.model, folder)
        else:
            family.save(model, folder)

    def load(folder: Path) -> Model:
        path = folder / _SCALE
        if not path.exists():
            return family.load(folder)
        arrays = load_arrays(path, {"centre": Expected("f", 0), "spread": Expected("f", 0)})
        if not arrays["spread"] > 0:
            raise bad_model(path, "the spread is not positive")
        return Rescaled(family.load(folder), float(arrays["centre"]), float(arrays["spread"]))

    return replace(family, fit=fit, save=save, load=load)
