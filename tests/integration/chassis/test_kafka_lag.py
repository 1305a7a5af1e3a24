"""How far consumers say they are behind."""

import re
from collections.abc import Iterator
from typing import Any

import pytest

from services.chassis import telemetry
from services.chassis.kafka import Record, consuming, producer
from services.chassis.settings import KafkaSettings

pytestmark = pytest.mark.integration

LAG = re.compile(r'tocsin_kafka_consumer_lag\{group="(\w+)",partition="(\d)",topic="(\w+)"\} (\d+)')


@pytest.fixture(autouse=True)
def own_telemetry() -> Iterator[None]:
    with telemetry.telemetry("test", "i", ""):
        yield


def lags(group: str) -> dict[int, int]:
    """What is told of a group: the lag of each partition."""
    found = LAG.findall(telemetry.exposition()[0].decode())
    return {int(partition): int(lag) for teller, partition, _, lag in found if teller == group}


async def nothing(_: list[Record]) -> None:
    pass


async def test_each_group_of_a_process_tells_its_own(settings: KafkaSettings, eventually: Any) -> None:
    async with (
        consuming(settings, topic="alerts", group="first", handle=nothing),
        consuming(settings, topic="notifications", group="second", handle=nothing),
    ):
        await eventually(lambda: len(lags("first")) == len(lags("second")) == 4)


async def test_who_begins_anew_with_nothing_left_to_do_is_not_behind(settings: KafkaSettings, eventually: Any) -> None:
    handled: list[Record] = []

    async def handle(records: list[Record]) -> None:
        handled.extend(records)

    async with producer(settings, "test") as stream, consuming(settings, topic="alerts", group="g", handle=handle):
        for number in range(20):
            await stream.send("alerts", b"one", partition=number % 4)
        await eventually(lambda: len(handled) == 20)
    with telemetry.telemetry("test", "again", ""):
        async with consuming(settings, topic="alerts", group="g", handle=handle):
            await eventually(lambda: len(lags("g")) == 4)
            assert set(lags("g").values()) == {0}
