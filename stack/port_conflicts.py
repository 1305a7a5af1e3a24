"""Who listens on the ports that the system needs: another process on one of them is named before anything starts."""

import contextlib
import time
from collections.abc import Collection, Iterable
from datetime import timedelta
from typing import Any

import psutil

from stack.ports import Ports, is_free
from stack.process_tree import with_descendants
from stack.processes import Running
from stack.program import ProgramSpec, StartError, StartupProgress

_RELEASE_TIMEOUT = timedelta(seconds=3)
# Linux remembers a closed connection for a minute, and with it the port that it had on this side.
_TIME_WAIT = timedelta(seconds=65)
# A server on one of these addresses keeps another one from the loopback interface.
_CONFLICTING_ADDRESSES = {"127.0.0.1", "0.0.0.0", "::", "::ffff:127.0.0.1"}


def refuse_taken_ports(programs: Iterable[str], ports: Ports, running: Iterable[Running]) -> None:
    """Raise StartError that names each port of these programs on which others than those running here listen."""
    needed = {port: (name, variable) for name in programs for port, variable in ports.variables_of(name).items()}
    own = _listened_on(running)
    lines = [
        f"  {port} for {needed[port][0]}: {owner} listens on it; {needed[port][1]} moves it"
        for port in _still_taken([port for port in needed if port not in own], _RELEASE_TIMEOUT)
        # Without an owner, a closed connection holds the port for a moment: the program's own start waits for that.
        if (owner := _owner(port))
    ]
    if lines:
        raise StartError("\n".join(["nothing was started, since ports are taken:", *lines]))


def wait_for_ports(program: ProgramSpec, progress: StartupProgress) -> None:
    """Return when the program can listen on its ports; raise StartError when one stays taken."""
    for port in _still_taken(program.ports, _RELEASE_TIMEOUT):
        if not _owner(port):
            progress(f"{program.name} waits for port {port}, which a connection closed a moment ago still holds")
            if not _still_taken([port], _TIME_WAIT):
                continue
        raise StartError(f"{program.name} cannot listen on port {port}: {_owner(port) or 'a connection'} has it")


def _still_taken(ports: Collection[int], timeout: timedelta) -> list[int]:
    """Wait for all ports: the last thread of a killed process may hold its sockets for a moment."""
    deadline = time.monotonic() + timeout.total_seconds()
    while (taken := [port for port in ports if not is_free(port)]) and time.monotonic() < deadline:
        time.sleep(0.02)
    return taken


def _listened_on(running: Iterable[Running]) -> set[int]:
    """Return the ports on which these programs and their children listen."""
    ports: set[int] = set()
    for program in running:
        for process in with_descendants(program.process):
            with contextlib.suppress(psutil.Error):
                ports |= {_port(each) for each in process.net_connections("tcp") if _is_conflicting(each)}
    return ports


def _owner(port: int) -> str:
    """Return who listens on the port, as far as this user may see it; empty when nobody does."""
    try:
        for connection in psutil.net_connections("tcp"):
            if _is_conflicting(connection) and _port(connection) == port:
                pid = connection.pid
                return f"{psutil.Process(pid).name()} (pid {pid})" if pid else "another user's process"
    except psutil.Error:
        return "another process"
    return ""


def _is_conflicting(connection: Any) -> bool:
    return connection.status == psutil.CONN_LISTEN and connection.laddr.ip in _CONFLICTING_ADDRESSES


def _port(connection: Any) -> int:
    return int(connection.laddr.port)
