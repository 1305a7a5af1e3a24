"""A service whose rpcs do what their requests say, and how tests call it."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any, cast

import grpc
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2
from grpc_status import rpc_status

from services.chassis import telemetry
from services.chassis.failures import InvalidRequest, Overloaded, Violation
from services.chassis.grpc_server import Mount

Ping = health_pb2.HealthCheckRequest
Pong = health_pb2.HealthCheckResponse
NAME = "test.Pings"


class Pings:
    """A servicer that does what the request's `service` says."""

    def __init__(self) -> None:
        self.has_ended = asyncio.Event()
        self.has_begun, self.may_end = asyncio.Event(), asyncio.Event()
        self.trace_headers: list[tuple[str, bytes]] = []

    async def one(self, request: Any, context: Any) -> Any:
        self.trace_headers = telemetry.trace_headers()
        match request.service:
            case "refuse":
                raise InvalidRequest("no", violations=[Violation("service", "must not be refuse")], given="refuse")
            case "overload":
                raise Overloaded("later", retry_after=timedelta(milliseconds=1500))
            case "crash":
                raise ValueError("secret of the driver")
            case "wait":
                self.has_begun.set()
                await self.may_end.wait()
            case "not-found":
                context.set_code(grpc.StatusCode.NOT_FOUND)
        return Pong(status=Pong.SERVING)

    async def many(self, request: Any, _: Any) -> AsyncIterator[Any]:
        try:
            if request.service == "much":
                self.has_begun.set()
                yield Ping(service="x" * 3_000_000)
            yield Pong(status=Pong.SERVING)
            if request.service == "refuse":
                raise InvalidRequest("no more")
            await asyncio.Event().wait()
        finally:
            self.has_ended.set()

    async def count(self, requests: AsyncIterator[Any], _: Any) -> Any:
        return Pong(status=len([request async for request in requests]))

    async def raw(self, request: bytes, _: Any) -> bytes:
        return request[::-1]

    def mount(self) -> Mount:
        decoding: dict[str, Any] = {
            "request_deserializer": Ping.FromString,
            "response_serializer": lambda message: message.SerializeToString(),
        }
        handlers: dict[str, Any] = {
            "One": grpc.unary_unary_rpc_method_handler(self.one, **decoding),
            "Many": grpc.unary_stream_rpc_method_handler(self.many, **decoding),
            "Count": grpc.stream_unary_rpc_method_handler(self.count, **decoding),
            "Raw": grpc.unary_unary_rpc_method_handler(self.raw),
        }
        generic = grpc.method_handlers_generic_handler(NAME, handlers)
        return Mount(NAME, lambda server: server.add_generic_rpc_handlers((generic,)))


def one(client: Any, method: str = "One") -> Any:
    return client.unary_unary(f"/{NAME}/{method}", Ping.SerializeToString, Pong.FromString)


def details(error: grpc.aio.AioRpcError) -> tuple[status_pb2.Status, dict[str, Any]]:
    status = rpc_status.from_call(cast("grpc.Call", error))
    assert status is not None
    by_kind = {}
    for kind in (error_details_pb2.ErrorInfo, error_details_pb2.BadRequest, error_details_pb2.RetryInfo):
        for detail in status.details:
            if detail.Is(kind.DESCRIPTOR):
                by_kind[kind.__name__] = kind.FromString(detail.value)
    return status, by_kind
