"""Deliveries, for people to look at, and to retry those that have failed."""

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import TypeVar
from uuid import UUID

import asyncpg

from services.chassis.postgres import Connection, Database
from services.chassis.request_ids import PostgresRequests
from services.notifier.adapters.postgres.deliveries import DELIVERY_COLUMNS, delivery_of
from services.notifier.ports import DeliveryQuery, FailedDelivery, FailedDeliveryQuery, ListedDelivery, RetryTransaction

_T = TypeVar("_T")

_SELECT_PAGE = f"""
SELECT {DELIVERY_COLUMNS} FROM deliveries
WHERE tenant = current_tenant()
  AND ($1::text[] IS NULL OR state = ANY ($1))
  AND ($2 = '' OR channel = $2)
  AND ($3 = '' OR alert_id = $3)
  AND ($4 = '' OR incident_id = $4)
  AND ($5::timestamptz IS NULL OR (created_at, id) < ($5, $6::uuid))
ORDER BY created_at DESC, id DESC
LIMIT $7
"""  # noqa: S608 - nothing but column names is put in

_SELECT_FAILED_PAGE = f"""
SELECT {DELIVERY_COLUMNS} FROM deliveries
WHERE tenant = current_tenant() AND failed_at IS NOT NULL
  AND ($1::text[] IS NULL OR state = ANY ($1))
  AND ($2 = '' OR channel = $2)
  AND ($3::timestamptz IS NULL OR (failed_at, id) < ($3, $4::uuid))
  AND starts_with(id::text, $5)
ORDER BY failed_at DESC, id DESC
LIMIT $6
"""  # noqa: S608 - as above

_MAKE_DUE = f"""
UPDATE deliveries SET state = 'PENDING', turn = 'BY_HAND', due_at = $2, updated_at = $2
WHERE tenant = current_tenant() AND id = $1 AND failed_at IS NOT NULL AND state IN ('FAILED', 'PENDING')
RETURNING {DELIVERY_COLUMNS}
"""  # noqa: S608 - as above

_SELECT_ONE = f"""
SELECT {DELIVERY_COLUMNS} FROM deliveries WHERE tenant = current_tenant() AND id = $1 AND failed_at IS NOT NULL
"""  # noqa: S608 - as above


class PostgresDeliveryLog:
    """Reads the table `deliveries`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def list_page(self, query: DeliveryQuery) -> list[ListedDelivery]:
        states = [state.value for state in query.states] or None
        create_time, last_id = query.after or (None, None)
        rows = await self._database.fetch(
            _SELECT_PAGE,
            states,
            query.channel,
            query.alert_id,
            query.incident_id,
            create_time,
            last_id,
            query.limit,
        )
        return [ListedDelivery(delivery=delivery_of(row), update_time=row["updated_at"]) for row in rows]


class PostgresFailedDeliveries:
    """Reads failed rows of the table `deliveries`, and makes them due."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def list_page(self, query: FailedDeliveryQuery) -> list[FailedDelivery]:
        states = None if query.states is None else [state.value for state in query.states]
        fail_time, last_id = query.after or (None, None)
        rows = await self._database.fetch(
            _SELECT_FAILED_PAGE, states, query.channel, fail_time, last_id, query.id_prefix, query.limit
        )
        return [_failed_delivery(row) for row in rows]

    async def in_transaction(self, work: Callable[[RetryTransaction], Awaitable[_T]]) -> _T:
        return await self._database.run_idempotent(lambda connection: work(_PostgresRetryTransaction(connection)))


class _PostgresRetryTransaction:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.requests = PostgresRequests(connection)

    async def make_due(self, delivery_id: UUID, *, now: datetime) -> FailedDelivery | None:
        row = await self._connection.fetchrow(_MAKE_DUE, delivery_id, now)
        row = row or await self._connection.fetchrow(_SELECT_ONE, delivery_id)
        return None if row is None else _failed_delivery(row)


def _failed_delivery(row: asyncpg.Record) -> FailedDelivery:
    return FailedDelivery(delivery=delivery_of(row), fail_time=row["failed_at"], update_time=row["updated_at"])
