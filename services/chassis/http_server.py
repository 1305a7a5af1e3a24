"""An HTTP/1.1 server for GET of fixed paths whose answers are there at once, as the admin port needs it.

A web framework would be a fifth of a service's start. Only the head of a request is read: when it announces a body, or
more has come after it, the answer is the last one of its connection. What callers may use is bounded: the size of a
head, the time until it is there, and the number of connections, of which the one unused for longest makes room for a
new one.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import cast

import httptools
import structlog

log = structlog.get_logger()

_MAX_HEAD_BYTES = 16_384
_MAX_CONNECTIONS = 250
_HEAD_S = 5.0
# Longer than the hour for which Envoy keeps an unused connection: it would use one that is being closed.
_IDLE_S = 3630.0
_END = b"\r\n\r\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpResponse:
    """What a caller gets."""

    status: HTTPStatus = HTTPStatus.OK
    content_type: str = "text/plain; charset=utf-8"
    body: bytes


Handler = Callable[[asyncio.BaseTransport], HttpResponse]


class _Request:
    """What httptools finds in the head of a request; raises HttpParserError where it is none of HTTP/1."""

    def __init__(self, head: bytes) -> None:
        self.keeps_connection = False
        self._target = b""
        self._parser = httptools.HttpRequestParser(self)
        # A caller that would rather go on in another protocol gets its answer in this one.
        with suppress(httptools.HttpParserUpgrade):
            self._parser.feed_data(head)
        if self._parser.get_http_version() not in {"1.0", "1.1"}:
            raise httptools.HttpParserError("the version is another one")
        self.method: bytes = self._parser.get_method()
        self.path = self._target.partition(b"?")[0].decode("latin-1")

    def on_url(self, part: bytes) -> None:
        self._target += part

    def on_message_complete(self) -> None:
        # Never called where a body follows; afterwards the parser does not know it any more.
        self.keeps_connection = self._parser.should_keep_alive()


@asynccontextmanager
async def http_server(
    handlers: Mapping[str, Handler], host: str, port: int, context: ssl.SSLContext | None = None
) -> AsyncIterator[int]:
    """Answer GET of these paths until the end of the block; yield the port."""
    connections: dict[_Connection, None] = {}
    server = await asyncio.get_running_loop().create_server(
        lambda: _Connection(handlers, connections),
        host,
        port,
        ssl=context,
        ssl_handshake_timeout=_HEAD_S if context else None,
    )
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for connection in list(connections):
            connection.transport.abort()


class _Connection(asyncio.Protocol):
    """One caller; `connections` has all, the one unused for longest first."""

    transport: asyncio.Transport
    _timer: asyncio.TimerHandle

    def __init__(self, handlers: Mapping[str, Handler], connections: "dict[_Connection, None]") -> None:
        self._handlers = handlers
        self._connections = connections
        self._head = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transport is one without being declared so.
        self.transport = cast("asyncio.Transport", transport)
        self._timer = self._abort_after(_HEAD_S)
        self._connections[self] = None
        if len(self._connections) > _MAX_CONNECTIONS:
            oldest = next(iter(self._connections))
            del self._connections[oldest]
            oldest.transport.abort()

    def connection_lost(self, _reason: Exception | None) -> None:
        self._timer.cancel()
        self._connections.pop(self, None)

    def pause_writing(self) -> None:
        # A caller that does not read its answers gets no more of them.
        self.transport.pause_reading()

    def resume_writing(self) -> None:
        self.transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        if not self._head:
            self._wait(_HEAD_S)
        self._head += data
        head, end, rest = self._head.partition(_END)
        if len(head) > _MAX_HEAD_BYTES:
            self._send(_failure(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE), keeps_connection=False)
        elif end:
            self._head.clear()
            self._answer(bytes(head + end), has_more=bool(rest))

    def _answer(self, head: bytes, *, has_more: bool) -> None:
        try:
            request = _Request(head)
        except httptools.HttpParserError:
            self._send(_failure(HTTPStatus.BAD_REQUEST), keeps_connection=False)
            return
        self._send(
            self._response(request),
            keeps_connection=request.keeps_connection and not has_more,
            has_body=request.method != b"HEAD",
        )

    def _response(self, request: _Request) -> HttpResponse:
        handler = self._handlers.get(request.path)
        if handler is None:
            return _failure(HTTPStatus.NOT_FOUND)
        if request.method not in (b"GET", b"HEAD"):
            return _failure(HTTPStatus.METHOD_NOT_ALLOWED)
        try:
            return handler(self.transport)
        except Exception:
            log.exception("http_handler_failed", path=request.path)
            return _failure(HTTPStatus.INTERNAL_SERVER_ERROR)

    def _send(self, response: HttpResponse, *, keeps_connection: bool, has_body: bool = True) -> None:
        head = (
            f"HTTP/1.1 {response.status.value} {response.status.phrase}",
            f"Content-Type: {response.content_type}",
            f"Content-Length: {len(response.body)}",
            *(["Allow: GET, HEAD"] if response.status is HTTPStatus.METHOD_NOT_ALLOWED else []),
            f"Connection: {'keep-alive' if keeps_connection else 'close'}",
            "\r\n",
        )
        self.transport.write("\r\n".join(head).encode() + (response.body if has_body else b""))
        if keeps_connection:
            self._wait(_IDLE_S)
            # Now the one used last.
            self._connections.pop(self, None)
            self._connections[self] = None
        else:
            self.transport.close()
            self._wait(_HEAD_S)

    def _wait(self, seconds: float) -> None:
        self._timer.cancel()
        self._timer = self._abort_after(seconds)

    def _abort_after(self, seconds: float) -> asyncio.TimerHandle:
        return asyncio.get_running_loop().call_later(seconds, self.transport.abort)


def _failure(status: HTTPStatus) -> HttpResponse:
    return HttpResponse(status=status, body=f"{status.value}: {status.phrase}\n".encode())
