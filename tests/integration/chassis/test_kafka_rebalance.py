"""What a rebalance does to a batch in flight."""

import asyncio
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Any

import pytest

from services.chassis.health import Health
from services.chassis.kafka import (
    Record,
    consuming,
    producer,
)
from services.chassis.settings import KafkaSettings
from tests.integration.chassis.handlers import RecordingHandler

pytestmark = pytest.mark.integration


class HangingHandler(RecordingHandler):
    """Handles what it gets after its first batch, which it never ends."""

    def __init__(self) -> None:
        super().__init__()
        self.has_begun = asyncio.Event()

    async def handle(self, records: list[Record]) -> None:
        if not self.has_begun.is_set():
            self.has_begun.set()
            await asyncio.Event().wait()
        await super().handle(records)


async def test_a_rebalance_neither_loses_nor_repeats_what_is_done(settings: KafkaSettings, eventually: Any) -> None:
    handler = [RecordingHandler(), RecordingHandler()]
    many = [str(number).encode() for number in range(400)]
    async with producer(settings, "test") as stream, AsyncExitStack() as stack:
        enter = stack.enter_async_context
        await enter(consuming(settings, topic="alerts", group="g", handle=handler[0].handle, max_batch=7))
        for position, value in enumerate(many):
            stream.enqueue("alerts", value, partition=position % 4)
            if position == 200:
                await eventually(lambda: len(handler[0].records) > 50)
                await enter(consuming(settings, topic="alerts", group="g", handle=handler[1].handle, max_batch=7))
        await eventually(lambda: len(set(handler[0].values() + handler[1].values())) == len(many), within=20)
    assert sorted(handler[0].values() + handler[1].values()) == sorted(many)


async def test_a_rebalance_takes_a_batch_away_that_does_not_end(settings: KafkaSettings, eventually: Any) -> None:
    begun, cancelled = asyncio.Event(), asyncio.Event()

    async def hang(_: list[Record]) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    other = RecordingHandler()
    async with producer(settings, "test") as stream, AsyncExitStack() as stack:
        enter = stack.enter_async_context
        for partition in range(4):
            await stream.send("alerts", str(partition).encode(), partition=partition)
        await enter(consuming(settings, topic="alerts", group="g", handle=hang, drain=timedelta()))
        await begun.wait()
        await enter(consuming(settings, topic="alerts", group="g", handle=other.handle))
        await eventually(cancelled.is_set, within=20)
        await eventually(lambda: len(other.records) >= 2)


async def test_a_consumer_without_partitions_is_well(settings: KafkaSettings, eventually: Any) -> None:
    health = Health("test")
    members = [health.dependency("kafka") for _ in range(2)]
    async with AsyncExitStack() as stack:
        for member in members:
            handler = RecordingHandler()
            await stack.enter_async_context(
                consuming(settings, topic="log-events-dead-letter", group="g", handle=handler.handle, dependency=member)
            )
        await eventually(lambda: all(member.is_up for member in members))


async def test_after_a_batch_was_taken_away_the_consumer_reads_the_partitions_that_it_has_then(
    settings: KafkaSettings, eventually: Any
) -> None:
    """The client remembers that a partition was paused until it is assigned again."""
    first, second = HangingHandler(), RecordingHandler()
    async with producer(settings, "test") as stream, AsyncExitStack() as stack:
        enter = stack.enter_async_context
        for partition in range(4):
            await stream.send("alerts", str(partition).encode(), partition=partition)
        await enter(consuming(settings, topic="alerts", group="g", handle=first.handle))
        await first.has_begun.wait()
        await enter(consuming(settings, topic="alerts", group="g", handle=second.handle))
        await eventually(lambda: len(first.records) == len(second.records) == 2, within=20)
    assert sorted(first.values() + second.values()) == [b"0", b"1", b"2", b"3"]


async def test_what_was_fetched_ahead_of_a_rebalance_is_handled_once(settings: KafkaSettings, eventually: Any) -> None:
    first, second = HangingHandler(), RecordingHandler()
    many = [str(number).encode() for number in range(80)]
    # Where tenants share batches, records are fetched ahead.
    how: dict[str, Any] = {"topic": "alerts", "group": "g", "max_batch": 7, "tenant_of": lambda _: "acme"}
    async with producer(settings, "test") as stream, AsyncExitStack() as stack:
        enter = stack.enter_async_context
        for position, value in enumerate(many):
            await stream.send("alerts", value, partition=position % 4)
        await enter(consuming(settings, handle=first.handle, **how))
        await first.has_begun.wait()
        await enter(consuming(settings, handle=second.handle, **how))
        await eventually(lambda: set(first.values() + second.values()) == set(many), within=20)
    assert sorted(first.values() + second.values()) == sorted(many)
