"""Rpcs through the server and channel of the chassis, as a client sees them."""

import asyncio
from datetime import timedelta
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from services.chassis import telemetry
from services.chassis.callers import Caller, IncomingCall, KeysUnavailable, PermissionDenied, Unauthenticated
from services.chassis.failures import Failure
from services.chassis.grpc_client import channel
from services.chassis.grpc_server import EDGE_REFLECTION, KEY_CHECK, grpc_server
from services.chassis.health import Health
from services.chassis.settings import ProcessSettings
from tests.fakes.guards import OpenGuard
from tests.integration.chassis.pings import NAME, Ping, Pings, Pong, details, one


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


@pytest.mark.parametrize(
    ("said", "code"),
    [
        (None, grpc.StatusCode.OK),
        # Of somebody who is known.
        (PermissionDenied("nobody may call this"), grpc.StatusCode.OK),
        (Unauthenticated("there is no such key"), grpc.StatusCode.UNAUTHENTICATED),
        (KeysUnavailable("the API keys are not known yet"), grpc.StatusCode.UNAVAILABLE),
    ],
)
async def test_envoy_may_ask_whether_a_key_is_valid_and_nothing_is_recorded(
    process: ProcessSettings, pings: Pings, said: Failure | None, code: grpc.StatusCode
) -> None:
    class AskedGuard(OpenGuard):
        has_recorded = False

        def admit(self, call: IncomingCall) -> Caller:
            assert call.metadata["authorization"] == "Bearer a key"
            if said is not None:
                raise said
            return super().admit(call)

        async def record(self, *_: object) -> None:
            self.has_recorded = True

    guard = AskedGuard()
    async with (
        grpc_server(process, [pings.mount()], Health("test"), guard) as server,
        channel(f"127.0.0.1:{server.port}") as client,
    ):
        check: Any = client.unary_unary(f"/{KEY_CHECK}/Check")
        call = check(b"", metadata=(("authorization", "Bearer a key"),))
        assert await call.code() is code
    assert not guard.has_recorded


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


async def test_whoever_asks_for_health_gives_a_name_and_no_more(client: Any) -> None:
    large = Ping(service="x" * 1024).SerializeToString()
    with pytest.raises(grpc.aio.AioRpcError, match="larger than 1024 bytes"):
        await client.unary_unary("/grpc.health.v1.Health/Check")(large)
    with pytest.raises(grpc.aio.AioRpcError, match="larger than 1024 bytes"):
        await client.unary_stream("/grpc.health.v1.Health/Watch")(large).read()
    with pytest.raises(grpc.aio.AioRpcError, match="cannot be decoded"):
        await client.unary_unary("/grpc.health.v1.Health/Check")(b"\xff")
    # gRPC's own answer to what its library does not serve shows a class of Python.
    with pytest.raises(grpc.aio.AioRpcError) as absent:
        await client.unary_unary("/grpc.health.v1.Health/List")(b"")
    assert (absent.value.code(), absent.value.details()) == (grpc.StatusCode.UNIMPLEMENTED, "Method not found!")


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
