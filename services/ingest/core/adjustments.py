"""What becomes of values of optional fields that do not fit: they are adjusted, and never refuse an event.

A value is padded, converted or cut where that keeps its meaning; else it is kept, as a string, among the attributes.
Each adjustment is counted, by field and action, so that a sender learns of it from the response and an operator from a
metric.
"""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import Enum

from services.domain.event_fields import (
    MAX_ATTRIBUTE_KEY,
    MAX_ATTRIBUTE_VALUE,
    MAX_HOST,
    MAX_RECORD_ID,
    MAX_STATUS,
    MIN_STATUS,
    TRACE_ID_DIGITS,
    normalized_trace_id,
)
from services.ingest.core.field_checks import EventField

# The key of an attribute that came without one.
_EMPTY_KEY = "_"
_MAX_INDEXES = 10


class AdjustmentAction(Enum):
    """What was done with a value; the member is its name in the proto."""

    PADDED = "padded"
    CONVERTED = "converted"
    CUT = "cut"
    KEPT_AS_ATTRIBUTE = "kept as attribute"
    LEFT_OUT = "left out"


@dataclass(frozen=True, slots=True)
class Adjustment:
    """One kind of adjustment."""

    field: EventField
    action: AdjustmentAction


@dataclass(frozen=True, slots=True, kw_only=True)
class OptionalFields:
    """The fields of one event that never refuse it; None or empty: not sent."""

    record_id: str
    status_code: int | None
    response_time: float | None
    host: str
    trace_id: str
    attributes: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class AdjustmentCount:
    """How many events of a request had one kind of adjustment, and the first of them."""

    events: int
    indexes: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AdjustmentSummary:
    """What was adjusted in a request."""

    event_count: int
    counts: Mapping[Adjustment, AdjustmentCount]


def adjust(event: OptionalFields, max_attributes: int) -> tuple[OptionalFields, frozenset[Adjustment]]:
    """Adjust the values that do not fit; one that fits stays as it is."""
    trace_id, trace_action = _trace_id(event.trace_id)
    unfit = _unfit_numbers(event)
    if trace_action is AdjustmentAction.KEPT_AS_ATTRIBUTE:
        unfit[EventField.TRACE_ID] = event.trace_id
    kept = {field.name.lower(): text for field, text in unfit.items()}
    attributes, attribute_actions = _attributes(kept, event.attributes, max_attributes)
    made = {Adjustment(field, AdjustmentAction.KEPT_AS_ATTRIBUTE) for field in unfit}
    made |= {Adjustment(EventField.ATTRIBUTES, action) for action in attribute_actions}
    if trace_action is not None:
        made.add(Adjustment(EventField.TRACE_ID, trace_action))
    if len(event.record_id) > MAX_RECORD_ID:
        made.add(Adjustment(EventField.RECORD_ID, AdjustmentAction.CUT))
    if len(event.host) > MAX_HOST:
        made.add(Adjustment(EventField.HOST, AdjustmentAction.CUT))
    adjusted = OptionalFields(
        record_id=event.record_id[:MAX_RECORD_ID],
        status_code=None if EventField.STATUS_CODE in unfit else event.status_code,
        response_time=None if EventField.RESPONSE_TIME in unfit else event.response_time,
        host=event.host[:MAX_HOST],
        trace_id=trace_id,
        attributes=attributes,
    )
    return adjusted, frozenset(made)


def summarize(adjusted: Mapping[int, Collection[Adjustment]]) -> AdjustmentSummary | None:
    """Sum up the adjustments of each event, given by rising index; None when there are none."""
    indexes: dict[Adjustment, list[int]] = {}
    adjusted = {index: made for index, made in adjusted.items() if made}
    for index, made in adjusted.items():
        for adjustment in made:
            indexes.setdefault(adjustment, []).append(index)
    if not indexes:
        return None
    counts = {
        adjustment: AdjustmentCount(events=len(indexes[adjustment]), indexes=tuple(indexes[adjustment][:_MAX_INDEXES]))
        for field in EventField
        for action in AdjustmentAction
        if (adjustment := Adjustment(field, action)) in indexes
    }
    return AdjustmentSummary(event_count=len(adjusted), counts=counts)


def _unfit_numbers(event: OptionalFields) -> dict[EventField, str]:
    """Return the numbers that do not fit, as strings."""
    unfit: dict[EventField, str] = {}
    if event.status_code is not None and not MIN_STATUS <= event.status_code <= MAX_STATUS:
        unfit[EventField.STATUS_CODE] = str(event.status_code)
    time = event.response_time
    if time is not None and not (time >= 0 and math.isfinite(time)):
        unfit[EventField.RESPONSE_TIME] = _format_number(time)
    return unfit


def _trace_id(text: str) -> tuple[str, AdjustmentAction | None]:
    if not text:
        return text, None
    trace_id = normalized_trace_id(text)
    if trace_id is None:
        return "", AdjustmentAction.KEPT_AS_ATTRIBUTE
    if len(text.replace("-", "")) < TRACE_ID_DIGITS:
        return trace_id, AdjustmentAction.PADDED
    return trace_id, None if trace_id == text else AdjustmentAction.CONVERTED


def _attributes(
    kept: Mapping[str, str], sent: Mapping[str, str], max_attributes: int
) -> tuple[dict[str, str], set[AdjustmentAction]]:
    """Return an event's attributes: first those that were kept from other fields, then those sent, by rising key."""
    attributes: dict[str, str] = {}
    actions: set[AdjustmentAction] = set()
    for key, value in (*kept.items(), *sorted(sent.items())):
        name = key[:MAX_ATTRIBUTE_KEY] or _EMPTY_KEY
        if not key:
            actions.add(AdjustmentAction.CONVERTED)
        if len(key) > MAX_ATTRIBUTE_KEY or len(value) > MAX_ATTRIBUTE_VALUE:
            actions.add(AdjustmentAction.CUT)
        if name in attributes or len(attributes) == max_attributes:
            actions.add(AdjustmentAction.LEFT_OUT)
        else:
            attributes[name] = value[:MAX_ATTRIBUTE_VALUE]
    return attributes, actions


def _format_number(number: float) -> str:
    if math.isnan(number):
        return "NaN"
    if math.isinf(number):
        return "Infinity" if number > 0 else "-Infinity"
    return repr(number).removesuffix(".0")
