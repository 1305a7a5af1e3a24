"""Rpcs through the server and channel of the chassis, as a client sees them."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, cast

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2
from grpc_status import rpc_status
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from services.chassis import interceptors, telemetry
from services.chassis.callers import Caller, CallOutcome, IncomingCall, KeysUnavailable, Unauthenticated
from services.chassis.failures import InvalidRequest, Overloaded, Violation
from services.chassis.grpc_client import channel
from services.chassis.grpc_server import EDGE_REFLECTION, Mount, grpc_server
from services.chassis.health import Health
from services.chassis.settings import ProcessSettings
from tests.fakes.guards import OpenGuard

Ping = health_pb2.HealthCheckRequest
Pong = health_pb2.HealthCheckResponse
NAME = "test.Pings"


class Pings:
    """A servicer that does what the request's `service` says."""

    def __init__(self) -> None:
        self.has_ended = asyncio.Event()
        self.has_begun, self.may_end = asyncio.Event(), asyncio.Event()
        self.trace_headers: list[tuple[str, bytes]] = []

    async def one(self, request: Any, context: Any) -> Any:
        self.trace_headers = telemetry.trace_headers()
        match request.service:
            case "refuse":
                raise InvalidRequest("no", violations=[Violation("service", "must not be refuse")], given="refuse")
            case "overload":
                raise Overloaded("later", retry_after=timedelta(milliseconds=1500))
            case "crash":
                raise ValueError("secret of the driver")
            case "wait":
                self.has_begun.set()
                await self.may_end.wait()
            case "not-found":
                context.set_code(grpc.StatusCode.NOT_FOUND)
        return Pong(status=Pong.SERVING)

    async def many(self, request: Any, _: Any) -> AsyncIterator[Any]:
        try:
            if request.service.startswith("much"):
                self.has_begun.set()
                yield Ping(service=request.service)
            yield Pong(status=Pong.SERVING)
            if request.service == "refuse":
                raise InvalidRequest("no more")
            await asyncio.Event().wait()
        finally:
            self.has_ended.set()

    async def count(self, requests: AsyncIterator[Any], _: Any) -> Any:
        return Pong(status=len([request async for request in requests]))

    async def raw(self, request: bytes, _: Any) -> bytes:
        return request[::-1]

    def mount(self) -> Mount:
        decoding: dict[str, Any] = {
            "request_deserializer": Ping.FromString,
            "response_serializer": lambda message: message.SerializeToString(),
        }
        handlers: dict[str, Any] = {
            "One": grpc.unary_unary_rpc_method_handler(self.one, **decoding),
            "Many": grpc.unary_stream_rpc_method_handler(self.many, **decoding),
            "Count": grpc.stream_unary_rpc_method_handler(self.count, **decoding),
            "Raw": grpc.unary_unary_rpc_method_handler(self.raw),
        }
        generic = grpc.method_handlers_generic_handler(NAME, handlers)
        return Mount(NAME, lambda server: server.add_generic_rpc_handlers((generic,)))


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    with telemetry.telemetry("test", "i", "", processors=[SimpleSpanProcessor(exporter)]):
        yield exporter


@pytest.fixture
def process() -> ProcessSettings:
    return ProcessSettings(listen="127.0.0.1:0", admin_listen="127.0.0.1:0", drain=timedelta(seconds=4))


@pytest.fixture
def pings() -> Pings:
    return Pings()


@pytest.fixture
async def client(
    spans: InMemorySpanExporter,  # noqa: ARG001  (opened before the server)
    process: ProcessSettings,
    pings: Pings,
) -> AsyncIterator[Any]:
    async with (
        grpc_server(process, [pings.mount()], Health("test"), OpenGuard(), ["a.B", "c.D"]) as server,
        channel(f"127.0.0.1:{server.port}") as opened,
    ):
        yield opened


