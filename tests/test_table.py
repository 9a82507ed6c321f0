import bz2
import gzip
import io
import lzma
import os
import zipfile
from datetime import datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from automl_cli.errors import BadData, SchemaMismatch, TargetNotFound, UsageError
from automl_cli.table import Column, Kind, Schema, align, read_table, read_tables, read_with_schema

PLAIN = "x,color,y\n1,red,a\n2.5,blue,b\n,red,a\n"


@pytest.fixture
def csv_file(tmp_path):
    def write(content, name="data.csv"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def topics(table):
    return {notice.topic for notice in table.notices}


def rows(n, line):
    return "".join(line(i) + "\n" for i in range(n))


# --- reading -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_separator_is_found(csv_file, separator):
    table = read_table(csv_file(PLAIN.replace(",", separator)))
    assert table.schema.names == ("x", "color", "y")
    np.testing.assert_array_equal(table.numbers("x"), [1, 2.5, np.nan])
    assert table.notices == ()


@pytest.mark.parametrize("separator", [":", "^", "~", " "])
def test_unusual_separator_is_handled_and_told(csv_file, separator):
    table = read_table(csv_file(separator.join("abc") + "\n" + rows(3, lambda i: separator.join("123"))))
    assert table.schema.names == ("a", "b", "c")
    assert topics(table) >= {"separator"}


def zipped(data):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("inner.csv", data)
    return buffer.getvalue()


def zstd_bytes(data):
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(data)
    return sink.getvalue().to_pybytes()


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress, zipped, zstd_bytes])
def test_compressed_reads_as_plain(csv_file, pack):
    plain = read_table(csv_file(PLAIN))
    packed = read_table(csv_file(pack(PLAIN.encode()), "data.packed"))
    assert packed.data.equals(plain.data)
    assert packed.fingerprint == plain.fingerprint


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "latin-1", "utf-16", "utf-32", "cp1252"])
def test_encodings(csv_file, encoding):
    table = read_table(csv_file("größe,stadt\n1,Köln\n2,Málaga\n3,Köln\n".encode(encoding)))
    assert table.schema.names == ("größe", "stadt")
    assert table.texts("stadt") == ["Köln", "Málaga", "Köln"]


@pytest.mark.parametrize("chunk", [1 << 20, 7, 1])
@pytest.mark.parametrize("cut", ["1,M\xc3\n", "1,M\xfcnchen\n", "1,M\xc3"])
def test_a_letter_that_was_cut_does_not_change_all_others(csv_file, monkeypatch, chunk, cut):
    monkeypatch.setattr("automl_cli.table.source.CHUNK", chunk)
    text = "x,größe\n" + "1,Köln\n2,Málaga\ufffd\n" * 15
    table = read_table(csv_file(text.encode() + cut.encode("latin-1")))
    assert table.schema.names == ("x", "größe")
    assert table.texts("größe")[:2] == ["Köln", "Málaga\ufffd"]
    assert table.texts("größe")[-1][:2] == "M\ufffd"
    (notice,) = table.notices
    assert "1 place of data.csv cannot be read as UTF-8" in notice.message


@pytest.mark.parametrize("chunk", [1 << 20, 7])
def test_latin_1_stays_what_it_is(csv_file, monkeypatch, chunk):
    monkeypatch.setattr("automl_cli.table.source.CHUNK", chunk)
    words = ["Köln", "Málaga", "Ærø", "Ã¼", "São Tomé"]
    table = read_table(csv_file(("c,x\n" + rows(100, lambda i: f"{words[i % 5]},{i}")).encode("latin-1")))
    assert table.texts("c")[:5] == words
    assert "Latin-1" in table.notices[0].message


def test_signs_for_what_could_not_be_read_are_letters_like_others(csv_file, monkeypatch):
    monkeypatch.setattr("automl_cli.table.source.CHUNK", 7)
    table = read_table(csv_file("c,x\n" + rows(50, lambda i: f"a{'b' * (i % 5)}\ufffd,{i}")))
    assert table.texts("c")[:2] == ["a\ufffd", "ab\ufffd"]
    assert table.notices == ()


def test_quotes_separators_and_line_breaks_in_cells(csv_file):
    table = read_table(csv_file('a,"b\nc"\n1,"x, ""y""\nz"\n2,w\n3,\n'), verbatim=["b\nc"])
    assert table.texts("b\nc") == ['x, "y"\nz', "w", None]


def test_odd_names_survive(csv_file):
    names = ["[a]", "{b}", '"c"', "d:e", "f,g", "🙂"]
    header = ",".join('"' + name.replace('"', '""') + '"' for name in names)
    assert read_table(csv_file(header + "\n1,2,3,4,5,6\n2,3,4,5,6,7\n")).schema.names == tuple(names)


