"""Times that recur, by a rule of RFC 5545 on the wall clock of a time zone: "every Sunday at 22:00 in Berlin".

The days and hours of a rule are found on the wall clock, without a zone, and each is then an instant of the zone: the
first one where the clock shows a time twice, and the time after the change that is as much later as the clock jumps
where it skips one.
So an occurrence begins at the time that was asked for on every day that has it, and lasts its duration.

A rule by hours counts those that pass, from its first time on, and selects among them by what the wall clock shows:
where it shows an hour twice, these are two, and where it skips one, there is none. So its times are found in UTC.

Nothing here goes on until it finds something: a search looks at a bounded number of days. A rule that never occurs,
such as the 31st of February, is refused when it is written.
"""

from calendar import monthrange
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from enum import StrEnum
from itertools import islice, product
from zoneinfo import ZoneInfo

_DAY = timedelta(days=1)
_HOUR = timedelta(hours=1)
_HOURS = 24
_MONTHS = 12
_WEEK = 7
# An offset from UTC, and what a change of it can be.
_ZONE_SLACK = timedelta(days=2)
# How far the next border is looked for; beyond that it is looked for again.
LOOK_AHEAD = timedelta(days=32)
# From one 29 of February to the next, over a year without one.
_MAX_PAUSE = timedelta(days=366 * 9)


class Frequency(StrEnum):
    """What the interval of a rule counts. Nothing finer than an hour."""

    YEARLY = "YEARLY"
    MONTHLY = "MONTHLY"
    WEEKLY = "WEEKLY"
    DAILY = "DAILY"
    HOURLY = "HOURLY"


