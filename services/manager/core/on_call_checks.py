"""What is not allowed in people, schedules, policies and overrides, and what is odd; fields are named as in JSON."""

import re
from collections import Counter
from collections.abc import Container, Iterator, Sequence
from datetime import datetime, timedelta

from services.domain.found_values import shortened
from services.manager.core.catalog import length_problems
from services.manager.core.escalation_policy import EscalationPolicy, EscalationStep
from services.manager.core.on_call import OVERRIDE, Person, Schedule, ScheduleLayer, ScheduleOverride
from services.manager.core.on_call_records import OnCallResource
from services.manager.core.silence import early_end, late_end
from services.manager.core.weekly_hours import HoursSpan

MAX_TURN = timedelta(weeks=13)
MAX_OVERRIDE = timedelta(weeks=13)
MAX_DELAY = timedelta(days=7)
_HOUR = timedelta(hours=1)
_MINUTE = timedelta(minutes=1)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}", re.ASCII)
_MAX_DISPLAY_NAME = 128
_MAX_DESCRIPTION = 4096
_MAX_RECEIVER = 128
_MAX_PERSON_RECEIVERS = 10
_MAX_LAYERS = 10
_MAX_PEOPLE = 50
_MAX_HOURS = 20
_MAX_STEPS = 20
_MAX_TARGETS = 20
_MAX_FALLBACKS = 10
_MAX_REPEATS = 20
_YEARS = range(2000, 2201)

Problem = tuple[str, str]


def resource_problems(value: OnCallResource) -> list[Problem]:
    """Return everything that is not allowed in a resource by itself."""
    match value:
        case Person():
            return list(_person_problems(value))
        case Schedule():
            return list(_schedule_problems(value))
        case _:
            return list(_policy_problems(value))


def reference_problems(value: OnCallResource, people: Container[str], schedules: Container[str]) -> list[Problem]:
    """Return the people and schedules that a resource names and that do not exist."""
    match value:
        case Person():
            return []
        case Schedule():
            return [
                problem
                for n, layer in enumerate(value.layers)
                for problem in _unknown(f"layers[{n}].people", layer.people, people, "person")
            ]
        case _:
            return [
                problem
                for n, step in enumerate(value.steps)
                for problem in (
                    *_unknown(f"steps[{n}].schedules", step.schedules, schedules, "schedule"),
                    *_unknown(f"steps[{n}].people", step.people, people, "person"),
                )
            ]


def override_problems(override: ScheduleOverride, *, now: datetime) -> list[Problem]:
    """Return what is not allowed in a new override."""
    if override.end_time <= max(now, override.start_time):
        return [("endTime", early_end(override.end_time, override.start_time, now))]
    if override.end_time - override.start_time > MAX_OVERRIDE:
        return [("endTime", late_end(override.end_time, override.start_time, MAX_OVERRIDE))]
    return []


def resource_warnings(value: OnCallResource, receivers: Container[str] | None) -> list[Problem]:
    """Return what is allowed in a resource and may not be meant; None: nobody knows which receivers there are."""
    unknown = [] if receivers is None else _unknown_receivers(value, receivers)
    return [*_fallback_warnings(value), *unknown]


def names_receivers(value: OnCallResource) -> bool:
    """Return whether a resource names a receiver."""
    return any(names for _, names in _receivers_of(value))


def _unknown_receivers(value: OnCallResource, receivers: Container[str]) -> Iterator[Problem]:
    for field, names in _receivers_of(value):
        for n, name in enumerate(names):
            if name not in receivers:
                yield f"{field}[{n}]", f'the notifier has no receiver or channel "{shortened(name)}"'


def _receivers_of(value: OnCallResource) -> Iterator[tuple[str, Sequence[str]]]:
    """Yield the fields that name receivers, with the names."""
    match value:
        case Person():
            yield "receivers", value.receivers
        case EscalationPolicy():
            yield from ((f"steps[{n}].receivers", step.receivers) for n, step in enumerate(value.steps))
            yield "fallbackReceivers", value.fallback_receivers
        case _:
            pass


def _fallback_warnings(value: OnCallResource) -> list[Problem]:
    if not isinstance(value, EscalationPolicy) or value.fallback_receivers:
        return []
    if any(step.schedules for step in value.steps):
        return [("fallbackReceivers", "is empty: when nobody is on call at a step, nobody is notified")]
    return []


def _person_problems(person: Person) -> Iterator[Problem]:
    yield from _name_problems("name", person.name)
    yield from length_problems("displayName", person.display_name, _MAX_DISPLAY_NAME)
    if not person.display_name.isprintable():
        yield "displayName", "must not contain control characters"
    if not person.receivers:
        yield "receivers", "is required: what reaches the person"
    yield from _receiver_problems("receivers", person.receivers, _MAX_PERSON_RECEIVERS)


