"""Kafka, PostgreSQL and Redis: how to run each, its address, and its readiness check."""

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from services.chassis.server_settings import addresses, check_postgres_url, check_redis_url
from services.chassis.settings import Secret
from stack.kafka import check_kafka, kafka_program
from stack.kafka_tls import KafkaTls
from stack.ports import Ports
from stack.postgres import check_postgres, postgres_program, postgres_url
from stack.processes import Processes
from stack.program import ProgramSpec, StartupProgress
from stack.redis import check_redis, redis_program, redis_url
from stack.secure_files import KAFKA_USERS, REDIS_USER, SecureFiles
from stack.topics import BROKER_DEFAULT

SERVERS = ("kafka", "postgres", "redis")

# A server whose address is given is not started.
ADDRESS_VARIABLES = {"kafka": "TOCSIN_KAFKA", "postgres": "TOCSIN_POSTGRES", "redis": "TOCSIN_REDIS"}

# As the services check them.
_CHECKS: Mapping[str, Callable[[str], None]] = {
    "kafka": addresses,
    "postgres": lambda address: check_postgres_url(Secret(address)),
    "redis": lambda address: check_redis_url(Secret(address)),
}
_SECRETS = re.compile(r"(?<=://).*@|^(?!.*://).*@|(?<=\?).*")

# On how many brokers the partitions of new topics are.
REPLICAS_VARIABLE = "TOCSIN_KAFKA_REPLICAS"


@dataclass(frozen=True, slots=True, kw_only=True)
class Addresses:
    """Where the three servers listen."""

    kafka: str
    postgres: str
    redis: str


def local_addresses(ports: Ports, *, secure: bool = False) -> Addresses:
    """Return the addresses of servers started here; secure ones ask for a password beside."""
    return Addresses(
        kafka=f"127.0.0.1:{ports.kafka}",
        postgres=postgres_url(ports),
        redis=redis_url(ports, user=REDIS_USER if secure else ""),
    )


def external_addresses(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the addresses of servers that somebody else runs, by name; raise ValueError for what is no address."""
    given = {name: environ[variable] for name, variable in ADDRESS_VARIABLES.items() if environ.get(variable)}
    for name, address in given.items():
        try:
            _CHECKS[name](address)
        except ValueError as error:
            shown = _SECRETS.sub("…", address)
            raise ValueError(f'{ADDRESS_VARIABLES[name]} {error}, found "{shown}"') from None
    return given


def topic_replicas(environ: Mapping[str, str] = os.environ) -> int:
    """Return on how many brokers the partitions of new topics are: those of a Kafka that somebody else runs.

    Raise ValueError for a value that is no number of brokers.
    """
    text = environ.get(REPLICAS_VARIABLE) or ""
    if text and not (text.isdecimal() and int(text)):
        raise ValueError(f"{REPLICAS_VARIABLE}: found {text}, expected a number of brokers such as 3")
    return int(text) if text else BROKER_DEFAULT


def server_program(
    name: str,
    processes: Processes,
    ports: Ports,
    progress: StartupProgress,
    *,
    durable: bool = True,
    secure: SecureFiles | None = None,
) -> ProgramSpec:
    """Prepare a server's folder, which takes seconds on the first start, and return how to run it."""
    match name:
        case "kafka":
            tls = None if secure is None else KafkaTls(files=secure.kafka, users=KAFKA_USERS)
            return kafka_program(processes, ports, progress, tls=tls)
        case "postgres":
            return postgres_program(processes, ports, durable=durable, secure=secure)
        case "redis":
            return redis_program(processes, ports, secure)
        case _:
            raise ValueError(f"there is no server called {name}")


def check_server(name: str, address: str) -> None:
    """Return when the server at this address is ready; raise what its client raises while it is not."""
    match name:
        case "kafka":
            check_kafka(address)
        case "postgres":
            check_postgres(address)
        case "redis":
            check_redis(address)
        case _:
            raise ValueError(f"there is no server called {name}")
