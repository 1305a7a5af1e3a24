"""A transactional outbox: records written with the change that they tell of, published afterwards, in order.

A record is published at least once. `SQL` belongs into the first migration of a service that uses it.
"""

import asyncio
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta

import asyncpg
import structlog
from opentelemetry.metrics import CallbackOptions, Observation

from services.chassis import telemetry
from services.chassis.backoff import Backoff
from services.chassis.failures import Failure
from services.chassis.kafka import Headers, Producer
from services.chassis.lifecycle import background
from services.chassis.postgres import Connection, Database, translate

log = structlog.get_logger()

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


async def put(
    connection: Connection, topic: str, key: bytes | None, value: bytes, headers: Headers | None = None
) -> None:
    """Write a record into the outbox; it is published once the connection's transaction has committed.

    Without `headers` the current trace context goes along.
    """
    given = telemetry.headers() if headers is None else headers
    await connection.execute(
        "INSERT INTO outbox (topic, key, value, header_names, header_values) VALUES ($1, $2, $3, $4, $5)",
        topic,
        key,
        value,
        [name for name, _ in given],
        [text for _, text in given],
    )
    await connection.execute("SELECT pg_notify('outbox_' || current_schema(), '')")


@asynccontextmanager
async def relaying(database: Database, producer: Producer) -> AsyncIterator[None]:
    """Publish what stands in the outbox until the end of the block; of several instances one does at a time."""
    relay = _Relay(database, producer)
    async with (
        background(relay.run(), name="relay outbox", stop=relay.stop, within=timedelta(seconds=3)),
        background(relay.listen(), name="listen to outbox"),
    ):
        yield


class _Relay:
    def __init__(self, database: Database, producer: Producer) -> None:
        self._database = database
        self._producer = producer
        self._wake = asyncio.Event()
        self._is_stopping = False
        self._lock_key = zlib.crc32(f"outbox {database.schema}".encode())
        self._waiting = 0
        self._backoff = Backoff()
        telemetry.meter(__name__).create_observable_gauge(
            "tocsin.outbox.waiting",
            [self._observe],
            unit="{record}",
            description="Records in the outbox that the last look found, at most one batch.",
        )

    def stop(self) -> None:
        self._is_stopping = True
        self._wake.set()

    async def run(self) -> None:
        """Publish until stopped, and a last time then."""
        attempt = 0
        while True:
            was_stopping = self._is_stopping
            self._wake.clear()
            try:
                while await self._publish() == _BATCH:
                    pass
                attempt = 0
            except Failure as failure:
                log.warning("outbox_waits", reason=failure.reason, attempt=attempt)
                await self._nap(self._backoff.delay(attempt))
                attempt += 1
            else:
                await self._nap(_POLL)
            if was_stopping:
                return

    async def listen(self) -> None:
        """Wake the relay when a record was committed; the slow poll goes on where listening fails."""
        while True:
            try:
                async with self._database.connection() as connection:
                    await self._listen_on(connection)
            except Failure:
                await asyncio.sleep(_POLL.total_seconds())

    async def _listen_on(self, connection: Connection) -> None:
        """Listen until the connection is lost."""
        channel, lost = f"outbox_{self._database.schema}", asyncio.Event()
        connection.add_termination_listener(lambda _: lost.set())
        await connection.add_listener(channel, self._notified)
        try:
            while not await _is_set_within(lost, _CHECK):
                await connection.execute("SELECT 1")
        finally:
            if not lost.is_set():
                # Nothing that goes wrong here may take the place of a cancellation.
                with suppress(Failure), translate():
                    await connection.remove_listener(channel, self._notified)

    def _notified(self, *_: object) -> None:
        self._wake.set()

    async def _nap(self, most: timedelta) -> None:
        if not self._is_stopping:
            await _is_set_within(self._wake, most)

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
