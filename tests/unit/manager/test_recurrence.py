"""Times that recur: tables, and laws against another implementation and against brute force."""

# ruff: noqa: DTZ001  (on the wall clock)

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import islice, takewhile
from zoneinfo import ZoneInfo

import pytest
from dateutil.rrule import rrulestr
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from services.manager.core.recurrence import Frequency, Recurrence
from services.manager.core.recurrence_text import RecurrenceError, parse_rule

HOUR = timedelta(hours=1)


def recurrence(
    text: str, start: datetime = datetime(2026, 1, 1, 22), zone: str = "UTC", duration: timedelta = HOUR
) -> Recurrence:
    rule = parse_rule(text)
    made = Recurrence(rule=rule, text=text, start=start, zone=ZoneInfo(zone), duration=duration)
    return made.bounded(1000)


def starts(made: Recurrence, count: int) -> list[str]:
    """Return the first times on the wall clock."""
    first = made.start.replace(tzinfo=made.zone)
    return [
        f"{each.astimezone(made.zone):%Y-%m-%d %H:%M}"
        for each in islice(made.around(first, first + timedelta(days=366 * 9)), count)
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("FREQ=DAILY", ["2026-01-01 22:00", "2026-01-02 22:00"]),
        ("RRULE:FREQ=DAILY;INTERVAL=3;", ["2026-01-01 22:00", "2026-01-04 22:00"]),
        ("freq=daily;byhour=3,1;byminute=30", ["2026-01-02 01:30", "2026-01-02 03:30", "2026-01-03 01:30"]),
        ("FREQ=DAILY;BYMONTH=3;BYMONTHDAY=-1,1", ["2026-03-01 22:00", "2026-03-31 22:00", "2027-03-01 22:00"]),
        ("FREQ=WEEKLY", ["2026-01-01 22:00", "2026-01-08 22:00"]),
        ("FREQ=WEEKLY;BYDAY=SU,MO", ["2026-01-04 22:00", "2026-01-05 22:00", "2026-01-11 22:00"]),
        ("FREQ=WEEKLY;INTERVAL=2;BYDAY=SU,MO", ["2026-01-04 22:00", "2026-01-12 22:00", "2026-01-18 22:00"]),
        ("FREQ=WEEKLY;INTERVAL=2;BYDAY=SU,MO;WKST=SU", ["2026-01-11 22:00", "2026-01-12 22:00"]),
        ("FREQ=MONTHLY", ["2026-01-01 22:00", "2026-02-01 22:00"]),
        ("FREQ=MONTHLY;BYMONTHDAY=31", ["2026-01-31 22:00", "2026-03-31 22:00"]),
        ("FREQ=MONTHLY;BYDAY=-1SU", ["2026-01-25 22:00", "2026-02-22 22:00"]),
        ("FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=-1", ["2026-01-30 22:00", "2026-02-27 22:00"]),
        ("FREQ=MONTHLY;BYMONTHDAY=1;BYSETPOS=2;BYHOUR=1,2", ["2026-02-01 02:00", "2026-03-01 02:00"]),
        ("FREQ=MONTHLY;BYMONTHDAY=1;BYSETPOS=9", []),
        ("FREQ=YEARLY", ["2026-01-01 22:00", "2027-01-01 22:00"]),
        ("FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=29", ["2028-02-29 22:00", "2032-02-29 22:00"]),
        ("FREQ=YEARLY;BYDAY=1SU,-1SU", ["2026-01-04 22:00", "2026-12-27 22:00", "2027-01-03 22:00"]),
        ("FREQ=YEARLY;BYMONTH=11;BYDAY=4TH", ["2026-11-26 22:00", "2027-11-25 22:00"]),
        ("FREQ=HOURLY;INTERVAL=9", ["2026-01-01 22:00", "2026-01-02 07:00", "2026-01-02 16:00"]),
        ("FREQ=HOURLY;BYHOUR=3;BYDAY=MO", ["2026-01-05 03:00", "2026-01-12 03:00"]),
        ("FREQ=DAILY;COUNT=2", ["2026-01-01 22:00", "2026-01-02 22:00"]),
        ("FREQ=DAILY;UNTIL=20260103", ["2026-01-01 22:00", "2026-01-02 22:00", "2026-01-03 22:00"]),
        ("FREQ=DAILY;UNTIL=20260103T215959", ["2026-01-01 22:00", "2026-01-02 22:00"]),
        ("FREQ=YEARLY;UNTIL=20270101T220000Z", ["2026-01-01 22:00", "2027-01-01 22:00"]),
    ],
)
def test_a_rule_occurs_when_the_standard_says(text: str, expected: list[str]) -> None:
    assert starts(recurrence(text), max(2, len(expected))) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", 'found "", expected NAME=VALUE with FREQ, INTERVAL'),
        ("FREQ=DAILY;X=1", 'found "X=1", expected NAME=VALUE'),
        ("INTERVAL=2", "FREQ is missing: one of YEARLY, MONTHLY, WEEKLY, DAILY, HOURLY"),
        ("FREQ=MINUTELY", 'FREQ: found "MINUTELY", expected one of YEARLY'),
        ("FREQ=DAILY;BYMINUTE=1,2", 'BYMINUTE: found "1,2", expected one minute'),
        ("FREQ=DAILY;FREQ=DAILY", "FREQ stands there twice"),
        ("FREQ=DAILY;INTERVAL=0", 'INTERVAL: found "0", expected 1 to 1000'),
        ("FREQ=DAILY;COUNT=1001", "expected 1 to 1000"),
        ("FREQ=DAILY;COUNT=two", 'COUNT: found "TWO"'),
        ("FREQ=DAILY;COUNT=2;UNTIL=20260101", "has COUNT and UNTIL"),
        ("FREQ=DAILY;UNTIL=tomorrow", "expected a time such as 20271231T220000Z"),
        ("FREQ=DAILY;UNTIL=20261301", "UNTIL: found"),
        ("FREQ=DAILY;BYDAY=1MO", "BYDAY: a number before a day needs FREQ=MONTHLY"),
        ("FREQ=DAILY;BYDAY=XX", "expected days such as MO"),
        ("FREQ=YEARLY;BYDAY=54MO", "expected days such as MO"),
        ("FREQ=YEARLY;BYMONTH=1;BYDAY=6MO", "a month has at most 5"),
        ("FREQ=MONTHLY;BYDAY=6MO", "a month has at most 5"),
        ("FREQ=MONTHLY;BYMONTHDAY=0", "days from 1 to 31"),
        ("FREQ=MONTHLY;BYMONTH=13", "months from 1 to 12"),
        ("FREQ=WEEKLY;BYMONTHDAY=1", "BYMONTHDAY does not go with FREQ=WEEKLY"),
        ("FREQ=HOURLY;BYSETPOS=1", "BYSETPOS does not go with FREQ=HOURLY"),
        ("FREQ=DAILY;WKST=1", "expected one of MO"),
        ("FREQ=DAILY" + ";" * 600, "has 610 characters"),
    ],
)
def test_what_is_no_rule_is_refused_with_its_part(text: str, message: str) -> None:
    with pytest.raises(RecurrenceError) as caught:
        parse_rule(text)
    assert message in str(caught.value)


