"""What a column holds: a table of predicates in the order in which they are tried, each with a human reason."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from automl_cli.table.facts import ENOUGH_ROWS, Facts
from automl_cli.table.notation import PLAIN, Notation
from automl_cli.table.schema import Kind
from automl_cli.table.values import CLOCK, epoch_unit, times_of

MANY = 50
"""More distinct values than this make a category a high-cardinality one."""
NEARLY_ALL = 0.9
"""A text of which this share of the cells is distinct is no category: too few rows share a value."""
ID_NAME = re.compile(r"(?:^|[_\W])(?:id|uuid|guid|key|idx|index|rowid|rownum|row_number|nr|no)$|^id[_\W]", re.I)
MEASURED_INDEX = re.compile(r"(?<!row)(?<!line)(?<!record)[_\W]index$", re.I)
"""A price_index measures something; whether it does is told by its values."""
ROW_INDEX = re.compile(r"^(?:Unnamed: 0(?:\.\d+)*(?:_level_\d+)?|__index_level_\d+__)$")
"""What pandas calls an index without a name when it reads it again, or writes it into Parquet."""
CAMEL_ID = re.compile(r"[a-z](?:Id|ID)$")
TIME_NAME = re.compile(r"year|month|week|day|hour|minute|date|time|period|step|age", re.I)


@dataclass(frozen=True)
class Verdict:
    """A kind, why, and how to read the cells."""

    kind: Kind
    reason: str
    notation: Notation = PLAIN
    datetime_format: str = ""


def no_value(facts: Facts) -> Verdict | None:
    """No cell has a value."""
    return Verdict(Kind.CONSTANT, "no cell has a value") if facts.n_filled == 0 else None


def one_value(facts: Facts) -> Verdict | None:
    """Every cell holds the same; a single value beside missing cells still tells something."""
    if facts.n_missing:
        return None
    first = facts.column[0]
    if facts.column[facts.n_rows - 1] != first or facts.column[facts.n_rows // 2] != first:
        return None
    if facts.is_number:
        low, high = facts.bounds
        same = low == high
    else:
        same = facts.n_distinct == 1
    return Verdict(Kind.CONSTANT, f"every cell is {_short(_value(first))}") if same else None


def _value(cell: pa.Scalar) -> Any:
    """Return a cell's value; a date beyond the years that Python knows as text."""
    try:
        return cell.as_py()
    except (OverflowError, ValueError):
        return cell.cast(pa.string()).as_py()


def numbered_rows(facts: Facts) -> Verdict | None:
    """Integers that count the rows, up or down."""
    if not facts.is_integer or facts.n_missing or facts.n_rows < ENOUGH_ROWS // 2 or TIME_NAME.search(facts.name):
        return None
    low, high = facts.bounds
    if high - low != facts.n_rows - 1:
        return None
    steps = np.diff(facts.column.to_numpy())
    if abs(steps[0]) == 1 and (steps == steps[0]).all():
        return Verdict(Kind.ID, f"numbers the rows from {low} to {high}")
    return None


def row_index(facts: Facts) -> Verdict | None:
    """Integers from 0 on, nearly all distinct, where pandas and R write the number that a row had in another table."""
    if not facts.is_integer or facts.n_filled < ENOUGH_ROWS // 2:
        return None
    if not (facts.unnamed or ROW_INDEX.search(facts.name)) or facts.bounds[0] < 0 or compact_dates(facts):
        return None
    if facts.unique_share >= 0.95:
        return Verdict(Kind.ID, "a row index that was written without a name, and (nearly) every row has its own value")
    return None


def named_id(facts: Facts) -> Verdict | None:
    """Integers or single words, nearly all distinct, whose column is called an id."""
    if facts.n_filled < ENOUGH_ROWS // 2 or not is_id_name(facts.name):
        return None
    if not facts.is_integer and not (facts.is_text and facts.words < 1.5):
        return None
    if facts.is_text and facts.sample_variety < 0.9:
        return None
    if facts.is_integer and MEASURED_INDEX.search(facts.name) and not _counts(facts):
        return None
    if facts.unique_share >= 0.95:
        return Verdict(Kind.ID, "its name says id, and (nearly) every row has its own value")
    return None


def _counts(facts: Facts) -> bool:
    """Whether integers fill half of the steps of their range or more, as running numbers do."""
    low, high = facts.bounds
    if high - low >= 1 << 62:
        return True
    step = int(np.gcd.reduce(facts.column.drop_null().to_numpy().astype(np.int64) - low))
    return bool(facts.n_distinct >= 0.5 * ((high - low) / max(1, step) + 1))


def compact_dates(facts: Facts) -> Verdict | None:
    """Integers such as 20240131."""
    if not facts.is_integer:
        return None
    low, high = facts.bounds
    if not 19000101 <= low < high <= 21001231 or facts.n_distinct < 2:
        return None
    cells = facts.sample.cast(pa.string())
    if times_of(cells, "%Y%m%d").null_count:
        return None
    return Verdict(Kind.DATETIME, "integers that are dates as in 20240131", datetime_format="%Y%m%d")


def numbers(facts: Facts) -> Verdict | None:
    """Integers or doubles."""
    if not facts.is_number:
        return None
    low, high = facts.bounds
    what = "integers" if facts.is_integer else "numbers"
    return Verdict(Kind.NUMERIC, f"{what} from {_short(low)} to {_short(high)}", Notation(facts.decimal or "."))


def typed_times(facts: Facts) -> Verdict | None:
    """Dates, points in time or times of day, as arrow read them."""
    kind = facts.column.type
    if pa.types.is_time(kind):
        return Verdict(Kind.DATETIME, "times of day", datetime_format=CLOCK)
    if pa.types.is_date(kind) or pa.types.is_timestamp(kind):
        return Verdict(Kind.DATETIME, "dates (ISO 8601)" if pa.types.is_date(kind) else "points in time (ISO 8601)")
    return None


