"""Nearest neighbours by exhaustive search over a bounded sample of the training rows."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from automl_cli.errors import BadArtifact
from automl_cli.families.arrays import Expected, bad_model, integer, load_arrays, save_arrays
from automl_cli.families.family import (
    Family,
    FoldData,
    Hyperparameters,
    Limits,
    Shape,
    as_probabilities,
    is_absolute,
    is_prior,
    smoothed,
    smoothing_prior,
)
from automl_cli.families.rows import by_chunks, sampled_rows
from automl_cli.families.target_scale import standardised
from automl_cli.features.matrix import Array, Matrix
from automl_cli.task import TaskKind

_MOST_ROWS = 20_000
_MOST_CELLS = 4_000_000
# Numbers of the neighbours of one chunk of queries: 16 MB of float64.
_MOST_NUMBERS = 2**21
_MOST_DISTANCES = 2**20  # at once, by each thread: what fits its caches is a third faster
# Infinities are moved here: far from everything, and its square is still a float32.
_FAR = 1e15
_FILE = "neighbors.npz"


@dataclass(frozen=True)
class NeighborsModel:
    """The sampled training rows.

    Attributes
    ----------
    X : float32 (n_rows, n_features)
    y : float64 (n_rows,)
        Values, or class indices.
    weight : float64 (n_rows,)
    power : int
        1 for city-block, 2 for Euclidean distances.
    by_distance : bool
        Whether nearer neighbours count for more.
    prior : float64 (n_outputs,)
        Counts as one more neighbour; empty for a regression.
    absolute : bool
        Whether a regression predicts the median of the neighbours in place of their mean.
    """

    X: Array
    y: Array
    weight: Array
    n_neighbors: int
    power: int
    by_distance: bool
    regression: bool
    n_outputs: int
    prior: Array
    absolute: bool = False
    rounds: int = 0
    cut: bool = False

    def predict(self, data: Matrix, threads: int) -> Array:
        """Return float64 of shape (n_rows, n_outputs)."""
        if data.X.shape[1] != self.X.shape[1]:
            raise bad_model(Path(_FILE), "it was fitted on another number of features")
        k = min(self.n_neighbors, len(self.X))
        size = max(1, min(512, _MOST_DISTANCES // len(self.X), _MOST_NUMBERS // (k * max(self.X.shape[1], 1))))
        distances = _DISTANCES[self.power](self.X)
        return by_chunks(lambda chunk: self._vote(chunk, distances), np.clip(data.X, -_FAR, _FAR), size, threads)

    def _vote(self, chunk: Array, distances: Callable[[Array], Array]) -> Array:
        k = min(self.n_neighbors, len(self.X))
        rough = distances(chunk)
        nearest = np.argpartition(rough, k - 1, axis=1)[:, :k]
        # exact distances of the few: the rough ones lose digits where rows are nearly the same
        gaps = np.abs(self.X[nearest].astype(np.float64) - chunk[:, None, :])
        exact = gaps.sum(axis=2) if self.power == 1 else np.sqrt((gaps**2).sum(axis=2))
        # a trace of weight, so that neighbours which all weigh nothing still give an answer
        votes = self.weight[nearest] + 1e-12
        if self.by_distance:
            exact = np.maximum(exact, 1e-9)
            votes = votes * exact.min(axis=1, keepdims=True) / exact
        shares = votes / votes.sum(axis=1, keepdims=True)
        if self.regression:
            values: Array = self.y[nearest]
            return _medians(values, shares) if self.absolute else (shares * values).sum(axis=1, keepdims=True)
        p = _per_class(shares, self.y[nearest].astype(np.int64), self.n_outputs)
        return as_probabilities(smoothed(p, self.prior, k))


def _medians(values: Array, shares: Array) -> Array:
    """Return each row's median by shares that sum to 1, of shape (n_rows, 1): the middle of two where both are one."""
    order = np.argsort(values, axis=1, kind="stable")
    reached = np.cumsum(np.take_along_axis(shares, order, axis=1), axis=1)
    sides = [np.argmax(reached >= share, axis=1)[:, None] for share in (0.5 - 1e-9, 0.5 + 1e-9)]
    low, high = (np.take_along_axis(values, np.take_along_axis(order, side, axis=1), axis=1) for side in sides)
    return np.asarray(low + 0.5 * (high - low))


def _per_class(shares: Array, classes: Array, n_outputs: int) -> Array:
    rows = np.arange(len(shares))[:, None]
    flat = np.bincount((rows * n_outputs + classes).ravel(), shares.ravel(), minlength=len(shares) * n_outputs)
    return flat.reshape(len(shares), n_outputs)


def _euclidean(X: Array) -> Callable[[Array], Array]:
    norms = np.einsum("ij,ij->i", X, X)
    # the norm of the query itself does not change the order
    return lambda chunk: norms - 2.0 * (chunk @ X.T)


def _city_block(X: Array) -> Callable[[Array], Array]:
    from scipy.spatial.distance import cdist  # noqa: PLC0415

    exact = X.astype(np.float64)
    return lambda chunk: np.asarray(cdist(chunk.astype(np.float64), exact, "cityblock"))