@dataclass(frozen=True, slots=True, kw_only=True)
class RecurrenceRule:
    """The parts of an RRULE; an empty one restricts nothing. `core/recurrence_text.py` reads and writes it."""

    frequency: Frequency
    interval: int = 1
    count: int | None = None
    # On the wall clock, the last moment at which an occurrence may begin; in UTC when it has a zone.
    until: datetime | None = None
    by_month: tuple[int, ...] = ()
    # From the end of the month when negative.
    by_month_day: tuple[int, ...] = ()
    # A day of the week, from 0 for Monday, and which one of the month or year; 0 for each.
    by_day: tuple[tuple[int, int], ...] = ()
    by_hour: tuple[int, ...] = ()
    by_minute: int | None = None
    by_set_position: tuple[int, ...] = ()
    week_start: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Recurrence:
    """A rule from a first time on the wall clock on, its zone, and how long each occurrence lasts."""

    rule: RecurrenceRule
    start: datetime
    zone: ZoneInfo
    duration: timedelta
    # The rule as it was written.
    text: str = field(default="", compare=False)
    # The last time at which an occurrence begins, on the rule's clock; None when the rule has no end. See `bounded`.
    last: datetime | None = None

    def covers(self, now: datetime) -> bool:
        """Return whether an occurrence has begun and not ended."""
        return any(start <= now < start + self.duration for start in self.around(now - self.duration, now))

    def next_border(self, now: datetime) -> datetime | None:
        """Return when an occurrence begins or ends next, or when to look again; None when nothing follows.

        Another occurrence may go on at a border, so that nothing changes there.
        """
        borders = [
            border
            for start in self.around(now - self.duration, now + LOOK_AHEAD)
            for border in (start, start + self.duration)
            if border > now
        ]
        if borders:
            return min(borders)
        end = self.end
        return None if end is not None and end <= now else now + LOOK_AHEAD

    def occurrence(self, now: datetime) -> tuple[datetime, datetime] | None:
        """Return the beginning and end of the occurrence that covers `now`, else of the next one; None without any."""
        span = LOOK_AHEAD
        while True:
            following = (s for s in self.around(now - self.duration, now + span) if s + self.duration > now)
            start = next(iter(following), None)
            if start is not None:
                return start, start + self.duration
            if span > _MAX_PAUSE or (self.end is not None and self.end <= now):
                return None
            span *= 8

    @property
    def end(self) -> datetime | None:
        """Return when the last occurrence ends; None when the rule has no end."""
        return None if self.last is None else self._instant(self.last) + self.duration

    @property
    def first(self) -> datetime | None:
        """Return when the first occurrence begins; None when there is none within nine years."""
        first = next(self._times(self._begin, self._begin + _MAX_PAUSE), None)
        return None if first is None else self._instant(first)

    def around(self, first: datetime, last: datetime) -> Iterator[datetime]:
        """Yield the instants from `first` to `last` at which an occurrence begins, in their order."""
        low, high = self._time(first) - _ZONE_SLACK, self._time(last) + _ZONE_SLACK
        instants = sorted({self._instant(each) for each in self._times(low, high)})
        return (each for each in instants if first <= each <= last)

    def bounded(self, max_count: int) -> "Recurrence":
        """Return the recurrence with its last time found. Raises ValueError where a count is not reached.

        A rule that occurs fewer than `max_count` times is counted; UNTIL is looked for backwards from its end.
        """
        begin = self._begin
        if self.rule.count is not None:
            counted = list(islice(self._times(begin, begin + _MAX_PAUSE * 3), min(self.rule.count, max_count)))
            if len(counted) < self.rule.count:
                raise ValueError("does not occur so often within 27 years; UNTIL=… is an end as well")
            return replace(self, last=counted[-1])
        if self.rule.until is None:
            return self
        until = self._time_of(self.rule.until, is_last=True)
        span = LOOK_AHEAD
        while True:
            found = list(self._times(until - span, until))
            if found or until - span < begin:
                return replace(self, last=found[-1] if found else begin - _DAY)
            span *= 4

    def ended(self, end: datetime | None) -> "Recurrence":
        """Return the recurrence whose last occurrence ends at this moment, as `bounded` has found it."""
        return replace(self, last=None if end is None else self._time(end - self.duration))

    @property
    def _clock(self) -> tzinfo:
        """Return on which clock the times of the rule are found."""
        return UTC if self.rule.frequency is Frequency.HOURLY else self.zone

    @property
    def _begin(self) -> datetime:
        return self._time_of(self.start)

    def _instant(self, moment: datetime) -> datetime:
        return moment.replace(tzinfo=self._clock, fold=0).astimezone(UTC)

    def _time(self, instant: datetime) -> datetime:
        return instant.astimezone(self._clock).replace(tzinfo=None)

    def _time_of(self, moment: datetime, *, is_last: bool = False) -> datetime:
        """Return the time of the rule at which the wall clock shows this, first or last; or of an instant."""
        if moment.tzinfo:
            return self._time(moment)
        if self._clock is self.zone:
            return moment
        times = (self._time(moment.replace(tzinfo=self.zone, fold=fold)) for fold in (0, 1))
        return max(times) if is_last else next(times)

    def _times(self, low: datetime, high: datetime) -> Iterator[datetime]:
        """Yield the times from `low` to `high` at which an occurrence begins on the rule's clock, in their order."""
        low = max(low, self._begin)
        high = high if self.last is None else min(high, self.last)
        if low > high:
            return
        rule = _with_defaults(self.rule, self.start)
        first, last = (self._instant(each).astimezone(self.zone).date() for each in (low, high))
        for days in _periods(rule, self.start.date(), first, last):
            times = [each for day in days if _selects(rule, day) for each in self._times_of(rule, day)]
            for each in _at_positions(times, rule.by_set_position):
                if low <= each <= high:
                    yield each

    def _times_of(self, rule: RecurrenceRule, day: date) -> Iterable[datetime]:
        """Return the times of a day on the rule's clock, in their order."""
        if rule.frequency is not Frequency.HOURLY:
            minute = rule.by_minute or 0
            return (datetime.combine(day, time(hour, minute, self.start.second)) for hour in sorted(set(rule.by_hour)))
        hours = self._hours_of(day) if rule.by_minute is None else self._minutes_of(day, rule.by_minute)
        return (
            each for each in hours if not rule.by_hour or self._instant(each).astimezone(self.zone).hour in rule.by_hour
        )

    def _hours_of(self, day: date) -> Iterator[datetime]:
        """Yield the hours of a day that are counted from the first time on."""
        begin, end = (self._time_of(datetime.combine(each, time())) for each in (day, day + _DAY))
        step = self.rule.interval * _HOUR
        each = begin + (self._begin - begin) % step
        while each < end:
            yield each
            each += step

    def _minutes_of(self, day: date, minute: int) -> list[datetime]:
        """Return when the wall clock shows a minute in the hours of a day that are counted."""
        origin = self._begin - timedelta(minutes=self.start.minute)
        found = set()
        for hour, fold in product(range(_HOURS), (0, 1)):
            shown = datetime.combine(day, time(hour, minute, self.start.second, fold=fold), self.zone)
            each = self._time(shown)
            is_shown = self._instant(each).astimezone(self.zone).replace(fold=fold) == shown
            if is_shown and (each - origin) // _HOUR % self.rule.interval == 0:
                found.add(each)
        return sorted(found)


