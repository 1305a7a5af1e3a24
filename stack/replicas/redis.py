"""Redis on one machine so that one server may be lost: a primary with a replica under three Sentinels, or a cluster."""

import subprocess
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from stack.ports import free_cluster_ports, free_ports
from stack.processes import Processes
from stack.program import ProgramSpec, StartError
from stack.redis import redis_binary
from stack.starter import Starter

_GROUP = "tocsin"
_SENTINELS = ("sentinel-1", "sentinel-2", "sentinel-3")
_NODES = tuple(f"redis-node-{number}" for number in range(1, 7))
# How long a server does not answer until the others hold it for dead.
_DOWN_AFTER_MS = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisAccess:
    """How servers of Redis are run and called: without TLS and logins, unless it says otherwise."""

    server: Path = field(default_factory=redis_binary)
    command_line: Path = field(default_factory=partial(redis_binary, "redis-cli"))
    is_tls: bool = False
    server_options: tuple[str, ...] = ()
    """Of each server, those of Sentinel among them."""
    replication_options: tuple[str, ...] = ()
    """Of each server that has data."""
    sentinel_lines: tuple[str, ...] = ()
    """What else stands in a Sentinel's configuration."""
    command_line_options: tuple[str, ...] = ()
    client_options: Mapping[str, Any] = field(default_factory=dict)
    """What a client of all these servers is made with, beside host and port."""

    def listen_options(self, port: int) -> tuple[str, ...]:
        """Return on which port a server listens, by TLS or without."""
        return ("--tls-port", str(port), "--port", "0") if self.is_tls else ("--port", str(port))

    def client(self, port: int) -> Any:  # the client's commands have no types
        """Return a client of one server."""
        # Slow to import, and not needed for help texts.
        from redis import Redis  # noqa: PLC0415

        timeouts: dict[str, Any] = {"socket_timeout": 1, "socket_connect_timeout": 1}
        return Redis(host="127.0.0.1", port=port, decode_responses=True, **timeouts, **self.client_options)

    def ping(self, port: int) -> None:
        """Return when a server answers; raise what its client raises, also while it reads its file."""
        with closing(self.client(port)) as client:
            client.ping()


class RedisUnderSentinel:
    """Two servers, named redis-1 and redis-2, and three Sentinels that promote the one when the other is gone."""

    def __init__(self, processes: Processes, starter: Starter, access: RedisAccess | None = None) -> None:
        self._processes = processes
        self._starter = starter
        self._access = access or RedisAccess()
        self._ports = dict(zip(("redis-1", "redis-2"), free_ports(2), strict=True))
        self._sentinels = dict(zip(_SENTINELS, free_ports(3), strict=True))

    @property
    def address(self) -> str:
        """The URL of the Sentinels, which know the primary."""
        return f"{_scheme(self._access)}+sentinel://{_hosts(self._sentinels.values())}/{_GROUP}/0"

    def start(self) -> None:
        """Start all, and return when the Sentinels know each other and the replica."""
        first, second = self._ports
        self._starter.start([partial(self._server, first, ""), partial(self._server, second, first)])
        self._starter.wait_until_ready("the replica of Redis", partial(self._check_replica, self._ports[first]))
        # After that: a Sentinel asks for replicas when it starts, and then every ten seconds only.
        self._starter.start([partial(self._sentinel, name, first) for name in self._sentinels])
        self._starter.wait_until_ready("Redis under Sentinel", self.check)

    def primary(self) -> str:
        """Return the name of the server that the Sentinels hold for the primary."""
        with closing(self._access.client(next(iter(self._sentinels.values())))) as sentinel:
            _, port = sentinel.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", _GROUP)
        return next(name for name, own in self._ports.items() if own == int(port))

    def rejoin(self, name: str) -> None:
        """Start a server that was killed; the Sentinels make it a replica of the primary."""
        other = next(one for one in self._ports if one != name)
        self._starter.start([partial(self._server, name, other)])
        self._starter.wait_until_ready("Redis under Sentinel", self.check)

    def check(self) -> None:
        """Return when the primary has its replica, and each Sentinel knows both and the other two Sentinels."""
        for port in self._sentinels.values():
            with closing(self._access.client(port)) as sentinel:
                state = sentinel.execute_command("SENTINEL", "MASTER", _GROUP)
            others, replicas = int(state["num-other-sentinels"]), int(state["num-slaves"])
            if others != len(_SENTINELS) - 1 or not replicas or state["flags"] != "master":
                raise ConnectionError("a Sentinel does not know all servers yet")
        self._check_replica(self._ports[self.primary()])

    def _check_replica(self, port: int) -> None:
        """Return when the server on this port is a primary with a replica that has its data."""
        with closing(self._access.client(port)) as server:
            if not _has_replica(server):
                raise ConnectionError("the primary has no replica yet")

    def _server(self, name: str, primary: str) -> ProgramSpec:
        follow = ("--replicaof", "127.0.0.1", str(self._ports[primary])) if primary else ()
        return _program(self._processes, self._access, name, self._ports[name], follow)

    def _sentinel(self, name: str, primary: str) -> ProgramSpec:
        config = self._processes.data(name) / "sentinel.conf"
        if not config.exists():
            config.write_text(f"""\
bind 127.0.0.1
sentinel monitor {_GROUP} 127.0.0.1 {self._ports[primary]} 2
sentinel down-after-milliseconds {_GROUP} {_DOWN_AFTER_MS}
sentinel failover-timeout {_GROUP} 5000
""")
            with config.open("a") as file:
                file.writelines(f"{line.format(group=_GROUP)}\n" for line in self._access.sentinel_lines)
        port = self._sentinels[name]
        return ProgramSpec(
            name=name,
            # Sentinel writes what it learns into its configuration.
            command=(
                str(self._access.server),
                str(config),
                "--sentinel",
                *self._access.listen_options(port),
                *self._access.server_options,
            ),
            ports=(port,),
            check_ready=partial(self._access.ping, port),
        )