@pytest.mark.parametrize("separator", [";", "\t"])
def test_decimal_comma(csv_file, separator):
    text = f"x{separator}y\n" + rows(30, lambda i: f"{i},5{separator}{i}")
    table = read_table(csv_file(text))
    assert table.schema.column("x").kind is Kind.NUMERIC
    assert table.schema.column("x").decimal == ","
    assert table.numbers("x")[3] == 3.5
    later = read_with_schema(csv_file(f"x{separator}y\n7,25{separator}1\n"), table.schema)
    assert later.numbers("x").tolist() == [7.25]


@pytest.mark.parametrize(
    "marker",
    [
        "?",
        "NA",
        "N/A",
        "n/a",
        "#N/A",
        "NaN",
        "nan",
        "NaT",
        "<NA>",
        "\\N",
        "null",
        "NULL",
        "None",
        "-",
        "",
        " ",
        " ?",
        "#DIV/0!",
        "#NAME?",
    ],
)
def test_missing_markers(csv_file, marker):
    table = read_table(csv_file(f"x,c\n1,red\n{marker},{marker}\n2,blue\n3,red\n"))
    assert np.isnan(table.numbers("x")).tolist() == [False, True, False, False]
    assert table.codes("c").tolist() == [0, -1, 1, 0] or table.codes("c").tolist() == [1, -1, 0, 1]


def test_target_and_verbatim_stay_as_written(csv_file):
    table = read_table(csv_file("id,v,y\n007,1.50,TRUE\n010,2,FALSE\n011,3e1,TRUE\n"), target="y", verbatim=["id", "v"])
    assert table.texts("y") == ["TRUE", "FALSE", "TRUE"]
    assert table.texts("id") == ["007", "010", "011"]
    assert table.texts("v") == ["1.50", "2", "3e1"]
    assert table.numbers("v").tolist() == [1.5, 2, 30]


def test_column_of_empty_lines_keeps_its_rows(csv_file):
    table = read_table(csv_file("x\n1\n\n3\n\n\n"))
    np.testing.assert_array_equal(table.numbers("x"), [1, np.nan, 3])


@pytest.mark.parametrize("tail", ["\n\n", "  \n", "\r\n\r\n", ",\n,\n"])
def test_blank_lines_at_the_end_are_ignored(csv_file, tail):
    assert read_table(csv_file("a,b,c\n1,2,3\n4,5,6\n" + tail)).n_rows == 2


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_line_ends(csv_file, line_end):
    assert read_table(csv_file(PLAIN.replace("\n", line_end))).n_rows == 3


def test_mixed_types_far_down_the_file(csv_file):
    lines = [f"{i},{i % 7}" for i in range(1_200_000)]
    lines[1_000_000] = "0.5,oops"
    table = read_table(csv_file("a,b\n" + "\n".join(lines) + "\n"))
    assert table.numbers("a")[1_000_000] == 0.5
    assert table.schema.column("b").kind is Kind.NUMERIC
    assert np.flatnonzero(np.isnan(table.numbers("b"))).tolist() == [1_000_000]
    assert any("'oops'" in notice.message for notice in table.notices)


def test_strays_among_numbers_become_missing_with_a_notice(csv_file):
    table = read_table(csv_file("x\n" + rows(100, lambda i: "unknown!" if i == 50 else str(i * 1.5))))
    assert table.schema.column("x").kind is Kind.NUMERIC
    assert np.isnan(table.numbers("x")).sum() == 1
    assert any("'unknown!'" in notice.message for notice in table.notices)


@pytest.mark.parametrize("share", [0.2, 0.8])
@pytest.mark.parametrize("word", ["unknown", "Varies with device", "*"])
def test_a_word_among_many_numbers_means_missing_however_often_it_occurs(csv_file, word, share):
    table = read_table(csv_file("x\n" + rows(500, lambda i: word if i % 10 < 10 * share else str(i * 1.5))))
    assert table.schema.column("x").kind is Kind.NUMERIC
    assert np.isnan(table.numbers("x")).sum() == 500 * share
    assert any(repr(word) in notice.message for notice in table.notices)


@pytest.mark.parametrize("others", [["B"], ["10+"], ["M1", "M2"], ["low", "mid", "high", "top"]])
def test_codes_among_numbers_stay_categories(csv_file, others):
    cells = [str(i % 30) for i in range(300)] + others * 100
    assert read_table(csv_file("x\n" + "\n".join(cells) + "\n")).schema.column("x").kind is Kind.CATEGORY


def test_a_category_that_is_now_a_sign_for_missing_is_still_known(csv_file):
    schema = Schema((Column("c", Kind.CATEGORY, "", categories=("red", "n/a")),))
    assert read_with_schema(csv_file("c,x\nn/a,1\nred,1\n#N/A,1\n"), schema).codes("c").tolist() == [1, 0, -1]


def test_odd_columns_are_told(csv_file):
    table = read_table(csv_file("x,x,,empty\n1,2,3,\ninf,4,5,\n3,5,8,\n"))
    assert table.schema.names == ("x", "x.1", "column_3", "empty")
    assert table.schema.column("empty").kind is Kind.CONSTANT
    assert topics(table) == {"duplicate_columns", "unnamed_columns", "empty_columns", "infinities"}
    assert np.isnan(table.numbers("x")).tolist() == [False, True, False]


