"""The space of networks as data: a tuple of categorical decisions, some of which depend on others.

A candidate is a network and how it is trained, because regularisation matters more than topology [1]_. It reads and
writes as one line of text, an architecture's and what training is given:

    pbld16 cat8 k16 | dense256 silu batch d0.1 | residual256 mish layer d0.2 @ lr0.04 wd0.02 ls0 cosine b256

A strategy sees it as one index per decision. Indices are canonical: 0 where a decision is not active, so that two
candidates are the same network exactly if their indices are the same.

References
----------
.. [1] Kadra, Lindauer, Hutter and Grabocka, Well-tuned simple nets excel on tabular datasets, NeurIPS 2021.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from automl_cli.neural.architecture import (
    ACTIVATIONS,
    EMBEDDINGS,
    KINDS,
    NORMS,
    Architecture,
    Block,
    parse_architecture,
)
from automl_cli.trial import Value

Indices = tuple[int, ...]

DEEPEST = 5
WIDTHS = (32, 64, 128, 256, 512, 1024)
DROPOUTS = (0.0, 0.1, 0.15, 0.2, 0.3, 0.5)
SCHEDULES = ("constant", "cosine", "coslog4")
NUMBER_SIZES = (3, 8, 16, 24)
RATES = (0.004, 0.01, 0.02, 0.04, 0.08, 0.2)
"""Around RealMLP's 0.04: the networks are parametrised so that rates of this size suit any width."""
DECAYS = (0.0, 1e-3, 0.005, 0.02, 0.1, 0.5)
BATCHES = (32, 64, 128, 256, 512)

_NUMBER = r"(?:0|[1-9]\d*)(?:\.\d+)?(?:e-\d+)?"
_TRAINING = re.compile(rf"lr({_NUMBER}) wd({_NUMBER}) ls({_NUMBER}) ({'|'.join(SCHEDULES)}) b([1-9]\d{{0,5}})")


@dataclass(frozen=True)
class Training:
    """How a network is trained."""

    learning_rate: float = 0.04
    weight_decay: float = 0.02
    label_smoothing: float = 0.0
    schedule: str = "cosine"
    batch_size: int = 256

    def __str__(self) -> str:
        numbers = f"lr{self.learning_rate:g} wd{self.weight_decay:g} ls{self.label_smoothing:g}"
        return f"{numbers} {self.schedule} b{self.batch_size}"


@dataclass(frozen=True)
class Candidate:
    """A network and how it is trained."""

    architecture: Architecture
    training: Training = Training()

    def __str__(self) -> str:
        return f"{self.architecture} @ {self.training}"

    def hyperparameters(self) -> dict[str, Value]:
        """Return what the family of networks is fitted with."""
        return {"architecture": str(self.architecture), **asdict(self.training)}


def parse_candidate(text: str) -> Candidate:
    """Read what ``str`` of a candidate gave.

    Raises
    ------
    ValueError
        It is no candidate.

    >>> line = "none cat8 k1 | dense64 relu none d0 @ lr0.001 wd1e-05 ls0.1 coslog4 b128"
    >>> str(parse_candidate(line)) == line
    True
    """
    network, _, training = text.partition(" @ ")
    found = _TRAINING.fullmatch(training)
    if found is None:
        raise ValueError(f"no candidate: {text[:80]!r}")
    rate, decay, smoothing, schedule, batch = found.groups()
    return Candidate(
        parse_architecture(network), Training(float(rate), float(decay), float(smoothing), schedule, int(batch))
    )


Fits = Callable[[Candidate], bool]
"""Whether a candidate may be asked for: it is small enough, or can end before the deadline."""


def anything(candidate: Candidate) -> bool:
    """Set no limit."""
    return True


def at_most(n_parameters: Callable[[Architecture], int], most: int) -> Fits:
    """Set a limit on the number of parameters, which ``n_parameters`` counts."""
    return lambda candidate: n_parameters(candidate.architecture) <= most


@dataclass(frozen=True)
class Decision:
    """One choice among options.

    Attributes
    ----------
    options : tuple
        In their order, where they have one.
    parent : str
        Name of an earlier decision on which it hangs whether this one is active; empty: it always is.
    among : tuple
        The parent's options under which it is.
    """

    name: str
    options: tuple[Value, ...]
    parent: str = ""
    among: tuple[Value, ...] = ()


