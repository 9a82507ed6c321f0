import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from automl_cli.errors import BadArtifact
from automl_cli.features.frame import Frame, FrameSchema, frame_from_table, frame_schema, open_frame


def frame_of(n_rows: int = 6) -> Frame:
    return Frame(
        FrameSchema(("a", "b"), ("c",), (3,), ("d",), ("t",)),
        numbers=np.asfortranarray(np.arange(2.0 * n_rows).reshape(n_rows, 2)),
        codes=(np.arange(n_rows, dtype=np.int32) % 4 - 1)[:, None],
        days=np.where(np.arange(n_rows) == 1, np.nan, np.arange(n_rows) + 0.25)[:, None],
        texts=(pa.array(["red wine" if i else None for i in range(n_rows)], pa.large_string()),),
    )


def assert_same(one: Frame, other: Frame) -> None:
    assert one.schema == other.schema
    np.testing.assert_array_equal(one.numbers, other.numbers)
    np.testing.assert_array_equal(one.codes, other.codes)
    np.testing.assert_array_equal(one.days, other.days)
    assert [text.to_pylist() for text in one.texts] == [text.to_pylist() for text in other.texts]


def test_saved_frame_opens_mapped_and_the_same(tmp_path: Path) -> None:
    frame = frame_of()
    frame.save(tmp_path)
    opened = open_frame(tmp_path)
    assert_same(frame, opened)
    assert isinstance(opened.numbers.base, np.memmap)
    assert not opened.numbers.flags.writeable


@pytest.mark.parametrize("n_rows", [0, 3])
def test_frame_without_columns_keeps_its_rows(tmp_path: Path, n_rows: int) -> None:
    empty = np.empty((n_rows, 0))
    frame = Frame(FrameSchema(), empty, empty.astype(np.int32), empty)
    frame.save(tmp_path)
    assert open_frame(tmp_path).n_rows == n_rows


@given(rows=st.lists(st.integers(0, 5)))
def test_take_picks_rows_in_the_given_order(rows: list[int]) -> None:
    frame = frame_of()
    taken = frame.take(np.array(rows, dtype=np.int64))
    assert taken.n_rows == len(rows)
    np.testing.assert_array_equal(taken.numbers, frame.numbers[rows])
    np.testing.assert_array_equal(taken.codes, frame.codes[rows])
    assert taken.texts[0].to_pylist() == [frame.texts[0].to_pylist()[i] for i in rows]


def test_take_from_a_mapped_frame_does_not_touch_the_file(tmp_path: Path) -> None:
    frame_of().save(tmp_path)
    taken = open_frame(tmp_path).take(np.array([0, 1]))
    taken.numbers[:] = 99.0
    assert_same(open_frame(tmp_path), frame_of())


@pytest.mark.parametrize("damage", ["frame.json", "numbers.npy", "texts.arrow"])
@pytest.mark.parametrize("left", [None, 0, 0.5])
def test_damaged_frame_is_refused(tmp_path: Path, damage: str, left: float | None) -> None:
    frame_of().save(tmp_path)
    path = tmp_path / damage
    if left is None:
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[: int(left * path.stat().st_size)])
    with pytest.raises(BadArtifact, match="incomplete or damaged"):
        open_frame(tmp_path)


def test_arrays_that_do_not_fit_are_a_mistake() -> None:
    with pytest.raises(ValueError, match="do not fit"):
        Frame(FrameSchema(("a",)), np.zeros((3, 2)), np.zeros((3, 0), np.int32), np.zeros((3, 0)))


def test_schema_survives_json() -> None:
    schema = frame_of().schema
    assert FrameSchema.from_json(json.loads(json.dumps(schema.to_json()))) == schema


@pytest.mark.parametrize("key", ["numeric", "n_categories"])
@pytest.mark.parametrize("value", [None, "abc", [None], [1.5], [-1], [True]])
def test_malformed_schema_is_refused(key: str, value: object) -> None:
    with pytest.raises(BadArtifact):
        FrameSchema.from_json({**frame_of().schema.to_json(), key: value})


def test_columns_go_where_their_kind_says_and_excluded_ones_nowhere(tmp_path: Path) -> None:
    from automl_cli.table import Kind, read_table

    path = tmp_path / "t.csv"
    path.write_text(
        "n,c,d,t,i,k,y\n" + "".join(f"{i}.5,{'ab'[i % 2]},2024-01-{i + 1:02},w{i} x,{i},7,1\n" for i in range(9))
    )
    kinds = {
        "n": Kind.NUMERIC,
        "c": Kind.CATEGORY,
        "d": Kind.DATETIME,
        "t": Kind.TEXT,
        "i": Kind.ID,
        "k": Kind.CONSTANT,
    }
    table = read_table(path, target="y", kinds=kinds)
    schema = frame_schema(table.schema, exclude=["y"])
    assert schema == FrameSchema(("n",), ("c",), (2,), ("d",), ("t",))
    frame = frame_from_table(table, schema)
    assert frame.numbers[:, 0].tolist() == [i + 0.5 for i in range(9)]
    assert frame.codes[:, 0].tolist() == [i % 2 for i in range(9)]
    assert frame.days[1, 0] - frame.days[0, 0] == 1
    assert frame.texts[0].to_pylist()[3] == "w3 x"
