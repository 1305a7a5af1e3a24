"""Lines as `tocsin send` parses them, at noon of 2026-11-27 or another time."""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, tzinfo

from cli.parsing.event import InvalidLine, ParsedEvent
from cli.parsing.format_types import LineFormat
from cli.parsing.multiline import ParsedLines
from cli.send.events import parse_lines
from tests.fakes.clock import FakeClock

NOON = datetime(2026, 11, 27, 12, 0, tzinfo=UTC)


def parsed_lines(
    lines: Iterable[str | None],
    *,
    line_format: LineFormat | None = None,
    zone: tzinfo = UTC,
    clock: FakeClock | None = None,
) -> Iterator[ParsedLines | None]:
    """Events or invalid lines, and ticks."""
    clock = clock or FakeClock(NOON)
    _, parsed = parse_lines(iter(lines), line_format=line_format, service="s", clock=clock, zone=zone)
    return parsed


def events_and_lines(
    lines: Iterable[str | None], *, line_format: LineFormat | None = None
) -> Iterator[tuple[ParsedEvent, ParsedLines]]:
    """Events, of which none is invalid, and their lines; without ticks."""
    for parsed in parsed_lines(lines, line_format=line_format):
        if parsed is not None:
            assert isinstance(parsed.event, ParsedEvent)
            yield parsed.event, parsed


def events_of(
    lines: Iterable[str | None],
    *,
    line_format: LineFormat | None = None,
    zone: tzinfo = UTC,
    clock: FakeClock | None = None,
) -> list[ParsedEvent]:
    """The events of some lines, of which none is invalid."""
    parsed = parsed_lines(lines, line_format=line_format, zone=zone, clock=clock)
    events = [one.event for one in parsed if one is not None]
    assert not [event for event in events if isinstance(event, InvalidLine)]
    return [event for event in events if isinstance(event, ParsedEvent)]


def event_of(line: str, *, line_format: LineFormat | None = None) -> ParsedEvent:
    """The event of a line alone."""
    (event,) = events_of([line], line_format=line_format)
    return event
