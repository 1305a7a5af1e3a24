"""The events of a record of `log-events`, in each form that such a record has or had."""

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
from google.protobuf.message import DecodeError

from services.chassis.kafka import Record
from services.contract.event_columns import UnreadableColumnsError, decode_event_columns
from services.contract.timestamps import datetime_of, timestamp_of_nanoseconds
from tocsin.logs.v1.log_event_pb2 import LogBatch, LogEvent

_MILLISECOND_NS = 1_000_000


class UnreadableEventsError(ValueError):
    """The record holds no events that can be read; the text says why."""


def decode_events(record: Record) -> list[LogEvent]:
    """Return the events of a record; one that names no time of its own gets the time at which it arrived."""
    try:
        batch = LogBatch.FromString(record.value)
        if batch.events and batch.HasField("columns"):
            raise UnreadableEventsError("it has events in two forms")
        events = list(_rows(decode_event_columns(batch.columns))) if batch.HasField("columns") else list(batch.events)
        for event in events:
            if not event.HasField("event_time"):
                event.event_time.CopyFrom(timestamp_of_nanoseconds(record.timestamp_ms * _MILLISECOND_NS))
            datetime_of(event.event_time)
    except DecodeError as error:
        raise UnreadableEventsError("it is no LogBatch") from error
    except UnreadableColumnsError as error:
        raise UnreadableEventsError(f"its columns: {error}") from error
    except ValueError as error:
        raise UnreadableEventsError(str(error)) from error
    return events


def _rows(batch: pa.RecordBatch) -> Iterator[LogEvent]:
    times = batch.column("event_time").cast(pa.int64()).to_pylist()
    # Python has no type for nanoseconds.
    others: list[dict[str, Any]] = batch.drop_columns(["event_time"]).to_pylist()
    for time_ns, fields in zip(times, others, strict=True):
        fields["attributes"] = dict(fields["attributes"])
        event = LogEvent(**fields)
        if time_ns is not None:
            event.event_time.CopyFrom(timestamp_of_nanoseconds(time_ns))
        yield event
