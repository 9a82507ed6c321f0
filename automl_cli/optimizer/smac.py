"""SMAC's random forest behind ask and tell.

SMAC is used for its surrogate, not for its loop: the facade asks questions on the terminal, writes into the working
folder, keeps no account of running trials and takes up to seconds for an ask (see docs/optimizer.md).
"""

import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from automl_cli.errors import UsageError
from automl_cli.lean import import_lean
from automl_cli.optimizer.costs import Vector, expected_improvement, log_costs
from automl_cli.optimizer.points import Matrix, Points, cell
from automl_cli.trial import Pipeline

if TYPE_CHECKING:
    from ConfigSpace import Configuration, ConfigurationSpace

MIN_TOLD = 5  # a forest on fewer results only repeats them
MIN_TOLD_FAMILY = 3  # of one family: near its default is a better guess than anywhere
RANDOM_SHARE = 0.2  # SMAC's own interleaving; it keeps a wrong surrogate from locking the search in
N_TREES = 10
N_RANDOM = 500
N_BEST = 5  # known configurations that are changed a little
N_CHANGED = 40  # ... each so often
N_WALKS = 8
N_NEIGHBOURS = 24
N_STEPS = 6
RESULTS_PER_ASK = 20  # of so many results one training serves one ask more: one result changes little then
MOST_ASKS = 8  # of one training: SMAC's own facade trains at every eighth result


