"""Canaries are measured and nobody is notified of them; everything else is planned."""

from collections.abc import Sequence
from datetime import datetime, timedelta

import pytest
from structlog.testing import capture_logs

from services.chassis import telemetry
from services.chassis.kafka import Record, UnreadableRecordError
from services.contract.timestamps import timestamp_of
from services.domain.canary import CANARY_SERVICE
from services.domain.severity import Severity
from services.notifier.core.channels import ChannelSpec
from services.notifier.core.channels.slack import SlackSettings
from services.notifier.core.routing import Route, Routes
from services.notifier.metrics import Metrics
from services.notifier.ports import PlannedNotification
from services.notifier.worker.intake import NotificationIntake
from tests.fakes.clock import FakeClock
from tests.fakes.notifications import incident_notification, notification
from tests.fakes.notifier import NOW
from tocsin.notifications.v1.notification_pb2 import Notification
from tocsin.rules.v1.alert_rule_pb2 import AlertRule

CANARY = Notification(canary_time=timestamp_of(NOW - timedelta(milliseconds=300))).SerializeToString()
KEY = CANARY_SERVICE.encode()
NO_ROUTES = Routes(channels={})


class MemoryPlans:
    def __init__(self) -> None:
        self.planned: list[PlannedNotification] = []

    async def insert(self, planned: Sequence[PlannedNotification], *, now: datetime) -> frozenset[str]:
        assert now == NOW
        self.planned += planned
        return frozenset()


def intake(plans: MemoryPlans, routes: Routes = NO_ROUTES) -> NotificationIntake:
    return NotificationIntake(
        routes=routes, plans=plans, clock=FakeClock(NOW), metrics=Metrics((), dict), wake=lambda _: None
    )


def record(key: bytes | None, value: bytes) -> Record:
    return Record("notifications", 0, 0, key, value, (), 0)


async def test_a_canary_is_measured_and_nobody_is_notified() -> None:
    plans = MemoryPlans()
    with telemetry.telemetry("test", "1", ""):
        await intake(plans).handle([record(KEY, CANARY), record(b"a", notification(alert="a").SerializeToString())])
        exposed, _ = telemetry.exposition()
    assert [each.alert_id for each in plans.planned] == ["a"]
    assert "tocsin_notifier_canary_latency_seconds_sum 0.3\n" in exposed.decode()


@pytest.mark.parametrize(("key", "value"), [(b"a", CANARY), (KEY, b"\xff"), (KEY, b"")])
async def test_what_only_looks_like_a_canary_is_unreadable(key: bytes, value: bytes) -> None:
    with pytest.raises(UnreadableRecordError):
        await intake(MemoryPlans()).handle([record(key, value)])


@pytest.mark.parametrize(
    ("alert", "incident", "is_critical"),
    [
        (AlertRule.CRITICAL, AlertRule.LOW, True),
        (AlertRule.LOW, AlertRule.CRITICAL, True),
        (AlertRule.HIGH, AlertRule.HIGH, False),
    ],
)
async def test_what_is_critical_is_known_from_the_alert_and_its_incident(
    alert: "AlertRule.Severity.ValueType", incident: "AlertRule.Severity.ValueType", *, is_critical: bool
) -> None:
    plans, sent = MemoryPlans(), incident_notification(incident="i", receivers=["a"], severity=incident)
    sent.alert.severity = alert
    await intake(plans).handle([record(b"a", sent.SerializeToString())])
    assert plans.planned[0].is_critical is is_critical


def test_what_is_held_is_shown_by_tenant() -> None:
    with telemetry.telemetry("test", "1", ""):
        metrics = Metrics((), dict)
        metrics.held({"acme": 3})
        metrics.held_waiting({"acme": 3, "other": 0})
        exposed = telemetry.exposition()[0].decode()
    assert 'tocsin_notifier_held_total{tenant="acme"} 3.0\n' in exposed
    assert 'tocsin_notifier_held_waiting{tenant="acme"} 3.0\n' in exposed
    assert 'waiting{tenant="other"}' not in exposed


async def test_a_notification_reaches_channels_of_its_own_tenant_only() -> None:
    settings = SlackSettings(url="https://hooks.slack.com/secret")
    channels = {
        name: ChannelSpec(name=name, settings=settings, tenant=tenant)
        for name, tenant in (("ours", "default"), ("theirs", "acme"))
    }
    plans, sent = MemoryPlans(), []
    for tenant in ("", "acme"):
        sent.append(notification(alert="a"))
        sent[-1].receivers[:] = ["ours", "theirs"]
        sent[-1].tenant = tenant
    await intake(plans, Routes(channels=channels)).handle([record(b"a", each.SerializeToString()) for each in sent])
    assert [(each.tenant, each.channels) for each in plans.planned] == [("default", ("ours",)), ("acme", ("theirs",))]


async def test_the_file_is_ignored_once_a_tree_names_receivers_and_the_log_says_so_once() -> None:
    channel = ChannelSpec(name="chat", settings=SlackSettings(url="https://hooks.slack.com/secret"))
    by_file = Routes(
        channels={"chat": channel, "file": channel},
        routes=(Route(severities=frozenset(Severity), channels=("file",)),),
    )
    plans = MemoryPlans()
    first, named = notification(alert="a"), notification(alert="b")
    named.receivers[:] = ["chat"]
    for routes, expected in ((by_file, 1), (Routes(channels=by_file.channels), 0)):
        with capture_logs() as logs:
            worker = intake(plans, routes)
            await worker.handle([record(b"a", first.SerializeToString())])
            assert not [each for each in logs if each["event"] == "file_routes_ignored"]
            await worker.handle([record(b"b", named.SerializeToString())] * 2)
        assert len([each for each in logs if each["event"] == "file_routes_ignored"]) == expected
    assert [each.channels for each in plans.planned[:3]] == [("file",), ("chat",), ("chat",)]
