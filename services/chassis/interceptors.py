"""What happens to every rpc: tracing, counting, and failures turned into statuses in one place."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import aclosing
from typing import Any

import grpc
import structlog
from opentelemetry import trace
from opentelemetry.trace import SpanKind, StatusCode

from services.chassis import telemetry
from services.chassis.failures import CallInterrupted, Failure, InternalError, MalformedMessage, ShuttingDown, to_status

log = structlog.get_logger()

DETAILS = "grpc-status-details-bin"
# By this Envoy knows that it may ask another instance, also to do what must not be done twice.
NOT_BEGUN = ("x-tocsin-not-begun", "1")

# Asked every second by machines: worth neither a span nor a series.
_UNWATCHED = ("/grpc.health.", "/grpc.reflection.", "/tocsin.edge.")

_CUT_OFF_SECONDS = 0.5

_ABORTED_BY_SERVER = grpc.aio.AbortError


class ServerInterceptor(grpc.aio.ServerInterceptor):
    """Wraps each handler; servicers raise Failures and never call `context.abort`."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[Any, Any]] = {}
        self._running: set[asyncio.Task[Any]] = set()
        self._streams: set[asyncio.Task[None]] = set()
        self._is_stopping = False
        self._is_cut_off = False
        self._duration = telemetry.meter(__name__).create_histogram(
            "tocsin.rpc.server.duration", unit="s", description="How long rpcs took, by method and status code."
        )

    async def drain(self, seconds: float) -> None:
        """Refuse new calls, and return when none is running: so that the server has nothing to cancel when it stops.

        What a server cancels looks the same to the caller whether it was begun or not. Streams end at once, with
        ShuttingDown: by themselves they would outlive any grace. A call that takes longer than this ends with CutOff.
        """
        self._is_stopping = True
        for task in self._streams:
            task.cancel()
        if self._running:
            await asyncio.wait(self._running, timeout=seconds)
        self._is_cut_off = True
        for task in self._running:
            task.cancel()
        if self._running:
            await asyncio.wait(self._running, timeout=_CUT_OFF_SECONDS)

    async def intercept_service(self, continuation: Callable[[Any], Awaitable[Any]], details: Any) -> Any:
        """Give the handler back inside of its wrapper."""
        handler = await continuation(details)
        if handler is None or details.method.startswith(_UNWATCHED):
            return handler
        known = self._known.get(details.method)
        if known is None or known[0] is not handler:
            known = self._known[details.method] = handler, self._wrapped(handler, details.method)
        return known[1]

    def _wrapped(self, handler: Any, method: str) -> Any:
        act = getattr(handler, _KINDS[handler.request_streaming, handler.response_streaming])
        decode = handler.request_deserializer or _as_it_came
        requests_of = _decoded_stream(decode) if handler.request_streaming else _decoded(decode)
        around = self._streaming if handler.response_streaming else self._unary
        build = _BUILDERS[handler.request_streaming, handler.response_streaming]
        # The bytes come as they are, so that decoding them stands inside of what is watched.
        return build(
            around(act, requests_of, method),
            request_deserializer=None,
            response_serializer=_encoding(handler.response_serializer),
        )

    def _unary(self, act: Any, requests_of: Any, method: str) -> Any:
        async def unary(raw: Any, context: Any) -> Any:
            async def run() -> Any:
                return await act(requests_of(raw), context)

            return await self._watched(run, method, context)

        return unary

    def _streaming(self, act: Any, requests_of: Any, method: str) -> Any:
        async def streaming(raw: Any, context: Any) -> None:
            async def run() -> None:
                await self._until_stopping(_pump(act(requests_of(raw), context), context))

            await self._watched(run, method, context)

        return streaming

    async def _until_stopping(self, pumping: Coroutine[Any, Any, None]) -> None:
        """Run a stream that may have no end of its own; raises ShuttingDown when the server stops."""
        task = asyncio.create_task(pumping)
        self._streams.add(task)
        try:
            await task
        except asyncio.CancelledError:
            if self._is_stopping:
                raise ShuttingDown("this instance is stopping") from None
            raise
        finally:
            task.cancel()
            self._streams.discard(task)

    async def _watched(self, run: Callable[[], Awaitable[Any]], method: str, context: Any) -> Any:
        started = time.perf_counter()
        code = grpc.StatusCode.CANCELLED
        parent = telemetry.context_of(context.invocation_metadata())
        span = telemetry.tracer(__name__).start_span(method.lstrip("/"), parent, SpanKind.SERVER)
        task: Any = asyncio.current_task()
        self._running.add(task)
        try:
            with trace.use_span(span, end_on_exit=True, record_exception=False, set_status_on_exception=False):
                try:
                    if self._is_stopping:
                        raise ShuttingDown("this instance is stopping")  # noqa: TRY301  (answered like what a servicer raises)
                    answer = await run()
                except _ABORTED_BY_SERVER:
                    code = _given_code(context)
                    raise
                except Failure as failure:
                    code = failure.code
                    await _refuse(context, failure, span)
                except asyncio.CancelledError:
                    if not self._is_cut_off:
                        raise
                    code = CallInterrupted.code
                    await _refuse(
                        context, CallInterrupted("this instance stopped; the call may have been carried out"), span
                    )
                except Exception:
                    log.exception("rpc_crashed", method=method)
                    code = InternalError.code
                    await _refuse(context, InternalError("internal error"), span)
                else:
                    code = _given_code(context)
                    return answer
        finally:
            self._running.discard(task)
            span_labels = {"method": method.lstrip("/"), "code": code.name}
            self._duration.record(time.perf_counter() - started, span_labels)


