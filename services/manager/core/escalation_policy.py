"""An escalation policy: who is notified of an incident one after the other, until somebody acknowledges it."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from services.domain.severity import Severity
from services.manager.core.weekly_hours import WeeklyHours

_RECORDED_REPEATS = 4


class StepOutcome(StrEnum):
    """What a step does when its time has come."""

    NOTIFIES = "NOTIFIES"
    # One of its conditions does not hold: nobody is notified, and the next step begins at once.
    SKIPPED = "SKIPPED"
    # Its schedules have nobody on call, and it names no people: the fallback receivers are notified.
    FALLBACK = "FALLBACK"


@dataclass(frozen=True, slots=True, kw_only=True)
class EscalationStep:
    """Who is notified, when, and under which conditions."""

    # After the step before began; of the first one after the incident was first notified of.
    delay: timedelta = timedelta()
    receivers: tuple[str, ...] = ()
    # Whoever is on call in these.
    schedules: tuple[str, ...] = ()
    people: tuple[str, ...] = ()
    # Only incidents of at least this severity.
    min_severity: Severity | None = None
    # Only in these hours.
    hours: WeeklyHours | None = None
    # Repeated with its delay until somebody acknowledges; the last step only.
    until_acknowledged: bool = False

    def applies(self, severity: Severity, at: datetime) -> bool:
        """Return whether the step's conditions hold."""
        is_severe = self.min_severity is None or severity >= self.min_severity
        return is_severe and (self.hours is None or self.hours.covers(at))


@dataclass(frozen=True, slots=True, kw_only=True)
class StepPlace:
    """Which step of a policy, and in which round of its steps; both counted from 0."""

    step: int = 0
    round: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class EscalationPolicy:
    """Steps in their order."""

    name: str
    steps: tuple[EscalationStep, ...]
    description: str = ""
    # How often all steps are run again.
    repeat_count: int = 0
    # How long after the last step the first one begins again; its own delay follows.
    repeat_delay: timedelta = timedelta(minutes=5)
    # Notified when nobody is on call at a step.
    fallback_receivers: tuple[str, ...] = ()

    def next_step(self, place: StepPlace | None) -> tuple[StepPlace, timedelta] | None:
        """Return the step after this one, and how long after it begins; the first one after None.

        None when the policy has come to its end, or has become shorter than this place.
        """
        if place is None:
            return StepPlace(), self.steps[0].delay
        if place.step >= len(self.steps):
            return None
        step = self.steps[place.step]
        if step.until_acknowledged:
            return StepPlace(step=place.step, round=place.round + 1), step.delay
        if place.step + 1 < len(self.steps):
            return StepPlace(step=place.step + 1, round=place.round), self.steps[place.step + 1].delay
        if place.round < self.repeat_count:
            return StepPlace(round=place.round + 1), self.repeat_delay + self.steps[0].delay
        return None

    def is_recorded(self, place: StepPlace) -> bool:
        """Return whether the history says that a step begins.

        Of one that is repeated without end it says so ever less often: the first times, then each time that the number
        of repeats has doubled. The alert's history has every delivery.
        """
        if place.step >= len(self.steps) or not self.steps[place.step].until_acknowledged:
            return True
        return place.round < _RECORDED_REPEATS or place.round.bit_count() == 1


@dataclass(frozen=True, slots=True, kw_only=True)
class StepTargets:
    """Whom a step notifies, and why, in words."""

    outcome: StepOutcome
    receivers: tuple[str, ...] = ()
    # Each person's receivers in the order of preference.
    people: Mapping[str, tuple[str, ...]]
    reason: str
