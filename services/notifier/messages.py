"""Between the contract's messages and the core's words."""

from datetime import datetime
from uuid import UUID

from google.protobuf.message import DecodeError
from google.protobuf.timestamp_pb2 import Timestamp

from services.contract.timestamps import datetime_of
from services.domain.severity import Severity
from services.notifier.core.message import Kind, Message, Sample, Window
from tocsin.alerts.v1.alert_pb2 import Alert, SampleEvent
from tocsin.logs.v1.log_event_pb2 import LogEvent
from tocsin.notifications.v1.notification_pb2 import Notification


class UnreadableError(ValueError):
    """Bytes that are no notification, or one that lacks what makes it one."""


def message_of(record: bytes) -> Message:
    """The notification in a record of the topic `notifications`. Raises UnreadableError."""
    try:
        notification = Notification.FromString(record)
        return _message(notification)
    except (DecodeError, ValueError) as problem:
        raise UnreadableError(str(problem)) from None


def _message(notification: Notification) -> Message:
    alert, kind = notification.alert, Kind(notification.kind)
    if not alert.id:
        raise ValueError("a notification without alert")
    created = notification.create_time
    changed = {Kind.ACKNOWLEDGED: alert.acknowledge_time, Kind.RESOLVED: alert.resolve_time}.get(kind, alert.fire_time)
    actor = {Kind.ACKNOWLEDGED: alert.acknowledged_by, Kind.RESOLVED: alert.resolved_by}.get(kind, "")
    return Message(
        notification_id=UUID(notification.id),
        alert_id=alert.id,
        fingerprint=alert.fingerprint,
        kind=kind,
        severity=Severity(alert.severity),
        rule_id=alert.rule_id,
        rule=alert.rule_name,
        description=alert.description,
        resource=alert.resource,
        fire_time=_time(alert.fire_time, created),
        change_time=_time(changed, created),
        actor=actor,
        labels=dict(alert.labels),
        window=_window(alert) if alert.HasField("window") else None,
        samples=tuple(_sample(sample) for sample in alert.samples),
        is_quiet=kind is Kind.RESOLVED and bool(alert.superseded_by),
    )


def _window(alert: Alert) -> Window:
    seen = alert.window
    return Window(
        start=_time(seen.start_time),
        end=_time(seen.end_time),
        count=seen.count,
        total=seen.total,
        condition=seen.condition,
        threshold=seen.threshold,
    )


def _sample(sample: SampleEvent) -> Sample:
    return Sample(
        time=_time(sample.event_time),
        service=sample.service,
        level=LogEvent.Level.Name(sample.level) if sample.level else "",
        text=sample.message,
        host=sample.host,
        trace_id=sample.trace_id,
    )


def _time(stamp: Timestamp, otherwise: Timestamp | None = None) -> datetime:
    """The moment, or the other one when it is absent."""
    if otherwise is not None and not (stamp.seconds or stamp.nanos):
        stamp = otherwise
    return datetime_of(stamp)