@pytest.mark.parametrize("value", [-999, -9999, -200, 9999])
def test_sentinels_are_reported_not_replaced(csv_file, value):
    table = read_table(csv_file("x\n" + rows(50, lambda i: str(value if i % 10 == 0 else i))))
    assert topics(table) == {"sentinels"}
    assert table.numbers("x").tolist().count(value) == 5


def test_parquet_reads_like_csv(csv_file, tmp_path):
    path = tmp_path / "data.parquet"
    pa.parquet.write_table(
        pa.table({"x": [1.0, 2.5, None], "color": ["red", "blue", "red"], "ok": [True, False, True], "y": [1, 2, 1]}),
        path,
    )
    table = read_table(path, target="y")
    np.testing.assert_array_equal(table.numbers("x"), [1, 2.5, np.nan])
    assert table.schema.column("ok").categories == ("false", "true")
    assert table.texts("y") == ["1", "2", "1"]


def test_durations_of_parquet_are_seconds(tmp_path):
    """As pandas writes the difference of two dates, of more than 104 days too; also where the column is the target."""
    seconds = [*range(0, 40_000_000, 700_000), None]
    for unit, factor in (("s", 1), ("ms", 10**3), ("us", 10**6), ("ns", 10**9)):
        spans = pa.array([None if s is None else s * factor for s in seconds], pa.duration(unit))
        pyarrow.parquet.write_table(pa.table({"span": spans, "y": range(len(seconds))}), tmp_path / "t.parquet")
        table = read_table(tmp_path / "t.parquet")
        assert table.schema.column("span").kind is Kind.NUMERIC
        np.testing.assert_array_equal(table.numbers("span"), [*seconds[:-1], np.nan])
        (block,) = align(tmp_path / "t.parquet", table.schema).blocks(1 << 20)
        np.testing.assert_array_equal(block.table.numbers("span"), table.numbers("span"))
        labels = read_table(tmp_path / "t.parquet", target="span").texts("span")
        assert [float(label) for label in labels[:-1]] == seconds[:-1]


@pytest.mark.parametrize("name", ["uuid", "json_"])
def test_uuids_and_json_of_parquet_are_bytes_and_texts_by_another_name(tmp_path, name):
    stored = [bytes([0xF0 + i % 3]) * 16 if name == "uuid" else f'{{"a":{i % 3}}}' for i in range(30)]
    cells = [cell.hex() if name == "uuid" else cell for cell in stored]
    path = tmp_path / "t.parquet"
    pyarrow.parquet.write_table(pa.table({"c": pa.array(stored, getattr(pa, name)()), "x": range(30)}), path)
    table = read_table(path)
    assert table.schema.column("c").categories == tuple(sorted(set(cells)))
    assert read_with_schema(path, table.schema, verbatim=["c"]).texts("c") == cells


def test_long_ids_of_two_tables_are_joined_where_one_lacks_a_cell(csv_file):
    ids = [2**60 + 37 * i for i in range(30)]
    first = csv_file("account,y\n" + rows(30, lambda i: f"{ids[i]},{i % 2}"), "a.csv")
    second = csv_file("account,y\n" + rows(30, lambda i: f"{ids[i]}.0,{i % 2}" if i else ",0"), "b.csv")  # as pandas
    for k, table in enumerate(read_tables(first, [second], target="y")):
        np.testing.assert_allclose(table.numbers("account"), [np.nan if k else ids[0], *ids[1:]])


def test_a_target_of_numbers_is_not_called_text(csv_file):
    table = read_table(csv_file("x,y\n" + rows(30, lambda i: f"{i},{i * i}")), target="y")
    assert table.schema.column("y").reason == "numbers"


def test_an_empty_name_is_no_folder():
    with pytest.raises(BadData, match="no file is named"):
        read_table("")


def test_a_doubled_column_of_parquet_is_read_as_in_csv(tmp_path):
    pyarrow.parquet.write_table(
        pa.table([pa.array([1, 2]), pa.array([3, 4])], names=["a", "a"]), tmp_path / "t.parquet"
    )
    table = read_table(tmp_path / "t.parquet", target="a.1")
    assert table.schema.names == ("a", "a.1")
    assert table.texts("a.1") == ["3", "4"]


def test_bytes_of_parquet_are_text_whatever_their_type(tmp_path):
    words, keys = [b"ab", b"cd", None], [bytes([0xF0 + i]) * 16 for i in range(3)]
    columns = {str(kind): pa.array(words, kind) for kind in (pa.binary(2), pa.binary_view(), pa.large_binary())}
    path = tmp_path / "t.parquet"
    pyarrow.parquet.write_table(pa.table({**columns, "key": pa.array(keys, pa.binary(16))}), path)
    table = read_table(path)
    for name in columns:
        assert table.schema.column(name).categories == ("ab", "cd")
    assert read_table(path, target="key").texts("key") == [key.hex() for key in keys]
    with pytest.raises(BadData, match="cannot be read as text"):
        pyarrow.parquet.write_table(pa.table({"key": pa.array(keys, pa.binary())}), path)
        read_table(path)


