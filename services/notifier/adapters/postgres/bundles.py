"""Bundles of what tenants' limits hold: made when they are due, by whichever instance looks first."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from functools import partial
from uuid import UUID

import asyncpg
import structlog

from services.chassis.postgres import Connection, Database
from services.domain.tenants import TenantLimits
from services.notifier.adapters.limit_messages import encode_bundle
from services.notifier.adapters.postgres.deliveries import NewDelivery, insert_deliveries, insert_notifications
from services.notifier.adapters.postgres.notification_limits import load_for_update, notice_of, store
from services.notifier.core.bundle import bundle_of, bundle_subject
from services.notifier.core.notification import NotificationContent, NotificationKind
from services.notifier.core.notification_limit import (
    LimitUsage,
    bundled,
    end_notice,
    ends_notice,
    is_bundle_due,
)
from services.notifier.messages import UnreadableNotificationError, decode_notification
from services.notifier.ports import PlannedNotification

log = structlog.get_logger()

# One bundle has so many deliveries at most; what is left goes into the next.
_MAX_HELD = 1000

_SELECT_TENANTS = """
SELECT tenant, (SELECT count(*) FROM deliveries
                WHERE tenant = mine.tenant AND state = 'HELD' AND bundle_id IS NULL) AS waiting
FROM notification_limits AS mine WHERE held_since IS NOT NULL OR open_notice > 0 ORDER BY tenant
"""
# What is newer about the same subject, and on its way, takes the place of what is held: no bundle may come after it.
_SELECT_HELD = """
SELECT mine.id, channel, fallback_for, mine.created_at, record
FROM deliveries AS mine JOIN notifications ON notifications.id = notification_id
WHERE mine.tenant = $1 AND state = 'HELD' AND bundle_id IS NULL
  AND NOT EXISTS (
      SELECT 1 FROM deliveries AS newer
      WHERE newer.subject_id = mine.subject_id AND newer.channel = mine.channel AND newer.sequence > mine.sequence
        AND newer.state IN ('PENDING', 'IN_FLIGHT'))
ORDER BY mine.created_at, mine.sequence LIMIT $2
FOR UPDATE OF mine
"""
_SELECT_OLDEST = """
SELECT min(created_at) FROM deliveries WHERE tenant = $1 AND state = 'HELD' AND bundle_id IS NULL
"""
_PUT_INTO_BUNDLE = "UPDATE deliveries SET bundle_id = $2, updated_at = $3 WHERE id = ANY ($1)"
# A fallback may have delivered it: then it is left as well, until its own channel has something newer.
_SELECT_LEFT = """
SELECT channel, record FROM deliveries AS mine JOIN notifications ON notifications.id = notification_id
WHERE bundle_id = $1 AND state IN ('HELD', 'DELIVERED')
  AND NOT EXISTS (
      SELECT 1 FROM deliveries AS newer
      WHERE newer.subject_id = mine.subject_id AND newer.channel = mine.channel AND newer.sequence > mine.sequence
        AND newer.state = 'DELIVERED')
