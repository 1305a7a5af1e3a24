"""Certificates for tests, from an authority in a temporary folder."""

import ssl
from datetime import UTC, datetime
from pathlib import Path

import grpc

from services.chassis.settings import TlsSettings
from stack.certificate_requests import CertificateFiles, certificate_files, client_request, service_request
from stack.certificates import init_authority, issue


class Certificates:
    """An authority, and what it has issued."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        init_authority(folder, now=datetime.now(UTC))

    def service(self, name: str) -> CertificateFiles:
        """The certificate of a service, issued at the first call."""
        files = certificate_files(self.folder, name)
        return files if files.key.exists() else self.renew(name)

    def renew(self, name: str) -> CertificateFiles:
        """Issue a service's certificate anew."""
        return issue(self.folder, service_request(name), now=datetime.now(UTC)).files

    def client(self, name: str, *, role: str, tenant: str = "default") -> CertificateFiles:
        """The certificate of a person or program."""
        return issue(self.folder, client_request(name, role=role, tenant=tenant), now=datetime.now(UTC)).files

    def settings(self, name: str) -> TlsSettings:
        """The settings of a service with this name."""
        files = self.service(name)
        return TlsSettings(tls_certificate=str(files.certificate), tls_key=str(files.key), tls_ca=str(files.ca))


def channel_credentials(files: CertificateFiles) -> grpc.ChannelCredentials:
    """What a gRPC client connects with."""
    return grpc.ssl_channel_credentials(files.ca.read_bytes(), files.key.read_bytes(), files.certificate.read_bytes())


def client_context(ca: Path, own: CertificateFiles | None = None) -> ssl.SSLContext:
    """What an HTTPS client connects with."""
    context = ssl.create_default_context(cafile=ca)
    if own is not None:
        context.load_cert_chain(own.certificate, own.key)
    return context
