"""Signed JSON to any receiver.

The receiver computes HMAC-SHA256 with the shared key over the value of `Tocsin-Timestamp`, a full stop and the body's
bytes, compares its hexadecimal digits with those after `v1=` in `Tocsin-Signature`, and refuses old timestamps.
`Idempotency-Key` is the delivery's id: the same key is the same delivery, sent again.
"""

import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import ClassVar
from uuid import UUID

from services.notifier.core.channels.addresses import public_address
from services.notifier.core.channels.fields import ChannelFields
from services.notifier.core.channels.wording import JsonObject
from services.notifier.core.notification import (
    NotificationChange,
    NotificationContent,
    NotificationIncidentAlert,
    NotificationSample,
    NotificationService,
    NotificationWindow,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookSettings:
    """An address that takes signed JSON."""

    kind: ClassVar[str] = "webhook"
    tracks_alerts: ClassVar[bool] = False

    url: str = field(repr=False)
    signing_key: str = field(repr=False)
    allow_private: bool = False
    """Whether the address may be inside a private network. Others than the operator may have named it."""

    @classmethod
    def read(cls, fields: ChannelFields) -> "WebhookSettings":
        """Read the settings from a routes file."""
        allow_private = fields.boolean("allow_private")
        return cls(
            url=fields.url("url", fields.string("url"), allow_private=allow_private),
            signing_key=fields.secret("signing_key"),
            allow_private=allow_private,
        )

    @property
    def recipient(self) -> str:
        """Return where notifications go, without secrets."""
        return public_address(self.url)

    def request(
        self, notification: NotificationContent, delivery_id: UUID, *, now: datetime
    ) -> tuple[bytes, Mapping[str, str]]:
        """Return the body and headers of the POST."""
        body = webhook_body(notification, delivery_id)
        return body, webhook_headers(body, delivery_id, key=self.signing_key, now=now)

    def error_detail(self, body: str) -> str:
        """Return nothing: nobody knows what a receiver's error holds."""
        del body
        return ""


def webhook_body(notification: NotificationContent, delivery_id: UUID) -> bytes:
    """Return the body of the POST: ASCII with escapes, so that printing it moves no terminal."""
    return json.dumps(_document(notification, delivery_id), separators=(",", ":")).encode()


def webhook_headers(body: bytes, delivery_id: UUID, *, key: str, now: datetime) -> dict[str, str]:
    """Return the headers that prove who sent the body, when, and that nobody changed it."""
    timestamp = str(int(now.timestamp()))
    return {
        "Content-Type": "application/json",
        "Idempotency-Key": str(delivery_id),
        "Tocsin-Timestamp": timestamp,
        "Tocsin-Signature": "v1=" + _signature(body, timestamp=timestamp, key=key),
    }


def _signature(body: bytes, *, timestamp: str, key: str) -> str:
    return hmac.new(key.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()


def _document(notification: NotificationContent, delivery_id: UUID) -> JsonObject:
    return {
        "version": 1,
        "deliveryId": str(delivery_id),
        "notificationId": str(notification.notification_id),
        "subjectId": notification.subject_id,
        "sequence": notification.sequence,
        "kind": notification.kind.name,
        "reason": notification.reason,
        "incident": _incident(notification),
        "alert": {
            "id": notification.alert_id,
            "fingerprint": notification.fingerprint,
            "severity": notification.alert_severity.name,
            "ruleId": notification.rule_id,
            "ruleName": notification.rule,
            "description": notification.description,
            "resource": notification.resource,
            "group": dict(notification.group),
            "labels": dict(notification.labels),
            "fireTime": _time(notification.fire_time),
            "changeTime": _time(notification.change_time),
            "actor": notification.actor,
            "window": _window(notification.window),
            "samples": [_sample(sample) for sample in notification.samples],
            "service": _service(notification.service),
            "recentChanges": [_change(change) for change in notification.changes],
        },
    }


def _incident(notification: NotificationContent) -> JsonObject | None:
    incident = notification.incident
    if incident is None:
        return None
    return {
        "id": incident.id,
        "title": incident.title,
        "state": incident.state,
        "severity": notification.severity.name,
        "createTime": _time(incident.create_time),
        "alertCount": incident.alert_count,
        "openAlertCount": incident.open_alert_count,
        "newAlertCount": incident.new_alert_count,
        "endedAlertCount": incident.ended_alert_count,
        "services": list(incident.services),
        "assignee": incident.assignee,
        "cause": None if incident.cause is None else _incident_alert(incident.cause),
        "causeReason": incident.cause_reason,
        "isFlapping": incident.is_flapping,
        "alerts": [_incident_alert(alert) for alert in incident.alerts],
        "links": dict(incident.links),
        "changes": [_change(change) for change in incident.changes],
    }


def _incident_alert(alert: NotificationIncidentAlert) -> JsonObject:
    return {
        "id": alert.alert_id,
        "severity": alert.severity,
        "state": alert.state,
        "ruleName": alert.rule,
        "resource": alert.resource,
        "service": alert.service,
        "fireTime": _time(alert.fire_time),
    }


def _window(window: NotificationWindow | None) -> JsonObject | None:
    if window is None:
        return None
    return {
        "startTime": _time(window.start),
        "endTime": _time(window.end),
        "count": window.count,
        "total": window.total,
        "condition": window.condition,
        "threshold": window.threshold,
    }


def _sample(sample: NotificationSample) -> JsonObject:
    return {
        "eventTime": _time(sample.time),
        "service": sample.service,
        "level": sample.level,
        "message": sample.text,
        "host": sample.host,
        "traceId": sample.trace_id,
        "attributes": dict(sample.attributes),
    }


def _service(service: NotificationService | None) -> JsonObject | None:
    if service is None:
        return None
    return {
        "name": service.name,
        "owner": service.owner,
        "tier": service.tier,
        "description": service.description,
        "links": dict(service.links),
    }


def _change(change: NotificationChange) -> JsonObject:
    return {
        "time": _time(change.time),
        "service": change.service,
        "kind": change.kind,
        "version": change.version,
        "actor": change.actor,
        "link": change.link,
    }


def _time(time: datetime) -> str:
    return time.isoformat(timespec="milliseconds")
