"""What becomes of each field of a line, in words: for people who look for their fields."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from cli.parsing.event import ParsedEvent
from cli.parsing.field_names import RAW_ATTRIBUTE_PREFIX, SourceText
from cli.parsing.field_values import is_attribute, source_name, value_of
from services.domain.event_fields import MAX_ATTRIBUTE_KEY, MAX_ATTRIBUTE_VALUE, TRACE_ID_DIGITS

# The fields of the contract, as its JSON names them, by the names of raw fields.
JSON_NAMES: Mapping[str, str] = MappingProxyType(
    {
        "message": "message",
        "level": "level",
        "priority": "level",
        "time": "eventTime",
        "epoch": "eventTime",
        "service": "service",
        "host": "host",
        "trace_id": "traceId",
        "record_id": "recordId",
        "status_code": "statusCode",
        "response_time": "responseTime",
        "response_seconds": "responseTime",
        "response_nanos": "responseTime",
    }
)
# What is done with a duration, by the names of raw fields.
UNITS: Mapping[str, str] = MappingProxyType(
    {"response_time": "milliseconds", "response_seconds": "seconds", "response_nanos": "nanoseconds"}
)
# Access logs write a dash where these have no value.
_MAY_BE_DASH = frozenset({"host", "time", "epoch", "trace_id", "status_code", *UNITS})
_NUMBER_ENDS = frozenset("0123456789.")
NOT_UNDERSTOOD = "not understood"


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldUse:
    """A field of a line, the field of the event that it becomes, and what is done with it; a field "" means none."""

    name: str
    field: str
    change: str = ""


def field_uses(event: ParsedEvent) -> list[tuple[FieldUse, str]]:
    """Return what becomes of each field of an event's line, with the text that stands there."""
    uses = [(_use(event, name, text), str(text)) for name, text in event.raw.items() if text]
    if not event.raw.get("service"):
        uses.append((FieldUse(name="(no field)", field="service", change="the default"), event.service))
    if not event.unknown_level and not (event.raw.get("level") or event.raw.get("priority")):
        uses.append((FieldUse(name="(no field)", field="level", change="the default"), event.level.name))
    return uses


def _use(event: ParsedEvent, name: str, text: str) -> FieldUse:
    shown = source_name(name, text)
    if is_attribute(name, text):
        return _attribute_use(event, shown, name, text)
    if name in _MAY_BE_DASH and not value_of(event.raw, name):
        return FieldUse(name=shown, field="", change="means no value")
    field, change = _CHANGES.get(JSON_NAMES[name], _text_change)(event, name, text)
    return FieldUse(name=shown, field=field, change=change)


def _text_change(event: ParsedEvent, name: str, text: str) -> tuple[str, str]:
    kept = {"service": event.service, "host": event.host, "record_id": event.record_id}.get(name)
    return JSON_NAMES[name], "cut" if kept is not None and len(kept) < len(text.strip()) else ""


def _level_change(event: ParsedEvent, _name: str, text: str) -> tuple[str, str]:
    if event.unknown_level:
        return "level", f"{NOT_UNDERSTOOD}, sent as INFO"
    return "level", "" if text.strip() == event.level.name else f"is {event.level.name}"


def _time_change(event: ParsedEvent, _name: str, _text: str) -> tuple[str, str]:
    return "eventTime", NOT_UNDERSTOOD if event.time_is_unknown else ""


def _status_change(event: ParsedEvent, name: str, _text: str) -> tuple[str, str]:
    is_kept = event.status_code is None
    return (RAW_ATTRIBUTE_PREFIX + name, "not a status from 100 to 599") if is_kept else ("statusCode", "")


def _trace_change(event: ParsedEvent, name: str, text: str) -> tuple[str, str]:
    if not event.trace_id:
        return RAW_ATTRIBUTE_PREFIX + name, "not a trace id"
    is_short = len(text.strip().replace("-", "")) < TRACE_ID_DIGITS
    return "traceId", "padded with zeros" if is_short else ""


def _duration_change(event: ParsedEvent, name: str, text: str) -> tuple[str, str]:
    if name != next(one for one in UNITS if value_of(event.raw, one)):
        return RAW_ATTRIBUTE_PREFIX + source_name(name, text), "another field has the duration"
    if event.response_time is None:
        return f"{RAW_ATTRIBUTE_PREFIX}response_time", "not a duration"
    unit = UNITS[name] if text.strip()[-1:] in _NUMBER_ENDS else "the unit in the text"
    return "responseTime", "" if unit == UNITS["response_time"] else f"from {unit} to milliseconds"


# For each field of the contract: the field that a text becomes, and what is done with it.
_CHANGES = {
    "level": _level_change,
    "eventTime": _time_change,
    "statusCode": _status_change,
    "traceId": _trace_change,
    "responseTime": _duration_change,
}


def _attribute_use(event: ParsedEvent, shown: str, name: str, text: str) -> FieldUse:
    key = name.removeprefix(RAW_ATTRIBUTE_PREFIX)
    if key[:MAX_ATTRIBUTE_KEY] not in event.attributes:
        return FieldUse(name=shown, field="", change="left out: too many attributes")
    is_cut = max(len(key) - MAX_ATTRIBUTE_KEY, len(text) - MAX_ATTRIBUTE_VALUE) > 0
    change = "cut" if is_cut else "a list, as JSON text" if isinstance(text, SourceText) and text.is_list else ""
    return FieldUse(name=shown, field=RAW_ATTRIBUTE_PREFIX + key[:MAX_ATTRIBUTE_KEY], change=change)