def _block(number: int) -> Iterator[Decision]:
    """Yield the decisions on one block."""
    parent = ("depth", tuple(range(number, DEEPEST + 1))) if number > 1 else ("", ())
    yield Decision(f"kind{number}", KINDS, *parent)
    yield Decision(f"width{number}", WIDTHS, *parent)
    yield Decision(f"activation{number}", ACTIVATIONS, *parent)
    yield Decision(f"norm{number}", NORMS, *parent)
    yield Decision(f"dropout{number}", DROPOUTS, *parent)
    if number > 2:  # the output of the block before is the input already: a skip starts earlier
        yield Decision(f"skip{number}", tuple(range(number - 1)), *parent)


DECISIONS = (
    Decision("numbers", EMBEDDINGS),
    Decision("number_size", NUMBER_SIZES, "numbers", ("pbld", "pwl")),
    Decision("category_size", (4, 8, 16)),
    Decision("members", (1, 8, 16, 32)),
    Decision("depth", tuple(range(1, DEEPEST + 1))),
    *(decision for number in range(1, DEEPEST + 1) for decision in _block(number)),
    Decision("learning_rate", RATES),
    Decision("weight_decay", DECAYS),
    Decision("label_smoothing", (0.0, 0.1)),
    Decision("schedule", SCHEDULES),
    Decision("batch_size", BATCHES),
)
"""The whole space; `Space.restrict` gives a part of it."""


