"""Envoy with certificates: towards users, between the services, and while certificates change."""

import socket
import ssl
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from http.client import HTTPSConnection
from pathlib import Path
from typing import Any

import grpc
import pytest

from services.chassis.peers import GATEWAY_NAME
from stack.certificate_requests import CertificateFiles
from stack.envoy import EnvoySettings, validate_config, write_config
from stack.ports import Ports
from tests.contract.envoy.client import EnvoyClient, wait_until
from tests.contract.envoy.conftest import envoy_settings
from tests.contract.envoy.edge import is_healthy, running_envoy
from tests.contract.envoy.upstream import Upstream, admin
from tests.fakes.certificates import Certificates, channel_credentials, client_context

ALERTS = "/tocsin.alerts.v1.AlertService/ListAlerts"
RECEIVERS = "/tocsin.notifications.v1.NotificationService/ListReceivers"
UNAVAILABLE = grpc.StatusCode.UNAVAILABLE


@dataclass(frozen=True)
class Secured:
    """An Envoy with certificates, before a manager, and a notifier that has another service's certificate."""

    ports: Ports
    certificates: Certificates
    manager: Upstream

    def get(self, path: str, own: CertificateFiles | None = None) -> tuple[int, bytes]:
        """Call the edge as curl does, by its name on this machine."""
        context = client_context(self.certificates.service("gateway").ca, own)
        connection = HTTPSConnection("localhost", self.ports.edge, timeout=10, context=context)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def call(self, port: int, rpc: str, credentials: grpc.ChannelCredentials | None) -> grpc.StatusCode:
        """Call an rpc as a service does, or with plaintext."""
        target, options = f"127.0.0.1:{port}", [("grpc.ssl_target_name_override", GATEWAY_NAME)]
        options_of_one: Any = [*options, ("grpc.use_local_subchannel_pool", 1)]
        opened = (
            grpc.secure_channel(target, credentials, options_of_one)
            if credentials
            else grpc.insecure_channel(target, options_of_one)
        )
        with opened:
            method: Any = opened.unary_unary(rpc, request_serializer=bytes, response_deserializer=bytes)
            done = method.future(b"", timeout=10)
            code: grpc.StatusCode = done.code()
            return code


def server_credentials(files: CertificateFiles) -> grpc.ServerCredentials:
    pair = (files.key.read_bytes(), files.certificate.read_bytes())
    return grpc.ssl_server_credentials([pair], files.ca.read_bytes(), require_client_auth=True)


def server_context(files: CertificateFiles) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.certificate, files.key)
    context.load_verify_locations(files.ca)
    context.verify_mode = ssl.CERT_REQUIRED
    return context


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    folder = tmp_path_factory.mktemp("secured")
    certificates, ports = Certificates(folder / "certificates"), Ports.free()
    with ExitStack() as stack:
        manager = _upstream(stack, "manager", ports, certificates.service("manager"))
        _upstream(stack, "notifier", ports, certificates.service("evaluator"))
        own = certificates.settings("gateway")
        settings = envoy_settings(
            ports,
            access_log=folder / "access.log",
            tls_certificate=own.tls_certificate,
            tls_key=own.tls_key,
            tls_client_ca=own.tls_ca,
            mesh_certificate=own.tls_certificate,
            mesh_key=own.tls_key,
            mesh_ca=own.tls_ca,
        )
        stack.enter_context(running_envoy(settings, ports, folder, "manager", "manager_admin"))
        yield Secured(ports, certificates, manager)


def _upstream(stack: ExitStack, name: str, ports: Ports, files: CertificateFiles) -> Upstream:
    upstream = Upstream(name, getattr(ports, name), server_credentials(files))
    stack.callback(upstream.stop)
    stack.enter_context(admin(getattr(ports, f"{name}_admin"), name, {"db": "UP"}, server_context(files)))
    return upstream


@pytest.fixture(autouse=True)
def _forget(secured: Secured) -> None:
    secured.manager.reset()


