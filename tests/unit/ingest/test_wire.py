"""Requests as the bytes of their events, as columns, and as records."""

import contextlib

import numpy as np
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given, settings
from hypothesis import strategies as st

from services.ingest.adapters.wire import ProtobufWire
from services.ingest.core.batching import framed_sizes, record_cuts
from services.ingest.core.columns import sizes_of
from services.ingest.ports import UnreadableRequestError
from tests.fakes.log_events import an_event, any_events
from tocsin.logs.v1.log_event_pb2 import LogBatch, LogEvent
from tocsin.logs.v1.log_ingest_service_pb2 import IngestRequest

WIRE = ProtobufWire()


@settings(max_examples=40)
@given(st.lists(any_events, max_size=5), st.integers(min_value=1, max_value=3000))
def test_batches_hold_the_bytes_of_the_events(events: list[LogEvent], most: int) -> None:
    request = LogBatch(events=events).SerializeToString()
    frames = WIRE.split_events(request)
    cuts = record_cuts(framed_sizes(sizes_of(frames)), most)
    assert b"".join(WIRE.write_batches(frames, cuts)) == request
    assert framed_sizes(sizes_of(frames)).sum() == len(request)


@settings(max_examples=40)
@given(st.lists(st.tuples(any_events, st.booleans()), max_size=5))
def test_kept_events_are_written_in_order(given_events: list[tuple[LogEvent, bool]]) -> None:
    events, keep = [event for event, _ in given_events], [kept for _, kept in given_events]
    frames = WIRE.split_events(LogBatch(events=events).SerializeToString())
    kept = frames.filter(np.array(keep, dtype=np.bool_))
    written = b"".join(WIRE.write_batches(kept, record_cuts(framed_sizes(sizes_of(kept)), 1000)))
    expected = [event.SerializeToString(deterministic=True) for event, kept in given_events if kept]
    assert [event.SerializeToString(deterministic=True) for event in LogBatch.FromString(written).events] == expected


@pytest.mark.parametrize(
    "request_bytes",
    [
        pytest.param(b"\x0a\xff", id="cut off"),
        pytest.param(b"\x0a\x04\x1a\x02\xff\xfe", id="text that is not UTF-8"),
        pytest.param(b"\x0a\x06\x52\x04\x0a\x02\xff\xfe", id="a key that is not UTF-8"),
        pytest.param(b"\x0a\x01\x0b", id="a group that never ends, which ptars takes"),
        pytest.param(b"\x00\x00", id="field number 0"),
    ],
)
def test_bytes_that_any_reader_refuses_are_refused(request_bytes: bytes) -> None:
    with pytest.raises(UnreadableRequestError):
        WIRE.read_columns(request_bytes)
    with pytest.raises(UnreadableRequestError):
        WIRE.read_single(request_bytes)


def test_frames_of_bytes_that_cannot_be_cut_are_refused() -> None:
    with pytest.raises(UnreadableRequestError):
        WIRE.split_events(b"\x0a\xff")


def test_one_event_becomes_a_batch_of_one() -> None:
    batch = WIRE.read_single(IngestRequest(event=an_event()).SerializeToString())
    assert batch is not None
    assert LogBatch.FromString(batch) == LogBatch(events=[an_event()])


def test_an_event_in_several_pieces_is_one_event() -> None:
    pieces = [LogEvent(service="a", event_time=Timestamp(seconds=5)), LogEvent(event_time=Timestamp(nanos=7), host="h")]
    batch = WIRE.read_single(b"".join(IngestRequest(event=piece).SerializeToString() for piece in pieces))
    assert batch is not None
    whole = LogEvent(service="a", event_time=Timestamp(seconds=5, nanos=7), host="h")
    assert LogBatch.FromString(batch) == LogBatch(events=[whole])
    assert len(WIRE.split_events(batch)) == 1


def test_a_request_without_an_event_has_none() -> None:
    assert WIRE.read_single(b"") is None


def test_columns_are_the_fields_of_the_proto() -> None:
    columns = WIRE.read_columns(LogBatch(events=[an_event()]).SerializeToString())
    assert list(columns) == list(LogEvent.DESCRIPTOR.fields_by_name)


mutations = st.lists(
    st.tuples(st.floats(0, 1, exclude_max=True), st.sampled_from([0, 1, 2, 3]), st.integers(0, 255)),
    min_size=1,
    max_size=4,
)


@settings(max_examples=150)
@given(st.lists(any_events, min_size=1, max_size=2), mutations)
def test_every_reader_can_read_what_is_read_here(events: list[LogEvent], changes: list[tuple[float, int, int]]) -> None:
    request = bytearray(LogBatch(events=events).SerializeToString())
    for place, removed, inserted in changes:
        at = int(place * len(request))
        request[at : at + removed] = bytes([inserted])
    with contextlib.suppress(UnreadableRequestError):
        frames, columns = WIRE.split_events(bytes(request)), WIRE.read_columns(bytes(request))
        read = LogBatch.FromString(bytes(request))
        assert len(frames) == len(read.events)
        assert columns["service"].to_pylist() == [event.service for event in read.events]
