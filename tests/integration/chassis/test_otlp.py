"""Spans on their way to a receiver of OTLP."""

import asyncio
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

from services.chassis import telemetry


class Receiver(trace_service_pb2_grpc.TraceServiceServicer):
    """Keeps what it is sent."""

    def __init__(self) -> None:
        self.requests: list[Any] = []

    async def Export(self, request: Any, _: Any) -> Any:  # noqa: N802  (the protocol's name)
        self.requests.append(request)
        return trace_service_pb2.ExportTraceServiceResponse()


async def test_the_last_spans_are_sent_before_the_end() -> None:
    receiver, server = Receiver(), grpc.aio.server()
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(receiver, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()

    def run() -> None:
        with telemetry.telemetry("ingest", "one", f"127.0.0.1:{port}"):
            telemetry.tracer("test").start_span("judge").end()

    await asyncio.to_thread(run)
    await server.stop(None)
    (resource,) = receiver.requests[0].resource_spans
    names = {attribute.key: attribute.value.string_value for attribute in resource.resource.attributes}
    assert names == {"service.name": "ingest", "service.namespace": "tocsin", "service.instance.id": "one"}
    assert [span.name for scope in resource.scope_spans for span in scope.spans] == ["judge"]


async def test_a_receiver_that_is_away_does_not_hold_up_the_end() -> None:
    def run() -> None:
        with telemetry.telemetry("ingest", "one", "127.0.0.1:1"):
            telemetry.tracer("test").start_span("judge").end()

    async with asyncio.timeout(5):
        await asyncio.to_thread(run)
