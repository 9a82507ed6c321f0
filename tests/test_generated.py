"""What the generated features find, what they cost, and that they give no target away."""

import json
import time
from dataclasses import replace
from pathlib import Path

import lightgbm
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from automl_cli.errors import BadArtifact
from automl_cli.features.encodings import ENCODINGS
from automl_cli.features.frame import Frame, FrameSchema
from automl_cli.features.generated.codes import Crosses, FewValued, find_crosses
from automl_cli.features.generated.encoder import (
    MOST_BYTES,
    MOST_COLUMNS,
    GeneratedEncoder,
    can_generate,
    fit_generated,
    load_generated,
    save_generated,
)
from automl_cli.features.generated.formulas import MINUS, NOTHING, OVER, TIMES, Formulas
from automl_cli.features.generated.groups import ALPHA, DIFFERENCE, MEAN, Groups
from automl_cli.features.generated.screen import SAMPLE_ROWS, binned, open_screen
from automl_cli.features.matrix import Matrix
from automl_cli.features.native import fit_native
from automl_cli.task import TaskKind

BINARY, REGRESSION, MULTICLASS = TaskKind.BINARY, TaskKind.REGRESSION, TaskKind.MULTICLASS


def frame_of(numbers: np.ndarray, codes: np.ndarray | None = None, sizes: tuple[int, ...] = (), days=None) -> Frame:
    n = len(numbers)
    codes = np.empty((n, 0)) if codes is None else codes
    days = np.empty((n, 0)) if days is None else days
    names = [
        tuple(f"{letter}{i}" for i in range(b.shape[1])) for letter, b in (("n", numbers), ("c", codes), ("d", days))
    ]
    return Frame(FrameSchema(names[0], names[1], sizes, names[2]), numbers, codes.astype(np.int32), days)


def random_frame(n: int = 1500, seed: int = 0, n_numbers: int = 5, sizes: tuple[int, ...] = (4, 6, 40)) -> Frame:
    rng = np.random.default_rng(seed)
    codes = np.column_stack([rng.integers(-1, size, n) for size in sizes]) if sizes else None
    return frame_of(rng.uniform(1, 10, (n, n_numbers)), codes, sizes)


def classes_of(score: np.ndarray) -> np.ndarray:
    return (score > np.median(score)).astype(np.int64)


def formulas_of(encoder: GeneratedEncoder) -> list[list[int]]:
    return [[v for v in row if v != NOTHING] for row in encoder.formulas.program.tolist()]


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (lambda X: X[:, 3] / X[:, 1], ({1, 3}, OVER)),
        (lambda X: np.abs(X[:, 0] - X[:, 2]), ({0, 2}, MINUS)),
        (lambda X: (X[:, 4] - 5.5) * (X[:, 1] - 5.5), ({1, 4}, None)),
    ],
    ids=["ratio", "distance", "interaction"],
)
def test_arithmetic_that_decides_is_found_first(target, expected) -> None:
    frame = random_frame()
    y = target(frame.numbers)
    encoder, _ = fit_generated(frame, y, REGRESSION, 1, 0)
    a, operation, b = formulas_of(encoder)[0][:3]
    assert {a, b} == expected[0]
    assert expected[1] in (None, operation)


def test_three_columns_are_combined() -> None:
    frame = random_frame(4000)
    X = frame.numbers
    encoder, matrix = fit_generated(frame, X[:, 0] * X[:, 1] / X[:, 2], REGRESSION, 1, 0)
    assert {0, 1, 2} in [set(f[::2]) for f in formulas_of(encoder)]
    assert matrix.X.shape[1] <= 8 + MOST_COLUMNS


def test_cross_that_decides_is_found_and_its_statistics_tell_it() -> None:
    frame = random_frame(3000)
    codes = np.maximum(frame.codes, 0)
    y = ((codes[:, 0] + codes[:, 1]) % 2).astype(np.int64)
    encoder, matrix = fit_generated(frame, y, BINARY, 2, 0)
    assert [0, 1, NOTHING] in encoder.crosses.members.tolist()
    assert max(abs(np.corrcoef(column, y)[0, 1]) for column in matrix.X[:, 8:].T) > 0.9


