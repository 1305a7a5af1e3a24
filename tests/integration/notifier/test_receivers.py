"""Notifications that name their receivers: who gets them, also when channels fail, and what the manager is told."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
import yaml

from services.notifier.settings import Settings
from stack.sinks import Behaviour, Sinks
from tests.fakes.notifications import incident_notification, notification
from tests.integration.notifier.conftest import ROUTES, World, run_notifier
from tests.integration.notifier.test_delivery import accepted, read
from tocsin.notifications.v1.notification_pb2 import Notification, NotificationResult
from tocsin.notifications.v1.notification_service_pb2 import (
    ListDeliveriesRequest,
    ListReceiversRequest,
    RetryFailedNotificationRequest,
)

pytestmark = pytest.mark.integration

REFUSING = Behaviour(status=400)


@asynccontextmanager
async def notifier_of_receivers(settings: Settings, sinks: Sinks, folder: Path) -> AsyncIterator[World]:
    """Run a notifier whose file has receivers and no routes: ops is slack, boss is e-mail; slack falls back."""
    document = yaml.safe_load(ROUTES.read_text())
    channels = document["channels"]
    channels["slack"]["fallback"] = ["webhook"]
    del channels["email"]["fallback"]
    path = folder / "routes.yaml"
    path.write_text(yaml.safe_dump({"channels": channels, "receivers": {"ops": "slack", "boss": ["email"]}}))
    async with run_notifier(replace(settings, routes=path), sinks) as world:
        yield world


@pytest.fixture
async def world(settings: Settings, sinks: Sinks, tmp_path: Path) -> AsyncIterator[World]:
    async with notifier_of_receivers(settings, sinks, tmp_path) as found:
        yield found


async def results(world: World, count: int) -> list[NotificationResult]:
    return [NotificationResult.FromString(one.value) for one in await read(world, "notification-results", count)]


async def test_each_notification_reaches_its_receivers_only_and_in_order(world: World, alert: str) -> None:
    await world.publish(
        incident_notification(incident=alert, receivers=["ops"]),
        incident_notification(incident=alert, receivers=["boss"], sequence=2),
        incident_notification(incident=alert, receivers=["ops"], sequence=3, kind=Notification.UPDATED),
        incident_notification(incident=alert, receivers=["ops", "boss"], sequence=4, kind=Notification.RESOLVED),
        # Nobody: the file has no routes.
        notification(alert=f"{alert}-2"),
    )
    await accepted(world, 5)
    assert await accepted(world, 3, "slack") == [("slack", kind) for kind in ("FIRING", "UPDATED", "RESOLVED")]
    assert await accepted(world, 2, "email") == [("email", "FIRING"), ("email", "RESOLVED")]
    listed = await world.rpc.ListDeliveries(ListDeliveriesRequest(incident_id=alert))
    assert {each.incident_id for each in listed.deliveries} == {alert}
    assert len(listed.deliveries) == 5
    assert len(await world.rows("SELECT 1 FROM deliveries")) == 5
    found = await world.rpc.ListReceivers(ListReceiversRequest())
    assert [receiver.name for receiver in found.receivers] == ["boss", "email", "ops", "pagerduty", "slack", "webhook"]
    assert not found.HasField("file_routes")


async def test_a_fallback_gets_what_follows_for_the_receiver_that_it_stands_in_for(world: World, alert: str) -> None:
    world.sinks.journal.behave("slack", REFUSING)
    await world.publish(incident_notification(incident=alert, receivers=["ops"]))
    assert await accepted(world, 1) == [("webhook", "FIRING")]
    world.sinks.journal.behave("slack", None)
    updated = Notification.UPDATED
    await world.publish(incident_notification(incident=alert, receivers=["boss"], sequence=2, kind=updated))
    assert await accepted(world, 1, "email") == [("email", "UPDATED")]
    await world.publish(
        incident_notification(incident=alert, receivers=["ops"], sequence=3, kind=Notification.RESOLVED)
    )
    assert await accepted(world, 1, "slack") == [("slack", "RESOLVED")]
    assert await accepted(world, 2, "webhook") == [("webhook", "FIRING"), ("webhook", "RESOLVED")]
    await world.until("SELECT 1 FROM failed_notifications WHERE channel = 'slack' AND status = 'SUPERSEDED'")


async def test_a_fallback_that_takes_over_late_gets_nothing_that_went_to_others(world: World, alert: str) -> None:
    world.sinks.journal.behave("slack", Behaviour(status=400, delay=0.5, times=1))
    await world.publish(
        incident_notification(incident=alert, receivers=["ops"]),
        incident_notification(incident=alert, receivers=["boss"], sequence=2),
        incident_notification(incident=alert, receivers=["ops"], sequence=3, kind=Notification.UPDATED),
    )
    assert await accepted(world, 2, "webhook") == [("webhook", "FIRING"), ("webhook", "UPDATED")]
    assert await accepted(world, 1, "email") == [("email", "FIRING")]


async def test_the_manager_is_told_once_that_nobody_was_reached(world: World, alert: str) -> None:
    for sink in ("slack", "webhook", "email"):
        world.sinks.journal.behave(sink, REFUSING)
    sent = incident_notification(incident=alert, receivers=["ops", "boss"])
    await world.publish(sent, sent)
    [row] = await world.until("SELECT id FROM notifications WHERE exhausted_at IS NOT NULL")
    assert str(row["id"]) == sent.id
    # In vain: no news for the manager.
    [failed] = await world.rows("SELECT id FROM deliveries WHERE channel = 'webhook'")
    await world.rpc.RetryFailedNotification(RetryFailedNotificationRequest(id=str(failed["id"])))
    await world.until("SELECT 1 FROM failed_notifications WHERE attempt_count = 2 AND status = 'PENDING'")
    found = await results(world, 3)
    assert {(one.channel, one.outcome, one.incident_id) for one in found} == {
        (channel, NotificationResult.FAILED, alert) for channel in ("slack", "email", "webhook")
    }
    assert [one.is_exhausted for one in found] == [False, False, True]


async def test_a_redriven_delivery_that_fails_last_says_that_nobody_was_reached(world: World, alert: str) -> None:
    world.sinks.journal.behave("webhook", Behaviour(status=400, delay=1.5, times=1))
    world.sinks.journal.behave("email", REFUSING)
    await world.publish(incident_notification(incident=alert, receivers=["webhook", "boss"]))
    [failed] = await world.until("SELECT id FROM failed_notifications WHERE channel = 'email'")
    world.sinks.journal.behave("email", Behaviour(status=400, delay=3))
    await world.rpc.RetryFailedNotification(RetryFailedNotificationRequest(id=str(failed["id"])))
    await world.until("SELECT 1 FROM failed_notifications WHERE channel = 'webhook'")
    assert await world.rows("SELECT 1 FROM notifications WHERE exhausted_at IS NOT NULL") == []
    found = await results(world, 3)
    assert [(one.channel, one.is_exhausted) for one in found] == [
        ("email", False),
        ("webhook", False),
        ("email", True),
    ]


async def test_receivers_that_the_file_does_not_name_are_reported_at_once(world: World, alert: str) -> None:
    sent = incident_notification(incident=alert, receivers=["nobody", "no-one"])
    await world.publish(sent, sent)
    await world.publish(sent, incident_notification(incident=alert, receivers=["nobody", "ops"], sequence=2))
    assert await accepted(world, 1) == [("slack", "FIRING")]
    first, second = await results(world, 2)
    assert (first.channel, first.outcome, first.is_exhausted) == ("nobody, no-one", NotificationResult.FAILED, True)
    assert (first.notification_id, first.attempt_count) == (sent.id, 0)
    assert (second.channel, second.is_exhausted) == ("slack", False)


async def test_what_belongs_to_a_subject_that_goes_on_is_kept(
    settings: Settings, sinks: Sinks, tmp_path: Path, alert: str
) -> None:
    async with notifier_of_receivers(settings, sinks, tmp_path) as world:
        kinds = (Notification.FIRING, Notification.RESOLVED, Notification.FIRING)
        for incident, count in (("over", 2), ("reopened", 3)):
            await world.publish(
                *[
                    incident_notification(
                        incident=f"{alert}-{incident}", receivers=["ops"], sequence=sequence, kind=kind
                    )
                    for sequence, kind in enumerate(kinds[:count], start=1)
                ]
            )
        await accepted(world, 5)
        await world.until("SELECT 1 FROM deliveries WHERE state = 'DELIVERED' HAVING count(*) = 5")
    async with notifier_of_receivers(replace(settings, retention=timedelta(0)), sinks, tmp_path) as world:
        over = f"{alert}-over"
        await world.until("SELECT 1 WHERE NOT EXISTS (SELECT FROM notifications WHERE subject_id = $1)", over)
        rows = await world.rows("SELECT incident_id, sequence FROM deliveries ORDER BY sequence")
        assert [tuple(row) for row in rows] == [(f"{alert}-reopened", sequence) for sequence in (1, 2, 3)]
