"""Consuming in batches: handled, committed, and again after a failure."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import get_current_span

from services.chassis import telemetry
from services.chassis.backoff import Backoff
from services.chassis.failures import StoreUnavailable
from services.chassis.health import Health
from services.chassis.kafka import (
    Consumer,
    Rebalance,
    Record,
    consuming,
    producer,
)
from services.chassis.settings import KafkaSettings
from tests.integration.chassis.handlers import FAST, RecordingHandler

pytestmark = pytest.mark.integration


async def test_what_is_sent_is_handled_with_key_and_headers(settings: KafkaSettings, eventually: Any) -> None:
    handler, health = RecordingHandler(), Health("test")
    reads, writes = health.dependency("kafka"), health.dependency("kafka")
    async with (
        producer(settings, "test", dependency=writes) as stream,
        consuming(settings, topic="alerts", group="g", handle=handler.handle, dependency=reads),
    ):
        await stream.send("alerts", b"one", b"key", headers=[("a", b"b")])
        await eventually(lambda: handler.records)
        await eventually(lambda: reads.is_up and writes.is_up)
    record = handler.records[0]
    assert (record.topic, record.key, record.value, list(record.headers)) == ("alerts", b"key", b"one", [("a", b"b")])
    assert record.timestamp_ms > 0


async def test_a_second_instance_goes_on_where_the_first_has_stopped(settings: KafkaSettings, eventually: Any) -> None:
    first, second = RecordingHandler(), RecordingHandler()
    async with producer(settings, "test") as stream:
        for handler, value in ((first, b"one"), (second, b"two")):
            await stream.send("alerts", value, b"key")
            async with consuming(settings, topic="alerts", group="g", handle=handler.handle):
                await eventually(lambda: handler.records)  # noqa: B023  (awaited at once)
    assert first.values() == [b"one"]
    assert second.values() == [b"two"]


async def test_a_dependency_that_is_away_delays_the_batch_and_loses_nothing(
    settings: KafkaSettings, eventually: Any
) -> None:
    handler = RecordingHandler(StoreUnavailable("away"), OSError("no more files"))
    async with (
        producer(settings, "test") as stream,
        consuming(settings, topic="alerts", group="g", handle=handler.handle, backoff=FAST),
    ):
        await stream.send("alerts", b"one")
        await eventually(lambda: handler.records)
    assert len(handler.calls) == 3
    assert handler.values() == [b"one"]


async def test_a_consumer_that_waits_for_a_dependency_stays_in_its_group(
    settings: KafkaSettings, eventually: Any
) -> None:
    handler = RecordingHandler(*[StoreUnavailable("away")] * 40)
    patient = Backoff(
        first_delay=timedelta(milliseconds=200), max_delay=timedelta(milliseconds=200), random=lambda: 1.0
    )
    async with (
        producer(settings, "test") as stream,
        consuming(
            settings,
            topic="alerts",
            group="g",
            handle=handler.handle,
            backoff=patient,
            session_timeout_ms=6000,
            max_poll_interval_ms=6000,
        ),
    ):
        await stream.send("alerts", b"one", b"k")
        await eventually(lambda: handler.calls)
        await stream.send("alerts", b"two", b"k")
        await eventually(lambda: len(handler.records) == 2, within=20)
    assert handler.values() == [b"one", b"two"]
    # Never taken away and given back: each call before the last was of the first record alone.
    assert {len(call) for call in handler.calls} == {1}


async def test_after_an_error_of_the_client_the_consumer_joins_again_and_misses_nothing(
    settings: KafkaSettings, eventually: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    handler, troubles, health = (
        RecordingHandler(),
        [KafkaException(KafkaError(KafkaError._STATE)) for _ in range(3)],
        Health("test"),
    )
    shown: list[dict[str, str]] = []
    health.subscribe(lambda: shown.append(health.snapshot().dependencies))
    fetch = Consumer.fetch

    async def fails_at_first(
        consumer: Consumer, limit: int, timeout_s: float, *, fill: bool = False
    ) -> tuple[Rebalance, list[Record]]:
        rebalance, records = await fetch(consumer, limit, timeout_s, fill=fill)
        if records and troubles:
            raise troubles.pop()
        return rebalance, records

    monkeypatch.setattr(Consumer, "fetch", fails_at_first)
    async with (
        producer(settings, "test") as stream,
        consuming(settings, topic="alerts", group="g", handle=handler.handle, backoff=FAST, health=health),
    ):
        await stream.send("alerts", b"one")
        await eventually(lambda: handler.records)
        await eventually(lambda: len(shown) == 2)
    assert not troubles
    assert shown == [{"consume alerts": "DOWN"}, {}]
    assert handler.values() == [b"one"]


async def test_a_second_process_under_the_same_name_ends_the_first(settings: KafkaSettings) -> None:
    second = RecordingHandler()
    joined = asyncio.Event()

    async def tell(_: list[Record]) -> None:
        joined.set()

    async def twice() -> None:
        async with (
            producer(settings, "test") as stream,
            consuming(settings, topic="alerts", group="g", handle=tell, instance="same"),
        ):
            await stream.send("alerts", b"one", b"k")
            await joined.wait()
            async with consuming(settings, topic="alerts", group="g", handle=second.handle, instance="same"):
                await asyncio.Event().wait()

    with pytest.raises(KafkaException, match=r"[Ff]enced"):
        async with asyncio.timeout(20):
            await twice()


async def test_stopping_lets_the_batch_in_flight_end_and_commits_it(settings: KafkaSettings, eventually: Any) -> None:
    begun, may_end = asyncio.Event(), asyncio.Event()
    ended: list[bytes] = []

    async def handle(records: list[Record]) -> None:
        begun.set()
        await may_end.wait()
        ended.extend(record.value for record in records)

    again = RecordingHandler()
    async with producer(settings, "test") as stream:
        await stream.send("alerts", b"one", b"k")
        async with consuming(settings, topic="alerts", group="g", handle=handle):
            await begun.wait()
            asyncio.get_running_loop().call_later(0.3, may_end.set)
        assert ended == [b"one"]
        await stream.send("alerts", b"two", b"k")
        async with consuming(settings, topic="alerts", group="g", handle=again.handle):
            await eventually(lambda: again.records)
    assert again.values() == [b"two"]


async def test_a_handler_that_does_not_end_is_cut_off_and_its_batch_comes_again(
    settings: KafkaSettings, eventually: Any
) -> None:
    begun = asyncio.Event()

    async def hang(_: list[Record]) -> None:
        begun.set()
        await asyncio.Event().wait()

    again = RecordingHandler()
    async with producer(settings, "test") as stream:
        await stream.send("alerts", b"one")
        async with asyncio.timeout(15):
            brief = timedelta(milliseconds=100)
            async with consuming(settings, topic="alerts", group="g", handle=hang, drain=brief):
                await begun.wait()
        async with consuming(settings, topic="alerts", group="g", handle=again.handle):
            await eventually(lambda: again.records)
    assert again.values() == [b"one"]


async def test_a_named_instance_resumes_its_partitions_at_once(settings: KafkaSettings, eventually: Any) -> None:
    async def run(value: bytes) -> float:
        handler = RecordingHandler()
        started = asyncio.get_running_loop().time()
        named = consuming(
            settings, topic="alerts", group="g", handle=handler.handle, instance="a", session_timeout_ms=60_000
        )
        async with named:
            await stream.send("alerts", value, b"k")
            await eventually(lambda: value in handler.values())
        return asyncio.get_running_loop().time() - started

    async with producer(settings, "test") as stream:
        await run(b"one")
        # Its former self has not left: a nameless one would wait for a minute.
        assert await run(b"two") < 5


async def test_the_trace_goes_along_and_lag_and_counts_are_measured(settings: KafkaSettings, eventually: Any) -> None:
    traces: list[str] = []

    async def handle(records: list[Record]) -> None:
        for record in records:
            context = telemetry.context_of(record.headers)
            traces.append(f"{get_current_span(context).get_span_context().trace_id:032x}")

    spans = InMemorySpanExporter()
    with telemetry.telemetry("test", "i", "", processors=[SimpleSpanProcessor(spans)]):
        async with (
            producer(settings, "test") as stream,
            consuming(settings, topic="alerts", group="g", handle=handle),
        ):
            with telemetry.tracer("test").start_as_current_span("send"):
                await stream.send("alerts", b"one")
            await eventually(lambda: traces)
            await eventually(lambda: 'tocsin_kafka_consumer_lag{group="g"' in telemetry.exposition()[0].decode())
            text = telemetry.exposition()[0].decode()
    assert traces == [f"{spans.get_finished_spans()[0].context.trace_id:032x}"]
    assert 'tocsin_kafka_consumer_records_total{outcome="handled",topic="alerts"} 1.0' in text
    assert 'tocsin_kafka_producer_records_total{outcome="delivered"} 1.0' in text
