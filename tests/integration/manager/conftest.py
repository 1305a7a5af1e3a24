"""A whole manager in this process, on real servers."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import asyncpg
import pytest
from confluent_kafka import Consumer, TopicPartition

from services.chassis.grpc_client import channel
from services.chassis.kafka import Producer, Record, producer, record_of
from services.chassis.settings import KafkaSettings, PostgresSettings, ProcessSettings, RedisSettings, Secret
from services.domain.fingerprint import digest, fingerprint, open_key
from services.domain.severity import Severity
from services.manager.app import app
from services.manager.settings import AuditSettings, Settings
from stack.ports import free_port
from tocsin.alerts.v1 import alert_service_pb2 as alerts_pb
from tocsin.alerts.v1.alert_pb2 import Alert, AlertTransition, SampleEvent
from tocsin.alerts.v1.alert_service_pb2_grpc import AlertServiceStub
from tocsin.catalog.v1.catalog_service_pb2_grpc import CatalogServiceStub
from tocsin.catalog.v1.learned_edge_service_pb2_grpc import LearnedEdgeServiceStub
from tocsin.changes.v1.change_service_pb2_grpc import ChangeServiceStub
from tocsin.explanations.v1.explanation_service_pb2_grpc import ExplanationServiceStub
from tocsin.incidents.v1.incident_service_pb2_grpc import IncidentServiceStub
from tocsin.notifications.v1.notification_pb2 import Notification, NotificationResult
from tocsin.oncall.v1.on_call_service_pb2_grpc import OnCallServiceStub
from tocsin.reports.v1.report_service_pb2_grpc import ReportServiceStub
from tocsin.routing.v1.routing_service_pb2_grpc import RoutingServiceStub
from tocsin.rules.v1.alert_rule_service_pb2_grpc import AlertRuleServiceStub
from tocsin.silences.v1.silence_service_pb2_grpc import SilenceServiceStub

T = TypeVar("T")
START = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
LONG = timedelta(days=36500)
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


async def until(ask: Callable[[], Awaitable[T]], *, within: float = 15) -> T:
    """Ask again until the answer is true, and return it."""
    deadline = time.monotonic() + within
    while not (answer := await ask()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not so within {within} s: {answer!r}")
        await asyncio.sleep(0.02)
    return answer


@pytest.fixture
def settings(database: str, kafka: str, topics: str, redis_url: str) -> Settings:
    return Settings(
        process=ProcessSettings(
            listen=f"127.0.0.1:{free_port()}",
            admin_listen=f"127.0.0.1:{free_port()}",
            instance="manager-1",
            shutdown_delay=timedelta(0),
            drain=timedelta(seconds=4),
        ),
        kafka=KafkaSettings(brokers=kafka, topic_prefix=topics),
        postgres=PostgresSettings(database_url=Secret(database)),
        redis=RedisSettings(redis_url=Secret(redis_url), redis_prefix=topics),
        audit=AuditSettings(),
        # Nobody listens there.
        notifier_target=f"127.0.0.1:{free_port()}",
        heartbeat=timedelta(milliseconds=200),
        count_interval=timedelta(milliseconds=200),
        # Tests tell of a day that is long ago.
        retention=LONG,
        incident_retention=LONG,
        change_retention=LONG,
        silence_retention=LONG,
    )


def again(settings: Settings, instance: str = "manager-2") -> Settings:
    """Return the settings of another instance."""
    process = replace(
        settings.process,
        listen=f"127.0.0.1:{free_port()}",
        admin_listen=f"127.0.0.1:{free_port()}",
        instance=instance,
    )
    return replace(settings, process=process)


@dataclass(frozen=True, slots=True)
class World:
    """What a test sees of a running manager."""

    settings: Settings
    stream: Producer
    rules: Any
    alerts: Any
    catalog: Any
    incidents: Any
    changes: Any
    silences: Any
    routing: Any
    learned_edges: Any
    reports: Any
    on_call: Any
    explanations: Any

    @classmethod
    def on(cls, settings: Settings, stream: Producer, calls: Any) -> "World":
        """Return what is seen through these calls."""
        stubs = (
            AlertRuleServiceStub,
            AlertServiceStub,
            CatalogServiceStub,
            IncidentServiceStub,
            ChangeServiceStub,
            SilenceServiceStub,
            RoutingServiceStub,
            LearnedEdgeServiceStub,
            ReportServiceStub,
            OnCallServiceStub,
            ExplanationServiceStub,
        )
        return cls(settings, stream, *(stub(calls) for stub in stubs))

    async def publish(self, *sent: AlertTransition, traceparent: str = "") -> None:
        """Publish as the evaluator does: keyed by rule and resource."""
        headers = [("traceparent", traceparent.encode())] if traceparent else []
        for one in sent:
            await self.stream.send(
                "alerts",
                one.SerializeToString(),
                open_key(rule_id=one.rule_id, resource=one.resource).encode(),
                None,
                headers,
            )

    async def report(self, *results: NotificationResult, trace: str) -> None:
        """Publish as the notifier does, in a trace."""
        headers = [("traceparent", f"00-{trace}-00f067aa0ba902b7-01".encode())]
        for one in results:
            await self.stream.send(
                "notification-results", one.SerializeToString(), one.alert_id.encode(), None, headers
            )

    async def listed(self, **filters: Any) -> list[Alert]:
        """Return all alerts, the newest first."""
        answer = await self.alerts.ListAlerts(alerts_pb.ListAlertsRequest(page_size=500, **filters))
        return list(answer.alerts)

    async def processed(self, transitions: int) -> None:
        """Wait until this many transitions are recorded."""

        async def done() -> bool:
            return bool(await self.value("select count(*) from alert_transitions") >= transitions)

        await until(done)

    async def relayed(self) -> None:
        """Wait until the outbox is empty."""

        async def done() -> bool:
            return bool(await self.value("select count(*) = 0 from outbox"))

        await until(done)

    async def history(self, alert_id: str) -> list[str]:
        """Return the kinds of an alert's history entries."""
        answer = await self.alerts.GetAlert(alerts_pb.GetAlertRequest(id=alert_id))
        return [type(entry).Kind.Name(entry.kind) for entry in answer.history]

    async def value(self, query: str, *arguments: Any) -> Any:
        """Return the value of a query in the schema."""
        connection = await asyncpg.connect(self.settings.postgres.database_url.reveal())
        try:
            await connection.execute("set search_path to manager")
            return await connection.fetchval(query, *arguments)
        finally:
            await connection.close()

    async def execute(self, statements: str) -> None:
        """Execute statements in the schema."""
        connection = await asyncpg.connect(self.settings.postgres.database_url.reveal())
        try:
            await connection.execute("set search_path to manager")
            await connection.execute(statements)
        finally:
            await connection.close()

    async def dead_letters(self) -> int:
        """Return how many records were dead-lettered."""
        return await asyncio.to_thread(_count, self.settings.kafka, "log-events-dead-letter")

    async def notifications(self, count: int, *, within: float = 15) -> list[tuple[Notification, dict[str, bytes]]]:
        """Return the first `count` notifications of the topic with their headers, and any that follow at once."""
        return await asyncio.to_thread(_read, self.settings.kafka, count, within)


