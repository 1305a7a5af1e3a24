"""Alerts, their histories and changes of services as messages of the contract, and back."""

from collections.abc import Iterable, Mapping

from services.contract.timestamps import set_time, timestamp_of
from services.domain.matchers import SERVICE
from services.domain.severity import Severity
from services.manager.core.alert import Alert, AlertHistoryEntry
from services.manager.core.alert_lifecycle import AlertState
from services.manager.core.catalog import Catalog
from services.manager.core.labels import labels_of
from services.manager.core.service_changes import RelatedChange, ServiceChange
from tocsin.alerts.v1 import alert_pb2
from tocsin.changes.v1.service_change_pb2 import ServiceChange as ChangeMessage
from tocsin.rules.v1.alert_rule_pb2 import AlertRule


class UnusableRecordError(ValueError):
    """A record that can be decoded but lacks what the manager needs."""


def alert_message(alert: Alert, catalog: Catalog | None = None) -> alert_pb2.Alert:
    """Return an alert as clients see it, with what the catalog has of its service."""
    message = alert_pb2.Alert()
    fill_alert(message, alert, catalog)
    return message


def fill_alert(message: alert_pb2.Alert, alert: Alert, catalog: Catalog | None = None) -> None:
    """Write an alert into an empty message, which may be another one's field."""
    subject = alert.subject
    message.MergeFromString(subject.evidence)
    message.id = alert.id
    message.fingerprint = subject.fingerprint
    message.state = alert_pb2.Alert.State.Value(alert.status.state.value)
    message.severity = AlertRule.Severity.ValueType(subject.severity)
    message.rule_id = subject.rule_id
    message.rule_name = subject.rule_name
    message.description = subject.description
    message.resource = subject.resource
    set_time(message.fire_time, alert.fire_time)
    set_time(message.acknowledge_time, alert.acknowledge_time)
    message.acknowledged_by = alert.acknowledged_by
    set_time(message.resolve_time, alert.resolve_time)
    message.resolved_by = alert.resolved_by
    message.superseded_by = alert.superseded_by
    message.repeat_count = alert.status.repeat_count
    message.etag = alert.etag
    set_time(message.update_time, alert.update_time)
    message.match_labels.update(subject.labels)
    message.silenced_by.extend(alert.silenced_by)
    if catalog is not None:
        fill_service_info(message, catalog)


def fill_service_info(message: alert_pb2.Alert, catalog: Catalog) -> None:
    """Set what the catalog has of an alert's service."""
    entry = catalog.entry_of(message.match_labels.get(SERVICE, ""))
    if entry is not None:
        message.service_info.CopyFrom(
            alert_pb2.ServiceInfo(
                name=entry.name,
                owner=entry.owner,
                tier=entry.tier,
                description=entry.description,
                links=entry.links,
            )
        )


def change_message(change: ServiceChange) -> ChangeMessage:
    """Return a change of a service as clients see it."""
    return ChangeMessage(
        id=change.id,
        service=change.service,
        kind=ChangeMessage.Kind.Value(change.kind.value),
        version=change.version,
        actor=change.actor,
        link=change.link,
        time=timestamp_of(change.time),
        create_time=timestamp_of(change.create_time),
    )


def related_messages(related: Iterable[RelatedChange]) -> list[alert_pb2.RelatedChange]:
    """Return the changes that an alert shows, as clients see them."""
    return [alert_pb2.RelatedChange(change=change_message(each.change), distance=each.distance) for each in related]


def derived_labels(rule_name: str, severity: Severity, evidence: bytes) -> dict[str, str]:
    """Return the labels of an alert that was stored before alerts had any."""
    message = alert_pb2.Alert.FromString(evidence)
    return labels_of(
        rule_name=rule_name,
        severity=severity,
        service="",
        group=message.group,
        rule_labels=message.labels,
        catalog_labels={},
    )


def rule_labels_of(evidence: bytes) -> Mapping[str, str]:
    """Return the labels of an alert's rule."""
    return alert_pb2.Alert.FromString(evidence).labels


def history_message(entry: AlertHistoryEntry) -> alert_pb2.AlertHistoryEntry:
    """Return a history entry as clients see it."""
    return alert_pb2.AlertHistoryEntry(
        id=entry.id,
        kind=alert_pb2.AlertHistoryEntry.Kind.Value(entry.kind.value),
        create_time=timestamp_of(entry.create_time),
        actor=entry.actor,
        comment=entry.comment,
        channel=entry.channel,
        trace_id=entry.trace_id,
        recipient=entry.recipient,
        notified_state=alert_pb2.Alert.State.Value(entry.notified_state or "STATE_UNSPECIFIED"),
        notification_id=entry.notification_id,
    )


def alert_state_of(value: alert_pb2.Alert.State.ValueType) -> AlertState:
    """Return a state of the contract. Raises ValueError for the unspecified and for unknown ones."""
    return AlertState(alert_pb2.Alert.State.Name(value))
