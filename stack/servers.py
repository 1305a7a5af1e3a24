"""Kafka, PostgreSQL and Redis: how to start each on its port, and where each then answers."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from stack import kafka, postgres, redis
from stack.ports import Ports
from stack.processes import Processes
from stack.program import Program

Progress = Callable[[str], None]

SERVERS = ("kafka", "postgres", "redis")

# Whoever has such a server already says where it is, and none is started.
VARIABLES = {"kafka": "TOCSIN_KAFKA", "postgres": "TOCSIN_POSTGRES", "redis": "TOCSIN_REDIS"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Addresses:
    """Where the three servers answer."""

    kafka: str
    postgres: str
    redis: str


def local(ports: Ports) -> Addresses:
    """Give the addresses of servers started here."""
    return Addresses(
        kafka=f"127.0.0.1:{ports.kafka}",
        postgres=postgres.url(ports),
        redis=redis.url(ports),
    )


def given(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Give the addresses of servers that somebody else runs, by name."""
    return {name: environ[variable] for name, variable in VARIABLES.items() if environ.get(variable)}


def program(name: str, processes: Processes, ports: Ports, progress: Progress, *, durable: bool = True) -> Program:
    """Prepare a server's folder, which takes seconds on the first start, and say how to run it."""
    match name:
        case "kafka":
            return kafka.program(processes, ports, progress)
        case "postgres":
            return postgres.program(processes, ports, durable=durable)
        case "redis":
            return redis.program(processes, ports)
        case _:
            raise ValueError(f"there is no server called {name}")


def answers(name: str, address: str) -> None:
    """Return when the server at this address answers; raises whatever its client says while it does not."""
    match name:
        case "kafka":
            kafka.answers(address)
        case "postgres":
            postgres.answers(address)
        case "redis":
            redis.answers(address)
        case _:
            raise ValueError(f"there is no server called {name}")
