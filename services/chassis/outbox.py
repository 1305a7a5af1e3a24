"""A transactional outbox: records are written in the transaction of the change, and published afterwards, in order.

One instance at a time publishes, the holder of the lease, so that the records of a key keep their order. The lease is
a row with an end by the database's clock. It is taken in a statement of its own, and no transaction is open and no
lock is held during the wait for Kafka: an instance that hangs stops renewing, and another one takes over. Records are
deleted when Kafka has them. When a lease ran out meanwhile, two instances publish the same record, with the same id;
consumers deduplicate. A service that uses this runs `SQL` and `LEASE_SQL` in its migrations.
"""

import asyncio
import math
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

import asyncpg
import structlog
from opentelemetry.metrics import CallbackOptions, Observation
from uuid_utils import uuid7

from services.chassis import telemetry
from services.chassis.failures import Failure, RequestTooLarge
from services.chassis.health import Health
from services.chassis.kafka import Headers, Producer
from services.chassis.loops import Loop, looping
from services.chassis.postgres import Connection, Database, listen
from services.chassis.postgres_arrays import array_text, bytes_array_text

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

LEASE_SQL = """
CREATE TABLE outbox_lease (
    is_the_only_row boolean PRIMARY KEY DEFAULT true CHECK (is_the_only_row),
    holder text NOT NULL,
    end_time timestamptz NOT NULL
)
"""

_TAKE_LEASE = """
INSERT INTO outbox_lease AS lease (holder, end_time) VALUES ($1, clock_timestamp() + $2::interval)
ON CONFLICT (is_the_only_row) DO UPDATE SET holder = excluded.holder, end_time = excluded.end_time
WHERE lease.holder = excluded.holder OR lease.end_time <= clock_timestamp()
RETURNING true
"""
_DELETE = "DELETE FROM outbox WHERE id = ANY($1)"
_END_LEASE = "UPDATE outbox_lease SET end_time = clock_timestamp() WHERE holder = $1"

# After an instance was killed, the others wait for no longer than this.
_LEASE = timedelta(seconds=2)
_RENEW_EVERY = timedelta(milliseconds=500)
_POLL_EVERY = timedelta(seconds=1)
_BATCH = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxRecord:
    """A record to publish."""

    key: bytes | None
    value: bytes
    headers: Headers


_INSERT = """
WITH written AS (
    INSERT INTO outbox (topic, key, value, header_names, header_values)
    SELECT $1, record.key, record.value, record.names::text[], record.texts::bytea[]
    FROM unnest($2::bytea[], $3::bytea[], $4::text[], $5::text[]) WITH ORDINALITY
        AS record (key, value, names, texts, place)
    ORDER BY place
)
SELECT pg_notify('outbox_' || current_schema(), '')
"""


async def put_all(connection: Connection, topic: str, records: Sequence[OutboxRecord]) -> None:
    """Write records into the outbox, in order; they are published once the connection's transaction has committed."""
    if not records:
        return
    await connection.execute(
        _INSERT,
        topic,
        [record.key for record in records],
        [record.value for record in records],
        [array_text([name for name, _ in record.headers]) for record in records],
        [bytes_array_text([text for _, text in record.headers]) for record in records],
    )


async def put(
    connection: Connection, topic: str, key: bytes | None, value: bytes, headers: Headers | None = None
) -> None:
    """Write a record into the outbox; it is published once the connection's transaction has committed.

    Without `headers` it carries the current trace context.
    """
    headers = telemetry.trace_headers() if headers is None else headers
    await put_all(connection, topic, [OutboxRecord(key=key, value=value, headers=headers)])


@asynccontextmanager
async def relaying(
    database: Database, producer: Producer, health: Health | None = None, *, linger: timedelta = timedelta()
) -> AsyncIterator[None]:
    """Publish the records of the outbox until the end of the block; one instance does it at a time.

    The first ones are published at once; what comes within `linger` of them is published together afterwards.
    """
    relay = _Relay(database, producer, linger)
    publishing = Loop(relay.publish, name="relay outbox", health=health, every=_POLL_EVERY)

    async def listen_to_outbox() -> None:
        # Until the connection is lost; meanwhile the slow poll goes on.
        handlers = {f"outbox_{database.schema}": lambda _: publishing.wake()}
        await listen(database, handlers, connected=listening.mark_working)

    listening = Loop(listen_to_outbox, name="listen to outbox", health=health, every=_POLL_EVERY)
    try:
        async with looping(publishing, stop_timeout=timedelta(seconds=3)), looping(listening):
            yield
    finally:
        with suppress(Failure):
            await relay.end_lease()


