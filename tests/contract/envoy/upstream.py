"""A service as Envoy sees it: implements its contracts, records each call, responds as a test requires."""

import json
import ssl
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

from services.chassis.grpc_server import KEY_CHECK
from tocsin.access.v1 import access_service_pb2
from tocsin.alerts.v1 import alert_service_pb2
from tocsin.catalog.v1 import catalog_service_pb2, learned_edge_service_pb2
from tocsin.changes.v1 import change_service_pb2
from tocsin.explanations.v1 import explanation_service_pb2
from tocsin.incidents.v1 import incident_service_pb2
from tocsin.logs.v1 import log_ingest_service_pb2
from tocsin.notifications.v1 import notification_service_pb2
from tocsin.oncall.v1 import on_call_service_pb2
from tocsin.reports.v1 import report_service_pb2
from tocsin.routing.v1 import routing_service_pb2
from tocsin.rules.v1 import alert_rule_service_pb2, rule_statistics_service_pb2
from tocsin.silences.v1 import silence_service_pb2

CONTRACTS: dict[str, tuple[ServiceDescriptor, ...]] = {
    "ingest": (log_ingest_service_pb2.DESCRIPTOR.services_by_name["LogIngestService"],),
    "manager": (
        alert_rule_service_pb2.DESCRIPTOR.services_by_name["AlertRuleService"],
        rule_statistics_service_pb2.DESCRIPTOR.services_by_name["RuleStatisticsService"],
        alert_service_pb2.DESCRIPTOR.services_by_name["AlertService"],
        catalog_service_pb2.DESCRIPTOR.services_by_name["CatalogService"],
        learned_edge_service_pb2.DESCRIPTOR.services_by_name["LearnedEdgeService"],
        incident_service_pb2.DESCRIPTOR.services_by_name["IncidentService"],
        change_service_pb2.DESCRIPTOR.services_by_name["ChangeService"],
        silence_service_pb2.DESCRIPTOR.services_by_name["SilenceService"],
        report_service_pb2.DESCRIPTOR.services_by_name["ReportService"],
        access_service_pb2.DESCRIPTOR.services_by_name["AccessService"],
        on_call_service_pb2.DESCRIPTOR.services_by_name["OnCallService"],
        explanation_service_pb2.DESCRIPTOR.services_by_name["ExplanationService"],
        routing_service_pb2.DESCRIPTOR.services_by_name["RoutingService"],
    ),
    "notifier": (notification_service_pb2.DESCRIPTOR.services_by_name["NotificationService"],),
}
PUBLIC = [service.full_name for services in CONTRACTS.values() for service in services] + ["grpc.health.v1.Health"]

# The services' response to bytes that are no message.
MALFORMED = status_pb2.Status(code=3, message="the request cannot be decoded")
MALFORMED.details.add().Pack(error_details_pb2.ErrorInfo(reason="MALFORMED_MESSAGE", domain="tocsin.dev"))

# Gets the request and the call; returns the response, or an iterable of responses for a stream.
Behaviour = Callable[[Any, grpc.ServicerContext], Any]


@dataclass(frozen=True)
class Call:
    rpc: str
    request: Any
    metadata: dict[str, str]
    seconds_left: float | None


