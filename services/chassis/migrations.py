"""Migrations: each service upgrades its own schema when it starts."""

import asyncio
import hashlib
import importlib
from datetime import timedelta
from functools import partial
from pathlib import Path

import structlog

from services.chassis.backoff import Backoff, retrying
from services.chassis.failures import StoreUnavailable
from services.chassis.postgres_connections import PostgresConnector
from services.chassis.postgres_errors import DRIVER_ERRORS, ErrorKind, error_kind, error_name
from services.chassis.settings import PostgresSettings

log = structlog.get_logger()

_BACKOFF = Backoff(max_delay=timedelta(seconds=2))
_CONNECT_SECONDS = 2.0

# Errors of a script, which would fail again; all others are retried.
_SCRIPT_ERRORS = frozenset({ErrorKind.STATEMENT, ErrorKind.DATA})


async def migrate(
    settings: PostgresSettings, *, schema: str, scripts: Path, max_wait: timedelta = timedelta(seconds=60)
) -> None:
    """Upgrade `schema` to the newest revision in `scripts`/versions, one instance at a time.

    Each revision is an alembic file whose `upgrade()` calls `op.execute("…")` with one SQL statement a call. While the
    database is down, wait up to `max_wait`, then raise StoreUnavailable.
    """
    try:
        async with asyncio.timeout(max_wait.total_seconds()):
            await retrying(
                partial(_upgrade, PostgresConnector(settings), schema, scripts, _digest_comment(scripts)),
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


async def _upgrade(connector: PostgresConnector, schema: str, scripts: Path, comment: str) -> None:
    if await _read_comment(connector, schema) == comment:
        log.info("schema_found_current", schema=schema)
        return
    # Loading alembic takes half a second, and most starts have nothing to migrate.
    runner = importlib.import_module("services.chassis.alembic_runner")
    await runner.upgrade(connector, schema, scripts, comment)
    log.info("schema_migrated", schema=schema)


async def _read_comment(connector: PostgresConnector, schema: str) -> str | None:
    """Return the schema's comment, which the last complete migration has written."""
    connection = await connector.open(timeout=_CONNECT_SECONDS)
    try:
        comment: str | None = await connection.fetchval(
            "SELECT obj_description(oid, 'pg_namespace') FROM pg_namespace WHERE nspname = $1", schema
        )
        return comment
    finally:
        await connection.close(timeout=_CONNECT_SECONDS)


def _digest_comment(scripts: Path) -> str:
    """Return the schema's comment, with a digest that changes when any of the scripts does."""
    content = hashlib.sha256()
    for script in sorted((scripts / "versions").glob("*.py")):
        content.update(script.name.encode() + b"\0" + script.read_bytes() + b"\0")
    return f"migrated by scripts {content.hexdigest()[:32]}"
