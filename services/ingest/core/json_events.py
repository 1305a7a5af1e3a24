"""Events as JSON, read into the proto's fields.

Names are read as protobuf's JSON has them, in both spellings. A value of another type is converted, or kept as an
attribute, and a name that the proto does not have becomes an attribute: only service, level, message and event time can
refuse an event, and one event never refuses another. Only text that is not JSON refuses its request.

Lengths are not checked here: `field_checks` and `adjustments` see every event, however it came.
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
from services.ingest.core.adjustments import Adjustment, AdjustmentAction
from services.ingest.core.field_checks import EventField
from services.ingest.core.json_text import JsonText, describe_json, format_json, format_scalar

_FIELDS: Final = [each for each in EventField if each is not EventField.EVENT]
# The proto's names by those of its JSON, and those of its JSON by the proto's where they differ.
_NAMES: Final = {each.value: each.name.lower() for each in _FIELDS}
_JSON_NAMES: Final = {name: key for key, name in _NAMES.items() if key != name}
_TIME_NAMES: Final = ("timestamp", "time", "@timestamp")
_LEVELS: Final = {level.name: int(level) for level in Level} | {str(int(level)): int(level) for level in Level}
_DURATION: Final = re.compile(r"\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*(ns|us|µs|μs|ms|s|m)\s*", re.ASCII)
# Of longer strings the pattern would try each way to divide the digits.
_MAX_DURATION = 64
_EMPTY: Final = "an empty string"
# What refuses an event if it is null; a time that is null is that of arrival.
_REQUIRED: Final = {each.value: each for each in (EventField.SERVICE, EventField.LEVEL, EventField.MESSAGE)}
# A time that no check accepts.
_NO_TIME: Final = {"seconds": -1, "nanos": 0}
# Deeper objects become one attribute each, as JSON.
_MAX_DEPTH = 8
# One character more than fits, so that `adjustments` sees that it is cut.
_CUT_KEY, _CUT_VALUE = MAX_ATTRIBUTE_KEY + 1, MAX_ATTRIBUTE_VALUE + 1


@dataclass(slots=True, kw_only=True)
class JsonEvent:
    """One event: the proto's fields by their names there, how they were adjusted, and which values do not fit."""

    fields: dict[str, Any] = field(default_factory=dict)
    attributes: dict[str, str] = field(default_factory=dict)
    adjustments: set[Adjustment] = field(default_factory=set)
    found_values: dict[EventField, str] = field(default_factory=dict)
    """What was found instead of what is expected, as text for people."""

    def adjusted(self, event_field: EventField, action: AdjustmentAction) -> None:
        """Note an adjustment."""
        self.adjustments.add(Adjustment(event_field, action))


class JsonEvents:
    """Reads the events of one text."""

    def __init__(self, body: bytes, max_attributes: int) -> None:
        """Raise JsonError when the bytes are not UTF-8."""
        self._text = JsonText(body)
        self._max_attributes = max_attributes

    def one(self) -> JsonEvent:
        """Read the only event; null is one without fields. Raises JsonError where the text is not JSON."""
        value = self._text.one()
        return self._event({} if value is None else value)

    def each(self) -> Iterator[JsonEvent]:
        """Read a list of events; one object alone is a list of one. Raises JsonError where the text is not JSON."""
        return map(self._event, self._text.each())

    def _event(self, value: Any) -> JsonEvent:
        if not isinstance(value, dict):
            return JsonEvent(found_values={EventField.EVENT: describe_json(value)})
        event = _read(value, self._max_attributes)
        for key in self._text.repeated_keys:
            name = _JSON_NAMES.get(key, key)
            event.adjusted(_field(_NAMES.get(name, "attributes")), AdjustmentAction.LEFT_OUT)
        if self._text.may_have_surrogates:
            _replace_surrogates(event)
        return event


def _field(name: str) -> EventField:
    return EventField[name.upper()]


def _read(members: Mapping[str, Any], max_attributes: int) -> JsonEvent:
    event = JsonEvent()
    kept: dict[str, Any] = {}
    unknown: dict[str, Any] = {}
    if not _JSON_NAMES.keys().isdisjoint(members):
        members = _in_one_spelling(event, members)
    for key, value in members.items():
        name = _NAMES.get(key)
        if name is None:
            unknown[key] = value
        elif value is not None and not _READERS[name](event, name, value):
            kept[name] = value
    event.found_values.update({each: "null" for key, each in _REQUIRED.items() if members.get(key, "") is None})
    if unknown and members.get("eventTime") is None:
        _take_time(event, unknown)
    sent = kept.pop("attributes", {})
    if not isinstance(sent, dict):
        kept["attributes"], sent = sent, {}
    event.adjustments.update(Adjustment(_field(name), AdjustmentAction.KEPT_AS_ATTRIBUTE) for name in kept)
    for items in (kept, sent, unknown):
        _flatten(event, "", items, max_attributes)
    return event


def _in_one_spelling(event: JsonEvent, members: Mapping[str, Any]) -> Mapping[str, Any]:
    """Give the proto's names as its JSON has them; of a field that is there in both spellings the last stays."""
    found: dict[str, Any] = {}
    for key, value in members.items():
        name = _JSON_NAMES.get(key, key)
        if value is None and name in found:
            continue
        if found.get(name) is not None:
            event.adjusted(_field(_NAMES[name]), AdjustmentAction.LEFT_OUT)
        found[name] = value
    return found


