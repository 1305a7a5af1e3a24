"""What was delivered long ago."""

from datetime import datetime

from services.chassis.postgres import Connection, Database

# What failed stays until somebody has seen to it: PENDING ones are the only trace of what was not told.
_FORGET = """
WITH old AS (
    SELECT id FROM notifications
    WHERE created_at < $1
      AND NOT EXISTS (SELECT 1 FROM deliveries
                      WHERE notification_id = notifications.id AND state NOT IN ('DELIVERED', 'SUPERSEDED'))
    ORDER BY created_at LIMIT 1000
    FOR UPDATE SKIP LOCKED
), gone AS (
    DELETE FROM deliveries USING old WHERE notification_id = old.id
)
SELECT id FROM old
"""


class PostgresArchive:
    """The tables of notifications and deliveries."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def forget(self, *, before: datetime) -> int:
        """Forget a portion of what came before that moment and has ended well; gives how many."""

        async def work(connection: Connection) -> int:
            rows = await connection.fetch(_FORGET, before)
            found = [row["id"] for row in rows]
            await connection.execute("DELETE FROM notifications WHERE id = ANY ($1)", found)
            return len(found)

        return await self._database.once_more(work)
