"""The scenario of the demo, and the alerts and deliveries that must come of it: pure values."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import chain, zip_longest
from typing import Any

Event = dict[str, Any]

EVENTS_PER_REQUEST = 35
ERRORS, SLOW, FAILED = 120, 60, 30
# The window of the default rules.
WINDOW_S = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectedAlert:
    """An alert that must fire, how many events it may count, and the channels that must each get it once."""

    rule: str
    resource: str
    severity: str
    counts: range
    channels: frozenset[str]


# The default rules: more than 100 errors, 50 slow responses, 25 failed responses of one service in five minutes; the
# default routes say which severity goes to which channels.
EXPECTED_ALERTS = (
    ExpectedAlert(
        rule="High error count",
        resource="payment-service",
        severity="CRITICAL",
        counts=range(101, ERRORS + 1),
        channels=frozenset({"pagerduty", "slack", "email"}),
    ),
    ExpectedAlert(
        rule="Slow responses",
        resource="search-service",
        severity="HIGH",
        counts=range(51, SLOW + 1),
        channels=frozenset({"slack", "email"}),
    ),
    ExpectedAlert(
        rule="Failed responses",
        resource="checkout-service",
        severity="CRITICAL",
        counts=range(26, FAILED + 1),
        channels=frozenset({"pagerduty", "slack", "email"}),
    ),
)


def event_batches() -> list[list[Event]]:
    """Return 120 errors, 60 slow responses and 30 failed ones, mixed, as bodies of POST /api/logs/batch."""
    mixed = chain.from_iterable(zip_longest(_errors(ERRORS), _slow(SLOW), _failed(FAILED)))
    events = [event for event in mixed if event is not None]
    return [events[start : start + EVENTS_PER_REQUEST] for start in range(0, len(events), EVENTS_PER_REQUEST)]


def missing_results(alerts: Sequence[Any], deliveries: Sequence[Any]) -> list[str]:
    """Describe what is expected and has not come yet; empty when all has come."""
    return list((_expected_results() - _actual_results(alerts, deliveries)).elements())


def unexpected_results(alerts: Sequence[Any], deliveries: Sequence[Any]) -> list[str]:
    """Describe what has come and is not expected: other alerts, repeated, misdirected or groundless deliveries."""
    return list((_actual_results(alerts, deliveries) - _expected_results()).elements())


def deliveries_of(alert: Any, deliveries: Sequence[Any]) -> list[Any]:
    """Return the deliveries of an alert that its channel accepted."""
    return [delivery for delivery in deliveries if delivery["alert"] == alert["id"] and delivery["isAccepted"]]


def seconds_left_in_window(now: datetime) -> float:
    """Return how long the current window of the default rules lasts; windows are aligned to the epoch."""
    return WINDOW_S - now.timestamp() % WINDOW_S


def seconds_between(earlier: str, later: str) -> float:
    """Return the seconds from one RFC 3339 time to another."""
    return (datetime.fromisoformat(later) - datetime.fromisoformat(earlier)).total_seconds()


def _expected_results() -> Counter[str]:
    results: Counter[str] = Counter()
    for alert in EXPECTED_ALERTS:
        results[_describe_alert(alert.rule, alert.resource, alert.severity, "FIRING")] += 1
        results.update(
            _describe_delivery("FIRING", alert.rule, alert.resource, channel) for channel in sorted(alert.channels)
        )
    return results


def _actual_results(alerts: Sequence[Any], deliveries: Sequence[Any]) -> Counter[str]:
    results: Counter[str] = Counter()
    for alert in alerts:
        rule, resource = alert["ruleName"], alert["resource"]
        results[_describe_alert(rule, resource, alert["severity"], alert["state"]) + _describe_wrong_count(alert)] += 1
        results.update(
            _describe_delivery(delivery["kind"], rule, resource, delivery["channel"])
            for delivery in deliveries_of(alert, deliveries)
        )
    known = {alert["id"] for alert in alerts}
    unknown = [delivery for delivery in deliveries if delivery["isAccepted"] and delivery["alert"] not in known]
    results.update(f"{one['kind']} of no alert ({one['alert']}) on {one['channel']}" for one in unknown)
    return results


def _describe_alert(rule: str, resource: str, severity: str, state: str) -> str:
    return f"the alert {rule} of {resource}, {severity}, {state}"


def _describe_delivery(kind: str, rule: str, resource: str, channel: str) -> str:
    return f"{kind} of {rule} of {resource} on {channel}"


def _describe_wrong_count(alert: Any) -> str:
    """Describe a number of events that an expected alert must not count; empty when the number is right."""
    count = int(alert["window"]["count"])
    expected = [one for one in EXPECTED_ALERTS if (one.rule, one.resource) == (alert["ruleName"], alert["resource"])]
    return "" if all(count in one.counts for one in expected) else f", counting {count}"


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
