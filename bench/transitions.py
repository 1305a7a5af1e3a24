"""How fast the manager takes transitions: from the topic `alerts` to the notifications that come of them.

Each transition is a firing of a group of its own, so that each makes an alert, an incident where there are incidents,
its history, and one notification. The clock runs from the first transition that is sent to the last notification on
Kafka: the manager's transactions, and the relay of its outbox, are in between. The notifier delivers meanwhile, as it
always does; the sink that it reaches is the webhook's.
"""

import time
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime

from confluent_kafka import Consumer, Producer, TopicPartition

from bench.costs import process_costs
from services.domain.fingerprint import fingerprint
from services.domain.severity import Severity
from stack.ports import Ports
from tocsin.alerts.v1.alert_pb2 import AlertTransition
from tocsin.notifications.v1.notification_pb2 import Notification
from tocsin.rules.v1.alert_rule_pb2 import AlertRule

_TIMEOUT_S = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TransitionSpeed:
    """Transitions a second, and the CPU that the manager and PostgreSQL spent on each, in microseconds."""

    per_second: float
    manager_micros: float
    postgres_micros: float


def transition_speed(ports: Ports, count: int) -> TransitionSpeed:
    """Send so many transitions at once, and wait for their notifications. Raises TimeoutError."""
    prefix = f"bench-{uuid.uuid4().hex[:8]}-"
    brokers = f"127.0.0.1:{ports.kafka}"
    consumer = Consumer({"bootstrap.servers": brokers, "group.id": prefix, "enable.auto.commit": False})
    try:
        consumer.assign(ends_of(consumer, "notifications"))
        before = process_costs(ports)
        started = time.monotonic()
        send_firings(brokers, prefix, count)
        _await_notifications(consumer, prefix, count, started + _TIMEOUT_S)
        took, after = time.monotonic() - started, process_costs(ports)
    finally:
        consumer.close()
    micros = {
        name: (after[name].cpu_seconds - before[name].cpu_seconds) * 1e6 / count for name in ("manager", "postgres")
    }
    return TransitionSpeed(
        per_second=count / took, manager_micros=micros["manager"], postgres_micros=micros["postgres"]
    )


def ends_of(consumer: Consumer, topic: str) -> list[TopicPartition]:
    """Return where each partition of a topic ends now."""
    partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
    ends = []
    for partition in partitions:
        _, end = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=10)
        ends.append(TopicPartition(topic, partition, end))
    return ends


def send_firings(brokers: str, prefix: str, count: int) -> None:
    """Send that so many groups fire, which begin with the prefix, each once."""
    producer = Producer({"bootstrap.servers": brokers, "linger.ms": 5, "queue.buffering.max.messages": count + 1})
    now = datetime.now(UTC)
    for number in range(count):
        resource = f"{prefix}{number}"
        transition = AlertTransition(
            id=uuid.uuid4().hex,
            state=AlertTransition.FIRING,
            fingerprint=fingerprint(rule_id=prefix, resource=resource, severity=Severity.LOW),
            rule_id=prefix,
            rule_name="Bench",
            severity=AlertRule.LOW,
            resource=resource,
            group={"service": resource},
        )
        transition.first_window_time.FromDatetime(now)
        transition.create_time.FromDatetime(now)
        producer.produce("alerts", transition.SerializeToString(), resource.encode())
    producer.flush(_TIMEOUT_S)


def _await_notifications(consumer: Consumer, prefix: str, count: int, deadline: float) -> None:
    notified: set[str] = set()
    while len(notified) < count:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{len(notified)} of {count} notifications came within {_TIMEOUT_S:.0f} s")
        for message in consumer.consume(1000, timeout=0.2):
            if message.error():
                continue
            alert = Notification.FromString(message.value() or b"").alert
            if alert.resource.startswith(prefix):
                notified.add(alert.resource)
