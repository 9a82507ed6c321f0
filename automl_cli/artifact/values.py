"""What a JSON value is, for whoever checks it before it is believed."""

import sys
from typing import Any


def is_object(value: Any) -> bool:
    """Whether it is a JSON object."""
    return isinstance(value, dict)


def is_text(value: Any) -> bool:
    """Whether it is a text."""
    return isinstance(value, str)


def is_number(value: Any) -> bool:
    """Whether it is a finite number, and no truth value."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def is_count(value: Any) -> bool:
    """Whether it is a whole number from 0 on."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63


def is_list(value: Any) -> bool:
    """Whether it is a list."""
    return isinstance(value, list)


def is_texts(value: Any) -> bool:
    """Whether it is a list of texts."""
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def is_numbers(value: Any) -> bool:
    """Whether it is a list of numbers, of which some may be missing."""
    return isinstance(value, list) and all(item is None or is_number(item) for item in value)


def is_objects(value: Any) -> bool:
    """Whether it is a list of objects."""
    return isinstance(value, list) and all(isinstance(item, dict) for item in value)


def is_factor(value: Any) -> bool:
    """Whether it is a number that nothing overflows by."""
    return is_number(value) and 1e-6 <= value <= 1e6
