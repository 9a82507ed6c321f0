"""A table that is read piece by piece is the one that is read as a whole, whatever its cells are."""

import csv
import gzip
import hashlib
import io
import random
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from automl_cli.errors import BadData
from automl_cli.table import Column, Kind, Schema, align, csv_writer, gather, read_table, read_with_schema, write_csv
from automl_cli.table.schema import added_up
from automl_cli.table.source import open_content

Command = Callable[..., subprocess.CompletedProcess[str]]

SCHEMA = Schema(
    (
        Column("n", Kind.NUMERIC, ""),
        Column("c", Kind.CATEGORY, "", categories=("red", "-", "tan", 'an "odd" one')),
        Column("d", Kind.DATETIME, ""),
        Column("t", Kind.TEXT, ""),
    )
)
numbers = st.one_of(st.integers(-(10**6), 10**6), st.floats(-1e9, 1e9)).map(str)
odd_number = st.sampled_from(["", "NA", "?", "oops", "inf", " 7", "1e5", "+3"])
number = st.one_of(numbers, numbers, numbers, odd_number)
category = st.sampled_from(["red", "-", "tan", 'an "odd" one', "pink", "", "NA", "?"])
times = ["2024-05-02 10:00:00", "2024-05-02T10:00:00-05:00", "2024-05-02T10:00:00Z"]
date = st.sampled_from(["2024-05-01", "2024-05-02", "", "soon", *times])
text = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]) | st.sampled_from('\n,"'), max_size=12)
word = st.text(st.sampled_from("abc -é"), max_size=12)


def pieces(path: Path, n_bytes: int) -> tuple[list[np.ndarray], list[str]]:
    aligned = align(path, SCHEMA, verbatim=["t"])
    blocks = list(aligned.blocks(n_bytes))
    columns = [
        np.concatenate([b.table.numbers("n") for b in blocks]),
        np.concatenate([b.table.codes("c") for b in blocks]),
        np.concatenate([b.table.days("d") for b in blocks]),
        np.array([t or "" for b in blocks for t in b.table.texts("t")], dtype=object),
        np.array([t or "" for b in blocks for t in b.carried["t"].to_pylist()], dtype=object),
    ]
    remarks = added_up([remark for block in blocks for remark in block.remarks])
    return columns, [notice.message for notice in gather(remarks)]


def check(path: Path, n_bytes: int) -> None:
    whole, said = pieces(path, 1 << 30)
    cut, said_too = pieces(path, n_bytes)
    for one, other in zip(whole, cut, strict=True):
        np.testing.assert_array_equal(one, other)
    assert sorted(said) == sorted(said_too)
    table = read_with_schema(path, SCHEMA)
    np.testing.assert_array_equal(table.numbers("n"), cut[0])
    np.testing.assert_array_equal(table.codes("c"), cut[1])


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(number, category, date, text), min_size=1, max_size=40),
    st.integers(8, 300),
    st.sampled_from(["\n", "\r\n"]),
)
def test_quoted_cells(tmp_path_factory: pytest.TempPathFactory, rows: list[tuple], n_bytes: int, end: str) -> None:
    path = tmp_path_factory.mktemp("quoted") / "data.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, quoting=csv.QUOTE_MINIMAL, lineterminator=end).writerows([("n", "c", "d", "t"), *rows])
    check(path, n_bytes)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(number, st.sampled_from(["red", "-", "tan", "pink", "", "NA"]), date, word), min_size=1),
    st.integers(8, 300),
    st.sampled_from(["\n", "\r\n", "\r"]),
    st.booleans(),
)
def test_cells_without_quotes(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple], n_bytes: int, end: str, blank_lines: bool
) -> None:
    path = tmp_path_factory.mktemp("plain") / "data.csv"
    lines = ["n,c,d,t", *(",".join(row) for row in rows)]
    path.write_bytes(((end + end) if blank_lines else end).join(lines).encode() + end.encode())
    check(path, n_bytes)


SINGLE = Schema((Column("n", Kind.NUMERIC, ""),))


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.sampled_from(["1.5", "22", "", "", " ", "oops", '"7"', '""']), min_size=1, max_size=40),
    st.integers(2, 60),
    st.sampled_from(["\n", "\r\n", "\r"]),
    st.booleans(),
)
def test_blank_lines_of_a_single_column(
    tmp_path_factory: pytest.TempPathFactory, cells: list[str], n_bytes: int, end: str, ended: bool
) -> None:
    """They are rows, except at the end of the file."""
    path = tmp_path_factory.mktemp("single") / "data.csv"
    path.write_bytes((end.join(["n", "3", *cells]) + end * ended).encode())
    whole = read_with_schema(path, SINGLE).numbers("n")
    blocks = list(align(path, SINGLE).blocks(n_bytes))
    np.testing.assert_array_equal(np.concatenate([b.table.numbers("n") for b in blocks]), whole)


