"""A transactional outbox: records written with the change that they tell of, published afterwards, in order.

A record is published at least once. `SQL` belongs into the first migration of a service that uses it.
"""

import asyncio
import json
import zlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta

import asyncpg
from opentelemetry.metrics import CallbackOptions, Observation

from services.chassis import telemetry
from services.chassis.failures import Failure
from services.chassis.health import Health
from services.chassis.kafka import Headers, Producer
from services.chassis.loops import Loop, looping
from services.chassis.postgres import Connection, Database, translate

SQL = """
CREATE TABLE outbox (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    topic text NOT NULL,
    key bytea,
    value bytea NOT NULL,
    header_names text[] NOT NULL,
    header_values bytea[] NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
)
"""

_POLL = timedelta(seconds=1)
_CHECK = timedelta(seconds=5)
_BATCH = 500
_NOTIFY = "SELECT pg_notify('outbox_' || current_schema(), '')"


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What is to be published."""

    key: bytes | None
    value: bytes
    headers: Headers


_PUT = """
INSERT INTO outbox (topic, key, value, header_names, header_values)
SELECT $1, given.key, given.value,
       ARRAY(SELECT header ->> 0
             FROM jsonb_array_elements(given.headers) WITH ORDINALITY AS each (header, n) ORDER BY n),
       ARRAY(SELECT decode(header ->> 1, 'hex')
             FROM jsonb_array_elements(given.headers) WITH ORDINALITY AS each (header, n) ORDER BY n)
FROM unnest($2::bytea[], $3::bytea[], $4::jsonb[]) WITH ORDINALITY AS given (key, value, headers, place)
ORDER BY place
"""


async def put_all(connection: Connection, topic: str, records: Sequence[Record]) -> None:
    """Write records into the outbox, in their order; published once the connection's transaction has committed."""
    if not records:
        return
    await connection.execute(
        _PUT,
        topic,
        [record.key for record in records],
        [record.value for record in records],
        [json.dumps([(name, text.hex()) for name, text in record.headers]) for record in records],
    )
    await connection.execute(_NOTIFY)


async def put(
    connection: Connection, topic: str, key: bytes | None, value: bytes, headers: Headers | None = None
) -> None:
    """Write a record into the outbox; it is published once the connection's transaction has committed.

    Without `headers` the current trace context goes along.
    """
    given = telemetry.headers() if headers is None else headers
    await put_all(connection, topic, [Record(key=key, value=value, headers=given)])


@asynccontextmanager
async def relaying(database: Database, producer: Producer, health: Health | None = None) -> AsyncIterator[None]:
    """Publish what stands in the outbox until the end of the block; of several instances one does at a time."""
    relay = _Relay(database, producer)
    publishing = Loop(relay.publish, name="relay outbox", health=health, every=_POLL)
    listening = Loop(lambda: relay.listen(publishing.wake), name="listen to outbox", health=health, every=_POLL)
    async with looping(publishing, within=timedelta(seconds=3)), looping(listening):
        yield


class _Relay:
    def __init__(self, database: Database, producer: Producer) -> None:
        self._database = database
        self._producer = producer
        self._lock_key = zlib.crc32(f"outbox {database.schema}".encode())
        self._waiting = 0
        telemetry.meter(__name__).create_observable_gauge(
            "tocsin.outbox.waiting",
            [self._observe],
            unit="{record}",
            description="Records in the outbox that the last look found, at most one batch.",
        )

    async def publish(self) -> None:
        """Publish all that is there."""
        while await self._publish() == _BATCH:
            pass

    async def listen(self, wake: Callable[[], None]) -> None:
        """Wake the relay when a record was committed, until the connection is lost; the slow poll goes on then."""
        async with self._database.connection() as connection:
            await self._listen_on(connection, wake)

    async def _listen_on(self, connection: Connection, wake: Callable[[], None]) -> None:
        channel, lost = f"outbox_{self._database.schema}", asyncio.Event()

        def notified(*_: object) -> None:
            wake()

        connection.add_termination_listener(lambda _: lost.set())
        await connection.add_listener(channel, notified)
        try:
            while not await _is_set_within(lost, _CHECK):
                await connection.execute("SELECT 1")
        finally:
            if not lost.is_set():
                # Nothing that goes wrong here may take the place of a cancellation.
                with suppress(Failure), translate():
                    await connection.remove_listener(channel, notified)

    async def _publish(self) -> int:
        """Publish the oldest records and remove them; returns how many."""
        async with self._database.transaction() as connection:
            # Not SKIP LOCKED: two relays side by side would publish one key's records in either order.
            if not await connection.fetchval("SELECT pg_try_advisory_xact_lock($1)", self._lock_key):
                return 0
            rows = await connection.fetch("SELECT * FROM outbox ORDER BY id LIMIT $1", _BATCH)
            self._waiting = len(rows)
            if rows:
                await asyncio.gather(*[self._send(row) for row in rows])
                await connection.execute("DELETE FROM outbox WHERE id = ANY($1)", [row["id"] for row in rows])
            return len(rows)

    def _send(self, row: asyncpg.Record) -> asyncio.Future[None]:
        headers = list(zip(row["header_names"], row["header_values"], strict=True))
        return self._producer.enqueue(row["topic"], row["value"], row["key"], None, headers)

    def _observe(self, _: CallbackOptions) -> list[Observation]:
        return [Observation(self._waiting)]


async def _is_set_within(event: asyncio.Event, most: timedelta) -> bool:
    try:
        return await asyncio.wait_for(event.wait(), most.total_seconds())
    except TimeoutError:
        return False
