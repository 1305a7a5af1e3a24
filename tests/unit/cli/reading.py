"""Lines as `tocsin send` reads them, at a moment of 2026-11-27."""

from collections.abc import Sequence
from datetime import UTC, datetime, tzinfo
from typing import Any

from cli.parsing.event import LineEvent, Refused
from cli.send.log_file import read
from tests.fakes.clock import FakeClock

NOW = datetime(2026, 11, 27, 12, 0, tzinfo=UTC)


def events_of(lines: Sequence[str], *, zone: tzinfo = UTC, now: datetime = NOW, **chosen: Any) -> list[LineEvent]:
    """The events of some lines, of which none is refused."""
    _, reads = read(iter(lines), **{"kind": None, "service": "s", "clock": FakeClock(now), "zone": zone} | chosen)
    events = [one.event for one in reads if one is not None]
    assert not [event for event in events if isinstance(event, Refused)]
    return [event for event in events if isinstance(event, LineEvent)]


def event_of(line: str, **chosen: Any) -> LineEvent:
    """The event of a line alone."""
    (event,) = events_of([line], **chosen)
    return event
