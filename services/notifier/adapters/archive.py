"""What was delivered long ago."""

from datetime import datetime

from services.chassis.postgres import Connection, Database

# What failed stays until somebody has seen to it: PENDING ones are the only trace of what was not told. Of an alert
# whose end was not told yet everything stays: who heard that it began is to hear how it ends.
_FORGET = """
WITH old AS (
    SELECT id FROM notifications AS told
    WHERE created_at < $1
      AND NOT EXISTS (SELECT 1 FROM deliveries
                      WHERE notification_id = told.id AND state NOT IN ('DELIVERED', 'SUPERSEDED'))
      -- The end goes last: it shows that the others may go.
      AND CASE kind WHEN 3
          THEN NOT EXISTS (SELECT 1 FROM notifications AS other
                           WHERE other.alert_id = told.alert_id AND other.id <> told.id)
          ELSE EXISTS (SELECT 1 FROM notifications AS ended
                       WHERE ended.alert_id = told.alert_id AND ended.kind = 3 AND ended.created_at < $1) END
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

        return await self._database.run_idempotent(work)
