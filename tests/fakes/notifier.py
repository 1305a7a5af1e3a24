"""Values and fakes for tests of the notifier."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TypeVar
from uuid import UUID, uuid5

from services.domain.severity import Severity
from services.notifier.core.delivery import AttemptKind, Delivery, DeliveryReason, DeliveryState
from services.notifier.core.notification import (
    NotificationChange,
    NotificationContent,
    NotificationIncident,
    NotificationIncidentAlert,
    NotificationKind,
    NotificationSample,
    NotificationWindow,
)
from services.notifier.core.response import Accepted, ChannelResponse
from services.notifier.ports import (
    DeliveryOutcome,
    DeliveryQuery,
    FailedDelivery,
    FailedDeliveryQuery,
    ListedDelivery,
    RetryTransaction,
)
from tests.fakes.requests import MemoryRequests

_T = TypeVar("_T")

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
SPACE = UUID("6b1c1c5e-0c53-4a7e-8a37-7f0b5a1d2c3e")
EVIL = (
    "boom =?utf-8?q?=0d=0aReply-To:_x@attacker.example?= <!channel> <https://evil.example|click> & ```\r\n"
    "Bcc: everyone@example.com\r\n\x1b[31m"
)


def notification_content(
    *,
    kind: NotificationKind = NotificationKind.FIRING,
    severity: Severity = Severity.CRITICAL,
    alert: str = "2f1b7a86-6d36-4a34-9d5f-0a3f6c1f7d10",
    text: str = "Database connection failed",
    rule: str = "High Error Rate",
    resource: str = "payment-service",
) -> NotificationContent:
    """Return a notification as the manager sends it."""
    return NotificationContent(
        notification_id=uuid5(SPACE, f"{alert} {kind.name}"),
        subject_id=alert,
        sequence=kind,
        alert_id=alert,
        fingerprint="a" * 32,
        kind=kind,
        severity=severity,
        alert_severity=severity,
        rule_id="rule-1",
        rule=rule,
        description="More than 100 errors in five minutes.",
        resource=resource,
        fire_time=NOW,
        change_time=NOW + timedelta(minutes=kind - 1),
        actor="" if kind is NotificationKind.FIRING else "ada",
        labels={"team": "payments"},
        window=NotificationWindow(
            start=NOW - timedelta(minutes=5),
            end=NOW,
            count=101,
            total=250,
            condition="count > threshold",
            threshold=100,
        ),
        samples=(
            NotificationSample(
                time=NOW,
                service=resource,
                level="ERROR",
                text=text,
                host="node-1",
                trace_id="4bf92f3577b34da6" * 2,
                attributes={text: text, "user.tier": "silver"},
            ),
        ),
    )


def incident_content(
    *, kind: NotificationKind = NotificationKind.UPDATED, text: str = "orders depends on it"
) -> NotificationContent:
    """Return a notification of an incident of 14 alerts, in whose texts `text` stands."""
    alerts = tuple(
        NotificationIncidentAlert(
            alert_id=f"alert-{number}",
            rule="Slow Orders",
            resource=f"orders-{number}",
            service="orders",
            severity="HIGH",
            state="FIRING",
            fire_time=NOW + timedelta(minutes=number),
        )
        for number in range(12)
    )
    cause = replace(alerts[0], rule="Database Down", resource="orders-db", severity="CRITICAL")
    incident = NotificationIncident(
        id="5d2f6c1e-8f0e-4f43-9d55-2f7f1d7c9a11",
        title="Database Down on orders-db, and 13 others",
        state="OPEN",
        create_time=NOW,
        alert_count=14,
        open_alert_count=13,
        services=("orders", "orders-db"),
        assignee="cleo",
        alerts=(cause, *alerts[1:]),
        cause=cause,
        cause_reason=text,
        new_alert_count=3,
        ended_alert_count=1,
        is_flapping=True,
        links={"database runbook": "https://wiki.example/db"},
        changes=(
            NotificationChange(
                time=NOW - timedelta(minutes=5),
                service="orders-db",
                kind="CONFIGURATION",
                version="17",
                actor="ci",
                link="https://ci.example/17",
            ),
        ),
    )
    return replace(
        notification_content(kind=kind),
        subject_id=incident.id,
        sequence=3,
        incident=incident,
        receivers=("ops",),
        reason="step 2 of policy payments: nobody acknowledged within 5m",
        alert_severity=Severity.LOW,
    )


def failed_delivery(*, number: int = 1, state: DeliveryState = DeliveryState.FAILED) -> FailedDelivery:
    """Return a delivery to Slack that failed `number` minutes after NOW."""
    time = NOW + timedelta(minutes=number)
    delivery = Delivery(
        id=UUID(int=number),
        notification_id=UUID(int=number),
        subject_id=f"incident-{number}",
        sequence=number,
        alert_id=f"alert-{number}",
        kind=NotificationKind.FIRING,
        channel="slack",
        create_time=NOW,
        due_time=time,
        state=state,
        attempt_count=1,
        fail_time=time,
        reason=DeliveryReason.REFUSED,
        last_error="answered 400",
        incident_id=f"incident-{number}",
    )
    return FailedDelivery(delivery=delivery, fail_time=time, update_time=time)


class FakeChannel:
    """Gives the responses that a test set, and records what it was sent."""

    def __init__(self) -> None:
        self.response: ChannelResponse = Accepted()
        self.responses: list[ChannelResponse] = []
        self.error: Exception | None = None
        self.sent: list[tuple[NotificationContent, UUID]] = []

    async def send(self, notification: NotificationContent, delivery_id: UUID) -> ChannelResponse:
        self.sent.append((notification, delivery_id))
        if self.error is not None:
            raise self.error
        return self.responses.pop(0) if self.responses else self.response


class FakeOutcomes:
    """Records outcomes, after the failures that a test set."""

    def __init__(self) -> None:
        self.outcomes: list[DeliveryOutcome] = []
        self.failures: list[Exception] = []
        self.channels: frozenset[str] = frozenset()

    def attempt(self) -> AbstractContextManager[None]:
        return nullcontext()

    async def record(self, outcome: DeliveryOutcome, *, now: datetime) -> frozenset[str]:
        assert now.tzinfo is not None
        if self.failures:
            raise self.failures.pop()
        self.outcomes.append(outcome)
        return self.channels


class MemoryDeliveryLog:
    """All deliveries in memory, which change at their creation."""

    def __init__(self, deliveries: Iterable[Delivery] = ()) -> None:
        self.deliveries = list(deliveries)

    async def list_page(self, query: DeliveryQuery) -> list[ListedDelivery]:
        def key(each: Delivery) -> tuple[datetime, UUID]:
            return each.create_time, each.id

        matching = [
            each
            for each in self.deliveries
            if (not query.states or each.state in query.states)
            and query.channel in {"", each.channel}
            and query.alert_id in {"", each.alert_id}
            and query.incident_id in {"", each.incident_id}
            and (query.after is None or key(each) < query.after)
        ]
        newest = sorted(matching, key=key, reverse=True)[: query.limit]
        return [ListedDelivery(delivery=each, update_time=each.create_time) for each in newest]


class MemoryFailedDeliveries:
    """Failed deliveries in memory."""

    def __init__(self, failed: Iterable[FailedDelivery] = ()) -> None:
        self.failed = {each.delivery.id: each for each in failed}
        self.requests = MemoryRequests()
        self._lock = asyncio.Lock()

    async def list_page(self, query: FailedDeliveryQuery) -> list[FailedDelivery]:
        def key(each: FailedDelivery) -> tuple[datetime, UUID]:
            return each.fail_time, each.delivery.id

        matching = [
            each
            for each in self.failed.values()
            if (query.states is None or each.delivery.state in query.states)
            and query.channel in {"", each.delivery.channel}
            and (query.after is None or key(each) < query.after)
            and str(each.delivery.id).startswith(query.id_prefix)
        ]
        return sorted(matching, key=key, reverse=True)[: query.limit]

    async def in_transaction(self, work: Callable[[RetryTransaction], Awaitable[_T]]) -> _T:
        async with self._lock:
            before = dict(self.failed), dict(self.requests.rows)
            try:
                return await work(self)
            except BaseException:
                self.failed, self.requests.rows = before
                raise

    async def make_due(self, delivery_id: UUID, *, now: datetime) -> FailedDelivery | None:
        failed = self.failed.get(delivery_id)
        if failed is not None and failed.delivery.state in {DeliveryState.FAILED, DeliveryState.PENDING}:
            delivery = replace(
                failed.delivery, state=DeliveryState.PENDING, attempt_kind=AttemptKind.BY_HAND, due_time=now
            )
            self.failed[delivery_id] = failed = replace(failed, delivery=delivery, update_time=now)
        return failed
