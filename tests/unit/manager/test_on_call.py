"""Who is on call: layers, overrides, shifts; tables, and laws across changes of clocks."""

# ruff: noqa: DTZ001  (on the wall clock)

from datetime import datetime, time, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.domain.severity import Severity
from services.manager.core.escalation_policy import EscalationPolicy, EscalationStep, StepOutcome
from services.manager.core.on_call import (
    OnCallDirectory,
    OnCallShift,
    Person,
    Schedule,
    ScheduleLayer,
    ScheduleOverride,
)
from services.manager.core.weekly_hours import HoursSpan
from tests.fakes.wall_clocks import MOMENTS, ZONES, highest_shown

BERLIN = ZoneInfo("Europe/Berlin")
DAY = timedelta(days=1)
WEEK = timedelta(weeks=1)
HOUR = timedelta(hours=1)
WEEKLY = ScheduleLayer(name="primary", people=("ann", "ben", "cem"), start=datetime(2026, 3, 2, 9), turn=WEEK)
NIGHTS = HoursSpan(start=time(22), end=time(6))


def berlin(text: str, fold: int = 0) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=BERLIN, fold=fold)


def schedule(*layers: ScheduleLayer, overrides: tuple[ScheduleOverride, ...] = ()) -> Schedule:
    return Schedule(name="payments", zone=BERLIN, layers=layers, overrides=overrides)


def override(start: datetime, end: datetime, person: str = "dora") -> ScheduleOverride:
    return ScheduleOverride(
        id="o", schedule="payments", person=person, start_time=start, end_time=end, create_time=start
    )


def shown(shifts: list[OnCallShift]) -> list[str]:
    return [
        f"{each.start.astimezone(BERLIN):%d.%m. %H:%M} - {each.end.astimezone(BERLIN):%d.%m. %H:%M} "
        f"{each.person} ({each.source})"
        for each in shifts
    ]


@pytest.mark.parametrize(
    ("at", "expected"),
    [
        ("2026-03-02T08:59:59", ()),
        ("2026-03-02T09:00:00", ("ann",)),
        ("2026-03-09T08:59:59", ("ann",)),
        ("2026-03-09T09:00:00", ("ben",)),
        ("2026-03-22T12:00:00", ("cem",)),
        # After the change to summer time, which makes a week an hour shorter.
        ("2026-03-30T08:59:59", ("ann",)),
        ("2026-03-30T09:00:00", ("ben",)),
        ("2026-10-26T08:59:59", ("ann",)),
        ("2026-10-26T09:00:00", ("ben",)),
    ],
)
def test_a_weekly_rotation_hands_off_at_its_time_of_day(at: str, expected: tuple[str, ...]) -> None:
    assert schedule(WEEKLY).on_call(berlin(at)) == expected


def test_a_layer_ends() -> None:
    layer = ScheduleLayer(name="l", people=("ann",), start=datetime(2026, 3, 2), turn=DAY, end=datetime(2026, 3, 4, 12))
    assert schedule(layer).on_call(berlin("2026-03-04T11:59:59")) == ("ann",)
    assert schedule(layer).on_call(berlin("2026-03-04T12:00:00")) == ()
    assert shown(schedule(layer).shifts(berlin("2026-03-04T00:00:00"), berlin("2026-03-05T00:00:00"))) == [
        "04.03. 00:00 - 04.03. 12:00 ann (l)"
    ]
    assert schedule(layer).shifts(berlin("2026-03-20T00:00:00"), berlin("2026-03-25T00:00:00")) == []


def test_a_turn_that_begins_where_the_clock_goes_back_begins_once() -> None:
    layer = ScheduleLayer(name="l", people=("ann", "ben"), start=datetime(2026, 10, 24, 2, 30), turn=DAY)
    night = schedule(layer)
    assert night.on_call(berlin("2026-10-25T02:29:59")) == ("ann",)
    assert night.on_call(berlin("2026-10-25T02:30:00")) == ("ben",)
    assert night.on_call(berlin("2026-10-25T02:15:00", fold=1)) == ("ben",)


