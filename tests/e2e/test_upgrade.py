"""Today's services go on where the first version was stopped: nothing is lost, and nothing is doubled."""

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer

from services.contract.topics import LOG_EVENTS
from stack.ports import Ports
from stack.servers import Addresses
from stack.testing import fresh_name, temporary_system
from stack.topics import delete_topics
from stack.wiring import Wiring
from tests.e2e.world import World, never, wait_until
from tests.first_version import START, restore_database, restore_topics
from tocsin.logs.v1.log_event_pb2 import LogBatch, LogEvent

CENTURY = "36500d"
SETTINGS = {
    # Only events move the watermark, whose times are those of the test data.
    "EVALUATOR_IDLE": "1h",
    "MANAGER_RETENTION": CENTURY,
    "MANAGER_TRANSITION_RETENTION": CENTURY,
    "NOTIFIER_RETENTION": CENTURY,
}
PARTITIONS = 4
# Alerts by rule and resource.
PAYMENTS = ("Errors of a service", "payments")
SEARCH = ("Errors of a service", "search")
BILLING = ("Failing answers", "billing")
OPEN = {PAYMENTS: "FIRING", SEARCH: "ACKNOWLEDGED", BILLING: "FIRING"}
ENDED = ("Errors of a service", "checkout")
SLOW = ("Slow answers", "catalog")
TIMEOUTS = ("Timeouts by region", "attributes.region=eu-west,host=edge-1")
FAILING = ("Failing answers", "payments")
NEW = {SLOW, TIMEOUTS, FAILING}


@pytest.fixture
def upgraded(kafka: str, empty_database: str, redis_url: str, tmp_path: Path) -> Iterator[World]:
    """Give a system of today on the topics and the database of the first version."""
    prefix = fresh_name() + "."
    restore_topics(kafka, prefix)
    restore_database(empty_database)
    servers = Addresses(kafka=kafka, postgres=empty_database, redis=redis_url)
    wiring = Wiring(addresses=servers, ports=Ports.free(), topic_prefix=prefix, redis_prefix=prefix)
    with temporary_system(wiring, tmp_path / "system", print, settings=SETTINGS) as system:
        yield World(system)
    delete_topics(kafka, prefix)


def event(service: str, second: float, level: str = "ERROR", **more: object) -> dict[str, object]:
    time = datetime.fromtimestamp(START + second, UTC).isoformat()
    return {"service": service, "level": level, "message": f"{service} after the upgrade", "eventTime": time, **more}


def send(world: World, events: Sequence[dict[str, object]]) -> None:
    status, answer = world.request("POST", "/api/logs/batch", events)
    assert (status, answer["acceptedCount"]) == (200, len(events))


def move_time(world: World, second: int) -> None:
    """Write an event of this time to each partition of `log-events`."""
    wiring = world.system.wiring
    producer = Producer({"bootstrap.servers": wiring.addresses.kafka})
    tick = LogEvent(service="heartbeat", level=LogEvent.DEBUG, message="tick")
    tick.event_time.FromSeconds(START + second)
    for partition in range(PARTITIONS):
        value = LogBatch(events=[tick]).SerializeToString()
        producer.produce(wiring.topic_prefix + LOG_EVENTS, value, partition=partition)
    assert producer.flush(10) == 0


def alerts_by_group(world: World) -> dict[tuple[str, str], Any]:
    return {(alert["ruleName"], alert["resource"]): alert for alert in world.alerts()}


def states(world: World) -> dict[tuple[str, str], str]:
    return {group: alert["state"] for group, alert in alerts_by_group(world).items()}


def deliveries(world: World) -> Counter[tuple[str, str, str]]:
    """Count what the channels were sent: kind, alert, channel."""
    return Counter((one["kind"], one["alert"], one["channel"]) for one in world.deliveries())


def notifications(alert: Any, kinds: str, channels: str) -> set[tuple[str, str, str]]:
    return {(kind, alert["id"], channel) for kind in kinds.split() for channel in channels.split()}


@pytest.mark.timeout(180)
def test_windows_and_alerts_of_the_first_version_go_on(upgraded: World) -> None:
    before = alerts_by_group(upgraded)
    assert states(upgraded) == OPEN | {ENDED: "RESOLVED"}

    # Within the windows that were open: together with what was counted before, the conditions are met now.
    send(upgraded, [event("catalog", 720 + i, "WARN", responseTime=4000.0) for i in range(5)])
    waited: dict[str, Any] = {"host": "edge-1", "attributes": {"region": "eu-west", "waited": "202"}}
    send(upgraded, [event("gateway", 740, message="timeout after 7 ms", **waited)])
    send(upgraded, [event("payments", 750, statusCode=500), event("search", 751)])
    wait_until(lambda: states(upgraded).keys() >= NEW, what="the new alerts")
    slow, timeouts, failing = (alerts_by_group(upgraded)[group]["window"] for group in (SLOW, TIMEOUTS, FAILING))
    assert (slow["count"], slow["min"], slow["max"]) == ("11", 3000, 4000)
    assert (timeouts["count"], timeouts["avg"]) == ("3", 201)
    assert (failing["count"], failing["total"]) == ("10", "10")

    # Windows close of which nothing is left: the alerts end, the old ones as the same as before.
    move_time(upgraded, 1831)
    wait_until(lambda: set(states(upgraded).values()) == {"RESOLVED"}, what="the end of all alerts")
    after = alerts_by_group(upgraded)
    assert after.keys() == before.keys() | NEW
    assert len(upgraded.alerts()) == len(after)
    kept = ("id", "fireTime", "acknowledgedBy")
    assert [[after[group][name] for name in kept] for group in before] == [
        [alert[name] for name in kept] for alert in before.values()
    ]


@pytest.mark.timeout(180)
def test_what_the_first_version_notified_is_not_notified_again(upgraded: World) -> None:
    before = alerts_by_group(upgraded)
    # Among them the one notification that had failed: the attempt that was due is made after the start.
    move_time(upgraded, 1231)
    expected = (
        notifications(before[PAYMENTS], "RESOLVED", "pagerduty slack email")
        | notifications(before[SEARCH], "RESOLVED", "pagerduty slack email")
        | notifications(before[BILLING], "FIRING RESOLVED", "webhook")
    )
    wait_until(lambda: deliveries(upgraded).keys() >= expected, what="the ends of the alerts on their channels")
    never(lambda: deliveries(upgraded) != Counter(expected), during=2.0)
    assert upgraded.edge.get("/api/notifications/failed")["failedNotifications"] == []
