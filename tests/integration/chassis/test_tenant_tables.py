"""Every table with a tenant, as the role of its service and without any condition: rows of others are out of reach.

The tables are those that the migrations have made, so that one that is added later is walked too.
"""

# ruff: noqa: S608  (made of the names that the migrations gave)
import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import asyncpg
import pytest

from services.chassis.postgres import Connection, Database, connect
from services.chassis.settings import PostgresSettings, Secret
from services.chassis.tenants import ALL_TENANTS, as_tenant
from stack.postgres import create_database, drop_database, with_database
from stack.testing import fresh_name

pytestmark = pytest.mark.integration

SCHEMAS = ("manager", "notifier")
# Their readers serve all tenants: a key is looked up before its tenant is known, and callers of the tenant `default`
# administer the keys and read the audit logs of all.
OPEN_TABLES = {"manager": {"api_keys", "audit_log"}, "notifier": set[str]()}
# Of the types of columns that have to be given, a value.
VALUES = {
    "bool": "false",
    "bytea": r"'\x00'",
    "interval": "'1 s'",
    "jsonb": "'{}'",
    "text": "'x'",
    "timestamptz": "now()",
    "uuid": "gen_random_uuid()",
    "varchar": "'x'",
    "_text": "'{}'",
    "_bytea": "'{}'",
} | dict.fromkeys(("int2", "int4", "int8", "float4", "float8", "numeric"), "1")
SELECT_TABLES = """
SELECT relname FROM pg_class JOIN pg_attribute ON attrelid = pg_class.oid AND attname = 'tenant' AND NOT attisdropped
WHERE relnamespace = $1::text::regnamespace AND relkind IN ('r', 'p') ORDER BY relname
"""
SELECT_UNFORCED = """
SELECT relname FROM pg_class WHERE relnamespace = $1::text::regnamespace AND relname = ANY($2::text[])
    AND NOT (relrowsecurity AND relforcerowsecurity)
"""
SELECT_COLUMNS = """
SELECT column_name, udt_name FROM information_schema.columns
WHERE table_schema = $1 AND table_name = $2 AND is_nullable = 'NO' AND column_default IS NULL
    AND is_identity = 'NO' AND column_name <> 'tenant'
"""
SELECT_CONSTRAINTS = """
SELECT conrelid::regclass::text AS place, conname FROM pg_constraint
WHERE contype IN ('c', 'f') AND connamespace = $1::text::regnamespace
"""
SELECT_ROLE = """
SELECT rolname, rolsuper, rolbypassrls, rolcreaterole, rolcreatedb, rolcanlogin,
    EXISTS (SELECT FROM pg_class WHERE relowner = pg_roles.oid) AS owns
FROM pg_roles WHERE rolname = current_user
"""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A database whose secured tables have a row of `theirs`, and of nobody else; `insertions` are by table."""

    database: str
    schema: str
    insertions: dict[str, str]


@dataclass(frozen=True, slots=True)
class WalkedSchema:
    """The same, with the service's own pool. What tests do is refused or undone."""

    database: Database
    insertions: dict[str, str]

    @property
    def tables(self) -> Sequence[str]:
        """The tables that are walked."""
        return list(self.insertions)


@pytest.fixture(scope="module", params=SCHEMAS)
def prepared(request: pytest.FixtureRequest, postgres: str, migrated_database: str) -> Iterator[Prepared]:
    name = fresh_name()
    create_database(postgres, name, template=migrated_database)
    database = with_database(postgres, name)
    with ThreadPoolExecutor(1) as pool:
        insertions = pool.submit(asyncio.run, prepare(database, request.param)).result()
    yield Prepared(database, request.param, insertions)
    drop_database(postgres, name)


async def prepare(database: str, schema: str) -> dict[str, str]:
    async with owner_of(database) as owner:
        found = [row["relname"] for row in await owner.fetch(SELECT_TABLES, schema)]
        tables = [table for table in found if table not in OPEN_TABLES[schema]]
        insertions = {table: await insertion(owner, schema, table) for table in tables}
        await empty(owner, schema, tables)
        for statement in insertions.values():
            await owner.execute(statement, "theirs")
    return insertions


@pytest.fixture
async def walked(prepared: Prepared) -> AsyncIterator[WalkedSchema]:
    settings = PostgresSettings(database_url=Secret(prepared.database))
    async with connect(settings, schema=prepared.schema) as opened:
        yield WalkedSchema(opened, prepared.insertions)


@asynccontextmanager
async def owner_of(database: str) -> AsyncIterator[asyncpg.Connection]:
    """Connect as a superuser, whom row-level security does not bind, without triggers."""
    connection = await asyncpg.connect(database, server_settings={"session_replication_role": "replica"})
    try:
        yield connection
    finally:
        await connection.close()


async def insertion(owner: asyncpg.Connection, schema: str, table: str) -> str:
    """Return the statement that writes a row of the tenant $1, with some value in each column that needs one."""
    columns = await owner.fetch(SELECT_COLUMNS, schema, table)
    names = ", ".join(["tenant", *(f'"{row["column_name"]}"' for row in columns)])
    values = ", ".join(["$1", *(VALUES[row["udt_name"]] for row in columns)])
    return f'INSERT INTO "{schema}"."{table}" ({names}) VALUES ({values})'


