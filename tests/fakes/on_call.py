"""People, schedules and policies, as tests of the manager need them."""

# ruff: noqa: DTZ001  (on the wall clock)

from datetime import datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from services.domain.severity import Severity
from services.manager.core.escalation_policy import EscalationPolicy, EscalationStep
from services.manager.core.on_call import Person, Schedule, ScheduleLayer, ScheduleOverride
from services.manager.core.on_call_records import OnCallResource, OnCallSnapshot, apply_resources
from services.manager.core.weekly_hours import HoursSpan, WeeklyHours
from tests.fakes.transitions import NOW

BERLIN = ZoneInfo("Europe/Berlin")
NIGHTS = HoursSpan(start=time(22), end=time(6), weekdays=(0, 4))


def a_person(name: str = "ann", **changed: Any) -> Person:
    values: dict[str, Any] = {"name": name, "receivers": (f"{name}-pager",)}
    return Person(**values | changed)


def a_layer(name: str = "primary", **changed: Any) -> ScheduleLayer:
    values: dict[str, Any] = {
        "name": name,
        "people": ("ann", "ben"),
        "start": datetime(2025, 12, 1, 9),
        "turn": timedelta(weeks=1),
    }
    return ScheduleLayer(**values | changed)


def a_schedule(name: str = "payments", **changed: Any) -> Schedule:
    values: dict[str, Any] = {"name": name, "zone": BERLIN, "layers": (a_layer(),)}
    return Schedule(**values | changed)


def a_step(**changed: Any) -> EscalationStep:
    return EscalationStep(**{"schedules": ("payments",)} | changed)


def a_policy(name: str = "urgent", **changed: Any) -> EscalationPolicy:
    values: dict[str, Any] = {"name": name, "steps": (a_step(),), "fallback_receivers": ("duty",)}
    return EscalationPolicy(**values | changed)


def an_override(override_id: str = "o", **changed: Any) -> ScheduleOverride:
    values: dict[str, Any] = {
        "id": override_id,
        "schedule": "payments",
        "person": "ben",
        "start_time": NOW,
        "end_time": NOW + timedelta(hours=4),
        "create_time": NOW,
        "actor": "ann",
    }
    return ScheduleOverride(**values | changed)


def full_policy() -> EscalationPolicy:
    """Return a policy with every field set."""
    first = a_step(
        delay=timedelta(minutes=2),
        receivers=("chat",),
        people=("ann", "ben"),
        min_severity=Severity.HIGH,
        hours=WeeklyHours(spans=(NIGHTS,), zone=BERLIN),
    )
    last = a_step(delay=timedelta(minutes=5), until_acknowledged=True)
    return a_policy("full", description="é\n", steps=(first, last), repeat_delay=timedelta(minutes=7))


def full_schedule() -> Schedule:
    """Return a schedule with every field set."""
    nights = a_layer("nights", turn=timedelta(hours=12), hours=(NIGHTS,), end=datetime(2027, 1, 1, 12))
    return a_schedule("full", description="both", layers=(a_layer(), nights))


def a_snapshot(*values: OnCallResource, overrides: tuple[ScheduleOverride, ...] = ()) -> OnCallSnapshot:
    applied = apply_resources(OnCallSnapshot(), values, 1, now=NOW)
    return OnCallSnapshot(
        revision=1, epoch="memory", records={each.record.key: each.record for each in applied}, overrides=overrides
    )


class FixedOnCall:
    """A feed of people, schedules and policies that do not change."""

    def __init__(self, *values: OnCallResource) -> None:
        self.snapshot = a_snapshot(*values)
        self.current = self.snapshot.directory()

    async def refresh(self) -> None:
        """Nothing changes."""
