"""Unary rpcs over HTTP/1.1 by a Unix socket, as Envoy calls them; with Envoy: tests/contract/envoy/test_events.py."""

import asyncio
import base64
import gzip
import os
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import status_pb2

from services.chassis import telemetry
from services.chassis.callers import Caller, IncomingCall
from services.chassis.failures import InvalidRequest
from services.chassis.grpc_http1_server import _READ_AHEAD_BYTES as READ_AHEAD
from services.chassis.grpc_server import MAX_GRPC_MESSAGE_BYTES, Mount, grpc_server
from services.chassis.health import Health
from services.chassis.peers import service_identity
from services.chassis.settings import ProcessSettings, SettingsError
from tests.fakes.guards import OpenGuard

NAME = "test.Echo"
HEADERS = {"host": "test", "content-type": "application/grpc", "user-agent": "test"}


class Echo:
    """A servicer that does what its request says."""

    def __init__(self) -> None:
        self.calls: list[dict[str, str]] = []
        self.came_whole: list[bool] = []
        self.has_begun, self.may_read, self.may_end = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.was_cancelled = asyncio.Event()
        self.may_read.set()

    async def echo(self, _: Any, context: Any) -> bytes:
        self.calls.append(dict(context.invocation_metadata()))
        self.has_begun.set()
        await self.may_read.wait()
        self.came_whole.append(context.has_whole_body)
        request = await context.read()
        if request is grpc.aio.EOF:
            return b"nothing"
        if request == b"refuse":
            raise InvalidRequest("it says: refuse")
        if request.rstrip() == b"wait":
            try:
                await self.may_end.wait()
            except asyncio.CancelledError:
                self.was_cancelled.set()
                raise
        return bytes(request)

    async def refuse_unread(self, _: Any, __: Any) -> bytes:
        self.has_begun.set()
        await self.may_read.wait()
        raise InvalidRequest("whatever it is")

    async def many(self, _: Any, __: Any) -> AsyncIterator[bytes]:
        yield b""

    def mount(self) -> Mount:
        handlers: dict[str, Any] = {
            "Echo": grpc.stream_unary_rpc_method_handler(self.echo),
            "RefuseUnread": grpc.stream_unary_rpc_method_handler(self.refuse_unread),
            "Many": grpc.unary_stream_rpc_method_handler(self.many),
        }
        generic = grpc.method_handlers_generic_handler(NAME, handlers)
        return Mount(NAME, lambda server: server.add_generic_rpc_handlers((generic,)))


class Seen(OpenGuard):
    """Lets everybody in, and keeps who was at the other end."""

    def __init__(self) -> None:
        self.identities: list[str] = []

    def admit(self, call: IncomingCall) -> Caller:
        self.identities.append(call.peer_identity)
        return super().admit(call)


