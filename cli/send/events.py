"""Parsed lines become the events that are sent, with the times that the user chose."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta, tzinfo
from enum import StrEnum
from itertools import chain, islice
from pathlib import Path

from cli.parsing.event import InvalidLine, ParsedEvent, ParseNote
from cli.parsing.file_parser import FileParser
from cli.parsing.format_types import LineFormat
from cli.parsing.multiline import ParsedLines, join_lines
from cli.send.log_file import STDIN, LogFile, read_tail, service_name_of, split_lines
from services.chassis.clock import Clock
from services.contract.timestamps import datetime_of, timestamp_of
from tocsin.logs.v1.log_event_pb2 import LogEvent

# How many lines decide which formats a file has.
MAX_SAMPLE_LINES = 200
MAX_EXPLAINED_EVENTS = 20


class TimeMode(StrEnum):
    """Which event time is sent: that of the line, none (arrival), or that of the line moved to end now."""

    LOG = "log"
    ARRIVAL = "arrival"
    SHIFT = "shift"


@dataclass(frozen=True, slots=True, kw_only=True)
class OutgoingEvent:
    """An event to send, and its lines in the file."""

    first_line: int
    last_line: int
    event: LogEvent
    line_count: int = 1
    notes: tuple[ParseNote, ...] = ()
    unknown_level: str = ""
    # No rule evaluates it any more.
    is_too_late: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusedLine:
    """A line that is not an event, or that the server refused."""

    line: int
    field: str
    reason: str
    line_count: int = 1


def parse_lines(
    lines: Iterator[str | None], *, line_format: LineFormat | None, service: str, clock: Clock, zone: tzinfo = UTC
) -> tuple[FileParser, Iterator[ParsedLines | None]]:
    """Parse lines; the first of them decide which formats they have, unless one is given."""
    sample = list(_take_sample(lines))
    texts = [line for line in sample if line is not None]
    parser = FileParser(texts, line_format=line_format, service=service, now=clock.now, zone=zone)
    return parser, join_lines(chain(sample, lines), parser)


def _take_sample(lines: Iterator[str | None]) -> Iterator[str | None]:
    """Return the first lines, or fewer when a tick comes after one of them."""
    has_lines = False
    for line in islice(lines, MAX_SAMPLE_LINES):
        yield line
        if line is None and has_lines:
            return
        has_lines = has_lines or line is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class ParseOptions:
    """How the user wants a file to be parsed; an empty service means that of the file's name."""

    line_format: LineFormat | None
    service: str
    clock: Clock
    zone: tzinfo

    def parse(self, file: LogFile) -> tuple[FileParser, Iterator[ParsedLines | None]]:
        """Parse a file."""
        return self._parse(file.lines(), file.name)

    def parse_first(self, file: LogFile) -> tuple[FileParser, list[ParsedLines]]:
        """Parse the first events of a file."""
        parser, parsed = self._parse(islice(file.lines(), MAX_SAMPLE_LINES), file.name)
        first = islice((lines for lines in parsed if lines is not None), MAX_EXPLAINED_EVENTS)
        return parser, [_refuse_unknown_time(lines) for lines in first]

    def newest_time(self, path: Path) -> datetime | None:
        """Return the newest time among the last events of a file; None for standard input."""
        if str(path) == STDIN or not path.is_file():
            return None
        _, parsed = self._parse(split_lines(iter([read_tail(path)])), path.name)
        return max(_times_of(parsed), default=None)

    def _parse(self, lines: Iterator[str | None], name: str) -> tuple[FileParser, Iterator[ParsedLines | None]]:
        service = self.service or service_name_of(name)
        return parse_lines(lines, line_format=self.line_format, service=service, clock=self.clock, zone=self.zone)


def _refuse_unknown_time(lines: ParsedLines) -> ParsedLines:
    if not isinstance(lines.event, ParsedEvent) or not lines.event.time_is_unknown:
        return lines
    return replace(lines, event=_invalid_time(lines.event))


def _invalid_time(event: ParsedEvent) -> InvalidLine:
    """Return why an event is refused whose time is not understood, or moves out of the calendar."""
    return InvalidLine(
        field="eventTime",
        expected="a time such as 2026-01-31T12:00:00Z",
        found=event.raw.get("time") or event.raw.get("epoch", ""),
        hint="--times arrival sends it as now",
    )


def _never(_time: datetime) -> bool:
    return False


def events_to_send(
    parsed: Iterator[ParsedLines | None],
    times: TimeMode,
    *,
    now: datetime,
    is_too_late: Callable[[datetime], bool] = _never,
) -> Iterator[OutgoingEvent | RefusedLine | None]:
    """Return events with the chosen times, and ticks; SHIFT reads all of them first, and moves the last one to now.

    Events whose time `is_too_late` are marked.
    """
    shift: timedelta | None = timedelta() if times is TimeMode.LOG else None
    if times is TimeMode.SHIFT:
        held = list(parsed)
        shift, parsed = now - max(_times_of(held), default=now), iter(held)
    return (None if lines is None else _to_send(lines, shift, is_too_late) for lines in parsed)


def _times_of(parsed: Iterable[ParsedLines | None]) -> Iterator[datetime]:
    events = (lines.event for lines in parsed if lines is not None)
    return (event.event_time for event in events if isinstance(event, ParsedEvent) and event.event_time)


def _to_send(
    lines: ParsedLines, shift: timedelta | None, is_too_late: Callable[[datetime], bool]
) -> OutgoingEvent | RefusedLine:
    parsed = lines.event
    if isinstance(parsed, InvalidLine):
        return _refused(lines, parsed)
    event = _to_proto(parsed, shift)
    if event is None:
        return _refused(lines, _invalid_time(parsed))
    return OutgoingEvent(
        first_line=lines.first_line,
        last_line=lines.last_line,
        event=event,
        line_count=lines.line_count,
        notes=tuple(parsed.notes),
        unknown_level=parsed.unknown_level,
        is_too_late=event.HasField("event_time") and is_too_late(datetime_of(event.event_time)),
    )


def _refused(lines: ParsedLines, why: InvalidLine) -> RefusedLine:
    return RefusedLine(line=lines.first_line, field=why.field, reason=why.reason, line_count=lines.line_count)


def _to_proto(event: ParsedEvent, shift: timedelta | None) -> LogEvent | None:
    """Return the contract's event, its time moved by `shift`, or without a time when `shift` is None.

    None when the time is not understood, or moves out of the calendar.
    """
    if event.time_is_unknown and shift is not None:
        return None
    message = LogEvent(
        record_id=event.record_id,
        service=event.service,
        level=LogEvent.Level.Name(event.level),  # type: ignore[arg-type]  # protobuf takes an enum's name as well
        message=event.message,
        host=event.host,
        trace_id=event.trace_id,
        attributes=event.attributes,
    )
    if event.status_code is not None:
        message.status_code = event.status_code
    if event.response_time is not None:
        message.response_time = event.response_time
    if event.event_time is not None and shift is not None:
        try:
            message.event_time.CopyFrom(timestamp_of(event.event_time + shift))
        except OverflowError:
            return None
    return message