def test_integers_of_few_values_are_crossed_with_categories() -> None:
    rng = np.random.default_rng(0)
    numbers, codes = rng.integers(1, 6, (3000, 4)).astype(float), rng.integers(0, 5, (3000, 1))
    y = ((numbers[:, 3] + codes[:, 0]) % 2).astype(np.int64)
    encoder, _ = fit_generated(frame_of(numbers, codes, (5,)), y, BINARY, 2, 0)
    assert encoder.crosses.members.tolist()[0] == [0, 4, NOTHING]


def test_integers_alone_are_not_crossed() -> None:
    numbers = np.random.default_rng(0).integers(1, 6, (3000, 4)).astype(float)
    y = ((numbers[:, 0] + numbers[:, 3]) % 2).astype(np.int64)
    encoder, _ = fit_generated(frame_of(numbers), y, BINARY, 2, 0)
    assert not len(encoder.crosses.members)


def named(n: int = 4000) -> tuple[Frame, np.ndarray]:
    """Numbers of shops, whose order says nothing; amounts of as many values, whose order says all."""
    rng = np.random.default_rng(2)
    shop, amount = rng.integers(0, 200, n), rng.integers(0, 200, n)
    numbers = np.column_stack([(1000 + rng.permutation(200) * 7)[shop], amount]).astype(float)
    numbers[::50, 0] = np.nan
    effect = rng.normal(size=200)[shop] + np.sin(amount / 30)
    return frame_of(numbers), effect + 0.3 * rng.normal(size=n)


def test_integers_that_are_names_have_statistics_and_amounts_have_none() -> None:
    frame, y = named()
    encoder, matrix = fit_generated(frame, y, REGRESSION, 1, 0)
    assert encoder.few.columns.tolist() == [0]
    told = frame.numbers[:, 0] >= 0
    statistics = matrix.X[told][:, -2]
    assert np.corrcoef(statistics, y[told])[0, 1] > 0.6
    assert ("n0",) in encoder.sources()[2:]
    shuffled = np.random.default_rng(1).permutation(y)
    assert not len(fit_generated(frame, shuffled, REGRESSION, 1, 0)[0].few.columns)


def test_names_that_training_never_saw_are_unknown(tmp_path: Path) -> None:
    frame, y = named()
    encoder, _ = fit_generated(frame, y, REGRESSION, 1, 0)
    save_generated(encoder, tmp_path)
    strange = frame_of(np.array([[5.0, 3.0], [np.nan, 3.0], [1e30, 3.0], [1000.5, 3.0]]))
    X = load_generated(tmp_path).transform(strange).X
    np.testing.assert_array_equal(X, encoder.transform(strange).X)
    assert len({row.tobytes() for row in X[[0, 2, 3], -2:]}) == 1  # unknown alike, and not as what is missing


def test_number_against_its_group_is_found() -> None:
    rng = np.random.default_rng(0)
    frame = random_frame(3000, sizes=(25,))
    base = rng.uniform(0, 100, 26)[frame.codes[:, 0]]
    numbers = frame.numbers.copy()
    numbers[:, 0] = base + rng.normal(size=3000)
    frame = frame_of(numbers, frame.codes, (25,))
    encoder, _ = fit_generated(frame, classes_of(numbers[:, 0] - base), BINARY, 2, 0)
    assert [0, 0] in encoder.groups.program[:, :2].tolist()


def test_days_between_dates_are_found() -> None:
    rng = np.random.default_rng(0)
    first = 18_000 + rng.integers(0, 3000, 2000)
    days = np.column_stack([first, first + rng.integers(0, 60, 2000)]).astype(float)
    y = (days[:, 1] - days[:, 0] > 30).astype(np.int64)
    encoder, _ = fit_generated(frame_of(np.empty((2000, 0)), days=days), y, BINARY, 2, 0)
    assert formulas_of(encoder) in ([[0, MINUS, 1]], [[1, MINUS, 0]])


def test_formulas_are_worked_out_from_left_to_right() -> None:
    program = np.array([[0, MINUS, 1, TIMES, 2], [0, OVER, 1, NOTHING, NOTHING]], dtype=np.int32)
    made = Formulas(program).transform(np.array([[5.0, 2.0, 4.0], [1.0, 0.0, 1.0], [np.nan, 1.0, 1.0]]))
    np.testing.assert_array_equal(made, [[12.0, 2.5], [1.0, np.nan], [np.nan, np.nan]])


