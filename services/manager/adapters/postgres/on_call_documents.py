"""People, schedules and policies as JSON documents: durations in seconds, times as ISO 8601 has them."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from datetime import datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from services.domain.severity import Severity
from services.manager.core.escalation_policy import EscalationPolicy, EscalationStep
from services.manager.core.on_call import Person, Schedule, ScheduleLayer
from services.manager.core.on_call_records import OnCallKind, OnCallResource
from services.manager.core.weekly_hours import HoursSpan, WeeklyHours


def document_of(value: OnCallResource) -> str:
    """Return the document of a resource; the overrides of a schedule have rows of their own."""
    fields = asdict(value)
    fields.pop("overrides", None)
    return json.dumps(fields, default=_plain)


def stored_resource_of(kind: OnCallKind, document: str) -> OnCallResource:
    """Return the resource of a document."""
    stored = json.loads(document)
    match kind:
        case OnCallKind.PERSON:
            return Person(
                name=stored["name"],
                display_name=stored["display_name"],
                receivers=tuple(stored["receivers"]),
                zone=ZoneInfo(stored["zone"]),
            )
        case OnCallKind.SCHEDULE:
            return Schedule(
                name=stored["name"],
                description=stored["description"],
                zone=ZoneInfo(stored["zone"]),
                layers=tuple(map(_layer_of, stored["layers"])),
            )
        case OnCallKind.POLICY:
            return EscalationPolicy(
                name=stored["name"],
                description=stored["description"],
                steps=tuple(map(_step_of, stored["steps"])),
                repeat_count=stored["repeat_count"],
                repeat_delay=timedelta(seconds=stored["repeat_delay"]),
                fallback_receivers=tuple(stored["fallback_receivers"]),
            )


def _layer_of(stored: Mapping[str, Any]) -> ScheduleLayer:
    return ScheduleLayer(
        name=stored["name"],
        people=tuple(stored["people"]),
        start=datetime.fromisoformat(stored["start"]),
        turn=timedelta(seconds=stored["turn"]),
        end=datetime.fromisoformat(stored["end"]) if stored["end"] else None,
        hours=_spans_of(stored["hours"]),
    )


def _step_of(stored: Mapping[str, Any]) -> EscalationStep:
    hours, severity = stored["hours"], stored["min_severity"]
    return EscalationStep(
        delay=timedelta(seconds=stored["delay"]),
        receivers=tuple(stored["receivers"]),
        schedules=tuple(stored["schedules"]),
        people=tuple(stored["people"]),
        min_severity=None if severity is None else Severity(severity),
        hours=WeeklyHours(spans=_spans_of(hours["spans"]), zone=ZoneInfo(hours["zone"])) if hours else None,
        until_acknowledged=stored["until_acknowledged"],
    )


def _spans_of(stored: Iterable[Mapping[str, Any]]) -> tuple[HoursSpan, ...]:
    return tuple(
        HoursSpan(
            start=time.fromisoformat(each["start"]),
            end=time.fromisoformat(each["end"]),
            weekdays=tuple(each["weekdays"]),
        )
        for each in stored
    )


def _plain(value: object) -> object:
    match value:
        case timedelta():
            return value.total_seconds()
        case datetime() | time():
            return value.isoformat()
        case ZoneInfo():
            return value.key
        case _:
            raise TypeError(f"{type(value).__name__} has no form in a document")
