"""A system of which each part stands more than once, so that it goes on without the one that fails."""

import ssl
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from cli.demo.steps import RestClient
from cli.exercise.calls import calling
from cli.exercise.campaign import InjectedFailure
from stack.local_system import stop_stack
from stack.replicas.system import INSTANCES, ReplicatedServers, ReplicatedSystem, replicated_system
from stack.wiring import SERVICES

_ENVOY = "envoy"
_BROKER, _CONTROLLER = "kafka-broker", "kafka-controller"
_POSTGRES, _REDIS, _REDIS_NODE = "postgres-primary", "redis-primary", "redis-node"
_ROLLING, _MACHINE = "rolling-restart", "machine"
REPLICATED_PARTS = (_BROKER, _CONTROLLER, _POSTGRES, _REDIS, _REDIS_NODE, *SERVICES, _ENVOY, _ROLLING, _MACHINE)
# What stands on one machine; of the servers it is the one that leads.
_ON_ONE_MACHINE = (_CONTROLLER, _POSTGRES, _REDIS, *SERVICES, _ENVOY)
_PROBED_TOPIC = "log-events"


class ReplicatedTarget:
    """The system that is exercised; what failed stays away until alerts flow without it."""

    def __init__(self, servers: ReplicatedServers, system: ReplicatedSystem, report: Callable[[str], None]) -> None:
        self._servers = servers
        self._system = system
        self._report = report
        self._failed: dict[str, str] = {}
        self.brokers = servers.kafka.address
        secure = system.secure
        context = None if secure is None else ssl.create_default_context(cafile=str(secure.ca))
        headers = None if secure is None else secure.edge_headers()
        self.edges: Sequence[RestClient] = [RestClient(f"127.0.0.1:{port}", context, headers) for port in system.edges]
        self.sinks = RestClient(f"127.0.0.1:{system.ports[1].sinks}")

    def fail(self, part: str) -> InjectedFailure:
        """Kill one of several, or restart all of them while clients call."""
        if part == _ROLLING:
            return self._restart_all()
        parts = _ON_ONE_MACHINE if part == _MACHINE else (part,)
        self._failed = {one: self._name(one) for one in parts}
        began = time.monotonic()
        for name in self._failed.values():
            self._system.kill(name)
        if _POSTGRES in parts:
            # What Patroni or an operator does; here it does not count how long that takes to decide.
            self._servers.postgres.promote()
        return InjectedFailure(time=began)

    def restore(self) -> None:
        """Start again what was killed, and return when one more may fail."""
        for one, name in self._failed.items():
            self._restore(one, name)
        self._failed = {}
        self._system.wait_until_reachable()

    def _restore(self, part: str, name: str) -> None:
        if part in (_BROKER, _CONTROLLER):
            self._servers.start_broker(name)
        elif part == _POSTGRES:
            self._servers.postgres.attach_standby()
        elif part == _REDIS:
            self._servers.redis.rejoin(name)
        elif part == _REDIS_NODE:
            self._servers.redis_cluster.rejoin(name)
        else:
            self._system.start_one(name)

    def _name(self, part: str) -> str:
        """Return which program stands for the part."""
        if part == _BROKER:
            return self._servers.kafka.leader(_PROBED_TOPIC)
        if part == _CONTROLLER:
            return self._servers.kafka.controller()
        if part == _POSTGRES:
            return self._servers.postgres.primary
        if part == _REDIS:
            return self._servers.redis.primary()
        if part == _REDIS_NODE:
            return self._servers.redis_cluster.primary()
        return f"{part}-{INSTANCES[0]}"

    def _restart_all(self) -> InjectedFailure:
        with calling(self._system.edges, self._system.secure) as outcomes:
            for number in INSTANCES:
                self._system.restart_node(number)
        self._report(f"{outcomes.calls} calls at {outcomes.rate:.0f} a second: {dict(outcomes.by_status)}")
        return InjectedFailure(time=time.monotonic(), calls=outcomes.calls, failed_calls=outcomes.failed)


@contextmanager
def running_replicas(
    folder: Path, report: Callable[[str], None], *, is_secure: bool = False
) -> Iterator[ReplicatedTarget]:
    """Start a system in an empty folder, and stop it at the end.

    With `is_secure` services and Envoys have certificates, and all calls are made by TLS with a key.
    """
    stop_stack(report, folder=folder, purge=True)
    with replicated_system(folder, report, is_secure=is_secure) as (servers, system):
        yield ReplicatedTarget(servers, system, report)
