"""Numbers between signs, units and marks of thousands are read as what they are, and as nothing else."""

import csv
import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from automl_cli.labels import read_truth
from automl_cli.table import Column, Kind, Schema, align, read_table, read_with_schema
from automl_cli.table.notation import Notation, notations, numbers_of
from automl_cli.task import TaskKind, make_task

Command = Callable[..., subprocess.CompletedProcess[str]]

MANY = [37, 962, 999, 700, 120, 1036, 12500, 845, *range(1100, 1900, 40)]


def grouped(value: float, mark: str = ",") -> str:
    return f"{value:,}".replace(",", mark)


def write(path: Path, cells: list[str], separator: str = ",", other: str = "a") -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, delimiter=separator).writerows([("x", "w"), *((cell, other) for cell in cells)])
    return path


READ = {
    "thousands": (",", [grouped(v) for v in MANY], MANY),
    "all above a thousand": (",", [grouped(v * 1000) for v in MANY], [v * 1000 for v in MANY]),
    "points between thousands, commas in the file": (";", [grouped(v, ".") for v in MANY], MANY),
    "apostrophes": (",", [grouped(v, "'") for v in MANY], MANY),
    "narrow blanks": (",", [grouped(v, "\u202f") for v in MANY], MANY),
    "dollars": (",", [f"${grouped(v)}" for v in MANY], MANY),
    "losses": (",", [f"-${grouped(v)}.50" for v in MANY], [-v - 0.5 for v in MANY]),
    "euros": (",", [grouped(v, ".") + ",50 €" for v in MANY], [v + 0.5 for v in MANY]),
    "lakh": (",", ["₹1,09,999", "₹999", "₹12,34,567"] * 9, [109999, 999, 1234567] * 9),
    "percent": (",", [f"{v}.5%" for v in range(30)], [v + 0.5 for v in range(30)]),
    "percent and a bare 0": (",", [*(f"{v}.5 %" for v in range(30)), "0"], [*(v + 0.5 for v in range(30)), 0]),
    "percent with a decimal comma": (";", [f"{v},5%" for v in range(30)], [v + 0.5 for v in range(30)]),
    "kilograms": (",", [f"{v}kg" for v in MANY], MANY),
    "speed": (",", [f"{v} km/h" for v in MANY], MANY),
    "degrees": (",", [f"{v - 800}°C" for v in MANY], [v - 800 for v in MANY]),
    "decimals below 1 beside a comma": (",", ["0,125", "0,250", "1,250"] * 9, [0.125, 0.25, 1.25] * 9),
    "a decimal comma": (",", ["1,5", "2,25", "1,036"] * 9, [1.5, 2.25, 1.036] * 9),
    "losses in parentheses": (
        ",",
        [f"{v:,}" if v % 3 else f"({v:,})" for v in MANY],
        [v if v % 3 else -v for v in MANY],
    ),
    "dollars in parentheses": (
        ",",
        [f"$ ({v}.50)" if v % 2 else f"$ {v}.50" for v in MANY],
        [(-v if v % 2 else v) + (-0.5 if v % 2 else 0.5) for v in MANY],
    ),
    "a minus behind": (
        ";",
        [grouped(v, ".") + (",25-" if v % 2 else ",25") for v in MANY],
        [-v - 0.25 if v % 2 else v + 0.25 for v in MANY],
    ),
    "a long minus": (
        ",",
        [f"\u2212{v}.5" if v % 2 else f"{v}.5" for v in MANY],
        [-v - 0.5 if v % 2 else v + 0.5 for v in MANY],
    ),
    "three decimals in a file of decimal commas": (";", [f"{v},125" for v in MANY], [v + 0.125 for v in MANY]),
}


@pytest.mark.parametrize("case", READ)
def test_numbers_are_read_as_what_they_are(tmp_path: Path, case: str) -> None:
    separator, cells, expected = READ[case]
    path = write(tmp_path / "d.csv", cells, separator, other="1,5" if separator == ";" else "a")
    table = read_table(path)
    column = table.schema.column("x")
    assert column.kind is Kind.NUMERIC
    np.testing.assert_allclose(table.numbers("x"), expected)
    schema = Schema.from_json(json.loads(json.dumps(table.schema.to_json())))
    assert schema == table.schema
    np.testing.assert_array_equal(read_with_schema(path, schema).numbers("x"), table.numbers("x"))


EUROPEAN = [f"{v:,}".replace(",", ".") for v in MANY]


