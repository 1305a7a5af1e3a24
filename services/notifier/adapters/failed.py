"""The deliveries that failed in the end, for people to look at and to retry."""

from datetime import datetime
from uuid import UUID

import asyncpg

from services.chassis.postgres import Database
from services.notifier.adapters.rows import COLUMNS, delivery_of
from services.notifier.ports import Failed, FailedQuery

_PAGE = f"""
SELECT {COLUMNS} FROM deliveries
WHERE failed_at IS NOT NULL
  AND ($1::text[] IS NULL OR state = ANY ($1))
  AND ($2 = '' OR channel = $2)
  AND ($3::timestamptz IS NULL OR (failed_at, id) < ($3, $4::uuid))
ORDER BY failed_at DESC, id DESC
LIMIT $5
"""  # noqa: S608 - nothing but column names is put in

_RETRY = f"""
UPDATE deliveries SET state = 'PENDING', turn = 'BY_HAND', due_at = $2, updated_at = $2
WHERE id = $1 AND failed_at IS NOT NULL AND state IN ('FAILED', 'PENDING')
RETURNING {COLUMNS}
"""  # noqa: S608 - nothing but column names is put in

_ONE = f"SELECT {COLUMNS} FROM deliveries WHERE id = $1 AND failed_at IS NOT NULL"  # noqa: S608 - as above


class PostgresFailedOnes:
    """Reads and writes the table of deliveries."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def page(self, query: FailedQuery) -> list[Failed]:
        """Give one page, the newest failure first."""
        states = None if query.states is None else [state.value for state in query.states]
        failed_at, last = query.after or (None, None)
        rows = await self._database.fetch(_PAGE, states, query.channel, failed_at, last, query.most)
        return [_failed(row) for row in rows]

    async def retry(self, delivery: UUID, *, now: datetime) -> Failed | None:
        """Make one due at once when it failed or waits; one in flight, delivered or superseded is given as it is."""
        row = await self._database.fetchrow(_RETRY, delivery, now) or await self._database.fetchrow(_ONE, delivery)
        return None if row is None else _failed(row)


def _failed(row: asyncpg.Record) -> Failed:
    return Failed(delivery=delivery_of(row), failed_at=row["failed_at"], updated_at=row["updated_at"])
