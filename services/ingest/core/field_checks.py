"""What an event must be, field by field; each check looks at a whole column.

Service, level, message and event time decide whether an event is accepted. A value of any other field that does not fit
is adjusted (`adjustments`), and refuses nothing.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Any

import numpy as np

from services.domain.event_fields import (
    MAX_ATTRIBUTE_KEY,
    MAX_ATTRIBUTE_VALUE,
    MAX_HOST,
    MAX_RECORD_ID,
    MAX_SERVICE,
    MAX_STATUS,
    MIN_STATUS,
    TRACE_ID_DIGITS,
)
from services.domain.level import Level
from services.ingest.core.columns import (
    Column,
    Mask,
    above,
    any_of,
    bytes_outside,
    characters_outside,
    is_present,
    numbers_of,
    offsets_of,
    other_than_hex,
    outside,
    rows_of,
    sizes_of,
)

MAX_AHEAD = timedelta(minutes=10)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MAX_FLOAT = float(np.finfo(np.float64).max)
_MIN_LEVEL, _MAX_LEVEL = int(min(Level)), int(max(Level))

# Takes a column and the current time, and returns the rows that do not fit, None when there are none. Which kind of
# column belongs to which field stands in the proto.
ColumnCheck = Callable[[Any, datetime], Mask | None]


class EventField(Enum):
    """A field of an event: the member is its name in the proto, the value its name in JSON."""

    RECORD_ID = "recordId"
    EVENT_TIME = "eventTime"
    SERVICE = "service"
    LEVEL = "level"
    MESSAGE = "message"
    STATUS_CODE = "statusCode"
    RESPONSE_TIME = "responseTime"
    HOST = "host"
    TRACE_ID = "traceId"
    ATTRIBUTES = "attributes"
    EVENT = "event"
    """The event as a whole."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one event, one request and one Kafka record may hold; each at least 1."""

    max_batch_events: int
    max_request_bytes: int
    max_message_bytes: int
    max_attributes: int
    max_record_bytes: int

    def __post_init__(self) -> None:
        """Refuse limits that let nothing through."""
        for limit in fields(self):
            if getattr(self, limit.name) < 1:
                raise ValueError(f"{limit.name} must be at least 1, got {getattr(self, limit.name)}")


@dataclass(frozen=True, slots=True)
class Requirement:
    """What a field must be; `expected` ends the sentence "expected …"."""

    field: EventField
    expected: str


def required_checks(limits: Limits) -> tuple[tuple[Requirement, ColumnCheck], ...]:
    """Return the checks that refuse an event, in the order of the proto's fields."""
    max_bytes = limits.max_message_bytes
    return (
        (
            Requirement(EventField.EVENT_TIME, "a time with its zone, from 1970 to ten minutes ahead of now"),
            _time_outside,
        ),
        (Requirement(EventField.SERVICE, f"1 to {MAX_SERVICE} characters"), _characters(1, MAX_SERVICE)),
        (Requirement(EventField.LEVEL, f"one of {', '.join(Level.__members__)}"), _level_outside),
        (Requirement(EventField.MESSAGE, f"1 to {max_bytes} bytes"), _bytes(1, max_bytes)),
    )


def optional_checks(limits: Limits) -> tuple[tuple[EventField, ColumnCheck], ...]:
    """Return the checks that find values to adjust."""
    return (
        (EventField.RECORD_ID, _characters(0, MAX_RECORD_ID)),
        (EventField.STATUS_CODE, _status_outside),
        (EventField.RESPONSE_TIME, _response_time_outside),
        (EventField.HOST, _characters(0, MAX_HOST)),
        (EventField.TRACE_ID, _no_trace_id),
        (EventField.ATTRIBUTES, _attributes_outside(limits.max_attributes)),
    )


def _characters(min_length: int, max_length: int) -> ColumnCheck:
    return lambda column, _now: characters_outside(column, min_length, max_length)


def _bytes(min_length: int, max_length: int) -> ColumnCheck:
    return lambda column, _now: bytes_outside(column, min_length, max_length)


def _level_outside(column: Column, _now: datetime) -> Mask | None:
    return outside(numbers_of(column, np.int32), _MIN_LEVEL, _MAX_LEVEL)


def _status_outside(column: Column, _now: datetime) -> Mask | None:
    if column.null_count == len(column):
        return None
    # Unsigned: what lies below the minimum becomes a large number.
    rows: Mask = (numbers_of(column, np.int32) - MIN_STATUS).view(np.uint32) > MAX_STATUS - MIN_STATUS
    return _of_present(rows, column) if np.count_nonzero(rows) else None


def _response_time_outside(column: Column, _now: datetime) -> Mask | None:
    rows = outside(numbers_of(column, np.float64), 0.0, _MAX_FLOAT)
    return None if rows is None else _of_present(rows, column)


def _of_present(rows: Mask, column: Column) -> Mask:
    """Return the marked rows that are not null: under a null may lie any number."""
    return rows & is_present(column) if column.null_count else rows


def _time_outside(column: Column, now: datetime) -> Mask | None:
    """Check event times; an absent one is the time of arrival."""
    if column.null_count == len(column):
        return None
    last_ns = (now + MAX_AHEAD - _EPOCH) // timedelta(microseconds=1) * 1000
    rows = outside(numbers_of(column, np.int64), 0, last_ns)
    return None if rows is None else _of_present(rows, column)


def _no_trace_id(column: Column, _now: datetime) -> Mask | None:
    sizes = sizes_of(column)
    if not sizes.any():
        return None
    return any_of((sizes != 0) & (sizes != TRACE_ID_DIGITS), other_than_hex(column))


def _attributes_outside(max_attributes: int) -> ColumnCheck:
    def check(column: Any, _now: datetime) -> Mask | None:
        keys = characters_outside(column.keys, 1, MAX_ATTRIBUTE_KEY)
        entries = any_of(keys, characters_outside(column.items, 0, MAX_ATTRIBUTE_VALUE))
        offsets = offsets_of(column)
        rows = None if entries is None else rows_of(entries, offsets)
        return any_of(above(offsets[1:] - offsets[:-1], max_attributes), rows)

    return check
