"""An alert as signed JSON for any receiver.

The receiver computes HMAC-SHA256 with the shared key over the value of `Tocsin-Timestamp`, a full stop and the body's
bytes, compares its hexadecimal digits with those after `v1=` in `Tocsin-Signature`, and refuses old timestamps.
`Idempotency-Key` is the delivery's id: the same key is the same delivery, sent again.
"""

import hashlib
import hmac
import json
from datetime import datetime
from uuid import UUID

from services.notifier.core.message import Message, Sample, Window

Json = dict[str, object]


def webhook_body(message: Message, delivery: UUID) -> bytes:
    """The body of the POST: ASCII, with escapes for the rest, so that whoever prints it moves no terminal."""
    return json.dumps(_document(message, delivery), separators=(",", ":")).encode()


def webhook_headers(body: bytes, delivery: UUID, *, key: str, now: datetime) -> dict[str, str]:
    """The headers that prove where the body comes from, when, and that it was not changed."""
    timestamp = str(int(now.timestamp()))
    return {
        "Content-Type": "application/json",
        "Idempotency-Key": str(delivery),
        "Tocsin-Timestamp": timestamp,
        "Tocsin-Signature": "v1=" + signature(body, timestamp=timestamp, key=key),
    }


def signature(body: bytes, *, timestamp: str, key: str) -> str:
    """64 hexadecimal digits."""
    return hmac.new(key.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()


def _document(message: Message, delivery: UUID) -> Json:
    return {
        "version": 1,
        "deliveryId": str(delivery),
        "notificationId": str(message.notification_id),
        "kind": message.kind.name,
        "alert": {
            "id": message.alert_id,
            "fingerprint": message.fingerprint,
            "severity": message.severity.name,
            "ruleId": message.rule_id,
            "ruleName": message.rule,
            "description": message.description,
            "resource": message.resource,
            "labels": dict(message.labels),
            "fireTime": _time(message.fire_time),
            "changeTime": _time(message.change_time),
            "actor": message.actor,
            "window": _window(message.window),
            "samples": [_sample(sample) for sample in message.samples],
        },
    }


def _window(window: Window | None) -> Json | None:
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


def _sample(sample: Sample) -> Json:
    return {
        "eventTime": _time(sample.time),
        "service": sample.service,
        "level": sample.level,
        "message": sample.text,
        "host": sample.host,
        "traceId": sample.trace_id,
    }


def _time(time: datetime) -> str:
    return time.isoformat(timespec="milliseconds")
