"""A unary rpc as REST over the same HTTP/1.1: its caller's JSON as it came, and an answer in JSON.

For rpcs that take a request's body as it is (google.api.HttpBody). Envoy's transcoder, with the script that REST needs
beside it, costs nearly as much as the rest of Envoy for a single event. So Envoy passes the usual request of
one event on (`take_event` in envoy/envoy.yaml), and the answer is made here from the status of a gRPC call and its
details, as Envoy makes all others. Callers notice no difference: tests/contract/envoy/test_events.py.
"""

import json
import math
from collections.abc import Callable, Iterable
from functools import cache
from http import HTTPStatus
from typing import Any, Final

import grpc
from google.protobuf import descriptor_pool
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.rpc import error_details_pb2, status_pb2

from services.chassis.failures import RequestTooLarge
from services.chassis.grpc_http1_messages import CLOSE, RequestBody
from services.chassis.interceptors import DETAILS

JSON: Final = "application/json"
_HTTP_BODY: Final = "google.api.HttpBody"
_HEAD: Final = b"HTTP/1.1 %d %s\r\ncontent-type: application/json\r\ncontent-length: %d\r\n"
# Of an answer, as the transcoder gives it.
_OK: Final = ("grpc-status", "0")
# As Envoy translates them.
_STATUSES: Final = {
    grpc.StatusCode.INVALID_ARGUMENT: HTTPStatus.BAD_REQUEST,
    grpc.StatusCode.DEADLINE_EXCEEDED: HTTPStatus.GATEWAY_TIMEOUT,
    grpc.StatusCode.NOT_FOUND: HTTPStatus.NOT_FOUND,
    grpc.StatusCode.ALREADY_EXISTS: HTTPStatus.CONFLICT,
    grpc.StatusCode.PERMISSION_DENIED: HTTPStatus.FORBIDDEN,
    grpc.StatusCode.RESOURCE_EXHAUSTED: HTTPStatus.TOO_MANY_REQUESTS,
    grpc.StatusCode.FAILED_PRECONDITION: HTTPStatus.BAD_REQUEST,
    grpc.StatusCode.ABORTED: HTTPStatus.CONFLICT,
    grpc.StatusCode.OUT_OF_RANGE: HTTPStatus.BAD_REQUEST,
    grpc.StatusCode.UNIMPLEMENTED: HTTPStatus.NOT_IMPLEMENTED,
    grpc.StatusCode.UNAVAILABLE: HTTPStatus.SERVICE_UNAVAILABLE,
    grpc.StatusCode.UNAUTHENTICATED: HTTPStatus.UNAUTHORIZED,
}
# As refusals.lua adds it to answers of the transcoder.
_CHALLENGE: Final = ("www-authenticate", 'Bearer realm="tocsin"')


class _JsonBody(RequestBody):
    """Collects a body, which becomes the one field of the request."""

    def __init__(self, max_bytes: int, wrap: Callable[[bytes], bytes]) -> None:
        super().__init__(max_bytes, "identity")
        self._wrap = wrap

    def _message(self, body: bytes) -> bytes:
        return self._wrap(body)


class JsonForm:
    """How an rpc is called with JSON."""

    def __init__(self, method: MethodDescriptor) -> None:
        self._request: Any = GetMessageClass(method.input_type)
        self._response = GetMessageClass(method.output_type)
        # Nearly all answers are the same.
        self._last = b"", _json(self._response())

    def new_body(self, max_bytes: int, _encoding: str) -> RequestBody:
        """Return what collects a request of at most so many bytes."""
        return _JsonBody(max_bytes, self._wrapped)

    def answer(self, message: bytes, *, is_last: bool) -> bytes:
        """Return the response with a message; `is_last`: the connection ends with it."""
        if self._last[0] != message:
            self._last = message, _json(self._response.FromString(message))
        return _response(HTTPStatus.OK, (_OK,), self._last[1], is_last=is_last)

    def refusal(
        self, code: grpc.StatusCode, text: str, trailers: Iterable[tuple[str, str | bytes]] = (), *, is_last: bool
    ) -> bytes:
        """Return the response with a status, and the details that the trailers of a gRPC call have."""
        headers = dict(trailers)
        details = headers.pop(DETAILS, None)
        status = status_pb2.Status(code=code.value[0], message=text)
        if isinstance(details, bytes):
            status = status_pb2.Status.FromString(details)
        http, hints = _http_status(code, status)
        return _response(http, (*headers.items(), *hints), _json(status), is_last=is_last)

    def _wrapped(self, body: bytes) -> bytes:
        request: bytes = self._request(body={"data": body}).SerializeToString()
        return request


@cache
def json_form(path: str) -> JsonForm | None:
    """Return how an rpc is called with JSON, by its path; None for what takes no body as it is."""
    try:
        method = descriptor_pool.Default().FindMethodByName(path.removeprefix("/").replace("/", "."))
    except KeyError:
        return None
    body = method.input_type.fields_by_name.get("body")
    takes_body = body is not None and body.message_type is not None and body.message_type.full_name == _HTTP_BODY
    return JsonForm(method) if takes_body else None


def _http_status(code: grpc.StatusCode, status: status_pb2.Status) -> tuple[HTTPStatus, list[tuple[str, str]]]:
    """Return the HTTP status, and the headers that repeat what the details say."""
    reason, retry_info = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    is_retriable = False
    for detail in status.details:
        detail.Unpack(reason)
        is_retriable |= detail.Unpack(retry_info)
    if reason.reason == RequestTooLarge.reason:
        # HTTP has a status for it, gRPC has not.
        return HTTPStatus.REQUEST_ENTITY_TOO_LARGE, []
    http = _STATUSES.get(code, HTTPStatus.INTERNAL_SERVER_ERROR)
    hints = [_CHALLENGE] if http is HTTPStatus.UNAUTHORIZED else []
    if is_retriable and http in {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE}:
        hints.append(("retry-after", str(math.ceil(retry_info.retry_delay.ToTimedelta().total_seconds()))))
    return http, hints


def _json(message: Message) -> bytes:
    fields = MessageToDict(message, always_print_fields_with_no_presence=True)
    text = json.dumps(fields, ensure_ascii=False, separators=(",", ":"))
    # As the transcoder writes them: an answer quotes its request, and is never a page.
    return text.replace("<", r"\u003c").replace(">", r"\u003e").encode()


def _response(http: HTTPStatus, headers: Iterable[tuple[str, str | bytes]], body: bytes, *, is_last: bool) -> bytes:
    lines = [_HEAD % (http.value, http.phrase.encode(), len(body)), CLOSE if is_last else b""]
    lines.extend(f"{name}: {value}\r\n".encode("ascii") for name, value in headers if isinstance(value, str))
    return b"".join((*lines, b"\r\n", body))
