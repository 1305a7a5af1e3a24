"""PostgreSQL: a bounded pool with translated errors, the database's clock, and notifications."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from types import MappingProxyType
from typing import Any, TypeAlias, TypeVar

import asyncpg
import structlog
from asyncpg.pool import PoolConnectionProxy

from services.chassis.backoff import is_logged
from services.chassis.clock import Clock, SystemClock
from services.chassis.failures import Overloaded, StoreConflict, StoreUnavailable
from services.chassis.health import Dependency
from services.chassis.loops import Loop, looping, wait_for_event
from services.chassis.postgres_connections import PostgresConnector
from services.chassis.postgres_errors import (
    DRIVER_ERRORS,
    ErrorKind,
    error_kind,
    error_name,
    failure_of,
    words_of_postgres_error,
)
from services.chassis.row_security import SERVE_ALL, all_tenants_role_of, role_of, take_role
from services.chassis.settings import PostgresSettings
from services.chassis.tenants import ALL_TENANTS, DEFAULT_TENANT, current_tenant

log = structlog.get_logger()
_T = TypeVar("_T")

Connection: TypeAlias = "PoolConnectionProxy[asyncpg.Record]"

_ACQUIRE_SECONDS = 2.0
_COMMAND_SECONDS = 10.0
# A response within this time is precise enough to set the clock by.
_PRECISE_SECONDS = 0.2
_PROBE_EVERY = timedelta(seconds=1)
# How soon a connection that died without notice is found.
_LISTEN_PROBE_EVERY = timedelta(seconds=5)

# Whose rows the database has from the beginning.
_INITIAL_TENANTS = frozenset({DEFAULT_TENANT, ALL_TENANTS})

# A session that makes no progress (its process is stopped, or its host is gone) must not block the others for longer.
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
    """The database's time: as it was at the last `sync`, plus the time that has passed since by the monotonic clock.

    Leases and due times that instances share use it, because the clocks of their hosts may differ.
    """

    def __init__(self, clock: Clock = SystemClock()) -> None:
        self._clock = clock
        self._synced: datetime | None = None
        self._synced_at = 0.0

    def now(self) -> datetime:
        """Return the current time, aware and in UTC; by the host's clock until the first `sync`."""
        if self._synced is None:
            return self._clock.now()
        return self._synced + timedelta(seconds=self.monotonic() - self._synced_at)

    def monotonic(self) -> float:
        """Return seconds of a clock that never goes back."""
        return self._clock.monotonic()

    def sync(self, moment: datetime, asked: float, answered: float) -> None:
        """Set the clock by the database's response; ignore a slow one, whose moment is uncertain."""
        if self._synced is None or answered - asked < _PRECISE_SECONDS:
            self._synced, self._synced_at = moment.astimezone(UTC), (asked + answered) / 2


class Database:
    """A service's schema in PostgreSQL; every call is bounded in time and translates errors."""

    def __init__(self, pool: "asyncpg.Pool[asyncpg.Record]", schema: str, dependency: Dependency | None) -> None:
        self.pool = pool
        self.schema = schema
        self.clock = DatabaseClock()
        self._dependency = dependency
        # By the name of the error, since the last success.
        self._failures = Counter[str]()
        # Which the database knows.
        self._tenants = _INITIAL_TENANTS

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
            self._log_failure(error_name(cause))
            if error_kind(cause) is ErrorKind.SESSION:
                # The pool's other connections are as dead as this one, or their server has become read-only.
                await self.pool.expire_connections()
                # It may come back as it was at a backup.
                self._tenants = _INITIAL_TENANTS
                self._mark_down(words_of_postgres_error(cause))
            raise
        self._failures.clear()
        self._mark_up()

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """Lend a connection inside of a transaction of the current tenant, which commits at the end of the block."""
        tenant = current_tenant()
        if tenant not in self._tenants:
            await self._add_tenant(tenant)
        async with self.connection() as connection, connection.transaction():
            await self._set_tenant(connection, tenant)
            yield connection

    async def run_idempotent(self, work: Callable[[Connection], Awaitable[_T]]) -> _T:
        """Do idempotent work in a transaction; after a lost connection or a conflict, do it once more at once.

        The first use of a pooled connection after a restart of the server fails.
        """
        try:
            async with self.transaction() as connection:
                return await work(connection)
        except (StoreUnavailable, StoreConflict):
            async with self.transaction() as connection:
                return await work(connection)

    async def run_once_more(self, work: Callable[[Connection], Awaitable[_T]]) -> _T:
        """Do idempotent work outside of any transaction; after a lost connection do it once more at once."""
        try:
            async with self.connection() as connection:
                return await work(connection)
        except StoreUnavailable:
            async with self.connection() as connection:
                return await work(connection)

    async def fetch(self, query: str, *arguments: Any) -> list[asyncpg.Record]:
        """Run a statement and return its rows; once more when the connection was lost."""
        return await self.run_idempotent(lambda connection: connection.fetch(query, *arguments))

    async def fetchrow(self, query: str, *arguments: Any) -> asyncpg.Record | None:
        """Run a statement and return its first row, if any; once more when the connection was lost."""
        return await self.run_idempotent(lambda connection: connection.fetchrow(query, *arguments))

    async def probe(self) -> None:
        """Report to health whether the database responds, and set the clock."""
        try:
            await self.sync_clock()
        except StoreUnavailable as failure:
            self._mark_down(words_of_postgres_error(failure.__cause__ or failure))

    async def sync_clock(self) -> None:
        """Set `clock` by the database's."""
        async with self.connection() as connection:
            asked = self.clock.monotonic()
            moment = await connection.fetchval("SELECT clock_timestamp()", timeout=_ACQUIRE_SECONDS)
            self.clock.sync(moment, asked, self.clock.monotonic())

    async def _set_tenant(self, connection: Connection, tenant: str) -> None:
        """Say whose rows the transaction reads and writes, unless they are the default tenant's."""
        if tenant == ALL_TENANTS:
            await connection.execute(SERVE_ALL, all_tenants_role_of(self.schema), self.schema)
        elif tenant != DEFAULT_TENANT:
            # No query, since only before its first one a transaction may be made REPEATABLE READ. Names have no quotes.
            await connection.execute(f"SET LOCAL tocsin.tenant = '{tenant}'")

    async def _add_tenant(self, tenant: str) -> None:
        async with self.connection() as connection, connection.transaction():
            await self._set_tenant(connection, tenant)
            await connection.execute("SELECT add_tenant($1)", tenant)
        self._tenants |= {tenant}

    def _is_exhausted(self) -> bool:
        return self.pool.get_size() == self.pool.get_max_size() and self.pool.get_idle_size() == 0

    def _log_failure(self, error: str) -> None:
        """Log an error, one that repeats ever more seldom: while the server is away, every call has it."""
        if is_logged(self._failures[error]):
            log.warning("database_failed", schema=self.schema, error=error, attempt=self._failures[error])
        self._failures[error] += 1

    def _mark_down(self, reason: str) -> None:
        if self._dependency is not None:
            self._dependency.down(reason)

    def _mark_up(self) -> None:
        if self._dependency is not None:
            self._dependency.up()


