"""The search over networks as an optimizer of a fit: what a strategy suggests becomes a pipeline."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from automl_cli.families.family import Family, Shape
from automl_cli.families.neural import NETWORKS
from automl_cli.nas.costs import Costs, Work, work_of
from automl_cli.nas.decisions import Candidate, Fits, Space, Training, space_of_table
from automl_cli.nas.rungs import FIDELITIES
from automl_cli.nas.strategy import Earlier, Strategy, Suggestion
from automl_cli.neural import NEURAL
from automl_cli.neural.architecture import parse_architecture
from automl_cli.neural.counts import InputShape, cost
from automl_cli.trial import Pipeline, Value

_LEVELS = 20  # of a category, where nobody has counted yet
MOST_COUNTED = 600.0  # guessed seconds of a fold's network where trials are counted: boosters end there as well
MOST_DRAWN_TOGETHER = 2.0  # of a trial's limit that a network may take: half of the epochs lose 2 %, see docs/nas.md


class NetworkSearch:
    """Asks a strategy for networks and hands them on as pipelines; a part of the epochs is a part of the fidelity.

    Parameters
    ----------
    strategy : Strategy
        Must suggest candidates of ``space`` only.
    fixed : mapping
        Hyperparameters of the family that are not searched, ``epochs`` of a whole training among them.
    costs : Costs or None
        Learns what trials take; None where trials are counted: then nothing may depend on seconds, and what a trial
        costs is its fidelity.
    limit : callable or None
        What the next trial may take at most.
    """

    def __init__(
        self,
        strategy: Strategy,
        space: Space,
        fixed: Mapping[str, Value],
        encoding: str,
        costs: Costs | None,
        *,
        limit: Callable[[], float] | None = None,
    ) -> None:
        self._strategy, self._space, self._costs = strategy, space, costs
        self._limit, self._best = limit, math.inf
        self._fixed, self._encoding, self._epochs = dict(fixed), encoding, int(fixed["epochs"])
        self._pending: dict[Pipeline, Suggestion] = {}

    def ask(self) -> tuple[Pipeline, str]:
        """Return the next network; raises `SpaceExhausted` where no new one fits."""
        suggestion = self._strategy.ask()
        pipeline = self._pipeline(suggestion)
        self._pending[pipeline] = suggestion
        return pipeline, f"nas {suggestion.origin}".rstrip()

    def tell(self, pipeline: Pipeline, loss: float | None, seconds: float) -> None:
        """Teach the strategy what a network lost; one that it did not suggest is told too where it is of its space."""
        suggestion = self._pending.pop(pipeline, None) or self._suggestion(pipeline)
        if suggestion is None:
            return
        self._strategy.tell(suggestion, loss, seconds if self._costs is not None else suggestion.fidelity)
        if loss is None or loss > self._best:
            return
        # The best so far was not given up before its last fold; what others took may be a part.
        self._best = loss
        # A trial that was cut by its limit has taken about what the next one may take now.
        if self._costs is not None and (self._limit is None or seconds < self._limit()):
            # a default may be trained for longer than what counts as a whole training here
            self._costs.learn(suggestion.candidate, int(pipeline.hyperparameters["epochs"]) / self._epochs, seconds)

    def _pipeline(self, suggestion: Suggestion) -> Pipeline:
        epochs = self._epochs_of(suggestion.fidelity)
        hyperparameters = {**self._fixed, **suggestion.candidate.hyperparameters(), "epochs": epochs}
        return Pipeline(NEURAL, self._encoding, hyperparameters)

    def _suggestion(self, pipeline: Pipeline) -> Suggestion | None:
        if pipeline.family != NEURAL:
            return None
        found = pipeline.hyperparameters
        try:
            candidate = Candidate(parse_architecture(str(found["architecture"])), _training_of(found))
            fidelity = self._fidelity(int(found["epochs"]))
        except (KeyError, ValueError):
            return None
        return Suggestion(candidate, fidelity) if self._space.holds(candidate) else None

    def _fidelity(self, epochs: int) -> float:
        """Return the fidelity that so many epochs stand for."""
        known = {self._epochs_of(fidelity): fidelity for fidelity in FIDELITIES}
        return known.get(epochs, min(1.0, epochs / self._epochs))

    def _epochs_of(self, fidelity: float) -> int:
        return max(1, round(fidelity * self._epochs))


def known_networks(defaults: Sequence[Mapping[str, Any]]) -> Earlier:
    """Return the fixed networks, the best known first: where strategies begin.

    Parameters
    ----------
    defaults : sequence of mapping
        Hyperparameters of the family's defaults, which have a training of their own; the other networks have the first
        one's.
    """
    own = {str(default["architecture"]): _training_of(default) for default in defaults}
    networks = {**own, **{text: _training_of(defaults[0]) for text in NETWORKS if text not in own}}
    return [
        (Candidate(parse_architecture(text), how), float(rank)) for rank, (text, how) in enumerate(networks.items())
    ]


def _training_of(hyperparameters: Mapping[str, Any]) -> Training:
    """Read what is searched of a training; raises KeyError or ValueError."""
    return Training(
        learning_rate=float(hyperparameters["learning_rate"]),
        weight_decay=float(hyperparameters["weight_decay"]),
        label_smoothing=float(hyperparameters["label_smoothing"]),
        schedule=str(hyperparameters["schedule"]),
        batch_size=int(hyperparameters["batch_size"]),
    )


def network_search(
    family: Family,
    shape: Shape,
    strategy: Callable[[Space, Fits], Strategy],
    *,
    n_folds: int,
    seconds: Callable[[], float] | None = None,
) -> NetworkSearch:
    """Search networks for a problem.

    Parameters
    ----------
    family : Family
        The neural one: its first default says how a whole training goes.
    strategy : callable
        ``strategy(space, fits)`` makes one.
    seconds : callable or None
        What the next trial may take at most, all its folds together; None where trials are counted: then a guess that
        depends on the table and the network alone is bounded by `MOST_COUNTED` a fold, or by what the smallest fixed
        network takes where that is more.
    """
    numeric = shape.n_columns - shape.n_categorical
    space = space_of_table(numbers=numeric > 0, categories=shape.n_categorical > 0, classify=shape.n_outputs > 1)
    fixed = dict(family.defaults(shape)[0])
    inputs = InputShape(numeric, (_LEVELS,) * shape.n_categorical, shape.n_outputs)
    rows = shape.n_rows * (1 - 1 / max(n_folds, 2))

    def work(candidate: Candidate, fidelity: float) -> Work:
        epochs = fidelity * int(fixed["epochs"])
        once = work_of(candidate, cost(candidate.architecture, inputs), rows=rows, epochs=epochs)
        return Work(n_folds * once.steps, n_folds * once.operations)

    costs = Costs(work)
    smallest = min(costs.seconds(candidate) for candidate, _ in known_networks(family.defaults(shape)))
    most_counted = max(n_folds * MOST_COUNTED, smallest)

    def fits(candidate: Candidate) -> bool:
        # its schedule is drawn together where it does not end in time: half of it is worth more than a tiny network's
        most = most_counted if seconds is None else MOST_DRAWN_TOGETHER * seconds()
        return costs.seconds(candidate) <= most

    learned = None if seconds is None else costs
    return NetworkSearch(strategy(space, fits), space, fixed, family.encodings[0], learned, limit=seconds)
