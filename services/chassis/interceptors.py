"""What every rpc gets: the guard, tracing, metrics, and the translation of failures into statuses."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import aclosing
from functools import cached_property, partial
from typing import Any

import grpc
import structlog
from google.protobuf.message import Message
from opentelemetry import trace
from opentelemetry.trace import SpanKind, StatusCode

from services.chassis import telemetry
from services.chassis.callers import Caller, CallOutcome, Guard, IncomingCall, as_caller, current_caller
from services.chassis.failures import (
    CallInterrupted,
    Failure,
    InternalError,
    MalformedMessage,
    RequestTooLarge,
    ShuttingDown,
    to_status,
)
from services.chassis.peers import peer_identity
from services.chassis.receive_limiter import ReceiveLimiter, received_request
from services.chassis.stream_limit import StreamLimit

log = structlog.get_logger()

DETAILS = "grpc-status-details-bin"
# Tells Envoy that another instance may handle the call, even one that is not idempotent.
NOT_BEGUN = ("x-tocsin-not-begun", "1")

# Called by machines alone, and open to all of them: no guard, no span, no metric.
_KEY_CHECK, _HEALTH = "/tocsin.edge.KeyCheck/", "/grpc.health."
_HEALTH_METHODS = ("/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch")
# Of the name of a service.
_MAX_HEALTH_BYTES = 1024

_INTERRUPT_SECONDS = 0.5
# A stream has no end of its own, but its caller's key has: revoked keys let nobody in any more after five seconds, of
# which the snapshot of keys takes two.
_ADMIT_AGAIN_SECONDS = 2.0
# Requests that are received at once, each of 8 MiB or less, of all callers but services of the system.
_RECEIVING = 32
# A stream of requests, such as reflection's, may hold as much at any time.
_MAX_REQUEST_STREAMS = 16
# A stream keeps its request as long as it lasts, with fields that the contract does not know, too.
_MAX_KEPT_REQUEST_BYTES = 64 * 1024

_ABORTED_BY_SERVER = grpc.aio.AbortError


class ServerInterceptor(grpc.aio.ServerInterceptor):
    """Wraps each handler; servicers raise Failures and never call `context.abort`."""

    def __init__(self, guard: Guard, *, max_streams: int = 500) -> None:
        self._guard = guard
        self._stream_limit = StreamLimit(max_streams)
        self._request_stream_limit = StreamLimit(min(max_streams, _MAX_REQUEST_STREAMS))
        self._receive_limiter = ReceiveLimiter(_RECEIVING)
        self._handlers: dict[str, tuple[Any, Any]] = {}
        self._running: set[asyncio.Task[Any]] = set()
        self._streams: set[asyncio.Task[None]] = set()
        self._is_stopping = False
        self._has_interrupted = False
        self._duration = telemetry.call_histogram(
            "tocsin_rpc_server_duration_seconds", "Duration of rpcs, by method and status code.", ("method", "code")
        )

    @property
    def is_stopping(self) -> bool:
        """Whether calls are refused, since this instance stops."""
        return self._is_stopping

    async def drain(self, seconds: float) -> None:
        """Refuse new calls and wait for the running ones, so that the server has nothing to cancel when it stops.

        A caller cannot see whether a cancelled call had begun. Streams, which have no end of their own, end at once
        with ShuttingDown; a call that is still running after `seconds` ends with CallInterrupted.
        """
        self._is_stopping = True
        for task in self._streams:
            task.cancel()
        if self._running:
            await asyncio.wait(self._running, timeout=seconds)
        self._has_interrupted = True
        for task in self._running:
            task.cancel()
        if self._running:
            await asyncio.wait(self._running, timeout=_INTERRUPT_SECONDS)

    async def intercept_service(self, continuation: Callable[[Any], Awaitable[Any]], details: Any) -> Any:
        """Return the handler with tracing, metrics and the translation of failures around it."""
        handler = await continuation(details)
        if handler is None or details.method.startswith(_KEY_CHECK):
            return handler
        if details.method.startswith(_HEALTH):
            return _bounded(handler) if details.method in _HEALTH_METHODS else None
        cached = self._handlers.get(details.method)
        if cached is None or cached[0] is not handler:
            cached = self._handlers[details.method] = handler, self._wrapped(handler, details.method)
        return cached[1]

    def _wrapped(self, handler: Any, method: str) -> Any:
        act = getattr(handler, _KINDS[handler.request_streaming, handler.response_streaming])
        decode = handler.request_deserializer or _undecoded
        max_bytes = _MAX_KEPT_REQUEST_BYTES if handler.response_streaming else None
        receive, limit = _receive_one(decode, max_bytes, self._receive_limiter), self._stream_limit
        if handler.request_streaming:
            receive, limit = _receive_all(decode), self._request_stream_limit
        around = partial(self._streaming, limit) if handler.response_streaming else self._unary
        build = (
            grpc.stream_stream_rpc_method_handler
            if handler.response_streaming
            else grpc.stream_unary_rpc_method_handler
        )
        # The wrapper receives and decodes a request itself: gRPC would wait for it before it asks who calls, so that
        # anybody could keep calls open. And a failure to decode is observed, too.
        return build(
            around(act, receive, method),
            request_deserializer=None,
            response_serializer=_encoding(handler.response_serializer),
        )

    def _unary(self, act: Any, receive: Any, method: str) -> Any:
        async def unary(raw: Any, context: Any) -> Any:
            about: list[Message] = []

            async def run(_: IncomingCall) -> Any:
                request = await receive(raw, context)
                if isinstance(request, Message):
                    about.append(request)
                return await act(request, context)

            return await self._observed(run, method, context, about)

        return unary

    def _streaming(self, limit: StreamLimit, act: Any, receive: Any, method: str) -> Any:
        async def streaming(raw: Any, context: Any) -> None:
            async def pump() -> None:
                await _pump(act(await receive(raw, context), context), context)

            async def run(call: IncomingCall) -> None:
                with limit.held(current_caller()):
                    await self._while_admitted(pump(), call)

            await self._observed(run, method, context, ())

        return streaming

    async def _while_admitted(self, pumping: Coroutine[Any, Any, None], call: IncomingCall) -> None:
        """Run a stream that may have no end of its own.

        Raises ShuttingDown when the server stops, and what the guard raises once the caller may not call any more.
        """
        task = asyncio.create_task(pumping)
        self._streams.add(task)
        try:
            while not (await asyncio.wait((task,), timeout=_ADMIT_AGAIN_SECONDS))[0]:
                self._guard.admit(call)
            await task
        except asyncio.CancelledError:
            if self._is_stopping:
                raise ShuttingDown("this instance is stopping") from None
            raise
        finally:
            self._streams.discard(task)
            if not task.done():
                task.cancel()
                # A message that is on its way goes first: gRPC would send no status.
                await asyncio.wait((task,), timeout=_INTERRUPT_SECONDS)

    async def _observed(
        self, run: Callable[[IncomingCall], Awaitable[Any]], method: str, context: Any, about: Sequence[Any]
    ) -> Any:
        started = time.perf_counter()
        code = grpc.StatusCode.CANCELLED
        # gRPC makes it anew each time.
        sent = context.invocation_metadata() or ()
        parent = telemetry.context_of(sent)
        span = telemetry.tracer(__name__).start_span(method.lstrip("/"), parent, SpanKind.SERVER)
        task: Any = asyncio.current_task()
        self._running.add(task)
        call = _ContextCall(method, sent, context)
        caller: Caller | None = None
        response = failure = None
        try:
            with trace.use_span(span, end_on_exit=True, record_exception=False, set_status_on_exception=False):
                try:
                    if self._is_stopping:
                        raise ShuttingDown("this instance is stopping")  # noqa: TRY301  (handled as a servicer's failure)
                    caller = self._guard.admit(call)
                    with as_caller(caller):
                        response = await run(call)
                except _ABORTED_BY_SERVER:
                    code = _given_code(context)
                    raise
                except Failure as raised:
                    failure = raised
                except asyncio.CancelledError:
                    if not self._has_interrupted:
                        # Whoever called does not wait any more, and what was done is done.
                        await self._record(call, caller, code, "", call_resource(about))
                        raise
                    failure = CallInterrupted("this instance stopped; the call may have been carried out")
                except Exception:
                    log.exception("rpc_crashed", method=method)
                    failure = InternalError("internal error")
                code = failure.code if failure else _given_code(context)
                reason = failure.reason if failure else ""
                await self._record(call, caller, code, reason, call_resource(about, response))
                if failure:
                    await _refuse(context, failure, span)
                return response
        finally:
            self._running.discard(task)
            self._duration.labels(method.lstrip("/"), code.name).observe(time.perf_counter() - started)

    async def _record(
        self, call: IncomingCall, caller: Caller | None, code: grpc.StatusCode, reason: str, resource: str
    ) -> None:
        await self._guard.record(call, caller, CallOutcome(code=code, reason=reason, resource=resource))


_KINDS = {
    (False, False): "unary_unary",
    (False, True): "unary_stream",
    (True, False): "stream_unary",
    (True, True): "stream_stream",
}


class _ContextCall:
    """An IncomingCall, read from gRPC's context while the call runs."""

    def __init__(self, method: str, sent: Sequence[tuple[str, str | bytes]], context: Any) -> None:
        self.method = method
        self._sent = sent
        self._context = context

    @cached_property
    def metadata(self) -> dict[str, str]:
        return {key: value for key, value in self._sent if isinstance(value, str)}

    @cached_property
    def peer_identity(self) -> str:
        return peer_identity(self._context.auth_context(), self._context.peer()) or ""

    @property
    def peer_address(self) -> str:
        address: str = self._context.peer()
        return address


