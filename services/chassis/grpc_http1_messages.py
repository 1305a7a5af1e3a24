"""The HTTP/1.1 messages of a unary gRPC call: the request's one message, its deadline, the bytes of the answer.

The names and forms are those of gRPC over HTTP/2 (PROTOCOL-HTTP2.md of gRPC): a body of frames, each one byte that says
whether it is compressed, four of its length, and the message; the status in trailers, or in the headers of an answer
that has nothing else.
"""

import base64
import zlib
from collections.abc import Iterable
from typing import Protocol
from urllib.parse import quote

import grpc

from services.chassis.failures import MalformedMessage, RequestTooLarge

_PREFIX_BYTES = 5
_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/grpc\r\n"
CLOSE = b"connection: close\r\n"
_OK_HEAD, _OK_TRAILERS = _HEAD + b"transfer-encoding: chunked\r\n", b"\r\n0\r\ngrpc-status: 0\r\n\r\n"
_UNITS = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}
_MAX_TIMEOUT_DIGITS = 8
# As zlib counts them: with a header of gzip, or with that of zlib, which HTTP calls deflate.
_WINDOW_BITS = {"gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}


class CallForm(Protocol):
    """In which form a call comes, and is answered."""

    def new_body(self, max_bytes: int, encoding: str) -> "RequestBody":
        """Return what collects the request, of at most so many bytes; `encoding` is how it may be compressed."""
        ...

    def answer(self, message: bytes, *, is_last: bool) -> bytes:
        """Return the HTTP/1.1 response with a message and the status OK; `is_last`: the connection ends with it."""
        ...

    def refusal(
        self, code: grpc.StatusCode, text: str, trailers: Iterable[tuple[str, str | bytes]] = (), *, is_last: bool
    ) -> bytes:
        """Return the HTTP/1.1 response with a status and no message."""
        ...


class RequestBody:
    """Collects the one message of a request; what is wrong with it is told when the message is taken."""

    def __init__(self, max_bytes: int, encoding: str) -> None:
        self._max_bytes = max_bytes
        self._encoding = encoding
        self._chunks: list[bytes] = []
        # Then the message will be refused, whatever else comes.
        self.is_too_large = False
        self.received_bytes = 0

    def add(self, chunk: bytes) -> None:
        """Add the next bytes of the body."""
        self.received_bytes += len(chunk)
        if self.is_too_large:
            return
        self._chunks.append(chunk)
        if self.received_bytes > _PREFIX_BYTES + self._max_bytes:
            self.is_too_large = True
            self._chunks.clear()

    def take(self) -> bytes | None:
        """Return the message, of at most `max_bytes`; None where there is none: the whole body is empty.

        Raises RequestTooLarge, and MalformedMessage for anything but one frame with a message that can be decompressed.
        """
        if self.is_too_large:
            raise self._too_large()
        body = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
        self._chunks.clear()
        return self._message(body)

    def _message(self, body: bytes) -> bytes | None:
        if not body:
            return None
        if len(body) < _PREFIX_BYTES or int.from_bytes(body[1:_PREFIX_BYTES], "big") != len(body) - _PREFIX_BYTES:
            raise MalformedMessage("the call's body is not one message of gRPC")
        if body[0] == 0:
            return body[_PREFIX_BYTES:]
        return self._decompressed(body[_PREFIX_BYTES:])

    def _decompressed(self, compressed: bytes) -> bytes:
        bits = _WINDOW_BITS.get(self._encoding)
        if bits is None:
            raise MalformedMessage("expected a message that is compressed by gzip or deflate, or not at all")
        stream = zlib.decompressobj(bits)
        try:
            # One more byte than allowed, to see that there is one.
            message = stream.decompress(compressed, self._max_bytes + 1)
        except zlib.error:
            raise MalformedMessage(f"the message is not compressed by {self._encoding}") from None
        if len(message) > self._max_bytes:
            raise self._too_large()
        if not stream.eof:
            raise MalformedMessage(f"the message's {self._encoding} is cut off")
        return message

    def _too_large(self) -> RequestTooLarge:
        return RequestTooLarge(f"the request is larger than {self._max_bytes} bytes")


class GrpcForm:
    """A call as gRPC has it: a frame in the body, and the status in trailers."""

    def new_body(self, max_bytes: int, encoding: str) -> RequestBody:
        """Return what collects the frame."""
        return RequestBody(max_bytes, encoding)

    def answer(self, message: bytes, *, is_last: bool) -> bytes:
        """Return `grpc_answer`."""
        return grpc_answer(message, is_last=is_last)

    def refusal(
        self, code: grpc.StatusCode, text: str, trailers: Iterable[tuple[str, str | bytes]] = (), *, is_last: bool
    ) -> bytes:
        """Return `grpc_refusal`."""
        return grpc_refusal(code, text, trailers, is_last=is_last)


def timeout_seconds(value: str) -> float | None:
    """Return how long a caller waits, from a header `grpc-timeout` as "100m"; None where it says nothing readable."""
    digits, unit = value[:-1], value[-1:]
    if unit not in _UNITS or not (digits.isascii() and digits.isdigit()) or len(digits) > _MAX_TIMEOUT_DIGITS:
        return None
    return int(digits) * _UNITS[unit]


def grpc_answer(message: bytes, *, is_last: bool) -> bytes:
    """Return the HTTP/1.1 response with a message and the status OK; `is_last`: the connection ends with it."""
    size = len(message)
    head = (_OK_HEAD + CLOSE if is_last else _OK_HEAD) + b"\r\n%x\r\n\0" % (_PREFIX_BYTES + size)
    return b"".join((head, size.to_bytes(4, "big"), message, _OK_TRAILERS))


def grpc_refusal(
    code: grpc.StatusCode, text: str, trailers: Iterable[tuple[str, str | bytes]] = (), *, is_last: bool
) -> bytes:
    """Return the HTTP/1.1 response with a status and no message; the values of names that end in -bin are bytes."""
    lines = [_HEAD, b"content-length: 0\r\n", CLOSE if is_last else b"", b"grpc-status: %d\r\n" % code.value[0]]
    if text:
        lines.append(b"grpc-message: %s\r\n" % _percent_encoded(text))
    lines.extend(b"%s: %s\r\n" % (name.encode("ascii"), _value(value)) for name, value in trailers)
    return b"".join((*lines, b"\r\n"))


def _percent_encoded(text: str) -> bytes:
    """Encode a grpc-message: printable ASCII but the percent sign stays."""
    return quote(text, safe=" !\"#$&'()*+,/:;<=>?@[\\]^`{|}").encode("ascii")


def _value(value: str | bytes) -> bytes:
    if isinstance(value, bytes):
        return base64.b64encode(value).rstrip(b"=")
    return value.encode("ascii")
