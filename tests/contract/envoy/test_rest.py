"""REST as its users call it with curl."""

import gzip
import http.client
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import grpc
import pytest
from google.api.httpbody_pb2 import HttpBody

from tests.contract.envoy.client import EnvoyClient
from tests.contract.envoy.edge import Edge
from tocsin.alerts.v1 import alert_pb2, alert_service_pb2
from tocsin.logs.v1 import log_ingest_service_pb2
from tocsin.oncall.v1 import on_call_service_pb2
from tocsin.rules.v1 import alert_rule_pb2, alert_rule_service_pb2

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[3]

EVENT = (
    '{"service":"payment-service","level":"ERROR","message":"Database connection failed",'
    '"statusCode":500,"responseTime":5000}'
)
RULE = (
    '{"name":"High Error Rate","description":"…","type":"ERROR_THRESHOLD","condition":"count > threshold",'
    '"threshold":100,"windowMinutes":5,"severity":"CRITICAL","enabled":true}'
)
REQUEST_ID = "6f0c8a52-9e0b-4d3c-9a53-0d5e8f1b7c41"
BATCH = (
    '[{"service":"api-service","level":"ERROR","message":"Timeout","statusCode":504},'
    '{"service":"api-service","level":"warn","message":"slow"}]'
)


def test_one_event_is_the_body(edge: Edge) -> None:
    edge.ingest.on("IngestJson", lambda *_: log_ingest_service_pb2.IngestJsonResponse(accepted_count=1))
    answer = edge.all.post("/api/logs", EVENT)
    assert (answer.status, answer.json) == (200, {"acceptedCount": 1})
    (request,) = edge.ingest.requests
    assert (request.body.data, request.body.content_type) == (EVENT.encode(), "application/json")


def test_curl_may_omit_the_content_type(edge: Edge) -> None:
    answer = edge.all.post("/api/logs", EVENT, {"content-type": "application/x-www-form-urlencoded"})
    assert answer.status == 200
    assert edge.ingest.requests[0].body.data == EVENT.encode()


def test_a_list_is_a_batch_and_its_response_is_the_json_that_users_know(edge: Edge) -> None:
    refused = log_ingest_service_pb2.RefusedEvent(index=1, field="message", reason="is empty")
    response = log_ingest_service_pb2.IngestJsonBatchResponse(accepted_count=1, refused_count=1, refused=[refused])
    edge.ingest.on("IngestJsonBatch", lambda *_: response)
    answer = edge.all.post("/api/logs/batch", BATCH)
    assert answer.json == {
        "acceptedCount": 1,
        "refusedCount": 1,
        "refused": [{"index": 1, "recordId": "", "field": "message", "reason": "is empty"}],
    }
    (request,) = edge.ingest.requests
    assert request.body.data == BATCH.encode()


def test_adjustments_are_reported(edge: Edge) -> None:
    value = log_ingest_service_pb2.AdjustedValue(
        field="traceId", action=log_ingest_service_pb2.AdjustedValue.PADDED, count=1, indexes=[0]
    )
    adjusted = log_ingest_service_pb2.AdjustedEvents(event_count=1, values=[value])
    response = log_ingest_service_pb2.IngestJsonResponse(accepted_count=1, adjusted=adjusted)
    edge.ingest.on("IngestJson", lambda *_: response)
    assert edge.all.post("/api/logs", EVENT).json == {
        "acceptedCount": 1,
        "adjusted": {
            "eventCount": 1,
            "values": [{"field": "traceId", "action": "PADDED", "count": 1, "indexes": [0]}],
        },
    }


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b'{"service":"a","level":',
        b'{"service":"a\xff"}',
        gzip.compress(EVENT.encode()),
        b"[" * 100_000,
        EVENT.encode() + b" and more",
    ],
    ids=["nothing", "null", "cut off", "not UTF-8", "gzip", "deep", "something follows"],
)
@pytest.mark.parametrize("path", ["/api/logs", "/api/logs/batch"])
def test_the_service_itself_reads_the_body_of_events(edge: Edge, path: str, body: bytes) -> None:
    assert edge.all.post(path, body).status == 200
    (request,) = edge.ingest.requests
    assert request.body.data == body


