"""Where lines come from, and how much of them is read."""

import re
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from enum import StrEnum
from itertools import chain, islice
from pathlib import Path
from typing import BinaryIO

from cli.events import to_proto
from cli.lines.formats import LineFormat
from cli.lines.json_lines import is_json_object, parsed_json
from cli.lines.reading import Read, detect, events
from cli.sending import Line

# How many lines are looked at to find out their format.
SAMPLE = 200
# The endings of a log file's name: its kind, and the number or the date that rotation gave it.
_ENDINGS = re.compile(
    r"(?:\.(?:log|txt|json|jsonl|ndjson|gz|\d{1,4})|[._-]\d{4}-?\d\d-?\d\d(?:[T_-]?\d\d(?::?\d\d){0,2})?)+\Z", re.ASCII
)


class Times(StrEnum):
    """Which time an event is sent with."""

    LOG = "log"
    ARRIVAL = "arrival"
    SHIFT = "shift"


def service_of(file_name: str) -> str:
    """The service that a log file is named after: "shop" for shop.log-20260101.gz; the whole name when that is all."""
    return _ENDINGS.sub("", file_name) or file_name


class Source:
    """The lines of a file or of standard input ("-"); knows how many bytes, lines and blank lines have been read."""

    def __init__(self, path: Path) -> None:
        """Open the file; raises OSError."""
        self.is_stdin = str(path) == "-"
        self.name = "stdin" if self.is_stdin else path.name
        self._stream: BinaryIO = sys.stdin.buffer if self.is_stdin else path.open("rb")
        self.size = None if self.is_stdin else path.stat().st_size
        self.bytes_read = 0
        self.lines_read = 0
        self.blank_lines = 0

    def lines(self) -> Iterator[str]:
        """Each line without its end; bytes that are no UTF-8 are replaced."""
        for raw in self._stream:
            self.bytes_read += len(raw)
            self.lines_read += 1
            line = raw.decode("utf-8", "replace").rstrip("\r\n").replace("\x00", "")
            self.blank_lines += not line.strip()
            yield line

    def close(self) -> None:
        """Close the file; standard input stays open."""
        if not self.is_stdin:
            self._stream.close()


def read(
    lines: Iterator[str],
    *,
    kind: LineFormat | None,
    as_json: bool = False,
    service: str,
    now: datetime,
    zone: tzinfo = UTC,
) -> tuple[str, Iterator[Read]]:
    """The format's name and the events of some lines; the format is found out from the first lines when None."""
    sample = list(islice(lines, SAMPLE))
    everything = chain(sample, lines)
    full = [line for line in sample if line.strip()]
    if as_json or (kind is None and full and all(is_json_object(line) for line in full)):
        return "json", _json_events(everything, service=service, now=now, zone=zone)
    kind = kind or detect(sample)
    return kind.name, events(everything, kind, service=service, now=now, zone=zone)


def _json_events(lines: Iterator[str], *, service: str, now: datetime, zone: tzinfo) -> Iterator[Read]:
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        event = parsed_json(line, service=service, now=now, zone=zone)
        if event is None:
            yield from (
                _at(read, number) for read in events([line], detect([line]), service=service, now=now, zone=zone)
            )
        else:
            yield Read(event=event, first_line=number, line_count=1)


def _at(read: Read, number: int) -> Read:
    return Read(event=read.event, first_line=number, line_count=read.line_count)


def timed(reads: Iterator[Read], times: Times, *, now: datetime) -> Iterator[Line]:
    """Events with the times that they are sent with; SHIFT reads all of them first, and ends them now."""
    shift: timedelta | None = timedelta() if times is Times.LOG else None
    if times is Times.SHIFT:
        held = list(reads)
        latest = max((read.event.event_time for read in held if read.event.event_time), default=now)
        shift, reads = now - latest, iter(held)
    for item in reads:
        yield Line(number=item.first_line, event=to_proto(item.event, shift=shift), line_count=item.line_count)
