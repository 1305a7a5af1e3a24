"""The part of migrations that needs alembic and SQLAlchemy; loaded only to migrate, because it loads slowly."""

import zlib
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from services.chassis.postgres_connections import PostgresConnector
from services.chassis.postgres_errors import DRIVER_ERRORS

# An instance that hangs in a migration must not keep the others from starting.
_SESSION = {"idle_in_transaction_session_timeout": "10s"}


async def upgrade(connector: PostgresConnector, schema: str, scripts: Path, comment: str) -> bool:
    """Upgrade the schema to the newest revision and set its comment, in one transaction; return whether that was done.

    A schema of a newer release, which has revisions that are not in the scripts, stays as it is. Raise the driver's own
    errors, not SQLAlchemy's.
    """
    opening = partial(connector.open, timeout=2, server_settings=_SESSION)
    engine = create_async_engine("postgresql+asyncpg://", poolclass=NullPool, async_creator=opening)
    try:
        async with engine.begin() as connection:
            return await connection.run_sync(_upgrade, schema, scripts, comment)
    except DBAPIError as error:
        driver = getattr(error.orig, "__cause__", None)
        if isinstance(driver, DRIVER_ERRORS):
            raise driver from error
        raise
    finally:
        await engine.dispose()


def _upgrade(connection: Connection, schema: str, scripts: Path, comment: str) -> bool:
    # Of two instances that start together, the second waits here and then has nothing to do.
    connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": zlib.crc32(f"migrate {schema}".encode())})
    connection.execute(text(f'CREATE SCHEMA IF NOT EXISTS "{schema}"'))
    connection.execute(text(f'SET LOCAL search_path TO "{schema}"'))
    directory = ScriptDirectory(str(scripts))
    found = MigrationContext.configure(connection, opts={"version_table_schema": schema}).get_current_heads()
    if not {script.revision for script in directory.walk_revisions()}.issuperset(found):
        return False

    def steps(revision: Any, _: Any) -> Iterable[Any]:
        return directory._upgrade_revs("head", revision)  # noqa: SLF001  (alembic's own commands call it so)

    with EnvironmentContext(Config(), directory, fn=steps, destination_rev="head") as environment:
        environment.configure(connection=connection, version_table_schema=schema)
        environment.run_migrations()
    connection.execute(text(f"COMMENT ON SCHEMA \"{schema}\" IS '{comment}'"))
    return True
