"""What the notifier itself says of a tenant's limit of notifications, as messages of the contract."""

from datetime import datetime
from uuid import UUID

from services.contract.timestamps import timestamp_of
from services.domain.severity import Severity
from services.domain.tenants import write_tenant
from services.notifier.core.bundle import BundleContent, bundle_subject, notice_subject
from services.notifier.core.delivery import Delivery
from services.notifier.core.notification import NotificationContent, NotificationIncidentAlert, NotificationKind
from services.notifier.messages import CONTRACT_KINDS
from tocsin.alerts.v1.alert_pb2 import Alert
from tocsin.incidents.v1.incident_notice_pb2 import IncidentNotice
from tocsin.incidents.v1.incident_pb2 import Incident, IncidentAlert
from tocsin.notifications.v1.notification_pb2 import Notification, NotificationResult
from tocsin.rules.v1.alert_rule_pb2 import AlertRule

_NOTICE_RULE = "limit of notifications"


def reason_of_limit(tenant: str, limit: int) -> str:
    """Return in words why a notification is held."""
    return f"held: the tenant {tenant} may have {limit} notifications an hour"


def encode_held_result(delivery: Delivery, limit: int, now: datetime) -> bytes:
    """Return the record of the topic `notification-results` for a delivery that its tenant's limit holds."""
    return NotificationResult(
        delivery_id=str(delivery.id),
        notification_id=str(delivery.notification_id),
        alert_id=delivery.alert_id,
        kind=CONTRACT_KINDS[delivery.kind],
        channel=delivery.channel,
        outcome=NotificationResult.HELD,
        reason=reason_of_limit(delivery.tenant, limit),
        fallback_for=delivery.fallback_for,
        create_time=timestamp_of(now),
        incident_id=delivery.incident_id,
        tenant=write_tenant(delivery.tenant),
    ).SerializeToString()


def encode_bundle(notification_id: UUID, bundle: BundleContent, *, channel: str, now: datetime) -> bytes:
    """Return a bundle as the record of a notification to one channel.

    It has the form of an incident, which every channel can show: a title, and a line for each alert.
    """
    leading, time = bundle.leading, timestamp_of(now)
    incident = Incident(
        id=leading.incident.id if leading.incident else bundle_subject(notification_id),
        title=bundle.title,
        state=Incident.OPEN,
        severity=_severity(leading.severity),
        create_time=time,
        alert_count=bundle.subject_count,
        open_alert_count=bundle.open_count,
        services=bundle.services,
    )
    return Notification(
        id=str(notification_id),
        kind=Notification.FIRING,
        create_time=time,
        alert=_alert(leading),
        incident=IncidentNotice(incident=incident, alerts=[_bundled(alert) for alert in bundle.alerts]),
        receivers=[channel],
        subject_id=bundle_subject(notification_id),
        reason="they were held, since the tenant had used up its notifications of the hour",
        tenant=write_tenant(leading.tenant),
    ).SerializeToString()


def encode_notice(notification_id: UUID, tenant: str, number: int, kind: NotificationKind, now: datetime) -> bytes:
    """Return the notice that a tenant has reached its limit, FIRING, or that nothing is held any more, RESOLVED."""
    time, subject = timestamp_of(now), notice_subject(tenant, number)
    is_over = kind is NotificationKind.RESOLVED
    return Notification(
        id=str(notification_id),
        kind=CONTRACT_KINDS[kind],
        create_time=time,
        alert=Alert(
            id=subject,
            severity=AlertRule.HIGH,
            rule_name=_NOTICE_RULE,
            description="It has used up its notifications of the hour. Further ones are held, and come in bundles;"
            " CRITICAL ones are sent at once, and so are ends.",
            resource=f"tenant {tenant}",
            fire_time=time,
            resolve_time=time if is_over else None,
        ),
        subject_id=subject,
        sequence=kind,
        tenant=write_tenant(tenant),
    ).SerializeToString()


def _alert(leading: NotificationContent) -> Alert:
    return Alert(
        id=leading.alert_id,
        fingerprint=leading.fingerprint,
        severity=_severity(leading.alert_severity),
        rule_id=leading.rule_id,
        rule_name=leading.rule,
        resource=leading.resource,
        group=leading.group,
        labels=leading.labels,
        fire_time=timestamp_of(leading.fire_time),
    )


def _bundled(alert: NotificationIncidentAlert) -> IncidentAlert:
    return IncidentAlert(
        alert_id=alert.alert_id,
        rule_name=alert.rule,
        resource=alert.resource,
        service=alert.service,
        severity=AlertRule.Severity.Value(alert.severity),
        state=Alert.State.Value(alert.state),
        fire_time=timestamp_of(alert.fire_time),
    )


def _severity(severity: Severity) -> "AlertRule.Severity.ValueType":
    return AlertRule.Severity.Value(severity.name)