# Readers of one field. They return False when the value cannot be the field's, and is to be kept as an attribute.


def _string(event: JsonEvent, name: str, value: Any) -> bool:
    if type(value) is str:
        event.fields[name] = value
        return True
    if isinstance(value, dict | list):
        return False
    event.fields[name] = format_scalar(value)
    event.adjusted(_field(name), AdjustmentAction.CONVERTED)
    return True


def _service(event: JsonEvent, name: str, value: Any) -> bool:
    if value == "":
        event.found_values[EventField.SERVICE] = _EMPTY
    elif not _string(event, name, value):
        event.found_values[EventField.SERVICE] = describe_json(value)
    return True


def _message(event: JsonEvent, name: str, value: Any) -> bool:
    if value == "":
        event.found_values[EventField.MESSAGE] = _EMPTY
    elif not _string(event, name, value):
        event.fields[name] = format_json(value, None)
        event.adjusted(EventField.MESSAGE, AdjustmentAction.CONVERTED)
    return True


def _level(event: JsonEvent, name: str, value: Any) -> bool:
    level = _LEVELS.get(str(value).upper()) if isinstance(value, str) else None
    if level is None:
        event.found_values[EventField.LEVEL] = describe_json(value)
    else:
        event.fields[name] = level
    return True


def _status_code(event: JsonEvent, name: str, value: Any) -> bool:
    number = _number(value)
    if number is None or not number.is_integer() or not MIN_STATUS <= number <= MAX_STATUS:
        return False
    event.fields[name] = int(number)
    return True


def _response_time(event: JsonEvent, name: str, value: Any) -> bool:
    number = _number(value)
    may_have_unit = number is None and isinstance(value, str) and len(value) <= _MAX_DURATION
    duration = _DURATION.fullmatch(value) if may_have_unit else None
    if duration:
        number = float(duration[1]) * MILLISECONDS[duration[2]]
    if number is None or not 0 <= number < math.inf:
        return False
    event.fields[name] = number
    if duration:
        event.adjusted(EventField.RESPONSE_TIME, AdjustmentAction.CONVERTED)
    return True


def _event_time(event: JsonEvent, name: str, value: Any) -> bool:
    if not _set_time(event, name, value):
        event.fields[name] = _NO_TIME
        event.found_values[EventField.EVENT_TIME] = describe_json(value)
    return True


_READERS: Final[Mapping[str, Callable[[JsonEvent, str, Any], bool]]] = {
    "record_id": _string,
    "event_time": _event_time,
    "service": _service,
    "level": _level,
    "message": _message,
    "status_code": _status_code,
    "response_time": _response_time,
    "host": _string,
    "trace_id": _string,
    # Read last, when all else that becomes an attribute is known.
    "attributes": lambda _event, _name, _value: False,
}


def _set_time(event: JsonEvent, name: str, value: Any) -> bool:
    if not isinstance(value, str):
        return False
    time = parse_rfc3339(value)
    if time is None:
        time = parse_epoch(value)
        if time is None:
            return False
        event.adjusted(EventField.EVENT_TIME, AdjustmentAction.CONVERTED)
    event.fields[name] = {"seconds": time[0], "nanos": time[1]}
    return True


def _take_time(event: JsonEvent, unknown: dict[str, Any]) -> None:
    """Take the time from where loggers write it; what cannot be read there refuses nothing."""
    present = [name for name in _TIME_NAMES if unknown.get(name) is not None]
    for name in present:
        if _set_time(event, "event_time", unknown[name]):
            del unknown[name]
            return
    if present:
        event.adjusted(EventField.EVENT_TIME, AdjustmentAction.KEPT_AS_ATTRIBUTE)


def _number(value: Any) -> float | None:
    # Python also reads digits of other scripts, and underscores between them.
    if not isinstance(value, str) or not value.isascii() or "_" in value:
        return None
    try:
        return float(value)
    except ValueError:
        return None


def _flatten(event: JsonEvent, prefix: str, items: Mapping[str, Any], max_attributes: int, depth: int = 1) -> None:
    """Add attributes, those of objects within objects with dotted names; the first of a name stays."""
    for key, value in items.items():
        if value is None:
            continue
        if len(event.attributes) == max_attributes:
            event.adjusted(EventField.ATTRIBUTES, AdjustmentAction.LEFT_OUT)
            return
        name = (f"{prefix}.{key[:_CUT_KEY]}" if prefix else key)[:_CUT_KEY]
        if isinstance(value, dict) and value and depth < _MAX_DEPTH:
            _flatten(event, name, value, max_attributes, depth + 1)
        elif name in event.attributes:
            event.adjusted(EventField.ATTRIBUTES, AdjustmentAction.LEFT_OUT)
        else:
            event.attributes[name] = value if type(value) is str else format_json(value, _CUT_VALUE)


def _replace_surrogates(event: JsonEvent) -> None:
    """Replace halves of surrogate pairs, which UTF-8 cannot hold."""
    for name, value in event.fields.items():
        if isinstance(value, str) and (clean := without_surrogates(value)) != value:
            event.fields[name] = clean
            event.adjusted(_field(name), AdjustmentAction.CONVERTED)
    attributes = {without_surrogates(key): without_surrogates(value) for key, value in event.attributes.items()}
    if attributes != event.attributes:
        event.attributes = attributes
        event.adjusted(EventField.ATTRIBUTES, AdjustmentAction.CONVERTED)
