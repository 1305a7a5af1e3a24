"""Two instances of each service behind two Envoys, on servers of which any one may be lost."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import partial
from pathlib import Path

from stack.envoy_drain import drain_envoy
from stack.first_key import create_first_key
from stack.guard import guarded
from stack.ports import Ports
from stack.processes import Processes
from stack.program import ProgramSpec, StartupProgress
from stack.readiness import check_gateway
from stack.replicas.kafka import KafkaBrokers
from stack.replicas.postgres import PostgresPair
from stack.replicas.redis import RedisCluster, RedisUnderSentinel
from stack.secure_files import SecureFiles, present_time, write_secret
from stack.servers import Addresses
from stack.starter import Starter
from stack.system import envoy_program, system_program
from stack.topics import create_topics
from stack.wiring import SERVICES, Wiring, sockets_folder

INSTANCES = (1, 2)
_REPLICAS = 3
_IN_SYNC_TIMEOUT = timedelta(seconds=60)


class ReplicatedServers:
    """Three Kafka brokers, a PostgreSQL pair, Redis under Sentinel for one manager and as a cluster for the other."""

    def __init__(self, processes: Processes, progress: StartupProgress) -> None:
        self._starter = Starter(processes, progress)
        self.kafka = KafkaBrokers(processes, progress)
        self.postgres = PostgresPair(processes, self._starter)
        self.redis = RedisUnderSentinel(processes, self._starter)
        self.redis_cluster = RedisCluster(processes, self._starter)

    def addresses(self) -> dict[int, Addresses]:
        """Return where they are, for the services of each number."""
        # Redis is a cache: what the managers have there may differ.
        redis = dict(zip(INSTANCES, (self.redis.address, self.redis_cluster.address), strict=True))
        kafka, postgres = self.kafka.address, self.postgres.address
        return {number: Addresses(kafka=kafka, postgres=postgres, redis=url) for number, url in redis.items()}

    def start(self) -> None:
        """Start all, and create the topics."""
        self.postgres.start()
        self.redis.start()
        self.redis_cluster.start()
        self._starter.start(self.kafka.factories())
        self._starter.wait_until_ready("the brokers", self.kafka.check_joined)
        create_topics(self.kafka.address, replicas=_REPLICAS)

    def start_broker(self, name: str) -> None:
        """Start a broker that was killed, and return when it has all that the others have."""
        self._starter.start([partial(self.kafka.program, name)])
        self._starter.wait_until_ready("the brokers", self.kafka.check_in_sync, _IN_SYNC_TIMEOUT)


class ReplicatedSystem:
    """The services, named ingest-1, ingest-2 and so on, behind envoy-1 and envoy-2."""

    def __init__(
        self,
        processes: Processes,
        addresses: Mapping[int, Addresses],
        progress: StartupProgress,
        secure: SecureFiles | None = None,
    ) -> None:
        self._processes = processes
        self._starter = Starter(processes, progress)
        self.ports = {number: Ports.free() for number in INSTANCES}
        self._addresses = addresses
        self.secure = secure

    @property
    def edges(self) -> list[int]:
        """The ports of the Envoys towards clients."""
        return [self.ports[number].edge for number in INSTANCES]

    def start(self) -> None:
        """Start all, and return when each Envoy finds every instance healthy."""
        self._starter.start([self._factory("sinks", 1), *(self._factory("envoy", number) for number in INSTANCES)])
        self._starter.start([self._factory(service, number) for service in SERVICES for number in INSTANCES])
        self.wait_until_reachable()
        if self.secure is not None:
            key = create_first_key({"MANAGER_DATABASE_URL": self._addresses[1].postgres}, name="exercise")
            write_secret(self.secure.admin_key, key.text)

    def wait_until_reachable(self) -> None:
        """Return when each Envoy finds every instance healthy."""
        context = None if self.secure is None else self.secure.client_context()
        for number in INSTANCES:
            check = partial(check_gateway, self.ports[number], context)
            self._starter.wait_until_ready(f"all behind envoy-{number}", check)

    def kill(self, name: str) -> None:
        """End a program as a crash would."""
        self._processes.kill(name)

    def start_one(self, name: str) -> None:
        """Start what was killed."""
        program, number = name.rsplit("-", 1)
        self._starter.start([self._factory(program, int(number))])

    def restart_node(self, number: int) -> None:
        """Stop all instances of this number in good order, as before the machine's restart, and start them again."""
        ports = self.ports[number]
        drain_envoy(ports.envoy_admin, ports.edge)
        names = [f"{program}-{number}" for program in (*SERVICES, "envoy")]
        self._starter.stop([running for running in self._processes.running() if running.name in names])
        self._starter.start([self._factory("envoy", number)])
        self._starter.start([self._factory(service, number) for service in SERVICES])
        self.wait_until_reachable()

    def _factory(self, program: str, number: int) -> Callable[[], ProgramSpec]:
        return partial(self._program, program, number)

    def _program(self, program: str, number: int) -> ProgramSpec:
        if program == "sinks":
            return system_program(program, self._processes, self._wiring(number, {}))
        name = f"{program}-{number}"
        if program == "envoy":
            return envoy_program(self._processes, self._wiring(number, self._upstreams()), name)
        settings = {f"{program.upper()}_INSTANCE": name}
        if program == "evaluator":
            settings["EVALUATOR_CACHE_DIR"] = str(self._processes.data(name))
        return dataclasses.replace(system_program(program, self._processes, self._wiring(number, settings)), name=name)

    def _wiring(self, number: int, settings: Mapping[str, str]) -> Wiring:
        sinks = {"sinks": self.ports[1].sinks, "sinks_smtp": self.ports[1].sinks_smtp}
        ports = dataclasses.replace(self.ports[number], **sinks)
        # The servers know no certificates and passwords.
        return Wiring(
            addresses=self._addresses[number],
            ports=ports,
            settings=settings,
            external=dataclasses.asdict(self._addresses[number]),
            secure=self.secure,
            sockets=sockets_folder(self._processes.folder),
        )

    def _upstreams(self) -> dict[str, str]:
        sockets = ",".join(str(self._wiring(number, {}).ingest_socket) for number in self.ports)
        return {"GATEWAY_INGEST_SOCKET": sockets} | {
            f"GATEWAY_{name.upper()}": ",".join(f"127.0.0.1:{getattr(ports, name)}" for ports in self.ports.values())
            for service in SERVICES
            for name in (service, f"{service}_admin")
        }


@contextmanager
def replicated_system(
    folder: Path, progress: StartupProgress, *, is_secure: bool = False
) -> Iterator[tuple[ReplicatedServers, ReplicatedSystem]]:
    """Start servers and services, and stop all of them at the end, also when the caller is killed.

    With `is_secure` the services and Envoys have certificates, and callers need a key.
    """
    folder.mkdir(parents=True, exist_ok=True)
    secure = SecureFiles(home=folder) if is_secure else None
    if secure is not None:
        secure.prepare(present_time())
    processes = Processes(folder)
    with guarded(folder):
        servers = ReplicatedServers(processes, progress)
        try:
            servers.start()
            system = ReplicatedSystem(processes, servers.addresses(), progress, secure)
            system.start()
            yield servers, system
        finally:
            brokers = servers.kafka.names
            Starter(processes, progress).stop(one for one in processes.running() if one.name not in brokers)
            # One after the other they would wait for those that have stopped before.
            for name in brokers:
                with suppress(ProcessLookupError):
                    processes.kill(name)
