"""What is written as CSV is read back as it was."""

import csv
import io
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from automl_cli.table import write_csv

# Surrogates are no text; NUL ends a cell for many readers and is refused when a table is read.
CELLS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)


def written(columns: dict[str, Any], **options: bool) -> str:
    file = io.BytesIO()
    write_csv(columns, file, **options)
    return file.getvalue().decode()


def read(text: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text, newline="")))


@given(st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=8), CELLS, CELLS)
def test_any_text_is_read_back(rows: list[tuple[str, str]], first: str, second: str) -> None:
    names = [first, second + "2" if first == second else second]
    columns = {name: [row[k] for row in rows] for k, name in enumerate(names)}
    assert read(written(columns)) == [names, *map(list, rows)]


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=8))
def test_numbers_keep_every_digit(values: list[float]) -> None:
    assert [float(row[0]) for row in read(written({"x": np.array(values)}))[1:]] == values


def test_nothing_is_quoted_without_need() -> None:
    assert written({"label": ["no", "yes"], "p": np.array([0.25, 1.0])}) == "label,p\nno,0.25\nyes,1\n"


def test_a_missing_cell_differs_from_an_empty_text() -> None:
    assert written({"a": pa.array(["x", None, ""]), "b": pa.array([1, 2, 3])}) == 'a,b\nx,1\n,2\n"",3\n'


@pytest.mark.parametrize("cells", [["a,b", "c"], ['say "hi"', "c"], ["two\nlines", "c"]])
def test_dictionaries_are_quoted_like_text(cells: list[str]) -> None:
    array = pa.array([cells[0], cells[1], cells[0]]).dictionary_encode()
    assert read(written({"x": array})) == [["x"], [cells[0]], [cells[1]], [cells[0]]]


def test_more_rows_than_one_batch_keep_their_order() -> None:
    n = 70_000
    rows = read(written({"i": np.arange(n)}))
    assert [int(row[0]) for row in rows[1:]] == list(range(n))


def test_without_a_header_only_rows() -> None:
    assert written({"x": ["a"]}, header=False) == "a\n"


def test_no_rows_leave_the_header() -> None:
    assert written({"x": pa.array([], pa.string()), "y": np.array([])}) == "x,y\n"
