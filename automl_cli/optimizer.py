"""Which pipeline to try next: an ordered portfolio, then SMAC's random forest, behind ask and tell.

SMAC is used for its surrogate, not for its loop: the facade asks questions on the terminal, writes into the working
folder, keeps no account of running trials and takes a second for an ask (a tenth of one here, see docs/optimizer.md).
"""

import copy
import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from automl_cli.trial import Pipeline

if TYPE_CHECKING:
    from ConfigSpace import Configuration, ConfigurationSpace

__all__ = ["Optimizer", "Portfolio", "RandomSearch", "Smac", "SpaceExhausted", "load_smac", "log_costs"]

Vector = NDArray[np.float64]

MIN_TOLD = 5  # a forest on fewer results only repeats them
RANDOM_SHARE = 0.2  # SMAC's own interleaving; it keeps a wrong surrogate from locking the search in
N_TREES = 10
N_CHALLENGERS = 1000
N_STARTS = 4  # local searches from the best known, and as many from the best random configurations
N_NEIGHBOURS = 24
N_STEPS = 6
MAX_DRAWS = 2000


class SpaceExhausted(Exception):  # noqa: N818 - the end of a search, not an error
    """Every configuration that could be found in the space has been handed out."""


class Optimizer(Protocol):
    """Proposes pipelines and learns from their losses. Not for use from two threads at once."""

    def ask(self) -> tuple[Pipeline, str]:
        """Return a pipeline that was never handed out before and its origin: "portfolio", "smac" or "random".

        Raises
        ------
        SpaceExhausted
            If nothing new is left in a finite space.
        """
        ...

    def tell(self, pipeline: Pipeline, loss: float | None, seconds: float) -> None:
        """Learn that ``pipeline`` reached ``loss`` (0 is best; None: it failed) after ``seconds``.

        The pipeline need not have been asked for: that is how a resumed run and a warm start begin.
        """
        ...


class Portfolio:
    """Hands out an ordered list first, then what another optimizer asks; that one hears every result.

    Parameters
    ----------
    pipelines : sequence of Pipeline
        In the order in which they are tried; a repeated one is handed out once.
    then : Optimizer, or callable that gives one
        Called once, when the list has come to its end; what was told before then is told to it in the same order. A
        callable lets SMAC load in another thread while the list is tried: ``then=thread_future.result``.

    Examples
    --------
    >>> class Nothing:
    ...     def ask(self): raise SpaceExhausted
    ...     def tell(self, pipeline, loss, seconds): pass
    >>> portfolio = Portfolio([Pipeline("linear", "one_hot", {"C": 1.0})], Nothing())
    >>> pipeline, origin = portfolio.ask()
    >>> pipeline.family, origin
    ('linear', 'portfolio')
    """

    def __init__(self, pipelines: Sequence[Pipeline], then: Optimizer | Callable[[], Optimizer]) -> None:
        self._waiting = deque(dict.fromkeys(pipelines))
        self._start: Callable[[], Optimizer] = then if callable(then) else lambda: then
        self._then: Optimizer | None = None
        self._seen: set[Pipeline] = set()
        self._told: list[tuple[Pipeline, float | None, float]] = []

    def ask(self) -> tuple[Pipeline, str]:
        """Return the next of the list, or what the other optimizer asks."""
        while self._waiting:
            pipeline = self._waiting.popleft()
            if pipeline not in self._seen:  # told before it was asked: a resumed run
                self._seen.add(pipeline)
                return pipeline, "portfolio"
        then = self._started()
        pipeline, origin = then.ask()
        while pipeline in self._seen:  # handed out from the list and still running
            pipeline, origin = then.ask()
        self._seen.add(pipeline)
        return pipeline, origin

    def tell(self, pipeline: Pipeline, loss: float | None, seconds: float) -> None:
        """Keep the result for the other optimizer, or hand it on if that one has started."""
        self._seen.add(pipeline)
        if self._then is None:
            self._told.append((pipeline, loss, seconds))
        else:
            self._then.tell(pipeline, loss, seconds)

    def _started(self) -> Optimizer:
        if self._then is None:
            self._then = self._start()
            for result in self._told:
                self._then.tell(*result)
            self._told.clear()
        return self._then


