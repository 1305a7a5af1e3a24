"""What the store of failed deliveries promises: one suite for the one in memory and the real one."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from uuid import UUID

import pytest

from services.chassis.migrations import migrate
from services.chassis.postgres import Database, connect
from services.chassis.request_ids import PostgresRequests
from services.chassis.settings import PostgresSettings, Secret
from services.chassis.tenants import as_tenant
from services.notifier.adapters.postgres.delivery_log import PostgresDeliveryLog, PostgresFailedDeliveries
from services.notifier.adapters.postgres.retention import PostgresRetention
from services.notifier.app import MIGRATIONS, SCHEMA
from services.notifier.core.delivery import AttemptKind, DeliveryState
from services.notifier.ports import (
    DeliveryQuery,
    FailedDeliveries,
    FailedDelivery,
    FailedDeliveryQuery,
    RetryTransaction,
)
from tests.fakes.clock import FakeClock
from tests.fakes.notifier import NOW, MemoryDeliveryLog, MemoryFailedDeliveries, failed_delivery

FAILED = [failed_delivery(number=number) for number in (1, 2, 3)]
DELIVERED = failed_delivery(number=4, state=DeliveryState.DELIVERED)


def query(limit: int = 10, after: FailedDelivery | None = None, channel: str = "") -> FailedDeliveryQuery:
    return FailedDeliveryQuery(
        states=frozenset({DeliveryState.FAILED}),
        channel=channel,
        limit=limit,
        after=None if after is None else (after.fail_time, after.delivery.id),
    )


class FailedDeliveriesContract:
    async def test_pages_go_from_the_newest_to_the_oldest(self, store: FailedDeliveries) -> None:
        first, second, third = reversed(FAILED)
        assert await store.list_page(query(limit=2)) == [first, second]
        assert await store.list_page(query(after=second)) == [third]
        assert await store.list_page(query(channel="email")) == []
        assert await store.list_page(replace(query(), id_prefix=str(second.delivery.id))) == [second]
        assert await store.list_page(replace(query(), states=None, limit=1)) == [DELIVERED]

    async def test_what_failed_is_made_due_by_hand(self, store: FailedDeliveries) -> None:
        async def work(transaction: RetryTransaction) -> FailedDelivery | None:
            return await transaction.make_due(UUID(int=1), now=NOW)

        retried = await store.in_transaction(work)
        assert retried is not None
        delivery = retried.delivery
        assert (delivery.state, delivery.attempt_kind, delivery.due_time, retried.update_time) == (
            DeliveryState.PENDING,
            AttemptKind.BY_HAND,
            NOW,
            NOW,
        )
        assert await store.in_transaction(work) == retried

    async def test_what_was_delivered_is_given_as_it_is(self, store: FailedDeliveries) -> None:
        async def work(transaction: RetryTransaction) -> list[FailedDelivery | None]:
            return [await transaction.make_due(UUID(int=number), now=NOW) for number in (4, 99)]

        assert await store.in_transaction(work) == [DELIVERED, None]

    async def test_what_fails_leaves_nothing_behind(self, store: FailedDeliveries) -> None:
        async def fail(transaction: RetryTransaction) -> None:
            await transaction.requests.insert("r1", "d1", now=NOW)
            await transaction.make_due(UUID(int=1), now=NOW)
            raise LookupError

        with pytest.raises(LookupError):
            await store.in_transaction(fail)

        async def insert(transaction: RetryTransaction) -> tuple[str, bytes] | None:
            return await transaction.requests.insert("r1", "d2", now=NOW)

        assert await store.in_transaction(insert) is None
        assert await store.list_page(query()) == FAILED[::-1]


class TestMemoryFailedDeliveries(FailedDeliveriesContract):
    @pytest.fixture
    def store(self) -> FailedDeliveries:
        return MemoryFailedDeliveries([*FAILED, DELIVERED])


@pytest.mark.integration
class TestPostgresFailedDeliveries(FailedDeliveriesContract):
    @pytest.fixture
    async def database_with_rows(self, database: str) -> AsyncIterator[Database]:
        settings = PostgresSettings(database_url=Secret(database))
        await migrate(settings, schema=SCHEMA, scripts=MIGRATIONS)
        async with connect(settings, schema=SCHEMA) as opened:
            for failed in (*FAILED, DELIVERED):
                await insert(opened, failed)
            yield opened

    @pytest.fixture
    def store(self, database_with_rows: Database) -> FailedDeliveries:
        return PostgresFailedDeliveries(database_with_rows)

    async def test_the_log_has_all_deliveries_by_age(self, database_with_rows: Database) -> None:
        log = PostgresDeliveryLog(database_with_rows)
        everything = DeliveryQuery(states=frozenset(), channel="", alert_id="", incident_id="", limit=3, after=None)
        memory = MemoryDeliveryLog(failed.delivery for failed in (*FAILED, DELIVERED))
        pages = [everything, replace(everything, after=(NOW, UUID(int=2)))]
        pages += [replace(everything, alert_id="alert-2"), replace(everything, channel="email")]
        pages += [replace(everything, incident_id="incident-2"), replace(everything, incident_id="other")]
        pages += [replace(everything, states=frozenset({DeliveryState.DELIVERED}))]
        for asked in pages:
            expected = [listed.delivery for listed in await memory.list_page(asked)]
            assert [listed.delivery for listed in await log.list_page(asked)] == expected

    async def test_another_tenant_has_none_of_them(self, database_with_rows: Database) -> None:
        store, log = PostgresFailedDeliveries(database_with_rows), PostgresDeliveryLog(database_with_rows)
        everything = DeliveryQuery(states=frozenset(), channel="", alert_id="", incident_id="", limit=9, after=None)

        async def work(transaction: RetryTransaction) -> FailedDelivery | None:
            return await transaction.make_due(UUID(int=1), now=NOW)

        with as_tenant("acme"):
            assert await store.list_page(query()) == []
            assert await store.in_transaction(work) is None
            assert await log.list_page(everything) == []
            # Nor would a statement without a condition.
            assert await database_with_rows.fetch("SELECT FROM deliveries") == []
            assert await database_with_rows.fetch("SELECT FROM failed_notifications") == []
        assert len(await log.list_page(everything)) == 4

    async def test_requests_are_purged_after_a_day(self, database_with_rows: Database) -> None:
        clock = FakeClock(NOW)
        for request_id, hours in (("old", 0), ("new", 2)):
            async with database_with_rows.transaction() as connection:
                await PostgresRequests(connection).insert(request_id, "d", now=NOW + timedelta(hours=hours))
        clock.advance(timedelta(hours=25))
        await PostgresRetention(database_with_rows, clock, retention=timedelta(days=90)).purge()
        rows = await database_with_rows.fetch("SELECT request_id FROM request_ids")
        assert [row["request_id"] for row in rows] == ["new"]


async def insert(database: Database, failed: FailedDelivery) -> None:
    delivery = failed.delivery
    await database.fetch(
        "INSERT INTO notifications (id, subject_id, sequence, alert_id, incident_id, kind, record, traceparent,"
        " created_at) VALUES ($1, $2, $3, $4, $5, 1, '', '', $6)",
        delivery.notification_id,
        delivery.subject_id,
        delivery.sequence,
        delivery.alert_id,
        delivery.incident_id,
        NOW,
    )
    await database.fetch(
        "INSERT INTO deliveries (id, notification_id, alert_id, kind, channel, state, attempt_count, due_at, reason,"
        " last_error, created_at, updated_at, failed_at, subject_id, sequence, incident_id)"
        " VALUES ($1, $2, $3, 1, 'slack', $4, 1, $5, 'REFUSED', 'answered 400', $6, $5, $5, $7, $8, $9)",
        delivery.id,
        delivery.notification_id,
        delivery.alert_id,
        delivery.state.value,
        failed.fail_time,
        NOW,
        delivery.subject_id,
        delivery.sequence,
        delivery.incident_id,
    )
