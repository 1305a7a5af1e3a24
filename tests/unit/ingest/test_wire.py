"""Requests are read as every reader reads them, and what is written can be read by all."""

import struct
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pyarrow as pa
import pytest
from google.protobuf import message_factory
from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError, Message
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given, settings
from hypothesis import strategies as st

from services.contract.event_columns import EVENT_SCHEMA, decode_event_columns
from services.ingest.adapters.wire import ProtobufWire
from services.ingest.ports import UnreadableRequestError
from tests.fakes.log_events import an_event, any_events
from tocsin.logs.v1.log_event_pb2 import EventColumns, LogBatch, LogEvent
from tocsin.logs.v1.log_ingest_service_pb2 import IngestRequest

WIRE = ProtobufWire()
SECOND_NS = 1_000_000_000
Row = tuple[Any, ...]


def request_of(*events: LogEvent) -> bytes:
    return LogBatch(events=events).SerializeToString()


@pytest.mark.parametrize(
    "request_bytes",
    [
        pytest.param(b"\x0a\xff", id="cut off"),
        pytest.param(b"\x0a\x04\x1a\x02\xff\xfe", id="text that is not UTF-8"),
        pytest.param(b"\x0a\x06\x52\x04\x0a\x02\xff\xfe", id="a key that is not UTF-8"),
        pytest.param(b"\x00\x00", id="field number 0"),
        pytest.param(b"\x0a\x0b\x12" + b"\xf6" + b"\xff" * 8 + b"\x01", id="a length at which ptars panics"),
    ],
)
def test_bytes_that_cannot_be_read_are_refused(request_bytes: bytes) -> None:
    with pytest.raises(UnreadableRequestError):
        WIRE.read_events(request_bytes)
    with pytest.raises(UnreadableRequestError):
        WIRE.read_single(request_bytes)


def shown(events: pa.RecordBatch) -> str:
    """Return the rows as text, in which a number that is none equals itself."""
    place = events.schema.get_field_index("event_time")
    return str(events.set_column(place, "event_time", events.column(place).cast(pa.int64())).to_pylist())


@settings(max_examples=20)
@given(st.lists(st.lists(any_events, max_size=3), min_size=1, max_size=4))
def test_several_requests_are_read_as_each_alone(requests: list[list[LogEvent]]) -> None:
    events, offsets = WIRE.read_requests([request_of(*each) for each in requests])
    parts = [events.slice(begin, end - begin) for begin, end in pairwise(offsets.tolist())]
    assert [shown(each) for each in parts] == [shown(WIRE.read_events(request_of(*each))) for each in requests]
    assert events.num_rows == sum(map(len, requests))


def test_one_unreadable_request_makes_all_unreadable() -> None:
    with pytest.raises(UnreadableRequestError):
        WIRE.read_requests([request_of(an_event()), b"\x0a\xff"])


def test_events_of_bytes_that_cannot_be_cut_are_not_counted() -> None:
    with pytest.raises(UnreadableRequestError):
        WIRE.count_events(b"\x0a\xff")


@settings(max_examples=20)
@given(st.lists(any_events, max_size=5))
def test_events_can_be_counted_alone(events: list[LogEvent]) -> None:
    assert WIRE.count_events(request_of(*events)) == len(events)


def test_one_event_becomes_a_batch_of_one() -> None:
    assert WIRE.read_single(IngestRequest(event=an_event()).SerializeToString()) == request_of(an_event())


def test_an_event_in_several_pieces_is_one_event() -> None:
    pieces = [LogEvent(service="a", event_time=Timestamp(seconds=5)), LogEvent(event_time=Timestamp(nanos=7), host="h")]
    batch = WIRE.read_single(b"".join(IngestRequest(event=piece).SerializeToString() for piece in pieces))
    whole = LogEvent(service="a", event_time=Timestamp(seconds=5, nanos=7), host="h")
    assert batch == request_of(whole)
    assert WIRE.count_events(batch) == 1


def test_a_request_without_an_event_has_none() -> None:
    assert WIRE.read_single(b"") is None


@pytest.mark.parametrize("compression", [EventColumns.LZ4, EventColumns.ZSTD])
def test_a_record_is_compressed_as_chosen(compression: EventColumns.Compression.ValueType) -> None:
    record = ProtobufWire(compression).write_record(WIRE.read_events(request_of(an_event())))
    assert LogBatch.FromString(record).columns.compression == compression


@pytest.mark.parametrize(
    ("time", "nanoseconds"),
    [
        pytest.param(None, None, id="absent"),
        pytest.param(Timestamp(), 0, id="the epoch"),
        pytest.param(Timestamp(seconds=9_223_372_035, nanos=999_999_999), 9_223_372_035_999_999_999, id="the last"),
        pytest.param(Timestamp(seconds=9_223_372_036), -1, id="later than can be said"),
        pytest.param(Timestamp(seconds=2**62), -1, id="much later"),
        pytest.param(Timestamp(seconds=-1, nanos=999_999_999), -1, id="before the epoch"),
        pytest.param(Timestamp(nanos=-1), -1, id="negative nanoseconds"),
        pytest.param(Timestamp(nanos=SECOND_NS), -1, id="a second of nanoseconds"),
    ],
)
def test_a_time_is_read_as_nanoseconds_and_no_time_as_one_that_is_refused(
    time: Timestamp | None, nanoseconds: int | None
) -> None:
    events = WIRE.read_events(request_of(an_event(event_time=time)))
    assert events.column("event_time").cast(pa.int64()).to_pylist() == [nanoseconds]


