"""How long rows are kept, and where those that are older are deleted."""

from datetime import datetime, timedelta

import structlog

from services.chassis.clock import Clock
from services.chassis.postgres import Connection, Database
from services.chassis.request_ids import PURGE_SQL, REQUEST_RETENTION
from services.notifier.core.bundle import BUNDLE_PREFIX

log = structlog.get_logger()

PURGE_INTERVAL = timedelta(minutes=10)

# What failed stays until somebody has taken care of it: those rows are the only trace of what reached nobody. Of a
# subject whose last notification is not its end, or whose end was not delivered yet, everything stays: the channels
# that accepted its beginning get its end. A bundle has no end.
_DELETE_DELIVERIES = """
WITH old AS (
    SELECT id FROM notifications AS mine
    WHERE created_at < $1
      AND NOT EXISTS (SELECT 1 FROM deliveries
                      WHERE notification_id = mine.id AND state NOT IN ('DELIVERED', 'SUPERSEDED'))
      -- The end goes last: it shows that the others may go.
      AND (starts_with(mine.subject_id, $3)
           OR EXISTS (SELECT 1 FROM notifications AS ended
                      WHERE ended.subject_id = mine.subject_id AND ended.kind = 3 AND ended.created_at < $1
                        AND NOT EXISTS (SELECT 1 FROM notifications AS later
                                        WHERE later.subject_id = ended.subject_id AND later.sequence > ended.sequence)
                        AND (ended.id <> mine.id
                             OR NOT EXISTS (SELECT 1 FROM notifications AS other
                                            WHERE other.subject_id = mine.subject_id AND other.id <> mine.id))))
    ORDER BY created_at LIMIT $2
    FOR UPDATE SKIP LOCKED
), deleted AS (
    DELETE FROM deliveries USING old WHERE notification_id = old.id
)
SELECT id FROM old
"""

_DELETE_NOTIFICATIONS = "DELETE FROM notifications WHERE id = ANY ($1)"

_BATCH = 1000


class PostgresRetention:
    """Deletes in small portions, so that nobody waits for a lock for long."""

    def __init__(self, database: Database, clock: Clock, *, retention: timedelta) -> None:
        self._database = database
        self._clock = clock
        self._retention = retention

    async def purge(self) -> None:
        """Delete notifications that were delivered, with their deliveries, and requests that were answered."""
        now = self._clock.now()
        while count := await self._delete_notifications(before=now - self._retention):
            log.info("notifications_purged", notifications=count)
        while await self._database.fetch(PURGE_SQL, now - REQUEST_RETENTION, _BATCH):
            pass

    async def _delete_notifications(self, *, before: datetime) -> int:
        async def work(connection: Connection) -> int:
            ids = [row["id"] for row in await connection.fetch(_DELETE_DELIVERIES, before, _BATCH, BUNDLE_PREFIX)]
            await connection.execute(_DELETE_NOTIFICATIONS, ids)
            return len(ids)

        return await self._database.run_idempotent(work)
