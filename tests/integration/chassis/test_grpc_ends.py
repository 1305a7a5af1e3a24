"""How calls and streams end: by their clients, their callers' rights, or a server that stops."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import grpc
import pytest
from grpc_reflection.v1alpha import reflection_pb2
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from services.chassis import interceptors
from services.chassis.callers import Caller, CallOutcome, IncomingCall, Unauthenticated
from services.chassis.grpc_client import channel
from services.chassis.grpc_server import grpc_server
from services.chassis.health import Health
from services.chassis.settings import ProcessSettings
from tests.fakes.guards import OpenGuard
from tests.integration.chassis.pings import NAME, Ping, Pings, Pong, details, one


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


async def test_a_stream_keeps_no_large_request(client: Any) -> None:
    # Of what it knows, or does not know.
    for large in (Ping(service="x" * 65_536).SerializeToString(), b"\x7a" + b"\x80\x80\x04" + bytes(65_536)):
        stream = client.unary_stream(f"/{NAME}/Many")(large)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stream.read()
        assert details(refused.value)[1]["ErrorInfo"].reason == "REQUEST_TOO_LARGE"
        await client.unary_unary(f"/{NAME}/One")(large)


async def test_whoever_sends_slowly_keeps_no_place_that_others_need(
    spans: object, process: ProcessSettings, pings: Pings, monkeypatch: pytest.MonkeyPatch
) -> None:
    del spans  # opened before the server
    monkeypatch.setattr(interceptors, "_RECEIVING", 1)
    async with (
        grpc_server(process, [pings.mount()], Health("test"), OpenGuard()) as server,
        channel(f"127.0.0.1:{server.port}") as client,
    ):
        slow: Any = client.stream_unary(f"/{NAME}/One")()
        await slow.wait_for_connection()
        codes = []
        for _ in range(2):
            call = one(client)(Ping())
            codes.append(await call.code())
        # First it may still come; after a second it gives way.
        assert codes == [grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.OK]
        assert await slow.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_a_caller_has_few_streams_of_requests(client: Any) -> None:
    reflect = client.stream_stream(
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        reflection_pb2.ServerReflectionRequest.SerializeToString,
    )
    request = reflection_pb2.ServerReflectionRequest(list_services="*")
    streams = [reflect() for _ in range(16)]
    for each in streams:
        await each.write(request)
        assert await each.read() is not grpc.aio.EOF
    assert await reflect(iter([request])).code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    for each in streams:
        each.cancel()


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
        call: Any = client.unary_stream(f"/{NAME}/Many", Ping.SerializeToString)(Ping(service="much"))
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


async def test_an_interrupted_call_may_have_been_carried_out(pings: Pings) -> None:
    process = ProcessSettings(listen="127.0.0.1:0", admin_listen="127.0.0.1:0", drain=timedelta(seconds=0.2))
    async with stopping_during_a_call(process, pings) as (_, call, _):
        with pytest.raises(grpc.aio.AioRpcError) as ended:
            await call
    assert ended.value.code() is grpc.StatusCode.UNKNOWN
    assert "may have been carried out" in str(ended.value.details())
