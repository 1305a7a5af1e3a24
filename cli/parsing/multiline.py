"""Lines that belong together become one event."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime

from cli.parsing.event import LineEvent, Note, Refused
from cli.parsing.file_parser import Piece, Reader, unwrapped

# What the contract allows by default (INGEST_MAX_MESSAGE_BYTES).
MAX_MESSAGE_BYTES = 32_768
# Streams in one file whose last lines are kept until it is known that nothing goes on with them.
MAX_STREAMS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """An event, or why there is none, and the lines that it was made of, counted from 1; blank ones do not count."""

    event: LineEvent | Refused
    first_line: int
    last_line: int
    line_count: int


@dataclass(slots=True, kw_only=True)
class _Text:
    """Lines so far; those beyond the longest message are counted, not kept."""

    first_line: int
    last_line: int
    line_count: int = 1
    more: list[str] = field(default_factory=list)
    more_bytes: int = 0
    is_fresh: bool = True

    def add(self, text: str, last_line: int, line_count: int, *, gap: int) -> None:
        if self.more_bytes <= MAX_MESSAGE_BYTES:
            self.more.append(text)
        self.more_bytes += len(text.encode("utf-8", "replace")) + gap
        self.line_count += line_count
        self.last_line = last_line
        self.is_fresh = True

    def is_at_rest(self) -> bool:
        """Whether nothing has been added since this was last asked."""
        was_fresh, self.is_fresh = self.is_fresh, False
        return not was_fresh


@dataclass(slots=True, kw_only=True)
class _Parts(_Text):
    """The parts of one line so far."""

    piece: Piece

    def whole(self) -> Piece:
        return replace(self.piece, text="".join([self.piece.text, *self.more]))


@dataclass(slots=True, kw_only=True)
class _Held(_Text):
    """An event and the lines that go on with it so far."""

    event: LineEvent | Refused

    def read(self) -> Read:
        return Read(
            event=self._whole(), first_line=self.first_line, last_line=self.last_line, line_count=self.line_count
        )

    def _whole(self) -> LineEvent | Refused:
        if isinstance(self.event, Refused):
            return self.event
        size = len(self.event.message.encode("utf-8", "replace")) + self.more_bytes
        if not self.more and size <= MAX_MESSAGE_BYTES:
            return self.event
        text = "\n".join([self.event.message, *self.more])
        return replace(self.event, message=text if size <= MAX_MESSAGE_BYTES else _cut(text, size))


class _Assembly:
    """What is held of each stream of a file; a file that is no container's has one."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._parts: dict[str, _Parts] = {}
        self._held: dict[str, _Held] = {}
        # The time of the line before, as long as that has just been read.
        self._time: datetime | None = None

    def add(self, line: str, number: int) -> Iterator[Read]:
        """Take a line; what it ends is handed on."""
        piece = unwrapped(line)
        parts = self._parts.pop(piece.stream, None)
        if parts is None:
            parts = _Parts(piece=piece, first_line=number, last_line=number)
        else:
            parts.add(piece.text, number, 1, gap=0)
        if piece.is_part:
            self._parts[piece.stream] = parts
            if len(self._parts) > MAX_STREAMS:
                yield from self._finish(self._parts.pop(next(iter(self._parts))))
        else:
            yield from self._finish(parts)

    def tick(self) -> Iterator[Read]:
        """A moment has passed: what nothing was added to since the one before is handed on."""
        self._time = None
        for stream in [stream for stream, parts in self._parts.items() if parts.is_at_rest()]:
            yield from self._finish(self._parts.pop(stream))
        for stream in [stream for stream, held in self._held.items() if held.is_at_rest()]:
            yield self._held.pop(stream).read()

    def end(self) -> Iterator[Read]:
        """Hand on all."""
        while self._parts:
            yield from self._finish(self._parts.pop(next(iter(self._parts))))
        yield from sorted((held.read() for held in self._held.values()), key=lambda read: read.first_line)

    def _finish(self, parts: _Parts) -> Iterator[Read]:
        piece = parts.whole() if parts.more else parts.piece
        held = self._held.get(piece.stream)
        event = self._reader.read(piece, None if held is None else held.event)
        if event is None and held is not None:
            held.add(piece.text, parts.last_line, parts.line_count, gap=1)
            return
        if held is not None:
            yield self._held.pop(piece.stream).read()
        self._held[piece.stream] = _Held(
            event=self._timed(event or self._reader.orphan(piece)),
            first_line=parts.first_line,
            last_line=parts.last_line,
            line_count=parts.line_count,
        )
        if len(self._held) > MAX_STREAMS:
            yield self._held.pop(next(iter(self._held))).read()

    def _timed(self, event: LineEvent | Refused) -> LineEvent | Refused:
        """An event that says no time happened with the line before it, or else as it arrives."""
        if isinstance(event, Refused) or event.time_is_unknown:
            return event
        if event.event_time is None:
            return replace(event, event_time=self._time, notes=event.notes | {Note.NO_TIME})
        self._time = event.event_time
        return event


def assembled(lines: Iterable[str | None], reader: Reader) -> Iterator[Read | None]:
    """Read lines; one that the reader has no event for goes on with the one before it, as those of stack traces do.

    Blank lines give nothing. A None among the lines says that a moment has passed: it is handed on, after the events
    that nothing has been added to since the None before.
    """
    assembly = _Assembly(reader)
    number = 0
    for line in lines:
        number += line is not None
        if line is None:
            yield from assembly.tick()
            yield None
        elif line.strip():
            yield from assembly.add(line, number)
    yield from assembly.end()


def _cut(text: str, size: int) -> str:
    mark = f"\n[cut, was {size} bytes]"
    return text.encode("utf-8", "replace")[: MAX_MESSAGE_BYTES - len(mark)].decode("utf-8", "ignore") + mark
