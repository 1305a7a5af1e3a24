"""From a record on `notifications` to the channels, when all goes well and when channels fail."""

import asyncio
import uuid
from datetime import UTC, datetime

import pytest

from services.chassis.kafka import Record, consuming
from services.domain.trace_context import trace_id_of, traceparent_of
from stack.sinks import Behaviour
from tests.fakes.notifications import notification
from tests.integration.notifier.conftest import World
from tocsin.logs.v1.log_event_pb2 import DeadLetter
from tocsin.notifications.v1.notification_pb2 import (
    CircuitBreaker,
    FailedNotification,
    Notification,
    NotificationResult,
)
from tocsin.notifications.v1.notification_service_pb2 import (
    ListCircuitBreakersRequest,
    ListFailedNotificationsRequest,
    RetryFailedNotificationRequest,
)
from tocsin.rules.v1.alert_rule_pb2 import AlertRule

pytestmark = pytest.mark.integration

DOWN = Behaviour(status=500)


async def read(world: World, topic: str, count: int) -> list[Record]:
    """The first records of a topic."""
    found: list[Record] = []
    enough = asyncio.Event()

    async def handle(records: list[Record]) -> None:
        found.extend(records)
        if len(found) >= count:
            enough.set()

    async with consuming(world.settings.kafka, topic=topic, group=f"test-{uuid.uuid4()}", handle=handle):
        await asyncio.wait_for(enough.wait(), 15)
    return found


async def accepted(world: World, count: int, channel: str | None = None) -> list[tuple[str, str]]:
    """Channel and kind of what the sinks took, once there are so many."""
    await world.sinks.journal.until(lambda journal: len(journal.accepted(channel)) >= count)
    return [(one.channel, one.kind) for one in world.sinks.journal.accepted(channel)]


async def test_an_alert_reaches_each_channel_of_its_route_once(world: World, alert: str) -> None:
    sent = notification(alert=alert)
    await world.publish(sent, sent)
    await world.publish(sent)
    await accepted(world, 3)
    await world.publish(notification(alert=alert, kind=Notification.RESOLVED))
    reached = sorted(await accepted(world, 6))
    assert reached == sorted((c, k) for c in ("email", "pagerduty", "slack") for k in ("FIRING", "RESOLVED"))
    assert len(world.sinks.journal.deliveries) == 6
    assert {one.alert for one in world.sinks.journal.deliveries} == {alert}


async def test_an_alert_that_was_superseded_is_closed_in_tracking_channels_and_reaches_nobody_else(
    world: World, alert: str
) -> None:
    await world.publish(notification(alert=alert))
    await accepted(world, 3)
    over = notification(alert=alert, kind=Notification.RESOLVED, superseded_by="another")
    await world.publish(over, over)
    assert (await accepted(world, 2, "pagerduty"))[1:] == [("pagerduty", "RESOLVED")]
    # Where that fails no fallback is used: people get nothing.
    world.sinks.journal.behave("pagerduty", DOWN)
    other = f"{alert} 2"
    await world.publish(notification(alert=other, kind=Notification.RESOLVED, superseded_by="another"))
    await world.until("SELECT 1 FROM failed_notifications WHERE alert_id = $1", other)
    planned = await world.rows("SELECT channel FROM deliveries WHERE kind = 3 ORDER BY channel")
    assert [row["channel"] for row in planned] == ["pagerduty", "pagerduty"]


async def test_it_is_quick_and_the_manager_gets_the_result(world: World, alert: str) -> None:
    await world.publish(notification(alert="warm", severity=AlertRule.LOW))
    await accepted(world, 1, "webhook")
    begin = datetime.now(UTC)
    trace = uuid.uuid4().hex
    headers = (("traceparent", f"00-{trace}-00f067aa0ba902b7-01".encode()),)
    await world.publish(notification(alert=alert, severity=AlertRule.MEDIUM), headers=headers)
    await accepted(world, 1, "slack")
    [slack] = world.sinks.journal.accepted("slack")
    assert (slack.time - begin).total_seconds() < 3
    records = await read(world, "notification-results", 2)
    results = [(NotificationResult.FromString(record.value), record) for record in records]
    [(result, record)] = [(one, record) for one, record in results if one.alert_id == alert]
    assert trace_id_of(traceparent_of(record.headers)) == trace == slack.headers["traceparent"].split("-")[1]
    assert (result.channel, result.outcome, result.attempt_count) == ("slack", NotificationResult.DELIVERED, 1)
    assert result.delivery_id == slack.key


