"""What is said of values and names in files that are not what is expected there."""

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

_MAX_SHOWN = 60


def expected(what: str, found: Any) -> str:
    """Return what is said of a value that is something else."""
    return f"expected {what}, found {_shown(found)}"


def unknown_name(name: str, known: Sequence[str], shown: Sequence[str] = ()) -> str:
    """Return what is said of a name that is none of those known, of which some are shown."""
    similar = difflib.get_close_matches(name, known, n=1)
    if similar:
        return f'unknown field; did you mean "{similar[0]}"?'
    return f"unknown field; expected one of {', '.join(shown or known)}"


def shortened(text: str, max_length: int = _MAX_SHOWN) -> str:
    """Return a text from outside as messages show it: of a long one the beginning."""
    return text if len(text) <= max_length else f"{text[:max_length]}…"


def _shown(value: Any) -> str:
    match value:
        case None:
            return "nothing"
        case bool():
            return str(value).lower()
        case Mapping():
            return "a mapping"
        case list():
            return "a list"
        case str():
            return f'"{shortened(value)}"'
        case _:
            return str(value)[:_MAX_SHOWN]
