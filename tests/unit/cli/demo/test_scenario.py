"""The demo tells expected results from missing and unexpected ones."""

from typing import Any

import pytest

from cli.demo.scenario import EXPECTED_ALERTS, event_batches, missing_results, unexpected_results

Things = list[dict[str, Any]]


def alerts() -> Things:
    """The alerts that must come."""
    return [
        {
            "id": f"alert of {one.resource}",
            "ruleName": one.rule,
            "resource": one.resource,
            "severity": one.severity,
            "state": "FIRING",
            "window": {"count": str(one.counts[0])},
        }
        for one in EXPECTED_ALERTS
    ]


def deliveries() -> Things:
    """The deliveries that must come."""
    return [
        delivery(f"alert of {one.resource}", channel) for one in EXPECTED_ALERTS for channel in sorted(one.channels)
    ]


def delivery(alert: str, channel: str, kind: str = "FIRING", *, is_accepted: bool = True) -> dict[str, Any]:
    return {"alert": alert, "channel": channel, "kind": kind, "isAccepted": is_accepted}


SEARCH = "alert of search-service"


def test_expected_results_are_neither_missing_nor_unexpected() -> None:
    assert missing_results(alerts(), deliveries()) == []
    assert unexpected_results(alerts(), deliveries()) == []


def test_at_the_start_everything_is_missing() -> None:
    assert len(missing_results([], [])) == len(EXPECTED_ALERTS) + sum(len(one.channels) for one in EXPECTED_ALERTS)
    assert unexpected_results([], []) == []


@pytest.mark.parametrize(
    ("wrong", "found"),
    [
        pytest.param({"severity": "LOW"}, "the alert Slow responses of search-service, LOW, FIRING", id="severity"),
        pytest.param({"ruleName": "Odd"}, "the alert Odd of search-service, HIGH, FIRING", id="rule"),
        pytest.param({"resource": "x"}, "the alert Slow responses of x, HIGH, FIRING", id="resource"),
        pytest.param({"state": "RESOLVED"}, "the alert Slow responses of search-service, HIGH, RESOLVED", id="state"),
        pytest.param(
            {"window": {"count": "50"}},
            "the alert Slow responses of search-service, HIGH, FIRING, counting 50",
            id="count not above the threshold",
        ),
        pytest.param(
            {"window": {"count": "61"}},
            "the alert Slow responses of search-service, HIGH, FIRING, counting 61",
            id="count above what was sent",
        ),
    ],
)
def test_an_alert_with_anything_wrong_is_another_alert(wrong: dict[str, Any], found: str) -> None:
    others = [one | wrong if one["id"] == SEARCH else one for one in alerts()]
    assert "the alert Slow responses of search-service, HIGH, FIRING" in missing_results(others, deliveries())
    assert found in unexpected_results(others, deliveries())


@pytest.mark.parametrize("state", ["FIRING", "ACKNOWLEDGED", "RESOLVED"])
@pytest.mark.parametrize("resource", ["search-service", "another-service"])
def test_one_more_alert_is_unexpected_in_any_state(state: str, resource: str) -> None:
    extra = alerts()[1] | {"id": "more", "state": state, "resource": resource}
    assert missing_results([*alerts(), extra], deliveries()) == []
    assert unexpected_results([*alerts(), extra], deliveries()) == [
        f"the alert Slow responses of {resource}, HIGH, {state}"
    ]


@pytest.mark.parametrize(
    ("extra", "found"),
    [
        pytest.param(delivery(SEARCH, "slack"), "FIRING of Slow responses of search-service on slack", id="doubled"),
        pytest.param(
            delivery(SEARCH, "pagerduty"), "FIRING of Slow responses of search-service on pagerduty", id="misdirected"
        ),
        pytest.param(
            delivery(SEARCH, "slack", "RESOLVED"),
            "RESOLVED of Slow responses of search-service on slack",
            id="of another kind",
        ),
        pytest.param(delivery("nobody", "email"), "FIRING of no alert (nobody) on email", id="of no alert"),
    ],
)
def test_one_more_delivery_is_unexpected(extra: dict[str, Any], found: str) -> None:
    assert missing_results(alerts(), deliveries()) == []
    assert unexpected_results(alerts(), [*deliveries(), extra]) == [found]


def test_one_delivery_less_is_missing() -> None:
    (first, *others) = deliveries()
    refused = first | {"isAccepted": False}
    for seen in (others, [*others, refused]):
        assert missing_results(alerts(), seen) == [
            f"FIRING of High error count of payment-service on {first['channel']}"
        ]
        assert unexpected_results(alerts(), seen) == []


def test_the_scenario_has_as_many_events_as_the_alerts_may_count() -> None:
    sent = [event["service"] for batch in event_batches() for event in batch]
    assert {one.resource: one.counts[-1] for one in EXPECTED_ALERTS} == {name: sent.count(name) for name in set(sent)}