def test_stdin_is_read_only_when_asked(monkeypatch):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(gzip.compress(PLAIN.encode()))))
    table = read_table("-")
    assert (table.source, table.n_rows) == ("stdin", 3)


class Pipe(io.RawIOBase):
    """Bytes that come once, and are too many to be held."""

    def __init__(self, data):
        self.stream = io.BytesIO(data)

    def readable(self):
        return True

    def readinto(self, place):
        return self.stream.readinto(place)

    def readall(self):
        raise MemoryError


def test_a_zip_file_through_a_pipe_is_not_held_in_memory(monkeypatch):
    monkeypatch.setattr("automl_cli.table.source.IN_MEMORY", 10)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BufferedReader(Pipe(zipped(PLAIN.encode())))))
    assert read_table("-").n_rows == 3


def test_infinities_alone_are_a_constant(csv_file):
    table = read_table(csv_file("a,b\n" + "inf,1\n-inf,2\n" * 20))
    assert table.schema.column("a").kind is Kind.CONSTANT
    assert "infinities" in {notice.topic for notice in table.notices}


def test_dates_beyond_the_years_of_python_are_read(tmp_path):
    path = tmp_path / "t.parquet"
    far = pa.array([2**31 - 1] * 20, pa.date32())
    pyarrow.parquet.write_table(pa.table({"far": far, "b": range(20)}), path)
    assert read_table(path).schema.column("far").kind is Kind.CONSTANT


def test_very_wide_tables_are_read(csv_file):
    n = 20_000
    text = ",".join(f"c{i}" for i in range(n)) + "\n" + rows(3, lambda j: ",".join(str(i % (j + 2)) for i in range(n)))
    table = read_table(csv_file(text), target="c7")
    assert len(table.schema.columns) == n
    assert len(table.notices) < 20


cell = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]) | st.sampled_from('\n\t,;"'), max_size=8)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(cell, cell), min_size=2, max_size=20))
def test_any_text_comes_back_as_written(tmp_path_factory, cells):
    import csv

    from automl_cli.table.markers import MISSING

    path = tmp_path_factory.mktemp("cells") / "data.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, quoting=csv.QUOTE_ALL).writerows([("first", "second"), *cells])
    if not any(c.strip() for row in cells for c in row):
        return
    table = read_table(path, verbatim=["first", "second"])
    for i, name in enumerate(("first", "second")):
        assert table.texts(name) == [None if row[i] in MISSING else row[i] for row in cells]


# --- refused -------------------------------------------------------------------------------------------------------

