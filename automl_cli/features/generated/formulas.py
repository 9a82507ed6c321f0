"""Arithmetic of numeric columns: differences, sums, products and ratios of two or three.

After the ArithmeticFeatureGenerator of AutoGluon and TabPrep (Tschalzev et al., TabPrep: closing the feature
engineering gap in tabular benchmarks, arXiv 2606.02384, 2026), which draws pairs and triples at random; here those of
the most relevant columns are all tried on some rows, and chosen step by step by what earlier ones leave to explain.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from automl_cli.features.frame import Frame, FrameSchema
from automl_cli.features.generated.screen import Screen, binned, ranks
from automl_cli.features.matrix import Array
from automl_cli.features.numeric import LARGEST
from automl_cli.features.store import Stored

MINUS, PLUS, TIMES, OVER = range(4)
NOTHING = -1
MOST_BASES = 16
PAIRS_EXTENDED = 8
THIRD_BASES = 8
MOST_SCORED = 300
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


def find_formulas(sources: Array, schema: FrameSchema, screen: Screen, relevance: Array, most: int) -> Formulas:
    """Choose at most ``most`` formulas.

    Parameters
    ----------
    sources : ndarray of shape (n, n_sources)
        Of the screen's rows.
    relevance : ndarray of shape (n_sources,)
        What each source says about the target by itself: the best are combined.
    """
    n_numeric = len(schema.numeric)
    strongest = np.argsort(-relevance, kind="stable")
    numbers = [int(i) for i in strongest if i < n_numeric][:MOST_BASES]
    dates = [int(i) for i in strongest if i >= n_numeric][: MOST_BASES // 2]
    pairs = [(a, op, b, NOTHING, NOTHING) for a, b in combinations(numbers, 2) for op in (MINUS, PLUS, TIMES, OVER)]
    pairs += [(a, MINUS, b, NOTHING, NOTHING) for a, b in combinations(dates, 2)]
    scored = _scored(pairs, sources, screen)
    best = [item.formula for item in scored if item.formula[0] < n_numeric][:PAIRS_EXTENDED]
    triples = [(*pair[:3], op, c) for pair in best for c in numbers[:THIRD_BASES] for op in (MINUS, PLUS, TIMES, OVER)]
    # shorter formulas first among equals: a sort keeps their order
    pool = sorted([*scored, *_scored(triples, sources, screen)], key=lambda item: -item.gain)[:MOST_SCORED]
    return _program(_step_by_step(pool, sources, screen, most))


def _program(formulas: list[Formula]) -> Formulas:
    return Formulas(np.array(formulas, dtype=np.int32).reshape(-1, 5))


@dataclass(frozen=True, eq=False)
class _Scored:
    """A formula, what it explains, and its bins in the screen's rows (uint8)."""

    gain: float
    formula: Formula
    bins: Array


def _scored(formulas: list[Formula], sources: Array, screen: Screen) -> list[_Scored]:
    """Return the formulas with more than a chance gain, best first."""
    scored: list[_Scored] = []
    for first in range(0, len(formulas), BLOCK):
        block = formulas[first : first + BLOCK]
        bins = binned(_program(block).transform(sources), screen.n_bins)
        gains = screen.gains(bins).tolist()
        scored += [_Scored(gain, block[i], bins[:, i]) for i, gain in enumerate(gains) if gain > screen.least_gain]
    return sorted(scored, key=lambda item: -item.gain)


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
        rest = [item for item in pool if all(item is not other for other in step)]
        gains = [screen.gain(item.bins.astype(np.int64), screen.n_bins + 1) for item in rest]
        rescored = [
            replace(item, gain=gain) for item, gain in zip(rest, gains, strict=True) if gain > screen.least_gain
        ]
        pool = sorted(rescored, key=lambda item: -item.gain)
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