@pytest.mark.parametrize("text", ["FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=31", "FREQ=HOURLY;BYMONTH=2;BYMONTHDAY=30"])
def test_a_rule_that_never_occurs_is_found_out(text: str) -> None:
    made = recurrence(text)
    assert made.first is None
    assert made.occurrence(datetime(2026, 5, 1, tzinfo=UTC)) is None
    with pytest.raises(ValueError, match="does not occur so often"):
        recurrence(f"{text};COUNT=2")
    assert recurrence(f"{text};UNTIL=20301231").end < datetime(2026, 1, 2, tzinfo=UTC)  # type: ignore[operator]


def test_an_end_is_that_of_the_last_time() -> None:
    assert recurrence("FREQ=WEEKLY;COUNT=3").end == datetime(2026, 1, 15, 23, tzinfo=UTC)
    assert recurrence("FREQ=YEARLY;UNTIL=20300601").end == datetime(2030, 1, 1, 23, tzinfo=UTC)
    assert recurrence("FREQ=YEARLY").end is None
    assert not recurrence("FREQ=YEARLY").covers(datetime(2025, 1, 1, 22, tzinfo=UTC))
    assert recurrence("FREQ=YEARLY").first == datetime(2026, 1, 1, 22, tzinfo=UTC)
    ended = recurrence("FREQ=DAILY;COUNT=1")
    assert ended.next_border(datetime(2026, 1, 2, tzinfo=UTC)) is None
    assert ended.occurrence(datetime(2026, 1, 2, tzinfo=UTC)) is None


