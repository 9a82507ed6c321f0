"""Dates as numbers: the calendar's parts, and the time since the first training row."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from automl_cli.features.matrix import Array, Source
from automl_cli.features.store import Stored

# the years 1 to 9999, about: beyond, a calendar says nothing
FARTHEST_DAY = 3_600_000.0
SECONDS_PER_DAY = 86_400
# 1970-01-01 was a Thursday; Monday is 0
EPOCH_WEEKDAY = 3


@dataclass(frozen=True, eq=False)
class DateParts:
    """Turns each date column into year, month, day, weekday, days since the start, and the hour where it varies.

    Attributes
    ----------
    start : ndarray of shape (n_columns,), float64
        Earliest training day: subtracting it keeps minutes apart in float32.
    timed : ndarray of shape (n_columns,), bool
        Whether the time of day varies in training.
    """

    start: Array
    timed: Array

    @property
    def width(self) -> int:
        """Number of features."""
        return 5 * len(self.start) + int(self.timed.sum())

    @classmethod
    def fit(cls, days: Array) -> "DateParts":
        """Learn starts from training days of shape (n_rows, n_columns)."""
        if not len(days):
            return cls(np.zeros(days.shape[1]), np.zeros(days.shape[1], dtype=bool))
        seconds = _seconds(days)
        start = np.fmin.reduce(seconds, axis=0) / SECONDS_PER_DAY
        hour = np.mod(seconds, SECONDS_PER_DAY)
        varies = np.fmin.reduce(hour, axis=0) < np.fmax.reduce(hour, axis=0)
        return cls(np.nan_to_num(start), varies)

    def transform(self, days: Array) -> Array:
        """Return float32 of shape (n_rows, width); a missing date has NaN in all parts."""
        if not self.width:
            return np.empty((len(days), 0), dtype=np.float32)
        seconds = _seconds(days)
        missing = np.isnan(seconds)
        whole = np.where(missing, 0, seconds).astype(np.int64)
        day = whole // SECONDS_PER_DAY
        date = day.astype("datetime64[D]")
        month = date.astype("datetime64[M]")
        parts = (
            date.astype("datetime64[Y]").astype(np.int64) + 1970,
            month.astype(np.int64) % 12 + 1,
            (date - month.astype("datetime64[D]")).astype(np.int64) + 1,
            (day + EPOCH_WEEKDAY) % 7,
            whole / SECONDS_PER_DAY - self.start,
        )
        blocks = [np.where(missing, np.nan, part) for part in parts]
        blocks.append(np.where(missing, np.nan, whole % SECONDS_PER_DAY / 3600)[:, self.timed])
        return np.hstack(blocks).astype(np.float32)

    def sources(self, names: Sequence[str]) -> tuple[Source, ...]:
        """Return the source of each feature, for date columns of these names."""
        timed = [name for name, varies in zip(names, self.timed, strict=True) if varies]
        return tuple((name,) for name in [*(name for _ in range(5) for name in names), *timed])

    def arrays(self) -> Mapping[str, Array]:
        """Return what `read` needs."""
        return {"dates.start": self.start, "dates.timed": self.timed}

    @classmethod
    def read(cls, stored: Stored) -> "DateParts":
        """Read and check what `arrays` gave; raises `BadArtifact`."""
        n_columns = len(stored.schema.datetime)
        start = stored.array("dates.start", np.float64, (n_columns,), low=-FARTHEST_DAY, high=FARTHEST_DAY)
        return cls(start, stored.array("dates.timed", np.bool_, (n_columns,)))


def _seconds(days: Array) -> Array:
    """Whole seconds, so that 13:00 stored as a fraction of a day does not become 12.99999 hours."""
    return np.round(np.clip(days, -FARTHEST_DAY, FARTHEST_DAY) * SECONDS_PER_DAY)
