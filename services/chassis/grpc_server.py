"""The gRPC server of a service, with health and reflection."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import grpc
import structlog
from google.protobuf import descriptor_pool
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2

from services.chassis.callers import Guard, KnownCall, PermissionDenied
from services.chassis.failures import Failure
from services.chassis.grpc_http1_server import GrpcHttp1Server, listening
from services.chassis.health import Health
from services.chassis.interceptors import ServerInterceptor
from services.chassis.settings import ProcessSettings, split_address
from services.chassis.tls import TlsFiles, server_credentials

log = structlog.get_logger()

# The largest REST body that the edge accepts, and the overhead of gRPC.
MAX_GRPC_MESSAGE_BYTES = 8 * 1024 * 1024 + 128 * 1024
_MAX_METADATA_BYTES = 128 * 1024

# Envoy asks here whether a key is valid, at whichever service is healthy, before it takes the body of a request.
KEY_CHECK = "tocsin.edge.KeyCheck"

# The edge routes reflection here, at whichever service is healthy: one list has the services of the whole mesh.
EDGE_REFLECTION = "tocsin.edge.ServerReflection"

_OPTIONS = (
    ("grpc.max_receive_message_length", MAX_GRPC_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_GRPC_MESSAGE_BYTES),
    # Bytes that a call may send before they are read; gRPC would grow it to megabytes on a fast connection.
    ("grpc.http2.lookahead_bytes", 64 * 1024),
    ("grpc.http2.bdp_probe", 0),
    # Envoy accepts 60 KiB of headers, and forwards a REST path beside the message it was transcoded to.
    ("grpc.max_metadata_size", _MAX_METADATA_BYTES),
    ("grpc.absolute_max_metadata_size", _MAX_METADATA_BYTES),
    ("grpc.so_reuseport", 0),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
)

# For responses on their way; watched health checks do not end by themselves.
_STOP_GRACE_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Mount:
    """A gRPC service: its full name, and the function that adds its handlers to the server."""

    name: str
    add: Callable[[grpc.aio.Server], None]


@dataclass(frozen=True, slots=True)
class RunningServer:
    """A server that accepts calls."""

    port: int
    # Of the second address, without TLS; None: there is none.
    plaintext_port: int | None = None


@asynccontextmanager
async def grpc_server(
    process: ProcessSettings,
    mounts: Sequence[Mount],
    health: Health,
    guard: Guard,
    edge_services: Sequence[str] = (),
    gateway_socket: str = "",
) -> AsyncIterator[RunningServer]:
    """Serve the mounts until the end of the block; then refuse new calls, and let the running ones end.

    At `gateway_socket`, where it is not empty, unary rpcs are served over HTTP/1.1 as well. Raises SettingsError where
    others have access to its folder, or listen there.
    """
    interceptor = ServerInterceptor(guard, max_streams=process.max_streams)
    server = grpc.aio.server(interceptors=[interceptor], options=_OPTIONS)
    for mount in mounts:
        mount.add(server)
    names = [mount.name for mount in mounts]
    checks = _mount_health(server, names, health)
    _mount_reflection(server, [*names, health_pb2.DESCRIPTOR.services_by_name["Health"].full_name], edge_services)
    _mount_key_check(server, guard)
    bound, plaintext = _listen(server, process)
    async with _gateway(gateway_socket, mounts, interceptor, health):
        await server.start()
        try:
            yield RunningServer(bound, plaintext)
        finally:
            await interceptor.drain(process.drain.total_seconds() / 2)
            await server.stop(_STOP_GRACE_SECONDS)
            checks.cancel()


def _gateway(
    path: str, mounts: Sequence[Mount], interceptor: ServerInterceptor, health: Health
) -> AbstractAsyncContextManager[None]:
    if not path:
        return nullcontext()
    server: Any = GrpcHttp1Server(
        interceptor, health, max_message_bytes=MAX_GRPC_MESSAGE_BYTES, max_head_bytes=_MAX_METADATA_BYTES
    )
    for mount in mounts:
        mount.add(server)
    return listening(server, path, _STOP_GRACE_SECONDS)


def _listen(server: grpc.aio.Server, process: ProcessSettings) -> tuple[int, int | None]:
    """Open the addresses of the settings, and return their ports."""
    if not process.tls.is_on:
        return server.add_insecure_port(_address_of(process.listen)), None
    files = TlsFiles(process.tls)
    bound = server.add_secure_port(_address_of(process.listen), server_credentials(files))
    if not process.plaintext_listen:
        return bound, None
    log.warning("plaintext_accepted", listen=process.plaintext_listen)
    return bound, server.add_insecure_port(_address_of(process.plaintext_listen))


def _address_of(listen: str) -> str:
    host, port = split_address(listen)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _mount_health(server: grpc.aio.Server, names: Sequence[str], state: Health) -> asyncio.Task[None]:
    servicer = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    changed = asyncio.Event()
    changed.set()
    state.subscribe(changed.set)
    return asyncio.create_task(_publish_health(state, servicer, ["", *names], changed))


def _mount_key_check(server: grpc.aio.Server, guard: Guard) -> None:
    async def check(_: bytes, context: Any) -> bytes:
        headers = {name: value for name, value in context.invocation_metadata() or () if isinstance(value, str)}
        try:
            guard.admit(KnownCall(method=f"/{KEY_CHECK}/Check", metadata=headers))
        except PermissionDenied:
            # The caller is known, and no role may call this.
            pass
        except Failure as failure:
            await context.abort(failure.code, failure.text)
        return b""

    handlers: dict[str, Any] = {"Check": grpc.unary_unary_rpc_method_handler(check)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(KEY_CHECK, handlers),))


async def _publish_health(
    state: Health, servicer: health.aio.HealthServicer, names: Sequence[str], changed: asyncio.Event
) -> None:
    """Copy Health into grpc.health.v1 after each change."""
    while await changed.wait():
        changed.clear()
        answer = health_pb2.HealthCheckResponse
        # gRPC knows of no degraded state: such an instance serves.
        status = answer.SERVING if state.snapshot().is_serving else answer.NOT_SERVING
        for name in names:
            await servicer.set(name, status)


def _mount_reflection(server: grpc.aio.Server, names: Sequence[str], edge_services: Sequence[str]) -> None:
    own = [*names, reflection.SERVICE_NAME]
    reflection.enable_server_reflection(own, server)
    if edge_services:
        servicer = reflection.aio.ReflectionServicer(edge_services, pool=descriptor_pool.Default())
        handler = grpc.stream_stream_rpc_method_handler(
            servicer.ServerReflectionInfo,
            request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
            response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
        )
        handlers = grpc.method_handlers_generic_handler(EDGE_REFLECTION, {"ServerReflectionInfo": handler})
        server.add_generic_rpc_handlers((handlers,))
