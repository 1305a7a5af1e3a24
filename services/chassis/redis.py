"""Redis that fails fast, so that callers can go on without it."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import timedelta

import structlog
from redis import exceptions
from redis.asyncio import Redis
from redis.asyncio.sentinel import MasterNotFoundError
from redis.exceptions import RedisClusterException, RedisError

from services.chassis.health import Dependency, words_of_connection_error
from services.chassis.loops import Loop, looping
from services.chassis.redis_clients import RedisConnector, close_redis
from services.chassis.settings import RedisSettings

log = structlog.get_logger()

_PROBE_EVERY = timedelta(seconds=1)


# The first that an error is an instance of.
_WORDS = {
    exceptions.TimeoutError: "does not answer in time",
    exceptions.AuthenticationError: "refuses the login",
    exceptions.BusyLoadingError: "is starting",
    MasterNotFoundError: "no sentinel names a primary",
    exceptions.ConnectionError: "is not reached",
    exceptions.NoPermissionError: "refuses a command to this user",
    exceptions.ReadOnlyError: "takes no writes",
    exceptions.OutOfMemoryError: "is full",
    exceptions.ClusterError: "the cluster is not whole",
    RedisClusterException: "the cluster is not reached",
    RedisError: "cannot do this now",
}


def words_of_redis_error(error: BaseException) -> str:
    """Return in words why Redis is down."""
    return words_of_connection_error(error, _WORDS)


class RedisUnavailableError(Exception):
    """Redis did not execute a command in time."""


class RedisClient:
    """Redis with its key prefix; run commands inside of `connection()`."""

    def __init__(self, connector: RedisConnector, prefix: str, dependency: Dependency | None) -> None:
        self._connector = connector
        self.client = connector.open()
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
        except (RedisError, RedisClusterException, OSError) as error:
            if self._dependency is not None:
                self._dependency.down(words_of_redis_error(error))
            raise RedisUnavailableError(type(error).__name__) from error
        if self._dependency is not None:
            self._dependency.up()

    async def probe(self) -> None:
        """Report to health whether Redis responds; connect anew when passwords or certificates have changed."""
        if self._connector.has_changed():
            old, self.client = self.client, self._connector.open()
            log.info("redis_login_changed")
            await close_redis(old)
        with suppress(RedisUnavailableError), self.connection() as client:
            await client.ping()


@asynccontextmanager
async def redis_client(settings: RedisSettings, dependency: Dependency | None = None) -> AsyncIterator[RedisClient]:
    """Open Redis without connecting yet."""
    redis = RedisClient(RedisConnector(settings), settings.redis_prefix, dependency)
    try:
        async with looping(Loop(redis.probe, name="watch redis", every=_PROBE_EVERY)):
            yield redis
    finally:
        await close_redis(redis.client)
