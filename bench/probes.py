"""The delay of alerts: probes let a rule fire, and are observed on the topic `alerts` and at the sink."""

import json
import time
from collections.abc import Iterable
from datetime import datetime
from http.client import HTTPConnection

import grpc
from confluent_kafka import Consumer, TopicPartition

from tocsin.alerts.v1.alert_pb2 import AlertTransition
from tocsin.logs.v1.log_event_pb2 import LogEvent
from tocsin.logs.v1.log_ingest_service_pb2 import IngestBatchRequest
from tocsin.logs.v1.log_ingest_service_pb2_grpc import LogIngestServiceStub
from tocsin.rules.v1.alert_rule_pb2 import AlertRule
from tocsin.rules.v1.alert_rule_service_pb2 import CreateAlertRuleRequest, DeleteAlertRuleRequest
from tocsin.rules.v1.alert_rule_service_pb2_grpc import AlertRuleServiceStub

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


def probe(
    channel: grpc.Channel, prefix: str, *, count: int, pause: float, brokers: str, topic: str = "alerts"
) -> dict[str, float]:
    """Send probes one after the other; return the seconds from the last event to the alert on Kafka, by resource."""
    consumer = alerts_from_now(brokers, topic)
    delays: dict[str, float] = {}
    for number in range(count):
        due = time.monotonic() + pause
        send_probe(channel, prefix, number)
        while time.monotonic() < due:
            poll_alert(consumer, prefix, delays, 0.005)
    deadline = time.monotonic() + _TIMEOUT_S
    while len(delays) < count and time.monotonic() < deadline:
        poll_alert(consumer, prefix, delays, 0.05)
    consumer.close()
    return delays


def alerts_from_now(brokers: str, topic: str = "alerts") -> Consumer:
    """Return a consumer of the alerts that come from now on."""
    consumer = Consumer(
        {
            "bootstrap.servers": brokers,
            "group.id": f"bench-{time.monotonic_ns()}",
            "fetch.wait.max.ms": 5,
        }
    )
    # From the topic's present end; a subscription would find that out with its first fetch only.
    partitions = [TopicPartition(topic, number) for number in consumer.list_topics(topic).topics[topic].partitions]
    for partition in partitions:
        partition.offset = consumer.get_watermark_offsets(partition)[1]
    consumer.assign(partitions)
    return consumer


def delivered(sinks: int, prefix: str, *, count: int) -> dict[str, float]:
    """Return the seconds from each probe's last event to its delivery, by resource."""
    deadline = time.monotonic() + _TIMEOUT_S
    delays: dict[str, float] = {}
    while len(delays) < count and time.monotonic() < deadline:
        delays = _delivered(sinks, prefix)
        time.sleep(0.2)
    return delays


def _delivered(sinks: int, prefix: str) -> dict[str, float]:
    connection = HTTPConnection("127.0.0.1", sinks, timeout=10)
    try:
        connection.request("GET", "/deliveries?accepted=true&channel=slack")
        deliveries = json.loads(connection.getresponse().read())["deliveries"]
    finally:
        connection.close()
    delays = {}
    for delivery in deliveries:
        # Each probe's last message contains its own time, which the evidence in the notification repeats.
        text = json.dumps(delivery["body"])
        start = text.find(f"{prefix}sent-")
        if start >= 0:
            number, sent = text[start + len(prefix) + 5 :].split("@", 2)[:2]
            delays[number] = datetime.fromisoformat(delivery["time"]).timestamp() - float(sent)
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
    if message is None or message.error():
        return
    transition = AlertTransition.FromString(message.value() or b"")
    if transition.resource.startswith(prefix) and transition.state == AlertTransition.FIRING:
        sent = transition.window.last_event_time.ToNanoseconds() / 1e9
        delays.setdefault(transition.resource.removeprefix(prefix), time.time() - sent)