ORDER BY mine.created_at, mine.sequence
"""
_REWRITE = "UPDATE notifications SET record = $2 WHERE id = $1"
_DROP = """
UPDATE deliveries SET state = 'SUPERSEDED', updated_at = $2
WHERE notification_id = $1 AND state IN ('PENDING', 'FAILED')
"""
_SEND_ALONE = "UPDATE deliveries SET state = 'PENDING', due_at = $2, updated_at = $2 WHERE id = ANY ($1)"
_SELECT_NOTICE_CHANNELS = "SELECT channel, fallback_for FROM deliveries WHERE subject_id = $1 AND state <> 'FAILED'"


class PostgresBundles:
    """Puts held deliveries into bundles."""

    def __init__(
        self,
        database: Database,
        *,
        limits: TenantLimits,
        new_id: Callable[[], UUID],
        on_waiting: Callable[[Mapping[str, int]], None],
    ) -> None:
        self._database = database
        self._limits = limits
        self._new_id = new_id
        self._on_waiting = on_waiting

    async def send_due(self, *, now: datetime) -> frozenset[str]:
        """Make the bundles that are due; return the channels that got one. Raises StoreUnavailable."""
        channels: frozenset[str] = frozenset()
        waiting = {row["tenant"]: int(row["waiting"]) for row in await self._database.fetch(_SELECT_TENANTS)}
        self._on_waiting(waiting)
        for tenant in waiting:
            channels |= await self._database.run_idempotent(partial(self._send, tenant=tenant, now=now))
        return channels

    async def _send(self, connection: Connection, *, tenant: str, now: datetime) -> frozenset[str]:
        limit, usage = self._limits.of(tenant), await load_for_update(connection, tenant)
        channels: frozenset[str] = frozenset()
        if is_bundle_due(usage, limit, now):
            rows = await connection.fetch(_SELECT_HELD, tenant, _MAX_HELD)
            of_channel: dict[str, list[asyncpg.Record]] = {}
            for row in rows:
                of_channel.setdefault(row["channel"], []).append(row)
            for channel, held in of_channel.items():
                await self._bundle(connection, tenant, channel, held, now)
            oldest_left = await connection.fetchval(_SELECT_OLDEST, tenant)
            usage = bundled(usage, limit, bundles=len(of_channel), oldest_left=oldest_left, now=now)
            channels |= frozenset(of_channel)
        if ends_notice(usage):
            channels |= await self._end_notice(connection, tenant, usage, now)
            usage = end_notice(usage)
        await store(connection, tenant, usage)
        return channels

    async def _bundle(
        self, connection: Connection, tenant: str, channel: str, held: Sequence[asyncpg.Record], now: datetime
    ) -> None:
        """Put the deliveries to a channel into a bundle; one alone is sent as it is."""
        ids = [row["id"] for row in held]
        contents = _readable(row["record"] for row in held)
        log.info("notifications_bundled", tenant=tenant, channel=channel, held=len(held))
        if len(held) == 1 or not contents:
            await connection.execute(_SEND_ALONE, ids, now)
            return
        bundle, notification_id = bundle_of(contents), self._new_id()
        planned = PlannedNotification(
            notification_id=notification_id,
            subject_id=bundle_subject(notification_id),
            sequence=NotificationKind.FIRING,
            alert_id=bundle.leading.alert_id,
            incident_id="",
            kind=NotificationKind.FIRING,
            record=encode_bundle(notification_id, bundle, channel=channel, now=now),
            traceparent="",
            channels=(channel,),
            receivers=(channel,),
            tenant=tenant,
        )
        await insert_notifications(connection, [planned], now)
        await insert_deliveries(connection, [NewDelivery(notification_id, channel, held[0]["fallback_for"])], now=now)
        await connection.execute(_PUT_INTO_BUNDLE, ids, notification_id, now)

    async def _end_notice(
        self, connection: Connection, tenant: str, usage: LimitUsage, now: datetime
    ) -> frozenset[str]:
        """Tell the channels that got the notice that nothing is held any more."""
        notice = notice_of(tenant, usage.open_notice, NotificationKind.RESOLVED, now)
        rows = await connection.fetch(_SELECT_NOTICE_CHANNELS, notice.subject_id)
        await insert_notifications(connection, [notice], now)
        deliveries = [NewDelivery(notice.notification_id, row["channel"], row["fallback_for"]) for row in rows]
        await insert_deliveries(connection, deliveries, now=now)
        return frozenset(row["channel"] for row in rows)


async def rewrite_bundle(connection: Connection, bundle_id: UUID, now: datetime) -> None:
    """Have a bundle that has failed say what is still held in it; without anything no channel gets it any more."""
    rows = await connection.fetch(_SELECT_LEFT, bundle_id)
    if contents := _readable(row["record"] for row in rows):
        record = encode_bundle(bundle_id, bundle_of(contents), channel=rows[0]["channel"], now=now)
        await connection.execute(_REWRITE, bundle_id, record)
    else:
        await connection.execute(_DROP, bundle_id, now)


def _readable(records: Iterable[bytes]) -> list[NotificationContent]:
    """Return the notifications that can be read; of the others people see the delivery alone."""
    contents = []
    for record in records:
        try:
            contents.append(decode_notification(record))
        except UnreadableNotificationError:
            log.warning("held_notification_unreadable")
    return contents
