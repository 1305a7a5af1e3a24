"""The HTTP statuses of refusals: those of services, of what is too large, and of paths that are not there."""

import json
import socket

import grpc
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from tests.contract.envoy.client import EnvoyClient
from tests.contract.envoy.edge import Edge
from tests.contract.envoy.upstream import Behaviour

pytestmark = pytest.mark.integration


def event(**changes: object) -> dict[str, object]:
    return {"service": "a", "level": "ERROR", "message": "m", **changes}


def packed(detail: Message) -> AnyMessage:
    wrapped = AnyMessage()
    wrapped.Pack(detail)
    return wrapped


def refusing(status: status_pb2.Status) -> Behaviour:
    return lambda _, context: context.abort_with_status(rpc_status.to_status(status))


def test_a_refusal_of_the_service_keeps_its_details(edge: Edge) -> None:
    violation = error_details_pb2.BadRequest.FieldViolation(field="message", description="is required")
    info = error_details_pb2.ErrorInfo(reason="INVALID_REQUEST", domain="tocsin.dev")
    details = [packed(info), packed(error_details_pb2.BadRequest(field_violations=[violation]))]
    edge.ingest.on("IngestJson", refusing(status_pb2.Status(code=3, message="no message", details=details)))
    answer = edge.all.post("/api/logs", {"service": "a"})
    assert (answer.status, answer.json["code"], answer.reason) == (400, 3, "INVALID_REQUEST")
    assert answer.json["message"] == "no message"
    assert answer.violations == [("message", "is required")]


def test_a_retry_delay_is_also_an_http_header(edge: Edge) -> None:
    hint = error_details_pb2.RetryInfo()
    hint.retry_delay.FromSeconds(2)
    edge.ingest.on("IngestJson", refusing(status_pb2.Status(code=8, message="busy", details=[packed(hint)])))
    answer = edge.all.post("/api/logs", event())
    assert answer.status == 429
    assert answer.json["details"] == [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "2s"}]
    assert answer.headers["retry-after"] == "2"


def test_a_fraction_of_a_second_is_rounded_up(edge: Edge) -> None:
    hint = error_details_pb2.RetryInfo()
    hint.retry_delay.FromMilliseconds(100)
    edge.manager.on("GetAlertRule", refusing(status_pb2.Status(code=14, message="busy", details=[packed(hint)])))
    answer = edge.all.get("/api/alert-rules/r1")
    assert (answer.status, answer.headers["retry-after"]) == (503, "1")


@pytest.mark.parametrize(
    ("code", "status"),
    [
        (grpc.StatusCode.NOT_FOUND, 404),
        (grpc.StatusCode.ALREADY_EXISTS, 409),
        (grpc.StatusCode.ABORTED, 409),
        (grpc.StatusCode.FAILED_PRECONDITION, 400),
        (grpc.StatusCode.UNAVAILABLE, 503),
        (grpc.StatusCode.INTERNAL, 500),
    ],
)
def test_codes_become_the_usual_http_statuses(edge: Edge, code: grpc.StatusCode, status: int) -> None:
    edge.manager.on("GetAlertRule", refusing(status_pb2.Status(code=code.value[0], message="so")))
    answer = edge.all.get("/api/alert-rules/r1")
    assert (answer.status, answer.json) == (status, {"code": code.value[0], "message": "so", "details": []})


def test_a_body_over_the_limit_is_too_large(edge: Edge) -> None:
    answer = edge.all.post("/api/logs/batch", [event(message="x" * 1000)] * 9000)
    assert (answer.status, answer.reason) == (413, "REQUEST_TOO_LARGE")
    assert not edge.ingest.calls


def test_a_request_that_the_service_finds_too_large_has_the_same_status(edge: Edge) -> None:
    violation = error_details_pb2.BadRequest.FieldViolation(field="events", description="expected 1 to 5 events, got 6")
    info = error_details_pb2.ErrorInfo(reason="REQUEST_TOO_LARGE", domain="tocsin.dev")
    details = [packed(info), packed(error_details_pb2.BadRequest(field_violations=[violation]))]
    edge.ingest.on("IngestJsonBatch", refusing(status_pb2.Status(code=3, message="too many", details=details)))
    answer = edge.all.post("/api/logs/batch", [event()])
    assert (answer.status, answer.json["code"], answer.reason) == (413, 3, "REQUEST_TOO_LARGE")
    assert answer.violations == [("events", "expected 1 to 5 events, got 6")]


def test_a_body_below_the_limit_reaches_the_service_complete(edge: Edge) -> None:
    events = [event(message="x" * 1000)] * 7000
    assert edge.all.post("/api/logs/batch", events).status == 200
    assert json.loads(edge.ingest.requests[0].body.data) == events


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("GET", "/api/nothing"),
        ("GET", "/metrics"),
        ("GET", "/stats/prometheus"),
        ("POST", "/tocsin.logs.v1.LogIngestService/Ingest"),
    ],
)
def test_paths_that_are_not_listed_do_not_exist(edge: Edge, method: str, path: str) -> None:
    answer = edge.all.send(method, path, "{}" if method == "POST" else None)
    assert (answer.status, answer.json["code"]) == (404, 5)


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/api/logs", "POST"),
        ("DELETE", "/api/alerts?states=FIRING", "GET"),
        ("POST", "/api/alert-rules/a", "GET, PATCH, PUT, DELETE"),
    ],
)
def test_a_verb_that_a_path_does_not_take_is_refused_with_those_that_it_takes(
    edge: Edge, method: str, path: str, allowed: str
) -> None:
    answer = edge.all.send(method, path, "{}" if method == "POST" else None)
    assert (answer.status, answer.headers["allow"]) == (405, allowed)
    assert answer.json == {"code": 12, "message": f"{method} is not allowed here; expected {allowed}", "details": []}
    assert "x-tocsin-nothing" not in answer.headers


def test_what_another_port_serves_does_not_exist(edge: Edge) -> None:
    answer = EnvoyClient(edge.ports.edge_notifier).get("/api/alerts")
    assert (answer.status, "allow" in answer.headers, "x-tocsin-nothing" in answer.headers) == (404, False, False)


def test_an_invalid_path_is_reported_as_such(edge: Edge) -> None:
    answer = edge.all.get("/api/alerts/%00")
    assert (answer.status, answer.reason) == (400, "MALFORMED_MESSAGE")
    assert answer.violations == [("request", "its path or its headers are not valid HTTP")]


def test_a_path_that_is_too_long_is_refused(edge: Edge) -> None:
    answer = edge.all.get("/api/alerts?resource=" + "x" * 70_000)
    assert (answer.status, answer.json["code"]) == (431, 3)
    assert "60 KiB" in answer.json["message"]


def test_an_invalid_request_for_health_is_not_bad_health(edge: Edge) -> None:
    with socket.create_connection(("127.0.0.1", edge.ports.edge), timeout=10) as caller:
        caller.sendall(b"GET /health HTTP/1.1\r\nconnection: close\r\n\r\n")
        assert caller.recv(100).startswith(b"HTTP/1.1 400 ")
