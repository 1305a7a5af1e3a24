"""A whole system for a test or a measurement: on free ports, apart from others on the same servers, gone afterwards."""

import dataclasses
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType

from stack.guard import guarded
from stack.ports import Ports
from stack.postgres import create_database, drop_database, in_database
from stack.processes import Processes
from stack.servers import Addresses, Progress
from stack.shared import fresh_name
from stack.starting import Starter
from stack.system import System
from stack.topics import create_topics, delete_topics
from stack.wiring import Wiring

_NONE: Mapping[str, str] = MappingProxyType({})


@contextmanager
def own_corner(servers: Addresses) -> Iterator[Wiring]:
    """Give a database, topics and keys of one's own on these servers, removed afterwards."""
    name = fresh_name()
    prefix = f"{name}."
    create_database(servers.postgres, name)
    create_topics(servers.kafka, prefix)
    own = dataclasses.replace(servers, postgres=in_database(servers.postgres, name))
    yield Wiring(addresses=own, ports=Ports.free(), topic_prefix=prefix, redis_prefix=prefix)
    # Only after a run that went well: servers that a failed one has broken would hide its failure behind theirs.
    delete_topics(servers.kafka, prefix)
    drop_database(servers.postgres, name)


@contextmanager
def trial_system(
    wiring: Wiring, folder: Path, progress: Progress, *, otlp: str = "", settings: Mapping[str, str] = _NONE
) -> Iterator[System]:
    """Start a system, and stop it in the end; `settings` are further ones of services, under their full names."""
    folder.mkdir(parents=True, exist_ok=True)
    processes = Processes(folder)
    connected = dataclasses.replace(wiring, otlp=otlp, settings=settings)
    system = System(processes, connected, Starter(processes, progress))
    with guarded(folder):
        try:
            system.start()
            yield system
        finally:
            system.stop()
