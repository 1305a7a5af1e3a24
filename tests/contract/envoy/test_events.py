"""Events by Unix sockets, over HTTP/1.1: what callers see is the same as with gRPC between Envoy and ingest."""

import asyncio
import json
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest
import uvloop
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from services.chassis.callers import PermissionDenied, Unauthenticated
from services.chassis.failures import (
    Failure,
    InternalError,
    InvalidRequest,
    MalformedMessage,
    Overloaded,
    RequestTooLarge,
    StoreConflict,
    StreamUnavailable,
    TenantLimitReached,
    Violation,
)
from services.chassis.grpc_server import Mount, grpc_server
from services.chassis.health import Health
from services.chassis.settings import ProcessSettings
from services.chassis.telemetry import telemetry
from tests.contract.envoy.client import EnvoyClient, wait_until
from tests.contract.envoy.conftest import Running, running_envoy
from tests.contract.envoy.edge import is_healthy
from tests.fakes.guards import OpenGuard
from tocsin.logs.v1.log_event_pb2 import LogEvent
from tocsin.logs.v1.log_ingest_service_pb2 import (
    DESCRIPTOR,
    AdjustedEvents,
    AdjustedValue,
    IngestBatchRequest,
    IngestBatchResponse,
    IngestJsonRequest,
    IngestJsonResponse,
)
from tocsin.logs.v1.log_ingest_service_pb2_grpc import LogIngestServiceStub

pytestmark = pytest.mark.integration

SERVICE = DESCRIPTOR.services_by_name["LogIngestService"].full_name
EVENT = {"service": "a", "level": "ERROR", "message": "m"}
FAILURES: dict[str, Failure] = {
    each.reason: each
    for each in (
        InvalidRequest("2 fields", violations=[Violation("message", 'ü, "<b>"'), Violation("level", "missing")]),
        MalformedMessage("body: not valid JSON", violations=[Violation("body", "not valid JSON")]),
        RequestTooLarge("larger than 10 bytes"),
        Overloaded("too many", retry_after=timedelta(milliseconds=1200)),
        TenantLimitReached("too many events", limit="events_per_second", value="5"),
        StreamUnavailable("Kafka does not answer"),
        StoreConflict("again"),
        InternalError("internal error"),
        Unauthenticated("no key"),
        PermissionDenied("not allowed"),
    )
}
ADJUSTED = AdjustedEvents(
    event_count=1,
    values=[AdjustedValue(field="message", action=AdjustedValue.Action.CUT, count=1, indexes=[0])],
)


class Instance:
    """An ingest that accepts everything but what tests refuse, on a loop and in a thread of its own."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.health = Health("ingest")
        self.metadata: list[dict[str, str]] = []
        self.has_begun, self.was_cancelled = threading.Event(), threading.Event()
        self._loop = uvloop.new_event_loop()
        self._may_stop = asyncio.Event()
        self._is_running: Future[None] = Future()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._serve(),))

    def start(self) -> None:
        self._thread.start()
        self._is_running.result(timeout=10)

    def stop(self) -> None:
        """Stop as a service does: Envoy sees it first."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._may_stop.set)
            self._thread.join()
            self._loop.close()

    async def _serve(self) -> None:
        process = ProcessSettings(listen="127.0.0.1:0", admin_listen="127.0.0.1:0")
        methods: dict[str, Any] = {
            name: grpc.stream_unary_rpc_method_handler(act)
            for name, act in (("IngestJson", self._json), ("IngestBatch", self._batch))
        }
        generic = grpc.method_handlers_generic_handler(SERVICE, methods)
        mount = Mount(SERVICE, lambda server: server.add_generic_rpc_handlers((generic,)))
        async with grpc_server(process, [mount], self.health, OpenGuard(), gateway_socket=str(self.path)):
            self.health.mark_ready()
            self._is_running.set_result(None)
            await self._may_stop.wait()
            self.health.mark_stopping()
            await asyncio.sleep(process.shutdown_delay.total_seconds())

    async def _json(self, _: Any, context: Any) -> bytes:
        self.metadata.append(dict(context.invocation_metadata()))
        body: bytes = await context.read()
        await self._act(["refused"] if b"refused" in body else [])
        sent = json.loads(IngestJsonRequest.FromString(body).body.data)
        if sent["message"] in FAILURES:
            raise FAILURES[sent["message"]]
        adjusted = ADJUSTED if sent["message"] == "adjusted" else None
        return IngestJsonResponse(accepted_count=1, adjusted=adjusted).SerializeToString()

    async def _act(self, messages: list[str]) -> None:
        if messages == ["refused"]:
            raise InvalidRequest("no", violations=[Violation("message", "expected another")])
        if messages == ["endless"]:
            self.has_begun.set()
            try:
                await asyncio.Event().wait()
            finally:
                self.was_cancelled.set()

    async def _batch(self, _: Any, context: Any) -> bytes:
        request = IngestBatchRequest.FromString(await context.read())
        await self._act([event.message for event in request.events])
        return IngestBatchResponse(accepted_count=len(request.events)).SerializeToString()


