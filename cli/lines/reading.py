"""Reading lines by a format, and finding out which format that is."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, tzinfo
from math import isfinite

from cli.lines.event import LineEvent
from cli.lines.formats import FORMATS, PLAIN, LineFormat
from cli.lines.values import level_of, level_of_priority, time_of
from services.domain.level import Level

# Which groups are fields of the event; the others become attributes.
_FIELDS = frozenset(
    [
        "service",
        "level",
        "time",
        "message",
        "status_code",
        "response_time",
        "response_seconds",
        "host",
        "trace_id",
        "record_id",
        "epoch",
        "priority",
    ]
)
# A format is believed when it reads at least this share of the lines that it is shown.
_BELIEVED = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """An event and the lines that it was made of, counted from 1."""

    event: LineEvent
    first_line: int
    line_count: int


def detect(lines: Sequence[str]) -> LineFormat:
    """The format that reads the most of some lines, PLAIN when none reads half of them."""
    wanted = [line for line in lines if line.strip()]
    if not wanted:
        return PLAIN
    hits = {kind.name: sum(kind.found(line) is not None for line in wanted) for kind in FORMATS}
    best = max(FORMATS, key=lambda kind: hits[kind.name])
    return best if hits[best.name] >= _BELIEVED * len(wanted) else PLAIN


def events(
    lines: Iterable[str], kind: LineFormat, *, service: str, now: datetime, zone: tzinfo = UTC
) -> Iterator[Read]:
    """Read lines by a format; what does not fit continues the event before it, as stack traces do.

    Blank lines give nothing. A line that fits nothing and continues nothing is an event of its own, with the line as
    its message.
    """
    held: Read | None = None
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        event = parsed(line, kind, service=service, now=now, zone=zone)
        if event is None and held is not None:
            held = _continued(held, line)
            continue
        if held is not None:
            yield held
        held = Read(event=event or _bare(line, service), first_line=number, line_count=1)
    if held is not None:
        yield held


def parsed(line: str, kind: LineFormat, *, service: str, now: datetime, zone: tzinfo = UTC) -> LineEvent | None:
    """One line by a format; None when it does not fit."""
    found = kind.found(line)
    return None if found is None else event_of(found, service=service, level=kind.level, now=now, zone=zone)


def event_of(found: Mapping[str, str], *, service: str, level: Level, now: datetime, zone: tzinfo) -> LineEvent:
    """An event of named texts, which are named as the groups of formats are."""
    return LineEvent(
        level=level_of(found.get("level", "")) or level_of_priority(found.get("priority", "")) or level,
        message=found.get("message", "").strip() or " ".join(found.values()),
        service=found.get("service") or service,
        event_time=_time(found, now, zone),
        status_code=int(found["status_code"]) if found.get("status_code", "").isdigit() else None,
        response_time=_milliseconds(found),
        host=found.get("host", ""),
        trace_id=found.get("trace_id", ""),
        record_id=found.get("record_id", ""),
        attributes={name: value for name, value in found.items() if name not in _FIELDS and value},
    )


def _time(found: Mapping[str, str], now: datetime, zone: tzinfo) -> datetime | None:
    times = (time_of(found.get(name, ""), now=now, zone=zone) for name in ("time", "epoch"))
    return next((time for time in times if time), None)


def _milliseconds(found: Mapping[str, str]) -> float | None:
    for name, factor in (("response_time", 1.0), ("response_seconds", 1000.0)):
        try:
            value = float(found[name]) * factor
        except (KeyError, ValueError):
            continue
        return value if isfinite(value) else None
    return None


def _continued(held: Read, line: str) -> Read:
    event = replace(held.event, message=f"{held.event.message}\n{line}")
    return replace(held, event=event, line_count=held.line_count + 1)


def _bare(line: str, service: str) -> LineEvent:
    return LineEvent(level=Level.INFO, message=line.strip(), service=service)
