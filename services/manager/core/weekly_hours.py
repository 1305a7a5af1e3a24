"""Hours of the week on the wall clock of a time zone, and what a time on that clock is.

A time on the wall clock stands for the first moment at which the clock shows it or a later one. Where the clock shows
it twice that is the first time; where the clock jumps over it, the jump. So a later time on the clock is never an
earlier moment: what follows each other on the clock, shifts or hours, neither overlaps nor leaves a gap in any night.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

_DAY = timedelta(days=1)
_SECOND = timedelta(seconds=1)
# Friday evening belongs to Friday until it ends on Saturday; and a clock that goes back shortly after midnight shows
# the day before for a second time.
_NEIGHBOURS = (-_DAY, timedelta(), _DAY)


def first_moment(local: datetime, zone: ZoneInfo) -> datetime:
    """Return the first moment, in UTC, at which the zone's clock shows this time or a later one."""
    moment = local.replace(tzinfo=zone, fold=0).astimezone(UTC)
    if wall_time(moment, zone) == local:
        return moment
    # With the offset from after the jump it is too early, with the one from before too late.
    early, late = local.replace(tzinfo=zone, fold=1).astimezone(UTC), moment
    while late - early > _SECOND:
        middle = early + (late - early) // 2 // _SECOND * _SECOND
        if wall_time(middle, zone) < local:
            early = middle
        else:
            late = middle
    return late


def wall_time(moment: datetime, zone: ZoneInfo) -> datetime:
    """Return what the zone's clock shows, without a zone."""
    return moment.astimezone(zone).replace(tzinfo=None, fold=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class HoursSpan:
    """From one time of the day to another on some days of the week."""

    start: time
    # At or before the start: on the next day.
    end: time
    # From 0 for Monday; none: every day.
    weekdays: tuple[int, ...] = ()

    def on(self, day: date, zone: ZoneInfo) -> tuple[datetime, datetime] | None:
        """Return when the span that begins on this day begins and ends; None on other days of the week."""
        if self.weekdays and day.weekday() not in self.weekdays:
            return None
        last_day = day + _DAY if self.end <= self.start else day
        start, end = datetime.combine(day, self.start), datetime.combine(last_day, self.end)
        return first_moment(start, zone), first_moment(end, zone)


@dataclass(frozen=True, slots=True, kw_only=True)
class WeeklyHours:
    """Hours of the week; a moment is covered when one of the spans covers it."""

    spans: tuple[HoursSpan, ...]
    zone: ZoneInfo

    def covers(self, at: datetime) -> bool:
        """Return whether one of the spans covers a moment."""
        today = wall_time(at, self.zone).date()
        return any(start <= at < end for shift in _NEIGHBOURS for start, end in self._of_day(today + shift))

    def intervals(self, first: datetime, last: datetime) -> list[tuple[datetime, datetime]]:
        """Return when moments between these two are covered, in their order; nothing overlaps or touches."""
        day, last_day = (wall_time(each, self.zone).date() for each in (first - _DAY, last + _DAY))
        found: list[tuple[datetime, datetime]] = []
        while day <= last_day:
            found += self._of_day(day)
            day += _DAY
        merged: list[tuple[datetime, datetime]] = []
        for start, end in sorted((max(start, first), min(end, last)) for start, end in found):
            if start >= end:
                continue
            if merged and merged[-1][1] >= start:
                merged[-1] = merged[-1][0], max(merged[-1][1], end)
            else:
                merged.append((start, end))
        return merged

    def _of_day(self, day: date) -> Iterator[tuple[datetime, datetime]]:
        return (found for span in self.spans if (found := span.on(day, self.zone)) is not None)