class RedisCluster:
    """Three primaries and three replicas, named redis-node-1 to redis-node-6."""

    def __init__(self, processes: Processes, starter: Starter, access: RedisAccess | None = None) -> None:
        self._processes = processes
        self._starter = starter
        self._access = access or RedisAccess()
        self._ports = dict(zip(_NODES, free_cluster_ports(len(_NODES)), strict=True))

    @property
    def address(self) -> str:
        """The URL of all nodes, one of which must answer."""
        return f"{_scheme(self._access)}+cluster://{_hosts(self._ports.values())}"

    def start(self) -> None:
        """Start all nodes, make them a cluster, and return when it is complete."""
        self._starter.start([partial(self._node, name) for name in _NODES])
        nodes = [f"127.0.0.1:{port}" for port in self._ports.values()]
        command = [str(self._access.command_line), *self._access.command_line_options, "--cluster", "create", *nodes]
        made = subprocess.run(
            [*command, "--cluster-replicas", "1", "--cluster-yes"], capture_output=True, text=True, check=False
        )
        if made.returncode != 0:
            raise StartError(f"the nodes did not become a cluster\n{made.stdout}{made.stderr}")
        self._starter.wait_until_ready("the cluster", self.check)

    def primary(self) -> str:
        """Return the name of a node that takes writes: the one that has the first slot."""
        for port in self._ports.values():
            with suppress(OSError), closing(self._access.client(port)) as node:
                slots = node.execute_command("CLUSTER", "SLOTS")
                owner = next(owner for first, _, (_, owner, *_), *_ in slots if first == 0)
                return next(one for one, own in self._ports.items() if own == owner)
        raise ConnectionError("no node of the cluster answers")

    def rejoin(self, name: str) -> None:
        """Start a node that was killed, which follows the one that took its place."""
        self._starter.start([partial(self._node, name)])
        self._starter.wait_until_ready("the cluster", self.check)

    def check(self) -> None:
        """Return when each node finds the cluster complete, and each primary has its replica."""
        with_replica = 0
        for port in self._ports.values():
            with closing(self._access.client(port)) as node:
                if "cluster_state:ok" not in node.execute_command("CLUSTER", "INFO"):
                    raise ConnectionError("the cluster is not complete yet")
                with_replica += _has_replica(node)
        if with_replica < len(_NODES) // 2:
            raise ConnectionError("a primary has no replica yet")

    def _node(self, name: str) -> ProgramSpec:
        options = {
            "--cluster-enabled": "yes",
            "--cluster-config-file": "nodes.conf",
            "--cluster-node-timeout": str(_DOWN_AFTER_MS),
        }
        more = [part for pair in options.items() for part in pair]
        return _program(self._processes, self._access, name, self._ports[name], more)


def _program(processes: Processes, access: RedisAccess, name: str, port: int, more: Sequence[str]) -> ProgramSpec:
    options = {
        "--bind": "127.0.0.1",
        "--dir": str(processes.data(name)),
        "--appendonly": "yes",
        "--save": "",
        "--repl-diskless-sync": "yes",
        "--repl-diskless-sync-delay": "0",
    }
    return ProgramSpec(
        name=name,
        command=(
            str(access.server),
            *(part for pair in options.items() for part in pair),
            *access.listen_options(port),
            *access.server_options,
            *access.replication_options,
            *more,
        ),
        ports=(port,),
        check_ready=partial(access.ping, port),
    )


def _has_replica(server: Any) -> bool:
    replication = server.info("replication")
    return bool(replication["role"] == "master" and replication.get("slave0", {}).get("state") == "online")


def _scheme(access: RedisAccess) -> str:
    return "rediss" if access.is_tls else "redis"


def _hosts(ports: Iterable[int]) -> str:
    return ",".join(f"127.0.0.1:{port}" for port in ports)
