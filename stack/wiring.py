"""What connects the parts of one system: addresses, ports and names, and the settings that follow from them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from stack.ports import Ports
from stack.servers import Addresses

SERVICES = ("ingest", "evaluator", "manager", "notifier")

ROOT = Path(__file__).resolve().parent.parent
_ROUTES = ROOT / "services" / "notifier" / "routes.example.yaml"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wiring:
    """What connects the parts of one system, and keeps two systems on the same servers apart."""

    addresses: Addresses
    ports: Ports
    otlp: str = ""
    topic_prefix: str = ""
    redis_prefix: str = ""
    # Where notifications go; without it the example's routes, leading to the local sinks.
    routes: Path | None = None
    # Further settings of services, under their full names.
    settings: Mapping[str, str] = field(default_factory=dict)


def service_environ(name: str, wiring: Wiring, folder: Path) -> dict[str, str]:
    """Give the settings of a service, as its environment carries them."""
    common = {
        "LISTEN": f"127.0.0.1:{getattr(wiring.ports, name)}",
        "ADMIN_LISTEN": f"127.0.0.1:{getattr(wiring.ports, f'{name}_admin')}",
        "INSTANCE": f"{name}-1",
        "OTLP": wiring.otlp,
        "BROKERS": wiring.addresses.kafka,
        "TOPIC_PREFIX": wiring.topic_prefix,
    }
    own: dict[str, dict[str, str]] = {
        "ingest": {},
        "evaluator": {
            "MANAGER_TARGET": f"127.0.0.1:{wiring.ports.mesh}",
            "CACHE_DIR": str(folder),
        },
        "manager": {
            "DATABASE_URL": wiring.addresses.postgres,
            "REDIS_URL": wiring.addresses.redis,
            "REDIS_PREFIX": wiring.redis_prefix,
        },
        "notifier": {
            "DATABASE_URL": wiring.addresses.postgres,
            "ROUTES": str(wiring.routes or _ROUTES),
        },
    }
    return {f"{name.upper()}_{key}": value for key, value in (common | own[name]).items()}


def gateway_environ(wiring: Wiring, access_log: Path) -> dict[str, str]:
    """Give Envoy's settings, as its environment carries them."""
    ports = wiring.ports
    settings: dict[str, object] = {
        "EDGE_PORT": ports.edge,
        "EVALUATOR_PORT": ports.edge_evaluator,
        "MANAGER_PORT": ports.edge_manager,
        "NOTIFIER_PORT": ports.edge_notifier,
        "MESH_PORT": ports.mesh,
        "ADMIN_PORT": ports.envoy_admin,
        "OTLP": wiring.otlp,
        "ACCESS_LOG": access_log,
    }
    for name in SERVICES:
        settings[name.upper()] = f"127.0.0.1:{getattr(ports, name)}"
        settings[f"{name.upper()}_ADMIN"] = f"127.0.0.1:{getattr(ports, f'{name}_admin')}"
    return {f"GATEWAY_{key}": str(value) for key, value in settings.items()}
