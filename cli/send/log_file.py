"""Where lines come from, and how much of them is read."""

import os
import re
import select
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta, tzinfo
from enum import StrEnum
from itertools import chain, islice
from pathlib import Path
from typing import BinaryIO

from cli.parsing.event import LineEvent, Refused
from cli.parsing.file_parser import Reader
from cli.parsing.format_types import LineFormat
from cli.parsing.multiline import Read, assembled
from cli.parsing.splitting import GZIP, split, text_only, unpacked
from cli.send.events import to_proto
from cli.send.sender import Line, Refusal
from services.chassis.clock import Clock
from tocsin.logs.v1.log_event_pb2 import LogEvent

# The path that means standard input.
STDIN = "-"
# How many lines are looked at to find out their format.
SAMPLE = 200
# How many events are explained.
EXPLAINED = 20
# Of events older than this rules may have closed the windows.
OLD = timedelta(hours=1)
# How much of a file's end is looked at to find out how old it is.
TAIL = 64 * 1024
# How long standard input may keep what it has brought, in seconds.
TICK = 1.0
_BLOCK = 64 * 1024
# The endings of a log file's name: its kind, and the number or the date that rotation gave it.
_ENDINGS = re.compile(
    r"(?:\.(?:log|txt|json|jsonl|ndjson|gz|\d{1,4})|[._-]\d{4}-?\d\d-?\d\d(?:[T_-]?\d\d(?::?\d\d){0,2})?)+\Z", re.ASCII
)
# Kubernetes names a container's log after its pod, its namespace, itself and its id.
_CONTAINER = re.compile(r"[^_]+_[^_]+_(.+)-[0-9a-f]{64}\.log")
_NO_TIME = Refused(
    field="eventTime",
    expected="a time such as 2026-01-31T12:00:00Z, or one in --timezone; --times arrival sends it as now",
)


class Times(StrEnum):
    """Which time an event is sent with."""

    LOG = "log"
    ARRIVAL = "arrival"
    SHIFT = "shift"


def service_of(file_name: str) -> str:
    """The service that a log file is named after: "shop" for shop.log-20260101.gz; the whole name when that is all."""
    if container := _CONTAINER.fullmatch(file_name):
        return container[1]
    return _ENDINGS.sub("", file_name) or file_name


def _never() -> bool:
    return False


class Source:
    """The lines of a file or of standard input ("-"), gzip or not; knows how much of it has been read."""

    def __init__(self, path: Path, *, is_stopped: Callable[[], bool] = _never) -> None:
        """Open the file; raises OSError. Nothing more is read when `is_stopped`."""
        self.is_stdin = str(path) == STDIN
        self.name = "stdin" if self.is_stdin else path.name
        self._stream: BinaryIO = sys.stdin.buffer if self.is_stdin else path.open("rb")
        self._is_stopped = is_stopped
        self.size = None if self.is_stdin else path.stat().st_size
        self.bytes_read = 0
        self.lines_read = 0
        self.blank_lines = 0
        # Why reading ended before the end of the file.
        self.error: OSError | None = None
        self.is_whole = False

    def lines(self) -> Iterator[str | None]:
        """Each line without its end; of standard input also a None whenever a moment has passed.

        Raises OSError when the file cannot be read at all; `error` says so when its end cannot be.
        """
        try:
            for line in split(text_only(unpacked(self._blocks()))):
                if line is not None:
                    self.lines_read += 1
                    self.blank_lines += not line.strip()
                yield line
        except OSError as error:
            if not self.lines_read:
                raise
            self.error = None if self._is_stopped() else error

    def close(self) -> None:
        """Close the file; standard input stays open."""
        if not self.is_stdin:
            self._stream.close()

    def _blocks(self) -> Iterator[bytes | None]:
        for block in self._live_blocks() if self.is_stdin else iter(self._block, b""):
            self.bytes_read += len(block or b"")
            yield block
            if self._is_stopped():
                return
        self.is_whole = not self._is_stopped()

    def _block(self) -> bytes:
        return os.read(self._stream.fileno(), _BLOCK)

    def _live_blocks(self) -> Iterator[bytes | None]:
        next_tick = time.monotonic() + TICK
        while not self._is_stopped():
            ready, _, _ = select.select([self._stream], [], [], max(0.0, next_tick - time.monotonic()))
            if ready:
                block = self._block()
                if not block:
                    return
                yield block
            if time.monotonic() >= next_tick:
                yield None
                next_tick = time.monotonic() + TICK