@asynccontextmanager
async def connect(
    settings: PostgresSettings,
    *,
    schema: str,
    dependency: Dependency | None = None,
    serves_all: bool = False,
    session: Mapping[str, str] = MappingProxyType({}),
) -> AsyncIterator[Database]:
    """Open a pool on `schema` without connecting yet: the database may be down, and health shows it.

    With `serves_all`, what is not said to be a tenant's is about the rows of all tenants, also outside of transactions.
    `session` has further settings of PostgreSQL.
    """
    connector = PostgresConnector(settings)
    pool = await asyncpg.create_pool(
        connect=connector.open,
        init=partial(take_role, role=all_tenants_role_of(schema) if serves_all else role_of(schema), schema=schema),
        reset=_keep_session,
        min_size=0,
        max_size=settings.pool_size,
        timeout=_ACQUIRE_SECONDS,
        command_timeout=_COMMAND_SECONDS,
        server_settings={
            "search_path": schema,
            "application_name": f"tocsin-{schema}",
            "tocsin.tenant": ALL_TENANTS if serves_all else DEFAULT_TENANT,
            **_SESSION,
            **session,
        },
    )
    database = Database(pool, schema, dependency)

    async def watch() -> None:
        if connector.has_changed():
            await pool.expire_connections()
        await database.probe()

    try:
        async with looping(Loop(watch, name="watch postgres", every=_PROBE_EVERY)):
            yield database
    finally:
        await _close(pool)


async def listen(
    database: Database, handlers: Mapping[str, Callable[[str], None]], *, connected: Callable[[], None]
) -> None:
    """Call a channel's handler with the payload of each notification, until the connection is lost.

    `connected` is called when listening begins: notifications before that were missed.
    """
    async with database.connection() as connection:
        await _listen_on(connection, handlers, connected)


async def _listen_on(
    connection: Connection, handlers: Mapping[str, Callable[[str], None]], connected: Callable[[], None]
) -> None:
    lost = asyncio.Event()

    def on_termination(_: object) -> None:
        lost.set()

    def on_notification(_: object, __: int, channel: str, payload: object) -> None:
        handlers[channel](str(payload))

    connection.add_termination_listener(on_termination)
    try:
        for channel in handlers:
            await connection.add_listener(channel, on_notification)
        connected()
        while not await wait_for_event(lost, _LISTEN_PROBE_EVERY):
            await connection.execute("SELECT 1")
    finally:
        # An error of a lost connection must not take the place of a cancellation.
        with suppress(*DRIVER_ERRORS):
            connection.remove_termination_listener(on_termination)
            for channel in handlers:
                await connection.remove_listener(channel, on_notification)


async def _keep_session(_: object) -> None:
    """Lend a connection again as it is, instead of a round trip that resets its session.

    No statement changes a session for longer than its transaction, and the driver has ended that.
    """


async def _close(pool: "asyncpg.Pool[asyncpg.Record]") -> None:
    try:
        await asyncio.wait_for(pool.close(), 2.0)
    except DRIVER_ERRORS:
        pool.terminate()
