"""Ingest: one event a call, and several of them in a record."""

import asyncio
from collections.abc import Callable
from datetime import timedelta

import pytest

from services.chassis.failures import InvalidRequest, MalformedMessage, Overloaded, StreamUnavailable
from services.ingest.ports import UnreadableRequestError
from tests.fakes.ingest import WIRE, Bench
from tests.fakes.log_events import an_event
from tocsin.logs.v1.log_event_pb2 import LogEvent
from tocsin.logs.v1.log_ingest_service_pb2 import IngestRequest

LONG = timedelta(hours=1)


async def test_an_event_is_accepted(bench: Bench) -> None:
    assert (await bench.ingest(an_event())).accepted_count == 1
    assert list(bench.producer.events) == [an_event()]
    assert bench.in_flight.reserved == 0


async def test_events_go_together_and_in_order(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench(linger=LONG, max_linger_events=3)
    await asyncio.gather(*(bench.ingest(an_event(record_id=name)) for name in "abc"))
    assert len(bench.producer.records) == 1
    assert [event.record_id for event in bench.producer.events] == ["a", "b", "c"]


async def test_a_full_record_is_flushed_before_the_next_event_is_added(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench(linger=timedelta(milliseconds=1), max_linger_events=100, max_record_bytes=300)
    await asyncio.gather(*(bench.ingest(an_event(record_id=name, message="m" * 64)) for name in "abcde"))
    assert len(bench.producer.records) == 3
    assert [event.record_id for event in bench.producer.events] == list("abcde")


async def test_events_that_are_larger_as_columns_become_several_records(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench(linger=LONG, max_linger_events=5, max_record_bytes=200)
    bench.producer.holds = True
    calls = [asyncio.create_task(bench.ingest(an_event(record_id=name))) for name in "abcde"]
    await asyncio.sleep(0)
    assert len(bench.producer.waiting) == 3
    bench.producer.fail(None, StreamUnavailable("away"), None)
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert [isinstance(outcome, StreamUnavailable) for outcome in outcomes] == [False, False, True, True, False]
    assert [event.record_id for event in bench.producer.events] == list("abe")
    assert bench.in_flight.reserved == 0


async def test_each_caller_gets_the_outcome_of_its_own_event(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench(linger=LONG, max_linger_events=3)
    bad = an_event(service="", level=0)
    first, second, third = await asyncio.gather(
        bench.ingest(an_event()), bench.ingest(bad), bench.ingest(an_event()), return_exceptions=True
    )
    assert not isinstance(first, BaseException)
    assert not isinstance(third, BaseException)
    assert isinstance(second, InvalidRequest)
    assert [violation.field for violation in second.violations] == ["service", "level"]
    assert second.violations[0].description == "expected 1 to 256 characters, found nothing"
    assert len(bench.producer.events) == 2
    assert bench.in_flight.reserved == 0


async def test_when_all_are_refused_nothing_is_written(bench: Bench) -> None:
    with pytest.raises(InvalidRequest):
        await bench.ingest(an_event(message=""))
    assert bench.producer.records == []


async def test_a_request_without_an_event_is_refused(bench: Bench) -> None:
    with pytest.raises(InvalidRequest) as refused:
        await bench.rpc.ingest(b"", None)
    assert [violation.field for violation in refused.value.violations] == ["event"]


async def test_malformed_bytes_are_refused_at_once(bench: Bench) -> None:
    with pytest.raises(MalformedMessage):
        await bench.rpc.ingest(b"\x0a\x04\x1a\x02\xff\xfe", None)


async def test_an_event_in_several_pieces_counts_once(bench: Bench) -> None:
    pieces = [LogEvent(service="a", level=LogEvent.INFO), LogEvent(message="m")]
    await bench.rpc.ingest(b"".join(IngestRequest(event=piece).SerializeToString() for piece in pieces), None)
    assert list(bench.producer.events) == [LogEvent(service="a", level=LogEvent.INFO, message="m")]


async def test_a_failed_write_fails_every_caller(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench(linger=LONG, max_linger_events=2)
    bench.producer.holds = True
    calls = [asyncio.create_task(bench.ingest(an_event())) for _ in range(2)]
    await asyncio.sleep(0)
    bench.producer.fail(StreamUnavailable("away"))
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(outcome, StreamUnavailable) for outcome in outcomes)
    assert bench.in_flight.reserved == 0


async def test_a_full_queue_fails_every_caller(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench(linger=LONG, max_linger_events=2)
    bench.producer.refuses_with = Overloaded("full")
    outcomes = await asyncio.gather(*(bench.ingest(an_event()) for _ in range(2)), return_exceptions=True)
    assert all(isinstance(outcome, Overloaded) for outcome in outcomes)
    assert bench.in_flight.reserved == 0


async def test_the_event_of_a_caller_that_gave_up_is_left_out(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench(linger=LONG, max_linger_events=2)
    gone = asyncio.create_task(bench.ingest(an_event(record_id="gone")))
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.gather(gone, return_exceptions=True)
    await bench.ingest(an_event(record_id="here"))
    assert [event.record_id for event in bench.producer.events] == ["here"]
    assert bench.in_flight.reserved == 0


async def test_a_caller_that_gives_up_during_the_write_keeps_its_reservation_until_the_end(bench: Bench) -> None:
    bench.producer.holds = True
    calls = [asyncio.create_task(bench.ingest(an_event())) for _ in range(3)]
    await asyncio.sleep(0)
    calls[0].cancel()
    await asyncio.gather(calls[0], return_exceptions=True)
    before = bench.in_flight.reserved
    bench.producer.confirm()
    await asyncio.gather(*calls[1:])
    assert before > 0
    assert bench.in_flight.reserved == 0


async def test_one_callers_unreadable_event_is_not_the_others_failure(
    make_bench: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = make_bench(linger=LONG, max_linger_events=3)
    read = WIRE.read_events

    def picky(request: bytes) -> object:
        if b"poison" in request:
            raise UnreadableRequestError("no")
        return read(request)

    monkeypatch.setattr(WIRE, "read_events", picky)
    outcomes = await asyncio.gather(
        *(bench.ingest(an_event(message=text)) for text in ("fine", "poison", "good")), return_exceptions=True
    )
    assert isinstance(outcomes[1], MalformedMessage)
    assert [event.message for event in bench.producer.events] == ["fine", "good"]
