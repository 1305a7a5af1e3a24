"""Redis that fails fast: who uses it goes on without it."""

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
    """Redis did not do what it was asked, in time."""


class RedisClient:
    """Redis with its key prefix; use `answering()` around commands."""

    def __init__(self, client: Redis, prefix: str, dependency: Dependency | None) -> None:
        self.client = client
        self._prefix = prefix
        self._dependency = dependency

    def key(self, *parts: str) -> str:
        """Return the full name of a key."""
        return self._prefix + ":".join(parts)

    @contextmanager
    def answering(self) -> Iterator[Redis]:
        """Give the client; its errors become RedisUnavailableError, and health follows."""
        try:
            yield self.client
        except (RedisError, OSError) as error:
            if self._dependency is not None:
                self._dependency.down(type(error).__name__)
            raise RedisUnavailableError(type(error).__name__) from error
        if self._dependency is not None:
            self._dependency.up()

    async def probe(self) -> None:
        """Tell health whether Redis answers."""
        with suppress(RedisUnavailableError), self.answering() as client:
            await client.ping()


@asynccontextmanager
async def redis_client(settings: RedisSettings, dependency: Dependency | None = None) -> AsyncIterator[RedisClient]:
    """Open Redis without connecting yet; one retry, and an error after some 0.3 seconds at most for each."""
    client = Redis.from_url(
        settings.redis_url.reveal(),
        socket_timeout=_TIMEOUT_SECONDS,
        socket_connect_timeout=_TIMEOUT_SECONDS,
        retry=Retry(NoBackoff(), 1),
        health_check_interval=0,
    )
    cache = RedisClient(client, settings.redis_prefix, dependency)
    try:
        async with looping(Loop(cache.probe, name="watch redis", every=_PROBE_EVERY)):
            yield cache
    finally:
        await client.aclose()
