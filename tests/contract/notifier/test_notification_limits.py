"""A tenant beyond its limit of notifications: what PostgreSQL keeps of it, until all of it is delivered."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from uuid import UUID, uuid4

import pytest

from services.chassis.postgres import Connection, Database, connect
from services.chassis.settings import PostgresSettings, Secret
from services.domain.severity import Severity
from services.domain.tenants import TenantLimits
from services.notifier.adapters.postgres.bundles import PostgresBundles
from services.notifier.adapters.postgres.deliveries import DELIVERY_COLUMNS, PostgresDeliveryPlans, delivery_of
from services.notifier.adapters.postgres.outcomes import PostgresDeliveryOutcomes
from services.notifier.adapters.postgres.queue import PostgresDeliveryQueue
from services.notifier.adapters.postgres.retention import PostgresRetention
from services.notifier.app import SCHEMA
from services.notifier.core.delivery import Delivery, RetryPolicy, apply_response
from services.notifier.core.notification import NotificationKind
from services.notifier.core.response import Accepted, ChannelResponse, Misconfigured, Refused, Unavailable
from services.notifier.messages import decode_notification
from services.notifier.ports import DeliveryOutcome, LeasedDelivery, PlannedNotification, QueueFilter
from tests.fakes.clock import FakeClock
from tests.fakes.notifications import notification
from tests.fakes.notifier import NOW
from tocsin.notifications.v1.notification_pb2 import Notification, NotificationResult

pytestmark = pytest.mark.integration

SECOND, MINUTE, DAY = timedelta(seconds=1), timedelta(minutes=1), timedelta(days=1)
# Four at once.
LIMIT = 16
LIMITS = TenantLimits.parse(f"{LIMIT},free=0")
CHANNELS = ("email", "slack")
_ACCEPTED = Accepted()


class Limited:
    """A notifier's tables, with the times of a test."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.held: Counter[str] = Counter()
        self.waiting: Mapping[str, int] = {}
        self.plans = PostgresDeliveryPlans(database, channels=CHANNELS, limits=LIMITS, on_held=self.held.update)
        self.outcomes = PostgresDeliveryOutcomes(
            database, instance="a", fallbacks={"slack": ("email",), "email": ("pager",)}, probe_interval=MINUTE
        )
        self.queue = PostgresDeliveryQueue(database, instance="a", lease=MINUTE)

    async def plan(self, *planned: PlannedNotification, now: datetime = NOW) -> None:
        await self.plans.insert(planned, now=now)

    async def bundle(self, now: datetime, limits: TenantLimits = LIMITS) -> frozenset[str]:
        def on_waiting(waiting: Mapping[str, int]) -> None:
            self.waiting = waiting

        bundles = PostgresBundles(self.database, limits=limits, new_id=uuid4, on_waiting=on_waiting)
        return await bundles.send_due(now=now)

    async def deliver(
        self, now: datetime, channel: str = "slack", response: ChannelResponse = _ACCEPTED
    ) -> list[Notification]:
        """Deliver everything that is due a moment later; return it."""
        delivered = []
        while leased := await self.lease(now, channel):
            for each in leased:
                await self.record(each, response, now)
                delivered.append(Notification.FromString(each.record))
        return delivered

    async def lease(
        self, now: datetime, channel: str = "slack", *, selected: QueueFilter = QueueFilter.DUE
    ) -> list[LeasedDelivery]:
        return await self.queue.lease(channel, selected, limit=50, now=now + SECOND)

    async def record(
        self, leased: LeasedDelivery, response: ChannelResponse, now: datetime, *, channel_recovered: bool = False
    ) -> None:
        after, _ = apply_response(leased.delivery, response, RetryPolicy(), now=now + SECOND, jitter=1)
        outcome = DeliveryOutcome(before=leased.delivery, after=after, channel_recovered=channel_recovered)
        await self.outcomes.record(outcome, now=now + SECOND)

    async def recover(self, now: datetime) -> None:
        """Deliver something to Slack that shows its recovery, so that what has failed is due again."""
        await self.plan(planned("free", tenant="free"), now=now)
        (leased,) = [each for each in await self.lease(now) if each.delivery.alert_id == "free"]
        await self.record(leased, _ACCEPTED, now, channel_recovered=True)

    async def deliveries(self) -> list[Delivery]:
        statement = f"SELECT {DELIVERY_COLUMNS} FROM deliveries ORDER BY created_at, sequence"  # noqa: S608 - columns
        return [delivery_of(row) for row in await self.database.fetch(statement)]

    async def states(self) -> Counter[str]:
        return Counter(each.state.value for each in await self.deliveries())

    async def results(self) -> list[NotificationResult]:
        async def work(connection: Connection) -> list[NotificationResult]:
            rows = await connection.fetch("SELECT value FROM outbox ORDER BY id")
            return [NotificationResult.FromString(row["value"]) for row in rows]

        return await self.database.run_idempotent(work)


