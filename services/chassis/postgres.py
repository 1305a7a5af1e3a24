"""PostgreSQL: a pool with bounds, drivers' errors translated, and migrations."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias, TypeVar

import asyncpg
import structlog
from asyncpg.pool import PoolConnectionProxy

from services.chassis.clock import Clock, SystemClock
from services.chassis.database_errors import DRIVER_ERRORS, Meaning, failure_of, meaning_of, name_of
from services.chassis.failures import Overloaded, StoreConflict, StoreUnavailable
from services.chassis.health import Dependency
from services.chassis.loops import Loop, looping
from services.chassis.migrations import migrate
from services.chassis.settings import PostgresSettings

__all__ = ["Connection", "Database", "connect", "migrate", "translate"]

log = structlog.get_logger()
T = TypeVar("T")

Connection: TypeAlias = "PoolConnectionProxy[asyncpg.Record]"

_ACQUIRE_SECONDS = 2.0
_COMMAND_SECONDS = 10.0
# An answer within this time tells the time well enough.
_QUICK_SECONDS = 0.2
_PROBE_EVERY = timedelta(seconds=1)

# A session that stands still (its process is stopped, or its host is gone) must not hold up the others for longer.
_SESSION = {
    "statement_timeout": "9s",
    "lock_timeout": "2s",
    "idle_in_transaction_session_timeout": "5s",
}


@contextmanager
def translate() -> Iterator[None]:
    """Turn the driver's errors into StoreUnavailable, StoreConflict or StoreRefused."""
    try:
        yield
    except DRIVER_ERRORS as error:
        raise failure_of(error) from error


class DatabaseClock:
    """The database's time, as it was told last, plus what has passed since by the machine's steady clock.

    Leases and due times that instances share go by it: their hosts' clocks may differ.
    """

    def __init__(self, clock: Clock = SystemClock()) -> None:
        self._clock = clock
        self._told: datetime | None = None
        self._at = 0.0

    def now(self) -> datetime:
        """Return the moment, aware and in UTC; by the host's clock as long as the database has not been asked."""
        if self._told is None:
            return self._clock.now()
        return self._told + timedelta(seconds=self.monotonic() - self._at)

    def monotonic(self) -> float:
        """Return seconds on a clock that never goes back."""
        return self._clock.monotonic()

    def learn(self, moment: datetime, asked: float, answered: float) -> None:
        """Take over what the database said; an answer that took long says little."""
        if self._told is None or answered - asked < _QUICK_SECONDS:
            self._told, self._at = moment.astimezone(UTC), (asked + answered) / 2


class Database:
    """A service's schema in PostgreSQL; every way to it is bounded in time and translates errors."""

    def __init__(self, pool: "asyncpg.Pool[asyncpg.Record]", schema: str, dependency: Dependency | None) -> None:
        self.pool = pool
        self.schema = schema
        self.clock = DatabaseClock()
        self._dependency = dependency

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """Lend a connection, outside of any transaction."""
        try:
            with translate():
                async with self.pool.acquire(timeout=_ACQUIRE_SECONDS) as connection:
                    yield connection
        except StoreUnavailable as failure:
            cause = failure.__cause__ or failure
            if isinstance(cause, TimeoutError) and self._is_exhausted():
                raise Overloaded("too many calls wait for the database") from failure
            log.warning("database_failed", schema=self.schema, error=name_of(cause))
            if meaning_of(cause) is Meaning.SESSION:
                # The others of the pool are as dead as this one, or on a server that has become read-only.
                await self.pool.expire_connections()
                self._note_lost(name_of(cause))
            raise
        self._note_answer()

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """Lend a connection inside of a transaction, which commits at the end of the block."""
        async with self.connection() as connection, connection.transaction():
            yield connection

    async def once_more(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        """Do idempotent work in a transaction; a lost connection or a conflict is tried a second time at once.

        The first use of a pooled connection after a server's restart fails, which is why.
        """
        try:
            async with self.transaction() as connection:
                return await work(connection)
        except (StoreUnavailable, StoreConflict):
            async with self.transaction() as connection:
                return await work(connection)

    async def fetch(self, query: str, *arguments: Any) -> list[asyncpg.Record]:
        """Read rows; tried a second time when the connection was lost."""
        return await self.once_more(lambda connection: connection.fetch(query, *arguments))

    async def fetchrow(self, query: str, *arguments: Any) -> asyncpg.Record | None:
        """Read one row, or none; tried a second time when the connection was lost."""
        return await self.once_more(lambda connection: connection.fetchrow(query, *arguments))

    async def probe(self) -> None:
        """Tell health whether the database answers at all, and learn its time."""
        try:
            await self.learn_time()
        except StoreUnavailable as failure:
            self._note_lost(name_of(failure.__cause__ or failure))

    async def learn_time(self) -> None:
        """Set `clock` by the database's."""
        async with self.connection() as connection:
            asked = self.clock.monotonic()
            moment = await connection.fetchval("SELECT clock_timestamp()", timeout=_ACQUIRE_SECONDS)
            self.clock.learn(moment, asked, self.clock.monotonic())

    def _is_exhausted(self) -> bool:
        return self.pool.get_size() == self.pool.get_max_size() and self.pool.get_idle_size() == 0

    def _note_lost(self, reason: str) -> None:
        if self._dependency is not None:
            self._dependency.down(reason)

    def _note_answer(self) -> None:
        if self._dependency is not None:
            self._dependency.up()


@asynccontextmanager
async def connect(
    settings: PostgresSettings, *, schema: str, dependency: Dependency | None = None
) -> AsyncIterator[Database]:
    """Open a pool on `schema` without connecting yet; the database may be away, and health says so."""
    pool = await asyncpg.create_pool(
        settings.database_url.reveal(),
        min_size=0,
        max_size=settings.pool_size,
        timeout=_ACQUIRE_SECONDS,
        command_timeout=_COMMAND_SECONDS,
        server_settings={"search_path": schema, "application_name": f"tocsin-{schema}", **_SESSION},
    )
    database = Database(pool, schema, dependency)
    try:
        async with looping(Loop(database.probe, name="watch postgres", every=_PROBE_EVERY)):
            yield database
    finally:
        await _close(pool)


async def _close(pool: "asyncpg.Pool[asyncpg.Record]") -> None:
    try:
        await asyncio.wait_for(pool.close(), 2.0)
    except DRIVER_ERRORS:
        pool.terminate()
