import pickle

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from automl_cli.errors import BadData, UsageError
from automl_cli.labels import known_labels, read_truth
from automl_cli.table.notation import Notation
from automl_cli.task import MISSING_LABELS, TaskKind, make_task


def _task(labels, **options):
    return make_task(labels, target="y", **options)[0]


def _times(n, *labels):
    return list(labels) * n


@pytest.mark.parametrize(
    ("labels", "kind", "doubtful"),
    [
        (_times(5, "yes", "no"), "binary", False),
        (_times(5, "0", "1"), "binary", False),
        (_times(5, "3.5", "7"), "binary", False),
        (_times(5, "a", "b", "1"), "multiclass", False),
        (_times(10, "0", "1", "2"), "multiclass", True),
        (_times(10, *map(str, range(1, 21))), "multiclass", True),
        (_times(10, "1.0", "2.0", "3.0"), "multiclass", True),
        (_times(9, "0", "1", "2"), "regression", True),  # fewer than ten rows each
        (_times(10, "2", "3", "4"), "regression", True),  # do not start at 0 or 1
        (_times(10, "0", "1", "3"), "regression", True),  # a gap
        (_times(10, *map(str, range(21))), "regression", False),  # more than 20
        (_times(10, "0.5", "1.5", "2.5"), "regression", False),
        (_times(10, "-1", "0", "1"), "regression", True),
        (_times(4, "1,5", "2,5", "3"), "regression", False),  # decimal comma
        (_times(4, "1e3", "+2", "-.5"), "regression", False),
        (["37", "962", "120", "745", "1,036"], "regression", True),  # thousands
        (["$37", "$962", "$1,036"], "regression", True),
    ],
)
def test_the_kind_is_inferred(labels, kind, doubtful):
    task = _task(labels)
    assert (task.kind, task.doubtful) == (kind, doubtful)
    assert ("--task" in task.reason) == doubtful
    assert "\n" not in task.reason


def test_labels_keep_their_text():
    task = _task(["TRUE", "FALSE", "TRUE"])
    assert task.classes == ("FALSE", "TRUE")
    assert task.y.tolist() == [1, 0, 1]
    assert task.y.dtype == np.int64
    assert _task(["1", "1.0", "1", "1.0"]).classes == ("1", "1.0")


def test_classes_that_are_numbers_are_in_numeric_order():
    labels = _times(3, "10", "9", "2")
    assert _task(labels, kind=TaskKind.MULTICLASS).classes == ("2", "9", "10")
    assert _task([*labels, "b"], kind=TaskKind.MULTICLASS).classes == ("10", "2", "9", "b")


def test_positive_is_the_last_or_the_one_named():
    labels = ["good", "bad", "good"]
    assert _task(labels).classes == ("bad", "good")
    task = _task(labels, positive="bad")
    assert task.classes == ("good", "bad")
    assert task.y.tolist() == [0, 1, 0]


def test_an_unknown_positive_is_refused_with_the_labels():
    with pytest.raises(UsageError, match=r"'maybe'.*'no' and 'yes'"):
        _task(["yes", "no"], positive="maybe")
    with pytest.raises(UsageError):
        _task(_times(3, "a", "b", "c"), positive="a")
    with pytest.raises(UsageError):
        _task(["1.5", "2.5", "3"], positive="3")


@pytest.mark.parametrize("marker", [None, *MISSING_LABELS, "  ", " NA "])
def test_rows_without_a_target_are_left_out(marker):
    task, kept = make_task(["a", marker, "b", "a"], target="y")
    assert kept.tolist() == [0, 2, 3]
    assert kept.dtype == np.int64
    assert task.y.tolist() == [0, 1, 0]


