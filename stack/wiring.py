"""What connects the parts of one system: addresses, ports and prefixes, and the settings of each program from them."""

import json
import os
import ssl
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Self

from services.chassis.settings import MAX_SOCKET_PATH_BYTES
from stack.ports import Ports
from stack.postgres import as_user
from stack.secure_files import SecureFiles
from stack.servers import ADDRESS_VARIABLES, Addresses, local_addresses
from stack.start_options import StartOptions

SERVICES = ("ingest", "evaluator", "manager", "notifier")

_FILE = "system.json"
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
    # Where notifications go; None: the example's routes, which lead to the local sinks.
    routes: Path | None = None
    # Whether the local sinks run beside a routes file too.
    sinks: bool = False
    # Further settings of services, under their full names.
    settings: Mapping[str, str] = field(default_factory=dict)
    # Settings of services where none are given, likewise.
    defaults: Mapping[str, str] = field(default_factory=dict)
    # Servers that somebody else runs, by name; their addresses are in `addresses` too.
    external: Mapping[str, str] = field(default_factory=dict)
    # With certificates, keys and passwords; None: plaintext, on the loopback interface.
    secure: SecureFiles | None = None
    # The folder of Unix sockets between Envoy and ingest; None: events take the way of all other calls.
    sockets: Path | None = None
    # A check of each variable that the routes file names: it shows that a value has changed, and not the value.
    routes_checks: Mapping[str, str] = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        """Write this wiring into the system's folder."""
        record = {
            "addresses": asdict(self.addresses),
            "ports": asdict(self.ports),
            "otlp": self.otlp,
            "routes": None if self.routes is None else str(self.routes),
            "sinks": self.sinks,
            "secure": self.secure is not None,
            "settings": dict(self.settings),
            "defaults": dict(self.defaults),
            "external": dict(self.external),
            "routes_checks": dict(self.routes_checks),
        }
        path = folder / _FILE
        path.touch(mode=0o600)  # an address may carry a password
        path.write_text(json.dumps(record, indent=2) + "\n")

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Return the wiring of the system that was last started in this folder."""
        record = json.loads((folder / _FILE).read_text())
        addresses, ports = Addresses(**record["addresses"]), Ports(**record["ports"])
        routes = Path(record["routes"]) if record["routes"] else None
        local = asdict(local_addresses(ports))
        elsewhere = {name: one for name, one in record["addresses"].items() if one != local[name]}
        return cls(
            addresses=addresses,
            ports=ports,
            otlp=record["otlp"],
            routes=routes,
            # An earlier version did not write these.
            sinks=bool(record.get("sinks")),
            secure=SecureFiles(home=folder) if record.get("secure") else None,
            sockets=sockets_folder(folder),
            settings=record.get("settings", {}),
            defaults=record.get("defaults", {}),
            external=record.get("external", elsewhere),
            routes_checks=record.get("routes_checks", {}),
        )

    @property
    def ingest_socket(self) -> Path | None:
        """Where Envoy reaches ingest for events, which come in bulk: TCP, HTTP/2 and TLS are most of the cost."""
        return None if self.sockets is None else self.sockets / f"ingest-{self.ports.ingest}.sock"

    def client_context(self) -> ssl.SSLContext | None:
        """Return what the stack's own programs connect to the system with; None: plaintext."""
        return None if self.secure is None else self.secure.client_context()

    @property
    def options(self) -> StartOptions:
        """Return the options that a later start keeps."""
        return StartOptions(otlp=self.otlp, routes=self.routes, sinks=self.sinks, secure=self.secure is not None)

    @property
    def variables(self) -> dict[str, str]:
        """Return all that a later start keeps, as the variables that say it."""
        servers = {ADDRESS_VARIABLES[name]: address for name, address in self.external.items()}
        return {**self.options.variables, **self.ports.moved, **servers, **self.settings}


def stored_wiring(folder: Path) -> Wiring:
    """Return the wiring of the last start in this folder; the documented one when there was none."""
    try:
        return Wiring.read(folder)
    except (OSError, ValueError, KeyError, TypeError):
        return Wiring(addresses=local_addresses(Ports()), ports=Ports(), sockets=sockets_folder(folder))


def sockets_folder(folder: Path) -> Path | None:
    """Return where the Unix sockets of a folder's system are; None: their paths would be too long."""
    path = folder.absolute() / "sockets"
    return path if len(f"{path}/ingest-65535.sock".encode()) <= MAX_SOCKET_PATH_BYTES else None


