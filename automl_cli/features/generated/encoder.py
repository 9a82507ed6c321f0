"""Encoding "generated": what "native" gives, then formulas, groups, and target statistics of categories and crosses.

How many columns are made is decided from the frame's shape alone, and which from a screen on some of the training rows:
the same rows give the same columns, however fast the machine is.
"""

from collections.abc import Mapping, Set
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from automl_cli.features import levels
from automl_cli.features.frame import Frame, FrameSchema
from automl_cli.features.generated.codes import Crosses, FewValued, find_crosses, named_integers, strongest
from automl_cli.features.generated.formulas import Formulas, Sources, find_formulas, sources_of
from automl_cli.features.generated.groups import Groups, find_groups
from automl_cli.features.generated.screen import Screen, binned, open_screen
from automl_cli.features.matrix import Array, Matrix, Source, as_matrix
from automl_cli.features.native import CodeEncoder, code_arrays, fit_native, read_codes
from automl_cli.features.numeric import LARGEST, Numbers
from automl_cli.features.store import Stored, read_arrays, write_arrays
from automl_cli.features.target_statistics import TargetStatistics, fit_statistics, learning_targets
from automl_cli.task import TaskKind

MOST_COLUMNS = 48
MOST_BYTES = 64 * 2**20
"""Of the made columns in single precision."""
MOST_CELLS = 20_000_000
"""Of numbers, dates and codes: beyond it, nothing is made."""
LEAST_INPUTS = 2
MOST_INPUTS = 300
LEAST_ROWS = 50
MANY_LEVELS = 10
"""A category of more values has target statistics beside its code."""
MOST_MAIN_EFFECTS = 64
NAMES_ROWS = 50_000
"""Training rows that tell whether the integers of a column are names: a value has few of them."""


@dataclass(frozen=True, eq=False)
class GeneratedEncoder:
    """The parts in the order of their columns; ``statistics`` is about the coded columns, then the crosses.

    Attributes
    ----------
    shift : Numbers
        Subtracted from formulas and groups, which may lie in a narrow range far from zero.
    """

    base: CodeEncoder
    few: FewValued
    formulas: Formulas
    groups: Groups
    crosses: Crosses
    statistics: TargetStatistics
    shift: Numbers

    @property
    def sizes(self) -> tuple[int, ...]:
        """Values of each coded column."""
        return self.few.sizes(self.base.schema.n_categories)

    def transform(self, frame: Frame) -> Matrix:
        """Encode rows that were not trained on; raises `SchemaMismatch` for another frame's columns."""
        plain = self.base.transform(frame)
        return self._join(plain, frame, self.statistics.transform(_all_codes(self.few, self.crosses, frame)))

    def sources(self) -> tuple[Source, ...]:
        """Return the source of each feature."""
        schema = self.base.schema
        names = (*schema.numeric, *schema.datetime)
        coded = (*schema.categorical, *(schema.numeric[j] for j in self.few.columns))
        made = (*self.formulas.sources(names), *self.groups.sources(coded, names))
        counted = (*((name,) for name in coded), *self.crosses.sources(coded))
        return (*self.base.sources(), *made, *self.statistics.sources(counted))

    def _join(self, plain: Matrix, frame: Frame, statistics: Array) -> Matrix:
        n_made = len(self.shift.shift)
        if not n_made and not statistics.shape[1]:
            return plain
        first = plain.X.shape[1]
        X = np.empty((frame.n_rows, first + n_made + statistics.shape[1]), dtype=np.float32)
        X[:, :first] = plain.X
        if n_made:
            self.shift.write(X[:, first : first + n_made], self._made(frame))
        X[:, first + n_made :] = statistics
        return as_matrix(X, plain.categorical)

    def _made(self, frame: Frame) -> Array:
        sources = sources_of(frame)
        made = self.formulas.transform(sources)
        if not len(self.groups.program):
            return made
        return np.hstack([made, self.groups.transform(self.few.codes(frame), self.sizes, sources)])


