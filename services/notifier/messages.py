"""Between the messages of the contract and the values of the core."""

from collections.abc import Mapping
from datetime import UTC, datetime, tzinfo
from uuid import UUID
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from google.protobuf.descriptor import EnumDescriptor
from google.protobuf.message import DecodeError
from google.protobuf.timestamp_pb2 import Timestamp

from services.contract.timestamps import datetime_of, timestamp_of
from services.domain.severity import Severity
from services.domain.tenants import read_tenant, write_tenant
from services.notifier.core.delivery import Delivery, DeliveryState
from services.notifier.core.notification import (
    NotificationChange,
    NotificationContent,
    NotificationIncident,
    NotificationIncidentAlert,
    NotificationKind,
    NotificationSample,
    NotificationService,
    NotificationWindow,
)
from services.notifier.core.routing import Routes, delivery_id, file_route_matchers
from services.notifier.ports import FailedDelivery, ListedDelivery, PlannedNotification
from tocsin.alerts.v1.alert_pb2 import Alert, SampleEvent, ServiceInfo
from tocsin.changes.v1.service_change_pb2 import ServiceChange
from tocsin.incidents.v1.incident_notice_pb2 import IncidentNotice
from tocsin.incidents.v1.incident_pb2 import Incident, IncidentAlert
from tocsin.logs.v1.log_event_pb2 import LogEvent
from tocsin.notifications.v1.notification_pb2 import Delivery as DeliveryMessage
from tocsin.notifications.v1.notification_pb2 import FailedNotification, Notification, NotificationResult, Receiver
from tocsin.routing.v1.routing_tree_pb2 import Route, RoutingTree
from tocsin.rules.v1.alert_rule_pb2 import AlertRule

CONTRACT_KINDS = {
    NotificationKind.FIRING: Notification.FIRING,
    NotificationKind.ACKNOWLEDGED: Notification.ACKNOWLEDGED,
    NotificationKind.RESOLVED: Notification.RESOLVED,
    NotificationKind.UPDATED: Notification.UPDATED,
}

# The names of receivers, where they stand for a channel.
_MAX_RECEIVERS = 200

# The contract speaks of failed notifications: PENDING there is a delivery that has failed and waits for its redrive.
STATES: Mapping["FailedNotification.Status.ValueType", frozenset[DeliveryState]] = {
    FailedNotification.PENDING: frozenset({DeliveryState.FAILED}),
    FailedNotification.RETRYING: frozenset({DeliveryState.PENDING, DeliveryState.IN_FLIGHT}),
    FailedNotification.DELIVERED: frozenset({DeliveryState.DELIVERED}),
    FailedNotification.SUPERSEDED: frozenset({DeliveryState.SUPERSEDED}),
}
_STATUSES = {state: status for status, states in STATES.items() for state in states}


class UnreadableNotificationError(ValueError):
    """The bytes are no notification, or a notification without what it needs."""


def decode_notification(record: bytes) -> NotificationContent:
    """Return the notification in a record of the topic `notifications`. Raises UnreadableNotificationError."""
    try:
        return _notification(Notification.FromString(record))
    except (DecodeError, ValueError) as error:
        raise UnreadableNotificationError(str(error)) from None


def decode_canary(record: bytes) -> datetime | None:
    """Return when the canary in a record of the topic `notifications` was sent; None when there is none."""
    try:
        message = Notification.FromString(record)
        return datetime_of(message.canary_time) if message.HasField("canary_time") else None
    except (DecodeError, ValueError):
        return None


def encode_result(delivery: Delivery, now: datetime, *, is_exhausted: bool = False) -> bytes:
    """Return the record of the topic `notification-results` for a delivery that was delivered or has failed."""
    is_delivered = delivery.state is DeliveryState.DELIVERED
    return NotificationResult(
        delivery_id=str(delivery.id),
        notification_id=str(delivery.notification_id),
        alert_id=delivery.alert_id,
        kind=CONTRACT_KINDS[delivery.kind],
        channel=delivery.channel,
        outcome=NotificationResult.DELIVERED if is_delivered else NotificationResult.FAILED,
        attempt_count=delivery.attempt_count,
        reason="" if is_delivered else delivery.last_error,
        fallback_for=delivery.fallback_for,
        create_time=timestamp_of(now),
        recipient=delivery.recipient,
        incident_id=delivery.incident_id,
        is_exhausted=is_exhausted,
        tenant=write_tenant(delivery.tenant),
    ).SerializeToString()


