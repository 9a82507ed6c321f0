"""How a network is trained, as values: rates, schedules, and what it is given; without torch."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np

from automl_cli.clock import Deadline
from automl_cli.features.matrix import Array

_MOST_SETTLED, _EPOCHS_PER_SETTLED = 5, 15


def _risen(done: float, share: float) -> float:
    """Return the factor of a rate that rises over the first ``share`` of the steps."""
    return min(1.0, max(done, 0.01 * share) / share)


def constant(done: float) -> float:
    """Return 1, after a rise."""
    return _risen(done, 0.05)


def cosine(done: float) -> float:
    """Return a factor that rises for a tenth of the steps and then falls along a cosine.

    >>> round(cosine(0.1), 3), round(cosine(0.55), 3), round(cosine(1.0), 3)
    (1.0, 0.5, 0.0)
    """
    return _risen(done, 0.1) * 0.5 * (1 + math.cos(math.pi * max(0.0, done - 0.1) / 0.9))


def coslog4(done: float) -> float:
    """Return RealMLP's factor: four waves, each longer than the one before.

    >>> [round(coslog4(t), 3) for t in (0.0, 0.0276, 1.0)]
    [0.0, 1.0, 0.0]
    """
    return 0.5 * (1 - math.cos(2 * math.pi * math.log2(1 + 15 * done)))


SCHEDULES: Mapping[str, Callable[[float], float]] = MappingProxyType(
    {"constant": constant, "cosine": cosine, "coslog4": coslog4}
)
"""The rate's factor by the share of the training that is done."""


def settled_loss(losses: Sequence[float], epochs: int) -> float:
    """Return what an epoch is chosen by: the mean validation loss of the last few, of five where there are many.

    The lowest of a hundred noisy losses is the luckiest: an epoch that is chosen by it predicts its validation rows
    better than any others, and gets more weight in an ensemble than it is worth.

    Parameters
    ----------
    losses : sequence of float
        After each epoch so far.
    epochs : int
        Of the whole schedule, as it is drawn together.

    Examples
    --------
    >>> settled_loss([3.0, 1.0, 2.0], epochs=30), settled_loss([3.0, 1.0, 2.0], epochs=150)
    (1.5, 2.0)
    """
    last = losses[-max(1, min(_MOST_SETTLED, epochs // _EPOCHS_PER_SETTLED)) :]
    return math.fsum(last) / len(last)


def flat_cos(done: float) -> float:
    """Return the factor of dropout and weight decay: 1 for half of the training, then down along a cosine.

    >>> flat_cos(0.5), round(flat_cos(0.75), 3), round(flat_cos(1.0), 3)
    (1.0, 0.5, 0.0)
    """
    return 1.0 if done <= 0.5 else 0.5 * (1 + math.cos(math.pi * (2 * done - 1)))


@dataclass(frozen=True)
class Recipe:
    """How to train.

    Attributes
    ----------
    epochs : int
        The schedule is for so many; seconds may draw it together.
    rate : float
        Of a weight that sums up ``n`` inputs the step is ``rate / sqrt(n)``, so that one rate suits all widths (the
        parametrisation of RealMLP [1]_, written as rates).
    weight_decay : float
        A step shrinks weights by ``rate * weight_decay``.
    dropout : float
        Factor of the blocks' own.
    label_smoothing : float
        Share of the other classes in the targets of training.
    patience : int
        Epochs without a gain after which training ends.
    absolute : bool
        Whether a regression minimises the absolute error.

    References
    ----------
    .. [1] Holzmüller, Grinsztajn, Steinwart, Better by default: strong pre-tuned MLPs and boosted trees on tabular
       data, NeurIPS 2024.
    """

    epochs: int
    rate: float = 0.04
    weight_decay: float = 0.02
    batch_size: int = 256
    schedule: str = "cosine"
    dropout: float = 1.0
    label_smoothing: float = 0.0
    patience: int = 1_000
    absolute: bool = False


@dataclass(frozen=True)
class Means:
    """What a training may use.

    Attributes
    ----------
    exactly : int or None
        Train so many epochs of the schedule, whatever the validation rows say.
    """

    seed: int
    threads: int = 1
    deadline: Deadline = field(default_factory=lambda: Deadline.after(None))
    exactly: int | None = None


@dataclass(frozen=True)
class Columns:
    """Rows as a network sees them.

    Attributes
    ----------
    numbers, flags : float32 of shapes (n_rows, n_numbers) and (n_rows, n_flags)
        Complete, of one scale.
    codes : int64 of shape (n_rows, n_categories)
        0 is missing or unknown.
    """

    numbers: Array
    flags: Array
    codes: Array

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.numbers)

    def take(self, rows: Array) -> "Columns":
        """Return some of the rows."""
        return Columns(self.numbers[rows], self.flags[rows], self.codes[rows])


@dataclass(frozen=True)
class Examples:
    """Rows and what they are to give.

    Attributes
    ----------
    y : float32 values of a regression, int64 positions of classes otherwise
    weight : float32, 1 in the mean
    """

    columns: Columns
    y: Array
    weight: Array

    @property
    def classify(self) -> bool:
        """Whether ``y`` holds classes."""
        return self.y.dtype.kind == "i"

    def take(self, rows: Array) -> "Examples":
        """Return some of the rows: a cheaper fidelity."""
        return Examples(self.columns.take(rows), self.y[rows], self.weight[rows])


def examples(columns: Columns, y: Array, weight: Array | None) -> Examples:
    """Return rows with weights of mean 1; without any, or where they sum to nothing, all weigh the same."""
    even = weight is None or not weight.sum() > 0
    weights = np.ones(len(y)) if even or weight is None else weight * (len(y) / weight.sum())
    target = y.astype(np.int64) if y.dtype.kind in "iu" else y.astype(np.float32)
    return Examples(columns, target, weights.astype(np.float32))


@dataclass(frozen=True)
class Trained:
    """A trained network.

    Attributes
    ----------
    weights : Mapping of name to float32 array
        Of the epoch that is kept, see `automl_cli.neural.counts.tensors`.
    epoch : int
        The one that is kept, from 1; see `settled_loss`.
    losses : tuple of float
        Validation loss after each epoch: log loss, half the squared error, or the absolute error.
    cut : bool
        Whether the seconds ended or shortened the training.
    """

    weights: Mapping[str, Array]
    epoch: int
    losses: tuple[float, ...]
    cut: bool

    @property
    def loss(self) -> float:
        """Validation loss of the epoch that is kept; infinite without one."""
        return self.losses[self.epoch - 1] if self.losses else math.inf