@dataclass(frozen=True)
class _Budget:
    """Columns of each sort that may be made."""

    formulas: int
    groups: int
    statistics: int


def can_generate(n_rows: int, n_inputs: int) -> bool:
    """Whether anything is made from a frame of this shape; texts do not count.

    >>> can_generate(1000, 10), can_generate(1000, 1000), can_generate(20, 10), can_generate(1000, 1)
    (True, False, False, False)
    """
    return n_rows >= LEAST_ROWS and LEAST_INPUTS <= n_inputs <= MOST_INPUTS and n_rows * n_inputs <= MOST_CELLS


def _budget(frame: Frame) -> _Budget:
    """Decide from the frame's shape alone.

    >>> from automl_cli.features.frame import FrameSchema
    >>> _budget(Frame(FrameSchema(("a", "b")), np.zeros((1000, 2)), np.zeros((1000, 0)), np.zeros((1000, 0))))
    _Budget(formulas=24, groups=8, statistics=16)
    """
    schema = frame.schema
    n_inputs = len(schema.numeric) + len(schema.categorical) + len(schema.datetime)
    fits = can_generate(frame.n_rows, n_inputs)
    most = min(MOST_COLUMNS, MOST_BYTES // (4 * frame.n_rows)) if fits else 0
    return _Budget(formulas=most // 2, groups=most // 6, statistics=most // 3)


@dataclass(frozen=True, eq=False)
class _Plan:
    """What is to be made, by the screen."""

    few: FewValued
    formulas: Formulas
    groups: list[tuple[int, int, int]]
    crosses: list[tuple[int, ...]]
    categories: Set[int]


def fit_generated(frame: Frame, y: Array, kind: TaskKind, n_outputs: int, seed: int) -> tuple[GeneratedEncoder, Matrix]:
    """Fit "generated"; the training rows' matrix holds out-of-fold statistics: a row's own target is not in them."""
    base, plain = fit_native(frame, y, kind, n_outputs, seed)
    targets = learning_targets(y, kind, n_outputs)
    budget, per_column = _budget(frame), targets.shape[1] + 1
    n_columns = budget.statistics // per_column
    named = {}
    if budget.formulas:
        named = named_integers(frame.numbers, open_screen(y, kind, n_outputs, seed, most=NAMES_ROWS))
    plan = _plan(frame, open_screen(y, kind, n_outputs, seed), named, budget, (n_columns + 1) // 2)
    sizes = plan.few.sizes(frame.schema.n_categories)
    codes = plan.few.codes(frame)
    crosses = Crosses.fit(plan.crosses, codes, sizes)
    joint = np.hstack([codes, crosses.codes(codes, sizes)])
    columns = _statistics_columns(sizes, plan.categories, len(plan.crosses), n_columns)
    coded = replace(_coded_frame(joint, (*sizes, *crosses.sizes)), groups=frame.groups)
    statistics, oof = fit_statistics(coded, columns, targets, seed)
    groups = Groups.fit(plan.groups, codes, sizes, sources_of(frame) if plan.groups else np.empty((frame.n_rows, 0)))
    unshifted = Numbers(np.zeros(len(plan.formulas.program) + len(plan.groups)))
    encoder = GeneratedEncoder(base, plan.few, plan.formulas, groups, crosses, statistics, unshifted)
    encoder = replace(encoder, shift=Numbers.fit(encoder._made(frame)))
    return encoder, encoder._join(plain, frame, oof)


def _statistics_columns(sizes: tuple[int, ...], categories: Set[int], n_crosses: int, most: int) -> Array:
    """Return the coded columns with target statistics: the crosses, then categories, those of most values first."""
    many = [j for j in sorted(categories, key=lambda j: (-sizes[j], j)) if sizes[j] > MANY_LEVELS]
    crosses = list(range(len(sizes), len(sizes) + n_crosses))
    return np.array(sorted([*crosses, *many[: max(0, most - n_crosses)]]), dtype=np.int32)


def _plan(frame: Frame, screen: Screen, named: Mapping[int, Array], budget: _Budget, n_crosses: int) -> _Plan:
    """Screen candidates on some of the training rows."""
    categories = set(range(len(frame.schema.categorical)))
    if not budget.formulas:
        return _Plan(FewValued.fit(np.empty((0, 0))), Formulas(np.empty((0, 5), dtype=np.int32)), [], [], categories)
    some = _rows_without_texts(frame, screen.rows)
    few = FewValued.fit(some.numbers)
    n_few = len(few.columns)
    few = few.followed_by(named)
    categories |= {len(categories) + n_few + k for k in range(len(named))}
    sizes, codes, sources = few.sizes(frame.schema.n_categories), few.codes(some), sources_of(some)
    bins = binned(sources, screen.n_bins)
    places = [levels.places(codes[:, [j]], (size,))[:, 0] for j, size in enumerate(sizes)]
    says = screen.gains(bins)
    says_coded = np.array(
        [screen.gain(place, size + levels.N_OTHERS) for place, size in zip(places, sizes, strict=True)]
    )
    best = np.argsort(-says, kind="stable")[:MOST_MAIN_EFFECTS]
    main = [bins[:, i].astype(np.int64) for i in best] + [places[j] for j in sorted(categories)]
    left = screen.without_main_effects(main)
    inputs = Sources(sources, len(frame.schema.numeric), bins.astype(np.int64), says)
    formulas = find_formulas(inputs, screen, left, budget.formulas)
    groups = find_groups(codes, sizes, sources, left, (says_coded, says), budget.groups)
    crosses = find_crosses(codes, sizes, left, strongest(says_coded), categories)
    return _Plan(few, formulas, groups, crosses[:n_crosses], categories)


def _rows_without_texts(frame: Frame, rows: Array) -> Frame:
    schema = replace(frame.schema, text=())
    return Frame(schema, frame.numbers, frame.codes, frame.days).take(rows)


def _all_codes(few: FewValued, crosses: Crosses, frame: Frame) -> Array:
    codes = few.codes(frame)
    return np.hstack([codes, crosses.codes(codes, few.sizes(frame.schema.n_categories))])


def _coded_schema(sizes: tuple[int, ...]) -> FrameSchema:
    return FrameSchema(categorical=tuple(str(j) for j in range(len(sizes))), n_categories=sizes)


def _coded_frame(codes: Array, sizes: tuple[int, ...]) -> Frame:
    empty = np.empty((len(codes), 0))
    return Frame(_coded_schema(sizes), empty, codes, empty)


def save_generated(encoder: GeneratedEncoder, folder: Path) -> None:
    """Write a "generated" encoder into an existing folder."""
    arrays = {**code_arrays(encoder.base), "made.shift": encoder.shift.shift}
    for part in (encoder.few, encoder.formulas, encoder.groups, encoder.crosses, encoder.statistics):
        arrays |= part.arrays()
    write_arrays(folder, "generated", encoder.base.schema, arrays)


def load_generated(folder: Path) -> GeneratedEncoder:
    """Read what `save_generated` wrote; raises `BadArtifact` for anything malformed."""
    stored = read_arrays(folder, "generated")
    few = FewValued.read(stored)
    sizes = few.sizes(stored.schema.n_categories)
    formulas, groups, crosses = Formulas.read(stored), Groups.read(stored, sizes), Crosses.read(stored, sizes)
    coded = Stored(_coded_schema((*sizes, *crosses.sizes)), stored.arrays)
    n_made = len(formulas.program) + len(groups.program)
    return GeneratedEncoder(
        base=read_codes(stored, declared=True),
        few=few,
        formulas=formulas,
        groups=groups,
        crosses=crosses,
        statistics=TargetStatistics.read(coded),
        shift=Numbers(stored.array("made.shift", np.float64, (n_made,), low=-LARGEST, high=LARGEST)),
    )
