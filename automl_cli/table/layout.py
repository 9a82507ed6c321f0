"""How a text table is laid out - separator, header, decimal mark - judged by its first lines."""

import csv
import io
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import zip_longest

from automl_cli.table.schema import Notice
from automl_cli.table.source import Content

USUAL = (",", ";", "\t", "|")
UNUSUAL = (":", "^", "~", "#", "!", "&", "@", "*", "\x01", "\x1f", " ")
SAMPLE_BYTES = 1 << 18
MAX_ROWS = 200
COMMA_NUMBER = re.compile(r"\s*[+-]?\d+,\d+\s*")
POINT_NUMBER = re.compile(r"\s*[+-]?\d+\.\d+\s*")
THOUSANDS = re.compile(r"\s*[+-]?[1-9]\d{0,2}[.,]\d{3}\s*")
"""Of a number with one mark: whether that may stand between thousands."""
LEAST_HUNDREDS = 3
INTEGER = re.compile(r"\s*[+-]?(\d+)\s*")
NUMBER = re.compile(r"\s*[+-]?(\d+[.,]?\d*|[.,]\d+)([eE][+-]?\d+)?\s*")


@dataclass(frozen=True)
class Layout:
    """Where the cells are.

    Attributes
    ----------
    names : tuple of str
        Column names, made unique.
    offset : int
        Bytes before the first row.
    lines : int
        Lines before the first row.
    decimal : str
        ``,`` or ``.``; empty where the first lines do not tell.
    unnamed : bool
        Whether the first column has no name in the file.
    """

    names: tuple[str, ...]
    separator: str = ","
    offset: int = 0
    lines: int = 0
    decimal: str = ""
    notices: tuple[Notice, ...] = ()
    unnamed: bool = False


def sniff(content: Content) -> Layout:
    """Find separator, header and decimal mark from the first lines of a text table."""
    sample, complete = _sample(content)
    separator, unusual = _separator(sample, complete)
    rows, offset, lines = _rows(sample, separator, complete)
    names, notices = unique_names(rows[0])
    if unusual:
        shown = "a space" if separator == " " else repr(separator)
        notices.insert(0, Notice("separator", f"{content.name} is read with the unusual separator {shown}"))
    if len(rows[0]) > 1 and all(NUMBER.fullmatch(cell) for cell in rows[0]):
        message = f"the first line of {content.name} holds numbers only, yet it is taken for the header"
        notices.append(Notice("header", message))
    decimal, unnamed = _decimal(rows[1:], separator), not rows[0][0].strip()
    return Layout(names, separator, offset, lines, decimal, tuple(notices), unnamed)


def unique_names(cells: list[str]) -> tuple[tuple[str, ...], list[Notice]]:
    """Name every column once.

    >>> unique_names(["a", "a", ""])[0]
    ('a', 'a.1', 'column_3')
    """
    notices: list[Notice] = []
    taken = {cell.strip() for cell in cells}
    used: set[str] = set()
    counts: dict[str, int] = {}
    names = []
    for position, cell in enumerate(cells, 1):
        wanted = cell.strip() or f"column_{position}"
        name = wanted
        while name in used or (name != cell.strip() and name in taken):
            counts[wanted] = counts.get(wanted, 0) + 1
            name = f"{wanted}.{counts[wanted]}"
        if not cell.strip():
            notices.append(Notice("unnamed_columns", f"column {position} has no name; it is called {name!r}"))
        elif name != wanted:
            message = f"column {wanted!r} appears more than once; column {position} is called {name!r}"
            notices.append(Notice("duplicate_columns", message))
        used.add(name)
        names.append(name)
    return tuple(names), _shortened(notices)


def _shortened(notices: list[Notice]) -> list[Notice]:
    short: list[Notice] = []
    for topic in dict.fromkeys(notice.topic for notice in notices):
        group = [notice for notice in notices if notice.topic == topic]
        short += group[:3]
        if len(group) > 3:
            short.append(Notice(topic, f"{len(group) - 3} more columns were named in the same way"))
    return short


