"""Raw fields become an event; invalid values are converted, cut or kept as attributes, so that they never refuse it."""

import re
from collections.abc import Iterator, Mapping
from datetime import datetime, tzinfo
from math import isfinite

from cli.parsing.event import ParsedEvent, ParseNote
from cli.parsing.field_names import RAW_ATTRIBUTE_PREFIX, SourceText
from cli.parsing.format_types import RawFields
from cli.parsing.levels import parse_level, parse_priority
from cli.parsing.timestamps import Now, has_zone, parse_timestamp
from services.domain.event_fields import (
    DEFAULT_MAX_ATTRIBUTES,
    MAX_ATTRIBUTE_KEY,
    MAX_ATTRIBUTE_VALUE,
    MAX_HOST,
    MAX_RECORD_ID,
    MAX_SERVICE,
    MAX_STATUS,
    MILLISECONDS,
    MIN_STATUS,
    TRACE_ID_DIGITS,
    normalized_trace_id,
    without_surrogates,
)
from services.domain.level import Level

# Raw fields that do not become attributes.
_EVENT_FIELDS = frozenset(
    {
        *("service", "level", "priority", "time", "epoch", "message", "status_code"),
        *("response_time", "response_seconds", "response_nanos", "host", "trace_id", "record_id"),
    }
)
# Access logs write a dash for no value.
_NO_VALUES = ("", "-")
# What programs write beside the units of the contract.
_UNITS = MILLISECONDS | {"sec": 1e3, "min": 60e3}
_DURATION = re.compile(r"([+-]?\d+(?:\.\d*)?(?:[eE][+-]?\d+)?)\s*([a-zµμ]*)", re.ASCII)
_UNIT_OF_FIELD = {"response_time": "ms", "response_seconds": "s", "response_nanos": "ns"}


def build_event(
    fields: RawFields, *, default_service: str, default_level: Level | None, now: Now, zone: tzinfo
) -> ParsedEvent:
    """Build an event of raw fields, with defaults for what is not among them."""
    builder = _EventBuilder()
    fields = builder.replace_surrogates(fields)
    event_time, time_is_unknown = _parse_time(fields, now, zone)
    level, unknown_level = _parse_level(fields)
    if unknown_level:
        builder.notes.add(ParseNote.UNKNOWN_LEVEL)
    status_code, response_time = builder.status_code(fields), builder.response_time(fields)
    trace_id = builder.trace_id(fields)
    # A line with a status, as in access logs, needs no level.
    if level is None and default_level is None and status_code is None and not unknown_level:
        builder.notes.add(ParseNote.NO_LEVEL)
    return ParsedEvent(
        level=level or default_level or Level.INFO,
        message=fields.get("message", "").strip(),
        service=builder.cut(fields.get("service") or default_service, MAX_SERVICE),
        event_time=event_time,
        time_is_unknown=time_is_unknown,
        status_code=status_code,
        response_time=response_time,
        host=builder.cut(value_of(fields, "host"), MAX_HOST),
        trace_id=trace_id,
        record_id=builder.cut(fields.get("record_id", ""), MAX_RECORD_ID),
        attributes=builder.attributes(fields),
        notes=frozenset(builder.notes),
        unknown_level=unknown_level,
        raw=fields,
    )


def value_of(fields: RawFields, name: str) -> str:
    """Return the text of a field, or an empty one where it means that there is no value."""
    text = fields.get(name, "").strip()
    return "" if text in _NO_VALUES else text


def source_name(name: str, text: str) -> str:
    """Return the name that a raw field has in the line."""
    return text.name if isinstance(text, SourceText) else name.removeprefix(RAW_ATTRIBUTE_PREFIX)


def is_attribute(name: str, text: str) -> bool:
    """Return whether a raw field becomes an attribute as it is."""
    is_event_field = name in _EVENT_FIELDS and not (name == "priority" and not text.isdecimal())
    return not is_event_field and bool(name and text)


def _without_surrogates(text: str) -> str:
    clean = without_surrogates(text)
    return (
        SourceText(clean, without_surrogates(text.name), is_list=text.is_list)
        if isinstance(text, SourceText)
        else clean
    )