@contextmanager
def instances(folder: Path, count: int) -> Iterator[tuple[Running, list[Instance]]]:
    """Run instances, and an Envoy that knows their sockets."""
    sockets = folder / "sockets"
    sockets.mkdir(mode=0o700)
    made = [Instance(sockets / f"{number}.sock") for number in range(count)]
    with ExitStack() as stack:
        stack.enter_context(telemetry("test", "i", ""))
        for instance in made:
            instance.start()
            stack.callback(instance.stop)
        envoy = stack.enter_context(
            running_envoy(folder, ingest_socket=",".join(str(instance.path) for instance in made))
        )
        wait_until(partial(is_healthy, envoy.ports, "events"))
        yield envoy, made


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Running, Instance]]:
    with instances(tmp_path_factory.mktemp("events"), 1) as (envoy, (instance,)):
        yield envoy, instance


@contextmanager
def stub(envoy: Running, **options: Any) -> Iterator[Any]:
    with grpc.insecure_channel(f"127.0.0.1:{envoy.ports.edge}", **options) as channel:
        yield LogIngestServiceStub(channel)


def test_rest_callers_see_what_was_accepted_and_what_is_wrong(one: tuple[Running, Instance]) -> None:
    envoy, instance = one
    edge = EnvoyClient(envoy.ports.edge)
    answer = edge.post("/api/logs", EVENT, {"x-request-id": "named"})
    assert (answer.status, answer.json["acceptedCount"]) == (200, 1)
    assert instance.metadata[-1]["x-request-id"] == "named"
    refused = edge.post("/api/logs", {**EVENT, "message": "refused"})
    assert (refused.status, refused.json["code"], refused.reason) == (400, 3, "INVALID_REQUEST")
    assert refused.violations == [("message", "expected another")]


@pytest.mark.parametrize("message", ["accepted", "adjusted", *FAILURES])
def test_one_event_is_answered_alike_by_ingest_and_by_the_transcoder(
    one: tuple[Running, Instance], message: str
) -> None:
    envoy, instance = one
    edge = EnvoyClient(envoy.ports.edge)
    instance.metadata.clear()
    answers = []
    # The transcoder takes any type.
    for content_type in ("application/json; charset=utf-8", "text/json"):
        answer = edge.post("/api/logs", {**EVENT, "message": message}, {"content-type": content_type})
        # In the order that the server chose, and each with its time.
        ignored = {"date", "x-request-id", "content-length", "x-envoy-upstream-service-time"}
        headers = {name: value for name, value in answer.headers.items() if name not in ignored}
        # A map of the details has any order.
        answers.append((answer.status, answer.json, headers, sorted(answer.content)))
    assert answers[0] == answers[1]
    assert [each["content-type"] for each in instance.metadata] == [
        "application/json; charset=utf-8",
        "application/grpc",
    ]


def test_one_event_that_comes_slowly_waits_at_envoy(one: tuple[Running, Instance]) -> None:
    envoy, instance = one
    body = json.dumps(EVENT).encode()
    head = b"POST /api/logs HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    instance.metadata.clear()
    with socket.create_connection(("127.0.0.1", envoy.ports.edge), timeout=10) as slow:
        slow.sendall(head % len(body) + body[:9])
        assert EnvoyClient(envoy.ports.edge).post("/api/logs", EVENT, {"x-request-id": "quick"}).status == 200
        assert [each["x-request-id"] for each in instance.metadata] == ["quick"]
        slow.sendall(body[9:])
        assert slow.recv(4096).startswith(b"HTTP/1.1 200 OK")
    assert instance.metadata[1]["content-type"] == "application/json"