_DISTANCES = {1: _city_block, 2: _euclidean}


def space(shape: Shape) -> tuple[list[Any], list[Any]]:
    """Return TabArena's choices without its rarer distances."""
    from ConfigSpace import Categorical, Integer  # noqa: PLC0415

    return [
        Integer("n_neighbors", (1, 100), log=True, default=10),
        Categorical("power", [2, 1], default=2),
        Categorical("by_distance", [True, False], default=True),
    ], []


def defaults(shape: Shape) -> tuple[Hyperparameters, ...]:
    """Return the middle of TabArena's range, its city-block variant, and scikit-learn's five neighbours."""
    return (
        {"n_neighbors": 20, "power": 2, "by_distance": True},
        {"n_neighbors": 20, "power": 1, "by_distance": True},
        {"n_neighbors": 5, "power": 2, "by_distance": False},
    )


def fit(data: FoldData, hyperparameters: Hyperparameters, limits: Limits) -> NeighborsModel:
    """Keep the training rows, or a sample of them in which no class is lost."""
    most = max(1_000, min(_MOST_ROWS, _MOST_CELLS // max(data.train.X.shape[1], 1)))
    regression = data.kind is TaskKind.REGRESSION
    rows = sampled_rows(data.y, most, regression, limits.seed)
    return NeighborsModel(
        X=np.clip(data.train.X[rows], -_FAR, _FAR),
        y=data.y[rows].astype(np.float64),
        weight=np.ones(len(rows)) if data.weight is None else data.weight[rows].astype(np.float64),
        n_neighbors=int(hyperparameters["n_neighbors"]),
        power=int(hyperparameters["power"]),
        by_distance=bool(hyperparameters["by_distance"]),
        regression=regression,
        n_outputs=data.n_outputs,
        prior=smoothing_prior(data),
        absolute=is_absolute(data),
    )


_SCALARS = ("n_neighbors", "power", "by_distance", "regression", "n_outputs")


def save(model: NeighborsModel, folder: Path) -> None:
    """Write the sampled rows; they are part of the model, which a reader of it should know."""
    scalars = {name: np.array(int(getattr(model, name))) for name in (*_SCALARS, "absolute")}
    save_arrays(folder / _FILE, {"X": model.X, "y": model.y, "weight": model.weight, "prior": model.prior, **scalars})


def load(folder: Path) -> NeighborsModel:
    """Read what `save` wrote; raises `BadArtifact` where that is not what the file holds."""
    path = folder / _FILE
    arrays = _load(path)
    X, y, weight = arrays["X"], arrays["y"], arrays["weight"]
    n_outputs = integer(path, arrays["n_outputs"], 1, 10**6)
    regression = bool(integer(path, arrays["regression"], 0, 1))
    if not len(X) == len(y) == len(weight) > 0 or (weight < 0).any():
        raise bad_model(path, "rows do not add up")
    if not regression and (y.min() < 0 or y.max() >= n_outputs):
        raise bad_model(path, "a class is out of range")
    if not is_prior(arrays["prior"], n_outputs, regression=regression):
        raise bad_model(path, "the shares of the classes do not add up")
    return NeighborsModel(
        X=np.ascontiguousarray(X, dtype=np.float32),
        y=y,
        weight=weight,
        n_neighbors=integer(path, arrays["n_neighbors"], 1, 10**6),
        power=integer(path, arrays["power"], 1, 2),
        by_distance=bool(integer(path, arrays["by_distance"], 0, 1)),
        regression=regression,
        n_outputs=n_outputs,
        prior=arrays["prior"],
        absolute=bool(integer(path, arrays["absolute"], 0, 1)),
    )


def _load(path: Path) -> dict[str, Array]:
    expected = {
        "X": Expected("f", 2),
        "y": Expected("f", 1),
        "weight": Expected("f", 1),
        "prior": Expected("f", 1),
        **{name: Expected("i", 0) for name in _SCALARS},
    }
    try:
        return load_arrays(path, {**expected, "absolute": Expected("i", 0)})
    except BadArtifact:  # perhaps written before medians were predicted
        return {**load_arrays(path, expected), "absolute": np.array(0)}


def offered(shape: Shape) -> bool:
    """Return whether an exhaustive search stays affordable."""
    return shape.n_rows <= 50_000 and shape.n_columns <= 500


def seconds(shape: Shape, hyperparameters: Hyperparameters) -> float:
    """Guess the seconds of one fit and of the prediction of a quarter of the rows, which is where the time goes."""
    sample = min(shape.n_rows, _MOST_ROWS, max(1_000, _MOST_CELLS // max(shape.n_columns, 1)))
    columns = shape.n_columns + 8 * shape.n_categorical
    per_pair = 8e-9 + columns * (1.2e-9 if hyperparameters["power"] == 1 else 3e-11)
    return 0.02 + 0.25 * shape.n_rows * sample * per_pair


FAMILY = standardised(
    Family(
        name="neighbors",
        package="scipy",
        encodings=("one_hot",),
        space=space,
        defaults=defaults,
        fit=fit,
        save=save,
        load=load,
        seconds=seconds,
        offered=offered,
        slow_to_predict=True,
    )
)