def in_columns(path: Path, **columns: list[str]) -> Path:
    lines = [";".join(columns), *(";".join(cells) for cells in zip(*columns.values(), strict=True))]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "others",
    [
        {},
        {"year": [str(1990 + i) for i in range(len(MANY))]},
        {"price": [f"{v},5" for v in MANY], "again": EUROPEAN, "more": EUROPEAN},
    ],
)
def test_points_between_thousands_in_a_file_without_or_with_few_decimals(
    tmp_path: Path, others: dict[str, list[str]]
) -> None:
    path = in_columns(tmp_path / "d.csv", x=EUROPEAN, y=EUROPEAN, **others)
    table = read_table(path, target="y")
    assert table.numbers("x").tolist() == MANY
    assert table.numbers("y").tolist() == MANY
    assert make_task(table.texts("y"), target="y", notation=table.schema.column("y").notation)[0].y.tolist() == MANY
    assert read_with_schema(path, table.schema).numbers("x").tolist() == MANY
    few = in_columns(tmp_path / "few.csv", x=["950", "1.234"], **{name: cells[:2] for name, cells in others.items()})
    assert read_with_schema(few, table.schema, optional=["y"]).numbers("x").tolist() == [950, 1234]


@pytest.mark.parametrize(
    "cells",
    [
        ["1.234", "950", "2.5", "812", "777"] * 9,
        ["1.234", "950", "0.125", "812", "777"] * 9,
        ["1.234", "950", "1250", "812", "777"] * 9,
        ["1.234", "950", "2.5e-1", "812", "777"] * 9,
        ["1.234", "2.345", "95", "812", "3.456"] * 9,
    ],
)
def test_real_decimals_stay_what_they_are(tmp_path: Path, cells: list[str]) -> None:
    assert read_table(in_columns(tmp_path / "d.csv", x=cells, y=cells)).numbers("x").tolist() == [
        float(c) for c in cells
    ]


def test_decimals_beside_a_column_of_thousands_stay_decimals(tmp_path: Path) -> None:
    decimals = [f"{1 + i % 9}.{125 + i * i % 800}" for i in range(len(MANY))]
    table = read_table(in_columns(tmp_path / "d.csv", x=EUROPEAN, share=decimals))
    assert table.numbers("x").tolist() == MANY
    assert table.numbers("share").tolist() == [float(cell) for cell in decimals]


NAMES = {
    "codes after a letter": ["C85", "A101", "B20", "C7", "D33"] * 9,
    "kinds of drive": ["2WD", "4WD"] * 20,
    "millions beside others": ["1.2M", "950", "3M", "4.5M"] * 9,
    "units that differ": ["10kg", "300g", "12kg", "500g"] * 9,
    "ordinals": ["1st", "2nd", "3rd", "4th"] * 9,
    "numbers of telephones": [f"171 234 {i}" for i in range(501, 541)],
    "addresses of machines": [f"10.10.10.{i}" for i in range(100, 140)],
    "codes of one length": [f"{i}X" for i in range(10_023, 10_063)],
    "doubtful years": [f"{1900 + i}" if i % 3 else f"({1900 + i})" for i in range(60)],
    "years all doubtful": [f"({1900 + i})" for i in range(60)],
    "marks at school": ["1", "1-", "2", "3", "3-", "4"] * 9,
    "a sign in front as well": [f"({i}.5)" if i % 2 else f"-{i}.5" for i in range(60)],
    "bands": ["<30", ">30", "NO"] * 20,
    "lists": ["1,2", "1,2,3", "2,3", "1,3,4"] * 9,
}


@pytest.mark.parametrize("case", NAMES)
def test_what_only_looks_like_numbers_stays_a_name(tmp_path: Path, case: str) -> None:
    assert read_table(write(tmp_path / "d.csv", NAMES[case])).schema.column("x").kind is not Kind.NUMERIC


@pytest.mark.parametrize(
    ("cells", "says"),
    [
        ([f"${grouped(v)}" for v in MANY], "numbers in $ with , between thousands"),
        ([f"{v}%" for v in range(30)], "numbers in %"),
        ([f"{v}.5" if v % 3 else f"({v}.5)" for v in MANY], "numbers and negative ones in parentheses"),
        ([grouped(v, "\u202f") for v in MANY], "numbers with blanks between thousands"),
    ],
)
def test_the_reason_says_how_they_are_written(tmp_path: Path, cells: list[str], says: str) -> None:
    assert says in read_table(write(tmp_path / "d.csv", cells)).schema.column("x").reason