async def test_a_failure_that_passes_is_retried(world: World, alert: str) -> None:
    world.sinks.journal.behave("slack", Behaviour(status=503, times=2))
    await world.publish(notification(alert=alert, severity=AlertRule.MEDIUM))
    assert await accepted(world, 1) == [("slack", "FIRING")]
    assert [one.status for one in world.sinks.journal.deliveries] == [503, 503, 200]
    await world.until("SELECT 1 FROM deliveries WHERE state = 'DELIVERED' AND attempt_count = 3")


async def test_retry_after_is_honoured(world: World, alert: str) -> None:
    world.sinks.journal.behave("slack", Behaviour(status=429, retry_after="1", times=1))
    await world.publish(notification(alert=alert, severity=AlertRule.MEDIUM))
    await accepted(world, 1)
    first, second = world.sinks.journal.deliveries
    assert (second.time - first.time).total_seconds() >= 1


async def test_a_channel_that_asks_to_wait_gets_everything_in_order_after_that(world: World, alert: str) -> None:
    # More often than opens the breaker, and again when it has begun to take them.
    world.sinks.journal.behave("slack", Behaviour(status=429, retry_after="1", times=8))
    alerts = [f"{alert}-{number}" for number in range(20)]
    await world.publish(*[notification(alert=one, severity=AlertRule.MEDIUM) for one in alerts])
    await accepted(world, 3)
    world.sinks.journal.behave("slack", Behaviour(status=429, retry_after="1", times=1))
    await accepted(world, 20)
    rows = await world.rows("SELECT alert_id FROM deliveries ORDER BY created_at")
    taken = [one.alert for one in world.sinks.journal.accepted()]
    assert taken == [row["alert_id"] for row in rows]
    assert len(world.sinks.journal.deliveries) <= 20 + 8 + 1
    assert {one.channel for one in world.sinks.journal.deliveries} == {"slack"}
    assert await world.rows("SELECT 1 FROM failed_notifications") == []
    breakers = await world.rpc.ListCircuitBreakers(ListCircuitBreakersRequest())
    assert {one.state for one in breakers.circuit_breakers} == {CircuitBreaker.CLOSED}


async def test_a_wait_beyond_the_limit_is_not_waited_for(world: World, alert: str) -> None:
    world.sinks.journal.behave("slack", Behaviour(status=429, retry_after="900", times=1))
    await world.publish(notification(alert=alert, severity=AlertRule.MEDIUM))
    assert await accepted(world, 1) == [("email", "FIRING")]
    # What comes meanwhile goes there too, and the channel is left alone.
    await world.publish(notification(alert=f"{alert}-2", severity=AlertRule.MEDIUM))
    assert await accepted(world, 2) == [("email", "FIRING")] * 2
    found = await world.until(
        "SELECT array_agg(reason) AS reasons FROM failed_notifications WHERE status = 'PENDING' HAVING count(*) = 2"
    )
    assert found[0]["reasons"] == ["ASKED_TO_WAIT"] * 2
    assert len([one for one in world.sinks.journal.deliveries if one.channel == "slack"]) == 1
    breakers = await world.rpc.ListCircuitBreakers(ListCircuitBreakersRequest())
    assert {one.state for one in breakers.circuit_breakers} == {CircuitBreaker.CLOSED}