@pytest.fixture
async def limited(database: str) -> AsyncIterator[Limited]:
    settings = PostgresSettings(database_url=Secret(database))
    async with connect(settings, schema=SCHEMA, serves_all=True) as connected:
        yield Limited(connected)


def planned(
    alert: str,
    kind: NotificationKind = NotificationKind.FIRING,
    *,
    severity: Severity = Severity.HIGH,
    tenant: str = "acme",
    channels: tuple[str, ...] = ("slack",),
    is_closing: bool = False,
) -> PlannedNotification:
    sent = notification(alert=alert, kind=Notification.Kind.Value(kind.name), severity=severity.value)  # type: ignore[arg-type]
    sent.tenant = tenant
    return PlannedNotification(
        notification_id=UUID(sent.id),
        subject_id=alert,
        sequence=kind,
        alert_id=alert,
        incident_id="",
        kind=kind,
        record=sent.SerializeToString(),
        traceparent="",
        channels=channels,
        only=frozenset(channels) if is_closing else None,
        tenant=tenant,
        is_critical=severity is Severity.CRITICAL,
    )


def many(count: int, first: int = 0) -> list[PlannedNotification]:
    return [planned(f"a{number}") for number in range(first, first + count)]


async def test_what_is_beyond_the_limit_is_held_told_once_and_delivered_in_one_bundle(limited: Limited) -> None:
    await limited.plan(*many(7))
    await limited.plan(*many(3, first=7), now=NOW + timedelta(seconds=30))
    assert limited.held == {"acme": 6}
    assert await limited.states() == {"PENDING": 5, "HELD": 6}
    sent = await limited.deliver(NOW + timedelta(seconds=30))
    assert [each.alert.id for each in sent] == ["notification-limit/acme/1", "a0", "a1", "a2", "a3"]
    held = [each for each in await limited.results() if each.outcome == NotificationResult.HELD]
    assert [(each.alert_id, each.tenant, each.reason) for each in held] == [
        (f"a{number}", "acme", "held: the tenant acme may have 16 notifications an hour") for number in range(4, 10)
    ]
    # The rate allows another one after 3 min 45 s.
    assert await limited.bundle(NOW + 3 * MINUTE) == frozenset()
    assert limited.waiting == {"acme": 6}
    assert await limited.bundle(NOW + 4 * MINUTE) == {"slack"}
    bundle, end = await limited.deliver(NOW + 4 * MINUTE)
    assert bundle.incident.incident.title == "6 alerts were held back by the limit of notifications"
    assert [alert.alert_id for alert in bundle.incident.alerts] == [f"a{number}" for number in range(4, 10)]
    assert (end.alert.id, end.kind) == ("notification-limit/acme/1", Notification.RESOLVED)
    assert await limited.states() == {"DELIVERED": 13}
    delivered = [each.alert_id for each in await limited.results() if each.outcome == NotificationResult.DELIVERED]
    assert sorted(delivered) == [f"a{number}" for number in range(10)]
    assert await limited.bundle(NOW + 5 * MINUTE) == frozenset()
    assert limited.waiting == {}


async def test_critical_ones_and_ends_of_what_was_sent_are_not_held(limited: Limited) -> None:
    await limited.plan(*many(6))
    resolved = NotificationKind.RESOLVED
    await limited.plan(
        planned("c", severity=Severity.CRITICAL),
        planned("c", NotificationKind.ACKNOWLEDGED),
        planned("a0", resolved),
        planned("a5", resolved),
        planned("gone", resolved, is_closing=True),
    )
    held = [(each.alert_id, each.kind.name) for each in await limited.deliveries() if each.state == "HELD"]
    assert sorted(held) == [("a4", "FIRING"), ("a5", "FIRING"), ("a5", "RESOLVED")]