async def empty(owner: asyncpg.Connection, schema: str, tables: Sequence[str]) -> None:
    """Remove all rows, and what would refuse a row for its other columns."""
    for row in await owner.fetch(SELECT_CONSTRAINTS, schema):
        await owner.execute(f'ALTER TABLE {row["place"]} DROP CONSTRAINT "{row["conname"]}"')
    for table in tables:
        await owner.execute(f'DELETE FROM "{schema}"."{table}"')


async def refusal(connection: Connection, statement: str, *arguments: object) -> str:
    """Return the SQLSTATE with which the statement is refused; empty when it is not."""
    try:
        async with connection.transaction():
            await connection.execute(statement, *arguments)
    except asyncpg.PostgresError as error:
        return str(error.sqlstate)
    return ""


async def reach(connection: Connection, schema: str, table: str) -> tuple[int, str, str]:
    """Return how many rows are seen, and how many an UPDATE and a DELETE of everything find, undone again."""
    name = f'"{schema}"."{table}"'
    seen = int(await connection.fetchval(f"SELECT count(*) FROM {name}"))
    undone = connection.transaction()
    await undone.start()
    try:
        changed = await connection.execute(f"UPDATE {name} SET tenant = tenant")
        return seen, changed, await connection.execute(f"DELETE FROM {name}")
    finally:
        await undone.rollback()


async def outcome_of(walked: WalkedSchema, ask: Callable[[Connection, str, str], Any]) -> dict[str, Any]:
    async with walked.database.transaction() as connection:
        return {table: await ask(connection, walked.database.schema, table) for table in walked.tables}


async def test_rows_of_another_tenant_are_neither_seen_nor_changed_nor_deleted(walked: WalkedSchema) -> None:
    nothing, everything = (0, "UPDATE 0", "DELETE 0"), (1, "UPDATE 1", "DELETE 1")
    for tenant in ("mine", "default"):
        with as_tenant(tenant):
            assert await outcome_of(walked, reach) == dict.fromkeys(walked.tables, nothing) | own_rows(walked, tenant)
    with as_tenant("theirs"):
        assert await outcome_of(walked, reach) == dict.fromkeys(walked.tables, everything)
    with as_tenant(ALL_TENANTS):
        found = await outcome_of(walked, reach)
    assert all(seen >= 1 for seen, _, _ in found.values())


def own_rows(walked: WalkedSchema, tenant: str) -> dict[str, tuple[int, str, str]]:
    """Return what a tenant has from its first call on: a row in each table of revisions."""
    made = [table for table in walked.tables if table.endswith("_revision") or table == "routing_lock"]
    return dict.fromkeys(made if tenant == "mine" else [], (1, "UPDATE 1", "DELETE 1"))


async def test_no_row_is_written_for_another_tenant_nor_given_to_one(walked: WalkedSchema) -> None:
    async def inserted(connection: Connection, _: str, table: str) -> str:
        return await refusal(connection, walked.insertions[table], "mine")

    async def given_away(connection: Connection, schema: str, table: str) -> str:
        return await refusal(connection, f"""UPDATE "{schema}"."{table}" SET tenant = 'mine'""")

    with as_tenant("theirs"):
        assert await outcome_of(walked, inserted) == dict.fromkeys(walked.tables, "42501")
        assert await outcome_of(walked, given_away) == dict.fromkeys(walked.tables, "42501")


async def test_without_a_setting_or_the_role_that_goes_with_it_nothing_foreign_is_seen(
    walked: WalkedSchema,
) -> None:
    async def seen(connection: Connection, schema: str, table: str) -> int:
        return int(await connection.fetchval(f'SELECT count(*) FROM "{schema}"."{table}"'))

    async with walked.database.transaction() as connection:
        for setting in ("", ALL_TENANTS):
            await connection.execute(f"SET LOCAL tocsin.tenant = '{setting}'")
            found = {table: await seen(connection, walked.database.schema, table) for table in walked.tables}
            assert found == dict.fromkeys(walked.tables, 0), setting


async def test_both_roles_have_no_rights_but_to_the_rows(walked: WalkedSchema) -> None:
    roles = []
    for tenant in ("mine", ALL_TENANTS):
        with as_tenant(tenant):
            async with walked.database.transaction() as connection:
                roles.append(await connection.fetchrow(SELECT_ROLE))
                for statement in ("CREATE TABLE own (id int)", f"TRUNCATE {walked.tables[0]}", "CREATE ROLE own"):
                    assert await refusal(connection, statement) == "42501"
    schema = walked.database.schema
    assert [row["rolname"] for row in roles if row] == [f"tocsin_{schema}", f"tocsin_{schema}_all"]
    assert [any(list(row)[1:]) for row in roles if row] == [False, False]


async def test_row_level_security_binds_the_owner_of_each_table(walked: WalkedSchema) -> None:
    rows = await walked.database.fetch(SELECT_UNFORCED, walked.database.schema, walked.tables)
    assert [row["relname"] for row in rows] == []
    assert len(walked.tables) > 3
