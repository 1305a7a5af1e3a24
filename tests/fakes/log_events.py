"""Log events for tests: plausible ones, strategies for any, allowed or not, and records of `log-events`."""

import math
from datetime import UTC, datetime, timedelta
from typing import Any

import ptars
import pyarrow as pa
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import strategies as st

from services.contract.event_columns import decode_event_columns, encode_log_batch
from services.contract.timestamps import timestamp_of_nanoseconds
from tocsin.logs.v1 import log_event_pb2
from tocsin.logs.v1.log_event_pb2 import LogBatch, LogEvent

NOW = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)
_LATEST = int((NOW + timedelta(minutes=10)).timestamp())


def an_event(**changed: Any) -> LogEvent:
    """Return an allowed event, with the given fields changed."""
    fields: dict[str, Any] = {"service": "payment-service", "level": LogEvent.ERROR, "message": "no connection"}
    return LogEvent(**(fields | changed))


def columns_of(*events: LogEvent) -> pa.RecordBatch:
    """Return events as columns."""
    handler = ptars.HandlerPool([log_event_pb2.DESCRIPTOR]).get_for_message(LogBatch.DESCRIPTOR)
    batches = handler.list_to_record_batch([LogBatch(events=events).SerializeToString()])
    return pa.RecordBatch.from_struct_array(batches.column("events").flatten())


def record_of(*events: LogEvent) -> bytes:
    """Return the value of a record of `log-events` as ingest writes it."""
    return encode_log_batch(columns_of(*events))


def events_in(record: bytes) -> list[LogEvent]:
    """Return the events of a record's value, of either form."""
    batch = LogBatch.FromString(record)
    if not batch.HasField("columns"):
        return list(batch.events)
    return events_of(decode_event_columns(batch.columns))


def events_of(columns: pa.RecordBatch) -> list[LogEvent]:
    """Return columns as events."""
    at = columns.schema.get_field_index("event_time")
    plain = columns.set_column(at, "event_time", columns.column(at).cast(pa.int64()))
    return [_event_of(row) for row in plain.to_pylist()]


def _event_of(row: dict[str, Any]) -> LogEvent:
    nanoseconds = row["event_time"]
    time = None if nanoseconds is None else timestamp_of_nanoseconds(nanoseconds)
    return LogEvent(**(row | {"event_time": time, "attributes": dict(row["attributes"])}))


def _around(*lengths: int) -> st.SearchStrategy[str]:
    """Texts whose lengths lie at a border, of characters of one to four bytes."""
    return st.builds(lambda letter, length: letter * length, st.sampled_from("aé漢🔔"), st.sampled_from(lengths))


_times = st.builds(
    Timestamp,
    seconds=st.sampled_from(
        [0, 1, -1, 1_700_000_000, _LATEST - 1, _LATEST, _LATEST + 1, 253_402_300_799, 2**62, -(2**62)]
    ),
    nanos=st.sampled_from([0, 1, 999_999_999, 1_000_000_000, -1, 123_455_999, 123_456_000, 123_456_001]),
)
_entries = st.dictionaries(_around(0, 1, 5, 128, 129), _around(0, 3, 1024, 1025), max_size=3)
_traces = st.sampled_from(
    ["", "0" * 32, "a1" * 16, "A" * 32, "a1" * 8, "0" * 31, "0" * 33, "g" + "0" * 31, "0" * 31 + "é", "é" * 16]
)

allowed_events = st.builds(
    an_event,
    record_id=_around(0, 1, 128),
    service=_around(1, 256),
    level=st.sampled_from(list(range(1, 7))),
    message=_around(1, 8),
    status_code=st.sampled_from([None, 100, 200, 599]),
    response_time=st.sampled_from([None, 0.0, 1.5, 1e300]),
    host=_around(0, 256),
    trace_id=st.sampled_from(["", "a1" * 16]),
    attributes=st.dictionaries(_around(1, 128), _around(0, 1024), max_size=2),
)

any_events = allowed_events | st.builds(
    LogEvent,
    record_id=_around(0, 128, 129),
    event_time=st.none() | _times,
    service=_around(0, 1, 256, 257),
    level=st.sampled_from([0, 1, 6, 7, -1, 2**31 - 1]),
    message=_around(0, 1, 64, 65),
    status_code=st.sampled_from([None, -1, 0, 99, 100, 599, 600, -(2**31)]),
    response_time=st.sampled_from([None, 0.0, -0.0, -1e-300, 5000.0, math.inf, -math.inf, math.nan]),
    host=_around(0, 256, 257),
    trace_id=_traces,
    attributes=_entries,
)
