"""The gRPC channel by which one service calls another through the mesh."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import grpc

from services.chassis import telemetry
from services.chassis.grpc_server import MAX_GRPC_MESSAGE_BYTES
from services.chassis.peers import GATEWAY_NAME
from services.chassis.settings import TlsSettings
from services.chassis.tls import TlsFiles, TlsMaterial

_OPTIONS = (
    ("grpc.max_receive_message_length", MAX_GRPC_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_GRPC_MESSAGE_BYTES),
    ("grpc.initial_reconnect_backoff_ms", 100),
    # The default of two minutes would delay the first call to a service that is back.
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
)
# Connections of one channel are never those of another: with other certificates they would not be the same.
_TLS_OPTIONS = (*_OPTIONS, ("grpc.ssl_target_name_override", GATEWAY_NAME), ("grpc.use_local_subchannel_pool", 1))

_CLOSE_GRACE_SECONDS = 0.5
_PLAINTEXT = TlsSettings()


@asynccontextmanager
async def channel(target: str, tls: TlsSettings = _PLAINTEXT) -> AsyncIterator[grpc.aio.Channel]:
    """Open a channel that sends the trace context with each call; callers set the deadline.

    With TLS the other side must be the gateway. When the files have changed, later calls go over a new connection.
    """
    if not tls.is_on:
        mesh = grpc.aio.insecure_channel(target, options=_OPTIONS, interceptors=_interceptors())
        try:
            yield mesh
        finally:
            await mesh.close(grace=_CLOSE_GRACE_SECONDS)
        return
    renewing = _RenewingChannel(target, TlsFiles(tls))
    try:
        # Of a channel, stubs use what this one has.
        yield cast("grpc.aio.Channel", renewing)
    finally:
        await renewing.close()


class _Connection:
    """A channel with the certificates of one moment, and how many calls go over it."""

    def __init__(self, target: str, material: TlsMaterial) -> None:
        self.material = material
        self.calls = 0
        credentials = grpc.ssl_channel_credentials(material.ca, material.key, material.certificate)
        self.channel = grpc.aio.secure_channel(target, credentials, _TLS_OPTIONS, interceptors=_interceptors())
        self._callables: dict[str, Any] = {}

    def callable_of(self, method: str, create: Callable[[grpc.aio.Channel], Any]) -> Any:
        """Return what calls this method over this channel."""
        if method not in self._callables:
            self._callables[method] = create(self.channel)
        return self._callables[method]


class _RenewingChannel:
    """Looks like one channel; each call goes over one with the present certificates, and ends on the one it began on.

    A channel with former certificates is closed after its last call.
    """

    def __init__(self, target: str, files: TlsFiles) -> None:
        self._target, self._files = target, files
        self._current = _Connection(target, files.current())
        self._retired: set[_Connection] = set()
        self._closing: set[asyncio.Task[None]] = set()

    def unary_unary(self, method: str, *arguments: Any, **named: Any) -> Callable[..., Any]:
        """Return what makes calls of this method."""
        return self._renewing(method, lambda channel: channel.unary_unary(method, *arguments, **named))

    def unary_stream(self, method: str, *arguments: Any, **named: Any) -> Callable[..., Any]:
        """Return what makes calls of this method."""
        return self._renewing(method, lambda channel: channel.unary_stream(method, *arguments, **named))

    async def close(self) -> None:
        """End all calls, after a moment in which they can end by themselves."""
        for connection in (self._current, *self._retired):
            await connection.channel.close(grace=_CLOSE_GRACE_SECONDS)
        if self._closing:
            await asyncio.wait(self._closing)

    def _renewing(self, method: str, create: Callable[[grpc.aio.Channel], Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            connection = self._present()
            begun = connection.callable_of(method, create)(*arguments, **options)
            connection.calls += 1
            begun.add_done_callback(lambda _: self._end_call(connection))
            return begun

        return call

    def _present(self) -> _Connection:
        material = self._files.current()
        if material is not self._current.material:
            self._retired.add(self._current)
            self._close_unused(self._current)
            self._current = _Connection(self._target, material)
        return self._current

    def _end_call(self, connection: _Connection) -> None:
        connection.calls -= 1
        self._close_unused(connection)

    def _close_unused(self, connection: _Connection) -> None:
        if connection in self._retired and not connection.calls:
            self._retired.discard(connection)
            closing = asyncio.get_running_loop().create_task(connection.channel.close())
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)


def _interceptors() -> list[grpc.aio.ClientInterceptor]:
    return [_UnaryTracing(), _StreamTracing()]


class _UnaryTracing(grpc.aio.UnaryUnaryClientInterceptor):
    async def intercept_unary_unary(self, continuation: Callable[..., Any], details: Any, request: Any) -> Any:
        return await continuation(_traced(details), request)


class _StreamTracing(grpc.aio.UnaryStreamClientInterceptor):
    async def intercept_unary_stream(self, continuation: Callable[..., Any], details: Any, request: Any) -> Any:
        return await continuation(_traced(details), request)


def _traced(details: Any) -> Any:
    """Return the call's details with the current trace context in its metadata."""
    metadata = grpc.aio.Metadata(*(details.metadata or ()))
    for key, value in telemetry.carrier().items():
        metadata.set_all(key, [value])
    return details._replace(metadata=metadata)
