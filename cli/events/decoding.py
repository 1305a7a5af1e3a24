"""The events of records of `log-events`, in each form that these have or had, or those that a filter selects.

It imports pyarrow, which the other commands do not need.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pyarrow as pa
from google.protobuf.message import DecodeError

from services.chassis.kafka import Record
from services.contract.event_columns import UnreadableColumnsError, decode_event_columns
from services.contract.timestamps import datetime_of, timestamp_of_nanoseconds
from services.rule_language.checking import Expression
from services.rule_language.environment import StepLimitError
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


def selected_events(
    records: Iterable[Record], expression: Expression | None, notice: Callable[[str], None]
) -> Iterator[LogEvent]:
    """Yield the events for which the filter is true, as a rule would select them; without a filter, all.

    `notice` takes what is to be said about records that cannot be read.
    """
    for record in records:
        try:
            events = decode_events(record)
        except UnreadableEventsError as error:
            notice(f"{record.topic}, partition {record.partition}, offset {record.offset} cannot be read: {error}")
            continue
        yield from (event for event in events if expression is None or _is_selected(expression, event))


def _is_selected(expression: Expression, event: LogEvent) -> bool:
    try:
        return expression.evaluate(_cel_values(event)) is True
    except StepLimitError:
        return False


def _cel_values(event: LogEvent) -> dict[str, object]:
    """Return an event as CEL takes it: absent fields left out."""
    values: dict[str, object] = {
        "service": event.service,
        "level": event.level,
        "message": event.message,
        "host": event.host,
        "trace_id": event.trace_id,
        "attributes": dict(event.attributes),
    }
    if event.HasField("status_code"):
        values["status_code"] = event.status_code
    if event.HasField("response_time"):
        values["response_time"] = event.response_time
    return values