@pytest.mark.parametrize("zone", ["America/New_York", "Europe/Berlin", "Asia/Kathmandu"])
@pytest.mark.parametrize("text", ["FREQ=HOURLY;COUNT=3", "FREQ=DAILY;COUNT=3", "FREQ=HOURLY;UNTIL=20260102T010000"])
def test_the_moment_of_its_end_says_which_time_is_the_last(text: str, zone: str) -> None:
    made = recurrence(text, zone=zone)
    assert replace(made, last=None).ended(made.end) == made
    assert made.ended(None).last is None


def test_the_present_or_the_next_time_is_known_far_ahead() -> None:
    made = recurrence("FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=29")
    begins = datetime(2028, 2, 29, 22, tzinfo=UTC)
    assert made.occurrence(datetime(2026, 1, 1, tzinfo=UTC)) == (begins, begins + HOUR)
    assert made.occurrence(begins + HOUR / 2) == (begins, begins + HOUR)
    # Not searched for: looked at again.
    assert made.next_border(datetime(2026, 3, 1, tzinfo=UTC)) == datetime(2026, 4, 2, tzinfo=UTC)


@pytest.mark.parametrize(
    ("zone", "start", "expected"),
    [
        # Forward in March, back in October.
        ("Europe/Berlin", datetime(2026, 3, 28, 2, 30), ["01:30", "01:30", "00:30", "00:30"]),
        ("Europe/Berlin", datetime(2026, 10, 24, 2, 30), ["00:30", "00:30", "01:30"]),
        ("America/New_York", datetime(2026, 3, 7, 2, 30), ["07:30", "07:30", "06:30"]),
        ("America/New_York", datetime(2026, 10, 31, 1, 30), ["05:30", "05:30", "06:30"]),
        # By half an hour.
        ("Australia/Lord_Howe", datetime(2026, 10, 3, 2, 15), ["15:45", "15:45", "15:15"]),
        ("Australia/Lord_Howe", datetime(2026, 4, 4, 1, 45), ["14:45", "14:45", "15:15"]),
    ],
)
def test_changes_of_the_clock_move_the_instant_and_not_the_time(
    zone: str, start: datetime, expected: list[str]
) -> None:
    made = recurrence("FREQ=DAILY", start, zone)
    first = start.replace(tzinfo=made.zone)
    instants = islice(made.around(first, first + timedelta(days=9)), len(expected))
    assert [f"{each:%H:%M}" for each in instants] == expected


@pytest.mark.parametrize(
    ("text", "zone", "start", "expected"),
    [
        # Back: the hour from 2 is there twice; forward: it is not there.
        ("FREQ=HOURLY", "Europe/Berlin", datetime(2026, 10, 25, 1), ["24 23:00", "25 00:00", "25 01:00", "25 02:00"]),
        ("FREQ=HOURLY", "Europe/Berlin", datetime(2026, 3, 29, 1), ["29 00:00", "29 01:00", "29 02:00"]),
        ("FREQ=HOURLY;INTERVAL=2", "Europe/Berlin", datetime(2026, 10, 25, 0), ["24 22:00", "25 00:00", "25 02:00"]),
        ("FREQ=HOURLY;BYHOUR=2", "Europe/Berlin", datetime(2026, 10, 25, 0), ["25 00:00", "25 01:00", "26 01:00"]),
        ("FREQ=HOURLY;BYHOUR=2", "Europe/Berlin", datetime(2026, 3, 28, 0), ["28 01:00", "30 00:00"]),
        (
            "FREQ=HOURLY;BYMINUTE=5",
            "Europe/Berlin",
            datetime(2026, 10, 25, 1, 30),
            ["25 00:05", "25 01:05", "25 02:05"],
        ),
        ("FREQ=HOURLY;BYMINUTE=5", "Europe/Berlin", datetime(2026, 3, 29, 0, 30), ["29 00:05", "29 01:05", "29 02:05"]),
        (
            "FREQ=HOURLY;BYMINUTE=5;INTERVAL=2",
            "Europe/Berlin",
            datetime(2026, 10, 25, 0, 30),
            ["25 00:05", "25 02:05", "25 04:05"],
        ),
        ("FREQ=HOURLY;COUNT=2", "Europe/Berlin", datetime(2026, 10, 25, 2, 30), ["25 00:30", "25 01:30"]),
        ("FREQ=HOURLY;UNTIL=20261025T023000", "Europe/Berlin", datetime(2026, 10, 25, 2), ["25 00:00", "25 01:00"]),
        ("FREQ=HOURLY;UNTIL=20261025T003000Z", "Europe/Berlin", datetime(2026, 10, 25, 2), ["25 00:00"]),
        # By half an hour: what passes is hours, what was asked for is a minute.
        ("FREQ=HOURLY", "Australia/Lord_Howe", datetime(2026, 4, 5, 1), ["04 14:00", "04 15:00", "04 16:00"]),
        (
            "FREQ=HOURLY;BYMINUTE=45",
            "Australia/Lord_Howe",
            datetime(2026, 4, 5, 1),
            ["04 14:45", "04 15:15", "04 16:15"],
        ),
        ("FREQ=HOURLY;BYMINUTE=15", "Australia/Lord_Howe", datetime(2026, 10, 4, 1), ["03 14:45", "03 16:15"]),
    ],
)
def test_hours_are_those_that_pass(text: str, zone: str, start: datetime, expected: list[str]) -> None:
    made = recurrence(text, start, zone)
    first = start.replace(tzinfo=made.zone)
    instants = islice(made.around(first, first + timedelta(days=9)), len(expected))
    assert [f"{each:%d %H:%M}" for each in instants] == expected
    assert made.first == next(made.around(first, first + timedelta(days=9)))
    if "COUNT" in text or "UNTIL" in text:
        assert f"{made.end - HOUR:%d %H:%M}" == expected[-1]  # type: ignore[operator]


