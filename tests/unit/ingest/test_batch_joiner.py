"""IngestBatch: calls that come while a record is on its way share the next one, and each keeps its own response."""

import asyncio
from collections.abc import Callable
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from services.chassis import telemetry
from services.chassis.failures import InvalidRequest, MalformedMessage, Overloaded, StreamUnavailable
from tests.fakes.ingest import WIRE, Bench, a_bench
from tests.fakes.log_events import an_event, any_events, events_in, record_of
from tocsin.logs.v1.log_event_pb2 import LogEvent
from tocsin.logs.v1.log_ingest_service_pb2 import IngestBatchResponse

LONG = timedelta(hours=1)
Batch = list[LogEvent]
Call = asyncio.Task[IngestBatchResponse]


@pytest.fixture
def holding(make_bench: Callable[..., Bench]) -> Bench:
    """Ingest whose records are on their way until they are confirmed."""
    bench = make_bench(linger=LONG)
    bench.producer.holds = True
    return bench


async def begun(bench: Bench, *batches: Batch) -> list[Call]:
    calls = [asyncio.create_task(bench.ingest_batch(batch)) for batch in batches]
    await asyncio.sleep(0)
    return calls


async def settled() -> None:
    """Let the event loop do what a confirmed record brings about."""
    for _ in range(5):
        await asyncio.sleep(0)


def named(*names: str) -> Batch:
    return [an_event(record_id=name) for name in names]


async def test_calls_that_come_while_a_record_is_on_its_way_share_the_next(holding: Bench) -> None:
    calls = await begun(holding, named("a"), named("b", "c"), named("d"))
    assert len(holding.producer.waiting) == 1
    holding.producer.confirm()
    await settled()
    holding.producer.confirm()
    assert [(await call).accepted_count for call in calls] == [1, 2, 1]
    assert [value for value, _ in holding.producer.records] == [
        record_of(*named("a")),
        record_of(*named("b", "c", "d")),
    ]
    assert holding.in_flight.reserved == 0


