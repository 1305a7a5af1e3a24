"""What one client may keep at Envoy: connections, streams, and time in which it does nothing, or hardly anything."""

import socket
import struct
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2

from tests.contract.envoy.client import EnvoyClient, wait_until
from tests.contract.envoy.conftest import Running, running_envoy

pytestmark = pytest.mark.integration

_MAX_CONNECTIONS = 6
SHORTER = {
    '"request_headers_timeout": "10s"': '"request_headers_timeout": "0.5s"',
    '"request_timeout": "60s"': '"request_timeout": "1s"',
    '"idle_timeout": "600s"': '"idle_timeout": "1s"',
    '"max_active_downstream_connections": 10000': f'"max_active_downstream_connections": {_MAX_CONNECTIONS}',
}
SECONDS = 10.0


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running_envoy(tmp_path_factory.mktemp("bounds"), SHORTER) as envoy:
        yield envoy


def connected(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=SECONDS)


def until_closed(connection: socket.socket) -> bytes:
    """Return what is sent until the connection is closed."""
    parts = []
    while part := connection.recv(65536):
        parts.append(part)
    return b"".join(parts)


def test_a_connection_without_a_request_is_closed(running: Running) -> None:
    with closing(connected(running.ports.edge)) as connection:
        assert until_closed(connection) == b""


def test_headers_and_bodies_must_come_to_an_end(running: Running) -> None:
    begun = b"POST /api/logs HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
    for sent in (begun, begun + b"Content-Length: 100\r\n\r\n{"):
        with closing(connected(running.ports.edge)) as connection:
            connection.sendall(sent)
            assert until_closed(connection).startswith(b"HTTP/1.1 408")


def test_a_call_that_moves_nothing_is_ended(tmp_path: Path) -> None:
    with (
        running_envoy(tmp_path, {'"stream_idle_timeout": "300s"': '"stream_idle_timeout": "1s"'}) as envoy,
        closing(connected(envoy.ports.edge)) as connection,
    ):
        # Long before the time is up in which a request must be there as a whole.
        connection.sendall(b"POST /api/logs HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n{")
        assert until_closed(connection).startswith(b"HTTP/1.1 408")


def test_whoever_sends_byte_by_byte_is_not_waited_for(running: Running) -> None:
    with closing(connected(running.ports.edge)) as connection:
        connection.sendall(b"POST /api/logs HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n")
        connection.settimeout(0.1)
        answer = b""

        def is_refused() -> bool:
            nonlocal answer
            try:
                connection.sendall(b" ")
                answer += connection.recv(65536)
            except TimeoutError:
                pass
            except OSError:
                return True
            return bool(answer)

        wait_until(is_refused)
        assert answer.startswith(b"HTTP/1.1 408")


def test_connections_are_limited(running: Running) -> None:
    edge = running.ports.edge
    with ExitStack() as opened:
        connections = [opened.enter_context(closing(connected(edge))) for _ in range(3 * _MAX_CONNECTIONS)]
        # Those beyond the limit are closed at once, the others when they have been idle.
        text = EnvoyClient(running.ports.envoy_admin).get("/stats?filter=downstream_global_cx_overflow").text
        assert [until_closed(each) for each in connections] == [b""] * len(connections)
        assert any(int(line.rpartition(": ")[2]) > 0 for line in text.splitlines()), text
    wait_until(lambda: _answers(edge))


def _answers(port: int) -> bool:
    try:
        return EnvoyClient(port).get("/health").status == 200
    except OSError:
        return False


def test_streams_of_a_connection_are_limited(running: Running) -> None:
    with closing(connected(running.ports.edge)) as connection:
        connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9).replace(b"\0\0\0\0\0", b"\0\0\0\4\0", 1))
        received = b""
        while len(received) < 9 or len(received) < 9 + int.from_bytes(received[:3]):
            received += connection.recv(65536)
    size, kind = int.from_bytes(received[:3]), received[3]
    assert kind == 4
    settings = dict(struct.iter_unpack("!HI", received[9 : 9 + size]))
    assert settings[3] == 1000


@pytest.mark.parametrize("port", ["edge", "edge_manager", "edge_notifier"])
@pytest.mark.parametrize("method", ["Check", "Watch"])
def test_who_asks_for_health_makes_no_service_keep_more_than_a_name(running: Running, port: str, method: str) -> None:
    def asked(size: int) -> grpc.StatusCode:
        request = health_pb2.HealthCheckRequest(service="x" * size).SerializeToString()
        with EnvoyClient(getattr(running.ports, port)).channel() as channel:
            call = channel.unary_stream(f"/grpc.health.v1.Health/{method}", bytes, bytes)(request, timeout=SECONDS)
            with suppress(grpc.RpcError):
                next(call)
                call.cancel()
            code: grpc.StatusCode = call.code()
            return code

    # A service says that it has none of this name, or waits until it has.
    assert asked(512) in (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.CANCELLED)
    # More than comes at once.
    assert asked(2_000_000) is grpc.StatusCode.UNKNOWN


@pytest.mark.parametrize("verb", ["GET", "PUT", "TRACE", "PROPFIND"])
@pytest.mark.parametrize("path", ["/grpc.health.v1.Health/Check", "/tocsin.alerts.v1.AlertService/ListAlerts"])
def test_a_call_of_grpc_with_another_verb_than_post_reaches_no_service(running: Running, verb: str, path: str) -> None:
    found = EnvoyClient(running.ports.edge).send(verb, path, None, {"content-type": "application/grpc"})

    assert found.headers["grpc-status"] == str(grpc.StatusCode.UNIMPLEMENTED.value[0])
    assert found.headers["grpc-message"] == "there is nothing at this path"


def test_what_the_health_service_does_not_have_is_not_there(running: Running) -> None:
    with EnvoyClient(running.ports.edge).channel() as channel, pytest.raises(grpc.RpcError) as refused:
        channel.unary_unary("/grpc.health.v1.Health/List", bytes, bytes)(b"", timeout=SECONDS)
    assert refused.value.details() == "there is nothing at this path"


def test_whoever_watches_health_takes_no_call_of_others(tmp_path: Path) -> None:
    shorter = {'"max_requests": 8192': '"max_requests": 2', '"max_requests": 1024': '"max_requests": 3'}
    with running_envoy(tmp_path, shorter) as envoy, EnvoyClient(envoy.ports.edge_manager).channel() as channel:
        watch = channel.unary_stream("/grpc.health.v1.Health/Watch", bytes, bytes)
        watches = [watch(b"", timeout=SECONDS) for _ in range(3)]
        assert all(next(each) for each in watches)
        with pytest.raises(grpc.RpcError) as refused:
            next(watch(b"", timeout=SECONDS))
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
        channel.unary_unary("/tocsin.alerts.v1.AlertService/ListAlerts", bytes, bytes)(b"", timeout=SECONDS)
