"""What the manager relies on from the store of who is notified of incidents, in memory and in PostgreSQL alike."""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from services.contract.timestamps import timestamp_of
from services.contract.topics import NOTIFICATIONS
from services.manager.adapters.postgres.store import PostgresTransaction
from services.manager.core.alert_lifecycle import Fired
from services.manager.core.flapping import FlappingSettings
from services.manager.core.incident import (
    AlertBundle,
    IncidentHistoryEntry,
    IncidentHistoryKind,
    WithheldReason,
    Withholding,
)
from services.manager.core.incident_changes import (
    end_alert,
    join,
    open_incident,
)
from services.manager.core.incident_notifications import (
    FILE_ROUTE,
    NotificationContext,
    plan_notifications,
)
from services.manager.core.routing_tree import AlertRoute
from services.manager.core.service_changes import ServiceChange, ServiceChangeKind
from services.manager.ports.incidents import ReturnedCanary
from tests.contract.manager.incident_stores import (
    RELATED,
    SETTLE,
    Stored,
    alert,
    decide_alerts,
    load,
    memory_stored,
    postgres_stored,
    save,
)
from tests.fakes.transitions import NOW
from tocsin.notifications.v1.notification_pb2 import Notification


class IncidentNotificationContract(ABC):
    @pytest.fixture
    @abstractmethod
    def stored(self) -> Stored: ...

    async def test_what_receivers_know_comes_back(self, stored: Stored) -> None:
        routes = (
            AlertRoute(path="root/0", receivers=("slack", "mail"), policy="p", bundling_interval=2 * SETTLE),
            AlertRoute(path="root/1", receivers=("pager",), inhibits_dependents=True),
        )
        opened = open_incident(replace(alert("a"), routes=routes, file_route="x"), now=NOW)
        silence = Withholding(reason=WithheldReason.SILENCED, by="s", comment="nul \0 \N{SNOWMAN}")
        joined = join(opened.incident, replace(alert("b"), withheld_by=(silence,)), RELATED, now=NOW)
        ended = end_alert(joined.incident, "a", settle=SETTLE, now=NOW)
        incident = replace(ended.incident, dedup_key="key", flapping=frozenset({("rule \0", "resource")}))
        planned = plan_notifications(incident, NotificationContext(flapping=FlappingSettings(count=1)), now=NOW)
        assert planned.incident.receivers.keys() == {"slack", "mail", "pager"}
        assert planned.incident.notify_time is not None
        await save(stored, planned)
        found = (await load(stored, incident.id))[incident.id]
        stripped = {"b": replace(planned.incident.alerts["b"], correlation=found.alerts["b"].correlation)}
        assert found == replace(planned.incident, alerts={**planned.incident.alerts, **stripped})
        read = await stored.incidents.get(incident.id)
        assert read is not None
        notified = [entry for entry in read[1] if entry.kind is IncidentHistoryKind.NOTIFIED]
        assert tuple(notified) == planned.history[-len(notified) :]
        assert notified[0].receivers == ("slack", "mail", "pager")

    async def test_notifications_that_have_reached_nobody_are_taken_once(self, stored: Stored) -> None:
        async with stored.store.transaction() as transaction:
            await transaction.notifications.insert_exhausted({})
            await transaction.notifications.insert_exhausted({"a": "one", "b": "one", "c": "other"})
            await transaction.notifications.insert_exhausted({"a": "one"})
        async with stored.store.transaction() as transaction:
            assert await transaction.incidents.has_news(0)
            assert await transaction.notifications.take_exhausted(2) == {"one": frozenset({"a", "b"})}
            assert await transaction.notifications.take_exhausted(2) == {"other": frozenset({"c"})}
            assert await transaction.notifications.take_exhausted(2) == {}
            assert not await transaction.incidents.has_news(0)

    async def test_what_a_notification_tells_besides_its_alert_is_found_by_its_id(self, stored: Stored) -> None:
        opened = open_incident(alert("a"), now=NOW)
        bundle = AlertBundle(fired=("b", "c"), ended=("d",))
        entries = [
            IncidentHistoryEntry(
                id=name,
                incident_id=opened.incident.id,
                kind=IncidentHistoryKind.NOTIFIED,
                create_time=NOW,
                notification_id=name,
                bundle=each,
            )
            for name, each in (("n1", bundle), ("n2", AlertBundle()), ("n3", AlertBundle(ended=("e",))))
        ]
        await save(stored, replace(opened, history=(*opened.history, *entries)))
        async with stored.store.transaction() as transaction:
            assert await transaction.notifications.load_bundles([]) == {}
            found = await transaction.notifications.load_bundles(["n1", "n2", "unknown"])
        assert found == {"n1": bundle}
        read = await stored.incidents.get(opened.incident.id)
        assert read is not None
        assert [entry.bundle for entry in read[1][-3:]] == [each.bundle for each in entries]

    async def test_notifications_are_about_alerts_with_their_traces(self, stored: Stored) -> None:
        await decide_alerts(stored, Fired, "b", headers=[("traceparent", b"t")])
        async with stored.store.transaction() as transaction:
            (about,) = await transaction.incidents.list_seen(10)
        assert about.headers == [("traceparent", b"t")]
        member = replace(alert(about.alert.id), routes=(FILE_ROUTE,))
        planned = plan_notifications(open_incident(member, now=NOW).incident, NotificationContext(), now=NOW)
        async with stored.store.transaction() as transaction:
            found = await transaction.notifications.load_alerts([about.alert.id, "unknown"])
            assert found == {about.alert.id: about}
            assert await transaction.notifications.load_alerts([]) == {}
            await transaction.notifications.insert([])
            await transaction.notifications.insert([(each, about) for each in planned.notifications])


