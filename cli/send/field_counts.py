"""What becomes of the fields of many events: counted by name, field and change."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime

from cli.parsing.event import ParsedEvent
from cli.parsing.field_uses import JSON_NAMES, FieldUse, field_uses
from cli.parsing.multiline import ParsedLines
from cli.send.events import MAX_EXPLAINED_EVENTS

# How many different fields are listed, and how much of an example is kept.
MAX_FIELDS = 200
_MAX_EXAMPLE = 60
_EVENT_FIELDS = list(dict.fromkeys(JSON_NAMES.values()))


@dataclass(slots=True, kw_only=True)
class FieldCounts:
    """What became of the fields of some events, in how many of them, with the first text of each."""

    counts: Counter[FieldUse] = field(default_factory=Counter)
    examples: dict[FieldUse, str] = field(default_factory=dict)
    # In how many events fields stand that are not counted: there are too many different ones.
    uncounted: int = 0
    oldest: datetime | None = None
    newest: datetime | None = None
    first: list[ParsedLines] = field(default_factory=list)

    def add(self, event: ParsedEvent) -> None:
        """Count the fields of an event."""
        uses = field_uses(event)
        known = [(use, text) for use, text in uses if use in self.counts or len(self.counts) < MAX_FIELDS]
        for use, text in known:
            self.counts[use] += 1
            self.examples.setdefault(use, text[:_MAX_EXAMPLE])
        self.uncounted += len(known) < len(uses)
        if event.event_time is not None:
            self.oldest = min(self.oldest or event.event_time, event.event_time)
            self.newest = max(self.newest or event.event_time, event.event_time)

    def watch(self, parsed: Iterable[ParsedLines | None]) -> Iterator[ParsedLines | None]:
        """Return the events as they come, counted; the first ones are kept."""
        for lines in parsed:
            if lines is not None:
                if len(self.first) < MAX_EXPLAINED_EVENTS:
                    self.first.append(lines)
                if isinstance(lines.event, ParsedEvent):
                    self.add(lines.event)
            yield lines

    def rows(self) -> list[tuple[FieldUse, int]]:
        """Return each use with its count: fields of the event, then attributes, then what is left out."""
        return sorted(self.counts.items(), key=lambda item: (_rank(item[0]), -item[1], item[0].name))


def _rank(use: FieldUse) -> int:
    if use.field in _EVENT_FIELDS:
        return _EVENT_FIELDS.index(use.field)
    return len(_EVENT_FIELDS) + (not use.field)


def count_fields(lines: Iterable[ParsedLines]) -> FieldCounts:
    """Return what became of the fields of some events."""
    counts = FieldCounts()
    for one in lines:
        if isinstance(one.event, ParsedEvent):
            counts.add(one.event)
    return counts