class RandomSearch:
    """Proposes configurations drawn at random from the space.

    Parameters
    ----------
    space : ConfigurationSpace
        Copied, so that its own random state is left alone.
    to_pipeline : callable
        ``to_pipeline(configuration) -> Pipeline``.
    seed : int
        The same seed gives the same sequence, in any process.
    """

    def __init__(
        self, space: "ConfigurationSpace", to_pipeline: Callable[["Configuration"], Pipeline], *, seed: int
    ) -> None:
        self._draws = _Draws(space, to_pipeline, seed)
        self._seen: set[Pipeline] = set()

    def ask(self) -> tuple[Pipeline, str]:
        """Return a random pipeline."""
        _, pipeline = self._draws.unseen(self._seen)
        self._seen.add(pipeline)
        return pipeline, "random"

    def tell(self, pipeline: Pipeline, loss: float | None, seconds: float) -> None:
        """Remember only that the pipeline was tried."""
        self._seen.add(pipeline)


class Smac:
    """SMAC's optimizer of hyperparameters: a random forest on log costs, expected improvement, local search [1]_.

    The first `MIN_TOLD` results come from random configurations (or from a `Portfolio` before this one), and a fifth of
    all later ones too. Configurations that are still running are believed to reach what the forest predicts for them
    ("kriging believer" [2]_), so that proposals made at the same moment differ. A failure counts a little worse than
    the worst loss so far. Proposals depend on the seed and on the sequence of calls, never on a clock.

    Parameters
    ----------
    space : ConfigurationSpace
        Copied, so that its own random state is left alone.
    to_pipeline : callable
        ``to_pipeline(configuration) -> Pipeline``.
    to_configuration : callable
        ``to_configuration(space, pipeline) -> Configuration``, its inverse.
    seed : int
        The same seed and the same calls give the same proposals, in any process.

    Notes
    -----
    Constructing one imports smac, which takes two seconds: do it in a thread while the first pipelines are fitted.

    References
    ----------
    .. [1] Lindauer et al., SMAC3: A Versatile Bayesian Optimization Package, JMLR 2022.
    .. [2] Ginsbourger et al., Kriging is well-suited to parallelize optimization, 2010.
    """

    def __init__(
        self,
        space: "ConfigurationSpace",
        to_pipeline: Callable[["Configuration"], Pipeline],
        to_configuration: Callable[["ConfigurationSpace", Pipeline], "Configuration"],
        *,
        seed: int,
    ) -> None:
        load_smac()
        self._draws = _Draws(space, to_pipeline, seed)
        self._to_pipeline = to_pipeline
        self._to_configuration = to_configuration
        self._rng = np.random.default_rng(seed)
        self._forest = _forest(self._draws.space, seed)
        self._losses: dict[Pipeline, float | None] = {}
        self._configurations: dict[Pipeline, Configuration] = {}
        self._pending: dict[Pipeline, Configuration] = {}

    def ask(self) -> tuple[Pipeline, str]:
        """Return the pipeline with the largest expected improvement, now and then a random one."""
        seen = self._losses.keys() | self._pending.keys()
        is_random = self._rng.random() < RANDOM_SHARE  # drawn always, so that the sequence does not shift
        origin = "random"
        configuration, pipeline = None, None
        if not is_random and len(self._losses) >= MIN_TOLD:
            found = next(((c, p) for c in self._candidates() if (p := self._to_pipeline(c)) not in seen), None)
            if found is not None:
                (configuration, pipeline), origin = found, "smac"
        if configuration is None or pipeline is None:
            configuration, pipeline = self._draws.unseen(seen)
        self._pending[pipeline] = configuration
        return pipeline, origin

    def tell(self, pipeline: Pipeline, loss: float | None, seconds: float) -> None:
        """Learn a loss; one that is not finite is a failure. A second telling replaces the first."""
        self._losses[pipeline] = loss if loss is not None and math.isfinite(loss) else None
        running = self._pending.pop(pipeline, None)
        if pipeline not in self._configurations:
            known = running or self._to_configuration(self._draws.space, pipeline)
            self._configurations[pipeline] = known

    def _candidates(self) -> "Iterator[Configuration]":
        """Train the forest and yield candidates, the largest expected improvement first."""
        known = list(self._configurations.values())
        best = self._train(known)
        by_mean = np.argsort(self._predict(known)[0], kind="stable")[:N_STARTS]
        challengers = self._draws.space.sample_configuration(N_CHALLENGERS)
        gains = self._gains(challengers, best)
        by_gain = np.argsort(-gains, kind="stable")[:N_STARTS]
        starts = [known[i] for i in by_mean] + [challengers[i] for i in by_gain]
        climbed, climbed_gains = self._climb(starts, best)
        candidates = climbed + challengers
        order = np.argsort(-np.concatenate([climbed_gains, gains]), kind="stable")
        return (candidates[i] for i in order)

    def _train(self, known: "list[Configuration]") -> float:
        """Fit the forest to known and believed costs; return the lowest predicted cost."""
        costs = log_costs([self._losses[pipeline] for pipeline in self._configurations])
        vectors = _vectors(known)
        self._forest.train(vectors, costs[:, None])
        if self._pending:
            pending = list(self._pending.values())
            costs = np.concatenate([costs, self._predict(pending)[0]])
            vectors = np.vstack([vectors, _vectors(pending)])
            self._forest.train(vectors, costs[:, None])
        return float(self._forest.predict_marginalized(vectors)[0].min())

    def _climb(self, starts: "list[Configuration]", best: float) -> "tuple[list[Configuration], Vector]":
        """Walk from every start to its best neighbour until no walk gains; all walks share each prediction."""
        from ConfigSpace.util import get_one_exchange_neighbourhood  # noqa: PLC0415

        current, gains = list(starts), self._gains(starts, best)
        active = list(range(len(current)))
        for _ in range(N_STEPS):
            around = [
                list(islice(get_one_exchange_neighbourhood(current[i], self._seed(), stdev=0.1), N_NEIGHBOURS))
                for i in active
            ]
            flat = [neighbour for neighbours in around for neighbour in neighbours]
            if not flat:
                break
            reached = np.split(self._gains(flat, best), np.cumsum([len(neighbours) for neighbours in around])[:-1])
            moved = []
            for i, neighbours, gain in zip(active, around, reached, strict=True):
                if len(gain) and gain.max() > gains[i]:
                    current[i], gains[i] = neighbours[int(gain.argmax())], gain.max()
                    moved.append(i)
            active = moved
        return current, gains

    def _gains(self, configurations: "Sequence[Configuration]", best: float) -> Vector:
        mean, variance = self._predict(configurations)
        return expected_improvement(mean, variance, best)

    def _predict(self, configurations: "Sequence[Configuration]") -> tuple[Vector, Vector]:
        mean, variance = self._forest.predict_marginalized(_vectors(configurations))
        return mean.ravel(), variance.ravel()

    def _seed(self) -> int:
        return int(self._rng.integers(2**31))


