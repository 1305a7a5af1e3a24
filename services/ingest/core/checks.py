"""What an event must be, field by field; each check looks at a whole column."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Any

import numpy as np
import pyarrow as pa

from services.domain.level import Level
from services.ingest.core.columns import (
    Column,
    Mask,
    Numbers,
    characters_are_outside,
    holds_other_than_hex,
    offsets_of,
    rows_of,
    sizes_of,
)
from services.ingest.core.limits import Limits

MAX_AHEAD = timedelta(minutes=10)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MAX_SERVICE = 256
_MAX_HOST = 256
_MAX_RECORD_ID = 128
_MAX_STATUS = 999
_TRACE_ID_DIGITS = 32
_MAX_KEY = 128
_MAX_VALUE = 1024
_NANOS = 1_000_000_000

# Takes a column and the moment; which kind of column belongs to which field stands in the contract.
Wrong = Callable[[Any, datetime], Mask]


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One field's demand: `wrong` marks the rows that miss it, `expected` says it in a sentence."""

    field: Field
    expected: str
    wrong: Wrong


def checks_for(limits: Limits) -> tuple[Check, ...]:
    """One check for each field, in the contract's order."""
    return (
        Check(field=Field.RECORD_ID, expected=f"at most {_MAX_RECORD_ID} characters", wrong=_text(0, _MAX_RECORD_ID)),
        Check(
            field=Field.EVENT_TIME,
            expected="a valid time, from 1970 to ten minutes ahead of now",
            wrong=_time_is_wrong,
        ),
        Check(field=Field.SERVICE, expected=f"1 to {_MAX_SERVICE} characters", wrong=_text(1, _MAX_SERVICE)),
        Check(field=Field.LEVEL, expected=f"one of {', '.join(Level.__members__)}", wrong=_level_is_wrong),
        Check(
            field=Field.MESSAGE,
            expected=f"1 to {limits.max_message_bytes} bytes",
            wrong=_bytes(1, limits.max_message_bytes),
        ),
        Check(field=Field.STATUS_CODE, expected=f"a number from 0 to {_MAX_STATUS}", wrong=_status_is_wrong),
        Check(
            field=Field.RESPONSE_TIME,
            expected="a finite number of milliseconds, 0 or more",
            wrong=_duration_is_wrong,
        ),
        Check(field=Field.HOST, expected=f"at most {_MAX_HOST} characters", wrong=_text(0, _MAX_HOST)),
        Check(field=Field.TRACE_ID, expected="32 lower-case hexadecimal digits, or nothing", wrong=_trace_is_wrong),
        Check(
            field=Field.ATTRIBUTES,
            expected=f"at most {limits.max_attributes} entries with keys of 1 to {_MAX_KEY} characters"
            f" and values of at most {_MAX_VALUE}",
            wrong=_attributes(limits.max_attributes),
        ),
    )


def _text(least: int, most: int) -> Wrong:
    return lambda column, _now: characters_are_outside(column, least, most)


def _bytes(least: int, most: int) -> Wrong:
    def wrong(column: Column, _now: datetime) -> Mask:
        sizes = sizes_of(column)
        return (sizes < least) | (sizes > most)

    return wrong


def _level_is_wrong(column: Column, _now: datetime) -> Mask:
    levels = column.to_numpy()
    return (levels < min(Level)) | (levels > max(Level))


def _status_is_wrong(column: Column, _now: datetime) -> Mask:
    codes = column.fill_null(0).to_numpy()
    return (codes < 0) | (codes > _MAX_STATUS)


def _duration_is_wrong(column: Column, _now: datetime) -> Mask:
    durations = column.fill_null(0.0).to_numpy()
    # Written so that "not a number", which is neither, is wrong.
    return np.logical_not((durations >= 0) & (durations < np.inf))


def _time_is_wrong(column: pa.StructArray, now: datetime) -> Mask:
    """An absent time is the time of arrival. The columns are seconds and nanoseconds, so nothing is rounded before."""
    seconds: Numbers
    nanos: Numbers
    seconds, nanos = (part.fill_null(0).to_numpy() for part in column.flatten())
    latest = (now + MAX_AHEAD - _EPOCH) // timedelta(microseconds=1)
    last_second, last_nano = latest // 1_000_000, latest % 1_000_000 * 1000
    is_late = (seconds > last_second) | ((seconds == last_second) & (nanos > last_nano))
    wrong: Mask = (seconds < 0) | (nanos < 0) | (nanos >= _NANOS) | is_late
    return wrong


def _trace_is_wrong(column: Column, _now: datetime) -> Mask:
    sizes = sizes_of(column)
    wrong: Mask = ((sizes != 0) & (sizes != _TRACE_ID_DIGITS)) | holds_other_than_hex(column)
    return wrong


def _attributes(most: int) -> Wrong:
    def wrong(column: Any, _now: datetime) -> Mask:
        entries = characters_are_outside(column.keys, 1, _MAX_KEY) | characters_are_outside(column.items, 0, _MAX_VALUE)
        return (sizes_of(column) > most) | rows_of(entries, offsets_of(column))

    return wrong
