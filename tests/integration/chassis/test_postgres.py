import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import structlog

from services.chassis import outbox, postgres
from services.chassis.clock import SystemClock
from services.chassis.failures import Overloaded, StoreConflict, StoreRefused, StoreUnavailable
from services.chassis.health import Health
from services.chassis.loops import Loop
from services.chassis.migrations import migrate
from services.chassis.postgres import Connection, Database, connect, listen
from services.chassis.settings import PostgresSettings, Secret
from stack.testing import Servers

pytestmark = pytest.mark.integration

FIRST = '''
"""Creates the notes."""
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.execute("CREATE TABLE note (id int PRIMARY KEY, text text NOT NULL)")
    op.execute("""{outbox}""")
    op.execute("""{lease}""")
'''
SECOND = '''
"""Adds a column."""
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.execute("ALTER TABLE note ADD COLUMN author text")
'''


@pytest.fixture
def postgres_settings(empty_database: str) -> PostgresSettings:
    return PostgresSettings(database_url=Secret(empty_database), pool_size=4)


@pytest.fixture
def scripts(tmp_path: Path) -> Path:
    versions = tmp_path / "versions"
    versions.mkdir()
    (versions / "0001_notes.py").write_text(FIRST.format(outbox=outbox.SQL, lease=outbox.LEASE_SQL))
    return tmp_path


@pytest.fixture
async def store(postgres_settings: PostgresSettings, scripts: Path) -> AsyncIterator[Database]:
    await migrate(postgres_settings, schema="notes", scripts=scripts)
    async with connect(postgres_settings, schema="notes") as opened:
        yield opened


async def value(store: Database, query: str) -> object:
    row = await store.fetchrow(query)
    assert row is not None
    return row[0]


async def test_migrating_twice_or_concurrently_migrates_once(
    postgres_settings: PostgresSettings, scripts: Path
) -> None:
    several = [migrate(postgres_settings, schema="notes", scripts=scripts) for _ in range(3)]
    await asyncio.gather(*several)
    (scripts / "versions" / "0002_author.py").write_text(SECOND)
    await migrate(postgres_settings, schema="notes", scripts=scripts)
    async with connect(postgres_settings, schema="notes") as store:
        assert await value(store, "SELECT count(author) FROM note") == 0
        assert [row["version_num"] for row in await store.fetch("SELECT * FROM alembic_version")] == ["0002"]


async def test_a_current_schema_is_not_changed(
    store: Database, postgres_settings: PostgresSettings, scripts: Path
) -> None:
    # Alembic does not run: it would need its table.
    await store.fetch("DROP TABLE alembic_version")
    await migrate(postgres_settings, schema="notes", scripts=scripts)
    assert await store.fetch("SELECT * FROM note") == []


async def test_the_former_release_starts_on_the_schema_of_a_newer_one_and_leaves_it_as_it_is(
    postgres_settings: PostgresSettings, scripts: Path
) -> None:
    comment = "SELECT obj_description('notes'::regnamespace, 'pg_namespace')"
    newer = scripts / "versions" / "0002_author.py"
    newer.write_text(SECOND)
    await migrate(postgres_settings, schema="notes", scripts=scripts)
    async with connect(postgres_settings, schema="notes") as store:
        before = await value(store, comment)
    newer.unlink()
    with structlog.testing.capture_logs() as logs:
        await migrate(postgres_settings, schema="notes", scripts=scripts)
    # The user of these tests owns the schema, of which each start warns.
    assert [each["event"] for each in logs] == ["database_user_found_privileged", "schema_found_newer"]
    async with connect(postgres_settings, schema="notes") as store:
        await store.fetch("INSERT INTO note VALUES (1, 'by the former release')")
        assert await value(store, comment) == before
        assert [row["version_num"] for row in await store.fetch("SELECT * FROM alembic_version")] == ["0002"]


