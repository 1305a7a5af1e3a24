"""Who is on call: people, schedules of rotations in layers, overrides, and the directory of all of them.

A schedule is read as PagerDuty's: of its layers the last one that has somebody decides, and an override beats all of
them; of two overrides at the same time the one that was added later. A layer's people take turns of one length, and the
first turn begins at its start. All times are on the wall clock of the schedule's zone (`weekly_hours` says what that
is), so a handoff at 09:00 is one at 09:00 in summer and in winter. Inside a layer's hours exactly one of its people is
on call at each moment, and nobody outside.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

from services.domain.severity import Severity
from services.manager.core.escalation_policy import EscalationPolicy, EscalationStep, StepOutcome, StepTargets
from services.manager.core.weekly_hours import HoursSpan, WeeklyHours, first_moment, wall_time

# More than a clock ever jumps.
_SLACK = timedelta(days=1)
OVERRIDE = "override"


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """Somebody who can be on call."""

    name: str
    # In the order of preference.
    receivers: tuple[str, ...]
    display_name: str = ""
    zone: ZoneInfo = field(default_factory=lambda: ZoneInfo("UTC"))


@dataclass(frozen=True, slots=True, kw_only=True)
class OnCallTurn:
    """A part of a layer: one person from one moment to another, in one turn of the rotation."""

    start: datetime
    end: datetime
    person: str
    # Counted from 0 for the layer's first turn.
    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleLayer:
    """People who take turns. Times are on the wall clock of the schedule's zone."""

    name: str
    # In the order of their turns.
    people: tuple[str, ...]
    # When the first one's turn begins.
    start: datetime
    # How long a turn is, in whole hours: a day, a week or what people want.
    turn: timedelta
    # When the layer ends; None: never.
    end: datetime | None = None
    # On call in these hours only; none: always.
    hours: tuple[HoursSpan, ...] = ()

    def person_at(self, at: datetime, zone: ZoneInfo) -> str | None:
        """Return who is on call by this layer, if anybody."""
        return self.people[self._number_at(at, zone) % len(self.people)] if self._is_active(at, zone) else None

    def turns(self, first: datetime, last: datetime, zone: ZoneInfo) -> list[OnCallTurn]:
        """Return all parts between two moments, which cut them off, in their order."""
        low = max(first, first_moment(self.start, zone))
        high = last if self.end is None else min(last, first_moment(self.end, zone))
        if low >= high:
            return []
        covered = WeeklyHours(spans=self.hours, zone=zone).intervals(low, high) if self.hours else [(low, high)]
        number = self._number_at(low, zone)
        handoff = self._handoff(number + 1, zone)
        turns: list[OnCallTurn] = []
        for start, end in covered:
            begin = start
            while begin < end:
                # A turn that the clock jumps over is empty.
                while handoff <= begin:
                    number += 1
                    handoff = self._handoff(number + 1, zone)
                person = self.people[number % len(self.people)]
                turns.append(OnCallTurn(start=begin, end=min(end, handoff), person=person, number=number))
                begin = turns[-1].end
        return turns

    def _is_active(self, at: datetime, zone: ZoneInfo) -> bool:
        if at < first_moment(self.start, zone) or (self.end is not None and at >= first_moment(self.end, zone)):
            return False
        return not self.hours or WeeklyHours(spans=self.hours, zone=zone).covers(at)

    def _number_at(self, at: datetime, zone: ZoneInfo) -> int:
        """Return the number of the turn that has begun last."""
        number = (wall_time(at, zone) - self.start) // self.turn
        # A clock that went back shows times of a turn that is over.
        while self._handoff(number + 1, zone) <= at:
            number += 1
        return number

    def _handoff(self, number: int, zone: ZoneInfo) -> datetime:
        return first_moment(self.start + number * self.turn, zone)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleOverride:
    """A person who is on call in place of everybody else for a time."""

    id: str
    schedule: str
    person: str
    start_time: datetime
    end_time: datetime
    create_time: datetime
    actor: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class OnCallShift:
    """A person on call without a break, by one turn of a layer or by one override."""

    start: datetime
    end: datetime
    person: str
    # The layer's name, or "override".
    source: str