def written_numbers(facts: Facts) -> Verdict | None:
    """Texts that are numbers, a few strays aside."""
    if not facts.is_text or facts.notation is None or (facts.notation.suffix.isalpha() and _is_code(facts)):
        return None
    return Verdict(Kind.NUMERIC, f"numbers{facts.notation.words}", facts.notation)


def _is_code(facts: Facts) -> bool:
    """Whether texts are all distinct and of one length, such as 10023X."""
    lengths = pc.min_max(pc.utf8_length(facts.sample))
    return bool(lengths["min"] == lengths["max"]) and unique_words(facts) is not None


def two_values(facts: Facts) -> Verdict | None:
    """Texts of two values."""
    if not facts.is_text or len(facts.sample) > 2 or facts.n_distinct != 2:
        return None
    first, second = sorted(facts.encoded.chunk(0).dictionary.to_pylist())
    return Verdict(Kind.BOOLEAN, f"two values: {_short(first)} and {_short(second)}")


def written_times(facts: Facts) -> Verdict | None:
    """Texts that are points in time in a common format."""
    if not facts.is_text or facts.datetime_format is None:
        return None
    form = facts.datetime_format
    return Verdict(Kind.DATETIME, f"points in time written as {form or 'in ISO 8601'}", datetime_format=form)


def unique_words(facts: Facts) -> Verdict | None:
    """Texts without blanks that never repeat."""
    if not facts.is_text or facts.n_filled < ENOUGH_ROWS or facts.sample_variety < 1 or facts.words >= 1.2:
        return None
    if facts.unique_share < 1:
        return None
    return Verdict(Kind.ID, "every row has its own value, a single word")


def free_text(facts: Facts) -> Verdict | None:
    """Texts of several words that rarely repeat."""
    if not facts.is_text or len(facts.sample) <= ENOUGH_ROWS or facts.sample_variety < 0.25:
        return None
    # A few words that often repeat are job titles or places; sentences may repeat more often.
    most = 0.25 if facts.words >= 6 or facts.letters >= 60 else 0.5 if facts.words >= 3 else 1.0
    # In a long table what a sample hardly repeats may be in many rows.
    if most == 1 or facts.sample_variety < most or facts.unique_share < most:
        return _names(facts)
    return Verdict(Kind.TEXT, f"free text: {facts.words:.0f} words a cell, rarely the same")


def _names(facts: Facts) -> Verdict | None:
    """One or two words a cell that hardly ever repeat, such as names of persons: only their words can tell anything."""
    if facts.words < 1.5 or facts.sample_variety < NEARLY_ALL or facts.unique_share < NEARLY_ALL:
        return None
    return Verdict(Kind.TEXT, f"names or short texts: {facts.words:.1f} words a cell, hardly ever the same")


def lists(facts: Facts) -> Verdict | None:
    """Texts that list several of a few values: the values tell more than whole lists, each of which is rare."""
    if not facts.is_text or len(facts.sample) <= MANY or not facts.listed:
        return None
    return Verdict(Kind.TEXT, f"lists of values with {facts.listed!r} between them, read as words")


def few_values(facts: Facts) -> Verdict | None:
    """Texts of at most 50 values."""
    if not facts.is_text or len(facts.sample) > MANY or facts.n_distinct > MANY:
        return None
    return Verdict(Kind.CATEGORY, "one value" if facts.n_distinct == 1 else f"{facts.n_distinct} distinct values")


def anything(facts: Facts) -> Verdict:
    """Whatever is left."""
    return Verdict(Kind.HIGH_CARDINALITY, f"{facts.n_distinct} distinct values, more than {MANY}")


ROUTES: tuple[Callable[[Facts], Verdict | None], ...] = (
    no_value,
    one_value,
    numbered_rows,
    row_index,
    named_id,
    compact_dates,
    numbers,
    typed_times,
    written_numbers,
    two_values,
    written_times,
    unique_words,
    free_text,
    lists,
    few_values,
    anything,
)


def verdict_of(facts: Facts) -> Verdict:
    """Decide what a column holds: the first route that matches."""
    return next(verdict for route in ROUTES if (verdict := route(facts)) is not None)


def chosen(facts: Facts, kind: Kind) -> Verdict:
    """Follow the user's choice of a kind; only how the cells are read is found out."""
    reason = "chosen by you"
    if kind is Kind.NUMERIC:
        plain = Notation(facts.decimal or ".")
        return Verdict(kind, reason, (facts.notation or facts.likely_notation) if facts.is_text else plain)
    if kind is Kind.DATETIME:
        if facts.is_number and facts.n_filled:
            compact = compact_dates(facts)
            epoch = epoch_unit(max(abs(v) for v in facts.bounds))
            return Verdict(kind, reason, datetime_format=compact.datetime_format if compact else epoch)
        if facts.is_text:
            return Verdict(kind, reason, datetime_format=facts.datetime_format or "")
        typed = typed_times(facts)
        return Verdict(kind, reason, datetime_format=typed.datetime_format if typed else "")
    return Verdict(kind, reason)


def is_id_name(name: str, *, measured: bool = True) -> bool:
    """Whether a column's name says that it holds an identifier; one that ends in ``_index`` may be ``measured``.

    >>> [is_id_name(name) for name in ("customer_id", "PassengerId", "ID", "humid", "paid")]
    [True, True, True, False, False]
    """
    return bool(ID_NAME.search(name) or CAMEL_ID.search(name)) and (measured or not MEASURED_INDEX.search(name))


def _short(value: object) -> str:
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return text if len(text) <= 30 else text[:29] + "…"