async def test_a_channel_that_is_down_opens_its_breaker_and_all_goes_to_the_fallback_then_is_redriven(
    world: World, alert: str
) -> None:
    world.sinks.journal.behave("slack", DOWN)
    await world.publish(notification(alert=alert, severity=AlertRule.MEDIUM))
    # The fallback gets it, and the failed one is stored.
    assert await accepted(world, 1) == [("email", "FIRING")]
    [row] = await world.until("SELECT * FROM failed_notifications")
    assert (row["channel"], row["status"], row["attempt_count"], row["last_error"]) == (
        "slack",
        "PENDING",
        3,
        "answered 500: error",
    )
    breakers = await world.rpc.ListCircuitBreakers(ListCircuitBreakersRequest())
    states = {one.channel: one.state for one in breakers.circuit_breakers}
    assert states["slack"] in {CircuitBreaker.OPEN, CircuitBreaker.HALF_OPEN}
    assert states["email"] == CircuitBreaker.CLOSED
    # Open: what comes now goes to the fallback at once.
    await world.publish(notification(alert=alert, kind=Notification.RESOLVED, severity=AlertRule.MEDIUM))
    assert await accepted(world, 2) == [("email", "FIRING"), ("email", "RESOLVED")]
    await world.until("SELECT 1 FROM failed_notifications WHERE kind = 'RESOLVED' AND status = 'PENDING'")
    # Recovered: both are sent there as well, in order.
    world.sinks.journal.behave("slack", None)
    assert await accepted(world, 2, "slack") == [("slack", "FIRING"), ("slack", "RESOLVED")]
    await world.until("SELECT 1 FROM failed_notifications WHERE status = 'DELIVERED' HAVING count(*) = 2")
    await world.until("SELECT 1 FROM (SELECT count(*) AS waiting FROM outbox) AS counted WHERE waiting = 0")
    results = [NotificationResult.FromString(one.value) for one in await read(world, "notification-results", 6)]
    outcomes = sorted((one.channel, one.outcome, one.fallback_for) for one in results)
    assert outcomes == sorted(
        [("slack", 2, ""), ("slack", 1, ""), ("email", 1, "slack")] * 2,
    )


async def test_a_channel_that_hangs_holds_up_no_other(world: World, alert: str) -> None:
    world.sinks.journal.behave("slack", Behaviour(delay=30))
    await world.publish(*[notification(alert=f"{alert}-{n}", severity=AlertRule.HIGH) for n in range(8)])
    await accepted(world, 8, "email")
    assert await world.rows("SELECT 1 FROM deliveries WHERE channel = 'slack' AND state = 'DELIVERED'") == []
    world.sinks.journal.behave("slack", None)


async def test_a_refused_notification_is_not_retried_but_goes_to_the_fallback(world: World, alert: str) -> None:
    world.sinks.journal.behave("slack", Behaviour(status=400, times=1))
    await world.publish(notification(alert=alert, severity=AlertRule.MEDIUM))
    assert await accepted(world, 1) == [("email", "FIRING")]
    assert [one.status for one in world.sinks.journal.deliveries if one.channel == "slack"] == [400]
    # By hand it is sent again.
    listed = await world.rpc.ListFailedNotifications(ListFailedNotificationsRequest())
    [failed] = listed.failed_notifications
    assert (failed.status, failed.alert_id) == (FailedNotification.PENDING, alert)
    answer = await world.rpc.RetryFailedNotification(RetryFailedNotificationRequest(id=failed.id))
    assert answer.failed_notification.status == FailedNotification.RETRYING
    assert await accepted(world, 1, "slack") == [("slack", "FIRING")]


async def test_a_refused_notification_is_not_redriven_when_its_channel_has_recovered(world: World, alert: str) -> None:
    world.sinks.journal.behave("slack", Behaviour(status=400, times=1))
    await world.publish(notification(alert=f"{alert}-refused", severity=AlertRule.MEDIUM))
    await world.until("SELECT 1 FROM failed_notifications WHERE reason = 'REFUSED'")
    world.sinks.journal.behave("slack", DOWN)
    await world.publish(notification(alert=alert, severity=AlertRule.MEDIUM))
    await world.until("SELECT 1 FROM failed_notifications HAVING count(*) = 2")
    world.sinks.journal.behave("slack", None)
    await world.until("SELECT 1 FROM failed_notifications WHERE status = 'DELIVERED'")
    rows = await world.rows("SELECT alert_id, status FROM failed_notifications ORDER BY alert_id")
    assert [tuple(row) for row in rows] == [(alert, "DELIVERED"), (f"{alert}-refused", "PENDING")]


