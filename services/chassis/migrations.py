"""Migrations: each service brings its own schema up to date when it starts."""

import asyncio
import hashlib
import importlib
from datetime import timedelta
from functools import partial
from pathlib import Path

import asyncpg
import structlog

from services.chassis.backoff import Backoff, retrying
from services.chassis.failures import StoreUnavailable
from services.chassis.postgres_errors import DRIVER_ERRORS, ErrorKind, error_kind, error_name
from services.chassis.settings import PostgresSettings

log = structlog.get_logger()

_BACKOFF = Backoff(max_delay=timedelta(seconds=2))
_CONNECT_SECONDS = 2.0

# A script that the database refuses stays as it is; for everything else there is another try.
_OF_THE_SCRIPT = frozenset({ErrorKind.STATEMENT, ErrorKind.DATA})


async def migrate(
    settings: PostgresSettings, *, schema: str, scripts: Path, patience: timedelta = timedelta(seconds=60)
) -> None:
    """Bring `schema` to the newest revision in `scripts`/versions, one instance at a time.

    Each revision is an alembic file whose `upgrade()` calls `op.execute("…")`, one SQL statement a call. Waits for a
    database that is away as long as `patience`, then raises StoreUnavailable.
    """
    try:
        async with asyncio.timeout(patience.total_seconds()):
            await retrying(
                partial(_bring_up_to_date, settings.database_url.reveal(), schema, scripts, _mark_of(scripts)),
                log_event="migration_delayed",
                backoff=_BACKOFF,
                retry_reason=_retry_reason,
                schema=schema,
            )
    except TimeoutError as error:
        raise StoreUnavailable("the database does not answer") from error


def _retry_reason(error: Exception) -> str | None:
    if isinstance(error, DRIVER_ERRORS) and error_kind(error) not in _OF_THE_SCRIPT:
        return error_name(error)
    return None


async def _bring_up_to_date(url: str, schema: str, scripts: Path, mark: str) -> None:
    if await _read_mark(url, schema) == mark:
        log.info("schema_found_current", schema=schema)
        return
    # Half a second to load, and at most starts there is nothing for it to do.
    runner = importlib.import_module("services.chassis.alembic_runner")
    await runner.upgrade(url, schema, scripts, mark)
    log.info("schema_migrated", schema=schema)


async def _read_mark(url: str, schema: str) -> str | None:
    """Return what the last complete migration has left as the schema's comment."""
    connection = await asyncpg.connect(url, timeout=_CONNECT_SECONDS)
    try:
        mark: str | None = await connection.fetchval(
            "SELECT obj_description(oid, 'pg_namespace') FROM pg_namespace WHERE nspname = $1", schema
        )
        return mark
    finally:
        await connection.close(timeout=_CONNECT_SECONDS)


def _mark_of(scripts: Path) -> str:
    """Return a text that changes when any of the scripts does."""
    content = hashlib.sha256()
    for script in sorted((scripts / "versions").glob("*.py")):
        content.update(script.name.encode() + b"\0" + script.read_bytes() + b"\0")
    return f"migrated by scripts {content.hexdigest()[:32]}"