async def test_a_call_does_not_wait_longer_than_the_linger(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench(linger=timedelta(milliseconds=1))
    bench.producer.holds = True
    first, second = await begun(bench, named("a"), named("b"))
    async with asyncio.timeout(10):
        while len(bench.producer.waiting) < 2:  # noqa: ASYNC110  (the timer is the event loop's)
            await asyncio.sleep(0.001)
    bench.producer.confirm()
    await asyncio.gather(first, second)


async def test_a_call_that_would_make_a_record_too_large_begins_the_next(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench(linger=LONG, max_record_bytes=250)
    bench.producer.holds = True
    calls = await begun(bench, *([an_event(record_id=name, message="m" * 64)] for name in "abcd"))
    assert [[event.record_id for event in events_in(value)] for _, value, _ in bench.producer.waiting] == [
        ["a"],
        ["b"],
        ["c"],
    ]
    bench.producer.holds = False
    bench.producer.confirm()
    await asyncio.gather(*calls)
    assert [event.record_id for event in bench.producer.events] == list("abcd")


async def test_each_call_gets_its_own_response(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench(linger=LONG)
    bench.producer.holds = True
    good, refused, adjusted = named("a"), [*named("b"), an_event(message="")], [an_event(attributes={"": "v"})]
    calls = await begun(bench, named("first"), good, refused, adjusted, [an_event(service="")], [])
    bench.producer.holds = False
    bench.producer.confirm()
    first, of_good, of_refused, of_adjusted, all_refused, empty = await asyncio.gather(*calls, return_exceptions=True)
    assert first == of_good == IngestBatchResponse(accepted_count=1)
    assert isinstance(of_refused, IngestBatchResponse)
    assert [each.index for each in of_refused.refused] == [1]
    assert isinstance(of_adjusted, IngestBatchResponse)
    assert of_adjusted.adjusted.event_count == 1
    assert isinstance(all_refused, InvalidRequest)
    assert isinstance(empty, InvalidRequest)
    assert sorted(event.record_id for event in bench.producer.events) == ["", "a", "b", "first"]
    assert bench.in_flight.reserved == 0


async def test_a_failed_write_fails_every_call_of_the_record(holding: Bench) -> None:
    calls = await begun(holding, named("a"), named("b"), named("c"))
    holding.producer.confirm()
    await settled()
    holding.producer.fail(StreamUnavailable("away"))
    first, *others = await asyncio.gather(*calls, return_exceptions=True)
    assert not isinstance(first, BaseException)
    assert [str(each) for each in others] == ["away", "away"]
    assert holding.in_flight.reserved == 0


async def test_a_full_queue_fails_every_call_of_the_record(holding: Bench) -> None:
    calls = await begun(holding, named("a"), named("b"), named("c"))
    holding.producer.refuses_with = Overloaded("full")
    holding.producer.confirm()
    first, *others = await asyncio.gather(*calls, return_exceptions=True)
    assert not isinstance(first, BaseException)
    assert all(isinstance(each, Overloaded) for each in others)
    assert holding.in_flight.reserved == 0


async def test_one_callers_unreadable_request_is_not_the_others_failure(holding: Bench) -> None:
    calls = await begun(holding, named("a"), named("b"))
    broken = asyncio.create_task(holding.rpc.ingest_batch(b"\x0a\xff", None))
    await asyncio.sleep(0)
    holding.producer.holds = False
    holding.producer.confirm()
    *_, failure = await asyncio.gather(*calls, broken, return_exceptions=True)
    assert isinstance(failure, MalformedMessage)
    assert [event.record_id for event in holding.producer.events] == ["a", "b"]


async def test_a_failure_of_reading_is_the_callers(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(_requests: object) -> object:
        raise ZeroDivisionError

    monkeypatch.setattr(WIRE, "read_requests", crash)
    with pytest.raises(ZeroDivisionError):
        await bench.ingest_batch(named("a"))


async def test_the_events_of_a_caller_that_gave_up_are_left_out(holding: Bench) -> None:
    first, gone, here = await begun(holding, named("a"), named("gone"), named("here"))
    gone.cancel()
    await asyncio.gather(gone, return_exceptions=True)
    holding.producer.holds = False
    holding.producer.confirm()
    await asyncio.gather(first, here)
    assert [event.record_id for event in holding.producer.events] == ["a", "here"]
    assert holding.in_flight.reserved == 0


async def test_a_caller_that_gives_up_during_the_write_keeps_its_reservation_until_the_end(holding: Bench) -> None:
    (call,) = await begun(holding, named("a"))
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    assert holding.in_flight.reserved > 0
    holding.producer.confirm()
    await settled()
    assert holding.in_flight.reserved == 0


async def test_a_record_continues_the_trace_of_one_call_and_links_all(holding: Bench) -> None:
    exporter = InMemorySpanExporter()
    with telemetry.telemetry("ingest", "test", "", processors=[SimpleSpanProcessor(exporter)]):
        callers = [telemetry.tracer("test").start_span(name) for name in ("alone", "first", "second")]
        calls = []
        for caller in callers:
            with trace.use_span(caller):
                calls += await begun(holding, named("a"))
        holding.producer.confirm()
        await settled()
        holding.producer.confirm()
        await asyncio.gather(*calls)
        (flush,) = exporter.get_finished_spans()
    ids = [caller.get_span_context().span_id for caller in callers]
    assert [link.context.span_id for link in flush.links] == ids[1:]
    contexts = [
        trace.get_current_span(telemetry.context_of(headers)).get_span_context()
        for _, headers in holding.producer.records
    ]
    assert [context.span_id for context in contexts] == [ids[0], flush.context.span_id]
    assert contexts[1].trace_id == callers[1].get_span_context().trace_id


@settings(max_examples=20)
@given(st.lists(st.lists(any_events, max_size=3), min_size=1, max_size=4))
async def test_a_call_is_answered_as_if_it_came_alone(batches: list[Batch]) -> None:
    together, alone = a_bench(linger=LONG), a_bench(linger=timedelta(0))
    together.producer.holds = True
    (first, *calls) = await begun(together, named("first"), *batches)
    together.producer.holds = False
    together.producer.confirm()
    await first
    for call, batch in zip(calls, batches, strict=True):
        outcome, expected = await asyncio.gather(call, alone.ingest_batch(batch), return_exceptions=True)
        assert repr(outcome) == repr(expected)
    found, expected_events = (
        sorted(event.SerializeToString(deterministic=True) for event in bench.producer.events)
        for bench in (together, alone)
    )
    found.remove(named("first")[0].SerializeToString(deterministic=True))
    assert found == expected_events
