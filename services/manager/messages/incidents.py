"""Incidents, and notifications of them, as messages of the contract."""

from dataclasses import dataclass
from itertools import islice

from services.contract.timestamps import set_time
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
from services.manager.messages.alerts import fill_alert, related_messages
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
        receivers=notification.receivers,
        subject_id=incident.subject_id,
        sequence=notification.sequence,
        reason=notification.comment[:_MAX_REASON],
        time_zone=notification.time_zone,
        tenant=write_tenant(tenant),
    )
    set_time(message.create_time, notification.create_time)
    fill_alert(message.alert, alert, catalog)
    _fill_notice(message.incident, notification, alert, catalog)
    message.alert.recent_changes.extend(related_messages(changes.of_alert))
    if message.incident.HasField("cause"):
        message.incident.changes.extend(related_messages(changes.of_cause))
    return message


def _fill_notice(notice: IncidentNotice, notification: IncidentNotification, alert: Alert, catalog: Catalog) -> None:
    """Write the incident as people are notified of it: without the alerts that are withheld from them."""
    incident = notification.incident
    audible = [member for member in incident.alerts.values() if member.audible_version]
    cause = incident.alerts[incident.cause]
    named = sorted(audible, key=_notice_order)[:_MAX_ALERTS] if len(audible) > 1 else audible
    fill_incident(notice.incident, summary_of(incident))
    for member in named:
        fill_incident_alert(notice.alerts.add(), incident, member)
    notice.cause_reason = _cause_reason(incident, catalog)[:_MAX_REASON]
    if cause.audible_version:
        fill_incident_alert(notice.cause, incident, cause)
    notice.new_alert_count = notification.new_alerts
    notice.ended_alert_count = notification.ended_alerts
    notice.is_flapping = notification.is_flapping
    shown = incident.live_alerts or audible
    if shown:
        notice.incident.severity = AlertRule.Severity.ValueType(max(member.severity for member in shown))
    if notification.kind is IncidentNotificationKind.RESOLVED and not notice.incident.HasField("resolve_time"):
        # It settles first; receivers see the end of its alerts.
        set_time(notice.incident.resolve_time, alert.resolve_time or notification.create_time)
        notice.incident.resolved_by = alert.resolved_by
    entry = catalog.entry_of(cause.service)
    if entry is not None:
        notice.links.update(islice(entry.links.items(), _MAX_ALERTS))


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
    message = incident_pb2.Incident()
    fill_incident(message, summary)
    return message


def fill_incident(message: incident_pb2.Incident, summary: IncidentSummary) -> None:
    """Write an incident into an empty message."""
    incident = summary.incident
    message.id = incident.id
    message.state = incident_pb2.Incident.State.Value(incident.state.value)
    message.title = summary.title
    message.severity = AlertRule.Severity.ValueType(summary.severity)
    message.cause_alert_id = incident.cause
    message.alert_count = summary.alert_count
    message.open_alert_count = summary.open_alert_count
    message.services.extend(summary.services)
    set_time(message.create_time, incident.create_time)
    set_time(message.update_time, incident.update_time)
    set_time(message.settle_time, incident.settle_time)
    set_time(message.resolve_time, incident.resolve_time)
    message.resolved_by = incident.resolved_by
    set_time(message.acknowledge_time, incident.acknowledge_time)
    message.acknowledged_by = incident.acknowledged_by
    set_time(message.acknowledged_until, incident.acknowledged_until)
    message.assignee = incident.assignee
    message.merged_into = incident.merged_into
    message.etag = incident.etag


def incident_alert_message(incident: Incident, alert: IncidentAlert) -> incident_pb2.IncidentAlert:
    """Return an alert of an incident as clients see it."""
    message = incident_pb2.IncidentAlert()
    fill_incident_alert(message, incident, alert)
    return message


def fill_incident_alert(message: incident_pb2.IncidentAlert, incident: Incident, alert: IncidentAlert) -> None:
    """Write an alert of an incident into an empty message."""
    is_open = alert.is_open and incident.is_open
    message.alert_id = alert.id
    message.rule_name = alert.rule_name
    message.resource = alert.resource
    message.service = alert.service
    message.severity = AlertRule.Severity.ValueType(alert.severity)
    message.state = alert_pb2.Alert.FIRING if is_open else alert_pb2.Alert.RESOLVED
    set_time(message.fire_time, alert.fire_time)
    _fill_correlation(message.correlation, alert.correlation)


def correlation_message(correlation: Correlation) -> incident_pb2.Correlation:
    """Return why an alert is in its incident, as clients see it."""
    message = incident_pb2.Correlation()
    _fill_correlation(message, correlation)
    return message


def _fill_correlation(message: incident_pb2.Correlation, correlation: Correlation) -> None:
    # As a field it is there also where nothing in it differs from its default.
    message.SetInParent()
    message.reason = incident_pb2.Correlation.Reason.Value(correlation.reason.value)
    message.path.extend(correlation.path)
    message.labels.update(correlation.labels)
