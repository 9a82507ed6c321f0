"""What each encoding does with its columns."""

import tracemalloc
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from automl_cli.features import text
from automl_cli.features.encodings import ENCODINGS
from automl_cli.features.frame import Frame, FrameSchema
from automl_cli.features.matrix import Matrix
from automl_cli.features.native import MAX_NATIVE_LEVELS
from automl_cli.features.one_hot import MAX_WIDTH
from automl_cli.features.store import write_arrays
from automl_cli.features.target_statistics import ALPHA
from automl_cli.task import TaskKind


def frame_of(
    numbers: object = None, codes: object = None, sizes: tuple[int, ...] = (), days: object = None, texts: object = None
) -> Frame:
    given = [np.asarray(block) for block in (numbers, codes, days) if block is not None]
    n_rows = len(given[0]) if given else len(texts[0])
    blocks = [np.empty((n_rows, 0)) if block is None else np.asarray(block, float) for block in (numbers, codes, days)]
    names = [tuple(f"{letter}{i}" for i in range(block.shape[1])) for letter, block in zip("ncd", blocks, strict=True)]
    schema = FrameSchema(names[0], names[1], sizes, names[2], tuple(f"t{i}" for i in range(len(texts or ()))))
    columns = tuple(pa.array(text, pa.large_string()) for text in texts or ())
    return Frame(schema, blocks[0], blocks[1].astype(np.int32), blocks[2], columns)


def encode(name: str, train: Frame, other: Frame | None = None, y: object = None, n_classes: int = 2) -> Matrix:
    """Rows of ``other`` if given, else the training rows as a model is trained on them."""
    kind = TaskKind.REGRESSION if n_classes == 1 else TaskKind.BINARY if n_classes == 2 else TaskKind.MULTICLASS
    y = np.arange(train.n_rows) % 2 if y is None else np.asarray(y)
    encoder, matrix = ENCODINGS[name].fit(train, y, kind, n_classes, 0)
    return matrix if other is None else encoder.transform(other)


def days_of(*moments: str) -> list[list[float]]:
    return [
        [(datetime.fromisoformat(m) - datetime(1970, 1, 1)).total_seconds() / 86400] if m else [np.nan] for m in moments
    ]


class TestNative:
    def test_keeps_numbers_and_codes_and_declares_categories(self) -> None:
        train = frame_of([[1.5], [np.nan], [2.0], [1.5]], [[0], [1], [0], [1]], (2,))
        matrix = encode("native", train)
        np.testing.assert_array_equal(matrix.X, np.float32([[1.5, 0], [np.nan, 1], [2, 0], [1.5, 1]]))
        assert matrix.categorical == (1,)
        assert matrix.names == ("f0", "f1")

    def test_missing_and_rare_values_can_be_learned_and_what_training_lacks_is_missing(self) -> None:
        train = frame_of(codes=[[0], [0], [1], [2], [-1]], sizes=(4,))
        other = frame_of(codes=[[0], [1], [2], [-1], [3], [-2]], sizes=(4,))
        np.testing.assert_array_equal(encode("native", train, other).X[:, 0], [0, 4, 4, 5, np.nan, np.nan])

    def test_missing_value_is_missing_where_training_has_none(self) -> None:
        train, other = frame_of(codes=[[0], [1]] * 2, sizes=(2,)), frame_of(codes=[[-1]], sizes=(2,))
        assert np.isnan(encode("native", train, other).X).all()

    def test_rarest_of_very_many_values_share_one_code(self) -> None:
        size = MAX_NATIVE_LEVELS + 500
        X = encode("native", frame_of(codes=np.arange(2 * size)[:, None] % size, sizes=(size,))).X[:size, 0]
        assert X[:MAX_NATIVE_LEVELS].tolist() == list(range(MAX_NATIVE_LEVELS))
        assert set(X[MAX_NATIVE_LEVELS:]) == {MAX_NATIVE_LEVELS}

    @pytest.mark.parametrize("start", [1.7e9, 2459000.5417, -2459000.5417, 1e15])
    def test_numbers_far_from_zero_stay_apart_in_single_precision(self, start: float) -> None:
        numbers = start + np.arange(1000.0) / 8
        later = frame_of([[start + 500.0], [np.nan], [np.inf]])
        X = encode("native", frame_of(numbers[:, None])).X
        assert (np.diff(X[:, 0]) > 0).all()
        new = encode("native", frame_of(numbers[:, None]), later).X[:, 0]
        assert X.max() < new[0] < new[2]
        assert np.isnan(new[1])

    def test_lightgbm_learns_from_a_missing_category(self) -> None:
        from lightgbm import LGBMClassifier

        rng = np.random.default_rng(0)
        known = rng.integers(0, 4, 1200) == 0
        codes = np.where(known, np.arange(1200) % 150, -1)[:, None]
        matrix = encode("native", frame_of(codes=codes, sizes=(150,)))
        model = LGBMClassifier(n_estimators=20, verbose=-1, n_jobs=1)
        model.fit(matrix.X, known, categorical_feature=list(matrix.categorical))
        assert roc_auc_score(known, model.booster_.predict(matrix.X)) > 0.99


