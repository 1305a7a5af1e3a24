"""Escalation policies: when a step applies, and which one follows."""

from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.domain.severity import Severity
from services.manager.core.escalation_policy import EscalationPolicy, EscalationStep, StepPlace
from services.manager.core.weekly_hours import HoursSpan, WeeklyHours

MINUTE = timedelta(minutes=1)
NOON = datetime(2026, 11, 27, 12, tzinfo=UTC)
HOURS = WeeklyHours(spans=(HoursSpan(start=time(9), end=time(17)),), zone=ZoneInfo("UTC"))


@pytest.mark.parametrize(
    ("step", "severity", "at", "expected"),
    [
        (EscalationStep(), Severity.LOW, NOON, True),
        (EscalationStep(min_severity=Severity.HIGH), Severity.MEDIUM, NOON, False),
        (EscalationStep(min_severity=Severity.HIGH), Severity.HIGH, NOON, True),
        (EscalationStep(hours=HOURS), Severity.LOW, NOON, True),
        (EscalationStep(hours=HOURS), Severity.CRITICAL, NOON.replace(hour=17), False),
        (EscalationStep(hours=HOURS, min_severity=Severity.HIGH), Severity.LOW, NOON, False),
    ],
)
def test_a_step_applies_when_all_its_conditions_hold(
    step: EscalationStep, severity: Severity, at: datetime, *, expected: bool
) -> None:
    assert step.applies(severity, at) is expected


def policy(*minutes: int, repeat_count: int = 0, until_acknowledged: bool = False) -> EscalationPolicy:
    steps = [EscalationStep(delay=each * MINUTE) for each in minutes]
    steps[-1] = EscalationStep(delay=steps[-1].delay, until_acknowledged=until_acknowledged)
    return EscalationPolicy(name="p", steps=tuple(steps), repeat_count=repeat_count, repeat_delay=10 * MINUTE)


def walk(made: EscalationPolicy, most: int = 20) -> list[tuple[int, int, int]]:
    """Return step, round and minutes of the first places of a policy."""
    found: list[tuple[int, int, int]] = []
    place: StepPlace | None = None
    while len(found) < most and (following := made.next_step(place)) is not None:
        place, delay = following
        found.append((place.step, place.round, int(delay / MINUTE)))
    return found


def test_steps_follow_each_other_after_their_delays() -> None:
    assert walk(policy(0, 5, 15)) == [(0, 0, 0), (1, 0, 5), (2, 0, 15)]


def test_all_steps_are_repeated_as_often_as_the_policy_says() -> None:
    expected = [(0, 0, 1), (1, 0, 5), (0, 1, 11), (1, 1, 5), (0, 2, 11), (1, 2, 5)]
    assert walk(policy(1, 5, repeat_count=2)) == expected


def test_the_last_step_is_repeated_until_somebody_acknowledges() -> None:
    expected = [(0, 0, 0), (1, 0, 5), (1, 1, 5), (1, 2, 5)]
    assert walk(policy(0, 5, until_acknowledged=True), 4) == expected


def test_nothing_follows_a_step_that_the_policy_no_longer_has() -> None:
    assert policy(0, 5).next_step(StepPlace(step=2)) is None


@given(
    minutes=st.lists(st.integers(0, 60), min_size=1, max_size=6),
    repeat_count=st.integers(0, 4),
)
def test_each_step_comes_once_in_each_round(minutes: list[int], repeat_count: int) -> None:
    places = [(round_, step) for step, round_, _ in walk(policy(*minutes, repeat_count=repeat_count), 100)]
    assert places == [(round_, step) for round_ in range(repeat_count + 1) for step in range(len(minutes))]


def test_of_a_step_that_is_repeated_without_end_ever_fewer_repeats_are_recorded() -> None:
    repeated = policy(0, 5, until_acknowledged=True)
    recorded = [n for n in range(40) if repeated.is_recorded(StepPlace(step=1, round=n))]
    assert recorded == [0, 1, 2, 3, 4, 8, 16, 32]
    assert repeated.is_recorded(StepPlace(step=0, round=5))
    # It was longer when the step began.
    assert repeated.is_recorded(StepPlace(step=2, round=5))
