"""Unary rpcs over HTTP/1.1, by a Unix socket, for an Envoy on the same machine.

Over HTTP/2 a call costs grpc.aio several times as much as what ingest does for a single event, most of it in threads
and completion queues of its own. Envoy can forward a unary call over HTTP/1.1 as it is, the frame in the body and the
status in the trailers of the response (`enable_trailers` in envoy/envoy.yaml), one call at a time on a connection. That
is read here by httptools on the event loop itself, and goes through the same interceptor, with the same guard, to the
same handlers as calls to the gRPC server beside it. Callers notice no difference. Single events in JSON come as they
were sent, and are answered in JSON (`grpc_http1_json`).

A connection has one call at a time: its task begins when the headers are there. The body is read only as far as
`_READ_AHEAD_BYTES` until the handler asks for it (`read`), so that requests wait with their senders when ingest limits
how many it receives. A call ends early when its connection does, or at the deadline that its caller stated. An answer
that comes before the whole request is there ends the connection: the rest of the request is read and dropped until
Envoy, which has its answer, lets go. Whoever opens the socket counts as Envoy: its folder belongs to this user alone.
"""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from errno import ECONNREFUSED, ENOENT
from http import HTTPStatus
from pathlib import Path
from typing import Any, cast

import grpc
import httptools
import structlog

from services.chassis.grpc_http1_json import JSON, json_form
from services.chassis.grpc_http1_messages import CallForm, GrpcForm, RequestBody, timeout_seconds
from services.chassis.health import Health
from services.chassis.interceptors import ServerInterceptor
from services.chassis.peers import SOCKET_SCHEME
from services.chassis.settings import SettingsError

log = structlog.get_logger()

_READ_AHEAD_BYTES = 64 * 1024
_BACKLOG = 1024
_GRPC = "application/grpc"
_GRPC_FORM = GrpcForm()
_HEALTH_PATH = b"/health"

# Returns the encoded response.
_Handler = Callable[["UnaryCall"], Awaitable[bytes]]


class UnaryCall:
    """A call, with the part of grpc.aio.ServicerContext that handlers of unary rpcs and the interceptor use."""

    def __init__(
        self, method: str, form: CallForm, metadata: Sequence[tuple[str, str]], body: RequestBody, wanted: Any
    ) -> None:
        self.method = method
        self.form = form
        self.body = body
        self.has_whole_body = False
        self.is_wanted = False
        self.is_past_deadline = False
        self.refused: tuple[grpc.StatusCode, str, Sequence[tuple[str, str | bytes]]] | None = None
        self._metadata = metadata
        self._wanted = wanted
        self._reader: asyncio.Future[None] | None = None

    def invocation_metadata(self) -> Sequence[tuple[str, str]]:
        """Return the headers that came with the call."""
        return self._metadata

    def peer(self) -> str:
        """Return whose connection it is, as gRPC gives it: the socket's."""
        return SOCKET_SCHEME

    def auth_context(self) -> dict[str, Iterable[bytes]]:
        """Return nothing: nobody shows a certificate here."""
        return {}

    def code(self) -> grpc.StatusCode | None:
        """Return the status that was set; None while there is none."""
        return self.refused[0] if self.refused else None

    def trailing_metadata(self) -> Sequence[tuple[str, str | bytes]]:
        """Return what the handler wants to be sent behind its response, which is nothing."""
        return ()

    async def abort(
        self, code: grpc.StatusCode, details: str = "", trailing_metadata: Sequence[tuple[str, str | bytes]] = ()
    ) -> None:
        """End the call with a status; raises grpc.aio.AbortError."""
        self.refused = code, details, trailing_metadata
        raise grpc.aio.AbortError(details)

    async def read(self) -> Any:
        """Receive the request, and return it; grpc.aio.EOF where there is none. Raises as RequestBody.take."""
        self.is_wanted = True
        # Also where it is there: a connection that is not read does not tell that it ends.
        self._wanted()
        if not (self.has_whole_body or self.body.is_too_large):
            self._reader = asyncio.get_running_loop().create_future()
            await self._reader
        message = self.body.take()
        return grpc.aio.EOF if message is None else message

    def notice_body(self) -> None:
        """Let whoever waits for the request have it."""
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)


