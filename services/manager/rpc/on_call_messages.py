"""Read people, schedules and policies from requests, with all that cannot be read, and write them as messages."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, time, timedelta
from zoneinfo import ZoneInfo

from google.protobuf.duration_pb2 import Duration

from services.chassis.failures import Violation
from services.contract.timestamps import duration_of, timedelta_of, timestamp_of
from services.domain.found_values import shortened
from services.domain.severity import Severity
from services.domain.time_zones import time_zone
from services.manager.core.escalation_policy import EscalationPolicy, EscalationStep
from services.manager.core.on_call import OVERRIDE, OnCallShift, Person, Schedule, ScheduleLayer, ScheduleOverride
from services.manager.core.on_call_checks import resource_problems
from services.manager.core.on_call_records import OnCallRecord, OnCallResource
from services.manager.core.weekly_hours import HoursSpan, WeeklyHours
from services.manager.rpc.requests import unknown_choice
from tocsin.oncall.v1 import escalation_policy_pb2 as policy_pb
from tocsin.oncall.v1 import schedule_pb2 as pb
from tocsin.rules.v1.alert_rule_pb2 import AlertRule

# In place of what cannot be read, which is refused.
_UNREAD_ZONE = ZoneInfo("UTC")
_UNREAD_TIME = datetime(2026, 1, 1)  # noqa: DTZ001  (on the wall clock)
_TIME_OF_DAY = re.compile(r"([01]\d|2[0-3]):[0-5]\d", re.ASCII)
_MIDNIGHT = "24:00"
_DAY, _WEEK = timedelta(days=1), timedelta(weeks=1)
_ROTATIONS = {pb.ScheduleLayer.DAILY: _DAY, pb.ScheduleLayer.WEEKLY: _WEEK}
# Monday is the first one.
_WEEKDAYS = pb.WeeklyHours.Weekday.values()[1:]

ResourceMessage = pb.Person | pb.Schedule | policy_pb.EscalationPolicy


@dataclass(slots=True)
class _Place:
    """Where in a request something is read, and what was found wrong so far."""

    path: str = ""
    found: list[Violation] = field(default_factory=list)

    def refuse(self, name: str, description: str) -> None:
        self.found.append(Violation(f"{self.path}{name}", description))

    def refuse_choice(self, name: str, value: int, choices: Iterable[str]) -> None:
        self.found.append(unknown_choice(f"{self.path}{name}", value, choices))

    def inside(self, name: str, index: int) -> "_Place":
        return _Place(f"{self.path}{name}[{index}].", self.found)


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenResource:
    """A resource of a request, its place there, and all that is not allowed in it."""

    # Such as "people[0]."; empty where it is the body.
    path: str
    value: OnCallResource
    etag: str
    violations: Sequence[Violation]


def read_resource(message: ResourceMessage, path: str) -> GivenResource:
    """Return what a message says, and everything that is wrong with it."""
    place = _Place(path)
    value = _value_of(message, place)
    unread = {violation.field for violation in place.found}
    more = [Violation(f"{path}{name}", why) for name, why in resource_problems(value)]
    violations = [*place.found, *(each for each in more if each.field not in unread)]
    return GivenResource(path=path, value=value, etag=message.etag, violations=violations)


def resource_message(record: OnCallRecord) -> ResourceMessage:
    """Return a stored resource as clients see it."""
    message: ResourceMessage
    match record.value:
        case Person():
            message = person_message(record.value)
        case Schedule():
            message = _schedule_message(record.value)
        case EscalationPolicy():
            message = _policy_message(record.value)
    message.etag = record.etag
    message.create_time.CopyFrom(timestamp_of(record.create_time))
    message.update_time.CopyFrom(timestamp_of(record.update_time))
    return message


def person_message(person: Person) -> pb.Person:
    """Return a person without what only its record has."""
    return pb.Person(
        name=person.name, display_name=person.display_name, receivers=person.receivers, time_zone=person.zone.key
    )


def override_message(override: ScheduleOverride) -> pb.ScheduleOverride:
    """Return an override as clients see it."""
    return pb.ScheduleOverride(
        id=override.id,
        schedule=override.schedule,
        person=override.person,
        start_time=timestamp_of(override.start_time),
        end_time=timestamp_of(override.end_time),
        actor=override.actor,
        create_time=timestamp_of(override.create_time),
    )


def shift_message(schedule: str, shift: OnCallShift) -> pb.OnCallShift:
    """Return a shift as clients see it."""
    is_override = shift.source == OVERRIDE
    return pb.OnCallShift(
        schedule=schedule,
        person=shift.person,
        start_time=timestamp_of(shift.start),
        end_time=timestamp_of(shift.end),
        layer="" if is_override else shift.source,
        is_override=is_override,
    )


def _value_of(message: ResourceMessage, place: _Place) -> OnCallResource:
    if isinstance(message, pb.Person):
        zone = _read_zone(message.time_zone or _UNREAD_ZONE.key, place)
        receivers = tuple(message.receivers)
        return Person(name=message.name, display_name=message.display_name, receivers=receivers, zone=zone)
    if isinstance(message, pb.Schedule):
        return Schedule(
            name=message.name,
            description=message.description,
            zone=_read_zone(message.time_zone, place),
            layers=tuple(_read_layer(layer, place.inside("layers", n)) for n, layer in enumerate(message.layers)),
        )
    delay = message.repeat_delay
    return EscalationPolicy(
        name=message.name,
        description=message.description,
        steps=tuple(_read_step(step, place.inside("steps", n)) for n, step in enumerate(message.steps)),
        repeat_count=message.repeat_count,
        repeat_delay=_read_duration(delay, "repeatDelay", place)
        if message.HasField("repeat_delay")
        else timedelta(minutes=5),
        fallback_receivers=tuple(message.fallback_receivers),
    )


def _read_layer(message: pb.ScheduleLayer, place: _Place) -> ScheduleLayer:
    return ScheduleLayer(
        name=message.name,
        people=tuple(message.people),
        start=_read_wall_time(message.start_time, "startTime", place),
        turn=_read_turn(message, place),
        end=_read_wall_time(message.end_time, "endTime", place) if message.end_time else None,
        hours=_read_hours(message.hours, place),
    )


def _read_turn(message: pb.ScheduleLayer, place: _Place) -> timedelta:
    if message.rotation == pb.ScheduleLayer.CUSTOM:
        if not message.HasField("turn_length"):
            place.refuse("turnLength", "is required for a CUSTOM rotation")
            return _DAY
        return _read_duration(message.turn_length, "turnLength", place)
    if message.rotation not in _ROTATIONS:
        place.refuse_choice("rotation", message.rotation, pb.ScheduleLayer.Rotation.keys()[1:])
    elif message.HasField("turn_length"):
        place.refuse("turnLength", "goes with a CUSTOM rotation only")
    return _ROTATIONS.get(message.rotation, _DAY)


def _read_step(message: policy_pb.EscalationStep, place: _Place) -> EscalationStep:
    spans = _read_hours(message.hours, place)
    zone = _read_zone(message.time_zone or _UNREAD_ZONE.key, place)
    if message.time_zone and not spans:
        place.refuse("timeZone", "goes with hours only")
    severity = message.min_severity
    if severity and severity not in set(map(int, Severity)):
        place.refuse_choice("minSeverity", severity, AlertRule.Severity.keys()[1:])
        severity = AlertRule.SEVERITY_UNSPECIFIED
    return EscalationStep(
        delay=_read_duration(message.delay, "delay", place),
        receivers=tuple(message.receivers),
        schedules=tuple(message.schedules),
        people=tuple(message.people),
        min_severity=Severity(severity) if severity else None,
        hours=WeeklyHours(spans=spans, zone=zone) if spans else None,
        until_acknowledged=message.until_acknowledged,
    )


def _read_hours(messages: Iterable[pb.WeeklyHours], place: _Place) -> tuple[HoursSpan, ...]:
    return tuple(_read_span(message, place.inside("hours", n)) for n, message in enumerate(messages))


def _read_span(message: pb.WeeklyHours, place: _Place) -> HoursSpan:
    for n, weekday in enumerate(message.weekdays):
        if weekday not in _WEEKDAYS:
            place.refuse_choice(f"weekdays[{n}]", weekday, pb.WeeklyHours.Weekday.keys()[1:])
    for name, text, may_be in (("start", message.start, ""), ("end", message.end, _MIDNIGHT)):
        if not _TIME_OF_DAY.fullmatch(text) and text != may_be:
            place.refuse(name, f'found "{shortened(text)}", expected a time of the day such as 09:00')
    weekdays = tuple(sorted({weekday - 1 for weekday in message.weekdays}))
    return HoursSpan(start=_time_of(message.start), end=_time_of(message.end), weekdays=weekdays)


def _time_of(text: str) -> time:
    return time.fromisoformat(text) if _TIME_OF_DAY.fullmatch(text) else time()


def _read_wall_time(text: str, name: str, place: _Place) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is not None or moment.microsecond:
        found = f'found "{shortened(text)}", expected a time on the wall clock such as 2026-11-30T09:00:00'
        place.refuse(name, found)
        return _UNREAD_TIME
    return moment


def _read_zone(name: str, place: _Place) -> ZoneInfo:
    zone = time_zone(name)
    if zone is None:
        place.refuse("timeZone", f'found "{shortened(name)}", expected a zone such as Europe/Berlin')
    return zone or _UNREAD_ZONE


def _read_duration(duration: Duration, name: str, place: _Place) -> timedelta:
    try:
        return timedelta_of(duration)
    except ValueError as error:
        place.refuse(name, str(error))
        return timedelta(hours=1)


def _schedule_message(schedule: Schedule) -> pb.Schedule:
    return pb.Schedule(
        name=schedule.name,
        description=schedule.description,
        time_zone=schedule.zone.key,
        layers=map(_layer_message, schedule.layers),
    )


def _layer_message(layer: ScheduleLayer) -> pb.ScheduleLayer:
    rotations = {turn: rotation for rotation, turn in _ROTATIONS.items()}
    rotation = rotations.get(layer.turn, pb.ScheduleLayer.CUSTOM)
    return pb.ScheduleLayer(
        name=layer.name,
        people=layer.people,
        rotation=rotation,
        turn_length=duration_of(layer.turn) if rotation == pb.ScheduleLayer.CUSTOM else None,
        start_time=layer.start.isoformat(),
        end_time=layer.end.isoformat() if layer.end else "",
        hours=map(_span_message, layer.hours),
    )


def _policy_message(policy: EscalationPolicy) -> policy_pb.EscalationPolicy:
    return policy_pb.EscalationPolicy(
        name=policy.name,
        description=policy.description,
        steps=map(_step_message, policy.steps),
        repeat_count=policy.repeat_count,
        repeat_delay=duration_of(policy.repeat_delay),
        fallback_receivers=policy.fallback_receivers,
    )


def _step_message(step: EscalationStep) -> policy_pb.EscalationStep:
    return policy_pb.EscalationStep(
        delay=duration_of(step.delay),
        receivers=step.receivers,
        schedules=step.schedules,
        people=step.people,
        min_severity=AlertRule.Severity.Value(step.min_severity.name)
        if step.min_severity
        else AlertRule.SEVERITY_UNSPECIFIED,
        hours=map(_span_message, step.hours.spans) if step.hours else (),
        time_zone=step.hours.zone.key if step.hours else "",
        until_acknowledged=step.until_acknowledged,
    )


def _span_message(span: HoursSpan) -> pb.WeeklyHours:
    return pb.WeeklyHours(
        weekdays=[_WEEKDAYS[day] for day in span.weekdays],
        start=f"{span.start:%H:%M}",
        end=_MIDNIGHT if span.end == time() else f"{span.end:%H:%M}",
    )
