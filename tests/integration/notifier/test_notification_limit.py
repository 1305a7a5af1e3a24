"""A running notifier with a limit: a storm reaches a sink as the first notifications, a notice, and one bundle."""

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from services.notifier.settings import Settings
from stack.sinks import Sinks
from tests.fakes.notifications import incident_notification
from tests.integration.notifier.conftest import ROUTES, World, run_notifier
from tests.integration.notifier.test_delivery import accepted, read
from tocsin.notifications.v1.notification_pb2 import NotificationResult
from tocsin.rules.v1.alert_rule_pb2 import AlertRule

pytestmark = pytest.mark.integration

# One comes at once, and one an hour later.
LIMIT = "1"


@pytest.fixture
async def world(settings: Settings, sinks: Sinks, tmp_path: Path) -> AsyncIterator[World]:
    channels = yaml.safe_load(ROUTES.read_text())["channels"]
    path = tmp_path / "routes.yaml"
    path.write_text(yaml.safe_dump({"channels": channels, "receivers": {"ops": ["slack"]}}))
    async with run_notifier(replace(settings, routes=path, tenant_notifications_per_hour=LIMIT), sinks) as running:
        yield running


async def test_a_storm_comes_as_one_bundle_and_critical_ones_at_once(world: World, sinks: Sinks) -> None:
    storm = [
        incident_notification(incident=f"storm-{number}", receivers=["ops"], severity=AlertRule.HIGH)
        for number in range(5)
    ]
    for each in storm:
        each.alert.severity = AlertRule.HIGH
    await world.publish(*storm)
    await world.until("SELECT 1 FROM deliveries WHERE state = 'HELD' HAVING count(*) = 4")
    await world.publish(incident_notification(incident="critical", receivers=["ops"]))
    await world.until("SELECT 1 FROM deliveries WHERE state = 'DELIVERED' HAVING count(*) = 3")
    # As if an hour had passed.
    await world.rows("UPDATE notification_limits SET held_since = held_since - interval '2 hours'")
    await world.until("SELECT 1 FROM deliveries HAVING bool_and(state = 'DELIVERED') AND count(*) = 9")
    await accepted(world, 5, "slack")
    shown = [json.dumps(one.body) for one in sinks.journal.accepted("slack")]
    assert sum("limit of notifications on tenant default" in text for text in shown) == 2
    assert sum("4 alerts were held back by the limit of notifications" in text for text in shown) == 1
    results = [NotificationResult.FromString(each.value) for each in await read(world, "notification-results", 10)]
    outcomes = sorted(NotificationResult.Outcome.Name(each.outcome) for each in results)
    assert outcomes == ["DELIVERED"] * 6 + ["HELD"] * 4