def test_a_chunked_body_arrives_complete(edge: Edge) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", edge.ports.edge, timeout=5)
    connection.request("POST", "/api/logs", iter([b"[1,", b"2,", b"3]"]), encode_chunked=True)
    assert connection.getresponse().status == 200
    connection.close()
    assert edge.ingest.requests[0].body.data == b"[1,2,3]"


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/api/alert-rules"), ("PATCH", "/api/alert-rules/r1"), ("PUT", "/api/alert-rules/r1")],
)
def test_a_change_of_a_rule_may_be_checked_only_by_a_query_parameter(edge: Edge, method: str, path: str) -> None:
    answer = edge.all.send(method, f"{path}?validateOnly=true&requestId={REQUEST_ID}", RULE)
    assert answer.status == 200
    (request,) = edge.manager.requests
    assert (request.validate_only, request.request_id, request.alert_rule.threshold) == (True, REQUEST_ID, 100)


@pytest.mark.parametrize("verb", ["enable", "disable"])
def test_a_switch_of_a_rule_takes_its_request_id_from_the_query(edge: Edge, verb: str) -> None:
    assert edge.all.send("POST", f"/api/alert-rules/r1/{verb}?requestId={REQUEST_ID}").status == 200
    (request,) = edge.manager.requests
    assert (request.id, request.request_id) == ("r1", REQUEST_ID)


@pytest.mark.parametrize("verb", ["acknowledge", "resolve"])
def test_an_action_on_an_alert_takes_its_request_id_from_the_body(edge: Edge, verb: str) -> None:
    assert edge.all.post(f"/api/alerts/a1/{verb}", f'{{"requestId":"{REQUEST_ID}"}}').status == 200
    (request,) = edge.manager.requests
    assert (request.id, request.request_id) == ("a1", REQUEST_ID)


def test_a_rule_is_created_from_the_body_that_users_know(edge: Edge) -> None:
    edge.manager.on(
        "CreateAlertRule",
        lambda request, _: alert_rule_service_pb2.CreateAlertRuleResponse(alert_rule=request.alert_rule),
    )
    answer = edge.all.post("/api/alert-rules", RULE)
    (request,) = edge.manager.requests
    assert request.alert_rule == alert_rule_pb2.AlertRule(
        name="High Error Rate",
        description="…",
        type=alert_rule_pb2.AlertRule.ERROR_THRESHOLD,
        condition="count > threshold",
        threshold=100,
        window_minutes=5,
        severity=alert_rule_pb2.AlertRule.CRITICAL,
        enabled=True,
    )
    shown = answer.json["alertRule"]
    assert (shown["type"], shown["severity"], shown["windowMinutes"]) == ("ERROR_THRESHOLD", "CRITICAL", 5)


