"""The deliveries that wait, shared by all instances."""

from collections.abc import Collection
from dataclasses import replace
from datetime import datetime, timedelta
from uuid import UUID

from services.chassis.postgres import Database
from services.notifier.adapters.rows import COLUMNS, delivery_of
from services.notifier.ports import Job, Outlook, Wanted

# One that is due, or whose lease has ended, which is the same: due_at is in the past.
_DUE = "mine.state IN ('PENDING', 'IN_FLIGHT') AND mine.due_at <= $2"
_FAILED = "mine.state = 'FAILED' AND mine.reason <> 'REFUSED'"
_CONDITIONS = {
    Wanted.DUE: _DUE,
    Wanted.BY_HAND: f"{_DUE} AND mine.turn = 'BY_HAND'",
    Wanted.WAITING: f"mine.turn <> 'BY_HAND' AND (mine.state = 'PENDING' OR {_DUE})",
    Wanted.DUE_PROBE: f"{_FAILED} AND mine.due_at <= $2",
    Wanted.PROBE: _FAILED,
}

# Of one alert and channel only the first that is still on its way is taken, and nothing while a later one is being
# sent. SKIP LOCKED: what another instance is taking right now is left to it.
_TAKE = """
WITH taken AS (
    SELECT mine.id, mine.due_at AS place FROM deliveries AS mine
    WHERE mine.channel = $1 AND {condition} AND mine.id <> ALL ($6)
      AND mine.due_at <= coalesce($7::timestamptz, 'infinity')
      AND NOT EXISTS (
          SELECT 1 FROM deliveries AS other
          WHERE other.alert_id = mine.alert_id AND other.channel = mine.channel
            AND (other.kind < mine.kind AND other.state IN ('PENDING', 'IN_FLIGHT')
                 OR other.kind > mine.kind AND other.state = 'IN_FLIGHT'))
    ORDER BY {order}
    LIMIT $3
    FOR UPDATE OF mine SKIP LOCKED
), leased AS (
    UPDATE deliveries AS mine
    SET state = 'IN_FLIGHT', holder = $4, due_at = $5, updated_at = $2, attempt_count = mine.attempt_count + 1,
        turn = {turn}
    FROM taken WHERE mine.id = taken.id
    RETURNING mine.*, taken.place
)
SELECT {columns}, mine.place, record, traceparent
FROM leased AS mine JOIN notifications AS told ON told.id = mine.notification_id
ORDER BY {placed}
"""

_OUTLOOK = """
SELECT count(*) FILTER (WHERE state <> 'FAILED') AS waiting,
       count(*) FILTER (WHERE state = 'FAILED') AS failed,
       min(due_at) FILTER (WHERE due_at > $2) AS next_due
FROM deliveries
WHERE channel = $1 AND state IN ('PENDING', 'IN_FLIGHT', 'FAILED')
"""

_RECLAIM = "UPDATE deliveries SET due_at = $2 WHERE state = 'IN_FLIGHT' AND holder = $1"
_CHANNELS = "SELECT DISTINCT channel FROM deliveries WHERE state IN ('PENDING', 'IN_FLIGHT')"


def _statement(wanted: Wanted) -> str:
    is_probe = wanted in {Wanted.PROBE, Wanted.DUE_PROBE}
    # The oldest trouble shows best whether the channel is back, and is told first when it is.
    oldest = "mine.created_at, mine.kind"
    return _TAKE.format(
        condition=_CONDITIONS[wanted],
        order=oldest if is_probe else f"mine.due_at, {oldest}",
        placed=oldest if is_probe else f"mine.place, {oldest}",
        turn="'PROBE'" if is_probe else "mine.turn",
        columns=", ".join(f"mine.{name.strip()}" for name in COLUMNS.split(",")),
    )


_STATEMENTS = {wanted: _statement(wanted) for wanted in Wanted}


class PostgresQueue:
    """Rows are taken under a lease that bears this instance's name."""

    def __init__(self, database: Database, *, instance: str, lease: timedelta) -> None:
        self._database = database
        self._instance = instance
        self._lease = lease

    async def take(
        self,
        channel: str,
        wanted: Wanted,
        *,
        most: int,
        now: datetime,
        held: Collection[UUID] = (),
        due_by: datetime | None = None,
    ) -> list[Job]:
        """Take jobs; not repeated on errors, because a lease that nobody knows of would only cost time."""
        async with self._database.connection() as connection:
            rows = await connection.fetch(
                _STATEMENTS[wanted], channel, now, most, self._instance, now + self._lease, list(held), due_by
            )
        return [
            Job(
                delivery=replace(delivery_of(row), due_at=row["place"]),
                record=row["record"],
                traceparent=row["traceparent"],
            )
            for row in rows
        ]

    async def outlook(self, channel: str, *, now: datetime) -> Outlook:
        """Look ahead."""
        async with self._database.connection() as connection:
            row = await connection.fetchrow(_OUTLOOK, channel, now)
        if row is None:
            return Outlook(waiting=0, failed=0, next_due=None)
        return Outlook(waiting=row["waiting"], failed=row["failed"], next_due=row["next_due"])

    async def reclaim(self, *, now: datetime) -> int:
        """Make jobs due that an earlier life of this instance held."""
        async with self._database.connection() as connection:
            status = await connection.execute(_RECLAIM, self._instance, now)
        return int(status.rpartition(" ")[2])

    async def channels(self) -> frozenset[str]:
        """The channels that something waits for."""
        async with self._database.connection() as connection:
            return frozenset(row["channel"] for row in await connection.fetch(_CHANNELS))
