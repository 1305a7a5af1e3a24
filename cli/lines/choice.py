"""Which way lines are read."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, tzinfo

from cli.lines.event import LineEvent, Refused
from cli.lines.formats import FORMATS, PLAIN, LineFormat
from cli.lines.json_lines import are_json, is_json_object, parsed_json
from cli.lines.reading import bare, detect, parsed


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """How each line is read, and what becomes of one that continues nothing."""

    name: str
    parse: Callable[[str], LineEvent | Refused | None]
    orphan: Callable[[str], LineEvent | Refused]


def reader_for(
    sample: Sequence[str], *, kind: LineFormat | None, as_json: bool, service: str, now: datetime, zone: tzinfo
) -> Reader:
    """The reader that was asked for, or else the one that fits the first lines.

    Among JSON lines, and where no format is found, each line is read by what fits it alone. Before the first event, a
    line that is none is refused when the format is known for sure, and an event of its own when it is not.
    """
    lines = _Lines(service=service, now=now, zone=zone)
    if as_json or (kind is None and are_json(sample)):
        return Reader(name="json", parse=lines.as_json, orphan=_refused("a JSON object"))
    if kind is not None:
        return Reader(name=kind.name, parse=lines.by(kind), orphan=_refused(f"a line of the format {kind.name}"))
    found = detect(sample)
    parse = lines.as_anything if found is PLAIN else lines.by(found)
    return Reader(name=found.name, parse=parse, orphan=lines.as_it_is)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Lines:
    """The ways to read a line; None when it does not fit."""

    service: str
    now: datetime
    zone: tzinfo

    def by(self, kind: LineFormat) -> Callable[[str], LineEvent | Refused | None]:
        return lambda line: parsed(line, kind, service=self.service, now=self.now, zone=self.zone)

    def as_json(self, line: str) -> LineEvent | Refused | None:
        return parsed_json(line, service=self.service, now=self.now, zone=self.zone) or self._by_what_fits(line)

    def as_anything(self, line: str) -> LineEvent | Refused:
        return (self.as_json(line) if is_json_object(line) else self._by_what_fits(line)) or self.as_it_is(line)

    def as_it_is(self, line: str) -> LineEvent:
        return bare(line, self.service)

    def _by_what_fits(self, line: str) -> LineEvent | Refused | None:
        return next((event for kind in FORMATS if (event := self.by(kind)(line)) is not None), None)


def _refused(expected: str) -> Callable[[str], Refused]:
    return lambda _line: Refused(field="line", expected=expected)