# Who decides, and its parts: a layer with its turns, or an override.
_Part = tuple[OnCallShift, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """Who is on call when."""

    name: str
    zone: ZoneInfo
    # Later ones beat earlier ones.
    layers: tuple[ScheduleLayer, ...]
    description: str = ""
    # In the order in which they were added; later ones beat earlier ones.
    overrides: tuple[ScheduleOverride, ...] = ()

    def on_call(self, at: datetime) -> tuple[str, ...]:
        """Return who is on call: one person, or none."""
        for override in reversed(self.overrides):
            if override.start_time <= at < override.end_time:
                return (override.person,)
        for layer in reversed(self.layers):
            if (person := layer.person_at(at, self.zone)) is not None:
                return (person,)
        return ()

    def shifts(self, first: datetime, last: datetime) -> list[OnCallShift]:
        """Return the shifts of which a part is between two moments, whole, in their order."""
        overrides = [each for each in self.overrides if each.start_time < last and each.end_time > first]
        lengths = (*(layer.turn for layer in self.layers), *(each.end_time - each.start_time for each in overrides))
        margin = max(lengths, default=_SLACK) + _SLACK
        low, high = first - margin, last + margin
        sources = [_layer_parts(layer, low, high, self.zone) for layer in self.layers]
        sources += [_override_parts(each) for each in self.overrides if each.start_time < high and each.end_time > low]
        return [each for each in _overlay(sources) if each.start < last and each.end > first]


def _layer_parts(layer: ScheduleLayer, first: datetime, last: datetime, zone: ZoneInfo) -> list[_Part]:
    return [
        (OnCallShift(start=turn.start, end=turn.end, person=turn.person, source=layer.name), turn.number)
        for turn in layer.turns(first, last, zone)
    ]


def _override_parts(override: ScheduleOverride) -> list[_Part]:
    shift = OnCallShift(start=override.start_time, end=override.end_time, person=override.person, source=OVERRIDE)
    return [(shift, 0)]


def _overlay(sources: Sequence[Sequence[_Part]]) -> list[OnCallShift]:
    """Return the shifts that remain of several sources, of which later ones beat earlier ones."""
    borders = sorted({time for parts in sources for shift, _ in parts for time in (shift.start, shift.end)})
    places = [0] * len(sources)
    shown: list[OnCallShift] = []
    last_part: tuple[int, int] | None = None
    for start, end in pairwise(borders):
        part = _part_at(sources, places, start)
        if part is None:
            last_part = None
            continue
        index, (shift, number) = part
        begin = shown.pop().start if last_part == (index, number) and shown[-1].end == start else start
        last_part = index, number
        shown.append(OnCallShift(start=begin, end=end, person=shift.person, source=shift.source))
    return shown


def _part_at(sources: Sequence[Sequence[_Part]], places: list[int], at: datetime) -> tuple[int, _Part] | None:
    """Return the part that decides at a moment, and its source; `places` move on to the parts that are not over."""
    for index in reversed(range(len(sources))):
        parts = sources[index]
        while places[index] < len(parts) and parts[places[index]][0].end <= at:
            places[index] += 1
        if places[index] < len(parts) and parts[places[index]][0].start <= at:
            return index, parts[places[index]]
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class OnCallDirectory:
    """All people, schedules and policies by their names, at one revision."""

    people: Mapping[str, Person] = field(default_factory=dict)
    schedules: Mapping[str, Schedule] = field(default_factory=dict)
    policies: Mapping[str, EscalationPolicy] = field(default_factory=dict)
    revision: int = 0
    # Of the receivers that one person has and no other, where this is not UTC.
    receiver_zones: Mapping[str, str] = field(init=False)

    def __post_init__(self) -> None:
        counts = Counter(name for person in self.people.values() for name in set(person.receivers))
        zones = {
            name: person.zone.key
            for person in self.people.values()
            for name in person.receivers
            if counts[name] == 1 and person.zone.key != "UTC"
        }
        object.__setattr__(self, "receiver_zones", zones)

    def on_call(self, schedule: str, at: datetime) -> tuple[str, ...]:
        """Return who is on call in a schedule; nobody in one that does not exist."""
        found = self.schedules.get(schedule)
        return () if found is None else found.on_call(at)

    def step_targets(self, policy: EscalationPolicy, number: int, *, severity: Severity, at: datetime) -> StepTargets:
        """Return whom the step with this number, counted from 0, notifies of an incident of this severity."""
        step = policy.steps[number]
        reason = f"step {number + 1} of policy {policy.name}"
        if not step.applies(severity, at):
            return StepTargets(outcome=StepOutcome.SKIPPED, people={}, reason=f"{reason}: its conditions do not hold")
        names = dict.fromkeys((*step.people, *self._on_call_people(step.schedules, at)))
        people = {name: self.people[name].receivers for name in names if name in self.people}
        if people or not (step.schedules or step.people):
            return StepTargets(outcome=StepOutcome.NOTIFIES, receivers=step.receivers, people=people, reason=reason)
        receivers = tuple(dict.fromkeys((*step.receivers, *policy.fallback_receivers)))
        reason = f"{reason}: {_why_nobody(step)}"
        return StepTargets(outcome=StepOutcome.FALLBACK, receivers=receivers, people={}, reason=reason)

    def _on_call_people(self, schedules: Iterable[str], at: datetime) -> Iterator[str]:
        return (name for schedule in schedules for name in self.on_call(schedule, at))


def _why_nobody(step: EscalationStep) -> str:
    match step.schedules:
        case ():
            return "its people are unknown"
        case (schedule,):
            return f"nobody is on call in schedule {schedule}"
        case _:
            return f"nobody is on call in any of the schedules {', '.join(step.schedules)}"