def encode_unreachable_result(notification: PlannedNotification, now: datetime) -> bytes:
    """Return the record of the topic `notification-results` for a notification whose receivers have no channel."""
    receivers = ", ".join(notification.receivers)
    return NotificationResult(
        delivery_id=str(delivery_id(notification.notification_id, "")),
        notification_id=str(notification.notification_id),
        alert_id=notification.alert_id,
        kind=CONTRACT_KINDS[notification.kind],
        channel=receivers if len(receivers) <= _MAX_RECEIVERS else receivers[: _MAX_RECEIVERS - 1] + "…",
        outcome=NotificationResult.FAILED,
        reason="the routes file names no such receiver",
        create_time=timestamp_of(now),
        incident_id=notification.incident_id,
        is_exhausted=True,
        tenant=write_tenant(notification.tenant),
    ).SerializeToString()


def failed_notification(failed: FailedDelivery) -> FailedNotification:
    """Return a failed delivery as a message of the contract."""
    delivery = failed.delivery
    return FailedNotification(
        id=str(delivery.id),
        notification_id=str(delivery.notification_id),
        alert_id=delivery.alert_id,
        kind=CONTRACT_KINDS[delivery.kind],
        channel=delivery.channel,
        status=_STATUSES[delivery.state],
        attempt_count=delivery.attempt_count,
        last_error=delivery.last_error,
        create_time=timestamp_of(failed.fail_time),
        update_time=timestamp_of(failed.update_time),
        recipient=delivery.recipient,
        incident_id=delivery.incident_id,
    )


def delivery_message(listed: ListedDelivery) -> DeliveryMessage:
    """Return a delivery as a message of the contract."""
    delivery = listed.delivery
    return DeliveryMessage(
        id=str(delivery.id),
        notification_id=str(delivery.notification_id),
        alert_id=delivery.alert_id,
        kind=CONTRACT_KINDS[delivery.kind],
        channel=delivery.channel,
        recipient=delivery.recipient,
        state=DeliveryMessage.State.Value(delivery.state.value),
        attempt_count=delivery.attempt_count,
        last_error=delivery.last_error,
        fallback_for=delivery.fallback_for,
        create_time=timestamp_of(delivery.create_time),
        update_time=timestamp_of(listed.update_time),
        incident_id=delivery.incident_id,
    )


def receiver_messages(routes: Routes) -> list[Receiver]:
    """Return all receivers by name, as messages of the contract."""
    return [
        Receiver(
            name=name,
            channels=[
                Receiver.Channel(
                    name=channel,
                    kind=routes.channels[channel].settings.kind,
                    recipient=routes.channels[channel].settings.recipient,
                    fallback=routes.channels[channel].fallback,
                )
                for channel in channels
            ],
            is_channel=name in routes.channels,
        )
        for name, channels in sorted(routes.all_receivers.items())
    ]


def file_routes_message(routes: Routes) -> RoutingTree | None:
    """Return the file's own routes as a routing tree; None when there are none.

    No alert stays at its root, since the file's routes without labels take each severity. The root needs receivers
    nevertheless, and has those of the last of these routes.
    """
    general = [route for route in routes.routes if not route.labels]
    if not general:
        return None
    children = [
        Route(matchers=map(str, file_route_matchers(route)), receivers=route.channels) for route in routes.routes
    ]
    return RoutingTree(root=Route(receivers=general[-1].channels, routes=children))


def _notification(message: Notification) -> NotificationContent:
    alert, kind, notice = message.alert, NotificationKind(message.kind), message.incident
    if not alert.id:
        raise ValueError("a notification without alert")
    has_incident = message.HasField("incident")
    subject: Alert | Incident = notice.incident if has_incident else alert
    change_time, actor = _subject_change(message, kind, subject)
    superseded_by = notice.incident.merged_into if has_incident else alert.superseded_by
    return NotificationContent(
        notification_id=UUID(message.id),
        subject_id=message.subject_id or alert.id,
        sequence=message.sequence or kind,
        alert_id=alert.id,
        fingerprint=alert.fingerprint,
        kind=kind,
        severity=Severity(subject.severity or alert.severity),
        alert_severity=Severity(alert.severity),
        rule_id=alert.rule_id,
        rule=alert.rule_name,
        description=alert.description,
        resource=alert.resource,
        fire_time=_time(alert.fire_time, default=message.create_time),
        change_time=_time(change_time, default=message.create_time),
        actor=actor,
        group=dict(alert.group),
        labels=dict(alert.labels),
        window=_window(alert) if alert.HasField("window") else None,
        samples=tuple(_sample(sample) for sample in alert.samples),
        service=_service(alert.service_info) if alert.HasField("service_info") else None,
        changes=tuple(_change(related.change) for related in alert.recent_changes),
        incident=_incident(notice, default=message.create_time) if has_incident else None,
        receivers=tuple(dict.fromkeys(message.receivers)),
        reason=message.reason,
        zone=_zone(message.time_zone),
        tenant=read_tenant(message.tenant),
        closes_superseded=kind is NotificationKind.RESOLVED and bool(superseded_by),
    )