class TestMemoryIncidentNotifications(IncidentNotificationContract):
    @pytest.fixture
    def stored(self) -> Stored:
        return memory_stored()


@pytest.mark.integration
class TestPostgresIncidentNotifications(IncidentNotificationContract):
    @pytest.fixture
    async def stored(self, database: str) -> AsyncIterator[Stored]:
        async with postgres_stored(database) as stored:
            yield stored

    async def test_canaries_are_in_the_outbox_under_their_own_key(self, stored: Stored) -> None:
        async with stored.store.transaction() as transaction:
            assert isinstance(transaction, PostgresTransaction)
            await transaction.notifications.insert_canaries([ReturnedCanary(time=NOW, headers=[("traceparent", b"t")])])
            (row,) = await transaction.notifications.connection.fetch("SELECT * FROM outbox")
        assert (row["topic"], row["key"]) == (NOTIFICATIONS, b"tocsin-canary")
        assert Notification.FromString(row["value"]) == Notification(canary_time=timestamp_of(NOW))
        assert (row["header_names"], row["header_values"]) == (["traceparent"], [b"t"])

    async def test_notifications_are_in_the_outbox_by_their_subject(self, stored: Stored) -> None:
        await self.test_notifications_are_about_alerts_with_their_traces(stored)
        async with stored.store.transaction() as transaction:
            assert isinstance(transaction, PostgresTransaction)
            (row,) = await transaction.notifications.connection.fetch("SELECT * FROM outbox")
        message = Notification.FromString(row["value"])
        assert row["key"].decode() == message.subject_id == message.incident.incident.id
        assert (message.kind, message.alert.resource, message.sequence) == (Notification.FIRING, "b", 1)
        assert (row["header_names"], row["header_values"]) == (["traceparent"], [b"t"])

    async def test_a_notification_has_the_changes_before_its_alert_and_those_before_the_cause(
        self, stored: Stored
    ) -> None:
        await decide_alerts(stored, Fired, "b")
        async with stored.store.transaction() as transaction:
            (seen_alert,) = await transaction.incidents.list_seen(10)
        fired = seen_alert.alert
        about = replace(seen_alert, alert=replace(fired, subject=replace(fired.subject, labels={"service": "orders"})))
        cause = replace(alert("cause"), routes=(FILE_ROUTE,))
        planned = plan_notifications(open_incident(cause, now=NOW).incident, NotificationContext(), now=NOW)
        async with stored.store.transaction() as transaction:
            assert isinstance(transaction, PostgresTransaction)
            for service, time in (("orders", fired.fire_time), (cause.service, cause.fire_time)):
                await transaction.changes.insert(
                    ServiceChange(id=service, service=service, kind=ServiceChangeKind.OTHER, time=time, create_time=NOW)
                )
            await transaction.notifications.insert([(each, about) for each in planned.notifications])
            value = await transaction.notifications.connection.fetchval("SELECT value FROM outbox")
        message = Notification.FromString(value)
        assert [each.change.service for each in message.alert.recent_changes] == ["orders"]
        assert [each.change.service for each in message.incident.changes] == ["shop"]