mutations = st.lists(
    st.tuples(
        st.floats(0, 1, exclude_max=True),
        st.sampled_from([0, 1, 2, 3]),
        st.binary(max_size=1) | st.sampled_from([b"\x0b", b"\x0c", b"\x52\x00", b"\x12\x01x", b"\xff" * 9 + b"\x01"]),
    ),
    max_size=4,
)


def _mutated(events: list[LogEvent], changes: list[tuple[float, int, bytes]]) -> bytes:
    """Return a request in which events are changed; their lengths are right again, so that most can be read."""
    request = bytearray()
    for event in events:
        data = bytearray(event.SerializeToString())
        for place, removed, inserted in changes:
            at = int(place * (len(data) + 1))
            data[at : at + removed] = inserted
        request += b"\x0a" + _varint(len(data)) + data
    return bytes(request)


def _varint(number: int) -> bytes:
    out = b""
    while number > 127:
        out, number = out + bytes([number & 127 | 128]), number >> 7
    return out + bytes([number])


@settings(max_examples=400)
@given(st.lists(any_events, min_size=1, max_size=2), mutations)
def test_what_one_reader_takes_every_reader_takes(
    events: list[LogEvent], changes: list[tuple[float, int, bytes]]
) -> None:
    request = _mutated(events, changes)
    try:
        read = WIRE.read_events(request)
    except UnreadableRequestError:
        return
    written = decode_event_columns(LogBatch.FromString(WIRE.write_record(read)).columns)
    assert written.schema == EVENT_SCHEMA
    assert list(_rows(written)) == list(_rows(read))
    try:
        parsed = PLAIN_BATCH.FromString(request)
    except DecodeError:
        return
    assert list(_rows(written)) == [_row(event) for event in parsed.events]


@settings(max_examples=40)
@given(st.lists(any_events, min_size=1, max_size=2), st.floats(0, 1, exclude_max=True), st.binary(max_size=3))
def test_a_request_that_is_changed_anywhere_is_refused_or_read_by_all(
    events: list[LogEvent], place: float, inserted: bytes
) -> None:
    request = bytearray(request_of(*events))
    at = int(place * len(request))
    request[at : at + 1] = inserted
    try:
        read = WIRE.read_events(bytes(request))
    except UnreadableRequestError:
        return
    assert list(_rows(decode_event_columns(LogBatch.FromString(WIRE.write_record(read)).columns))) == list(_rows(read))


def _rows(events: pa.RecordBatch) -> Iterator[Row]:
    """Yield the events; numbers with a fraction as bytes, which compare as they are."""
    plain = events.set_column(1, "event_time", events.column("event_time").cast(pa.int64()))
    for row in plain.to_pylist():
        yield (
            *list(row.values())[:6],
            _bytes(row["response_time"]),
            row["host"],
            row["trace_id"],
            dict(row["attributes"]),
        )


def _row(event: Any) -> Row:
    """Return an event as protobuf's own reader has it."""
    time, nanoseconds = event.event_time, None
    if event.HasField("event_time"):
        is_time = 0 <= time.seconds <= 9_223_372_035 and 0 <= time.nanos < SECOND_NS
        nanoseconds = time.seconds * SECOND_NS + time.nanos if is_time else -1
    return (
        event.record_id,
        nanoseconds,
        event.service,
        event.level,
        event.message,
        event.status_code if event.HasField("status_code") else None,
        _bytes(event.response_time if event.HasField("response_time") else None),
        event.host,
        event.trace_id,
        {entry.key: entry.value for entry in event.attributes},
    )


def _bytes(number: float | None) -> bytes | None:
    return None if number is None else struct.pack("d", number)


def _plain_batch() -> type[Message]:
    """Return the request's message with the attributes as a list of entries.

    Of a map, protobuf's reader for Python drops entries with fields that it does not know; other readers keep them.
    """
    event = DescriptorProto()
    LogEvent.DESCRIPTOR.CopyToProto(event)
    for nested in event.nested_type:
        nested.ClearField("options")
    for field in event.field:
        field.ClearField("options")
        if field.type_name:
            field.type_name = field.type_name.replace(".tocsin.logs.v1.", ".plain.")
    file = FileDescriptorProto(name="plain.proto", package="plain", syntax="proto3")
    file.dependency.append(Timestamp.DESCRIPTOR.file.name)
    file.message_type.append(event)
    kind = FieldDescriptorProto
    file.message_type.add(name="Batch").field.add(
        name="events", number=1, type=kind.TYPE_MESSAGE, label=kind.LABEL_REPEATED, type_name=".plain.LogEvent"
    )
    pool = DescriptorPool()
    pool.AddSerializedFile(Timestamp.DESCRIPTOR.file.serialized_pb)
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("plain.Batch"))


PLAIN_BATCH: Any = _plain_batch()
