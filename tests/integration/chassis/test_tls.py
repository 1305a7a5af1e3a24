"""Connections with certificates: who is let in, and how certificates change while a service runs."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.chassis import telemetry
from services.chassis.admin_server import admin_server
from services.chassis.grpc_client import channel
from services.chassis.grpc_server import Mount, RunningServer, grpc_server
from services.chassis.health import Health
from services.chassis.peers import peer_identity
from services.chassis.settings import ProcessSettings
from stack.certificate_requests import CertificateFiles
from tests.fakes.certificates import Certificates, client_context
from tests.fakes.guards import OpenGuard

NAME = "test.Peers"


class Peers:
    """A servicer that says who calls it, by which certificate."""

    def __init__(self) -> None:
        self.may_end = asyncio.Event()

    async def who(self, _: bytes, context: Any) -> bytes:
        certificate = context.auth_context().get("x509_pem_cert", [b""])[0]
        return f"{peer_identity(context.auth_context())} {certificate.decode()}".encode()

    async def wait(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        yield await self.who(request, context)
        await self.may_end.wait()
        yield await self.who(request, context)

    def mount(self) -> Mount:
        handlers: dict[str, Any] = {
            "Who": grpc.unary_unary_rpc_method_handler(self.who),
            "Wait": grpc.unary_stream_rpc_method_handler(self.wait),
        }
        generic = grpc.method_handlers_generic_handler(NAME, handlers)
        return Mount(NAME, lambda server: server.add_generic_rpc_handlers((generic,)))


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    return Certificates(tmp_path / "certificates")


@pytest.fixture
def process(certificates: Certificates) -> ProcessSettings:
    return ProcessSettings(
        listen="127.0.0.1:0",
        admin_listen="127.0.0.1:0",
        plaintext_listen="127.0.0.1:0",
        tls=certificates.settings("gateway"),
    )


@pytest.fixture
def peers() -> Peers:
    return Peers()


@pytest.fixture
def metrics() -> Iterator[None]:
    with telemetry.telemetry("test", "i", ""):
        yield


@pytest.fixture
async def server(metrics: None, process: ProcessSettings, peers: Peers) -> AsyncIterator[RunningServer]:  # noqa: ARG001
    async with grpc_server(process, [peers.mount()], Health("test"), OpenGuard()) as running:
        yield running


@pytest.fixture
async def admin_port(metrics: None, process: ProcessSettings, server: RunningServer) -> AsyncIterator[int]:  # noqa: ARG001
    async with admin_server(process, Health("test")) as port:
        yield port


async def who(opened: grpc.aio.Channel) -> str:
    call: Any = opened.unary_unary(f"/{NAME}/Who")
    answer: bytes = await call(b"", timeout=5)
    return answer.decode().partition(" ")[0]


async def refusal(port: int, credentials: grpc.ChannelCredentials | None) -> grpc.StatusCode:
    """The code with which a call without the right certificate ends."""
    target = f"127.0.0.1:{port}"
    opened = grpc.aio.secure_channel(target, credentials) if credentials else grpc.aio.insecure_channel(target)
    async with opened:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await who(opened)
    return refused.value.code()


def served_certificate(port: int, context: ssl.SSLContext) -> bytes:
    """The certificate that a new connection sees."""
    with (
        socket.create_connection(("127.0.0.1", port), timeout=5) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as secure,
    ):
        return secure.getpeercert(binary_form=True) or b""


def der_of(files: CertificateFiles) -> bytes:
    return ssl.PEM_cert_to_DER_cert(files.certificate.read_text())


async def test_a_service_is_known_by_its_certificate(server: RunningServer, certificates: Certificates) -> None:
    async with channel(f"127.0.0.1:{server.port}", certificates.settings("manager")) as opened:
        assert await who(opened) == "spiffe://tocsin/service/manager"


async def test_nobody_is_let_in_without_a_certificate_of_the_authority(
    server: RunningServer, certificates: Certificates, tmp_path: Path
) -> None:
    trusted = certificates.service("gateway").ca.read_bytes()
    stranger = Certificates(tmp_path / "other").service("manager")
    foreign = grpc.ssl_channel_credentials(trusted, stranger.key.read_bytes(), stranger.certificate.read_bytes())
    for credentials in (grpc.ssl_channel_credentials(trusted), foreign, None):
        assert await refusal(server.port, credentials) is grpc.StatusCode.UNAVAILABLE
    # Health and reflection are no exception.
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as opened:
        stub: Any = health_pb2_grpc.HealthStub(opened)
        with pytest.raises(grpc.aio.AioRpcError):
            await stub.Check(health_pb2.HealthCheckRequest(), timeout=5)


async def test_a_service_calls_nobody_but_the_gateway(
    process: ProcessSettings, peers: Peers, certificates: Certificates
) -> None:
    impostor = replace(process, tls=certificates.settings("ingest"))
    async with (
        grpc_server(impostor, [peers.mount()], Health("test"), OpenGuard()) as server,
        channel(f"127.0.0.1:{server.port}", certificates.settings("manager")) as opened,
    ):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await who(opened)
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_the_plaintext_address_knows_nobody(server: RunningServer) -> None:
    async with channel(f"127.0.0.1:{server.plaintext_port}") as opened:
        assert await who(opened) == "None"


async def test_renewed_certificates_are_used_by_later_calls_and_running_ones_go_on(
    server: RunningServer, certificates: Certificates, peers: Peers
) -> None:
    async with channel(f"127.0.0.1:{server.port}", certificates.settings("manager")) as opened:
        first = certificates.service("manager").certificate.read_text()
        call: Any = opened.unary_unary(f"/{NAME}/Who")
        streams: Any = opened.unary_stream(f"/{NAME}/Wait")
        stream = streams(b"", timeout=20)
        assert first in (await stream.read()).decode()
        assert first in (await call(b"", timeout=5)).decode()
        renewed, gateway = certificates.renew("manager"), certificates.renew("gateway")
        assert renewed.certificate.read_text() in (await call(b"", timeout=5)).decode()
        peers.may_end.set()
        assert first in (await stream.read()).decode()
        assert await stream.read() is grpc.aio.EOF
        assert renewed.certificate.read_text() in (await call(b"", timeout=5)).decode()
    context = client_context(gateway.ca, renewed)
    served = await asyncio.to_thread(served_certificate, server.port, context)
    assert served == der_of(gateway)


async def test_a_key_that_does_not_fit_yet_changes_nothing(server: RunningServer, certificates: Certificates) -> None:
    gateway, manager = certificates.service("gateway"), certificates.service("manager")
    before, context = der_of(gateway), client_context(gateway.ca, manager)
    complete, key = gateway.key.read_bytes(), certificates.service("ingest").key.read_bytes()
    gateway.key.write_bytes(key)
    assert await asyncio.to_thread(served_certificate, server.port, context) == before
    gateway.key.write_bytes(complete)
    renewed = certificates.renew("gateway")
    assert await asyncio.to_thread(served_certificate, server.port, context) == der_of(renewed) != before


async def get(port: int, path: str, context: ssl.SSLContext) -> tuple[int, str]:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"https://localhost:{port}{path}", ssl=context) as response,
    ):
        return response.status, await response.text()


async def test_health_is_for_all_and_metrics_are_for_those_who_read_them(
    admin_port: int, certificates: Certificates
) -> None:
    ca = certificates.service("gateway").ca
    status, text = await get(admin_port, "/health", client_context(ca))
    assert (status, '"NOT_SERVING"' in text) == (503, True)
    assert (await get(admin_port, "/metrics", client_context(ca)))[0] == 403
    assert (await get(admin_port, "/health/reasons", client_context(ca)))[0] == 403
    admin = certificates.client("ada", role="admin")
    for stranger in (certificates.service("ingest"), admin):
        assert (await get(admin_port, "/metrics", client_context(ca, stranger)))[0] == 403
    status, text = await get(admin_port, "/metrics", client_context(ca, certificates.service("prometheus")))
    assert status == 200
    assert "process_open_fds" in text


async def test_the_admin_port_refuses_foreign_certificates_and_serves_renewed_ones(
    admin_port: int, certificates: Certificates, tmp_path: Path
) -> None:
    ca = certificates.service("gateway").ca
    foreign = client_context(ca, Certificates(tmp_path / "other").service("prometheus"))
    with pytest.raises((aiohttp.ClientError, ConnectionError)):
        await get(admin_port, "/metrics", foreign)
    before = await asyncio.to_thread(served_certificate, admin_port, client_context(ca))
    renewed = certificates.renew("gateway")
    after = await asyncio.to_thread(served_certificate, admin_port, client_context(ca))
    assert after == der_of(renewed) != before
    async with aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.ClientError):
            await session.get(f"http://127.0.0.1:{admin_port}/health")