async def test_other_tenants_and_those_without_a_limit_are_not_concerned(limited: Limited) -> None:
    await limited.plan(
        *many(9), *[planned(f"f{number}", tenant="free") for number in range(99)], planned("o", tenant="o")
    )
    assert limited.held == {"acme": 5}
    rows = await limited.database.fetch("SELECT tenant FROM notification_limits ORDER BY tenant")
    assert [row["tenant"] for row in rows] == ["acme", "o"]


async def test_what_comes_again_is_not_counted_again(limited: Limited) -> None:
    for _ in range(3):
        await limited.plan(*many(6))
    assert limited.held == {"acme": 2}
    assert await limited.states() == {"PENDING": 5, "HELD": 2}


async def test_instances_share_one_count(limited: Limited) -> None:
    others = [Limited(limited.database) for _ in range(4)]
    await asyncio.gather(*(other.plan(*many(3, first=10 * n)) for n, other in enumerate(others)))
    assert sum(other.held["acme"] for other in others) == 12 - 4
    assert [len(each) for each in await asyncio.gather(*(other.bundle(NOW + 4 * MINUTE) for other in others))].count(1)
    bundles = [each for each in await limited.deliver(NOW + 4 * MINUTE) if each.HasField("incident")]
    assert [each.incident.incident.alert_count for each in bundles] == [8]


async def test_each_channel_gets_what_was_held_for_it_and_one_alone_comes_as_it_is(limited: Limited) -> None:
    await limited.plan(*many(4), planned("x", channels=CHANNELS), planned("y"))
    await limited.bundle(NOW + 10 * MINUTE)
    alone = [each for each in await limited.deliver(NOW + 10 * MINUTE, "email") if each.alert.id == "x"]
    assert not alone[0].HasField("incident")
    bundles = [each for each in await limited.deliver(NOW + 10 * MINUTE) if each.HasField("incident")]
    assert [alert.alert_id for alert in bundles[0].incident.alerts] == ["x", "y"]
    assert set(await limited.states()) == {"DELIVERED"}


async def test_what_is_newer_about_the_same_takes_the_place_of_what_is_held(limited: Limited) -> None:
    await limited.plan(*many(6))
    await limited.plan(planned("a5", NotificationKind.UPDATED, severity=Severity.CRITICAL), now=NOW + MINUTE)
    await limited.deliver(NOW + MINUTE)
    (superseded,) = [each for each in await limited.deliveries() if each.state == "SUPERSEDED"]
    assert superseded.alert_id == "a5"
    await limited.bundle(NOW + 30 * MINUTE)
    (alone, _) = await limited.deliver(NOW + 30 * MINUTE)
    assert alone.alert.id == "a4"


async def test_a_limit_that_is_lifted_releases_what_is_held_and_what_cannot_be_read_is_sent_alone(
    limited: Limited,
) -> None:
    await limited.plan(*many(6))
    await limited.database.fetch("UPDATE notifications SET record = '\\xff' WHERE alert_id LIKE 'a%'")
    assert await limited.bundle(NOW, TenantLimits()) == {"slack"}
    assert (await limited.states())["HELD"] == 0
    assert decode_notification(planned("a").record).tenant == "acme"


async def test_bundles_are_deleted_after_the_retention_as_what_was_in_them(limited: Limited) -> None:
    await limited.plan(*many(6))
    await limited.deliver(NOW)
    await limited.bundle(NOW + 10 * MINUTE)
    retention = PostgresRetention(limited.database, FakeClock(NOW + 100 * DAY), retention=90 * DAY)
    await retention.purge()
    assert (await limited.states())["PENDING"] == 2, "a bundle that was not delivered yet, and the notice's end, stay"
    await limited.deliver(NOW + 10 * MINUTE)
    ends = [planned(f"a{number}", NotificationKind.RESOLVED) for number in range(6)]
    await limited.plan(*ends, now=NOW + 11 * MINUTE)
    await limited.deliver(NOW + 11 * MINUTE)
    await retention.purge()
    assert await limited.deliveries() == []
    assert await limited.database.fetch("SELECT id FROM notifications") == []


