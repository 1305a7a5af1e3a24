"""The outbox: what was committed is published in order, by one instance at a time."""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import asyncpg
import pytest

from services.chassis import outbox
from services.chassis.failures import RequestTooLarge, StreamUnavailable
from services.chassis.kafka import Producer, Record, consuming, producer
from services.chassis.postgres import Connection, Database, connect
from services.chassis.settings import KafkaSettings, PostgresSettings, Secret
from services.chassis.telemetry import exposition, telemetry

pytestmark = pytest.mark.integration

START = datetime(2026, 1, 1, tzinfo=UTC)

# Publishes to a broker that does not exist, and prints when it begins.
HANGING = """
import asyncio, sys
from datetime import UTC, datetime, timedelta
from services.chassis import outbox
from services.chassis.kafka import Producer, producer
from services.chassis.postgres import connect
from services.chassis.settings import KafkaSettings, PostgresSettings, Secret

async def main():
    enqueue = Producer.enqueue
    def announcing(self, *arguments):
        print("publishing", flush=True)
        return enqueue(self, *arguments)
    Producer.enqueue = announcing
    nowhere = KafkaSettings(brokers="127.0.0.1:1", delivery_timeout=timedelta(minutes=1))
    settings = PostgresSettings(database_url=Secret(sys.argv[1]))
    async with (
        connect(settings, schema="notes") as store,
        producer(nowhere, "test") as stream,
        outbox.relaying(store, stream),
    ):
        await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.fixture
async def store(empty_database: str) -> AsyncIterator[Database]:
    connection = await asyncpg.connect(empty_database)
    await connection.execute(f"CREATE SCHEMA notes; SET search_path TO notes; {outbox.SQL}; {outbox.LEASE_SQL}")
    await connection.close()
    settings = PostgresSettings(database_url=Secret(empty_database), pool_size=4)
    async with connect(settings, schema="notes") as opened:
        yield opened


async def put(store: Database, *values: bytes) -> None:
    async with store.transaction() as connection:
        for value in values:
            await outbox.put(connection, "notifications", b"k", value, ())


async def test_an_instance_that_hangs_while_it_publishes_does_not_block_others(
    store: Database, empty_database: str, settings: KafkaSettings, eventually: Any
) -> None:
    seen: list[bytes] = []

    async def handle(records: list[Record]) -> None:
        seen.extend(record.value for record in records)

    values = [str(number).encode() for number in range(20)]
    await put(store, *values)
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join((".", "gen"))}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", HANGING, empty_database, stdout=PIPE, env=environ
    )
    try:
        assert process.stdout is not None
        await asyncio.wait_for(process.stdout.readline(), 20)
        process.send_signal(signal.SIGSTOP)
        # During the wait for Kafka nothing is locked and no transaction is open.
        assert await store.fetch("SELECT query FROM pg_stat_activity WHERE state LIKE 'idle in transaction%'") == []
        assert await store.fetch("SELECT mode FROM pg_locks WHERE locktype = 'advisory'") == []
        async with (
            producer(settings, "test") as stream,
            consuming(settings, topic="notifications", group="g", handle=handle),
            outbox.relaying(store, stream),
        ):
            await eventually(lambda: len(seen) >= len(values))
    finally:
        process.kill()
        await process.wait()
    assert seen == values
    assert await store.fetch("SELECT * FROM outbox") == []


LEASE = "SELECT holder, end_time, end_time > clock_timestamp() AS is_held FROM outbox_lease"


async def lease_after(store: Database, moment: datetime) -> asyncpg.Record:
    """Wait for a lease that ends after this moment."""
    async with asyncio.timeout(10):
        while not (row := await store.fetchrow(LEASE)) or row["end_time"] <= moment:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    return row


async def test_the_lease_is_renewed_while_waiting_for_kafka_and_ended_at_the_end(
    store: Database, settings: KafkaSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "_LEASE", timedelta(milliseconds=800))
    monkeypatch.setattr(outbox, "_RENEW_EVERY", timedelta(milliseconds=50))
    nowhere = KafkaSettings(brokers="127.0.0.1:1", delivery_timeout=timedelta(seconds=2))
    await put(store, b"x")
    async with producer(nowhere, "one") as stuck, producer(settings, "two") as stream:
        async with outbox.relaying(store, stuck):
            first = await lease_after(store, START)
            async with outbox.relaying(store, stream):
                later = await lease_after(store, first["end_time"] + timedelta(milliseconds=800))
            assert (later["holder"], later["is_held"]) == (first["holder"], True)
        ended = await lease_after(store, START)
        assert (ended["holder"], ended["is_held"]) == (first["holder"], False)
    assert len(await store.fetch("SELECT * FROM outbox")) == 1


async def test_a_record_too_large_for_kafka_is_dropped_and_counted(
    store: Database, settings: KafkaSettings, eventually: Any
) -> None:
    seen: list[bytes] = []

    async def handle(records: list[Record]) -> None:
        seen.extend(record.value for record in records)

    await put(store, b"large" * 3_000_000, b"small")
    with telemetry("test", "one", ""):
        async with (
            producer(settings, "test") as stream,
            consuming(settings, topic="notifications", group="g", handle=handle),
            outbox.relaying(store, stream),
        ):
            await eventually(lambda: seen)
        exported = exposition()[0].decode()
    assert seen == [b"small"]
    for outcome in ("dropped", "published"):
        assert f'tocsin_outbox_records_total{{outcome="{outcome}"}} 1.0' in exported
    assert await store.fetch("SELECT * FROM outbox") == []


class FlakyProducer:
    """Refuses large records, and is unavailable for the first small one."""

    def __init__(self) -> None:
        self.is_available = False

    def enqueue(self, _topic: str, value: bytes, *_: object) -> asyncio.Future[None]:
        sent: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if value == b"large":
            raise RequestTooLarge("too large")
        if self.is_available:
            sent.set_result(None)
        else:
            sent.set_exception(StreamUnavailable("away"))
        self.is_available = True
        return sent


async def test_a_batch_that_is_sent_again_is_counted_once(store: Database, eventually: Any) -> None:
    await put(store, b"large", b"small")
    stream = FlakyProducer()
    with telemetry("test", "one", ""):
        async with outbox.relaying(store, cast("Producer", stream)):
            await eventually(lambda: stream.is_available)
        exported = exposition()[0].decode()
    assert await store.fetch("SELECT * FROM outbox") == []
    for outcome in ("dropped", "published"):
        assert f'tocsin_outbox_records_total{{outcome="{outcome}"}} 1.0' in exported


async def test_records_that_come_within_the_linger_are_published_together(store: Database, eventually: Any) -> None:
    bursts: list[list[bytes]] = []

    class Stream:
        def enqueue(self, _: str, value: bytes, *__: Any) -> "asyncio.Future[None]":
            if not bursts or bursts[-1][-1:] == [b"end"]:
                bursts.append([])
                # What is enqueued until the event loop goes on comes from one read of the outbox.
                asyncio.get_running_loop().call_soon(lambda: bursts[-1].append(b"end"))
            bursts[-1].append(value)
            sent: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            sent.set_result(None)
            return sent

    async with outbox.relaying(store, cast("Producer", Stream()), linger=timedelta(seconds=1)):
        await put(store, b"first")
        await eventually(lambda: bursts)
        await put(store, b"second")
        await put(store, b"third")
        await eventually(lambda: len(bursts) > 1)
    assert bursts == [[b"first", b"end"], [b"second", b"third", b"end"]]


async def test_the_outbox_publishes_committed_records_in_order_and_no_others(
    store: Database, settings: KafkaSettings, eventually: Any
) -> None:
    seen: list[Record] = []

    async def handle(records: list[Record]) -> None:
        seen.extend(records)

    async def put_and_fail(connection: Connection) -> None:
        await outbox.put(connection, "notifications", b"k", b"never")
        raise ZeroDivisionError

    async with (
        producer(settings, "test") as stream,
        consuming(settings, topic="notifications", group="g", handle=handle),
        outbox.relaying(store, stream),
    ):
        for number in range(20):
            async with store.transaction() as connection:
                await outbox.put(connection, "notifications", b"k", str(number).encode(), [("h", b"v")])
        with pytest.raises(ZeroDivisionError):
            await store.run_idempotent(put_and_fail)
        await eventually(lambda: len(seen) >= 20)
    assert [record.value for record in seen] == [str(number).encode() for number in range(20)]
    assert list(seen[0].headers) == [("h", b"v")]
    assert await store.fetch("SELECT * FROM outbox") == []


async def test_a_record_in_the_outbox_is_published_at_once(
    store: Database, settings: KafkaSettings, eventually: Any
) -> None:
    arrived: list[float] = []

    async def handle(records: list[Record]) -> None:
        arrived.extend(asyncio.get_running_loop().time() for _ in records)

    delays = []
    async with (
        producer(settings, "test") as stream,
        consuming(settings, topic="notifications", group="g", handle=handle),
        outbox.relaying(store, stream),
    ):
        for number in range(5):
            async with store.transaction() as connection:
                await outbox.put(connection, "notifications", None, b"x", ())
            started = asyncio.get_running_loop().time()
            await eventually(lambda: len(arrived) > number)  # noqa: B023  (awaited at once)
            delays.append(arrived[-1] - started)
    assert min(delays) < 0.3


async def test_the_outbox_keeps_its_records_while_kafka_is_away(store: Database) -> None:
    nowhere = KafkaSettings(brokers="127.0.0.1:1", delivery_timeout=timedelta(seconds=1))
    async with producer(nowhere, "test") as stream, outbox.relaying(store, stream):
        async with store.transaction() as connection:
            await outbox.put(connection, "notifications", None, b"x")
        with pytest.raises(Exception, match="Kafka"):
            await stream.send("notifications", b"y")
    assert len(await store.fetch("SELECT * FROM outbox")) == 1


async def test_the_outbox_survives_losing_its_connections(
    store: Database, empty_database: str, settings: KafkaSettings, eventually: Any
) -> None:
    seen: list[bytes] = []

    async def handle(records: list[Record]) -> None:
        seen.extend(record.value for record in records)

    async with (
        producer(settings, "test") as stream,
        consuming(settings, topic="notifications", group="g", handle=handle),
        outbox.relaying(store, stream),
    ):
        await _kill_connections(empty_database)

        async def work(connection: Connection) -> None:
            await outbox.put(connection, "notifications", None, b"x")

        await store.run_idempotent(work)
        await eventually(lambda: seen)


async def _kill_connections(database: str) -> None:
    connection = await asyncpg.connect(database)
    await connection.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
        " AND pid <> pg_backend_pid()"
    )
    await connection.close()
