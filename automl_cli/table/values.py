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
SHORT_CLOCK = "%H:%M"
ISO_FORMATS = ("%Y-%m-%d", "%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M")
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
    "%Y-%m",
    "%Y, %B",
    "%B %Y",
    "%b %Y",
    "%b-%Y",
    "%b-%y",
    SHORT_CLOCK,
)
SECONDS_PER_DAY = 86400
UNITS_PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}


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
        A ``strptime`` format, ``epoch_s``, ``epoch_ms``, or empty for ISO 8601.
    """
    micro = pa.timestamp("us")
    if form.startswith("epoch"):
        return epoch_times(numbers_of(texts), form)
    trimmed = pc.utf8_trim_whitespace(texts)
    if form == "":
        return _iso_times(trimmed)
    times = pc.strptime(trimmed, format=form, unit="s", error_is_null=True)
    if form.startswith("%H"):
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
    plain = pc.replace_substring_regex(trimmed, r"^(\d{4}-\d\d-\d\d)T", r"\1 ")
    plain = pc.replace_substring_regex(plain, r"(:\d\d)(\.\d+)?(Z|[+]00:?00)?$", r"\1")
    return pc.coalesce(*(pc.strptime(plain, format=f, unit="s", error_is_null=True) for f in ISO_FORMATS)).cast(micro)


def epoch_times(numbers: pa.Array, form: str) -> pa.Array:
    """Read numbers as seconds (``epoch_s``) or milliseconds (``epoch_ms``) since 1970."""
    per_unit = 1_000 if form == "epoch_ms" else 1_000_000
    values = numbers.cast(pa.float64())
    sane = pc.less(pc.abs(values), 1e17 / per_unit)
    return pc.cast(pc.round(pc.multiply(pc.if_else(sane, values, None), float(per_unit))), pa.int64()).cast(
        pa.timestamp("us")
    )


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
