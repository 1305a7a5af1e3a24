"""The doors of a running system: what a person connects to, and with what."""

import json
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

from stack import postgres
from stack.wiring import SERVICES, Wiring


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """One address, and a line to try it with."""

    name: str
    address: str
    example: str


def doors(wiring: Wiring) -> list[Door]:
    """List all doors of this system."""
    return [*service_doors(wiring), *server_doors(wiring)]


def server_doors(wiring: Wiring) -> list[Door]:
    """List where the servers are."""
    addresses = wiring.addresses
    python = Path(sys.executable)
    topics = (
        f"from stack.topics import admin; print(*admin({json.dumps(addresses.kafka)}).list_topics(timeout=5).topics)"
    )
    return [
        _server("database", addresses.postgres, postgres.binary("psql"), addresses.postgres),
        _server("Kafka", addresses.kafka, python, "-c", topics),
        _server("Redis", addresses.redis, python.with_name("redis-cli"), "-u", addresses.redis),
    ]


def service_doors(wiring: Wiring) -> list[Door]:
    """List where services, metrics and sinks are, as Envoy and the services show them."""
    ports = wiring.ports
    edge = f"127.0.0.1:{ports.edge}"
    alone = ports.doors[1:]
    metrics = [f"{name} {getattr(ports, f'{name}_admin')}" for name in SERVICES]
    found = [
        Door(name="REST", address=f"http://{edge}", example=f"curl http://{edge}/api/alert-rules"),
        Door(name="gRPC", address=edge, example=f"grpcurl -plaintext {edge} list"),
        Door(
            name="each service",
            address=", ".join(f"{name} {port}" for name, port in zip(SERVICES[1:], alone, strict=True)),
            example=f"curl http://127.0.0.1:{alone[0]}/health",
        ),
        Door(
            name="metrics",
            address=", ".join(metrics),
            example=f"curl http://127.0.0.1:{ports.ingest_admin}/metrics",
        ),
        Door(
            name="Envoy",
            address=f"http://127.0.0.1:{ports.envoy_admin}",
            example=f"curl http://127.0.0.1:{ports.envoy_admin}/clusters",
        ),
    ]
    if wiring.routes is None:
        sinks = f"http://127.0.0.1:{ports.sinks}"
        found.append(Door(name="local sinks", address=sinks, example=f"curl {sinks}/deliveries"))
    return found


def _server(name: str, address: str, program: Path, *arguments: str) -> Door:
    """With programs that came with the system, since nobody has to have others."""
    here = Path.cwd()
    shown = program.relative_to(here) if program.is_relative_to(here) else program
    return Door(name=name, address=address, example=shlex.join([str(shown), *arguments]))