def call_resource(requests: Sequence[Any], response: Any = None) -> str:
    """Return the id or name of what a call is about; empty when it has none.

    The request says it, or what was made, which is in the response, or else what should have been made.
    """
    made = _parts_of(response)
    for message in (*requests, *made, *(part for request in requests for part in _parts_of(request))):
        for field in ("id", "name"):
            if isinstance(value := getattr(message, field, ""), str) and value:
                return value
    return ""


def _parts_of(message: Any) -> list[Any]:
    """Return the messages in the fields of a message; none where it was encoded already."""
    fields = message.ListFields() if isinstance(message, Message) else ()
    return [value for _, value in fields if isinstance(value, Message)]


async def _pump(responses: Any, context: Any) -> None:
    """Write the messages that a servicer yields, or let it write them itself."""
    if not hasattr(responses, "__aiter__"):
        await responses
        return
    async with aclosing(responses):
        async for response in responses:
            await _write(response, context)


async def _write(response: Any, context: Any) -> None:
    """Write a message. When cancelled, wait until it is sent: while the first one is not, gRPC sends no status."""
    writing = asyncio.ensure_future(context.write(response))
    try:
        await asyncio.shield(writing)
    except asyncio.CancelledError:
        await asyncio.wait((writing,), timeout=_INTERRUPT_SECONDS)
        writing.cancel()
        raise


