"""How numbers are written - ``1.250,50 €``, ``12.5%``, ``10 kg`` - found from texts, and read by."""

import itertools
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, replace

import pyarrow as pa
import pyarrow.compute as pc

NUMBER_PATTERN = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"
INFINITE_PATTERN = r"(?i)^[+-]?inf(inity)?$"
BLANKS = " \u00a0\u202f\u2009"
APOSTROPHES = "'\u2019"
MARKS = ("", ",", ".", *BLANKS, *APOSTROPHES)
"""What may stand between thousands; empty for nothing."""
LONGEST_AFFIX = 16
AFFIX_SIGNS = "%‰°²³/."
# A sign with at most three capital letters beside it, as in US$ or R$. Letters alone before a number make a code: A101.
PREFIX = r"[A-Z]{0,3}\p{Sc}[A-Z]{0,3}|Rs\.?"
SUFFIX = r"[%‰]|[A-Z]{0,3}\p{Sc}|°?[\p{L}°]{1,5}[²³]?(?:/[\p{L}]{1,5}[²³]?)?"
DIGITS = rf"(?:\d[\d.,{BLANKS}{APOSTROPHES}]*|\.\d+)"
AFFIXED = (
    rf"^(?P<sign>[+-]?)\s*(?P<prefix>{PREFIX})?[{BLANKS}]*(?P<number>[+-]?{DIGITS}(?:[eE][+-]?\d+)?)"
    rf"[{BLANKS}]*(?P<suffix>{SUFFIX})?$"
)
NEGATIVES = {
    "()": r"^([^\d()]{0,4})\(\s*([^()]*\d[^()]*?)\s*\)([^\d()]{0,4})$",
    "-": r"^([^\d-]{0,4})(\d[^-]*?)-([^\d-]{0,4})$",
}
"""How accountants write negative numbers: (1,250) and 1.250,00-."""
HAS_SIGN_IN_FRONT = r"[+-]\D*\d"
HAS_MARK_WITHIN = rf"\d[.,{BLANKS}{APOSTROPHES}]\d"
LIMITED = r"^[<>≤≥]=?\s*"
MINUS = "\u2212"
BEGINS_AFFIXED = r"^[+-]?\s*(?:[\d.]|Rs|\D{0,3}[^\x00-\x23\x25-\x7f])"
"""A first look, which is quick: a digit, or a sign that may be a currency's."""
LOOKS_GROUPED = rf"^[+-]?\d[\d.,{BLANKS}{APOSTROPHES}]*[.,{BLANKS}{APOSTROPHES}]\d{{3}}"
ENOUGH_AFFIXED = 0.95
"""The share of the distinct texts that must have the same signs or letters beside the number."""
LEAST_NUMBERS = 3
"""With fewer different numbers beside the same signs or letters they are names, as in ``2WD`` and ``4WD``."""


def _is_affix(text: str) -> bool:
    return len(text) <= LONGEST_AFFIX and all(
        sign in AFFIX_SIGNS or unicodedata.category(sign)[0] == "L" or unicodedata.category(sign) == "Sc"
        for sign in text
    )


@dataclass(frozen=True)
class Notation:
    """How the numbers of a column are written.

    Attributes
    ----------
    decimal : str
        ``.`` or ``,``.
    grouping : str
        What stands between thousands, one of `MARKS`.
    prefix, suffix : str
        What stands beside the number, such as ``$``, ``%`` or ``kg``.
    negative : str
        ``()`` where negative numbers stand in parentheses, ``-`` where their sign stands behind; empty for neither.
    """

    decimal: str = "."
    grouping: str = ""
    prefix: str = ""
    suffix: str = ""
    negative: str = ""

    def __post_init__(self) -> None:
        """Refuse what nobody writes: a model file may say anything."""
        if self.decimal not in (".", ",") or self.grouping not in MARKS or self.grouping == self.decimal:
            raise ValueError("numbers are not written in that way")
        if self.negative not in ("", *NEGATIVES):
            raise ValueError("negative numbers are not written in that way")
        if not all(_is_affix(text) for text in (self.prefix, self.suffix)):
            raise ValueError("that does not stand beside a number")

    @property
    def is_plain(self) -> bool:
        """Whether there is nothing but digits, a sign and a decimal mark."""
        return not (self.grouping or self.prefix or self.suffix or self.negative)

    @property
    def words(self) -> str:
        """What to say of the numbers, behind the word.

        >>> Notation(",").words, Notation(grouping=",", prefix="$").words
        (' with a decimal comma', ' in $ with , between thousands')
        """
        units = " ".join(text for text in (self.prefix, self.suffix) if text)
        found = f" in {units}" if units else ""
        if self.grouping:
            found += f" with {'blanks' if self.grouping in BLANKS else self.grouping} between thousands"
        elif self.decimal == ",":
            found += " with a decimal comma"
        return found + {"()": " and negative ones in parentheses", "-": " and the minus behind"}.get(self.negative, "")