class _Draws:
    """Random configurations of a private copy of a space, none of them twice."""

    def __init__(self, space: Any, to_pipeline: Callable[[Any], Pipeline], seed: int) -> None:
        self.space = copy.deepcopy(space)
        self.space.seed(seed)
        self._to_pipeline = to_pipeline

    def unseen(self, seen: "set[Pipeline]") -> tuple[Any, Pipeline]:
        for _ in range(MAX_DRAWS):
            configuration = self.space.sample_configuration()
            pipeline = self._to_pipeline(configuration)
            if pipeline not in seen:
                return configuration, pipeline
        raise SpaceExhausted(f"{len(seen)} configurations were tried and {MAX_DRAWS} draws gave no other")


def load_smac() -> None:
    """Import smac (about two seconds); call it in a thread, so that a later `Smac` starts at once."""
    import smac.model.random_forest.random_forest  # noqa: F401, PLC0415


def log_costs(losses: Sequence[float | None]) -> Vector:
    """Scale losses to at most 1 and take logarithms, so that the forest resolves the good ones best.

    As SMAC's log-scaled encoder does, the distance between the best loss and the 5th percentile is added to all; where
    that is next to nothing, a thousandth of the distance to the median (or to the worst). Failures (None) cost a tenth
    of the range more than the worst loss.

    Parameters
    ----------
    losses : sequence of float or None
        Finite; None is a failure.

    Returns
    -------
    ndarray of shape (n_losses,), finite, at most 0

    Examples
    --------
    >>> log_costs([0.1, 0.2, 0.3, None]).round(2)
    array([-2.75, -0.71, -0.09,  0.  ])
    >>> log_costs([None, None])
    array([0., 0.])
    """
    known = np.array([loss for loss in losses if loss is not None], dtype=np.float64)
    if not len(known) or (known.min() == known.max() and len(known) == len(losses)):
        return np.zeros(len(losses))
    low, worst = known.min(), known.max()
    failed = worst + (0.1 * (worst - low) or 0.1 * abs(worst) or 1.0)
    costs = np.array([failed if loss is None else loss for loss in losses])
    fifth, middle = np.percentile(costs, [5, 50]) - low
    offset = max(fifth, 1e-3 * middle) or 1e-3 * (costs.max() - low)
    return np.asarray(np.log((costs - low + offset) / (costs.max() - low + offset)), dtype=np.float64)