class _Connection(asyncio.Protocol):
    """Reads one request after the other, and answers each."""

    def __init__(self, server: "GrpcHttp1Server") -> None:
        self._server = server
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport
        self._url: list[bytes] = []
        self._headers: list[tuple[str, str]] = []
        self._head_bytes = 0
        self._is_in_head = True
        self._call: UnaryCall | None = None
        self._task: asyncio.Task[None] | None = None
        self._is_paused = False

    @property
    def task(self) -> asyncio.Task[None] | None:
        """The call that is running, if there is one."""
        return self._task

    def close(self) -> None:
        """Close after what was written is sent."""
        self._transport.close()

    # Called by the event loop.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast("asyncio.Transport", transport)
        self._server.connections.add(self)

    def data_received(self, data: bytes) -> None:
        """Read what came."""
        if self._is_in_head:
            self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            log.warning("gateway_request_unreadable")
            self._transport.abort()
            return
        if self._is_in_head and self._head_bytes > self._server.max_head_bytes:
            log.warning("gateway_request_unreadable")
            self._transport.abort()
        call = self._call
        if call is not None and not call.is_wanted and call.body.received_bytes > _READ_AHEAD_BYTES:
            self._pause()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  (the loop passes it)
        """End the call: nobody waits for its answer."""
        self._server.connections.discard(self)
        if self._task is not None:
            self._task.cancel()

    # Called by the parser.

    def on_message_begin(self) -> None:
        """Begin a request."""
        self._url, self._headers = [], []

    def on_url(self, part: bytes) -> None:
        """Keep the path."""
        self._url.append(part)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header, unless it comes behind the body: a client may write there what Envoy removes of headers."""
        if self._is_in_head:
            self._headers.append((name.decode("latin-1").lower(), value.decode("latin-1")))

    def on_headers_complete(self) -> None:
        """Begin the call."""
        self._is_in_head, self._head_bytes = False, 0
        path, headers = b"".join(self._url), dict(self._headers)
        if self._task is not None:
            # Envoy sends no request before it has the answer to the last one.
            self._transport.abort()
        elif self._parser.get_method() == b"GET" and path == _HEALTH_PATH:
            self._answer_plainly(HTTPStatus.OK if self._server.is_serving else HTTPStatus.SERVICE_UNAVAILABLE)
        elif (form := _form_of(method := path.decode("latin-1"), headers.get("content-type", ""))) is None:
            self._answer_plainly(HTTPStatus.UNSUPPORTED_MEDIA_TYPE)
        else:
            body = form.new_body(self._server.max_message_bytes, headers.get("grpc-encoding", "identity"))
            self._call = UnaryCall(method, form, self._headers, body, self._resume)
            self._task = asyncio.create_task(self._run(self._call, timeout_seconds(headers.get("grpc-timeout", ""))))

    def on_body(self, part: bytes) -> None:
        """Keep a part of the body."""
        if self._call is not None:
            self._call.body.add(part)
            if self._call.body.is_too_large:
                self._call.notice_body()

    def on_message_complete(self) -> None:
        """Hand over the whole body."""
        self._is_in_head = True
        if self._call is not None:
            self._call.has_whole_body = True
            self._call.notice_body()

    # The calls.

    async def _run(self, call: UnaryCall, seconds: float | None) -> None:
        deadline = None
        if seconds is not None:
            deadline = asyncio.get_running_loop().call_later(seconds, self._end_at_deadline, call)
        try:
            response = await self._outcome(call)
        except asyncio.CancelledError:
            if not call.is_past_deadline:
                self._transport.abort()
                raise
            response = None
            call.refused = grpc.StatusCode.DEADLINE_EXCEEDED, "the deadline is over", ()
        finally:
            if deadline is not None:
                deadline.cancel()
        is_last = not call.has_whole_body or self._server.is_stopping
        if response is None:
            code, text, trailers = call.refused or (grpc.StatusCode.INTERNAL, "internal error", ())
            self._transport.write(call.form.refusal(code, text, trailers, is_last=is_last))
        else:
            self._transport.write(call.form.answer(response, is_last=is_last))
        self._call = self._task = None
        # What still comes of the request is dropped.
        self._resume()

    async def _outcome(self, call: UnaryCall) -> bytes | None:
        """Return the response, or None with the status in `call.refused`."""
        handler = await self._server.handler_of(call)
        if handler is None:
            call.refused = grpc.StatusCode.UNIMPLEMENTED, "there is no such unary rpc here", ()
            return None
        try:
            return await handler(call)
        except grpc.aio.AbortError:
            return None

    def _end_at_deadline(self, call: UnaryCall) -> None:
        if self._task is not None and self._call is call:
            call.is_past_deadline = True
            self._task.cancel()

    def _answer_plainly(self, status: HTTPStatus) -> None:
        self._transport.write(b"HTTP/1.1 %d %s\r\ncontent-length: 0\r\n\r\n" % (status, status.phrase.encode()))

    def _pause(self) -> None:
        if not self._is_paused:
            self._is_paused = True
            self._transport.pause_reading()

    def _resume(self) -> None:
        if self._is_paused and not self._transport.is_closing():
            self._is_paused = False
            self._transport.resume_reading()


class GrpcHttp1Server:
    """The unary rpcs that were added, and the connections by which they are called."""

    def __init__(
        self, interceptor: ServerInterceptor, health: Health, *, max_message_bytes: int, max_head_bytes: int
    ) -> None:
        self.max_message_bytes = max_message_bytes
        self.max_head_bytes = max_head_bytes
        self.connections: set[_Connection] = set()
        self._interceptor = interceptor
        self._health = health
        self._services: list[Any] = []
        self._handlers: dict[str, _Handler] = {}

    @property
    def is_serving(self) -> bool:
        """Whether calls should come here."""
        return self._health.snapshot().is_serving

    @property
    def is_stopping(self) -> bool:
        """Whether no further call should come by a connection."""
        return self._interceptor.is_stopping

    def add_generic_rpc_handlers(self, handlers: Iterable[Any]) -> None:
        """Serve these handlers, as grpc.aio.Server does."""
        self._services.extend(handlers)

    async def handler_of(self, call: UnaryCall) -> _Handler | None:
        """Return what handles a call, with the interceptor around it; None where it is no unary rpc of this server."""
        found = self._handlers.get(call.method)
        if found is None:
            found = _unary(await self._interceptor.intercept_service(self._find, _Details(call)))
            # No more of them than there are rpcs.
            if found is not None:
                self._handlers[call.method] = found
        return found

    async def _find(self, details: Any) -> Any:
        found = (service.service(details) for service in self._services)
        return next((handler for handler in found if handler is not None), None)

    async def close(self, seconds: float) -> None:
        """Let the answers that are being written go out, and close every connection."""
        running = [each.task for each in self.connections if each.task is not None]
        if running:
            await asyncio.wait(running, timeout=seconds)
        for connection in list(self.connections):
            connection.close()


class _Details:
    """grpc.HandlerCallDetails of a call."""

    def __init__(self, call: UnaryCall) -> None:
        self.method = call.method
        self.invocation_metadata = call.invocation_metadata()


def _form_of(method: str, content_type: str) -> CallForm | None:
    """Return in which form an rpc is called; None where it is none that it has."""
    if content_type.startswith(_GRPC):
        return _GRPC_FORM
    return json_form(method) if content_type.startswith(JSON) else None


def _unary(handler: Any) -> _Handler | None:
    """Return a function of the call alone; None for all but handlers that receive their one request by the context."""
    if handler is None or not handler.request_streaming or handler.response_streaming:
        return None
    return lambda call: handler.stream_unary(None, call)


@asynccontextmanager
async def listening(server: GrpcHttp1Server, path: str, grace_seconds: float) -> AsyncIterator[None]:
    """Listen at a Unix socket until the end of the block; raise SettingsError where it is not for this user alone."""
    _check_folder(Path(path).parent)
    _check_unused(path)
    # A socket that a crash left behind is replaced.
    listener = await asyncio.get_running_loop().create_unix_server(lambda: _Connection(server), path, backlog=_BACKLOG)
    try:
        yield
    finally:
        listener.close()
        await server.close(grace_seconds)


def _check_folder(folder: Path) -> None:
    try:
        found = folder.stat()
    except OSError as error:
        raise SettingsError([f"gateway_socket: {folder} cannot be used: {error.strerror}"]) from None
    if found.st_uid != os.geteuid() or found.st_mode & 0o077:
        raise SettingsError([f"gateway_socket: {folder} must belong to this user, and nobody else may have access"])


def _check_unused(path: str) -> None:
    """Raise SettingsError where another process listens: the socket would be taken away from it."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(1)
        if client.connect_ex(path) not in {ENOENT, ECONNREFUSED}:
            raise SettingsError([f"gateway_socket: another process listens at {path}"])
