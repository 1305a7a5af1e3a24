"""Events as columns: what is written is read again, and what is not as it should be is refused before it does harm."""

import struct
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.contract import arrow_streams
from services.contract.arrow_streams import MAX_BATCHES, Codec
from services.contract.event_columns import (
    EVENT_SCHEMA,
    MAX_STREAM_BYTES,
    UnreadableColumnsError,
    decode_event_columns,
    encode_log_batch,
    wrap_stream,
)
from tocsin.logs.v1.log_event_pb2 import EventColumns, LogBatch

EVENT = {
    "record_id": "r1",
    "event_time": 1_700_000_000_000_000_000,
    "service": "payment-service",
    "level": 5,
    "message": "Database connection failed",
    "status_code": 500,
    "response_time": 5000.0,
    "host": "pod-1",
    "trace_id": "a1" * 16,
    "attributes": [("region", "eu-west"), ("tenant", "ä")],
}
# Where a stream says of which type its first message is.
_TYPE_AT = 29
# Two events with one attribute each.
A_PAIR = [EVENT | {"attributes": [("a", "b")]}] * 2
texts = st.text(max_size=20)
any_rows = st.fixed_dictionaries(
    {
        "record_id": texts,
        "event_time": st.none() | st.integers(-(2**63), 2**63 - 1),
        "service": texts,
        "level": st.integers(-(2**31), 2**31 - 1),
        "message": texts,
        "status_code": st.none() | st.integers(-(2**31), 2**31 - 1),
        "response_time": st.none() | st.floats(allow_nan=False),
        "host": texts,
        "trace_id": texts,
        "attributes": st.lists(st.tuples(texts, texts), max_size=3),
    }
)
compressions = st.sampled_from([EventColumns.NONE, EventColumns.LZ4, EventColumns.ZSTD])