def test_plus_and_minus_are_two_labels():
    assert _task(["+", "-", "-"]).classes == ("+", "-")
    assert _task(["+", "-", "0", "0"]).classes == ("+", "-", "0")
    assert _task(["None", "fraud", "None"]).classes == ("None", "fraud")
    assert _task(["low", "high", "None", "-"]).classes == ("high", "low")


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        (["None"] * 20 + _times(8, "Insomnia", "Apnea"), ("Apnea", "Insomnia", "None")),
        (
            ["None"] * 20 + _times(8, "Insomnia", "Apnea") + [""],
            ("Apnea", "Insomnia"),
        ),  # not known is written otherwise
        (["None"] * 6 + _times(8, "Insomnia", "Apnea"), ("Apnea", "Insomnia")),  # rarer than all others
        (["None"] * 20 + _times(8, "yes", "no"), ("no", "yes")),
        (["None"] * 20 + _times(8, "1", "2"), ("1", "2")),
        (["NA"] * 20 + _times(8, "Insomnia", "Apnea"), ("Apnea", "Insomnia")),
    ],
)
def test_none_is_a_label_among_words(labels, classes):
    task = _task(labels)
    assert task.classes == classes
    assert ("one of which is None" in task.reason) == ("None" in classes)


def test_side_columns_follow_the_kept_rows():
    task, _ = make_task(
        ["1.5", None, "2.5", "9"],
        target="y",
        weight=np.array([1.0, np.nan, 0.0, 3.0]),
        groups=["b", "c", None, "b"],
        order=np.array([3.0, 2.0, np.nan, 1.0]),
    )
    assert task.weight.tolist() == pytest.approx([0.75, 0.0, 2.25])  # 1 on average
    assert task.groups[0] == task.groups[2] != task.groups[1]
    assert np.array_equal(task.order, [3.0, np.nan, 1.0], equal_nan=True)


def test_rows_without_a_group_are_each_their_own():
    task = _task(["a", "b", "a", "b"], groups=np.array([-1, 7, -1, 7]))
    assert len(np.unique(task.groups)) == 3
    assert task.groups[1] == task.groups[3]


@pytest.mark.parametrize(
    "make",
    [list, lambda x: np.array(x, dtype=object), pa.array, lambda x: pa.chunked_array([x[:1], x[1:]], pa.string())],
)
def test_cells_may_come_in_any_container(make):
    task, kept = make_task(make(["a", None, "b"]), target="y")
    assert task.classes == ("a", "b")
    assert kept.tolist() == [0, 2]


def test_infinite_targets_are_left_out_of_a_regression():
    task, kept = make_task(["1.5", "inf", "2.5", "-inf", "4"], target="y")
    assert task.y.tolist() == [1.5, 2.5, 4.0]
    assert kept.tolist() == [0, 2, 4]


def test_a_class_with_a_single_row_survives():
    task = _task([*_times(50, "a", "b"), "rare"])
    assert task.classes == ("a", "b", "rare")
    assert (task.y == 2).sum() == 1


TEXT = [f"I wrote sentence {i}" for i in range(50)]


@pytest.mark.parametrize(
    ("labels", "options", "part"),
    [
        ([], {}, "0 of 0 rows"),
        (["a"], {}, "1 of 1 rows"),
        (["", None, "a"], {}, "1 of 3 rows"),
        (["a", "a"], {}, "'a' in all 2 rows"),
        (["1.0", "1.00", "1.0"], {"kind": TaskKind.REGRESSION}, "fewer than two distinct"),
        (TEXT, {}, "different text in almost every row"),
        (_times(4, *(str(i) for i in range(1001))), {"kind": TaskKind.MULTICLASS}, "1,001 distinct labels"),
        (["1", "2", "x"], {"kind": TaskKind.REGRESSION}, "'x'"),
        (_times(4, "a", "b", "c"), {"kind": TaskKind.BINARY}, "3 distinct values"),
        (["-1.5", "2", "3.5"], {"metric": "rmsle"}, "-1.5"),
        (["a", "b"], {"weight": np.array([1.0, -1.0])}, "data row 2"),
        (["a", "b"], {"weight": np.array([np.inf, 1.0])}, "data row 1"),
        (["a", "b"], {"weight": np.array([0.0, 0.0])}, "all weights are 0"),
        (["a", "b"], {"order": np.array([np.nan, np.nan])}, "empty"),
    ],
)
def test_a_target_that_cannot_be_learned_is_refused(labels, options, part):
    with pytest.raises(BadData) as caught:
        _task(labels, **options)
    assert part in caught.value.problem
    assert caught.value.hint
    assert "\n" not in str(caught.value)


def test_numbers_with_a_few_stray_texts_are_told_apart_from_free_text():
    with pytest.raises(BadData, match="'error' is not"):
        _task([*(f"{i}.5" for i in range(100)), "error"])


