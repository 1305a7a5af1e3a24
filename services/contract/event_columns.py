"""Events as columns, as `log-events` carries them: an Arrow IPC stream inside a LogBatch, compressed as a whole.

Each buffer compressed by itself, as Arrow's own writer does it, would be larger and ten times as slow for batches of
some hundred events.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import pyarrow as pa

from services.contract.arrow_streams import Codec, StreamReader, UnreadableColumnsError, decompress_stream
from services.rule_language.protobuf_wire import field_prefix
from tocsin.logs.v1.log_event_pb2 import EventColumns, LogBatch

__all__ = [
    "EVENT_SCHEMA",
    "MAX_STREAM_BYTES",
    "SCHEMA_VERSION",
    "UnreadableColumnsError",
    "concat_events",
    "decode_event_columns",
    "encode_log_batch",
    "wrap_packed",
    "wrap_stream",
]

SCHEMA_VERSION: Final = 1
# The stubs take only types of values.
_TEXT_NOT_NULL: Final[Any] = pa.field("value", pa.string(), nullable=False)
# Version 1; the proto of EventColumns states it.
_EVENT_FIELDS: Final[list["pa.Field[Any]"]] = [
    pa.field("record_id", pa.string(), nullable=False),
    pa.field("event_time", pa.timestamp("ns", tz="UTC")),
    pa.field("service", pa.string(), nullable=False),
    pa.field("level", pa.int32(), nullable=False),
    pa.field("message", pa.string(), nullable=False),
    pa.field("status_code", pa.int32()),
    pa.field("response_time", pa.float64()),
    pa.field("host", pa.string(), nullable=False),
    pa.field("trace_id", pa.string(), nullable=False),
    pa.field("attributes", pa.map_(pa.string(), _TEXT_NOT_NULL), nullable=False),
]
EVENT_SCHEMA: Final = pa.schema(_EVENT_FIELDS)
# No stream is larger before it is compressed.
MAX_STREAM_BYTES: Final = 16 * 1024 * 1024
_CODECS: Final[Mapping[int, Codec]] = {EventColumns.LZ4: "lz4", EventColumns.ZSTD: "zstd"}
# This level takes a quarter less time than the usual one, and 2 to 5 % more bytes.
_WRITERS: Final[Mapping[Codec, pa.Codec]] = {"lz4": pa.Codec("lz4", compression_level=-3), "zstd": pa.Codec("zstd")}
_NO_EVENTS: Final = pa.RecordBatch.from_pylist([], schema=EVENT_SCHEMA)
_READER: Final = StreamReader(EVENT_SCHEMA)
_SCHEMA_BYTES: Final = EVENT_SCHEMA.serialize().size
# A marker and the length 0.
_END_BYTES: Final = 8
_COLUMNS: Final = LogBatch.DESCRIPTOR.fields_by_name["columns"].number
_STREAM: Final = EventColumns.DESCRIPTOR.fields_by_name["stream"].number


def encode_log_batch(
    events: pa.RecordBatch, compression: EventColumns.Compression.ValueType = EventColumns.LZ4
) -> bytes:
    """Return the value of a record on `log-events` with these events, which have EVENT_SCHEMA."""
    # A sink that grows with what is written would copy it several times.
    stream = pa.allocate_buffer(_SCHEMA_BYTES + pa.ipc.get_record_batch_size(events) + _END_BYTES)
    with pa.ipc.new_stream(pa.FixedSizeBufferWriter(stream), EVENT_SCHEMA) as writer:
        writer.write_batch(events)
    return wrap_stream(stream, events.num_rows, compression)


def wrap_stream(
    stream: pa.Buffer, event_count: int, compression: EventColumns.Compression.ValueType = EventColumns.LZ4
) -> bytes:
    """Return the value of a record on `log-events` with the events of an IPC stream of EVENT_SCHEMA."""
    codec = _CODECS.get(compression)
    packed = stream if codec is None else _WRITERS[codec].compress(stream)
    return wrap_packed(packed, stream.size, event_count, compression)


def wrap_packed(
    packed: bytes | pa.Buffer, stream_size: int, event_count: int, compression: EventColumns.Compression.ValueType
) -> bytes:
    """Return the value of a record on `log-events` with a stream that is compressed already."""
    columns = EventColumns(
        schema_version=SCHEMA_VERSION,
        event_count=event_count,
        compression=compression,
        stream_size=stream_size,
    ).SerializeToString()
    # Protobuf would copy the stream for each of the two messages around it.
    end = field_prefix(_STREAM, len(packed))
    begin = field_prefix(_COLUMNS, len(columns) + len(end) + len(packed))
    return b"".join((begin, columns, end, packed))


def decode_event_columns(columns: EventColumns, max_bytes: int = MAX_STREAM_BYTES) -> pa.RecordBatch:
    """Return the events of a record on `log-events` in one batch, checked completely.

    Raises UnreadableColumnsError for another version, schema or number of events than is said, for more than
    `max_bytes` before compression, and for whatever Arrow does not allow, such as offsets that point outside, nulls
    where there must be none, and strings that are not UTF-8.
    """
    if columns.schema_version != SCHEMA_VERSION:
        raise UnreadableColumnsError(f"expected schema version {SCHEMA_VERSION}, got {columns.schema_version}")
    if not 0 <= columns.stream_size <= max_bytes:
        raise UnreadableColumnsError(f"expected at most {max_bytes} bytes, got {columns.stream_size}")
    batches = _READER.read(_stream(columns))
    event_count = sum(batch.num_rows for batch in batches)
    if event_count != columns.event_count:
        raise UnreadableColumnsError(f"expected {columns.event_count} events, got {event_count}")
    return concat_events(batches)


def concat_events(batches: Sequence[pa.RecordBatch]) -> pa.RecordBatch:
    """Return the events of several batches, which have EVENT_SCHEMA, in one."""
    if len(batches) == 1:
        return batches[0]
    # The stubs have no concat_batches.
    joined: pa.RecordBatch = pa.concat_batches(batches) if batches else _NO_EVENTS  # type: ignore[attr-defined]
    return joined


def _stream(columns: EventColumns) -> pa.Buffer:
    if columns.compression == EventColumns.NONE:
        if len(columns.stream) != columns.stream_size:
            raise UnreadableColumnsError(f"expected {columns.stream_size} bytes, got {len(columns.stream)}")
        return pa.py_buffer(columns.stream)
    codec = _CODECS.get(columns.compression)
    if codec is None:
        raise UnreadableColumnsError(f"expected a known compression, got {columns.compression}")
    return decompress_stream(columns.stream, codec, columns.stream_size)
