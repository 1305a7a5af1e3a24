"""Texts that are timestamps, and which time each means."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from cli.parsing.timestamps import parse_timestamp
from tests.fakes.clock import FakeClock

CLOCK = FakeClock(datetime(2026, 11, 23, 12, 0, tzinfo=UTC))


@pytest.mark.parametrize(
    ("text", "hour"),
    [
        ("2026-07-01 12:00:00", 10),
        ("2026-01-01 12:00:00", 11),
        ("2026-01-01 12:00:00.5 CET", 11),
        ("01/Jul/2026:12:00:00 +0000", 12),
        ("2026-07-01T12:00:00Z", 12),
        ("Jul  1 12:00:00", 10),
        ("11:59:00", 10),
    ],
)
def test_a_time_without_a_zone_is_in_the_zone_that_was_asked_for(text: str, hour: int) -> None:
    moment = parse_timestamp(text, now=CLOCK.now, zone=ZoneInfo("Europe/Berlin"))
    assert moment is not None
    assert (moment.tzinfo, moment.hour) == (UTC, hour)


@pytest.mark.parametrize("unit", [1, 10**3, 10**6, 10**9])
def test_a_number_is_the_time_since_1970_in_its_unit(unit: int) -> None:
    assert parse_timestamp(str(1_700_000_000 * unit), now=CLOCK.now) == datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)


def test_29_february_is_that_of_the_last_leap_year() -> None:
    assert parse_timestamp("Feb 29 12:00:00", now=CLOCK.now) == datetime(2024, 2, 29, 12, tzinfo=UTC)


def test_a_text_that_is_no_timestamp_gives_none() -> None:
    for text in ("not a time", "1764245000.x", "²" * 10, "0001-01-01T00:00:00+10:00", "2026-01-01 12:00:00 XYZ"):
        assert parse_timestamp(text, now=CLOCK.now) is None, text


@pytest.mark.parametrize(
    ("text", "now", "zone", "right"),
    [
        ("Jan  1 00:00:01", "2026-12-31T23:59:58Z", "UTC", "2027-01-01T00:00:01Z"),
        ("Dec 31 23:59:59", "2027-01-01T00:00:01Z", "UTC", "2026-12-31T23:59:59Z"),
        ("00:00:03", "2026-12-31T23:59:58Z", "UTC", "2027-01-01T00:00:03Z"),
        ("23:59:58", "2027-01-01T00:00:01Z", "UTC", "2026-12-31T23:59:58Z"),
        ("2026-10-25 02:30:00 CEST", "2026-11-27T12:00:00Z", "Europe/Berlin", "2026-10-25T00:30:00Z"),
        ("2026-10-25 02:30:00 CET", "2026-11-27T12:00:00Z", "Europe/Berlin", "2026-10-25T01:30:00Z"),
        ("2026-11-01 01:30:00 EDT", "2026-11-27T12:00:00Z", "America/New_York", "2026-11-01T05:30:00Z"),
        ("2026-11-01 01:30:00 EST", "2026-11-27T12:00:00Z", "America/New_York", "2026-11-01T06:30:00Z"),
        ("2026-12-31 23:59:60", "2026-12-31T12:00:00Z", "UTC", "2027-01-01T00:00:00Z"),
        ("2016-12-31T23:59:60.5Z", "2026-12-31T12:00:00Z", "UTC", "2017-01-01T00:00:00.5Z"),
        ("31/Dec/2016:23:59:60 +0000", "2026-12-31T12:00:00Z", "UTC", "2017-01-01T00:00:00Z"),
        ("2026-11-27 13:00:00 +03", "2026-11-27T12:00:00Z", "UTC", "2026-11-27T10:00:00Z"),
        ("11/27/2026 1:00:00 PM", "2026-11-27T12:00:00Z", "UTC", "2026-11-27T13:00:00Z"),
        ("Nov 27, 2026 12:00:00 AM", "2026-11-27T12:00:00Z", "UTC", "2026-11-27T00:00:00Z"),
    ],
)
def test_times_at_the_borders_of_days_years_and_zones(text: str, now: str, zone: str, right: str) -> None:
    moment = parse_timestamp(text, now=lambda: datetime.fromisoformat(now), zone=ZoneInfo(zone))
    assert moment == datetime.fromisoformat(right)
