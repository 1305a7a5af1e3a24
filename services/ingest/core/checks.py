"""What an event must be, field by field; each check looks at a whole column.

Service, level, message and event time decide whether an event is taken. What is odd in any other field is put right
(`adjusting`), and decides over nothing.
"""

from collections.abc import Callable
from dataclasses import dataclass
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
    any_of,
    bytes_outside,
    characters_outside,
    numbers_of,
    offsets_of,
    other_than_hex,
    outside,
    rows_of,
    sizes_of,
)
from services.ingest.core.limits import Limits

MAX_AHEAD = timedelta(minutes=10)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LAST_NANO = 999_999_999
_MAX_FLOAT = float(np.finfo(np.float64).max)

# Takes a column and the moment; which kind of column belongs to which field stands in the contract.
# None: no row is wrong.
Wrong = Callable[[Any, datetime], Mask | None]


class Field(Enum):
    """A field of an event: the member is its name in the contract, the value its name in JSON."""

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


@dataclass(frozen=True, slots=True)
class Demand:
    """What a field must be, in words that end the sentence "expected …"."""

    field: Field
    expected: str


Check = tuple[Demand, Wrong]


def demands(limits: Limits) -> tuple[Check, ...]:
    """What refuses an event that misses it, in the contract's order."""
    most_bytes = limits.max_message_bytes
    return (
        (Demand(Field.EVENT_TIME, "a valid time, from 1970 to ten minutes ahead of now"), _time_is_wrong),
        (Demand(Field.SERVICE, f"1 to {MAX_SERVICE} characters"), _text(1, MAX_SERVICE)),
        (Demand(Field.LEVEL, f"one of {', '.join(Level.__members__)}"), _level_is_wrong),
        (Demand(Field.MESSAGE, f"1 to {most_bytes} bytes"), _bytes(1, most_bytes)),
    )


def oddities(limits: Limits) -> tuple[tuple[Field, Wrong], ...]:
    """What is put right where an event misses it."""
    return (
        (Field.RECORD_ID, _text(0, MAX_RECORD_ID)),
        (Field.STATUS_CODE, _status_is_odd),
        (Field.RESPONSE_TIME, _duration_is_odd),
        (Field.HOST, _text(0, MAX_HOST)),
        (Field.TRACE_ID, _trace_is_odd),
        (Field.ATTRIBUTES, _attributes(limits.max_attributes)),
    )


def _text(least: int, most: int) -> Wrong:
    return lambda column, _now: characters_outside(column, least, most)


def _bytes(least: int, most: int) -> Wrong:
    return lambda column, _now: bytes_outside(column, least, most)


def _level_is_wrong(column: Column, _now: datetime) -> Mask | None:
    return outside(numbers_of(column, np.int32), min(Level), max(Level))


def _status_is_odd(column: Column, _now: datetime) -> Mask | None:
    if column.null_count == len(column):
        return None
    # Unsigned: what lies below the least becomes a large number.
    odd: Mask = (numbers_of(column, np.int32) - MIN_STATUS).view(np.uint32) > MAX_STATUS - MIN_STATUS
    return odd & _present(column) if np.count_nonzero(odd) else None


def _duration_is_odd(column: Column, _now: datetime) -> Mask | None:
    wrong = outside(numbers_of(column, np.float64), 0.0, _MAX_FLOAT)
    return None if wrong is None else wrong & _present(column)


def _time_is_wrong(column: Any, now: datetime) -> Mask | None:
    """An absent time is the time of arrival. The columns are seconds and nanoseconds, so nothing is rounded before."""
    if column.null_count == len(column):
        return None
    seconds, nanos = numbers_of(column.field(0), np.int64), numbers_of(column.field(1), np.int32)
    last_second, last_micro = divmod((now + MAX_AHEAD - _EPOCH) // timedelta(microseconds=1), 1_000_000)
    is_last_but_late = None
    if seconds.max() >= last_second:
        is_last_but_late = (seconds == last_second) & (nanos > last_micro * 1000)
    wrong = any_of(outside(seconds, 0, last_second), outside(nanos, 0, _LAST_NANO), is_last_but_late)
    return None if wrong is None else wrong & _present(column)


def _present(column: Column) -> Mask:
    return column.is_valid().to_numpy(zero_copy_only=False)


def _trace_is_odd(column: Column, _now: datetime) -> Mask | None:
    sizes = sizes_of(column)
    if not sizes.any():
        return None
    return any_of((sizes != 0) & (sizes != TRACE_ID_DIGITS), other_than_hex(column))


def _attributes(most: int) -> Wrong:
    def wrong(column: Any, _now: datetime) -> Mask | None:
        entries = any_of(
            characters_outside(column.keys, 1, MAX_ATTRIBUTE_KEY),
            characters_outside(column.items, 0, MAX_ATTRIBUTE_VALUE),
        )
        offsets = offsets_of(column)
        rows = None if entries is None else rows_of(entries, offsets)
        return any_of(outside(offsets[1:] - offsets[:-1], 0, most), rows)

    return wrong
