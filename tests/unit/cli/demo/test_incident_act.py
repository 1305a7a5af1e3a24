"""The second act of the demo notices whatever differs."""

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from cli.demo.incident_act import (
    ACT_EVENTS,
    CATALOG,
    DEPENDENTS,
    ERRORS_PER_SERVICE,
    FAILED_DATABASE,
    ActResult,
    events,
)

SERVICES = (FAILED_DATABASE, *DEPENDENTS)
CHANNELS = ("pagerduty", "slack", "email")


def delivery(channel: str, kind: str) -> Any:
    return {"channel": channel, "kind": kind}


RESULT = ActResult(
    incident={"state": "RESOLVED", "causeAlertId": FAILED_DATABASE},
    alerts=[{"service": service, "alertId": service} for service in SERVICES],
    history=[],
    deliveries=[delivery(channel, kind) for channel in CHANNELS for kind in ("FIRING", "ACKNOWLEDGED", "RESOLVED")],
)


def test_what_must_be_does_not_differ() -> None:
    assert RESULT.differences == []


@pytest.mark.parametrize(
    ("changes", "difference"),
    [
        pytest.param({"alerts": RESULT.alerts[:-1]}, "the incident has alerts of", id="an alert is elsewhere"),
        pytest.param(
            {"incident": {"state": "RESOLVED", "causeAlertId": DEPENDENTS[0]}}, "the probable cause", id="wrong cause"
        ),
        pytest.param(
            {"incident": {"state": "OPEN", "causeAlertId": FAILED_DATABASE}}, "the incident is OPEN", id="not over"
        ),
        pytest.param({"deliveries": RESULT.deliveries[1:]}, "missing: FIRING on pagerduty", id="no page"),
        pytest.param(
            {"deliveries": [*RESULT.deliveries, delivery("pagerduty", "FIRING")]},
            "not expected: FIRING on pagerduty",
            id="paged twice",
        ),
        pytest.param(
            {"deliveries": [*RESULT.deliveries, delivery("webhook", "FIRING")]},
            "not expected: FIRING on webhook",
            id="escalated after the acknowledgement",
        ),
    ],
)
def test_each_difference_is_said(changes: dict[str, Any], difference: str) -> None:
    (found,) = replace(RESULT, **changes).differences
    assert difference in found


def test_every_service_has_enough_errors_and_all_depend_on_the_database() -> None:
    sent = events(SERVICES)
    assert len(sent) == ACT_EVENTS
    assert Counter(event["service"] for event in sent) == dict.fromkeys(SERVICES, ERRORS_PER_SERVICE)
    depends = {entry["name"]: entry.get("dependsOn", []) for entry in CATALOG["services"]}
    assert depends == {FAILED_DATABASE: []} | {name: [FAILED_DATABASE] for name in DEPENDENTS}
