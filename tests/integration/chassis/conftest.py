"""Fixtures of the chassis' integration tests."""

import asyncio
import tempfile
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from services.chassis.settings import KafkaSettings
from stack.testing import Servers


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


@pytest.fixture(scope="module")
def own_servers() -> Iterator[Servers]:
    """Start servers of this module's own, which it may kill."""
    with tempfile.TemporaryDirectory(prefix="tocsin-test-", ignore_cleanup_errors=True) as scratch:
        servers = Servers(Path(scratch), lambda _: None)
        try:
            yield servers
        finally:
            servers.stop()
