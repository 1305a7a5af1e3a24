"""What the store of failed deliveries promises: one suite for the one in memory and the real one."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import timedelta
from uuid import UUID

import asyncpg
import pytest

from services.chassis.postgres import connect, migrate
from services.chassis.settings import PostgresSettings, Secret
from services.notifier.adapters.postgres.failed_deliveries import PostgresFailedDeliveries
from services.notifier.adapters.postgres.retention import PostgresRetention
from services.notifier.app import MIGRATIONS, SCHEMA
from services.notifier.core.delivery import AttemptKind, DeliveryState
from services.notifier.ports import (
    AnsweredRequest,
    FailedDeliveries,
    FailedDelivery,
    FailedDeliveryQuery,
    RepeatableRequest,
    RetryTransaction,
)
from tests.fakes.clock import FakeClock
from tests.fakes.notifier import NOW, MemoryFailedDeliveries, failed_delivery

FAILED = [failed_delivery(number=number) for number in (1, 2, 3)]
DELIVERED = failed_delivery(number=4, state=DeliveryState.DELIVERED)
REQUEST = RepeatableRequest(id="r1", digest="d1")


def query(limit: int = 10, after: FailedDelivery | None = None, channel: str = "") -> FailedDeliveryQuery:
    return FailedDeliveryQuery(
        states=frozenset({DeliveryState.FAILED}),
        channel=channel,
        limit=limit,
        after=None if after is None else (after.fail_time, after.delivery.id),
    )


async def ask(
    store: FailedDeliveries, response: bytes, *, later: timedelta = timedelta(), request: RepeatableRequest = REQUEST
) -> AnsweredRequest | None:
    """Insert a request, and give the response when it is the first one."""

    async def work(transaction: RetryTransaction) -> AnsweredRequest | None:
        first = await transaction.insert_request(request, now=NOW + later)
        if first is None:
            await transaction.update_response(request, response)
        return first

    return await store.in_transaction(work)


class FailedDeliveriesContract:
    async def test_pages_go_from_the_newest_to_the_oldest(self, store: FailedDeliveries) -> None:
        first, second, third = reversed(FAILED)
        assert await store.list_page(query(limit=2)) == [first, second]
        assert await store.list_page(query(after=second)) == [third]
        assert await store.list_page(query(channel="email")) == []
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

    async def test_a_request_is_answered_as_the_first_time_for_a_day(self, store: FailedDeliveries) -> None:
        assert await ask(store, b"first") is None
        other = replace(REQUEST, digest="d2")
        first = AnsweredRequest(digest="d1", response=b"first")
        assert await ask(store, b"second", later=timedelta(hours=23), request=other) == first
        assert await ask(store, b"third", later=timedelta(hours=25), request=other) is None
        third = AnsweredRequest(digest="d2", response=b"third")
        assert await ask(store, b"fourth", later=timedelta(hours=26)) == third

    async def test_of_two_at_once_with_one_request_id_one_is_first(self, store: FailedDeliveries) -> None:
        answered = await asyncio.gather(*(ask(store, b"%d" % number) for number in range(5)))
        assert list(answered).count(None) == 1
        assert len({first.response for first in answered if first is not None}) == 1

    async def test_what_fails_leaves_nothing_behind(self, store: FailedDeliveries) -> None:
        async def fail(transaction: RetryTransaction) -> None:
            await transaction.insert_request(REQUEST, now=NOW)
            await transaction.make_due(UUID(int=1), now=NOW)
            raise LookupError

        with pytest.raises(LookupError):
            await store.in_transaction(fail)
        assert await ask(store, b"first") is None
        assert await store.list_page(query()) == FAILED[::-1]


class TestMemoryFailedDeliveries(FailedDeliveriesContract):
    @pytest.fixture
    def store(self) -> FailedDeliveries:
        return MemoryFailedDeliveries([*FAILED, DELIVERED])


@dataclass(frozen=True, slots=True)
class Postgres:
    """The real store, and what deletes its old rows."""

    url: str
    store: PostgresFailedDeliveries
    retention: PostgresRetention
    clock: FakeClock

    async def fetch(self, statement: str) -> list[asyncpg.Record]:
        connection = await asyncpg.connect(self.url, server_settings={"search_path": SCHEMA})
        try:
            return await connection.fetch(statement)
        finally:
            await connection.close()


@pytest.mark.integration
class TestPostgresFailedDeliveries(FailedDeliveriesContract):
    @pytest.fixture
    async def postgres(self, database: str) -> AsyncIterator[Postgres]:
        settings, clock = PostgresSettings(database_url=Secret(database)), FakeClock(NOW)
        await migrate(settings, schema=SCHEMA, scripts=MIGRATIONS)
        async with connect(settings, schema=SCHEMA) as opened:
            retention = PostgresRetention(opened, clock, retention=timedelta(days=90))
            postgres = Postgres(database, PostgresFailedDeliveries(opened), retention, clock)
            for failed in (*FAILED, DELIVERED):
                await opened.fetch(
                    "INSERT INTO notifications (id, alert_id, kind, record, traceparent, created_at)"
                    " VALUES ($1, $2, 1, '', '', $3)",
                    failed.delivery.notification_id,
                    failed.delivery.alert_id,
                    NOW,
                )
                await opened.fetch(
                    "INSERT INTO deliveries (id, notification_id, alert_id, kind, channel, state, attempt_count,"
                    " due_at, reason, last_error, created_at, updated_at, failed_at)"
                    " VALUES ($1, $2, $3, 1, 'slack', $4, 1, $5, 'REFUSED', 'answered 400', $6, $5, $5)",
                    failed.delivery.id,
                    failed.delivery.notification_id,
                    failed.delivery.alert_id,
                    failed.delivery.state.value,
                    failed.fail_time,
                    NOW,
                )
            yield postgres

    @pytest.fixture
    def store(self, postgres: Postgres) -> FailedDeliveries:
        return postgres.store

    async def test_requests_are_purged_after_a_day(self, postgres: Postgres) -> None:
        await ask(postgres.store, b"old")
        await ask(postgres.store, b"new", later=timedelta(hours=2), request=replace(REQUEST, id="r2"))
        postgres.clock.advance(timedelta(hours=25))
        await postgres.retention.purge()
        assert [row["request_id"] for row in await postgres.fetch("SELECT request_id FROM request_ids")] == ["r2"]
