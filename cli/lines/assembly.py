"""Lines that belong together become one event."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace

from cli.lines.event import LineEvent, Refused

# What the contract allows by default (INGEST_MAX_MESSAGE_BYTES).
MAX_MESSAGE_BYTES = 32_768


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """An event, or why there is none, and the lines that it was made of, counted from 1; blank ones do not count."""

    event: LineEvent | Refused
    first_line: int
    last_line: int
    line_count: int


@dataclass(slots=True, kw_only=True)
class _Held:
    """The lines of an event so far; those beyond the longest message are counted, not kept."""

    event: LineEvent | Refused
    first_line: int
    last_line: int
    line_count: int = 1
    more: list[str] = field(default_factory=list)
    more_bytes: int = 0
    is_fresh: bool = True

    def add(self, line: str, number: int) -> None:
        if self.more_bytes <= MAX_MESSAGE_BYTES:
            self.more.append(line)
        self.more_bytes += len(line.encode("utf-8", "replace")) + 1
        self.line_count += 1
        self.last_line = number
        self.is_fresh = True

    def is_at_rest(self) -> bool:
        """Whether nothing has been added since this was last asked."""
        was_fresh, self.is_fresh = self.is_fresh, False
        return not was_fresh

    def read(self) -> Read:
        return Read(
            event=self._whole(), first_line=self.first_line, last_line=self.last_line, line_count=self.line_count
        )

    def _whole(self) -> LineEvent | Refused:
        if isinstance(self.event, Refused):
            return self.event
        size = len(self.event.message.encode("utf-8", "replace")) + self.more_bytes
        text = "\n".join([self.event.message, *self.more])
        return replace(self.event, message=text if size <= MAX_MESSAGE_BYTES else _cut(text, size))


def assembled(
    lines: Iterable[str | None],
    parse: Callable[[str], LineEvent | Refused | None],
    orphan: Callable[[str], LineEvent | Refused],
) -> Iterator[Read | None]:
    """Read lines; one that `parse` gives None for continues the event before it, as the lines of stack traces do.

    Blank lines give nothing. What continues nothing is judged by `orphan`. A None among the lines says that a moment
    has passed: it is handed on, after the event that nothing has been added to since the None before.
    """
    held: _Held | None = None
    for number, line in _numbered(lines):
        if line is None:
            if held is not None and held.is_at_rest():
                yield held.read()
                held = None
            yield None
            continue
        event = parse(line)
        if event is None and held is not None:
            held.add(line, number)
            continue
        if held is not None:
            yield held.read()
        held = _Held(event=event or orphan(line), first_line=number, last_line=number)
    if held is not None:
        yield held.read()


def _numbered(lines: Iterable[str | None]) -> Iterator[tuple[int, str | None]]:
    number = 0
    for line in lines:
        number += line is not None
        if line is None or line.strip():
            yield number, line


def _cut(text: str, size: int) -> str:
    mark = f"\n[cut, was {size} bytes]"
    return text.encode("utf-8", "replace")[: MAX_MESSAGE_BYTES - len(mark)].decode("utf-8", "ignore") + mark