REFUSED = {
    "empty": (b"", "is empty"),
    "blank": (b"\n \n", "is empty"),
    "header alone": (b"a,b\n", "header but no rows"),
    "one row": (b"a,b\n1,2\n", "one row"),
    "garbage": (bytes(range(1, 256)) * 40, "binary data"),
    "nul": (b"a,b\n1,2\n3,\x004\n5,6\n", "NUL byte"),
    "cut in a quoted cell": (b'a,b\n1,"x"\n2,"never ends\n3,4\n', "line 3"),
    "ragged": (b"a,b,c\n1,2,3\n4,5,6,7\n8,9,1\n", "line 3 has 4 cells instead of 3"),
    "ragged after line breaks in a cell": (b'a,b\n1,"x\ny\nz"\n\n2\n3,4\n', "line 6 has 1 cell instead of 2"),
    "short last line": (b"a,b,c\n1,2,3\n4,5,6\n7,8\n", "line 4 has 2 cells instead of 3"),
    "cut gzip": (gzip.compress(os.urandom(9999))[:5000], "damaged or cut"),
    "cut xz": (lzma.compress(os.urandom(9999))[:5000], "damaged or cut"),
    "cut bz2": (bz2.compress(os.urandom(9999))[:5000], "damaged or cut"),
    "cut zstd": (zstd_bytes(os.urandom(9999))[:5000], "damaged or cut"),
    "cut zip": (zipped(b"a,b\n" * 99)[:200], "damaged or cut"),
    "cut parquet": (b"PAR1" + b"\1" * 50, "damaged Parquet"),
    "pdf": (b"%PDF-1.4\n", "PDF"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_files_are_refused_in_one_line(csv_file, case):
    content, says = REFUSED[case]
    with pytest.raises(BadData) as caught:
        read_table(csv_file(content))
    assert says in caught.value.problem
    assert caught.value.problem.startswith("data.csv")
    assert caught.value.hint
    assert "\n" not in str(caught.value)


def test_zip_of_two_files_is_refused(csv_file):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a.csv", PLAIN)
        archive.writestr("b.csv", PLAIN)
    with pytest.raises(BadData, match="holds 2 files"):
        read_table(csv_file(buffer.getvalue()))


def test_places_that_are_no_file(tmp_path):
    with pytest.raises(BadData, match="does not exist"):
        read_table(tmp_path / "missing.csv")
    with pytest.raises(BadData, match="is a folder"):
        read_table(tmp_path)


def test_an_inch_sign_is_no_open_quote(csv_file):
    assert read_table(csv_file('size,x\n5" pipe,1\npipe,2\n'), verbatim=["size"]).texts("size") == ['5" pipe', "pipe"]


def test_unknown_columns_get_near_names(csv_file):
    path = csv_file(PLAIN)
    with pytest.raises(TargetNotFound, match="did you mean 'color'"):
        read_table(path, target="Colour")
    with pytest.raises(UsageError, match="did you mean 'color'"):
        read_table(path, kinds={"colr": Kind.TEXT})
    with pytest.raises(UsageError, match="its columns are"):
        read_table(path, ignore=["zzzzz"])


# --- kinds ---------------------------------------------------------------------------------------------------------

WORDS = ("good", "bad", "slow", "fast", "cheap", "late", "nice", "rude")
KINDS = {
    "measure": (Kind.NUMERIC, lambda i: f"{i * 1.37 % 11:.4f}"),
    "unique_float": (Kind.NUMERIC, lambda i: f"{i * 1.7 + 0.25}"),
    "fnlwgt": (Kind.NUMERIC, lambda i: str(100_000 + i * i * 37)),
    "rooms": (Kind.NUMERIC, lambda i: str(i % 4)),
    "flag01": (Kind.NUMERIC, lambda i: str(i % 2)),
    "member": (Kind.BOOLEAN, lambda i: ("no", "yes")[i % 2]),
    "truth": (Kind.BOOLEAN, lambda i: ("False", "True")[i % 2]),
    "color": (Kind.CATEGORY, lambda i: ("red", "green", "blue")[i % 3]),
    "town": (Kind.HIGH_CARDINALITY, lambda i: f"town {i % 80}"),
    "day": (Kind.DATETIME, lambda i: f"2024-{i % 12 + 1:02d}-{i % 28 + 1:02d}"),
    "german_day": (Kind.DATETIME, lambda i: f"{i % 28 + 1}.{i % 12 + 1}.2024"),
    "us_day": (Kind.DATETIME, lambda i: f"{i % 12 + 1}/{i % 28 + 1}/2024"),
    "stamp": (Kind.DATETIME, lambda i: f"2024-01-{i % 28 + 1:02d}T{i % 24:02d}:30:00Z"),
    "compact": (Kind.DATETIME, lambda i: f"2024{i % 12 + 1:02d}{i % 28 + 1:02d}"),
    "month": (Kind.DATETIME, lambda i: f"{('Jan', 'Mar', 'Dec')[i % 3]}-{i % 17 + 8:02d}"),
    "clock": (Kind.DATETIME, lambda i: f"{i % 24:02d}:{i % 60:02d}"),
    "review": (Kind.TEXT, lambda i: " ".join(WORDS[i * k % 8] for k in range(3, 9)) + f" {i}"),
    "person": (Kind.TEXT, lambda i: f"{WORDS[i % 8]} {WORDS[i // 8 % 8].title()}{i // 64 or ''}"),
    "genres": (Kind.TEXT, lambda i: "|".join(w for k, w in enumerate(WORDS) if i * 37 % 256 >> k & 1) or "none"),
    "sizes": (Kind.TEXT, lambda i: ";".join(f"{k}m" for k in range(8) if i * 37 % 256 >> k & 1) or "none"),
    "place": (Kind.HIGH_CARDINALITY, lambda i: f'"Town{i % 80}, {("TX", "NY", "OH")[i % 80 % 3]}"'),
    "ticket": (Kind.HIGH_CARDINALITY, lambda i: f"{('A/5 ', 'PC ', 'SC ')[i * 3 // 4 % 3]}{i * 3 // 4 * 37}"),
    "order_no": (Kind.ID, lambda i: f"K{i * 37 % 1009}"),
    "row": (Kind.ID, lambda i: str(i + 1)),
    "customer_id": (Kind.ID, lambda i: str(i * 7919 % 100_003)),
    "uuid": (Kind.ID, lambda i: f"{i * 2654435761 % 2**32:08x}-aa"),
    "same": (Kind.CONSTANT, lambda i: "EUR"),
}


@pytest.fixture(scope="module")
def zoo(tmp_path_factory):
    path = tmp_path_factory.mktemp("zoo") / "zoo.csv"
    path.write_text(",".join(KINDS) + "\n" + rows(300, lambda i: ",".join(make(i) for _, make in KINDS.values())))
    return path


@pytest.mark.parametrize("name", KINDS)
def test_kind_with_a_reason(zoo, name):
    column = read_table(zoo).schema.column(name)
    assert column.kind is KINDS[name][0]
    assert len(column.reason) > 5


def test_dates_are_read_in_their_format(zoo):
    table = read_table(zoo)
    base = np.datetime64("2024-01-01").astype(int)
    for name in ("day", "german_day", "us_day", "compact"):
        assert table.days(name)[0] == base, name
    assert table.days("stamp")[0] == base + 0.5 / 24
    assert table.days("clock")[6] == pytest.approx((6 * 60 + 6) / 1440)


ODD_DATES = {
    "a zone other than UTC": ("%Y-%m-%dT%H:%M:%S-05:00", 5),
    "UTC in letters": ("%Y-%m-%d %H:%M:%S UTC", 0),
    "year and month": ("%Y/%m", 0),
    "a month's name": ("%b %d %Y", 0),
    "as in C": ("%a %b %d %H:%M:%S %Y", 0),
    "as in letters": ("%a, %d %b %Y %H:%M:%S GMT", 0),
    "month first, two digits": ("%m/%d/%y", 0),
    "day first, two digits": ("%d.%m.%y %H:%M", 0),
    "year first, two digits": ("%y-%m-%d", 0),
    "month and two digits": ("%b-%y", 0),
}


@pytest.mark.parametrize("case", ODD_DATES)
def test_dates_are_read_as_what_they_are(csv_file, case):
    form, hours_behind = ODD_DATES[case]
    cells = [(datetime(1995, 1, 31) + timedelta(days=37.3 * i)).strftime(form) for i in range(300)]
    read = [datetime.strptime(cell, form) + timedelta(hours=hours_behind) for cell in cells]
    path = csv_file("d,x\n" + rows(300, lambda i: f'"{cells[i]}",{i * i % 7}'))
    table = read_table(path)
    assert table.schema.column("d").kind is Kind.DATETIME
    np.testing.assert_allclose(table.days("d"), [(one - datetime(1970, 1, 1)) / timedelta(days=1) for one in read])
    np.testing.assert_array_equal(read_with_schema(path, table.schema).days("d"), table.days("d"))


CLOCK_WAYS = {
    "9:05:30": "{h}:{m:02d}:{s:02d}",
    "09:05:30": "{h:02d}:{m:02d}:{s:02d}",
    "9:05": "{h}:{m:02d}",
    "9:05 AM": "{half}:{m:02d} {side}",
    "9:05:30AM": "{half}:{m:02d}:{s:02d}{side}",
}


@pytest.mark.parametrize("way", CLOCK_WAYS)
def test_times_of_day_are_read_however_a_clock_writes_them(csv_file, way):
    days = np.round(np.random.default_rng(0).random(300) * 86_400) / 86_400
    if way.count(":") == 1:
        days = np.floor(days * 1440) / 1440
    cells = []
    for minute, second in (divmod(round(day * 86_400), 60) for day in days):
        h, m = divmod(minute, 60)
        cells.append(CLOCK_WAYS[way].format(h=h, m=m, s=second, half=(h - 1) % 12 + 1, side="PM" if h > 11 else "AM"))
    path = csv_file("t,x\n" + rows(300, lambda i: f"{cells[i]},{i % 7}") + "unknown,1\n")
    table = read_table(path)
    assert table.schema.column("t").kind is Kind.DATETIME
    np.testing.assert_allclose(table.days("t"), [*days, np.nan], atol=1e-9)
    np.testing.assert_array_equal(read_with_schema(path, table.schema).days("t"), table.days("t"))
    other = read_with_schema(csv_file("t,x\n21:30:00,1\nunknown,1\n9:30 PM,2\n"), table.schema)
    np.testing.assert_allclose(other.days("t"), [21.5 / 24, np.nan, 21.5 / 24])


def test_one_odd_cell_does_not_change_how_the_other_dates_are_read(csv_file):
    stamps = [f"2024-01-{i % 28 + 1:02d}T{i % 24:02d}:00:00.250-05:00" for i in range(300)]
    plain = read_table(csv_file("d\n" + "\n".join(stamps) + "\n"))
    odd = csv_file("d\n" + "\n".join([*stamps, "unknown"]) + "\n")
    table = read_table(odd)
    assert table.schema.column("d").kind is Kind.DATETIME
    np.testing.assert_allclose(table.days("d"), [*plain.days("d"), np.nan], rtol=1e-14)
    np.testing.assert_array_equal(read_with_schema(odd, plain.schema).days("d"), table.days("d"))


@pytest.mark.parametrize("cell", ["3/4", "10/05", "12/7"])
def test_shares_are_no_months(csv_file, cell):
    table = read_table(csv_file("d,x\n" + rows(300, lambda i: f"{cell if i % 2 else '1/2'},{i * i % 7}")))
    assert table.schema.column("d").kind is Kind.BOOLEAN


def test_names_that_many_rows_share_are_categories(csv_file):
    table = read_table(csv_file("name,x\n" + rows(30_000, lambda i: f"the old mill {i * 7919 % 1500},{i * i % 7}")))
    assert table.schema.column("name").kind is Kind.HIGH_CARDINALITY


@pytest.mark.parametrize(
    ("name", "make", "kind"),
    [
        ("price_index", lambda i: i * i * 37 % 100_003, Kind.NUMERIC),
        ("sample_index", lambda i: 10 * (i * 7 % 40), Kind.ID),
        ("sample_index", lambda i: i * 7 % 40 + 1000, Kind.ID),
        ("row_index", lambda i: i * i * 37 % 100_003, Kind.ID),
        ("index", lambda i: i * i * 37 % 100_003, Kind.ID),
        ("order_no", lambda i: i * i * 37 % 100_003, Kind.ID),
    ],
)
def test_an_index_may_be_a_measurement(csv_file, name, make, kind):
    assert (
        read_table(csv_file(f"{name},x\n" + rows(40, lambda i: f"{make(i)},{i % 5}"))).schema.column(name).kind is kind
    )


@pytest.mark.parametrize("name", ["", '""', "Unnamed: 0", "Unnamed: 0.1", "__index_level_0__"])
def test_the_index_that_pandas_writes_beside_a_part_of_its_rows_is_not_learned_from(csv_file, name):
    rng = np.random.default_rng(0)
    index, x = rng.choice(900, 500, replace=False), rng.random(500)
    table = read_table(csv_file(f"{name},x\n" + rows(500, lambda i: f"{index[i]},{x[i]}")))
    assert table.schema.columns[0].kind is Kind.ID
    assert "row index" in table.schema.columns[0].reason
    assert read_with_schema(csv_file("x\n0.5\n0.25\n"), table.schema).n_rows == 2


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("column_1", lambda i: i * i * 37 % 100_003),  # a name in the file
        ("x1", lambda i: i * i * 37 % 100_003),
        ("", lambda i: i * i * 37 % 100_003 + 0.5),
        ("", lambda i: i * i % 40),
        ("", lambda i: i * i * 37 % 100_003 - 40),
    ],
)
def test_numbers_are_no_index_unless_all_says_so(csv_file, name, make):
    path = csv_file(f"{name},y\n" + rows(60, lambda i: f"{make(i)},{i % 5}"))
    assert read_table(path).schema.columns[0].kind is Kind.NUMERIC


