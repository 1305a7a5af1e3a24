"""PagerDuty's Events API v2. The subject is the dedup_key, so a repeated event changes nothing.

An alert's subject is its id. Of an incident the first event and each update trigger the same PagerDuty alert.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import ClassVar
from uuid import UUID

from services.domain.severity import Severity
from services.notifier.core.channels.addresses import public_address
from services.notifier.core.channels.fields import ChannelFields
from services.notifier.core.channels.wording import (
    JsonObject,
    alert_lines,
    change_lines,
    context_lines,
    facts,
    format_duration,
    headline,
    links,
    multi_line,
    sample_source,
    service_text,
    single_line,
    truncate,
)
from services.notifier.core.notification import NotificationContent, NotificationKind

_DEFAULT_URL = "https://events.pagerduty.com/v2/enqueue"
_ACTION = {
    NotificationKind.FIRING: "trigger",
    NotificationKind.ACKNOWLEDGED: "acknowledge",
    NotificationKind.RESOLVED: "resolve",
    NotificationKind.UPDATED: "trigger",
}
_SEVERITY = {
    Severity.CRITICAL: "critical",
    Severity.HIGH: "error",
    Severity.MEDIUM: "warning",
    Severity.LOW: "info",
}
_MAX_SUMMARY = 1024
_MAX_DEDUP_KEY = 255
_MAX_ERRORS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class PagerDutySettings:
    """A service of PagerDuty, by its Events API v2 integration key."""

    kind: ClassVar[str] = "pagerduty"
    tracks_alerts: ClassVar[bool] = True

    url: str
    routing_key: str = field(repr=False)
    allow_private: bool = True

    @classmethod
    def read(cls, fields: ChannelFields) -> "PagerDutySettings":
        """Read the settings from a routes file."""
        allow_private = fields.boolean("allow_private", default=True)
        return cls(
            url=fields.url("url", fields.string("url", _DEFAULT_URL), allow_private=allow_private),
            routing_key=fields.secret("routing_key"),
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
        del delivery_id, now
        return json.dumps(pagerduty_body(notification, self.routing_key)).encode(), {}

    def error_detail(self, body: str) -> str:
        """Return the errors that a response names, without the key, which it may repeat."""
        try:
            document = json.loads(body)
        except ValueError:
            return ""
        errors = document.get("errors") if isinstance(document, dict) else None
        if not isinstance(errors, list):
            return ""
        text = "; ".join(str(error) for error in errors)
        return truncate(single_line(text.replace(self.routing_key, "…")), _MAX_ERRORS)


def pagerduty_body(notification: NotificationContent, routing_key: str) -> JsonObject:
    """Return the body of the POST."""
    body: JsonObject = {
        "routing_key": routing_key,
        "event_action": _ACTION[notification.kind],
        "dedup_key": notification.subject_id[:_MAX_DEDUP_KEY],
    }
    if body["event_action"] == "trigger":
        body |= {"client": "Tocsin", "payload": _payload(notification)}
        body["links"] = [{"href": address, "text": single_line(name)} for name, address in links(notification)]
    return body


def _payload(notification: NotificationContent) -> JsonObject:
    resource = truncate(single_line(notification.resource), _MAX_SUMMARY)
    return {
        "summary": truncate(headline(notification), _MAX_SUMMARY),
        "source": resource or "unknown",
        "severity": _SEVERITY[notification.severity],
        "timestamp": notification.fire_time.isoformat(timespec="milliseconds"),
        "component": resource,
        "class": truncate(single_line(notification.rule), _MAX_SUMMARY),
        "custom_details": _details(notification),
    }


def _details(notification: NotificationContent) -> JsonObject:
    details: JsonObject = {name.lower(): value for name, value in facts(notification)}
    labels = {single_line(name): single_line(value) for name, value in notification.labels.items()}
    details |= {
        "alert_id": single_line(notification.alert_id),
        "description": multi_line(notification.description),
        "labels": labels,
    }
    if context := context_lines(notification):
        details["context"] = list(context)
    if (incident := notification.incident) is not None:
        details |= {"incident_id": single_line(incident.id), "alerts": list(alert_lines(notification))}
    if (window := notification.window) is not None:
        details |= {
            "count": window.count,
            "total": window.total,
            "threshold": window.threshold,
            "window": format_duration(window.length),
        }
    if service := service_text(notification):
        details["service"] = service
    if changes := change_lines(notification):
        details["changes"] = list(changes)
    details["samples"] = [
        {
            "where": sample_source(sample, notification.zone),
            "message": multi_line(sample.text),
            "trace_id": sample.trace_id,
            "attributes": {single_line(name): single_line(value) for name, value in sample.attributes.items()},
        }
        for sample in notification.samples
    ]
    return details
