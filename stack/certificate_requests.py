"""What a certificate of the small authority says, and where its files are."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from ipaddress import ip_address
from pathlib import Path

from services.chassis.peers import GATEWAY_NAME, TRUST_DOMAIN, service_identity

AUTHORITY_NAME = "ca"
DEFAULT_DAYS = 365
# By which a program on this machine, or in the same container, reaches a server.
LOCAL_NAMES = ("localhost", "127.0.0.1", "::1")
# With a later end, libraries that count seconds in 32 bits fail.
_MAX_DAYS = 3650

_NAME = re.compile(r"[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?")
_HOST = re.compile(
    r"(\*\.)?([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?", re.IGNORECASE
)


class CertificateError(Exception):
    """A certificate cannot be made; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateFiles:
    """The paths of one name's files."""

    certificate: Path
    key: Path
    ca: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuedCertificate:
    """A certificate, its files, and until when it is valid."""

    name: str
    identity: str
    files: CertificateFiles
    expires: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateRequest:
    """What to issue: an identity (empty: none), and host names and addresses of a server (none: of a client)."""

    name: str
    identity: str = ""
    dns: tuple[str, ...] = ()
    days: int = DEFAULT_DAYS
    # The key too is readable to the group of its file, for a program that runs as another user.
    group_readable: bool = False

    def __post_init__(self) -> None:
        """Refuse what no certificate can say."""
        check_word("name", self.name)
        if self.name == AUTHORITY_NAME:
            raise CertificateError(f'name: "{AUTHORITY_NAME}" is the folder of the authority itself')
        if not 1 <= self.days <= _MAX_DAYS:
            raise CertificateError(f"days: found {self.days}, expected 1 to {_MAX_DAYS}")
        if not (self.identity or self.dns):
            raise CertificateError("expected an identity or a host name, found neither")
        for host in self.dns:
            if not (_is_address(host) or _HOST.fullmatch(host)):
                raise CertificateError(f'dns: expected a host name or an address, found "{host}"')


def certificate_files(folder: Path, name: str) -> CertificateFiles:
    """Return where the files of this name are."""
    own = folder / name
    return CertificateFiles(certificate=own / "certificate.pem", key=own / "key.pem", ca=own / "ca.pem")


def service_request(
    service: str, dns: Iterable[str] = (), *, name: str = "", days: int = DEFAULT_DAYS, group_readable: bool = False
) -> CertificateRequest:
    """Return the request of a service of ours; the gateway has the host name by which the others check it."""
    check_word("service", service)
    checked = (GATEWAY_NAME,) if service == "gateway" else ()
    return CertificateRequest(
        name=name or service,
        identity=service_identity(service),
        dns=(*checked, *LOCAL_NAMES, *dns),
        days=days,
        group_readable=group_readable,
    )


def client_request(
    client: str, *, role: str, tenant: str, name: str = "", days: int = DEFAULT_DAYS, group_readable: bool = False
) -> CertificateRequest:
    """Return the request of a person or a program that calls Tocsin."""
    for field, value in (("tenant", tenant), ("role", role), ("client", client)):
        check_word(field, value)
    return CertificateRequest(
        name=name or client,
        identity=f"{TRUST_DOMAIN}/client/{tenant}/{role}/{client}",
        days=days,
        group_readable=group_readable,
    )


def server_request(
    name: str, dns: Iterable[str] = (), *, days: int = DEFAULT_DAYS, group_readable: bool = False
) -> CertificateRequest:
    """Return the request of a server without an identity, such as the edge towards users, or a database."""
    return CertificateRequest(name=name, dns=(*LOCAL_NAMES, *dns), days=days, group_readable=group_readable)


def check_word(field: str, value: str) -> None:
    """Raise CertificateError unless the value can be part of an identity and of a path."""
    if not _NAME.fullmatch(value):
        raise CertificateError(
            f'{field}: expected 1 to 63 of a to z, 0 to 9, and ".", "_", "-" between them, found "{value}"'
        )


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
