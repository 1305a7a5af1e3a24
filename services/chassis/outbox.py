"""A transactional outbox: records written with the change that they tell of, published afterwards, in order.

Of several instances one publishes, the one that holds the lease, so that the records of a key keep their order. The
lease is a row with an end by the database's clock. It is taken in a statement of its own, and no transaction and no
lock is held while Kafka is waited for: an instance that stands still stops renewing, and the next one goes on.
Records are removed when Kafka has them. What was published by two, because a lease ran out in between, comes twice
and bears the same id; who reads it must take that for once. `SQL` and `LEASE_SQL` belong into the migrations of a
service that uses this.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta

import asyncpg
import structlog
from opentelemetry.metrics import CallbackOptions, Observation
from uuid_utils import uuid7

from services.chassis import telemetry
from services.chassis.failures import Failure, RequestTooLarge
from services.chassis.health import Health
from services.chassis.kafka import Headers, Producer
from services.chassis.loops import Loop, looping
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
_END_LEASE = "UPDATE outbox_lease SET end_time = clock_timestamp() WHERE holder = $1"

# An instance that was killed keeps the others waiting for so long at most.
_LEASE = timedelta(seconds=2)
_RENEW = timedelta(milliseconds=500)
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

    async def listen() -> None:
        await relay.listen(publishing.wake, listening.mark_working)

    listening = Loop(listen, name="listen to outbox", health=health, every=_POLL)
    try:
        async with looping(publishing, within=timedelta(seconds=3)), looping(listening):
            yield
    finally:
        with suppress(Failure):
            await relay.end_lease()


class _Relay:
    def __init__(self, database: Database, producer: Producer) -> None:
        self._database = database
        self._producer = producer
        self._holder = str(uuid7())
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

    async def end_lease(self) -> None:
        """Let another instance go on at once."""
        await self._database.fetch(_END_LEASE, self._holder)

    async def listen(self, wake: Callable[[], None], connected: Callable[[], None]) -> None:
        """Wake the relay when a record was committed, until the connection is lost; the slow poll goes on then."""
        async with self._database.connection() as connection:
            await self._listen_on(connection, wake, connected)

    async def _listen_on(self, connection: Connection, wake: Callable[[], None], connected: Callable[[], None]) -> None:
        channel, lost = f"outbox_{self._database.schema}", asyncio.Event()

        def notified(*_: object) -> None:
            wake()

        connection.add_termination_listener(lambda _: lost.set())
        await connection.add_listener(channel, notified)
        connected()
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
        if not await self._database.fetchrow("SELECT 1 FROM outbox LIMIT 1"):
            self._waiting = 0
            return 0
        if not await self._takes_lease():
            return 0
        # Read after the lease was taken: what its last holder has removed is not published again.
        rows = await self._database.fetch("SELECT * FROM outbox ORDER BY id LIMIT $1", _BATCH)
        self._waiting = len(rows)
        await self._deliver(rows)
        await self._database.fetch("DELETE FROM outbox WHERE id = ANY($1)", [row["id"] for row in rows])
        return len(rows)

    async def _takes_lease(self) -> bool:
        return bool(await self._database.fetchrow(_TAKE_LEASE, self._holder, _LEASE))

    async def _deliver(self, rows: Sequence[asyncpg.Record]) -> None:
        """Return when Kafka has them all; raises the first failure. Meanwhile the lease is renewed."""
        futures = [self._enqueue(row) for row in rows]
        sending = asyncio.gather(*futures, return_exceptions=True)
        while not (await asyncio.wait({sending}, timeout=_RENEW.total_seconds()))[0]:
            await self._takes_lease()
        for row, outcome in zip(rows, sending.result(), strict=True):
            if isinstance(outcome, RequestTooLarge):
                # It would be refused each time, and stop all that comes after it.
                log.error("outbox_record_refused", id=row["id"], topic=row["topic"], bytes=len(row["value"]))
            elif isinstance(outcome, BaseException):
                raise outcome

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


async def _is_set_within(event: asyncio.Event, most: timedelta) -> bool:
    try:
        return await asyncio.wait_for(event.wait(), most.total_seconds())
    except TimeoutError:
        return False