@pytest.mark.parametrize(
    ("method", "path", "rpc"),
    [
        ("GET", "/api/alert-rules", "ListAlertRules"),
        ("GET", "/api/alert-rules/r1", "GetAlertRule"),
        ("GET", "/api/alert-rules/r1/statistics", "GetRuleStatistics"),
        ("PUT", "/api/alert-rules/r1", "ReplaceAlertRule"),
        ("PATCH", "/api/alert-rules/r1", "UpdateAlertRule"),
        ("DELETE", "/api/alert-rules/r1", "DeleteAlertRule"),
        ("POST", "/api/alert-rules/r1/enable", "EnableAlertRule"),
        ("POST", "/api/alert-rules/r1/disable", "DisableAlertRule"),
        ("POST", "/api/alert-rules:validate", "ValidateAlertRule"),
        ("GET", "/api/alerts", "ListAlerts"),
        ("GET", "/api/alerts/a1", "GetAlert"),
        ("GET", "/api/alerts/watch", "WatchAlerts"),
        ("GET", "/api/incidents/watch", "WatchIncidents"),
        ("POST", "/api/alerts/a1/acknowledge", "AcknowledgeAlert"),
        ("POST", "/api/alerts/a1/resolve", "ResolveAlert"),
        ("GET", "/api/notifications", "ListDeliveries"),
        ("GET", "/api/notifications/failed", "ListFailedNotifications"),
        ("POST", "/api/notifications/failed/n1/retry", "RetryFailedNotification"),
        ("POST", "/api/notifications/n1/retry", "RetryFailedNotification"),
        ("GET", "/api/circuit-breakers", "ListCircuitBreakers"),
        ("GET", "/api/receivers", "ListReceivers"),
    ],
)
def test_each_path_leads_to_its_rpc(edge: Edge, method: str, path: str, rpc: str) -> None:
    answer = edge.all.send(method, path, None if method in {"GET", "DELETE"} else "{}")
    assert answer.status == 200
    (call,) = [*edge.manager.calls, *edge.notifier.calls]
    assert call.rpc == rpc
    own_id = next((part for part in path.split("/") if part in {"r1", "a1", "n1"}), None)
    assert own_id is None or call.request.id == own_id


@pytest.mark.parametrize("name", ["requestId", "request_id"])
def test_a_retry_may_have_a_request_id(edge: Edge, name: str) -> None:
    answer = edge.all.send("POST", f"/api/notifications/n1/retry?{name}=0b8f1c3e-4d0a-4f4e-9a55-0d6f8a2f7c11", "{}")
    assert answer.status == 200
    (request,) = edge.notifier.requests
    assert (request.id, request.request_id) == ("n1", "0b8f1c3e-4d0a-4f4e-9a55-0d6f8a2f7c11")


def test_a_patch_contains_the_fields_of_the_body_and_no_mask(edge: Edge) -> None:
    edge.all.send("PATCH", "/api/alert-rules/r1", {"threshold": 0, "enabled": False, "description": ""})
    (request,) = edge.manager.requests
    # Envoy does not fill in the mask. A field with presence is set although it is 0 or false; an empty string is not.
    assert not request.HasField("update_mask")
    assert {field.name for field, _ in request.alert_rule.ListFields()} == {"threshold", "enabled"}


def test_a_patch_may_name_its_fields_so_that_they_can_be_cleared(edge: Edge) -> None:
    edge.all.send("PATCH", "/api/alert-rules/r1?updateMask=description,windowMinutes", {"windowMinutes": 3})
    (request,) = edge.manager.requests
    assert list(request.update_mask.paths) == ["description", "window_minutes"]


@pytest.mark.parametrize(
    "query",
    [
        "states=FIRING&states=ACKNOWLEDGED&severities=HIGH&rule_id=a%20b&page_size=7&fired_after=2026-11-01T00:00:00Z",
        "states=firing&states=Acknowledged&severities=high&ruleId=a%20b&pageSize=7&firedAfter=2026-11-01T01:00:00%2B01:00",
    ],
    ids=["names of the contract", "names of the JSON, any case"],
)
def test_filters_are_query_parameters(edge: Edge, query: str) -> None:
    assert edge.all.get(f"/api/alerts?{query}").status == 200
    expected = alert_service_pb2.ListAlertsRequest(
        states=[alert_pb2.Alert.FIRING, alert_pb2.Alert.ACKNOWLEDGED],
        severities=[alert_rule_pb2.AlertRule.HIGH],
        rule_id="a b",
        page_size=7,
    )
    expected.fired_after.FromDatetime(datetime(2026, 11, 1, tzinfo=UTC))
    assert edge.manager.requests == [expected]


def test_an_empty_list_is_shown_as_a_list(edge: Edge) -> None:
    assert edge.all.get("/api/alerts").json == {"alerts": [], "nextPageToken": ""}


