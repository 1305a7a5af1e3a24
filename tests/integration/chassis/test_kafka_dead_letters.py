"""Records that a handler cannot handle."""

from datetime import timedelta
from typing import Any

import pytest

from services.chassis.backoff import Backoff
from services.chassis.failures import InvalidRequest
from services.chassis.health import Health
from services.chassis.kafka import Record, UnreadableRecordError, consuming, producer
from services.chassis.settings import KafkaSettings
from tests.integration.chassis.handlers import FAST, RecordingHandler, dead_letters

pytestmark = pytest.mark.integration

TRACE = ("traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")


async def test_an_unreadable_record_is_dead_lettered_and_the_rest_is_handled(
    settings: KafkaSettings, eventually: Any
) -> None:
    good: list[bytes] = []

    async def handle(records: list[Record]) -> None:
        for record in records:
            if record.value == b"bad":
                raise UnreadableRecordError(record, "cannot be decoded")
        good.extend(record.value for record in records)

    dead = RecordingHandler()
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
async def test_a_record_that_crashes_the_handler_is_found_and_dead_lettered(
    settings: KafkaSettings, eventually: Any, crash: Exception
) -> None:
    good: list[bytes] = []

    async def handle(records: list[Record]) -> None:
        if any(record.value == b"bad" for record in records):
            raise crash
        good.extend(record.value for record in records)

    dead = RecordingHandler()
    async with producer(settings, "test") as stream:
        letters = dead_letters(stream)
        for value in (b"1", b"bad", b"2"):
            await stream.send("alerts", value, partition=0)
        async with (
            consuming(settings, topic="alerts", group="g", handle=handle, dead_letters=letters, backoff=FAST),
            consuming(settings, topic="log-events-dead-letter", group="d", handle=dead.handle),
        ):
            await eventually(lambda: len(good) == 2 and dead.records)
    assert good == [b"1", b"2"]
    assert dead.values() == [b"bad"]


async def test_a_handler_that_crashes_on_everything_does_not_empty_the_topic(
    settings: KafkaSettings, eventually: Any
) -> None:
    dead, health = RecordingHandler(), Health("test")
    calls: list[int] = []

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
            backoff=fastest,
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


async def test_a_few_records_that_come_alone_are_dead_lettered_and_then_the_stream_waits(
    settings: KafkaSettings, eventually: Any
) -> None:
    dead = RecordingHandler()
    calls: list[bytes] = []

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
                backoff=fastest,
                max_batch=1,
                drain=timedelta(),
            ),
            consuming(settings, topic="log-events-dead-letter", group="d", handle=dead.handle),
        ):
            await eventually(lambda: calls.count(b"3") > 20)
            await eventually(lambda: len(dead.records) >= 3)
    assert dead.values() == [b"0", b"1", b"2"]
