"""Columns of any schema, converted, and what became of them."""

import datetime as dt
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from services.contract.event_columns import EVENT_SCHEMA
from services.ingest.core.adjustments import AdjustmentAction
from services.ingest.core.field_checks import EventField
from services.ingest.core.foreign_columns import (
    ForeignEvents,
    UnusableColumnsError,
    check_schema,
    to_events,
)

TIME = dt.datetime(2026, 3, 1, 12, 0, 0, 123_456, dt.UTC)

NS = 1_772_366_400_123_456_000

NOTHING: dict[str, Any] = {
    "record_id": "",
    "event_time": None,
    "service": "",
    "level": 0,
    "message": "",
    "status_code": None,
    "response_time": None,
    "host": "",
    "trace_id": "",
    "attributes": [],
}


def converted(columns: dict[str, Any], max_attributes: int = 32, max_bytes: int = 1_000_000) -> ForeignEvents:
    batch = pa.record_batch(columns)
    check_schema(batch.schema)
    events = to_events(batch, EVENT_SCHEMA, max_attributes=max_attributes, max_bytes=max_bytes)
    events.columns.validate(full=True)
    assert events.columns.schema == EVENT_SCHEMA
    assert all(events.columns.column(field.name).null_count == 0 for field in EVENT_SCHEMA if not field.nullable)
    return events


def rows(columns: dict[str, Any], **limits: int) -> list[dict[str, Any]]:
    batch = converted(columns, **limits).columns
    place = EVENT_SCHEMA.get_field_index("event_time")
    as_numbers = batch.set_column(place, "event_time", batch.column(place).cast(pa.int64()))
    return [{name: value for name, value in row.items() if value != NOTHING[name]} for row in as_numbers.to_pylist()]


def adjusted(events: ForeignEvents) -> list[tuple[EventField, AdjustmentAction, list[int]]]:
    return [(each.field, each.action, np.flatnonzero(mask).tolist()) for each, mask in events.adjusted]


def refused(columns: dict[str, Any], expected: str, **limits: int) -> None:
    with pytest.raises(UnusableColumnsError, match=expected):
        converted(columns, **limits)
