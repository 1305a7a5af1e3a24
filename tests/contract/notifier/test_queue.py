"""The queue of a channel: what leases and outcomes cost does not grow with the deliveries that wait."""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from enum import StrEnum

import asyncpg
import pytest

from services.chassis.migrations import migrate
from services.chassis.postgres import Database, connect
from services.chassis.settings import PostgresSettings, Secret
from services.notifier.adapters.postgres.outcomes import PostgresDeliveryOutcomes
from services.notifier.adapters.postgres.queue import QUEUE_SESSION, PostgresDeliveryQueue
from services.notifier.app import MIGRATIONS, SCHEMA
from services.notifier.core.delivery import DeliveryReason, DeliveryState
from services.notifier.ports import DeliveryOutcome, LeasedDelivery, QueueFilter
from tests.fakes.notifier import NOW, failed_delivery

pytestmark = pytest.mark.integration

LATER = NOW + timedelta(seconds=1)
# For each channel twenty times as many wait.
MAX_READ = 200
_INSERT_NOTIFICATIONS = """
INSERT INTO notifier.notifications
    (id, subject_id, sequence, alert_id, incident_id, kind, record, traceparent, created_at)
SELECT gen_random_uuid(), $1 || ' ' || number, 1, '', '', 1, '', '', $3::timestamptz + number * interval '1 microsecond'
FROM generate_series(1, $2::integer) AS number
"""
_INSERT_DELIVERIES = """
INSERT INTO notifier.deliveries
    (id, notification_id, alert_id, kind, channel, state, due_at, created_at, updated_at, subject_id, sequence)
SELECT gen_random_uuid(), id, '', 1, channel, $2, created_at, created_at, created_at, subject_id, sequence
FROM notifier.notifications, unnest(ARRAY['webhook', 'slack']) AS channel
WHERE starts_with(subject_id, $1) ORDER BY created_at
"""
_ANALYZE = "VACUUM ANALYZE notifier.deliveries"


class Statistics(StrEnum):
    """When the planner's statistics were taken: never, while nothing waited, or while all did.

    Never too, and a plan was made while the tables were empty, which the session keeps.
    """

    PLANNED = "planned"
    NONE = "none"
    EMPTY = "empty"
    FULL = "full"


@pytest.fixture(params=Statistics)
async def waiting(database: str, request: pytest.FixtureRequest) -> AsyncIterator[Database]:
    """Yield a database with one session, which counts what it reads, and with deliveries that wait."""
    settings = PostgresSettings(database_url=Secret(database), pool_size=1)
    await migrate(settings, schema=SCHEMA, scripts=MIGRATIONS)
    owner = await asyncpg.connect(database)
    async with connect(settings, schema=SCHEMA, serves_all=True, session=QUEUE_SESSION) as opened:
        if request.param is Statistics.PLANNED:
            await plan(opened)
        await insert(owner, "former", 100 * MAX_READ, DeliveryState.DELIVERED)
        if request.param is Statistics.EMPTY:
            await owner.execute(_ANALYZE)
        await insert(owner, "subject", 20 * MAX_READ, DeliveryState.PENDING)
        if request.param is Statistics.FULL:
            await owner.execute(_ANALYZE)
        await owner.close()
        yield opened


@pytest.mark.parametrize("selected", [QueueFilter.DUE, QueueFilter.WAITING])
async def test_a_lease_reads_few_of_the_deliveries_that_wait(waiting: Database, selected: QueueFilter) -> None:
    leased: list[LeasedDelivery] = []

    async def act() -> None:
        leased.extend(await lease(waiting, selected, limit=8))

    assert await count_read(waiting, act) < MAX_READ
    assert [each.delivery.subject_id for each in leased] == [f"subject {number}" for number in range(1, 9)]


async def test_an_outcome_reads_few_of_the_deliveries_that_wait(waiting: Database) -> None:
    (leased,) = await lease(waiting, QueueFilter.DUE, limit=1)
    newer = replace(leased.delivery, sequence=2)
    # Others about the same subject.
    await waiting.fetch("UPDATE deliveries SET subject_id = $1 WHERE subject_id = 'subject 2'", newer.subject_id)
    outcomes = PostgresDeliveryOutcomes(waiting, instance="n1", fallbacks={}, probe_interval=timedelta(minutes=1))
    after = replace(newer, state=DeliveryState.DELIVERED, reason=DeliveryReason.DELIVERED)

    async def act() -> None:
        await outcomes.record(DeliveryOutcome(before=newer, after=after), now=LATER)

    assert await count_read(waiting, act) < MAX_READ
    rows = await waiting.fetch("SELECT state FROM deliveries WHERE subject_id = $1", newer.subject_id)
    assert sorted(row["state"] for row in rows) == ["DELIVERED", "PENDING", "PENDING", "SUPERSEDED"]


async def plan(database: Database) -> None:
    """Use the statements so often that the server keeps a plan."""
    delivery = failed_delivery(state=DeliveryState.IN_FLIGHT).delivery
    outcomes = PostgresDeliveryOutcomes(database, instance="n1", fallbacks={}, probe_interval=timedelta(minutes=1))
    after = replace(delivery, state=DeliveryState.DELIVERED, reason=DeliveryReason.DELIVERED)
    for _ in range(6):
        await lease(database, QueueFilter.DUE, limit=8)
        await lease(database, QueueFilter.WAITING, limit=8)
        await outcomes.record(DeliveryOutcome(before=delivery, after=after), now=NOW)


async def insert(owner: "asyncpg.Connection[asyncpg.Record]", name: str, count: int, state: DeliveryState) -> None:
    await owner.execute(_INSERT_NOTIFICATIONS, name, count, NOW)
    await owner.execute(_INSERT_DELIVERIES, name, state.value)


async def lease(database: Database, selected: QueueFilter, *, limit: int) -> list[LeasedDelivery]:
    queue = PostgresDeliveryQueue(database, instance="n1", lease=timedelta(minutes=1))
    return await queue.lease("webhook", selected, limit=limit, now=LATER)


async def count_read(database: Database, act: Callable[[], Awaitable[None]]) -> int:
    """Return how many entries of indexes, and rows without an index, are read of the deliveries meanwhile."""
    before = await _count(database)
    await act()
    return await _count(database) - before


async def _count(database: Database) -> int:
    await database.fetch("SELECT pg_stat_force_next_flush()")
    (row,) = await database.fetch(
        "SELECT (SELECT sum(idx_tup_read) FROM pg_stat_user_indexes WHERE relname = 'deliveries')"
        " + (SELECT seq_tup_read FROM pg_stat_user_tables WHERE relname = 'deliveries') AS count"
    )
    return int(row["count"])
