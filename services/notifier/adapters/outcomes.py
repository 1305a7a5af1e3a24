"""Recording what became of deliveries, with all that follows from it, in one transaction."""

from collections.abc import Mapping
from datetime import datetime, timedelta

from services.chassis import outbox
from services.chassis.postgres import Connection, Database
from services.contract.timestamps import timestamp_of
from services.contract.topics import NOTIFICATION_RESULTS
from services.notifier.adapters.rows import NewDelivery, insert, lock_alerts
from services.notifier.core.delivery import Delivery, State, Turn, is_first_failure
from services.notifier.core.message import Kind
from services.notifier.core.routing import stand_ins
from services.notifier.messages import UnreadableError, message_of
from services.notifier.ports import Ending
from tocsin.notifications.v1.notification_pb2 import Notification, NotificationResult

_KINDS = {
    Kind.FIRING: Notification.FIRING,
    Kind.ACKNOWLEDGED: Notification.ACKNOWLEDGED,
    Kind.RESOLVED: Notification.RESOLVED,
}

# Only who holds the lease may say how it went; except that what was delivered was delivered, whoever holds it now.
_RECORD = """
UPDATE deliveries
SET state = $2, turn = $3, attempt_count = $4, due_at = $5, reason = $6, last_error = $7, failed_at = $8,
    updated_at = $9, holder = ''
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

_PUT_OFF = """
UPDATE deliveries SET due_at = $2 WHERE channel = $1 AND state = 'FAILED' AND due_at < $2
"""

_STATES = "SELECT channel, state FROM deliveries WHERE notification_id = $1"
_TOLD = "SELECT id, kind, record FROM notifications WHERE alert_id = $1 AND kind >= $2 ORDER BY kind"


class PostgresOutcomes:
    """Records endings for one instance."""

    def __init__(
        self,
        database: Database,
        *,
        instance: str,
        fallbacks: Mapping[str, tuple[str, ...]],
        reset_timeout: timedelta,
    ) -> None:
        self._database = database
        self._instance = instance
        self._fallbacks = fallbacks
        self._reset_timeout = reset_timeout

    async def record(self, ending: Ending, *, now: datetime) -> frozenset[str]:
        """Keep it; gives the channels that have new work by it."""

        async def work(connection: Connection) -> frozenset[str]:
            return await self._record(connection, ending, now)

        return await self._database.run_idempotent(work)

    async def _record(self, connection: Connection, ending: Ending, now: datetime) -> frozenset[str]:
        before, after = ending.before, ending.after
        if not await self._keep(connection, before, after, now):
            return frozenset()
        found: set[str] = set()
        if after.state is State.DELIVERED:
            if after.kind is not Kind.FIRING:
                await connection.execute(_SUPERSEDE, after.alert_id, after.channel, after.kind, now)
            await _tell_manager(connection, after, now)
        if is_first_failure(before, after):
            found |= await self._find_stand_ins(connection, after, now)
            await _tell_manager(connection, after, now)
        if ending.channel_is_back:
            await connection.execute(_REDRIVE, after.channel, now)
            found.add(after.channel)
        elif before.turn is Turn.PROBE:
            await connection.execute(_PUT_OFF, after.channel, now + self._reset_timeout)
        return frozenset(found)

    async def _keep(self, connection: Connection, before: Delivery, after: Delivery, now: datetime) -> bool:
        row = await connection.fetchrow(
            _RECORD,
            after.id,
            after.state.value,
            after.turn.value,
            after.attempt_count,
            after.due_at,
            after.reason.value if after.reason else None,
            after.last_error,
            after.failed_at,
            now,
            self._instance,
            before.attempt_count,
        )
        return row is not None

    async def _find_stand_ins(self, connection: Connection, failed: Delivery, now: datetime) -> frozenset[str]:
        # Two channels of one notification that fail at the same moment must see each other: one after the other, and
        # the states are read by a statement of its own, after the lock.
        await lock_alerts(connection, [failed.alert_id])
        states = {
            row["channel"]: State(row["state"]) for row in await connection.fetch(_STATES, failed.notification_id)
        }
        found = stand_ins(self._fallbacks, states)
        # Who is told by a stand-in that it began hears from it how it ended, also when that came in meanwhile.
        told = await connection.fetch(_TOLD, failed.alert_id, failed.kind) if found else []
        new = [
            NewDelivery(row["id"], failed.alert_id, row["kind"], one.channel, one.fallback_for)
            for row in told
            if not _is_quiet(row["record"])
            for one in found
        ]
        return await insert(connection, new, now=now)


def _is_quiet(record: bytes) -> bool:
    try:
        return message_of(record).is_quiet
    except UnreadableError:
        return False


async def _tell_manager(connection: Connection, delivery: Delivery, now: datetime) -> None:
    is_delivered = delivery.state is State.DELIVERED
    result = NotificationResult(
        delivery_id=str(delivery.id),
        notification_id=str(delivery.notification_id),
        alert_id=delivery.alert_id,
        kind=_KINDS[delivery.kind],
        channel=delivery.channel,
        outcome=NotificationResult.DELIVERED if is_delivered else NotificationResult.FAILED,
        attempt_count=delivery.attempt_count,
        reason="" if is_delivered else delivery.last_error,
        fallback_for=delivery.fallback_for,
        create_time=timestamp_of(now),
    )
    await outbox.put(connection, NOTIFICATION_RESULTS, delivery.alert_id.encode(), result.SerializeToString())
