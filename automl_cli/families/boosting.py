"""What the boosting families share: when to stop, how many rounds at most, and which categories were seen."""

from dataclasses import dataclass
from math import inf
from pathlib import Path

import numpy as np

from automl_cli.clock import Deadline
from automl_cli.families.arrays import Expected, bad_model, load_arrays, save_arrays
from automl_cli.families.family import FoldData, Limits, Shape
from automl_cli.features.matrix import Array, Matrix
from automl_cli.task import TaskKind

MOST_ROUNDS = 10_000
# Gains below this share of the best loss, summed up over the whole patience, are noise.
_NOISE = 1e-4
# ... and below this share of the loss at the first round nobody can see them. For classes only: the log loss of
# separable ones falls for ever.
_INVISIBLE = 1e-5
# Boosting needs about this many rounds times its rate to converge.
_ROUNDS_TIMES_RATE = 15.0
_COARSEST_RATE = 0.3
_WARM_ROUNDS = 6
MOST_HISTOGRAMS = 128 * 2**20  # bytes that one fit may keep of histograms
BYTES_PER_BIN = 16  # a sum of gradients and one of hessians


@dataclass
class Stopping:
    """Early stopping with a patience that grows with the best round.

    The patience is ``max(p_min, 0.3 * best + 20)`` as in AutoGluon, whose ``p_min`` of up to 300 rounds is here at most
    50, see `least_patience`. It also stops when the next round would end after the deadline.

    Attributes
    ----------
    n_rows : int
        Training rows.
    best_round : int
        How many rounds gave the lowest loss, and so how many are kept.
    cut : bool
        Whether the deadline ended the training.
    fixed : int or None
        Boost exactly so often instead.
    floor : float
        Gains below this share of the first loss count as none.
    raised : float
        By how much the rate was raised so that the fit converges in its seconds.
    coarser : bool
        Whether anything was made coarser for the seconds' sake.
    """

    n_rows: int
    deadline: Deadline
    fixed: int | None = None
    floor: float = 0.0
    best_loss: float = inf
    best_round: int = 1
    rounds: int = 0
    cut: bool = False
    raised: float = 1.0
    coarser: bool = False
    _reference: float = inf
    _gained: int = 0
    _first: float = 0.0
    _started: float = -1.0

    def should_stop(self, loss: float) -> bool:
        """Take the validation loss of the round that just ended and say whether it was the last one."""
        self.rounds += 1
        if self.rounds == 1:
            self._first, self._started = abs(loss), self.deadline.elapsed()
        if loss < self.best_loss:
            self.best_loss, self.best_round = loss, self.rounds
        if loss < self._reference - max(_NOISE * abs(self._reference), self.floor * self._first) or self.rounds == 1:
            self._reference, self._gained = loss, self.rounds
        self.late()
        if self.fixed is not None:
            self.best_loss, self.best_round = loss, self.rounds
            return self.cut or self.rounds >= self.fixed
        return self.cut or self.rounds - self._gained >= self.patience()

    def patience(self) -> float:
        """Return how many rounds without a gain are waited for."""
        return max(least_patience(self.n_rows), 0.3 * self.best_round + 20)

    def coarser_rate(self, rate: float) -> float | None:
        """Return a larger rate for the rest of a timed fit that would be cut long before ``rate`` converges.

        Asked after every round, it answers once at most, when the first rounds have shown what a round takes.
        """
        if self.fixed is not None or not self.deadline.limited or self.raised > 1.0 or not self._warm():
            return None
        seconds_per_round = (self.deadline.elapsed() - self._started) / (self.rounds - 1)
        possible = self.rounds + self.deadline.seconds_left() / max(seconds_per_round, 1e-9)
        wanted = min(_COARSEST_RATE, _ROUNDS_TIMES_RATE / possible)
        if wanted <= 1.1 * rate:
            return None
        self.raised, self.coarser = wanted / rate, True
        return wanted

    def afresh(self, *, raised: float = 1.0) -> "Stopping":
        """Return the rule for a fit that starts again, coarser: ``raised`` says by how much its rate is larger."""
        return Stopping(self.n_rows, self.deadline, self.fixed, self.floor, raised=raised, coarser=True)

    def _warm(self) -> bool:
        """Whether it is time to ask: after some rounds, or fewer that took a tenth of the seconds."""
        if not 1 < self.rounds < _WARM_ROUNDS:
            return self.rounds == _WARM_ROUNDS
        return self.deadline.elapsed() - self._started > 0.1 * self.deadline.total

    @property
    def shortened(self) -> bool:
        """Whether more seconds would have given another model: the fit was cut, or made coarser."""
        return self.cut or self.coarser

    @property
    def rounds_at_rate(self) -> int:
        """The kept rounds, as many as the unchanged rate would need for the same."""
        return max(1, round(self.best_round * self.raised))

    def late(self) -> bool:
        """Say whether the next round would end after the deadline, and remember it in ``cut``."""
        self.cut = self.deadline.limited and self._too_late()
        return self.cut

    def _too_late(self) -> bool:
        # The finished rounds have to be written out and parsed again: about a twentieth of their time.
        seconds_per_round = (self.deadline.elapsed() - self._started) / max(self.rounds - 1, 1)
        reserve = 2 * seconds_per_round + 0.05 * (self.deadline.elapsed() - self._started)
        return self.deadline.seconds_left() <= reserve


def least_patience(n_rows: int) -> int:
    """Return how many rounds without a gain are waited for at least.

    AutoGluon waits for ``300 * min(1, 10000 / n)`` rounds, at least 20. On small tables most of a fit is then spent
    waiting: replayed on recorded curves (docs/early-stopping.md), almost half of all rounds buys next to nothing.

    >>> least_patience(5_000), least_patience(100_000), least_patience(10_000_000)
    (50, 30, 20)
    """
    return round(min(50, max(20, 3_000_000 / max(n_rows, 1))))


