"""Fixtures of the chassis' integration tests."""

import asyncio
from collections.abc import Callable
from datetime import timedelta

import pytest

from services.chassis.settings import KafkaSettings


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