def _with_defaults(rule: RecurrenceRule, start: datetime) -> RecurrenceRule:
    """Return the rule with what it leaves open taken from the first time."""
    if rule.frequency is not Frequency.HOURLY:
        minute = start.minute if rule.by_minute is None else rule.by_minute
        rule = replace(rule, by_hour=rule.by_hour or (start.hour,), by_minute=minute)
    if rule.by_day or rule.by_month_day:
        return rule
    match rule.frequency:
        case Frequency.YEARLY:
            return replace(rule, by_month=rule.by_month or (start.month,), by_month_day=(start.day,))
        case Frequency.MONTHLY:
            return replace(rule, by_month_day=(start.day,))
        case Frequency.WEEKLY:
            return replace(rule, by_day=((start.weekday(), 0),))
        case _:
            return rule


def _periods(rule: RecurrenceRule, start: date, low: date, high: date) -> Iterator[Iterable[date]]:
    """Yield the days of each period of the rule that has a day from `low` to `high`.

    Hours are counted within the days, so a rule by hours has a period for each day.
    """
    step = 1 if rule.frequency is Frequency.HOURLY else rule.interval
    origin = _period_of(rule, start)
    behind = (_period_of(rule, low) - origin) % step
    for number in range(_period_of(rule, low) - behind, _period_of(rule, high) + 1, step):
        yield _days_of(rule, number)


def _period_of(rule: RecurrenceRule, day: date) -> int:
    match rule.frequency:
        case Frequency.YEARLY:
            return day.year
        case Frequency.MONTHLY:
            return day.year * _MONTHS + day.month - 1
        case Frequency.WEEKLY:
            # The first day that there is was a Monday.
            return (day.toordinal() - 1 - rule.week_start) // _WEEK
        case _:
            return day.toordinal()


def _days_of(rule: RecurrenceRule, number: int) -> Iterable[date]:
    match rule.frequency:
        case Frequency.YEARLY:
            months = rule.by_month or range(1, _MONTHS + 1)
            return (day for month in sorted(set(months)) for day in _days_of_month(number, month))
        case Frequency.MONTHLY:
            return _days_of_month(number // _MONTHS, number % _MONTHS + 1)
        case Frequency.WEEKLY:
            first = number * _WEEK + rule.week_start + 1
            return (date.fromordinal(first + n) for n in range(_WEEK))
        case _:
            return (date.fromordinal(number),)


def _days_of_month(year: int, month: int) -> Iterator[date]:
    return (date(year, month, day) for day in range(1, monthrange(year, month)[1] + 1))


def _selects(rule: RecurrenceRule, day: date) -> bool:
    if rule.by_month and day.month not in rule.by_month:
        return False
    length = monthrange(day.year, day.month)[1]
    if rule.by_month_day and not {day.day, day.day - length - 1} & set(rule.by_month_day):
        return False
    return not rule.by_day or any(_is_weekday(rule, day, *each) for each in rule.by_day)


def _is_weekday(rule: RecurrenceRule, day: date, weekday: int, which: int) -> bool:
    if day.weekday() != weekday:
        return False
    if not which:
        return True
    if rule.frequency is Frequency.YEARLY and not rule.by_month:
        place, length = day.timetuple().tm_yday, date(day.year, _MONTHS, 31).timetuple().tm_yday
    else:
        place, length = day.day, monthrange(day.year, day.month)[1]
    return which in {(place - 1) // _WEEK + 1, -((length - place) // _WEEK + 1)}


def _at_positions(times: list[datetime], positions: tuple[int, ...]) -> list[datetime]:
    """Return the times at these places of a period, counted from 1, or from the end when negative."""
    if not positions:
        return times
    size = len(times)
    places = {place - 1 if place > 0 else size + place for place in positions}
    return [times[place] for place in sorted(places) if 0 <= place < size]
