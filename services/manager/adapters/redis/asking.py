"""Asking Redis without ever waiting long for it."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, TypeVar

import structlog
from redis.asyncio import Redis

from services.chassis.breaker import Breaker, CircuitOpenError
from services.chassis.clock import Clock
from services.chassis.redis import RedisClient, RedisUnavailableError

log = structlog.get_logger()
T = TypeVar("T")


class Asking:
    """Asks Redis; after some failures in a row it is left alone for a moment, so that nobody waits for time-outs."""

    def __init__(self, cache: RedisClient, clock: Clock) -> None:
        self._cache = cache
        self._breaker = Breaker(
            "redis", fail_max=3, reset_timeout=timedelta(seconds=1), timeout=timedelta(seconds=1), clock=clock
        )

    def key(self, *parts: str) -> str:
        """The full name of a key."""
        return self._cache.key("manager", *parts)

    async def ask(self, work: Callable[["Redis"], Awaitable[T]]) -> T | None:
        """What Redis answers; None when it does not."""
        try:
            return await self._breaker.call(lambda: self._answered(work))
        except (RedisUnavailableError, CircuitOpenError, TimeoutError) as error:
            log.debug("redis_passed_over", error=type(error).__name__)
            return None

    async def _answered(self, work: Callable[[Any], Awaitable[T]]) -> T:
        with self._cache.connection() as client:
            return await work(client)
