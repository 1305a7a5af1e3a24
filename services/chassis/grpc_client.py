"""The gRPC channel by which one service calls another through the mesh."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc

from services.chassis import telemetry
from services.chassis.grpc_server import MAX_GRPC_MESSAGE_BYTES

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


@asynccontextmanager
async def channel(target: str) -> AsyncIterator[grpc.aio.Channel]:
    """Open a channel that sends the trace context with each call; callers set the deadline."""
    mesh = grpc.aio.insecure_channel(target, options=_OPTIONS, interceptors=[_UnaryTracing(), _StreamTracing()])
    try:
        yield mesh
    finally:
        await mesh.close(grace=0.5)


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
