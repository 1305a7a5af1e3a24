"""What becomes of values that the contract does not allow, and that decide over nothing: they are put right.

A value is padded, converted or cut where that says the same; else it is kept, as text, among the attributes. Whatever
is done is counted, by field and action, so that a sender learns of it from the answer and an operator from a metric.
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
from services.ingest.core.checks import Field

# The key of a value that came without one.
_NAMELESS = "_"
_MAX_INDEXES = 10


class Action(Enum):
    """What was done with a value; the member is its name in the contract."""

    PADDED = "padded"
    CONVERTED = "converted"
    CUT = "cut"
    KEPT_AS_ATTRIBUTE = "kept as attribute"
    LEFT_OUT = "left out"


@dataclass(frozen=True, slots=True)
class Change:
    """One kind of adjustment."""

    field: Field
    action: Action


@dataclass(frozen=True, slots=True, kw_only=True)
class Sides:
    """The fields of one event that decide over nothing; None or empty: not sent."""

    record_id: str
    status_code: int | None
    response_time: float | None
    host: str
    trace_id: str
    attributes: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Occurrence:
    """How many events of a request had one kind of change, and the first of them."""

    count: int
    indexes: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Adjustments:
    """What was put right in a request."""

    event_count: int
    kinds: Mapping[Change, Occurrence]


def adjust(sides: Sides, max_attributes: int) -> tuple[Sides, frozenset[Change]]:
    """Put right what the contract does not allow; a value that it allows stays as it is."""
    changes: set[Change] = set()
    kept: dict[str, str] = {}

    def keep(field: Field, text: str) -> None:
        changes.add(Change(field, Action.KEPT_AS_ATTRIBUTE))
        kept[field.name.lower()] = text

    status_code, response_time = sides.status_code, sides.response_time
    if status_code is not None and not MIN_STATUS <= status_code <= MAX_STATUS:
        keep(Field.STATUS_CODE, str(status_code))
        status_code = None
    if response_time is not None and not (response_time >= 0 and math.isfinite(response_time)):
        keep(Field.RESPONSE_TIME, _number_text(response_time))
        response_time = None
    trace_id, action = _trace_id(sides.trace_id)
    if action is Action.KEPT_AS_ATTRIBUTE:
        keep(Field.TRACE_ID, sides.trace_id)
    elif action is not None:
        changes.add(Change(Field.TRACE_ID, action))
    for field, text, most in ((Field.RECORD_ID, sides.record_id, MAX_RECORD_ID), (Field.HOST, sides.host, MAX_HOST)):
        if len(text) > most:
            changes.add(Change(field, Action.CUT))
    attributes, actions = _attributes(kept, sides.attributes, max_attributes)
    changes |= {Change(Field.ATTRIBUTES, action) for action in actions}
    adjusted = Sides(
        record_id=sides.record_id[:MAX_RECORD_ID],
        status_code=status_code,
        response_time=response_time,
        host=sides.host[:MAX_HOST],
        trace_id=trace_id,
        attributes=attributes,
    )
    return adjusted, frozenset(changes)


def summed_up(changed: Mapping[int, Collection[Change]]) -> Adjustments | None:
    """Sum up what was changed in each event, given by rising index; None when nothing was."""
    places: dict[Change, list[int]] = {}
    changed = {index: changes for index, changes in changed.items() if changes}
    for index, changes in changed.items():
        for change in changes:
            places.setdefault(change, []).append(index)
    if not places:
        return None
    kinds = {
        change: Occurrence(count=len(places[change]), indexes=tuple(places[change][:_MAX_INDEXES]))
        for field in Field
        for action in Action
        if (change := Change(field, action)) in places
    }
    return Adjustments(event_count=len(changed), kinds=kinds)


def _trace_id(text: str) -> tuple[str, Action | None]:
    if not text:
        return text, None
    trace_id = normalized_trace_id(text)
    if trace_id is None:
        return "", Action.KEPT_AS_ATTRIBUTE
    if len(text.replace("-", "")) < TRACE_ID_DIGITS:
        return trace_id, Action.PADDED
    return trace_id, None if trace_id == text else Action.CONVERTED


def _attributes(kept: Mapping[str, str], given: Mapping[str, str], most: int) -> tuple[dict[str, str], set[Action]]:
    """Which attributes an event has in the end: first those that were kept from other fields, then by rising key."""
    found: dict[str, str] = {}
    actions: set[Action] = set()
    for key, value in (*kept.items(), *sorted(given.items())):
        name = key[:MAX_ATTRIBUTE_KEY] or _NAMELESS
        if not key:
            actions.add(Action.CONVERTED)
        if len(key) > MAX_ATTRIBUTE_KEY or len(value) > MAX_ATTRIBUTE_VALUE:
            actions.add(Action.CUT)
        if name in found or len(found) == most:
            actions.add(Action.LEFT_OUT)
        else:
            found[name] = value[:MAX_ATTRIBUTE_VALUE]
    return found, actions


def _number_text(number: float) -> str:
    if math.isnan(number):
        return "NaN"
    if math.isinf(number):
        return "Infinity" if number > 0 else "-Infinity"
    return repr(number).removesuffix(".0")