def test_limits_among_numbers_are_read_as_these_and_told(tmp_path: Path) -> None:
    cells = [f"{v / 100}" if v % 3 else f"{'<>'[v % 2]} {v / 100}" for v in range(5, 95)]
    path = write(tmp_path / "d.csv", cells)
    table = read_table(path)
    assert table.numbers("x").tolist() == [v / 100 for v in range(5, 95)]
    assert "30 cells with a limit in place of a number, such as '< 0.06'" in table.notices[0].message
    assert read_with_schema(path, table.schema).numbers("x").tolist() == table.numbers("x").tolist()


SCHEMA = Schema((Column("x", Kind.NUMERIC, "", grouping=",", prefix="$"),))
NEW = {
    "$1,250": 1250,
    "1250": 1250,
    "2,500.5": 2500.5,
    "-$3": -3,
    "$0.5": 0.5,
    "$1,5": np.nan,
    "€7": np.nan,
    "": np.nan,
}


@pytest.mark.parametrize("separator", [",", ";"])
@pytest.mark.parametrize("n_bytes", [20, 64, 1 << 20])
@pytest.mark.parametrize("quoted", [True, False])
def test_new_cells_are_read_as_the_training_did_in_blocks_of_any_size(
    tmp_path: Path, separator: str, n_bytes: int, quoted: bool
) -> None:
    cells = [cell for cell in NEW if separator != "," or quoted or "," not in cell] * 9
    path = tmp_path / "new.csv"
    quote = '"' if quoted else ""
    path.write_text(f"x{separator}w\n" + "".join(f"{quote}{c}{quote}{separator}{quote}a{quote}\n" for c in cells))
    blocks = list(align(path, SCHEMA).blocks(n_bytes))
    found = np.concatenate([block.table.numbers("x") for block in blocks])
    np.testing.assert_array_equal(found, [NEW[cell] for cell in cells])
    np.testing.assert_array_equal(read_with_schema(path, SCHEMA).numbers("x"), found)
    lost = sum(remark.n for block in blocks for remark in block.remarks)
    assert lost == sum(cell in ("$1,5", "€7") for cell in cells)


def test_thousands_alone_are_no_decimals_in_a_file_that_looks_like_it(tmp_path: Path) -> None:
    (tmp_path / "new.csv").write_text("x;w\n1,036;a\n2,500;b\n")
    assert read_with_schema(tmp_path / "new.csv", SCHEMA).numbers("x").tolist() == [1036, 2500]


def test_doubles_of_a_parquet_file_are_taken_as_they_are(tmp_path: Path) -> None:
    schema = Schema((Column("x", Kind.NUMERIC, "", decimal=",", grouping="."),))
    pa.parquet.write_table(pa.table({"x": [1.036, 1036.5, None]}), tmp_path / "new.parquet")
    found = read_with_schema(tmp_path / "new.parquet", schema).numbers("x")
    np.testing.assert_array_equal(found, [1.036, 1036.5, np.nan])


def test_a_chosen_kind_reads_what_it_can(tmp_path: Path) -> None:
    path = write(tmp_path / "d.csv", [*(f"${v}" for v in range(19)), *(f"see {letter}" for letter in "abcd")])
    assert read_table(path).schema.column("x").kind is not Kind.NUMERIC
    assert read_table(path, kinds={"x": Kind.NUMERIC}).numbers("x")[:9].tolist() == list(range(9))


@pytest.mark.parametrize(
    "bad",
    [
        {"grouping": "x"},
        {"grouping": "."},
        {"grouping": 3},
        {"prefix": ".*+"},
        {"prefix": "(a|a)*"},
        {"suffix": "k" * 100},
        {"suffix": "5"},
        {"suffix": None},
        {"negative": "("},
        {"decimal": ";"},
    ],
)
def test_a_model_file_may_not_say_just_anything(bad: dict) -> None:
    data = Column("x", Kind.NUMERIC, "").to_json()
    assert not {"grouping", "prefix", "suffix"} & set(data)
    assert Column.from_json(data) == Column("x", Kind.NUMERIC, "")
    with pytest.raises(ValueError):
        Column.from_json({**data, **bad})


affixes = st.sampled_from(
    [("", ""), ("$", ""), ("US$", ""), ("Rs.", ""), ("", "%"), ("", " €"), ("€ ", ""), ("", " km/h")]
)
written = st.sampled_from([(".", ","), (",", "."), (".", "'"), (",", " "), (".", "\u00a0"), (".", ""), (",", "")])


