"""What may be asked about a column before its kind is known; a long one is judged on a part of its cells."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from automl_cli.table.notation import Notation, limits_of, notations, numbers_of
from automl_cli.table.values import DATETIME_FORMATS, LONG_FORMATS, SHORT_FORMATS, times_of

ENOUGH_ROWS = 20
"""With fewer rows all-distinct values say nothing."""
MOST_WORDS = 3
"""That many different words among many different numbers may mean missing."""
LACKING = r"^\s*[^\d\s]\D*[^\d\s]\s*$|^\s*\W\s*$"
MOST_MISSING = 0.9
"""The share of the cells that such words may fill."""
LIST_MARKS = ("|", ";", ",")
MOSTLY_LISTS = 0.3
"""The share of the distinct values of a column of lists that list more than one."""
LISTED_AGAIN = 5
"""In so many of the distinct lists is each of their parts, in the mean."""
SAMPLE_ROWS = 2000
UNIQUE_ROWS = 100_000


@dataclass(frozen=True)
class Facts:
    """What the routes may ask about a column; each answer is worked out once, when first asked.

    Attributes
    ----------
    column : pyarrow.ChunkedArray
        As read: integers, doubles, strings, dates or times.
    decimal : str
        The decimal mark of the file, empty where unknown.
    unnamed : bool
        Whether this is the first column and has no name in the file.
    """

    name: str
    column: pa.ChunkedArray
    decimal: str = "."
    unnamed: bool = False

    @property
    def n_rows(self) -> int:
        """Rows, missing ones included."""
        return len(self.column)

    @property
    def n_missing(self) -> int:
        """Missing cells."""
        return int(self.column.null_count)

    @property
    def n_filled(self) -> int:
        """Cells with a value."""
        return self.n_rows - self.n_missing

    @cached_property
    def is_text(self) -> bool:
        """Whether the cells are texts."""
        return bool(pa.types.is_string(self.column.type))

    @cached_property
    def is_integer(self) -> bool:
        """Whether the cells are integers."""
        return bool(pa.types.is_integer(self.column.type))

    @cached_property
    def is_number(self) -> bool:
        """Whether the cells are integers or doubles."""
        return self.is_integer or bool(pa.types.is_floating(self.column.type))

    @cached_property
    def bounds(self) -> tuple[Any, Any]:
        """Smallest and largest value of a column of numbers."""
        both = pc.min_max(self.column)
        return both["min"].as_py(), both["max"].as_py()

    @property
    def is_finite(self) -> bool:
        """Whether a column of numbers holds no infinities."""
        return bool(np.isfinite(np.asarray([bound or 0 for bound in self.bounds], dtype=np.float64)).all())

    @cached_property
    def n_distinct(self) -> int:
        """Distinct values, missing ones left out."""
        if self.is_text:
            return len(self.encoded.chunk(0).dictionary) if self.encoded.num_chunks else 0
        return int(pc.count_distinct(self.column, mode="only_valid").as_py())

    @cached_property
    def encoded(self) -> pa.ChunkedArray:
        """A column of texts, dictionary-encoded; all chunks share one dictionary."""
        return self.column.dictionary_encode()

    @cached_property
    def unique_share(self) -> float:
        """Distinct values per filled cell, 0 to 1, judged on at most 100,000 rows."""
        if self.n_rows <= UNIQUE_ROWS:
            return self.n_distinct / max(1, self.n_filled)
        cells = stretches(self.column, UNIQUE_ROWS).drop_null()
        return int(pc.count_distinct(cells).as_py()) / max(1, len(cells))

    @cached_property
    def sample(self) -> pa.Array:
        """Distinct values among at most 2000 rows that are spread evenly; for texts."""
        return pc.unique(self.sampled_cells)

    @cached_property
    def sampled_cells(self) -> pa.Array:
        """At most 2000 cells with a value, in 20 stretches that are spread evenly over the rows."""
        cells = stretches(self.column, SAMPLE_ROWS).drop_null()
        if len(cells) < min(SAMPLE_ROWS, self.n_filled) / 10:  # mostly missing: look where the values are
            cells = stretches(self.column.drop_null(), SAMPLE_ROWS)
        return pa.concat_arrays(cells.chunks) if cells.num_chunks else pa.array([], cells.type)

    @cached_property
    def words(self) -> float:
        """Mean number of words per distinct value."""
        return float(pc.mean(pc.add(pc.count_substring_regex(self.sample, r"\S\s+\S"), 1)).as_py() or 0.0)

    @cached_property
    def letters(self) -> float:
        """Mean length of the distinct values."""
        return float(pc.mean(pc.utf8_length(self.sample)).as_py() or 0.0)

    @cached_property
    def listed(self) -> str:
        """What parts the values of a cell that lists several, as in ``Action|Comedy``; empty where cells list none.

        The lists differ, what is on them is the same again and again: of "Doe, Jane" or "Springfield, IL" it is not.
        """
        for mark in LIST_MARKS:
            lists = pc.mean(pc.cast(pc.match_substring(self.sample, mark), pa.float64())).as_py() or 0.0
            if lists < MOSTLY_LISTS:
                continue
            parts = pc.utf8_trim_whitespace(pc.split_pattern(self.sample, mark).flatten())
            different = pc.unique(parts)
            if len(parts) >= LISTED_AGAIN * len(different) and len(different) <= len(self.sample) / 2:
                return mark
        return ""

    @cached_property
    def sample_variety(self) -> float:
        """Distinct values per sampled cell, 0 to 1."""
        return len(self.sample) / max(1, len(self.sampled_cells))

    @cached_property
    def notation(self) -> Notation | None:
        """How numbers are written, where nearly all texts are numbers; None where they are not."""
        return next((found for found in notations(self.sample, self.decimal) if self._are_numbers(found)), None)

    @property
    def likely_notation(self) -> Notation:
        """The notation that reads most of the texts, though not nearly all."""
        found = tuple(notations(self.sample, self.decimal, share=0.5))
        return min(found, key=lambda notation: numbers_of(self.sample, notation).null_count)

    def _are_numbers(self, notation: Notation) -> bool:
        cells = self.sample
        if not len(cells):
            return False
        numbers = numbers_of(cells, notation)
        limits = limits_of(cells, notation)  # <0.01 among numbers is nearly one
        if ENOUGH_ROWS <= len(cells) - numbers.null_count >= len(cells) - limits.null_count:
            numbers = pc.coalesce(numbers, limits)
        n_others = int(numbers.null_count)
        if not n_others:
            return True
        # A few strays among many different numbers; "1", "2", "unknown" stay categories.
        if len(cells) - n_others < ENOUGH_ROWS:
            return False
        strays = cells.filter(pc.is_null(numbers))
        # Words such as "unknown" or "call us" mean missing however often they occur; a letter is a code.
        words = n_others <= MOST_WORDS and pc.all(pc.match_substring_regex(strays, LACKING)).as_py()
        if not words and n_others > 0.05 * len(cells):
            return False
        n_strays = pc.sum(pc.is_in(self.sampled_cells, value_set=strays)).as_py()
        return bool(n_strays <= (MOST_MISSING if words else 0.1) * len(self.sampled_cells))

    @cached_property
    def datetime_forms(self) -> tuple[str, ...]:
        """The formats to try: a year of four digits would read 99 as well, as the year 99."""
        long = pc.mean(pc.cast(pc.match_substring_regex(self.sample, r"\d{4}"), pa.float64())).as_py() or 0.0
        if long >= 0.5:
            return DATETIME_FORMATS
        return tuple(form for form in dict.fromkeys((*SHORT_FORMATS, *DATETIME_FORMATS)) if form not in LONG_FORMATS)

    @cached_property
    def datetime_format(self) -> str | None:
        """The format in which nearly all texts are points in time; None where there is none."""
        # Every point in time has at least four digits or a month's name and digits.
        looks = pc.mean(pc.cast(pc.match_substring_regex(self.sample, r"\d.*\d[\d :.\-/,APMapm]*|^\d"), pa.float64()))
        if not len(self.sample) or looks.as_py() < 0.95:
            return None
        probe = self.sample.slice(0, 20)
        for form in self.datetime_forms:
            if times_of(probe, form).null_count <= len(probe) // 20:
                strays = times_of(self.sample, form).null_count
                if strays <= 0.02 * len(self.sample):
                    return form
        return None


def stretches(column: pa.ChunkedArray, n_rows: int) -> pa.ChunkedArray:
    """Return about ``n_rows`` cells of a long column, in 20 stretches that are spread evenly."""
    if len(column) <= n_rows:
        return column
    length = n_rows // 20
    # Slices, not take: arrow joins all chunks of a column of texts before it takes.
    starts = np.linspace(0, len(column) - length, 20).astype(np.int64).tolist()
    chunks = [chunk for start in starts for chunk in column.slice(start, length).chunks]
    return pa.chunked_array(chunks, column.type)
