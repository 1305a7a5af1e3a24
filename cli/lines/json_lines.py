"""Lines of JSON become events."""

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, tzinfo
from typing import Any

from cli.lines.event import LineEvent, Refused
from cli.lines.names import named
from cli.lines.reading import event_of, field_of
from services.domain.level import Level

_NO_OBJECT = Refused(field="line", expected="a JSON object")
_TOO_DEEP = Refused(field="line", expected="a JSON object that is nested less deeply")
_MAX_NAME = 128


def is_json_object(line: str) -> bool:
    """Whether a line looks like a JSON object."""
    return line.lstrip().startswith("{") and line.rstrip().endswith("}")


def are_json(lines: Sequence[str]) -> bool:
    """Whether most of some lines are JSON objects; indented lines, as in stack traces, do not count against it."""
    objects = sum(map(is_json_object, lines))
    others = sum(bool(line.strip()) and not line[0].isspace() and not is_json_object(line) for line in lines)
    return objects > 0 and objects >= others


def parsed_json(line: str, *, service: str, now: datetime, zone: tzinfo = UTC) -> LineEvent | Refused | None:
    """One JSON object as an event, or what is wrong with it, None when the line does not even begin as one.

    Nested values become attributes with dotted names.
    """
    if not line.lstrip().startswith("{"):
        return None
    try:
        pairs = list(_flat(json.loads(line)))
    except RecursionError:
        return _TOO_DEEP
    except ValueError:
        return _NO_OBJECT
    found = named(pairs)
    return _wrong(found) or event_of(found, service=service, level=Level.INFO, now=now, zone=zone)


def _wrong(found: dict[str, str]) -> Refused | None:
    """JSON can say half a surrogate pair, which is no text."""
    for name, text in found.items():
        if not (_is_unicode(name) and _is_unicode(text)):
            return Refused(field=field_of(name), expected="valid Unicode")
        if len(name) > _MAX_NAME:
            return Refused(field="attributes", expected=f"names of at most {_MAX_NAME} characters")
    return None


def _is_unicode(text: str) -> bool:
    return text.isascii() or not any("\ud800" <= character <= "\udfff" for character in text)


def _flat(value: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Dotted names and texts of a nested object, outer before inner, without nulls."""
    for name, inner in value.items():
        if isinstance(inner, dict):
            # A name that is too long for an attribute is not repeated before each of many inner ones.
            yield from _flat(inner, f"{prefix}{name}."[: _MAX_NAME + 1])
        elif inner is not None:
            yield prefix + name, inner if isinstance(inner, str) else json.dumps(inner)