PLAIN = Notation()


def numbers_of(texts: pa.Array, notation: Notation = PLAIN) -> pa.Array:
    """Read texts as float64; null where a text is no number, infinities as they are.

    Numbers without what stands beside the others, or between their thousands, are read as well.

    >>> numbers_of(pa.array(["1,5", "x", " 2"]), Notation(",")).to_pylist()
    [1.5, None, 2.0]
    >>> numbers_of(pa.array(["$1,250", "-$3", "4.5", "$1,5"]), Notation(grouping=",", prefix="$")).to_pylist()
    [1250.0, -3.0, 4.5, None]
    """
    trimmed = trimmed_numbers(texts)
    if notation.negative:
        trimmed = _signed(trimmed, notation)
    if not notation.is_plain:
        trimmed = _ungrouped(_without_affix(trimmed, notation), notation)
    if notation.decimal == ",":
        trimmed = pc.replace_substring(trimmed, ",", ".")
    is_number = pc.or_(
        pc.match_substring_regex(trimmed, NUMBER_PATTERN), pc.match_substring_regex(trimmed, INFINITE_PATTERN)
    )
    plain = pc.replace_substring_regex(pc.if_else(is_number, trimmed, None), r"^\+", "")
    return plain.cast(pa.float64())


def trimmed_numbers(texts: pa.Array) -> pa.Array:
    """Return texts without blanks around them, and with the usual sign for minus."""
    return pc.replace_substring(pc.utf8_trim_whitespace(texts), MINUS, "-")


def limits_of(texts: pa.Array, notation: Notation = PLAIN) -> pa.Array:
    """Read texts that say that a number is below or above another as this one; null where a text says something else.

    >>> limits_of(pa.array(["<0.01", ">= 100", "5"])).to_pylist()
    [0.01, 100.0, None]
    """
    trimmed = pc.utf8_trim_whitespace(texts)
    bare = pc.replace_substring_regex(trimmed, LIMITED, "")
    return numbers_of(pc.if_else(pc.equal(bare, trimmed), None, bare), notation)


def _signed(trimmed: pa.Array, notation: Notation) -> pa.Array:
    return pc.replace_substring_regex(trimmed, NEGATIVES[notation.negative], r"-\1\2\3")


def _negative(texts: pa.Array) -> str:
    """Return how negative numbers are written, where it is no sign in front and something proves it.

    (1950) may be a doubtful year and 2- a mark at school: one of them must hold a decimal mark or one of thousands, and
    most numbers not be negative.
    """
    if pc.any(pc.match_substring_regex(texts, HAS_SIGN_IN_FRONT)).as_py():
        return ""
    for way, pattern in NEGATIVES.items():
        found = texts.filter(pc.match_substring_regex(texts, pattern))
        proved = len(found) and pc.any(pc.match_substring_regex(found, HAS_MARK_WITHIN)).as_py()
        if proved and len(texts) - len(found) >= max(LEAST_NUMBERS, len(found)):
            return way
    return ""


def _without_affix(trimmed: pa.Array, notation: Notation) -> pa.Array:
    if notation.prefix:
        pattern = rf"^([+-]?)\s*{re.escape(notation.prefix)}[{BLANKS}]*"
        trimmed = pc.replace_substring_regex(trimmed, pattern, r"\1")
    if notation.suffix:
        trimmed = pc.replace_substring_regex(trimmed, rf"[{BLANKS}]*{re.escape(notation.suffix)}$", "")
    return trimmed


def _ungrouped(texts: pa.Array, notation: Notation) -> pa.Array:
    """Take the marks out of thousands; null where a mark stands anywhere else."""
    if not notation.grouping:
        return texts
    grouped = pc.match_substring_regex(texts, _thousands(notation))
    marked = pc.match_substring(texts, notation.grouping)
    bare = pc.replace_substring(texts, notation.grouping, "")
    return pc.if_else(grouped, bare, pc.if_else(marked, None, texts))


def _thousands(notation: Notation) -> str:
    """Return the pattern of thousands: a leading 0, as in 0,125, speaks for a decimal mark."""
    mark, decimal = re.escape(notation.grouping), re.escape(notation.decimal)
    # 12,34,567 is how India writes it; between points two digits are those of an address or a date
    inner = r"\d{2,3}" if notation.grouping == "," else r"\d{3}"
    return rf"^[+-]?[1-9]\d{{0,2}}(?:{mark}{inner}){{0,5}}{mark}\d{{3}}(?:{decimal}\d+)?$"