class Connection:
    """One connection to the socket."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def send(self, body: bytes, method: str = "Echo", **headers: str) -> None:
        self.begin(len(body), method, **headers)
        self.writer.write(body)

    def begin(self, size: int, method: str = "Echo", **headers: str) -> None:
        lines = {**HEADERS, "content-length": str(size)} | {
            name.replace("_", "-"): value for name, value in headers.items()
        }
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        self.writer.write(f"POST /{NAME}/{method} HTTP/1.1\r\n{head}\r\n".encode())

    async def answer(self) -> tuple[dict[str, str], bytes]:
        """Return the status and what stands beside it, and the message."""
        async with asyncio.timeout(10):
            head = lines_of(await self.reader.readuntil(b"\r\n\r\n"))
            if head.get("transfer-encoding") != "chunked":
                return head, b""
            chunk = await self.reader.readexactly(int(await self.reader.readuntil(b"\r\n"), 16))
            assert chunk[0] == 0
            assert await self.reader.readuntil(b"0\r\n") == b"\r\n0\r\n"
            return head | lines_of(b"trailers\r\n" + await self.reader.readuntil(b"\r\n\r\n")), chunk[5:]

    async def ask(self, message: bytes, method: str = "Echo", **headers: str) -> tuple[str, bytes]:
        """Return the number of the status, and the message."""
        self.send(frame(message), method, **headers)
        status, answered = await self.answer()
        return status["grpc-status"], answered

    async def is_closed(self) -> bool:
        async with asyncio.timeout(10):
            try:
                return await self.reader.read(1) == b""
            except ConnectionError:
                return True


@asynccontextmanager
async def connected(path: Path) -> AsyncIterator[Connection]:
    connection = Connection(*await asyncio.open_unix_connection(str(path)))
    try:
        yield connection
    finally:
        connection.writer.close()


def frame(message: bytes) -> bytes:
    return b"\0" + len(message).to_bytes(4, "big") + message


def lines_of(head: bytes) -> dict[str, str]:
    lines = head.decode("ascii").split("\r\n")[1:]
    return dict(line.split(": ", 1) for line in lines if line)


@pytest.fixture
def metrics() -> Iterator[None]:
    with telemetry.telemetry("test", "i", ""):
        yield


@pytest.fixture
def echo() -> Echo:
    return Echo()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    folder = tmp_path / "private"
    folder.mkdir(mode=0o700)
    return folder / "s"


@asynccontextmanager
async def serving(path: Path, echo: Echo, guard: OpenGuard | None = None) -> AsyncIterator[Health]:
    process = ProcessSettings(listen="127.0.0.1:0", admin_listen="127.0.0.1:0", drain=timedelta(seconds=4))
    health = Health("test")
    async with grpc_server(process, [echo.mount()], health, guard or OpenGuard(), gateway_socket=str(path)):
        yield health


@pytest.fixture
async def connection(metrics: None, path: Path, echo: Echo) -> AsyncIterator[Connection]:  # noqa: ARG001
    async with serving(path, echo), connected(path) as opened:
        yield opened


@pytest.mark.parametrize("size", [0, 1, READ_AHEAD - 5, READ_AHEAD - 4, 400_000, MAX_GRPC_MESSAGE_BYTES])
async def test_a_message_of_any_size_comes_and_goes(connection: Connection, size: int) -> None:
    message = os.urandom(size)
    for _ in range(2):
        assert await connection.ask(message) == ("0", message)


async def test_one_connection_has_one_call_after_another(connection: Connection, echo: Echo) -> None:
    assert await connection.ask(b"a", x_first="Value") == ("0", b"a")
    assert await connection.ask(b"refuse") == ("3", b"")
    assert await connection.ask(b"b") == ("0", b"b")
    connection.send(b"")
    assert (await connection.answer())[1] == b"nothing"
    first, second = echo.calls[0], echo.calls[1]
    assert (first["x-first"], first["user-agent"], "x-first" in second) == ("Value", "test", False)
    assert echo.came_whole == [True] * 4


async def test_headers_of_any_bytes_are_read_as_latin_1(connection: Connection, echo: Echo) -> None:
    connection.writer.write(
        b"POST /test.Echo/Echo HTTP/1.1\r\ncontent-type: application/grpc+proto\r\nX-Name: \xe9\xff"
    )
    connection.writer.write(b"\r\ntransfer-encoding: chunked\r\n\r\n5\r\n\0\0\0\0\1\r\n1\r\nx\r\n0\r\n\r\n")
    assert (await connection.answer())[1] == b"x"
    assert echo.calls[0]["x-name"] == "éÿ"


async def test_what_comes_behind_the_body_is_no_header(connection: Connection, echo: Echo) -> None:
    head = f"POST /{NAME}/Echo HTTP/1.1\r\nhost: test\r\ncontent-type: application/grpc\r\nx-role: given\r\n"
    body = frame(b"first")
    trailers = "x-role: forged\r\nx-tenant: forged\r\n\r\n"
    whole = f"{head}transfer-encoding: chunked\r\n\r\n{len(body):x}\r\n{body.decode()}\r\n0\r\n{trailers}"
    connection.writer.write(whole.encode())
    status, message = await connection.answer()
    assert (status["grpc-status"], message) == ("0", b"first")
    assert await connection.ask(b"second") == ("0", b"second")
    assert [(sent.get("x-role"), sent.get("x-tenant")) for sent in echo.calls] == [("given", None), (None, None)]


async def test_a_refusal_has_details_and_the_connection_goes_on(connection: Connection) -> None:
    connection.send(frame(b"refuse"))
    status, _ = await connection.answer()
    assert (status["grpc-message"], status["content-length"], "connection" in status) == ("it says: refuse", "0", False)
    # As in base64 it has no padding.
    encoded = status["grpc-status-details-bin"]
    details = status_pb2.Status.FromString(base64.b64decode(encoded + "=" * (-len(encoded) % 4)))
    assert (details.code, details.message) == (3, "it says: refuse")


async def test_compressed_requests_are_read(connection: Connection) -> None:
    small = gzip.compress(b"message")
    connection.send(b"\1" + len(small).to_bytes(4, "big") + small, grpc_encoding="gzip")
    assert (await connection.answer())[1] == b"message"


@pytest.mark.parametrize("method", ["None", "Many"])
async def test_what_is_no_unary_rpc_is_unimplemented(connection: Connection, method: str) -> None:
    assert await connection.ask(b"", method) == ("12", b"")
    assert await connection.ask(b"a") == ("0", b"a")


async def test_a_request_that_is_too_large_is_refused_before_it_is_whole(connection: Connection) -> None:
    size = 5 + MAX_GRPC_MESSAGE_BYTES + 1_000_000
    connection.begin(size)
    connection.writer.write(bytes(MAX_GRPC_MESSAGE_BYTES + 6))
    status, _ = await connection.answer()
    assert (status["grpc-status"], status["connection"]) == ("3", "close")
    assert "larger than" in status["grpc-message"]
    # Nobody reads an answer while it cannot send: the rest is taken too.
    connection.writer.write(bytes(size - MAX_GRPC_MESSAGE_BYTES - 6))
    await connection.writer.drain()


async def test_what_is_refused_unread_is_not_kept(connection: Connection, echo: Echo) -> None:
    echo.may_read.clear()
    connection.begin(10_000_000, "RefuseUnread")
    connection.writer.write(bytes(5_000_000))
    await echo.has_begun.wait()
    echo.may_read.set()
    status, _ = await connection.answer()
    assert (status["grpc-status"], status["connection"]) == ("3", "close")
    connection.writer.write(bytes(5_000_000))
    async with asyncio.timeout(10):
        await connection.writer.drain()


async def test_a_request_waits_with_its_sender_until_it_is_read(connection: Connection, echo: Echo) -> None:
    echo.may_read.clear()
    message = b"x" * 8_000_000
    connection.send(frame(message))
    await echo.has_begun.wait()
    sending = asyncio.create_task(connection.writer.drain())
    done, _ = await asyncio.wait({sending}, timeout=0.3)
    # What a socket and a few reads hold is far less.
    assert not done
    echo.may_read.set()
    assert (await connection.answer())[1] == message
    await sending
    assert await connection.ask(b"next") == ("0", b"next")


@pytest.mark.parametrize("message", [b"wait", b"wait".ljust(2 * READ_AHEAD)])
async def test_a_call_ends_with_its_connection(connection: Connection, echo: Echo, message: bytes) -> None:
    connection.send(frame(message))
    await echo.has_begun.wait()
    connection.writer.close()
    async with asyncio.timeout(10):
        await echo.was_cancelled.wait()


async def test_a_call_ends_at_its_callers_deadline(connection: Connection, echo: Echo) -> None:
    assert await connection.ask(b"wait", grpc_timeout="50m") == ("4", b"")
    assert echo.was_cancelled.is_set()
    assert await connection.ask(b"soon", grpc_timeout="50S") == ("0", b"soon")


async def test_a_second_request_before_the_answer_ends_the_connection(connection: Connection, echo: Echo) -> None:
    connection.send(frame(b"wait"))
    await echo.has_begun.wait()
    connection.send(frame(b"a"))
    assert await connection.is_closed()
    async with asyncio.timeout(10):
        await echo.was_cancelled.wait()


@pytest.mark.parametrize(
    "sent", [b"nonsense\r\n\r\n", b"GET / HTTP/1.1\r\nx: " + b"x" * 10_000_000, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"]
)
async def test_what_is_no_request_ends_the_connection(connection: Connection, sent: bytes) -> None:
    connection.writer.write(sent)
    assert await connection.is_closed()


async def test_other_requests_than_grpc_and_health_are_refused(connection: Connection) -> None:
    connection.send(b"{}", content_type="application/json")
    connection.writer.write(b"GET /metrics HTTP/1.1\r\n\r\n")
    for _ in range(2):
        assert await connection.reader.readuntil(b"\r\n\r\n") == (
            b"HTTP/1.1 415 Unsupported Media Type\r\ncontent-length: 0\r\n\r\n"
        )


async def test_health_is_that_of_the_service(metrics: None, path: Path, echo: Echo) -> None:  # noqa: ARG001
    async with serving(path, echo) as health, connected(path) as connection:
        for change, expected in ((health.mark_ready, b"200 OK"), (health.mark_stopping, b"503 Service Unavailable")):
            change()
            connection.writer.write(b"GET /health HTTP/1.1\r\n\r\n")
            assert await connection.reader.readuntil(b"\r\n\r\n") == (
                b"HTTP/1.1 " + expected + b"\r\ncontent-length: 0\r\n\r\n"
            )


async def test_a_stopping_server_ends_its_calls_and_begins_no_more(
    metrics: None,  # noqa: ARG001
    path: Path,
    echo: Echo,
) -> None:
    async with AsyncExitStack() as clients:
        async with serving(path, echo):
            running, late, idle = [await clients.enter_async_context(connected(path)) for _ in range(3)]
            assert await idle.ask(b"a") == ("0", b"a")
            echo.has_begun.clear()
            running.send(frame(b"wait"))
            await echo.has_begun.wait()
            stopping = asyncio.create_task(_call_until_refused(echo, late))
        refused = await stopping
        assert (refused["grpc-status"], refused["x-tocsin-not-begun"], refused["connection"]) == ("14", "1", "close")
        status, message = await running.answer()
        assert (status["grpc-status"], status["connection"], message) == ("0", "close", b"wait")
        for connection in (running, late, idle):
            assert await connection.is_closed()


async def _call_until_refused(echo: Echo, late: Connection) -> dict[str, str]:
    """Call while the server stops, until it refuses; then let the running call end."""
    while True:
        late.send(frame(b"late"))
        status, _ = await late.answer()
        if status["grpc-status"] != "0":
            echo.may_end.set()
            return status


async def test_whoever_opens_the_socket_counts_as_envoy(metrics: None, path: Path, echo: Echo) -> None:  # noqa: ARG001
    guard = Seen()
    # As a crash leaves it behind.
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    async with serving(path, echo, guard):
        async with connected(path) as connection:
            assert await connection.ask(b"a") == ("0", b"a")
        # A second instance does not take it away.
        with pytest.raises(SettingsError, match="another process"):
            async with serving(path, echo):
                pass
        async with connected(path) as connection:
            assert await connection.ask(b"a") == ("0", b"a")
    assert guard.identities == [service_identity("gateway")] * 2


async def test_a_socket_that_other_users_could_open_is_refused(path: Path, echo: Echo) -> None:
    for mode in (0o750, 0o705):
        path.parent.chmod(mode)
        with pytest.raises(SettingsError, match="nobody else may have access"):
            async with serving(path, echo):
                pass
    with pytest.raises(SettingsError, match="cannot be used"):
        async with serving(path.parent / "none" / "s", echo):
            pass
