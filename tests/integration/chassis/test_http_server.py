"""The server of the admin port, by what callers send and get, byte for byte."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field

import pytest

from services.chassis import http_server
from services.chassis.http_server import HttpResponse

GET = b"GET /page HTTP/1.1\r\nHost: a\r\n\r\n"


@dataclass
class Caller:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def ask(self, request: bytes) -> tuple[str, bytes]:
        """Send this, and return the head and the body of the answer."""
        self.writer.write(request)
        return await self.answer(has_body=not request.startswith(b"HEAD"))

    async def answer(self, *, has_body: bool = True) -> tuple[str, bytes]:
        async with asyncio.timeout(20):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode()
            length = int(head.partition("Content-Length: ")[2].partition("\r\n")[0])
            return head, await self.reader.readexactly(length) if has_body else b""

    async def ended(self) -> bool:
        """Return whether the server closes the connection, without another byte."""
        async with asyncio.timeout(20):
            with suppress(ConnectionResetError):
                assert not await self.reader.read()
            return True


@dataclass
class Served:
    body: bytes = b"text\n"
    buffered: list[int] = field(default_factory=list)
    """How much was still to be sent, at each request."""
    port: int = 0

    def page(self, transport: asyncio.BaseTransport) -> HttpResponse:
        assert isinstance(transport, asyncio.WriteTransport)
        self.buffered.append(transport.get_write_buffer_size())
        return HttpResponse(body=self.body)

    def broken(self, _: asyncio.BaseTransport) -> HttpResponse:
        raise ValueError("broken inside")

    @asynccontextmanager
    async def caller(self) -> AsyncIterator[Caller]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            yield Caller(reader, writer)
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()


@asynccontextmanager
async def serving() -> AsyncIterator[Served]:
    served = Served()
    handlers = {"/page": served.page, "/broken": served.broken}
    async with http_server.http_server(handlers, "127.0.0.1", 0) as served.port:
        yield served


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    async with serving() as running:
        yield running


@pytest.fixture
async def caller(served: Served) -> AsyncIterator[Caller]:
    async with served.caller() as connected:
        yield connected


async def test_one_connection_has_many_requests_answered(caller: Caller) -> None:
    fields = ("Content-Type: text/plain; charset=utf-8", "Content-Length: 5", "Connection: keep-alive")
    head = "\r\n".join(("HTTP/1.1 200 OK", *fields, "\r\n"))
    assert await caller.ask(GET) == (head, b"text\n")
    assert await caller.ask(b"HEAD /page?a=b HTTP/1.1\r\n\r\n") == (head, b"")
    assert await caller.ask(b"GET /page HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n") == (head, b"text\n")
    assert await caller.ask(b"GET /page HTTP/1.1\r\nContent-Length: 0\r\n\r\n") == (head, b"text\n")
    caller.writer.write(GET[:10])
    await caller.writer.drain()
    assert await caller.ask(GET[10:]) == (head, b"text\n")


@pytest.mark.parametrize(
    "request_",
    [
        b"GET /page HTTP/1.0\r\n\r\n",
        b"GET /page HTTP/1.1\r\nConnection: Close\r\n\r\n",
        b"GET /page HTTP/1.1\r\nContent-Length: 36\r\n\r\n",
        b"GET /page HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n",
        GET + GET,
    ],
)
async def test_what_could_begin_a_second_request_is_not_read(served: Served, caller: Caller, request_: bytes) -> None:
    head, body = await caller.ask(request_)
    assert ("Connection: close\r\n" in head, body) == (True, b"text\n")
    with suppress(ConnectionError):
        caller.writer.write(GET)
    assert await caller.ended()
    assert len(served.buffered) == 1


@pytest.mark.parametrize(
    ("request_", "status", "connection"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "404 Not Found", "keep-alive"),
        (b"POST /page HTTP/1.1\r\n\r\n", "405 Method Not Allowed", "keep-alive"),
        (b"GET /broken HTTP/1.1\r\n\r\n", "500 Internal Server Error", "keep-alive"),
        (b"GET /page HTTP/1.1\r\nA : b\r\n\r\n", "400 Bad Request", "close"),
        (b"GET /page HTTP/1.1\r\nA: b\0\r\n\r\n", "400 Bad Request", "close"),
        (b"GET /page HTTP/1.1\nA: b\r\n\r\n", "400 Bad Request", "close"),
        (b"GET /page HTTP/1.1\r\nContent-Length: 0\r\nContent-Length: 36\r\n\r\n", "400 Bad Request", "close"),
        (b"GET /page HTTP/2.0\r\n\r\n", "400 Bad Request", "close"),
        (b"GET /page\r\n\r\n", "400 Bad Request", "close"),
        (b"\x16\x03\x01\x02\r\n\r\n", "400 Bad Request", "close"),
        (GET[:-2] + b"A: " + b"a" * 16_384, "431 Request Header Fields Too Large", "close"),
    ],
)
async def test_other_requests_are_refused(caller: Caller, request_: bytes, status: str, connection: str) -> None:
    head, body = await caller.ask(request_)
    assert head.startswith(f"HTTP/1.1 {status}\r\n")
    assert body.decode() == f"{status[:3]}: {status[4:]}\n"
    assert ("Allow: GET, HEAD\r\n" in head) is (status[:3] == "405")
    assert f"Connection: {connection}\r\n" in head
    if connection == "keep-alive":
        assert (await caller.ask(GET))[1] == b"text\n"
    else:
        assert await caller.ended()


async def test_a_request_must_be_there_in_time(monkeypatch: pytest.MonkeyPatch, served: Served) -> None:
    monkeypatch.setattr(http_server, "_HEAD_S", 0.01)
    for begin in (b"", GET[:9]):
        async with served.caller() as slow:
            slow.writer.write(begin)
            assert await slow.ended()
    monkeypatch.undo()
    async with served.caller() as slow:
        await slow.ask(GET)
        monkeypatch.setattr(http_server, "_HEAD_S", 0.01)
        slow.writer.write(GET[:9])
        assert await slow.ended()


async def test_a_connection_may_be_unused_for_longer(monkeypatch: pytest.MonkeyPatch, served: Served) -> None:
    monkeypatch.setattr(http_server, "_HEAD_S", 0.2)
    async with served.caller() as caller:
        await caller.ask(GET)
        async with served.caller() as later:
            assert await later.ended()
        monkeypatch.setattr(http_server, "_IDLE_S", 0.01)
        assert (await caller.ask(GET))[1] == b"text\n"
        assert await caller.ended()


async def test_nothing_waits_for_callers_that_have_gone(served: Served) -> None:
    async with served.caller() as caller:
        await caller.ask(GET)
        assert _timers()
    async with asyncio.timeout(20):
        while _timers():
            async with served.caller() as other:
                await other.ask(b"GET /page HTTP/1.0\r\n\r\n")


def _timers() -> list[asyncio.TimerHandle]:
    """Return what the loop will call in some minutes."""
    loop = asyncio.get_running_loop()
    scheduled: list[asyncio.TimerHandle] = vars(loop)["_scheduled"]
    return [timer for timer in scheduled if not timer.cancelled() and timer.when() > loop.time() + 100]


async def test_the_connection_unused_for_longest_makes_room(monkeypatch: pytest.MonkeyPatch, served: Served) -> None:
    monkeypatch.setattr(http_server, "_MAX_CONNECTIONS", 2)
    async with served.caller() as one, served.caller() as two:
        await one.ask(GET)
        await two.ask(GET)
        await one.ask(GET)
        async with served.caller() as three:
            assert await two.ended()
            assert (await three.ask(GET))[1] == (await one.ask(GET))[1] == b"text\n"


async def test_many_new_connections_make_room_too(monkeypatch: pytest.MonkeyPatch, served: Served) -> None:
    monkeypatch.setattr(http_server, "_MAX_CONNECTIONS", 2)
    async with served.caller() as one, AsyncExitStack() as stack:
        await one.ask(GET)
        opened = [stack.enter_async_context(served.caller()) for _ in range(4)]
        callers = [one, *await asyncio.gather(*opened)]
        answers = await asyncio.gather(*(each.ask(GET) for each in callers), return_exceptions=True)
    assert sum(isinstance(answer, tuple) for answer in answers) == 2


async def test_who_does_not_read_an_answer_gets_no_further_one(served: Served, caller: Caller) -> None:
    served.body = bytes(32 << 20)
    caller.writer.write(GET)
    head = await caller.reader.readuntil(b"\r\n\r\n")
    assert b"200 OK" in head
    caller.writer.write(GET)
    async with served.caller() as other:
        await other.ask(b"GET /other HTTP/1.1\r\n\r\n")
    assert served.buffered == [0]
    length, served.body = len(served.body), b"text\n"
    await caller.reader.readexactly(length)
    assert (await caller.answer())[1] == b"text\n"
    assert served.buffered[1] < 1 << 20


async def test_connections_end_with_the_server() -> None:
    async with serving() as served:
        served.body = bytes(32 << 20)
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
        idle = await asyncio.open_connection("127.0.0.1", served.port)
        await Caller(*idle).ask(b"GET / HTTP/1.1\r\n\r\n")
        writer.write(GET)
        await reader.readuntil(b"\r\n\r\n")
    assert await Caller(*idle).ended()
    with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
        await reader.readexactly(len(served.body))
    for open_writer in (writer, idle[1]):
        open_writer.close()