async def test_a_fallback_gets_what_is_held_for_the_channel_that_failed_in_a_bundle_only(limited: Limited) -> None:
    await limited.plan(*many(4))
    updated = [planned(f"a{number}", NotificationKind.UPDATED) for number in range(4)]
    await limited.plan(*updated)
    await limited.deliver(NOW, response=Refused("no"))
    sent = await limited.deliver(NOW + MINUTE, "email")
    assert Counter(each.kind for each in sent if each.alert.id[0] == "a") == {Notification.FIRING: 4}
    await limited.bundle(NOW + 20 * MINUTE)
    await limited.deliver(NOW + 20 * MINUTE, response=Refused("no"))
    bundles = [each for each in await limited.deliver(NOW + 21 * MINUTE, "email") if each.HasField("incident")]
    assert [each.incident.incident.alert_count for each in bundles] == [4]


async def test_one_that_was_held_and_is_sent_alone_has_a_fallback_though_another_channel_holds_it_still(
    limited: Limited,
) -> None:
    await limited.plan(*many(4), planned("x", channels=CHANNELS), planned("y"))
    await limited.bundle(NOW + 10 * MINUTE)
    await limited.deliver(NOW + 10 * MINUTE, "email", Refused("no"))
    assert "x" in [each.alert.id for each in await limited.deliver(NOW + 11 * MINUTE, "pager")]


async def test_an_end_waits_for_the_bundle_in_which_its_beginning_is(limited: Limited) -> None:
    await limited.plan(*many(6))
    await limited.deliver(NOW)
    later = NOW + 10 * MINUTE
    await limited.bundle(later)
    await limited.plan(planned("a5", NotificationKind.RESOLVED), now=later)
    # The bundle is tried again later than the end is due.
    bundle, notice = await limited.lease(later)
    assert (bundle.delivery.alert_id, notice.delivery.alert_id) == ("a4", "notification-limit/acme/1")
    await limited.record(bundle, Unavailable("busy"), later)
    assert await limited.lease(later) == []
    sent = await limited.deliver(later + 10 * MINUTE)
    shown = [(each.incident.incident.alert_count, each.alert.id) for each in sent if each.alert.id[0] == "a"]
    assert shown == [(2, "a4"), (0, "a5")]


async def test_an_update_that_is_held_is_in_no_bundle_while_the_end_is_on_its_way(limited: Limited) -> None:
    await limited.plan(*many(4))
    await limited.deliver(NOW)
    await limited.plan(replace(planned("a0", NotificationKind.UPDATED), sequence=2), planned("b"))
    later = NOW + 10 * MINUTE
    await limited.plan(planned("a0", NotificationKind.RESOLVED), now=later)
    leased = await limited.lease(later)
    await limited.bundle(later)
    for each in leased:
        await limited.record(each, _ACCEPTED, later)
    alone, *_ = await limited.deliver(later)
    assert (alone.alert.id, alone.HasField("incident")) == ("b", False)
    assert (await limited.states())["HELD"] == 0


async def test_a_bundle_that_failed_does_not_say_again_what_has_ended_since(limited: Limited) -> None:
    await limited.plan(*many(6))
    await limited.deliver(NOW)
    later = NOW + 10 * MINUTE
    await limited.bundle(later)
    await limited.deliver(later, response=Refused("no"))
    await limited.plan(planned("a5", NotificationKind.RESOLVED), now=later + MINUTE)
    await limited.deliver(later + MINUTE)
    states = {(each.alert_id, each.kind.name): each.state for each in await limited.deliveries()}
    assert (states["a5", "FIRING"], states["a5", "RESOLVED"]) == ("SUPERSEDED", "DELIVERED")
    # The fallback gets it as it is now.
    (leased,) = [each for each in await limited.lease(later + MINUTE, "email") if each.delivery.alert_id == "a4"]
    bundle = Notification.FromString(leased.record).incident
    assert bundle.incident.title == "1 alert was held back by the limit of notifications"
    assert [alert.alert_id for alert in bundle.alerts] == ["a4"]
    await limited.record(leased, Refused("no"), later + MINUTE)
    await limited.plan(planned("a4", NotificationKind.RESOLVED), now=later + 2 * MINUTE)
    await limited.deliver(later + 2 * MINUTE)
    bundles = [each for each in await limited.deliveries() if each.subject_id.startswith("bundle/")]
    assert {(each.channel, each.state.value) for each in bundles} >= {("slack", "SUPERSEDED"), ("email", "SUPERSEDED")}


