"""The outcomes of attempts, with all that follows from them, in one transaction."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from functools import partial

from services.chassis import outbox
from services.chassis.postgres import Connection, Database
from services.contract.topics import NOTIFICATION_RESULTS
from services.notifier.adapters.postgres.deliveries import NewDelivery, insert_deliveries, lock_alerts
from services.notifier.core.delivery import AttemptKind, Delivery, DeliveryState, is_first_failure
from services.notifier.core.notification import NotificationKind
from services.notifier.core.routing import fallback_targets
from services.notifier.messages import UnreadableNotificationError, decode_notification, encode_result
from services.notifier.ports import DeliveryOutcome

# Only the holder of the lease may write an outcome; except that a delivery that was accepted is delivered, whoever
# holds the lease now.
_UPDATE = """
UPDATE deliveries
SET state = $2, turn = $3, attempt_count = $4, due_at = $5, reason = $6, last_error = $7, failed_at = $8,
    updated_at = $9, holder = '', recipient = $12
WHERE id = $1
  AND (state = 'IN_FLIGHT' AND holder = $10 AND attempt_count = $11
       OR $2 = 'DELIVERED' AND state <> 'DELIVERED')
RETURNING failed_at
"""

_SUPERSEDE = """
UPDATE deliveries SET state = 'SUPERSEDED', updated_at = $4
WHERE alert_id = $1 AND channel = $2 AND kind < $3 AND state IN ('PENDING', 'FAILED')
"""

_REDRIVE = """
UPDATE deliveries
SET state = 'PENDING', turn = 'REGULAR', round_start = attempt_count, due_at = $2, updated_at = $2
WHERE channel = $1 AND state = 'FAILED' AND reason <> 'REFUSED'
"""

_POSTPONE_PROBES = """
UPDATE deliveries SET due_at = $2 WHERE channel = $1 AND state = 'FAILED' AND due_at < $2
"""

_SELECT_STATES = "SELECT channel, state FROM deliveries WHERE notification_id = $1"
_SELECT_FROM_KIND_ON = "SELECT id, kind, record FROM notifications WHERE alert_id = $1 AND kind >= $2 ORDER BY kind"


class PostgresDeliveryOutcomes:
    """Writes the outcomes of one instance."""

    def __init__(
        self,
        database: Database,
        *,
        instance: str,
        fallbacks: Mapping[str, tuple[str, ...]],
        probe_interval: timedelta,
    ) -> None:
        self._database = database
        self._instance = instance
        self._fallbacks = fallbacks
        self._probe_interval = probe_interval

    async def record(self, outcome: DeliveryOutcome, *, now: datetime) -> frozenset[str]:
        return await self._database.run_idempotent(partial(self._record, outcome=outcome, now=now))

    async def _record(self, connection: Connection, *, outcome: DeliveryOutcome, now: datetime) -> frozenset[str]:
        before, after = outcome.before, outcome.after
        if not await self._update(connection, before, after, now):
            return frozenset()
        channels: set[str] = set()
        if after.state is DeliveryState.DELIVERED:
            if after.kind is not NotificationKind.FIRING:
                await connection.execute(_SUPERSEDE, after.alert_id, after.channel, after.kind, now)
            await _insert_result(connection, after, now)
        if is_first_failure(before, after):
            channels |= await self._insert_fallbacks(connection, after, now)
            await _insert_result(connection, after, now)
        if outcome.channel_recovered:
            await connection.execute(_REDRIVE, after.channel, now)
            channels.add(after.channel)
        elif before.attempt_kind is AttemptKind.PROBE:
            await connection.execute(_POSTPONE_PROBES, after.channel, now + self._probe_interval)
        return frozenset(channels)

    async def _update(self, connection: Connection, before: Delivery, after: Delivery, now: datetime) -> bool:
        """Write the new state; return whether this instance may."""
        row = await connection.fetchrow(
            _UPDATE,
            after.id,
            after.state.value,
            after.attempt_kind.value,
            after.attempt_count,
            after.due_time,
            after.reason.value if after.reason else None,
            after.last_error,
            after.fail_time,
            now,
            self._instance,
            before.attempt_count,
            after.recipient,
        )
        return row is not None

    async def _insert_fallbacks(self, connection: Connection, failed: Delivery, now: datetime) -> frozenset[str]:
        # Two channels of one notification that fail at the same moment must see each other: one after the other, and
        # a statement of its own reads the states, after the lock.
        await lock_alerts(connection, [failed.alert_id])
        states = {
            row["channel"]: DeliveryState(row["state"])
            for row in await connection.fetch(_SELECT_STATES, failed.notification_id)
        }
        targets = fallback_targets(self._fallbacks, states)
        # A fallback that gets the beginning of an alert also gets its end, even if that came in meanwhile.
        rows = await connection.fetch(_SELECT_FROM_KIND_ON, failed.alert_id, failed.kind) if targets else []
        deliveries = [
            NewDelivery(row["id"], failed.alert_id, row["kind"], target.channel, target.fallback_for)
            for row in rows
            if not _closes_superseded(row["record"])
            for target in targets
        ]
        return await insert_deliveries(connection, deliveries, now=now)


def _closes_superseded(record: bytes) -> bool:
    try:
        return decode_notification(record).closes_superseded
    except UnreadableNotificationError:
        return False


async def _insert_result(connection: Connection, delivery: Delivery, now: datetime) -> None:
    await outbox.put(connection, NOTIFICATION_RESULTS, delivery.alert_id.encode(), encode_result(delivery, now))
