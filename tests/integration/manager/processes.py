"""The manager as a process of its own."""

import asyncio
import os
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import aiohttp

from services.manager.settings import Settings


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
        "MANAGER_NOTIFIER_TARGET": settings.notifier_target,
        "MANAGER_REDIS_URL": settings.redis.redis_url.reveal(),
        "MANAGER_REDIS_PREFIX": settings.redis.redis_prefix,
        "MANAGER_COUNT_INTERVAL": "100ms",
        "MANAGER_HEARTBEAT": f"{settings.heartbeat.total_seconds()}s",
        "MANAGER_DRAIN": "8s",
    }


@asynccontextmanager
async def process(settings: Settings) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run the process until the end of the block, then kill it."""
    running = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services.manager", env=environment(settings), stdout=asyncio.subprocess.DEVNULL
    )
    try:
        yield running
    finally:
        with suppress(ProcessLookupError):
            running.kill()
        await running.wait()


async def admin_page(settings: Settings, path: str) -> tuple[int, str]:
    """Return status and body of an admin page; 0 while the port is closed."""
    try:
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://{settings.process.admin_listen}{path}") as answer,
        ):
            return answer.status, await answer.text()
    except aiohttp.ClientConnectionError:
        return 0, ""


async def serving(settings: Settings) -> bool:
    return (await admin_page(settings, "/health"))[0] == 200


async def partitions_of(settings: Settings, topic: str) -> set[str]:
    """Return the partitions that the process reads, a second after they were assigned at the latest."""
    _, page = await admin_page(settings, "/metrics")
    lag = re.compile(rf'tocsin_kafka_consumer_lag{{.*partition="(\d+)".*topic="{topic}".*}}')
    return {found[1] for found in map(lag.match, page.splitlines()) if found}
