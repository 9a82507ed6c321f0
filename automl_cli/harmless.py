"""Text of a table, a model file or a store as it may be shown: it can say what it likes, and do nothing.

A terminal obeys control characters: a column's name could clear the screen, set its title or write over other lines.
Marks that turn the direction of writing let text read as what it is not, and half a surrogate pair cannot be written.
"""

import re

# All but the tab and the line feed of both sets of control characters, what turns the direction, surrogates.
_ACTING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def harmless(text: str) -> str:
    r"""Return the text with characters that act written as JSON would.

    >>> harmless("a\x1b[2Jb\x07"), harmless("naïve\t表")
    ('a\\u001b[2Jb\\u0007', 'naïve\t表')
    """
    return _ACTING.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
