"""Kafka, PostgreSQL and Redis as compose.yaml runs them: its settings and files, with the servers of this machine.

What differs: addresses, folders, and the users of the images.
"""

import os
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import asyncpg
import pytest
import yaml
from confluent_kafka import KafkaException
from redis.exceptions import NoPermissionError

from services.chassis.failures import StoreUnavailable
from services.chassis.migrations import migrate, prepare_schema
from services.chassis.postgres import connect
from services.chassis.redis import RedisUnavailableError, redis_client
from services.chassis.settings import KafkaSettings, PostgresSettings, RedisSettings, Secret, load_settings
from services.notifier.app import MIGRATIONS, SCHEMA
from stack import unprivileged
from stack.certificate_requests import certificate_files
from stack.container_certificates import ensure
from stack.guard import guarded
from stack.kafka import check_kafka, format_storage, prepared_java, tls_client
from stack.ports import free_ports
from stack.postgres import as_user, unprivileged_command
from stack.processes import Processes
from stack.program import ProgramSpec
from stack.starter import Starter
from stack.topics import TopicsError, admin_client, create_topics, tool_settings
from tests.tools import needs, tool_path

pytestmark = pytest.mark.integration

ROOT = Path(__file__).resolve().parents[3]
SERVICES = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
START = ROOT / "deploy" / "containers" / "with-certificates"
Run = Callable[[ProgramSpec], None]
_Settings = TypeVar("_Settings")