@pytest.fixture(autouse=True, scope="module", params=["as few rows", "as many rows"])
def _rows(request: pytest.FixtureRequest) -> Iterator[None]:
    """Check values in both ways, which depend on the number of rows."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "as many rows":
            patch.setattr(arrow_streams, "_MANY_ROWS", 0)
        yield


def batch_of(*rows: dict[str, Any]) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist(list(rows), schema=EVENT_SCHEMA)


def stream_of(
    *batches: pa.RecordBatch, schema: pa.Schema = EVENT_SCHEMA, options: pa.ipc.IpcWriteOptions | None = None
) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema, options=options) as writer:
        for batch in batches:
            writer.write_batch(batch)
    return sink.getvalue().to_pybytes()


def columns_of(
    stream: bytes, event_count: int = 1, compression: EventColumns.Compression.ValueType = EventColumns.NONE
) -> EventColumns:
    return LogBatch.FromString(wrap_stream(pa.py_buffer(stream), event_count, compression)).columns


def changed(columns: EventColumns, **fields: Any) -> EventColumns:
    copy = EventColumns()
    copy.CopyFrom(columns)
    copy.MergeFrom(EventColumns(**fields))
    return copy


def without_time_zone(batch: pa.RecordBatch) -> list[Any]:
    """Return the columns as Python has them, but times as numbers, since Python knows no nanoseconds."""
    return [
        (column.cast(pa.int64()) if pa.types.is_timestamp(column.type) else column).to_pylist()
        for column in batch.columns
    ]


def refused(columns: EventColumns, expected: str, max_bytes: int = MAX_STREAM_BYTES) -> None:
    with pytest.raises(UnreadableColumnsError, match=expected):
        decode_event_columns(columns, max_bytes)


@settings(max_examples=60)
@given(st.lists(any_rows, max_size=5), compressions)
def test_events_are_read_as_they_were_written(
    rows: list[dict[str, Any]], compression: EventColumns.Compression.ValueType
) -> None:
    events = batch_of(*rows)
    record = LogBatch.FromString(encode_log_batch(events, compression))
    assert not record.events
    assert record.columns.event_count == len(rows)
    read = decode_event_columns(record.columns)
    assert read.schema == EVENT_SCHEMA
    assert without_time_zone(read) == without_time_zone(events)


def test_a_part_of_a_batch_is_written_as_that_part_alone() -> None:
    events = batch_of(*[EVENT | {"record_id": f"r{number}"} for number in range(100)])
    value = encode_log_batch(events.slice(50, 2))
    assert decode_event_columns(LogBatch.FromString(value).columns).column("record_id").to_pylist() == ["r50", "r51"]
    assert len(value) < len(encode_log_batch(events)) / 2


@pytest.mark.parametrize("count", [0, 1, 300])
def test_a_record_is_written_as_protobuf_writes_it(count: int) -> None:
    record = encode_log_batch(pa.RecordBatch.from_pylist([EVENT] * count, schema=EVENT_SCHEMA), EventColumns.NONE)
    assert LogBatch.FromString(record).SerializeToString() == record


def test_several_batches_become_one() -> None:
    stream = stream_of(batch_of(EVENT), batch_of(), batch_of(EVENT | {"level": 6}, EVENT))
    assert decode_event_columns(columns_of(stream, 3)).column("level").to_pylist() == [5, 6, 5]


def test_a_stream_without_a_batch_has_no_events() -> None:
    read = decode_event_columns(columns_of(stream_of(), 0))
    assert read.num_rows == 0
    assert read.schema == EVENT_SCHEMA


def test_more_batches_than_allowed_are_refused() -> None:
    refused(columns_of(stream_of(*[batch_of()] * (MAX_BATCHES + 1)), 0), "at most 256 record batches")


@pytest.mark.parametrize("version", [-1, 0, 2])
def test_another_version_is_refused(version: int) -> None:
    columns = columns_of(stream_of(batch_of(EVENT)))
    columns.schema_version = version
    refused(columns, f"expected schema version 1, got {version}")


@pytest.mark.parametrize("count", [-1, 0, 2, 2**31 - 1])
def test_another_number_of_events_than_is_said_is_refused(count: int) -> None:
    refused(columns_of(stream_of(batch_of(EVENT)), count), f"expected {count} events, got 1")


@pytest.mark.parametrize("compression", [EventColumns.NONE, EventColumns.LZ4, EventColumns.ZSTD])
@pytest.mark.parametrize("lie", [-64, -8, -1, 1, 8, 4096])
def test_another_size_than_is_said_is_refused(compression: EventColumns.Compression.ValueType, lie: int) -> None:
    columns = columns_of(stream_of(batch_of(EVENT)), compression=compression)
    columns.stream_size += lie
    refused(columns, r"expected \d+ bytes")


@pytest.mark.parametrize("size", [-1, MAX_STREAM_BYTES + 1, 2**63 - 1])
def test_a_size_that_is_absurd_is_refused_before_memory_is_taken(size: int) -> None:
    refused(changed(columns_of(b""), stream_size=size, compression=EventColumns.ZSTD), "expected at most")


def test_what_becomes_larger_than_allowed_is_refused() -> None:
    columns = columns_of(b"\0" * 100_000, compression=EventColumns.ZSTD)
    refused(columns, "expected at most 50000 bytes, got 100000", 50_000)
    columns.stream_size = 50_000
    refused(columns, "expected 50000 bytes", 50_000)


@pytest.mark.parametrize("compression", [0, 4, -1])
def test_a_compression_that_is_not_known_is_refused(compression: int) -> None:
    columns = columns_of(stream_of(batch_of(EVENT)))
    columns.ClearField("compression")
    refused(changed(columns, compression=compression), "expected a known compression")


@pytest.mark.parametrize("compression", [EventColumns.LZ4, EventColumns.ZSTD])
def test_bytes_that_are_not_compressed_are_refused(compression: EventColumns.Compression.ValueType) -> None:
    refused(changed(columns_of(stream_of(batch_of(EVENT))), compression=compression), "bytes compressed with")


def _with_field(index: int, field: "pa.Field[Any]") -> pa.Schema:
    return EVENT_SCHEMA.set(index, field)


@pytest.mark.parametrize(
    "schema",
    [
        pytest.param(EVENT_SCHEMA.remove(9), id="a column is missing"),
        pytest.param(EVENT_SCHEMA.append(pa.field("tenant", pa.string())), id="a column too many"),
        pytest.param(_with_field(3, pa.field("level", pa.int64(), nullable=False)), id="another type"),
        pytest.param(_with_field(3, pa.field("level", pa.int32())), id="nulls allowed"),
        pytest.param(_with_field(1, pa.field("event_time", pa.timestamp("us", tz="UTC"))), id="another unit"),
        pytest.param(_with_field(1, pa.field("event_time", pa.timestamp("ns"))), id="no time zone"),
        pytest.param(
            _with_field(2, pa.field("service", pa.dictionary(pa.int8(), pa.string()), nullable=False)), id="dictionary"
        ),
        pytest.param(
            _with_field(9, pa.field("attributes", pa.map_(pa.string(), pa.string()), nullable=False)),
            id="values of attributes may be null",
        ),
    ],
)
def test_another_schema_is_refused(schema: pa.Schema) -> None:
    refused(columns_of(stream_of(schema=schema), 0), "expected the columns")


def test_a_schema_that_is_described_in_other_bytes_is_read() -> None:
    stream = stream_of(batch_of(EVENT), schema=EVENT_SCHEMA.with_metadata({"written": "elsewhere"}))
    assert decode_event_columns(columns_of(stream)).equals(batch_of(EVENT))


@pytest.mark.parametrize("codec", ["lz4", "zstd"])
def test_compression_inside_is_refused(codec: Codec) -> None:
    options = pa.ipc.IpcWriteOptions(compression=codec)
    refused(columns_of(stream_of(batch_of(EVENT), options=options)), "no compression inside")


def test_a_dictionary_that_no_column_has_is_refused() -> None:
    foreign = pa.record_batch({"service": pa.array(["a"]).dictionary_encode()})
    own, other = stream_of(batch_of(EVENT)), stream_of(foreign, schema=foreign.schema)
    dictionary = other[_size_of_first_message(other) :]
    refused(columns_of(own[:-8] + dictionary), "dictionary")


def _size_of_first_message(stream: bytes) -> int:
    return 8 + int(struct.unpack_from("<i", stream, 4)[0])


@pytest.mark.parametrize("kind", [0, 2, 3, 4, 5, 255])
def test_a_message_of_another_type_in_the_place_of_the_schema_is_refused(kind: int) -> None:
    stream = bytearray(stream_of(batch_of(EVENT)))
    # The type in the flatbuffer of the first message.
    assert stream[_TYPE_AT] == 1
    stream[_TYPE_AT] = kind
    refused(columns_of(bytes(stream)), "expected")


def test_a_second_schema_is_refused() -> None:
    stream = stream_of(batch_of(EVENT))
    refused(columns_of(stream[: _size_of_first_message(stream)] + stream), "schema")


@pytest.mark.parametrize("rest", [b"\0", b"x" * 64, stream_of(batch_of(EVENT))])
def test_bytes_after_the_end_are_refused(rest: bytes) -> None:
    refused(columns_of(stream_of(batch_of(EVENT)) + rest), "nothing after the end")


def test_a_stream_that_is_cut_off_anywhere_is_refused() -> None:
    stream = stream_of(batch_of(EVENT, EVENT))
    # Without the mark of the end, at the end of a message, it is whole.
    for size in range(len(stream) - 8):
        refused(columns_of(stream[:size], 2), "expected")


def _nodes_at(stream: bytes, nulls: Mapping[int, int] = MappingProxyType({})) -> int:
    """Return where the description of a pair's arrays begins: thirteen pairs of length and number of nulls."""
    nodes = [number for node in range(13) for number in (2, nulls.get(node, 0))]
    return stream.index(struct.pack("<26q", *nodes))