def test_a_turn_that_begins_where_the_clock_jumps_begins_at_the_jump() -> None:
    layer = ScheduleLayer(name="l", people=("ann", "ben"), start=datetime(2026, 3, 28, 2, 30), turn=DAY)
    assert schedule(layer).on_call(berlin("2026-03-29T01:59:59")) == ("ann",)
    assert schedule(layer).on_call(berlin("2026-03-29T03:00:00")) == ("ben",)


def test_the_last_layer_that_has_somebody_decides() -> None:
    nights = ScheduleLayer(name="nights", people=("eva",), start=datetime(2026, 3, 2), turn=DAY, hours=(NIGHTS,))
    both = schedule(WEEKLY, nights)
    assert both.on_call(berlin("2026-03-03T21:59:59")) == ("ann",)
    assert both.on_call(berlin("2026-03-03T22:00:00")) == ("eva",)
    assert both.on_call(berlin("2026-03-04T06:00:00")) == ("ann",)


def test_the_override_that_was_added_last_decides() -> None:
    start = berlin("2026-03-03T12:00:00")
    overridden = schedule(
        WEEKLY, overrides=(override(start, start + 4 * HOUR), override(start + HOUR, start + 2 * HOUR, "fred"))
    )
    assert overridden.on_call(start - timedelta(seconds=1)) == ("ann",)
    assert overridden.on_call(start) == ("dora",)
    assert overridden.on_call(start + HOUR) == ("fred",)
    assert overridden.on_call(start + 2 * HOUR) == ("dora",)
    assert overridden.on_call(start + 4 * HOUR) == ("ann",)


def test_shifts_are_whole_and_in_their_order() -> None:
    nights = ScheduleLayer(
        name="nights", people=("eva", "fred"), start=datetime(2026, 3, 2), turn=2 * DAY, hours=(NIGHTS,)
    )
    start = berlin("2026-03-08T12:00:00")
    made = schedule(WEEKLY, nights, overrides=(override(start, start + 4 * HOUR),))
    assert shown(made.shifts(berlin("2026-03-07T23:00:00"), berlin("2026-03-09T12:00:00"))) == [
        "07.03. 22:00 - 08.03. 00:00 eva (nights)",
        "08.03. 00:00 - 08.03. 06:00 fred (nights)",
        "08.03. 06:00 - 08.03. 12:00 ann (primary)",
        "08.03. 12:00 - 08.03. 16:00 dora (override)",
        "08.03. 16:00 - 08.03. 22:00 ann (primary)",
        "08.03. 22:00 - 09.03. 06:00 fred (nights)",
        "09.03. 06:00 - 09.03. 09:00 ann (primary)",
        "09.03. 09:00 - 09.03. 22:00 ben (primary)",
    ]


def test_a_turn_stays_whole_where_hours_or_a_hidden_layer_border_on_each_other() -> None:
    whole_days = tuple(HoursSpan(start=time(), end=time(), weekdays=(day,)) for day in range(5))
    week = ScheduleLayer(name="week", people=("ann",), start=datetime(2026, 3, 2), turn=WEEK, hours=whole_days)
    below = ScheduleLayer(name="below", people=("ben",), start=datetime(2026, 3, 2), turn=DAY)
    assert shown(schedule(below, week).shifts(berlin("2026-03-04T12:00:00"), berlin("2026-03-08T12:00:00"))) == [
        "02.03. 00:00 - 07.03. 00:00 ann (week)",
        "07.03. 00:00 - 08.03. 00:00 ben (below)",
        "08.03. 00:00 - 09.03. 00:00 ben (below)",
    ]


def test_a_schedule_without_layers_has_the_shifts_of_its_overrides() -> None:
    start = berlin("2026-03-08T12:00:00")
    only = schedule(overrides=(override(start, start + HOUR), override(start + 2 * HOUR, start + 3 * HOUR)))
    assert shown(only.shifts(start, start + DAY)) == [
        "08.03. 12:00 - 08.03. 13:00 dora (override)",
        "08.03. 14:00 - 08.03. 15:00 dora (override)",
    ]
    assert schedule().shifts(start, start + DAY) == []


