"""Make text from outside safe to print.

A terminal obeys control characters (C0, DEL, C1: they move the cursor, change colours, send responses), and characters
that are invisible or change the direction of text deceive a reader. Both become escapes. JSON stays the same data.
"""

import functools
import json
import re
import unicodedata
from typing import Any

# Printable by their Unicode category, but blank or without width: joiners, fillers, an empty Braille cell.
_BLANK = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")
_NOT_PLAIN_ASCII = re.compile(r"[^\n\x20-\x7e]")


def printable(text: str) -> str:
    r"""Return the text as one line, with escapes such as \x1b, \u202e and \n for unsafe characters."""
    return _NOT_PLAIN_ASCII.sub(_escape_text, text).replace("\n", r"\n")


def printable_lines(text: str) -> str:
    """Return the text with escapes for unsafe characters, and with its line breaks."""
    return _NOT_PLAIN_ASCII.sub(_escape_text, text)


def printable_json(value: Any, **options: Any) -> str:
    """Return a JSON document with escapes for unsafe characters; `options` are those of json.dumps."""
    # Outside of strings JSON is ASCII, so each character found here is in a string, where an escape is allowed.
    return _NOT_PLAIN_ASCII.sub(_escape_json, _encoder(**options).encode(value))


@functools.lru_cache(maxsize=16)
def _encoder(**options: Any) -> json.JSONEncoder:
    """Return an encoder; json.dumps would make one each time, which costs as much as a line of a log."""
    return json.JSONEncoder(ensure_ascii=False, **options)


def _escape_text(match: re.Match[str]) -> str:
    char = match[0]
    is_safe = _is_safe(char) or unicodedata.category(char) == "Zs"
    return char if is_safe else char.encode("unicode_escape").decode("ascii")


def _escape_json(match: re.Match[str]) -> str:
    char = match[0]
    if _is_safe(char):
        return char
    units = char.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[start : start + 4]}" for start in range(0, len(units), 4))


def _is_safe(char: str) -> bool:
    # Not printable: control, format, private and unassigned characters, surrogates, separators except the space.
    return char.isprintable() and char not in _BLANK
