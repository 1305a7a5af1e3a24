"""PostgreSQL over TLS, with passwords and certificates that change, on a real server that takes nobody without TLS."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import pytest

from services.chassis.failures import StoreUnavailable
from services.chassis.migrations import migrate
from services.chassis.postgres import Database, connect
from services.chassis.settings import PostgresSettings, Secret, load_settings
from stack.ports import Ports
from tests.secure_servers import (
    CERTIFIED_USER,
    OTHER_HOST,
    PASSWORD,
    ServerFolder,
    postgres_over_tls,
    server_folder,
    write_secret,
)
from tests.tools import needs

pytestmark = [pytest.mark.integration, needs("postgres")]

PORTS = Ports.free()
SCRIPT = '''
"""Creates the notes."""
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.execute("CREATE TABLE note (id int PRIMARY KEY)")
'''


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerFolder]:
    with server_folder(tmp_path_factory.mktemp("postgres")) as opened:
        opened.start(postgres_over_tls(opened, PORTS))
        yield opened


@pytest.fixture
def password_file(tmp_path: Path) -> Path:
    path = tmp_path / "password"
    write_secret(path, PASSWORD)
    return path


@pytest.fixture
def settings(folder: ServerFolder, password_file: Path) -> PostgresSettings:
    """Log in with a password from a file."""
    environ = {
        "X_DATABASE_URL": url(),
        "X_DATABASE_PASSWORD_FILE": str(password_file),
        "X_DATABASE_CA": str(folder.issue("any").ca),
        "X_POOL_SIZE": "2",
    }
    return load_settings(PostgresSettings, "X_", environ)


@pytest.fixture
async def store(settings: PostgresSettings) -> AsyncIterator[Database]:
    async with connect(settings, schema="public") as opened:
        yield opened


def url(user: str = "alertuser", host: str = "127.0.0.1") -> str:
    return f"postgresql://{user}@{host}:{PORTS.postgres}/postgres"


async def session(store: Database) -> tuple[str, bool]:
    row = await store.fetchrow("SELECT current_user AS name, ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
    assert row is not None
    return row["name"], row["ssl"]


async def test_sessions_and_migrations_are_encrypted_and_log_in_by_scram(
    store: Database, settings: PostgresSettings, tmp_path: Path
) -> None:
    assert await session(store) == ("alertuser", True)
    row = await store.fetchrow("SELECT rolpassword FROM pg_authid WHERE rolname = 'alertuser'")
    assert row is not None
    assert row["rolpassword"].startswith("SCRAM-SHA-256$")
    (tmp_path / "versions").mkdir()
    (tmp_path / "versions" / "0001_notes.py").write_text(SCRIPT)
    await migrate(settings, schema="notes", scripts=tmp_path)
    assert await store.fetch("SELECT * FROM notes.note") == []


async def test_a_server_that_is_not_the_one_meant_is_refused(settings: PostgresSettings, tmp_path: Path) -> None:
    with server_folder(tmp_path / "other") as other:
        stranger = str(other.issue("any").ca)
    refused = [
        # Signed by nobody who is trusted; without the name by which it is reached; and TLS not asked for.
        replace(settings, database_ca=stranger),
        replace(settings, database_url=Secret(url(host=OTHER_HOST))),
        replace(settings, database_ca="", database_url=Secret(url() + "?sslmode=disable")),
        replace(settings, database_password=Secret("wrong")),
    ]
    for wrong in refused:
        async with connect(wrong, schema="public") as store:
            with pytest.raises(StoreUnavailable) as failure:
                await store.fetch("SELECT 1")
        assert PASSWORD not in str(failure.value)


async def test_a_password_in_the_url_is_written_with_percent_signs(settings: PostgresSettings) -> None:
    full = url(user=f"alertuser:{quote(PASSWORD, safe='')}")
    own = replace(settings, database_url=Secret(full), database_password=Secret(""))
    async with connect(own, schema="public") as store:
        assert await session(store) == ("alertuser", True)


async def test_a_changed_password_is_used_by_new_sessions_without_a_restart(
    store: Database, password_file: Path
) -> None:
    await store.fetch("SELECT 1")
    await store.fetch("ALTER ROLE alertuser PASSWORD 'second'")
    write_secret(password_file, "second")
    with pytest.raises(StoreUnavailable):
        await store.fetch("SELECT pg_terminate_backend(pg_backend_pid())")
    assert await session(store) == ("alertuser", True)
    await store.fetch(f"ALTER ROLE alertuser PASSWORD '{PASSWORD}'")


async def test_a_certificate_opens_the_door_and_a_new_one_is_used_in_time(
    store: Database, folder: ServerFolder, settings: PostgresSettings
) -> None:
    await store.fetch(f"CREATE ROLE {CERTIFIED_USER} LOGIN")
    files = folder.issue(CERTIFIED_USER)
    certified = replace(settings, database_url=Secret(url(user=CERTIFIED_USER)), database_password=Secret(""))
    async with connect(certified, schema="public") as without:
        with pytest.raises(StoreUnavailable):
            await without.fetch("SELECT 1")
    own = replace(certified, database_certificate=str(files.certificate), database_key=str(files.key))
    serials = "SELECT client_serial FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
    async with connect(own, schema="public") as opened:
        assert await session(opened) == (CERTIFIED_USER, True)
        first = (await opened.fetch(serials))[0][0]
        folder.issue(CERTIFIED_USER)

        async def is_renewed() -> bool:
            return bool((await opened.fetch(serials))[0][0] != first)

        async with asyncio.timeout(10):
            while not await is_renewed():  # noqa: ASYNC110
                await asyncio.sleep(0.1)
