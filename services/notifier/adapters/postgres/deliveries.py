"""The table `deliveries`: its rows as values, and where they are inserted."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import NamedTuple
from uuid import UUID

import asyncpg

from services.chassis import outbox, telemetry
from services.chassis.postgres import Connection, Database
from services.contract.topics import NOTIFICATION_RESULTS
from services.domain.tenants import TenantLimits
from services.domain.trace_context import headers_of
from services.notifier.adapters.limit_messages import encode_held_result
from services.notifier.adapters.postgres.notification_limits import hold_beyond_limits
from services.notifier.core.delivery import AttemptKind, Delivery, DeliveryReason, DeliveryState
from services.notifier.core.notification import NotificationKind
from services.notifier.core.routing import DeliveryTarget, EarlierDelivery, delivery_id, targets_of
from services.notifier.messages import encode_unreachable_result
from services.notifier.ports import PlannedNotification

# Named, and not `*`: a column that a later release adds must not change what a prepared statement returns.
DELIVERY_COLUMNS = (
    "id, notification_id, alert_id, kind, channel, fallback_for, state, turn, attempt_count, round_start, due_at, "
    "reason, last_error, created_at, updated_at, failed_at, recipient, subject_id, sequence, incident_id, tenant"
)

_INSERT_NOTIFICATIONS = """
INSERT INTO notifications
    (id, subject_id, sequence, alert_id, incident_id, kind, record, traceparent, tenant, exhausted_at, created_at)
SELECT id, subject_id, sequence, alert_id, incident_id, kind, record, traceparent, tenant,
       CASE WHEN is_unreachable THEN $11::timestamptz END, $11
FROM unnest($1::uuid[], $2::text[], $3::bigint[], $4::text[], $5::text[], $6::smallint[], $7::bytea[], $8::text[],
            $9::boolean[], $10::text[])
     AS planned (id, subject_id, sequence, alert_id, incident_id, kind, record, traceparent, is_unreachable, tenant)
ON CONFLICT DO NOTHING
RETURNING id
"""

# Until the transaction ends nobody deletes a notification, so no delivery is left behind without its own.
#
# A notification is SUPERSEDED on a channel that took something newer about its subject. Those that come together keep
# their order by a microsecond each.
_INSERT_DELIVERIES = f"""
INSERT INTO deliveries
    (id, notification_id, subject_id, sequence, alert_id, incident_id, kind, channel, fallback_for, state, due_at,
     created_at, updated_at, tenant)
SELECT new.id, new.notification_id, notifications.subject_id, notifications.sequence, notifications.alert_id,
       notifications.incident_id, notifications.kind, new.channel, new.fallback_for,
       CASE WHEN EXISTS (SELECT 1 FROM deliveries AS newer
                         WHERE newer.subject_id = notifications.subject_id AND newer.channel = new.channel
                           AND newer.sequence > notifications.sequence AND newer.state = 'DELIVERED')
            THEN 'SUPERSEDED' WHEN new.is_held THEN 'HELD' ELSE 'PENDING' END,
       new.planned_at, new.planned_at, $5, notifications.tenant
FROM (
    SELECT *, $5::timestamptz + place * interval '1 microsecond' AS planned_at
    FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $6::boolean[])
         WITH ORDINALITY AS planned (id, notification_id, channel, fallback_for, is_held, place)
) AS new JOIN notifications ON notifications.id = new.notification_id
FOR KEY SHARE OF notifications
ON CONFLICT DO NOTHING
RETURNING {DELIVERY_COLUMNS}
"""  # noqa: S608 - nothing but column names is put in

# One row for each target, with its first place: a subject may have thousands of notifications.
_SELECT_EARLIER = """
SELECT subject_id, min(sequence) AS sequence, channel, fallback_for,
       channel = ANY ($2) AND state IN ('PENDING', 'IN_FLIGHT', 'DELIVERED') AS is_live