async def test_by_hand_goes_through_an_open_breaker(world: World, alert: str) -> None:
    world.sinks.journal.behave("pagerduty", DOWN)
    await world.publish(notification(alert=alert))
    [row] = await world.until("SELECT id FROM failed_notifications WHERE channel = 'pagerduty' AND status = 'PENDING'")
    before = len(world.sinks.journal.deliveries)
    await world.rpc.RetryFailedNotification(RetryFailedNotificationRequest(id=str(row["id"])))
    await world.sinks.journal.until(
        lambda journal: any(one.channel == "pagerduty" for one in journal.deliveries[before:])
    )
    await world.until("SELECT 1 FROM failed_notifications WHERE status = 'PENDING' AND attempt_count >= 4")


async def test_firing_is_told_before_resolved_however_slow_it_is(world: World, alert: str) -> None:
    world.sinks.journal.behave("slack", Behaviour(status=503, times=1, delay=0.3))
    kinds = (Notification.FIRING, Notification.ACKNOWLEDGED, Notification.RESOLVED)
    await world.publish(*[notification(alert=alert, kind=kind, severity=AlertRule.MEDIUM) for kind in kinds])
    in_order = [("slack", "FIRING"), ("slack", "ACKNOWLEDGED"), ("slack", "RESOLVED")]
    assert await accepted(world, 3) == in_order


async def test_firing_is_not_sent_after_resolved(world: World, alert: str) -> None:
    world.sinks.journal.behave("slack", Behaviour(status=400, times=1))
    await world.publish(notification(alert=alert, severity=AlertRule.MEDIUM))
    await world.until("SELECT 1 FROM failed_notifications WHERE status = 'PENDING'")
    await world.publish(notification(alert=alert, kind=Notification.RESOLVED, severity=AlertRule.MEDIUM))
    assert await accepted(world, 1, "slack") == [("slack", "RESOLVED")]
    [row] = await world.until("SELECT * FROM failed_notifications WHERE status = 'SUPERSEDED'")
    assert row["kind"] == "FIRING"


async def test_a_fallback_that_got_the_beginning_gets_the_end(world: World, alert: str) -> None:
    world.sinks.journal.behave("slack", Behaviour(status=400, times=1))
    await world.publish(notification(alert=alert, severity=AlertRule.MEDIUM))
    assert await accepted(world, 1) == [("email", "FIRING")]
    await world.publish(notification(alert=alert, kind=Notification.RESOLVED, severity=AlertRule.MEDIUM))
    assert await accepted(world, 1, "slack") == [("slack", "RESOLVED")]
    assert await accepted(world, 2, "email") == [("email", "FIRING"), ("email", "RESOLVED")]


async def test_so_does_a_fallback_that_got_it_only_after_the_end_had_come_in(world: World, alert: str) -> None:
    world.sinks.journal.behave("slack", Behaviour(status=400, times=1, delay=0.3))
    kinds = (Notification.FIRING, Notification.RESOLVED)
    await world.publish(*[notification(alert=alert, kind=kind, severity=AlertRule.MEDIUM) for kind in kinds])
    assert await accepted(world, 2, "email") == [("email", "FIRING"), ("email", "RESOLVED")]
    assert await accepted(world, 1, "slack") == [("slack", "RESOLVED")]


async def test_what_is_no_notification_is_dead_lettered_and_the_stream_goes_on(world: World, alert: str) -> None:
    await world.stream.send("notifications", b"\xff not a message", alert.encode(), 0, ())
    await world.stream.send("notifications", Notification(id=str(uuid.uuid4())).SerializeToString(), b"", 0, ())
    await world.stream.send(
        "notifications", notification(alert=alert, severity=AlertRule.LOW).SerializeToString(), b"", 0
    )
    assert await accepted(world, 1) == [("webhook", "FIRING")]
    letters = [DeadLetter.FromString(one.value) for one in await read(world, "log-events-dead-letter", 2)]
    assert [(one.topic, one.reason) for one in letters] == [("notifications", "UNREADABLE_NOTIFICATION")] * 2
    assert letters[0].value == b"\xff not a message"