def read(
    lines: Iterator[str | None], *, kind: LineFormat | None, service: str, clock: Clock, zone: tzinfo = UTC
) -> tuple[Reader, Iterator[Read | None]]:
    """How some lines are read, and their events; the format is found out from the first lines when None."""
    sample = list(_sample(lines))
    reader = Reader([line for line in sample if line is not None], kind=kind, service=service, now=clock.now, zone=zone)
    return reader, assembled(chain(sample, lines), reader)


def _sample(lines: Iterator[str | None]) -> Iterator[str | None]:
    """The first lines, or those that are there when a moment has passed."""
    has_lines = False
    for line in islice(lines, SAMPLE):
        yield line
        if line is None and has_lines:
            return
        has_lines = has_lines or line is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """What was asked for of the lines of a file."""

    kind: LineFormat | None
    service: str
    clock: Clock
    zone: tzinfo

    def read(self, source: Source) -> tuple[Reader, Iterator[Read | None]]:
        """All of a file."""
        return self._read(source.lines(), source.name)

    def first(self, source: Source) -> tuple[Reader, list[Read]]:
        """The first events of a file."""
        reader, reads = self._read(islice(source.lines(), SAMPLE), source.name)
        return reader, [_judged(read) for read in islice((read for read in reads if read is not None), EXPLAINED)]

    def is_old(self, path: Path) -> bool:
        """Whether rules may have closed the windows of all lines of a regular file: those of its last ones."""
        if str(path) == STDIN or not path.is_file():
            return False
        _, reads = self._read(split(iter([tail(path)])), path.name)
        newest = max(_times(reads), default=None)
        return newest is not None and self.clock.now() - newest > OLD

    def _read(self, lines: Iterator[str | None], name: str) -> tuple[Reader, Iterator[Read | None]]:
        service = self.service or service_of(name)
        return read(lines, kind=self.kind, service=service, clock=self.clock, zone=self.zone)


def _judged(read: Read) -> Read:
    is_refused = isinstance(read.event, LineEvent) and read.event.time_is_unknown
    return replace(read, event=_NO_TIME) if is_refused else read


def tail(path: Path) -> bytes:
    """The last lines of a file, gzip or not, as far as it can be read."""
    end = b""
    with suppress(OSError), path.open("rb") as stream:
        is_packed = stream.read(len(GZIP)) == GZIP
        stream.seek(0 if is_packed else max(0, path.stat().st_size - TAIL))
        for block in unpacked(iter(lambda: stream.read(_BLOCK), b"")):
            end = (end + (block or b""))[-TAIL:]
    return end if len(end) < TAIL else end.partition(b"\n")[2]


def timed(reads: Iterator[Read | None], times: Times, *, now: datetime) -> Iterator[Line | Refusal | None]:
    """Events with the times that they are sent with; SHIFT reads all of them first, and ends them now."""
    shift: timedelta | None = timedelta() if times is Times.LOG else None
    if times is Times.SHIFT:
        held = list(reads)
        shift, reads = now - max(_times(held), default=now), iter(held)
    return (None if item is None else _line(item, shift) for item in reads)


def _times(reads: Iterable[Read | None]) -> Iterator[datetime]:
    events = (item.event for item in reads if item is not None)
    return (event.event_time for event in events if isinstance(event, LineEvent) and event.event_time)


def _line(item: Read, shift: timedelta | None) -> Line | Refusal:
    sent = _sendable(item.event, shift)
    if isinstance(sent, Refused):
        return Refusal(line=item.first_line, field=sent.field, reason=sent.expected, line_count=item.line_count)
    notes, level = (item.event.notes, item.event.unknown_level) if isinstance(item.event, LineEvent) else ((), "")
    return Line(
        number=item.first_line,
        last=item.last_line,
        event=sent,
        line_count=item.line_count,
        notes=tuple(notes),
        unknown_level=level,
    )


def _sendable(event: LineEvent | Refused, shift: timedelta | None) -> LogEvent | Refused:
    if isinstance(event, Refused):
        return event
    if event.time_is_unknown and shift is not None:
        return _NO_TIME
    try:
        return to_proto(event, shift=shift)
    except OverflowError:
        return _NO_TIME
