"""Lines that belong together become one event: stack traces, statements over several lines, parts of one line."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime

from cli.parsing.event import InvalidLine, ParsedEvent, ParseNote
from cli.parsing.file_parser import FileParser, UnwrappedLine, unwrap

# What the contract allows by default (INGEST_MAX_MESSAGE_BYTES).
MAX_EVENT_MESSAGE_BYTES = 32_768
# In a file with more streams the event of the oldest one ends early.
MAX_OPEN_STREAMS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class ParsedLines:
    """An event, or why there is none, and its lines, counted from 1; `line_count` leaves out blank lines."""

    event: ParsedEvent | InvalidLine
    first_line: int
    last_line: int
    line_count: int


@dataclass(slots=True, kw_only=True)
class _OpenText:
    """Lines so far; those beyond the longest message are counted, not kept."""

    first_line: int
    last_line: int
    line_count: int = 1
    more: list[str] = field(default_factory=list)
    more_bytes: int = 0
    is_fresh: bool = True

    def append(self, text: str, last_line: int, line_count: int, *, gap: int) -> None:
        if self.more_bytes <= MAX_EVENT_MESSAGE_BYTES:
            self.more.append(text)
        self.more_bytes += len(text.encode("utf-8", "replace")) + gap
        self.line_count += line_count
        self.last_line = last_line
        self.is_fresh = True

    def is_idle(self) -> bool:
        """Return whether nothing was added since the last call."""
        was_fresh, self.is_fresh = self.is_fresh, False
        return not was_fresh


@dataclass(slots=True, kw_only=True)
class _OpenLine(_OpenText):
    """The parts of one line so far."""

    line: UnwrappedLine

    def joined(self) -> UnwrappedLine:
        return replace(self.line, text="".join([self.line.text, *self.more]))


@dataclass(slots=True, kw_only=True)
class _OpenEvent(_OpenText):
    """An event and the lines that continue it so far."""

    event: ParsedEvent | InvalidLine

    def close(self) -> ParsedLines:
        return ParsedLines(
            event=self._joined(), first_line=self.first_line, last_line=self.last_line, line_count=self.line_count
        )

    def _joined(self) -> ParsedEvent | InvalidLine:
        if isinstance(self.event, InvalidLine):
            return self.event
        size = len(self.event.message.encode("utf-8", "replace")) + self.more_bytes
        if not self.more and size <= MAX_EVENT_MESSAGE_BYTES:
            return self.event
        text = "\n".join([self.event.message, *self.more])
        return replace(self.event, message=text if size <= MAX_EVENT_MESSAGE_BYTES else _cut(text, size))


class _LineJoiner:
    """The open line and event of each stream of a file; a file that is not a container's log has one stream."""

    def __init__(self, parser: FileParser) -> None:
        self._parser = parser
        self._open_lines: dict[str, _OpenLine] = {}
        self._open_events: dict[str, _OpenEvent] = {}
        # The time of the line before, until a tick passes.
        self._last_time: datetime | None = None

    def add(self, text: str, number: int) -> Iterator[ParsedLines]:
        """Take a line, and return the events that it ends."""
        line = unwrap(text)
        open_line = self._open_lines.pop(line.stream, None)
        if open_line is None:
            open_line = _OpenLine(line=line, first_line=number, last_line=number)
        else:
            open_line.append(line.text, number, 1, gap=0)
        if line.is_part:
            self._open_lines[line.stream] = open_line
            if len(self._open_lines) > MAX_OPEN_STREAMS:
                yield from self._end_line(self._open_lines.pop(next(iter(self._open_lines))))
        else:
            yield from self._end_line(open_line)

    def tick(self) -> Iterator[ParsedLines]:
        """Return the events to which nothing was added since the last tick."""
        self._last_time = None
        for stream in [stream for stream, line in self._open_lines.items() if line.is_idle()]:
            yield from self._end_line(self._open_lines.pop(stream))
        for stream in [stream for stream, event in self._open_events.items() if event.is_idle()]:
            yield self._open_events.pop(stream).close()

    def end(self) -> Iterator[ParsedLines]:
        """Return all events that are left."""
        while self._open_lines:
            yield from self._end_line(self._open_lines.pop(next(iter(self._open_lines))))
        yield from sorted((event.close() for event in self._open_events.values()), key=lambda lines: lines.first_line)

    def _end_line(self, open_line: _OpenLine) -> Iterator[ParsedLines]:
        line = open_line.joined() if open_line.more else open_line.line
        open_event = self._open_events.get(line.stream)
        event = self._parser.parse(line, None if open_event is None else open_event.event)
        if event is None and open_event is not None:
            open_event.append(line.text, open_line.last_line, open_line.line_count, gap=1)
            return
        if open_event is not None:
            yield self._open_events.pop(line.stream).close()
        self._open_events[line.stream] = _OpenEvent(
            event=self._with_time(event or self._parser.parse_orphan(line)),
            first_line=open_line.first_line,
            last_line=open_line.last_line,
            line_count=open_line.line_count,
        )
        if len(self._open_events) > MAX_OPEN_STREAMS:
            yield self._open_events.pop(next(iter(self._open_events))).close()

    def _with_time(self, event: ParsedEvent | InvalidLine) -> ParsedEvent | InvalidLine:
        """Give an event without a time that of the line before it; without one it gets its time on arrival."""
        if isinstance(event, InvalidLine) or event.time_is_unknown:
            return event
        if event.event_time is None:
            return replace(event, event_time=self._last_time, notes=event.notes | {ParseNote.NO_TIME})
        self._last_time = event.event_time
        return event


def join_lines(lines: Iterable[str | None], parser: FileParser) -> Iterator[ParsedLines | None]:
    """Parse lines; a line that is not an event of its own continues the one before it, as those of stack traces do.

    Blank lines give nothing. A None among the lines is a tick: it is returned as well, after the events to which
    nothing was added since the last tick.
    """
    joiner = _LineJoiner(parser)
    number = 0
    for line in lines:
        number += line is not None
        if line is None:
            yield from joiner.tick()
            yield None
        elif line.strip():
            yield from joiner.add(line, number)
    yield from joiner.end()


def _cut(text: str, size: int) -> str:
    mark = f"\n[cut, was {size} bytes]"
    return text.encode("utf-8", "replace")[: MAX_EVENT_MESSAGE_BYTES - len(mark)].decode("utf-8", "ignore") + mark