def spelled(value: float, marks: tuple[str, str], affix: tuple[str, str]) -> str:
    """A number of two decimals, such as -US$1,250.50."""
    decimal, grouping = marks
    digits = f"{abs(value):,.2f}".translate({ord(","): grouping, ord("."): decimal})
    return f"{'-' if value < 0 else ''}{affix[0]}{digits}{affix[1]}"


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(-(10**9), 10**9), min_size=4, max_size=30, unique=True), written, affixes)
def test_what_is_written_is_read_back(cents: list[int], marks: tuple[str, str], affix: tuple[str, str]) -> None:
    values = [cent / 100 for cent in cents]
    texts = pa.array([spelled(value, marks, affix) for value in values])
    expected = Notation(marks[0], marks[1], affix[0].strip(), affix[1].strip())
    assert numbers_of(texts, expected).to_pylist() == values
    found = next(way for way in notations(texts, marks[0]) if not numbers_of(texts, way).null_count)
    assert numbers_of(texts, found).to_pylist() == values


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30, unique=True), st.sampled_from([".", ","]))
def test_plain_decimals_keep_their_values(values: list[float], decimal: str) -> None:
    texts = pa.array([repr(value).replace(".", decimal) for value in values])
    found = next(way for way in notations(texts, decimal) if not numbers_of(texts, way).null_count)
    assert found == Notation(decimal)
    assert numbers_of(texts, found).to_pylist() == values


# --- targets -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("labels", "decimal"),
    [
        ([grouped(v) for v in MANY], "."),
        ([grouped(v) for v in MANY], ""),
        ([grouped(v, ".") for v in MANY], ","),
        ([f"${grouped(v)}" for v in MANY], "."),
        ([f"{v}%" for v in MANY], "."),
    ],
)
def test_targets_are_the_amounts_that_they_say(labels: list[str], decimal: str) -> None:
    notation = next(
        (way for way in notations(pa.array(labels), decimal) if not numbers_of(pa.array(labels), way).null_count), None
    )
    task, _ = make_task(labels, target="y", notation=notation)
    assert task.kind is TaskKind.REGRESSION
    assert task.y.tolist() == MANY
    y, kept = read_truth([*labels[:3], None, "1036"], "y", (), notation)
    assert y.tolist() == [*MANY[:3], 1036]
    assert kept.tolist() == [0, 1, 2, 4]


@pytest.mark.parametrize(
    ("cells", "loss"),
    [
        ([f"{v:,}" if v % 3 else f"({v:,})" for v in MANY], "(25)"),
        ([str(v) if v % 3 else f"\u2212{v}" for v in MANY], "\u221225"),
    ],
)
def test_targets_may_be_losses(tmp_path: Path, cells: list[str], loss: str) -> None:
    table = read_table(write(tmp_path / "d.csv", cells), target="x")
    notation = table.schema.column("x").notation
    task, _ = make_task(table.texts("x"), target="x", notation=notation)
    assert task.y.tolist() == [v if v % 3 else -v for v in MANY]
    assert read_truth([loss, "37"], "x", (), notation)[0].tolist() == [-25, 37]


def test_a_few_units_are_classes_until_they_are_said_to_be_amounts() -> None:
    labels = ["10mg", "5mg", "20mg"] * 10
    task, _ = make_task(labels, target="y")
    assert (task.kind, task.doubtful, task.classes) == (TaskKind.MULTICLASS, True, ("5mg", "10mg", "20mg"))
    assert make_task(labels, target="y", kind=TaskKind.REGRESSION)[0].y.tolist() == [10, 5, 20] * 10


def test_truth_of_models_before_notations_is_read_as_they_read_it() -> None:
    assert read_truth(["37", "1,036"], "y", (), Notation(","))[0].tolist() == [37, 1.036]
    assert read_truth(["37", "1.036"], "y", ())[0].tolist() == [37, 1.036]


def test_prices_and_rates_from_the_fit_to_the_scores(command: Command, tmp_path: Path) -> None:
    rows = [(f"{i}.5%", grouped(800 + 40 * i), f"${grouped(900 + 25 * i)}") for i in range(60)]
    with (tmp_path / "d.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("rate", "area", "price"), *rows])
    done = command(
        "fit", "d.csv", "-t", "price", "--trials", "1", "--folds", "2", "--include", "linear", "-q", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    scores = json.loads(command("evaluate", "d.automl", "d.csv", "--metric", "mae", "--json", cwd=tmp_path).stdout)
    assert scores["n_rows"] == 60
    assert scores["scores"]["mae"] < 100  # the prices go from 900 to 2,375
    (tmp_path / "new.csv").write_text("rate,area\n30.5,2000\n")
    (tmp_path / "same.csv").write_text('rate,area\n30.5%,"2,000"\n')
    said = [command("predict", "d.automl", name, cwd=tmp_path).stdout for name in ("new.csv", "same.csv")]
    assert said[0] == said[1]
    assert 1500 < float(said[0].split()[1].split(",")[-1]) < 1800
