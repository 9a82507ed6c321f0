"""What a worker keeps: bounded, told apart by scope, and without a trace in the models."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from automl_cli.families import find_families
from automl_cli.families.family import FoldData, Hyperparameters, Limits, Shape
from automl_cli.features.matrix import Matrix
from automl_cli.kept import Kept, keep_nothing
from automl_cli.task import TaskKind

N_ROWS, N_VALID = 240, 80
OUTPUTS = {TaskKind.BINARY: 2, TaskKind.MULTICLASS: 3, TaskKind.REGRESSION: 1}


def made(value: str, n_bytes: int) -> Callable[[], tuple[str, int]]:
    return lambda: (value, n_bytes)


def never() -> tuple[str, int]:
    raise AssertionError("it was there")


def test_the_least_recently_used_goes_first() -> None:
    kept = Kept(most_bytes=100)
    kept.get("a", made("A", 40))
    kept.get("b", made("B", 40))
    assert kept.get("a", never) == "A"
    kept.get("c", made("C", 40))
    assert kept.get("a", never) == "A"
    assert kept.get("b", made("again", 1)) == "again"


def test_what_is_too_large_is_given_but_not_kept_and_drives_nothing_out() -> None:
    kept = Kept(most_bytes=100)
    kept.get("small", made("S", 90))
    assert kept.get("large", made("L", 101)) == "L"
    assert kept.get("large", made("anew", 101)) == "anew"
    assert kept.get("small", never) == "S"


def test_scopes_do_not_see_each_other() -> None:
    kept = Kept(most_bytes=100)
    one, other = kept.under("native", 0), kept.under("native", 1)
    assert one("key", made("first", 1)) == "first"
    assert other("key", made("second", 1)) == "second"
    assert kept.under("native", 0)("key", never) == "first"


def fold(kind: TaskKind, *, weighted: bool) -> FoldData:
    """Numbers with gaps and a category of which validation has a value that training lacks."""
    random = np.random.default_rng(1)
    n = N_ROWS + N_VALID
    X = random.normal(size=(n, 4)).astype(np.float32)
    X[::9, 1] = np.nan
    X[:, 3] = random.integers(0, 12, size=n)
    X[-1, 3] = 12
    score = X[:, 0] + np.sin(X[:, 3]) + 0.3 * random.normal(size=n)
    y = score if kind is TaskKind.REGRESSION else np.digitize(score, np.linspace(-1, 1, OUTPUTS[kind] + 1)[1:-1])
    weight = random.uniform(0.5, 2.0, size=n) if weighted else None

    def part(rows: slice) -> tuple[Matrix, Any, Any]:
        matrix = Matrix(np.ascontiguousarray(X[rows]), (3,), ("f0", "f1", "f2", "f3"))
        matrix.X.flags.writeable = False  # as they are mapped
        return matrix, y[rows], None if weight is None else weight[rows]

    (train, y_train, w), (valid, y_valid, w_valid) = part(slice(N_ROWS)), part(slice(N_ROWS, n))
    metric = "rmse" if kind is TaskKind.REGRESSION else "log_loss"
    return FoldData(kind, OUTPUTS[kind], train, y_train, w, valid, y_valid, w_valid, lambda *_: 0.0, metric)


def bytes_of(family: Any, data: FoldData, values: Hyperparameters, folder: Path) -> dict[str, bytes]:
    folder.mkdir()
    family.save(family.fit(data, values, Limits(threads=1, seed=5, rounds=12)), folder)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
@pytest.mark.parametrize("kind", list(TaskKind))
@pytest.mark.parametrize("name", ["lightgbm", "xgboost"])
def test_binned_data_that_was_kept_leaves_no_trace_in_a_model(
    name: str, kind: TaskKind, weighted: bool, tmp_path: Path
) -> None:
    # published configurations differ in all that a library could refuse to change once its data is binned
    family, data = find_families()[name], fold(kind, weighted=weighted)
    shape = Shape(kind, N_ROWS, 4, 1, OUTPUTS[kind])
    chosen = [{**values, "learning_rate": 0.3} for values in family.defaults(shape)[:4]]
    makings = 0

    def keep(key: Any, make: Callable[[], tuple[Any, int]]) -> Any:
        def counted() -> tuple[Any, int]:
            nonlocal makings
            makings += 1
            return make()

        return kept.get(key, counted)

    kept = Kept(most_bytes=10**6)
    for number, values in enumerate([*chosen, *reversed(chosen)]):
        fresh = bytes_of(family, replace(data, keep=keep_nothing), values, tmp_path / f"{number}a")
        again = bytes_of(family, replace(data, keep=keep), values, tmp_path / f"{number}b")
        assert again == fresh
    assert makings == 1


def test_other_targets_are_not_mistaken_for_those_that_were_kept(tmp_path: Path) -> None:
    family, data = find_families()["lightgbm"], fold(TaskKind.BINARY, weighted=False)
    kept = Kept(most_bytes=10**6)
    (values, *_) = family.defaults(Shape(TaskKind.BINARY, N_ROWS, 4, 1, 2))
    flipped = replace(data, y=1 - data.y, y_valid=1 - data.y_valid)
    bytes_of(family, replace(data, keep=kept.get), values, tmp_path / "first")
    expected = bytes_of(family, flipped, values, tmp_path / "fresh")
    assert bytes_of(family, replace(flipped, keep=kept.get), values, tmp_path / "kept") == expected
