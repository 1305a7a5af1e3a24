"""The deliveries that wait, shared by all instances."""

from collections.abc import Collection
from dataclasses import replace
from datetime import datetime, timedelta
from uuid import UUID

from services.chassis.postgres import Database
from services.notifier.adapters.postgres.deliveries import DELIVERY_COLUMNS, delivery_of
from services.notifier.ports import LeasedDelivery, QueueFilter, QueueStatus

# A bitmap loses the order of the queue, so all of it would be read and sorted. It is chosen because the planner guesses
# that row-level security leaves one row in two hundred. A plan that was made while a table was short is kept until the
# table is analysed, and must not read all of it from then on.
QUEUE_SESSION = {"enable_bitmapscan": "off", "enable_seqscan": "off"}
# In the words of the index of the queue, which no statement about a subject uses (migration 0012).
IS_QUEUED = "(state IN ('PENDING', 'IN_FLIGHT', 'FAILED')) IS TRUE"
# One that is due, or whose lease has ended, which is the same: due_at is in the past.
_DUE = "mine.state IN ('PENDING', 'IN_FLIGHT') AND mine.due_at <= $2"
_FAILED = "mine.state = 'FAILED' AND mine.reason <> 'REFUSED'"
_CONDITIONS = {
    QueueFilter.DUE: _DUE,
    QueueFilter.BY_HAND: f"{_DUE} AND mine.turn = 'BY_HAND'",
    QueueFilter.WAITING: f"mine.turn <> 'BY_HAND' AND (mine.state = 'PENDING' OR {_DUE})",
    QueueFilter.DUE_PROBE: f"{_FAILED} AND mine.due_at <= $2",
    QueueFilter.PROBE: _FAILED,
}

# Of one subject and channel only the first that is still on its way is leased, and nothing while a later one is being
# sent. Both hold of what is in a bundle too, also when a fallback has delivered it. SKIP LOCKED: what another instance
# is leasing is left to it.
#
# The first ones are read in the order of the index, and no more than are leased, for whatever length the planner takes
# the queue: OFFSET 0 keeps each condition a look-up for one delivery, and QUEUE_SESSION keeps the order.
_LEASE = """
WITH chosen AS (
    SELECT mine.id, mine.due_at AS place FROM deliveries AS mine
    WHERE {is_queued} AND mine.channel = $1 AND {condition} AND mine.id <> ALL ($6)
      AND mine.due_at <= coalesce($7::timestamptz, 'infinity')
      AND NOT EXISTS (
          SELECT 1 FROM deliveries AS other
          WHERE other.subject_id = mine.subject_id AND other.channel = mine.channel
            AND other.state IN ('PENDING', 'IN_FLIGHT')
            AND (other.sequence < mine.sequence OR other.sequence > mine.sequence AND other.state = 'IN_FLIGHT')
          OFFSET 0)
      AND NOT EXISTS (
          SELECT 1 FROM deliveries AS held
          WHERE held.subject_id = mine.subject_id AND held.sequence < mine.sequence
            AND held.state IN ('HELD', 'DELIVERED') AND held.bundle_id IS NOT NULL
            AND (SELECT state FROM deliveries AS bundle
                 WHERE bundle.notification_id = held.bundle_id AND bundle.channel = mine.channel)
                IN ('PENDING', 'IN_FLIGHT')
          OFFSET 0)
      AND NOT EXISTS (
          SELECT 1 FROM deliveries AS held
          WHERE held.bundle_id = mine.notification_id
            AND EXISTS (
                SELECT 1 FROM deliveries AS newer
                WHERE newer.subject_id = held.subject_id AND newer.channel = mine.channel
                  AND newer.sequence > held.sequence AND newer.state = 'IN_FLIGHT'
                OFFSET 0)
          OFFSET 0)
    ORDER BY {order}
    LIMIT $3
    FOR UPDATE OF mine SKIP LOCKED
), leased AS (
    UPDATE deliveries AS mine
    SET state = 'IN_FLIGHT', holder = $4, due_at = $5, updated_at = $2, attempt_count = mine.attempt_count + 1,
        turn = {turn}
    FROM chosen WHERE mine.id = chosen.id
    RETURNING mine.*, chosen.place
)
SELECT {columns}, place, record, traceparent
FROM leased JOIN (SELECT id AS notification_id, record, traceparent FROM notifications) AS mine USING (notification_id)
ORDER BY {result_order}
"""

_SELECT_STATUS = f"""
SELECT count(*) FILTER (WHERE state <> 'FAILED') AS waiting,
       count(*) FILTER (WHERE state = 'FAILED') AS failed,
       min(due_at) FILTER (WHERE due_at > $2) AS next_due_at
FROM deliveries
WHERE {IS_QUEUED} AND channel = $1
"""  # noqa: S608 - our own condition

_RELEASE_OWN_LEASES = f"""
UPDATE deliveries SET due_at = $2 WHERE {IS_QUEUED} AND state = 'IN_FLIGHT' AND holder = $1
"""  # noqa: S608 - our own condition
_SELECT_CHANNELS = f"""
SELECT DISTINCT channel FROM deliveries WHERE {IS_QUEUED} AND state IN ('PENDING', 'IN_FLIGHT')
"""  # noqa: S608 - our own condition


def _lease_statement(selected: QueueFilter) -> str:
    is_probe = selected in {QueueFilter.PROBE, QueueFilter.DUE_PROBE}
    # The oldest failure shows best whether the channel has recovered, and is sent first when it has.
    return _LEASE.format(
        is_queued=IS_QUEUED,
        condition=_CONDITIONS[selected],
        order="created_at, sequence" if is_probe else "due_at, created_at, sequence",
        result_order="created_at, sequence" if is_probe else "place, created_at, sequence",
        turn="'PROBE'" if is_probe else "mine.turn",
        columns=DELIVERY_COLUMNS,
    )


_LEASE_STATEMENTS = {selected: _lease_statement(selected) for selected in QueueFilter}


class PostgresDeliveryQueue:
    """Leases rows under this instance's name."""

    def __init__(self, database: Database, *, instance: str, lease: timedelta) -> None:
        self._database = database
        self._instance = instance
        self._lease = lease

    async def lease(
        self,
        channel: str,
        selected: QueueFilter,
        *,
        limit: int,
        now: datetime,
        held: Collection[UUID] = (),
        due_by: datetime | None = None,
    ) -> list[LeasedDelivery]:
        # Not repeated on errors: a lease that nobody knows of would only cost time.
        async with self._database.connection() as connection:
            rows = await connection.fetch(
                _LEASE_STATEMENTS[selected], channel, now, limit, self._instance, now + self._lease, list(held), due_by
            )
        return [
            LeasedDelivery(
                delivery=replace(delivery_of(row), due_time=row["place"]),
                record=row["record"],
                traceparent=row["traceparent"],
            )
            for row in rows
        ]

    async def status(self, channel: str, *, now: datetime) -> QueueStatus:
        async with self._database.connection() as connection:
            row = await connection.fetchrow(_SELECT_STATUS, channel, now)
        if row is None:
            return QueueStatus(waiting=0, failed=0, next_due_time=None)
        return QueueStatus(waiting=row["waiting"], failed=row["failed"], next_due_time=row["next_due_at"])

    async def release_own_leases(self, *, now: datetime) -> int:
        async with self._database.connection() as connection:
            status = await connection.execute(_RELEASE_OWN_LEASES, self._instance, now)
        return int(status.rpartition(" ")[2])

    async def list_channels(self) -> frozenset[str]:
        async with self._database.connection() as connection:
            return frozenset(row["channel"] for row in await connection.fetch(_SELECT_CHANNELS))
