"""Text that comes from outside, where people look at it.

A terminal obeys control characters (C0, DEL, C1: they move the cursor, change colours, answer questions), and a reader
is deceived by what turns the direction of a text or cannot be seen. Both are shown as escapes. The JSON of this module
stays the same data.
"""

import json
import re
import unicodedata
from typing import Any

# Printable by their category, and blank or without width on the screen: joiners, fillers, an empty Braille cell.
_BLANK = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")
_NOT_PLAIN_ASCII = re.compile(r"[^\n\x20-\x7e]")


def printable(text: str) -> str:
    r"""One line of text with \x1b, \u202e, \n and the like for what would not be seen as itself."""
    return _NOT_PLAIN_ASCII.sub(_shown, text).replace("\n", r"\n")


def printable_lines(text: str) -> str:
    """The same for a text whose line breaks are meant."""
    return _NOT_PLAIN_ASCII.sub(_shown, text)


def printable_json(value: Any, **options: Any) -> str:
    """A JSON document in which everything that is not seen as itself is escaped; `options` are those of json.dumps."""
    # Outside strings JSON has ASCII only, so whatever is found here stands in a string, where an escape may stand.
    return _NOT_PLAIN_ASCII.sub(_escaped, json.dumps(value, ensure_ascii=False, **options))


def _shown(match: re.Match[str]) -> str:
    char = match[0]
    is_seen = _is_seen(char) or unicodedata.category(char) == "Zs"
    return char if is_seen else char.encode("unicode_escape").decode("ascii")


def _escaped(match: re.Match[str]) -> str:
    char = match[0]
    if _is_seen(char):
        return char
    units = char.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[place : place + 4]}" for place in range(0, len(units), 4))


def _is_seen(char: str) -> bool:
    # Not printable are control, format, private and unassigned characters, surrogates, separators but the space.
    return char.isprintable() and char not in _BLANK