class Smac:
    """SMAC's optimizer of hyperparameters: a random forest on log costs, expected improvement, local search [1]_.

    The first `MIN_TOLD` results come from random configurations (or from a `Portfolio` before this one), and a fifth of
    all later ones too. The candidates are random ones and small changes of the best known, from the best of which
    walks go on to better neighbours. Configurations that are still running are believed to reach what the last forest
    predicts for them ("kriging believer" [2]_), so that proposals made at the same moment differ; what differs from a
    known one by less than a hundredth of every range is passed over while there is anything else. The more results
    there are, the more proposals one training gives: the ends of different walks first. A failure counts a little
    worse than the worst loss so far. Proposals depend on the seed and on the sequence of calls, never on a
    clock.

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
    min_told : int
        So many results are needed before the forest proposes.
    local : bool
        Whether small changes of the best known are candidates: worth it within one family. Over all families
        together they keep the search where it is.
    believe : bool
        Whether running configurations are accounted for; without it SMAC's own behaviour is had, for comparison.

    Notes
    -----
    Constructing one imports smac, which takes a second of a core: do it in a thread while pipelines are fitted.

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
        min_told: int = MIN_TOLD,
        local: bool = False,
        believe: bool = True,
    ) -> None:
        load_smac()
        self._points = Points(space, to_pipeline, seed)
        self._to_configuration = to_configuration
        self._rng = np.random.default_rng(seed)
        self._forest = _forest(self._points.space, seed)
        self._is_trained = False
        self._ranked: Iterator[Vector] = iter(())  # what the last training proposes beyond what was asked of it
        self._asks_left = 0
        self._min_told, self._local, self._believe = min_told, local, believe
        self._losses: dict[Pipeline, float | None] = {}
        self._known: dict[Pipeline, Vector] = {}
        self._pending: dict[Pipeline, Vector] = {}
        self._cells: set[bytes] = set()

    def ask(self) -> tuple[Pipeline, str]:
        """Return the pipeline with the largest expected improvement, now and then a random one."""
        is_random = self._rng.random() < RANDOM_SHARE  # drawn always, so that the sequence does not shift
        found, origin = None, "random"
        if not is_random and len(self._losses) >= self._min_told:
            found, origin = self._first_new(), "smac"
        if found is None:
            found, origin = self._points.unseen(self._losses.keys() | self._pending.keys(), self._cells), "random"
        point, pipeline = found
        self._pending[pipeline] = point
        self._cells.add(cell(point))
        return pipeline, origin

    def tell(self, pipeline: Pipeline, loss: float | None, seconds: float) -> None:
        """Learn a loss; one that is not finite is a failure. A second telling replaces the first.

        A pipeline that is not of the space, a network that a search of networks found say, is passed over.
        """
        point = self._pending.pop(pipeline, None)
        if pipeline not in self._known:
            try:
                point = self._to_configuration(self._points.space, pipeline).get_array() if point is None else point
            except UsageError:
                return
            self._known[pipeline] = point
            self._cells.add(cell(point))
        self._losses[pipeline] = loss if loss is not None and math.isfinite(loss) else None

    def _first_new(self) -> tuple[Vector, Pipeline] | None:
        if self._asks_left == 0:
            self._ranked = self._candidates()
            self._asks_left = min(1 + len(self._known) // RESULTS_PER_ASK, MOST_ASKS)
        self._asks_left -= 1
        for point in self._ranked:
            if cell(point) not in self._cells:
                pipeline = self._points.pipeline(point)
                if pipeline not in self._losses and pipeline not in self._pending:
                    return point, pipeline
        return None

    def _candidates(self) -> Iterator[Vector]:
        """Train the forest and list candidates: where the walks ended, then the rest, best first."""
        known = np.array(list(self._known.values()))
        best = self._train(known)
        candidates = self._points.drawn(N_RANDOM)
        if self._local:
            by_mean = np.argsort(self._predict(known)[0], kind="stable")[:N_BEST]
            # before the random ones: a forest has many ties, and near a good point is the better guess
            candidates = np.vstack([self._points.changed(known[by_mean], N_CHANGED), candidates])
        gains = self._gains(candidates, best)
        starts = np.argsort(-gains, kind="stable")[:N_WALKS]
        climbed, climbed_gains = self._climb(candidates[starts], gains[starts], best)
        ends = climbed[np.argsort(-climbed_gains, kind="stable")]
        return iter([*ends, *candidates[np.argsort(-gains, kind="stable")]])

    def _train(self, known: Matrix) -> float:
        """Fit the forest to known and believed costs; return the lowest predicted cost."""
        told, costs = known, log_costs([self._losses[pipeline] for pipeline in self._known])
        if self._pending and self._believe and self._is_trained:
            pending = np.array(list(self._pending.values()))
            costs = np.concatenate([costs, self._predict(pending)[0]])
            told = np.vstack([known, pending])
        self._forest.train(told, costs[:, None])
        self._is_trained = True
        return float(self._predict(known)[0].min())

    def _climb(self, starts: Matrix, gains: Vector, best: float) -> tuple[Matrix, Vector]:
        """Walk from every start to its best neighbour until no walk gains; all walks share each prediction."""
        current, gains = starts.copy(), gains.copy()
        active = np.arange(len(current))
        for _ in range(N_STEPS):
            around = self._points.changed(current[active], N_NEIGHBOURS)
            if len(around) < len(active) * N_NEIGHBOURS:  # some were forbidden: no telling whose neighbour is whose
                break
            reached = self._gains(around, best).reshape(len(active), N_NEIGHBOURS)
            choice = reached.argmax(axis=1)
            better = reached.max(axis=1) > gains[active]
            rows = np.flatnonzero(better)
            active = active[rows]
            current[active] = around[rows * N_NEIGHBOURS + choice[rows]]
            gains[active] = reached[rows, choice[rows]]
            if not len(active):
                break
        return current, gains

    def _gains(self, points: Matrix, best: float) -> Vector:
        mean, variance = self._predict(points)
        return expected_improvement(mean, variance, best)

    def _predict(self, points: Matrix) -> tuple[Vector, Vector]:
        mean, variance = self._forest.predict_marginalized(points)
        return mean.ravel(), variance.ravel()


def family_optimizer(
    space: "ConfigurationSpace",
    to_pipeline: Callable[["Configuration"], Pipeline],
    to_configuration: Callable[["ConfigurationSpace", Pipeline], "Configuration"],
    *,
    seed: int,
) -> Smac:
    """Return a `Smac` as it suits the space of one family, an arm of a `Bandit`: local, and from three results on."""
    return Smac(space, to_pipeline, to_configuration, seed=seed, local=True, min_told=MIN_TOLD_FAMILY)


def load_smac() -> Any:
    """Import smac's forest (about a second of a core); call it in a thread, so that a later `Smac` starts at once."""
    return import_lean("smac.model.random_forest.random_forest")


def _forest(space: "ConfigurationSpace", seed: int) -> Any:
    """Build SMAC's surrogate as its facade does, but for what costs it a second per training."""
    return load_smac().RandomForest(
        space,
        log_y=False,  # it averages within leaves, of which each holds one cost here, and takes half the time
        n_trees=N_TREES,
        ratio_features=1.0,
        min_samples_split=2,
        min_samples_leaf=1,
        # SMAC's default of 2**20 leaves makes scikit-learn reserve 130 MB for each tree
        max_leaf_nodes=None,
        # and threads cost more than such small trees, besides taking a core from the workers
        n_jobs=1,
        seed=seed,
    )
