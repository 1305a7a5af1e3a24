"""A service as Envoy sees it: implements its contracts, records each call, answers what a test asks for."""

import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import grpc
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2
from grpc_status import rpc_status

from tocsin.alerts.v1 import alert_service_pb2
from tocsin.logs.v1 import log_ingest_service_pb2
from tocsin.notifications.v1 import notification_service_pb2
from tocsin.rules.v1 import alert_rule_service_pb2

CONTRACTS: dict[str, tuple[ServiceDescriptor, ...]] = {
    "ingest": (log_ingest_service_pb2.DESCRIPTOR.services_by_name["LogIngestService"],),
    "manager": (
        alert_rule_service_pb2.DESCRIPTOR.services_by_name["AlertRuleService"],
        alert_service_pb2.DESCRIPTOR.services_by_name["AlertService"],
    ),
    "notifier": (notification_service_pb2.DESCRIPTOR.services_by_name["NotificationService"],),
}
PUBLIC = [service.full_name for services in CONTRACTS.values() for service in services] + ["grpc.health.v1.Health"]

# What the services answer to bytes that are no message.
MALFORMED = status_pb2.Status(code=3, message="the request cannot be decoded")
MALFORMED.details.add().Pack(error_details_pb2.ErrorInfo(reason="MALFORMED_MESSAGE", domain="tocsin.dev"))

# Given the request and the call; gives the answer, or an iterable of them for a stream.
Behaviour = Callable[[Any, grpc.ServicerContext], Any]


@dataclass(frozen=True)
class Call:
    rpc: str
    request: Any
    metadata: dict[str, str | bytes]
    seconds_left: float | None


class Upstream:
    """One service's gRPC server, which can be stopped and started again."""

    def __init__(self, name: str, port: int) -> None:
        self.name, self.port = name, port
        self.calls: list[Call] = []
        self._behaviours: dict[str, Behaviour] = {}
        self.start()

    def start(self) -> None:
        self.health = health.HealthServicer()
        self._server = grpc.server(ThreadPoolExecutor(8), options=[("grpc.max_receive_message_length", 8 << 20)])
        for service in CONTRACTS[self.name]:
            handlers = {method.name: self._handler(method) for method in service.methods}
            self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service.full_name, handlers),))
        health_pb2_grpc.add_HealthServicer_to_server(self.health, self._server)
        own = [service.full_name for service in CONTRACTS[self.name]]
        reflection.enable_server_reflection([*own, "grpc.health.v1.Health"], self._server)
        if self.name == "ingest":
            self._server.add_generic_rpc_handlers((_edge_reflection(),))
        assert self._server.add_insecure_port(f"127.0.0.1:{self.port}") == self.port
        self._server.start()
        self.say(health_pb2.HealthCheckResponse.SERVING)

    def stop(self) -> None:
        self._server.stop(grace=None).wait()

    def say(self, status: health_pb2.HealthCheckResponse.ServingStatus) -> None:
        self.health.set("", status)

    def on(self, rpc: str, behaviour: Behaviour) -> None:
        """Let the rpc behave so until the test's end."""
        self._behaviours[rpc] = behaviour

    def forget(self) -> None:
        self.calls.clear()
        self._behaviours.clear()

    @property
    def requests(self) -> list[Any]:
        return [call.request for call in self.calls]

    def _handler(self, method: MethodDescriptor) -> grpc.RpcMethodHandler:
        request, response = GetMessageClass(method.input_type), GetMessageClass(method.output_type)

        def answer(message: Any, context: grpc.ServicerContext) -> Any:
            if isinstance(message, bytes):
                context.abort_with_status(rpc_status.to_status(MALFORMED))
            metadata = dict(context.invocation_metadata())
            self.calls.append(Call(method.name, message, metadata, context.time_remaining()))
            return self._behaviours.get(method.name, lambda *_: response())(message, context)

        def stream(message: Any, context: grpc.ServicerContext) -> Iterator[Any]:
            given = answer(message, context)
            yield from [given] if isinstance(given, response) else given

        kind = grpc.unary_stream_rpc_method_handler if method.server_streaming else grpc.unary_unary_rpc_method_handler
        return kind(
            stream if method.server_streaming else answer,
            request_deserializer=lambda content: _decoded(request, content),
            response_serializer=response.SerializeToString,
        )


@contextmanager
def admin(port: int, service: str, dependencies: dict[str, str]) -> Iterator[None]:
    """Answer /health as a service's admin port does: it serves when all that it depends on is UP."""
    is_serving = set(dependencies.values()) <= {"UP"}
    body = {"service": service, "status": "SERVING" if is_serving else "NOT_SERVING", "dependencies": dependencies}
    content = json.dumps(body).encode()

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if is_serving else 503)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", port), Answer) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        try:
            yield
        finally:
            server.shutdown()


def _decoded(kind: type[Message], content: bytes) -> Message | bytes:
    # Not None: that would be answered before the handler is asked.
    try:
        return kind.FromString(content)
    except DecodeError:
        return content


def _edge_reflection() -> grpc.GenericRpcHandler:
    """Reflection over everything public, under the name to which Envoy leads callers of its own reflection."""
    servicer = reflection.ReflectionServicer(PUBLIC)
    method = grpc.stream_stream_rpc_method_handler(
        servicer.ServerReflectionInfo,
        request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
        response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    return grpc.method_handlers_generic_handler("tocsin.edge.ServerReflection", {"ServerReflectionInfo": method})
