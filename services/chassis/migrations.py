"""Migrations: each service upgrades its own schema when it starts, or finds that somebody else has done it before."""

import asyncio
import hashlib
import importlib
import os
import re
import sys
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import asyncpg
import structlog

from services.chassis.backoff import Backoff, retrying
from services.chassis.database_login import ensure_login
from services.chassis.failures import StoreUnavailable
from services.chassis.postgres_connections import PostgresConnector, user_of
from services.chassis.postgres_errors import DRIVER_ERRORS, ErrorKind, error_kind, error_name
from services.chassis.row_security import SECURED, role_of, secure_rows, take_role
from services.chassis.settings import PostgresSettings, SettingsError, load_settings

log = structlog.get_logger()

_BACKOFF = Backoff(max_delay=timedelta(seconds=2))
_CONNECT_SECONDS = 2.0
# Tables are locked for a moment: better to try again than to have everybody wait.
_SESSION = {"lock_timeout": "2s"}

# Which the last complete migration has written.
_SELECT_COMMENT = "SELECT obj_description(oid, 'pg_namespace') FROM pg_namespace WHERE nspname = $1"

_SELECT_REVISION = 'SELECT version_num FROM "{schema}".alembic_version'
_REVISIONS = re.compile(r'^(down_)?revision = "(\w+)"', re.MULTILINE)
# There is no such schema, or its roles are missing.
_NOT_MIGRATED = (asyncpg.InvalidSchemaNameError, asyncpg.UndefinedTableError, asyncpg.InsufficientPrivilegeError)
_EXIT_FAILED, _EXIT_REFUSED = 1, 2

# Errors of a script, which would fail again; all others are retried.
_SCRIPT_ERRORS = frozenset({ErrorKind.STATEMENT, ErrorKind.DATA})


OwnersWork = Callable[[asyncpg.Connection], Awaitable[None]]
_T = TypeVar("_T")


async def _nothing_more(_: asyncpg.Connection) -> None:
    pass


async def prepare_schema(
    settings: PostgresSettings, *, schema: str, scripts: Path, afterwards: OwnersWork = _nothing_more
) -> None:
    """Migrate, as `migrate` does; where the settings leave that to others, raise SettingsError if it is not done."""
    if settings.migrate_at_start:
        await migrate(settings, schema=schema, scripts=scripts, afterwards=afterwards)
    else:
        await _until_answered(partial(_check, settings, schema, scripts), schema)


def migrate_apart(service: str, kind: type[_T], prefix: str, act: Callable[[_T], Coroutine[Any, Any, None]]) -> None:
    """Migrate without the service, by settings of the environment; exit with 1 if it failed, 2 by wrong settings."""
    try:
        settings = load_settings(kind, prefix, os.environ)  # noqa: TID251  (read once, as a service reads it)
        asyncio.run(act(settings))
    except SettingsError as error:
        sys.stderr.write("".join(f"{service}: {problem}\n" for problem in error.problems))
        sys.exit(_EXIT_REFUSED)
    except StoreUnavailable as failure:
        sys.stderr.write(f"{service}: {failure.text}\n")
        sys.exit(_EXIT_FAILED)


async def migrate(
    settings: PostgresSettings,
    *,
    schema: str,
    scripts: Path,
    afterwards: OwnersWork = _nothing_more,
    max_wait: timedelta = timedelta(seconds=60),
) -> None:
    """Upgrade `schema` to the newest revision in `scripts`/versions, one instance at a time.

    Each revision is an alembic file whose `upgrade()` calls `op.execute("…")` with one SQL statement a call. A schema
    that a newer release has migrated already stays as it is: the former release, too, works with it while instances are
    replaced one by one, or when somebody goes back. `afterwards` does what depends on settings, as the owner. While the
    database is down, wait up to `max_wait`, then raise StoreUnavailable.
    """
    await _until_answered(partial(_upgrade, settings, schema, scripts, afterwards), schema, max_wait)


async def _until_answered(
    act: Callable[[], Awaitable[None]], schema: str, max_wait: timedelta = timedelta(seconds=60)
) -> None:
    try:
        async with asyncio.timeout(max_wait.total_seconds()):
            await retrying(
                act,
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


async def _upgrade(settings: PostgresSettings, schema: str, scripts: Path, afterwards: OwnersWork) -> None:
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


async def _check(settings: PostgresSettings, schema: str, scripts: Path) -> None:
    command = f"run `python -m services.{schema}.migrate` as the owner of the tables before"
    try:
        connection = await PostgresConnector(settings).open(timeout=_CONNECT_SECONDS)
    except asyncpg.InvalidAuthorizationSpecificationError:
        raise SettingsError(
            [f"database_url: PostgreSQL refuses the user; where there is none yet, {command}"]
        ) from None
    try:
        comment = _digest_comment(scripts)
        if await connection.fetchval(_SELECT_COMMENT, schema) in {comment, comment + SECURED}:
            log.info("schema_found_current", schema=schema)
            return
        found = await _revision_of(connection, schema)
    finally:
        await connection.close(timeout=_CONNECT_SECONDS)
    former, newest = _revisions(scripts)
    if found is None or found in former:
        raise SettingsError(
            [f'the schema "{schema}" is at revision {found or "none"}, expected {newest} or a newer one: {command}']
        )
    log.info("schema_found_current" if found == newest else "schema_found_newer", schema=schema)


async def _revision_of(connection: asyncpg.Connection, schema: str) -> str | None:
    await take_role(connection, role_of(schema), schema)
    try:
        revision: str | None = await connection.fetchval(_SELECT_REVISION.format(schema=schema))
    except _NOT_MIGRATED:
        return None
    return revision


def _revisions(scripts: Path) -> tuple[frozenset[str], str]:
    """Return the former revisions, and the newest one; alembic, which knows them too, takes half a second to load."""
    found = [
        (is_former, name)
        for script in (scripts / "versions").glob("*.py")
        for is_former, name in _REVISIONS.findall(script.read_text())
    ]
    former = frozenset(name for is_former, name in found if is_former)
    (newest,) = {name for _, name in found} - former
    return former, newest


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
