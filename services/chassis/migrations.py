"""Migrations: each service brings its own schema up to date when it starts."""

import asyncio
import importlib
from datetime import timedelta
from pathlib import Path

import structlog

from services.chassis.backoff import Backoff
from services.chassis.failures import StoreUnavailable
from services.chassis.settings import PostgresSettings

log = structlog.get_logger()

_BACKOFF = Backoff(most=timedelta(seconds=2))


async def migrate(
    settings: PostgresSettings, *, schema: str, scripts: Path, patience: timedelta = timedelta(seconds=60)
) -> None:
    """Bring `schema` to the newest revision in `scripts`/versions, one instance at a time.

    Each revision is an alembic file whose `upgrade()` calls `op.execute("…")`, one SQL statement a call. Waits for a
    database that is away as long as `patience`, then raises StoreUnavailable.
    """
    runner = importlib.import_module("services.chassis.alembic_runner")
    try:
        async with asyncio.timeout(patience.total_seconds()):
            await _until_answered(runner, settings.database_url.reveal(), schema, scripts)
    except TimeoutError as error:
        raise StoreUnavailable("the database does not answer") from error


async def _until_answered(runner: object, url: str, schema: str, scripts: Path) -> None:
    attempt = 0
    while True:
        try:
            await runner.upgrade(url, schema, scripts)  # type: ignore[attr-defined]
        except OSError as error:
            log.warning("migration_waits", schema=schema, error=type(error).__name__, attempt=attempt)
        else:
            log.info("schema_migrated", schema=schema)
            return
        await asyncio.sleep(_BACKOFF.delay(attempt).total_seconds())
        attempt += 1
