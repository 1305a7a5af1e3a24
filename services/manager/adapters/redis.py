"""What Redis remembers to save time; a wrong or missing entry changes no result, and neither does Redis being away."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import Any, TypeVar

import structlog
from redis.asyncio import Redis

from services.chassis.breaker import Breaker, CircuitOpenError
from services.chassis.clock import Clock
from services.chassis.redis import RedisClient, RedisUnavailableError
from services.chassis.tenants import current_tenant
from services.domain.tenants import write_tenant
from services.manager.metrics import Metrics

log = structlog.get_logger()
_T = TypeVar("_T")

# A larger response costs more in Redis than it saves in PostgreSQL.
_MAX_RESPONSE_BYTES = 1_048_576


class GuardedRedis:
    """Redis behind a breaker: after some failures in a row it is not called for a moment, so that no call waits."""

    def __init__(self, redis: RedisClient, clock: Clock) -> None:
        self._redis = redis
        self._breaker = Breaker(
            "redis", fail_max=3, reset_timeout=timedelta(seconds=1), timeout=timedelta(seconds=1), clock=clock
        )

    def key(self, *parts: str) -> str:
        """Return the full name of a key."""
        return self._redis.key("manager", *parts)

    async def call(self, command: Callable[[Redis], Awaitable[_T]]) -> _T | None:
        """Return the result of a command; None when Redis does not answer."""
        try:
            return await self._breaker.call(lambda: self._call(command))
        except (RedisUnavailableError, CircuitOpenError, TimeoutError) as error:
            log.debug("redis_skipped", error=type(error).__name__)
            return None

    async def _call(self, command: Callable[[Any], Awaitable[_T]]) -> _T:
        with self._redis.connection() as client:
            return await command(client)


class RedisDedupCache:
    """One key for each open key that is taken to have an open alert."""

    def __init__(self, redis: GuardedRedis, ttl: timedelta) -> None:
        self._redis = redis
        self._ttl = ttl

    async def add(self, keys: Sequence[str]) -> frozenset[str]:
        if not keys:
            return frozenset()

        async def command(client: Any) -> list[Any]:
            pipeline = client.pipeline(transaction=False)
            for key in keys:
                pipeline.set(self._key(key), b"1", nx=True, px=self._ttl)
            results: list[Any] = await pipeline.execute()
            return results

        results = await self._redis.call(command)
        if results is None:
            return frozenset()
        return frozenset(key for key, is_new in zip(keys, results, strict=True) if is_new)

    async def remove(self, keys: Sequence[str]) -> None:
        if keys:
            await self._redis.call(lambda client: client.delete(*map(self._key, keys)))

    def _key(self, open_key: str) -> str:
        return self._redis.key("open", open_key)


class RedisResponseCache:
    """Cache-aside. The key names the version, so no entry is ever invalidated: the TTL only frees memory."""

    def __init__(self, redis: GuardedRedis, ttl: timedelta, metrics: Metrics) -> None:
        self._redis = redis
        self._ttl = ttl
        self._metrics = metrics

    async def get(self, key: str, compute: Callable[[], Awaitable[bytes]]) -> bytes:
        name = self._redis.key("answer", *_of_tenant(), key)
        cached = await self._get(name)
        self._metrics.looked_up(is_hit=cached is not None)
        if cached is not None:
            return cached
        response = await compute()
        if len(response) <= _MAX_RESPONSE_BYTES:
            await self._redis.call(lambda client: client.set(name, response, px=self._ttl))
        return response

    async def _get(self, name: str) -> bytes | None:
        async def command(client: Any) -> bytes | None:
            value: bytes | None = await client.get(name)
            return value

        return await self._redis.call(command)


def _of_tenant() -> tuple[str, ...]:
    """Return the parts of a key that say whose response it is."""
    tenant = write_tenant(current_tenant())
    return ("tenant", tenant) if tenant else ()
