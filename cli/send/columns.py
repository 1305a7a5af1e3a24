"""Events as columns, as IngestColumns takes them without a change."""

from collections.abc import Sequence
from typing import Any, Final

import pyarrow as pa

from services.contract.event_columns import EVENT_SCHEMA
from tocsin.logs.v1.log_event_pb2 import EventColumns, LogEvent
from tocsin.logs.v1.log_ingest_service_pb2 import IngestColumnsRequest

_PLAIN: Final = ("record_id", "service", "level", "message", "host", "trace_id")
_OPTIONAL: Final = ("status_code", "response_time")
_SECOND_NS = 1_000_000_000
_MAX_NS = 2**63 - 1


def columns_request(events: Sequence[LogEvent]) -> IngestColumnsRequest:
    """Return a request with these events."""
    columns: dict[str, list[Any]] = {name: [getattr(event, name) for event in events] for name in _PLAIN}
    for name in _OPTIONAL:
        columns[name] = [getattr(event, name) if event.HasField(name) else None for event in events]
    columns["event_time"] = [_nanoseconds(event) for event in events]
    columns["attributes"] = [list(event.attributes.items()) for event in events]
    arrays = [pa.array(columns[field.name], field.type) for field in EVENT_SCHEMA]
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, EVENT_SCHEMA) as writer:
        writer.write_batch(pa.RecordBatch.from_arrays(arrays, schema=EVENT_SCHEMA))
    stream = pa.compress(sink.getvalue(), codec="zstd", asbytes=True)
    return IngestColumnsRequest(stream=stream, compression=EventColumns.ZSTD)


def _nanoseconds(event: LogEvent) -> int | None:
    """Return the event's time; one that is too far away for a column is as far away as it can be, and is refused."""
    if not event.HasField("event_time"):
        return None
    nanoseconds = event.event_time.seconds * _SECOND_NS + event.event_time.nanos
    return min(max(nanoseconds, -_MAX_NS), _MAX_NS)
