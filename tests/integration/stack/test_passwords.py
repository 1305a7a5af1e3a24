"""PostgreSQL and Redis of a system with SECURE=1: they ask for a password from their first start on."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import asyncpg
import pytest
from redis import Redis
from redis.exceptions import AuthenticationError, NoPermissionError

from services.chassis.failures import StoreUnavailable
from services.chassis.migrations import migrate
from services.chassis.postgres import connect
from services.chassis.settings import PostgresSettings, load_settings
from services.notifier.app import MIGRATIONS, SCHEMA
from stack.guard import guarded
from stack.ports import Ports
from stack.postgres import DATABASE, postgres_url
from stack.processes import Processes
from stack.redis import redis_url
from stack.secure_files import REDIS_USER, SecureFiles, write_secret
from stack.servers import local_addresses, server_program
from stack.starter import Starter
from stack.wiring import Wiring, service_environ

pytestmark = pytest.mark.integration


@contextmanager
def running(folder: Path) -> Iterator[tuple[Processes, Ports, SecureFiles]]:
    """Yield what a system is started with; it is stopped at the end."""
    files = SecureFiles(home=folder)
    files.prepare(datetime.now(UTC))
    processes, ports = Processes(folder), Ports.free()
    with guarded(folder):
        try:
            yield processes, ports, files
        finally:
            Starter(processes, print).stop(processes.running())


@pytest.fixture
def started(tmp_path: Path) -> Iterator[tuple[Processes, Ports, SecureFiles]]:
    with running(tmp_path) as (processes, ports, files):
        start(processes, ports, files)
        yield processes, ports, files


def start(processes: Processes, ports: Ports, files: SecureFiles | None) -> None:
    program = partial(server_program, processes=processes, ports=ports, progress=print, durable=False, secure=files)
    Starter(processes, print).start([partial(program, name) for name in ("postgres", "redis")])


async def read_one(ports: Ports, password: str | None) -> int:
    connection = await asyncpg.connect(postgres_url(ports, DATABASE), password=password, timeout=5)
    try:
        return int(await connection.fetchval("SELECT 1"))
    finally:
        await connection.close()


async def test_the_servers_ask_for_the_passwords_of_the_folder(
    started: tuple[Processes, Ports, SecureFiles],
) -> None:
    processes, ports, files = started
    secret, redis_secret = (path.read_text().strip() for path in (files.postgres_password, files.redis_password))
    for wrong in (None, "", "wrong"):
        with pytest.raises(asyncpg.InvalidPasswordError):
            await read_one(ports, wrong)
    assert await read_one(ports, secret) == 1
    with closing(Redis.from_url(redis_url(ports))) as nobody, pytest.raises(AuthenticationError):
        nobody.ping()
    with closing(Redis.from_url(redis_url(ports, user=REDIS_USER), password=redis_secret)) as client:
        assert client.set("key", "value")
        with pytest.raises(NoPermissionError):
            client.config_get("maxmemory")
    # The next start finds them as they are, and one without passwords opens them again.
    start(processes, ports, files)
    assert await read_one(ports, secret) == 1
    start(processes, ports, None)
    assert await read_one(ports, None) == 1
    with closing(Redis.from_url(redis_url(ports))) as anybody:
        assert anybody.get("key") == b"value"
    start(processes, ports, files)
    with pytest.raises(asyncpg.InvalidPasswordError):
        await read_one(ports, None)
    assert await read_one(ports, secret) == 1


def test_a_new_server_has_its_password_before_it_is_started(tmp_path: Path) -> None:
    files = SecureFiles(home=tmp_path)
    files.prepare(datetime.now(UTC))
    processes = Processes(tmp_path)
    server_program("postgres", processes=processes, ports=Ports.free(), progress=print, secure=files)

    rules = processes.data("postgres") / "hba.conf"
    assert rules.read_text().split()[-1] == "scram-sha-256"
    # Where initdb has read it.
    left = {path.name for path in processes.data("postgres").iterdir()}
    assert left == {"18", "hba.conf"}


async def test_a_server_that_ran_without_a_password_learns_it(tmp_path: Path) -> None:
    with running(tmp_path) as (processes, ports, files):
        start(processes, ports, None)
        assert await read_one(ports, None) == 1
        start(processes, ports, files)
        with pytest.raises(asyncpg.InvalidPasswordError):
            await read_one(ports, None)
        assert await read_one(ports, files.postgres_password.read_text().strip()) == 1


async def test_a_service_logs_in_as_its_own_user_with_the_password_that_is_set(
    started: tuple[Processes, Ports, SecureFiles],
) -> None:
    processes, ports, files = started
    # Of a system without passwords, which is then given some.
    start(processes, ports, None)
    assert await begin(ports, None) == ("notifier", "tocsin_notifier")
    start(processes, ports, files)
    with pytest.raises(StoreUnavailable):
        await users(login(ports, files))
    assert await begin(ports, files) == ("notifier", "tocsin_notifier")
    write_secret(files.service_password("notifier"), "another, later one: \u00e4'\\")
    assert await begin(ports, files) == ("notifier", "tocsin_notifier")
    write_secret(files.service_password("notifier"), "wrong")
    with pytest.raises(StoreUnavailable):
        await users(login(ports, files))


def login(ports: Ports, files: SecureFiles | None) -> PostgresSettings:
    wiring = Wiring(addresses=local_addresses(ports, secure=files is not None), ports=ports, secure=files)
    environ = service_environ("notifier", wiring, Path("data"))
    return load_settings(PostgresSettings, "NOTIFIER_", {k: v for k, v in environ.items() if "_DATABASE_" in k})


async def begin(ports: Ports, files: SecureFiles | None) -> tuple[str, str]:
    """Migrate as a start of the service does, and return as whom it works."""
    settings = login(ports, files)
    await migrate(settings, schema=SCHEMA, scripts=MIGRATIONS)
    return await users(settings)


async def users(settings: PostgresSettings) -> tuple[str, str]:
    async with connect(settings, schema=SCHEMA) as database:
        row = await database.fetchrow("SELECT session_user::text, current_user::text")
    assert row is not None
    return row[0], row[1]
