import asyncio
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import get_current_span

from services.chassis import telemetry
from services.chassis.backoff import Backoff
from services.chassis.clock import SystemClock
from services.chassis.failures import InvalidRequest, StoreUnavailable
from services.chassis.health import Health
from services.chassis.kafka import DeadLetterPublisher, Producer, Record, UnreadableRecordError, consuming, producer
from services.chassis.kafka.group import GroupMember
from services.chassis.settings import KafkaSettings

pytestmark = pytest.mark.integration

TRACE = ("traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
FAST = Backoff(first_delay=timedelta(milliseconds=10), max_delay=timedelta(milliseconds=50))


def dead_letters(stream: Producer, *, with_reason: bool = False) -> DeadLetterPublisher:
    def encode(*, value: bytes, reason: str, **_place: object) -> bytes:
        return value + b": " + reason.encode() if with_reason else value

    return DeadLetterPublisher(producer=stream, encode=encode, clock=SystemClock(), topic="log-events-dead-letter")


class Seen:
    """A handler that remembers, and does as it is told first."""

    def __init__(self, *troubles: Exception) -> None:
        self.troubles = list(troubles)
        self.calls: list[list[Record]] = []
        self.records: list[Record] = []

    async def handle(self, records: list[Record]) -> None:
        self.calls.append(list(records))
        if self.troubles:
            raise self.troubles.pop(0)
        self.records += records

    def values(self) -> list[bytes]:
        return [record.value for record in self.records]


async def test_what_is_sent_is_handled_with_key_and_headers(settings: KafkaSettings, eventually: Any) -> None:
    seen, health = Seen(), Health("test")
    reads, writes = health.dependency("kafka"), health.dependency("kafka")
    async with (
        producer(settings, "test", dependency=writes) as stream,
        consuming(settings, topic="alerts", group="g", handle=seen.handle, dependency=reads),
    ):
        await stream.send("alerts", b"one", b"key", headers=[("a", b"b")])
        await eventually(lambda: seen.records)
        await eventually(lambda: reads.is_up and writes.is_up)
    record = seen.records[0]
    assert (record.topic, record.key, record.value, list(record.headers)) == ("alerts", b"key", b"one", [("a", b"b")])
    assert record.timestamp_ms > 0


async def test_a_producer_that_is_beyond_recovery_is_replaced(settings: KafkaSettings, eventually: Any) -> None:
    async with producer(settings, "test") as stream:
        await stream.send("alerts", b"one")
        broken = stream._client
        stream._must_renew = True
        await eventually(lambda: stream._client is not broken)
        await stream.send("alerts", b"two")
        assert stream.waiting_bytes == 0


async def test_a_second_instance_goes_on_where_the_first_has_stopped(settings: KafkaSettings, eventually: Any) -> None:
    first, second = Seen(), Seen()
    async with producer(settings, "test") as stream:
        for seen, value in ((first, b"one"), (second, b"two")):
            await stream.send("alerts", value, b"key")
            async with consuming(settings, topic="alerts", group="g", handle=seen.handle):
                await eventually(lambda: seen.records)  # noqa: B023  (awaited at once)
    assert first.values() == [b"one"]
    assert second.values() == [b"two"]


async def test_a_dependency_that_is_away_delays_the_batch_and_loses_nothing(
    settings: KafkaSettings, eventually: Any
) -> None:
    seen = Seen(StoreUnavailable("away"), OSError("no more files"))
    async with (
        producer(settings, "test") as stream,
        consuming(settings, topic="alerts", group="g", handle=seen.handle, retry=FAST),
    ):
        await stream.send("alerts", b"one")
        await eventually(lambda: seen.records)
    assert len(seen.calls) == 3
    assert seen.values() == [b"one"]


async def test_a_member_that_waits_for_a_dependency_stays_in_its_group(
    settings: KafkaSettings, eventually: Any
) -> None:
    seen = Seen(*[StoreUnavailable("away")] * 40)
    patient = Backoff(
        first_delay=timedelta(milliseconds=200), max_delay=timedelta(milliseconds=200), random=lambda: 1.0
    )
    async with (
        producer(settings, "test") as stream,
        consuming(
            settings,
            topic="alerts",
            group="g",
            handle=seen.handle,
            retry=patient,
            session_timeout_ms=6000,
            max_poll_interval_ms=6000,
        ),
    ):
        await stream.send("alerts", b"one", b"k")
        await eventually(lambda: seen.calls)
        await stream.send("alerts", b"two", b"k")
        await eventually(lambda: len(seen.records) == 2, within=20)
    assert seen.values() == [b"one", b"two"]
    # Never taken away and given back: each call before the last was of the first record alone.
    assert {len(call) for call in seen.calls} == {1}


async def test_poison_goes_to_the_dead_letters_and_the_rest_is_handled(
    settings: KafkaSettings, eventually: Any
) -> None:
    good: list[bytes] = []

    async def handle(records: list[Record]) -> None:
        for record in records:
            if record.value == b"bad":
                raise UnreadableRecordError(record, "cannot be decoded")
        good.extend(record.value for record in records)

    dead = Seen()
    async with producer(settings, "test") as stream:
        letters = dead_letters(stream, with_reason=True)
        async with (
            consuming(settings, topic="alerts", group="g", handle=handle, dead_letters=letters),
            consuming(settings, topic="log-events-dead-letter", group="d", handle=dead.handle),
        ):
            for value in (b"1", b"bad", b"2"):
                stream.enqueue("alerts", value, partition=0, headers=[TRACE])
            await eventually(lambda: len(good) == 2 and dead.records)
    assert good == [b"1", b"2"]
    assert dead.values() == [b"bad: cannot be decoded"]
    assert list(dead.records[0].headers) == [TRACE]


@pytest.mark.parametrize(
    "crash", [pytest.param(ValueError("bug"), id="a bug"), pytest.param(InvalidRequest("no"), id="a final failure")]
)
async def test_a_record_that_crashes_the_handler_is_found_and_put_aside(
    settings: KafkaSettings, eventually: Any, crash: Exception
) -> None:
    good: list[bytes] = []

    async def handle(records: list[Record]) -> None:
        if any(record.value == b"bad" for record in records):
            raise crash
        good.extend(record.value for record in records)

    dead = Seen()
    async with producer(settings, "test") as stream:
        letters = dead_letters(stream)
        for value in (b"1", b"bad", b"2"):
            await stream.send("alerts", value, partition=0)
        async with (
            consuming(settings, topic="alerts", group="g", handle=handle, dead_letters=letters, retry=FAST),
            consuming(settings, topic="log-events-dead-letter", group="d", handle=dead.handle),
        ):
            await eventually(lambda: len(good) == 2 and dead.records)
    assert good == [b"1", b"2"]
    assert dead.values() == [b"bad"]


async def test_a_handler_that_crashes_on_everything_does_not_empty_the_topic(
    settings: KafkaSettings, eventually: Any
) -> None:
    calls, dead, health = [], Seen(), Health("test")

    async def handle(records: list[Record]) -> None:
        calls.append(len(records))
        raise ValueError("a bad release")

    fastest = Backoff(first_delay=timedelta(milliseconds=1), max_delay=timedelta(milliseconds=1))
    async with producer(settings, "test") as stream:
        letters = dead_letters(stream)
        for _ in range(60):
            stream.enqueue("alerts", b"good", partition=0)
        async with consuming(
            settings,
            topic="alerts",
            group="g",
            handle=handle,
            dead_letters=letters,
            retry=fastest,
            max_batch=10,
            health=health,
            drain=timedelta(),
        ):
            await eventually(lambda: len(calls) > 80)
        assert health.snapshot().dependencies == {"handle alerts": "DOWN"}
        await stream.send("log-events-dead-letter", b"the first")
        async with consuming(settings, topic="log-events-dead-letter", group="d", handle=dead.handle):
            await eventually(lambda: dead.records)
    assert dead.values() == [b"the first"]


async def test_a_few_records_that_come_alone_are_put_aside_and_then_the_stream_waits(
    settings: KafkaSettings, eventually: Any
) -> None:
    dead, calls = Seen(), []

    async def handle(records: list[Record]) -> None:
        calls.append(records[0].value)
        raise ValueError("a bad release")

    fastest = Backoff(first_delay=timedelta(milliseconds=1), max_delay=timedelta(milliseconds=1))
    async with producer(settings, "test") as stream:
        letters = dead_letters(stream)
        for number in range(6):
            await stream.send("alerts", str(number).encode(), partition=0)
        async with (
            consuming(
                settings,
                topic="alerts",
                group="g",
                handle=handle,
                dead_letters=letters,
                retry=fastest,
                max_batch=1,
                drain=timedelta(),
            ),
            consuming(settings, topic="log-events-dead-letter", group="d", handle=dead.handle),
        ):
            await eventually(lambda: calls.count(b"3") > 20)
            await eventually(lambda: len(dead.records) >= 3)
    assert dead.values() == [b"0", b"1", b"2"]


async def test_after_a_trouble_of_the_client_the_member_joins_again_and_misses_nothing(
    settings: KafkaSettings, eventually: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, troubles, health = Seen(), [KafkaException(KafkaError(KafkaError._STATE)) for _ in range(3)], Health("test")
    shown: list[dict[str, str]] = []
    health.subscribe(lambda: shown.append(health.snapshot().dependencies))
    fetch = GroupMember.fetch

    async def broken_once(member: GroupMember, most: int, within: float) -> list[Record]:
        found = await fetch(member, most, within)
        if found and troubles:
            raise troubles.pop()
        return found

    monkeypatch.setattr(GroupMember, "fetch", broken_once)
    async with (
        producer(settings, "test") as stream,
        consuming(settings, topic="alerts", group="g", handle=seen.handle, retry=FAST, health=health),
    ):
        await stream.send("alerts", b"one")
        await eventually(lambda: seen.records)
        await eventually(lambda: len(shown) == 2)
    assert not troubles
    assert shown == [{"consume alerts": "DOWN"}, {}]
    assert seen.values() == [b"one"]


async def test_a_second_process_under_the_same_name_ends_the_first(settings: KafkaSettings) -> None:
    second = Seen()
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


async def test_a_member_without_partitions_is_well(settings: KafkaSettings, eventually: Any) -> None:
    health = Health("test")
    members = [health.dependency("kafka") for _ in range(2)]
    async with AsyncExitStack() as stack:
        for member in members:
            seen = Seen()
            await stack.enter_async_context(
                consuming(settings, topic="log-events-dead-letter", group="g", handle=seen.handle, dependency=member)
            )
        await eventually(lambda: all(member.is_up for member in members))


async def test_stopping_lets_the_batch_in_hand_end_and_commits_it(settings: KafkaSettings, eventually: Any) -> None:
    begun, may_end, ended = asyncio.Event(), asyncio.Event(), []

    async def handle(records: list[Record]) -> None:
        begun.set()
        await may_end.wait()
        ended.extend(record.value for record in records)

    again = Seen()
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

    again = Seen()
    async with producer(settings, "test") as stream:
        await stream.send("alerts", b"one")
        async with asyncio.timeout(15):
            brief = timedelta(milliseconds=100)
            async with consuming(settings, topic="alerts", group="g", handle=hang, drain=brief):
                await begun.wait()
        async with consuming(settings, topic="alerts", group="g", handle=again.handle):
            await eventually(lambda: again.records)
    assert again.values() == [b"one"]


async def test_a_rebalance_neither_loses_nor_repeats_what_is_done(settings: KafkaSettings, eventually: Any) -> None:
    seen = [Seen(), Seen()]
    many = [str(number).encode() for number in range(400)]
    async with producer(settings, "test") as stream, AsyncExitStack() as stack:
        enter = stack.enter_async_context
        await enter(consuming(settings, topic="alerts", group="g", handle=seen[0].handle, max_batch=7))
        for position, value in enumerate(many):
            stream.enqueue("alerts", value, partition=position % 4)
            if position == 200:
                await eventually(lambda: len(seen[0].records) > 50)
                await enter(consuming(settings, topic="alerts", group="g", handle=seen[1].handle, max_batch=7))
        await eventually(lambda: len(set(seen[0].values() + seen[1].values())) == len(many), within=20)
    assert sorted(seen[0].values() + seen[1].values()) == sorted(many)


async def test_a_rebalance_takes_a_batch_away_that_does_not_end(settings: KafkaSettings, eventually: Any) -> None:
    begun, cancelled = asyncio.Event(), asyncio.Event()

    async def hang(_: list[Record]) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    other = Seen()
    async with producer(settings, "test") as stream, AsyncExitStack() as stack:
        enter = stack.enter_async_context
        for partition in range(4):
            await stream.send("alerts", str(partition).encode(), partition=partition)
        await enter(consuming(settings, topic="alerts", group="g", handle=hang, drain=timedelta()))
        await begun.wait()
        await enter(consuming(settings, topic="alerts", group="g", handle=other.handle))
        await eventually(cancelled.is_set, within=20)
        await eventually(lambda: len(other.records) >= 2)


async def test_a_named_instance_takes_up_its_partitions_at_once(settings: KafkaSettings, eventually: Any) -> None:
    async def run(value: bytes) -> float:
        seen = Seen()
        started = asyncio.get_running_loop().time()
        named = consuming(
            settings, topic="alerts", group="g", handle=seen.handle, instance="a", session_timeout_ms=60_000
        )
        async with named:
            await stream.send("alerts", value, b"k")
            await eventually(lambda: value in seen.values())
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