async def test_a_failed_migration_changes_nothing(postgres_settings: PostgresSettings, scripts: Path) -> None:
    broken = scripts / "versions" / "0002_author.py"
    broken.write_text(SECOND.replace("ALTER TABLE note", "ALTER TABLE nothing"))
    with pytest.raises(Exception, match="nothing"):
        await migrate(postgres_settings, schema="notes", scripts=scripts)
    broken.write_text(SECOND)
    await migrate(postgres_settings, schema="notes", scripts=scripts)
    async with connect(postgres_settings, schema="notes") as store:
        assert await value(store, "SELECT count(author) FROM note") == 0


async def test_two_schemas_in_one_database_are_separate(postgres_settings: PostgresSettings, scripts: Path) -> None:
    for schema in ("manager", "notifier"):
        await migrate(postgres_settings, schema=schema, scripts=scripts)
        async with connect(postgres_settings, schema=schema) as store:
            await store.fetch("INSERT INTO note VALUES (1, $1)", schema)
    async with connect(postgres_settings, schema="manager") as store:
        assert [row["text"] for row in await store.fetch("SELECT text FROM note")] == ["manager"]


async def test_migrating_without_a_database_gives_up_in_time(scripts: Path) -> None:
    nowhere = PostgresSettings(database_url=Secret("postgresql://u:secret@127.0.0.1:1/x"))
    with pytest.raises(StoreUnavailable) as failure:
        await migrate(nowhere, schema="notes", scripts=scripts, max_wait=timedelta(milliseconds=300))
    assert "secret" not in str(failure.value)


async def test_a_failed_transaction_changes_nothing(store: Database) -> None:
    async def fail(connection: Connection) -> None:
        await connection.execute("INSERT INTO note VALUES (1, 'x')")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await store.run_idempotent(fail)
    assert await store.fetch("SELECT * FROM note") == []


async def test_refused_values_differ_from_transient_failures(store: Database) -> None:
    await store.fetch("INSERT INTO note VALUES (1, 'x')")
    refused: list[tuple[str, tuple[object, ...]]] = [
        ("INSERT INTO note VALUES (1, 'x')", ()),
        ("INSERT INTO note VALUES ($1, 'x')", (2**40,)),
        ("INSERT INTO note VALUES (2, $1)", ("\0",)),
    ]
    for query, values in refused:
        with pytest.raises(StoreRefused):
            await store.fetch(query, *values)
    transient: list[tuple[str, tuple[object, ...]]] = [("SELECT $1::int", (1, 2)), ("SELECT * FROM nothing", ())]
    for query, values in transient:
        with pytest.raises(StoreUnavailable):
            await store.fetch(query, *values)


async def test_a_killed_connection_is_replaced_within_the_same_call(store: Database, empty_database: str) -> None:
    await store.fetch("SELECT 1")
    await _kill_connections(empty_database)
    assert await value(store, "SELECT 1") == 1


async def test_after_a_switchover_no_session_of_the_read_only_server_is_used_again(
    store: Database, postgres_settings: PostgresSettings
) -> None:
    async def write_at_the_former_primary(session: object) -> None:
        async with small.connection() as connection:
            assert await connection.fetchval("SELECT pg_backend_pid()") == session
            await connection.execute("SET default_transaction_read_only = on")
            await connection.execute("INSERT INTO note VALUES (1, 'x')")

    async with connect(replace(postgres_settings, pool_size=1), schema="notes") as small:
        session = await value(small, "SELECT pg_backend_pid()")
        with pytest.raises(StoreUnavailable):
            await write_at_the_former_primary(session)
        assert await value(small, "SELECT pg_backend_pid()") != session
    assert await store.fetch("SELECT * FROM note") == []


async def test_a_conflict_differs_from_an_unavailable_database(store: Database) -> None:
    async with store.transaction() as one:
        await one.execute("LOCK TABLE note")
        with pytest.raises(StoreConflict):
            async with store.transaction() as other:
                await other.execute("LOCK TABLE note NOWAIT")


