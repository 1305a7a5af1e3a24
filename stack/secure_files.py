"""What a system with SECURE=1 has in its folder: certificates, passwords of its servers, and the first key.

Everything is made on the spot, stays for later starts, and is for the owner of the folder alone.
"""

import os
import secrets
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from stack.certificate_requests import (
    CertificateFiles,
    CertificateRequest,
    certificate_files,
    server_request,
    service_request,
)

_SERVICES = ("ingest", "evaluator", "manager", "notifier", "gateway", "prometheus")
_EDGE, _KAFKA = "edge", "kafka"
REDIS_USER = "tocsin"
_DATABASE_USERS = ("manager", "notifier")
# Those who may use Kafka; users of Tocsin have certificates of the same authority.
KAFKA_USERS = (_KAFKA, "ingest", "evaluator", "manager", "notifier")


@dataclass(frozen=True, slots=True, kw_only=True)
class SecureFiles:
    """The files of one system."""

    home: Path

    def certificate(self, name: str) -> CertificateFiles:
        """Return the files of a program's certificate."""
        return certificate_files(self._certificates, name)

    @property
    def edge(self) -> CertificateFiles:
        """The certificate that users see."""
        return self.certificate(_EDGE)

    @property
    def ca(self) -> Path:
        """The authority by which users know the edge."""
        return self.edge.ca

    @property
    def admin_key(self) -> Path:
        """The first key; `tocsin` uses it for this system."""
        return self._secrets / "admin.key"

    @property
    def postgres_password(self) -> Path:
        """The password of PostgreSQL's superuser, who owns the tables."""
        return self._secrets / "postgres.password"

    def service_password(self, service: str) -> Path:
        """Return the password of a service at PostgreSQL."""
        return self._secrets / f"{service}.password"

    @property
    def redis_password(self) -> Path:
        """Redis's password."""
        return self._secrets / "redis.password"

    @property
    def redis_users(self) -> Path:
        """Who may do what in Redis, in its own form."""
        return self._secrets / "redis_users.acl"

    def prepare(self, now: datetime) -> list[str]:
        """Make what is missing or about to expire, and return the names of the certificates that were issued."""
        # Slow to import, and needed by a secure system alone.
        from stack.certificates import ensure_certificates  # noqa: PLC0415

        self._secrets.mkdir(mode=0o700, parents=True, exist_ok=True)
        services = map(self.service_password, _DATABASE_USERS)
        for path in (self.postgres_password, *services):
            ensure_secret(path)
        password = ensure_secret(self.redis_password)
        write_secret(self.redis_users, f"user default off\nuser {REDIS_USER} on >{password} ~* &* +@all -@admin")
        return [one.name for one in ensure_certificates(self._certificates, _requests(), now=now)]

    @property
    def kafka(self) -> CertificateFiles:
        """The certificate of the broker."""
        return self.certificate(_KAFKA)

    def service_environ(self, service: str) -> dict[str, str]:
        """Return the settings by which a service proves who it is, and asks others."""
        files = self.certificate(service)
        common = {
            "AUTHENTICATION": "required",
            "TLS_CERTIFICATE": str(files.certificate),
            "TLS_KEY": str(files.key),
            "TLS_CA": str(files.ca),
        }
        return {f"{service.upper()}_{name}": value for name, value in common.items()}

    def gateway_environ(self) -> dict[str, str]:
        """Return the same settings of Envoy."""
        mesh = self.certificate("gateway")
        return {
            "GATEWAY_AUTHENTICATION": "required",
            "GATEWAY_TLS_CERTIFICATE": str(self.edge.certificate),
            "GATEWAY_TLS_KEY": str(self.edge.key),
            "GATEWAY_TLS_CLIENT_CA": str(self.edge.ca),
            "GATEWAY_MESH_CERTIFICATE": str(mesh.certificate),
            "GATEWAY_MESH_KEY": str(mesh.key),
            "GATEWAY_MESH_CA": str(mesh.ca),
        }

    def client_context(self) -> ssl.SSLContext:
        """Return what a program of the stack connects with: it may read metrics, and trusts the system's authority."""
        context = ssl.create_default_context(cafile=str(self.ca))
        files = self.certificate("prometheus")
        context.load_cert_chain(files.certificate, files.key)
        return context

    def edge_headers(self) -> Mapping[str, str]:
        """Return the headers of a call with the first key; none before it is made."""
        return {"Authorization": f"Bearer {self.admin_key.read_text().strip()}"} if self.admin_key.exists() else {}

    @property
    def _certificates(self) -> Path:
        return self.home / "certificates"

    @property
    def _secrets(self) -> Path:
        return self.home / "secrets"


def ensure_secret(path: Path) -> str:
    """Return the secret in this file, which is made where it is missing."""
    if not path.exists():
        write_secret(path, secrets.token_urlsafe(24))
    return path.read_text().strip()


def write_secret(path: Path, text: str) -> None:
    """Write a file that nobody else can read, in one step."""
    draft = path.with_name(f".{path.name}.draft")
    draft.unlink(missing_ok=True)
    with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:  # noqa: PTH123 - the mode
        file.write(text if text.endswith("\n") else f"{text}\n")
    draft.replace(path)


def present_time() -> datetime:
    """Return the time at which certificates are issued."""
    return datetime.now(UTC)


def _requests() -> list[CertificateRequest]:
    return [*map(service_request, _SERVICES), *map(server_request, (_EDGE, _KAFKA))]