def service_environ(name: str, wiring: Wiring, folder: Path) -> dict[str, str]:
    """Return the settings of a service, as environment variables."""
    common = {
        "LISTEN": f"127.0.0.1:{getattr(wiring.ports, name)}",
        "ADMIN_LISTEN": f"127.0.0.1:{getattr(wiring.ports, f'{name}_admin')}",
        "INSTANCE": f"{name}-1",
        "OTLP": wiring.otlp,
        "BROKERS": wiring.addresses.kafka,
        "TOPIC_PREFIX": wiring.topic_prefix,
    }
    own: dict[str, dict[str, str]] = {
        "ingest": {"MANAGER_TARGET": f"127.0.0.1:{wiring.ports.mesh}"},
        "evaluator": {
            "MANAGER_TARGET": f"127.0.0.1:{wiring.ports.mesh}",
            "CACHE_DIR": str(folder),
        },
        "manager": {
            "NOTIFIER_TARGET": f"127.0.0.1:{wiring.ports.mesh}",
            "INGEST_TARGET": f"127.0.0.1:{wiring.ports.mesh}",
            **_database(name, wiring),
            "REDIS_URL": wiring.addresses.redis,
            "REDIS_PREFIX": wiring.redis_prefix,
        },
        "notifier": {
            "MANAGER_TARGET": f"127.0.0.1:{wiring.ports.mesh}",
            **_database(name, wiring),
            "ROUTES": str(wiring.routes or _ROUTES),
        },
    }
    if wiring.ingest_socket is not None:
        own["ingest"]["GATEWAY_SOCKET"] = str(wiring.ingest_socket)
    environ = {f"{name.upper()}_{key}": value for key, value in (common | own[name]).items()}
    if wiring.secure is None:
        return environ
    return environ | wiring.secure.service_environ(name) | _server_logins(name, wiring, wiring.secure)


def database_environ(wiring: Wiring) -> dict[str, str]:
    """Return how the manager reaches its database, as environment variables."""
    environ = service_environ("manager", wiring, Path())
    return {name: value for name, value in environ.items() if "_DATABASE_" in name}


def _database(name: str, wiring: Wiring) -> dict[str, str]:
    """Return whom a service logs in as: where the server is ours, a user with no rights, who is created by another."""
    owner = wiring.addresses.postgres
    if "postgres" in wiring.external:
        return {"DATABASE_URL": owner}
    return {"DATABASE_URL": as_user(owner, name), "MIGRATION_DATABASE_URL": owner}


def _server_logins(name: str, wiring: Wiring, secure: SecureFiles) -> dict[str, str]:
    """Return how a service proves who it is to the servers that are started here."""
    own = secure.certificate(name)
    files = {"kafka": {"KAFKA_CA": own.ca, "KAFKA_CERTIFICATE": own.certificate, "KAFKA_KEY": own.key}}
    if name in {"manager", "notifier"}:
        files["postgres"] = {
            "DATABASE_PASSWORD_FILE": secure.service_password(name),
            "MIGRATION_DATABASE_PASSWORD_FILE": secure.postgres_password,
        }
    if name == "manager":
        files["redis"] = {"REDIS_PASSWORD_FILE": secure.redis_password}
    return {
        f"{name.upper()}_{setting}": str(path)
        for server, settings in files.items()
        if server not in wiring.external
        for setting, path in settings.items()
    }


def gateway_environ(wiring: Wiring, access_log: Path) -> dict[str, str]:
    """Return Envoy's settings, as environment variables."""
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
    if wiring.ingest_socket is not None:
        settings["INGEST_SOCKET"] = wiring.ingest_socket
    environ = {f"GATEWAY_{key}": str(value) for key, value in settings.items()}
    if wiring.secure is None:
        return environ
    return environ | wiring.secure.gateway_environ()


def python_environ() -> dict[str, str]:
    """Return what every Python program of the system needs, whatever the starter's environment contains."""
    no_proxy = [*filter(None, [os.environ.get("no_proxy")]), "127.0.0.1", "localhost"]
    return {
        # This tree's code, whichever tree the environment's editable install points at.
        "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'gen'}",
        "PYTHONUNBUFFERED": "1",
        # Compiled modules are written: to compile them anew takes a service a quarter of its start.
        "PYTHONDONTWRITEBYTECODE": "",
        # gRPC would use a configured proxy for addresses of this machine.
        "no_proxy": ",".join(no_proxy),
    }