_KINDS = {
    (False, False): "unary_unary",
    (False, True): "unary_stream",
    (True, False): "stream_unary",
    (True, True): "stream_stream",
}
_BUILDERS: dict[tuple[bool, bool], Any] = {
    (False, False): grpc.unary_unary_rpc_method_handler,
    (False, True): grpc.unary_stream_rpc_method_handler,
    (True, False): grpc.stream_unary_rpc_method_handler,
    (True, True): grpc.stream_stream_rpc_method_handler,
}


async def _pump(answers: Any, context: Any) -> None:
    """Write what a servicer yields; or let it write by itself."""
    if not hasattr(answers, "__aiter__"):
        await answers
        return
    async with aclosing(answers):
        async for answer in answers:
            await context.write(answer)


_CODES = {code.value[0]: code for code in grpc.StatusCode}


def _encoding(encode: Callable[[Any], bytes] | None) -> Callable[[Any], bytes] | None:
    """Pass on what a servicer has encoded itself, once for many callers for example."""
    return encode and (lambda answer: answer if isinstance(answer, bytes) else encode(answer))


def _as_it_came(raw: bytes) -> bytes:
    return raw


def _decoded(decode: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    def request(raw: bytes) -> Any:
        try:
            return decode(raw)
        except Exception as error:
            raise MalformedMessage("the request cannot be decoded") from error

    return request


def _decoded_stream(decode: Callable[[bytes], Any]) -> Callable[[AsyncIterator[bytes]], AsyncIterator[Any]]:
    one = _decoded(decode)

    async def requests(raw: AsyncIterator[bytes]) -> AsyncIterator[Any]:
        async for each in raw:
            yield one(each)

    return requests


def _given_code(context: Any) -> grpc.StatusCode:
    """Return the code that the servicer itself has set, if it has."""
    code = context.code()
    return code if isinstance(code, grpc.StatusCode) else _CODES.get(code, grpc.StatusCode.OK)


async def _refuse(context: Any, failure: Failure, span: trace.Span) -> None:
    span.set_status(StatusCode.ERROR, failure.reason)
    span.set_attribute("error.type", failure.reason)
    status = to_status(failure)
    trailers = [*context.trailing_metadata(), (DETAILS, status.SerializeToString())]
    if isinstance(failure, ShuttingDown):
        trailers.append(NOT_BEGUN)
    await context.abort(failure.code, status.message, tuple(trailers))
