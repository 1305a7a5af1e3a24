"""The trouble that the demo makes, and what must come of it: pure values."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import chain, zip_longest
from typing import Any

Event = dict[str, Any]

BATCH = 35
# Seconds: the window of the default rules.
WINDOW = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """One alert that must come, and the channels that must each be told once."""

    resource: str
    severity: str
    channels: frozenset[str]


# The default rules: more than 100 errors, 50 slow responses, 25 failed responses of one service in five minutes; the
# default routes say which severity goes to which channels.
EXPECTED = (
    Expected(resource="payment-service", severity="CRITICAL", channels=frozenset({"pagerduty", "slack", "email"})),
    Expected(resource="search-service", severity="HIGH", channels=frozenset({"slack", "email"})),
    Expected(resource="checkout-service", severity="CRITICAL", channels=frozenset({"pagerduty", "slack", "email"})),
)


def batches() -> list[list[Event]]:
    """120 errors, 60 slow responses and 30 failed ones, mixed, as bodies of POST /api/logs/batch."""
    mixed = chain.from_iterable(zip_longest(_errors(120), _slow(60), _failed(30)))
    events = [event for event in mixed if event is not None]
    return [events[start : start + BATCH] for start in range(0, len(events), BATCH)]


def missing(alerts: Sequence[Any], deliveries: Sequence[Any]) -> list[str]:
    """What was expected and has not been seen yet, in words; empty when all is there."""
    wanted = []
    for expected in EXPECTED:
        if not [alert for alert in alerts if alert["resource"] == expected.resource]:
            wanted.append(f"an alert for {expected.resource}")
        told = {delivery["channel"] for delivery in of_resource(alerts, deliveries, expected.resource)}
        wanted += [f"{expected.resource} on {channel}" for channel in sorted(expected.channels - told)]
    return wanted


def surplus(alerts: Sequence[Any], deliveries: Sequence[Any]) -> list[str]:
    """What was seen and not expected, in words: other alerts, repeated or misdirected deliveries."""
    found = []
    resources = [alert["resource"] for alert in alerts]
    known = {expected.resource: expected for expected in EXPECTED}
    found += [f"an alert for {resource}" for resource in resources if resource not in known]
    found += [f"a second alert for {resource}" for resource in known if resources.count(resource) > 1]
    for resource, expected in known.items():
        told = [delivery["channel"] for delivery in of_resource(alerts, deliveries, resource)]
        found += [f"{resource} on {channel}" for channel in sorted(set(told) - expected.channels)]
        found += [f"{resource} again on {channel}" for channel in sorted(set(told)) if told.count(channel) > 1]
    return found


def of_resource(alerts: Sequence[Any], deliveries: Sequence[Any], resource: str) -> list[Any]:
    """The deliveries that tell the firing of a resource's alerts."""
    ids = {alert["id"] for alert in alerts if alert["resource"] == resource}
    return [one for one in deliveries if one["alert"] in ids and one["isAccepted"]]


def seconds_left(now: datetime) -> float:
    """How long the default rules' window goes on; windows are aligned to the epoch."""
    return WINDOW - now.timestamp() % WINDOW


def seconds_between(earlier: str, later: str) -> float:
    """From one RFC 3339 time to another."""
    return (datetime.fromisoformat(later) - datetime.fromisoformat(earlier)).total_seconds()


def _errors(count: int) -> list[Event]:
    return [
        {
            "service": "payment-service",
            "level": "ERROR",
            "message": f"Database connection failed: pool exhausted, order {40_000 + number}",
            "attributes": {"pool": "orders"},
        }
        for number in range(count)
    ]


def _slow(count: int) -> list[Event]:
    return [
        {
            "service": "search-service",
            "level": "WARN",
            "message": f"Slow query: page {number} took too long",
            "statusCode": 200,
            "responseTime": 2100 + 10 * number,
        }
        for number in range(count)
    ]


def _failed(count: int) -> list[Event]:
    return [
        {
            "service": "checkout-service",
            "level": "INFO",
            "message": f"POST /checkout/{number} answered {502 + number % 3}",
            "statusCode": 502 + number % 3,
            "responseTime": 120,
        }
        for number in range(count)
    ]
