"""Certificate, key and authorities of a service: read from files, and read again when these change.

Connections that stand keep what they were opened with; each new one uses what the files say at that moment. Where the
files are wrong, for example between the writing of a key and that of its certificate, the last good ones stay in use.
"""

import ssl
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TypeVar

import grpc
import structlog

from services.chassis.pem import is_key_of, read_certificates, read_private_key
from services.chassis.settings import SettingsError, TlsSettings

log = structlog.get_logger()

_T = TypeVar("_T")
_Versions = tuple[tuple[int, int, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsMaterial:
    """What the files held at one moment; the key is the certificate's."""

    certificate: bytes
    key: bytes
    ca: bytes
    expires: datetime


class TlsFiles:
    """The three files of one service; raises SettingsError where they cannot be used at the start."""

    def __init__(self, settings: TlsSettings) -> None:
        self._settings = settings
        self._paths = tuple(map(Path, (settings.tls_certificate, settings.tls_key, settings.tls_ca)))
        # Why the present files are not used; empty where they are.
        self._refused = ""
        try:
            self._versions = self._read_versions()
            self._material = self._read()
        except ValueError as error:
            raise SettingsError([str(error)]) from None
        except OSError as error:
            raise SettingsError([f"{error.filename}: cannot be read: {error.strerror}"]) from None

    def current(self) -> TlsMaterial:
        """Return what the files hold, or what they held when they were last usable; call it for each connection."""
        try:
            versions = self._read_versions()
            if versions != self._versions:
                # Before they are read: what is written meanwhile has another version, and is read next time.
                self._versions = versions
                self._material = self._read()
                log.info("certificate_renewed", path=str(self._paths[0]), expires=self._material.expires.isoformat())
                self._refused = ""
        except (OSError, ValueError) as error:
            reason = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) else str(error)
            if reason != self._refused:
                log.warning("certificate_refused", reason=reason)
            self._refused = reason
        return self._material

    def load_into(self, context: ssl.SSLContext) -> None:
        """Give an SSL context what the files hold. Raises OSError, of which ssl.SSLError is one."""
        certificate, key, ca = self._paths
        context.load_cert_chain(certificate, key)
        context.load_verify_locations(ca)

    def _read_versions(self) -> _Versions:
        return tuple((stat.st_mtime_ns, stat.st_ino, stat.st_size) for stat in (path.stat() for path in self._paths))

    def _read(self) -> TlsMaterial:
        certificate, key, ca = (path.read_bytes() for path in self._paths)
        chain = self._parsed(0, "certificate", read_certificates, certificate)
        private = self._parsed(1, "key without a password", read_private_key, key)
        self._parsed(2, "certificate", read_certificates, ca)
        if not is_key_of(private, chain[0]):
            raise ValueError(
                f"{self._paths[1]}: expected the key of the certificate in {self._paths[0]}, found another"
            )
        return TlsMaterial(
            certificate=certificate,
            key=key,
            ca=ca,
            expires=chain[0].not_valid_after_utc,
        )

    def _parsed(self, index: int, what: str, parse: Callable[[bytes], _T], data: bytes) -> _T:
        try:
            return parse(data)
        except ValueError:
            raise ValueError(f"{self._paths[index]}: found no {what} in PEM") from None


def server_credentials(files: TlsFiles) -> grpc.ServerCredentials:
    """Return what a gRPC server listens with: it asks each caller for a certificate."""
    served = files.current()

    # Called for each connection, on a thread of gRPC.
    def changed() -> grpc.ServerCertificateConfiguration | None:
        nonlocal served
        present = files.current()
        if present is served:
            return None
        served = present
        return _configuration(present)

    return grpc.dynamic_ssl_server_credentials(
        _configuration(served),
        changed,  # type: ignore[arg-type]  # None keeps the configuration, as its documentation says
        require_client_authentication=True,
    )


def server_context(files: TlsFiles) -> ssl.SSLContext:
    """Return what an HTTPS server listens with: a caller may show a certificate, and then it must be a good one."""
    served = files.current()
    context = first = _context(files)

    def choose(connection: ssl.SSLObject, _name: str | None, _context_before: ssl.SSLContext) -> None:
        nonlocal served, context
        present = files.current()
        if present is not served:
            try:
                context, served = _context(files), present
            except OSError:
                # The files have changed again; the next connection sees it.
                log.warning("certificate_refused", reason="it was replaced while it was read")
        connection.context = context

    # Whether or not the caller names a server.
    first.sni_callback = choose
    return first


def _context(files: TlsFiles) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_OPTIONAL
    files.load_into(context)
    return context


def _configuration(material: TlsMaterial) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration([(material.key, material.certificate)], material.ca)
