"""Rows of other tenants, without any condition in the statements."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from services.chassis.failures import StoreUnavailable
from services.chassis.migrations import migrate
from services.chassis.postgres import Database, connect
from services.chassis.settings import PostgresSettings, Secret
from services.chassis.tenants import ALL_TENANTS, as_tenant
from services.manager.app import MIGRATIONS, SCHEMA
from tests.fakes.transitions import NOW

pytestmark = pytest.mark.integration

INSERT = "INSERT INTO rule_endings (revision, rule_id, comment, traceparent, create_time) VALUES ($1, $2, '', '', $3)"

FOREIGN = INSERT.replace("create_time)", "create_time, tenant)").removesuffix(")")


@pytest.fixture
async def opened(database: str) -> AsyncIterator[Database]:
    settings = PostgresSettings(database_url=Secret(database))
    await migrate(settings, schema=SCHEMA, scripts=MIGRATIONS)
    async with connect(settings, schema=SCHEMA) as found:
        for n, tenant in enumerate(("default", "acme", "other")):
            with as_tenant(tenant):
                await found.fetch(INSERT, n, tenant, NOW)
        yield found


async def seen(database: Database) -> list[str]:
    return [row["rule_id"] for row in await database.fetch("SELECT rule_id FROM rule_endings ORDER BY rule_id")]


async def test_a_statement_without_a_condition_sees_and_changes_the_own_rows_only(opened: Database) -> None:
    assert await seen(opened) == ["default"]
    with as_tenant("acme"):
        assert await seen(opened) == ["acme"]
        await opened.fetch("UPDATE rule_endings SET comment = 'mine'")
        await opened.fetch("DELETE FROM rule_endings WHERE comment = ''")
        with pytest.raises(StoreUnavailable):
            await opened.fetch("UPDATE rule_endings SET tenant = 'other'")
        with pytest.raises(StoreUnavailable):
            await opened.fetch(f"{FOREIGN}, 'other')", 9, "x", NOW)
    with as_tenant("nobody"):
        assert await seen(opened) == []
    with as_tenant(ALL_TENANTS):
        assert await seen(opened) == ["acme", "default", "other"]
        rows = await opened.fetch("SELECT tenant, comment FROM rule_endings ORDER BY tenant")
    assert [tuple(row) for row in rows] == [("acme", "mine"), ("default", ""), ("other", "")]
    assert await seen(opened) == ["default"]


async def test_the_session_owns_nothing_and_the_setting_alone_opens_nothing(opened: Database) -> None:
    async with opened.transaction() as connection:
        role = await connection.fetchrow(
            "SELECT rolname, rolsuper, rolbypassrls FROM pg_roles WHERE rolname = current_user"
        )
        assert role is not None
        assert tuple(role) == ("tocsin_manager", False, False)
        await connection.execute("SET LOCAL tocsin.tenant = '*'")
        assert await connection.fetchval("SELECT count(*) FROM rule_endings") == 0
    with as_tenant("acme"):
        async with opened.transaction() as connection:
            await connection.execute("RESET tocsin.tenant")
            assert await connection.fetchval("SELECT max(rule_id) FROM rule_endings") == "default"


async def test_an_owner_without_the_right_to_create_roles_migrates_and_works(empty_database: str) -> None:
    admin = await asyncpg.connect(empty_database)
    name = "owner_" + empty_database.rpartition("/")[2].partition("?")[0][-12:]
    try:
        await admin.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'p'")
        await admin.execute(f"GRANT CREATE ON DATABASE {await admin.fetchval('SELECT current_database()')} TO {name}")
    finally:
        await admin.close()
    scheme, _, rest = empty_database.partition("://")
    settings = PostgresSettings(database_url=Secret(f"{scheme}://{name}:p@{rest.rpartition('@')[2]}"))
    # The roles are there, because other databases of this server have them; this user is no member, and cannot be.
    await migrate(settings, schema=SCHEMA, scripts=MIGRATIONS)
    async with connect(settings, schema=SCHEMA) as found:
        for tenant in ("default", "acme"):
            with as_tenant(tenant):
                await found.fetch(INSERT, len(tenant), tenant, NOW)
        with as_tenant(ALL_TENANTS):
            assert await seen(found) == ["acme", "default"]
        assert (await found.fetch("SELECT current_user::text AS name"))[0]["name"] == name


async def test_a_service_logs_in_with_no_rights_of_its_own_where_another_user_migrates(database: str) -> None:
    admin = await asyncpg.connect(database)
    name = "service_" + database.rpartition("/")[2].partition("?")[0][-12:]
    try:
        await admin.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'p'")
    finally:
        await admin.close()
    scheme, _, rest = database.partition("://")
    settings = PostgresSettings(
        database_url=Secret(f"{scheme}://{name}:p@{rest.rpartition('@')[2]}"), migration_database_url=Secret(database)
    )
    await migrate(settings, schema=SCHEMA, scripts=MIGRATIONS)
    # The second start finds nothing to do.
    await migrate(settings, schema=SCHEMA, scripts=Path(MIGRATIONS))
    async with connect(settings, schema=SCHEMA) as found:
        with as_tenant("acme"):
            await found.fetch(INSERT, 1, "acme", NOW)
            assert await seen(found) == ["acme"]
        assert await seen(found) == []
        with as_tenant(ALL_TENANTS):
            assert await seen(found) == ["acme"]
        with pytest.raises(StoreUnavailable):
            await found.fetch("DROP TABLE rule_endings")


async def test_instances_that_start_at_once_secure_the_rows_once(empty_database: str) -> None:
    settings = PostgresSettings(database_url=Secret(empty_database))
    await asyncio.gather(*(migrate(settings, schema=SCHEMA, scripts=MIGRATIONS) for _ in range(4)))

    async with connect(settings, schema=SCHEMA) as found:
        for tenant in ("default", "acme"):
            with as_tenant(tenant):
                await found.fetch(INSERT, len(tenant), tenant, NOW)
        assert await seen(found) == ["default"]