class _Outcome(StrEnum):
    PUBLISHED = "published"
    DROPPED = "dropped"


class _Relay:
    def __init__(self, database: Database, producer: Producer, linger: timedelta) -> None:
        self._database = database
        self._producer = producer
        self._linger = linger
        self._holder = str(uuid7())
        # When the lease was last taken, on the clock that never goes back.
        self._lease_time = -math.inf
        self._waiting = 0
        meter = telemetry.meter(__name__)
        meter.create_observable_gauge(
            "tocsin.outbox.waiting",
            [self._observe],
            unit="{record}",
            description="Records in the outbox at the last poll, at most one batch.",
        )
        self._records = meter.create_counter(
            "tocsin.outbox.records", description="Records that left the outbox, by outcome."
        )
        for outcome in _Outcome:
            # So that the first one is an increase.
            self._records.add(0, {"outcome": outcome.value})

    async def publish(self) -> None:
        """Publish all records of the outbox, and let later ones linger."""
        published = count = await self._publish_batch()
        while count == _BATCH:
            count = await self._publish_batch()
        if published:
            await asyncio.sleep(self._linger.total_seconds())

    async def end_lease(self) -> None:
        """Let another instance take the lease at once."""
        self._lease_time = -math.inf
        await self._database.fetch(_END_LEASE, self._holder)

    async def _publish_batch(self) -> int:
        """Publish the oldest records and delete them; return how many."""
        rows = await self._database.run_once_more(self._take_batch)
        self._waiting = len(rows)
        if not rows:
            return 0
        too_large = await self._send(rows)
        ids = [row["id"] for row in rows]
        await self._database.run_once_more(lambda connection: connection.execute(_DELETE, ids))
        self._report(len(rows) - len(too_large), too_large)
        return len(rows)

    async def _take_batch(self, connection: Connection) -> list[asyncpg.Record]:
        """Return the oldest records, none where another instance has the lease."""
        if not self._has_fresh_lease():
            if not await connection.fetchrow("SELECT 1 FROM outbox LIMIT 1"):
                return []
            if not await self._take_lease(connection):
                return []
        # Read after the lease was taken: what its last holder has deleted is not published again.
        return await connection.fetch("SELECT * FROM outbox ORDER BY id LIMIT $1", _BATCH)

    def _has_fresh_lease(self) -> bool:
        """Return whether the lease was taken so lately that it lasts until it is renewed."""
        return self._database.clock.monotonic() - self._lease_time < _RENEW_EVERY.total_seconds()

    async def _take_lease(self, connection: Connection) -> bool:
        asked = self._database.clock.monotonic()
        is_taken = bool(await connection.fetchrow(_TAKE_LEASE, self._holder, _LEASE))
        self._lease_time = asked if is_taken else -math.inf
        return is_taken

    async def _send(self, rows: Sequence[asyncpg.Record]) -> list[asyncpg.Record]:
        """Send records to Kafka and wait for all of them, renewing the lease; return those that are too large.

        Kafka would refuse these each time, and they would block all records after them. Raise any other failure.
        """
        futures = [self._enqueue(row) for row in rows]
        sending = asyncio.gather(*futures, return_exceptions=True)
        while not (await asyncio.wait({sending}, timeout=_RENEW_EVERY.total_seconds()))[0]:
            await self._database.run_once_more(self._take_lease)
        too_large = []
        for row, error in zip(rows, sending.result(), strict=True):
            if isinstance(error, RequestTooLarge):
                too_large.append(row)
            elif error is not None:
                raise error
        return too_large

    def _report(self, published: int, dropped: Sequence[asyncpg.Record]) -> None:
        self._records.add(published, {"outcome": _Outcome.PUBLISHED.value})
        self._records.add(len(dropped), {"outcome": _Outcome.DROPPED.value})
        for row in dropped:
            log.error("outbox_record_dropped", id=row["id"], topic=row["topic"], bytes=len(row["value"]))

    def _enqueue(self, row: asyncpg.Record) -> asyncio.Future[None]:
        headers = list(zip(row["header_names"], row["header_values"], strict=True))
        try:
            return self._producer.enqueue(row["topic"], row["value"], row["key"], None, headers)
        except Failure as failure:
            refused: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            refused.set_exception(failure)
            return refused

    def _observe(self, _: CallbackOptions) -> list[Observation]:
        return [Observation(self._waiting)]
