"""IngestBatch: which events are accepted, which are refused, and what the response says."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import timedelta

import grpc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.chassis.failures import InvalidRequest, MalformedMessage, Overloaded, RequestTooLarge, StreamUnavailable
from tests.fakes.ingest import WIRE, Bench, a_bench
from tests.fakes.log_events import an_event, any_events, events_in, record_of
from tocsin.logs.v1.log_event_pb2 import LogBatch, LogEvent
from tocsin.logs.v1.log_ingest_service_pb2 import IngestBatchRequest, RefusedEvent

GOOD = an_event()
BAD = an_event(record_id="r7", service="", message="", status_code=1000)


def stream_size(record: bytes) -> int:
    return LogBatch.FromString(record).columns.stream_size


def plain(events: Sequence[LogEvent]) -> list[bytes]:
    return [event.SerializeToString(deterministic=True) for event in events]


async def test_an_allowed_batch_is_written_as_one_record_of_columns(bench: Bench) -> None:
    await bench.ingest_batch([GOOD, GOOD])
    assert [batch for batch, _ in bench.producer.records] == [record_of(GOOD, GOOD)]


async def test_a_batch_is_accepted_in_part(bench: Bench) -> None:
    response = await bench.ingest_batch([GOOD, BAD, GOOD])
    assert (response.accepted_count, response.refused_count) == (2, 1)
    assert list(response.refused) == [
        RefusedEvent(index=1, record_id="r7", field="service", reason="expected 1 to 256 characters, found nothing")
    ]
    assert list(bench.producer.events) == [GOOD, GOOD]


async def test_when_all_events_are_refused_each_wrong_field_is_named(bench: Bench) -> None:
    with pytest.raises(InvalidRequest) as refused:
        await bench.ingest_batch([BAD, an_event(level=0)])
    assert [violation.field for violation in refused.value.violations] == [
        "events[0].service",
        "events[0].message",
        "events[1].level",
    ]
    assert bench.producer.records == []


async def test_the_list_of_violations_is_bounded(bench: Bench) -> None:
    with pytest.raises(InvalidRequest, match="none of the 100 events") as refused:
        await bench.ingest_batch([BAD] * 100)
    assert len(refused.value.violations) == 25


async def test_an_event_larger_than_a_record_is_named_as_a_whole(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench(max_record_bytes=1_000)
    with pytest.raises(InvalidRequest) as refused:
        await bench.ingest_batch([an_event(attributes={"a": "x" * 1_000})])
    assert [violation.field for violation in refused.value.violations] == ["events[0]"]


async def test_the_record_id_of_a_refused_event_is_cut(bench: Bench) -> None:
    response = await bench.ingest_batch([GOOD, an_event(record_id="é" * 500, service="")])
    assert response.refused[0].record_id == "é" * 128


async def test_an_empty_batch_is_refused(bench: Bench) -> None:
    with pytest.raises(InvalidRequest) as refused:
        await bench.ingest_batch([])
    assert refused.value.violations[0].field == "events"


async def test_too_many_events_are_refused_before_they_are_read(bench: Bench) -> None:
    with pytest.raises(RequestTooLarge) as refused:
        await bench.rpc.ingest_batch(b"\x0a\x00" * 101, None)
    assert refused.value.code is grpc.StatusCode.INVALID_ARGUMENT
    assert "got 101" in refused.value.violations[0].description


async def test_too_many_bytes_are_refused(make_bench: Callable[..., Bench]) -> None:
    with pytest.raises(RequestTooLarge, match="at most 10 bytes"):
        await make_bench(max_request_bytes=10).ingest_batch([GOOD])


@pytest.mark.parametrize("request_bytes", [b"\x0a\xff", b"\x0a\x04\x1a\x02\xff\xfe", b"\x0a\x01\x0b"])
async def test_bytes_that_are_not_a_batch_are_malformed(bench: Bench, request_bytes: bytes) -> None:
    with pytest.raises(MalformedMessage):
        await bench.rpc.ingest_batch(request_bytes, None)
    assert bench.in_flight.reserved == 0


async def test_unknown_fields_of_the_request_do_not_reach_the_topic(bench: Bench) -> None:
    strange = an_event()
    strange.MergeFromString(b"\xfa\x01\x02hi")  # field 31, which the contract does not know
    request = IngestBatchRequest(events=[strange, GOOD]).SerializeToString()
    await bench.rpc.ingest_batch(b"\x12\x02hi" + request, None)
    assert [batch for batch, _ in bench.producer.records] == [record_of(GOOD, GOOD)]


@settings(max_examples=50)
@given(st.lists(any_events, min_size=1, max_size=6))
def test_each_event_is_accepted_or_refused_and_accepted_ones_are_written_in_order(events: list[LogEvent]) -> None:
    async def scenario() -> None:
        bench = a_bench(max_record_bytes=6_000)
        try:
            response = await bench.ingest_batch(events)
        except InvalidRequest:
            assert bench.producer.records == []
            return
        refused = {each.index for each in response.refused}
        assert response.accepted_count + response.refused_count == len(events)
        assert len(refused) == response.refused_count
        adjusted = [index for value in response.adjusted.values for index in value.indexes]
        kept = [event for index, event in enumerate(events) if index not in refused]
        assert [event.message for event in bench.producer.events] == [event.message for event in kept]
        as_they_came = [event for index, event in enumerate(events) if index not in {*refused, *adjusted}]
        assert [event for event in plain(as_they_came) if event not in plain(bench.producer.events)] == []
        assert response.adjusted.event_count == len(set(adjusted)) == len(kept) - len(as_they_came)
        assert all(stream_size(batch) <= 10_000 for batch, _ in bench.producer.records)
        await asyncio.sleep(0)  # a callback releases a record's bytes, and may run just after the response
        assert bench.in_flight.reserved == 0

    asyncio.run(scenario())


async def test_a_large_request_is_split_into_records(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench(max_record_bytes=300)
    response = await bench.ingest_batch([an_event(record_id=str(index)) for index in range(20)])
    assert response.accepted_count == 20
    assert len(bench.producer.records) > 3
    assert all(len(events_in(batch)) <= 300 // 79 for batch, _ in bench.producer.records)
    assert [event.record_id for event in bench.producer.events] == [str(index) for index in range(20)]


async def test_ok_waits_for_the_topic(bench: Bench) -> None:
    bench.producer.holds = True
    call = asyncio.create_task(bench.ingest_batch([GOOD]))
    await asyncio.sleep(0)
    assert not call.done()
    assert bench.in_flight.reserved > 0
    bench.producer.confirm()
    assert (await call).accepted_count == 1
    assert bench.in_flight.reserved == 0


async def test_a_request_of_which_a_part_failed_has_failed(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench(max_record_bytes=100)
    bench.producer.holds = True
    call = asyncio.create_task(bench.ingest_batch([GOOD] * 3))
    await asyncio.sleep(0)
    written, *others = bench.producer.waiting
    bench.producer.fail(None, *(StreamUnavailable("away") for _ in others))
    with pytest.raises(StreamUnavailable):
        await call
    assert written[1] == bench.producer.records[0][0]
    assert bench.in_flight.reserved == 0


async def test_a_request_without_a_reservation_is_refused(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench(max_inflight_bytes=9_000, linger=timedelta(0))
    bench.producer.holds = True
    first, second = (asyncio.create_task(bench.ingest_batch([GOOD])) for _ in range(2))
    await asyncio.sleep(0)
    with pytest.raises(Overloaded) as refused:
        await bench.ingest_batch([GOOD])
    assert refused.value.retry_after is not None
    bench.producer.confirm()
    await asyncio.gather(first, second)
    bench.producer.holds = False
    assert (await bench.ingest_batch([GOOD])).accepted_count == 1


async def test_the_reservation_of_a_caller_that_gave_up_is_kept_until_the_write_ends(bench: Bench) -> None:
    bench.producer.holds = True
    call = asyncio.create_task(bench.ingest_batch([GOOD]))
    await asyncio.sleep(0)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert bench.in_flight.reserved > 0
    bench.producer.fail(StreamUnavailable("away"))
    await asyncio.sleep(0)
    assert bench.in_flight.reserved == 0


async def test_a_full_queue_fails_the_call(bench: Bench) -> None:
    bench.producer.refuses_with = Overloaded("full")
    with pytest.raises(Overloaded):
        await bench.ingest_batch([GOOD])
    assert bench.in_flight.reserved == 0


async def test_the_record_is_a_log_batch_of_columns_alone(bench: Bench) -> None:
    await bench.ingest_batch([GOOD, BAD, GOOD])
    record = LogBatch.FromString(bench.producer.records[0][0])
    assert (len(record.events), record.columns.event_count) == (0, 2)


async def test_the_events_of_a_large_request_are_counted_before_they_are_read(
    make_bench: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = make_bench(max_batch_events=10_000)
    read, sizes = WIRE.read_requests, list[int]()

    def noted(requests: Sequence[bytes]) -> object:
        sizes.extend(map(len, requests))
        return read(requests)

    monkeypatch.setattr(WIRE, "read_requests", noted)
    with pytest.raises(RequestTooLarge):
        await bench.rpc.ingest_batch(b"\x0a\x00" * 300_000, None)
    assert sizes == []
    with pytest.raises(RequestTooLarge):
        await bench.rpc.ingest_batch(b"\x0a\x00" * 10_001, None)
    assert sizes == [20_002]
