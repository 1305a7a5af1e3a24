"""Events as JSON has them, read into the contract's fields.

Names are read as protobuf's JSON has them, in both spellings. A value of another type is converted, or kept as an
attribute, and what the contract does not name becomes an attribute: nothing but service, level, message and event time
can refuse an event, and one event never refuses another. Only text that is no JSON refuses its request.

Lengths are not this module's matter: `checks` and `adjusting` see every event, however it came.
"""

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from services.domain.event_fields import (
    MAX_ATTRIBUTE_KEY,
    MAX_ATTRIBUTE_VALUE,
    MAX_STATUS,
    MILLISECONDS,
    MIN_STATUS,
    without_surrogates,
)
from services.domain.event_time import parse_epoch, parse_rfc3339
from services.domain.level import Level
from services.ingest.core.adjusting import Action, Change
from services.ingest.core.checks import Field
from services.ingest.core.json_text import JsonText, described, json_text, plain

_FIELDS: Final = [each for each in Field if each is not Field.EVENT]
# The contract's names by those of its JSON, and those of its JSON by the contract's where they differ.
_NAMES: Final = {each.value: each.name.lower() for each in _FIELDS}
_JSON_NAMES: Final = {name: key for key, name in _NAMES.items() if key != name}
_TIMES: Final = ("timestamp", "time", "@timestamp")
_LEVELS: Final = {level.name: int(level) for level in Level} | {str(int(level)): int(level) for level in Level}
_DURATION: Final = re.compile(r"\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*(ns|us|µs|μs|ms|s|m)\s*", re.ASCII)
# Of longer texts the pattern would try each way to divide the digits.
_MAX_DURATION = 64
# A time that no check takes.
_NO_TIME: Final = {"seconds": -1, "nanos": 0}
# Below this, objects and lists are not taken apart any more.
_MAX_DEPTH = 8
_CUT_KEY, _CUT_VALUE = MAX_ATTRIBUTE_KEY + 1, MAX_ATTRIBUTE_VALUE + 1


@dataclass(slots=True, kw_only=True)
class JsonEvent:
    """One event: the contract's fields by their names there, what was done to get them, and what cannot be right."""

    fields: dict[str, Any] = field(default_factory=dict)
    attributes: dict[str, str] = field(default_factory=dict)
    changes: set[Change] = field(default_factory=set)
    found: dict[Field, str] = field(default_factory=dict)
    """What stands where something else is expected, in words."""


class JsonEvents:
    """Reads the events of one text."""

    def __init__(self, body: bytes, max_attributes: int) -> None:
        """Raises JsonError when the bytes are no text."""
        self._text = JsonText(body)
        self._max_attributes = max_attributes

    def one(self) -> JsonEvent:
        """Read the only event; null is one that says nothing. Raises JsonError where the text is no JSON."""
        value = self._text.one()
        return self._event({} if value is None else value)

    def each(self) -> Iterator[JsonEvent]:
        """Read a list of events; one object alone is a list of one. Raises JsonError where the text is no JSON."""
        return map(self._event, self._text.each())

    def _event(self, given: Any) -> JsonEvent:
        if not isinstance(given, dict):
            return JsonEvent(found={Field.EVENT: described(given)})
        event = _read(given, self._max_attributes)
        for key in self._text.repeated:
            name = _JSON_NAMES.get(key, key)
            event.changes.add(Change(_field(_NAMES.get(name, "attributes")), Action.LEFT_OUT))
        if self._text.may_have_surrogates:
            _makewithout_surrogates(event)
        return event


def _field(name: str) -> Field:
    return Field[name.upper()]


def _read(given: Mapping[str, Any], max_attributes: int) -> JsonEvent:
    event = JsonEvent()
    kept: dict[str, Any] = {}
    others: dict[str, Any] = {}
    if not _JSON_NAMES.keys().isdisjoint(given):
        given = _in_one_spelling(event, given)
    for key, value in given.items():
        name = _NAMES.get(key)
        if name is None:
            others[key] = value
        elif value is not None and not _READERS[name](event, name, value):
            kept[name] = value
    if others and given.get("eventTime") is None:
        _take_time(event, others)
    own = kept.pop("attributes", {})
    if not isinstance(own, dict):
        kept["attributes"], own = own, {}
    event.changes.update(Change(_field(name), Action.KEPT_AS_ATTRIBUTE) for name in kept)
    for items in (kept, own, others):
        _flatten(event, "", items, max_attributes)
    return event


def _in_one_spelling(event: JsonEvent, given: Mapping[str, Any]) -> Mapping[str, Any]:
    """Write the contract's names as its JSON has them; of a field that is there in both spellings the last stays."""
    found: dict[str, Any] = {}
    for key, value in given.items():
        name = _JSON_NAMES.get(key, key)
        if value is None and name in found:
            continue
        if found.get(name) is not None:
            event.changes.add(Change(_field(_NAMES[name]), Action.LEFT_OUT))
        found[name] = value
    return found


# Readers of one field: False when the value cannot be the field's, and is to be kept as an attribute.


