"""What the producer and the consumer do while there is no Kafka."""

import asyncio
import os
import signal
from datetime import timedelta
from typing import Any

import pytest

from services.chassis.failures import Overloaded, RequestTooLarge, StreamUnavailable
from services.chassis.health import Health
from services.chassis.kafka import Record, consuming, producer
from services.chassis.settings import KafkaSettings
from stack.testing import Servers, fresh_name

pytestmark = pytest.mark.integration

NOWHERE = KafkaSettings(brokers="127.0.0.1:1", topic_prefix="", delivery_timeout=timedelta(seconds=2))


async def test_without_kafka_a_record_fails_within_the_bound_and_the_next_one_at_once() -> None:
    dependency = Health("test").dependency("kafka")
    started = asyncio.get_running_loop().time()
    async with producer(NOWHERE, "test", dependency=dependency) as stream:
        with pytest.raises(StreamUnavailable):
            await stream.send("alerts", b"one")
        assert asyncio.get_running_loop().time() - started < 5
        assert not dependency.is_up
        with pytest.raises(StreamUnavailable) as refused:
            stream.enqueue("alerts", b"two")
        assert refused.value.retry_after is not None
        assert stream.waiting_bytes == 0


async def test_no_more_is_held_in_memory_than_allowed() -> None:
    async with producer(NOWHERE, "test", max_bytes=100) as stream:
        held = stream.enqueue("alerts", bytes(80))
        with pytest.raises(Overloaded) as refused:
            stream.enqueue("alerts", bytes(80))
        assert refused.value.retry_after is not None
        assert stream.waiting_bytes == 80
        with pytest.raises(StreamUnavailable):
            await held


async def test_closing_without_kafka_is_bounded_and_fails_what_waits() -> None:
    async with asyncio.timeout(6):
        async with producer(NOWHERE, "test") as stream:
            held = stream.enqueue("alerts", b"one")
        with pytest.raises(StreamUnavailable):
            await held


async def test_a_record_that_is_too_large_is_refused_as_such(settings: KafkaSettings) -> None:
    async with producer(settings, "test") as stream:
        with pytest.raises(RequestTooLarge):
            await stream.send("alerts", bytes(20_000_000))


def settings_of(servers: Servers) -> KafkaSettings:
    """Return the settings of a Kafka of the test's own, with new topics."""
    brokers, prefix = servers.address("kafka"), fresh_name() + "."
    servers.create_topics(prefix)
    return KafkaSettings(brokers=brokers, topic_prefix=prefix, delivery_timeout=timedelta(seconds=3))


async def test_both_go_on_when_kafka_is_back_and_nothing_confirmed_is_missing(
    own_servers: Servers, eventually: Any
) -> None:
    settings = settings_of(own_servers)
    health = Health("test")
    reads, writes = health.dependency("kafka"), health.dependency("kafka")
    seen: list[bytes] = []
    confirmed: list[bytes] = []

    async def handle(records: list[Record]) -> None:
        seen.extend(record.value for record in records)

    async with (
        producer(settings, "test", dependency=writes) as stream,
        consuming(settings, topic="alerts", group="g", handle=handle, dependency=reads, instance="a"),
    ):

        async def send(value: bytes) -> None:
            await stream.send("alerts", value)
            confirmed.append(value)

        await send(b"before")
        await eventually(lambda: seen and reads.is_up and writes.is_up)
        await asyncio.to_thread(own_servers.kill, "kafka")
        with pytest.raises(StreamUnavailable):
            await send(b"during")
        await eventually(lambda: not reads.is_up and not writes.is_up)
        await asyncio.to_thread(own_servers.start, "kafka")
        await eventually(lambda: reads.is_up and writes.is_up)
        await send(b"after")
        await eventually(lambda: set(confirmed) <= set(seen), within=30)


async def test_a_frozen_kafka_is_noticed_and_its_return_too(own_servers: Servers, eventually: Any) -> None:
    settings = settings_of(own_servers)
    health = Health("test")
    reads, writes = health.dependency("kafka"), health.dependency("kafka")
    seen: list[bytes] = []

    async def handle(records: list[Record]) -> None:
        seen.extend(record.value for record in records)

    process = own_servers._processes.find("kafka")
    assert process is not None
    async with (
        producer(settings, "test", dependency=writes) as stream,
        consuming(settings, topic="alerts", group="g", handle=handle, dependency=reads, instance="a"),
    ):
        await stream.send("alerts", b"before")
        await eventually(lambda: seen and reads.is_up and writes.is_up)
        os.kill(process.pid, signal.SIGSTOP)
        try:
            # Nothing is sent meanwhile.
            await eventually(lambda: not reads.is_up and not writes.is_up, within=30)
            assert reads.reason == writes.reason == "no broker answers"
        finally:
            os.kill(process.pid, signal.SIGCONT)
        await eventually(lambda: reads.is_up and writes.is_up, within=30)
        await stream.send("alerts", b"after")
        await eventually(lambda: b"after" in seen, within=30)


async def test_a_producer_that_is_beyond_recovery_is_replaced(settings: KafkaSettings, eventually: Any) -> None:
    async with producer(settings, "test") as stream:
        await stream.send("alerts", b"one")
        broken = stream._client
        stream._must_renew = True
        await eventually(lambda: stream._client is not broken)
        await stream.send("alerts", b"two")
        assert stream.waiting_bytes == 0
