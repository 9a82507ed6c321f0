"""A kernel machine as it predicts, and as it is kept."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from automl_cli.calibration import softmax
from automl_cli.families.arrays import Expected, bad_model, integer, load_arrays, save_arrays
from automl_cli.families.family import as_probabilities, spread
from automl_cli.families.kernel_ridge import Kernel
from automl_cli.families.network import bounded
from automl_cli.families.rows import by_chunks
from automl_cli.features.matrix import Array, Matrix

_FILE = "kernel.npz"
_AT_ONCE = 512


@dataclass(frozen=True)
class KernelModel:
    """Training rows as centres, transformed.

    Attributes
    ----------
    transform : float32 (n_features, n_directions) or (1, n_features)
        What features are multiplied by; one row is a scale for each.
    centres : float32 (n_centres, n_directions)
    coefficients : float64 (n_centres, n_columns)
        One column per present class, or one for a regression.
    offset, steepness : float64 (n_columns,)
        The scores are ``steepness * f + offset``; probabilities are their softmax.
    classes : int64 (n_present,)
        Classes that occurred in training; empty for a regression.
    low, high : float
        Predictions of a regression are kept between these: the training values and once their range beyond.
    smoothing : float
        Share of the uniform distribution in the probabilities: one row more of any class, for none is impossible.
    """

    transform: Array
    centres: Array
    coefficients: Array
    kernel: Kernel
    offset: Array
    steepness: Array
    classes: Array
    n_outputs: int
    low: float
    high: float
    smoothing: float
    rounds: int = 0
    cut: bool = False

    def predict(self, data: Matrix, threads: int) -> Array:
        """Return float64 of shape (n_rows, n_outputs)."""
        if data.X.shape[1] != self.transform.shape[0 if len(self.transform) > 1 else 1]:
            raise bad_model(Path(_FILE), "it was fitted on another number of features")
        centres, transform = self.centres.astype(np.float64), self.transform.astype(np.float64)

        def scores(chunk: Array) -> Array:
            values = self.kernel.between(transformed(bounded(chunk).astype(np.float64), transform), centres)
            return np.asarray(values @ self.coefficients * self.steepness + self.offset)

        found = by_chunks(scores, data.X, _AT_ONCE, threads)
        if not len(self.classes):
            return np.asarray(np.clip(found, self.low, self.high))
        certain = spread(softmax(found), self.classes, self.n_outputs)
        return as_probabilities((1 - self.smoothing) * certain + self.smoothing / self.n_outputs)


def transformed(X: Array, transform: Array) -> Array:
    """Multiply by a matrix, or by a row of scales."""
    return np.asarray(X @ transform if len(transform) > 1 else X * transform)


_NUMBERS = {
    "transform": Expected("f", 2),
    "centres": Expected("f", 2),
    "coefficients": Expected("f", 2),
    "offset": Expected("f", 1),
    "steepness": Expected("f", 1),
}


def save(model: KernelModel, folder: Path) -> None:
    """Write the centres, which are training rows as a matrix shows them: a reader of the file should know."""
    numbers = {name: getattr(model, name) for name in _NUMBERS}
    single = [model.kernel.bandwidth, model.kernel.exponent, model.low, model.high, model.smoothing]
    save_arrays(
        folder / _FILE,
        {**numbers, "classes": model.classes, "n_outputs": np.array(model.n_outputs), "single": np.array(single)},
    )


def load(folder: Path) -> KernelModel:
    """Read what `save` wrote; raises `BadArtifact` where that is not what the file holds."""
    path = folder / _FILE
    expected = {**_NUMBERS, "classes": Expected("i", 1), "n_outputs": Expected("i", 0), "single": Expected("f", 1)}
    arrays = load_arrays(path, expected)
    transform, centres, coefficients, offset, steepness = (arrays[name] for name in _NUMBERS)
    classes, n_outputs = arrays["classes"], integer(path, arrays["n_outputs"], 1, 10**6)
    n_columns = max(len(classes), 1)
    widths = {transform.shape[1], centres.shape[1]}
    if len(widths) != 1 or 0 in transform.shape or coefficients.shape != (len(centres), n_columns):
        raise bad_model(path, "centres do not add up")
    if not len(offset) == len(steepness) == n_columns or len(arrays["single"]) != 5:
        raise bad_model(path, "scores do not add up")
    if len(classes) and (classes.min() < 0 or classes.max() >= n_outputs or (np.diff(classes) <= 0).any()):
        raise bad_model(path, "a class is out of range")
    bandwidth, exponent, low, high, smoothing = arrays["single"].tolist()
    if not (bandwidth > 0 and 0 < exponent <= 2 and 0 <= smoothing <= 1):
        raise bad_model(path, "a number is out of range")
    return KernelModel(
        transform.astype(np.float32, copy=False), centres.astype(np.float32, copy=False), coefficients,
        Kernel(bandwidth, exponent), offset, steepness, classes, n_outputs, low, high, smoothing,
    )  # fmt: skip
