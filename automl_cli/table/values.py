"""From texts to points in time, and from both to numbers, each distinct text once; the unreadable becomes missing."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from automl_cli.table.notation import numbers_of

Array = NDArray[Any]

CLOCK = "%H:%M:%S"
CLOCKS = ("%H:%M", CLOCK, "%I:%M %p", "%I:%M:%S %p")
"""Times of day; no text has two of these formats."""
ISO_FORMATS = ("%Y-%m-%d", "%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M", "%Y-%m-%d %H")
DAY_FORMATS = (
    "%d.%m.%Y",
    "%m/%d/%Y",
    "%d/%m/%Y",
    "%Y/%m/%d",
    "%d-%m-%Y",
    "%m-%d-%Y",
    "%Y.%m.%d",
    "%d-%b-%Y",
    "%d %b %Y",
    "%d %B %Y",
    "%b %d, %Y",
    "%b %d %Y",
    "%B %d, %Y",
    "%d.%m.%y",
    "%m/%d/%y",
    "%d/%m/%y",
    "%d-%b-%y",
)
TIME_SUFFIXES = ("", " %H:%M:%S", " %H:%M", " %I:%M %p", " %I:%M:%S %p")
DATETIME_FORMATS = (
    "",
    *(day + time for time in TIME_SUFFIXES for day in DAY_FORMATS),
    "%a %b %d %H:%M:%S %Y",
    "%a, %d %b %Y %H:%M:%S",
    "%Y-%m",
    "%Y/%m",
    "%Y, %B",
    "%B %Y",
    "%b %Y",
    "%b-%Y",
    "%b-%y",
    *CLOCKS,
)
LONG_FORMATS = frozenset({"%Y/%m"})
"""Formats that would take 10/05, or 3/4, for a month of the years 10 and 3."""
SHORT_FORMATS = tuple(
    form.replace("%Y", "%y") for form in (*ISO_FORMATS, *DATETIME_FORMATS) if form not in ("", *LONG_FORMATS)
)
"""The same formats with a year of two digits."""
ISO_PATTERN = (
    r"^(?P<day>\d{1,4}-\d{1,2}-\d{1,2})"
    r"(?:[T ](?P<clock>\d{1,2}(?::\d{1,2}(?::\d{1,2})?)?)(?:[.,](?P<fraction>\d{1,9}))?)?"
    r"\s*(?P<zone>Z|[+-]\d\d(?::?\d\d)?)?$"
)
UTC_PATTERN = r"\s*(?:UTC|GMT)$"
SECONDS_PER_DAY = 86400
UNITS_PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
LAST_SECOND = 1e11
"""Seconds after 1970: the year 5138. Larger numbers count a smaller unit."""


def each_distinct(column: pa.ChunkedArray, read: Callable[[pa.Array], pa.Array]) -> pa.ChunkedArray:
    """Apply ``read`` to every distinct value of a column once."""
    encoded = column.dictionary_encode().combine_chunks()
    chunks = encoded.chunks if isinstance(encoded, pa.ChunkedArray) else [encoded]
    if not chunks:
        return pa.chunked_array([read(pa.array([], column.type))])
    return pa.chunked_array([read(chunk.dictionary).take(chunk.indices) for chunk in chunks])


def times_of(texts: pa.Array, form: str) -> pa.Array:
    """Read texts as timestamps in microseconds, UTC; null where a text does not have the format.

    Parameters
    ----------
    form : str
        A ``strptime`` format, ``epoch_s``, ``epoch_ms``, ``epoch_us``, ``epoch_ns``, or empty for ISO 8601.
    """
    micro = pa.timestamp("us")
    if form.startswith("epoch"):
        return epoch_times(numbers_of(texts), form)
    trimmed = pc.replace_substring_regex(pc.utf8_trim_whitespace(texts), UTC_PATTERN, "")
    if form == "":
        return _iso_times(trimmed)
    times = pc.strptime(trimmed, format=form, unit="s", error_is_null=True)
    if form.startswith(("%H", "%I")):
        # strptime dates a bare time of day 1900; only the time counts
        seconds = pc.cast(times, pa.int64())
        seconds = pc.subtract(
            seconds, pc.multiply(pc.floor(pc.divide(pc.cast(seconds, pa.float64()), 86400.0)), 86400.0)
        )
        times = pc.cast(pc.cast(seconds, pa.int64()), pa.timestamp("s"))
    return times.cast(micro)


def _iso_times(trimmed: pa.Array) -> pa.Array:
    micro = pa.timestamp("us")
    try:
        return trimmed.cast(micro)
    except pa.ArrowInvalid:
        pass
    try:
        return trimmed.cast(pa.timestamp("us", "UTC")).cast(micro)
    except pa.ArrowInvalid:
        pass
    return _one_by_one(trimmed)


def _one_by_one(trimmed: pa.Array) -> pa.Array:
    """Read ISO 8601 where one text may have a zone and another none, or be something else."""
    parts = pc.extract_regex(trimmed, ISO_PATTERN)
    day, clock, fraction, zone = (pc.struct_field(parts, name) for name in ("day", "clock", "fraction", "zone"))
    plain = pc.if_else(pc.equal(clock, ""), day, pc.binary_join_element_wise(day, clock, " "))
    times = pc.coalesce(*(pc.strptime(plain, format=f, unit="s", error_is_null=True) for f in ISO_FORMATS))
    micros = pc.utf8_slice_codeunits(pc.utf8_rpad(fraction, 6, "0"), 0, 6).cast(pa.int64())
    # +05:30 becomes 0530: hours, then minutes
    digits = pc.utf8_rpad(pc.replace_substring_regex(zone, r"\D", ""), 4, "0")
    hours, minutes = (pc.utf8_slice_codeunits(digits, start, start + 2).cast(pa.int64()) for start in (0, 2))
    minutes = pc.add(pc.multiply(hours, 60), minutes)
    ahead = pc.if_else(pc.starts_with(zone, "-"), pc.negate(minutes), minutes)
    in_micros = pc.add(pc.multiply(times.cast(pa.int64()), 1_000_000), micros)
    return pc.subtract(in_micros, pc.multiply(ahead, 60_000_000)).cast(pa.timestamp("us"))


def epoch_times(numbers: pa.Array, form: str) -> pa.Array:
    """Read numbers as what has passed since 1970, in the unit of the format: ``epoch_s`` is seconds."""
    per_second = UNITS_PER_SECOND[form.removeprefix("epoch_")]
    values = numbers.cast(pa.float64(), safe=False)
    sane = pc.if_else(pc.less(pc.abs(values), LAST_SECOND * per_second), values, None)
    return pc.cast(pc.round(pc.multiply(sane, 1e6 / per_second)), pa.int64()).cast(pa.timestamp("us"))


def epoch_unit(largest: float) -> str:
    """Return the format by which a number, and all that are nearer to 0, lies between the years -1199 and 5138.

    >>> epoch_unit(1_700_000_000), epoch_unit(1_700_000_000_000)
    ('epoch_s', 'epoch_ms')
    """
    return next((f"epoch_{unit}" for unit, n in UNITS_PER_SECOND.items() if largest <= LAST_SECOND * n), "epoch_ns")


def days_of(times: pa.ChunkedArray) -> Array:
    """Return days since 1970-01-01 as float64, NaN where missing.

    >>> days_of(pa.chunked_array([pa.array(["1970-01-02T12:00:00"]).cast(pa.timestamp("s"))])).tolist()
    [1.5]
    """
    if pa.types.is_date(times.type):
        times = times.cast(pa.date32()).cast(pa.timestamp("s"))
    if pa.types.is_time(times.type):
        unit = times.type.unit
        times = times.cast(pa.int32() if unit in ("s", "ms") else pa.int64()).cast(pa.int64()).cast(pa.timestamp(unit))
    per_day = UNITS_PER_SECOND[times.type.unit] * SECONDS_PER_DAY
    plain = times.cast(pa.timestamp(times.type.unit)) if times.type.tz else times
    return floats_of(plain.cast(pa.int64())) / per_day


def floats_of(column: pa.ChunkedArray) -> Array:
    """Return a numeric column as float64 of shape (n_rows,), NaN where missing or infinite."""
    if column.null_count:
        # Arrow turns integers with nulls into doubles with NaN itself, but only chunk by chunk of one type.
        column = column.cast(pa.float64(), safe=False)
    values = np.asarray(column.to_numpy(), dtype=np.float64)
    if np.isinf(values).any():
        values = np.where(np.isinf(values), np.nan, values)
    return values