@pytest.mark.parametrize(
    ("path", "headers", "body"),
    [
        ("/api/logs?x=1", {}, EVENT),
        ("/api/logs", {"origin": "https://example.org"}, EVENT),
        ("/api/logs", {"content-type": "text/plain"}, EVENT),
        ("/api/logs", {}, {**EVENT, "message": "x" * 65_536}),
        ("/api/logs", {}, ""),
        ("/api/logs/batch", {}, [EVENT]),
    ],
)
def test_all_but_one_small_event_goes_through_the_transcoder(
    one: tuple[Running, Instance], path: str, headers: dict[str, str], body: object
) -> None:
    envoy, instance = one
    instance.metadata.clear()
    EnvoyClient(envoy.ports.edge).post(path, body, headers)
    assert all(each["content-type"] == "application/grpc" for each in instance.metadata)


def test_the_access_log_has_the_same_of_both(one: tuple[Running, Instance]) -> None:
    envoy, _ = one
    edge = EnvoyClient(envoy.ports.edge)
    for content_type in ("application/json", "text/json"):
        edge.post(
            "/api/logs", {**EVENT, "message": "OVERLOADED"}, {"content-type": content_type, "x-request-id": "both"}
        )

    def lines() -> list[dict[str, Any]]:
        found = [json.loads(line) for line in envoy.access_log.read_text().splitlines()]
        return [line for line in found if line["request_id"] == "both"]

    wait_until(lambda: len(lines()) == 2)
    # All but gRPC's status, which Envoy has for calls of gRPC alone, and then makes it of that of HTTP.
    names = ("method", "path", "rpc", "status", "cluster", "attempts")
    first, second = ({name: line[name] for name in names} for line in lines())
    assert first == second
    assert first["rpc"] == f"/{SERVICE}/IngestJson"


@pytest.mark.parametrize("compression", [grpc.Compression.NoCompression, grpc.Compression.Gzip])
def test_batches_of_any_size_arrive(one: tuple[Running, Instance], compression: grpc.Compression) -> None:
    events = [LogEvent(service="a", message="x" * 1000)] * 6000
    with stub(one[0], compression=compression) as client:
        for count in (0, 1, 6000):
            assert client.IngestBatch(IngestBatchRequest(events=events[:count])).accepted_count == count


def test_grpc_callers_see_code_text_and_details(one: tuple[Running, Instance]) -> None:
    with stub(one[0]) as client, pytest.raises(grpc.RpcError) as refused:
        client.IngestBatch(IngestBatchRequest(events=[LogEvent(message="refused")]))
    call: Any = refused.value
    assert (call.code(), call.details()) == (grpc.StatusCode.INVALID_ARGUMENT, "no")
    status = rpc_status.from_call(call)
    assert status is not None
    found = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(found)
    assert found.reason == "INVALID_REQUEST"


def test_a_call_ends_when_its_caller_waits_no_more(one: tuple[Running, Instance]) -> None:
    envoy, instance = one
    with stub(envoy) as client:
        for timeout, expected in ((2, grpc.StatusCode.DEADLINE_EXCEEDED), (30, grpc.StatusCode.CANCELLED)):
            instance.has_begun.clear()
            instance.was_cancelled.clear()
            request = IngestBatchRequest(events=[LogEvent(message="endless")])
            call = client.IngestBatch.future(request, timeout=timeout)
            assert instance.has_begun.wait(10)
            if expected is grpc.StatusCode.CANCELLED:
                call.cancel()
            assert instance.was_cancelled.wait(10)
            assert call.code() is expected


def test_no_call_fails_while_one_of_two_instances_stops_and_comes_back(tmp_path: Path) -> None:
    with instances(tmp_path, 2) as (envoy, made), ThreadPoolExecutor(4) as callers:
        edge, may_end = EnvoyClient(envoy.ports.edge), threading.Event()

        def call_until_the_end() -> list[int]:
            statuses = []
            while not may_end.is_set():
                statuses.append(edge.post("/api/logs", EVENT).status)
            return statuses

        calls = [callers.submit(call_until_the_end) for _ in range(4)]
        try:
            wait_until(lambda: all(instance.metadata for instance in made))
            made[0].stop()
            again = Instance(made[0].path)
            made[1].metadata.clear()
            wait_until(lambda: len(made[1].metadata) > 20)
            again.start()
            try:
                wait_until(lambda: bool(again.metadata))
            finally:
                may_end.set()
                again.stop()
        finally:
            may_end.set()
        statuses = [status for call in calls for status in call.result()]
    assert len(statuses) > 40
    assert set(statuses) == {200}


def test_without_an_instance_callers_are_told_to_retry(tmp_path: Path) -> None:
    with instances(tmp_path, 1) as (envoy, (instance,)):
        instance.stop()
        edge = EnvoyClient(envoy.ports.edge)
        answer = edge.post("/api/logs", EVENT)
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")
        # Everything else goes the other way.
        assert edge.get("/health").status == 200