def _sample(content: Content) -> tuple[str, bool]:
    """Return the first lines, one character per byte, and whether that is all there is."""
    with content.open() as stream:
        data = stream.read(SAMPLE_BYTES)
        # A header of a hundred thousand names is longer; it is read to its end and some lines beyond.
        while len(data) % SAMPLE_BYTES == 0 and data.count(b"\n") + data.count(b"\r") < 4 and len(data) < (256 << 20):
            more = stream.read(max(SAMPLE_BYTES, len(data)))
            if not more:
                return data.decode("latin-1"), True
            data += more
        return data.decode("latin-1"), not stream.read(1)


def _rows(sample: str, separator: str, complete: bool) -> tuple[list[list[str]], int, int]:
    """Return header and first rows, and the bytes and lines that the header takes."""
    taken = lines = 0
    rows: list[list[str]] = []
    consumed: list[int] = []
    reader = csv.reader(_counted(io.StringIO(sample, newline=""), consumed), delimiter=separator)
    try:
        for row in reader:
            if not rows and not any(cell.strip() for cell in row) and len(row) < 2:
                continue  # blank lines above the header
            if not rows:
                taken, lines = sum(consumed), len(consumed)
            rows.append([cell.encode("latin-1").decode("utf-8", errors="replace") for cell in row])
            if len(rows) > MAX_ROWS:
                break
    except csv.Error:  # a cell longer than the standard library takes: judge by the rows before it
        pass
    if not complete and len(rows) > 2 and len(rows) <= MAX_ROWS:
        rows.pop()  # cut by the end of the sample
    return rows or [[""]], taken, lines


def _counted(lines: io.StringIO, consumed: list[int]) -> Iterator[str]:
    for line in lines:
        consumed.append(len(line))
        yield line


def _separator(sample: str, complete: bool) -> tuple[str, bool]:
    """Return the separator that cuts the first lines into the most cells of equal number, and if it is unusual."""
    best, best_score = ",", 0.0
    for separator in USUAL:
        if separator in sample:
            share, width = _evenness(_rows(sample, separator, complete)[0])
            if width > 1 and share > 0.5 and share * width > best_score:
                best, best_score = separator, share * width
    if best_score > 0:
        return best, False
    for separator in UNUSUAL:
        if separator not in sample:
            continue
        rows = _rows(sample, separator, complete)[0]
        share, width = _evenness(rows)
        cells = [cell for row in rows[1:] for cell in row]
        # Blanks occur in names; only among numbers do they separate.
        wordy = separator in " :" and sum(bool(NUMBER.fullmatch(c)) for c in cells) < len(cells) / 2
        if width > 1 and share == 1 and len(rows) > 2 and not wordy:
            return separator, True
    return ",", False


def _evenness(rows: list[list[str]]) -> tuple[float, int]:
    width = len(rows[0])
    filled = [row for row in rows[1:] if row]
    return (sum(len(row) == width for row in filled) / len(filled) if filled else 1.0), width


def _decimal(rows: list[list[str]], separator: str) -> str:
    if separator == ",":
        return "."
    cells = [cell for row in rows for cell in row]
    commas = [cell for cell in cells if COMMA_NUMBER.fullmatch(cell)]
    points = [cell for cell in cells if POINT_NUMBER.fullmatch(cell)]
    pointed = [cell for cell in cells if "." in cell and NUMBER.fullmatch(cell)]
    if pointed and all(map(THOUSANDS.fullmatch, pointed)):
        proved = not commas and any(map(_counts_in_thousands, zip_longest(*rows, fillvalue="")))
        if proved or not all(map(THOUSANDS.fullmatch, commas)):
            return ","  # where a column has no such proof of its own, 1.234 is read as a decimal nevertheless
    if len(commas) == len(points):
        return ""
    return "," if len(commas) > len(points) else "."


def _counts_in_thousands(column: Iterable[str]) -> bool:
    """Whether 950 stands beside 1.234 in a column, several times, and nothing such as 1250 does.

    Decimals would be shorter here and there.
    """
    cells = list(column)
    sizes = [len(found[1]) for found in map(INTEGER.fullmatch, cells) if found and not found[1].startswith("0")]
    marked = any(map(POINT_NUMBER.fullmatch, cells))
    return marked and sizes.count(3) >= LEAST_HUNDREDS and max(sizes) == 3