@pytest.fixture(scope="module")
def issued(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the volume with certificates, as the container fills it that issues them."""
    folder = tmp_path_factory.mktemp("issued")
    ensure(str(folder))
    return folder


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    processes = Processes(tmp_path / "processes")
    starter = Starter(processes, print)
    with guarded(tmp_path):
        try:
            yield lambda program: starter.start([lambda: program])
        finally:
            starter.stop(processes.running())


@pytest.fixture
def socket_folder() -> Iterator[Path]:
    """Give a folder whose name is short enough for a socket."""
    with tempfile.TemporaryDirectory(prefix="tocsin-") as folder:
        if os.geteuid() == 0:
            os.chown(folder, *unprivileged.user())
        yield Path(folder)


def moved(text: str, places: Mapping[str, object]) -> str:
    """Return a text of compose.yaml with other folders and addresses."""
    pattern = "|".join(re.escape(place) for place in sorted(places, key=len, reverse=True))
    return re.sub(pattern, lambda found: str(places[found[0]]), text)


def settings_of(kind: type[_Settings], prefix: str, container: str, places: Mapping[str, object]) -> _Settings:
    """Return this part of the settings that a container is given."""
    names = {"KafkaSettings": "_KAFKA_|_BROKERS", "PostgresSettings": "_DATABASE_", "RedisSettings": "_REDIS_"}
    given = SERVICES[container]["environment"].items()
    environ = {name: moved(value, places) for name, value in given if re.search(names[kind.__name__], name)}
    return load_settings(kind, prefix, environ)


def copied_certificates(issued: Path, tmp_path: Path, server: str, *command: str) -> tuple[Path, list[str]]:
    """Start a command as the container of this server does; return the folder of copies, and what was started."""
    copies, programs = tmp_path / "copies", tmp_path / "programs"
    programs.mkdir()
    entry = programs / "docker-entrypoint.sh"
    entry.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    script = tmp_path / "start"
    script.write_text(moved(START.read_text(), {"/run/certificates": copies, "/certificates": issued / server}))
    for path in (entry, script):
        path.chmod(0o755)
    environ = os.environ | {"PATH": f"{programs}:{os.environ['PATH']}"}
    done = subprocess.run(
        [script, owner_of_copies(), *command], env=environ, capture_output=True, text=True, check=True
    )
    return copies, done.stdout.splitlines()


def owner_of_copies() -> str:
    return str(unprivileged.user()[0] if os.geteuid() == 0 else os.geteuid())


def tool(name: str) -> str:
    """Return a program of this machine: on the path, or beside PostgreSQL's server."""
    return str(tool_path(name) or Path(str(tool_path("postgres"))).with_name(name))


def test_kafka_takes_holders_of_certificates_and_the_tools_of_its_container(
    issued: Path, run: Run, tmp_path: Path
) -> None:
    inside, outside, local, controller = free_ports(4)
    places = {
        "://:29092": f"://127.0.0.1:{inside}",
        "kafka:29092": f"127.0.0.1:{inside}",
        "://:9094": f"://127.0.0.1:{outside}",
        "OUTSIDE://127.0.0.1:9092": f"OUTSIDE://127.0.0.1:{outside}",
        "127.0.0.1:9092": f"127.0.0.1:{local}",
        "://:9093": f"://127.0.0.1:{controller}",
        "kafka:9093": f"127.0.0.1:{controller}",
        "/var/lib/kafka/data": tmp_path / "data",
        "/certificates": issued / "kafka",
    }
    given = SERVICES["kafka"]["environment"]
    # As the image makes the names of settings.
    lines = [
        f"{name.removeprefix('KAFKA_').lower().replace('_', '.')}={moved(value, places)}\n"
        for name, value in given.items()
        if name.startswith("KAFKA_")
    ]
    config = tmp_path / "server.properties"
    config.write_text("".join(lines))
    java = prepared_java(print, "512m")
    format_storage(java, config)
    run(
        ProgramSpec(
            name="kafka",
            command=(*java, "kafka.Kafka", str(config)),
            ports=(inside, outside, local, controller),
            check_ready=lambda: check_kafka(f"127.0.0.1:{local}"),
        )
    )
    creating = SERVICES["create-topics"]["environment"]
    environ = {name: moved(value, places) for name, value in creating.items()}
    create_topics(tool_settings(f"127.0.0.1:{inside}", environ=environ))
    evaluator = settings_of(
        KafkaSettings, "EVALUATOR_", "alert-rule-engine", places | {"/certificates": issued / "evaluator"}
    )
    assert "log-events" in admin_client(evaluator).list_topics(timeout=10).topics
    # Who has another certificate of the authority gets in, and may do nothing.
    stranger = tls_client(f"127.0.0.1:{outside}", certificate_files(issued, "prometheus"))
    with pytest.raises(TopicsError, match="Authorization failed"):
        create_topics(stranger)
    for port in (inside, outside):
        with pytest.raises(KafkaException):
            admin_client(f"127.0.0.1:{port}").list_topics(timeout=1)


@pytest.mark.parametrize("server", ["postgres", "redis"])
def test_a_server_gets_copies_of_the_files_that_nobody_else_reads(issued: Path, tmp_path: Path, server: str) -> None:
    _, user = SERVICES[server]["entrypoint"]
    assert user == server
    copies, started = copied_certificates(issued, tmp_path, server, "one", "two words")
    assert started == ["one", "two words"]
    names = {path.name for path in (issued / server).iterdir()}
    assert {path.name for path in copies.iterdir()} == names >= {"certificate.pem", "key.pem", "ca.pem"}
    assert {path.stat().st_mode & 0o777 for path in copies.iterdir()} == {0o600}
    assert {str(path.stat().st_uid) for path in (copies, *copies.iterdir())} == {owner_of_copies()}
    # A start after the first one finds the former copies.
    for path in (tmp_path / "programs").iterdir():
        path.unlink()
    (tmp_path / "programs").rmdir()
    assert copied_certificates(issued, tmp_path, server, "again")[1] == ["again"]


@needs("postgres")
async def test_postgres_takes_each_service_by_its_certificate_and_nobody_by_a_password(
    issued: Path, run: Run, tmp_path: Path, socket_folder: Path
) -> None:
    (port,) = free_ports(1)
    start_postgres(issued, run, tmp_path, socket_folder, port)
    places = {"postgres:5432": f"127.0.0.1:{port}", "/certificates": issued / "notifier"}
    settings = settings_of(PostgresSettings, "NOTIFIER_", "notification-service", places)
    owners = settings_of(PostgresSettings, "NOTIFIER_", "migrations", places | {"/certificates": issued / "migrations"})
    for _ in range(2):
        await migrate(owners, schema=SCHEMA, scripts=MIGRATIONS)
    await prepare_schema(settings, schema=SCHEMA, scripts=MIGRATIONS)
    async with connect(settings, schema=SCHEMA) as database:
        row = await database.fetchrow("SELECT session_user::text, current_user::text")
    assert row is not None
    assert tuple(row) == ("notifier", "tocsin_notifier")
    other = certificate_files(issued, "prometheus")
    for wrong in (
        replace(settings, database_url=Secret(as_user(settings.database_url.reveal(), "manager"))),
        # The owner of the tables.
        replace(settings, database_url=owners.migration_database_url),
        replace(settings, database_certificate=str(other.certificate), database_key=str(other.key)),
        replace(settings, database_certificate="", database_key="", database_password=Secret("alertpass")),
        replace(settings, database_ca="", database_certificate="", database_key=""),
    ):
        async with connect(wrong, schema=SCHEMA) as database:
            with pytest.raises(StoreUnavailable) as failure:
                await database.fetch("SELECT 1")
        assert isinstance(failure.value.__cause__, asyncpg.InvalidAuthorizationSpecificationError)


def start_postgres(issued: Path, run: Run, tmp_path: Path, socket_folder: Path, port: int) -> None:
    copies, command = copied_certificates(issued, tmp_path, "postgres", *SERVICES["postgres"]["command"])
    given, data = SERVICES["postgres"]["environment"], socket_folder / "data"
    created = ("-D", str(data), f"--username={given['POSTGRES_USER']}", f"--pwfile={copies / 'password'}", "--no-sync")
    subprocess.run([*unprivileged_command(), tool("initdb"), *created], check=True, capture_output=True)
    places = {"/run/certificates": copies, "/opt/postgres": ROOT / "deploy" / "postgres"}
    program, *options = [moved(each, places) for each in command]
    own = (
        "-D",
        str(data),
        "-p",
        str(port),
        "-clisten_addresses=127.0.0.1",
        f"-cunix_socket_directories={socket_folder}",
    )
    ask = ("-h", str(socket_folder), "-p", str(port))
    run(
        ProgramSpec(
            name="postgres",
            command=(*unprivileged_command(), tool(program), *options, *own, "-cfsync=off"),
            ports=(port,),
            check_ready=lambda: subprocess.run([tool("pg_isready"), *ask], check=True, capture_output=True),
        )
    )
    # As programs in its container do, without a password.
    statement = ("-U", given["POSTGRES_USER"], "-c", f"CREATE DATABASE {given['POSTGRES_DB']}", "postgres")
    subprocess.run([tool("psql"), *ask, *statement], check=True, capture_output=True)


@needs("redis-server")
async def test_redis_takes_the_manager_with_certificate_and_password_and_the_health_check(
    issued: Path, run: Run, tmp_path: Path
) -> None:
    (port,) = free_ports(1)
    copies, command = copied_certificates(issued, tmp_path, "redis", *SERVICES["redis"]["command"])
    program, path = command
    config = tmp_path / "redis.conf"
    text = moved((ROOT / "deploy" / path.removeprefix("/opt/")).read_text(), {"/run/certificates": copies})
    config.write_text(text.replace("tls-port 6379", f"tls-port {port}") + f"bind 127.0.0.1\ndir {tmp_path}\n")
    test = SERVICES["redis"]["healthcheck"]["test"]
    _, client, *asked = [moved(each, {"/run/certificates": copies}) for each in test]

    def ask(*wanted: str) -> str:
        command = [tool(client), "-p", str(port), *asked[:-1], *wanted]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    def check_ready() -> None:
        assert ask(asked[-1]) == "PONG\n"

    run(ProgramSpec(name="redis", command=(tool(program), str(config)), ports=(port,), check_ready=check_ready))
    # The health check may do nothing else.
    assert ask("get", "manager:x").startswith("NOPERM")
    places = {"redis:6379": f"127.0.0.1:{port}", "/certificates": issued / "manager"}
    settings = settings_of(RedisSettings, "MANAGER_", "alert-manager", places)
    async with redis_client(settings) as redis:
        with redis.connection() as opened:
            await opened.set("manager:x", "1")
            assert await opened.get("manager:x") == b"1"
        for wrong in (redis.client.get("other:x"), redis.client.config_get("maxmemory")):
            with pytest.raises(NoPermissionError):
                await wrong
    for refused in (
        replace(settings, redis_password=Secret("wrong")),
        replace(settings, redis_certificate="", redis_key=""),
    ):
        async with redis_client(refused) as redis:
            with pytest.raises(RedisUnavailableError), redis.connection() as opened:
                await opened.get("manager:x")
