"""gRPC and gRPC-Web through the edge, and calls over the mesh."""

import struct
import threading
from collections.abc import Iterator

import grpc
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from tests.contract.envoy.client import EnvoyClient, wait_until
from tests.contract.envoy.edge import Edge, is_healthy
from tests.contract.envoy.upstream import PUBLIC
from tocsin.alerts.v1 import alert_pb2, alert_service_pb2, alert_service_pb2_grpc
from tocsin.catalog.v1 import learned_edge_service_pb2, learned_edge_service_pb2_grpc
from tocsin.logs.v1 import log_event_pb2, log_ingest_service_pb2, log_ingest_service_pb2_grpc
from tocsin.rules.v1 import (
    alert_rule_service_pb2,
    alert_rule_service_pb2_grpc,
    rule_statistics_service_pb2,
    rule_statistics_service_pb2_grpc,
)

pytestmark = pytest.mark.integration

EVENT = log_event_pb2.LogEvent(service="a", level=log_event_pb2.LogEvent.ERROR, message="m")


@pytest.fixture
def channel(edge: Edge) -> Iterator[grpc.Channel]:
    with edge.all.channel() as channel:
        yield channel


def test_a_call_reaches_the_service(edge: Edge, channel: grpc.Channel) -> None:
    edge.ingest.on(
        "IngestBatch", lambda request, _: log_ingest_service_pb2.IngestBatchResponse(accepted_count=len(request.events))
    )
    request = log_ingest_service_pb2.IngestBatchRequest(events=[EVENT] * 500)
    answer = log_ingest_service_pb2_grpc.LogIngestServiceStub(channel).IngestBatch(request, timeout=5)
    assert answer.accepted_count == 500
    assert edge.ingest.requests == [request]


def test_the_callers_deadline_reaches_the_service(edge: Edge, channel: grpc.Channel) -> None:
    log_ingest_service_pb2_grpc.LogIngestServiceStub(channel).Ingest(
        log_ingest_service_pb2.IngestRequest(event=EVENT), timeout=3
    )
    # On the wire a deadline is a duration, which gRPC rounds up by a per cent.
    seconds_left = edge.ingest.calls[0].seconds_left
    assert seconds_left is not None
    assert 0 < seconds_left <= 3.1


def test_a_stream_gives_each_message_when_it_is_sent(edge: Edge, channel: grpc.Channel) -> None:
    first_was_seen = threading.Event()

    def watch(*_: object) -> Iterator[alert_service_pb2.WatchAlertsResponse]:
        yield alert_service_pb2.WatchAlertsResponse(alert=alert_pb2.Alert(id="a"))
        assert first_was_seen.wait(5)
        yield alert_service_pb2.WatchAlertsResponse(alert=alert_pb2.Alert(id="b"))

    edge.manager.on("WatchAlerts", watch)
    stream = alert_service_pb2_grpc.AlertServiceStub(channel).WatchAlerts(
        alert_service_pb2.WatchAlertsRequest(), timeout=10
    )
    assert next(stream).alert.id == "a"
    first_was_seen.set()
    assert [each.alert.id for each in stream] == ["b"]


def test_a_grpc_web_call_reaches_the_service(edge: Edge) -> None:
    edge.ingest.on("Ingest", lambda *_: log_ingest_service_pb2.IngestResponse(accepted_count=1))
    data, trailers = grpc_web(
        edge.all, "/tocsin.logs.v1.LogIngestService/Ingest", log_ingest_service_pb2.IngestRequest(event=EVENT)
    )
    assert log_ingest_service_pb2.IngestResponse.FromString(data).accepted_count == 1
    assert trailers["grpc-status"] == "0"


def test_grpc_web_callers_get_the_reason_of_a_refusal(edge: Edge) -> None:
    edge.manager.on("GetAlertRule", lambda _, context: context.abort(grpc.StatusCode.NOT_FOUND, "no such rule"))
    answer = edge.all.post(
        "/tocsin.rules.v1.AlertRuleService/GetAlertRule",
        framed(alert_rule_service_pb2.GetAlertRuleRequest(id="r")),
        GRPC_WEB,
    )
    assert (answer.headers["grpc-status"], answer.headers["grpc-message"]) == ("5", "no such rule")


def test_an_rpc_that_is_not_listed_is_unimplemented(channel: grpc.Channel) -> None:
    call: grpc.UnaryUnaryMultiCallable[None, bytes] = channel.unary_unary(
        "/tocsin.logs.v1.LogIngestService/Erase", lambda _: b"", lambda content: content
    )
    with pytest.raises(grpc.RpcError) as refused:
        call(None, timeout=5)
    assert refused.value.code() == grpc.StatusCode.UNIMPLEMENTED
    assert refused.value.details() == "there is nothing at this path"


def test_rules_are_watched(edge: Edge) -> None:
    edge.manager.on(
        "WatchAlertRules", lambda *_: iter([alert_rule_service_pb2.WatchAlertRulesResponse(revision=n) for n in (1, 2)])
    )
    request = alert_rule_service_pb2.WatchAlertRulesRequest()
    for port in (edge.ports.mesh, edge.ports.edge, edge.ports.edge_manager):
        with EnvoyClient(port).channel() as channel:
            stream = alert_rule_service_pb2_grpc.AlertRuleServiceStub(channel).WatchAlertRules(request, timeout=5)
            assert [each.revision for each in stream] == [1, 2]


