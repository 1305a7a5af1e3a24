"""A whole notifier in this process, with real servers, and sinks at the end of its channels."""

import asyncio
import os
import sys
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncpg
import grpc
import pytest

from services.chassis.grpc_client import channel
from services.chassis.kafka import Producer, producer
from services.chassis.settings import KafkaSettings, PostgresSettings, ProcessSettings, Secret
from services.notifier.app import app
from services.notifier.settings import DeliverySettings, Settings
from stack.ports import free_port
from stack.sinks import Sinks, running_sinks
from tocsin.notifications.v1.notification_pb2 import Notification
from tocsin.notifications.v1.notification_service_pb2_grpc import NotificationServiceStub

if TYPE_CHECKING:
    from tocsin.notifications.v1.notification_service_pb2_grpc import NotificationServiceAsyncStub

ROUTES = Path(__file__).parents[3] / "services/notifier/routes.example.yaml"


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sinks")


@pytest.fixture
async def sinks(certificates: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Sinks]:
    async with running_sinks(certificates) as running:
        for name, value in running.environment.items():
            monkeypatch.setenv(name, value)
        yield running


@pytest.fixture
def settings(database: str, kafka: str, topics: str) -> Settings:
    return Settings(
        process=ProcessSettings(
            listen=f"127.0.0.1:{free_port()}",
            admin_listen="127.0.0.1:0",
            instance="notifier-1",
            shutdown_delay=timedelta(0),
            drain=timedelta(seconds=2),
        ),
        kafka=KafkaSettings(brokers=kafka, topic_prefix=topics),
        postgres=PostgresSettings(database_url=Secret(database)),
        delivery=DeliverySettings(
            max_attempts=3,
            retry_base=timedelta(milliseconds=20),
            retry_cap=timedelta(milliseconds=100),
            breaker_fail_max=3,
            breaker_reset=timedelta(milliseconds=400),
        ),
        routes=ROUTES,
        lease=timedelta(seconds=20),
    )


@dataclass(frozen=True, slots=True)
class World:
    """What a test sees of a running notifier."""

    settings: Settings
    sinks: Sinks
    stream: Producer
    calls: grpc.aio.Channel

    async def publish(self, *sent: Notification, headers: tuple[tuple[str, bytes], ...] = ()) -> None:
        """As the manager does: keyed by alert."""
        for one in sent:
            await self.stream.send("notifications", one.SerializeToString(), one.alert.id.encode(), None, headers)

    @property
    def rpc(self) -> "NotificationServiceAsyncStub":
        """Return a stub of the service, on its own port."""
        return NotificationServiceStub(self.calls)

    async def until(self, query: str, *arguments: Any) -> list[asyncpg.Record]:
        """Wait until a query on the schema finds something."""
        return await until(self.settings.postgres.database_url.reveal(), query, *arguments)

    async def rows(self, query: str, *arguments: Any) -> list[asyncpg.Record]:
        """Look into the schema."""
        return await rows(self.settings.postgres.database_url.reveal(), query, *arguments)


async def rows(url: str, query: str, *arguments: Any) -> list[asyncpg.Record]:
    """Look into the schema."""
    connection = await asyncpg.connect(url)
    try:
        await connection.execute("SET search_path TO notifier")
        return await connection.fetch(query, *arguments)
    finally:
        await connection.close()


async def until(url: str, query: str, *arguments: Any) -> list[asyncpg.Record]:
    """Wait until a query on the schema finds something."""
    async with asyncio.timeout(30):
        while not (found := await rows(url, query, *arguments)):  # noqa: ASYNC110 - rows do not notify
            await asyncio.sleep(0.02)
    return found


@asynccontextmanager
async def run_notifier(settings: Settings, sinks: Sinks) -> AsyncIterator[World]:
    """Run a notifier until the end of the block."""
    async with (
        producer(settings.kafka, "test") as stream,
        app(settings),
        channel(settings.process.listen) as calls,
    ):
        yield World(settings, sinks, stream, calls)


@asynccontextmanager
async def process(settings: Settings, sinks: Sinks) -> AsyncIterator[asyncio.subprocess.Process]:
    """The notifier as a process of its own, which is killed at the end."""
    environment = {
        **os.environ,
        **sinks.environment,
        "NOTIFIER_LISTEN": settings.process.listen,
        "NOTIFIER_ADMIN_LISTEN": "127.0.0.1:0",
        "NOTIFIER_INSTANCE": "notifier-1",
        "NOTIFIER_BROKERS": settings.kafka.brokers,
        "NOTIFIER_TOPIC_PREFIX": settings.kafka.topic_prefix,
        "NOTIFIER_DATABASE_URL": settings.postgres.database_url.reveal(),
        "NOTIFIER_ROUTES": str(settings.routes),
    }
    started = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "services.notifier",
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        yield started
    finally:
        with suppress(ProcessLookupError):
            started.kill()
        await started.communicate()


@pytest.fixture
def running(settings: Settings, sinks: Sinks) -> Callable[[], AbstractAsyncContextManager[World]]:
    return partial(run_notifier, settings, sinks)


@pytest.fixture
async def world(running: Callable[[], AbstractAsyncContextManager[World]]) -> AsyncIterator[World]:
    async with running() as found:
        yield found


@pytest.fixture
def alert() -> str:
    return str(uuid.uuid4())
