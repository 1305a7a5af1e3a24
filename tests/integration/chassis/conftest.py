"""Fixtures of the chassis' integration tests."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from services.chassis import telemetry
from services.chassis.grpc_client import channel
from services.chassis.grpc_server import grpc_server
from services.chassis.health import Health
from services.chassis.settings import KafkaSettings, ProcessSettings
from tests.fakes.guards import OpenGuard
from tests.integration.chassis.pings import Pings


@pytest.fixture(scope="module", autouse=True)
def plain_tracebacks(plain_logs: None) -> None:
    """Log crashes as plain text, which is faster: many tests here cause some."""


@pytest.fixture
def settings(kafka: str, topics: str) -> KafkaSettings:
    return KafkaSettings(brokers=kafka, topic_prefix=topics, delivery_timeout=timedelta(seconds=5))


@pytest.fixture
def eventually() -> Callable[..., object]:
    """Wait until a condition holds, and fail after a deadline."""

    async def wait(condition: Callable[[], object], within: float = 15.0) -> None:
        async with asyncio.timeout(within):
            while not condition():  # noqa: ASYNC110  (what is waited for happens in other processes)
                await asyncio.sleep(0.01)

    return wait


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    with telemetry.telemetry("test", "i", "", processors=[SimpleSpanProcessor(exporter)]):
        yield exporter


@pytest.fixture
def process() -> ProcessSettings:
    return ProcessSettings(listen="127.0.0.1:0", admin_listen="127.0.0.1:0", drain=timedelta(seconds=4))


@pytest.fixture
def pings() -> Pings:
    return Pings()


@pytest.fixture
async def client(
    spans: InMemorySpanExporter,  # noqa: ARG001  (opened before the server)
    process: ProcessSettings,
    pings: Pings,
) -> AsyncIterator[Any]:
    async with (
        grpc_server(process, [pings.mount()], Health("test"), OpenGuard(), ["a.B", "c.D"]) as server,
        channel(f"127.0.0.1:{server.port}") as opened,
    ):
        yield opened
