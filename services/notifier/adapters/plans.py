"""Taking notifications in."""

from collections.abc import Sequence
from datetime import datetime

from services.chassis.postgres import Connection, Database
from services.notifier.core.routing import delivery_id
from services.notifier.ports import Planned

_NOTIFICATIONS = """
INSERT INTO notifications (id, alert_id, kind, record, traceparent, created_at)
SELECT *, $6 FROM unnest($1::uuid[], $2::text[], $3::smallint[], $4::bytea[], $5::text[])
ON CONFLICT DO NOTHING
"""

# What comes after something newer about its alert was told on a channel is not told there any more.
PLAN = """
INSERT INTO deliveries
    (id, notification_id, alert_id, kind, channel, fallback_for, state, due_at, created_at, updated_at)
SELECT new.id, new.notification_id, new.alert_id, new.kind, new.channel, new.fallback_for,
       CASE WHEN EXISTS (SELECT 1 FROM deliveries AS newer
                         WHERE newer.alert_id = new.alert_id AND newer.channel = new.channel
                           AND newer.kind > new.kind AND newer.state = 'DELIVERED')
            THEN 'SUPERSEDED' ELSE 'PENDING' END,
       $7, $7, $7
FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::smallint[], $5::text[], $6::text[])
     AS new (id, notification_id, alert_id, kind, channel, fallback_for)
ON CONFLICT DO NOTHING
RETURNING channel
"""


class PostgresPlans:
    """Keeps notifications and their deliveries, all of a batch or none."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, planned: Sequence[Planned], *, now: datetime) -> frozenset[str]:
        """Keep them; those known already stay as they are."""

        async def work(connection: Connection) -> frozenset[str]:
            await connection.execute(
                _NOTIFICATIONS,
                [one.notification_id for one in planned],
                [one.alert_id for one in planned],
                [one.kind for one in planned],
                [one.record for one in planned],
                [one.traceparent for one in planned],
                now,
            )
            pairs = [(one, channel) for one in planned for channel in one.channels]
            rows = await connection.fetch(
                PLAN,
                [delivery_id(one.notification_id, channel) for one, channel in pairs],
                [one.notification_id for one, _ in pairs],
                [one.alert_id for one, _ in pairs],
                [one.kind for one, _ in pairs],
                [channel for _, channel in pairs],
                [""] * len(pairs),
                now,
            )
            return frozenset(row["channel"] for row in rows)

        return await self._database.once_more(work)