# Laws.

SPANS = st.builds(
    HoursSpan,
    start=st.builds(time, st.integers(0, 23), st.sampled_from([0, 30])),
    end=st.builds(time, st.integers(0, 23), st.sampled_from([0, 30])),
    weekdays=st.lists(st.integers(0, 6), unique=True, max_size=7).map(tuple),
)
LAYERS = st.builds(
    ScheduleLayer,
    name=st.sampled_from(["one", "two"]),
    people=st.lists(st.sampled_from("abcd"), min_size=1, max_size=4).map(tuple),
    start=st.builds(
        lambda days, minutes: datetime(2025, 12, 20) + days * DAY + timedelta(minutes=minutes),
        st.integers(0, 300),
        st.sampled_from([0, 90, 120, 150, 540]),
    ),
    turn=st.one_of(st.sampled_from([DAY, WEEK, HOUR]), st.integers(1, 100).map(lambda hours: hours * HOUR)),
    hours=st.lists(SPANS, max_size=2).map(tuple),
)


def is_inside(layer: ScheduleLayer, at: datetime, zone: ZoneInfo) -> bool:
    """Return whether a clock that never goes back is in the layer's hours."""
    clock = highest_shown(at, zone)
    if clock < layer.start:
        return False
    return not layer.hours or any(
        datetime.combine(day, span.start)
        <= clock
        < datetime.combine(day + (DAY if span.end <= span.start else timedelta()), span.end)
        for span in layer.hours
        for day in (clock.date() - DAY, clock.date())
        if not span.weekdays or day.weekday() in span.weekdays
    )


@given(layer=LAYERS, at=MOMENTS, zone=ZONES)
@settings(max_examples=300)
def test_inside_its_hours_a_layer_has_the_person_whose_turn_it_is_and_nobody_outside(
    layer: ScheduleLayer, at: datetime, zone: ZoneInfo
) -> None:
    turn = (highest_shown(at, zone) - layer.start) // layer.turn
    expected = layer.people[turn % len(layer.people)] if is_inside(layer, at, zone) else None
    assert layer.person_at(at, zone) == expected


@given(layer=LAYERS, zone=ZONES, start=MOMENTS, length=st.integers(1, 5000), at=MOMENTS)
def test_an_override_wins_exactly_while_it_lasts(
    layer: ScheduleLayer, zone: ZoneInfo, start: datetime, length: int, at: datetime
) -> None:
    without = Schedule(name="s", zone=zone, layers=(layer,))
    end = start + timedelta(minutes=length)
    made = Schedule(name="s", zone=zone, layers=(layer,), overrides=(override(start, end, "z"),))
    for moment in (at, start, end - timedelta(seconds=1), end, start - timedelta(seconds=1)):
        expected = ("z",) if start <= moment < end else without.on_call(moment)
        assert made.on_call(moment) == expected


@given(
    layers=st.lists(LAYERS, max_size=3).map(tuple),
    zone=ZONES,
    first=MOMENTS,
    overrides=st.lists(st.tuples(MOMENTS, st.integers(1, 3000)), max_size=3),
)
@settings(max_examples=60, deadline=None)
def test_the_shifts_agree_with_who_is_on_call_at_each_moment(
    layers: tuple[ScheduleLayer, ...], zone: ZoneInfo, first: datetime, overrides: list[tuple[datetime, int]]
) -> None:
    made = Schedule(
        name="s",
        zone=zone,
        layers=layers,
        overrides=tuple(override(start, start + timedelta(minutes=length), "z") for start, length in overrides),
    )
    last = first + 2 * DAY
    shifts = made.shifts(first, last)
    assert all(before.end <= after.start for before, after in pairwise(shifts))
    assert all(shift.start < shift.end and shift.start < last and shift.end > first for shift in shifts)
    moments = {first + timedelta(minutes=minute) for minute in range(0, 2 * 24 * 60, 30)}
    moments |= {each for shift in shifts for each in (shift.start, shift.end, shift.end - timedelta(minutes=1))}
    for moment in moments:
        if min([first, *(shift.start for shift in shifts)]) <= moment < last:
            expected = tuple(shift.person for shift in shifts if shift.start <= moment < shift.end)
            assert made.on_call(moment) == expected, moment