def _subject_change(message: Notification, kind: NotificationKind, subject: Alert | Incident) -> tuple[Timestamp, str]:
    """Return the time of the change that a notification is about, and who made it."""
    match kind:
        case NotificationKind.FIRING:
            # Later ones go to others, or about more.
            return message.create_time if message.sequence > kind else message.alert.fire_time, ""
        case NotificationKind.ACKNOWLEDGED:
            return subject.acknowledge_time, subject.acknowledged_by
        case NotificationKind.RESOLVED:
            return subject.resolve_time, subject.resolved_by
        case NotificationKind.UPDATED:
            return message.create_time, ""


def _zone(name: str) -> tzinfo:
    """Return a time zone; UTC where this host does not know it."""
    try:
        return ZoneInfo(name) if name else UTC
    except (OSError, ValueError, ZoneInfoNotFoundError):
        return UTC


def _incident(notice: IncidentNotice, *, default: Timestamp) -> NotificationIncident:
    incident = notice.incident
    return NotificationIncident(
        id=incident.id,
        title=incident.title,
        state=_name(Incident.State.DESCRIPTOR, incident.state),
        create_time=_time(incident.create_time, default=default),
        alert_count=incident.alert_count,
        open_alert_count=incident.open_alert_count,
        services=tuple(incident.services),
        assignee=incident.assignee,
        alerts=tuple(_incident_alert(alert, default=default) for alert in notice.alerts),
        cause=_incident_alert(notice.cause, default=default) if notice.HasField("cause") else None,
        cause_reason=notice.cause_reason,
        new_alert_count=notice.new_alert_count,
        ended_alert_count=notice.ended_alert_count,
        is_flapping=notice.is_flapping,
        links=dict(notice.links),
        changes=tuple(_change(related.change) for related in notice.changes),
    )


def _incident_alert(alert: IncidentAlert, *, default: Timestamp) -> NotificationIncidentAlert:
    return NotificationIncidentAlert(
        alert_id=alert.alert_id,
        rule=alert.rule_name,
        resource=alert.resource,
        service=alert.service,
        severity=_name(AlertRule.Severity.DESCRIPTOR, alert.severity),
        state=_name(Alert.State.DESCRIPTOR, alert.state),
        fire_time=_time(alert.fire_time, default=default),
    )


def _name(enum: EnumDescriptor, number: int) -> str:
    """Return the name of a value; empty when it is not set, or this release does not know it."""
    value = enum.values_by_number.get(number)
    return value.name if value is not None and number else ""


def _window(alert: Alert) -> NotificationWindow:
    window = alert.window
    return NotificationWindow(
        start=datetime_of(window.start_time),
        end=datetime_of(window.end_time),
        count=window.count,
        total=window.total,
        condition=window.condition,
        threshold=window.threshold,
    )


def _sample(sample: SampleEvent) -> NotificationSample:
    return NotificationSample(
        time=datetime_of(sample.event_time),
        service=sample.service,
        level=LogEvent.Level.Name(sample.level) if sample.level else "",
        text=sample.message,
        host=sample.host,
        trace_id=sample.trace_id,
        attributes=dict(sample.attributes),
    )


def _service(info: ServiceInfo) -> NotificationService:
    return NotificationService(
        name=info.name, owner=info.owner, tier=info.tier, description=info.description, links=dict(info.links)
    )


def _change(change: ServiceChange) -> NotificationChange:
    is_known = change.kind in ServiceChange.Kind.values() and change.kind
    return NotificationChange(
        time=datetime_of(change.time),
        service=change.service,
        kind=ServiceChange.Kind.Name(change.kind) if is_known else "OTHER",
        version=change.version,
        actor=change.actor,
        link=change.link,
    )


def _time(timestamp: Timestamp, *, default: Timestamp) -> datetime:
    """Return the time; the default when it is absent."""
    return datetime_of(timestamp if timestamp.seconds or timestamp.nanos else default)
