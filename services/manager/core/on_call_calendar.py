"""The shifts of a schedule as an iCalendar object (RFC 5545): lines of at most 75 octets, texts escaped, times in UTC.

A shift's UID is made of its schedule, its layer and its start: a calendar that is read again updates its events.
"""

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime

from services.domain.fingerprint import digest
from services.manager.core.on_call import OVERRIDE, OnCallShift, Person, Schedule

_MAX_OCTETS = 75
_ESCAPES = {"\\": "\\\\", ";": "\\;", ",": "\\,", "\n": "\\n"}


def calendar_text(
    schedule: Schedule, shifts: Iterable[OnCallShift], people: Mapping[str, Person], *, now: datetime
) -> str:
    """Return a calendar with these shifts."""
    lines = [
        "BEGIN:VCALENDAR",
        "VERSION:2.0",
        "PRODID:-//Tocsin//On-call schedules//EN",
        "CALSCALE:GREGORIAN",
        "METHOD:PUBLISH",
        f"X-WR-CALNAME:{_escaped(f'On call: {schedule.name}')}",
        "REFRESH-INTERVAL;VALUE=DURATION:PT1H",
        *(line for shift in shifts for line in _event(schedule, shift, people, now)),
        "END:VCALENDAR",
    ]
    return "".join(f"{part}\r\n" for line in lines for part in _folded(line))


def _event(schedule: Schedule, shift: OnCallShift, people: Mapping[str, Person], now: datetime) -> Iterator[str]:
    person = people.get(shift.person)
    shown = shift.person if person is None else person.display_name or person.name
    source = "by an override" if shift.source == OVERRIDE else f"by layer {shift.source}"
    yield "BEGIN:VEVENT"
    yield f"UID:{digest('shift', schedule.name, shift.source, _time(shift.start))[:32]}@tocsin"
    yield f"DTSTAMP:{_time(now)}"
    yield f"DTSTART:{_time(shift.start)}"
    yield f"DTEND:{_time(shift.end)}"
    yield f"SUMMARY:{_escaped(f'{shown} on call: {schedule.name}')}"
    yield f"DESCRIPTION:{_escaped(source)}"
    yield "TRANSP:TRANSPARENT"
    yield "END:VEVENT"


def _time(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y%m%dT%H%M%SZ}"


def _escaped(text: str) -> str:
    """Return a text as a property's value; other control characters have no place in it."""
    return "".join(_ESCAPES.get(char, char) for char in text if char == "\n" or char.isprintable())


def _folded(line: str) -> Iterator[str]:
    """Yield the parts of a line, each of at most 75 octets; all but the first begin with a space."""
    part, size = "", 0
    for char in line:
        octets = len(char.encode())
        if size + octets > _MAX_OCTETS:
            yield part
            part, size = " ", 1
        part += char
        size += octets
    yield part
