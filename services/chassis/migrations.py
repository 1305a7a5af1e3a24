"""Migrations: each service upgrades its own schema when it starts."""

import asyncio
import hashlib
import importlib
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path

import asyncpg
import structlog

from services.chassis.backoff import Backoff, retrying
from services.chassis.database_login import ensure_login
from services.chassis.failures import StoreUnavailable
from services.chassis.postgres_connections import PostgresConnector, user_of
from services.chassis.postgres_errors import DRIVER_ERRORS, ErrorKind, error_kind, error_name
from services.chassis.row_security import SECURED, secure_rows
from services.chassis.settings import PostgresSettings

log = structlog.get_logger()

_BACKOFF = Backoff(max_delay=timedelta(seconds=2))
_CONNECT_SECONDS = 2.0
# Tables are locked for a moment: better to try again than to have everybody wait.
_SESSION = {"lock_timeout": "2s"}

# Which the last complete migration has written.
_SELECT_COMMENT = "SELECT obj_description(oid, 'pg_namespace') FROM pg_namespace WHERE nspname = $1"

# Errors of a script, which would fail again; all others are retried.
_SCRIPT_ERRORS = frozenset({ErrorKind.STATEMENT, ErrorKind.DATA})


async def _nothing_more(_: asyncpg.Connection) -> None:
    pass


async def migrate(
    settings: PostgresSettings,
    *,
    schema: str,
    scripts: Path,
    afterwards: Callable[[asyncpg.Connection], Awaitable[None]] = _nothing_more,
    max_wait: timedelta = timedelta(seconds=60),
) -> None:
    """Upgrade `schema` to the newest revision in `scripts`/versions, one instance at a time.

    Each revision is an alembic file whose `upgrade()` calls `op.execute("…")` with one SQL statement a call. A schema
    that a newer release has migrated already stays as it is: the former release, too, works with it while instances are
    replaced one by one, or when somebody goes back. `afterwards` does what depends on settings, as the owner. While the
    database is down, wait up to `max_wait`, then raise StoreUnavailable.
    """
    try:
        async with asyncio.timeout(max_wait.total_seconds()):
            await retrying(
                partial(_upgrade, settings, schema, scripts, afterwards),
                log_event="migration_delayed",
                backoff=_BACKOFF,
                retry_reason=_retry_reason,
                schema=schema,
            )
    except TimeoutError as error:
        raise StoreUnavailable("the database does not answer") from error


def _retry_reason(error: Exception) -> str | None:
    if isinstance(error, DRIVER_ERRORS) and error_kind(error) not in _SCRIPT_ERRORS:
        return error_name(error)
    return None


async def _upgrade(
    settings: PostgresSettings,
    schema: str,
    scripts: Path,
    afterwards: Callable[[asyncpg.Connection], Awaitable[None]],
) -> None:
    comment = _digest_comment(scripts)
    connector = PostgresConnector(_owners(settings))
    connection = await connector.open(timeout=_CONNECT_SECONDS, server_settings=_SESSION)
    try:
        await ensure_login(connection, settings, schema)
        found = await connection.fetchval(_SELECT_COMMENT, schema)
        if found in {comment, comment + SECURED}:
            log.info("schema_found_current", schema=schema)
        else:
            # Loading alembic takes half a second, and most starts have nothing to migrate.
            runner = importlib.import_module("services.chassis.alembic_runner")
            if not await runner.upgrade(connector, schema, scripts, comment):
                log.warning("schema_found_newer", schema=schema, problem="a newer release has migrated it")
                # Its comment, with which the newer release finds it current, stays too.
                await secure_rows(connection, schema, user_of(settings), is_secured=(found or "").endswith(SECURED))
                return
            log.info("schema_migrated", schema=schema)
        # The user may be another one than at the last start.
        if await secure_rows(connection, schema, user_of(settings), is_secured=found == comment + SECURED):
            await connection.execute(f"COMMENT ON SCHEMA \"{schema}\" IS '{comment}{SECURED}'")
        await afterwards(connection)
    finally:
        await connection.close(timeout=_CONNECT_SECONDS)


def _owners(settings: PostgresSettings) -> PostgresSettings:
    """Return the settings with which the owner of the tables logs in."""
    url = settings.migration_database_url
    if not url.reveal():
        return settings
    return replace(settings, database_url=url, database_password=settings.migration_database_password)


def _digest_comment(scripts: Path) -> str:
    """Return the schema's comment, with a digest that changes when any of the scripts does."""
    content = hashlib.sha256()
    for script in sorted((scripts / "versions").glob("*.py")):
        content.update(script.name.encode() + b"\0" + script.read_bytes() + b"\0")
    return f"migrated by scripts {content.hexdigest()[:32]}"
