"""Redis that fails fast, so that callers can go on without it."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import timedelta

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from services.chassis.health import Dependency
from services.chassis.loops import Loop, looping
from services.chassis.settings import RedisSettings

_TIMEOUT_SECONDS = 0.3
_PROBE_EVERY = timedelta(seconds=1)


class RedisUnavailableError(Exception):
    """Redis did not execute a command in time."""


class RedisClient:
    """Redis with its key prefix; run commands inside of `connection()`."""

    def __init__(self, client: Redis, prefix: str, dependency: Dependency | None) -> None:
        self.client = client
        self._prefix = prefix
        self._dependency = dependency

    def key(self, *parts: str) -> str:
        """Return the full name of a key."""
        return self._prefix + ":".join(parts)

    @contextmanager
    def connection(self) -> Iterator[Redis]:
        """Yield the client; translate its errors into RedisUnavailableError, and report to health."""
        try:
            yield self.client
        except (RedisError, OSError) as error:
            if self._dependency is not None:
                self._dependency.down(type(error).__name__)
            raise RedisUnavailableError(type(error).__name__) from error
        if self._dependency is not None:
            self._dependency.up()

    async def probe(self) -> None:
        """Report to health whether Redis responds."""
        with suppress(RedisUnavailableError), self.connection() as client:
            await client.ping()


@asynccontextmanager
async def redis_client(settings: RedisSettings, dependency: Dependency | None = None) -> AsyncIterator[RedisClient]:
    """Open Redis without connecting yet; a command is tried twice, with a timeout of 0.3 seconds each."""
    client = Redis.from_url(
        settings.redis_url.reveal(),
        socket_timeout=_TIMEOUT_SECONDS,
        socket_connect_timeout=_TIMEOUT_SECONDS,
        retry=Retry(NoBackoff(), 1),
        health_check_interval=0,
    )
    redis = RedisClient(client, settings.redis_prefix, dependency)
    try:
        async with looping(Loop(redis.probe, name="watch redis", every=_PROBE_EVERY)):
            yield redis
    finally:
        await client.aclose()
