"""Servers that stand more than once: one is killed, and the same clients go on with the one that takes its place."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from services.chassis.clock import SystemClock
from services.chassis.failures import StoreUnavailable
from services.chassis.health import Health
from services.chassis.migrations import migrate
from services.chassis.postgres import connect, listen
from services.chassis.redis import redis_client
from services.chassis.settings import PostgresSettings, RedisSettings, Secret
from services.manager.adapters.redis import GuardedRedis, RedisDedupCache
from stack.guard import guarded
from stack.processes import Processes
from stack.replicas.postgres import PostgresPair
from stack.replicas.redis import RedisCluster, RedisUnderSentinel
from stack.starter import Starter
from stack.testing import fresh_name

pytestmark = pytest.mark.integration

SCRIPT = '''
"""Creates the notes."""
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.execute("CREATE TABLE note (id int PRIMARY KEY)")
'''
# Of a hundred keys each node of a cluster has some.
KEYS = [str(number) for number in range(100)]


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    """Give a folder whose servers end with the test."""
    processes = Processes(tmp_path / "servers")
    with guarded(processes.folder):
        yield processes
        a_starter(processes).stop(processes.running())


def a_starter(processes: Processes) -> Starter:
    return Starter(processes, lambda _: None)


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(30):
        while not await condition():  # noqa: ASYNC110  (what is waited for happens in other processes)
            await asyncio.sleep(0.05)


async def test_the_pool_goes_on_with_the_standby_that_was_promoted_and_keeps_every_commit(
    processes: Processes, tmp_path: Path
) -> None:
    pair = PostgresPair(processes, a_starter(processes))
    await asyncio.to_thread(pair.start)
    (tmp_path / "versions").mkdir()
    (tmp_path / "versions" / "0001_notes.py").write_text(SCRIPT)
    # Without the parameter that the pair's URL has: of several hosts the one that takes writes is used anyway.
    settings = PostgresSettings(database_url=Secret(pair.address.partition("?")[0]), pool_size=3)
    await migrate(settings, schema="notes", scripts=tmp_path)
    committed, heard, is_over = 0, asyncio.Event(), asyncio.Event()
    async with connect(settings, schema="notes") as store:

        async def write() -> None:
            nonlocal committed
            while not is_over.is_set():
                try:
                    await store.fetch("INSERT INTO note VALUES ($1) ON CONFLICT DO NOTHING", committed)
                except StoreUnavailable:
                    await asyncio.sleep(0.05)
                else:
                    committed += 1

        listening = asyncio.create_task(listen(store, {"news": lambda _: heard.set()}, connected=lambda: None))
        writing = asyncio.create_task(write())

        async def has_written(more: int) -> None:
            before = committed

            async def is_written() -> bool:
                return committed >= before + more

            await until(is_written)

        await has_written(50)
        await asyncio.to_thread(processes.kill, pair.primary)
        await asyncio.to_thread(pair.promote)
        await has_written(50)
        is_over.set()
        await writing
        assert [row["id"] for row in await store.fetch("SELECT id FROM note ORDER BY id")] == list(range(committed))
        # A listener ends with its session, and is started again by its loop.
        await asyncio.wait({listening}, timeout=10)
        assert listening.done()
        connected = asyncio.Event()
        listening = asyncio.create_task(listen(store, {"news": lambda _: heard.set()}, connected=connected.set))
        await asyncio.wait_for(connected.wait(), 10)
        await store.fetch("SELECT pg_notify('news', '')")
        await asyncio.wait_for(heard.wait(), 10)
        listening.cancel()
    await migrate(settings, schema="notes", scripts=tmp_path)


@pytest.mark.parametrize("kind", [RedisUnderSentinel, RedisCluster])
async def test_the_cache_goes_on_with_the_replica_that_took_the_place_of_a_killed_primary(
    kind: type[RedisUnderSentinel | RedisCluster], processes: Processes
) -> None:
    servers = kind(processes, a_starter(processes))
    await asyncio.to_thread(servers.start)
    dependency = Health("test").dependency("redis", required=False)
    settings = RedisSettings(redis_url=Secret(servers.address), redis_prefix=f"{fresh_name()}:")
    async with redis_client(settings, dependency) as redis:
        cache = RedisDedupCache(GuardedRedis(redis, SystemClock()), ttl=timedelta(minutes=1))
        assert await cache.add(KEYS) == frozenset(KEYS)
        assert await cache.add(KEYS) == frozenset()
        await asyncio.to_thread(processes.kill, await asyncio.to_thread(servers.primary))
        attempts = 0

        async def takes_all_keys() -> bool:
            nonlocal attempts
            attempts += 1
            keys = [f"{attempts}-{key}" for key in KEYS]
            return await cache.add(keys) == frozenset(keys)

        await until(takes_all_keys)
        keys = [f"{attempts}-{key}" for key in KEYS]
        assert await cache.add(keys) == frozenset()
        await cache.remove(keys)
        assert await cache.add(keys) == frozenset(keys)

        async def is_up() -> bool:
            return dependency.is_up

        await until(is_up)
