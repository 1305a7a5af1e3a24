"""Tenants share what a consumer handles: a backlog of one delays the others by a part of a batch."""

import asyncio
from itertools import takewhile
from typing import Any

import pytest

from services.chassis.kafka import Producer, Record, consuming, producer
from services.chassis.settings import KafkaSettings
from tests.integration.chassis.handlers import RecordingHandler

pytestmark = pytest.mark.integration


def tenant_of(record: Record) -> str:
    return record.value.decode().partition("-")[0]


async def fill(stream: Producer, tenant: str, count: int) -> list[bytes]:
    """Put so many records of a tenant into one partition."""
    values = [f"{tenant}-{number}".encode() for number in range(count)]
    for value in values:
        await stream.send("alerts", value, partition=0)
    return values


async def test_a_backlog_of_one_tenant_delays_another_by_a_part_of_a_batch(
    settings: KafkaSettings, eventually: Any
) -> None:
    handler = RecordingHandler()
    async with producer(settings, "test") as stream:
        flood, steady = await fill(stream, "flood", 100), await fill(stream, "steady", 2)
        async with consuming(
            settings, topic="alerts", group="g", handle=handler.handle, max_batch=10, tenant_of=tenant_of
        ):
            await eventually(lambda: len(handler.records) == 102)
    values = handler.values()
    assert [value for value in values if value in flood] == flood
    assert [value for value in values if value in steady] == steady
    assert all(len(call) <= 10 for call in handler.calls)
    # Each fetch finds twice a batch, so the last one is ahead of half of the backlog.
    assert values.index(steady[-1]) < 80
    # From then on no batch has more than a fifth of one tenant.
    assert {len(call) for call in handler.calls[-10:]} == {2}


async def test_what_was_handled_ahead_is_handled_again_and_nothing_is_lost_when_the_consumer_ends(
    settings: KafkaSettings, eventually: Any
) -> None:
    handled: list[bytes] = []

    async def hang_after_another_tenant(records: list[Record]) -> None:
        if b"steady-0" in handled:
            await asyncio.Event().wait()
        handled.extend(record.value for record in records)

    again = RecordingHandler()
    async with producer(settings, "test") as stream:
        sent = [*await fill(stream, "flood", 60), *await fill(stream, "steady", 1)]
        async with asyncio.timeout(30):
            first = consuming(
                settings, topic="alerts", group="g", handle=hang_after_another_tenant, max_batch=10, tenant_of=tenant_of
            )
            async with first:
                await eventually(lambda: b"steady-0" in handled)
            async with consuming(
                settings, topic="alerts", group="g", handle=again.handle, max_batch=10, tenant_of=tenant_of
            ):
                await eventually(lambda: set(handled) | set(again.values()) == set(sent))
    # Committed was what no tenant had left out.
    done = list(takewhile(lambda value: value in handled, sent))
    assert sorted(again.values()) == sorted(sent[len(done) :])