def test_group_means_are_smoothed_and_unknown_groups_have_the_overall_mean() -> None:
    codes, source = np.array([[0]] * 10 + [[1]] * 30), np.array([[8.0]] * 10 + [[0.0]] * 30)
    groups = Groups.fit([(0, 0, MEAN), (0, 0, DIFFERENCE)], codes, (3,), source)
    made = groups.transform(np.array([[0], [2], [-2]]), (3,), np.array([[9.0], [9.0], [np.nan]]))
    mean = (10 * 8 + ALPHA * 2) / (10 + ALPHA)
    np.testing.assert_allclose(made, [[mean, 9 - mean], [2, 7], [2, np.nan]])


def test_single_combinations_have_no_code_of_their_own() -> None:
    codes = np.array([[0, 0], [0, 0], [1, 0], [1, 1], [1, 1]], dtype=np.int32)
    crosses = Crosses.fit([(0, 1)], codes, (2, 2))
    assert crosses.sizes == (2,)
    assert crosses.codes(codes, (2, 2))[:, 0].tolist() == [0, 0, -2, 1, 1]
    assert crosses.codes(np.array([[0, 1], [-2, 0]], dtype=np.int32), (2, 2))[:, 0].tolist() == [-2, -2]


def test_few_valued_numbers_become_codes() -> None:
    few = FewValued.fit(np.column_stack([np.arange(50) % 3 * 10.0, np.linspace(0, 1, 50), np.full(50, np.nan)]))
    assert few.columns.tolist() == [0]
    codes = few.codes(frame_of(np.array([[20.0, 0, 0], [5.0, 0, 0], [np.nan, 0, 0]])))
    assert codes[:, 0].tolist() == [2, -2, -1]


def test_bins_hold_about_equal_rows() -> None:
    values = np.random.default_rng(0).lognormal(sigma=3, size=(4000, 1))
    values[:400] = np.nan
    counts = np.bincount(binned(values, 8)[:, 0], minlength=9)
    assert counts[8] == 400
    assert counts[:8].min() > 380


# --- bounds -----------------------------------------------------------------------------------------------------------


