"""From a record on `notifications` to the channels."""

import pytest

from tests.fakes.notifications import notification
from tests.integration.notifier.conftest import World
from tocsin.notifications.v1.notification_pb2 import Notification
from tocsin.rules.v1.alert_rule_pb2 import AlertRule

pytestmark = pytest.mark.integration


async def test_an_alert_reaches_each_channel_of_its_route_once(world: World, alert: str) -> None:
    told = notification(alert=alert)
    await world.publish(told, told)
    await world.publish(told)
    await world.sinks.journal.until(lambda journal: len(journal.accepted()) >= 3)
    await world.publish(notification(alert=alert, kind=Notification.RESOLVED))
    await world.sinks.journal.until(lambda journal: len(journal.accepted()) >= 6)
    reached = sorted((one.channel, one.kind) for one in world.sinks.journal.deliveries)
    assert reached == sorted((c, k) for c in ("email", "pagerduty", "slack") for k in ("FIRING", "RESOLVED"))
    assert {one.alert for one in world.sinks.journal.deliveries} == {alert}
