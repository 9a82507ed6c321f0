"""A trained dense network: how it predicts, and how it is kept."""

import itertools
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from automl_cli.calibration import softmax
from automl_cli.errors import BadArtifact
from automl_cli.families.arrays import Expected, bad_model, load_arrays, save_arrays
from automl_cli.families.dense import activated
from automl_cli.families.family import as_probabilities, spread
from automl_cli.families.waves import MOST_COLUMNS, N_EMBEDDED, Waves
from automl_cli.features.matrix import Array, Matrix

BLOCK = 8192
_FILE, _HEAD, _WAVES = "mlp.npz", "head.npz", "waves.npz"
_LARGEST = 30.0  # scaled features lie within 3; what a shift brings beyond must not blow the network up
_PARTS = ("frequency", "phase", "mix", "shift")


@dataclass(frozen=True)
class MlpModel:
    """Weights, layer after layer.

    Attributes
    ----------
    weights : tuple of float32 (n_in, n_out)
        The first layer sees the features, then the embeddings.
    biases : tuple of float32 (n_out,)
    smooth : bool
        Whether hidden layers use SiLU instead of ReLU.
    classes : int64 (n_present,)
        Classes that occurred in training; empty for a regression.
    low, high : float
        Predictions of a regression are kept between these.
    embedded : int64 (n_embedded,)
        Features that have an embedding, ascending.
    waves : Waves
        Their embedding.
    smoothing : float
        Share of the uniform distribution in the probabilities: one row more of any class, for none is impossible.
    rounds : int
        Epochs that were kept.
    """

    weights: tuple[Array, ...]
    biases: tuple[Array, ...]
    smooth: bool
    classes: Array
    n_outputs: int
    low: float
    high: float
    embedded: Array
    waves: Waves
    smoothing: float = 0.0
    rounds: int = 0
    cut: bool = False

    def predict(self, data: Matrix, threads: int) -> Array:
        """Return float64 of shape (n_rows, n_outputs)."""
        from threadpoolctl import threadpool_limits  # noqa: PLC0415

        if data.X.shape[1] != len(self.weights[0]) - N_EMBEDDED * len(self.embedded):
            raise bad_model(Path(_FILE), "it was fitted on another number of features")
        X = bounded(data.X)
        with threadpool_limits(1):  # products split between threads differ in their last bits
            blocks = [self.scores(X[i : i + BLOCK]) for i in range(0, max(len(X), 1), BLOCK)]
        scores = np.concatenate(blocks).astype(np.float64)
        if not len(self.classes):
            return np.clip(scores, self.low, self.high)
        certain = spread(softmax(scores), self.classes, self.n_outputs)
        return as_probabilities((1 - self.smoothing) * certain + self.smoothing / self.n_outputs)

    def scores(self, X: Array) -> Array:
        """Return what the last layer gives for bounded float32 features, of shape (n_rows, n_columns)."""
        hidden = X
        if len(self.embedded):
            angles = self.waves.angles(X[:, self.embedded])
            hidden = np.hstack([X, self.waves.embed(np.cos(angles, out=angles))])
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            hidden = hidden @ weight
            hidden += bias
            hidden = activated(hidden, self.smooth)
        scores: Array = hidden @ self.weights[-1] + self.biases[-1]
        return scores


def bounded(X: Array) -> Array:
    """Return features no further from 0 than a network can bear."""
    within: Array = np.clip(X, -_LARGEST, _LARGEST)
    return within


def save(model: MlpModel, folder: Path) -> None:
    """Write the weights."""
    arrays = {f"weight_{i}": weight for i, weight in enumerate(model.weights)}
    arrays |= {f"bias_{i}": bias for i, bias in enumerate(model.biases)}
    save_arrays(folder / _HEAD, {
        "n_layers": np.array(len(model.weights)),
        "smooth": np.array(model.smooth),
        "classes": model.classes,
        "embedded": model.embedded,
        "n_outputs": np.array(model.n_outputs),
        "bounds": np.array([model.low, model.high]),
        "smoothing": np.array(model.smoothing),
        "rounds": np.array(model.rounds),
    })  # fmt: skip
    save_arrays(folder / _FILE, arrays)
    if len(model.embedded):
        parts = {name: getattr(model.waves, name) for name in _PARTS}
        save_arrays(folder / _WAVES, parts)


