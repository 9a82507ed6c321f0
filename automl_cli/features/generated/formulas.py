"""Arithmetic of numeric columns: differences, sums, products and ratios of two or three.

After the ArithmeticFeatureGenerator of AutoGluon and TabPrep (Tschalzev et al., TabPrep: closing the feature
engineering gap in tabular benchmarks, arXiv 2606.02384, 2026), which draws pairs and triples at random; here those of
the most relevant columns are all tried on some rows, and chosen step by step by what earlier ones leave to explain.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from automl_cli.features.frame import Frame
from automl_cli.features.generated.screen import Screen, binned, ranks
from automl_cli.features.matrix import Array, Source
from automl_cli.features.numeric import LARGEST
from automl_cli.features.store import Stored

MINUS, PLUS, TIMES, OVER = range(4)
NOTHING = -1
MOST_BASES = 16
PAIRS_EXTENDED = 8
THIRD_BASES = 8
WORTH_OF_TRIPLES = 0.95
MOST_SCORED = 200
PER_STEP = 4
MOST_ALIKE = 0.98
"""Rank correlation with a source or a better formula above which a candidate is dropped."""
RANK_ROWS = 1_000
BLOCK = 64

Formula = tuple[int, int, int, int, int]
"""Source, operation, source, and for three columns another operation and source, else `NOTHING` twice."""


@dataclass(frozen=True, eq=False)
class Formulas:
    """Columns computed from sources, see `sources_of`.

    Attributes
    ----------
    program : ndarray of shape (n_formulas, 5), int32
        `Formula` by `Formula`; three columns are worked out from left to right.
    """

    program: Array

    def transform(self, sources: Array) -> Array:
        """Return float64 of shape (n_rows, n_formulas), finite or NaN."""
        out = np.empty((len(sources), len(self.program)))
        for i, (a, first, b, second, c) in enumerate(self.program.tolist()):
            value = _compute(first, sources[:, a], sources[:, b])
            out[:, i] = value if second == NOTHING else _compute(second, value, sources[:, c])
        return out

    def sources(self, names: Sequence[str]) -> tuple[Source, ...]:
        """Return the source of each formula, for numbers and dates of these names."""
        return tuple(tuple(names[i] for i in _used(formula)) for formula in self.program.tolist())

    def arrays(self) -> Mapping[str, Array]:
        """Return what `read` needs."""
        return {"formulas.program": self.program}

    @classmethod
    def read(cls, stored: Stored) -> "Formulas":
        """Read and check what `arrays` gave; raises `BadArtifact`."""
        program = stored.array("formulas.program", np.int32, (None, 5), low=NOTHING, high=2**24)
        # checked column by column: only the second step may be nothing, and then all of it
        n_sources = len(stored.schema.numeric) + len(stored.schema.datetime)
        parts: dict[str, Array] = {}
        for i, (name, most) in enumerate((("a", n_sources - 1), ("first", OVER), ("b", n_sources - 1))):
            parts[name] = program[:, i]
            Stored(stored.schema, parts).array(name, np.int32, (None,), low=0, high=most)
        for i, (name, most) in enumerate((("second", OVER), ("c", n_sources - 1)), start=3):
            parts[name] = program[:, i]
            Stored(stored.schema, parts).array(name, np.int32, (None,), low=NOTHING, high=most)
        return cls(program)


def sources_of(frame: Frame) -> Array:
    """Return float64 of shape (n_rows, n_numeric + n_datetime): numbers, then days."""
    return np.asarray(np.clip(np.hstack([frame.numbers, frame.days]), -LARGEST, LARGEST))


def _compute(operation: int, a: Array, b: Array) -> Array:
    if operation == OVER:
        with np.errstate(divide="ignore", invalid="ignore", over="ignore", under="ignore"):
            ratio = a / b
        value = np.where(b == 0, np.nan, ratio)
    else:
        value = a - b if operation == MINUS else a + b if operation == PLUS else a * b
    return np.asarray(np.clip(value, -LARGEST, LARGEST))


@dataclass(frozen=True, eq=False)
class Sources:
    """The columns that formulas combine, in the screen's rows.

    Attributes
    ----------
    values : ndarray of shape (n, n_sources), float64
    n_numeric : int
        How many of them are numbers; the others are dates, of which only differences make sense.
    bins : ndarray of shape (n, n_sources), int64
    relevance : ndarray of shape (n_sources,)
        What each source says about the target by itself: the best are combined.
    """

    values: Array
    n_numeric: int
    bins: Array
    relevance: Array


def find_formulas(sources: Sources, whole: Screen, left: Screen, most: int) -> Formulas:
    """Choose at most ``most`` formulas.

    Parameters
    ----------
    whole, left : Screen
        With the target, and with what single columns leave of it.
    """
    strongest = np.argsort(-sources.relevance, kind="stable").tolist()
    numbers = [i for i in strongest if i < sources.n_numeric][:MOST_BASES]
    dates = [i for i in strongest if i >= sources.n_numeric][: MOST_BASES // 2]
    pairs = [(a, op, b, NOTHING, NOTHING) for a, b in combinations(numbers, 2) for op in (MINUS, PLUS, TIMES, OVER)]
    pairs += [(a, MINUS, b, NOTHING, NOTHING) for a, b in combinations(dates, 2)]
    scored = _scored(pairs, sources, whole, left)
    best = [item.formula for item in scored if item.formula[0] < sources.n_numeric][:PAIRS_EXTENDED]
    thirds = numbers[:THIRD_BASES]
    # a source twice gives little new: (a - b) / a has the order of b / a
    triples = [(*p[:3], op, c) for p in best for c in thirds if c not in p[:3:2] for op in (MINUS, PLUS, TIMES, OVER)]
    scored += _scored(triples, sources, whole, left)
    pool = sorted(scored, key=_loss)[:MOST_SCORED]
    return _program(_step_by_step(pool, sources.values, left, most))


def _program(formulas: list[Formula]) -> Formulas:
    return Formulas(np.array(formulas, dtype=np.int32).reshape(-1, 5))


@dataclass(frozen=True, eq=False)
class _Scored:
    """A formula and what it adds to its sources.

    Attributes
    ----------
    bins : ndarray of shape (n,), uint8
    beyond : ndarray of shape (n_targets, n), float32, or None
        The target's mean by the formula, without what is a sum over its sources.
    """

    gain: float
    formula: Formula
    bins: Array
    beyond: Array | None = None

    def against(self, left: Screen) -> "_Scored":
        """Score the formula by what it explains of a residual: by its own bins, or as it stands beside its sources.

        The first finds interactions without main effects. The second finds a ratio whose sources say a lot already:
        its share of the target is not the sum of theirs, but the residual's mean by the ratio shows little of it.
        """
        gain = left.gain(self.bins.astype(np.int64), left.n_bins + 1)
        return replace(self, gain=gain if self.beyond is None else max(gain, left.gain_of(self.beyond)))


def _scored(formulas: list[Formula], sources: Sources, whole: Screen, left: Screen) -> list[_Scored]:
    """Return the formulas with a gain, best first."""
    scored: list[_Scored] = []
    for first in range(0, len(formulas), BLOCK):
        block = formulas[first : first + BLOCK]
        bins = binned(_program(block).transform(sources.values), whole.n_bins)
        says = whole.gains(bins)
        for i, formula in enumerate(block):
            used = _used(formula)
            more = says[i] > sources.relevance[used].max() + whole.least_gain
            beyond = _beyond(bins[:, i], sources.bins[:, used], whole) if more else None
            scored.append(_Scored(0.0, formula, bins[:, i], beyond).against(left))
    return sorted((item for item in scored if item.gain > 0), key=_loss)


def _loss(item: _Scored) -> float:
    """Order by gain, but a third column must be worth it."""
    return -item.gain * (1.0 if item.formula[-1] == NOTHING else WORTH_OF_TRIPLES)


def _used(formula: Formula) -> list[int]:
    return sorted({i for i in formula[::2] if i != NOTHING})


def _beyond(bins: Array, of_sources: Array, whole: Screen) -> Array:
    means = replace(whole, residual=whole.means_elsewhere(bins.astype(np.int64), whole.n_bins + 1))
    return means.without_main_effects(list(of_sources.T)).residual.astype(np.float32)


def _step_by_step(pool: list[_Scored], sources: Array, screen: Screen, most: int) -> list[Formula]:
    """Choose some of the best, take what they say out of the residual, score the rest again, and so on."""
    some = sources[:: max(1, len(sources) // RANK_ROWS)]
    alike = ranks(some)
    chosen: list[_Scored] = []
    while pool and len(chosen) < most:
        step, alike = _different(pool, some, alike, min(PER_STEP, most - len(chosen)))
        if not step:
            break
        chosen += step
        screen = screen.without_main_effects([item.bins.astype(np.int64) for item in step])
        rest = [item.against(screen) for item in pool if all(item is not other for other in step)]
        pool = sorted((item for item in rest if item.gain > 0), key=_loss)
    return [item.formula for item in chosen]


def _different(pool: list[_Scored], some: Array, alike: Array, most: int) -> tuple[list[_Scored], Array]:
    """Return the first ``most`` that are no near copies of each other or of what is there, and the ranks of all."""
    chosen: list[_Scored] = []
    for item in pool:
        if len(chosen) == most:
            break
        rank = ranks(_program([item.formula]).transform(some))
        if np.abs(rank.T @ alike).max(initial=0.0) <= MOST_ALIKE:
            chosen.append(item)
            alike = np.hstack([alike, rank])
    return chosen, alike