def test_a_metric_that_does_not_fit_is_a_usage_error():
    with pytest.raises(UsageError, match="roc_auc"):
        _task(["a", "b"], metric="rmse")


def test_two_values_are_binary_even_where_multiclass_is_asked():
    task = _task(["a", "b"], kind=TaskKind.MULTICLASS)
    assert task.kind == "binary"
    assert "two values" in task.reason


def test_two_numbers_can_be_a_regression():
    task = _task(["1", "5,5", "1"], kind=TaskKind.REGRESSION)
    assert task.y.tolist() == [1.0, 5.5, 1.0]
    assert task.classes == ()
    assert task.n_outputs == 1


def test_a_label_that_the_model_does_not_know_is_named_with_its_row():
    with pytest.raises(BadData) as caught:
        read_truth(["yes", None, "no", "maybe", "no", "perhaps"], "churned", ("no", "yes"))
    assert "not trained on in 2 of 5 rows, the first 'maybe' in data row 4" in caught.value.problem


@pytest.mark.parametrize(
    ("classes", "cells"),
    [
        (("0", "1"), ["1.0", None, "0.0", "1.0"]),
        (("0.0", "1.0"), ["1", "", "0", "1"]),
        (("07", "10"), ["10.0", "?", "7", "10.0"]),
    ],
)
def test_classes_that_are_numbers_are_known_in_another_spelling(classes, cells):
    """A file with a missing cell says 1.0 where another says 1."""
    labels, strange = known_labels(cells, classes)
    assert strange == {}
    for texts in (cells, labels):
        y, kept = read_truth(texts, "y", classes)
        assert (y.tolist(), kept.tolist()) == ([1, 0, 1], [0, 2, 3])


@pytest.mark.parametrize(
    ("classes", "cells", "foreign"),
    [
        (("1", "2"), ["1", "1.0", "2"], "1.0"),
        (("1", "1.0", "2"), ["2.0", "2.0"], "2.0"),
        (("1", "2"), ["3.0", "1.0"], "3.0"),
        (("1", "b"), ["1.0"], "1.0"),
    ],
)
def test_another_spelling_may_be_another_class(classes, cells, foreign):
    assert set(known_labels(cells, classes)[1]) == {foreign}
    with pytest.raises(BadData, match=f"not trained on in . of . rows, the first {foreign!r}"):
        read_truth(cells, "y", classes)


@pytest.mark.parametrize("notation", [Notation(), Notation(",", ".", suffix="kg")])
def test_a_label_that_is_no_number_is_told_and_the_others_are_read(notation):
    cells = (
        ["1.250,5 kg", "n.a.", None, "-", "3 kg", "n.a."]
        if notation.suffix
        else ["1250.5", "n.a.", "", "-", "3", "n.a."]
    )
    labels, strange = known_labels(cells, (), notation)
    assert strange == {"n.a.": 2}
    y, kept = read_truth(labels, "y", (), notation)
    assert (y.tolist(), kept.tolist()) == ([1250.5, 3.0], [0, 4])


def test_a_task_travels_to_a_worker():
    task = pickle.loads(pickle.dumps(_task(["a", "b", "a"])))
    assert task.metric.name == "roc_auc"
    assert task.y.tolist() == [0, 1, 0]


@settings(deadline=None, max_examples=50)
@given(st.lists(st.sampled_from(["x", "y", "é", " z", "007", "7", "?", None]), min_size=2, max_size=60))
def test_every_label_comes_back_from_its_code(labels):
    try:
        task, kept = make_task(labels, target="y")
    except BadData:
        assert len({label for label in labels if label not in (None, "?")}) != 2
        return
    if task.kind is not TaskKind.REGRESSION:
        assert [task.classes[code] for code in task.y] == [labels[row] for row in kept]
    assert [labels[row] in (None, "?") for row in range(len(labels)) if row not in kept] == [True] * (
        len(labels) - len(kept)
    )


@settings(deadline=None, max_examples=50)
@given(st.lists(st.floats(-1e12, 1e12), min_size=2, max_size=40, unique=True), st.booleans())
def test_numbers_come_back_exactly(values, comma):
    labels = [repr(value).replace(".", ",") if comma else repr(value) for value in values]
    task = _task(labels, kind=TaskKind.REGRESSION)
    assert task.y.tolist() == values