FROM deliveries WHERE subject_id = ANY ($1)
GROUP BY subject_id, channel, fallback_for, is_live
ORDER BY min(sequence), min(created_at), channel
"""

# In one order, so that two that lock several subjects do not wait for each other.
_LOCK_SUBJECTS = """
SELECT pg_advisory_xact_lock(key)
FROM (SELECT DISTINCT hashtextextended(subject, 0) AS key FROM unnest($1::text[]) AS subject ORDER BY key) AS keys
"""


_NO_LIMITS = TenantLimits()
# The sequence of a subject's first notification: there are no earlier ones.
FIRST_SEQUENCE = 1

# What each subject's notifications went to, each with the sequence of the first one that did.
EarlierDeliveries = dict[str, list[tuple[int, EarlierDelivery]]]


class NewDelivery(NamedTuple):
    """A delivery to insert; its notification is in the table. It may be held by the limit of its tenant."""

    notification_id: UUID
    channel: str
    fallback_for: str
    is_held: bool = False


class PostgresDeliveryPlans:
    """Inserts notifications and their deliveries, all of a batch or none."""

    def __init__(
        self,
        database: Database,
        *,
        channels: Iterable[str],
        limits: TenantLimits = _NO_LIMITS,
        on_held: Callable[[Mapping[str, int]], None] = lambda _: None,
    ) -> None:
        self._database = database
        self._channels = sorted(channels)
        self._limits = limits
        self._on_held = on_held

    async def insert(self, planned: Sequence[PlannedNotification], *, now: datetime) -> frozenset[str]:
        channels, held = await self._database.run_idempotent(partial(self._insert, planned=planned, now=now))
        if held:
            self._on_held(held)
        return channels

    async def _insert(
        self, connection: Connection, *, planned: Sequence[PlannedNotification], now: datetime
    ) -> tuple[frozenset[str], Mapping[str, int]]:
        new = await insert_notifications(connection, planned, now)
        later = [notification.subject_id for notification in planned if notification.sequence > FIRST_SEQUENCE]
        earlier = await self._earlier_deliveries(connection, later)
        plans = [(each, _plan(each, earlier)) for each in planned]
        limited = [each for each, deliveries in plans if deliveries and each.notification_id in new]
        held = await hold_beyond_limits(connection, limited, self._limits, now)
        await insert_notifications(connection, held.notices, now)
        deliveries = [each for notice in held.notices for each in _plan(notice, earlier)]
        deliveries += [
            each._replace(is_held=each.notification_id in held.limits) for _, planned in plans for each in planned
        ]
        inserted = await insert_deliveries(connection, deliveries, now=now)
        await _report_held(connection, inserted, held.limits, now)
        return frozenset(each.channel for each in inserted), held.by_tenant

    async def _earlier_deliveries(self, connection: Connection, subject_ids: Sequence[str]) -> EarlierDeliveries:
        """Return the targets of each subject so far; nobody adds to them until the transaction ends."""
        earlier: EarlierDeliveries = defaultdict(list)
        if not subject_ids:
            return earlier
        await lock_subjects(connection, subject_ids)
        for row in await connection.fetch(_SELECT_EARLIER, subject_ids, self._channels):
            target = DeliveryTarget(channel=row["channel"], fallback_for=row["fallback_for"])
            delivery = EarlierDelivery(target=target, is_live=row["is_live"])
            earlier[row["subject_id"]].append((row["sequence"], delivery))
        return earlier


def _plan(notification: PlannedNotification, earlier: EarlierDeliveries) -> list[NewDelivery]:
    """Return the deliveries of a notification, and add them to those that later ones of the batch look at."""
    known = earlier[notification.subject_id]
    targets = targets_of(
        notification.channels,
        [delivery for sequence, delivery in known if sequence < notification.sequence],
        is_named=bool(notification.receivers),
        only=notification.only,
    )
    known += [(notification.sequence, EarlierDelivery(target=target)) for target in targets]
    return [NewDelivery(notification.notification_id, target.channel, target.fallback_for) for target in targets]


def delivery_of(row: asyncpg.Record) -> Delivery:
    """Return the delivery in a row."""
    return Delivery(
        id=row["id"],
        notification_id=row["notification_id"],
        subject_id=row["subject_id"],
        sequence=row["sequence"],
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
        incident_id=row["incident_id"],
        tenant=row["tenant"],
    )


async def insert_deliveries(
    connection: Connection, deliveries: Sequence[NewDelivery], *, now: datetime
) -> list[Delivery]:
    """Insert deliveries and leave those that exist as they are; return the new ones."""
    if not deliveries:
        return []
    rows = await connection.fetch(
        _INSERT_DELIVERIES,
        [delivery_id(delivery.notification_id, delivery.channel) for delivery in deliveries],
        [delivery.notification_id for delivery in deliveries],
        [delivery.channel for delivery in deliveries],
        [delivery.fallback_for for delivery in deliveries],
        now,
        [delivery.is_held for delivery in deliveries],
    )
    return [delivery_of(row) for row in rows]


async def lock_subjects(connection: Connection, subject_ids: Iterable[str]) -> None:
    """Be the only one who decides the targets of these subjects, until the transaction ends."""
    await connection.execute(_LOCK_SUBJECTS, list(subject_ids))


async def insert_notifications(
    connection: Connection, planned: Sequence[PlannedNotification], now: datetime
) -> frozenset[UUID]:
    """Insert those that are new, and of those that are unreachable the result for the manager; return their ids."""
    rows = await connection.fetch(
        _INSERT_NOTIFICATIONS,
        [notification.notification_id for notification in planned],
        [notification.subject_id for notification in planned],
        [notification.sequence for notification in planned],
        [notification.alert_id for notification in planned],
        [notification.incident_id for notification in planned],
        [notification.kind for notification in planned],
        [notification.record for notification in planned],
        [notification.traceparent for notification in planned],
        [notification.is_unreachable for notification in planned],
        [notification.tenant for notification in planned],
        now,
    )
    new = frozenset(row["id"] for row in rows)
    unreachable = {
        each.notification_id: each for each in planned if each.is_unreachable and each.notification_id in new
    }
    await outbox.put_all(connection, NOTIFICATION_RESULTS, [_unreachable(each, now) for each in unreachable.values()])
    return new


async def _report_held(
    connection: Connection, deliveries: Sequence[Delivery], limits: Mapping[UUID, int], now: datetime
) -> None:
    """Tell the manager of the deliveries that are held."""
    records = [
        outbox.OutboxRecord(
            key=each.alert_id.encode(),
            value=encode_held_result(each, limits[each.notification_id], now),
            headers=telemetry.trace_headers(),
        )
        for each in deliveries
        if each.state is DeliveryState.HELD
    ]
    await outbox.put_all(connection, NOTIFICATION_RESULTS, records)


def _unreachable(notification: PlannedNotification, now: datetime) -> outbox.OutboxRecord:
    return outbox.OutboxRecord(
        key=notification.alert_id.encode(),
        value=encode_unreachable_result(notification, now),
        headers=headers_of(notification.traceparent),
    )
