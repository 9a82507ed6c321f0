"""The search over networks as an optimizer of a fit: what a strategy suggests becomes a pipeline."""

import math
from collections.abc import Callable, Mapping

from automl_cli.families.family import Family, Shape
from automl_cli.nas.costs import Costs, Work, work_of
from automl_cli.nas.decisions import Candidate, Fits, Space, Training, anything, space_of_table
from automl_cli.nas.halving import FIDELITIES
from automl_cli.nas.strategy import Strategy, Suggestion
from automl_cli.neural import NEURAL
from automl_cli.neural.architecture import parse_architecture
from automl_cli.neural.counts import InputShape, cost
from automl_cli.trial import Pipeline, Value

_LEVELS = 20  # of a category, where nobody has counted yet


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
    """

    def __init__(
        self, strategy: Strategy, space: Space, fixed: Mapping[str, Value], encoding: str, costs: Costs | None
    ) -> None:
        self._strategy, self._space, self._costs = strategy, space, costs
        self._best = math.inf
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
        if self._costs is not None:
            self._costs.learn(suggestion.candidate, suggestion.fidelity, seconds)

    def _pipeline(self, suggestion: Suggestion) -> Pipeline:
        epochs = self._epochs_of(suggestion.fidelity)
        hyperparameters = {**self._fixed, **suggestion.candidate.hyperparameters(), "epochs": epochs}
        return Pipeline(NEURAL, self._encoding, hyperparameters)

    def _suggestion(self, pipeline: Pipeline) -> Suggestion | None:
        if pipeline.family != NEURAL:
            return None
        found = pipeline.hyperparameters
        try:
            training = Training(
                learning_rate=float(found["learning_rate"]),
                weight_decay=float(found["weight_decay"]),
                label_smoothing=float(found["label_smoothing"]),
                schedule=str(found["schedule"]),
                batch_size=int(found["batch_size"]),
            )
            candidate = Candidate(parse_architecture(str(found["architecture"])), training)
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
        What the next trial may take at most, all its folds together; None: as long as it takes.
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

    costs = None if seconds is None else Costs(work)
    fits = anything if costs is None or seconds is None else costs.ends_within(seconds)
    return NetworkSearch(strategy(space, fits), space, fixed, family.encodings[0], costs)
