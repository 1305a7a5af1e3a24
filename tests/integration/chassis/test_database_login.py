"""The user with whom a service logs in: created where it is missing, and without rights of its own."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import asyncpg
import pytest
from structlog.testing import capture_logs

from services.chassis.failures import StoreUnavailable
from services.chassis.migrations import migrate
from services.chassis.postgres import connect
from services.chassis.settings import PostgresSettings, Secret
from services.chassis.tenants import as_tenant
from services.notifier.app import MIGRATIONS, SCHEMA
from stack.postgres import as_user
from stack.testing import fresh_name

pytestmark = pytest.mark.integration

SELECT_ROLE = """
SELECT rolcanlogin, rolinherit, rolsuper, rolbypassrls, rolcreaterole, rolcreatedb, rolreplication, rolpassword
FROM pg_authid WHERE rolname = $1
"""


@pytest.fixture
async def admin(database: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database)
    yield connection
    await connection.close()


@pytest.fixture
def settings(database: str) -> PostgresSettings:
    """Log in as a user whom nobody has created yet, and migrate as another one."""
    return PostgresSettings(
        database_url=Secret(as_user(database, f"Service {fresh_name()}".replace(" ", "%20"))),
        database_password=Secret("it's a secret"),
        migration_database_url=Secret(database),
    )


def name_of(settings: PostgresSettings) -> str:
    return settings.database_url.reveal().partition("//")[2].partition("@")[0].replace("%20", " ")


async def start(settings: PostgresSettings) -> list[str]:
    with capture_logs() as logs:
        await migrate(settings, schema=SCHEMA, scripts=MIGRATIONS)
    return [entry["event"] for entry in logs]


async def test_a_user_without_rights_is_created_once(admin: asyncpg.Connection, settings: PostgresSettings) -> None:
    starts = await asyncio.gather(*(start(settings) for _ in range(4)))
    assert "database_user_created" in [event for events in starts for event in events]
    assert "database_user_created" not in await start(settings)
    role = await admin.fetchrow(SELECT_ROLE, name_of(settings))
    assert role is not None
    assert list(role)[:-1] == [True, *[False] * 6]
    # What the server would have made of it, and not the password itself.
    assert role["rolpassword"].startswith("SCRAM-SHA-256$4096:")


async def test_who_gets_out_of_the_role_has_no_rights_at_all(settings: PostgresSettings) -> None:
    await start(settings)
    async with connect(settings, schema=SCHEMA) as database:
        async with database.transaction() as connection:
            users = await connection.fetchrow("SELECT session_user::text, current_user::text")
            assert users is not None
            assert tuple(users) == (name_of(settings), "tocsin_notifier")
        for escape in ("RESET ROLE", "SET ROLE NONE", "RESET SESSION AUTHORIZATION"):
            async with database.connection() as connection:
                await connection.execute(escape)
                with pytest.raises(asyncpg.InsufficientPrivilegeError):
                    await connection.fetch("SELECT * FROM notifier.deliveries")
            await database.pool.expire_connections()
        with pytest.raises(StoreUnavailable):
            await database.fetch("SET ROLE alertuser")


async def test_a_user_whom_somebody_else_created_is_left_as_it_is(
    admin: asyncpg.Connection, settings: PostgresSettings
) -> None:
    await admin.execute(f"CREATE ROLE \"{name_of(settings)}\" LOGIN PASSWORD 'own'")
    before = await admin.fetchrow(SELECT_ROLE, name_of(settings))
    assert not {"database_user_created", "database_password_changed"} & set(await start(settings))
    assert await admin.fetchrow(SELECT_ROLE, name_of(settings)) == before


async def test_a_start_warns_of_a_user_with_rights_and_of_one_that_cannot_be_created(
    database: str, admin: asyncpg.Connection, settings: PostgresSettings
) -> None:
    assert "database_user_found_privileged" in await start(PostgresSettings(database_url=Secret(database)))
    owner = fresh_name()
    await admin.execute(f"CREATE ROLE {owner} LOGIN")
    limited = PostgresSettings(
        database_url=settings.database_url, migration_database_url=Secret(as_user(database, owner))
    )
    with capture_logs() as logs, pytest.raises(asyncpg.PostgresError):
        await migrate(limited, schema=SCHEMA, scripts=MIGRATIONS)
    assert "database_user_missing" in [entry["event"] for entry in logs]


async def test_an_owner_who_may_create_roles_needs_to_be_no_superuser(
    database: str, admin: asyncpg.Connection, settings: PostgresSettings
) -> None:
    owner, schema = fresh_name(), fresh_name()
    await admin.execute(f"CREATE ROLE {owner} LOGIN CREATEROLE")
    await admin.execute(f"GRANT CREATE ON DATABASE {await admin.fetchval('SELECT current_database()')} TO {owner}")
    limited = replace(settings, migration_database_url=Secret(as_user(database, owner)))
    for password in ("first", "second"):
        await migrate(replace(limited, database_password=Secret(password)), schema=schema, scripts=MIGRATIONS)
    async with connect(limited, schema=schema) as opened:
        for tenant in ("acme", "other"):
            with as_tenant(tenant):
                await opened.fetch("INSERT INTO request_ids VALUES ($1, '', '\\x00', now())", tenant)
                (row,) = await opened.fetch("SELECT tenant FROM request_ids")
                assert row["tenant"] == tenant
