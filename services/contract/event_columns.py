"""Events as columns, as `log-events` carries them: an Arrow IPC stream inside a LogBatch, compressed as a whole.

Each buffer compressed by itself, as Arrow's own writer does it, would be larger and ten times as slow for batches of
some hundred events.
"""

from typing import Any, Final

import pyarrow as pa

from tocsin.logs.v1.log_event_pb2 import EventColumns, LogBatch

SCHEMA_VERSION: Final = 1
# Version 1; the proto of EventColumns states it.
EVENT_SCHEMA: Final = pa.schema(
    [
        pa.field("record_id", pa.string(), nullable=False),
        pa.field("event_time", pa.timestamp("ns", tz="UTC")),
        pa.field("service", pa.string(), nullable=False),
        pa.field("level", pa.int32(), nullable=False),
        pa.field("message", pa.string(), nullable=False),
        pa.field("status_code", pa.int32()),
        pa.field("response_time", pa.float64()),
        pa.field("host", pa.string(), nullable=False),
        pa.field("trace_id", pa.string(), nullable=False),
        pa.field("attributes", pa.map_(pa.string(), pa.string()), nullable=False),
    ]
)
_CODECS: Final = {EventColumns.LZ4: "lz4", EventColumns.ZSTD: "zstd"}


class UnreadableColumnsError(Exception):
    """The columns cannot be read: the text says what was found and what is expected."""


def encode_log_batch(
    events: pa.RecordBatch, compression: EventColumns.Compression.ValueType = EventColumns.LZ4
) -> bytes:
    """Return the value of a record on `log-events` with these events, which have EVENT_SCHEMA."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, EVENT_SCHEMA) as writer:
        writer.write_batch(events)
    return wrap_stream(sink.getvalue(), events.num_rows, compression)


def wrap_stream(
    stream: pa.Buffer, event_count: int, compression: EventColumns.Compression.ValueType = EventColumns.LZ4
) -> bytes:
    """Return the value of a record on `log-events` with the events of an IPC stream of EVENT_SCHEMA."""
    codec = _CODECS.get(compression)
    packed = stream if codec is None else pa.compress(stream, codec=codec)
    columns = EventColumns(
        schema_version=SCHEMA_VERSION,
        event_count=event_count,
        compression=compression,
        stream_size=stream.size,
        stream=packed.to_pybytes(),
    )
    return LogBatch(columns=columns).SerializeToString()


def decode_event_columns(columns: EventColumns, max_bytes: int) -> pa.RecordBatch:
    """Return the events of a record on `log-events`, checked completely, without dictionaries and in one batch.

    Raises UnreadableColumnsError for another version or schema, more than `max_bytes` before compression, offsets that
    point outside, strings that are not UTF-8, and a number of events that is not `event_count`.
    """
    if columns.schema_version != SCHEMA_VERSION:
        raise UnreadableColumnsError(f"expected schema version {SCHEMA_VERSION}, got {columns.schema_version}")
    if not 0 <= columns.stream_size <= max_bytes:
        raise UnreadableColumnsError(f"expected at most {max_bytes} bytes, got {columns.stream_size}")
    try:
        table = _read_stream(columns)
    except (pa.ArrowException, ValueError, OSError, TypeError, KeyError, IndexError, OverflowError) as error:
        raise UnreadableColumnsError("expected an Arrow IPC stream") from error
    if table.num_rows != columns.event_count:
        raise UnreadableColumnsError(f"expected {columns.event_count} events, got {table.num_rows}")
    return table


def _read_stream(columns: EventColumns) -> pa.RecordBatch:
    codec = _CODECS.get(columns.compression)
    stream: Any = columns.stream
    if codec is not None:
        stream = pa.decompress(columns.stream, decompressed_size=columns.stream_size, codec=codec)
    with pa.ipc.open_stream(stream) as reader:
        if reader.schema != EVENT_SCHEMA:
            raise UnreadableColumnsError("expected the columns of schema version 1")
        table = reader.read_all().combine_chunks()
    table.validate(full=True)
    batches = table.to_batches()
    return batches[0] if batches else EVENT_SCHEMA.empty_table().to_batches()[0]
