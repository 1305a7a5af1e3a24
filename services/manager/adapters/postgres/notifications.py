"""Write what receivers are notified of, in the transaction that decides it."""

from collections.abc import Collection, Mapping, Sequence

from services.chassis import outbox
from services.chassis.postgres import Connection
from services.chassis.tenants import current_tenant
from services.contract.timestamps import timestamp_of
from services.contract.topics import NOTIFICATIONS
from services.domain.canary import CANARY_SERVICE
from services.domain.trace_context import headers_of
from services.manager.adapters.postgres import NOTIFICATIONS_EXHAUSTED
from services.manager.adapters.postgres.alert_rows import ALERT_COLUMNS, alert_of, columns
from services.manager.adapters.postgres.service_changes import PostgresChanges
from services.manager.core.catalog import Catalog
from services.manager.core.incident import AlertBundle, IncidentNotification
from services.manager.core.service_changes import ChangeSearch
from services.manager.messages.incidents import NO_CHANGES, NotifiedChanges, notification_message
from services.manager.ports.feeds import CatalogFeed
from services.manager.ports.incidents import ReturnedCanary, TracedAlert
from tocsin.notifications.v1.notification_pb2 import Notification

# ruff: noqa: S608  (made of our own column names)
_SELECT_ALERTS = f"SELECT {ALERT_COLUMNS}, traceparent FROM alerts WHERE tenant = current_tenant() AND id = ANY($1)"
_INSERT_EXHAUSTED = """
INSERT INTO exhausted_notifications (tenant, notification_id, incident_id)
SELECT $1, notification_id, incident_id FROM unnest($2::text[], $3::text[]) AS failed (notification_id, incident_id)
ON CONFLICT DO NOTHING
"""
_TAKE_EXHAUSTED = """
DELETE FROM exhausted_notifications WHERE tenant = $1 AND notification_id IN (
    SELECT notification_id FROM exhausted_notifications WHERE tenant = $1 ORDER BY notification_id LIMIT $2
) RETURNING incident_id, notification_id
"""
# The condition is that of the index.
_SELECT_BUNDLES = """
SELECT notification_id, fired_alerts, ended_alerts FROM incident_history
WHERE tenant = current_tenant() AND notification_id = ANY($1) AND (fired_alerts <> '{}' OR ended_alerts <> '{}')
"""


class PostgresNotifications:
    """Outbox and table exhausted_notifications, in one transaction.

    Notifications say what the catalog has of their alerts' services.
    """

    def __init__(self, connection: Connection, catalog: CatalogFeed | None = None) -> None:
        self.connection = connection
        self._catalog = catalog
        self._changes = PostgresChanges(connection)

    async def load_alerts(self, alert_ids: Collection[str]) -> Mapping[str, TracedAlert]:
        if not alert_ids:
            return {}
        rows = await self.connection.fetch(_SELECT_ALERTS, list(alert_ids))
        return {row["id"]: TracedAlert(alert=alert_of(row), headers=headers_of(row["traceparent"])) for row in rows}

    async def insert(self, notifications: Sequence[tuple[IncidentNotification, TracedAlert]]) -> None:
        if not notifications:
            return
        catalog = Catalog() if self._catalog is None else self._catalog.current
        changes = await self._load_changes(notifications, catalog)
        records = [
            outbox.OutboxRecord(
                key=notification.incident.subject_id.encode(),
                value=notification_message(
                    notification, about.alert, catalog, changed, tenant=current_tenant()
                ).SerializeToString(),
                headers=about.headers,
            )
            for (notification, about), changed in zip(notifications, changes, strict=True)
        ]
        await outbox.put_all(self.connection, NOTIFICATIONS, records)

    async def _load_changes(
        self, notifications: Sequence[tuple[IncidentNotification, TracedAlert]], catalog: Catalog
    ) -> list[NotifiedChanges]:
        """Return the changes that each notification shows; one statement reads those of all."""
        alerts = [(about.alert.service, about.alert.fire_time) for _, about in notifications]
        causes = [notification.incident.alerts[notification.incident.cause] for notification, _ in notifications]
        fired = [(cause.service, cause.fire_time) for cause in causes]
        search = ChangeSearch.of([*alerts, *fired], catalog.graph)
        if not search.services:
            return [NO_CHANGES] * len(alerts)
        found = await self._changes.list_between(search.services, search.after, search.until)
        related = {each: search.related(*each, found) for each in {*alerts, *fired}}
        return [
            NotifiedChanges(of_alert=related[alert], of_cause=related[cause])
            for alert, cause in zip(alerts, fired, strict=True)
        ]

    async def insert_canaries(self, canaries: Sequence[ReturnedCanary]) -> None:
        records = [
            outbox.OutboxRecord(
                key=CANARY_SERVICE.encode(),
                value=Notification(canary_time=timestamp_of(canary.time)).SerializeToString(),
                headers=canary.headers,
            )
            for canary in canaries
        ]
        await outbox.put_all(self.connection, NOTIFICATIONS, records)

    async def load_bundles(self, notification_ids: Collection[str]) -> Mapping[str, AlertBundle]:
        if not notification_ids:
            return {}
        rows = await self.connection.fetch(_SELECT_BUNDLES, list(notification_ids))
        return {
            row["notification_id"]: AlertBundle(fired=tuple(row["fired_alerts"]), ended=tuple(row["ended_alerts"]))
            for row in rows
        }

    async def insert_exhausted(self, incidents: Mapping[str, str]) -> None:
        if incidents:
            await self.connection.execute(_INSERT_EXHAUSTED, current_tenant(), *columns(list(incidents.items())))
            await self.connection.execute("SELECT pg_notify($1, '')", NOTIFICATIONS_EXHAUSTED)

    async def take_exhausted(self, limit: int) -> Mapping[str, frozenset[str]]:
        taken: dict[str, frozenset[str]] = {}
        for row in await self.connection.fetch(_TAKE_EXHAUSTED, current_tenant(), limit):
            taken[row["incident_id"]] = taken.get(row["incident_id"], frozenset()) | {row["notification_id"]}
        return taken
