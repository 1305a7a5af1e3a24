"""How notifications are read, with and without an incident."""

from datetime import UTC, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo

import pytest

from services.contract.timestamps import timestamp_of
from services.domain.severity import Severity
from services.notifier.core.notification import NotificationIncident, NotificationIncidentAlert
from services.notifier.messages import decode_notification
from tests.fakes.notifications import notification as notification_record
from tests.fakes.notifier import NOW
from tocsin.alerts.v1.alert_pb2 import Alert, RelatedChange
from tocsin.changes.v1.service_change_pb2 import ServiceChange
from tocsin.incidents.v1.incident_notice_pb2 import IncidentNotice
from tocsin.incidents.v1.incident_pb2 import Incident, IncidentAlert
from tocsin.notifications.v1.notification_pb2 import Notification
from tocsin.rules.v1.alert_rule_pb2 import AlertRule

CAUSE = IncidentAlert(
    alert_id="a",
    rule_name="Database Down",
    resource="orders-db",
    service="orders-db",
    severity=AlertRule.CRITICAL,
    state=Alert.FIRING,
    fire_time=timestamp_of(NOW),
)


def incident_record(kind: "Notification.Kind.ValueType" = Notification.FIRING) -> Notification:
    """Return the third notification of an incident of two alerts."""
    record = notification_record(alert="a", kind=kind, severity=AlertRule.LOW)
    incident = Incident(
        id="i",
        state=Incident.OPEN,
        title="Database Down on orders-db, and 1 more",
        severity=AlertRule.HIGH,
        alert_count=2,
        open_alert_count=1,
        services=["orders", "orders-db"],
        create_time=timestamp_of(NOW),
        acknowledge_time=timestamp_of(NOW + timedelta(minutes=1)),
        acknowledged_by="ada",
        resolve_time=timestamp_of(NOW + timedelta(minutes=2)),
        resolved_by="bob",
        assignee="cleo",
    )
    notice = IncidentNotice(
        incident=incident,
        alerts=[CAUSE, IncidentAlert(alert_id="b", state=Alert.RESOLVED)],
        cause=CAUSE,
        cause_reason="orders depends on it",
        new_alert_count=1,
        ended_alert_count=1,
        is_flapping=True,
        links={"runbook": "https://wiki.example/db"},
        changes=[RelatedChange(change=ServiceChange(service="orders-db", kind=ServiceChange.CONFIGURATION))],
    )
    record.create_time.CopyFrom(timestamp_of(NOW + timedelta(minutes=9)))
    record.alert.recent_changes.add(change=ServiceChange(service="payment-service"))
    record.MergeFrom(
        Notification(incident=notice, receivers=["db", "ops", "db"], subject_id="i", sequence=3, reason="route root/0")
    )
    return record


def test_a_notification_of_a_former_manager_is_about_its_alert_and_ordered_by_its_kind() -> None:
    found = decode_notification(notification_record(alert="a", kind=Notification.RESOLVED).SerializeToString())
    assert (found.subject_id, found.sequence, found.incident) == ("a", 3, None)
    assert (found.receivers, found.reason) == ((), "")


@pytest.mark.parametrize(
    ("name", "zone"),
    [("Europe/Berlin", ZoneInfo("Europe/Berlin")), ("", UTC), ("Europe/Nowhere", UTC), ("../etc", UTC)],
)
def test_a_zone_that_is_not_known_here_is_utc(name: str, zone: tzinfo) -> None:
    record = notification_record(alert="a")
    record.time_zone = name
    assert decode_notification(record.SerializeToString()).zone == zone


def test_an_incident_is_read_with_its_cause() -> None:
    found = decode_notification(incident_record().SerializeToString())
    cause = NotificationIncidentAlert(
        alert_id="a",
        rule="Database Down",
        resource="orders-db",
        service="orders-db",
        severity="CRITICAL",
        state="FIRING",
        fire_time=NOW,
    )
    assert (found.subject_id, found.sequence, found.severity) == ("i", 3, Severity.HIGH)
    assert (found.receivers, found.reason) == (("db", "ops"), "route root/0")
    assert [change.service for change in found.changes] == ["payment-service"]
    assert found.incident is not None
    assert [change.service for change in found.incident.changes] == ["orders-db"]
    other = found.incident.alerts[1]
    assert (other.severity, other.state, other.fire_time) == ("", "RESOLVED", NOW + timedelta(minutes=9))
    assert found.incident == NotificationIncident(
        id="i",
        title="Database Down on orders-db, and 1 more",
        state="OPEN",
        create_time=NOW,
        alert_count=2,
        open_alert_count=1,
        services=("orders", "orders-db"),
        assignee="cleo",
        alerts=(cause, other),
        cause=cause,
        cause_reason="orders depends on it",
        new_alert_count=1,
        ended_alert_count=1,
        is_flapping=True,
        links={"runbook": "https://wiki.example/db"},
        changes=found.incident.changes,
    )


@pytest.mark.parametrize(
    ("kind", "minutes", "actor"),
    [
        (Notification.FIRING, 9, ""),
        (Notification.ACKNOWLEDGED, 1, "ada"),
        (Notification.RESOLVED, 2, "bob"),
        (Notification.UPDATED, 9, ""),
    ],
)
def test_times_and_persons_are_the_incident_s(kind: "Notification.Kind.ValueType", minutes: int, actor: str) -> None:
    found = decode_notification(incident_record(kind).SerializeToString())
    expected: tuple[datetime, str] = NOW + timedelta(minutes=minutes), actor
    assert (found.change_time, found.actor) == expected


def test_an_incident_without_a_known_cause_is_read() -> None:
    record = incident_record()
    record.incident.ClearField("cause")
    record.incident.ClearField("changes")
    found = decode_notification(record.SerializeToString())
    assert found.incident is not None
    assert found.incident.cause is None
    assert [change.service for change in found.changes] == ["payment-service"]


@pytest.mark.parametrize(("merged_into", "superseded_by", "closes"), [("j", "", True), ("", "b", False)])
def test_only_the_end_of_a_merged_incident_is_for_channels_that_keep_it_open(
    merged_into: str, superseded_by: str, *, closes: bool
) -> None:
    record = incident_record(Notification.RESOLVED)
    record.incident.incident.merged_into = merged_into
    record.alert.superseded_by = superseded_by
    assert decode_notification(record.SerializeToString()).closes_superseded is closes
