"""Incidents, and notifications of them, as messages of the contract."""

from dataclasses import dataclass
from itertools import islice

from services.contract.timestamps import timestamp_of
from services.domain.tenants import SOLE_TENANT, write_tenant
from services.manager.core.alert import Alert
from services.manager.core.catalog import Catalog
from services.manager.core.incident import (
    Correlation,
    Incident,
    IncidentAlert,
    IncidentNotification,
    IncidentNotificationKind,
    IncidentSummary,
    summary_of,
)
from services.manager.core.service_changes import RelatedChange
from services.manager.messages.alerts import alert_message, related_messages
from tocsin.alerts.v1 import alert_pb2
from tocsin.incidents.v1 import incident_pb2
from tocsin.incidents.v1.incident_notice_pb2 import IncidentNotice
from tocsin.notifications.v1.notification_pb2 import Notification
from tocsin.rules.v1.alert_rule_pb2 import AlertRule

# Of a notification.
_MAX_ALERTS = 20
_MAX_REASON = 500
_MAX_NAMES = 5
_MAX_EDGES = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class NotifiedChanges:
    """The changes before the alert fired that a notification is about, and before the incident's cause did."""

    of_alert: tuple[RelatedChange, ...] = ()
    of_cause: tuple[RelatedChange, ...] = ()


NO_CHANGES = NotifiedChanges()


def notification_message(
    notification: IncidentNotification,
    alert: Alert,
    catalog: Catalog,
    changes: NotifiedChanges = NO_CHANGES,
    *,
    tenant: str = SOLE_TENANT,
) -> Notification:
    """Return a notification of an incident, for the notifier, with the alert that it is about."""
    incident = notification.incident
    message = Notification(
        id=notification.id,
        kind=Notification.Kind.Value(notification.kind.value),
        alert=alert_message(alert, catalog),
        incident=_notice(notification, alert, catalog),
        receivers=notification.receivers,
        subject_id=incident.subject_id,
        sequence=notification.sequence,
        reason=notification.comment[:_MAX_REASON],
        create_time=timestamp_of(notification.create_time),
        time_zone=notification.time_zone,
        tenant=write_tenant(tenant),
    )
    message.alert.recent_changes.extend(related_messages(changes.of_alert))
    if message.incident.HasField("cause"):
        message.incident.changes.extend(related_messages(changes.of_cause))
    return message


def _notice(notification: IncidentNotification, alert: Alert, catalog: Catalog) -> IncidentNotice:
    """Return the incident as people are notified of it: without the alerts that are withheld from them."""
    incident = notification.incident
    audible = [member for member in incident.alerts.values() if member.audible_version]
    cause = incident.alerts[incident.cause]
    named = sorted(audible, key=_notice_order)[:_MAX_ALERTS] if len(audible) > 1 else audible
    messages = {member.id: incident_alert_message(incident, member) for member in named}
    if cause.audible_version and cause.id not in messages:
        messages[cause.id] = incident_alert_message(incident, cause)
    notice = IncidentNotice(
        incident=incident_message(summary_of(incident)),
        alerts=[messages[member.id] for member in named],
        cause_reason=_cause_reason(incident, catalog)[:_MAX_REASON],
        cause=messages.get(cause.id),
        new_alert_count=notification.new_alerts,
        ended_alert_count=notification.ended_alerts,
        is_flapping=notification.is_flapping,
    )
    shown = incident.live_alerts or audible
    if shown:
        notice.incident.severity = AlertRule.Severity.ValueType(max(member.severity for member in shown))
    if notification.kind is IncidentNotificationKind.RESOLVED and not notice.incident.HasField("resolve_time"):
        # It settles first; receivers see the end of its alerts.
        notice.incident.resolve_time.CopyFrom(timestamp_of(alert.resolve_time or notification.create_time))
        notice.incident.resolved_by = alert.resolved_by
    entry = catalog.entry_of(cause.service)
    if entry is not None:
        notice.links.update(islice(entry.links.items(), _MAX_ALERTS))
    return notice


def _notice_order(member: IncidentAlert) -> tuple[bool, int, float]:
    return not member.is_open, -member.severity, -member.fire_time.timestamp()


def _cause_reason(incident: Incident, catalog: Catalog) -> str:
    if len(incident.alerts) == 1:
        return ""
    cause = incident.alerts[incident.cause]
    others = sorted({alert.service for alert in incident.alerts.values() if alert.service} - {cause.service})
    dependents = catalog.graph.dependents(cause.service, _MAX_EDGES) if cause.service else {}
    dependent = [name for name in others if name in dependents]
    if dependent:
        return f"{', '.join(dependent[:_MAX_NAMES])} depend{'s' if len(dependent) == 1 else ''} on {cause.service}"
    return "it fired first"


def incident_message(summary: IncidentSummary) -> incident_pb2.Incident:
    """Return an incident as clients see it."""
    incident = summary.incident
    return incident_pb2.Incident(
        id=incident.id,
        state=incident_pb2.Incident.State.Value(incident.state.value),
        title=summary.title,
        severity=AlertRule.Severity.ValueType(summary.severity),
        cause_alert_id=incident.cause,
        alert_count=summary.alert_count,
        open_alert_count=summary.open_alert_count,
        services=summary.services,
        create_time=timestamp_of(incident.create_time),
        update_time=timestamp_of(incident.update_time),
        settle_time=timestamp_of(incident.settle_time),
        resolve_time=timestamp_of(incident.resolve_time),
        resolved_by=incident.resolved_by,
        acknowledge_time=timestamp_of(incident.acknowledge_time),
        acknowledged_by=incident.acknowledged_by,
        acknowledged_until=timestamp_of(incident.acknowledged_until),
        assignee=incident.assignee,
        merged_into=incident.merged_into,
        etag=incident.etag,
    )


def incident_alert_message(incident: Incident, alert: IncidentAlert) -> incident_pb2.IncidentAlert:
    """Return an alert of an incident as clients see it."""
    is_open = alert.is_open and incident.is_open
    return incident_pb2.IncidentAlert(
        alert_id=alert.id,
        rule_name=alert.rule_name,
        resource=alert.resource,
        service=alert.service,
        severity=AlertRule.Severity.ValueType(alert.severity),
        state=alert_pb2.Alert.FIRING if is_open else alert_pb2.Alert.RESOLVED,
        fire_time=timestamp_of(alert.fire_time),
        correlation=correlation_message(alert.correlation),
    )


def correlation_message(correlation: Correlation) -> incident_pb2.Correlation:
    """Return why an alert is in its incident, as clients see it."""
    return incident_pb2.Correlation(
        reason=incident_pb2.Correlation.Reason.Value(correlation.reason.value),
        path=correlation.path,
        labels=correlation.labels,
    )