async def test_work_that_conflicts_once_succeeds_at_the_second_attempt(store: Database) -> None:
    tries = 0

    async def work(connection: Connection) -> int:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise StoreConflict("made up")
        return int(await connection.fetchval("SELECT 7"))

    assert await store.run_idempotent(work) == 7


async def test_a_session_that_hangs_with_a_lock_is_ended_and_others_go_on(
    store: Database, postgres_settings: PostgresSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def lock(connection: Connection) -> None:
        await connection.execute("SELECT pg_advisory_xact_lock(1)")

    timeouts = await store.fetch(
        "SELECT name, setting::int FROM pg_settings WHERE source = 'client' AND name LIKE '%\\_timeout' ORDER BY name"
    )
    assert [(row["name"], row["setting"]) for row in timeouts] == [
        ("idle_in_transaction_session_timeout", 5_000),
        ("lock_timeout", 2_000),
        ("statement_timeout", 9_000),
    ]
    # The same limits, but shorter.
    short = {"lock_timeout": "100ms", "idle_in_transaction_session_timeout": "500ms"}
    monkeypatch.setattr(postgres, "_SESSION", short)
    freed = asyncio.Event()

    async def hang() -> None:
        async with soon.transaction() as connection:
            await lock(connection)
            await freed.wait()
            await connection.execute("SELECT 1")

    async with connect(postgres_settings, schema="notes") as soon:
        hanging = asyncio.create_task(hang())
        await until_locked(store)
        with pytest.raises(StoreConflict):
            await soon.run_idempotent(lock)
        await Loop(lambda: soon.run_idempotent(lock), name="lock").until_success()
        freed.set()
        with pytest.raises(StoreUnavailable):
            await hanging


async def until_locked(store: Database) -> None:
    async with asyncio.timeout(5):
        while not await store.fetch("SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND objid = 1"):  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_the_wait_for_a_connection_is_bounded_and_is_an_overload(
    postgres_settings: PostgresSettings,
) -> None:
    small = PostgresSettings(database_url=postgres_settings.database_url, pool_size=1)
    dependency = Health("test").dependency("postgres")
    async with connect(small, schema="public", dependency=dependency) as store, store.connection():
        with pytest.raises(Overloaded):
            await store.fetch("SELECT 1")


async def test_the_clock_is_the_databases_not_the_hosts(store: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SystemClock, "now", lambda _: datetime(2001, 1, 1, tzinfo=UTC))
    await store.sync_clock()
    row = await store.fetchrow("SELECT abs(extract(epoch FROM clock_timestamp() - $1)) AS seconds", store.clock.now())
    assert row is not None
    assert row["seconds"] < 5


async def test_a_listener_gets_notifications_until_its_connection_is_lost(store: Database, empty_database: str) -> None:
    connected, payloads = asyncio.Event(), asyncio.Queue[str]()
    async with asyncio.timeout(10):
        listening = asyncio.create_task(listen(store, {"news": payloads.put_nowait}, connected=connected.set))
        await connected.wait()
        await store.fetch("SELECT pg_notify('news', 'hello')")
        assert await payloads.get() == "hello"
        await _kill_connections(empty_database)
        await listening


async def test_health_follows_the_database(own_servers: Servers, eventually: Any) -> None:
    dependency = Health("test").dependency("postgres")
    settings = PostgresSettings(database_url=Secret(own_servers.address("postgres")))
    async with connect(settings, schema="public", dependency=dependency) as store:
        await eventually(lambda: dependency.is_up)
        await asyncio.to_thread(own_servers.kill, "postgres")
        await eventually(lambda: not dependency.is_up)
        with pytest.raises(StoreUnavailable):
            await store.fetch("SELECT 1")
        await asyncio.to_thread(own_servers.start, "postgres")
        await eventually(lambda: dependency.is_up)
        assert await value(store, "SELECT 1") == 1


async def _kill_connections(database: str) -> None:
    connection = await asyncpg.connect(database)
    await connection.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
        " AND pid <> pg_backend_pid()"
    )
    await connection.close()
