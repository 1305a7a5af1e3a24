"""The delay of alerts: probes let a rule fire, and are observed on `alerts`, on `notifications`, and at the sink."""

import json
import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from http.client import HTTPConnection
from typing import TypeAlias

import grpc
from confluent_kafka import Consumer, Message, TopicPartition

from bench.transitions import ends_of
from tocsin.alerts.v1.alert_pb2 import Alert, AlertTransition
from tocsin.logs.v1.log_event_pb2 import LogEvent
from tocsin.logs.v1.log_ingest_service_pb2 import IngestBatchRequest
from tocsin.logs.v1.log_ingest_service_pb2_grpc import LogIngestServiceStub
from tocsin.notifications.v1.notification_pb2 import Notification
from tocsin.rules.v1.alert_rule_pb2 import AlertRule
from tocsin.rules.v1.alert_rule_service_pb2 import CreateAlertRuleRequest, DeleteAlertRuleRequest
from tocsin.rules.v1.alert_rule_service_pb2_grpc import AlertRuleServiceStub

AlertEvidence: TypeAlias = Alert | AlertTransition

_THRESHOLD = 5
_TIMEOUT_S = 20.0


def create_rule(channel: grpc.Channel) -> str:
    """Create the rule that fires for probes: more than five events of one service, notified on one channel.

    Return the prefix of the services that it selects; each call has its own.
    """
    prefix = f"bench-probe-{time.monotonic_ns()}-"
    _create(channel, prefix, f'service.startsWith("{prefix}")', AlertRule.MEDIUM)
    return prefix


def create_silent_rules(channel: grpc.Channel, count: int) -> list[str]:
    """Create rules that select nothing, and return their ids."""
    names = [f"bench-silent-{time.monotonic_ns()}-{number}" for number in range(count)]
    return [_create(channel, name, f'host == "{name}"', AlertRule.LOW) for name in names]


def create_selecting_rules(channel: grpc.Channel, count: int) -> list[str]:
    """Create rules that select all events and never fire, and return their ids."""
    names = [f"bench-selecting-{time.monotonic_ns()}-{number}" for number in range(count)]
    return [_create(channel, name, f'host != "{name}"', AlertRule.LOW, threshold=1e12) for name in names]


def _create(
    channel: grpc.Channel,
    name: str,
    selects: str,
    severity: AlertRule.Severity.ValueType,
    threshold: float = _THRESHOLD,
) -> str:
    rule = AlertRule(
        name=name,
        type=AlertRule.CUSTOM,
        filter=selects,
        condition="count > threshold",
        threshold=threshold,
        window_minutes=60,
        severity=severity,
    )
    answer = AlertRuleServiceStub(channel).CreateAlertRule(CreateAlertRuleRequest(alert_rule=rule), timeout=10)
    return answer.alert_rule.id


def delete_rules(channel: grpc.Channel, ids: Iterable[str]) -> None:
    """Delete these rules."""
    stub = AlertRuleServiceStub(channel)
    for one in ids:
        stub.DeleteAlertRule(DeleteAlertRuleRequest(id=one), timeout=10)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeDelays:
    """Seconds from each probe's last event to its alert and to its notification on Kafka, by Kafka's own clock."""

    to_alert: Mapping[str, float]
    to_notification: Mapping[str, float]


