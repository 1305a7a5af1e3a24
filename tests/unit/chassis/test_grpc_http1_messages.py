"""What stands in the HTTP/1.1 messages of a unary gRPC call."""

import gzip
import zlib
from collections.abc import Callable
from itertools import pairwise

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.chassis.failures import MalformedMessage, RequestTooLarge
from services.chassis.grpc_http1_messages import RequestBody, grpc_answer, grpc_refusal, timeout_seconds

MAX = 100


def frame(message: bytes, *, is_compressed: bool = False) -> bytes:
    return bytes([is_compressed]) + len(message).to_bytes(4, "big") + message


def body_of(*chunks: bytes, encoding: str = "identity") -> RequestBody:
    body = RequestBody(MAX, encoding)
    for chunk in chunks:
        body.add(chunk)
    return body


@given(st.binary(max_size=MAX), st.lists(st.integers(0, MAX + 5)))
def test_a_message_is_what_was_sent_however_it_is_cut(message: bytes, cuts: list[int]) -> None:
    framed = frame(message)
    places = [0, *sorted(min(cut, len(framed)) for cut in cuts), len(framed)]
    chunks = [framed[start:end] for start, end in pairwise(places)]
    assert body_of(*chunks).take() == message


@pytest.mark.parametrize(("encoding", "compress"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
def test_a_compressed_message_is_decompressed(encoding: str, compress: Callable[[bytes], bytes]) -> None:
    for message in (b"", b"a" * MAX):
        assert body_of(frame(compress(message), is_compressed=True), encoding=encoding).take() == message
    # A caller that may compress need not.
    assert body_of(frame(b"plain"), encoding=encoding).take() == b"plain"


def test_an_empty_body_has_no_message() -> None:
    assert body_of().take() is None
    assert body_of(b"").take() is None


@pytest.mark.parametrize(
    "chunks",
    [
        (frame(b"x" * (MAX + 1)),),
        (frame(b"x" * MAX), b"x"),
        # What comes afterwards is not kept.
        (b"x" * 1000, frame(b"")),
        (frame(gzip.compress(b"x" * (MAX + 1), mtime=0), is_compressed=True),),
    ],
)
def test_what_is_larger_than_allowed_is_refused(chunks: tuple[bytes, ...]) -> None:
    with pytest.raises(RequestTooLarge, match="larger than 100 bytes"):
        body_of(*chunks, encoding="gzip").take()


def test_it_is_known_at_once_that_a_body_is_too_large() -> None:
    body = RequestBody(MAX, "identity")
    body.add(b"x" * (MAX + 5))
    assert not body.is_too_large
    body.add(b"x")
    assert body.is_too_large
    body.add(b"x")
    assert body.received_bytes == MAX + 7


@pytest.mark.parametrize(
    ("content", "encoding", "problem"),
    [
        (b"\0\0\0\0", "identity", "not one message"),
        (frame(b"cut off")[:-1], "identity", "not one message"),
        (frame(b"one") + frame(b"two"), "identity", "not one message"),
        (frame(b"x", is_compressed=True), "identity", "gzip or deflate"),
        (frame(b"x", is_compressed=True), "snappy", "gzip or deflate"),
        (frame(b"plain", is_compressed=True), "gzip", "not compressed by gzip"),
        (frame(gzip.compress(b"message", mtime=0)[:-1], is_compressed=True), "gzip", "cut off"),
    ],
)
def test_anything_but_one_message_is_refused(content: bytes, encoding: str, problem: str) -> None:
    with pytest.raises(MalformedMessage, match=problem):
        body_of(content, encoding=encoding).take()


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("2H", 7200),
        ("1M", 60),
        ("15S", 15),
        ("250m", 0.25),
        ("100u", 1e-4),
        ("5n", 5e-9),
        ("99999999S", 99_999_999),
        ("", None),
        ("S", None),
        ("5", None),
        ("5x", None),
        ("-5S", None),
        ("5.5S", None),
        ("²S", None),
        ("100000000S", None),
    ],
)
def test_a_timeout_has_a_unit_and_eight_digits(value: str, seconds: float | None) -> None:
    assert timeout_seconds(value) == (None if seconds is None else pytest.approx(seconds))


def test_an_answer_has_its_message_in_a_chunk_and_its_status_in_trailers() -> None:
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/grpc\r\ntransfer-encoding: chunked\r\n"
    rest = b"\r\n14\r\n\0\0\0\0\x0f" + b"fifteen letters" + b"\r\n0\r\ngrpc-status: 0\r\n\r\n"
    assert grpc_answer(b"fifteen letters", is_last=False) == head + rest
    assert grpc_answer(b"fifteen letters", is_last=True) == head + b"connection: close\r\n" + rest


def test_a_refusal_has_its_status_in_the_headers() -> None:
    trailers: list[tuple[str, str | bytes]] = [("grpc-status-details-bin", b"\xfb\xff"), ("x-tocsin-not-begun", "1")]
    sent = grpc_refusal(grpc.StatusCode.UNAVAILABLE, "50 % of\nü", trailers, is_last=True)
    assert sent.split(b"\r\n") == [
        b"HTTP/1.1 200 OK",
        b"content-type: application/grpc",
        b"content-length: 0",
        b"connection: close",
        b"grpc-status: 14",
        b"grpc-message: 50 %25 of%0A%C3%BC",
        b"grpc-status-details-bin: +/8",
        b"x-tocsin-not-begun: 1",
        b"",
        b"",
    ]
    assert grpc_refusal(grpc.StatusCode.CANCELLED, "", is_last=False).split(b"\r\n")[2:] == [
        b"content-length: 0",
        b"grpc-status: 1",
        b"",
        b"",
    ]