class TestOrdinal:
    def test_missing_has_its_own_code_and_nothing_is_declared(self) -> None:
        matrix = encode("ordinal", frame_of([[np.nan], [1.0], [1.0]], [[0], [-1], [0]], (1,)))
        np.testing.assert_array_equal(matrix.X, np.float32([[np.nan, 0], [1, -1], [1, 0]]))
        assert matrix.categorical == ()

    def test_what_training_lacks_comes_behind_the_rare_values(self) -> None:
        train = frame_of(codes=[[0], [0], [1], [2], [-1]], sizes=(4,))
        other = frame_of(codes=[[0], [1], [2], [-1], [3], [-2]], sizes=(4,))
        assert encode("ordinal", train, other).X[:, 0].tolist() == [0, 4, 4, -1, 5, 5]


class TestDates:
    def test_parts_are_the_calendars(self) -> None:
        train = frame_of(days=days_of("2024-02-29", "1969-12-31", ""))
        expected = [[2024, 2, 29, 3, 19783], [1969, 12, 31, 2, 0], [np.nan] * 5]
        np.testing.assert_array_equal(encode("native", train).X, np.float32(expected))

    def test_hour_comes_only_where_the_time_of_day_varies(self) -> None:
        varying = frame_of(days=days_of("2024-01-01T13:00", "2024-01-02T09:30"))
        assert encode("native", varying).X[:, 5].tolist() == [13.0, 9.5]
        assert encode("native", frame_of(days=days_of("2024-01-01T13:00", "2024-01-02T13:00"))).X.shape[1] == 5