def test_a_single_column_is_read_in_pieces(tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    path.write_text("n\n" + "1.5\n" * 100)
    assert len(list(align(path, SINGLE).blocks(40))) == 10


def test_inch_signs_and_quoted_line_ends_in_one_file(tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    row = '1,red,2024-05-01,5" pipe\n2,tan,2024-05-01,"two\nlines"\n'
    path.write_text("n,c,d,t\n" + row * 50)
    check(path, 64)
    assert len(pieces(path, 64)[0][0]) == 100


ODD_NUMBERS = {
    "oops": (np.nan, "cannot be read as a number"),
    "NAN": (np.nan, "cannot be read as a number"),
    "inf": (np.nan, "infinite number"),
    "NA": (np.nan, ""),
    "": (np.nan, ""),
    "+3": (3.0, ""),
    " 7 ": (7.0, ""),
    "1e5": (1e5, ""),
}


@pytest.mark.parametrize("at", [1, 199])
@pytest.mark.parametrize("cell", ODD_NUMBERS)
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_numbers_beside_quotes_are_read_as_texts_were(
    tmp_path: Path, at: int, cell: str, pack: Callable[[bytes], bytes]
) -> None:
    lines = ['"n","c","d","t"', *(f'{i}.5,"red",2024-05-01,"a"' for i in range(200))]
    lines[at + 1] = f'{cell},"red",2024-05-01,"a"'
    path = tmp_path / "data.csv"
    path.write_bytes(pack("\n".join(lines).encode()))
    (found, *_), said = pieces(path, 300)
    expected = np.arange(200) + 0.5
    expected[at], topic = ODD_NUMBERS[cell]
    np.testing.assert_array_equal(found, expected)
    assert len(said) == bool(topic)
    assert all(topic in message for message in said)


def test_the_decimal_mark_counts_beside_quotes(tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    path.write_text("n;c;d;t\n" + "".join(f'{i},5;"red";2024-05-01;"a"\n' for i in range(200)))
    (found, *_), said = pieces(path, 300)
    np.testing.assert_array_equal(found, np.arange(200) + 0.5)
    assert not said


@pytest.mark.parametrize("quote", ["", '"'])
def test_times_of_day_are_read_with_and_without_seconds(tmp_path: Path, quote: str) -> None:
    path = tmp_path / "data.csv"
    times = [f"{i % 24:02d}:{i % 60:02d}" for i in range(200)]
    cells = [*times, *(f"{time}:30" for time in times)]
    path.write_text("at,word\n" + "".join(f"{cell},{quote}a{quote}\n" for cell in cells))
    schema = Schema((Column("at", Kind.DATETIME, "", datetime_format="%H:%M:%S"),))
    blocks = list(align(path, schema).blocks(300))
    minutes = np.array([60 * (i % 24) + i % 60 for i in range(200)])
    expected = np.concatenate([minutes, minutes + 0.5]) / 1440
    np.testing.assert_allclose(np.concatenate([b.table.days("at") for b in blocks]), expected)
    assert not [remark for b in blocks for remark in b.remarks]


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_predicting_hashes_nothing(
    tmp_path: Path, pack: Callable[[bytes], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    content = b"n,c,d,t\n" + b'1,red,2024-05-01,"a"\n' * 200
    path = tmp_path / "data.csv"
    path.write_bytes(pack(content))
    for table in (read_with_schema(path, SCHEMA), read_table(path)):
        assert table.fingerprint == hashlib.sha256(content).hexdigest()

    def refuse(*_: object) -> None:
        raise AssertionError("hashed")

    monkeypatch.setattr(hashlib, "file_digest", refuse)
    assert len(pieces(path, 300)[0][0]) == 200
    with pytest.raises(AssertionError, match="hashed"):
        read_with_schema(path, SCHEMA)


def test_a_packed_table_can_be_read_by_many_at_once(tmp_path: Path) -> None:
    path = tmp_path / "data.csv.gz"
    lines = "n,c\n" + "".join(f"{i},red\n" for i in range(1000))
    path.write_bytes(gzip.compress(lines.encode()))
    content = open_content(path)
    with content.open() as one, content.open(4) as other:
        assert one.read(10) == lines[:10].encode()
        assert other.read(10) == lines[4:14].encode()
        assert one.read() == lines[10:].encode()
        assert other.read(10) == lines[14:24].encode()


def test_parquet(tmp_path: Path) -> None:
    columns = {"n": [1.5, None, 3.0], "c": ["red", "NA", None], "d": ["2024-05-01", None, "x"], "t": ["a", "", None]}
    path = tmp_path / "data.parquet"
    pa.parquet.write_table(pa.table(columns), path)
    check(path, 1)


@pytest.mark.parametrize(
    "columns",
    [
        {f"c{i}": np.arange(1_000.0) % 7 for i in range(50)},  # small in the file, large in memory
        {"c0": [f"{i} " * 100 for i in range(1_000)]},
    ],
    ids=["wide", "long texts"],
)
def test_parquet_is_read_so_many_bytes_at_a_time(tmp_path: Path, columns: dict) -> None:
    path = tmp_path / "data.parquet"
    pa.parquet.write_table(pa.table(columns), path)
    kind = Kind.TEXT if len(columns) == 1 else Kind.NUMERIC
    blocks = list(align(path, Schema(tuple(Column(name, kind, "") for name in columns))).blocks(100_000))
    sizes = [block.table.n_rows for block in blocks]
    assert sum(sizes) == 1_000
    assert max(sizes) <= 500


@pytest.mark.parametrize("at", [1, 40, 79])
@pytest.mark.parametrize("cell", ["red", '"red"'])
def test_a_ragged_line_is_named_wherever_it_is(tmp_path: Path, at: int, cell: str) -> None:
    lines = ["n,c,d,t", *(f"{i},{cell},2024-05-01,a" for i in range(80))]
    lines[at] += ",more"
    (tmp_path / "data.csv").write_text("\n".join(lines) + "\n")
    with pytest.raises(BadData, match=f"line {at + 1} has 5 cells"):
        pieces(tmp_path / "data.csv", 100)


@pytest.mark.parametrize("cell", ["red", '"red"'])
@pytest.mark.parametrize("blank", [",,", ",\t,", "\u00a0,", "\t,\t,"])
def test_ragged_blank_lines_at_the_end_are_left_out_and_elsewhere_refused(
    tmp_path: Path, cell: str, blank: str
) -> None:
    lines = ["n,c,d,t", *(f"{i},{cell},2024-05-01,a" for i in range(80))]
    path = tmp_path / "data.csv"
    path.write_text("\n".join([*lines, blank, blank]) + "\n", encoding="utf-8")
    assert len(pieces(path, 100)[0][0]) == 80
    assert read_table(path).n_rows == 80
    path.write_text("\n".join([*lines[:9], blank, *lines[9:]]) + "\n", encoding="utf-8")
    for read in (lambda: pieces(path, 100), lambda: read_table(path)):
        with pytest.raises(BadData, match=f"line 10 has {blank.count(',') + 1} cells"):
            read()


def test_no_rows(tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_text("n,c,d,t\n")
    with pytest.raises(BadData, match="header but no rows"):
        pieces(tmp_path / "data.csv", 1)


@pytest.mark.parametrize("quote", ['"', ""])
@pytest.mark.parametrize("trained", [".", ","])
def test_the_files_own_decimal_mark_counts_in_pieces_and_for_carried_columns(
    tmp_path: Path, quote: str, trained: str
) -> None:
    schema = Schema((Column("n", Kind.NUMERIC, "", decimal=trained), Column("t", Kind.TEXT, "")))
    path = tmp_path / "data.csv"
    path.write_text("n;t\n" + f"956,25;{quote}a{quote}\n0,5;{quote}b{quote}\n" * 40)
    for n_bytes in (60, 1 << 20):
        for carried in ((), ("n",)):
            blocks = list(align(path, schema, verbatim=carried).blocks(n_bytes))
            np.testing.assert_array_equal(np.concatenate([b.table.numbers("n") for b in blocks]), [956.25, 0.5] * 40)
            assert not any(block.remarks for block in blocks)


def test_booleans_are_the_same_in_every_format(tmp_path: Path) -> None:
    schema = Schema((Column("f", Kind.BOOLEAN, "", categories=("False", "True")),))
    pa.parquet.write_table(pa.table({"f": [True, False, None]}), tmp_path / "data.parquet")
    (tmp_path / "data.csv").write_text("f,x\nTrue,1\nFalse,1\n,1\n")
    for name in ("data.parquet", "data.csv"):
        (block,) = align(tmp_path / name, schema).blocks(1 << 20)
        assert block.table.codes("f").tolist() == [1, 0, -1]
        assert not block.remarks


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(text, st.floats(allow_nan=False)), min_size=1, max_size=20), st.integers(1, 20))
def test_blocks_are_written_as_the_whole_and_read_back(rows: list[tuple], n: int) -> None:
    columns = {"a,b": [a for a, _ in rows], "v": np.array([v for _, v in rows])}
    whole, cut = io.BytesIO(), io.BytesIO()
    write_csv(columns, whole)
    write = csv_writer(cut)
    for start in range(0, len(rows), n):
        write({name: column[start : start + n] for name, column in columns.items()})
    assert cut.getvalue() == whole.getvalue()
    back = list(csv.reader(io.StringIO(whole.getvalue().decode(), newline="")))
    assert back[0] == ["a,b", "v"]
    assert [(a, float(v)) for a, v in back[1:]] == rows


@pytest.fixture(scope="module")
def folder(command: Command, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stream")
    chance = random.Random(2)
    lines = ["id,x,c,y"]
    for i in range(400):
        x, c = chance.gauss(0, 1), chance.choice(["red", "tan"])
        lines.append(f"{i:09d},{x:.4f},{c},{x + (c == 'red') + chance.gauss(0, 0.1):.4f}")
    (folder / "d.csv").write_text("\n".join(lines) + "\n")
    done = command(
        "fit", "d.csv", "-t", "y", "--trials", "2", "--folds", "2", "--include", "lightgbm", "-q", cwd=folder
    )
    assert done.returncode == 0, done.stderr
    return folder


def test_many_rows_in_order_from_every_source(command: Command, folder: Path, tmp_path: Path) -> None:
    """Eight megabytes: several blocks. The same rows at the end as at the start get the same answers."""
    header, *rows = (folder / "d.csv").read_text().splitlines()
    lines = [row.split(",", 1)[1] for row in rows]
    many = [f"{i:09d},{lines[i % 400]}" for i in range(300_000)]
    (tmp_path / "big.csv").write_text("\n".join([header, *many]) + "\n")
    (tmp_path / "big.csv.gz").write_bytes(gzip.compress((tmp_path / "big.csv").read_bytes(), 1))
    said = {}
    for name in ("big.csv", "big.csv.gz"):
        done = command("predict", str(folder / "d.automl"), name, "--columns", "id", "-o", "p.csv", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert "300,000 predictions" in done.stderr
        said[name] = (tmp_path / "p.csv").read_bytes()
    assert said["big.csv"] == said["big.csv.gz"]
    answer = pa.csv.read_csv(tmp_path / "p.csv")
    assert answer.column("id").to_pylist() == list(range(300_000))
    values = answer.column("prediction").to_numpy().reshape(-1, 400)
    assert (values == values[0]).all()


def test_strict_writes_all_or_nothing_to_standard_output(command: Command, folder: Path, tmp_path: Path) -> None:
    header, *rows = (folder / "d.csv").read_text().splitlines()
    (tmp_path / "odd.csv").write_text("\n".join([header, *rows, "1,1.0,pink,2"]) + "\n")
    done = command("predict", str(folder / "d.automl"), "odd.csv", "--strict", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (3, "")
    assert "'pink'" in done.stderr
    fine = command("predict", str(folder / "d.automl"), str(folder / "d.csv"), "--strict", cwd=tmp_path)
    assert fine.stdout.count("\n") == 401


def test_an_error_far_down_leaves_the_old_file(command: Command, folder: Path, tmp_path: Path) -> None:
    header, *rows = (folder / "d.csv").read_text().splitlines()
    (tmp_path / "p.csv").write_text("old\n")
    (tmp_path / "odd.csv").write_text("\n".join([header, *(rows * 1000), "1,2"]) + "\n")
    done = command("predict", str(folder / "d.automl"), "odd.csv", "-o", "p.csv", cwd=tmp_path)
    assert done.returncode == 3
    assert "line 400002 has 2 cells" in done.stderr
    assert (tmp_path / "p.csv").read_text() == "old\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["odd.csv", "p.csv"]
