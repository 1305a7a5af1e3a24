"""The database goes away; and more than one instance works at once."""

import asyncio
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from contextvars import ContextVar
from dataclasses import replace
from datetime import timedelta
from urllib.parse import urlsplit

import aiohttp
import pytest

from services.chassis.clock import SystemClock
from services.chassis.kafka import producer
from services.chassis.settings import PostgresSettings, Secret
from services.notifier.app import app
from services.notifier.settings import Settings
from stack.ports import free_port
from stack.sinks import Behaviour, Sinks
from tests.fakes.notifications import notification
from tests.fakes.wire import wire_to
from tests.integration.notifier.conftest import World, process, run_notifier, until
from tocsin.notifications.v1.notification_pb2 import Notification
from tocsin.rules.v1.alert_rule_pb2 import AlertRule

pytestmark = pytest.mark.integration


async def test_what_was_sent_while_the_database_went_away_is_not_sent_again(
    settings: Settings, sinks: Sinks, alert: str
) -> None:
    direct = settings.postgres.database_url.reveal()
    parts = urlsplit(direct)
    async with wire_to(parts.hostname or "", parts.port or 5432) as wire:
        cut_off = direct.replace(f"{parts.hostname}:{parts.port}", f"127.0.0.1:{wire.port}")
        assert str(wire.port) in cut_off
        through_wire = replace(settings, postgres=PostgresSettings(database_url=Secret(cut_off)))
        async with process(through_wire, sinks) as running, producer(settings.kafka, "test") as stream:
            sinks.journal.behave("slack", Behaviour(delay=0.5))
            sent = notification(alert=alert, severity=AlertRule.MEDIUM)
            await stream.send("notifications", sent.SerializeToString(), alert.encode(), None, ())
            await sinks.journal.until(lambda journal: journal.deliveries)
            wire.cut()
            # This one waits in Kafka.
            waiting = notification(alert=f"{alert}-2", severity=AlertRule.LOW)
            await stream.send("notifications", waiting.SerializeToString(), waiting.alert.id.encode(), None, ())
            # Slack has answered, and nobody can write it down.
            await logged(running, b"outcome_delayed")
            wire.mend()
            await sinks.journal.until(lambda journal: journal.accepted("webhook"))
            await until(direct, "SELECT 1 FROM deliveries WHERE channel = 'slack' AND state = 'DELIVERED'")
            assert [one.channel for one in sinks.journal.deliveries] == ["slack", "webhook"]


async def logged(running: asyncio.subprocess.Process, event: bytes) -> None:
    """Read what the process writes until it logs this event."""
    assert running.stdout
    async with asyncio.timeout(30):
        while event not in (line := await running.stdout.readline()):
            assert line, "the process has ended"


async def test_two_instances_share_the_work_and_tell_each_thing_once(settings: Settings, sinks: Sinks) -> None:
    process = replace(settings.process, instance="notifier-2", listen=f"127.0.0.1:{free_port()}")
    alerts = [f"alert-{number}" for number in range(60)]
    async with run_notifier(settings, sinks) as world, app(replace(settings, process=process)):
        await world.publish(*[notification(alert=alert, severity=AlertRule.MEDIUM) for alert in alerts])
        await sinks.journal.until(lambda journal: len(journal.accepted()) >= len(alerts))
        await world.until("SELECT 1 FROM deliveries WHERE state = 'DELIVERED' HAVING count(*) = 60")
    assert Counter(one.alert for one in sinks.journal.deliveries) == Counter(alerts)


AHEAD: ContextVar[timedelta] = ContextVar("AHEAD", default=timedelta())


async def test_hosts_whose_clocks_differ_leave_each_other_their_work(
    settings: Settings, sinks: Sinks, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = SystemClock.now
    monkeypatch.setattr(SystemClock, "now", lambda clock: now(clock) + AHEAD.get())
    process = replace(settings.process, instance="notifier-2", listen=f"127.0.0.1:{free_port()}")
    running, done = asyncio.Event(), asyncio.Event()

    async def second() -> None:
        AHEAD.set(timedelta(seconds=25))
        async with app(replace(settings, process=process)):
            running.set()
            await done.wait()

    alerts = [f"alert-{number}" for number in range(20)]
    sinks.journal.behave("slack", Behaviour(delay=0.3))
    async with asyncio.TaskGroup() as group, run_notifier(settings, sinks) as world:
        group.create_task(second())
        await running.wait()
        await world.publish(*[notification(alert=alert, severity=AlertRule.MEDIUM) for alert in alerts])
        await world.until("SELECT 1 FROM deliveries WHERE state = 'DELIVERED' HAVING count(*) = 20")
        done.set()
    assert Counter(one.alert for one in sinks.journal.deliveries) == Counter(alerts)


async def test_what_was_delivered_long_ago_is_purged(
    settings: Settings, sinks: Sinks, running: Callable[[], AbstractAsyncContextManager[World]], alert: str
) -> None:
    async with running() as world:
        sinks.journal.behave("slack", Behaviour(status=400))
        await world.publish(
            notification(alert=alert, severity=AlertRule.LOW),
            notification(alert=alert, kind=Notification.RESOLVED, severity=AlertRule.LOW),
            notification(alert=f"{alert}-refused", severity=AlertRule.MEDIUM),
            notification(alert=f"{alert}-refused", kind=Notification.RESOLVED, severity=AlertRule.MEDIUM),
            notification(alert=f"{alert}-open", severity=AlertRule.LOW),
        )
        await world.until("SELECT 1 FROM deliveries WHERE state = 'DELIVERED' HAVING count(*) = 5")
    async with run_notifier(replace(settings, retention=timedelta(0)), sinks) as world:
        await world.until(f"SELECT 1 WHERE NOT EXISTS (SELECT FROM notifications WHERE alert_id = '{alert}')")  # noqa: S608
        rows = await world.rows("SELECT DISTINCT alert_id, channel, state FROM deliveries ORDER BY alert_id, channel")
        assert [tuple(row) for row in rows] == [
            (f"{alert}-open", "webhook", "DELIVERED"),
            (f"{alert}-refused", "email", "DELIVERED"),
            (f"{alert}-refused", "slack", "FAILED"),
        ]


async def test_a_table_that_cannot_be_read_for_a_while_ends_no_background_work(
    settings: Settings, sinks: Sinks, alert: str
) -> None:
    process = replace(settings.process, admin_listen=f"127.0.0.1:{free_port()}")
    async with run_notifier(replace(settings, process=process), sinks) as world:
        await world.rows("ALTER TABLE deliveries RENAME TO kept")
        await shows(process.admin_listen, "DOWN")
        await world.publish(notification(alert=alert, severity=AlertRule.LOW))
        await world.rows("ALTER TABLE kept RENAME TO deliveries")
        await shows(process.admin_listen, "UP")
        await sinks.journal.until(lambda journal: journal.accepted("webhook"))


async def shows(admin: str, state: str) -> None:
    """Wait until health shows this state of the database."""
    async with asyncio.timeout(20), aiohttp.ClientSession(f"http://{admin}") as client:
        while True:
            async with client.get("/health") as answer:
                if (await answer.json())["dependencies"]["postgres"] == state:
                    return
            await asyncio.sleep(0.02)