_CODES = {code.value[0]: code for code in grpc.StatusCode}


def _encoding(encode: Callable[[Any], bytes] | None) -> Callable[[Any], bytes] | None:
    """Encode a response, unless the servicer has encoded it already, for example once for many callers."""
    return encode and (lambda response: response if isinstance(response, bytes) else encode(response))


def _undecoded(raw: bytes) -> bytes:
    return raw


def _bounded(handler: Any) -> Any:
    """Return a handler of health that keeps no more of a request than a name: whoever watches needs no credentials."""
    act = getattr(handler, _KINDS[False, handler.response_streaming])
    receive = _receive_one(handler.request_deserializer, _MAX_HEALTH_BYTES, None)

    async def answer(raw: Any, context: Any) -> Any:
        try:
            request = await receive(raw, context)
        except Failure as failure:
            await context.abort(failure.code, failure.text)
        return await act(request, context)

    kind = grpc.stream_stream_rpc_method_handler if handler.response_streaming else grpc.stream_unary_rpc_method_handler
    return kind(answer, request_deserializer=None, response_serializer=handler.response_serializer)


def _receive_one(
    decode: Callable[[bytes], Any], max_bytes: int | None, limiter: ReceiveLimiter | None
) -> Callable[[Any, Any], Awaitable[Any]]:
    async def receive(_: Any, context: Any) -> Any:
        if limiter is None or current_caller().kind == "service":
            raw = received_request(await context.read())
        else:
            raw = await limiter.receive(context.read)
        if max_bytes is not None and len(raw) > max_bytes:
            raise RequestTooLarge(f"the request is larger than {max_bytes} bytes")
        return _decoded(decode, raw)

    return receive


def _receive_all(decode: Callable[[bytes], Any]) -> Callable[[Any, Any], Awaitable[Any]]:
    async def receive(raw: AsyncIterator[bytes], _: Any) -> Any:
        return _each_decoded(decode, raw)

    return receive


async def _each_decoded(decode: Callable[[bytes], Any], raw: AsyncIterator[bytes]) -> AsyncIterator[Any]:
    async for message in raw:
        yield _decoded(decode, message)


def _decoded(decode: Callable[[bytes], Any], raw: bytes) -> Any:
    try:
        return decode(raw)
    except Exception as error:
        raise MalformedMessage("the request cannot be decoded") from error


def _given_code(context: Any) -> grpc.StatusCode:
    """Return the code that the servicer has set, or OK."""
    code = context.code()
    return code if isinstance(code, grpc.StatusCode) else _CODES.get(code, grpc.StatusCode.OK)


async def _refuse(context: Any, failure: Failure, span: trace.Span) -> None:
    span.set_status(StatusCode.ERROR, failure.reason)
    span.set_attribute("error.type", failure.reason)
    status = to_status(failure)
    trailers = [*context.trailing_metadata(), (DETAILS, status.SerializeToString())]
    if failure.has_not_begun:
        trailers.append(NOT_BEGUN)
    await context.abort(failure.code, status.message, tuple(trailers))