def probe(
    channel: grpc.Channel, prefix: str, *, count: int, pause: float, brokers: str, topic_prefix: str = ""
) -> ProbeDelays:
    """Send probes one after the other, at irregular times, and read from Kafka afterwards what became of them."""
    alerts, notifications = (from_now(brokers, f"{topic_prefix}{name}") for name in ("alerts", "notifications"))
    chance = random.Random(1)  # noqa: S311 - nothing secret
    for number in range(count):
        due = time.monotonic() + pause * chance.uniform(0.5, 1.5)
        send_probe(channel, prefix, number)
        time.sleep(max(due - time.monotonic(), 0.0))
    # What is read while probes are sent would take processor time from what is measured.
    deadline = time.monotonic() + _TIMEOUT_S
    return ProbeDelays(
        to_alert=_read_delays(alerts, _fired, prefix, count, deadline),
        to_notification=_read_delays(notifications, _notified, prefix, count, deadline),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicPosition:
    """Where a topic ended, and a consumer that reads on from there."""

    consumer: Consumer
    ends: Sequence[TopicPartition]


def from_now(brokers: str, topic: str) -> TopicPosition:
    """Return where a topic ends now."""
    consumer = Consumer(
        {
            "bootstrap.servers": brokers,
            "group.id": f"bench-{time.monotonic_ns()}",
            "fetch.wait.max.ms": 5,
        }
    )
    # A subscription would find that out with its first fetch only.
    return TopicPosition(consumer=consumer, ends=ends_of(consumer, topic))


def alerts_from_now(brokers: str) -> Consumer:
    """Return a consumer of the alerts that come from now on."""
    position = from_now(brokers, "alerts")
    position.consumer.assign(list(position.ends))
    return position.consumer


def _read_delays(
    position: TopicPosition, read: Callable[[bytes], AlertEvidence | None], prefix: str, count: int, deadline: float
) -> dict[str, float]:
    delays: dict[str, float] = {}
    position.consumer.assign(list(position.ends))
    while len(delays) < count and time.monotonic() < deadline:
        for message in position.consumer.consume(500, 0.2):
            _add_delay(message, read, prefix, delays)
    position.consumer.close()
    return delays


def _add_delay(
    message: Message, read: Callable[[bytes], AlertEvidence | None], prefix: str, delays: dict[str, float]
) -> None:
    found = None if message.error() else read(message.value() or b"")
    if found is not None and found.resource.startswith(prefix):
        sent = found.window.last_event_time.ToNanoseconds() / 1e9
        delays.setdefault(found.resource.removeprefix(prefix), message.timestamp()[1] / 1e3 - sent)


def _fired(value: bytes) -> AlertTransition | None:
    transition = AlertTransition.FromString(value)
    return transition if transition.state == AlertTransition.FIRING else None


def _notified(value: bytes) -> Alert | None:
    notification = Notification.FromString(value)
    return notification.alert if notification.kind == Notification.FIRING else None


def delivered(sinks: int, prefix: str, *, count: int, channel: str = "slack") -> dict[str, float]:
    """Return the seconds from each probe's last event to its delivery, by resource."""
    deadline = time.monotonic() + _TIMEOUT_S
    delays: dict[str, float] = {}
    while len(delays) < count and time.monotonic() < deadline:
        delays = _delivered(sinks, prefix, channel)
        time.sleep(0.2)
    return delays


def _delivered(sinks: int, prefix: str, channel: str) -> dict[str, float]:
    connection = HTTPConnection("127.0.0.1", sinks, timeout=10)
    try:
        connection.request("GET", f"/deliveries?accepted=true&channel={channel}")
        deliveries = json.loads(connection.getresponse().read())["deliveries"]
    finally:
        connection.close()
    delays: dict[str, float] = {}
    for delivery in deliveries:
        # Each probe's last message contains its own time, which the evidence in the notification repeats.
        text = json.dumps(delivery["body"])
        start = text.find(f"{prefix}sent-")
        if start >= 0:
            number, sent = text[start + len(prefix) + 5 :].split("@", 2)[:2]
            delays.setdefault(number, datetime.fromisoformat(delivery["time"]).timestamp() - float(sent))
    return delays


def send_probe(channel: grpc.Channel, prefix: str, number: int) -> None:
    """Send the events of a probe, which let the rule fire."""
    # The delay counts from here: the sender sets the events' time.
    now = time.time_ns()
    message = f"{prefix}sent-{number}@{now / 1e9:.6f}@"
    event = LogEvent(service=f"{prefix}{number}", level=LogEvent.WARN, message=message)
    event.event_time.FromNanoseconds(now)
    LogIngestServiceStub(channel).IngestBatch(IngestBatchRequest(events=[event] * (_THRESHOLD + 1)), timeout=15)


def poll_alert(consumer: Consumer, prefix: str, delays: dict[str, float], timeout_s: float) -> None:
    """Read one alert, and put down the delay of the probe that it is for."""
    message = consumer.poll(timeout_s)
    if message is not None:
        _add_delay(message, _fired, prefix, delays)
