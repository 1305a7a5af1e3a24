"""The outcomes of attempts, with all that follows from them, in one transaction."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial

import asyncpg

from services.chassis import outbox
from services.chassis.postgres import Connection, Database
from services.contract.topics import NOTIFICATION_RESULTS
from services.notifier.adapters.postgres.deliveries import NewDelivery, insert_deliveries, lock_subjects
from services.notifier.core.delivery import AttemptKind, Delivery, DeliveryState, is_first_failure
from services.notifier.core.routing import DeliveryTarget, fallback_targets, gets_from_fallback, is_exhausted
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
WHERE subject_id = $1 AND channel = $2 AND sequence < $3 AND state IN ('PENDING', 'FAILED')
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
_EXHAUST = "UPDATE notifications SET exhausted_at = $2 WHERE id = $1 AND exhausted_at IS NULL RETURNING id"

_SELECT_FROM_ON = """
SELECT id, record, ARRAY(SELECT channel FROM deliveries WHERE notification_id = mine.id) AS channels
FROM notifications AS mine WHERE subject_id = $1 AND sequence >= $2 ORDER BY sequence
"""


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
            await connection.execute(_SUPERSEDE, after.subject_id, after.channel, after.sequence, now)
            await _insert_result(connection, after, now)
        if after.state is DeliveryState.FAILED:
            channels |= await self._record_failure(connection, before, after, now)
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

    async def _record_failure(
        self, connection: Connection, before: Delivery, after: Delivery, now: datetime
    ) -> frozenset[str]:
        """Insert the deliveries to fallbacks, and the result; return the channels of the new deliveries."""
        # Two channels of one notification that fail at the same moment must see each other: one after the other, and
        # a statement of its own reads the states, after the lock.
        await lock_subjects(connection, [after.subject_id])
        states = {
            row["channel"]: DeliveryState(row["state"])
            for row in await connection.fetch(_SELECT_STATES, after.notification_id)
        }
        is_first = is_first_failure(before, after)
        targets = fallback_targets(self._fallbacks, states) if is_first else ()
        channels = await self._insert_fallbacks(connection, after, targets, now)
        exhausted = (
            await connection.fetch(_EXHAUST, after.notification_id, now)
            if not channels and is_exhausted(states.values())
            else []
        )
        if is_first or exhausted:
            await _insert_result(connection, after, now, is_exhausted=bool(exhausted))
        return channels

    async def _insert_fallbacks(
        self, connection: Connection, failed: Delivery, targets: Sequence[DeliveryTarget], now: datetime
    ) -> frozenset[str]:
        # A fallback that gets the beginning of a subject also gets its end, even if that came in meanwhile.
        rows = await connection.fetch(_SELECT_FROM_ON, failed.subject_id, failed.sequence) if targets else []
        deliveries = [
            NewDelivery(row["id"], target.channel, target.fallback_for)
            for row in rows
            for target in targets
            if _takes(target, row)
        ]
        return await insert_deliveries(connection, deliveries, now=now)


def _takes(target: DeliveryTarget, row: asyncpg.Record) -> bool:
    """Return whether a fallback takes a notification; one that cannot be read is refused when it is sent."""
    try:
        notification = decode_notification(row["record"])
    except UnreadableNotificationError:
        return True
    if notification.closes_superseded:
        return False
    return gets_from_fallback(target, receivers=notification.receivers, channels=row["channels"])


async def _insert_result(
    connection: Connection, delivery: Delivery, now: datetime, *, is_exhausted: bool = False
) -> None:
    record = encode_result(delivery, now, is_exhausted=is_exhausted)
    await outbox.put(connection, NOTIFICATION_RESULTS, delivery.alert_id.encode(), record)