def stopping_for(data: FoldData, deadline: Deadline, limits: Limits) -> Stopping:
    """Return the stopping rule of a fold."""
    floor = 0.0 if data.kind is TaskKind.REGRESSION else _INVISIBLE
    return Stopping(len(data.y), deadline, limits.rounds, floor)


def least_l2(data: FoldData, rare: float = 0.1) -> float:
    """Return the least L2 regularisation of the leaves: 1 where a class of two has less than the share ``rare``.

    A leaf of rows that are as good as surely of the common class has a hessian near zero, and one row of the other
    class makes its Newton step huge: of XGBoost's tuned default a single round was worth keeping.
    """
    if data.kind is not TaskKind.BINARY:
        return 0.0
    of_class = np.bincount(data.y, weights=data.weight, minlength=2)
    return 1.0 if of_class.min() < rare * of_class.sum() else 0.0


def n_trees_per_round(shape: Shape) -> int:
    """Trees that one round of a multiclass problem needs: one per class."""
    return shape.n_outputs if shape.n_outputs > 2 else 1


def shape_of(data: FoldData) -> Shape:
    """Return the size of a fold, as the cost guesses want it."""
    n_rows, n_columns = data.train.X.shape
    return Shape(data.kind, n_rows, n_columns, len(data.train.categorical), data.n_outputs)


def most_rounds(seconds_per_round: float) -> int:
    """Return how many rounds a fit may take: what about ten minutes of one core can hold.

    >>> most_rounds(1e-4), most_rounds(1.0)
    (10000, 600)
    """
    return int(np.clip(600 / max(seconds_per_round, 1e-9), 100, MOST_ROUNDS))


def expected_rounds(shape: Shape, learning_rate: float) -> float:
    """Guess the rounds that training takes, the patience after the best one included."""
    best = 15 / learning_rate
    patience = max(least_patience(shape.n_rows), 0.3 * best + 20)
    return min(best + patience, MOST_ROUNDS)


def affordable_rate(shape: Shape, published: float) -> float:
    """Raise a published learning rate where rounds are expensive: many rows or many classes.

    Published rates were found with hours at hand; a fit that its seconds cut off is worse than a coarser one.
    """
    size = shape.n_rows * n_trees_per_round(shape)
    steps = ((20_000, 0.0), (100_000, 0.06), (float("inf"), 0.1))
    return max(published, next(rate for rows, rate in steps if size <= rows))


@dataclass(frozen=True)
class SeenCodes:
    """The category codes that occurred in training; all others are missing at prediction.

    Attributes
    ----------
    features : int64 (n_categorical,)
        Columns of the matrix that hold codes.
    ends : int64 (n_categorical,)
        Where each feature's part of ``seen`` ends.
    seen : bool (sum of sizes,)
        Whether code 0, 1, ... of a feature occurred.
    """

    features: Array
    ends: Array
    seen: Array

    @classmethod
    def of(cls, matrix: Matrix) -> "SeenCodes":
        """Collect the codes of the training rows."""
        parts = [_occurring(matrix.X[:, feature]) for feature in matrix.categorical]
        ends = np.cumsum([len(part) for part in parts], dtype=np.int64)
        return cls(
            features=np.asarray(matrix.categorical, dtype=np.int64),
            ends=ends,
            seen=np.concatenate(parts) if parts else np.zeros(0, dtype=bool),
        )

    def codes(self, X: Array, position: int) -> Array:
        """Return int64 codes of the ``position``-th categorical feature, -1 where missing or never seen."""
        start = int(self.ends[position - 1]) if position else 0
        seen = self.seen[start : int(self.ends[position])]
        column = X[:, self.features[position]]
        # NaN compares false with both bounds
        inside = (column >= 0) & (column < len(seen))
        codes = np.where(inside, column, 0).astype(np.int64)
        known = inside & seen[codes] if len(seen) else inside
        return np.where(known, codes, -1)

    def mask(self, X: Array) -> Array:
        """Return ``X`` with NaN in place of codes that training never saw; a copy only where there are any."""
        masked = X
        for position, feature in enumerate(self.features):
            unseen = (self.codes(X, position) < 0) & ~np.isnan(X[:, feature])
            if unseen.any():
                masked = X.copy() if masked is X else masked
                masked[unseen, feature] = np.nan
        return masked

    def save(self, path: Path) -> None:
        """Write the codes as plain arrays."""
        save_arrays(path, {"features": self.features, "ends": self.ends, "seen": self.seen})

    @classmethod
    def load(cls, path: Path) -> "SeenCodes":
        """Read what `save` wrote; raises `BadArtifact` where that is not what the file holds."""
        arrays = load_arrays(path, {"features": Expected("i", 1), "ends": Expected("i", 1), "seen": Expected("b", 1)})
        features, ends, seen = arrays["features"], arrays["ends"], arrays["seen"]
        starts = np.concatenate([[0], ends])
        if len(features) != len(ends) or (np.diff(starts) < 0).any() or starts[-1] != len(seen):
            raise bad_model(path, "categories do not add up")
        if len(features) and (features.min() < 0 or (np.diff(features) <= 0).any()):
            raise bad_model(path, "a feature is out of range")
        return cls(features, ends, seen)


def _occurring(column: Array) -> Array:
    """Return one bool per code: whether it occurs in a float column with NaN for missing."""
    codes = column[~np.isnan(column)].astype(np.int64)
    codes = codes[codes >= 0]
    seen = np.zeros(int(codes.max()) + 1 if len(codes) else 0, dtype=bool)
    seen[codes] = True
    return seen
