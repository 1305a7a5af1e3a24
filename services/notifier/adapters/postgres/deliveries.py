"""The table `deliveries`: its rows as values, and where they are inserted."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

import asyncpg

from services.chassis.postgres import Connection, Database
from services.notifier.core.delivery import AttemptKind, Delivery, DeliveryReason, DeliveryState
from services.notifier.core.notification import NotificationKind
from services.notifier.core.routing import DeliveryTarget, delivery_id, targets_of
from services.notifier.ports import PlannedNotification

# Named, and not `*`: a column that a later release adds must not change what a prepared statement returns.
DELIVERY_COLUMNS = (
    "id, notification_id, alert_id, kind, channel, fallback_for, state, turn, attempt_count, round_start, due_at, "
    "reason, last_error, created_at, updated_at, failed_at, recipient"
)

_INSERT_NOTIFICATIONS = """
INSERT INTO notifications (id, alert_id, kind, record, traceparent, created_at)
SELECT *, $6 FROM unnest($1::uuid[], $2::text[], $3::smallint[], $4::bytea[], $5::text[])
ON CONFLICT DO NOTHING
"""

# A notification is SUPERSEDED on a channel that took something newer about its alert. Those that come together keep
# their order by a microsecond each.
_INSERT_DELIVERIES = """
INSERT INTO deliveries
    (id, notification_id, alert_id, kind, channel, fallback_for, state, due_at, created_at, updated_at)
SELECT new.id, new.notification_id, new.alert_id, new.kind, new.channel, new.fallback_for,
       CASE WHEN EXISTS (SELECT 1 FROM deliveries AS newer
                         WHERE newer.alert_id = new.alert_id AND newer.channel = new.channel
                           AND newer.kind > new.kind AND newer.state = 'DELIVERED')
            THEN 'SUPERSEDED' ELSE 'PENDING' END,
       new.planned_at, new.planned_at, $7
FROM (
    SELECT *, $7::timestamptz + place * interval '1 microsecond' AS planned_at
    FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::smallint[], $5::text[], $6::text[])
         WITH ORDINALITY AS planned (id, notification_id, alert_id, kind, channel, fallback_for, place)
) AS new
ON CONFLICT DO NOTHING
RETURNING channel
"""

_SELECT_EARLIER_TARGETS = """
SELECT alert_id, kind, channel, fallback_for FROM deliveries
WHERE alert_id = ANY ($1) AND channel = ANY ($2) AND state IN ('PENDING', 'IN_FLIGHT', 'DELIVERED')
ORDER BY created_at, kind
"""

# In one order, so that two that lock several alerts do not wait for each other.
_LOCK_ALERTS = """
SELECT pg_advisory_xact_lock(key)
FROM (SELECT DISTINCT hashtextextended(alert, 0) AS key FROM unnest($1::text[]) AS alert ORDER BY key) AS keys
"""


class NewDelivery(NamedTuple):
    """A delivery to insert."""

    notification_id: UUID
    alert_id: str
    kind: int
    channel: str
    fallback_for: str


class PostgresDeliveryPlans:
    """Inserts notifications and their deliveries, all of a batch or none."""

    def __init__(self, database: Database, *, channels: Iterable[str]) -> None:
        self._database = database
        self._channels = sorted(channels)

    async def insert(self, planned: Sequence[PlannedNotification], *, now: datetime) -> frozenset[str]:
        async def work(connection: Connection) -> frozenset[str]:
            await _insert_notifications(connection, planned, now)
            later = [notification for notification in planned if notification.kind is not NotificationKind.FIRING]
            earlier = await self._earlier_targets(connection, [notification.alert_id for notification in later])
            deliveries = [
                NewDelivery(
                    notification.notification_id,
                    notification.alert_id,
                    notification.kind,
                    target.channel,
                    target.fallback_for,
                )
                for notification in planned
                for target in targets_of(
                    notification.channels,
                    [target for kind, target in earlier[notification.alert_id] if kind < notification.kind],
                    notification.only,
                )
            ]
            return await insert_deliveries(connection, deliveries, now=now)

        return await self._database.run_idempotent(work)

    async def _earlier_targets(
        self, connection: Connection, alert_ids: Sequence[str]
    ) -> Mapping[str, Sequence[tuple[int, DeliveryTarget]]]:
        """Return the targets of each alert with their kinds; nobody adds to them until the transaction ends."""
        targets: dict[str, list[tuple[int, DeliveryTarget]]] = defaultdict(list)
        if not alert_ids:
            return targets
        await lock_alerts(connection, alert_ids)
        for row in await connection.fetch(_SELECT_EARLIER_TARGETS, alert_ids, self._channels):
            target = DeliveryTarget(channel=row["channel"], fallback_for=row["fallback_for"])
            targets[row["alert_id"]].append((row["kind"], target))
        return targets


def delivery_of(row: asyncpg.Record) -> Delivery:
    """Return the delivery in a row."""
    return Delivery(
        id=row["id"],
        notification_id=row["notification_id"],
        alert_id=row["alert_id"],
        kind=NotificationKind(row["kind"]),
        channel=row["channel"],
        fallback_for=row["fallback_for"],
        state=DeliveryState(row["state"]),
        attempt_kind=AttemptKind(row["turn"]),
        attempt_count=row["attempt_count"],
        round_start=row["round_start"],
        due_time=row["due_at"],
        reason=DeliveryReason(row["reason"]) if row["reason"] else None,
        last_error=row["last_error"],
        create_time=row["created_at"],
        fail_time=row["failed_at"],
        recipient=row["recipient"],
    )


async def insert_deliveries(
    connection: Connection, deliveries: Sequence[NewDelivery], *, now: datetime
) -> frozenset[str]:
    """Insert deliveries and leave those that exist as they are; return the channels of the new ones."""
    if not deliveries:
        return frozenset()
    rows = await connection.fetch(
        _INSERT_DELIVERIES,
        [delivery_id(delivery.notification_id, delivery.channel) for delivery in deliveries],
        [delivery.notification_id for delivery in deliveries],
        [delivery.alert_id for delivery in deliveries],
        [delivery.kind for delivery in deliveries],
        [delivery.channel for delivery in deliveries],
        [delivery.fallback_for for delivery in deliveries],
        now,
    )
    return frozenset(row["channel"] for row in rows)


async def lock_alerts(connection: Connection, alert_ids: Iterable[str]) -> None:
    """Be the only one who decides the targets of these alerts, until the transaction ends."""
    await connection.execute(_LOCK_ALERTS, list(alert_ids))


async def _insert_notifications(connection: Connection, planned: Sequence[PlannedNotification], now: datetime) -> None:
    await connection.execute(
        _INSERT_NOTIFICATIONS,
        [notification.notification_id for notification in planned],
        [notification.alert_id for notification in planned],
        [notification.kind for notification in planned],
        [notification.record for notification in planned],
        [notification.traceparent for notification in planned],
        now,
    )