def test_hexadecimal_ids_that_look_like_endless_numbers_are_ids(csv_file):
    cells = [f"{i:02d}e45678" if i % 10 == 0 else f"{i:02d}ab45{i:02d}" for i in range(90)]
    table = read_table(csv_file("code,x\n" + rows(90, lambda i: f"{cells[i]},{i % 7}")))
    assert table.schema.column("code").kind is Kind.ID


def test_year_is_not_an_id(csv_file):
    table = read_table(csv_file("year,x\n" + rows(40, lambda i: f"{1980 + i},{i % 5}")))
    assert table.schema.column("year").kind is Kind.NUMERIC


def test_categories_are_most_frequent_first_ties_by_text(csv_file):
    table = read_table(
        csv_file("c\n" + "\n".join(["b", "c", "c", "a", "d", ""] * 1) + "\n,\n".replace(",", "") + "d\n")
    )
    assert table.schema.column("c").categories == ("c", "d", "a", "b")
    assert table.codes("c").tolist()[:5] == [3, 0, 0, 2, 1]


def test_kinds_can_be_chosen(zoo):
    table = read_table(
        zoo,
        kinds={"rooms": Kind.CATEGORY, "row": Kind.NUMERIC, "fnlwgt": Kind.DATETIME, "town": Kind.TEXT},
        ignore=["uuid"],
    )
    assert set(table.schema.column("rooms").categories) == {"0", "1", "2", "3"}
    assert table.numbers("row")[0] == 1
    assert table.days("fnlwgt")[0] == pytest.approx(100_000 / 86400)
    assert table.texts("town")[1] == "town 1"
    assert "uuid" not in table.schema
    with pytest.raises(UsageError, match="a boolean has two"):
        read_table(zoo, kinds={"color": Kind.BOOLEAN})