# Columns, then the entries of the attributes, their keys and their values.
_NAMES = [*EVENT_SCHEMA.names, "attributes", "attributes", "attributes"]
_NOT_NULL = [0, 2, 3, 4, 7, 8, 9, 10, 11, 12]


@pytest.mark.parametrize("node", _NOT_NULL)
@pytest.mark.parametrize("null_count", [-1, 1, 2**62])
def test_nulls_that_are_said_where_none_may_be_are_refused_by_their_column(node: int, null_count: int) -> None:
    refused(_described(node, null_count=null_count), f"{_NAMES[node]}: expected no nulls, got {null_count}")


@pytest.mark.parametrize("name", ["record_id", "service", "level", "message", "host", "trace_id", "attributes"])
def test_nulls_where_none_may_be_are_refused(name: str) -> None:
    nullable = pa.schema([field.with_nullable(True) for field in EVENT_SCHEMA])
    events = pa.RecordBatch.from_pylist([EVENT, EVENT | {name: None}], schema=nullable)
    stream = stream_of(pa.RecordBatch.from_arrays(events.columns, schema=EVENT_SCHEMA))
    refused(columns_of(stream, 2), f"{name}: expected no nulls, got 1")


def test_nulls_among_the_values_of_attributes_are_refused() -> None:
    attributes: Any = pa.array([[("a", "b"), ("c", None)]], pa.map_(pa.string(), pa.string()))
    kind: Any = EVENT_SCHEMA.field("attributes").type
    entries = pa.StructArray.from_arrays([attributes.keys, attributes.items], fields=[kind.key_field, kind.item_field])
    values: Any = pa.Array.from_buffers(kind, 1, attributes.buffers()[:2], children=[entries])
    events = batch_of(EVENT)
    stream = stream_of(pa.RecordBatch.from_arrays([*events.columns[:9], values], schema=EVENT_SCHEMA))
    refused(columns_of(stream), "attributes: expected no nulls, got 1")


