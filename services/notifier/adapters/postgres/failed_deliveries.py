"""The deliveries that have failed, for people to look at and to retry, and the requests that did."""

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import TypeVar
from uuid import UUID

import asyncpg

from services.chassis.postgres import Connection, Database
from services.notifier.adapters.postgres.deliveries import DELIVERY_COLUMNS, delivery_of
from services.notifier.ports import (
    AnsweredRequest,
    FailedDelivery,
    FailedDeliveryQuery,
    RepeatableRequest,
    RetryTransaction,
)

_T = TypeVar("_T")

REQUEST_RETENTION = timedelta(hours=24)

_SELECT_PAGE = f"""
SELECT {DELIVERY_COLUMNS} FROM deliveries
WHERE failed_at IS NOT NULL
  AND ($1::text[] IS NULL OR state = ANY ($1))
  AND ($2 = '' OR channel = $2)
  AND ($3::timestamptz IS NULL OR (failed_at, id) < ($3, $4::uuid))
ORDER BY failed_at DESC, id DESC
LIMIT $5
"""  # noqa: S608 - nothing but column names is put in

_MAKE_DUE = f"""
UPDATE deliveries SET state = 'PENDING', turn = 'BY_HAND', due_at = $2, updated_at = $2
WHERE id = $1 AND failed_at IS NOT NULL AND state IN ('FAILED', 'PENDING')
RETURNING {DELIVERY_COLUMNS}
"""  # noqa: S608 - as above

_SELECT_ONE = f"SELECT {DELIVERY_COLUMNS} FROM deliveries WHERE id = $1 AND failed_at IS NOT NULL"  # noqa: S608 - as above

# Waits for a concurrent call with the same id, and then conflicts with it.
_INSERT_REQUEST = """
INSERT INTO request_ids AS first (request_id, digest, create_time) VALUES ($1, $2, $3)
ON CONFLICT (request_id) DO UPDATE
    SET digest = excluded.digest, response = '', create_time = excluded.create_time
    WHERE first.create_time < $3 - $4::interval
RETURNING request_id
"""

_SELECT_REQUEST = "SELECT digest, response FROM request_ids WHERE request_id = $1"
_UPDATE_RESPONSE = "UPDATE request_ids SET response = $2 WHERE request_id = $1"


class PostgresFailedDeliveries:
    """Reads and writes the tables `deliveries` and `request_ids`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def list_page(self, query: FailedDeliveryQuery) -> list[FailedDelivery]:
        states = None if query.states is None else [state.value for state in query.states]
        fail_time, last_id = query.after or (None, None)
        rows = await self._database.fetch(_SELECT_PAGE, states, query.channel, fail_time, last_id, query.limit)
        return [_failed_delivery(row) for row in rows]

    async def in_transaction(self, work: Callable[[RetryTransaction], Awaitable[_T]]) -> _T:
        return await self._database.run_idempotent(lambda connection: work(_PostgresRetryTransaction(connection)))


class _PostgresRetryTransaction:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def insert_request(self, request: RepeatableRequest, *, now: datetime) -> AnsweredRequest | None:
        is_first = await self._connection.fetchrow(_INSERT_REQUEST, request.id, request.digest, now, REQUEST_RETENTION)
        if is_first:
            return None
        row = await self._connection.fetchrow(_SELECT_REQUEST, request.id)
        return AnsweredRequest(digest=row["digest"], response=row["response"]) if row else None

    async def update_response(self, request: RepeatableRequest, response: bytes) -> None:
        await self._connection.execute(_UPDATE_RESPONSE, request.id, response)

    async def make_due(self, delivery_id: UUID, *, now: datetime) -> FailedDelivery | None:
        row = await self._connection.fetchrow(_MAKE_DUE, delivery_id, now)
        row = row or await self._connection.fetchrow(_SELECT_ONE, delivery_id)
        return None if row is None else _failed_delivery(row)


def _failed_delivery(row: asyncpg.Record) -> FailedDelivery:
    return FailedDelivery(delivery=delivery_of(row), fail_time=row["failed_at"], update_time=row["updated_at"])
