"""Reading lines by a format, and finding out which format that is."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, tzinfo
from math import inf, nan

from cli.lines.event import LineEvent, Refused
from cli.lines.formats import FORMATS, PLAIN, LineFormat
from cli.lines.values import level_of, level_of_priority, time_of
from services.domain.level import Level

# Which groups are fields of the event, and their names in the contract; the others become attributes.
_FIELDS = {
    "service": "service",
    "level": "level",
    "priority": "level",
    "time": "eventTime",
    "epoch": "eventTime",
    "message": "message",
    "status_code": "statusCode",
    "response_time": "responseTime",
    "response_seconds": "responseTime",
    "host": "host",
    "trace_id": "traceId",
    "record_id": "recordId",
}
# How a line says that it does not say something; access logs write a dash.
_NOTHING = ""
_NOTHINGS = (_NOTHING, "-")
_MAX_STATUS = 999
# A format is believed when it reads at least this share of the lines that it is shown.
_BELIEVED = 0.5


def detect(lines: Sequence[str]) -> LineFormat:
    """The format that reads the most of some lines, PLAIN when none reads half of them.

    Indented lines continue others, as in stack traces, and do not count.
    """
    wanted = [line for line in lines if line.strip() and not line[0].isspace()]
    if not wanted:
        return PLAIN
    hits = {kind.name: sum(kind.found(line) is not None for line in wanted) for kind in FORMATS}
    best = max(FORMATS, key=lambda kind: hits[kind.name])
    return best if hits[best.name] >= _BELIEVED * len(wanted) else PLAIN


def parsed(
    line: str, kind: LineFormat, *, service: str, now: datetime, zone: tzinfo = UTC
) -> LineEvent | Refused | None:
    """One line by a format; None when it does not fit."""
    found = kind.found(line)
    return None if found is None else event_of(found, service=service, level=kind.level, now=now, zone=zone)


def event_of(
    found: Mapping[str, str], *, service: str, level: Level, now: datetime, zone: tzinfo
) -> LineEvent | Refused:
    """An event of named texts, which are named as the groups of formats are; refused when a number is none."""
    status_code, response_time = _number(found, "status_code"), _milliseconds(found)
    if status_code is not None and not (status_code.is_integer() and 0 <= status_code <= _MAX_STATUS):
        return Refused(field="statusCode", expected=f"a number from 0 to {_MAX_STATUS}")
    if response_time is not None and not 0 <= response_time < inf:
        return Refused(field="responseTime", expected="a finite number of milliseconds, 0 or more")
    event_time, is_unknown = _time(found, now, zone)
    return LineEvent(
        level=level_of(found.get("level", "")) or level_of_priority(found.get("priority", "")) or level,
        message=found.get("message", "").strip() or " ".join(found.values()),
        service=found.get("service") or service,
        event_time=event_time,
        time_is_unknown=is_unknown,
        status_code=None if status_code is None else int(status_code),
        response_time=response_time,
        host=found.get("host", ""),
        trace_id=found.get("trace_id", ""),
        record_id=found.get("record_id", ""),
        attributes={name: value for name, value in found.items() if name not in _FIELDS and value},
    )


def field_of(name: str) -> str:
    """The contract's name for what a line names so."""
    return _FIELDS.get(name, "attributes")


def _time(found: Mapping[str, str], now: datetime, zone: tzinfo) -> tuple[datetime | None, bool]:
    """The time, and whether there is one that is not understood."""
    texts = [text for name in ("time", "epoch") if (text := found.get(name, _NOTHING)) not in _NOTHINGS]
    times = (time_of(text, now=now, zone=zone) for text in texts)
    moment = next((time for time in times if time), None)
    return moment, bool(texts) and moment is None


def _milliseconds(found: Mapping[str, str]) -> float | None:
    milliseconds, seconds = _number(found, "response_time"), _number(found, "response_seconds")
    return seconds * 1000 if milliseconds is None and seconds is not None else milliseconds


def _number(found: Mapping[str, str], name: str) -> float | None:
    """None when there is none, NaN when it is not a number."""
    text = found.get(name, _NOTHING)
    if text in _NOTHINGS:
        return None
    try:
        return float(text)
    except ValueError:
        return nan


def bare(line: str, service: str) -> LineEvent:
    """A line as it is."""
    return LineEvent(level=Level.INFO, message=line.strip(), service=service)
