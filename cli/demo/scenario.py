"""The trouble that the demo makes, and what must come of it: pure values."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import chain, zip_longest
from typing import Any

Event = dict[str, Any]

BATCH = 35
ERRORS, SLOW, FAILED = 120, 60, 30
# Seconds: the window of the default rules.
WINDOW = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """One alert that must come, how many events it may count, and the channels that must each be told once."""

    rule: str
    resource: str
    severity: str
    counts: range
    channels: frozenset[str]


# The default rules: more than 100 errors, 50 slow responses, 25 failed responses of one service in five minutes; the
# default routes say which severity goes to which channels.
EXPECTED = (
    Expected(
        rule="High error count",
        resource="payment-service",
        severity="CRITICAL",
        counts=range(101, ERRORS + 1),
        channels=frozenset({"pagerduty", "slack", "email"}),
    ),
    Expected(
        rule="Slow responses",
        resource="search-service",
        severity="HIGH",
        counts=range(51, SLOW + 1),
        channels=frozenset({"slack", "email"}),
    ),
    Expected(
        rule="Failed responses",
        resource="checkout-service",
        severity="CRITICAL",
        counts=range(26, FAILED + 1),
        channels=frozenset({"pagerduty", "slack", "email"}),
    ),
)


def batches() -> list[list[Event]]:
    """120 errors, 60 slow responses and 30 failed ones, mixed, as bodies of POST /api/logs/batch."""
    mixed = chain.from_iterable(zip_longest(_errors(ERRORS), _slow(SLOW), _failed(FAILED)))
    events = [event for event in mixed if event is not None]
    return [events[start : start + BATCH] for start in range(0, len(events), BATCH)]


def missing(alerts: Sequence[Any], deliveries: Sequence[Any]) -> list[str]:
    """What was expected and has not been seen yet, in words; empty when all is there."""
    return list((_expected() - _seen(alerts, deliveries)).elements())


def surplus(alerts: Sequence[Any], deliveries: Sequence[Any]) -> list[str]:
    """What was seen and not expected, in words: other alerts, repeated, misdirected or groundless deliveries."""
    return list((_seen(alerts, deliveries) - _expected()).elements())


def told(alert: Any, deliveries: Sequence[Any]) -> list[Any]:
    """The deliveries that tell of an alert."""
    return [one for one in deliveries if one["alert"] == alert["id"] and one["isAccepted"]]


def seconds_left(now: datetime) -> float:
    """How long the default rules' window goes on; windows are aligned to the epoch."""
    return WINDOW - now.timestamp() % WINDOW


def seconds_between(earlier: str, later: str) -> float:
    """From one RFC 3339 time to another."""
    return (datetime.fromisoformat(later) - datetime.fromisoformat(earlier)).total_seconds()


def _expected() -> Counter[str]:
    words: Counter[str] = Counter()
    for one in EXPECTED:
        words[_alert(one.rule, one.resource, one.severity, "FIRING")] += 1
        words.update(_delivery("FIRING", one.rule, one.resource, channel) for channel in sorted(one.channels))
    return words


def _seen(alerts: Sequence[Any], deliveries: Sequence[Any]) -> Counter[str]:
    words: Counter[str] = Counter()
    for alert in alerts:
        rule, resource = alert["ruleName"], alert["resource"]
        words[_alert(rule, resource, alert["severity"], alert["state"]) + _miscount(alert)] += 1
        words.update(_delivery(one["kind"], rule, resource, one["channel"]) for one in told(alert, deliveries))
    known = {alert["id"] for alert in alerts}
    unknown = [one for one in deliveries if one["isAccepted"] and one["alert"] not in known]
    words.update(f"{one['kind']} of no alert ({one['alert']}) on {one['channel']}" for one in unknown)
    return words


def _alert(rule: str, resource: str, severity: str, state: str) -> str:
    return f"the alert {rule} of {resource}, {severity}, {state}"


def _delivery(kind: str, rule: str, resource: str, channel: str) -> str:
    return f"{kind} of {rule} of {resource} on {channel}"


def _miscount(alert: Any) -> str:
    """What is wrong with the number of events that an expected alert counts; empty when nothing is."""
    count = int(alert["window"]["count"])
    fits = [
        count in one.counts for one in EXPECTED if (one.rule, one.resource) == (alert["ruleName"], alert["resource"])
    ]
    return "" if all(fits) else f", counting {count}"


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
