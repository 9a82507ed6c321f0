"""How long a network will train, learned while networks are trained."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from automl_cli.nas.decisions import Candidate, Fits

Vector = NDArray[np.float64]

_SECONDS_PER_STEP = 2e-4  # and block: what a library takes however small the layer is; a laptop's core
_SECONDS_PER_OPERATION = 1.5e-10  # multiply-adds, forwards; the way back is in it
_SECONDS_FIXED = 0.1
_BLOCKS_PER_STEP = 5  # what a step takes besides its blocks: embeddings, loss, optimizer
_TRUST = 3.0  # the guess counts as so many trainings
_FIRST_MARGIN = 2.0
_QUANTILE = 0.9


@dataclass(frozen=True)
class Work:
    """What a training takes, counted.

    Attributes
    ----------
    steps : float
        Steps of the optimizer, times blocks and what comes with any: each has its overhead.
    operations : float
        Multiply-adds of one row's way through the network, times rows, times epochs.
    """

    steps: float
    operations: float


def work_of(candidate: Candidate, multiply_adds: float, *, rows: float, epochs: float) -> Work:
    """Count a training.

    Parameters
    ----------
    multiply_adds : float
        For one row, of all members.
    rows : float
        Rows trained on in an epoch: those of the table times the fidelity.
    """
    steps = (
        epochs * np.ceil(rows / candidate.training.batch_size) * (len(candidate.architecture.blocks) + _BLOCKS_PER_STEP)
    )
    return Work(float(steps), multiply_adds * rows * epochs)


class Costs:
    """Predicts seconds as a constant plus multiples of steps and operations, none below 0.

    The multiples begin as guesses and are fitted to what trainings took, by least squares of the relative error with
    the guess as a few trainings more. From there on a machine, threads and library are known. A training that was cut
    by its limit must not be learned from, nor one that stopped early if predictions are of whole trainings.

    Parameters
    ----------
    work : callable
        ``work(candidate, fidelity) -> Work``.

    Examples
    --------
    >>> from automl_cli.nas.decisions import parse_candidate
    >>> small = parse_candidate("none cat8 k1 | dense64 relu none d0 @ lr0.04 wd0 ls0 cosine b128")
    >>> costs = Costs(lambda candidate, fidelity: Work(1e4 * fidelity, 2e9 * fidelity))
    >>> before = costs.seconds(small)
    >>> for _ in range(20):
    ...     costs.learn(small, 1.0, 8.0)
    >>> round(before, 1), round(costs.seconds(small))
    (2.4, 8)
    """

    def __init__(self, work: Callable[[Candidate, float], Work]) -> None:
        self._work = work
        self._guess = np.array([_SECONDS_FIXED, _SECONDS_PER_STEP, _SECONDS_PER_OPERATION])
        self._multiples = self._guess
        self._known: list[tuple[Vector, float]] = []
        self._ratios: list[float] = []
        self._margin = _FIRST_MARGIN

    def seconds(self, candidate: Candidate, fidelity: float = 1.0) -> float:
        """Return the seconds a training is expected to take."""
        return float(self._features(candidate, fidelity) @ self._multiples)

    def at_most(self, candidate: Candidate, fidelity: float = 1.0) -> float:
        """Return seconds that nine of ten trainings stay below."""
        return self._margin * self.seconds(candidate, fidelity)

    def learn(self, candidate: Candidate, fidelity: float, seconds: float) -> None:
        """Fit to one more training."""
        features = self._features(candidate, fidelity)
        if self._known:  # the first only says how fast the machine is
            self._ratios.append(seconds / float(features @ self._multiples))  # not learned from yet: an honest error
        self._known.append((features, max(seconds, 1e-3)))
        self._margin = max(1.1, float(np.quantile([_FIRST_MARGIN, *self._ratios[-30:]], _QUANTILE)))
        self._multiples = self._fitted()

    def ends_within(self, seconds_left: Callable[[], float], fidelity: float = 1.0) -> Fits:
        """Return a limit: can a candidate's training end before the deadline, which is asked each time."""
        return lambda candidate: self.at_most(candidate, fidelity) <= seconds_left()

    def _features(self, candidate: Candidate, fidelity: float) -> Vector:
        work = self._work(candidate, fidelity)
        return np.array([1.0, work.steps, work.operations])

    def _fitted(self) -> Vector:
        from scipy.optimize import nnls  # noqa: PLC0415

        rows = np.stack([features / seconds for features, seconds in self._known]) * self._guess
        ones = np.ones(len(rows))
        # the machine may be slower or faster as a whole: the guess is a shape, its scale is what was seen
        scale = float(np.exp(np.median(np.log(1.0 / rows.sum(axis=1)))))
        prior = np.sqrt(_TRUST / 3) * np.eye(3)
        found, _ = nnls(np.vstack([rows, prior / scale]), np.concatenate([ones, np.sqrt(_TRUST / 3) * np.ones(3)]))
        return np.asarray(found * self._guess)