def _text(event: JsonEvent, name: str, value: Any) -> bool:
    if type(value) is str:
        event.fields[name] = value
        return True
    if isinstance(value, dict | list):
        return False
    event.fields[name] = plain(value)
    event.changes.add(Change(_field(name), Action.CONVERTED))
    return True


def _service(event: JsonEvent, name: str, value: Any) -> bool:
    if not _text(event, name, value):
        event.found[Field.SERVICE] = described(value)
    return True


def _message(event: JsonEvent, name: str, value: Any) -> bool:
    if not _text(event, name, value):
        event.fields[name] = json_text(value, None)
        event.changes.add(Change(Field.MESSAGE, Action.CONVERTED))
    return True


def _level(event: JsonEvent, name: str, value: Any) -> bool:
    level = _LEVELS.get(str(value).upper()) if isinstance(value, str) else None
    if level is None:
        event.found[Field.LEVEL] = described(value)
    else:
        event.fields[name] = level
    return True


def _status(event: JsonEvent, name: str, value: Any) -> bool:
    number = _number(value)
    if number is None or not number.is_integer() or not MIN_STATUS <= number <= MAX_STATUS:
        return False
    event.fields[name] = int(number)
    return True


def _duration(event: JsonEvent, name: str, value: Any) -> bool:
    number = _number(value)
    is_short_text = isinstance(value, str) and len(value) <= _MAX_DURATION
    found = _DURATION.fullmatch(value) if number is None and is_short_text else None
    if found:
        number = float(found[1]) * MILLISECONDS[found[2]]
    if number is None or not 0 <= number < math.inf:
        return False
    event.fields[name] = number
    if found:
        event.changes.add(Change(Field.RESPONSE_TIME, Action.CONVERTED))
    return True


def _time(event: JsonEvent, name: str, value: Any) -> bool:
    if not _set_time(event, name, value):
        event.fields[name] = _NO_TIME
        event.found[Field.EVENT_TIME] = described(value)
    return True


_READERS: Final[Mapping[str, Callable[[JsonEvent, str, Any], bool]]] = {
    "record_id": _text,
    "event_time": _time,
    "service": _service,
    "level": _level,
    "message": _message,
    "status_code": _status,
    "response_time": _duration,
    "host": _text,
    "trace_id": _text,
    # Read when all else is known that becomes one.
    "attributes": lambda _event, _name, _value: False,
}


def _set_time(event: JsonEvent, name: str, value: Any) -> bool:
    if not isinstance(value, str):
        return False
    when = parse_rfc3339(value)
    if when is None:
        when = parse_epoch(value)
        if when is None:
            return False
        event.changes.add(Change(Field.EVENT_TIME, Action.CONVERTED))
    event.fields[name] = {"seconds": when[0], "nanos": when[1]}
    return True


def _take_time(event: JsonEvent, others: dict[str, Any]) -> None:
    """Take the time from where loggers write it; what cannot be read there decides over nothing."""
    there = [name for name in _TIMES if others.get(name) is not None]
    for name in there:
        if _set_time(event, "event_time", others[name]):
            del others[name]
            return
    if there:
        event.changes.add(Change(Field.EVENT_TIME, Action.KEPT_AS_ATTRIBUTE))


def _number(value: Any) -> float | None:
    # Python reads 5_00 and the digits of other scripts as numbers too.
    if not isinstance(value, str) or not value.isascii() or "_" in value:
        return None
    try:
        return float(value)
    except ValueError:
        return None


def _flatten(event: JsonEvent, prefix: str, items: Mapping[str, Any], most: int, depth: int = 1) -> None:
    """Add attributes, those of objects within objects with dotted names; the first of a name stays."""
    for key, value in items.items():
        if value is None:
            continue
        if len(event.attributes) == most:
            event.changes.add(Change(Field.ATTRIBUTES, Action.LEFT_OUT))
            return
        # One character more than fits, here and below, so that it is seen to be cut.
        name = (f"{prefix}.{key[:_CUT_KEY]}" if prefix else key)[:_CUT_KEY]
        if isinstance(value, dict) and value and depth < _MAX_DEPTH:
            _flatten(event, name, value, most, depth + 1)
        elif name in event.attributes:
            event.changes.add(Change(Field.ATTRIBUTES, Action.LEFT_OUT))
        else:
            is_text = type(value) is str
            event.attributes[name] = value if is_text else json_text(value, _CUT_VALUE)


def _makewithout_surrogates(event: JsonEvent) -> None:
    """Replace halves of surrogate pairs, which no text may have."""
    for name, value in event.fields.items():
        if isinstance(value, str) and (whole := without_surrogates(value)) != value:
            event.fields[name] = whole
            event.changes.add(Change(_field(name), Action.CONVERTED))
    attributes = {without_surrogates(key): without_surrogates(value) for key, value in event.attributes.items()}
    if attributes != event.attributes:
        event.attributes = attributes
        event.changes.add(Change(Field.ATTRIBUTES, Action.CONVERTED))
