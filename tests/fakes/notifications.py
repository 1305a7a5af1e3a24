"""Notifications as the manager publishes them."""

from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID, uuid5

from google.protobuf.timestamp_pb2 import Timestamp

from tocsin.alerts.v1.alert_pb2 import Alert, SampleEvent, WindowResult
from tocsin.incidents.v1.incident_notice_pb2 import IncidentNotice
from tocsin.incidents.v1.incident_pb2 import Incident
from tocsin.logs.v1.log_event_pb2 import LogEvent
from tocsin.notifications.v1.notification_pb2 import Notification
from tocsin.rules.v1.alert_rule_pb2 import AlertRule

SPACE = UUID("0d9d5bb0-4ee2-4e4a-8f0f-1c9d3b8f3a55")


def notification(
    *,
    alert: str,
    kind: "Notification.Kind.ValueType" = Notification.FIRING,
    severity: "AlertRule.Severity.ValueType" = AlertRule.CRITICAL,
    message: str = "Database connection failed",
    superseded_by: str = "",
) -> Notification:
    """One of an alert; the same arguments give the same id."""
    now = Timestamp()
    now.FromDatetime(datetime.now(UTC))
    return Notification(
        id=str(uuid5(SPACE, f"{alert} {kind}")),
        kind=kind,
        create_time=now,
        alert=Alert(
            id=alert,
            fingerprint="f" * 32,
            severity=severity,
            rule_id="rule-1",
            superseded_by=superseded_by,
            rule_name="High Error Rate",
            description="More than 100 errors in five minutes.",
            resource="payment-service",
            labels={"team": "payments"},
            fire_time=now,
            acknowledge_time=now if kind != Notification.FIRING else None,
            resolve_time=now if kind == Notification.RESOLVED else None,
            window=WindowResult(
                start_time=now, end_time=now, count=101, total=250, condition="count > threshold", threshold=100
            ),
            samples=[
                SampleEvent(
                    event_time=now, service="payment-service", level=LogEvent.ERROR, message=message, trace_id="a1" * 16
                )
            ],
        ),
    )


def incident_notification(
    *,
    incident: str,
    receivers: Sequence[str],
    sequence: int = 1,
    kind: "Notification.Kind.ValueType" = Notification.FIRING,
    severity: "AlertRule.Severity.ValueType" = AlertRule.CRITICAL,
) -> Notification:
    """One of an incident, to receivers; the same incident and sequence give the same id."""
    record = notification(alert=f"{incident}-cause", kind=kind, severity=severity)
    record.id = str(uuid5(SPACE, f"{incident} {sequence}"))
    notice = IncidentNotice(
        incident=Incident(
            id=incident,
            title="High Error Rate on payment-service, and 2 more",
            severity=severity,
            alert_count=3,
            open_alert_count=3,
            create_time=record.create_time,
        )
    )
    chosen = Notification(
        incident=notice, receivers=receivers, subject_id=incident, sequence=sequence, reason="route root/0"
    )
    record.MergeFrom(chosen)
    return record
