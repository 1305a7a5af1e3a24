"""Ingest as it runs, in this process, against a real Kafka."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
import grpc
import pytest
from confluent_kafka import Message
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from services.chassis.settings import load_settings
from services.chassis.telemetry import telemetry
from services.ingest.app import app
from services.ingest.settings import PREFIX, Settings
from stack.ports import Ports
from tests.fakes.kafka_topic import written
from tocsin.logs.v1.log_ingest_service_pb2_grpc import LogIngestServiceStub


@dataclass(frozen=True, kw_only=True)
class Running:
    """An ingest that takes calls."""

    channel: grpc.aio.Channel
    admin: str
    exporter: InMemorySpanExporter

    @property
    def stub(self) -> Any:
        return LogIngestServiceStub(self.channel)

    @property
    def spans(self) -> tuple[ReadableSpan, ...]:
        return self.exporter.get_finished_spans()

    async def get(self, path: str) -> tuple[int, str]:
        async with aiohttp.ClientSession() as session, session.get(f"http://{self.admin}{path}") as response:
            return response.status, await response.text()

    async def until_health_is(self, status: int, within: float = 20.0) -> None:
        async with asyncio.timeout(within):
            while (await self.get("/health"))[0] != status:  # noqa: ASYNC110  (asked as Envoy asks)
                await asyncio.sleep(0.05)


Start = Callable[..., AbstractAsyncContextManager[Running]]


@pytest.fixture
def start() -> Start:
    """Run ingest with the given brokers, topic prefix and further settings, and wait until it is healthy."""

    @asynccontextmanager
    async def running(brokers: str, prefix: str, **changed: str) -> AsyncIterator[Running]:
        ports, exporter = Ports.free(), InMemorySpanExporter()
        listen, admin = f"127.0.0.1:{ports.ingest}", f"127.0.0.1:{ports.ingest_admin}"
        environ = {
            "INGEST_LISTEN": listen,
            "INGEST_ADMIN_LISTEN": admin,
            "INGEST_BROKERS": brokers,
            "INGEST_TOPIC_PREFIX": prefix,
            "INGEST_SHUTDOWN_DELAY": "0s",
        } | {f"INGEST_{name.upper()}": value for name, value in changed.items()}
        with telemetry("ingest", "test", "", processors=[SimpleSpanProcessor(exporter)]):
            async with app(load_settings(Settings, PREFIX, environ)), grpc.aio.insecure_channel(listen) as channel:
                ingest = Running(channel=channel, admin=admin, exporter=exporter)
                await ingest.until_health_is(200)
                yield ingest

    return running


@pytest.fixture
async def ingest(start: Start, kafka: str, topics: str) -> AsyncIterator[Running]:
    async with start(kafka, topics) as running:
        yield running


@pytest.fixture
def records(kafka: str, topics: str) -> Callable[[], list[Message]]:
    """Return a function that reads what was written."""
    return lambda: written(kafka, f"{topics}log-events")
