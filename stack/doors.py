"""The doors of a running system: what a person connects to, and with what."""

from dataclasses import dataclass

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
    return [
        Door(name="database", address=addresses.postgres, example=f"psql {addresses.postgres}"),
        Door(name="Kafka", address=addresses.kafka, example=f"kcat -b {addresses.kafka} -L"),
        Door(name="Redis", address=addresses.redis, example=f"redis-cli -u {addresses.redis}"),
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