@settings(max_examples=15, deadline=None)
@given(n=st.integers(1, 400), n_numbers=st.integers(0, 12), n_codes=st.integers(0, 4), seed=st.integers(0, 99))
def test_made_columns_are_bounded(n: int, n_numbers: int, n_codes: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    frame = random_frame(n, seed, n_numbers, (5, 50, 3, 200)[:n_codes])
    y = rng.integers(0, 3, n)
    _, plain = fit_native(frame, y, MULTICLASS, 3, 0)
    _, matrix = fit_generated(frame, y, MULTICLASS, 3, 0)
    n_made = matrix.X.shape[1] - plain.X.shape[1]
    assert 0 <= n_made <= (MOST_COLUMNS if can_generate(n, n_numbers + n_codes) else 0)
    np.testing.assert_array_equal(matrix.X[:, : plain.X.shape[1]], plain.X)
    assert matrix.categorical == plain.categorical


def test_memory_bounds_the_columns() -> None:
    assert not can_generate(1_000_000, 30)
    # most columns of a frame of a million rows, by the bytes alone
    assert MOST_BYTES // (4 * 1_000_000) < MOST_COLUMNS


def test_wide_frames_get_nothing() -> None:
    rng = np.random.default_rng(0)
    wide = frame_of(rng.normal(size=(80, 400)))
    _, matrix = fit_generated(wide, rng.integers(0, 2, 80), BINARY, 2, 0)
    assert matrix.X.shape == (80, 400)


def test_fitting_is_quick() -> None:
    frame = random_frame(1000, n_numbers=7)
    y = classes_of(frame.numbers[:, 0] * frame.numbers[:, 1])
    fit_generated(frame, y, BINARY, 2, 0)
    started = time.process_time()
    fit_generated(frame, y, BINARY, 2, 0)
    assert time.process_time() - started < 1.0  # 0.1 s where nothing else runs


def test_screen_looks_at_some_rows_only() -> None:
    screen = open_screen(np.arange(3.0 * SAMPLE_ROWS), REGRESSION, 1, 0)
    assert len(screen.rows) == SAMPLE_ROWS
    assert (np.diff(screen.rows) > 0).all()


# --- no target is given away ------------------------------------------------------------------------------------------


def loss_on_the_rest(name: str, frame: Frame, y: np.ndarray, kind: TaskKind) -> float:
    """Log loss or squared error of three folds, by few rounds of LightGBM."""
    folds = np.arange(frame.n_rows) % 3
    objective = "binary" if kind is BINARY else "regression"
    options = {"objective": objective, "num_leaves": 8, "learning_rate": 0.1, "verbosity": -1, "num_threads": 1}
    losses = []
    for fold in range(3):
        train, valid = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
        encoder, matrix = ENCODINGS[name].fit(frame.take(train), y[train], kind, 2 if kind is BINARY else 1, fold)
        model = lightgbm.train({**options, "seed": fold}, dataset(matrix, y[train]), 40)
        p = np.asarray(model.predict(encoder.transform(frame.take(valid)).X))
        truth = y[valid]
        if kind is BINARY:
            losses.append(-np.log(np.where(truth == 1, p, 1 - p)).mean())
        else:
            losses.append(((truth - p) ** 2).mean())
    return float(np.mean(losses))


def dataset(matrix: Matrix, y: np.ndarray) -> lightgbm.Dataset:
    return lightgbm.Dataset(matrix.X, label=y, categorical_feature=list(matrix.categorical))


@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 10_000), kind=st.sampled_from([BINARY, REGRESSION]))
def test_random_target_gains_nothing(seed: int, kind: TaskKind) -> None:
    frame = random_frame(900, seed, 6, (5, 30, 300))
    rng = np.random.default_rng(seed + 1)
    y = rng.integers(0, 2, 900) if kind is BINARY else rng.normal(size=900)
    constant = np.log(2) if kind is BINARY else y.var()
    loss = loss_on_the_rest("generated", frame, y, kind)
    assert loss > 0.985 * constant


def test_training_rows_do_not_see_a_random_target() -> None:
    rng = np.random.default_rng(0)
    frame = random_frame(6000, 1, 3, (1500, 30, 30))
    y = rng.integers(0, 2, 6000)
    encoder, matrix = fit_generated(frame, y, BINARY, 2, 0)
    _, plain = fit_native(frame, y, BINARY, 2, 0)
    first = plain.X.shape[1]

    def strongest(X: np.ndarray) -> float:
        return max(abs(np.corrcoef(np.nan_to_num(c), y)[0, 1]) for c in X[:, first:].T if np.ptp(c) > 0)

    assert strongest(matrix.X) < 0.06
    # the statistics of all rows do know it: this is what the test would find
    assert strongest(encoder.transform(frame).X) > 0.25


def test_own_target_is_in_no_statistic_of_its_row() -> None:
    frame = random_frame(2000, 3, 4, (30, 8))
    rng = np.random.default_rng(0)
    signal = (np.maximum(frame.codes[:, 0], 0) + np.maximum(frame.codes[:, 1], 0)) % 2
    y = np.where(rng.random(2000) < 0.1, 1 - signal, signal).astype(np.int64)
    first, second = next(
        (i, j) for i in range(50) for j in range(50) if y[i] < y[j] and (frame.codes[i] != frame.codes[j]).all()
    )
    flipped = y.copy()
    flipped[[first, second]] = y[[second, first]]  # the overall mean stays
    (one, before), (other, after) = (fit_generated(frame, targets, BINARY, 2, 0) for targets in (y, flipped))
    np.testing.assert_array_equal(one.crosses.members, other.crosses.members)
    assert len(one.crosses.members)
    n = one.statistics.width
    np.testing.assert_array_equal(before.X[[first, second], -n:], after.X[[first, second], -n:])
    assert (before.X[:, -n:] != after.X[:, -n:]).any()