@pytest.mark.parametrize("per_second", [1, 10**3, 10**6, 10**9])
def test_numbers_that_count_from_1970_are_read_in_the_unit_that_fits(csv_file, per_second):
    start, step = 1_700_000_000 * per_second, 86_400 * per_second
    path = csv_file("t,x\n" + rows(40, lambda i: f"{start + i * step},{i % 7}"))
    table = read_table(path, kinds={"t": Kind.DATETIME})
    np.testing.assert_allclose(table.days("t"), 1_700_000_000 / 86_400 + np.arange(40), rtol=1e-12)
    np.testing.assert_array_equal(read_with_schema(path, table.schema).days("t"), table.days("t"))


def test_schema_survives_json(zoo):
    import json

    schema = read_table(zoo).schema
    assert Schema.from_json(json.loads(json.dumps(schema.to_json()))) == schema


def test_take_keeps_everything_aligned(zoo):
    table = read_table(zoo, target="color")
    some = table.take(np.array([5, 1, 1, 299]))
    for name in ("measure", "rooms", "member"):
        np.testing.assert_array_equal(some.numbers(name), table.numbers(name)[[5, 1, 1, 299]])
    np.testing.assert_array_equal(some.codes("town"), table.codes("town")[[5, 1, 1, 299]])
    assert some.texts("color") == [table.texts("color")[i] for i in (5, 1, 1, 299)]