def test_a_watch_is_a_line_of_json_for_each_change(edge: Edge) -> None:
    changes = [alert_service_pb2.WatchAlertsResponse(alert=alert_pb2.Alert(id=name)) for name in ("a", "b")]
    edge.manager.on("WatchAlerts", lambda *_: iter(changes))
    answer = edge.all.get("/api/alerts/watch")
    assert [json_line["alert"]["id"] for json_line in answer.json_lines] == ["a", "b"]


def test_a_watch_gets_headers_before_the_first_change(edge: Edge) -> None:
    ended = threading.Event()

    def watch(_: object, context: grpc.ServicerContext) -> Iterator[alert_service_pb2.WatchAlertsResponse]:
        context.send_initial_metadata(())
        ended.wait(10)
        yield alert_service_pb2.WatchAlertsResponse()

    edge.manager.on("WatchAlerts", watch)
    connection = http.client.HTTPConnection("127.0.0.1", edge.ports.edge, timeout=5)
    connection.request("GET", "/api/alerts/watch")
    assert connection.getresponse().status == 200
    ended.set()
    connection.close()


def test_each_service_has_a_port_of_its_own(edge: Edge) -> None:
    ports = edge.ports
    assert EnvoyClient(ports.edge_manager).get("/api/alerts").status == 200
    assert EnvoyClient(ports.edge_notifier).get("/actuator/circuitbreakers").json == {"circuitBreakers": []}
    assert EnvoyClient(ports.edge_notifier).get("/api/alerts").status == 404
    assert EnvoyClient(ports.edge_evaluator).get("/api/alerts").status == 404


@pytest.mark.parametrize(
    ("query", "resource"),
    [("web+shop", "web shop"), ("web%20shop", "web shop"), ("web%2Bshop", "web+shop")],
)
def test_a_plus_in_a_query_is_a_space(edge: Edge, query: str, resource: str) -> None:
    edge.manager.on("ListAlerts", lambda *_: alert_service_pb2.ListAlertsResponse())
    assert edge.all.get(f"/api/alerts?resource={query}").status == 200
    (request,) = edge.manager.requests
    assert request.resource == resource


def test_a_calendar_is_the_body_with_its_own_type(edge: Edge) -> None:
    text = b"BEGIN:VCALENDAR\r\nEND:VCALENDAR\r\n"
    body = HttpBody(content_type="text/calendar; charset=utf-8", data=text)
    edge.manager.on("GetCalendar", lambda *_: on_call_service_pb2.GetCalendarResponse(calendar=body))
    answer = edge.all.get("/api/schedules/payments/calendar?person=ann")
    assert (answer.status, answer.content, answer.headers["content-type"]) == (200, text, body.content_type)
    (request,) = edge.manager.requests
    assert (request.schedule, request.person) == ("payments", "ann")


def test_on_call_is_applied_as_one_document(edge: Edge) -> None:
    edge.manager.on("ApplyOnCall", lambda *_: on_call_service_pb2.ApplyOnCallResponse())
    layer = '{"name":"week","people":["ann"],"rotation":"weekly","startTime":"2026-11-30T09:00:00"}'
    document = f'{{"schedules":[{{"name":"payments","timeZone":"UTC","layers":[{layer}]}}]}}'
    assert edge.all.post("/api/on-call:apply", document).status == 200
    assert edge.manager.requests[0].schedules[0].layers[0].people == ["ann"]
    misspelt = edge.all.post("/api/on-call:apply", document.replace("rotation", "rotationKind"))
    assert (misspelt.status, [field for field, _ in misspelt.violations]) == (
        400,
        ["schedules[0].layers[0].rotationKind"],
    )
    wrong = edge.all.post("/api/on-call:apply", document.replace("weekly", "yearly"))
    assert wrong.violations == [
        ("schedules[0].layers[0].rotation", 'one of DAILY, WEEKLY, CUSTOM is expected, not "yearly"')
    ]


def test_the_openapi_document_is_served(edge: Edge) -> None:
    answer = edge.all.get("/api/openapi.json")
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    assert answer.content == (ROOT / "gen" / "openapi.json").read_bytes()
    assert edge.all.post("/api/openapi.json", "{}").status == 404
