"""Redis under Sentinel and as a cluster, over TLS with certificates of clients and as users with few rights."""

import asyncio
import gc
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from services.chassis.clock import SystemClock
from services.chassis.health import Health
from services.chassis.redis import RedisUnavailableError, redis_client
from services.chassis.settings import RedisSettings, Secret, load_settings
from services.manager.adapters.redis import GuardedRedis, RedisDedupCache
from stack.replicas.redis import RedisCluster, RedisUnderSentinel
from stack.starter import Starter
from tests.secure_servers import (
    PASSWORD,
    SENTINEL_PASSWORD,
    ServerFolder,
    replicated_redis_access,
    server_folder,
    write_secret,
)
from tests.tools import needs

pytestmark = [
    pytest.mark.integration,
    needs("redis-server"),
    # A connection whose server is killed while it is being made is left to the garbage collector now and then, in
    # asyncio or the client. That is no concern of these tests, nor of those after them.
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
]

# Of a hundred keys each node of a cluster has some.
KEYS = [str(number) for number in range(100)]

Servers = RedisUnderSentinel | RedisCluster


@pytest.fixture(autouse=True)
def collect_connections() -> Iterator[None]:
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[ServerFolder]:
    with server_folder(tmp_path / "servers") as opened:
        yield opened


@pytest.fixture(params=[RedisUnderSentinel, RedisCluster])
def servers(request: pytest.FixtureRequest, folder: ServerFolder) -> Servers:
    started: Servers = request.param(
        folder.processes, Starter(folder.processes, lambda _: None), replicated_redis_access(folder)
    )
    started.start()
    return started


@pytest.fixture
def settings(servers: Servers, folder: ServerFolder, tmp_path: Path) -> RedisSettings:
    own = folder.issue("manager")
    secrets = {"REDIS_PASSWORD": PASSWORD, "REDIS_SENTINEL_PASSWORD": SENTINEL_PASSWORD}
    for name, value in secrets.items():
        write_secret(tmp_path / name, value)
    environ = {
        "X_REDIS_URL": servers.address.replace("://", "://tocsin@"),
        "X_REDIS_SENTINEL_USER": "watcher",
        "X_REDIS_CA": str(own.ca),
        "X_REDIS_CERTIFICATE": str(own.certificate),
        "X_REDIS_KEY": str(own.key),
        "X_REDIS_PREFIX": "tocsin:",
        **{f"X_{name}_FILE": str(tmp_path / name) for name in secrets},
    }
    return load_settings(RedisSettings, "X_", environ)


async def test_the_cache_goes_on_with_another_primary_over_tls(
    servers: Servers, settings: RedisSettings, folder: ServerFolder, eventually: Callable[..., Any]
) -> None:
    dependency = Health("test").dependency("redis", required=False)
    async with redis_client(settings, dependency) as redis:
        cache = RedisDedupCache(GuardedRedis(redis, SystemClock()), ttl=timedelta(minutes=1))
        await add_all(cache, "before")
        await asyncio.to_thread(folder.processes.kill, await asyncio.to_thread(servers.primary))
        await add_all(cache, "after")
        await eventually(lambda: dependency.is_up)
    await refuse_whoever_is_not_meant(settings, folder)


async def add_all(cache: RedisDedupCache, prefix: str) -> None:
    """Return when keys are new at first, and known afterwards; while no server answers none is new."""
    async with asyncio.timeout(30):
        for attempt in count():
            keys = [f"{prefix}-{attempt}-{key}" for key in KEYS]
            if await cache.add(keys) == frozenset(keys):
                break
            await asyncio.sleep(0.05)
    assert await cache.add(keys) == frozenset()
    await cache.remove(keys)
    assert await cache.add(keys) == frozenset(keys)


async def refuse_whoever_is_not_meant(settings: RedisSettings, folder: ServerFolder) -> None:
    """Expect that each of these reaches no server, and that no error has a password."""
    with server_folder(folder.path.parent / "other") as other:
        stranger = str(other.issue("any").ca)
    url = settings.redis_url.reveal()
    refused = {
        "another authority": replace(settings, redis_ca=stranger),
        "no certificate": replace(settings, redis_certificate="", redis_key=""),
        "a wrong password": replace(settings, redis_password=Secret("wrong")),
        "plaintext": replace(
            settings, redis_url=Secret(url.replace("rediss", "redis")), redis_ca="", redis_certificate="", redis_key=""
        ),
    }
    if "sentinel" in url:
        refused["a wrong password at the sentinels"] = replace(settings, redis_sentinel_password=Secret("wrong"))
    for name, wrong in refused.items():
        async with redis_client(wrong) as redis:
            with pytest.raises(RedisUnavailableError) as failure, redis.connection() as client:
                await client.get("tocsin:x")
        assert PASSWORD not in str(failure.value), name
