"""What masking secrets costs a notification: CPU of one thread, with masking and without in turns.

`python -m bench.masking`. Of events `python -m bench.ingest` has the figures.
"""

import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from uuid import uuid4

from services.notifier.core.channels.slack import SlackSettings
from services.notifier.core.redaction import redact_content
from services.notifier.messages import decode_notification
from services.redaction.presets import SECRET_PRESETS
from services.redaction.text_redactor import TextRedactor
from tocsin.alerts.v1.alert_pb2 import Alert
from tocsin.logs.v1.log_event_pb2 import LogEvent
from tocsin.notifications.v1.notification_pb2 import Notification
from tocsin.rules.v1.alert_rule_pb2 import AlertRule

_ROUNDS, _REPEATS, _SAMPLES, _ATTRIBUTES = 20, 50, 5, 4


def notification_record(message: str) -> bytes:
    """Return a notification of an alert with samples that have this message."""
    found = Notification(id=str(uuid4()), sequence=1, kind=Notification.FIRING)
    alert = found.alert
    alert.id, alert.fingerprint, alert.state = str(uuid4()), "a" * 32, Alert.FIRING
    alert.rule_id, alert.rule_name, alert.resource, alert.severity = "r", "High error rate", "payments", AlertRule.HIGH
    alert.description = "More than 100 errors in five minutes."
    alert.labels["team"] = "payments"
    for number in range(_SAMPLES):
        sample = alert.samples.add(
            service="payments", level=LogEvent.ERROR, message=f"{message} {number}", host="node-1"
        )
        sample.attributes.update({f"key-{key}": f"value {number}" for key in range(_ATTRIBUTES)})
    return found.SerializeToString()


def costs() -> dict[str, float]:
    """Return the CPU microseconds of a notification's way into Slack's form, by what is masked."""
    settings, redact = SlackSettings(url="https://hooks.example/x"), TextRedactor(list(SECRET_PRESETS), ()).redact
    plain = notification_record("order 4711 could not be charged: the bank did not answer within 2000 ms")
    secret = notification_record("login of anna.smith@example.com with password=hunter2 was refused")
    now, delivery = datetime.now(UTC), uuid4()

    def as_is(record: bytes) -> None:
        settings.request(decode_notification(record), delivery, now=now)

    def masked(record: bytes) -> None:
        settings.request(redact_content(decode_notification(record), redact)[0], delivery, now=now)

    variants: dict[str, Callable[[], None]] = {
        "read and write in Slack's form": lambda: as_is(plain),
        "the same, all presets masked, none found": lambda: masked(plain),
        "the same, two found in each of five samples": lambda: masked(secret),
    }
    best = dict.fromkeys(variants, float("inf"))
    for _ in range(_ROUNDS):
        for name, step in variants.items():
            began = time.process_time()
            for _ in range(_REPEATS):
                step()
            best[name] = min(best[name], (time.process_time() - began) / _REPEATS * 1e6)
    return best


if __name__ == "__main__":
    for label, cost in costs().items():
        sys.stdout.write(f"{label:45} {cost:7.0f} µs\n")
