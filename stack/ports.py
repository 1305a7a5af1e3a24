"""The ports on which the system listens: the documented ones, or free ones for a test run."""

import dataclasses
import os
import random
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Self

# Below the range from which Linux takes the ports of outgoing connections (32,768), so that a port found free stays
# free until somebody listens on it.
_FREE = range(22_700, 30_000)
# A node of a Redis cluster listens on a second port too, which is so much higher: none of these is found alone.
_CLUSTER_BUS = 10_000
_FREE_WITH_BUS = range(20_000, 22_700)
_BLOCK = 20
_MAX_PORT = 65_535

_VARIABLE = "TOCSIN_PORT_"
_PORTS_OF = {
    "kafka": ("kafka", "kafka_controller"),
    "postgres": ("postgres",),
    "redis": ("redis",),
    "envoy": ("edge", "edge_evaluator", "edge_manager", "edge_notifier", "mesh", "envoy_admin"),
    "ingest": ("ingest", "ingest_admin"),
    "evaluator": ("evaluator", "evaluator_admin"),
    "manager": ("manager", "manager_admin"),
    "notifier": ("notifier", "notifier_admin"),
    "sinks": ("sinks", "sinks_smtp"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """One port for each endpoint; the defaults are the documented ones."""

    kafka: int = 9092
    kafka_controller: int = 9093
    postgres: int = 5432
    redis: int = 6379
    edge: int = 8080
    edge_evaluator: int = 8081
    edge_manager: int = 8082
    edge_notifier: int = 8083
    mesh: int = 10000
    envoy_admin: int = 9901
    ingest: int = 50051
    evaluator: int = 50052
    manager: int = 50053
    notifier: int = 50054
    ingest_admin: int = 9101
    evaluator_admin: int = 9102
    manager_admin: int = 9103
    notifier_admin: int = 9104
    sinks: int = 9300
    sinks_smtp: int = 9325

    @property
    def moved(self) -> dict[str, str]:
        """Return the variables that move these ports from the documented ones."""
        documented = dataclasses.asdict(Ports())
        ports = dataclasses.asdict(self)
        return {port_variable(name): str(port) for name, port in ports.items() if port != documented[name]}

    @property
    def gateway(self) -> tuple[int, int, int, int]:
        """Envoy's ports towards users: for everything, then for the evaluator, the manager and the notifier alone."""
        return (self.edge, self.edge_evaluator, self.edge_manager, self.edge_notifier)

    def of(self, program: str) -> tuple[int, ...]:
        """Return the ports on which this program listens."""
        return tuple(self.variables_of(program))

    def variables_of(self, program: str) -> dict[int, str]:
        """Return the ports on which this program listens, each with the variable that moves it."""
        return {getattr(self, name): port_variable(name) for name in _PORTS_OF[program]}

    @classmethod
    def read(cls, environ: Mapping[str, str] = os.environ) -> Self:
        """Return the documented ports, except those that a TOCSIN_PORT_<NAME> moves.

        Raise ValueError for a value that is no port, and for two ports that are the same.
        """
        moved = {}
        for field in dataclasses.fields(cls):
            text = environ.get(port_variable(field.name), "")
            if text and not (text.isdecimal() and 0 < int(text) <= _MAX_PORT):
                raise ValueError(f"{port_variable(field.name)} is not a port: {text}")
            if text:
                moved[field.name] = int(text)
        ports = cls(**moved)
        _refuse_duplicates(dataclasses.asdict(ports))
        return ports

    @classmethod
    def free(cls) -> Self:
        """Return ports on which nobody listens now, and which no process finds while this one lives."""
        names = [field.name for field in dataclasses.fields(cls)]
        return cls(**dict(zip(names, free_ports(len(names)), strict=True)))


class FreePorts:
    """Ports of a range on which nobody listens, of which each is found once while the process lives that found it.

    A process reserves some at a time, by the name of an abstract Unix socket: one process has it, within the network
    namespace that has the ports, and the kernel gives it back when the process ends. No file can be left over, or made
    by another user before.
    """

    def __init__(self, ports: range, *, further: Iterable[int] = ()) -> None:
        self._ports = ports
        self._offsets = (0, *further)
        self._reserved: list[int] = []
        # What a process has reserved is not its child's.
        os.register_at_fork(after_in_child=self._reserved.clear)

    def find(self, count: int) -> list[int]:
        """Return so many ports; raise OSError when there are no more."""
        found: list[int] = []
        while len(found) < count:
            if not self._reserved:
                self._reserved.extend(_reserve(self._ports))
            port = self._reserved.pop()
            if all(is_free(port + offset) for offset in self._offsets):
                found.append(port)
        return found


def _reserve(ports: range) -> range:
    """Reserve some of these ports until the process ends."""
    starts = ports[::_BLOCK]
    for start in random.sample(starts, k=len(starts)):
        holder = socket.socket(socket.AF_UNIX)
        try:
            holder.bind(f"\0tocsin-ports-{start}")
        except OSError:
            holder.close()
        else:
            holder.detach()
            return range(start, min(start + _BLOCK, ports.stop))
    raise OSError(f"running processes have reserved all ports from {ports.start} to {ports.stop - 1}")


_free = FreePorts(_FREE)
_free_with_bus = FreePorts(_FREE_WITH_BUS, further=(_CLUSTER_BUS,))


def free_ports(count: int) -> list[int]:
    """Return so many ports on which nobody listens now, and which no process finds while this one lives."""
    return _free.find(count)


def free_cluster_ports(count: int) -> list[int]:
    """Return such ports for nodes of a Redis cluster: nobody listens on their second ports, either."""
    return _free_with_bus.find(count)


def free_port() -> int:
    """Return one of `free_ports`."""
    return free_ports(1)[0]


def port_variable(name: str) -> str:
    """Return the variable that moves this port."""
    return f"{_VARIABLE}{name.upper()}"


def _refuse_duplicates(ports: Mapping[str, int]) -> None:
    names: dict[int, str] = {}
    for name, port in ports.items():
        if port in names:
            raise ValueError(f"{port_variable(names[port])} and {port_variable(name)} are the same port: {port}")
        names[port] = name


def is_free(port: int) -> bool:
    """Return whether a server could listen on this port of the loopback interface now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # Servers set this too: a closed connection in TIME_WAIT does not make a port taken.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