class TestText:
    REVIEWS = ("a very good film", "good fun, very good", "a bad film", "bad, BAD, boring") * 25

    @staticmethod
    def opinions(n_rows: int, seed: int) -> tuple[list[str], np.ndarray]:
        rng = np.random.default_rng(seed)
        y = rng.integers(0, 2, n_rows)
        opinion = np.where(y == 1, rng.choice(["good", "Great!"], n_rows), rng.choice(["bad", "BORING"], n_rows))
        filler = [" ".join(rng.choice(["film", "the", "plot", "is", "actor"], rng.integers(1, 4))) for _ in y]
        return [f"{before} {word}" for before, word in zip(filler, opinion, strict=True)], y

    def test_words_separate_what_they_tell_apart(self) -> None:
        (texts, y), (new_texts, new_y) = self.opinions(300, seed=0), self.opinions(100, seed=1)
        train = encode("one_hot", frame_of(texts=[texts]), y=y).X
        X = encode("one_hot", frame_of(texts=[texts]), frame_of(texts=[new_texts]), y).X
        assert LogisticRegression().fit(train, y).score(X, new_y) > 0.95

    def test_same_text_everywhere_is_one_direction(self) -> None:
        assert encode("native", frame_of(texts=[["all the same"] * 50])).X.shape[1] == 3

    def test_length_and_words_are_counted_and_missing_is_missing(self) -> None:
        X = encode("native", frame_of(texts=[["two words", None, ""]])).X
        np.testing.assert_array_equal(X[:, -2:], np.float32([[9, 2], [np.nan, np.nan], [0, 0]]))

    def test_unknown_words_say_nothing(self) -> None:
        X = encode("native", frame_of(texts=[self.REVIEWS]), frame_of(texts=[["xyzzy"]])).X
        np.testing.assert_array_equal(X[0, :-2], 0)

    def test_the_memory_for_words_does_not_grow_with_the_rows(self) -> None:
        parts = text.TextParts.fit((pa.array(self.REVIEWS, pa.large_string()),), 0)
        peaks, made = [], []
        for n_rows in (50_000, 150_000):
            texts = pa.array(self.REVIEWS * (n_rows // len(self.REVIEWS)), pa.large_string())
            tracemalloc.start()
            made.append(parts.transform((texts,), n_rows))
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
        assert peaks[1] < 2 * peaks[0]
        np.testing.assert_array_equal(made[1], np.tile(made[0], (3, 1)))

    @pytest.mark.parametrize("n_rows", [100, 1_000])
    def test_texts_of_long_tables_are_read_less_far(
        self, n_rows: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setattr(text, "MAX_CHARACTERS_OF_ALL", 400_000)
        begin = "and so on " * 50  # 500 characters
        texts = [begin + ("good" if i % 2 else "bad") for i in range(n_rows)]
        parts = text.TextParts.fit((pa.array(texts, pa.large_string()),), 0)
        text.save_text_parts(parts, FrameSchema(text=("t",)), tmp_path)
        last = pa.array([begin + "good", begin + "bad"], pa.large_string())
        good, bad = text.read_text_parts(tmp_path).transform((last,), 2)[:, :-2]
        assert np.allclose(good, bad) == (n_rows == 1_000)

    def test_an_encoder_that_does_not_say_how_far_it_read_is_read(self, tmp_path: Path) -> None:
        parts = text.TextParts.fit((pa.array(self.REVIEWS, pa.large_string()),), 0)
        arrays = {name: array for name, array in parts.arrays().items() if not name.endswith("characters")}
        write_arrays(tmp_path, "text", FrameSchema(text=("t",)), arrays)
        assert text.read_text_parts(tmp_path).columns[0].characters == 2_000


class TestOneHot:
    def test_each_frequent_value_has_a_column_and_the_rest_share_one(self) -> None:
        codes = np.array([0] * 5 + [1] * 4 + [2] * 3 + [3])[:, None]
        other = frame_of(codes=[[0], [2], [3], [4], [-2], [-1]], sizes=(5,))
        X = encode("one_hot", frame_of(codes=codes, sizes=(5,)), other).X
        rest = [0, 0, 0, 1]
        np.testing.assert_array_equal(X, [[1, 0, 0, 0], [0, 0, 1, 0], rest, rest, rest, [0, 0, 0, 0]])

    def test_two_values_are_one_column(self) -> None:
        assert encode("one_hot", frame_of(codes=[[0], [1]] * 4, sizes=(2,))).X.shape[1] == 1

    def test_missing_numbers_become_the_median_and_are_flagged(self) -> None:
        numbers = np.array([0.0, 1, 2, 3, 4, np.nan])[:, None]
        X = encode("one_hot", frame_of(numbers)).X
        assert X[5, 0] == X[2, 0] == 0
        assert X[:, 1].tolist() == [0, 0, 0, 0, 0, 1]

    def test_constant_numbers_are_left_out(self) -> None:
        numbers = np.column_stack([np.arange(9.0), np.full(9, 7.0), np.full(9, np.nan)])
        assert encode("one_hot", frame_of(numbers)).X.shape[1] == 1

    def test_scales_are_alike_and_outliers_tamed(self) -> None:
        rng = np.random.default_rng(0)
        numbers = np.column_stack([rng.normal(5, 1e6, 2000), rng.normal(size=2000), rng.lognormal(sigma=3, size=2000)])
        other = frame_of([[1e15, -1e15, 1e15]])
        X = encode("one_hot", frame_of(numbers)).X
        np.testing.assert_allclose(X.std(axis=0), 1, atol=0.2)
        assert np.abs(encode("one_hot", frame_of(numbers), other).X).max() <= 3

    def test_order_survives_scaling(self) -> None:
        numbers = np.sort(np.random.default_rng(0).lognormal(sigma=3, size=500))[:, None]
        assert (np.diff(encode("one_hot", frame_of(numbers)).X[:, 0]) >= 0).all()

    def test_width_is_bounded_and_what_matters_stays(self) -> None:
        rng = np.random.default_rng(0)
        numbers = rng.normal(size=(60, MAX_WIDTH + 1000))
        y = (numbers[:, 5500] > 0).astype(int)
        X = encode("one_hot", frame_of(numbers), y=y).X
        assert X.shape == (60, MAX_WIDTH)
        order = numbers[:, 5500].argsort().argsort()
        assert any((column.argsort().argsort() == order).all() for column in X.T)


class TestTarget:
    def test_statistics_are_smoothed_shares_and_frequencies(self) -> None:
        codes = np.array([0] * 30 + [1] * 20 + [2] * 10)
        y = np.where(codes == 0, 1, 0)
        other = frame_of(codes=[[0], [1], [3], [-1]], sizes=(4,))
        X = encode("target", frame_of(codes=codes[:, None], sizes=(4,)), other, y).X
        shares = [(30 + ALPHA / 2) / (30 + ALPHA), (0 + ALPHA / 2) / (20 + ALPHA), 0.5, 0.5]
        np.testing.assert_allclose(X, np.column_stack([shares, [0.5, 1 / 3, 0, 0]]), rtol=1e-6)

    def test_numbers_and_two_valued_columns_stay_as_they_are(self) -> None:
        X = encode("target", frame_of([[7.0], [np.nan]], [[1], [-1]], (2,))).X
        np.testing.assert_array_equal(X, np.float32([[7, 1], [np.nan, np.nan]]))

    def test_unknown_value_gets_the_overall_mean_and_not_what_missing_ones_had(self) -> None:
        codes = np.array([0] * 20 + [1] * 10 + [2] * 10 + [-1] * 20)
        y = np.where(codes == -1, 1, np.arange(60) % 3 == 0).astype(int)
        other = frame_of(codes=[[-1], [-2]], sizes=(3,))
        missing, unknown = encode("target", frame_of(codes=codes[:, None], sizes=(3,)), other, y).X
        np.testing.assert_allclose(missing, [(20 + ALPHA * y.mean()) / (20 + ALPHA), 1 / 3], rtol=1e-6)
        np.testing.assert_allclose(unknown, [y.mean(), 0], rtol=1e-6)

    @pytest.mark.parametrize(("n_classes", "n_columns"), [(1, 2), (2, 2), (5, 6), (30, 11)])
    def test_one_column_a_class_up_to_ten(self, n_classes: int, n_columns: int) -> None:
        y = np.arange(90) % n_classes if n_classes > 1 else np.arange(90.0)
        X = encode("target", frame_of(codes=np.arange(90)[:, None] % 9, sizes=(9,)), y=y, n_classes=n_classes).X
        assert X.shape[1] == n_columns

    def test_rows_of_a_group_say_nothing_of_each_other(self) -> None:
        """As for the rows of new groups, whose values no training row has."""
        codes = np.arange(600)[:, None] // 20
        y = np.random.default_rng(0).normal(size=30)[codes[:, 0]]
        frame = frame_of(codes=codes, sizes=(30,))
        alone, together = (
            encode("target", replace(frame, groups=groups), y=y, n_classes=1).X[:, 0] for groups in (None, codes[:, 0])
        )
        assert np.corrcoef(alone, y)[0, 1] > 0.9
        np.testing.assert_allclose(together, 0, atol=1e-6)

    def test_regression_is_free_of_the_targets_scale(self) -> None:
        codes, y = np.arange(90)[:, None] % 9, np.random.default_rng(0).normal(size=90)
        small, huge = (encode("target", frame_of(codes=codes, sizes=(9,)), y=y * s, n_classes=1).X for s in (1, 1e200))
        np.testing.assert_allclose(small, huge, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["target", "one_hot"])
class TestLeak:
    """A training row's features must not know its target."""

    def test_noise_gains_nothing(self, name: str) -> None:
        rng = np.random.default_rng(0)
        codes, y = rng.integers(0, 1500, (6000, 1)), rng.integers(0, 2, 6000)
        frame = frame_of(codes=codes, sizes=(1500,))
        encoder, matrix = ENCODINGS[name].fit(frame, y, TaskKind.BINARY, 2, 0)
        assert abs(best_auc(matrix.X, y) - 0.5) < 0.03
        # the statistics of all rows do know it: this is what the test would find
        assert best_auc(encoder.transform(frame).X, y) > 0.65

    def test_own_target_changes_no_mean_of_its_row(self, name: str) -> None:
        rng = np.random.default_rng(1)
        frame = frame_of(codes=rng.integers(0, 30, (400, 1)), sizes=(30,))
        y = rng.integers(0, 2, 400)
        flipped = y.copy()
        flipped[[0, 1]] = 1 - flipped[[0, 1]]
        y[0], y[1], flipped[0], flipped[1] = 0, 1, 1, 0  # the overall mean stays
        before, after = (encode("target", frame, y=targets).X for targets in (y, flipped))
        own_row_only = frame.codes[0, 0] != frame.codes[1, 0]
        assert own_row_only
        np.testing.assert_array_equal(before[:2], after[:2])

    def test_signal_is_found(self, name: str) -> None:
        rng = np.random.default_rng(2)
        codes = rng.integers(0, 40, 4000)
        y = (rng.random(4000) < np.linspace(0.05, 0.95, 40)[codes]).astype(int)
        assert best_auc(encode(name, frame_of(codes=codes[:, None], sizes=(40,)), y=y).X, y) > 0.75


def best_auc(X: np.ndarray, y: np.ndarray) -> float:
    scores = [roc_auc_score(y, column) for column in X.T if len(np.unique(column)) > 25]
    return max(scores, key=lambda score: abs(score - 0.5))


@pytest.mark.parametrize("name", ENCODINGS)
def test_only_training_rows_decide(name: str) -> None:
    """What a model sees of a row may not depend on other rows that are predicted with it."""
    rng = np.random.default_rng(0)
    train = frame_of(rng.normal(size=(50, 2)), rng.integers(0, 3, (50, 1)), (3,))
    odd = replace(train, numbers=np.full((50, 2), 1e9), codes=np.full((50, 1), 2, np.int32))
    encoder, _ = ENCODINGS[name].fit(train, np.arange(50) % 2, TaskKind.BINARY, 2, 0)
    first = encoder.transform(train).X
    encoder.transform(odd)
    np.testing.assert_array_equal(encoder.transform(train).X, first)


@pytest.mark.parametrize("name", ENCODINGS)
def test_value_nobody_knows_looks_like_one_that_a_fold_lacks(name: str) -> None:
    """Else a model would be judged in cross-validation on other features than it gets for a new file."""
    rng = np.random.default_rng(0)
    sizes = (2, 4, 40)
    codes = np.column_stack([rng.integers(-1, size - 1, 200) for size in sizes])
    y = (codes.min(axis=1) < 0).astype(int)
    in_fold, nowhere = (frame_of(codes=[row], sizes=sizes) for row in ([1, 3, 39], [-2, -2, -2]))
    encoder, _ = ENCODINGS[name].fit(frame_of(codes=codes, sizes=sizes), y, TaskKind.BINARY, 2, 0)
    np.testing.assert_array_equal(encoder.transform(in_fold).X, encoder.transform(nowhere).X)
    if name != "target":  # its two-valued columns leave both missing
        missing = encoder.transform(frame_of(codes=[[-1, -1, -1]], sizes=sizes)).X
        assert (missing != encoder.transform(nowhere).X).any()