_ZONES = st.sampled_from(["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "UTC"])
_CHANGES = {
    "Europe/Berlin": (datetime(2026, 3, 29, 1), datetime(2026, 10, 25, 1)),
    "America/New_York": (datetime(2026, 3, 8, 7), datetime(2026, 11, 1, 6)),
    "Australia/Lord_Howe": (datetime(2026, 4, 4, 15), datetime(2026, 10, 3, 15, 30)),
    # At midnight, so that a day begins an hour late or ends an hour late.
    "Africa/Cairo": (datetime(2026, 4, 23, 22), datetime(2026, 10, 29, 21)),
    "UTC": (datetime(2026, 3, 29, 1), datetime(2026, 10, 25, 1)),
}
_FREQUENCIES = st.sampled_from(list(Frequency))


@st.composite
def _rules(draw: st.DrawFn) -> str:
    frequency = draw(_FREQUENCIES)
    has_ordinals = frequency in {Frequency.MONTHLY, Frequency.YEARLY} and draw(st.booleans())

    def some(name: str, values: list[str]) -> str:
        chosen = draw(st.lists(st.sampled_from(values), max_size=2, unique=True))
        return f";{name}={','.join(chosen)}" if chosen else ""

    text = f"FREQ={frequency}"
    text += some("BYMONTH", ["1", "3", "10"])
    if frequency is not Frequency.WEEKLY:
        text += some("BYMONTHDAY", ["1", "13", "31", "-1", "-7"])
    text += some("BYDAY", ["1SU", "-1FR", "2TU"] if has_ordinals else ["SU", "FR", "TU"])
    text += some("BYHOUR", ["2", "14"])
    # The other implementation begins the set of the first week with the first time.
    if frequency in {Frequency.MONTHLY, Frequency.YEARLY, Frequency.DAILY}:
        text += some("BYSETPOS", ["1", "-1", "2"])
    return f"{text};INTERVAL={draw(st.integers(1, 4))};WKST={draw(st.sampled_from(['MO', 'SU']))}"


_STARTS = st.datetimes(datetime(2026, 1, 1), datetime(2027, 12, 31)).map(lambda each: each.replace(microsecond=0))


@settings(deadline=None)
@given(_rules(), _STARTS)
def test_law_the_times_are_those_of_another_implementation(text: str, start: datetime) -> None:
    made = recurrence(text, start)
    first = start.replace(tzinfo=UTC)
    end = first + timedelta(days=700)
    mine = list(made.around(first, end))
    # It goes on for ever where there are none.
    assume(mine)
    theirs = takewhile(lambda each: each <= end.replace(tzinfo=None), islice(rrulestr(text, dtstart=start), len(mine)))
    assert [each.replace(tzinfo=None) for each in mine] == list(theirs)


@settings(deadline=None, max_examples=60)
@given(_ZONES, _STARTS, st.sampled_from(["FREQ=DAILY", "FREQ=WEEKLY;BYDAY=SU,MO", "FREQ=DAILY;COUNT=20"]), st.data())
def test_law_the_state_at_any_instant_is_that_of_all_times_together(
    zone: str, start: datetime, text: str, data: st.DataObject
) -> None:
    made = recurrence(text, start, zone, timedelta(hours=data.draw(st.integers(1, 30))))
    first = start.replace(tzinfo=made.zone).astimezone(UTC)
    now = first + timedelta(minutes=data.draw(st.integers(-3000, 400 * 1440)))
    days = (start + timedelta(days=n) for n in range(420))
    is_weekly = "WEEKLY" in text
    local = [day for day in days if not is_weekly or day.weekday() in {6, 0}]
    instants = [each.replace(tzinfo=made.zone).astimezone(UTC) for each in local][: 20 if "COUNT" in text else None]
    assert made.covers(now) == any(each <= now < each + made.duration for each in instants)
    borders = [border for each in instants for border in (each, each + made.duration) if border > now]
    expected = min(borders, default=None)
    found = made.next_border(now)
    look_again = now + timedelta(days=32)
    assert found == expected or (found == look_again and (expected is None or expected > look_again))


@settings(deadline=None, max_examples=60)
@given(_ZONES, _STARTS)
def test_law_each_time_shows_the_wall_clock_that_was_asked_for(zone: str, start: datetime) -> None:
    made = recurrence("FREQ=DAILY", start, zone)
    first = start.replace(tzinfo=made.zone).astimezone(UTC)
    for number, instant in enumerate(islice(made.around(first, first + timedelta(days=400)), 366)):
        asked = start + timedelta(days=number)
        shown = instant.astimezone(made.zone)
        # In a gap the clock jumps over what was asked for, by as much as it jumps.
        assert shown.replace(tzinfo=None) in {asked, asked + HOUR, asked + HOUR / 2}
        is_there = asked.replace(tzinfo=made.zone).astimezone(UTC).astimezone(made.zone).replace(tzinfo=None) == asked
        assert (shown.replace(tzinfo=None) == asked) == is_there
        assert shown.fold == 0


@settings(deadline=None, max_examples=60)
@given(st.sampled_from(list(_CHANGES)), st.integers(0, 1), st.integers(-3000, 3000), st.integers(1, 26), st.data())
def test_law_a_rule_by_hours_covers_what_steps_through_utc_cover(
    zone: str, which: int, minutes: int, interval: int, data: st.DataObject
) -> None:
    change = _CHANGES[zone][which].replace(tzinfo=UTC)
    by_hour = data.draw(st.sampled_from([(), (0,), (1, 2), (23,)]))
    hours = data.draw(st.integers(1, 3))
    start = (change + timedelta(minutes=minutes)).astimezone(ZoneInfo(zone)).replace(tzinfo=None, fold=0)
    text = f"FREQ=HOURLY;INTERVAL={interval}" + (f";BYHOUR={','.join(map(str, by_hour))}" if by_hour else "")
    made = recurrence(text, start, zone, hours * HOUR)
    each = first = start.replace(tzinfo=made.zone).astimezone(UTC)
    steps = []
    while each < change + timedelta(days=3):
        if not by_hour or each.astimezone(made.zone).hour in by_hour:
            steps.append(each)
        each += interval * HOUR
    for _ in range(8):
        now = change + timedelta(minutes=data.draw(st.integers(-4000, 4000)))
        assert made.covers(now) == any(each <= now < each + hours * HOUR for each in steps)
        # Each hour without a pause silences every instant.
        assert made.covers(now) or interval > hours or by_hour or now < first


@settings(deadline=None, max_examples=60)
@given(st.sampled_from(list(_CHANGES)), st.integers(0, 1), st.integers(0, 59), st.integers(0, 59))
def test_law_a_minute_of_each_hour_comes_whenever_the_clock_shows_it(
    zone: str, which: int, minute: int, first_minute: int
) -> None:
    change = _CHANGES[zone][which].replace(tzinfo=UTC)
    start = (change - timedelta(days=20)).replace(tzinfo=None, minute=first_minute)
    made = recurrence(f"FREQ=HOURLY;BYMINUTE={minute}", start, zone)
    passed = (change + timedelta(minutes=n) for n in range(-400, 400))
    assert list(made.around(change - timedelta(minutes=400), change + timedelta(minutes=399))) == [
        each for each in passed if each.astimezone(made.zone).minute == minute
    ]
