"""Every endpoint answers as documented."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from typing import Any

import asyncpg
import grpc
import pytest
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message_factory import GetMessageClass
from google.rpc import error_details_pb2
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest, ServerReflectionResponse
from grpc_status import rpc_status

from tests.e2e.scenario import Scenario
from tests.e2e.world import World, wait_until
from tocsin.access.v1 import access_service_pb2
from tocsin.alerts.v1 import alert_service_pb2
from tocsin.catalog.v1 import catalog_service_pb2, learned_edge_service_pb2
from tocsin.changes.v1 import change_service_pb2
from tocsin.explanations.v1 import explanation_service_pb2
from tocsin.incidents.v1 import incident_service_pb2
from tocsin.logs.v1 import log_ingest_service_pb2, log_ingest_service_pb2_grpc
from tocsin.logs.v1.log_event_pb2 import LogEvent
from tocsin.notifications.v1 import notification_service_pb2
from tocsin.oncall.v1 import on_call_service_pb2
from tocsin.reports.v1 import report_service_pb2
from tocsin.routing.v1 import routing_service_pb2
from tocsin.rules.v1 import alert_rule_service_pb2, rule_statistics_service_pb2
from tocsin.silences.v1 import silence_service_pb2

SERVICES = {
    service.full_name: service
    for file in (
        log_ingest_service_pb2,
        alert_rule_service_pb2,
        rule_statistics_service_pb2,
        alert_service_pb2,
        catalog_service_pb2,
        learned_edge_service_pb2,
        incident_service_pb2,
        change_service_pb2,
        silence_service_pb2,
        report_service_pb2,
        access_service_pb2,
        on_call_service_pb2,
        explanation_service_pb2,
        routing_service_pb2,
        notification_service_pb2,
    )
    for service in file.DESCRIPTOR.services_by_name.values()
}
PUBLIC = set(SERVICES)
OWN = {
    "ingest": {"tocsin.logs.v1.LogIngestService"},
    "evaluator": set(),
    "manager": {
        "tocsin.rules.v1.AlertRuleService",
        "tocsin.rules.v1.RuleStatisticsService",
        "tocsin.alerts.v1.AlertService",
        "tocsin.catalog.v1.CatalogService",
        "tocsin.catalog.v1.LearnedEdgeService",
        "tocsin.incidents.v1.IncidentService",
        "tocsin.changes.v1.ChangeService",
        "tocsin.silences.v1.SilenceService",
        "tocsin.reports.v1.ReportService",
        "tocsin.access.v1.AccessService",
        "tocsin.oncall.v1.OnCallService",
        "tocsin.explanations.v1.ExplanationService",
        "tocsin.routing.v1.RoutingService",
    },
    "notifier": {"tocsin.notifications.v1.NotificationService"},
}
# Services call them; the edge has no route to them.
MESH_ONLY = {"ReportRuleStatistics", "ReportTraces", "GetKeySnapshot", "ReportKeyUses"}
NEVER = {grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL}


def listed(address: str) -> set[str]:
    with grpc.insecure_channel(address) as channel:
        return set(ProtoReflectionDescriptorDatabase(channel).get_services())


def test_the_edge_lists_all_public_services(world: World) -> None:
    assert PUBLIC | {"grpc.health.v1.Health"} <= listed(world.address)


@pytest.mark.parametrize("service", list(OWN))
def test_each_service_lists_its_own(world: World, service: str) -> None:
    found = listed(f"127.0.0.1:{getattr(world.system.wiring.ports, service)}")
    assert {name for name in found if name.startswith("tocsin.") and "edge" not in name} == OWN[service]
    assert "grpc.health.v1.Health" in found


@pytest.mark.parametrize("service", list(OWN))
def test_each_service_can_reflect_for_the_edge(world: World, service: str) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{getattr(world.system.wiring.ports, service)}") as channel:
        call: grpc.StreamStreamMultiCallable[ServerReflectionRequest, ServerReflectionResponse] = channel.stream_stream(
            "/tocsin.edge.ServerReflection/ServerReflectionInfo",
            ServerReflectionRequest.SerializeToString,
            ServerReflectionResponse.FromString,
        )
        (response,) = call(iter([ServerReflectionRequest(list_services="")]), timeout=10)
    assert {one.name for one in response.list_services_response.service} == PUBLIC | {"grpc.health.v1.Health"}


def test_every_public_rpc_can_be_called_through_the_edge(world: World) -> None:
    with grpc.insecure_channel(world.address) as channel:
        for service in sorted(PUBLIC):
            for method in SERVICES[service].methods:
                if method.name in MESH_ONLY:
                    continue
                code = called(channel, method)
                assert code not in NEVER, f"{method.full_name}: {code}"


def called(channel: grpc.Channel, method: MethodDescriptor) -> grpc.StatusCode:
    """Return the status of a call with an empty request; for a stream, of its beginning."""
    name = f"/{method.containing_service.full_name}/{method.name}"
    request = GetMessageClass(method.input_type)()
    connect: Callable[..., Callable[..., Any]] = (
        channel.unary_stream if method.server_streaming else channel.unary_unary
    )
    call = connect(name, request_serializer=lambda message: message.SerializeToString())
    try:
        if method.server_streaming:
            next(iter(call(request, timeout=2)), None)
        else:
            call(request, timeout=10)
    except grpc.RpcError as error:
        return grpc.StatusCode.OK if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED else error.code()
    return grpc.StatusCode.OK


def test_health_is_served_on_four_ports(world: World) -> None:
    named = {}
    for port in world.system.wiring.ports.gateway:
        status, answer = world.request("GET", "/health", port=port)
        assert (status, answer["status"]) == (200, "SERVING"), answer
        assert set(answer["dependencies"].values()) == {"UP"}, answer
        named[answer["service"]] = set(answer["dependencies"])
    assert list(named) == ["ingest", "evaluator", "manager", "notifier"]
    assert named["manager"] >= {"kafka", "postgres", "redis"}


def test_the_users_own_curl_lines_work_unchanged(world: World) -> None:
    single = (
        b'{"service":"payment-service","level":"ERROR","message":"Database connection failed",'
        b'"statusCode":500,"responseTime":5000}'
    )
    assert world.request("POST", "/api/logs", single) == (200, {"acceptedCount": 1})
    batch = b'[{"service":"api-service","level":"ERROR","message":"Timeout","statusCode":504}]'
    status, answer = world.request("POST", "/api/logs/batch", batch)
    assert (status, answer["acceptedCount"], answer["refused"]) == (200, 1, [])
    rule = (
        '{"name":"High Error Rate","description":"…","type":"ERROR_THRESHOLD","condition":"count > threshold",'
        '"threshold":100,"windowMinutes":5,"severity":"CRITICAL","enabled":true}'
    ).encode()
    status, answer = world.request("POST", "/api/alert-rules", rule)
    assert status == 200, answer
    kept = answer["alertRule"]
    assert (kept["type"], kept["severity"], kept["enabled"]) == ("ERROR_THRESHOLD", "CRITICAL", True)
    assert world.request("GET", f"/api/alert-rules/{kept['id']}")[1]["alertRule"] == kept
    status, answer = world.request("PATCH", f"/api/alert-rules/{kept['id']}", {"threshold": 50})
    assert (status, answer["alertRule"]["threshold"], answer["alertRule"]["name"]) == (200, 50, "High Error Rate")
    status, answer = world.request("PUT", f"/api/alert-rules/{kept['id']}", rule)
    assert (status, answer["alertRule"]["threshold"]) == (200, 100)
    for verb, is_enabled in (("disable", False), ("enable", True)):
        status, answer = world.request("POST", f"/api/alert-rules/{kept['id']}/{verb}")
        assert (status, answer["alertRule"]["enabled"]) == (200, is_enabled)
    assert world.request("POST", "/api/alert-rules:validate", rule)[0] in {200, 409}
    status, answer = world.request("POST", "/api/alert-rules:validate", json.loads(rule) | {"condition": "count < 0"})
    assert (status, [warning["field"] for warning in answer["warnings"]]) == (200, ["condition", "threshold"])
    assert world.request("DELETE", f"/api/alert-rules/{kept['id']}")[0] == 200
    assert world.request("GET", f"/api/alert-rules/{kept['id']}")[0] == 404


@pytest.mark.parametrize(
    ("body", "field"),
    [
        pytest.param(b'{"service":["s"],"level":"ERROR","message":"m"}', "service", id="a wrong type"),
        pytest.param(b'{"service":"s","level":"LOUD","message":"m"}', "level", id="an unknown enum value"),
        pytest.param(b'{"service":"s","level":"ERROR","mesage":"m"}', "message", id="a missing field"),
    ],
)
def test_a_bad_event_is_answered_with_400_and_the_field(world: World, body: bytes, field: str) -> None:
    status, answer = world.request("POST", "/api/logs", body)
    assert status == 400
    assert field in str(answer)


def test_an_invalid_optional_field_refuses_no_event_and_adjustments_are_reported(world: World) -> None:
    odd = (
        b'{"service":"side-fields","level":"INFO","message":"m","traceId":"a3ce929d0e0e4736","statusCode":1006,'
        b'"responseTime":"12ms","user":{"id":7},"eventTime":"2016-12-31T23:59:60Z"}'
    )
    status, answer = world.request("POST", "/api/logs", odd)
    assert (status, answer["acceptedCount"]) == (200, 1)
    assert {
        each["field"]: (each["action"], each["count"], each["indexes"]) for each in answer["adjusted"]["values"]
    } == {
        "statusCode": ("KEPT_AS_ATTRIBUTE", 1, [0]),
        "responseTime": ("CONVERTED", 1, [0]),
        "traceId": ("PADDED", 1, [0]),
    }
    status, answer = world.request(
        "POST", "/api/logs/batch", b'[5,{"service":"s","level":"LOUD","message":"m"},' + odd + b"]"
    )
    assert (status, answer["acceptedCount"], answer["refusedCount"]) == (200, 1, 2)
    assert [(each["index"], each["field"]) for each in answer["refused"]] == [(0, "event"), (1, "level")]
    assert answer["adjusted"]["eventCount"] == 1


def test_malformed_json_is_answered_with_400(world: World) -> None:
    status, answer = world.request("POST", "/api/logs", b'{"service":"s",')
    assert status == 400
    assert answer["message"]


def test_large_calls_at_once_are_accepted_or_refused_with_a_retry_delay(world: World) -> None:
    event = LogEvent(service="large", level=LogEvent.INFO, message="x" * 32_000)
    request = log_ingest_service_pb2.IngestBatchRequest(events=[event] * 130)
    body = json.dumps([{"service": "large", "level": "INFO", "message": "x" * 32_000}] * 130).encode()
    with ThreadPoolExecutor(48) as callers:
        calls = [callers.submit(large_call, world.address, request) for _ in range(32)]
        posts = [callers.submit(post, world.address, body) for _ in range(16)]
        assert {call.result() for call in calls} <= {"OK", "RESOURCE_EXHAUSTED, RetryInfo", "UNAVAILABLE, RetryInfo"}
        assert {each.result() for each in posts} <= {(200, None), (429, "1"), (503, "1")}


def large_call(address: str, request: log_ingest_service_pb2.IngestBatchRequest) -> str:
    with grpc.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
        try:
            log_ingest_service_pb2_grpc.LogIngestServiceStub(channel).IngestBatch(request, timeout=60)
        except grpc.RpcError as error:
            if not isinstance(error, grpc.Call):
                raise
            status = rpc_status.from_call(error)
            details = status.details if status else []
            has_delay = any(detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR) for detail in details)
            return f"{error.code().name}, {'RetryInfo' if has_delay else error.details()}"
    return "OK"


def post(address: str, body: bytes) -> tuple[int, str | None]:
    connection = HTTPConnection(address, timeout=60)
    try:
        connection.request("POST", "/api/logs/batch", body)
        answer = connection.getresponse()
        return answer.status, answer.getheader("retry-after")
    finally:
        connection.close()


def test_breakers_are_shown_on_both_paths(world: World) -> None:
    status, answer = world.request("GET", "/api/circuit-breakers")
    assert status == 200
    again = world.request("GET", "/actuator/circuitbreakers", port=world.system.wiring.ports.edge_notifier)
    assert again == (200, answer)


async def test_the_flow_leaves_its_history_in_the_database(world: World) -> None:
    scenario = Scenario(world)
    for batch in scenario.batches:
        assert world.request("POST", "/api/logs/batch", batch)[0] == 200
    wait_until(scenario.is_delivered, what="three alerts delivered")
    assert not scenario.results().differences
    alerts = {alert["id"]: alert for alert in scenario.alerts()}

    def is_complete(alert: dict[str, str]) -> bool:
        kinds = [one["kind"] for one in world.edge.get(f"/api/alerts/{alert['id']}")["history"]]
        return kinds[0] == "FIRED" and kinds.count("NOTIFIED") == {"CRITICAL": 3, "HIGH": 2}[alert["severity"]]

    wait_until(lambda: all(map(is_complete, alerts.values())), what="each delivery is in the history")
    connection = await asyncpg.connect(world.system.wiring.addresses.postgres)
    try:
        rows = await connection.fetch(
            "SELECT kind, count(*) AS n FROM manager.alert_history WHERE alert_id = ANY($1) GROUP BY kind", [*alerts]
        )
    finally:
        await connection.close()
    assert {row["kind"]: row["n"] for row in rows} == {"FIRED": 3, "NOTIFIED": 8}


def test_a_refusal_reaches_the_caller_also_for_a_very_long_field(world: World) -> None:
    rule = {"name": "x", "type": "ERROR_THRESHOLD", "threshold": 1, "windowMinutes": 5, "severity": "LOW"}
    status, answer = world.request("POST", "/api/alert-rules", rule | {"labels": {"\N{SNOWMAN}" * 20_000: "v"}})
    assert (status, answer["code"]) == (400, 3)
    (bad,) = [detail for detail in answer["details"] if detail["@type"].endswith("BadRequest")]
    assert bad["fieldViolations"][0]["field"].startswith("labels[\N{SNOWMAN}")
