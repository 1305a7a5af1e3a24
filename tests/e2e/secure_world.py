"""A system with SECURE=1, and how its users and its enemies connect."""

import json
import socket
import ssl
import threading
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.client import HTTPException, HTTPSConnection
from typing import Any, Self

import grpc

from stack.certificate_requests import CertificateFiles, CertificateRequest
from stack.certificates import issue
from stack.secure_files import SecureFiles
from stack.system import System
from tests.contract.envoy.test_access import code_of
from tests.e2e.world import wait_until
from tests.fakes.certificates import client_context
from tests.fakes.otlp import SpanReceiver

EVENT = {"service": "payment-service", "level": "ERROR", "message": "Database connection failed"}


@dataclass(frozen=True)
class SecureSystem:
    """A running system, and how its users and its enemies connect."""

    system: System
    files: SecureFiles
    admin: CertificateFiles
    key: str
    spans: SpanReceiver | None = None

    @property
    def edge(self) -> int:
        return self.system.wiring.ports.edge

    def connect(self, own: CertificateFiles | None = None) -> HTTPSConnection:
        return HTTPSConnection("localhost", self.edge, timeout=20, context=client_context(self.files.ca, own))

    def call(
        self, method: str, path: str, body: object = None, *, own: CertificateFiles | None = None, key: str = ""
    ) -> tuple[int, Any]:
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
        with closing(self.connect(own)) as connection:
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            response = connection.getresponse()
            return response.status, json.loads(response.read() or b"null")

    def issue(self, request: CertificateRequest) -> CertificateFiles:
        return issue(self.files.home / "certificates", request, now=datetime.now(UTC)).files

    def call_directly(
        self, service: str, rpcs: Iterable[str], credentials: grpc.ChannelCredentials | None, **metadata: str
    ) -> dict[str, grpc.StatusCode]:
        """Call rpcs at a service's own port, past Envoy; return how each ended."""
        target = f"127.0.0.1:{getattr(self.system.wiring.ports, service)}"
        options: Any = [("grpc.ssl_target_name_override", "localhost"), ("grpc.use_local_subchannel_pool", 1)]
        opened = (
            grpc.secure_channel(target, credentials, options) if credentials else grpc.insecure_channel(target, options)
        )
        with opened:
            return {rpc: code_of(opened, rpc, **metadata) for rpc in rpcs}


@dataclass
class Load:
    """Calls without a pause, each kind on a thread of its own; what fails is kept."""

    secure: SecureSystem
    calls: int = 0
    failures: list[str] = field(default_factory=list)
    _has_ended: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Self:
        self._threads = [threading.Thread(target=work) for work in (self._anew, self._kept)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._has_ended.set()
        for thread in self._threads:
            thread.join()

    def await_calls(self, number: int) -> None:
        """Return when so many more calls were made."""
        target = self.calls + number
        wait_until(lambda: self.calls >= target or self.failures, what="calls go on")

    def _anew(self) -> None:
        """Connect for each call, with the certificate of that moment."""
        while not self._has_ended.is_set():
            with closing(self._connection_of_this_moment()) as connection:
                self._call(connection, "POST", "/api/logs")

    def _connection_of_this_moment(self) -> HTTPSConnection:
        while True:
            try:
                return self.secure.connect(self.secure.admin)
            except ssl.SSLError as error:
                # A certificate and its key are two files: between the two writes they do not fit.
                if error.reason != "KEY_VALUES_MISMATCH":
                    raise

    def _kept(self) -> None:
        """Make all calls over one connection, which lives longer than the certificates of its beginning."""
        with closing(self.secure.connect(self.secure.admin)) as connection:
            while not self._has_ended.is_set():
                self._call(connection, "GET", "/api/alerts")

    def _call(self, connection: HTTPSConnection, method: str, path: str) -> None:
        try:
            body = json.dumps(EVENT) if method == "POST" else None
            connection.request(method, path, body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            text = response.read()
        except (OSError, HTTPException) as error:
            self.failures.append(f"{method} {path}: {error!r}")
        else:
            if response.status != 200:
                self.failures.append(f"{method} {path}: {response.status} {text[:200]!r}")
        self.calls += 1


def served(secure: SecureSystem, port: int) -> bytes:
    """The certificate that a new connection to this port sees."""
    context = ssl.create_default_context(cafile=str(secure.files.ca))
    gateway = secure.files.certificate("gateway")
    context.load_cert_chain(gateway.certificate, gateway.key)
    with (
        socket.create_connection(("127.0.0.1", port), timeout=5) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as connection,
    ):
        return connection.getpeercert(binary_form=True) or b""
