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
            return f'"{value}"' if len(value) <= _MAX_SHOWN else f'"{value[:_MAX_SHOWN]}…"'
        case _:
            return str(value)[:_MAX_SHOWN]