def notations(texts: pa.Array, decimal: str = "", *, share: float = ENOUGH_AFFIXED) -> Iterator[Notation]:
    """Give the ways in which texts may be numbers, the likeliest first; whether they are is for the caller to see.

    Parameters
    ----------
    texts : pyarrow.Array of strings
        Distinct ones.
    decimal : str
        The decimal mark of the file, empty where unknown.
    share : float
        Of the texts that must have the same signs or letters beside the number.
    """
    if decimal != "," and len(texts) and not numbers_of(texts).null_count:
        yield PLAIN
        return
    texts = trimmed_numbers(texts)
    negative = _negative(texts)
    if negative:
        texts = _signed(texts, Notation(negative=negative))
    affix = replace(_affix(texts, share), negative=negative)
    bare = _without_affix(texts, affix)
    if pc.any(pc.match_substring_regex(bare, LOOKS_GROUPED)).as_py():
        ways = (_grouped(bare, affix, mark, decimal) for mark in MARKS[1:])
        yield from itertools.islice((way for way in ways if way is not None), 1)
    for mark in dict.fromkeys((decimal or ".", ".", ",")):
        yield replace(affix, decimal=mark)


def _affix(texts: pa.Array, share: float) -> Notation:
    """Return what stands beside the numbers of nearly all texts."""
    alike = texts.filter(pc.match_substring_regex(texts, BEGINS_AFFIXED))
    if not len(alike) or len(alike) < share * len(texts):
        return PLAIN
    parts = pc.extract_regex(alike, AFFIXED)
    found = parts.filter(pc.is_valid(parts))
    if not len(found):
        return PLAIN
    prefix, suffix = pc.struct_field(found, "prefix"), pc.struct_field(found, "suffix")
    counts = pc.value_counts(pc.binary_join_element_wise(prefix, suffix, "\n"))
    top = counts[int(pc.index(counts.field("counts"), pc.max(counts.field("counts"))).as_py())].as_py()
    before, after = top["values"].split("\n")
    if top["counts"] < max(LEAST_NUMBERS, share * len(texts)) or not (_is_affix(before) and _is_affix(after)):
        return PLAIN
    bare = pc.and_(pc.equal(prefix, ""), pc.equal(suffix, ""))
    amounts = pc.match_substring_regex(pc.struct_field(found, "number"), "[1-9]")
    # 950 beside 1.2M, or 0.12 beside 12%, is another unit; only 0 is the same in all.
    if after and pc.any(pc.and_(bare, amounts)).as_py():
        return PLAIN
    return Notation(prefix=before, suffix=after)


def _grouped(bare: pa.Array, affix: Notation, mark: str, decimal: str) -> Notation | None:
    """Return the notation with a mark between thousands where all cells allow it and some of them prove it."""
    marked = bare.filter(pc.match_substring_regex(bare, rf"^[+-]?\d[\d.,]*{re.escape(mark)}[\d.,{mark}]*$"))
    if not len(marked):
        return None
    others = {",": ".", ".": ","}.get(mark) or decimal or "."
    for point in dict.fromkeys((others, ".", ",") if mark not in ".," else others):
        notation = replace(affix, decimal=point, grouping=mark)
        if pc.all(pc.match_substring_regex(marked, _thousands(notation))).as_py():
            return notation if _proved(bare, marked, notation, decimal) else None
    return None


def _proved(bare: pa.Array, marked: pa.Array, notation: Notation, decimal: str) -> bool:
    """Whether the mark can be no decimal mark, nor part of a code."""
    mark, point = notation.grouping, notation.decimal
    if mark == "," and decimal == ".":
        return True
    plain = bare.filter(pc.match_substring_regex(bare, rf"^[+-]?\d+(?:{re.escape(point)}\d*)?$"))
    if not len(plain) and pc.count_distinct(pc.utf8_length(marked)).as_py() < 2:
        return False  # all of one length: numbers of telephones, or decimals
    if mark not in ",.":  # 1500 is often written without a blank
        return not pc.any(pc.match_substring_regex(plain, r"^[+-]?\d{5}")).as_py()
    if pc.any(pc.or_(pc.match_substring(marked, point), pc.greater(pc.count_substring(marked, mark), 1))).as_py():
        return True
    if decimal != ("," if mark == "." else ""):
        return False
    if any(unicodedata.category(sign) == "Sc" for sign in notation.prefix + notation.suffix):
        return True  # money has no three decimals
    # Nothing below a thousand has a mark, and nothing above lacks one: decimals would be shorter here and there.
    long = pc.any(pc.match_substring_regex(plain, r"^[+-]?\d{4}")).as_py()
    hundreds = pc.sum(pc.match_substring_regex(plain, r"^[+-]?[1-9]\d\d(?:\D|$)")).as_py() or 0
    return not long and hundreds >= LEAST_NUMBERS
