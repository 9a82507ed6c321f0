"""From an encoded matrix to what a network sees: numbers complete and of one scale, categories as rows of a table."""

from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from automl_cli.families.arrays import Expected, bad_model, load_arrays, save_arrays
from automl_cli.families.boosting import SeenCodes
from automl_cli.features.matrix import Array, Matrix
from automl_cli.features.scaling import LARGEST, N_KNOTS, Scaling
from automl_cli.neural.counts import InputShape
from automl_cli.neural.recipe import Columns

_INPUTS, _CODES = "inputs.npz", "codes.npz"
_SAMPLE_ROWS = 50_000
_LARGEST = 30.0  # what a shift brings beyond the range of training must not blow the network up
_MOST_COLUMNS = 100_000
_BLOCK_CELLS = 2**18  # scaled at a time: what lies between the matrix and the inputs is float64, several times
_FLOATS, _INDICES, _ROWS = Expected("f", 1), Expected("i", 1), Expected("f", 2)
_EXPECTED = {
    **dict.fromkeys(("median", "scale"), _FLOATS),
    **dict.fromkeys(("skewed", "flagged"), _INDICES),
    **dict.fromkeys(("knots", "scores"), _ROWS),
}


@dataclass(frozen=True)
class NetInputs:
    """How rows of a matrix become inputs of a network.

    Attributes
    ----------
    n_features : int
        Of the matrix.
    numeric : int64 (n_numbers,)
        Features that vary in training and hold no codes; one constant feature where nothing varies.
    scaling : Scaling
        Of these.
    codes : SeenCodes
    """

    n_features: int
    numeric: Array
    scaling: Scaling
    codes: SeenCodes

    @classmethod
    def fit(cls, matrix: Matrix, seed: int) -> "NetInputs":
        """Learn from training rows."""
        X = matrix.X
        rows = np.arange(len(X))
        if len(X) > _SAMPLE_ROWS:
            rows = np.sort(np.random.default_rng(seed).choice(len(X), _SAMPLE_ROWS, replace=False))
        numeric = np.setdiff1d(np.arange(X.shape[1]), matrix.categorical)
        whole = Scaling.fit(_numbers(X[rows][:, numeric]))
        varying = whole.scale > 0
        varying[whole.flagged] = True
        if not varying.any() and not matrix.categorical:
            varying[:1] = True
        numeric = numeric[varying]
        scaling = Scaling.fit(_numbers(X[rows][:, numeric]))
        return cls(X.shape[1], numeric.astype(np.int64), scaling, SeenCodes.of(matrix))

    def shape(self, n_outputs: int) -> InputShape:
        """Return what a network is built for."""
        levels = np.diff(self.codes.ends, prepend=0) + 1
        return InputShape(len(self.numeric), tuple(int(n) for n in levels), n_outputs, len(self.scaling.flagged))

    def transform(self, matrix: Matrix) -> Columns:
        """Scale and look up; raises `BadArtifact` for a matrix of another width."""
        if matrix.X.shape[1] != self.n_features:
            raise bad_model(Path(_INPUTS), "it was fitted on another number of features")
        n_rows, n_numbers = len(matrix.X), len(self.numeric)
        numbers = np.empty((n_rows, n_numbers), dtype=np.float32)
        flags = np.empty((n_rows, len(self.scaling.flagged)), dtype=np.float32)
        step = max(1, _BLOCK_CELLS // max(n_numbers, 1))
        for start in range(0, n_rows, step):
            rows = slice(start, start + step)
            scaled = self._scaled(matrix.X[rows])
            numbers[rows], flags[rows] = scaled[:, :n_numbers], scaled[:, n_numbers:]
        codes = np.empty((n_rows, len(self.codes.features)), dtype=np.int64)
        for position in range(codes.shape[1]):
            codes[:, position] = self.codes.codes(matrix.X, position) + 1
        return Columns(numbers, flags, codes)

    def _scaled(self, X: Array) -> Array:
        """Return the numbers and then the flags of some rows, float64."""
        numbers = _numbers(X[:, self.numeric])
        scaled = self.scaling.transform(numbers)
        for i, column in enumerate(self.scaling.skewed):
            scaled[:, column] = self.scaling.normal_scores(i, numbers[:, column])
        return np.clip(scaled, -_LARGEST, _LARGEST)

    def save(self, folder: Path) -> None:
        """Write two files of arrays."""
        parts = {field.name: getattr(self.scaling, field.name) for field in fields(Scaling)}
        save_arrays(folder / _INPUTS, {**parts, "n_features": np.array(self.n_features), "numeric": self.numeric})
        self.codes.save(folder / _CODES)

    @classmethod
    def load(cls, folder: Path) -> "NetInputs":
        """Read what `save` wrote; raises `BadArtifact` where that is not what the files hold."""
        path = folder / _INPUTS
        arrays = load_arrays(path, {**_EXPECTED, "n_features": Expected("i", 0), "numeric": _INDICES})
        n_features, numeric = int(arrays.pop("n_features")), arrays.pop("numeric")
        codes = SeenCodes.load(folder / _CODES)
        if not 1 <= n_features <= _MOST_COLUMNS or not _ascending_below(numeric, n_features):
            raise bad_model(path, "a feature is out of range")
        if (codes.features >= n_features).any() or np.isin(codes.features, numeric).any():
            raise bad_model(path, "a feature is out of range")
        n, n_skewed = len(numeric), len(arrays["skewed"])
        if any(len(arrays[name]) != n for name in ("median", "scale")) or (arrays["scale"] < 0).any():
            raise bad_model(path, "the scales do not add up")
        if any(arrays[name].shape != (n_skewed, N_KNOTS) for name in ("knots", "scores")):
            raise bad_model(path, "the quantiles do not add up")
        if not (_ascending_below(arrays["skewed"], n) and _ascending_below(arrays["flagged"], n)):
            raise bad_model(path, "a feature is out of range")
        return cls(n_features, numeric, Scaling(**arrays), codes)


def _numbers(X: Array) -> Array:
    """Return float64 without infinities, which are values far away."""
    return np.clip(X, -LARGEST, LARGEST).astype(np.float64)


def _ascending_below(indices: Array, end: int) -> bool:
    return not len(indices) or bool(indices[0] >= 0 and indices[-1] < end and (np.diff(indices) > 0).all())
