"""Lines of JSON: objects of any nesting, with the names that loggers use."""

import json
from collections.abc import Iterator
from typing import Any

from cli.parsing.event import Refused
from cli.parsing.field_names import named
from cli.parsing.format_types import Found, LineFormat, uncoloured

_NO_OBJECT = Refused(field="line", expected="a JSON object")
_TOO_DEEP = Refused(field="line", expected="a JSON object that is nested less deeply")
# Inner names repeat the outer ones before them, up to this length.
_MAX_NAME = 128


class Json(LineFormat):
    """A JSON object; nested values have dotted names."""

    def found(self, line: str) -> Found | Refused | None:
        """What an object says, what is wrong with it, or None when the line does not even begin as one."""
        if not line.lstrip().startswith("{"):
            return None
        try:
            found = named((name, uncoloured(text)) for name, text in _flat(json.loads(line)))
        except RecursionError:
            return _TOO_DEEP
        except ValueError:
            return _NO_OBJECT
        # What names no message is told as it is.
        return found if found.get("message") else {**found, "message": line.strip()}


class Docker(LineFormat):
    """A line of Docker's json-file driver: an object whose log is the line itself, with its end unless more comes."""

    def found(self, line: str) -> Found | Refused | None:
        """The line, its stream and its time; None of other objects."""
        if not (line.startswith("{") and '"log"' in line and '"stream"' in line):
            return None
        try:
            given = json.loads(line)
        except (RecursionError, ValueError):
            return None
        text = given.get("log")
        if not isinstance(text, str) or not given.keys() <= {"log", "stream", "time", "attrs"}:
            return None
        found = {name: str(given[name]) for name in ("stream", "time") if name in given}
        return {**found, "message": text.removesuffix("\n"), "part": "F" if text.endswith("\n") else "P"}


def _flat(value: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Dotted names and texts of a nested object, outer before inner, without nulls."""
    for name, inner in value.items():
        if isinstance(inner, dict):
            # A name that is too long for an attribute is not repeated before each of many inner ones.
            yield from _flat(inner, f"{prefix}{name}."[: _MAX_NAME + 1])
        elif inner is not None:
            yield prefix + name, inner if isinstance(inner, str) else _text(inner)


def _text(value: Any) -> str:
    """A value that is no text; journald writes bytes that are no UTF-8 as a list of numbers."""
    if isinstance(value, list) and value and all(type(each) is int and 0 <= each < 256 for each in value):  # noqa: PLR2004
        return bytes(value).decode("utf-8", "replace")
    return json.dumps(value)