def load(folder: Path) -> MlpModel:
    """Read what `save` wrote; raises `BadArtifact` where that is not what the files hold."""
    path = folder / _HEAD
    head = _load_head(path)
    n_layers, n_outputs, classes = int(head["n_layers"]), int(head["n_outputs"]), head["classes"]
    if not 1 <= n_layers <= 64 or len(head["bounds"]) != 2 or not 1 <= n_outputs <= 10**6 or head["rounds"] < 0:
        raise bad_model(path, "a number is out of range")
    if not 0 <= head["smoothing"] <= 0.5:
        raise bad_model(path, "a number is out of range")
    if len(classes) and (classes.min() < 0 or classes.max() >= n_outputs):
        raise bad_model(path, "a class is out of range")
    weights, biases = _load_layers(folder / _FILE, n_layers, max(len(classes), 1))
    embedded = head["embedded"]
    n_features = len(weights[0]) - N_EMBEDDED * len(embedded)
    if len(embedded) > MOST_COLUMNS:
        raise bad_model(path, "too many features are embedded")
    if len(embedded) and (embedded.min() < 0 or embedded.max() >= n_features or (np.diff(embedded) <= 0).any()):
        raise bad_model(path, "a feature is out of range")
    waves = _load_waves(folder / _WAVES, len(embedded))
    low, high = head["bounds"]
    return MlpModel(weights, biases, bool(head["smooth"]), classes, n_outputs, float(low), float(high), embedded, waves,
                    float(head["smoothing"]), int(head["rounds"]))  # fmt: skip


def _load_head(path: Path) -> dict[str, Array]:
    expected = {
        "n_layers": Expected("i", 0),
        "smooth": Expected("b", 0),
        "classes": Expected("i", 1),
        "n_outputs": Expected("i", 0),
        "bounds": Expected("f", 1),
        "smoothing": Expected("f", 0),
        "rounds": Expected("i", 0),
    }
    try:
        return load_arrays(path, {**expected, "embedded": Expected("i", 1)})
    except BadArtifact:  # perhaps written before numbers were embedded
        return {**load_arrays(path, expected), "embedded": np.zeros(0, dtype=np.int64)}


def _load_layers(path: Path, n_layers: int, n_outputs: int) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
    expected = {f"weight_{i}": Expected("f", 2) for i in range(n_layers)}
    expected |= {f"bias_{i}": Expected("f", 1) for i in range(n_layers)}
    arrays = load_arrays(path, expected)
    weights = tuple(arrays[f"weight_{i}"] for i in range(n_layers))
    biases = tuple(arrays[f"bias_{i}"] for i in range(n_layers))
    widths = [len(weights[0]), *(weight.shape[1] for weight in weights)]
    if any(weight.shape != pair for weight, pair in zip(weights, itertools.pairwise(widths), strict=True)):
        raise bad_model(path, "layers do not add up")
    if any(len(bias) != width for bias, width in zip(biases, widths[1:], strict=True)):
        raise bad_model(path, "layers do not add up")
    if widths[-1] != n_outputs:
        raise bad_model(path, "outputs do not add up")
    return weights, biases


def _load_waves(path: Path, n_embedded: int) -> Waves:
    """Read the embedding; a network without one has no such file."""
    shapes = Waves.shapes(n_embedded)
    if not n_embedded:
        return Waves(*(np.zeros(shape, dtype=np.float32) for shape in shapes))
    arrays = load_arrays(path, {name: Expected("f", 3) for name in _PARTS})
    if tuple(arrays[name].shape for name in _PARTS) != shapes:
        raise bad_model(path, "the embedding does not add up")
    return Waves(*(arrays[name] for name in _PARTS))