def _count(kafka: KafkaSettings, topic: str) -> int:
    name = kafka.topic_prefix + topic
    consumer = Consumer({"bootstrap.servers": kafka.brokers, "group.id": f"{kafka.topic_prefix}count"})
    try:
        partitions = consumer.list_topics(name, timeout=5).topics[name].partitions
        return sum(consumer.get_watermark_offsets(TopicPartition(name, each), timeout=5)[1] for each in partitions)
    finally:
        consumer.close()


def _read(kafka: KafkaSettings, count: int, within: float) -> list[tuple[Notification, dict[str, bytes]]]:
    consumer = Consumer(
        {
            "bootstrap.servers": kafka.brokers,
            "group.id": f"{kafka.topic_prefix}test",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
        }
    )
    found: list[tuple[Notification, dict[str, bytes]]] = []
    try:
        consumer.subscribe([f"{kafka.topic_prefix}notifications"])
        deadline = time.monotonic() + within
        while time.monotonic() < deadline:
            was_enough = len(found) >= count
            messages = consumer.consume(100, timeout=0.3)
            found += [_notification(record_of(message, "notifications")) for message in messages]
            # One more look after the last one: nothing must come after what was expected.
            if was_enough:
                return found
    finally:
        consumer.close()
    raise AssertionError(f"{len(found)} of {count} notifications within {within} s")


def _notification(record: Record) -> tuple[Notification, dict[str, bytes]]:
    return Notification.FromString(record.value), dict(record.headers)


Run = Callable[[Settings], AbstractAsyncContextManager[World]]


@pytest.fixture
def running() -> Run:
    @asynccontextmanager
    async def run(settings: Settings) -> AsyncIterator[World]:
        async with (
            app(settings),
            producer(settings.kafka, "test") as stream,
            channel(settings.process.listen) as calls,
        ):
            yield World.on(settings, stream, calls)

    return run


@pytest.fixture
async def world(settings: Settings, running: Run) -> AsyncIterator[World]:
    async with running(settings) as found:
        yield found


def transition(
    state: str = "FIRING",
    *,
    resource: str = "payment-service",
    episode: int = 0,
    window: int | None = None,
    severity: Severity = Severity.CRITICAL,
    rule_id: str = "rule-1",
    second: int = 0,
    revision: int = 1,
) -> AlertTransition:
    """Return a transition of the evaluator."""
    at = window if window is not None else episode
    first = START + episode * timedelta(minutes=5)
    found = AlertTransition(
        id=digest(rule_id, resource, str(at), state, str(revision)),
        state=AlertTransition.State.Value(state),
        fingerprint=fingerprint(rule_id=rule_id, resource=resource, severity=severity),
        rule_id=rule_id,
        rule_revision=revision,
        selection_revision=1,
        rule_name="High error count",
        description="Many errors.",
        severity=int(severity),  # type: ignore[arg-type]
        resource=resource,
        group={"service": resource},
        labels={"team": "payments"},
        samples=[SampleEvent(service=resource, message="Database connection failed")],
    )
    found.window.count = 120
    found.first_window_time.FromDatetime(first)
    found.create_time.FromDatetime(START + at * timedelta(minutes=5) + timedelta(seconds=second))
    return found
