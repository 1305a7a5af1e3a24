"""The manager as a process of its own: doors, numbers, and a clean end."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import aiohttp
import pytest

from services.chassis.grpc_client import channel
from services.manager.settings import Settings
from tests.integration.manager.conftest import until
from tocsin.rules.v1 import alert_rule_service_pb2 as pb
from tocsin.rules.v1.alert_rule_service_pb2_grpc import AlertRuleServiceStub

pytestmark = pytest.mark.integration


def environment(settings: Settings) -> dict[str, str]:
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join((".", "gen")),
        "MANAGER_LISTEN": settings.process.listen,
        "MANAGER_ADMIN_LISTEN": settings.process.admin_listen,
        "MANAGER_INSTANCE": settings.process.instance,
        "MANAGER_BROKERS": settings.kafka.brokers,
        "MANAGER_TOPIC_PREFIX": settings.kafka.topic_prefix,
        "MANAGER_DATABASE_URL": settings.postgres.database_url.reveal(),
        "MANAGER_REDIS_URL": settings.redis.redis_url,
        "MANAGER_REDIS_PREFIX": settings.redis.redis_prefix,
        "MANAGER_LOOK": "100ms",
        "MANAGER_DRAIN": "8s",
    }


@asynccontextmanager
async def process(settings: Settings) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run it until the end of the block, and longer not in any case."""
    running = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services.manager", env=environment(settings), stdout=asyncio.subprocess.DEVNULL
    )
    try:
        yield running
    finally:
        with suppress(ProcessLookupError):
            running.kill()
        await running.wait()


async def seen(settings: Settings, path: str) -> tuple[int, str]:
    """What the admin port says; 0 while it is closed."""
    try:
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://{settings.process.admin_listen}{path}") as answer,
        ):
            return answer.status, await answer.text()
    except aiohttp.ClientConnectionError:
        return 0, ""


async def serving(settings: Settings) -> bool:
    return (await seen(settings, "/health"))[0] == 200


async def test_it_shows_its_health_and_numbers_and_ends_cleanly(settings: Settings) -> None:
    async with process(settings) as running:
        await until(lambda: serving(settings), within=40)
        _, health = await seen(settings, "/health")
        assert '"service": "manager"' in health
        assert '"postgres": "UP"' in health

        async def counted() -> bool:
            return "tocsin_manager_rules 3.0" in (await seen(settings, "/metrics"))[1]

        await until(counted)
        _, metrics = await seen(settings, "/metrics")
        for line in ("alerts_processed_total 0.0", "alerts_deduplicated_total 0.0", "tocsin_manager_outbox_depth 0.0"):
            assert line in metrics
        running.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(running.wait(), 20) == 0


async def test_killed_and_started_again_it_has_what_it_had(settings: Settings) -> None:
    async with process(settings):
        await until(lambda: serving(settings), within=40)
    async with process(settings), channel(settings.process.listen) as calls:
        await until(lambda: serving(settings), within=40)
        answer = await AlertRuleServiceStub(calls).ListAlertRules(pb.ListAlertRulesRequest())
        assert len(answer.alert_rules) == 3