def _schedule_problems(schedule: Schedule) -> Iterator[Problem]:
    yield from _name_problems("name", schedule.name)
    yield from _description_problems(schedule.description)
    yield from _count_problems("layers", schedule.layers, _MAX_LAYERS, is_required=True)
    counts = Counter(layer.name for layer in schedule.layers)
    for n, layer in enumerate(schedule.layers):
        if counts[layer.name] > 1:
            yield f"layers[{n}].name", f'"{shortened(layer.name)}" is the name of several layers'
        for field, description in _layer_problems(layer):
            yield f"layers[{n}].{field}", description


def _layer_problems(layer: ScheduleLayer) -> Iterator[Problem]:
    yield from _name_problems("name", layer.name)
    if layer.name == OVERRIDE:
        yield "name", f'"{OVERRIDE}" stands for overrides'
    yield from _count_problems("people", layer.people, _MAX_PEOPLE, is_required=True)
    if not _HOUR <= layer.turn <= MAX_TURN or layer.turn % _HOUR:
        yield (
            "turnLength",
            f"is {layer.turn.total_seconds():.15g}s, must be whole hours up to {MAX_TURN.days // 7} weeks",
        )
    for field, moment in (("startTime", layer.start), ("endTime", layer.end)):
        if moment is not None and moment.year not in _YEARS:
            yield field, f"is {moment.isoformat()}, expected a time in the years {_YEARS[0]} to {_YEARS[-1]}"
    if layer.end is not None and layer.end <= layer.start:
        yield "endTime", f"is {layer.end.isoformat()}, expected a time after the start, {layer.start.isoformat()}"
    yield from _hours_problems(layer.hours)


def _policy_problems(policy: EscalationPolicy) -> Iterator[Problem]:
    yield from _name_problems("name", policy.name)
    yield from _description_problems(policy.description)
    yield from _count_problems("steps", policy.steps, _MAX_STEPS, is_required=True)
    if not 0 <= policy.repeat_count <= _MAX_REPEATS:
        yield "repeatCount", f"is {policy.repeat_count}, must be 0 to {_MAX_REPEATS}"
    if not _MINUTE <= policy.repeat_delay <= MAX_DELAY:
        yield "repeatDelay", f"must be 1 minute to {MAX_DELAY.days} days"
    yield from _receiver_problems("fallbackReceivers", policy.fallback_receivers, _MAX_FALLBACKS)
    for n, step in enumerate(policy.steps):
        for field, description in _step_problems(step, policy, is_last=n == len(policy.steps) - 1):
            yield f"steps[{n}].{field}", description


def _step_problems(step: EscalationStep, policy: EscalationPolicy, *, is_last: bool) -> Iterator[Problem]:
    if not (step.receivers or step.schedules or step.people):
        yield "receivers", "is required, or schedules, or people"
    if not timedelta() <= step.delay <= MAX_DELAY:
        yield "delay", f"must be 0 to {MAX_DELAY.days} days"
    yield from _receiver_problems("receivers", step.receivers, _MAX_TARGETS)
    yield from _count_problems("schedules", step.schedules, _MAX_TARGETS)
    yield from _count_problems("people", step.people, _MAX_TARGETS)
    if step.hours is not None:
        yield from _hours_problems(step.hours.spans)
    if not step.until_acknowledged:
        return
    if not is_last:
        yield "untilAcknowledged", "is allowed for the last step only"
    if step.delay < _MINUTE:
        yield "delay", f"is {step.delay.total_seconds():.15g}s, must be at least 60s when the step is repeated"
    if policy.repeat_count:
        yield "untilAcknowledged", "does not go with repeatCount: the step is repeated without end"


def _hours_problems(hours: Sequence[HoursSpan]) -> Iterator[Problem]:
    yield from _count_problems("hours", hours, _MAX_HOURS)


def _description_problems(text: str) -> Iterator[Problem]:
    yield from length_problems("description", text, _MAX_DESCRIPTION)
    if "\0" in text:
        yield "description", "must not contain the character NUL"


def _name_problems(field: str, name: str) -> Iterator[Problem]:
    if not name:
        yield field, "is required"
    elif not _NAME.fullmatch(name):
        found = f'found "{shortened(name)}"'
        yield field, f'{found}, expected 1 to 64 letters of ASCII, digits, and ".", "_", "@", "-" after the first one'


def _receiver_problems(field: str, receivers: Sequence[str], limit: int) -> Iterator[Problem]:
    yield from _count_problems(field, receivers, limit)
    for n, receiver in enumerate(receivers):
        if not 1 <= len(receiver) <= _MAX_RECEIVER or not receiver.isprintable():
            yield f"{field}[{n}]", f"must have 1 to {_MAX_RECEIVER} characters, none of them a control character"


def _count_problems(
    field: str, values: Sequence[object], limit: int, *, is_required: bool = False
) -> Iterator[Problem]:
    if is_required and not values:
        yield field, "is required"
    if len(values) > limit:
        yield field, f"has {len(values)} entries, at most {limit} are allowed"


def _unknown(field: str, names: Sequence[str], known: Container[str], noun: str) -> Iterator[Problem]:
    for n, name in enumerate(names):
        if name not in known:
            yield f"{field}[{n}]", f'there is no {noun} "{shortened(name)}"'
