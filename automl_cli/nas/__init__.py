"""Which network to train next, behind ask and tell: evolution, a controller, halving, local search, and a bandit."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from automl_cli.nas.bandit import Auto
from automl_cli.nas.costs import Costs, Work, work_of
from automl_cli.nas.decisions import (
    Candidate,
    Decision,
    Fits,
    Space,
    Training,
    anything,
    at_most,
    parse_candidate,
    space_of_table,
)
from automl_cli.nas.evolution import Evolution
from automl_cli.nas.halving import Halving, random_search
from automl_cli.nas.mutation import Mutation
from automl_cli.nas.optimizer import NetworkSearch, known_networks, network_search
from automl_cli.nas.policy import Factorised, Policy
from automl_cli.nas.recurrent import Recurrent
from automl_cli.nas.reinforce import Reinforce
from automl_cli.nas.rungs import FIDELITIES, Rungs
from automl_cli.nas.strategy import Earlier, Strategy, Suggestion
from automl_cli.nas.zero_cost import Score, ZeroCost
from automl_cli.optimizer.asktell import SpaceExhausted

__all__ = [
    "AUTO",
    "STRATEGIES",
    "Auto",
    "Candidate",
    "Costs",
    "Decision",
    "Earlier",
    "Evolution",
    "Factorised",
    "Fits",
    "Halving",
    "Mutation",
    "NetworkSearch",
    "Policy",
    "Recurrent",
    "Reinforce",
    "Rungs",
    "Score",
    "Space",
    "SpaceExhausted",
    "Strategy",
    "Suggestion",
    "Training",
    "Work",
    "ZeroCost",
    "anything",
    "at_most",
    "known_networks",
    "make_strategy",
    "network_search",
    "parse_candidate",
    "random_search",
    "space_of_table",
    "work_of",
]

Maker = Callable[[Space, int, Fits, Earlier], Strategy]


AUTO = "auto"


def _auto(space: Space, seed: int, fits: Fits, earlier: Earlier, *, fidelities: tuple[float, ...] = (1.0,)) -> Strategy:
    """Share among those with a name; each has a seed of its own, or they would begin alike.

    Others draw networks at random: local search begins with what it is told.
    """
    first = 10 * seed
    arms: dict[str, Strategy] = {
        "evolution": Evolution(space, seed=first, fits=fits, earlier=earlier),
        "mutation": Mutation(space, seed=first + 1, starts=2, fits=fits, earlier=earlier),
        "random": random_search(space, seed=first + 2, fits=fits, earlier=earlier),
        "reinforce": Reinforce(space, Factorised(space), seed=first + 3, fits=fits, earlier=earlier),
    }
    known = [candidate for candidate, _ in earlier]
    return Auto(arms, fidelities=fidelities, known=known, fits=fits)


STRATEGIES: Mapping[str, Maker] = MappingProxyType(
    {
        AUTO: _auto,
        "evolution": lambda space, seed, fits, earlier: Evolution(space, seed=seed, fits=fits, earlier=earlier),
        "reinforce": lambda space, seed, fits, earlier: Reinforce(
            space, Factorised(space), seed=seed, fits=fits, earlier=earlier
        ),
        "recurrent": lambda space, seed, fits, earlier: Reinforce(
            space,
            Recurrent(space, seed=seed),
            seed=seed,
            rate=0.01,
            draws=16,  # each takes a walk through the network
            name="recurrent",
            fits=fits,
            earlier=earlier,
        ),
        "random": lambda space, seed, fits, earlier: Halving(space, seed=seed, fits=fits, earlier=earlier),
        "mutation": lambda space, seed, fits, earlier: Mutation(space, seed=seed, fits=fits, earlier=earlier),
    }
)
"""By name. `ZeroCost` needs a score and is made where there is one."""


def make_strategy(
    name: str, space: Space, *, seed: int, fits: Fits = anything, earlier: Earlier = (), looks: bool = False
) -> Strategy:
    """Make a strategy by its name, one of `STRATEGIES`.

    Parameters
    ----------
    looks : bool
        Whether networks of ``auto`` begin with a share of their training, as those of ``random`` always do: where many
        can be tried. With few trials none would be trained in whole.
    """
    if name == AUTO and looks:
        return _auto(space, seed, fits, earlier, fidelities=FIDELITIES)
    return STRATEGIES[name](space, seed, fits, earlier)