# --- prediction ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(zoo):
    return read_table(zoo, target="color").schema


def test_the_training_file_reads_the_same_at_prediction(zoo, trained):
    table, again = (
        read_table(zoo, target="color"),
        read_with_schema(zoo, trained, optional=["color"], verbatim=["color"]),
    )
    for column in again.schema.columns:
        if column.kind in (Kind.NUMERIC, Kind.BOOLEAN, Kind.DATETIME):
            np.testing.assert_array_equal(table.numbers(column.name), again.numbers(column.name), column.name)
        assert table.texts(column.name) == again.texts(column.name) or column.kind is Kind.DATETIME
    assert {"row", "customer_id", "same"}.isdisjoint(again.schema.names)


def test_order_and_extra_columns_do_not_matter(csv_file):
    schema = read_table(csv_file(PLAIN)).schema
    table = read_with_schema(csv_file("y,new,x,color\nb,9,1,red\na,9,2,blue\n"), schema)
    assert table.schema.names == ("x", "color", "y")
    assert table.texts("y") == ["b", "a"]
    assert topics(table) == {"extra_columns"}


def test_missing_columns_are_all_named_with_near_names(csv_file):
    schema = read_table(csv_file(PLAIN)).schema
    with pytest.raises(SchemaMismatch) as caught:
        read_with_schema(csv_file("X_,colour\n1,red\n"), schema)
    assert all(repr(name) in caught.value.problem for name in ("x", "color", "y"))
    assert "did you mean 'colour'" in caught.value.hint


def test_unreadable_values_become_missing_and_unseen_ones_unknown_and_both_are_counted(csv_file):
    schema = read_table(
        csv_file("x,c,d\n" + rows(30, lambda i: f"{i}.5,{'red' if i % 3 else 'tan'},2024-01-{i % 28 + 1:02d}"))
    ).schema
    table = read_with_schema(csv_file("x,c,d\nabc,red,2024-05-01\n2,pink,soon\n,tan,\n3,,2024-05-02\n"), schema)
    np.testing.assert_array_equal(table.numbers("x"), [np.nan, 2, np.nan, 3])
    assert table.codes("c").tolist() == [0, -2, 1, -1]
    np.testing.assert_array_equal(table.numbers("c"), [0, np.nan, 1, np.nan])
    assert table.texts("c") == ["red", None, "tan", None]
    assert np.isnan(table.days("d")).tolist() == [False, True, True, False]
    messages = " ".join(notice.message for notice in table.notices)
    assert all(shown in messages for shown in ("1 cell", "'abc'", "'pink'", "'soon'"))


def test_column_that_stays_text_knows_unseen_values_as_well(csv_file):
    schema = read_table(csv_file("c\n" + "red\ntan\nsky\n" * 9)).schema
    table = read_with_schema(csv_file("c\ntan\npink\n?\nred\n"), schema, verbatim=["c"])
    assert [code if code < 0 else table.schema.column("c").categories[code] for code in table.codes("c")] == [
        "tan", -2, -1, "red",
    ]  # fmt: skip


def test_prediction_never_drops_rows(csv_file):
    schema = read_table(csv_file(PLAIN)).schema
    assert read_with_schema(csv_file("x,color,y\n,,\n,,\n?,?,?\n"), schema).n_rows == 3
    assert read_with_schema(csv_file("x,color,y\n1,red,a\n"), schema).n_rows == 1


@pytest.mark.parametrize("content", [b"", b"x,color,y\n", b"x,color,y\n1,2\n", b"\x00\x01\x02"])
def test_bad_files_are_refused_at_prediction_too(csv_file, content):
    schema = read_table(csv_file(PLAIN)).schema
    with pytest.raises(BadData):
        read_with_schema(csv_file(content, "new.csv"), schema)


def test_optional_and_carried_columns(csv_file):
    schema = read_table(csv_file("id,x,y\n" + rows(30, lambda i: f"{i},{i * i},{i % 2}")), target="y").schema
    table = read_with_schema(csv_file("x,id\n4,007\n"), schema, optional=["y"], verbatim=["id"])
    assert table.schema.names == ("x", "id")
    assert table.texts("id") == ["007"]


def test_none_is_a_label_among_words_here_and_at_evaluation(csv_file):
    cells = ["None"] * 20 + ["Insomnia", "Sleep Apnea"] * 8
    table = read_table(csv_file("x,y\n" + rows(36, lambda i: f"{i * i % 7},{cells[i]}")), target="y")
    assert table.texts("y") == cells
    new = csv_file("x,y\n1,None\n2,Insomnia\n3,\n")
    again = read_with_schema(new, table.schema, optional=["y"], verbatim=["y"])
    assert again.texts("y") == ["None", "Insomnia", None]
