import asyncio
import socket
from typing import Any

import pytest

from services.chassis.health import Health
from services.chassis.redis import RedisUnavailableError, redis_client
from services.chassis.settings import RedisSettings, Secret
from stack.testing import Servers, fresh_name

pytestmark = pytest.mark.integration


async def test_keys_have_the_prefix(redis_url: str) -> None:
    prefix = fresh_name() + ":"
    async with redis_client(RedisSettings(redis_url=Secret(redis_url), redis_prefix=prefix)) as cache:
        with cache.connection() as redis:
            assert cache.key("dedup", "x") == f"{prefix}dedup:x"
            assert await redis.set(cache.key("dedup", "x"), b"1", nx=True, px=60_000)
            assert not await redis.set(cache.key("dedup", "x"), b"1", nx=True, px=60_000)


async def test_a_command_to_a_hanging_redis_fails_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"redis://127.0.0.1:{silent.getsockname()[1]}/0"
        async with redis_client(RedisSettings(redis_url=Secret(url))) as cache:
            started = asyncio.get_running_loop().time()
            with pytest.raises(RedisUnavailableError), cache.connection() as redis:
                await redis.get("x")
            assert asyncio.get_running_loop().time() - started < 2


async def test_commands_succeed_again_when_redis_is_back(own_servers: Servers, eventually: Any) -> None:
    dependency = Health("test").dependency("redis", required=False)
    url = own_servers.address("redis")
    async with redis_client(RedisSettings(redis_url=Secret(url)), dependency) as cache:
        with cache.connection() as redis:
            await redis.ping()
        assert dependency.is_up
        await asyncio.to_thread(own_servers.kill, "redis")
        started = asyncio.get_running_loop().time()
        with pytest.raises(RedisUnavailableError), cache.connection() as redis:
            await redis.ping()
        assert asyncio.get_running_loop().time() - started < 1
        assert not dependency.is_up
        await asyncio.to_thread(own_servers.start, "redis")
        await eventually(lambda: dependency.is_up)
