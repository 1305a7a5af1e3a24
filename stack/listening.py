"""Who listens on the ports that the system wants: a stranger on one of them is named before anything starts."""

import contextlib
import time
from collections.abc import Callable, Collection, Iterable
from datetime import timedelta
from typing import Any

import psutil

from stack.ending import family
from stack.ports import Ports, is_free
from stack.processes import Running, StartError
from stack.program import Program

_RELEASE = timedelta(seconds=3)
# Linux remembers a closed connection for a minute, and with it the port that it had on this side.
_TIME_WAIT = timedelta(seconds=65)
# What of an address keeps a server from listening on the loopback interface.
_IN_THE_WAY = {"127.0.0.1", "0.0.0.0", "::", "::ffff:127.0.0.1"}


def refuse_taken(programs: Iterable[str], ports: Ports, running: Iterable[Running]) -> None:
    """Raise StartError that names each port of these programs on which others than those running here listen."""
    wanted = {port: (name, variable) for name in programs for port, variable in ports.moved_by(name).items()}
    own = _listened_on(running)
    lines = [
        f"  {port} for {wanted[port][0]}: {owner} listens on it; {wanted[port][1]} moves it"
        for port in _still_taken([port for port in wanted if port not in own], _RELEASE)
        # Without one, a closed connection holds it for a moment: for that the program's own start waits.
        if (owner := _owner(port))
    ]
    if lines:
        raise StartError("\n".join(["nothing was started, since ports are taken:", *lines]))


def await_ports(program: Program, progress: Callable[[str], None]) -> None:
    """Return when the program can listen on its ports; StartError when one stays taken."""
    for port in _still_taken(program.ports, _RELEASE):
        if not _owner(port):
            progress(f"{program.name} waits for port {port}, which a connection closed a moment ago still holds")
            if not _still_taken([port], _TIME_WAIT):
                continue
        raise StartError(f"{program.name} cannot listen on port {port}: {_owner(port) or 'a connection'} has it")


def _still_taken(ports: Collection[int], within: timedelta) -> list[int]:
    """Wait a moment for all: the last thread of a killed predecessor may still hold its sockets."""
    deadline = time.monotonic() + within.total_seconds()
    while (taken := [port for port in ports if not is_free(port)]) and time.monotonic() < deadline:
        time.sleep(0.02)
    return taken


def _listened_on(running: Iterable[Running]) -> set[int]:
    """Give the ports on which these and their children listen."""
    found: set[int] = set()
    for one in running:
        for process in family(one.process):
            with contextlib.suppress(psutil.Error):
                found |= {_port(each) for each in process.net_connections("tcp") if _is_in_the_way(each)}
    return found


def _owner(port: int) -> str:
    """Name who listens on the port, as far as this user may see it; empty when nobody does."""
    try:
        for connection in psutil.net_connections("tcp"):
            if _is_in_the_way(connection) and _port(connection) == port:
                pid = connection.pid
                return f"{psutil.Process(pid).name()} (pid {pid})" if pid else "another user's process"
    except psutil.Error:
        return "another process"
    return ""


def _is_in_the_way(connection: Any) -> bool:
    return connection.status == psutil.CONN_LISTEN and connection.laddr.ip in _IN_THE_WAY


def _port(connection: Any) -> int:
    return int(connection.laddr.port)