@dataclass(frozen=True)
class Space:
    """What may be decided.

    Attributes
    ----------
    decisions : tuple of Decision
        All names of `DECISIONS`, each after its parent; options may be fewer.

    Examples
    --------
    >>> space = Space().restrict(depth=(1,), label_smoothing=(0.0,))
    >>> candidate = space.decode(space.sample(np.random.default_rng(0)))
    >>> space.decode(space.encode(candidate)) == candidate
    True
    """

    decisions: tuple[Decision, ...] = DECISIONS

    @cached_property
    def _places(self) -> dict[str, int]:
        return {decision.name: place for place, decision in enumerate(self.decisions)}

    @cached_property
    def _conditions(self) -> tuple[tuple[int, frozenset[int]] | None, ...]:
        """The place of each decision's parent, and the parent's indices under which it is active."""
        return tuple(
            (
                self._places[decision.parent],
                frozenset(
                    index
                    for index, option in enumerate(self.decisions[self._places[decision.parent]].options)
                    if option in decision.among
                ),
            )
            if decision.parent
            else None
            for decision in self.decisions
        )

    @cached_property
    def open(self) -> tuple[int, ...]:
        """Places of decisions that leave a choice wherever they are active."""
        return tuple(place for place, decision in enumerate(self.decisions) if len(decision.options) > 1)

    def restrict(self, **options: tuple[Value, ...]) -> "Space":
        """Return the space with only these options of the decisions named.

        Raises
        ------
        ValueError
            There is no such decision or option.
        """
        unknown = [name for name in options if name not in self._places]
        foreign = [name for d in self.decisions for name in [d.name] if not {*options.get(name, ())} <= {*d.options}]
        if unknown or foreign or not all(options.values()):
            raise ValueError(f"no such decisions or options: {', '.join([*unknown, *foreign])}")
        return Space(tuple(replace(d, options=options.get(d.name, d.options)) for d in self.decisions))

    def active(self, indices: Sequence[int], place: int) -> bool:
        """Whether the decision at ``place`` matters, by what stands before it in ``indices``."""
        while (condition := self._conditions[place]) is not None:
            place, wanted = condition
            if indices[place] not in wanted:
                return False
        return True

    def free(self, indices: Indices) -> list[int]:
        """Return the places of active decisions that leave a choice."""
        return [place for place in self.open if self.active(indices, place)]

    def canonical(self, indices: Indices) -> Indices:
        """Return the indices with 0 where a decision is not active."""
        return tuple(index if self.active(indices, place) else 0 for place, index in enumerate(indices))

    def sample(self, rng: np.random.Generator) -> Indices:
        """Draw every active decision uniformly."""
        return self.drawn(lambda place: int(rng.integers(len(self.decisions[place].options))))

    def drawn(self, choose: Callable[[int], int]) -> Indices:
        """Ask ``choose`` for the index of each decision that is active by those before it."""
        indices = [0] * len(self.decisions)
        for place in self.open:
            if self.active(indices, place):
                indices[place] = choose(place)
        return tuple(indices)

    def mutate(self, indices: Indices, rng: np.random.Generator) -> Indices:
        """Change one active decision to another option; what becomes active by that is drawn uniformly.

        Raises
        ------
        ValueError
            Nothing can be changed: each active decision has one option.
        """
        places = self.free(indices)
        if not places:
            raise ValueError("a space of one candidate has no mutations")
        place = places[int(rng.integers(len(places)))]
        step = 1 + int(rng.integers(len(self.decisions[place].options) - 1))
        changed = (indices[place] + step) % len(self.decisions[place].options)

        def choose(other: int) -> int:
            if other == place:
                return changed
            kept = self.active(indices, other)
            return indices[other] if kept else int(rng.integers(len(self.decisions[other].options)))

        return self.drawn(choose)

    def cross(self, one: Indices, other: Indices, rng: np.random.Generator) -> Indices:
        """Take each decision from either parent, from the one where it is active if it is not in both."""
        parents = (one, other)

        def choose(place: int) -> int:
            side = int(rng.integers(2))
            there = self.active(parents[side], place) or not self.active(parents[1 - side], place)
            return parents[side if there else 1 - side][place]

        return self.drawn(choose)

    def every(self) -> list[Indices]:
        """List all candidates of a small space."""
        found: list[Indices] = [()]
        for place, decision in enumerate(self.decisions):
            found = [
                (*start, index)
                for start in found
                for index in (range(len(decision.options)) if self.active(start, place) else (0,))
            ]
        return found

    def options(self, indices: Indices) -> dict[str, Value]:
        """Return the options chosen, of active decisions only."""
        return {
            d.name: d.options[index]
            for place, (d, index) in enumerate(zip(self.decisions, indices, strict=True))
            if self.active(indices, place)
        }

    def encode(self, candidate: Candidate) -> Indices:
        """Return a candidate's canonical indices.

        Raises
        ------
        ValueError
            It is not of this space.
        """
        chosen = _options(candidate)
        try:
            indices = tuple(d.options.index(chosen[d.name]) if d.name in chosen else 0 for d in self.decisions)
        except ValueError:
            raise ValueError(f"not of this space: {candidate}") from None
        if self.decode(indices) != candidate:
            raise ValueError(f"not of this space: {candidate}")
        return indices

    def holds(self, candidate: Candidate) -> bool:
        """Whether a candidate is of this space."""
        try:
            self.encode(candidate)
        except ValueError:
            return False
        return True

    def decode(self, indices: Indices) -> Candidate:
        """Return the candidate of canonical indices."""
        chosen: Mapping[str, Any] = self.options(indices)
        blocks = tuple(
            Block(
                kind=chosen[f"kind{number}"],
                width=chosen[f"width{number}"],
                activation=chosen[f"activation{number}"],
                norm=chosen[f"norm{number}"],
                dropout=chosen[f"dropout{number}"],
                skip=chosen.get(f"skip{number}", 0),
            )
            for number in range(1, chosen["depth"] + 1)
        )
        return Candidate(
            Architecture(
                blocks=blocks,
                numbers=chosen["numbers"],
                number_size=chosen.get("number_size", 0),
                category_size=chosen["category_size"],
                members=chosen["members"],
            ),
            Training(**{name: chosen[name] for name in asdict(Training())}),
        )


def space_of_table(*, numbers: bool, categories: bool, classify: bool) -> Space:
    """Return the space without decisions that change nothing on a table.

    Parameters
    ----------
    numbers, categories : bool
        Whether there are columns of them.
    classify : bool
        Whether labels can be smoothed.
    """
    same = Candidate(Architecture((Block("dense", WIDTHS[0]),)))
    settled: dict[str, tuple[Value, ...]] = {}
    if not numbers:
        settled["numbers"] = ("none",)
    if not categories:
        settled["category_size"] = (same.architecture.category_size,)
    if not classify:
        settled["label_smoothing"] = (same.training.label_smoothing,)
    return Space().restrict(**settled)


def _options(candidate: Candidate) -> dict[str, Value]:
    """Return the options a candidate stands for, by the names of decisions."""
    network = candidate.architecture
    chosen: dict[str, Value] = {
        "numbers": network.numbers,
        "category_size": network.category_size,
        "members": network.members,
        "depth": len(network.blocks),
        **asdict(candidate.training),
    }
    if network.number_size:
        chosen["number_size"] = network.number_size
    for number, block in enumerate(network.blocks, 1):
        chosen |= {f"{name}{number}": value for name, value in asdict(block).items()}
    return chosen