def test_crosses_of_a_random_target_are_not_chosen() -> None:
    frame = random_frame(2000, 0, 0, (6, 8, 30, 200))
    screen = open_screen(np.random.default_rng(1).integers(0, 2, 2000), BINARY, 2, 0)
    assert find_crosses(frame.codes, (6, 8, 30, 200), screen, [0, 1, 2, 3], {0, 1, 2, 3}) == []


# --- on disk ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def rich() -> tuple[GeneratedEncoder, Frame]:
    """An encoder with something in each part."""
    rng = np.random.default_rng(5)
    plain = random_frame(3000, 5, 4, (4, 6, 25))
    base = rng.uniform(0, 100, 26)[plain.codes[:, 2]]
    few = rng.integers(0, 4, 3000)
    numbers = np.column_stack([plain.numbers, base + rng.normal(size=3000), few])
    codes = np.maximum(plain.codes, 0)
    score = 2 * (numbers[:, 4] - base) + numbers[:, 0] / numbers[:, 1] + 3 * ((codes[:, 0] + codes[:, 1]) % 2)
    frame = frame_of(numbers, plain.codes, (4, 6, 25), days=19_000 + rng.uniform(0, 900, (3000, 2)))
    encoder, _ = fit_generated(frame, classes_of(score), BINARY, 2, 0)
    return encoder, frame


def test_loaded_encoder_encodes_the_same(rich: tuple[GeneratedEncoder, Frame], tmp_path: Path) -> None:
    encoder, frame = rich
    parts = (encoder.formulas.program, encoder.groups.program, encoder.crosses.members, encoder.few.columns)
    assert all(len(part) for part in parts)
    save_generated(encoder, tmp_path)
    some = frame.take(np.arange(40))
    np.testing.assert_array_equal(load_generated(tmp_path).transform(some).X, encoder.transform(some).X)


def test_made_columns_say_what_they_are_made_of(rich: tuple[GeneratedEncoder, Frame]) -> None:
    encoder, frame = rich
    some = frame.take(np.arange(500))
    before, sources = encoder.transform(some).X, encoder.sources()
    assert len(sources) == before.shape[1]
    assert max(map(len, sources)) >= 2
    followed: list[set[str]] = [set() for _ in sources]
    for letter, key in (("n", "numbers"), ("c", "codes"), ("d", "days")):
        block = getattr(some, key)
        for j in range(block.shape[1]):
            changed = np.array(block)
            changed[:, j] = changed[::-1, j]
            after = encoder.transform(replace(some, **{key: changed})).X
            differs = ((before != after) & ~(np.isnan(before) & np.isnan(after))).any(axis=0)
            for k in np.flatnonzero(differs):
                followed[k].add(f"{letter}{j}")
    assert followed == [set(source) for source in sources]


WRONG = {
    "formulas.program": [("a", 99), ("b", -1)],
    "groups.program": [("a", 99)],
    "crosses.members": [("a", -1), ("a", 99)],
    "crosses.ends": [("last", 10**6), ("first", -1)],
    "few.ends": [("first", 0), ("last", 10**6)],
    "few.columns": [("a", 99)],
    "few.values": [("a", np.nan)],
    "groups.means": [("a", np.inf)],
    "made.shift": [("a", np.nan)],
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_read_is_checked(rich: tuple[GeneratedEncoder, Frame], name: str, tmp_path: Path) -> None:
    save_generated(rich[0], tmp_path)
    with np.load(tmp_path / "encoder.npz") as archive:
        arrays = dict(archive)
    header = json.loads((tmp_path / "encoder.json").read_text())
    for place, value in WRONG[name]:
        bad = arrays[name].copy()
        flat = bad.reshape(-1)
        flat[{"a": 0, "first": 0, "b": min(2, len(flat) - 1), "last": -1}[place]] = value
        np.savez(tmp_path / "encoder.npz", **{**arrays, name: bad})
        with pytest.raises(BadArtifact):
            load_generated(tmp_path)
    header["arrays"][name]["shape"] = [0, *header["arrays"][name]["shape"][1:]]
    (tmp_path / "encoder.json").write_text(json.dumps(header))
    np.savez(tmp_path / "encoder.npz", **{**arrays, name: arrays[name][:0]})
    with pytest.raises(BadArtifact):
        load_generated(tmp_path)