# The directory.

NOW = berlin("2026-03-03T12:00:00")
STEP = EscalationStep(receivers=("chat",), schedules=("payments",), people=("dora", "ann"))
POLICY = EscalationPolicy(name="p", steps=(STEP,), fallback_receivers=("duty", "chat"))
EMPTY = EscalationStep(receivers=("chat",), schedules=("empty",))


def directory() -> OnCallDirectory:
    names = ("ann", "ben", "cem", "dora")
    people = {name: Person(name=name, receivers=(f"{name}-pager", f"{name}-mail")) for name in names}
    empty = Schedule(name="empty", zone=BERLIN, layers=())
    return OnCallDirectory(people=people, schedules={"payments": schedule(WEEKLY), "empty": empty})


def test_the_directory_knows_who_is_on_call() -> None:
    assert directory().on_call("payments", NOW) == ("ann",)
    assert directory().on_call("unknown", NOW) == ()


def test_a_step_notifies_its_receivers_its_people_and_whoever_is_on_call_each_once() -> None:
    targets = directory().step_targets(POLICY, 0, severity=Severity.LOW, at=NOW)
    assert targets.outcome is StepOutcome.NOTIFIES
    assert targets.receivers == ("chat",)
    assert list(targets.people.items()) == [
        ("dora", ("dora-pager", "dora-mail")),
        ("ann", ("ann-pager", "ann-mail")),
    ]
    assert targets.reason == "step 1 of policy p"


def test_a_step_of_receivers_alone_needs_nobody_on_call() -> None:
    policy = EscalationPolicy(name="p", steps=(EscalationStep(receivers=("chat",)),))
    targets = directory().step_targets(policy, 0, severity=Severity.LOW, at=NOW)
    assert (targets.outcome, targets.receivers, targets.people) == (StepOutcome.NOTIFIES, ("chat",), {})


@pytest.mark.parametrize(
    ("step", "reason"),
    [
        (EMPTY, "step 1 of policy p: nobody is on call in schedule empty"),
        (
            EscalationStep(schedules=("empty", "unknown")),
            "step 1 of policy p: nobody is on call in any of the schedules empty, unknown",
        ),
        (EscalationStep(people=("zoe",)), "step 1 of policy p: its people are unknown"),
    ],
)
def test_the_fallback_receivers_are_notified_when_nobody_is_on_call(step: EscalationStep, reason: str) -> None:
    policy = EscalationPolicy(name="p", steps=(step,), fallback_receivers=("duty", "chat"))
    targets = directory().step_targets(policy, 0, severity=Severity.LOW, at=NOW)
    assert targets.outcome is StepOutcome.FALLBACK
    assert set(targets.receivers) == {"duty", "chat"}
    assert targets.people == {}
    assert targets.reason == reason


def test_a_step_whose_conditions_do_not_hold_notifies_nobody() -> None:
    step = EscalationStep(people=("dora",), min_severity=Severity.HIGH)
    policy = EscalationPolicy(name="p", steps=(step,))
    targets = directory().step_targets(policy, 0, severity=Severity.MEDIUM, at=NOW)
    assert targets.outcome is StepOutcome.SKIPPED
    assert (targets.receivers, targets.people) == ((), {})
    assert targets.reason == "step 1 of policy p: its conditions do not hold"


def test_a_receiver_that_one_person_has_and_no_other_has_the_zone_of_the_person() -> None:
    berlin, lisbon = ZoneInfo("Europe/Berlin"), ZoneInfo("Europe/Lisbon")
    people = (
        Person(name="ann", receivers=("ann", "chat", "ann"), zone=berlin),
        Person(name="ben", receivers=("ben", "chat"), zone=lisbon),
        Person(name="cem", receivers=("cem",)),
    )
    directory = OnCallDirectory(people={person.name: person for person in people})
    assert directory.receiver_zones == {"ann": "Europe/Berlin", "ben": "Europe/Lisbon"}
