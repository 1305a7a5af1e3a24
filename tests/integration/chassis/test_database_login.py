"""The user with whom a service logs in: created where it is missing, and without rights of its own."""

import asyncio
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import asyncpg
import pytest
from structlog.testing import capture_logs

from services.chassis.failures import StoreUnavailable
from services.chassis.migrations import migrate, prepare_schema
from services.chassis.postgres import connect
from services.chassis.settings import PostgresSettings, Secret, SettingsError
from services.chassis.tenants import as_tenant
from services.notifier.app import MIGRATIONS, SCHEMA
from stack.postgres import as_user
from stack.testing import fresh_name

pytestmark = pytest.mark.integration

ROOT = Path(__file__).resolve().parents[3]
SCRIPT = """
from alembic import op

revision = {revision}
down_revision = {former}


def upgrade() -> None:
    op.execute("{statement}")
"""

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
def scripts(tmp_path: Path) -> Path:
    versions = tmp_path / "versions"
    versions.mkdir()
    create = "CREATE FUNCTION current_tenant() RETURNS text LANGUAGE sql STABLE AS $$ SELECT 'default' $$"
    table = "CREATE TABLE notes (text text, tenant text NOT NULL DEFAULT current_tenant())"
    (versions / "0001_notes.py").write_text(
        SCRIPT.format(revision='"0001"', former="None", statement=f'{create}")\n    op.execute("{table}')
    )
    return tmp_path


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


async def test_a_service_starts_with_its_own_user_alone_once_somebody_has_migrated(
    empty_database: str, scripts: Path
) -> None:
    schema = fresh_name()
    apart = PostgresSettings(
        database_url=Secret(as_user(empty_database, fresh_name())),
        database_password=Secret("own"),
        migrate_at_start=False,
    )

    async def start_events() -> list[str]:
        with capture_logs() as logs:
            await prepare_schema(apart, schema=schema, scripts=scripts)
        return [entry["event"] for entry in logs]

    with pytest.raises(SettingsError, match=f"refuses the user.*services.{schema}.migrate"):
        await start_events()
    owners = replace(apart, migration_database_url=Secret(empty_database))
    await migrate(owners, schema=schema, scripts=scripts)
    assert await start_events() == ["schema_found_current"]
    async with connect(apart, schema=schema) as database:
        assert await database.fetch("SELECT * FROM notes") == []
        for forged in ("UPDATE", "DELETE FROM"):
            statement = f"{forged} alembic_version" + (" SET version_num = '0000'" if forged == "UPDATE" else "")
            with pytest.raises(StoreUnavailable):
                await database.fetch(statement)

    newer = scripts / "versions" / "0002_author.py"
    newer.write_text(
        SCRIPT.format(revision='"0002"', former='"0001"', statement="ALTER TABLE notes ADD COLUMN author text")
    )
    with pytest.raises(
        SettingsError, match=f'"{schema}" is at revision 0001, expected 0002.*services.{schema}.migrate'
    ):
        await start_events()
    await migrate(owners, schema=schema, scripts=scripts)
    assert await start_events() == ["schema_found_current"]
    # Its text is another one than at the migration.
    newer.write_text(newer.read_text() + "# explained\n")
    assert await start_events() == ["schema_found_current"]
    newer.unlink()
    assert await start_events() == ["schema_found_newer"]


async def test_a_schema_that_nobody_has_migrated_is_named(database: str) -> None:
    known = PostgresSettings(database_url=Secret(database), migrate_at_start=False)
    with pytest.raises(SettingsError, match="at revision none"):
        await prepare_schema(known, schema=fresh_name(), scripts=MIGRATIONS)


async def run(module: str, environ: dict[str, str]) -> tuple[int | None, str]:
    """Run a module until its end; return its exit code and what it has said of its errors."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", module),
        env={"PYTHONPATH": str(ROOT)} | environ,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    _, errors = await process.communicate()
    return process.returncode, errors.decode()


async def test_a_service_whose_schema_is_not_there_says_what_to_do_and_ends(database: str) -> None:
    environ = {
        "MANAGER_DATABASE_URL": as_user(database, fresh_name()),
        "MANAGER_MIGRATE_AT_START": "false",
        "MANAGER_ADMIN_LISTEN": "127.0.0.1:0",
        "MANAGER_BROKERS": "127.0.0.1:1",
        "MANAGER_REDIS_URL": "redis://127.0.0.1:1",
    }
    code, errors = await run("services.manager", environ)
    assert code == 2
    assert "run `python -m services.manager.migrate` as the owner of the tables" in errors


@pytest.mark.parametrize("service", ["manager", "notifier"])
async def test_a_command_migrates_and_the_service_is_content(empty_database: str, service: str) -> None:
    user, prefix = fresh_name(), service.upper()
    environ = {f"{prefix}_DATABASE_URL": as_user(empty_database, user), f"{prefix}_DATABASE_PASSWORD": "own"}

    owner = {f"{prefix}_MIGRATION_DATABASE_URL": empty_database}
    code, errors = await run(f"services.{service}.migrate", environ | {f"{prefix}_MIGRATION_DATABASE_URL": "mysql://x"})
    assert (code, errors.startswith(f"{service}: {prefix}_MIGRATION_DATABASE_URL must be")) == (2, True), errors
    for _ in range(2):
        assert await run(f"services.{service}.migrate", environ | owner) == (0, "")
    apart = PostgresSettings(
        database_url=Secret(environ[f"{prefix}_DATABASE_URL"]), database_password=Secret("own"), migrate_at_start=False
    )
    await prepare_schema(apart, schema=service, scripts=ROOT / "services" / service / "migrations")
    async with connect(apart, schema=service) as database:
        assert await database.fetch("SELECT * FROM request_ids") == []
