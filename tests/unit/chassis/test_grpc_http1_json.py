"""How an rpc is called with JSON over HTTP/1.1; that Envoy answers alike is in tests/contract/envoy/test_events.py."""

import json

import grpc
import pytest

from services.chassis.failures import RequestTooLarge
from services.chassis.grpc_http1_json import JsonForm, json_form
from tocsin.logs.v1.log_ingest_service_pb2 import IngestJsonRequest, IngestJsonResponse

PATH = "/tocsin.logs.v1.LogIngestService/IngestJson"
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 19\r\n"


def form() -> JsonForm:
    found = json_form(PATH)
    assert found is not None
    return found


@pytest.mark.parametrize(
    "path", ["/tocsin.logs.v1.LogIngestService/IngestBatch", "/tocsin.logs.v1.LogIngestService/None", "/", ""]
)
def test_only_an_rpc_that_takes_its_body_as_it_is_has_the_form(path: str) -> None:
    assert json_form(path) is None
    assert json_form(PATH) is form()


@pytest.mark.parametrize("chunks", [(), (b"{}",), (b'{"a"', b": 1}")])
def test_a_body_becomes_the_request(chunks: tuple[bytes, ...]) -> None:
    body = form().new_body(100, "gzip")
    for chunk in chunks:
        body.add(chunk)
    message = body.take()
    assert message is not None
    assert IngestJsonRequest.FromString(message).body.data == b"".join(chunks)


def test_a_body_that_is_too_large_is_refused() -> None:
    body = form().new_body(100, "identity")
    body.add(b"x" * 200)
    with pytest.raises(RequestTooLarge):
        body.take()


def test_an_answer_is_the_responses_json() -> None:
    for count in (1, 2, 1):
        message = IngestJsonResponse(accepted_count=count).SerializeToString()
        body = b'{"acceptedCount":%d}' % count
        assert form().answer(message, is_last=False) == HEAD + b"grpc-status: 0\r\n\r\n" + body
        assert form().answer(message, is_last=True) == HEAD + b"connection: close\r\ngrpc-status: 0\r\n\r\n" + body


@pytest.mark.parametrize(
    ("code", "line"),
    [
        (grpc.StatusCode.DEADLINE_EXCEEDED, b"HTTP/1.1 504 Gateway Timeout"),
        (grpc.StatusCode.UNAUTHENTICATED, b"HTTP/1.1 401 Unauthorized"),
        (grpc.StatusCode.UNKNOWN, b"HTTP/1.1 500 Internal Server Error"),
    ],
)
def test_a_refusal_without_details_is_its_status(code: grpc.StatusCode, line: bytes) -> None:
    head, body = form().refusal(code, "für", [("x-tocsin-not-begun", "1")], is_last=True).split(b"\r\n\r\n")
    assert head.split(b"\r\n")[0] == line
    assert (b"www-authenticate" in head) == (code is grpc.StatusCode.UNAUTHENTICATED)
    assert b"connection: close\r\nx-tocsin-not-begun: 1" in head
    assert f"content-length: {len(body)}".encode() in head
    assert json.loads(body) == {"code": code.value[0], "message": "für", "details": []}