class Upstream:
    """One service's gRPC server, which can be stopped and started again."""

    def __init__(
        self,
        name: str,
        port: int,
        credentials: grpc.ServerCredentials | None = None,
        *,
        also: tuple[ServiceDescriptor, ...] = (),
    ) -> None:
        """Serve the contracts of the service of this name, and others."""
        self.name, self.port, self._credentials = name, port, credentials
        self._services = CONTRACTS[name] + also
        self.calls: list[Call] = []
        # The credentials that Envoy has asked about; `on("Check", …)` says what they are worth.
        self.asked_about: list[str] = []
        self._behaviours: dict[str, Behaviour] = {}
        self.start()

    def start(self) -> None:
        self.health = health.HealthServicer()
        self._server = grpc.server(ThreadPoolExecutor(8), options=[("grpc.max_receive_message_length", 8 << 20)])
        for service in self._services:
            handlers = {method.name: self._handler(method) for method in service.methods}
            self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service.full_name, handlers),))
        health_pb2_grpc.add_HealthServicer_to_server(self.health, self._server)
        own = [service.full_name for service in CONTRACTS[self.name]]
        reflection.enable_server_reflection([*own, "grpc.health.v1.Health"], self._server)
        self._server.add_generic_rpc_handlers((_edge_reflection(), self._key_check()))
        address = f"127.0.0.1:{self.port}"
        if self._credentials is None:
            assert self._server.add_insecure_port(address) == self.port
        else:
            assert self._server.add_secure_port(address, self._credentials) == self.port
        self._server.start()
        self.set_health(health_pb2.HealthCheckResponse.SERVING)

    def stop(self) -> None:
        self._server.stop(grace=None).wait()

    def set_health(self, status: int) -> None:
        self.health.set("", status)

    def on(self, rpc: str, behaviour: Behaviour) -> None:
        """Let the rpc behave like this until the test's end."""
        self._behaviours[rpc] = behaviour

    def reset(self) -> None:
        self.calls.clear()
        self.asked_about.clear()
        self._behaviours.clear()

    @property
    def requests(self) -> list[Any]:
        return [call.request for call in self.calls]

    def _key_check(self) -> grpc.GenericRpcHandler:
        def check(_: bytes, context: grpc.ServicerContext) -> bytes:
            self.asked_about.append(_text(dict(context.invocation_metadata())["authorization"]))
            behaviour = self._behaviours.get("Check")
            return b"" if behaviour is None else behaviour(b"", context)

        return grpc.method_handlers_generic_handler(KEY_CHECK, {"Check": grpc.unary_unary_rpc_method_handler(check)})

    def _handler(self, method: MethodDescriptor) -> "grpc.RpcMethodHandler[Any, Any]":
        request, response = GetMessageClass(method.input_type), GetMessageClass(method.output_type)

        def respond(message: Any, context: grpc.ServicerContext) -> Any:
            if isinstance(message, bytes):
                context.abort_with_status(rpc_status.to_status(MALFORMED))
            metadata = {key: _text(value) for key, value in context.invocation_metadata()}
            self.calls.append(Call(method.name, message, metadata, context.time_remaining()))
            behaviour = self._behaviours.get(method.name)
            return behaviour(message, context) if behaviour else response()

        def stream(message: Any, context: grpc.ServicerContext) -> Iterator[Any]:
            result = respond(message, context)
            yield from [result] if isinstance(result, response) else result

        kind = grpc.unary_stream_rpc_method_handler if method.server_streaming else grpc.unary_unary_rpc_method_handler
        return kind(
            stream if method.server_streaming else respond,
            request_deserializer=lambda content: _decoded(request, content),
            response_serializer=response.SerializeToString,
        )


@contextmanager
def admin(
    port: int, service: str, dependencies: dict[str, str], context: ssl.SSLContext | None = None
) -> Iterator[None]:
    """Serve /health as a service's admin port does: SERVING when all dependencies are UP."""
    is_serving = set(dependencies.values()) <= {"UP"}
    body = {"service": service, "status": "SERVING" if is_serving else "NOT_SERVING", "dependencies": dependencies}
    content = json.dumps(body).encode()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if is_serving else 503)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", port), Handler) as server:
        if context is not None:
            server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        try:
            yield
        finally:
            server.shutdown()


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode("latin-1")


def _decoded(kind: type[Message], content: bytes) -> Message | bytes:
    # Not None: gRPC would refuse that before the handler runs.
    try:
        return kind.FromString(content)
    except DecodeError:
        return content


def _edge_reflection() -> grpc.GenericRpcHandler:
    """Return reflection of all public services, under the name to which Envoy routes calls of its own reflection."""
    servicer = reflection.ReflectionServicer(PUBLIC)
    method = grpc.stream_stream_rpc_method_handler(
        servicer.ServerReflectionInfo,
        request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
        response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    return grpc.method_handlers_generic_handler("tocsin.edge.ServerReflection", {"ServerReflectionInfo": method})
