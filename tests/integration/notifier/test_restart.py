"""What a notifier finds when it starts again."""

import signal
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path

import grpc
import pytest

from services.chassis.kafka import producer
from services.notifier.settings import Settings
from stack.sinks import Behaviour, Sinks
from stack.sinks.journal import Journal
from tests.fakes.notifications import notification
from tests.integration.notifier.conftest import World, process
from tocsin.notifications.v1.notification_service_pb2 import RetryFailedNotificationRequest
from tocsin.rules.v1.alert_rule_pb2 import AlertRule

pytestmark = pytest.mark.integration

Run = Callable[[], AbstractAsyncContextManager[World]]


def has_accepted(journal: Journal, *, count: int) -> bool:
    return len(journal.accepted()) >= count


async def leave_behind(running: Run, alert: str, change: str) -> None:
    """Run once, have one delivery to Slack fail for good, and change its row as if the process had been killed."""
    async with running() as world:
        world.sinks.journal.behave("slack", Behaviour(status=400, times=1))
        await world.publish(notification(alert=alert, severity=AlertRule.MEDIUM))
        await world.until("SELECT 1 FROM failed_notifications WHERE status = 'PENDING'")
        await world.rows(f"UPDATE deliveries SET {change} WHERE channel = 'slack'")  # noqa: S608 - the test's own text
        world.sinks.journal.clear()


async def test_own_leases_are_released_at_once(running: Run, alert: str) -> None:
    mine = "state = 'IN_FLIGHT', holder = 'notifier-1', due_at = now() + interval '1 hour'"
    await leave_behind(running, alert, mine)
    async with running() as world:
        await world.sinks.journal.until(lambda journal: journal.accepted("slack"), timeout_s=3)


async def test_the_leases_of_others_are_left_to_them_until_they_end(running: Run, alert: str) -> None:
    other = "state = 'IN_FLIGHT', holder = 'notifier-2', due_at = now() + interval '1.5 seconds'"
    await leave_behind(running, alert, other)
    async with running() as world:
        [row] = await world.rows("SELECT now() AS now, due_at FROM deliveries WHERE channel = 'slack'")
        await world.sinks.journal.until(lambda journal: journal.accepted("slack"), timeout_s=5)
        [slack] = world.sinks.journal.accepted("slack")
        assert slack.time >= row["due_at"] - timedelta(milliseconds=50)


async def test_what_failed_before_is_redriven_although_the_breaker_is_new(running: Run, alert: str) -> None:
    failed = "state = 'FAILED', reason = 'BREAKER_OPEN', due_at = now()"
    await leave_behind(running, alert, failed)
    async with running() as world:
        await world.sinks.journal.until(lambda journal: journal.accepted("slack"), timeout_s=5)
        await world.until("SELECT 1 FROM failed_notifications WHERE status = 'DELIVERED'")


async def test_what_waits_for_a_removed_channel_goes_to_its_fallback(running: Run, alert: str) -> None:
    removed = "state = 'PENDING', channel = 'pager', due_at = now(), failed_at = NULL, reason = NULL"
    await leave_behind(running, alert, removed)
    async with running() as world:
        [row] = await world.rows("SELECT * FROM failed_notifications WHERE channel = 'pager'")
        assert (row["status"], row["reason"]) == ("PENDING", "MISCONFIGURED")


async def test_what_was_retried_by_hand_for_a_removed_channel_fails_and_is_not_retried_again(
    running: Run, alert: str
) -> None:
    await leave_behind(running, alert, "state = 'PENDING', turn = 'BY_HAND', channel = 'pager', due_at = now()")
    async with running() as world:
        [row] = await world.until("SELECT * FROM failed_notifications WHERE channel = 'pager' AND status = 'PENDING'")
        assert row["reason"] == "MISCONFIGURED"
        with pytest.raises(grpc.aio.AioRpcError, match="does not name the channel pager") as refused:
            await world.rpc.RetryFailedNotification(RetryFailedNotificationRequest(id=str(row["id"])))
        assert refused.value.code() is grpc.StatusCode.FAILED_PRECONDITION
        await world.until("SELECT 1 FROM failed_notifications WHERE channel = 'pager' AND status = 'PENDING'")


