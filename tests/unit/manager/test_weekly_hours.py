"""Wall clocks and hours of the week, also in the nights when a clock changes."""

# ruff: noqa: DTZ001  (on the wall clock)

from datetime import UTC, datetime, time, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.manager.core.weekly_hours import HoursSpan, WeeklyHours, first_moment, wall_time
from tests.fakes.wall_clocks import MOMENTS, ZONES, highest_shown

BERLIN = ZoneInfo("Europe/Berlin")
NIGHT = HoursSpan(start=time(22), end=time(6))
OFFICE = HoursSpan(start=time(9), end=time(17), weekdays=(0, 1, 2, 3, 4))

SPANS = st.builds(
    HoursSpan,
    start=st.builds(time, st.integers(0, 23), st.sampled_from([0, 15, 30])),
    end=st.builds(time, st.integers(0, 23), st.sampled_from([0, 15, 30])),
    weekdays=st.lists(st.integers(0, 6), unique=True, max_size=7).map(tuple),
)


@pytest.mark.parametrize(
    ("local", "expected"),
    [
        (datetime(2026, 1, 15, 9), datetime(2026, 1, 15, 8, tzinfo=UTC)),
        (datetime(2026, 7, 15, 9), datetime(2026, 7, 15, 7, tzinfo=UTC)),
        # The clock shows it twice: the first time.
        (datetime(2026, 10, 25, 2, 30), datetime(2026, 10, 25, 0, 30, tzinfo=UTC)),
        # The clock jumps from 2:00 to 3:00.
        (datetime(2026, 3, 29, 2), datetime(2026, 3, 29, 1, tzinfo=UTC)),
        (datetime(2026, 3, 29, 2, 30), datetime(2026, 3, 29, 1, tzinfo=UTC)),
        (datetime(2026, 3, 29, 2, 59, 59), datetime(2026, 3, 29, 1, tzinfo=UTC)),
        (datetime(2026, 3, 29, 3), datetime(2026, 3, 29, 1, tzinfo=UTC)),
    ],
)
def test_a_time_is_the_first_moment_at_which_the_clock_shows_it_or_a_later_one(
    local: datetime, expected: datetime
) -> None:
    assert first_moment(local, BERLIN) == expected


@given(moment=MOMENTS, zone=ZONES)
def test_the_moment_of_what_a_clock_shows_is_not_later(moment: datetime, zone: ZoneInfo) -> None:
    local = wall_time(moment, zone)
    found = first_moment(local, zone)
    assert found <= moment
    assert wall_time(found, zone) >= local
    assert highest_shown(found - timedelta(minutes=1), zone) < local


@given(moment=MOMENTS, zone=ZONES, minutes=st.integers(0, 300))
def test_a_later_time_is_no_earlier_moment(moment: datetime, zone: ZoneInfo, minutes: int) -> None:
    local = wall_time(moment, zone)
    assert first_moment(local, zone) <= first_moment(local + timedelta(minutes=minutes), zone)


@pytest.mark.parametrize(
    ("span", "at", "expected"),
    [
        (OFFICE, "2026-11-27T08:59:59", False),
        (OFFICE, "2026-11-27T09:00:00", True),
        (OFFICE, "2026-11-27T16:59:59", True),
        (OFFICE, "2026-11-27T17:00:00", False),
        # A Saturday.
        (OFFICE, "2026-11-28T12:00:00", False),
        (NIGHT, "2026-11-27T05:59:59", True),
        (NIGHT, "2026-11-27T06:00:00", False),
        (NIGHT, "2026-11-27T22:00:00", True),
        # The night of Friday ends on Saturday; there is none of Thursday.
        (HoursSpan(start=time(22), end=time(6), weekdays=(4,)), "2026-11-28T05:59:59", True),
        (HoursSpan(start=time(22), end=time(6), weekdays=(4,)), "2026-11-27T05:59:59", False),
        # The whole of Friday.
        (HoursSpan(start=time(), end=time(), weekdays=(4,)), "2026-11-27T23:59:59", True),
        (HoursSpan(start=time(), end=time(), weekdays=(4,)), "2026-11-28T00:00:00", False),
    ],
)
def test_hours_cover_their_days(span: HoursSpan, at: str, *, expected: bool) -> None:
    hours = WeeklyHours(spans=(span,), zone=BERLIN)
    assert hours.covers(datetime.fromisoformat(at).replace(tzinfo=BERLIN)) is expected


def test_hours_that_a_clock_jumps_over_cover_nothing() -> None:
    hours = WeeklyHours(spans=(HoursSpan(start=time(2, 15), end=time(2, 45)),), zone=BERLIN)
    jump = datetime(2026, 3, 29, 1, tzinfo=UTC)
    assert not any(hours.covers(jump + timedelta(minutes=minute)) for minute in range(-60, 61))


def test_a_day_on_which_the_clock_goes_back_after_midnight_begins_once() -> None:
    # At 0:01 the clock went back to 23:01.
    zone = ZoneInfo("America/St_Johns")
    sunday = WeeklyHours(spans=(HoursSpan(start=time(), end=time(), weekdays=(6,)),), zone=zone)
    second_time = datetime(2010, 11, 6, 23, 30, tzinfo=zone, fold=1)
    assert sunday.covers(second_time)


@given(spans=st.lists(SPANS, min_size=1, max_size=3).map(tuple), moment=MOMENTS, zone=ZONES)
def test_hours_are_those_of_a_clock_that_never_goes_back(
    spans: tuple[HoursSpan, ...], moment: datetime, zone: ZoneInfo
) -> None:
    shown = highest_shown(moment, zone)
    expected = False
    for span in spans:
        for day in (shown.date() - timedelta(days=1), shown.date()):
            start = datetime.combine(day, span.start)
            end = datetime.combine(day + timedelta(days=span.end <= span.start), span.end)
            expected |= start <= shown < end and (not span.weekdays or day.weekday() in span.weekdays)
    assert WeeklyHours(spans=spans, zone=zone).covers(moment) is expected


@given(spans=st.lists(SPANS, min_size=1, max_size=3).map(tuple), moment=MOMENTS, zone=ZONES)
def test_the_intervals_are_the_moments_that_are_covered(
    spans: tuple[HoursSpan, ...], moment: datetime, zone: ZoneInfo
) -> None:
    hours = WeeklyHours(spans=spans, zone=zone)
    last = moment + timedelta(days=2)
    found = hours.intervals(moment, last)
    assert all(before[1] < after[0] for before, after in pairwise(found))
    assert all(moment <= start < end <= last for start, end in found)
    for minute in range(0, 2 * 24 * 60, 15):
        at = moment + timedelta(minutes=minute)
        assert hours.covers(at) is any(start <= at < end for start, end in found)


def test_hours_that_overlap_or_touch_are_one_interval() -> None:
    spans = tuple(HoursSpan(start=time(start), end=time(end)) for start, end in ((9, 12), (10, 11), (12, 13), (15, 16)))
    first = datetime(2026, 11, 27, 11, tzinfo=UTC)
    hours = WeeklyHours(spans=spans, zone=ZoneInfo("UTC"))
    assert hours.intervals(first, first + timedelta(hours=4, minutes=30)) == [
        (first, first.replace(hour=13)),
        (first.replace(hour=15), first.replace(hour=15, minute=30)),
    ]
