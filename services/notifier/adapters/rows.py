"""Between rows of the table `deliveries` and the core's values."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

import asyncpg

from services.chassis.postgres import Connection
from services.notifier.core.delivery import Delivery, Reason, State, Turn
from services.notifier.core.message import Kind
from services.notifier.core.routing import delivery_id

COLUMNS = (
    "id, notification_id, alert_id, kind, channel, fallback_for, state, turn, attempt_count, round_start, due_at, "
    "reason, last_error, created_at, updated_at, failed_at"
)


def delivery_of(row: asyncpg.Record) -> Delivery:
    """The delivery in a row."""
    return Delivery(
        id=row["id"],
        notification_id=row["notification_id"],
        alert_id=row["alert_id"],
        kind=Kind(row["kind"]),
        channel=row["channel"],
        fallback_for=row["fallback_for"],
        state=State(row["state"]),
        turn=Turn(row["turn"]),
        attempt_count=row["attempt_count"],
        round_start=row["round_start"],
        due_at=row["due_at"],
        reason=Reason(row["reason"]) if row["reason"] else None,
        last_error=row["last_error"],
        created_at=row["created_at"],
        failed_at=row["failed_at"],
    )


class NewDelivery(NamedTuple):
    """A delivery that is to be planned."""

    notification_id: UUID
    alert_id: str
    kind: int
    channel: str
    fallback_for: str


# What comes after something newer about its alert was told on a channel is not told there any more. Those that come
# together keep their order by a microsecond each.
_INSERT = """
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
         WITH ORDINALITY AS given (id, notification_id, alert_id, kind, channel, fallback_for, place)
) AS new
ON CONFLICT DO NOTHING
RETURNING channel
"""

# In one order, so that two who lock several alerts do not wait for each other.
_LOCK = """
SELECT pg_advisory_xact_lock(key)
FROM (SELECT DISTINCT hashtextextended(alert, 0) AS key FROM unnest($1::text[]) AS alert ORDER BY key) AS keys
"""


async def insert(connection: Connection, found: Sequence[NewDelivery], *, now: datetime) -> frozenset[str]:
    """Plan deliveries; those known already stay as they are. Gives the channels of the new ones."""
    if not found:
        return frozenset()
    rows = await connection.fetch(
        _INSERT,
        [delivery_id(one.notification_id, one.channel) for one in found],
        [one.notification_id for one in found],
        [one.alert_id for one in found],
        [one.kind for one in found],
        [one.channel for one in found],
        [one.fallback_for for one in found],
        now,
    )
    return frozenset(row["channel"] for row in rows)


async def lock_alerts(connection: Connection, alerts: Iterable[str]) -> None:
    """Until the transaction ends, be the only one who decides which channels tell of these alerts."""
    await connection.execute(_LOCK, list(alerts))
