"""Servers and whole systems for tests and benchmarks: on free ports, stopped when their starter has ended.

The servers' data may be lost when the machine itself crashes.
"""

import dataclasses
import json
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from types import MappingProxyType

from stack.guard import guarded
from stack.kafka import check_topics_kept
from stack.ports import Ports
from stack.postgres import create_database, drop_database, with_database
from stack.processes import Processes
from stack.program import StartupProgress
from stack.servers import SERVERS, Addresses, external_addresses, local_addresses, server_program
from stack.starter import Starter
from stack.system import System
from stack.topics import create_topics, delete_topics
from stack.wiring import Wiring, sockets_folder

_NO_SETTINGS: Mapping[str, str] = MappingProxyType({})
_FILE = "addresses.json"


class Servers:
    """The servers of one test run; each starts when its address is needed first."""

    def __init__(self, folder: Path, progress: StartupProgress) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._processes = Processes(folder)
        self._ports = Ports.free()
        self._progress = progress
        self._starter = Starter(self._processes, progress)
        self._started: set[str] = set()
        self._guard = ExitStack()
        self._guard.enter_context(guarded(folder))

    def address(self, name: str) -> str:
        """Return a server's address; the first caller waits until the server is ready."""
        self.start(name)
        return str(getattr(self.addresses, name))

    def start(self, *names: str) -> None:
        """Start these together, except those that run already."""
        missing = [name for name in names if name not in self._started]
        settings = (self._processes, self._ports, self._progress)
        self._starter.start([partial(server_program, name, *settings, durable=False) for name in missing])
        self._started.update(missing)

    @property
    def addresses(self) -> Addresses:
        """The servers' addresses, once they are started."""
        return local_addresses(self._ports)

    def kill(self, name: str) -> None:
        """Kill a server as a crash would; `start` brings it back with its data, on the same port."""
        self._started.discard(name)
        self._processes.kill(name)

    def create_topics(self, prefix: str) -> None:
        """Return when the topics exist, and keep their records also when Kafka is killed."""
        create_topics(self.address("kafka"), prefix)
        self._starter.wait_until_ready("kafka", partial(check_topics_kept, self._processes, prefix))

    def stop(self) -> None:
        """Stop what was started and remove the data."""
        # It would write for seconds what nobody reads.
        with suppress(ProcessLookupError):
            self._processes.kill("kafka")
        self._starter.stop(self._processes.running())
        self._guard.close()
        shutil.rmtree(self._processes.folder, ignore_errors=True)

    def start_shared(self) -> None:
        """Start all, and write their addresses to a file, so that other test runs can use them."""
        self.start(*SERVERS)
        text = json.dumps(dataclasses.asdict(self.addresses), indent=2)
        (self._processes.folder / _FILE).write_text(text + "\n")


def read_addresses(folder: Path) -> Addresses:
    """Return the addresses of the servers of another run."""
    return Addresses(**json.loads((folder / _FILE).read_text()))


def fresh_name() -> str:
    """Return a name that no other test has, valid for a database and as a prefix of topics."""
    return f"t{uuid.uuid4().hex[:10]}"


@contextmanager
def isolated_wiring(servers: Addresses) -> Iterator[Wiring]:
    """Give a database, topics and keys that nobody else uses on these servers, removed afterwards."""
    name = fresh_name()
    prefix = f"{name}."
    create_database(servers.postgres, name)
    create_topics(servers.kafka, prefix)
    own = dataclasses.replace(servers, postgres=with_database(servers.postgres, name))
    # Who runs a server says as whom the services log in.
    external = {"postgres": own.postgres} if "postgres" in external_addresses() else {}
    yield Wiring(addresses=own, ports=Ports.free(), topic_prefix=prefix, redis_prefix=prefix, external=external)
    # Not after a failed run: servers that it has broken would raise too and hide its failure.
    delete_topics(servers.kafka, prefix)
    drop_database(servers.postgres, name)


@contextmanager
def temporary_system(
    wiring: Wiring,
    folder: Path,
    progress: StartupProgress,
    *,
    otlp: str = "",
    settings: Mapping[str, str] = _NO_SETTINGS,
) -> Iterator[System]:
    """Start a system, and stop it at the end; `settings` are further ones of services, under their full names."""
    folder.mkdir(parents=True, exist_ok=True)
    processes = Processes(folder)
    configured = dataclasses.replace(wiring, otlp=otlp, settings=settings, sockets=sockets_folder(folder))
    system = System(processes, configured, Starter(processes, progress))
    with guarded(folder):
        try:
            system.start()
            yield system
        finally:
            system.stop()