async def test_what_is_held_for_a_removed_channel_fails_when_it_is_sent(running: Run, alert: str) -> None:
    await leave_behind(running, alert, "state = 'HELD', channel = 'pager', failed_at = NULL, reason = NULL")
    async with running() as world:
        await world.rows("INSERT INTO notification_limits (tenant, held_since) VALUES ('default', now())")
        await world.until("SELECT 1 FROM failed_notifications WHERE channel = 'pager' AND reason = 'MISCONFIGURED'")


async def test_killed_again_and_again_it_misses_nothing(settings: Settings, sinks: Sinks) -> None:
    alerts = [f"alert-{number}" for number in range(40)]
    async with producer(settings.kafka, "test") as stream:
        for alert in alerts:
            sent = notification(alert=alert, severity=AlertRule.HIGH)
            await stream.send("notifications", sent.SerializeToString(), alert.encode(), None, ())
    kills = 3
    for step in range(1, kills + 1):
        async with process(settings, sinks):
            enough = step * 20
            await sinks.journal.until(partial(has_accepted, count=enough), timeout_s=30)
    async with process(settings, sinks):
        await sinks.journal.until(lambda journal: len({one.key for one in journal.accepted()}) >= 80, timeout_s=30)
    counted = Counter((one.channel, one.alert) for one in sinks.journal.accepted())
    assert set(counted) == {(channel, alert) for channel in ("slack", "email") for alert in alerts}
    # What was in flight at a kill may come twice, and bears the same key then: two channels of eight workers each, and
    # as many whose outcomes were not written.
    assert sum(counted.values()) - len(counted) <= kills * 32
    assert len({one.key for one in sinks.journal.accepted()}) == len(counted)


async def test_told_to_stop_it_finishes_what_it_is_sending_and_shows_no_secret(
    settings: Settings, sinks: Sinks, alert: str
) -> None:
    sinks.journal.behave("webhook", Behaviour(delay=0.5))
    sinks.journal.behave("slack", Behaviour(status=500))
    sinks.journal.behave("email", Behaviour(status=451))
    async with process(settings, sinks) as running, producer(settings.kafka, "test") as stream:
        for severity in (AlertRule.CRITICAL, AlertRule.LOW):
            sent = notification(alert=f"{alert}-{severity}", severity=severity)
            await stream.send("notifications", sent.SerializeToString(), sent.alert.id.encode(), None, ())
        await sinks.journal.until(lambda journal: len({one.channel for one in journal.deliveries}) == 4, timeout_s=30)
        running.send_signal(signal.SIGTERM)
        output, _ = await running.communicate()
        assert running.returncode == 0
    assert b"service_stopped" in output
    assert b"delivery_ended" in output
    secrets = ("SLACK_WEBHOOK_URL", "PAGERDUTY_ROUTING_KEY", "SMTP_PASSWORD", "WEBHOOK_SIGNING_KEY", "SMTP_USERNAME")
    assert [name for name in secrets if sinks.environment[name].encode() in output] == []
    assert sinks.environment["SLACK_WEBHOOK_URL"].rpartition("/")[2].encode() not in output


async def test_a_routes_file_that_cannot_be_used_is_reported_whole_and_without_secrets(
    settings: Settings, sinks: Sinks, tmp_path: Path
) -> None:
    path = tmp_path / "routes.yaml"
    path.write_text(settings.routes.read_text().replace("kind: slack", "kind: teams").replace("${SMTP_FROM}", "nobody"))
    async with process(replace(settings, routes=path), sinks) as refused:
        output, _ = await refused.communicate()
    assert refused.returncode == 2
    assert b"channels.slack.kind: " in output
    assert b"channels.email.from: " in output
    assert sinks.environment["SMTP_PASSWORD"].encode() not in output