def expected_improvement(mean: Vector, variance: Vector, best: float) -> Vector:
    """Expect how far below ``exp(best)`` a cost falls whose logarithm is normal [1]_.

    SMAC's own function raises where rounding makes the difference a little negative; here it is zero.

    Parameters
    ----------
    mean, variance : ndarray of shape (n,)
        Of the logarithm of the cost; the variance is positive.
    best : float
        Logarithm of the lowest cost known.

    Returns
    -------
    ndarray of shape (n,), not negative

    References
    ----------
    .. [1] Watanabe, Derivation of closed form of expected improvement for a Gaussian process trained on
       log-transformed objective, arXiv 2411.18095.
    """
    from scipy.special import ndtr  # noqa: PLC0415

    deviation = np.sqrt(variance)
    z = (best - mean) / deviation
    gain = np.exp(best) * ndtr(z) - np.exp(mean + variance / 2) * ndtr(z - deviation)
    return np.asarray(np.maximum(gain, 0.0), dtype=np.float64)


def _forest(space: "ConfigurationSpace", seed: int) -> Any:
    """Build SMAC's surrogate as its facade does, but for two things that cost it a second per training."""
    from smac.model.random_forest.random_forest import RandomForest  # noqa: PLC0415

    return RandomForest(
        space,
        log_y=True,
        n_trees=N_TREES,
        ratio_features=1.0,
        min_samples_split=2,
        min_samples_leaf=1,
        # SMAC's default of 2**20 leaves makes scikit-learn reserve 130 MB for each tree
        max_leaf_nodes=None,  # type: ignore[arg-type]
        # and threads cost more than such small trees, besides taking a core from the workers
        n_jobs=1,
        seed=seed,
    )


def _vectors(configurations: "Sequence[Configuration]") -> Vector:
    """Stack the vectors of configurations: shape (n, n_hyperparameters), NaN where a value is inactive."""
    return np.array([configuration.get_array() for configuration in configurations], dtype=np.float64)