def _parse_time(fields: RawFields, now: Now, zone: tzinfo) -> tuple[datetime | None, bool]:
    """Return the time, and whether there is one that is not understood."""
    texts = {name: text for name in ("time", "epoch") if (text := value_of(fields, name))}
    parsed = {name: parse_timestamp(text, now=now, zone=zone) for name, text in texts.items()}
    event_time, epoch = parsed.get("time"), parsed.get("epoch")
    # Seconds since 1970 need no zone; the other time has their fraction.
    if epoch and event_time and not has_zone(texts["time"]):
        event_time = epoch.replace(microsecond=event_time.microsecond)
    event_time = event_time or epoch
    return event_time, bool(texts) and event_time is None


def _parse_level(fields: RawFields) -> tuple[Level | None, str]:
    """Return the level, and what stands in its place when that is not a level.

    Syslog's priority counts where there is no level, or where it is graver: programs that set no priority get the
    default one.
    """
    text = fields.get("level", "").strip()
    level = parse_level(text) if text else None
    priority = parse_priority(fields.get("priority", ""))
    if priority and (level is None or priority[1]):
        return max(priority[0], level or priority[0]), "" if level or not text else text
    return level, "" if level else text


class _EventBuilder:
    """Converts values, and collects notes and what is kept of invalid values."""

    def __init__(self) -> None:
        self.notes: set[ParseNote] = set()
        self._kept: dict[str, str] = {}

    def replace_surrogates(self, fields: RawFields) -> RawFields:
        """Replace half surrogate pairs, which JSON allows; invalid UTF-8 was replaced before."""
        if all(name.isascii() and text.isascii() for name, text in fields.items()):
            return fields
        clean = {without_surrogates(name): _without_surrogates(text) for name, text in fields.items()}
        if any("\ufffd" in name + text for name, text in clean.items()):
            self.notes.add(ParseNote.TEXT_REPLACED)
        return clean

    def status_code(self, fields: RawFields) -> int | None:
        text = value_of(fields, "status_code")
        if not text:
            return None
        if re.fullmatch(r"\d{3}(?:\.0)?", text, re.ASCII) and MIN_STATUS <= int(text[:3]) <= MAX_STATUS:
            return int(text[:3])
        self._keep("status_code", text, ParseNote.STATUS_KEPT)
        return None

    def response_time(self, fields: RawFields) -> float | None:
        """Return milliseconds; a unit in the text wins over the one of the field's name."""
        names = [name for name in _UNIT_OF_FIELD if value_of(fields, name)]
        if not names:
            return None
        name, *others = names
        self._kept |= {source_name(other, fields[other]): fields[other] for other in others}
        text = value_of(fields, name)
        match = _DURATION.fullmatch(text)
        factor = _UNITS.get(match[2] or _UNIT_OF_FIELD[name]) if match else None
        duration = float(match[1]) * factor if match and factor else -1.0
        if not (isfinite(duration) and duration >= 0):
            self._keep("response_time", text, ParseNote.DURATION_KEPT)
            return None
        if match and match[2]:
            self.notes.add(ParseNote.DURATION_CONVERTED)
        return duration

    def trace_id(self, fields: RawFields) -> str:
        text = value_of(fields, "trace_id")
        if not text:
            return ""
        trace_id = normalized_trace_id(text)
        if trace_id is None:
            self._keep("trace_id", text, ParseNote.TRACE_ID_KEPT)
            return ""
        if len(text.replace("-", "")) < TRACE_ID_DIGITS:
            self.notes.add(ParseNote.TRACE_ID_PADDED)
        return trace_id

    def cut(self, text: str, max_length: int) -> str:
        if len(text) > max_length:
            self.notes.add(ParseNote.TEXT_CUT)
        return text[:max_length]

    def attributes(self, fields: RawFields) -> Mapping[str, str]:
        """Return all that is not a field of the event, within the limits; kept values of fields come first."""
        attributes = self._kept | dict(self._other_fields(fields))
        if len(attributes) > DEFAULT_MAX_ATTRIBUTES:
            self.notes.add(ParseNote.ATTRIBUTES_LEFT_OUT)
            attributes = dict(list(attributes.items())[:DEFAULT_MAX_ATTRIBUTES])
        return {
            self.cut(name, MAX_ATTRIBUTE_KEY): self.cut(value, MAX_ATTRIBUTE_VALUE)
            for name, value in attributes.items()
        }

    def _other_fields(self, fields: RawFields) -> Iterator[tuple[str, str]]:
        for name, value in fields.items():
            if is_attribute(name, value):
                yield name.removeprefix(RAW_ATTRIBUTE_PREFIX), value

    def _keep(self, name: str, text: str, note: ParseNote) -> None:
        self._kept[name] = text
        self.notes.add(note)