def one(client: Any, method: str = "One") -> Any:
    return client.unary_unary(f"/{NAME}/{method}", Ping.SerializeToString, Pong.FromString)


def details(error: grpc.aio.AioRpcError) -> tuple[status_pb2.Status, dict[str, Any]]:
    status = rpc_status.from_call(cast("grpc.Call", error))
    assert status is not None
    by_kind = {}
    for kind in (error_details_pb2.ErrorInfo, error_details_pb2.BadRequest, error_details_pb2.RetryInfo):
        for detail in status.details:
            if detail.Is(kind.DESCRIPTOR):
                by_kind[kind.__name__] = kind.FromString(detail.value)
    return status, by_kind


async def test_a_failure_arrives_with_its_code_reason_and_fields(client: Any) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await one(client)(Ping(service="refuse"))
    status, by_kind = details(refused.value)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert status.message == "no"
    info = by_kind["ErrorInfo"]
    assert (info.reason, info.domain, dict(info.metadata)) == ("INVALID_REQUEST", "tocsin.dev", {"given": "refuse"})
    assert by_kind["BadRequest"].field_violations[0].field == "service"


async def test_an_overload_has_a_retry_delay(client: Any) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await one(client)(Ping(service="overload"))
    delay = details(refused.value)[1]["RetryInfo"].retry_delay
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert delay.ToTimedelta() == timedelta(milliseconds=1500)


async def test_a_crash_hides_its_details_from_the_caller(client: Any) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as crashed:
        await one(client)(Ping(service="crash"))
    assert crashed.value.code() is grpc.StatusCode.INTERNAL
    assert "secret" not in str(crashed.value)
    assert details(crashed.value)[1]["ErrorInfo"].reason == "INTERNAL_ERROR"


@pytest.mark.parametrize("method", ["One", "Count"])
async def test_undecodable_bytes_are_an_invalid_argument(client: Any, method: str) -> None:
    streaming = method == "Count"
    build = client.stream_unary if streaming else client.unary_unary
    call = build(f"/{NAME}/{method}", None, Pong.FromString)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call(iter([b"\xff\xff"]) if streaming else b"\xff\xff")
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert details(refused.value)[1]["ErrorInfo"].reason == "MALFORMED_MESSAGE"


@pytest.mark.parametrize("method", ["One", "Many", "Count"])
async def test_who_is_not_let_in_is_told_before_the_request_has_come(
    spans: InMemorySpanExporter,  # noqa: ARG001  (opened before the server)
    process: ProcessSettings,
    pings: Pings,
    method: str,
) -> None:
    class ClosedGuard(OpenGuard):
        def admit(self, call: IncomingCall) -> Caller:  # noqa: ARG002
            raise Unauthenticated("nobody knows you")

    async with (
        grpc_server(process, [pings.mount()], Health("test"), ClosedGuard()) as server,
        channel(f"127.0.0.1:{server.port}") as opened,
    ):
        # Whatever the rpc is, a stream is what may send its headers alone.
        call = opened.stream_stream(f"/{NAME}/{method}", Ping.SerializeToString, Pong.FromString)()
        assert await asyncio.wait_for(call.code(), timeout=10) is grpc.StatusCode.UNAUTHENTICATED


async def test_a_call_without_a_request_is_refused(client: Any) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await client.stream_unary(f"/{NAME}/One", Ping.SerializeToString, Pong.FromString)(iter([]))
    assert details(refused.value)[1]["ErrorInfo"].reason == "MALFORMED_MESSAGE"


async def test_as_many_headers_as_envoy_accepts_are_accepted(client: Any) -> None:
    assert (await one(client)(Ping(), metadata=[("path", "x" * 60_000)])).status == Pong.SERVING


async def test_a_servicer_can_receive_bytes(client: Any) -> None:
    assert await client.unary_unary(f"/{NAME}/Raw")(b"abc") == b"cba"