def test_evaluators_report_on_the_mesh_and_nobody_at_the_edge(edge: Edge) -> None:
    request = rule_statistics_service_pb2.ReportRuleStatisticsRequest()
    for port, is_served in ((edge.ports.mesh, True), (edge.ports.edge, False), (edge.ports.edge_manager, False)):
        with EnvoyClient(port).channel() as channel:
            stub = rule_statistics_service_pb2_grpc.RuleStatisticsServiceStub(channel)
            if is_served:
                stub.ReportRuleStatistics(request, timeout=5)
                continue
            with pytest.raises(grpc.RpcError) as refused:
                stub.ReportRuleStatistics(request, timeout=5)
            assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert [call.rpc for call in edge.manager.calls] == ["ReportRuleStatistics"]


def test_evaluators_report_traces_on_the_mesh_and_nobody_at_the_edge(edge: Edge) -> None:
    request = learned_edge_service_pb2.ReportTracesRequest()
    for port, is_served in ((edge.ports.mesh, True), (edge.ports.edge, False), (edge.ports.edge_manager, False)):
        with EnvoyClient(port).channel() as channel:
            stub = learned_edge_service_pb2_grpc.LearnedEdgeServiceStub(channel)
            if is_served:
                stub.ReportTraces(request, timeout=5)
                continue
            with pytest.raises(grpc.RpcError) as refused:
                stub.ReportTraces(request, timeout=5)
            assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert [call.rpc for call in edge.manager.calls] == ["ReportTraces"]


def test_the_mesh_serves_no_rest(edge: Edge) -> None:
    assert EnvoyClient(edge.ports.mesh).get("/api/alerts").status == 404


def test_reflection_at_the_edge_lists_everything_public(channel: grpc.Channel) -> None:
    assert listed(channel) == sorted(PUBLIC)


def test_reflection_at_the_edge_describes_what_it_lists(channel: grpc.Channel) -> None:
    request = reflection_pb2.ServerReflectionRequest(file_containing_symbol="tocsin.alerts.v1.AlertService")
    (answer,) = reflected(channel, request)
    names = [
        FileDescriptorProto.FromString(each).name for each in answer.file_descriptor_response.file_descriptor_proto
    ]
    assert "tocsin/alerts/v1/alert_service.proto" in names


def test_newer_reflection_is_unimplemented_at_once(channel: grpc.Channel) -> None:
    call = channel.stream_stream(
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", lambda each: each, lambda each: each
    )
    still_open = threading.Event()

    def requests() -> Iterator[bytes]:
        yield reflection_pb2.ServerReflectionRequest(list_services="").SerializeToString()
        still_open.wait(5)

    with pytest.raises(grpc.RpcError) as refused:
        next(call(requests(), timeout=5))
    still_open.set()
    assert refused.value.code() == grpc.StatusCode.UNIMPLEMENTED


def test_a_services_own_port_reflects_its_own_services(edge: Edge) -> None:
    with EnvoyClient(edge.ports.edge_notifier).channel() as channel:
        assert listed(channel) == ["grpc.health.v1.Health", "tocsin.notifications.v1.NotificationService"]


def test_health_is_callable_at_the_edge(channel: grpc.Channel) -> None:
    check: grpc.UnaryUnaryMultiCallable[health_pb2.HealthCheckRequest, health_pb2.HealthCheckResponse]
    check = channel.unary_unary(
        "/grpc.health.v1.Health/Check",
        health_pb2.HealthCheckRequest.SerializeToString,
        health_pb2.HealthCheckResponse.FromString,
    )
    answer = check(health_pb2.HealthCheckRequest(), timeout=5)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


def listed(channel: grpc.Channel) -> list[str]:
    (answer,) = reflected(channel, reflection_pb2.ServerReflectionRequest(list_services=""))
    return sorted(service.name for service in answer.list_services_response.service)


def reflected(
    channel: grpc.Channel, request: reflection_pb2.ServerReflectionRequest
) -> list[reflection_pb2.ServerReflectionResponse]:
    reflect: grpc.StreamStreamMultiCallable[
        reflection_pb2.ServerReflectionRequest, reflection_pb2.ServerReflectionResponse
    ] = channel.stream_stream(
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        reflection_pb2.ServerReflectionRequest.SerializeToString,
        reflection_pb2.ServerReflectionResponse.FromString,
    )
    return list(reflect(iter([request]), timeout=5))


GRPC_WEB = {"content-type": "application/grpc-web+proto", "x-grpc-web": "1"}


def framed(message: Message) -> bytes:
    content = message.SerializeToString()
    return struct.pack(">BI", 0, len(content)) + content


def grpc_web(client: EnvoyClient, path: str, message: Message) -> tuple[bytes, dict[str, str]]:
    """Call as a browser does, and return the response's bytes and its trailers."""
    answer = client.post(path, framed(message), GRPC_WEB)
    assert (answer.status, answer.headers["content-type"]) == (200, "application/grpc-web+proto")
    frames: dict[int, bytes] = {}
    rest = answer.content
    while rest:
        kind, length = struct.unpack(">BI", rest[:5])
        frames[kind], rest = rest[5 : 5 + length], rest[5 + length :]
    trailers = dict(line.split(":", 1) for line in frames[0x80].decode().splitlines())
    return frames[0], trailers


def test_reflection_at_the_edge_answers_while_any_service_is_healthy(edge: Edge, channel: grpc.Channel) -> None:
    stopped = (edge.ingest, edge.manager)
    try:
        for upstream in stopped:
            upstream.stop()
        wait_until(lambda: not any(is_healthy(edge.ports, upstream.name) for upstream in stopped))
        assert listed(channel) == sorted(PUBLIC)
    finally:
        for upstream in stopped:
            upstream.start()
        wait_until(lambda: all(is_healthy(edge.ports, upstream.name) for upstream in stopped))
