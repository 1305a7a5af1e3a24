"""Taking notifications in."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from services.chassis.postgres import Connection, Database
from services.notifier.adapters.rows import NewDelivery, insert, lock_alerts
from services.notifier.core.message import Kind
from services.notifier.core.routing import StandIn, audience
from services.notifier.ports import Planned

_NOTIFICATIONS = """
INSERT INTO notifications (id, alert_id, kind, record, traceparent, created_at)
SELECT *, $6 FROM unnest($1::uuid[], $2::text[], $3::smallint[], $4::bytea[], $5::text[])
ON CONFLICT DO NOTHING
"""

_TOLD_BEFORE = """
SELECT alert_id, kind, channel, fallback_for FROM deliveries
WHERE alert_id = ANY ($1) AND channel = ANY ($2) AND state IN ('PENDING', 'IN_FLIGHT', 'DELIVERED')
ORDER BY created_at, kind
"""


class PostgresPlans:
    """Keeps notifications and their deliveries, all of a batch or none."""

    def __init__(self, database: Database, *, channels: Iterable[str]) -> None:
        self._database = database
        self._channels = sorted(channels)

    async def add(self, planned: Sequence[Planned], *, now: datetime) -> frozenset[str]:
        """Keep them; those known already stay as they are."""

        async def work(connection: Connection) -> frozenset[str]:
            await _keep(connection, planned, now)
            before = await self._told_before(connection, [one for one in planned if one.kind is not Kind.FIRING])
            found = [
                NewDelivery(one.notification_id, one.alert_id, one.kind, to.channel, to.fallback_for)
                for one in planned
                for to in audience(one.channels, _earlier(before[one.alert_id], one.kind), one.only)
            ]
            return await insert(connection, found, now=now)

        return await self._database.run_idempotent(work)

    async def _told_before(
        self, connection: Connection, planned: Sequence[Planned]
    ) -> Mapping[str, Sequence[tuple[int, StandIn]]]:
        """By alert, who tells what of it already; nobody else can add to that until the transaction ends."""
        found: dict[str, list[tuple[int, StandIn]]] = defaultdict(list)
        if not planned:
            return found
        alerts = [one.alert_id for one in planned]
        await lock_alerts(connection, alerts)
        for row in await connection.fetch(_TOLD_BEFORE, alerts, self._channels):
            stands_in = StandIn(channel=row["channel"], fallback_for=row["fallback_for"])
            found[row["alert_id"]].append((row["kind"], stands_in))
        return found


def _earlier(told: Iterable[tuple[int, StandIn]], kind: Kind) -> list[StandIn]:
    return [stands_in for earlier, stands_in in told if earlier < kind]


async def _keep(connection: Connection, planned: Sequence[Planned], now: datetime) -> None:
    await connection.execute(
        _NOTIFICATIONS,
        [one.notification_id for one in planned],
        [one.alert_id for one in planned],
        [one.kind for one in planned],
        [one.record for one in planned],
        [one.traceparent for one in planned],
        now,
    )