async def test_a_bundle_that_failed_goes_to_no_fallback_once_all_of_it_has_ended(limited: Limited) -> None:
    await limited.plan(*many(6))
    await limited.deliver(NOW)
    later = NOW + 60 * MINUTE
    await limited.bundle(later)
    await limited.deliver(later, response=Refused("no"))
    await limited.plan(*(planned(each, NotificationKind.RESOLVED) for each in ("a4", "a5")), now=later + MINUTE)
    await limited.deliver(later + MINUTE)
    bundles = [each for each in await limited.deliveries() if each.subject_id.startswith("bundle/")]
    assert {each.channel: each.state.value for each in bundles} == {"slack": "SUPERSEDED", "email": "SUPERSEDED"}


async def failed_and_delivered_by_its_fallback(limited: Limited, later: datetime) -> None:
    """Have Slack fail to take a bundle of a4 and a5, which the fallback takes."""
    await limited.plan(*many(6))
    await limited.deliver(NOW)
    await limited.bundle(later)
    bundle, notice = await limited.lease(later)
    await limited.record(notice, _ACCEPTED, later)
    await limited.record(bundle, Misconfigured("no such channel"), later)
    sent = await limited.deliver(later + SECOND, "email")
    assert [each.incident.incident.alert_count for each in sent if each.HasField("incident")] == [2]


async def test_a_bundle_that_a_fallback_delivered_does_not_say_again_what_has_ended_since(limited: Limited) -> None:
    later = NOW + 60 * MINUTE
    await failed_and_delivered_by_its_fallback(limited, later)
    await limited.plan(planned("a5", NotificationKind.RESOLVED), now=later + MINUTE)
    await limited.deliver(later + MINUTE)
    (probe,) = await limited.lease(later + 2 * MINUTE, selected=QueueFilter.PROBE)
    bundle = Notification.FromString(probe.record).incident
    assert [alert.alert_id for alert in bundle.alerts] == ["a4"]
    await limited.record(probe, Unavailable("busy"), later + 2 * MINUTE)
    await limited.plan(planned("a4", NotificationKind.RESOLVED), now=later + 3 * MINUTE)
    await limited.deliver(later + 3 * MINUTE)
    assert await limited.lease(later + 4 * MINUTE, selected=QueueFilter.PROBE) == []
    states = {(each.alert_id, each.kind.name, each.channel): each.state for each in await limited.deliveries()}
    assert states["a5", "FIRING", "slack"] == "DELIVERED", "people were told by the fallback"


async def test_an_end_waits_for_the_bundle_that_is_sent_again_after_a_fallback(limited: Limited) -> None:
    later = NOW + 60 * MINUTE
    await failed_and_delivered_by_its_fallback(limited, later)
    (probe,) = await limited.lease(later + MINUTE, selected=QueueFilter.PROBE)
    await limited.plan(planned("a5", NotificationKind.RESOLVED), now=later + MINUTE)
    assert await limited.lease(later + MINUTE) == []
    await limited.record(probe, _ACCEPTED, later + MINUTE)
    assert [each.alert.id for each in await limited.deliver(later + MINUTE)] == ["a5"]


async def test_a_bundle_that_is_sent_again_waits_for_the_end_that_is_being_sent(limited: Limited) -> None:
    later = NOW + 60 * MINUTE
    await failed_and_delivered_by_its_fallback(limited, later)
    await limited.plan(planned("a5", NotificationKind.RESOLVED), now=later + MINUTE)
    (end,) = await limited.lease(later + MINUTE)
    await limited.recover(later + MINUTE)
    assert await limited.lease(later + MINUTE) == []
    await limited.record(end, _ACCEPTED, later + MINUTE)
    (bundle,) = await limited.deliver(later + MINUTE)
    assert [alert.alert_id for alert in bundle.incident.alerts] == ["a4"]