@pytest.mark.parametrize("node", range(13))
@pytest.mark.parametrize("length", [-1, 1, 3, 2**31, 2**62])
def test_lengths_that_are_not_those_of_the_batch_are_refused(node: int, length: int) -> None:
    refused(_described(node, length=length), "expected")


def test_another_number_of_nulls_than_is_said_is_refused() -> None:
    stream = bytearray(stream_of(batch_of(A_PAIR[0] | {"status_code": None}, A_PAIR[1])))
    at = _nodes_at(bytes(stream), {5: 1})
    struct.pack_into("<2q", stream, at + 16 * 5, 2, 2)
    refused(columns_of(bytes(stream), 2), "expected an Arrow IPC stream")


@pytest.mark.parametrize("text", ["payment-service", "Database connection failed", "pod-1", "region", "eu-west"])
def test_strings_that_are_not_utf_8_are_refused(text: str) -> None:
    stream = stream_of(batch_of(EVENT))
    broken = stream.replace(text.encode(), b"\xff" + text.encode()[1:])
    assert broken != stream
    refused(columns_of(broken), "expected an Arrow IPC stream")


@pytest.mark.parametrize("offsets", [(0, 53, 52), (0, -1, 52), (-1, 26, 52), (0, 26, 2**30), (0, 2**31 - 1, 52)])
@pytest.mark.parametrize("first", [(0, 26, 52), (0, 1, 2)])
def test_offsets_that_point_outside_are_refused(first: tuple[int, int, int], offsets: tuple[int, int, int]) -> None:
    stream = stream_of(batch_of(*A_PAIR))
    broken = stream.replace(struct.pack("<3i", *first), struct.pack("<3i", *offsets))
    assert broken != stream
    refused(columns_of(broken, 2), "expected an Arrow IPC stream")


@settings(max_examples=300)
@given(st.data())
def test_whatever_is_changed_is_refused_or_can_be_read_whole(data: st.DataObject) -> None:
    stream = bytearray(stream_of(batch_of(*A_PAIR)))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(stream) - 1))
        change = data.draw(
            st.sampled_from([b"", b"\0", b"\xff", b"\x80", b"\0" * 8, b"\xff" * 8]) | st.binary(max_size=9)
        )
        stream[at : at + data.draw(st.sampled_from([len(change), 0, 1, 8]))] = change
    try:
        events = decode_event_columns(columns_of(bytes(stream), 2))
    except UnreadableColumnsError:
        return
    assert events.schema == EVENT_SCHEMA
    for name, column in zip(EVENT_SCHEMA.names, without_time_zone(events), strict=True):
        assert len(column) == 2
        assert EVENT_SCHEMA.field(name).nullable or None not in column


def _described(node: int, *, length: int | None = None, null_count: int = 0) -> EventColumns:
    """Return two events, with one attribute each, of which another array is described."""
    stream = bytearray(stream_of(batch_of(*A_PAIR)))
    at = _nodes_at(bytes(stream)) + 16 * node
    struct.pack_into("<2q", stream, at, 2 if length is None else length, null_count)
    return columns_of(bytes(stream), 2)