async def test_a_stream_of_requests_is_decoded(client: Any) -> None:
    call = client.stream_unary(f"/{NAME}/Count", Ping.SerializeToString, Pong.FromString)
    assert (await call(iter([Ping()] * 2))).status == 2


async def test_a_stream_ends_with_its_failure(client: Any, pings: Pings) -> None:
    call = client.unary_stream(f"/{NAME}/Many", Ping.SerializeToString, Pong.FromString)(Ping(service="refuse"))
    assert (await call.read()).status == Pong.SERVING
    with pytest.raises(grpc.aio.AioRpcError, match="no more"):
        await call.read()
    assert pings.has_ended.is_set()


async def test_a_stream_ends_when_its_client_leaves(client: Any, pings: Pings) -> None:
    call = client.unary_stream(f"/{NAME}/Many", Ping.SerializeToString, Pong.FromString)(Ping())
    await call.read()
    call.cancel()
    async with asyncio.timeout(5):
        await pings.has_ended.wait()


async def test_a_stream_ends_when_its_caller_may_call_no_more(
    spans: InMemorySpanExporter,  # noqa: ARG001  (opened before the server)
    process: ProcessSettings,
    pings: Pings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class RevokingGuard(OpenGuard):
        is_revoked = False

        def admit(self, call: IncomingCall) -> Caller:
            if self.is_revoked:
                raise Unauthenticated("the key was revoked")
            return super().admit(call)

    monkeypatch.setattr(interceptors, "_ADMIT_AGAIN_SECONDS", 0.01)
    guard = RevokingGuard()
    async with (
        grpc_server(process, [pings.mount()], Health("test"), guard) as server,
        channel(f"127.0.0.1:{server.port}") as client,
    ):
        call = client.unary_stream(f"/{NAME}/Many", Ping.SerializeToString, Pong.FromString)(Ping())
        assert await call.read() != grpc.aio.EOF
        guard.is_revoked = True
        assert await asyncio.wait_for(call.code(), timeout=10) is grpc.StatusCode.UNAUTHENTICATED
        await asyncio.wait_for(pings.has_ended.wait(), timeout=10)


async def test_a_caller_has_so_many_streams_and_others_when_they_end(spans: object, pings: Pings) -> None:
    del spans  # opened before the server
    process = ProcessSettings(listen="127.0.0.1:0", admin_listen="127.0.0.1:0", max_streams=2)
    async with (
        grpc_server(process, [pings.mount()], Health("test"), OpenGuard()) as server,
        channel(f"127.0.0.1:{server.port}") as client,
    ):
        watch: Any = client.unary_stream(f"/{NAME}/Many")
        first, second = watch(b""), watch(b"")
        assert (await first.read(), await second.read()) != (grpc.aio.EOF, grpc.aio.EOF)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await watch(b"").read()
        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert await one(client)(b"") is not None
        first.cancel()
        await asyncio.wait_for(pings.has_ended.wait(), 5)
        assert await watch(b"").read() is not grpc.aio.EOF


async def test_stopping_ends_open_streams_at_once(process: ProcessSettings, pings: Pings) -> None:
    server = grpc_server(process, [pings.mount()], Health("test"), OpenGuard())
    async with server as running, channel(f"127.0.0.1:{running.port}") as client:
        call = client.unary_stream(f"/{NAME}/Many", Ping.SerializeToString, Pong.FromString)(Ping())
        await call.read()
        started = asyncio.get_running_loop().time()
        stopping = asyncio.create_task(server.__aexit__(None, None, None))
        with pytest.raises(grpc.aio.AioRpcError) as ended:
            await call.read()
        await stopping
        assert asyncio.get_running_loop().time() - started < 1
    assert ended.value.code() is grpc.StatusCode.UNAVAILABLE
    assert details(ended.value)[1]["ErrorInfo"].reason == "SHUTTING_DOWN"


async def test_a_stream_that_is_being_written_ends_with_the_reason_too(process: ProcessSettings, pings: Pings) -> None:
    server = grpc_server(process, [pings.mount()], Health("test"), OpenGuard())
    async with server as running, channel(f"127.0.0.1:{running.port}") as client:
        call: Any = client.unary_stream(f"/{NAME}/Many", Ping.SerializeToString)(Ping(service="much" + "x" * 3_000_000))
        # The first message is more than gRPC takes before it is read.
        await pings.has_begun.wait()
        stopping = asyncio.create_task(server.__aexit__(None, None, None))
        with pytest.raises(grpc.aio.AioRpcError) as ended:
            [message async for message in call]
        await stopping
    assert details(ended.value)[1]["ErrorInfo"].reason == "SHUTTING_DOWN"


@asynccontextmanager
async def stopping_during_a_call(process: ProcessSettings, pings: Pings) -> AsyncIterator[tuple[Any, Any, Any]]:
    """Yield a client, its running call, and the task that stops the server."""
    server = grpc_server(process, [pings.mount()], Health("test"), OpenGuard())
    running = await server.__aenter__()
    async with channel(f"127.0.0.1:{running.port}") as client:
        call = one(client)(Ping(service="wait"))
        await pings.has_begun.wait()
        stopping = asyncio.create_task(server.__aexit__(None, None, None))
        await asyncio.sleep(0)
        yield client, call, stopping
        await stopping


async def test_a_stopping_server_ends_its_calls_and_begins_no_more(process: ProcessSettings, pings: Pings) -> None:
    async with stopping_during_a_call(process, pings) as (client, call, stopping):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await one(client)(Ping())
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
        assert details(refused.value)[1]["ErrorInfo"].reason == "SHUTTING_DOWN"
        assert details(refused.value)[1]["RetryInfo"].retry_delay.seconds == 1
        # For Envoy, which may then send any call to another instance.
        assert ("x-tocsin-not-begun", "1") in [tuple(each) for each in refused.value.trailing_metadata()]
        assert not stopping.done()
        pings.may_end.set()
        assert (await call).status == Pong.SERVING


class RecordingGuard(OpenGuard):
    """Keeps how calls ended, and from where they came."""

    def __init__(self) -> None:
        self.ended = asyncio.Queue[tuple[CallOutcome, str]]()

    async def record(self, call: IncomingCall, caller: Caller | None, outcome: CallOutcome) -> None:
        del caller  # the same for all
        await self.ended.put((outcome, call.peer_address))


async def test_a_call_whose_caller_has_left_is_recorded(process: ProcessSettings, pings: Pings) -> None:
    guard = RecordingGuard()
    async with (
        grpc_server(process, [pings.mount()], Health("test"), guard) as server,
        channel(f"127.0.0.1:{server.port}") as client,
    ):
        call = one(client)(Ping(service="wait"))
        await pings.has_begun.wait()
        call.cancel()
        outcome, address = await asyncio.wait_for(guard.ended.get(), 5)
        with pytest.raises(grpc.aio.AioRpcError):
            await one(client)(Ping(service="wait"), timeout=0.1)
        late, _ = await asyncio.wait_for(guard.ended.get(), 5)
    assert (outcome.code, outcome.reason, address.partition(":")[0]) == (grpc.StatusCode.CANCELLED, "", "ipv4")
    assert late == outcome


class GuardWithoutKeys(OpenGuard):
    """Knows no keys yet."""

    def admit(self, call: IncomingCall) -> Caller:
        raise KeysUnavailable(f"the API keys are not known yet: {call.method}")


async def test_a_server_that_knows_no_keys_yet_leaves_calls_to_others(process: ProcessSettings, pings: Pings) -> None:
    async with (
        grpc_server(process, [pings.mount()], Health("test"), GuardWithoutKeys()) as server,
        channel(f"127.0.0.1:{server.port}") as client,
    ):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await one(client)(Ping())
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
    # For Envoy, which may then send any call to another instance.
    assert ("x-tocsin-not-begun", "1") in [tuple(each) for each in refused.value.trailing_metadata()]
    assert not pings.has_begun.is_set()


async def test_an_interrupted_call_may_have_been_carried_out(pings: Pings) -> None:
    process = ProcessSettings(listen="127.0.0.1:0", admin_listen="127.0.0.1:0", drain=timedelta(seconds=0.2))
    async with stopping_during_a_call(process, pings) as (_, call, _):
        with pytest.raises(grpc.aio.AioRpcError) as ended:
            await call
    assert ended.value.code() is grpc.StatusCode.UNKNOWN
    assert "may have been carried out" in str(ended.value.details())


async def test_the_trace_continues_from_the_caller_in_the_servicer(
    client: Any, pings: Pings, spans: InMemorySpanExporter
) -> None:
    with telemetry.tracer("test").start_as_current_span("caller") as caller:
        await one(client)(Ping())
    served = next(span for span in spans.get_finished_spans() if span.name == f"{NAME}/One")
    assert served.context.trace_id == caller.get_span_context().trace_id
    assert served.parent is not None
    assert served.parent.span_id == caller.get_span_context().span_id
    assert f"{served.context.span_id:016x}".encode() in dict(pings.trace_headers)["traceparent"]


@pytest.mark.parametrize(
    ("what", "code"),
    [
        pytest.param("", "OK", id="an answer"),
        pytest.param("refuse", "INVALID_ARGUMENT", id="a failure"),
        pytest.param("crash", "INTERNAL", id="a crash"),
        pytest.param("not-found", "NOT_FOUND", id="a code set by the servicer"),
    ],
)
async def test_every_rpc_is_counted_by_its_code(client: Any, eventually: Any, what: str, code: str) -> None:
    await asyncio.gather(one(client)(Ping(service=what)), return_exceptions=True)
    counted = f'tocsin_rpc_server_duration_seconds_count{{code="{code}",method="{NAME}/One"}} 1.0'
    # The caller may have its answer before.
    await eventually(lambda: counted in telemetry.exposition()[0].decode())
    assert 'le="0.0025"' in telemetry.exposition()[0].decode()


async def test_health_is_reported_for_the_server_and_each_service(process: ProcessSettings, pings: Pings) -> None:
    health = Health("test")
    database = health.dependency("postgres")
    # Without it the instance is degraded, and serves.
    health.dependency("redis", required=False)
    async with (
        grpc_server(process, [pings.mount()], health, OpenGuard()) as server,
        channel(f"127.0.0.1:{server.port}") as client,
    ):
        check: Any = health_pb2_grpc.HealthStub(client)
        watching = check.Watch(Ping(service=NAME))
        assert (await watching.read()).status == Pong.NOT_SERVING
        health.mark_ready()
        database.up()
        assert (await watching.read()).status == Pong.SERVING
        assert (await check.Check(Ping())).status == Pong.SERVING
        health.mark_stopping()
        assert (await watching.read()).status == Pong.NOT_SERVING


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        pytest.param(
            "grpc.reflection.v1alpha.ServerReflection",
            {NAME, "grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"},
            id="the service's own list",
        ),
        pytest.param(EDGE_REFLECTION, {"a.B", "c.D"}, id="the list for the edge"),
    ],
)
async def test_reflection_lists_the_services(client: Any, path: str, expected: set[str]) -> None:
    call = client.stream_stream(
        f"/{path}/ServerReflectionInfo",
        reflection_pb2.ServerReflectionRequest.SerializeToString,
        reflection_pb2.ServerReflectionResponse.FromString,
    )
    answers = call(iter([reflection_pb2.ServerReflectionRequest(list_services="*")]))
    answer = await answers.read()
    assert {each.name for each in answer.list_services_response.service} == expected
    await answers.read()