def test_users_call_with_https_and_need_no_certificate(secured: Secured) -> None:
    status, body = secured.get("/api/alerts")
    assert (status, b"alerts" in body) == (200, True)
    assert "x-forwarded-client-cert" not in secured.manager.calls[-1].metadata


def test_a_user_is_known_by_a_certificate(secured: Secured) -> None:
    ada = secured.certificates.client("ada", role="editor", tenant="payments")
    assert secured.get("/api/alerts", ada)[0] == 200
    forwarded = secured.manager.calls[-1].metadata["x-forwarded-client-cert"]
    assert "URI=spiffe://tocsin/client/payments/editor/ada" in forwarded


def test_a_foreign_certificate_and_plaintext_are_refused_at_the_edge(secured: Secured, tmp_path: Path) -> None:
    stranger = Certificates(tmp_path).client("ada", role="admin")
    with pytest.raises((ssl.SSLError, ConnectionError)):
        secured.get("/api/alerts", stranger)
    with pytest.raises(OSError, match=r".*"):
        EnvoyClient(secured.ports.edge).get("/api/alerts")
    assert secured.manager.calls == []


def test_health_is_asked_for_with_the_gateways_certificate(secured: Secured) -> None:
    status, body = secured.get("/health")
    # Ingest does not run here.
    assert status == 503
    context = client_context(secured.certificates.service("gateway").ca)
    connection = HTTPSConnection("localhost", secured.ports.edge_manager, timeout=10, context=context)
    connection.request("GET", "/health")
    response = connection.getresponse()
    assert (response.status, b'"manager"' in response.read()) == (200, True), body
    connection.close()


def test_the_mesh_is_for_services_alone(secured: Secured) -> None:
    mesh, certificates = secured.ports.mesh, secured.certificates
    assert secured.call(mesh, ALERTS, channel_credentials(certificates.service("evaluator"))) is grpc.StatusCode.OK
    forwarded = secured.manager.calls[-1].metadata["x-forwarded-client-cert"]
    assert "URI=spiffe://tocsin/service/evaluator" in forwarded
    secured.manager.reset()
    trusted = grpc.ssl_channel_credentials(certificates.service("gateway").ca.read_bytes())
    ada = channel_credentials(certificates.client("ada", role="admin"))
    for credentials in (trusted, ada, None):
        assert secured.call(mesh, ALERTS, credentials) is UNAVAILABLE
    assert secured.manager.calls == []


def test_a_service_with_anothers_certificate_gets_no_calls(secured: Secured) -> None:
    credentials = channel_credentials(secured.certificates.service("manager"))
    assert secured.call(secured.ports.mesh, RECEIVERS, credentials) is UNAVAILABLE
    assert not is_healthy(secured.ports, "notifier")


def test_envoy_shows_a_renewed_certificate_without_a_restart(secured: Secured) -> None:
    def served(port: int, own: CertificateFiles | None = None) -> bytes:
        context = client_context(secured.certificates.service("gateway").ca, own)
        with (
            socket.create_connection(("127.0.0.1", port), timeout=5) as plain,
            context.wrap_socket(plain, server_hostname="localhost") as secure,
        ):
            return secure.getpeercert(binary_form=True) or b""

    before = served(secured.ports.edge)
    renewed = secured.certificates.renew("gateway").certificate.read_text()
    expected = ssl.PEM_cert_to_DER_cert(renewed)
    assert expected != before
    manager = secured.certificates.service("manager")
    wait_until(lambda: served(secured.ports.edge) == expected == served(secured.ports.mesh, manager))
    assert secured.get("/api/alerts")[0] == 200


@pytest.mark.parametrize("plaintext", [True, False])
def test_envoy_finds_it_valid(secured: Secured, tmp_path: Path, *, plaintext: bool) -> None:
    own = secured.certificates.settings("gateway")
    settings = EnvoySettings(
        tls_certificate=own.tls_certificate,
        tls_key=own.tls_key,
        mesh_certificate=own.tls_certificate,
        mesh_key=own.tls_key,
        mesh_ca=own.tls_ca,
        plaintext=plaintext,
    )
    validate_config(write_config(settings, tmp_path))
