"""Named texts become an event; odd values are converted, cut or kept, so that they never refuse it."""

import re
from collections.abc import Iterator, Mapping
from datetime import datetime, tzinfo
from math import isfinite

from cli.parsing.event import LineEvent, Note
from cli.parsing.levels import level_of, level_of_priority
from cli.parsing.timestamps import Now, time_of
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

# Which names are fields of the event, and their names in the contract; the others become attributes.
FIELDS = {
    "service": "service",
    "level": "level",
    "priority": "level",
    "time": "eventTime",
    "epoch": "eventTime",
    "message": "message",
    "status_code": "statusCode",
    "response_time": "responseTime",
    "response_seconds": "responseTime",
    "response_nanos": "responseTime",
    "host": "host",
    "trace_id": "traceId",
    "record_id": "recordId",
}
# How a line says that it does not say something; access logs write a dash.
_NOTHINGS = ("", "-")
_UNITS = MILLISECONDS | {"sec": 1e3, "min": 60e3}
_DURATION = re.compile(r"([+-]?\d+(?:\.\d*)?(?:[eE][+-]?\d+)?)\s*([a-zµμ]*)", re.ASCII)
_IN_NAME = {"response_time": "ms", "response_seconds": "s", "response_nanos": "ns"}


def event_of(found: Mapping[str, str], *, service: str, level: Level | None, now: Now, zone: tzinfo) -> LineEvent:
    """An event of named texts, which are named as the groups of formats are; `level` is that of lines that say none."""
    odd = _Odd()
    found = odd.unicode(found)
    event_time, is_unknown = _time(found, now, zone)
    said, unknown_level = _level(found)
    if unknown_level:
        odd.note(Note.UNKNOWN_LEVEL)
    status_code, response_time, trace_id = odd.status(found), odd.duration(found), odd.trace_id(found)
    # What tells a status, as access logs do, says enough.
    if said is None and level is None and status_code is None and not unknown_level:
        odd.note(Note.NO_LEVEL)
    return LineEvent(
        level=said or level or Level.INFO,
        message=found.get("message", "").strip(),
        service=odd.cut(found.get("service") or service, MAX_SERVICE),
        event_time=event_time,
        time_is_unknown=is_unknown,
        status_code=status_code,
        response_time=response_time,
        host=odd.cut(_said(found, "host"), MAX_HOST),
        trace_id=trace_id,
        record_id=odd.cut(found.get("record_id", ""), MAX_RECORD_ID),
        attributes=odd.attributes(found),
        notes=frozenset(odd.notes),
        unknown_level=unknown_level,
    )


def _said(found: Mapping[str, str], name: str) -> str:
    text = found.get(name, "").strip()
    return "" if text in _NOTHINGS else text


def _time(found: Mapping[str, str], now: Now, zone: tzinfo) -> tuple[datetime | None, bool]:
    """The time, and whether there is one that is not understood."""
    texts = [text for name in ("time", "epoch") if (text := _said(found, name))]
    moment = next((time for text in texts if (time := time_of(text, now=now, zone=zone))), None)
    return moment, bool(texts) and moment is None


def _level(found: Mapping[str, str]) -> tuple[Level | None, str]:
    """The level that is said, and the word for it when it is not known.

    Syslog's priority counts where nothing else is said, or where it is graver: programs often say none, and get the
    usual one.
    """
    word = found.get("level", "").strip()
    said = level_of(word) if word else None
    assumed = level_of_priority(found.get("priority", ""))
    if assumed and (said is None or assumed[1]):
        return max(assumed[0], said or assumed[0]), "" if said or not word else word
    return said, "" if said else word


class _Odd:
    """What becomes of odd values, and what is to be told of them."""

    def __init__(self) -> None:
        self.notes: set[Note] = set()
        self._kept: dict[str, str] = {}

    def note(self, note: Note) -> None:
        self.notes.add(note)

    def unicode(self, found: Mapping[str, str]) -> Mapping[str, str]:
        """JSON can say half a surrogate pair, which is no text; bytes that are no UTF-8 were replaced before."""
        if all(name.isascii() and text.isascii() for name, text in found.items()):
            return found
        clean = {without_surrogates(name): without_surrogates(text) for name, text in found.items()}
        if any("\ufffd" in name + text for name, text in clean.items()):
            self.note(Note.TEXT_REPLACED)
        return clean

    def status(self, found: Mapping[str, str]) -> int | None:
        text = _said(found, "status_code")
        if not text:
            return None
        if re.fullmatch(r"\d{3}(?:\.0)?", text, re.ASCII) and MIN_STATUS <= int(text[:3]) <= MAX_STATUS:
            return int(text[:3])
        self._keep("status_code", text, Note.STATUS_KEPT)
        return None

    def duration(self, found: Mapping[str, str]) -> float | None:
        """Milliseconds; a unit in the text counts more than one in the name."""
        name = next((name for name in _IN_NAME if _said(found, name)), None)
        if name is None:
            return None
        text = _said(found, name)
        match = _DURATION.fullmatch(text)
        unit = _UNITS.get(match[2] or _IN_NAME[name]) if match else None
        duration = float(match[1]) * unit if match and unit else -1.0
        if not (isfinite(duration) and duration >= 0):
            self._keep("response_time", text, Note.DURATION_KEPT)
            return None
        if match and match[2]:
            self.note(Note.DURATION_CONVERTED)
        return duration

    def trace_id(self, found: Mapping[str, str]) -> str:
        text = _said(found, "trace_id")
        if not text:
            return ""
        trace_id = normalized_trace_id(text)
        if trace_id is None:
            self._keep("trace_id", text, Note.TRACE_ID_KEPT)
            return ""
        if len(text.replace("-", "")) < TRACE_ID_DIGITS:
            self.note(Note.TRACE_ID_PADDED)
        return trace_id

    def cut(self, text: str, most: int) -> str:
        if len(text) > most:
            self.note(Note.TEXT_CUT)
        return text[:most]

    def attributes(self, found: Mapping[str, str]) -> Mapping[str, str]:
        """All that is no field of the event, as far as there is room; what was kept of a field comes first."""
        kept = self._kept | dict(self._others(found))
        if len(kept) > DEFAULT_MAX_ATTRIBUTES:
            self.note(Note.ATTRIBUTES_LEFT_OUT)
            kept = dict(list(kept.items())[:DEFAULT_MAX_ATTRIBUTES])
        return {self.cut(name, MAX_ATTRIBUTE_KEY): self.cut(value, MAX_ATTRIBUTE_VALUE) for name, value in kept.items()}

    def _others(self, found: Mapping[str, str]) -> Iterator[tuple[str, str]]:
        for name, value in found.items():
            is_field = name in FIELDS and not (name == "priority" and not value.isdecimal())
            if not is_field and name and value:
                yield name, value

    def _keep(self, name: str, text: str, note: Note) -> None:
        self._kept[name] = text
        self.note(note)
