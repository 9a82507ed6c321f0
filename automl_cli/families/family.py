"""What a model family is: a space, defaults, and three functions that fit, save and load it."""

import hashlib
import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from automl_cli.features.matrix import Array, Matrix
from automl_cli.kept import Keep, keep_nothing
from automl_cli.task import TaskKind
from automl_cli.trial import Value

Hyperparameters = Mapping[str, Value]
ABSOLUTE = frozenset({"mae", "median_ae", "mape"})


@dataclass(frozen=True)
class Shape:
    """The size of a problem, which is all that a space and a cost guess may depend on."""

    kind: TaskKind
    n_rows: int
    n_columns: int
    n_categorical: int
    n_outputs: int
    """Classes (2 for a binary task), or 1 for a regression."""
    n_numeric: int = 0
    """Columns of numbers."""
    n_many: int = 0
    """Categories of so many values that a code says little (`Kind.HIGH_CARDINALITY`)."""
    n_source: int = 0
    """Rows of a source, which are not counted above."""
    adaptations: tuple[str, ...] = ()
    """How a source, or rows without labels, may be used, see `automl_cli.transfer.adaptation`."""


@dataclass(frozen=True)
class FoldData:
    """What a model may learn from (train) and stop on (valid).

    ``y`` is float64 values for a regression, int64 class indices otherwise; ``weight`` is float64 or None.
    """

    kind: TaskKind
    n_outputs: int
    train: Matrix
    y: Array
    weight: Array | None
    valid: Matrix
    y_valid: Array
    weight_valid: Array | None
    loss: Callable[[Array, Array, Array | None], float]
    """``loss(y, predictions, weight)`` of the user's metric: 0 is best."""
    metric: str = ""
    """Name of the user's metric: boosters minimise what comes nearest to it; empty means the squared error."""
    keep: Keep = keep_nothing
    """``keep(key, make)`` gives what ``make`` gave for this fold and encoding before, such as a library's binned data.

    The key must hold all else that it depends on. What is kept must not be changed by a fit."""

    def targets_digest(self) -> str:
        """Return a digest of targets and weights: they may be scaled, so the fold does not settle them."""
        digest = hashlib.blake2b(digest_size=16)
        for array in (self.y, self.weight, self.y_valid, self.weight_valid):
            digest.update(b"none" if array is None else np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()


@dataclass(frozen=True)
class Limits:
    """What one fit may use: threads, chance, and seconds (None: as long as it takes, and reproducible).

    ``rounds`` is for a refit on all rows: boost exactly so often, whatever the validation rows say.
    """

    threads: int
    seed: int
    seconds: float | None = None
    rounds: int | None = None


class Model(Protocol):
    """A fitted model of one fold; it can be pickled."""

    @property
    def rounds(self) -> int:
        """Boosting rounds, trees or iterations that were kept; 0 for a family without any."""
        ...

    @property
    def cut(self) -> bool:
        """Whether the fit ended because its seconds were used up; False once the model was saved and loaded."""
        ...

    def predict(self, data: Matrix, threads: int) -> Array:
        """Return float64 of shape (n_rows, n_outputs): class probabilities that sum to 1, or values."""
        ...


@dataclass(frozen=True)
class Family:
    """A model family: one file in this folder that defines ``FAMILY``; found by itself.

    Attributes
    ----------
    name : str
        The file's name.
    package : str
        The distribution that must be importable; an optional one makes the family an extra.
    encodings : tuple of str
        Names of encodings the family can use, its default first.
    space : callable
        ``space(shape)`` gives ConfigSpace hyperparameters and conditions, named without a prefix.
    defaults : callable
        ``defaults(shape)`` gives complete hyperparameters: the published default first, then others worth an
        early trial, in order of expected gain.
    fit : callable
        ``fit(data, hyperparameters, limits) -> Model``.
    save, load : callable
        ``save(model, folder)`` writes native formats and plain arrays into an existing empty folder;
        ``load(folder)`` reads them, runs no code from them, and raises `BadArtifact` for anything malformed.
    seconds : callable
        ``seconds(shape, hyperparameters)``: a rough guess of one fit's seconds on one core.
    """

    name: str
    package: str
    encodings: tuple[str, ...]
    space: Callable[[Shape], tuple[list[Any], list[Any]]]
    defaults: Callable[[Shape], tuple[Hyperparameters, ...]]
    fit: Callable[[FoldData, Hyperparameters, Limits], Model]
    save: Callable[[Any, Path], None]
    load: Callable[[Path], Model]
    seconds: Callable[[Shape, Hyperparameters], float]
    verify: Callable[[Path], None] | None = None
    """``verify(folder)``: checks of a model's files that take long and that a native parser would crash without.

    Done once for a file from elsewhere, before `load`; raises `BadArtifact`.
    """
    offered: Callable[[Shape], bool] = lambda shape: True
    """Whether the family is offered for a problem of this shape at all."""
    slow_to_predict: bool = False
    """Whether predicting takes many times what other families take, as where training rows are looked at."""
    adapts: bool = True
    """Whether it learns from rows of a source, or without labels, too; see `automl_cli.transfer.adaptation`."""
    modules: tuple[str, ...] = ()
    """What a fit imports: a worker does so once, before the seconds of a trial are counted."""
    contributions: Callable[[Any, Matrix, int], Array] | None = None
    """``contributions(model, data, threads)``: what each feature adds to a raw prediction, in families that can tell.

    Float64 of shape (n_rows, n_features + 1, n_raw); the last feature stands for the base, and the sum over features
    is the raw prediction: a value, the log odds of the second of two classes, or what the softmax of several classes
    is taken of. A class that the training rows lack has zeros.
    """
    thinned: Callable[[Any, int], Any] | None = None
    """``thinned(model, n)``: a part of a model that is as good, once it has been judged, in a bag of ``n`` of them."""
    explains: Callable[[Hyperparameters], bool] = lambda hyperparameters: True
    """Whether ``contributions`` are right for a model of these hyperparameters."""

    def installed(self) -> bool:
        """Whether the package is there, and whatever else a fit imports; nothing is imported for it."""
        wanted = {self.package, *(module.partition(".")[0] for module in self.modules)}
        return all(importlib.util.find_spec(name) is not None for name in wanted)


def without_encoding(family: Family, name: str) -> Family:
    """Return the family without one of its encodings; the default stays."""
    return replace(family, encodings=(family.encodings[0], *(e for e in family.encodings[1:] if e != name)))


def as_probabilities(raw: Array) -> Array:
    """Clip to [0, 1] and make rows sum to one; a single column becomes two.

    >>> as_probabilities(np.array([[0.2], [1.0]]))
    array([[0.8, 0.2],
           [0. , 1. ]])
    """
    p: Array = np.clip(np.asarray(raw, dtype=np.float64), 0.0, 1.0)
    if p.shape[1] == 1:
        return np.hstack([1.0 - p, p])
    normal: Array = p / np.maximum(p.sum(axis=1, keepdims=True), np.finfo(float).tiny)
    return normal


def smoothing_prior(data: FoldData) -> Array:
    """Return float64 of shape (n_outputs,): what a class is worth before any neighbour or tree has voted.

    Shares of the classes in training, by weight, with one row more for each class: none is impossible. Empty for a
    regression.
    """
    if data.kind is TaskKind.REGRESSION:
        return np.zeros(0)
    weight = data.weight if data.weight is not None and data.weight.sum() > 0 else np.ones(len(data.y))
    shares = np.bincount(data.y, weights=weight / weight.sum(), minlength=data.n_outputs)
    prior: Array = (shares * len(data.y) + 1.0) / (len(data.y) + data.n_outputs)
    return prior


def is_prior(prior: Array, n_outputs: int, *, regression: bool, part: bool = False) -> bool:
    """Whether an array that was read can be what `smoothing_prior` returned, or with ``part`` a part of that vote."""
    if regression:
        return len(prior) == 0
    least = 0.0 if part else 1.0 - 1e-6
    return len(prior) == n_outputs and bool((prior >= 0).all()) and least < float(prior.sum()) < 1.0 + 1e-6


def smoothed(probabilities: Array, prior: Array, n_votes: int) -> Array:
    """Mix the mean of ``n_votes`` votes with one for the prior, or the part of one that it adds up to.

    No probability is 0 then, which log loss punishes.

    >>> smoothed(np.array([[1.0, 0.0]]), np.array([0.5, 0.5]), 4)
    array([[0.9, 0.1]])
    """
    mixed: Array = (n_votes * probabilities + prior) / (n_votes + prior.sum())
    return mixed


def is_absolute(data: FoldData) -> bool:
    """Whether the user's metric is about absolute errors: a median is then a better guess than a mean."""
    return data.kind is TaskKind.REGRESSION and data.metric in ABSOLUTE


def median(y: Array, weight: Array | None) -> float:
    """Return the value at which half of the weight is reached.

    >>> median(np.array([3.0, 1.0, 2.0]), np.array([0.1, 5.0, 0.1]))
    1.0
    """
    return quantile(y, weight, 0.5)


def quantile(y: Array, weight: Array | None, share: float) -> float:
    """Return the value at which a share of the weight is reached.

    >>> quantile(np.array([3.0, 1.0, 2.0]), None, 0.9)
    3.0
    """
    order = np.argsort(y, kind="stable")
    reached = np.cumsum(np.ones(len(y)) if weight is None else weight[order])
    return float(y[order[np.searchsorted(reached, share * reached[-1])]])


def none_impossible(probabilities: Array, y: Array) -> Array:
    """Return probabilities in which a class that the training rows lack has its part of one row more.

    A class that appears later, or in one group alone, has probability 0 in some families and about one in the number
    of rows in others. The log loss of its few rows would then decide between them, although the saved model knows the
    class: by its other folds, or because it was fitted on all rows.

    Parameters
    ----------
    probabilities : ndarray of shape (n_rows, n_classes)
    y : ndarray of shape (n_training_rows,), int64
        Classes of the rows that the model learned from.

    >>> none_impossible(np.array([[1.0, 0.0]]), np.array([0, 0, 0]))
    array([[0.875, 0.125]])
    >>> none_impossible(np.array([[1.0, 0.0]]), np.array([0, 1, 0]))
    array([[1., 0.]])
    """
    n_classes = probabilities.shape[1]
    if len(np.unique(y)) == n_classes:
        return probabilities
    mixed: Array = (len(y) * probabilities + 1.0 / n_classes) / (len(y) + 1)
    return mixed


def present_classes(data: FoldData) -> tuple[Array, Array]:
    """Return the classes that occur in training, ascending, and ``y`` as positions among them.

    A fold may lack a rare class, which some libraries refuse. For a regression there are no classes and ``y`` is
    returned as it is.
    """
    if data.kind is TaskKind.REGRESSION:
        return np.zeros(0, dtype=np.int64), data.y
    classes, positions = np.unique(data.y, return_inverse=True)
    return classes.astype(np.int64), positions.astype(np.int64)


def spread(probabilities: Array, classes: Array, n_outputs: int) -> Array:
    """Put probabilities of the present classes into their columns; the others get zero.

    >>> spread(np.array([[0.3, 0.7]]), np.array([0, 2]), 3)
    array([[0.3, 0. , 0.7]])
    """
    full = np.zeros((len(probabilities), n_outputs))
    full[:, classes] = probabilities
    return as_probabilities(full) if n_outputs > 1 else full


def without_infinities(X: Array) -> Array:
    """Return float32 ``X`` with infinities moved to the largest finite number; a copy only where there are any."""
    if not np.isinf(X).any():
        return X
    most = np.finfo(X.dtype).max
    return np.clip(X, -most, most)
